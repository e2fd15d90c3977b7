//! The same job on Sipora's parser and on the published ones, side by side.
//!
//! ```text
//! cargo run --release                                checks, then a table of times and allocations
//! cargo run --release -- --run NAME MESSAGE PASSES  nothing but the job, for callgrind; see instructions.sh
//! ```

mod counting;
mod facts;
mod jobs;
mod report;

use bytes::Bytes;

use crate::facts::{Collect, Discard};
use crate::jobs::Refusal;

/// A parser under test: its name and its job, once with the values kept and once with them discarded.
pub struct Parser {
    pub name: &'static str,
    pub collect: fn(&Bytes, &mut Collect) -> Result<(), Refusal>,
    pub run: fn(&Bytes, &mut Discard) -> Result<(), Refusal>,
}

/// Ours first: the others are compared with it.
pub const PARSERS: [Parser; 6] = [
    Parser {
        name: "sipora-message",
        collect: jobs::sipora::run,
        run: jobs::sipora::run,
    },
    Parser {
        name: "sipora-message-unchecked",
        collect: jobs::sipora::run_unchecked,
        run: jobs::sipora::run_unchecked,
    },
    Parser {
        name: "ezk-sip-types",
        collect: jobs::ezk::run,
        run: jobs::ezk::run,
    },
    Parser {
        name: "rsip",
        collect: jobs::rsip::run,
        run: jobs::rsip::run,
    },
    Parser {
        name: "rsipstack",
        collect: jobs::rsipstack::run,
        run: jobs::rsipstack::run,
    },
    Parser {
        name: "rvoip-sip-core",
        collect: jobs::rvoip::run,
        run: jobs::rvoip::run,
    },
];

/// The corpus that sipora-message's own benchmarks run on.
macro_rules! corpus {
    ($($name:literal)*) => {
        [$(($name, include_bytes!(concat!("../../../crates/sip-message/benches/messages/", $name, ".sip")).as_slice()),)*]
    };
}

fn corpus() -> Vec<(&'static str, Bytes)> {
    let messages = corpus![
        "register" "register-challenge" "register-ok" "invite" "ringing" "invite-ok" "ack" "bye" "options"
        "subscribe" "notify" "message" "publish" "compact"
    ];
    // As a transport hands them over: on the heap, shared.
    let shared = |bytes: &[u8]| {
        let bytes = Bytes::from(bytes.to_vec());
        drop(bytes.clone());
        bytes
    };
    messages.map(|(name, bytes)| (name, shared(bytes))).to_vec()
}

fn main() -> Result<(), Refusal> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => report::run(&corpus()),
        ["--list"] => {
            PARSERS
                .iter()
                .for_each(|parser| println!("parser {}", parser.name));
            corpus()
                .iter()
                .for_each(|(name, _)| println!("message {name}"));
            Ok(())
        }
        ["--run", parser, message, passes] => {
            let parser = PARSERS
                .iter()
                .find(|known| known.name == parser)
                .ok_or("no such parser")?;
            let corpus = corpus();
            let (_, message) = corpus
                .iter()
                .find(|(name, _)| *name == message)
                .ok_or("no such message")?;
            for _ in 0..passes.parse::<u32>()? {
                (parser.run)(message, &mut Discard)?;
            }
            Ok(())
        }
        _ => Err("usage: sipora-peers-bench [--list | --run PARSER MESSAGE PASSES]".into()),
    }
}
