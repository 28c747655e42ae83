//! The configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loginscope_login::Schema;
use loginscope_login::decode::{InputFormat, TimestampFormat};
use serde::Deserialize;

use super::{ConfigError, Delivery, config_error};

/// The keys that may stand at the top, for error messages.
const KEYS: &str = "brokers, group, input_topic, processed_topic, insights_topic, rejected_topic, workers, delivery, \
                    insight_every, from, watch, listen, create_topics, max_message_bytes, source_headers, plugins, \
                    commit_interval, drain_timeout, status_interval, the sections [input], [input.fields] and [kafka], and a \
                    section for each plugin's settings under the plugin's name";

/// What the file says; everything is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FileConfig {
    pub(super) brokers: Option<String>,
    pub(super) group: Option<String>,
    pub(super) input_topic: Option<String>,
    pub(super) processed_topic: Option<String>,
    pub(super) insights_topic: Option<String>,
    pub(super) rejected_topic: Option<String>,
    workers: Option<i64>,
    pub(super) delivery: Option<Delivery>,
    insight_every: Option<i64>,
    pub(super) from: Option<String>,
    pub(super) watch: Option<bool>,
    pub(super) listen: Option<String>,
    pub(super) create_topics: Option<bool>,
    max_message_bytes: Option<i64>,
    pub(super) source_headers: Option<bool>,
    pub(super) plugins: Vec<PathBuf>,
    pub(super) commit_interval: Option<String>,
    pub(super) drain_timeout: Option<String>,
    pub(super) status_interval: Option<String>,
    input: InputSection,
    pub(super) kafka: BTreeMap<String, toml::Value>,
    /// Sections under the names of plugins.
    #[serde(flatten)]
    others: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct InputSection {
    timestamp_format: Option<String>,
    fields: BTreeMap<String, String>,
}

impl FileConfig {
    /// Reads the file; without one, nothing is said.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("--config: cannot read {shown}: {error}")))?;
        let mut config = Self::parse(&text).map_err(|ConfigError(reason)| ConfigError(format!("{shown}: {reason}")))?;
        // Paths in a file are meant from where the file is.
        let folder = path.parent().unwrap_or(Path::new(""));
        for plugin in &mut config.plugins {
            *plugin = folder.join(&*plugin);
        }
        Ok(config)
    }

    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or_else(String::new, |span| {
                let before = text.get(..span.start).unwrap_or_default();
                format!("line {}: ", before.matches('\n').count() + 1)
            });
            ConfigError(format!("{line}{}", error.message().replace('\n', " ")))
        })?;
        for (key, value) in &config.others {
            if !value.is_table() {
                return config_error(format!("{key}: there is no such key; allowed are {KEYS}"));
            }
        }
        Ok(config)
    }

    /// The settings of plugins, as JSON. Whether there are such plugins is known when they are loaded.
    pub(super) fn plugin_settings(&self) -> Result<BTreeMap<String, serde_json::Value>, ConfigError> {
        let convert = |(name, section): (&String, &toml::Value)| {
            let settings = serde_json::to_value(section).map_err(|error| ConfigError(format!("[{name}]: {error}")))?;
            Ok((name.clone(), settings))
        };
        self.others.iter().map(convert).collect()
    }

    pub(super) fn workers(&self) -> Result<Option<usize>, ConfigError> {
        ranged("workers", self.workers, 1, 256).map(|workers| workers.map(|workers| workers as usize))
    }

    pub(super) fn insight_every(&self) -> Result<Option<u32>, ConfigError> {
        ranged("insight_every", self.insight_every, 1, u32::MAX)
    }

    pub(super) fn max_message_bytes(&self) -> Result<Option<u32>, ConfigError> {
        ranged("max_message_bytes", self.max_message_bytes, 1, 1_000_000_000)
    }

    /// How messages are read.
    pub(super) fn input_format(&self, max_message_bytes: usize) -> Result<InputFormat, ConfigError> {
        let timestamp_format = match self.input.timestamp_format.as_deref() {
            None | Some("epoch_seconds") => TimestampFormat::EpochSeconds,
            Some("epoch_milliseconds") => TimestampFormat::EpochMilliseconds,
            Some("rfc3339") => TimestampFormat::Rfc3339,
            Some(other) => {
                return config_error(format!(
                    "input.timestamp_format: {other:?} is none; allowed are epoch_seconds, epoch_milliseconds and rfc3339"
                ));
            }
        };
        let schema = Schema::default();
        let mut fields = Vec::new();
        for (field, path) in &self.input.fields {
            let Some(slot) = schema.slot(field) else {
                let allowed: Vec<&str> = schema.fields().iter().map(|field| field.name.as_str()).collect();
                return config_error(format!(
                    "input.fields.{field}: there is no such field; allowed are {}",
                    allowed.join(", ")
                ));
            };
            fields.push((slot, path.clone()));
        }
        let format = InputFormat { fields, timestamp_format, max_message_bytes };
        // Whether the paths go together is the decoder's to say.
        loginscope_login::decode::Decoder::new(&format, &schema, &[])
            .map_err(|error| ConfigError(error.to_string()))?;
        Ok(format)
    }
}

/// A duration such as `100ms`.
pub(super) fn duration(key: &str, value: Option<&str>, default: &str) -> Result<Duration, ConfigError> {
    let value = value.unwrap_or(default);
    humantime::parse_duration(value).ok().filter(|duration| !duration.is_zero()).map_or_else(
        || config_error(format!("{key}: {value:?} is no duration; allowed is a time such as 100ms, 30s or 5m")),
        Ok,
    )
}

fn ranged(key: &str, value: Option<i64>, least: u32, most: u32) -> Result<Option<u32>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    match u32::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => Ok(Some(value)),
        _ => config_error(format!("{key}: {value} is out of range; allowed is {least} to {most}")),
    }
}
