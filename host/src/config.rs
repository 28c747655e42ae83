//! Flags, environment and a TOML file become one checked [`Config`].
//!
//! A value is taken from the first that gives one: the flag, its `LOGINSCOPE_…` variable, the original generator's variable, the
//! file, the default. An empty variable counts as unset. An error is one sentence: where it was said, what, and what is
//! allowed; it never shows a secret.

mod file;
mod kafka;
mod key;
pub mod keys;
pub mod logins;
mod policy;
mod said;
mod sources;
#[cfg(test)]
mod tests;
pub mod token;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loginscope_kafka::{ClientSettings, StartPosition, TRANSACTION_TIMEOUT_MS};
use loginscope_login::Schema;
use loginscope_login::decode::{Decoder, FormatError, InputFormat, TimestampFormat};

use crate::application::{StateTopics, TopicNames};
use crate::commands::plugin::Control;
use crate::comparator::report::Tolerance;
use crate::pipeline::delivery::Guarantee;
use crate::pipeline::policy::Policies;
use file::ConfigFile;
pub use key::{Key, Place, Shape};
pub use said::{Origin, Said};
pub use sources::{Environment, Sources};
use token::Token;

/// With less memory than this, in bytes, no process starts.
const LEAST_MEMORY: u64 = 16 << 20;

/// A configuration that can't be used. The text is one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

fn config_error<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// What the pipeline needs to know, checked.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// The plugin files; none: the default plugins.
    pub plugins: Vec<PathBuf>,
    /// Where the plugin files were named.
    pub plugins_named: Option<Origin>,
    /// The settings of plugins, by name.
    pub settings: BTreeMap<String, PluginSettings>,
    /// What is decided about plugins, by name.
    pub policies: Policies,
    /// Where compiled plugins are kept; nowhere if not given.
    pub compile_cache: Option<CacheFolder>,
    /// Accepted logins in a window.
    pub insight_every: u32,
    /// How many different values of a key are counted exactly.
    pub exact_distinct: u32,
    /// The largest message, in bytes.
    pub max_message_bytes: u32,
    /// How messages are read.
    pub format: InputFormat,
    /// The topic of logins.
    pub input_topic: String,
}

/// Where compiled plugins are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheFolder {
    /// The folder.
    pub path: PathBuf,
    /// Whether somebody has named it: then it is told where it can't be used.
    pub is_named: bool,
}

/// The settings of a plugin.
#[derive(Clone, Debug)]
pub struct PluginSettings {
    /// The settings, a JSON object.
    pub json: serde_json::Value,
    /// Where they stand.
    pub origin: Origin,
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
    /// The name of this process, which stays the same over restarts; none where it doesn't.
    pub instance: Option<String>,
    /// The topics that keep the state; only memory does if not given.
    pub state_topics: Option<StateTopics>,
    /// Whether the plugins serve that the group has agreed on; otherwise what is configured serves.
    pub agrees_on_plugins: bool,
    /// How many workers.
    pub workers: usize,
    /// The most memory that the process may take, in bytes; what there is where it is not given.
    pub memory_limit: Option<u64>,
    /// Where a new group starts.
    pub from: StartPosition,
    /// Whether changed plugin files are taken over.
    pub watch: bool,
    /// What a swap of plugins may change.
    pub tolerance: Tolerance,
    /// How long new plugins are on probation.
    pub probation: Duration,
    /// Whether missing topics are created.
    pub create_topics: bool,
    /// Whether processed logins tell where they came from.
    pub source_headers: bool,
    /// Whether they tell which plugins they went through.
    pub plugins_header: bool,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// What is promised about a message's outputs.
    pub guarantee: Guarantee,
    /// How long draining may take at the end.
    pub drain_timeout: Duration,
    /// How often the status line is written.
    pub status_interval: Duration,
    /// Where the control port is.
    pub listen: Option<SocketAddr>,
    /// The secret that changes through it take.
    pub control_token: Option<Token>,
    /// The configuration file.
    pub file: Option<PathBuf>,
}

