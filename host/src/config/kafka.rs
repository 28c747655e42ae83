//! Where Kafka is, and any librdkafka property.
//!
//! A property comes from an environment variable (`LOGINSCOPE_KAFKA_SASL_PASSWORD` is `sasl.password`) or from `[kafka]` in the
//! file; either may name a file that holds the value (`LOGINSCOPE_KAFKA_SASL_PASSWORD_FILE`, `sasl.password_file`). A property's
//! value is never part of an error that is made here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use loginscope_kafka::{ClientSettings, Error};

use super::said::{Origin, Said, Words};
use super::sources::{Sources, nothing_given};
use super::{ConfigError, config_error, keys};

/// What environment variables that hold a property begin with.
const PREFIX: &str = "LOGINSCOPE_KAFKA_";

/// Where the brokers can stand among the properties, beside having a key of their own.
const BROKERS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];

/// A property's value and where it was said.
struct Property {
    value: String,
    origin: Origin,
}

type Properties = BTreeMap<String, Property>;

/// How to reach Kafka.
pub(super) fn settings(sources: &Sources<'_>) -> Result<ClientSettings, ConfigError> {
    let mut properties = properties(sources)?;
    let brokers = brokers(sources, &mut properties)?;
    checked(brokers, properties)
}

/// How to reach the Kafka that a flag or the environment names; none if neither does.
pub(super) fn settings_but_for_file(sources: &Sources<'_>) -> Result<Option<ClientSettings>, ConfigError> {
    match sources.get(&keys::BROKERS) {
        Some(said) if !matches!(said.origin, Origin::File { .. }) => settings(sources).map(Some),
        _ => Ok(None),
    }
}

fn checked(brokers: String, properties: Properties) -> Result<ClientSettings, ConfigError> {
    let mut origins = BTreeMap::new();
    let mut settings = ClientSettings::new(brokers);
    for (name, property) in properties {
        origins.insert(name.clone(), property.origin);
        settings.properties.insert(name, property.value);
    }
    settings.check().map_err(|error| match &error {
        Error::Property { property, reason } => match origins.get(property) {
            Some(origin) => ConfigError(format!("{origin}: {reason}")),
            None => ConfigError(format!("[kafka] {property}: {reason}")),
        },
        _ => ConfigError(format!("[kafka]: {error}")),
    })?;
    Ok(settings)
}

/// The brokers: by their own key, or else by the property that librdkafka has for them.
fn brokers(sources: &Sources<'_>, properties: &mut Properties) -> Result<String, ConfigError> {
    const ALLOWED: &str = "HOST:PORT, with commas between several";
    let among: Vec<Said> = BROKERS
        .iter()
        .filter_map(|name| properties.remove(*name))
        .map(|property| Said { words: Words::Texts(vec![property.value.into()]), origin: property.origin })
        .collect();
    let own = sources.get(&keys::BROKERS);
    if let (Some(Said { origin: Origin::File { .. }, .. }), Some(twice)) = (&own, among.first()) {
        return Err(twice.wrong("the brokers are given by the key brokers, too; allowed is one of them"));
    }
    match own.as_ref().or(among.first()) {
        Some(said) => said.parsed(ALLOWED, |text| are_brokers(text).then(|| text.to_owned())),
        None => Err(nothing_given(&keys::BROKERS)),
    }
}

/// Whether these are bootstrap servers as librdkafka takes them: `host`, `host:port`, or `protocol://host:port`.
fn are_brokers(text: &str) -> bool {
    text.split(',').all(|broker| {
        let address = broker.trim().rsplit_once("://").map_or(broker.trim(), |(_, address)| address);
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/') && port.is_none_or(is_port)
    })
}

/// All properties: those of the file, and in front of them those of the environment.
fn properties(sources: &Sources<'_>) -> Result<Properties, ConfigError> {
    let mut properties = Properties::new();
    for (name, said) in sources.file().into_iter().flat_map(|file| file.within("kafka")) {
        let value = |value| Property { value, origin: said.origin.clone() };
        match name.strip_suffix("_file") {
            None => add(&mut properties, name, value(plain(&said)?))?,
            Some(property) => add(&mut properties, property, value(content(&said)?))?,
        }
    }
    let mut of_environment = Properties::new();
    for (name, text) in sources.environment().beginning_with(PREFIX) {
        let property = name.trim_start_matches(PREFIX).to_lowercase().replace('_', ".");
        let said = Said { words: Words::Texts(vec![text.clone()]), origin: Origin::Variable(name.to_owned()) };
        let value = |value| Property { value, origin: said.origin.clone() };
        match property.strip_suffix(".file") {
            None => add(&mut of_environment, &property, value(plain(&said)?))?,
            Some(property) => add(&mut of_environment, property, value(content(&said)?))?,
        }
    }
    properties.extend(of_environment);
    Ok(properties)
}

fn add(properties: &mut Properties, name: &str, property: Property) -> Result<(), ConfigError> {
    let origin = property.origin.clone();
    match properties.insert(name.to_owned(), property) {
        None => Ok(()),
        Some(before) => {
            config_error(format!("{origin}: {name} is given by {} already; allowed is one of them", before.origin))
        }
    }
}

/// The value as it stands there.
pub(super) fn plain(said: &Said) -> Result<String, ConfigError> {
    const ALLOWED: &str = "a text, a number, true or false";
    match &said.words {
        Words::Texts(_) => match said.os_text().to_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(hidden(said, "UTF-8")),
        },
        Words::Toml(toml::Value::String(text)) => Ok(text.clone()),
        Words::Toml(toml::Value::Integer(number)) => Ok(number.to_string()),
        Words::Toml(toml::Value::Float(number)) => Ok(number.to_string()),
        Words::Toml(toml::Value::Boolean(truth)) => Ok(truth.to_string()),
        Words::Toml(_) => Err(hidden(said, ALLOWED)),
    }
}

/// What the file that is named there holds, without the end of its last line.
pub(super) fn content(said: &Said) -> Result<String, ConfigError> {
    let path: PathBuf = match &said.words {
        Words::Texts(_) | Words::Toml(toml::Value::String(_)) => said.path()?,
        Words::Toml(_) => return Err(hidden(said, "the path of a file")),
    };
    let content = read(&path).map_err(|error| said.wrong(format!("cannot read {}: {error}", path.display())))?;
    let value = content.trim_end_matches(['\r', '\n']);
    if value.is_empty() {
        return Err(said.wrong(format!("{} is empty; allowed is a file that holds the value", path.display())));
    }
    Ok(value.to_owned())
}

fn read(path: &Path) -> Result<String, Box<dyn fmt::Display>> {
    let bytes = std::fs::read(path).map_err(|error| Box::new(error) as Box<dyn fmt::Display>)?;
    String::from_utf8(bytes).map_err(|_| Box::new("it is not UTF-8") as Box<dyn fmt::Display>)
}

/// The error that a value can't be used which may be a secret.
fn hidden(said: &Said, allowed: &str) -> ConfigError {
    said.wrong(format!("the value can't be used; allowed is {allowed}"))
}
