//! What kind of Kafka is wanted, and the configuration files that follow from it.
//!
//! Every broker listens in plain text on loopback, whatever else is asked for: brokers talk to each other there, and so
//! does this library. Whoever comes in by that door is a super user.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::certificates::{Certificates, text};

/// The listener that every broker has, in plain text.
pub const PLAIN: &str = "PLAIN";
const CONTROLLER: &str = "CONTROLLER";

/// What kind of Kafka is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) directory: Option<PathBuf>,
    pub(super) brokers: usize,
    pub(super) heap_megabytes: Option<u32>,
    pub(super) listeners: Vec<Listener>,
    pub(super) users: Vec<(String, String)>,
    pub(super) authorizer: bool,
    pub(super) properties: Vec<(String, String)>,
}

impl Default for Options {
    /// One broker, plain text, its data in a folder that goes when the [`Kafka`](super::Kafka) is dropped.
    fn default() -> Self {
        Self {
            directory: None,
            brokers: 1,
            heap_megabytes: None,
            listeners: Vec::new(),
            users: Vec::new(),
            authorizer: false,
            properties: Vec::new(),
        }
    }
}

impl Options {
    /// Keeps everything in a folder that stays. If there is a Kafka's data in it, it is used.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// How many brokers (default 1), each of which is a controller too. With 3, topics are kept threefold and a write
    /// needs two of them.
    #[must_use]
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.brokers = brokers.max(1);
        self
    }

    /// The heap of each broker in MiB (default: 512, or 256 if there are several).
    #[must_use]
    pub fn heap_megabytes(mut self, megabytes: u32) -> Self {
        self.heap_megabytes = Some(megabytes);
        self
    }

    /// One more listener beside [`PLAIN`].
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// A user for listeners with SASL, by SCRAM-SHA-512, SCRAM-SHA-256 and PLAIN. The name and the password consist of
    /// letters and digits.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Who comes in by another listener than [`PLAIN`] may do nothing, except what was
    /// [allowed](super::Kafka::allow).
    #[must_use]
    pub fn authorizer(mut self) -> Self {
        self.authorizer = true;
        self
    }

    /// Sets a property of the brokers' configuration; it wins over what is set here.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Ports that one broker needs: for the controller, for [`PLAIN`] and for each listener.
    pub(super) fn ports_per_broker(&self) -> usize {
        2 + self.listeners.len()
    }

    pub(super) fn needs_certificates(&self) -> bool {
        self.listeners.iter().any(|listener| listener.security != Security::Plaintext)
    }

    pub(super) fn heap(&self) -> u32 {
        self.heap_megabytes.unwrap_or(if self.brokers > 1 { 256 } else { 512 })
    }
}

/// One more door to the brokers.
#[derive(Debug, Clone)]
pub struct Listener {
    name: String,
    security: Security,
    advertised: Vec<String>,
}

/// How a listener is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Plaintext,
    /// TLS; the client need not say who it is.
    Tls,
    /// TLS, and the client shows a certificate.
    MutualTls,
    /// TLS, and the client logs in as a [user](Options::user).
    SaslTls,
}

impl Listener {
    /// A listener of that name (capital letters).
    pub fn new(name: &str, security: Security) -> Self {
        Self { name: name.to_owned(), security, advertised: Vec::new() }
    }

    /// The address (`HOST:PORT`, one for each broker) that clients are told to go to instead of the listener's own: that
    /// of a proxy in between.
    #[must_use]
    pub fn advertised_as(mut self, addresses: impl IntoIterator<Item = String>) -> Self {
        self.advertised = addresses.into_iter().collect();
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn protocol(&self) -> &'static str {
        match self.security {
            Security::Plaintext => "PLAINTEXT",
            Security::Tls | Security::MutualTls => "SSL",
            Security::SaslTls => "SASL_SSL",
        }
    }
}

