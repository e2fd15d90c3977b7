//! Instructions, counted by callgrind: the same on every run, so that a step back of one percent is seen.
//!
//! The limits are the recorded baseline with two percent on top; a run that exceeds one fails. When a change makes
//! something cheaper, its limit goes down with it. Needs valgrind and `cargo install gungraun-runner`.
#![allow(clippy::unwrap_used, missing_docs)]

mod corpus;

use bytes::Bytes;
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use sipora_message::Message;

/// Instructions of the job on the whole corpus of 14 messages.
const JOB: u64 = 98_084;
/// Instructions of an answer to each of its ten requests.
const ANSWERS: u64 = 36_655;

fn limit(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, instructions * 102 / 100)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

#[library_benchmark(config = limit(JOB), setup = corpus::datagrams)]
#[bench::corpus()]
fn job(datagrams: Vec<Bytes>) -> Vec<Bytes> {
    datagrams.iter().for_each(corpus::job);
    datagrams
}

#[library_benchmark(config = limit(ANSWERS), setup = corpus::messages)]
#[bench::corpus()]
fn answers(messages: Vec<Message>) -> Vec<Message> {
    messages.iter().for_each(corpus::answer);
    messages
}

library_benchmark_group!(name = parsing, benchmarks = [job, answers]);
main!(library_benchmark_groups = parsing);
