//! `loginscope run`: logins from Kafka through the plugins, back to Kafka.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::application::{Application, Settings, prepare_topics};
use crate::cli::Exit;
use crate::config::Config;
use crate::control::http::{self, Readiness};
use crate::control::{status, watch};
use crate::pipeline::plugins::PluginSet;
use crate::telemetry::Telemetry;

/// What ended a run.
enum End {
    Interrupted,
    Terminated,
    Failed(anyhow::Error),
}

/// Runs until a signal or a failure.
pub fn run(config: &Config) -> Result<Exit> {
    let metrics = http::install_metrics()?;
    let telemetry = Arc::new(Telemetry::default());
    let plugins = Arc::new(PluginSet::from_config(&config.pipeline)?);
    let chain = plugins.load_at_start()?;
    announce(config, &chain);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the control plane")?;
    // Signals count from here on: also one that comes while brokers are being looked for.
    let signals = runtime.block_on(async { signals() })?;
    let serving = watch::serving(chain);
    let _watcher = if config.watch {
        Some(watch::watch(Arc::clone(&plugins), Arc::clone(&serving), Arc::clone(&telemetry))?)
    } else {
        None
    };
    let readiness = Readiness::default();
    if let Some(address) = config.listen {
        let bound = runtime.block_on(http::serve(address, readiness.clone(), metrics))?;
        tracing::info!("health and metrics at http://{bound}/healthz, /readyz and /metrics");
    }
    let (partitions, limits) =
        prepare_topics(&config.kafka, &config.topics, config.pipeline.max_message_bytes, config.create_topics)?;
    let settings = Settings {
        kafka: config.kafka.clone(),
        topics: config.topics.clone(),
        group: config.group.clone(),
        start: config.from,
        workers: config.workers,
        insight_every: config.pipeline.insight_every,
        max_message_bytes: config.pipeline.max_message_bytes,
        source_headers: config.source_headers,
        commit_interval: config.commit_interval,
        drain_timeout: config.drain_timeout,
        limits,
        partitions,
    };
    let application = Application::start(&settings, serving, Arc::clone(&telemetry))?;
    readiness.set(true);
    let reporting = runtime.spawn(status::report(Arc::clone(&telemetry), config.status_interval));
    let end = wait(&runtime, signals, &application);
    readiness.set(false);
    reporting.abort();
    let stopped = match &end {
        End::Failed(_) => application.stop(config.drain_timeout),
        End::Interrupted | End::Terminated => {
            tracing::info!("draining: finishing what has begun, then committing");
            drain_or_second_signal(&runtime, application, config.drain_timeout)
        }
    };
    let counts = telemetry.counts();
    tracing::info!(
        "ended: {} accepted, {} rejected, {} insights",
        counts.processed,
        counts.rejected_total(),
        counts.insights
    );
    match end {
        End::Failed(error) => Err(error),
        End::Interrupted => stopped.map(|()| Exit::Interrupted),
        End::Terminated => stopped.map(|()| Exit::Done),
    }
}

fn announce(config: &Config, chain: &crate::pipeline::Chain) {
    let plugins: Vec<&str> = chain.plugins.iter().map(loginscope_wasm::Plugin::label).collect();
    let origin = if config.pipeline.plugins.is_empty() { "inside" } else { "from files" };
    tracing::info!(
        "{} → {}, {}, {}; group {}; {} workers; at least once; plugins {} ({origin})",
        config.topics.input,
        config.topics.processed,
        config.topics.insights,
        config.topics.rejected,
        config.group,
        config.workers,
        plugins.join(", "),
    );
    if chain.one_by_one {
        tracing::warn!(
            "an enricher asks for a history that depends on fields which it or a later enricher sets, so logins go one by \
             one; put the enricher that sets them first"
        );
    }
}

/// The signals that end a run.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

fn signals() -> Result<Signals> {
    Ok(Signals {
        interrupt: signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?,
        terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
    })
}

fn wait(runtime: &Runtime, mut signals: Signals, application: &Application) -> End {
    loop {
        let signal = runtime.block_on(async {
            tokio::select! {
                _ = signals.interrupt.recv() => Some(End::Interrupted),
                _ = signals.terminate.recv() => Some(End::Terminated),
                () = tokio::time::sleep(Duration::from_millis(100)) => None,
            }
        });
        if let Some(end) = signal {
            return end;
        }
        if let Some(error) = application.failure(Duration::ZERO) {
            return End::Failed(error);
        }
    }
}

/// Drains; a second signal ends the process at once.
fn drain_or_second_signal(runtime: &Runtime, application: Application, timeout: Duration) -> Result<()> {
    runtime.spawn(async {
        if let Ok(mut signals) = signals() {
            let status = tokio::select! {
                _ = signals.interrupt.recv() => 130,
                _ = signals.terminate.recv() => 1,
            };
            tracing::warn!("ended by a second signal: what was not committed will be done again");
            std::process::exit(status);
        }
    });
    application.stop(timeout)
}
