//! The other side of a pipeline on a real Kafka: what writes its input and reads its outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use loginscope::generator::{Generator, Made, Options};
use loginscope_kafka::{
    ClientSettings, Header, OwnedRecord, Producer, ProducerOptions, Read, ReadFrom, Reader, Record,
};
use xtask::kafka::{Kafka, Listener, Security};

use crate::instance::{Ended, Instance, PATIENCE, run_to_its_end, wait_until};

/// The header by which tests tell messages apart.
const ID: &str = "id";

/// The listener where users log in with a password, by TLS.
pub const SASL: &str = "SASL";

/// The listener where clients show a certificate.
pub const MUTUAL_TLS: &str = "MUTUAL";

/// The password of all users.
pub const PASSWORD: &str = "correctHorseBatteryStaple";

/// How many users there are: `user0`, `user1`, …
const USERS: usize = 64;

/// The Kafka of all tests of this process, started by the first. One test has it at a time, so that it may do with it what
/// it likes, and none waits for a machine that another one keeps busy.
pub fn cluster() -> MutexGuard<'static, Kafka> {
    static KAFKA: OnceLock<Mutex<Kafka>> = OnceLock::new();
    let start = || Mutex::new(Kafka::start(options()).expect("a Kafka on this machine"));
    KAFKA.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner)
}

/// A Kafka that lets members and transactions that are gone be noticed soon, where their clients ask for that.
pub fn quick() -> xtask::kafka::Options {
    xtask::kafka::Options::default()
        .property("group.min.session.timeout.ms", "500")
        .property("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500")
}

/// By the plain listener everything is allowed; whoever comes by another one has no right but those given to it.
fn options() -> xtask::kafka::Options {
    let options = quick()
        .listener(Listener::new(SASL, Security::SaslTls))
        .listener(Listener::new(MUTUAL_TLS, Security::MutualTls))
        .authorizer();
    (0..USERS).fold(options, |options, number| options.user(&format!("user{number}"), PASSWORD))
}

/// The name of a user that no other test has; it has no right yet.
pub fn new_user() -> String {
    static USED: AtomicUsize = AtomicUsize::new(0);
    let number = USED.fetch_add(1, Ordering::Relaxed);
    assert!(number < USERS, "there are only {USERS} users");
    format!("user{number}")
}

/// A message that is to be written.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The partition; `None`: by the key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<String>,
    /// The value.
    pub value: Vec<u8>,
    /// Headers beside the one with its id.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

/// Logins as the generator makes them, keyed by user.
pub fn logins(count: usize, options: Options) -> Vec<Message> {
    let mut generator = Generator::new(options).expect("a generator");
    let mut made = Made::default();
    let mut next = || {
        generator.make(&mut made);
        Message { key: Some(made.key.clone()), value: made.value.clone(), ..Message::default() }
    };
    (0..count).map(|_| next()).collect()
}

/// What a test has to itself: topics and a group.
pub struct Scene {
    /// How to reach Kafka.
    pub settings: ClientSettings,
    /// The input topic.
    pub input: String,
    /// The topic of accepted logins.
    pub processed: String,
    /// The topic of insights.
    pub insights: String,
    /// The topic of rejected messages.
    pub rejected: String,
    /// The consumer group.
    pub group: String,
    /// The topic where the group keeps its state.
    pub changelog: String,
    /// The topic where the group keeps its plugins.
    pub plugins: String,
    producer: Producer,
    written: u64,
}

impl Scene {
    /// The scene of this name. The input topic is created, the others are not.
    pub fn new(kafka: &mut Kafka, name: &str, partitions: u16) -> Self {
        let settings = ClientSettings::new(kafka.bootstrap());
        let topic = |what: &str| format!("{name}-{what}");
        kafka.create_topic(&topic("input"), partitions, &[]).expect("a topic");
        Self {
            producer: Producer::new(&settings, ProducerOptions::default()).expect("a producer"),
            settings,
            input: topic("input"),
            processed: topic("processed"),
            insights: topic("insights"),
            rejected: topic("rejected"),
            changelog: format!("loginscope-{}-changelog", topic("group")),
            plugins: format!("loginscope-{}-plugins", topic("group")),
            group: topic("group"),
            written: 0,
        }
    }

