//! The three default plugins: loading, configuring, starting, and their calls by batch size. An insight generator's call doesn't depend on a batch: it is measured for a window of 100 logins by the number of users.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use loginscope::pipeline::insight::{View, window_argument};
use loginscope::pipeline::plugins::DEFAULTS;
use loginscope::pipeline::{Chain, Output, TotalsBoard};
use loginscope_login::Logins;
use loginscope_state::Partition;
use loginscope_wasm::{Engine, Instance, Limits, Window};

use crate::source::{WINDOW, decoded, messages, partition, payloads, pipeline};

pub(crate) fn bench(criterion: &mut Criterion, chain: &Arc<Chain>) {
    load(criterion);
    start(criterion, chain);
    validate(criterion, chain);
    enrich(criterion, chain);
    generate(criterion, chain);
}

/// From bytes to a compiled component, and from there to a configured plugin.
fn load(criterion: &mut Criterion) {
    let engine = Engine::new().unwrap();
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("plugin");
    for (file, bytes) in DEFAULTS {
        group.sample_size(10);
        group.bench_function(BenchmarkId::new("load", file), |bencher| {
            bencher.iter(|| engine.load(bytes, file).unwrap());
        });
        let component = engine.load(bytes, file).unwrap();
        group.sample_size(50);
        group.bench_function(BenchmarkId::new("configure", file), |bencher| {
            bencher.iter(|| component.configure("{}", &limits).unwrap());
        });
    }
    group.finish();
}

/// The first call on a new instance, without any login: what it takes to start one.
fn start(criterion: &mut Criterion, chain: &Chain) {
    let validator = chain.validators.first().unwrap();
    let plugin = chain.plugins.get(validator.plugin).unwrap();
    let none = Logins::new(&chain.schema);
    criterion.bench_function("plugin/start", |bencher| {
        bencher.iter(|| plugin.instance().validate(&none, &validator.reads).unwrap());
    });
}

fn instance(chain: &Chain, plugin: usize) -> Instance {
    chain.plugins.get(plugin).unwrap().instance()
}

fn validate(criterion: &mut Criterion, chain: &Chain) {
    let validator = chain.validators.first().unwrap();
    let mut instance = instance(chain, validator.plugin);
    let mut group = criterion.benchmark_group("validate");
    for rows in [1, 100, 2_000] {
        let (logins, _) = decoded(chain, &payloads(rows).unwrap()).unwrap();
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
            bencher.iter(|| instance.validate(black_box(&logins), &validator.reads).unwrap());
        });
    }
    group.finish();
}

fn enrich(criterion: &mut Criterion, chain: &Chain) {
    let enricher = chain.enrichers.first().unwrap();
    let mut instance = instance(chain, enricher.plugin);
    let mut group = criterion.benchmark_group("enrich");
    for rows in [1, 100, 2_000] {
        let (logins, _) = decoded(chain, &payloads(rows).unwrap()).unwrap();
        let mut partition = Partition::new(Arc::clone(&chain.catalog), u32::MAX);
        partition.savepoint();
        let history = partition.history(&enricher.history, &logins);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
            bencher.iter(|| instance.enrich(black_box(&logins), &enricher.reads, black_box(&history)).unwrap());
        });
    }
    group.finish();
}

fn generate(criterion: &mut Criterion, chain: &Arc<Chain>) {
    let plugin = *chain.generators.first().unwrap();
    let mut instance = instance(chain, plugin);
    let name = Arc::from(chain.plugins.get(plugin).unwrap().name());
    let mut group = criterion.benchmark_group("generate");
    group.throughput(Throughput::Elements(u64::from(WINDOW)));
    for logins in [1_000, 1_000_000] {
        let (window, partition) = complete_window(chain, logins);
        let mut view =
            Some(Box::new(View { partition, others: Arc::default(), plugin: Arc::clone(&name), told: None }));
        group.bench_function(BenchmarkId::new("after logins", logins), |bencher| {
            bencher.iter(|| {
                let (insights, back) = instance.generate(&window, view.take().unwrap());
                view = Some(back);
                insights.unwrap()
            });
        });
    }
    group.finish();
}

/// A partition that has counted so many logins and then one window, which is complete.
fn complete_window(chain: &Arc<Chain>, logins: usize) -> (Window, Box<Partition>) {
    let all = payloads(logins + WINDOW as usize).unwrap();
    let (before, last) = all.split_at(logins);
    let (mut partition, mut output) = (partition(chain), Output::default());
    let mut pipeline = pipeline(chain).unwrap();
    for (number, batch) in before.chunks(1_000).enumerate() {
        output.clear();
        let batch = messages(1_000 * number as i64, batch);
        pipeline.process(&mut partition, &batch, &TotalsBoard::default(), std::time::Instant::now(), &mut output);
    }
    let (last, _) = decoded(chain, last).unwrap();
    partition.state.observe(&last);
    let window = partition.state.completed_window().unwrap();
    (window_argument(&partition, &window), partition.state)
}
