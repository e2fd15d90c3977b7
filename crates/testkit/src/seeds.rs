//! Running a scenario under many seeds.

use crate::SimNetwork;
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Returns the seeds to run: `SIPORA_SEEDS` of them, 20 by default.
pub fn seeds() -> Range<u64> {
    0..number("SIPORA_SEEDS").unwrap_or(20)
}

/// Runs a scenario once for each seed, on a network of its own, in virtual time and on one thread.
///
/// With `SIPORA_SEED=n` in the environment it runs that seed alone. A seed that fails is printed with what went over its
/// network, and the panic goes on. So is one in which a message broke a rule (see [`audit`](crate::audit)). A scenario that does not end within a week of virtual time has failed.
pub fn for_each_seed<F, S>(seeds: impl IntoIterator<Item = u64>, mut scenario: F)
where
    F: FnMut(SimNetwork) -> S,
    S: Future<Output = ()>,
{
    match number("SIPORA_SEED") {
        Some(seed) => run(seed, &mut scenario),
        None => seeds.into_iter().for_each(|seed| run(seed, &mut scenario)),
    }
}

fn run<F, S>(seed: u64, scenario: &mut F)
where
    F: FnMut(SimNetwork) -> S,
    S: Future<Output = ()>,
{
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    let network = runtime.block_on(async { SimNetwork::new(seed) });
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let scenario = scenario(network.clone());
        runtime.block_on(async { tokio::time::timeout(LONGEST, scenario).await })
    }));
    let failure = match outcome {
        Ok(Ok(())) if network.auditor().violations().is_empty() => return,
        Ok(Ok(())) => Some(audit(&network)),
        Ok(Err(_)) => None,
        Err(panic) => Some(panic),
    };
    report(seed, &network);
    match failure {
        Some(panic) => resume_unwind(panic),
        None => panic!("seed {seed}: the scenario did not end within a week of virtual time"),
    }
}

/// Fails a scenario whose messages broke a rule.
fn audit(network: &SimNetwork) -> Box<dyn std::any::Any + Send> {
    let auditor = network.auditor();
    let objection = catch_unwind(AssertUnwindSafe(|| auditor.assert_clean()));
    objection
        .err()
        .unwrap_or_else(|| Box::new("the auditor objects"))
}

/// Prints where a failing test's reader looks.
#[allow(clippy::print_stderr)]
fn report(seed: u64, network: &SimNetwork) {
    let packets = network.packets();
    let skipped = packets.len().saturating_sub(SHOWN);
    eprintln!(
        "\nseed {seed} failed; SIPORA_SEED={seed} replays it. {} packets were sent:",
        packets.len()
    );
    if skipped > 0 {
        eprintln!("  ... {skipped} earlier ones");
    }
    for packet in packets.iter().skip(skipped) {
        eprintln!("  {packet}");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable}={text} is no number"),
    }
}

/// Virtual time that a scenario may take.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Packets of a failing seed that are printed.
const SHOWN: usize = 200;