/// The address of a port on loopback.
pub(super) fn loopback(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The configuration of one broker, numbered from 0; `ports` has a row for each broker, in the order of
/// [`Options::ports_per_broker`].
pub(super) fn server_properties(
    options: &Options,
    broker: usize,
    ports: &[Vec<u16>],
    data: &str,
    certificates: Option<&Certificates>,
) -> String {
    let mut all = basics(options, broker, ports, data);
    if let Some(certificates) = certificates {
        all.extend(tls(options, certificates));
    }
    if options.authorizer {
        all.push(pair("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"));
        all.push(pair("super.users", "User:ANONYMOUS"));
    }
    all.extend(options.properties.iter().cloned());
    all.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name}={}", escaped(value));
        text
    })
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn basics(options: &Options, broker: usize, ports: &[Vec<u16>], data: &str) -> Vec<(String, String)> {
    let port = |row: &[u16], column: usize| loopback(row.get(column).copied().unwrap_or_default());
    let own = ports.get(broker).map(Vec::as_slice).unwrap_or_default();
    let voters: Vec<String> = ports.iter().zip(1..).map(|(row, id)| format!("{id}@{}", port(row, 0))).collect();

    let mut listeners = vec![format!("{CONTROLLER}://{}", port(own, 0)), format!("{PLAIN}://{}", port(own, 1))];
    let mut advertised = vec![format!("{PLAIN}://{}", port(own, 1))];
    let mut protocols = vec![format!("{CONTROLLER}:PLAINTEXT"), format!("{PLAIN}:PLAINTEXT")];
    for (listener, column) in options.listeners.iter().zip(2..) {
        let address = port(own, column);
        listeners.push(format!("{}://{address}", listener.name));
        advertised.push(format!("{}://{}", listener.name, listener.advertised.get(broker).unwrap_or(&address)));
        protocols.push(format!("{}:{}", listener.name, listener.protocol()));
    }

    let copies = options.brokers.min(3);
    let needed = copies.div_ceil(2);
    vec![
        pair("process.roles", "broker,controller"),
        pair("node.id", (broker + 1).to_string()),
        pair("controller.quorum.voters", voters.join(",")),
        pair("listeners", listeners.join(",")),
        pair("advertised.listeners", advertised.join(",")),
        pair("listener.security.protocol.map", protocols.join(",")),
        pair("controller.listener.names", CONTROLLER),
        pair("inter.broker.listener.name", PLAIN),
        pair("log.dirs", data),
        pair("log.index.size.max.bytes", "1048576"),
        pair("default.replication.factor", copies.to_string()),
        pair("min.insync.replicas", needed.to_string()),
        pair("offsets.topic.replication.factor", copies.to_string()),
        pair("offsets.topic.num.partitions", "4"),
        pair("transaction.state.log.replication.factor", copies.to_string()),
        pair("transaction.state.log.min.isr", needed.to_string()),
        pair("transaction.state.log.num.partitions", "4"),
        pair("share.coordinator.state.topic.replication.factor", copies.to_string()),
        pair("share.coordinator.state.topic.min.isr", needed.to_string()),
        pair("group.initial.rebalance.delay.ms", "0"),
        // A broker that dies is noticed within seconds, and gets its partitions back soon after it returned.
        pair("broker.session.timeout.ms", "3000"),
        pair("broker.heartbeat.interval.ms", "500"),
        pair("leader.imbalance.check.interval.seconds", "5"),
        pair("leader.imbalance.per.broker.percentage", "0"),
    ]
}

fn tls(options: &Options, certificates: &Certificates) -> Vec<(String, String)> {
    let mut all = vec![
        pair("ssl.keystore.type", "PEM"),
        pair("ssl.keystore.location", text(&certificates.broker_store())),
        pair("ssl.truststore.type", "PEM"),
        pair("ssl.truststore.location", text(&certificates.authority())),
        pair("sasl.enabled.mechanisms", "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN"),
    ];
    let users: Vec<String> = options.users.iter().map(|(name, word)| format!(" user_{name}=\"{word}\"")).collect();
    for listener in &options.listeners {
        let prefix = format!("listener.name.{}", listener.name.to_lowercase());
        match listener.security {
            Security::Plaintext | Security::Tls => {}
            Security::MutualTls => all.push(pair(&format!("{prefix}.ssl.client.auth"), "required")),
            Security::SaslTls => {
                let modules = "org.apache.kafka.common.security";
                let scram = format!("{modules}.scram.ScramLoginModule required;");
                let plain = format!("{modules}.plain.PlainLoginModule required{};", users.concat());
                all.push(pair(&format!("{prefix}.scram-sha-512.sasl.jaas.config"), scram.as_str()));
                all.push(pair(&format!("{prefix}.scram-sha-256.sasl.jaas.config"), scram.as_str()));
                all.push(pair(&format!("{prefix}.plain.sasl.jaas.config"), plain));
            }
        }
    }
    all
}