impl PipelineConfig {
    /// What the pipeline needs.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let max_message_bytes = sources.value(&keys::MAX_MESSAGE_BYTES, |said| number(said, 1, 1_000_000_000))?;
        let plugins = sources.optional(&keys::PLUGIN, |said| Ok((plugin_files(said)?, said.origin.clone())))?;
        let (plugins, plugins_named) = plugins.unzip();
        Ok(Self {
            plugins: plugins.unwrap_or_default(),
            plugins_named,
            settings: plugin_settings(sources)?,
            policies: policy::policies(sources)?,
            compile_cache: compile_cache(sources)?,
            insight_every: sources.value(&keys::INSIGHT_EVERY, |said| number(said, 1, u32::MAX))?,
            exact_distinct: sources.value(&keys::EXACT_DISTINCT, |said| number(said, 1, u32::MAX))?,
            max_message_bytes,
            format: input_format(sources, max_message_bytes as usize)?,
            input_topic: topic(sources, &keys::INPUT_TOPIC)?.0,
        })
    }
}

impl Config {
    /// The topics that keep the state.
    ///
    /// # Errors
    /// Only memory does.
    pub fn kept_state(&self) -> Result<&StateTopics, ConfigError> {
        let none = || ConfigError("state_in is memory: no topic keeps the state".to_owned());
        self.state_topics.as_ref().ok_or_else(none)
    }

    /// The topic of the group's plugins; none where this process goes by itself.
    pub fn plugins_topic(&self) -> Option<&str> {
        self.state_topics.as_ref().filter(|_| self.agrees_on_plugins).map(|topics| topics.plugins.as_str())
    }

    /// What a run on Kafka needs.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let time = |key: &Key, least: Duration, most: Duration| {
            sources.value(key, |said| said.duration(least..=most, key.default.unwrap_or_default()))
        };
        let milliseconds = Duration::from_millis;
        let kafka = kafka_settings(sources)?;
        let guarantee = sources.value(&keys::DELIVERY, guarantee)?;
        let longest_commit_interval = match guarantee {
            Guarantee::AtLeastOnce => Duration::from_mins(1),
            Guarantee::ExactlyOnce => longest_transaction(&kafka),
        };
        let control_token = token::token(sources)?;
        let topics = topics(sources)?;
        let group = sources.value(&keys::GROUP, |said| said.text("a name").map(str::to_owned))?;
        Ok(Self {
            pipeline: PipelineConfig::load(sources)?,
            kafka,
            state_topics: state_topics(sources, &topics, &group)?,
            topics,
            group,
            agrees_on_plugins: sources.value(&keys::PLUGINS_FROM, is_from_topic)?,
            instance: sources.optional(&keys::INSTANCE, |said| said.text("a name").map(str::to_owned))?,
            workers: match sources.optional(&keys::WORKERS, |said| said.number(1..=256))? {
                Some(workers) => workers as usize,
                None => std::thread::available_parallelism().map_or(1, usize::from),
            },
            memory_limit: sources.optional(&keys::MEMORY_LIMIT, |said| said.bytes(LEAST_MEMORY..=u64::MAX, "4GiB"))?,
            from: sources.value(&keys::FROM, start_position)?,
            watch: sources.value(&keys::WATCH, Said::truth)?,
            tolerance: Tolerance {
                max_changed_share: sources.value(&keys::MAX_CHANGED_SHARE, |said| said.fraction(0.0..=1.0))?,
                max_slowdown: sources.value(&keys::MAX_SLOWDOWN, |said| said.fraction(1.0..=1e6))?,
                max_failures: sources.value(&keys::MAX_FAILURES, |said| said.number(0..=u64::MAX))?,
            },
            probation: time(&keys::PROBATION, Duration::ZERO, Duration::from_hours(24))?,
            create_topics: sources.value(&keys::CREATE_TOPICS, Said::truth)?,
            source_headers: sources.value(&keys::SOURCE_HEADERS, Said::truth)?,
            plugins_header: sources.value(&keys::PLUGINS_HEADER, Said::truth)?,
            guarantee,
            commit_interval: time(&keys::COMMIT_INTERVAL, milliseconds(1), longest_commit_interval)?,
            drain_timeout: time(&keys::DRAIN_TIMEOUT, milliseconds(1), Duration::from_hours(1))?,
            status_interval: time(&keys::STATUS_INTERVAL, milliseconds(100), Duration::from_hours(24))?,
            listen: guarded_address(sources, control_token.is_some())?,
            control_token,
            file: sources.optional(&keys::CONFIG, Said::path)?,
        })
    }
}

