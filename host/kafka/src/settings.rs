//! From the user's properties to librdkafka configurations.
//!
//! Defaults come first, then the user's properties, then what a client must have. A property that would break a guarantee is
//! refused, not overridden in silence. Invariant: a secret leaves this module only inside a librdkafka configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::client::Reporter;
use crate::error::Error;

/// Where the brokers are and how to talk to them. `{:?}` hides secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// The bootstrap servers, `host:port`, separated by commas.
    pub brokers: String,
    /// Any librdkafka properties, by name.
    pub properties: BTreeMap<String, String>,
}

impl ClientSettings {
    /// Settings with these bootstrap servers and no further properties.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), properties: BTreeMap::new() }
    }

    /// The same with one more property.
    #[must_use]
    pub fn with(mut self, property: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(property.into(), value.into());
        self
    }

    /// Checks every property without talking to a broker.
    ///
    /// # Errors
    /// [`Error::Property`] for the first one that is unknown, has a bad value, or would break a guarantee.
    pub fn check(&self) -> Result<(), Error> {
        for (property, value) in &self.properties {
            refuse_if_guarded(property, value)?;
        }
        self.configure(&[], &[]).map(drop)
    }

    /// The configuration of a client: its defaults, the user's properties, and what it must have.
    pub(crate) fn configure(
        &self,
        defaults: &[(&str, &str)],
        required: &[(&str, &str)],
    ) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::new();
        config.set_log_level(Reporter::log_level());
        for (property, value) in COMMON_DEFAULTS.iter().chain(defaults) {
            config.set(*property, *value);
        }
        for (property, value) in &self.properties {
            refuse_if_guarded(property, value)?;
            config.set(property, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        for (property, value) in required {
            config.set(*property, *value);
        }
        match config.create_native_config() {
            Ok(_) => Ok(config),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// The error of a configuration that librdkafka refuses.
    pub(crate) fn refused(&self, error: &KafkaError) -> Error {
        let secrets = self.secrets();
        match error {
            KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, property, _) => Error::Property {
                property: property.clone(),
                reason: format!("librdkafka has no property {property:?}"),
            },
            KafkaError::ClientConfig(_, reason, property, value) => {
                let value = if is_secret(property) { "the value".to_owned() } else { format!("{value:?}") };
                let reason = format!("{value} can't be used: {}", secrets.hide(reason.trim_end()));
                Error::Property { property: property.clone(), reason }
            }
            KafkaError::ClientCreation(reason) => Error::Properties { reason: secrets.hide(reason).into_owned() },
            other => Error::Properties { reason: secrets.hide(&other.to_string()).into_owned() },
        }
    }

    /// What must not be shown.
    pub(crate) fn secrets(&self) -> Secrets {
        let values = self.properties.iter().filter(|(property, _)| is_secret(property)).map(|(_, value)| value);
        Secrets::new(values)
    }

    /// The user's value of a property.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if is_secret(name) { HIDDEN } else { value });
        let properties: BTreeMap<&str, &str> =
            self.properties.iter().map(|(name, value)| shown((name.as_str(), value.as_str()))).collect();
        formatter
            .debug_struct("ClientSettings")
            .field("brokers", &self.brokers)
            .field("properties", &properties)
            .finish()
    }
}

/// Defaults of every client.
const COMMON_DEFAULTS: [(&str, &str); 6] = [
    ("client.id", "loginscope"),
    // The system's certificate authorities. The OpenSSL inside would look for them where none are.
    ("ssl.ca.location", "probe"),
    ("socket.keepalive.enable", "true"),
    // A broker that comes back is noticed within two seconds, not ten.
    ("reconnect.backoff.max.ms", "2000"),
    // New partitions of a topic are noticed within half a minute, not five.
    ("topic.metadata.refresh.interval.ms", "30000"),
    // An idle connection that a broker closes is nothing to report.
    ("log.connection.close", "false"),
];

/// A property that carries a guarantee: the values it may have, and why no others.
struct Guarded {
    property: &'static str,
    allowed: &'static [&'static str],
    why: &'static str,
}

const GUARDED: [Guarded; 16] = [
    guarded("bootstrap.servers", &[], "the brokers are a setting of their own"),
    guarded("metadata.broker.list", &[], "the brokers are a setting of their own"),
    guarded("group.id", &[], "the consumer group is a setting of its own"),
    guarded("group.instance.id", &[], "it must differ between workers, so it is a setting of its own"),
    guarded("transactional.id", &[], "it must differ between workers, so it is made from the group"),
    guarded("enable.auto.commit", &["false"], "offsets are committed when every output was acknowledged, not by time"),
    guarded("auto.commit.enable", &["false"], "offsets are committed when every output was acknowledged, not by time"),
    guarded("enable.auto.offset.store", &["false"], "offsets are committed when every output was acknowledged"),
    guarded(
        "auto.offset.reset",
        &["error", "earliest", "smallest", "beginning"],
        "where a new group starts is a setting of its own, and no message may be skipped",
    ),
    guarded("enable.partition.eof", &[], "whoever reads to the end of a topic sets it"),
    guarded("isolation.level", &["read_committed"], "messages of aborted transactions must not be read"),
    guarded("enable.idempotence", &["true"], "a retry would otherwise repeat or reorder messages"),
    guarded("acks", &["all", "-1"], "a message counts as written when all in-sync replicas have it"),
    guarded("request.required.acks", &["all", "-1"], "a message counts as written when all in-sync replicas have it"),
    guarded("partitioner", &["murmur2_random"], "a key must go to the partition where Java clients put it"),
    guarded("delivery.report.only.error", &["false"], "offsets are committed by what was reported as written"),
];

const fn guarded(property: &'static str, allowed: &'static [&'static str], why: &'static str) -> Guarded {
    Guarded { property, allowed, why }
}

fn refuse_if_guarded(property: &str, value: &str) -> Result<(), Error> {
    let Some(guarded) = GUARDED.iter().find(|guarded| guarded.property == property) else { return Ok(()) };
    if guarded.allowed.contains(&value.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let allowed = match guarded.allowed {
        [] => "it can't be set here".to_owned(),
        [only] => format!("only {only} is allowed"),
        several => format!("only one of {} is allowed", several.join(", ")),
    };
    // None of these is a secret.
    let reason = format!("{value:?} can't be used; {allowed}, since {}", guarded.why);
    Err(Error::Property { property: property.to_owned(), reason })
}

const HIDDEN: &str = "[hidden]";

/// Whether the value of a property must not be shown.
fn is_secret(property: &str) -> bool {
    const MARKS: [&str; 7] = ["password", "secret", "key.pem", "oauthbearer", "jaas", "token", "assertion"];
    MARKS.iter().any(|mark| property.contains(mark))
}

/// Values that must not be shown.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    fn new<'a>(values: impl Iterator<Item = &'a String>) -> Self {
        // Switches and numbers that happen to stand under a secret's name would only garble what is shown.
        let is_worth_hiding = |value: &str| value.len() > 2 && !matches!(value, "true" | "false" | "default" | "oidc");
        let mut values: Vec<String> = values
            .flat_map(|value| value.lines())
            .map(str::trim)
            .filter(|v| is_worth_hiding(v))
            .map(str::to_owned)
            .collect();
        // The longest first, so that none leaves the rest of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// The text with every secret replaced.
    pub(crate) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(text);
        for secret in &self.0 {
            if shown.contains(secret) {
                shown = Cow::Owned(shown.replace(secret, HIDDEN));
            }
        }
        shown
    }
}
