//! The whole way of a login without Kafka, three plugins and an insight every 100 logins included, by batch size.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput};
use loginscope::pipeline::{Chain, Output, TotalsBoard};

use crate::source::{messages, partition, payloads, pipeline};

/// How many logins are gone through in turns.
const LOGINS: usize = 400_000;

pub(crate) fn bench(criterion: &mut Criterion, chain: &Arc<Chain>) {
    let payloads = payloads(LOGINS).unwrap();
    let mut group = criterion.benchmark_group("pipeline");
    for size in [1, 100, 2_000, 4_096] {
        let (mut pipeline, mut partition) = (pipeline(chain).unwrap(), partition(chain));
        let (totals, mut output) = (TotalsBoard::default(), Output::default());
        // Every user is known by then, whatever the batch size.
        pipeline.process(&mut partition, &messages(0, &payloads), &totals, Instant::now(), &mut output);
        assert_eq!(output.processed.len(), LOGINS, "every login of the benchmarks is accepted");
        let mut batches = payloads.chunks_exact(size).cycle();
        let mut offset = payloads.len() as i64;
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("batches of", size), |bencher| {
            bencher.iter(|| {
                let messages = messages(offset, batches.next().unwrap());
                offset += messages.len() as i64;
                output.clear();
                pipeline.process(&mut partition, black_box(&messages), &totals, Instant::now(), &mut output);
                black_box(output.processed.len())
            });
        });
    }
    group.finish();
}
