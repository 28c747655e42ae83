//! Trying each default plugin on what a worker makes of live logins: what it costs the worker to hand that over, and what trying takes, by
//! batch size; beside it what the plugin itself takes, by its meter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use loginscope::comparator::Setting;
use loginscope::comparator::report::{Report, Tolerance, Use};
use loginscope::comparator::trial::Trial;
use loginscope::pipeline::batch::OutputLimits;
use loginscope::pipeline::chain::Keep;
use loginscope::pipeline::plugins::{DEFAULTS, PluginSet, PluginSource};
use loginscope::pipeline::{Chain, Output, TotalsBoard};

use crate::source::{WINDOW, messages, partition, payloads, pipeline};

/// How many logins are gone through in turns.
const LOGINS: usize = 400_000;

/// On so many logins it is told how much of it the plugin itself takes.
const TOLD: u64 = 200_000;

pub(crate) fn bench(criterion: &mut Criterion, chain: &Arc<Chain>) {
    let payloads = payloads(LOGINS).unwrap();
    for (place, (name, _)) in DEFAULTS.iter().enumerate() {
        let new = with_another(chain, place);
        let mut group = criterion.benchmark_group(format!("trial of {name}"));
        for size in [50, 500, 2_000] {
            group.throughput(Throughput::Elements(size as u64));
            for (what, timed) in [
                ("judging", Timed::Nothing),
                ("judging and handing over", Timed::HandingOver),
                ("trying", Timed::Trying),
            ] {
                group.bench_function(BenchmarkId::new(what, size), |bencher| {
                    bencher.iter_custom(|times| run(chain, &new, &payloads, size, times, timed).0);
                });
            }
        }
        group.finish();
        tell(name, &run(chain, &new, &payloads, 500, TOLD / 500, Timed::Trying));
    }
}

/// Prints how much of it the plugin itself takes.
fn tell(name: &str, (took, report): &(Duration, Report)) {
    let spent = |used: &Use| used.logins.cpu_time + used.windows.cpu_time;
    let own: Duration = report.new.values().map(spent).sum();
    let nanoseconds = |time: Duration| time.as_secs_f64() / report.messages as f64 * 1e9;
    println!("trying {name} takes {:.0} ns a login, its own calls {:.0}", nanoseconds(*took), nanoseconds(own));
}

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timed {
    /// A worker that nobody follows.
    Nothing,
    /// A worker that hands over.
    HandingOver,
    /// Whoever follows.
    Trying,
}

/// Takes so many batches through a worker, and tries the new plugin on them.
fn run(
    old: &Arc<Chain>,
    new: &Arc<Chain>,
    payloads: &[Vec<u8>],
    size: usize,
    batches: u64,
    timed: Timed,
) -> (Duration, Report) {
    let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: 1 << 20 };
    let setting = Setting { topic: "user-login".into(), insight_every: WINDOW, limits };
    let mut trial = Trial::new(old, new, &setting, Tolerance::default()).unwrap();
    let (mut pipeline, mut partition) = (pipeline(old).unwrap(), partition(old));
    let (totals, mut output, mut offset, mut took) = (TotalsBoard::default(), Output::default(), 0, Duration::ZERO);
    for payloads in payloads.chunks_exact(size).cycle().take(batches as usize) {
        let messages = messages(offset, payloads);
        offset += messages.len() as i64;
        output.clear();
        let began = Instant::now();
        pipeline.record((timed != Timed::Nothing).then_some(trial.wanted()));
        pipeline.process(&mut partition, &messages, &totals, began, &mut output);
        let judged = pipeline.take_judged(0, &messages, &output);
        let handed_over = Instant::now();
        // Also where that isn't timed: a worker tells what the trial wants to know.
        if let Some(judged) = judged {
            trial.compare(judged);
        }
        took += if timed == Timed::Trying { handed_over.elapsed() } else { handed_over - began };
    }
    (took, trial.report().clone())
}

/// The same plugins, of which one has other bytes.
fn with_another(chain: &Arc<Chain>, place: usize) -> Arc<Chain> {
    let mut sources: Vec<(&'static str, Vec<u8>)> = DEFAULTS.map(|(name, bytes)| (name, bytes.to_vec())).into();
    if let Some((_, bytes)) = sources.get_mut(place) {
        // A custom section.
        bytes.extend([0, 8, 3, b'v', b'e', b'r', 0, 0, 0, 0]);
    }
    let sources = sources.into_iter().map(|(name, bytes)| PluginSource::Inside { name, bytes: Vec::leak(bytes) });
    let format = chain.format.clone();
    let other = PluginSet::new(sources.collect(), std::collections::BTreeMap::new(), format).unwrap().load().unwrap();
    Arc::new(chain.next(other.plugins, Keep::Declared).unwrap())
}
