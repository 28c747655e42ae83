//! Where Kafka is, and any librdkafka property.
//!
//! A property comes from `[kafka]` in the file, from a file that `[kafka]` names (`sasl.password_file`), or from an environment
//! variable (`LOGINSCOPE_KAFKA_SASL_PASSWORD` is `sasl.password`). A value is never part of an error.

use std::collections::BTreeMap;

use loginscope_kafka::ClientSettings;

use super::file::FileConfig;
use super::{ConfigError, Environment, KafkaArgs, config_error};

/// What environment variables that hold a property begin with.
const PREFIX: &str = "LOGINSCOPE_KAFKA_";

pub(super) fn settings(
    args: &KafkaArgs,
    file: &FileConfig,
    environment: Environment<'_>,
) -> Result<ClientSettings, ConfigError> {
    let mut properties = BTreeMap::new();
    for (key, value) in &file.kafka {
        add(&mut properties, key, value)?;
    }
    for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with(PREFIX)) {
        let property = name.trim_start_matches(PREFIX).to_lowercase().replace('_', ".");
        properties.insert(property, value);
    }
    let in_section = properties.remove("bootstrap.servers").or_else(|| properties.remove("metadata.broker.list"));
    let brokers = args
        .brokers
        .clone()
        .or_else(|| environment("LOGINSCOPE_BROKERS"))
        .or_else(|| environment("BOOTSTRAP_SERVERS"))
        .or_else(|| file.brokers.clone())
        .or(in_section);
    let Some(brokers) = brokers.filter(|brokers| !brokers.trim().is_empty()) else {
        return config_error(
            "brokers: no Kafka is given; allowed is --brokers HOST:PORT, LOGINSCOPE_BROKERS, or brokers in the configuration file",
        );
    };
    let settings = ClientSettings { brokers, properties };
    settings.check().map_err(|error| ConfigError(format!("[kafka] {error}")))?;
    Ok(settings)
}

/// Adds a property. `sasl.password = "…"` without quotes is a table in a table to TOML; it means the same.
fn add(properties: &mut BTreeMap<String, String>, key: &str, value: &toml::Value) -> Result<(), ConfigError> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        toml::Value::Table(table) => {
            return table.iter().try_for_each(|(part, value)| add(properties, &format!("{key}.{part}"), value));
        }
        _ => return config_error(format!("kafka.{key}: allowed is a text, a number, true or false")),
    };
    let (property, value) = match key.strip_suffix("_file") {
        None => (key, text),
        Some(property) => {
            let content = std::fs::read_to_string(&text)
                .map_err(|error| ConfigError(format!("kafka.{key}: cannot read {text}: {error}")))?;
            (property, content.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    properties.insert(property.to_owned(), value);
    Ok(())
}