    /// Creates all topics that a run with one partition needs.
    pub fn create_topics(&self, kafka: &mut Kafka) {
        for topic in [&self.processed, &self.insights, &self.rejected, &self.changelog] {
            kafka.create_topic(topic, 1, &[]).expect("a topic");
        }
        kafka.create_topic(&self.plugins, 1, &[("cleanup.policy", "compact")]).expect("a topic");
    }

    /// Starts `loginscope run` here, with further arguments.
    pub fn run(&self, more: &[&str]) -> Instance {
        self.run_at(&self.settings.brokers, more)
    }

    /// Starts `loginscope run` here, by another listener than the plain one.
    pub fn run_at(&self, brokers: &str, more: &[&str]) -> Instance {
        Instance::start(self.run_arguments(brokers).iter().copied().chain(more.iter().copied()))
    }

    /// The arguments of `loginscope run` here: for whoever starts instances while somebody else writes.
    pub fn to_run(&self) -> Vec<String> {
        self.run_arguments(&self.settings.brokers).into_iter().map(str::to_owned).collect()
    }

    fn run_arguments<'a>(&'a self, brokers: &'a str) -> Vec<&'a str> {
        let mut arguments = vec!["run"];
        arguments.extend(self.arguments(brokers));
        arguments.extend(["--listen", "127.0.0.1:0"]);
        arguments
    }

    /// Runs `loginscope state` here to its end.
    pub fn state(&self, more: &[&str]) -> Ended {
        run_to_its_end(["state"].iter().chain(more).chain(&self.arguments(&self.settings.brokers)))
    }

    /// Starts `loginscope state` here.
    pub fn start_state(&self, more: &[&str]) -> Instance {
        Instance::start(["state"].iter().chain(more).chain(&self.arguments(&self.settings.brokers)))
    }

    fn arguments<'a>(&'a self, brokers: &'a str) -> Vec<&'a str> {
        let mut arguments = vec!["--brokers", brokers, "--group", &self.group];
        arguments.extend(["--input-topic", &self.input, "--processed-topic", &self.processed]);
        arguments.extend(["--insights-topic", &self.insights, "--rejected-topic", &self.rejected]);
        arguments
    }

    /// Starts `loginscope run` here and waits until it has partitions.
    pub fn run_with_partitions(&self, more: &[&str]) -> Instance {
        let mut instance = self.run(more);
        instance.line_with("partition assigned");
        instance
    }

    /// Writes messages to the input and waits until the brokers have them. They get ids in order, from 0.
    pub fn write(&mut self, messages: &[Message]) {
        for message in messages {
            let id = self.written.to_string();
            self.written += 1;
            let mut headers = vec![Header { name: ID.as_bytes(), value: Some(id.as_bytes()) }];
            headers.extend(
                message.headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: Some(value) }),
            );
            let record = Record {
                topic: &self.input,
                partition: message.partition,
                key: message.key.as_deref().map(str::as_bytes),
                payload: Some(&message.value),
                timestamp: None,
                headers: &headers,
            };
            self.producer.send(&record, &|| false).expect("a message that can be sent");
        }
        self.producer.flush(PATIENCE).expect("all messages are written");
    }

    /// The same with a producer that has just come, and so knows the topic as it is now.
    #[must_use]
    pub fn with_new_producer(self) -> Self {
        let producer = Producer::new(&self.settings, ProducerOptions::default()).expect("a producer");
        Self { producer, ..self }
    }

    /// How many messages have been written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Follows the topics where logins end, which must exist.
    pub fn outputs(&self) -> Outputs {
        let follow = |topic| Follower::open(&self.settings, topic);
        Outputs { processed: follow(&self.processed), rejected: follow(&self.rejected), ids: BTreeSet::new() }
    }

    /// All records of a topic as of now.
    pub fn all(&self, topic: &str) -> Vec<OwnedRecord> {
        let mut follower = Follower::open(&self.settings, topic);
        wait_until(&format!("the end of {topic}"), String::new, || follower.catch_up().then_some(()));
        follower.records
    }
}