/// How long a transaction may be filled: half of the time after which the brokers abort it.
fn longest_transaction(kafka: &ClientSettings) -> Duration {
    let timeout = kafka.properties.get("transaction.timeout.ms").and_then(|timeout| timeout.trim().parse().ok());
    Duration::from_millis(timeout.unwrap_or(TRANSACTION_TIMEOUT_MS) / 2).max(Duration::from_millis(1))
}

/// How to reach Kafka.
pub fn kafka_settings(sources: &Sources<'_>) -> Result<ClientSettings, ConfigError> {
    kafka::settings(sources)
}

/// How to reach Kafka, for a command that does without one: only a flag or the environment can make it use one.
pub fn kafka_settings_but_for_file(sources: &Sources<'_>) -> Result<Option<ClientSettings>, ConfigError> {
    kafka::settings_but_for_file(sources)
}

/// The topics, each another one.
pub fn topics(sources: &Sources<'_>) -> Result<TopicNames, ConfigError> {
    let (input, input_said) = topic(sources, &keys::INPUT_TOPIC)?;
    let (processed, processed_said) = topic(sources, &keys::PROCESSED_TOPIC)?;
    let (insights, insights_said) = topic(sources, &keys::INSIGHTS_TOPIC)?;
    let (rejected, rejected_said) = topic(sources, &keys::REJECTED_TOPIC)?;
    let named =
        [(&input, input_said), (&processed, processed_said), (&insights, insights_said), (&rejected, rejected_said)];
    for (place, (topic, said)) in named.iter().enumerate() {
        if let Some((_, other)) = named.iter().take(place).find(|(same, _)| same == topic) {
            // What someone wrote is at fault, not the default that it happens to be the same as.
            let (said, other) = if matches!(said.origin, Origin::Default(_)) { (other, said) } else { (said, other) };
            return Err(said.wrong(format!("{topic:?} is also {}; each topic needs a name of its own", other.origin)));
        }
    }
    Ok(TopicNames { input, processed, insights, rejected })
}

/// The topics that keep the state, each another one than all others; none where only memory shall keep it.
fn state_topics(sources: &Sources<'_>, topics: &TopicNames, group: &str) -> Result<Option<StateTopics>, ConfigError> {
    if sources.value(&keys::STATE_IN, is_in_memory)? {
        let topics = [&keys::CHANGELOG_TOPIC, &keys::TOTALS_TOPIC, &keys::PLUGINS_TOPIC];
        return match topics.into_iter().find_map(|key| sources.get(key)) {
            Some(said) => Err(said.wrong("it has no use with state_in = \"memory\"; allowed is one of them")),
            None => Ok(None),
        };
    }
    let mut others = vec![&topics.input, &topics.processed, &topics.insights, &topics.rejected];
    let default = StateTopics::of_group(group);
    let changelog = state_topic(sources, &keys::CHANGELOG_TOPIC, default.changelog, &others)?;
    others.push(&changelog);
    let totals = state_topic(sources, &keys::TOTALS_TOPIC, default.totals, &others)?;
    others.push(&totals);
    let plugins = state_topic(sources, &keys::PLUGINS_TOPIC, default.plugins, &others)?;
    Ok(Some(StateTopics { changelog, totals, plugins }))
}

fn state_topic(sources: &Sources<'_>, key: &Key, default: String, others: &[&String]) -> Result<String, ConfigError> {
    let checked = |said: &Said| {
        let name = said.text("the name of a topic")?;
        loginscope_kafka::topics::check_name(name).map_err(|error| said.wrong(error))?;
        if others.iter().any(|other| *other == name) {
            return Err(said.wrong(format!("{name:?} is another topic already; each topic needs a name of its own")));
        }
        Ok(name.to_owned())
    };
    if let Some(name) = sources.optional(key, checked)? {
        return Ok(name);
    }
    match loginscope_kafka::topics::check_name(&default) {
        Ok(()) => Ok(default),
        Err(error) => config_error(format!(
            "group: its internal topics can't be named after it, so {} must be given: {error}",
            key.in_file().unwrap_or_default()
        )),
    }
}

fn topic(sources: &Sources<'_>, key: &Key) -> Result<(String, Said), ConfigError> {
    sources.value(key, |said| {
        let name = said.text("the name of a topic")?;
        loginscope_kafka::topics::check_name(name).map_err(|error| said.wrong(error))?;
        Ok((name.to_owned(), said.clone()))
    })
}

