//! What it costs to find the logins on which a plugin traps among those on which it doesn't.

use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput};
use loginscope::pipeline::{Output, TotalsBoard};

use crate::pipeline::take_again_and_again;
use crate::source::{chain_with_a_trap, messages, partition, payloads, pipeline};

/// How many logins are gone through in turns.
const LOGINS: usize = 100_000;

/// Logins in a batch.
const BATCH: usize = 2_000;

/// Whose logins the plugin traps on.
const POISON: &str = "too-much-for-the-plugin";

/// The way of a login, with a plugin that traps on none or on one of so many.
pub(crate) fn bench(criterion: &mut Criterion) {
    let chain = chain_with_a_trap(POISON).unwrap();
    let mut group = criterion.benchmark_group("poison");
    for every in [None, Some(10_000), Some(1_000), Some(100)] {
        let mut payloads = payloads(LOGINS).unwrap();
        let poisoned = every.map_or(0, |every| poison(&mut payloads, every));
        let (mut pipeline, mut partition) = (pipeline(&chain).unwrap(), partition(&chain));
        let (totals, mut output) = (TotalsBoard::default(), Output::default());
        for (batch, offset) in payloads.chunks(BATCH).zip((0..).step_by(BATCH)) {
            pipeline.process(&mut partition, &messages(offset, batch), &totals, Instant::now(), &mut output);
        }
        assert_eq!((output.processed.len(), output.rejected.len()), (LOGINS - poisoned, poisoned));
        group.throughput(Throughput::Elements(BATCH as u64));
        let name = every.map_or_else(|| "none".to_owned(), |every| every.to_string());
        group.bench_function(BenchmarkId::new("one login of", name), |bencher| {
            take_again_and_again(bencher, &mut pipeline, &mut partition, &payloads, BATCH);
        });
    }
    group.finish();
}

/// Makes each login of so many one of the user that the plugin traps on. Answers how many those are.
fn poison(payloads: &mut [Vec<u8>], every: usize) -> usize {
    let mut poisoned = 0;
    for payload in payloads.iter_mut().skip(every / 2).step_by(every) {
        let mut login: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload).unwrap();
        login.insert("user_id".to_owned(), POISON.into());
        *payload = serde_json::Value::Object(login).to_string().into_bytes();
        poisoned += 1;
    }
    poisoned
}