/// Reads a topic as it grows.
pub struct Follower {
    reader: Reader,
    /// What has been read so far.
    pub records: Vec<OwnedRecord>,
}

impl Follower {
    fn open(settings: &ClientSettings, topic: &str) -> Self {
        let reader = Reader::open(settings, topic, &ReadFrom::Beginning, PATIENCE).expect("a topic that exists");
        Self { reader, records: Vec::new() }
    }

    /// Reads what is there. Answers whether the end was seen.
    fn catch_up(&mut self) -> bool {
        loop {
            match self.reader.poll(10_000, std::time::Duration::from_millis(20)).expect("a topic that can be read") {
                Read::Batch(batch) => {
                    self.records.extend(batch.iter().map(|message| OwnedRecord::copy(batch.partition(), message)));
                }
                Read::End => return true,
                Read::Nothing => return false,
            }
        }
    }
}

/// What came of the logins.
pub struct Outputs {
    /// Accepted ones.
    pub processed: Follower,
    /// Rejected ones.
    pub rejected: Follower,
    ids: BTreeSet<u64>,
}

impl Outputs {
    /// How many different messages have arrived by now.
    pub fn arrived(&mut self) -> u64 {
        for follower in [&mut self.processed, &mut self.rejected] {
            let known = follower.records.len();
            follower.catch_up();
            self.ids.extend(follower.records.iter().skip(known).map(id));
        }
        self.ids.len() as u64
    }

    /// Waits until this many different messages have arrived.
    pub fn wait_for(&mut self, count: u64) {
        let arrived = std::cell::Cell::new(0);
        wait_until(
            &format!("{count} messages"),
            || format!("{} have arrived", arrived.get()),
            || {
                arrived.set(self.arrived());
                (arrived.get() >= count).then_some(())
            },
        );
    }

    /// How often each message arrived, by its id. None is both accepted and rejected.
    ///
    /// # Panics
    /// One is.
    pub fn times(&self) -> BTreeMap<u64, usize> {
        let count = |follower: &Follower| {
            let mut times = BTreeMap::new();
            for record in &follower.records {
                *times.entry(id(record)).or_insert(0) += 1;
            }
            times
        };
        let (mut processed, rejected) = (count(&self.processed), count(&self.rejected));
        let both: Vec<_> = processed.keys().filter(|id| rejected.contains_key(id)).collect();
        assert!(both.is_empty(), "accepted and rejected: {both:?}");
        processed.extend(rejected);
        processed
    }

    /// Each of the first `count` messages, and no other, has arrived.
    ///
    /// # Panics
    /// One is missing, or there is one that was not written.
    pub fn assert_complete(&self, count: u64) {
        let times = self.times();
        let missing: Vec<u64> = (0..count).filter(|id| !times.contains_key(id)).collect();
        let first = missing.iter().take(10).collect::<Vec<_>>();
        assert!(missing.is_empty(), "{} of {count} messages are missing: {first:?} …", missing.len());
        assert_eq!(times.len() as u64, count, "there are messages that were not written");
    }

    /// The messages that arrived more than once.
    pub fn repeated(&self) -> Vec<u64> {
        self.times().into_iter().filter(|(_, times)| *times > 1).map(|(id, _)| id).collect()
    }
}

/// The id that a message was written with.
pub fn id(record: &OwnedRecord) -> u64 {
    header(record, ID).and_then(|id| id.parse().ok()).expect("a message with an id")
}

/// The value of a header that occurs once; `None` where there is none.
///
/// # Panics
/// It occurs several times.
pub fn header<'a>(record: &'a OwnedRecord, name: &str) -> Option<&'a str> {
    let mut found = record.headers.iter().filter(|(other, _)| other == name.as_bytes());
    let value = found.next()?.1.as_deref();
    assert!(found.next().is_none(), "the header {name} occurs twice");
    value.map(|value| std::str::from_utf8(value).expect("a header that is a text"))
}
