//! Flags, environment and a TOML file become one checked [`Config`].
//!
//! Precedence: a flag, then its `LOGINSCOPE_…` environment variable, then the file, then the default. An error names the key,
//! what it was, what is allowed and where it came from; it never shows a secret.

mod file;
mod kafka;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use loginscope_kafka::{ClientSettings, StartPosition};
use loginscope_login::decode::InputFormat;

use crate::application::TopicNames;
use file::{FileConfig, duration};

/// A configuration that can't be used. The text is one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// An error about the configuration.
pub fn config_error<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// How often an input message may show in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Delivery {
    /// Once. Not available in this version.
    ExactlyOnce,
    /// At least once: after a crash, what came after the last commit is done again.
    AtLeastOnce,
}

/// Where Kafka is and how to get in; what every command that talks to it has.
#[derive(Args, Clone, Debug, Default)]
pub struct KafkaArgs {
    /// Bootstrap servers.
    #[arg(
        long,
        visible_alias = "bootstrap-server",
        value_name = "HOST:PORT",
        help = "Bootstrap servers of the Kafka cluster, separated by commas [env: LOGINSCOPE_BROKERS, BOOTSTRAP_SERVERS]"
    )]
    pub brokers: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, env = "LOGINSCOPE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What the pipeline does with a login, wherever it comes from.
#[derive(Args, Clone, Debug, Default)]
pub struct PipelineArgs {
    /// A plugin: a component or core module; give it several times for several plugins, in their order [default: the three inside]
    #[arg(long = "plugin", env = "LOGINSCOPE_PLUGIN", value_name = "FILE", value_delimiter = ',')]
    pub plugins: Vec<PathBuf>,
    /// Accepted logins of a partition in a window [default: 100]
    #[arg(long, env = "LOGINSCOPE_INSIGHT_EVERY", value_name = "LOGINS", value_parser = clap::value_parser!(u32).range(1..))]
    pub insight_every: Option<u32>,
    /// The largest message, in bytes [default: 1048576]
    #[arg(long, env = "LOGINSCOPE_MAX_MESSAGE_BYTES", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub max_message_bytes: Option<u32>,
    /// The topic of logins.
    #[arg(
        long,
        value_name = "TOPIC",
        help = "The topic of logins [env: LOGINSCOPE_INPUT_TOPIC, KAFKA_TOPIC] [default: user-login]"
    )]
    pub input_topic: Option<String>,
}

/// Everything else about a run on Kafka.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// The consumer group [default: loginscope]
    #[arg(long, env = "LOGINSCOPE_GROUP", value_name = "NAME")]
    pub group: Option<String>,
    /// The topic of accepted logins [default: processed-logins]
    #[arg(long, env = "LOGINSCOPE_PROCESSED_TOPIC", value_name = "TOPIC")]
    pub processed_topic: Option<String>,
    /// The topic of insights [default: login-insights]
    #[arg(long, env = "LOGINSCOPE_INSIGHTS_TOPIC", value_name = "TOPIC")]
    pub insights_topic: Option<String>,
    /// The topic of rejected messages [default: rejected-logins]
    #[arg(long, env = "LOGINSCOPE_REJECTED_TOPIC", value_name = "TOPIC")]
    pub rejected_topic: Option<String>,
    /// Worker threads [default: the number of cores]
    #[arg(long, env = "LOGINSCOPE_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// How often a message may show in the output.
    #[arg(
        long,
        env = "LOGINSCOPE_DELIVERY",
        value_name = "GUARANTEE",
        help = "How often a message may show in the output [default: at_least_once]"
    )]
    pub delivery: Option<Delivery>,
    /// Where a new group starts: earliest, latest, or so long ago (2h) [default: earliest]
    #[arg(long, env = "LOGINSCOPE_FROM", value_name = "POSITION")]
    pub from: Option<String>,
    /// Take over changed plugin files without a restart
    #[arg(long, env = "LOGINSCOPE_WATCH")]
    pub watch: bool,
    /// Where health and metrics are served, or "off" [default: 127.0.0.1:9464]
    #[arg(long, env = "LOGINSCOPE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

/// What the pipeline needs to know, checked.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// The plugin files; none: the default plugins.
    pub plugins: Vec<PathBuf>,
    /// The settings of plugins, by name.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// Accepted logins in a window.
    pub insight_every: u32,
    /// The largest message, in bytes.
    pub max_message_bytes: u32,
    /// How messages are read.
    pub format: InputFormat,
    /// The topic of logins.
    pub input_topic: String,
}

/// What a run on Kafka needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pipeline's part.
    pub pipeline: PipelineConfig,
    /// How to reach Kafka.
    pub kafka: ClientSettings,
    /// The topics.
    pub topics: TopicNames,
    /// The consumer group.
    pub group: String,
    /// How many workers.
    pub workers: usize,
    /// Where a new group starts.
    pub from: StartPosition,
    /// Whether changed plugin files are taken over.
    pub watch: bool,
    /// Whether missing topics are created.
    pub create_topics: bool,
    /// Whether processed logins tell where they came from.
    pub source_headers: bool,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// How long draining may take at the end.
    pub drain_timeout: Duration,
    /// How often the status line is written.
    pub status_interval: Duration,
    /// Where health and metrics are served.
    pub listen: Option<SocketAddr>,
}

