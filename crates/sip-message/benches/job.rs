//! Times: the job on each message, the job on all of them, answers to all requests among them.
#![allow(clippy::unwrap_used, missing_docs)]

mod corpus;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn job(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("job");
    for (name, bytes) in corpus::CORPUS {
        let datagram = corpus::datagram(bytes);
        group.throughput(Throughput::Bytes(datagram.len() as u64));
        group.bench_function(*name, |bencher| bencher.iter(|| corpus::job(&datagram)));
    }
    let datagrams = corpus::datagrams();
    group.throughput(Throughput::Elements(datagrams.len() as u64));
    group.bench_function("corpus", |bencher| {
        bencher.iter(|| datagrams.iter().for_each(corpus::job));
    });
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let messages = corpus::messages();
    criterion.bench_function("answers", |bencher| {
        bencher.iter(|| messages.iter().for_each(corpus::answer));
    });
}

criterion_group!(benches, job, answers);
criterion_main!(benches);