fn number(said: &Said, least: u32, most: u32) -> Result<u32, ConfigError> {
    said.number(u64::from(least)..=u64::from(most)).map(|number| number as u32)
}

fn guarantee(said: &Said) -> Result<Guarantee, ConfigError> {
    const ALLOWED: &str = "at_least_once or exactly_once";
    match said.text(ALLOWED)? {
        "at_least_once" => Ok(Guarantee::AtLeastOnce),
        "exactly_once" => Ok(Guarantee::ExactlyOnce),
        _ => Err(said.refuse(ALLOWED)),
    }
}

fn is_in_memory(said: &Said) -> Result<bool, ConfigError> {
    said.parsed("changelog or memory", |text| match text {
        "changelog" => Some(false),
        "memory" => Some(true),
        _ => None,
    })
}

fn is_from_topic(said: &Said) -> Result<bool, ConfigError> {
    said.parsed("topic or paths", |text| match text {
        "topic" => Some(true),
        "paths" => Some(false),
        _ => None,
    })
}

fn start_position(said: &Said) -> Result<StartPosition, ConfigError> {
    said.parsed("earliest, latest, or a time ago such as 90s, 30m, 2h or 7d", |text| text.parse().ok())
}

fn listen_address(said: &Said) -> Result<Option<SocketAddr>, ConfigError> {
    said.parsed("an IP address with a port, such as 127.0.0.1:9464, or \"off\"", |text| match text {
        "off" => Some(None),
        address => address.parse().ok().map(Some),
    })
}

/// Where to listen: elsewhere than on this machine only with a token.
fn guarded_address(sources: &Sources<'_>, has_token: bool) -> Result<Option<SocketAddr>, ConfigError> {
    sources.value(&keys::LISTEN, |said| {
        let address = listen_address(said)?;
        if address.is_some_and(|address| !address.ip().is_loopback()) && !has_token {
            return Err(said.wrong(
                "from there, others than this machine reach the control port, so it takes a control_token_file (or control_token); \
                 without one, allowed is an address such as 127.0.0.1:9464",
            ));
        }
        Ok(address)
    })
}

/// Where a running loginscope is asked.
pub fn control(sources: &Sources<'_>, json: &Key) -> Result<Control, ConfigError> {
    let url = sources.optional(&keys::CONTROL, |said| {
        let is_url = |text: &str| text.starts_with("http://").then(|| text.to_owned());
        said.parsed("the begin of an address, such as http://127.0.0.1:9464", is_url)
    })?;
    let listened = || {
        sources.value(&keys::LISTEN, |said| match listen_address(said)? {
            // One that stands for all addresses of a machine is none to go to.
            Some(address) if address.ip().is_unspecified() => Ok(format!("http://127.0.0.1:{}", address.port())),
            Some(address) => Ok(format!("http://{address}")),
            None => {
                Err(said.wrong("there is no control port; allowed is --control URL with that of a running loginscope"))
            }
        })
    };
    Ok(Control {
        url: url.map_or_else(listened, Ok)?,
        token: token::token(sources)?,
        json: sources.value(json, Said::truth)?,
    })
}

fn plugin_files(said: &Said) -> Result<Vec<PathBuf>, ConfigError> {
    let files = said.paths()?;
    for file in &files {
        match std::fs::metadata(file) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(said.wrong(format!("{} is no file; allowed is a plugin's file", file.display()))),
            Err(error) => return Err(said.wrong(format!("cannot read {}: {error}", file.display()))),
        }
    }
    Ok(files)
}

/// Where compiled plugins are kept: in the named folder, or else where the XDG base directory specification has caches. Whoever has no
/// home keeps none.
fn compile_cache(sources: &Sources<'_>) -> Result<Option<CacheFolder>, ConfigError> {
    const ALLOWED: &str = "a folder, or \"off\"";
    let Some(said) = sources.get(&keys::COMPILE_CACHE) else {
        let environment = sources.environment();
        let caches = environment.absolute_path("XDG_CACHE_HOME").map(Path::to_owned);
        let caches = caches.or_else(|| environment.absolute_path("HOME").map(|home| home.join(".cache")));
        return Ok(caches.map(|caches| CacheFolder { path: caches.join("loginscope"), is_named: false }));
    };
    if said.text(ALLOWED).is_ok_and(|text| text == "off") {
        return Ok(None);
    }
    let path = said.path().map_err(|_| said.refuse(ALLOWED))?;
    Ok(Some(CacheFolder { path, is_named: true }))
}

