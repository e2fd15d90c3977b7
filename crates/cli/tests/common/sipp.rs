//! SIPp with scenarios of our own, from the folder `tests/sipp`.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Outcome, peer};

/// How long a run of SIPp may take; its own limit is shorter.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Lets the tests of a file run one after the other: a port that is found free is held for a moment by whatever another
/// thread forks just then.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command that runs `calls` calls of a scenario on this port, by the transport mode `u1`, `t1` or `tn`; call
/// [`peer_is_installed`](super::peer_is_installed) first. Its errors are written to `files`.
pub fn sipp(files: &Path, scenario: &str, mode: &str, port: u16, calls: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sipp");
    let mut command = peer("sipp");
    command
        .current_dir(files)
        .arg("-sf")
        .arg(folder.join(scenario))
        .args(["-m", calls, "-t", mode, "-i", "127.0.0.1"])
        .args(["-p", &port.to_string()])
        .args(["-nostdin", "-skip_rlimit", "-timeout", "60s"])
        .args(["-timeout_error", "-trace_err", "-error_file"])
        .arg(errors_of(scenario));
    command
}

/// SIPp does not say when it listens.
pub fn wait_until_bound(mode: &str, port: u16) {
    let is_bound = || match mode.starts_with('u') {
        true => std::net::UdpSocket::bind(("127.0.0.1", port)).is_err(),
        false => std::net::TcpListener::bind(("127.0.0.1", port)).is_err(),
    };
    for _ in 0..400 {
        if is_bound() {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("SIPp does not listen");
}

/// Panics unless SIPp ended with 0, as it does when every call went as its scenario says; shows what the runs of
/// `scenarios` in this folder complained of.
pub fn succeeded(outcome: &Outcome, files: &Path, scenarios: &[&str]) {
    let errors: Vec<String> = scenarios
        .iter()
        .map(|scenario| {
            let errors = std::fs::read_to_string(files.join(errors_of(scenario)));
            format!("{scenario}: {}", errors.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        outcome.code(),
        0,
        "{outcome}\n--- errors\n{}",
        errors.join("\n")
    );
}

fn errors_of(scenario: &str) -> String {
    format!("{scenario}.errors")
}
