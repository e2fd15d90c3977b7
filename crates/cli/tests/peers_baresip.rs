//! baresip, a phone, registers at the server and stays registered past several refreshes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    DOMAIN, PATIENCE, Process, SHORT_EXPIRES, Server, password_of, peer, peer_is_installed, run,
    write,
};

/// Seconds that baresip asks for. It refreshes at nine tenths of what it is granted.
const INTERVAL: u32 = 4;

#[test]
fn baresip_stays_registered_past_its_refreshes_over_udp() {
    stays_registered("udp", |server| server.udp);
}

#[test]
fn baresip_stays_registered_past_its_refreshes_over_tcp() {
    stays_registered("tcp", |server| server.tcp);
}

fn stays_registered(transport: &str, address: impl Fn(&Server) -> SocketAddr) {
    if !peer_is_installed("baresip") || !peer_is_installed("sipsak") {
        return;
    }
    let server = Server::start_with(["alice"], SHORT_EXPIRES, &[]);
    let phone = start_phone(&server, transport, address(&server));

    phone.wait_for("answer 200 to REGISTER", PATIENCE, |line| {
        line.starts_with("SIP/2.0 200 ").then_some(())
    });
    let registered = Instant::now();
    wait_for_answers(&phone, 3);
    let passed = registered.elapsed();
    assert!(
        passed > Duration::from_secs(u64::from(INTERVAL)),
        "two refreshes within {passed:?}: the granted time was not used:\n{}",
        phone.printed()
    );
    // Without the refreshes the first binding would be gone by now.
    let listed = bindings(&server);
    assert!(
        listed.contains("Contact: <sip:alice-"),
        "after two refreshes:\n{listed}\n{}",
        phone.printed()
    );

    // An orderly end of baresip removes its binding.
    let printed = phone.terminate(PATIENCE);
    let listed = bindings(&server);
    assert!(
        !listed.contains("Contact: "),
        "after baresip ended:\n{listed}\n{printed}"
    );
}

fn wait_for_answers(phone: &Process, wanted: usize) {
    let deadline =
        Instant::now() + PATIENCE + Duration::from_secs(u64::from(INTERVAL) * wanted as u64);
    loop {
        let answers = phone
            .lines()
            .iter()
            .filter(|line| line.starts_with("SIP/2.0 200 "))
            .count();
        if answers >= wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{answers} of {wanted} answers 200:\n{}",
            phone.printed()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The bindings as the server lists them to sipsak, which asks without a Contact.
fn bindings(server: &Server) -> String {
    let uri = format!("sip:alice@{DOMAIN}:{}", server.udp.port());
    let password = password_of("alice");
    let queried = run(
        peer("sipsak").args([
            "-vvv", "-i", "-U", "-C", "empty", "-u", "alice", "-a", &password, "-s", &uri,
        ]),
        PATIENCE,
    );
    assert_eq!(queried.code(), 0, "{queried}");
    // Only the last answer: what stands before it is the challenge.
    let (_, answer) = queried
        .stdout
        .rsplit_once("SIP/2.0 200")
        .expect("an answer that sipsak took for success");
    answer.to_owned()
}

/// A phone without sound, picture or terminal: three modules, one account, loopback only, a trace of every message.
fn start_phone(server: &Server, transport: &str, address: SocketAddr) -> Process {
    let directory = server.files.path().join("baresip");
    std::fs::create_dir(&directory).unwrap();
    write(
        &directory,
        "config",
        &format!(
            "sip_listen 127.0.0.1:0\n\
             net_interface 127.0.0.1\n\
             dns_server 127.0.0.1:9\n\
             audio_player none\naudio_source none\naudio_alert none\n\
             module_path {}\n\
             module_app account.so\nmodule_app menu.so\n",
            module_path()
        ),
    );
    write(
        &directory,
        "accounts",
        &format!(
            "<sip:alice@{address};transport={transport}>;auth_user=alice;auth_pass={};regint={INTERVAL}\n",
            password_of("alice")
        ),
    );
    for empty in ["contacts", "current_contact", "uuid"] {
        write(&directory, empty, "");
    }
    // baresip writes whole blocks into a pipe; stdbuf makes that lines. `-t` ends it should this test be killed.
    let baresip = peer("baresip").get_program().to_owned();
    Process::start(
        Command::new("stdbuf")
            .arg("-oL")
            .arg(baresip)
            .args(["-4", "-s", "-t", "120", "-f"])
            .arg(&directory),
    )
}

fn module_path() -> &'static str {
    ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules"]
        .into_iter()
        .find(|path| Path::new(path).is_dir())
        .expect("baresip comes with its modules")
}
