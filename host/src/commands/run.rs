//! `loginscope run`: logins from Kafka through the plugins, back to Kafka.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use loginscope_wasm::Digest;
use tokio::runtime::{Handle, Runtime};

use super::signals::Signals;
use crate::application::{Application, Settings, prepare_plugins_topic, prepare_topics};
use crate::cli::Exit;
use crate::config::{Config, ConfigError, Origin};
use crate::control::deploy::Deployer;
use crate::control::http::{self, Readiness, Served};
use crate::control::membership::{Identity, Membership, lines_alone};
use crate::control::memory::Memory;
use crate::control::status;
use crate::control::swap::{Consent, Swapper};
use crate::control::watch::Watched;
use crate::pipeline::plugins::{PluginSet, names};
use crate::pipeline::serving::Serving;
use crate::telemetry::Telemetry;

/// What ended a run.
enum End {
    Signal(Exit),
    Failed(anyhow::Error),
}

/// What runs beside the workers. When it is dropped, it ends without waiting: a deployment that is tried on live messages waits for
/// ones that won't come.
struct ControlPlane {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl ControlPlane {
    fn start() -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().context("cannot start the control plane")?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs until a signal or a failure.
pub fn run(config: &Config) -> Result<Exit> {
    let metrics = http::install_metrics()?;
    let telemetry = Arc::new(Telemetry::default());
    let plugins = PluginSet::from_config(&config.pipeline)?;
    let chain = plugins.load_before_others()?;
    // Those of the group are known later.
    let unknown = match (plugins.check_settings(&names(&chain)), config.plugins_topic()) {
        (Err(error), None) => return Err(error.into()),
        (checked, _) => checked.err(),
    };
    announce(config, &chain);
    let control = ControlPlane::start()?;
    // Signals count from here on: also one that comes while brokers are being looked for.
    let signals = Signals::listen()?;
    let serving = Arc::new(Serving::new(chain));
    let swapper = Swapper::new(&serving, &telemetry, &config.pipeline, config.tolerance, config.probation);
    match config.plugins_topic() {
        Some(_) => swapper.ask(Consent::Starting),
        None => say_plugins(&lines_alone(&plugins, &serving.load().chain)),
    }
    let deployer = Arc::new(Deployer { plugins: Arc::new(plugins), swapper });
    let watched = config.watch.then(|| Watched::new(&deployer, config.file.as_deref()));
    let mut memory = Memory::with_limit(config.memory_limit)?;
    let readiness = Readiness::default();
    if let Some(address) = config.listen {
        let token = config.control_token.clone();
        let served = Served {
            readiness: readiness.clone(),
            telemetry: Arc::clone(&telemetry),
            metrics,
            deployer: Arc::clone(&deployer),
            token,
        };
        let bound = control.handle.block_on(http::serve(address, served))?;
        tracing::info!("health and metrics at http://{bound}/healthz, /readyz and /metrics; plugins at /v1/plugins");
    }
    let prepared = prepare_topics(
        &config.kafka,
        &config.topics,
        config.state_topics.as_ref(),
        config.pipeline.max_message_bytes,
        config.create_topics,
    );
    let (partitions, limits) = prepared.map_err(|error| match unknown {
        Some(unknown) => {
            ConfigError(format!("{unknown}; and whether the group has it can't be looked up: {error:#}")).into()
        }
        None => error,
    })?;
    let group = match config.plugins_topic().map(|topic| join(config, topic, &deployer, &signals)).transpose()? {
        None => None,
        Some(Joined::Member(group)) => Some(group),
        Some(Joined::Ended(exit)) => return Ok(exit),
    };
    let _watcher = watched.map(Watched::follow).transpose()?;
    let settings = Settings {
        kafka: config.kafka.clone(),
        topics: config.topics.clone(),
        group: config.group.clone(),
        instance: config.instance.clone(),
        state_topics: config.state_topics.clone(),
        start: config.from,
        workers: config.workers,
        insight_every: config.pipeline.insight_every,
        max_message_bytes: config.pipeline.max_message_bytes,
        source_headers: config.source_headers,
        plugins_header: config.plugins_header,
        guarantee: config.guarantee,
        commit_interval: config.commit_interval,
        drain_timeout: config.drain_timeout,
        limits,
        partitions,
    };
    let application = Application::start(&settings, &serving, Arc::clone(&telemetry))?;
    if let Some(group) = &group {
        group.follow(&deployer)?;
    }
    readiness.set(true);
    let reporting = control.handle.spawn(status::report(Arc::clone(&telemetry), config.status_interval));
    let end = wait(&signals, &application, &mut memory, &telemetry, group.as_deref());
    readiness.set(false);
    reporting.abort();
    if matches!(end, End::Signal(_)) {
        tracing::info!("draining: finishing what has begun, then committing");
    }
    let stopped = application.stop(config.drain_timeout);
    if let Some(group) = &group {
        group.leave();
    }
    drop(control);
    let counts = telemetry.counts();
    tracing::info!(
        "ended: {} accepted, {} rejected, {} insights",
        counts.processed,
        counts.rejected_total(),
        counts.insights
    );
    match end {
        End::Failed(error) => Err(error),
        End::Signal(exit) => stopped.map(|()| exit),
    }
}

fn announce(config: &Config, chain: &crate::pipeline::Chain) {
    tracing::info!(
        "{} → {}, {}, {}; group {}; {} workers; {}",
        config.topics.input,
        config.topics.processed,
        config.topics.insights,
        config.topics.rejected,
        config.group,
        config.workers,
        config.guarantee.as_str(),
    );
    if config.state_topics.is_none() {
        tracing::warn!(
            "the state is in memory only (state_in): a partition that starts here, after a restart or a rebalance, begins its \
             aggregates and windows anew, and the totals of other processes are in no insight"
        );
    }
    if chain.one_by_one {
        tracing::warn!(
            "an enricher asks for a history that depends on fields which it or a later enricher sets, so logins go one by \
             one; put the enricher that sets them first"
        );
    }
}

/// What came of joining the group.
enum Joined {
    Member(Arc<Membership>),
    /// A signal came meanwhile.
    Ended(Exit),
}

/// Has the plugins serve that the group has agreed on, or that are to be agreed on. That may take a minute, as others may be agreeing on
/// something, so a signal ends it.
fn join(config: &Config, topic: &str, deployer: &Deployer, signals: &Signals) -> Result<Joined> {
    let missing = config.create_topics.then_some(config.pipeline.max_message_bytes);
    prepare_plugins_topic(&config.kafka, topic, missing)?;
    let Deployer { plugins, swapper } = deployer;
    let started_with = Arc::clone(&swapper.serving.load().chain);
    let group = Arc::new(Membership::join(&config.kafka, topic, identity(config), plugins, &started_with)?);
    let (starting, serving) = (Arc::clone(&group), Arc::clone(&swapper.serving));
    let start = std::thread::Builder::new().name("group-start".to_owned()).spawn(move || starting.start(&serving));
    let start = start.context("cannot start a thread")?;
    while !start.is_finished() {
        if let Some(exit) = signals.wait(Duration::from_millis(20)) {
            // What is proposed is taken back.
            group.leave();
            return Ok(Joined::Ended(exit));
        }
    }
    say_plugins(
        &start.join().map_err(|_| anyhow::anyhow!("the plugins of the group could not be read: it panicked"))??,
    );
    swapper.ask(Consent::Group(Arc::clone(&group)));
    Ok(Joined::Member(group))
}

/// Who this process is. Without a name, its files are those of this machine: of its configuration file, or else of its plugins.
fn identity(config: &Config) -> Identity {
    let host = sysinfo::System::host_name().unwrap_or_else(|_| "a host without a name".to_owned());
    if let Some(name) = &config.instance {
        return Identity { name: name.clone(), is_own: true, place: Digest::of(name.as_bytes()) };
    }
    let of_file = |origin: &Origin| matches!(origin, Origin::File { .. });
    let named = config.pipeline.plugins_named.as_ref().filter(|origin| !of_file(origin));
    let plugins = named.map_or(&[][..], |_| &config.pipeline.plugins);
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string();
    let files: Vec<String> = config.file.iter().chain(plugins).map(absolute).collect();
    let place = Digest::of(format!("{host}\0{}", files.join("\0")).as_bytes());
    Identity { name: format!("{host}, process {}", std::process::id()), is_own: false, place }
}

/// Says which plugins serve.
fn say_plugins(lines: &[String]) {
    for line in lines {
        tracing::info!("plugin {line}");
    }
}

fn wait(
    signals: &Signals,
    application: &Application,
    memory: &mut Memory,
    telemetry: &Telemetry,
    group: Option<&Membership>,
) -> End {
    loop {
        if let Some(exit) = signals.wait(Duration::from_millis(100)) {
            return End::Signal(exit);
        }
        if let Some(error) = application.failure(Duration::ZERO) {
            return End::Failed(error);
        }
        if let Some(failure) = group.and_then(Membership::failure) {
            return End::Failed(anyhow::anyhow!(failure));
        }
        if let Err(error) = memory.look(telemetry) {
            return End::Failed(error);
        }
    }
}
