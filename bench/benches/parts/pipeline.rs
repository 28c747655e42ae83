//! The whole way of a login without Kafka, three plugins and an insight every 100 logins included, by batch size.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Bencher, BenchmarkId, Criterion, Throughput};
use loginscope::pipeline::batch::PartitionState;
use loginscope::pipeline::{Chain, Output, Pipeline, TotalsBoard};

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
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("batches of", size), |bencher| {
            take_again_and_again(bencher, &mut pipeline, &mut partition, &payloads, size);
        });
    }
    group.finish();
}

/// Takes payloads that were taken before through a pipeline, in batches of this size, as the next ones of their partition.
pub(crate) fn take_again_and_again(
    bencher: &mut Bencher<'_>,
    pipeline: &mut Pipeline,
    partition: &mut PartitionState,
    payloads: &[Vec<u8>],
    size: usize,
) {
    let (totals, mut output) = (TotalsBoard::default(), Output::default());
    let mut batches = payloads.chunks_exact(size).cycle();
    let mut offset = partition.state.last_accepted_offset().map_or(0, |last| last + 1);
    bencher.iter(|| {
        let messages = messages(offset, batches.next().unwrap());
        offset += messages.len() as i64;
        output.clear();
        pipeline.process(partition, black_box(&messages), &totals, Instant::now(), &mut output);
        black_box(output.processed.len())
    });
}
