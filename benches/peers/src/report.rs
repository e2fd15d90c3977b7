//! Checks that all parsers read the same, then times them in turn.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::counting::allocations;
use crate::facts::{Collect, Discard};
use crate::jobs::Refusal;
use crate::{PARSERS, Parser};

/// Rounds over all parsers and messages. The median round counts, so that what else the machine does in between costs
/// no one parser more than another.
const ROUNDS: usize = 61;
/// The shortest measurement: far above the clock's resolution, far below a scheduler's time slice.
const SLICE: Duration = Duration::from_micros(400);

pub fn run(corpus: &[(&str, Bytes)]) -> Result<(), Refusal> {
    let read = check(corpus)?;
    let times = measure(corpus);
    print(corpus, &read, &times);
    Ok(())
}

/// Every parser must hand over the values that ours does, or refuse the message. Tells who reads what, by message and
/// parser.
fn check(corpus: &[(&str, Bytes)]) -> Result<Vec<Vec<bool>>, Refusal> {
    let mut read = Vec::new();
    for (name, message) in corpus {
        let mut ours = Collect::default();
        (PARSERS[0].collect)(message, &mut ours)?;
        let mut row = Vec::new();
        for parser in &PARSERS {
            let mut theirs = Collect::default();
            let result = (parser.collect)(message, &mut theirs);
            row.push(result.is_ok());
            match result {
                Err(error) => println!("{} cannot read {name}: {error}\n", parser.name),
                Ok(()) if theirs == ours => {}
                Ok(()) => {
                    let differs = format!(
                        "{} reads {name} as {theirs:?}, not as {ours:?}",
                        parser.name
                    );
                    return Err(differs.into());
                }
            }
        }
        read.push(row);
    }
    Ok(read)
}

/// Median nanoseconds, by message and parser.
fn measure(corpus: &[(&str, Bytes)]) -> Vec<Vec<f64>> {
    let mut samples = vec![vec![Vec::with_capacity(ROUNDS); PARSERS.len()]; corpus.len()];
    for _ in 0..ROUNDS {
        for ((_, message), samples) in corpus.iter().zip(&mut samples) {
            for (parser, samples) in PARSERS.iter().zip(samples) {
                samples.push(sample(parser, message));
            }
        }
    }
    let medians = |samples: Vec<Vec<f64>>| samples.into_iter().map(median).collect();
    samples.into_iter().map(medians).collect()
}

fn sample(parser: &Parser, message: &Bytes) -> f64 {
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < SLICE {
        for _ in 0..16 {
            let _ = (parser.run)(message, &mut Discard);
        }
        count += 16;
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// One row a message; then the mean over the messages that the parser reads, what ours takes for the same messages,
/// and the allocations.
fn print(corpus: &[(&str, Bytes)], read: &[Vec<bool>], times: &[Vec<f64>]) {
    let row = |title: &str, cell: &dyn Fn(usize) -> String| {
        let cells: String = (0..PARSERS.len())
            .map(|parser| cell(parser) + " | ")
            .collect();
        println!("| {title} | {}", cells.trim_end());
    };
    println!(
        "Nanoseconds, median of {ROUNDS} interleaved rounds; – where the message is refused.\n"
    );
    row("message (bytes)", &|parser| PARSERS[parser].name.to_owned());
    row("---", &|_| "---:".to_owned());
    for (at, (name, message)) in corpus.iter().enumerate() {
        row(
            &format!("{name} ({})", message.len()),
            &|parser| match read[at][parser] {
                true => format!("{:.0}", times[at][parser]),
                false => "–".to_owned(),
            },
        );
    }
    // Over the messages that `reader` reads.
    let mean = |reader: usize, value: &dyn Fn(usize) -> f64| {
        let values: Vec<f64> = (0..corpus.len())
            .filter(|at| read[*at][reader])
            .map(value)
            .collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let theirs = |parser: usize| mean(parser, &|at| times[at][parser]);
    let ours = |parser: usize| mean(parser, &|at| times[at][0]);
    row("mean", &|parser| format!("{:.0}", theirs(parser)));
    row("ours on the same messages", &|parser| {
        format!("{:.0}", ours(parser))
    });
    row("ratio", &|parser| {
        format!("{:.2}", theirs(parser) / ours(parser))
    });
    row("allocations, mean", &|parser| {
        let run = |at: usize| drop((PARSERS[parser].run)(&corpus[at].1, &mut Discard));
        format!("{:.1}", mean(parser, &|at| allocations(|| run(at)) as f64))
    });
}
