//! The timing wheel beside tokio_util's `DelayQueue`: what a transaction asks of its timers, among 100,000 others.
#![allow(dead_code, unused_imports, clippy::unwrap_used, missing_docs)]

#[path = "../src/slab.rs"]
mod slab;
#[path = "../src/timers/mod.rs"]
mod timers;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
/// What the unit tests of the wheel want to find at the root.
#[cfg(test)]
use sipora_transaction_core::IdSource;
use std::future::poll_fn;
use std::hint::black_box;
use std::time::{Duration, Instant};
use timers::{Clock, Holder, TimerQueue};
use tokio_util::time::DelayQueue;

const OTHERS: u64 = 100_000;

/// Waits as they are in a busy server: 0.5 to 32 s.
fn wait(number: u64) -> Duration {
    Duration::from_millis(500 + number.wrapping_mul(7_919) % 31_500)
}

fn wheel() -> (TimerQueue, Clock, Instant) {
    let start = Instant::now();
    let (mut queue, mut clock) = (TimerQueue::default(), Clock::default());
    for number in 0..OTHERS {
        let tick = clock.after(start, wait(number));
        queue.insert(tick, Holder::server(number));
    }
    (queue, clock, start)
}

fn delays() -> DelayQueue<u64> {
    let mut queue = DelayQueue::new();
    for number in 0..OTHERS {
        queue.insert(number, wait(number));
    }
    queue
}

fn insert_and_remove(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let mut group = criterion.benchmark_group("insert and remove");
    let (mut queue, mut clock, start) = wheel();
    let mut number = 0;
    group.bench_function("wheel", |bencher| {
        bencher.iter(|| {
            number += 1;
            let tick = clock.after(start, wait(number));
            let entry = queue.insert(tick, Holder::server(number));
            queue.remove(black_box(entry));
        });
    });
    let mut queue = delays();
    group.bench_function("DelayQueue", |bencher| {
        bencher.iter(|| {
            number += 1;
            let key = queue.insert(number, wait(number));
            queue.remove(&black_box(key));
        });
    });
    group.finish();
}

fn expire(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let mut group = criterion.benchmark_group("expire 100,000");
    group.sample_size(10);
    group.bench_function("wheel", |bencher| {
        bencher.iter_batched(
            wheel,
            |(mut queue, mut clock, start)| {
                let end = start + Duration::from_secs(33);
                let mut count = 0;
                while queue.pop_due(end, &mut clock).is_some() {
                    count += 1;
                }
                assert_eq!(count, OTHERS);
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("DelayQueue", |bencher| {
        bencher.iter_batched(
            delays,
            |mut queue| {
                runtime.block_on(async {
                    tokio::time::advance(Duration::from_secs(33)).await;
                    let mut count = 0;
                    while poll_fn(|cx| queue.poll_expired(cx)).await.is_some() {
                        count += 1;
                    }
                    assert_eq!(count, OTHERS);
                });
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, insert_and_remove, expire);
criterion_main!(benches);