/// A value as Java's properties files want it: ISO 8859-1, where a backslash escapes.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for unit in value.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'\\') => text.push_str("\\\\"),
            Ok(byte @ b' '..=b'~') => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(text: &'a str, name: &str) -> &'a str {
        let prefix = format!("{name}=");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    #[test]
    fn one_broker_keeps_everything_once() {
        let text = server_properties(&Options::default(), 0, &[vec![1, 2]], "/data", None);
        assert_eq!(line(&text, "controller.quorum.voters"), "1@127.0.0.1:1");
        assert_eq!(line(&text, "listeners"), "CONTROLLER://127.0.0.1:1,PLAIN://127.0.0.1:2");
        assert_eq!(line(&text, "advertised.listeners"), "PLAIN://127.0.0.1:2");
        assert_eq!(line(&text, "offsets.topic.replication.factor"), "1");
        assert_eq!(line(&text, "min.insync.replicas"), "1");
        assert!(!text.contains("authorizer") && !text.contains("ssl"), "{text}");
    }

    #[test]
    fn three_brokers_know_each_other_and_need_two() {
        let ports = [vec![1, 2], vec![3, 4], vec![5, 6]];
        let text = server_properties(&Options::default().brokers(3), 2, &ports, "/data", None);
        assert_eq!(line(&text, "node.id"), "3");
        assert_eq!(line(&text, "controller.quorum.voters"), "1@127.0.0.1:1,2@127.0.0.1:3,3@127.0.0.1:5");
        assert_eq!(line(&text, "advertised.listeners"), "PLAIN://127.0.0.1:6");
        assert_eq!(line(&text, "default.replication.factor"), "3");
        assert_eq!(line(&text, "min.insync.replicas"), "2");
    }

    #[test]
    fn a_proxy_is_advertised_in_place_of_the_listener() {
        let proxy = Listener::new("PROXY", Security::Plaintext).advertised_as(["127.0.0.1:99".to_owned()]);
        let text = server_properties(&Options::default().listener(proxy), 0, &[vec![1, 2, 3]], "/data", None);
        assert!(line(&text, "listeners").ends_with(",PROXY://127.0.0.1:3"));
        assert!(line(&text, "advertised.listeners").ends_with(",PROXY://127.0.0.1:99"));
        assert!(line(&text, "listener.security.protocol.map").ends_with(",PROXY:PLAINTEXT"));
    }

    #[test]
    fn users_may_log_in_where_sasl_is_asked_for_and_nothing_is_allowed_yet() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::make(folder.path().into()).unwrap();
        let options = Options::default()
            .listener(Listener::new("SECURE", Security::SaslTls))
            .user("alice", "secret")
            .authorizer();
        let text = server_properties(&options, 0, &[vec![1, 2, 3]], "/data", Some(&certificates));
        assert!(line(&text, "listener.security.protocol.map").ends_with(",SECURE:SASL_SSL"));
        assert!(
            line(&text, "listener.name.secure.plain.sasl.jaas.config").ends_with("required user_alice=\"secret\";")
        );
        assert!(line(&text, "listener.name.secure.scram-sha-512.sasl.jaas.config").contains("ScramLoginModule"));
        assert_eq!(line(&text, "super.users"), "User:ANONYMOUS");
    }

    #[test]
    fn a_property_of_the_caller_comes_last_and_so_wins() {
        let options = Options::default().property("min.insync.replicas", "7");
        let text = server_properties(&options, 0, &[vec![1, 2]], "/data", None);
        assert_eq!(text.lines().last(), Some("min.insync.replicas=7"));
    }

    #[test]
    fn values_survive_javas_properties_format() {
        assert_eq!(escaped("C:\\a b=c"), "C:\\\\a b=c");
        assert_eq!(escaped("ü€\n"), "\\u00fc\\u20ac\\u000a");
    }
}