/// The environment: read through a function, so that tests can have their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment; an empty variable counts as none.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl PipelineConfig {
    /// What `pipe` needs: from flags and file.
    pub fn load(args: &PipelineArgs, config: Option<&Path>, environment: Environment<'_>) -> Result<Self, ConfigError> {
        Self::check(args, &FileConfig::read(config)?, environment)
    }

    fn check(args: &PipelineArgs, file: &FileConfig, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let max_message_bytes = args.max_message_bytes.or(file.max_message_bytes()?).unwrap_or(1 << 20);
        let input_topic = args
            .input_topic
            .clone()
            .or_else(|| environment("LOGINSCOPE_INPUT_TOPIC"))
            .or_else(|| environment("KAFKA_TOPIC"))
            .or_else(|| file.input_topic.clone())
            .unwrap_or_else(|| "user-login".to_owned());
        check_topic("input_topic", &input_topic)?;
        let mut plugins = if args.plugins.is_empty() { file.plugins.clone() } else { args.plugins.clone() };
        plugins.retain(|plugin| !plugin.as_os_str().is_empty());
        for plugin in &plugins {
            if !plugin.is_file() {
                return config_error(format!("--plugin: there is no file {}", plugin.display()));
            }
        }
        Ok(Self {
            plugins,
            settings: file.plugin_settings()?,
            insight_every: args.insight_every.or(file.insight_every()?).unwrap_or(100),
            max_message_bytes,
            format: file.input_format(max_message_bytes as usize)?,
            input_topic,
        })
    }
}

/// Where Kafka is, from flags, environment and file.
pub fn kafka_settings(args: &KafkaArgs, environment: Environment<'_>) -> Result<ClientSettings, ConfigError> {
    kafka::settings(args, &FileConfig::read(args.config.as_deref())?, environment)
}

impl Config {
    /// What `run` needs: from flags, environment and file.
    pub fn load(
        kafka: &KafkaArgs,
        pipeline: &PipelineArgs,
        run: &RunArgs,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let file = FileConfig::read(kafka.config.as_deref())?;
        let pipeline = PipelineConfig::check(pipeline, &file, environment)?;
        if run.delivery.or(file.delivery) == Some(Delivery::ExactlyOnce) {
            return config_error("delivery: exactly_once is not available in this version; allowed is at_least_once");
        }
        let name = |key: &str, flag: &Option<String>, file: &Option<String>, default: &str| {
            let name = flag.clone().or_else(|| file.clone()).unwrap_or_else(|| default.to_owned());
            check_topic(key, &name).map(|()| name)
        };
        let topics = TopicNames {
            input: pipeline.input_topic.clone(),
            processed: name("processed_topic", &run.processed_topic, &file.processed_topic, "processed-logins")?,
            insights: name("insights_topic", &run.insights_topic, &file.insights_topic, "login-insights")?,
            rejected: name("rejected_topic", &run.rejected_topic, &file.rejected_topic, "rejected-logins")?,
        };
        refuse_same_topics(&topics)?;
        let group = run.group.clone().or_else(|| file.group.clone()).unwrap_or_else(|| "loginscope".to_owned());
        if group.is_empty() {
            return config_error("group: the consumer group's name is empty");
        }
        Ok(Self {
            kafka: kafka::settings(kafka, &file, environment)?,
            topics,
            group,
            workers: match run.workers.map(usize::from).or(file.workers()?) {
                Some(workers) => workers,
                None => std::thread::available_parallelism().map_or(1, usize::from),
            },
            from: start_position(run.from.as_deref().or(file.from.as_deref()))?,
            watch: run.watch || file.watch.unwrap_or(false),
            create_topics: file.create_topics.unwrap_or(true),
            source_headers: file.source_headers.unwrap_or(false),
            commit_interval: duration("commit_interval", file.commit_interval.as_deref(), "100ms")?,
            drain_timeout: duration("drain_timeout", file.drain_timeout.as_deref(), "30s")?,
            status_interval: duration("status_interval", file.status_interval.as_deref(), "10s")?,
            listen: listen_address(run.listen.as_deref().or(file.listen.as_deref()))?,
            pipeline,
        })
    }
}

fn start_position(from: Option<&str>) -> Result<StartPosition, ConfigError> {
    let from = from.unwrap_or("earliest");
    from.parse().map_err(|_| {
        ConfigError(format!(
            "from: {from:?} is no position; allowed are earliest, latest, or a time ago such as 30m, 2h or 7d"
        ))
    })
}

fn listen_address(listen: Option<&str>) -> Result<Option<SocketAddr>, ConfigError> {
    match listen.unwrap_or("127.0.0.1:9464") {
        "off" => Ok(None),
        address => address.parse().map(Some).map_err(|_| {
            ConfigError(format!("listen: {address:?} is no address; allowed is an IP address with a port, such as 127.0.0.1:9464, or off"))
        }),
    }
}

fn check_topic(key: &str, topic: &str) -> Result<(), ConfigError> {
    loginscope_kafka::topics::check_name(topic).map_err(|error| ConfigError(format!("{key}: {error}")))
}

fn refuse_same_topics(topics: &TopicNames) -> Result<(), ConfigError> {
    let named = [
        ("input_topic", &topics.input),
        ("processed_topic", &topics.processed),
        ("insights_topic", &topics.insights),
        ("rejected_topic", &topics.rejected),
    ];
    for (place, (key, topic)) in named.iter().enumerate() {
        for (other, same) in named.iter().take(place) {
            if topic == same {
                return config_error(format!("{key}: {topic:?} is also the {other}; each needs a topic of its own"));
            }
        }
    }
    Ok(())
}