/// The settings of plugins. Whether there are such plugins is known when they are loaded.
fn plugin_settings(sources: &Sources<'_>) -> Result<BTreeMap<String, PluginSettings>, ConfigError> {
    sources.file().map_or_else(|| Ok(BTreeMap::new()), sections)
}

/// The settings of plugins that a configuration file has now.
///
/// # Errors
/// It can't be read, or has a key that there isn't.
pub fn settings_of_plugins(file: &Path) -> Result<BTreeMap<String, PluginSettings>, ConfigError> {
    sections(&ConfigFile::read(file, &Origin::Flag(keys::CONFIG.flag))?)
}

fn sections(file: &ConfigFile) -> Result<BTreeMap<String, PluginSettings>, ConfigError> {
    let mut settings = BTreeMap::new();
    for (name, said) in file.plugin_sections() {
        let json = serde_json::to_value(said.toml()).map_err(|error| said.wrong(error))?;
        settings.insert(name.to_owned(), PluginSettings { json, origin: said.origin });
    }
    Ok(settings)
}

/// How messages are read.
fn input_format(sources: &Sources<'_>, max_message_bytes: usize) -> Result<InputFormat, ConfigError> {
    let timestamp_format = sources.value(&keys::TIMESTAMP_FORMAT, timestamp_format)?;
    let schema = Schema::default();
    let mut fields = Vec::new();
    let mapping = field_paths(sources)?;
    for (field, (path, said)) in &mapping {
        let Some(slot) = schema.slot(field) else {
            let allowed: Vec<&str> = schema.fields().iter().map(|field| field.name.as_str()).collect();
            return Err(said.wrong(format!("there is no field {field:?}; allowed are {}", allowed.join(", "))));
        };
        fields.push((slot, path.clone()));
    }
    let format = InputFormat { fields, timestamp_format, max_message_bytes };
    // Whether the paths go together is the decoder's to say.
    match Decoder::new(&format, &schema, &[]) {
        Ok(_) => Ok(format),
        Err(error) => match field_at_fault(&error).find_map(|field| mapping.get(field)) {
            Some((_, said)) => Err(said.wrong(&error)),
            None => config_error(format!("input.fields: {error}")),
        },
    }
}

fn timestamp_format(said: &Said) -> Result<TimestampFormat, ConfigError> {
    said.parsed("epoch_seconds, epoch_milliseconds or rfc3339", |text| match text {
        "epoch_seconds" => Some(TimestampFormat::EpochSeconds),
        "epoch_milliseconds" => Some(TimestampFormat::EpochMilliseconds),
        "rfc3339" => Some(TimestampFormat::Rfc3339),
        _ => None,
    })
}

/// Where fields with other names are read from: the path of each, and where it was said.
fn field_paths(sources: &Sources<'_>) -> Result<BTreeMap<String, (String, Said)>, ConfigError> {
    let mut paths = BTreeMap::new();
    let Some(said) = sources.get(&keys::FIELD) else {
        for (field, said) in sources.file().into_iter().flat_map(|file| file.within("input.fields")) {
            let path = said.text("the path to the field, such as \"details.userId\"")?.to_owned();
            paths.insert(field.to_owned(), (path, said));
        }
        return Ok(paths);
    };
    for said in said.each() {
        let allowed = "a field and its path, such as user_id=details.userId";
        let (field, path) =
            said.parsed(allowed, |text| text.split_once('=').map(|(field, path)| (field.to_owned(), path.to_owned())))?;
        if paths.contains_key(&field) {
            return Err(said.wrong(format!("field {field} is given twice; allowed is one path for each field")));
        }
        paths.insert(field, (path, said));
    }
    Ok(paths)
}

/// The fields that an error is about.
fn field_at_fault(error: &FormatError) -> impl Iterator<Item = &str> {
    let (field, other) = match error {
        FormatError::MappedTwice { field }
        | FormatError::EmptyPart { field, .. }
        | FormatError::TooDeep { field, .. } => (Some(field), None),
        FormatError::Nested { inner, outer, .. } => (Some(inner), Some(outer)),
        FormatError::NotInTable { .. } | FormatError::SetTwice { .. } => (None, None),
    };
    field.into_iter().chain(other).map(String::as_str)
}
