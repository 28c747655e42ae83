//! The running application: workers on threads of their own, started and stopped together. `run` and `demo` share it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use loginscope_kafka::{
    ClientSettings, Consumer, ConsumerOptions, MessageLimit, NewTopic, Producer, ProducerOptions, Setting,
    StartPosition, Topics, TransactionalProducer, Waker,
};
use loginscope_state::Writer;

use crate::pipeline::backfill::{self, FAR_BEHIND, History, Permits};
use crate::pipeline::batch::OutputLimits;
use crate::pipeline::changelog::{Home, Janitor, SnapshotSizes};
use crate::pipeline::commit::Committer;
use crate::pipeline::delivery::{Delivery, Guarantee};
use crate::pipeline::elsewhere;
use crate::pipeline::lacking::Lacking;
use crate::pipeline::outputs::{OutputTopics, Sender, plugins_header};
use crate::pipeline::processing::Processing;
use crate::pipeline::restore::{PATIENCE, PartitionsAdded, Restorer, Source};
use crate::pipeline::serving::Serving;
use crate::pipeline::stops::Stops;
use crate::pipeline::transaction::Transactions;
use crate::pipeline::worker::{Durable, Shared, Worker};
use crate::pipeline::{Output, Pipeline, TotalsBoard};
use crate::telemetry::Telemetry;

/// How long a broker may take to answer at the start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How often it is looked whether a worker has left the group.
const LEAVE_POLL: Duration = Duration::from_millis(5);

/// What a changelog is created with: it is deleted only where this program says so, and then disks are to be freed soon.
const CHANGELOG_SETTINGS: [(&str, &str); 4] =
    [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1"), ("segment.bytes", "67108864")];

/// What the topic of totals is created with: only what was told last counts, and reading all of it is to stay quick. Nothing is
/// deleted by itself, but by this program where nobody shall read it any more.
const TOTALS_SETTINGS: [(&str, &str); 6] = [
    ("cleanup.policy", "compact,delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
];

/// What the topic of the group's plugins is created with: the newest of each key counts, and what nobody needs any more is soon gone.
/// Brokers say when a record came.
const PLUGINS_SETTINGS: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "67108864"),
    ("segment.ms", "600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("message.timestamp.type", "LogAppendTime"),
];

/// What a message of a changelog takes at most, in bytes: small enough for any topic, and for memory.
const CHANGELOG_MESSAGE_BYTES: u32 = 512 * 1024;

/// What records of topics that are created may take beyond `max_message_bytes`: room for key and headers.
const RECORD_ROOM_BYTES: u32 = 64 * 1024;

/// The names of the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// Logins come from here.
    pub input: String,
    /// Accepted logins go here.
    pub processed: String,
    /// Insights go here.
    pub insights: String,
    /// Rejected messages go here.
    pub rejected: String,
}

/// The names of the internal topics that keep the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTopics {
    /// What changes in each partition's state goes here.
    pub changelog: String,
    /// Each partition's totals go here, for other processes.
    pub totals: String,
    /// What plugins the group runs, and has run, is here.
    pub plugins: String,
}

impl StateTopics {
    /// Those of this consumer group, if they aren't given other names.
    pub fn of_group(group: &str) -> Self {
        let topic = |what: &str| format!("loginscope-{group}-{what}");
        Self { changelog: topic("changelog"), totals: topic("totals"), plugins: topic("plugins") }
    }
}

/// What an application is started with.
pub struct Settings {
    /// How to reach Kafka.
    pub kafka: ClientSettings,
    /// The topics.
    pub topics: TopicNames,
    /// The consumer group.
    pub group: String,
    /// The name of this process, which stays the same over restarts and which no other member of the group has.
    pub instance: Option<String>,
    /// The topics that keep the state; only memory does if not given.
    pub state_topics: Option<StateTopics>,
    /// Where a new group starts.
    pub start: StartPosition,
    /// How many workers.
    pub workers: usize,
    /// Accepted logins in a window.
    pub insight_every: u32,
    /// The largest message, in bytes.
    pub max_message_bytes: u32,
    /// Whether processed logins tell where they came from.
    pub source_headers: bool,
    /// Whether processed logins tell which plugins they went through.
    pub plugins_header: bool,
    /// What is promised.
    pub guarantee: Guarantee,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// How long a stop may take.
    pub drain_timeout: Duration,
    /// What the output topics take.
    pub limits: TopicLimits,
    /// How many partitions the input has.
    pub partitions: i32,
}

/// What the output topics take, in bytes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// The topic of accepted logins.
    pub processed: u32,
    /// The topic of rejected messages.
    pub rejected: u32,
    /// The topic of insights.
    pub insights: u32,
    /// The topic of durable state.
    pub changelog: u32,
}

impl TopicLimits {
    /// What topics take that are created for messages of this size.
    pub fn for_messages(max_message_bytes: u32) -> Self {
        let limit = max_message_bytes.saturating_add(RECORD_ROOM_BYTES);
        Self { processed: limit, rejected: limit, insights: limit, changelog: limit }
    }

    /// The most that a message of the changelog takes, in bytes.
    pub fn changelog_message(self) -> usize {
        self.changelog.saturating_sub(1024).clamp(1024, CHANGELOG_MESSAGE_BYTES) as usize
    }

    fn smallest(self) -> u32 {
        self.processed.min(self.rejected).min(self.insights).min(self.changelog)
    }
}

/// Looks at the topics, creates those that are missing (if `create`), and tells how many partitions the input has and what the
/// others take.
pub fn prepare_topics(
    kafka: &ClientSettings,
    topics: &TopicNames,
    state_topics: Option<&StateTopics>,
    max_message_bytes: u32,
    create: bool,
) -> Result<(i32, TopicLimits)> {
    let connection = Topics::connect(kafka, CONNECT_TIMEOUT)?;
    let missing = create.then_some(max_message_bytes);
    let partitions = prepare_topic(&connection, &topics.input, 1, &[], missing)?;
    for name in [&topics.processed, &topics.insights, &topics.rejected] {
        prepare_topic(&connection, name, partitions, &[], missing)?;
    }
    if let Some(state_topics) = state_topics {
        let found = prepare_state_topics(&connection, state_topics, partitions, missing)?;
        if found < partitions {
            return Err(PartitionsAdded { changelog: state_topics.changelog.clone(), partitions: found }.into());
        }
    }
    Ok((partitions, topic_limits(&connection, kafka, topics, state_topics)?))
}

/// Looks at the topics that keep the state, creates those that are missing, and tells how many partitions the changelog has. `missing` is
/// the size of the messages, in bytes, that topics are created for; none: they aren't.
pub fn prepare_state_topics(
    connection: &Topics,
    topics: &StateTopics,
    partitions: i32,
    missing: Option<u32>,
) -> Result<i32> {
    let found = prepare_topic(connection, &topics.changelog, partitions, &CHANGELOG_SETTINGS, missing)?;
    if partitions > 1 {
        prepare_topic(connection, &topics.totals, 1, &TOTALS_SETTINGS, missing)?;
    }
    Ok(found)
}

/// Looks at the topic of the group's plugins, and creates it where it is missing. `missing` as for [`prepare_state_topics`].
pub fn prepare_plugins_topic(kafka: &ClientSettings, topic: &str, missing: Option<u32>) -> Result<()> {
    let connection = Topics::connect(kafka, CONNECT_TIMEOUT)?;
    if missing.is_none() && connection.partitions(topic)?.is_none() {
        bail!(
            "the topic {topic} does not exist, and create_topics is false: it is to keep the group's plugins. Create it \
             (kafka-topics.sh --create --topic {topic} --partitions 1 --config cleanup.policy=compact), or do without \
             (plugins_from = \"paths\")"
        );
    }
    let found = prepare_topic(&connection, topic, 1, &PLUGINS_SETTINGS, missing)?;
    anyhow::ensure!(
        found == 1,
        "the topic {topic} has {found} partitions, and must have 1: its order is what instances agree on"
    );
    match connection.setting(topic, "cleanup.policy")? {
        Setting::Known(policy) if policy == "compact" => Ok(()),
        Setting::Known(policy) => bail!(
            "the topic {topic} has cleanup.policy={policy}, by which plugins that serve would be deleted when they have become old. \
             Let it only be compacted (kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config \
             cleanup.policy=compact), or do without (plugins_from = \"paths\")"
        ),
        Setting::Unknown(reason) => {
            tracing::warn!(topic, "cannot read cleanup.policy, compact is assumed: {reason}");
            Ok(())
        }
    }
}

/// How many partitions a topic has. One that is missing is created with so many, for messages of so many bytes (`missing`); none:
/// that isn't allowed.
fn prepare_topic(
    connection: &Topics,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
    missing: Option<u32>,
) -> Result<i32> {
    if let Some(partitions) = connection.partitions(name)? {
        return Ok(partitions);
    }
    let Some(message_bytes) = missing else {
        bail!("the topic {name} does not exist, and create_topics is false");
    };
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let max_message_bytes = Some(message_bytes.saturating_add(RECORD_ROOM_BYTES));
    connection.create(&[NewTopic { name: name.to_owned(), partitions, max_message_bytes, settings }])?;
    tracing::info!(topic = name, partitions, "the topic did not exist; it was created");
    Ok(partitions)
}

/// What the topics take.
pub fn topic_limits(
    connection: &Topics,
    kafka: &ClientSettings,
    topics: &TopicNames,
    state_topics: Option<&StateTopics>,
) -> Result<TopicLimits> {
    let mut names = vec![topics.processed.as_str(), topics.rejected.as_str(), topics.insights.as_str()];
    names.extend(state_topics.map(|topics| topics.changelog.as_str()));
    let limits = connection.message_limits(&names)?;
    // What this side sends at most counts as well.
    let sent =
        kafka.properties.get("message.max.bytes").and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(u32::MAX);
    let limit = |place: usize| match limits.get(place) {
        Some(MessageLimit::Known(bytes)) => sent.min(*bytes),
        Some(MessageLimit::Unknown(reason)) => {
            let topic = names.get(place).copied().unwrap_or_default();
            tracing::warn!(topic, "cannot read max.message.bytes, 1 MiB is assumed: {reason}");
            sent.min(1 << 20)
        }
        None => sent.min(1 << 20),
    };
    Ok(TopicLimits { processed: limit(0), rejected: limit(1), insights: limit(2), changelog: limit(3) })
}

/// A worker's thread: how to wake it, and how to wait for its end.
struct Thread {
    waker: Waker,
    handle: JoinHandle<()>,
}

/// Workers that run.
pub struct Application {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    ended: Mutex<Ended>,
}

/// What the workers came to.
struct Ended {
    results: Receiver<(usize, Result<()>)>,
    /// How many have not said yet.
    open: usize,
}

impl Ended {
    /// What the next worker to end came to, if one does within this time.
    fn next(&mut self, timeout: Duration) -> Option<(usize, Result<()>)> {
        let ended = self.results.recv_timeout(timeout).ok()?;
        self.open -= 1;
        Some(ended)
    }
}

impl Application {
    /// Starts the workers.
    pub fn start(settings: &Settings, serving: &Arc<Serving>, telemetry: Arc<Telemetry>) -> Result<Self> {
        let shared = Arc::new(Shared {
            telemetry,
            totals: TotalsBoard::default(),
            stop: AtomicBool::new(false),
            give_up: AtomicBool::new(false),
            topic: settings.topics.input.as_str().into(),
            insight_every: settings.insight_every,
            several_partitions: settings.partitions > 1,
            drain_timeout: settings.drain_timeout,
        });
        let home = settings.state_topics.as_ref().map(|topics| home(settings, topics)).transpose()?;
        if let Some(topic) = home.as_ref().and_then(|home| home.totals.clone()) {
            let (kafka, shared) = (settings.kafka.clone(), Arc::clone(&shared));
            let follow = move || {
                // A worker that needs them says so, too.
                if let Err(error) = elsewhere::follow(&kafka, &topic, &shared.totals, &shared.stop) {
                    tracing::error!("the totals of other processes can't be followed: {error}");
                }
            };
            std::thread::Builder::new().name("totals".to_owned()).spawn(follow).context("cannot start a thread")?;
        }
        let histories = serving.histories.get_or_init(|| Arc::new(histories(settings, serving, &shared)));
        let (report, ended) = mpsc::channel();
        let mut threads = Vec::new();
        for number in 0..settings.workers {
            let mut worker = worker(number, settings, serving, &shared, (home.as_ref(), histories))?;
            let waker = worker.consumer.waker();
            let report = report.clone();
            let handle = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
                    let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("worker {number} panicked")));
                    report.send((number, result)).ok();
                    // This leaves the group.
                    drop(worker);
                })
                .context("cannot start a worker's thread")?;
            threads.push(Thread { waker, handle });
        }
        let ended = Mutex::new(Ended { results: ended, open: threads.len() });
        Ok(Self { shared, threads, ended })
    }

    /// Waits until a worker ends by itself, which only a failure makes it do, at most this long.
    pub fn failure(&self, timeout: Duration) -> Option<anyhow::Error> {
        let (number, result) = self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next(timeout)?;
        Some(match result {
            Ok(()) => anyhow::anyhow!("worker {number} ended"),
            Err(error) => error,
        })
    }

    /// Lets the workers finish what they have begun, commit, and leave the group. Fails with the first failure of a worker, or
    /// when the drain deadline is over.
    pub fn stop(self, timeout: Duration) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in &self.threads {
            thread.waker.wake();
        }
        let deadline = Instant::now() + timeout;
        let mut ended = self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut first_failure = Ok(());
        while ended.open > 0 {
            let Some((_, result)) = ended.next(deadline.saturating_duration_since(Instant::now())) else {
                self.shared.give_up.store(true, Ordering::Relaxed);
                bail!(
                    "{} of {} workers did not drain within {timeout:?}: what they had not committed will be done again",
                    ended.open,
                    self.threads.len()
                );
            };
            first_failure = first_failure.and(result);
        }
        first_failure?;
        // What is left is to leave the group, so that others need not wait for our sessions to run out.
        while self.threads.iter().any(|thread| !thread.handle.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(LEAVE_POLL);
        }
        Ok(())
    }
}

/// Where partitions' histories come from.
fn histories(settings: &Settings, serving: &Serving, shared: &Shared) -> backfill::Source {
    backfill::Source {
        kafka: settings.kafka.clone(),
        topic: Arc::clone(&shared.topic),
        partitions: settings.partitions,
        limits: OutputLimits {
            value_bytes: settings.max_message_bytes as usize,
            record_bytes: settings.limits.processed as usize,
        },
        source_headers: settings.source_headers,
        plugins_header: settings.plugins_header,
        following: Permits::new(FAR_BEHIND),
        held: Permits::new(FAR_BEHIND),
        turn: Mutex::new(()),
        board: Arc::clone(&serving.board),
        telemetry: Arc::clone(&shared.telemetry),
    }
}

/// Where the state is kept.
fn home(settings: &Settings, topics: &StateTopics) -> Result<Home> {
    let max_bytes = settings.limits.changelog_message();
    Ok(Home {
        changelog: topics.changelog.as_str().into(),
        totals: (settings.partitions > 1).then(|| topics.totals.as_str().into()),
        writer: Writer { id: random(), max_bytes },
        janitor: Janitor::start(settings.kafka.clone(), topics.changelog.clone())?,
        snapshots: SnapshotSizes::default(),
    })
}

fn worker(
    number: usize,
    settings: &Settings,
    serving: &Arc<Serving>,
    shared: &Arc<Shared>,
    (home, histories): (Option<&Home>, &Arc<backfill::Source>),
) -> Result<Worker> {
    let generation = Arc::clone(&serving.load());
    let options = ConsumerOptions {
        start: settings.start,
        instance: settings.instance.as_ref().map(|instance| format!("{instance}-{number}")),
        likely_partitions: settings.partitions.unsigned_abs().div_ceil(settings.workers.max(1) as u32),
        ..ConsumerOptions::new(settings.topics.input.as_str(), settings.group.as_str())
    };
    let topics = OutputTopics {
        processed: settings.topics.processed.clone(),
        insights: settings.topics.insights.clone(),
        rejected: settings.topics.rejected.clone(),
        rejected_limit: settings.limits.rejected as usize,
        source_headers: settings.source_headers,
    };
    let mut pipeline = Pipeline::new(Arc::clone(&generation.chain), histories.limits)?;
    // It may be on probation already.
    pipeline.measure(generation.probation.is_some());
    let consumer = Consumer::join(&settings.kafka, options)?;
    let durable = home.map(|home| {
        // Two workers of a process are two writers.
        let home = Home { writer: Writer { id: random(), ..home.writer }, ..home.clone() };
        let claims = settings.guarantee == Guarantee::AtLeastOnce;
        let totals = shared.totals.clone();
        let (kafka, partitions) = (settings.kafka.clone(), settings.partitions);
        let source = Source { kafka, home: home.clone(), partitions, claims, patience: PATIENCE, totals };
        let waker = consumer.waker();
        Durable { restorer: Restorer::new(source, Arc::new(move || waker.wake())), home }
    });
    let waker = consumer.waker();
    let history = History::new(Arc::clone(histories), number, &generation, Arc::new(move || waker.wake()));
    let plugins_header = settings.plugins_header.then(|| plugins_header(generation.number, &generation.chain));
    Ok(Worker {
        number,
        shared: Arc::clone(shared),
        consumer,
        delivery: delivery(number, settings, shared)?,
        durable,
        work: Processing {
            serving: Arc::clone(serving),
            pipeline,
            is_late: false,
            newest: Arc::clone(&generation),
            generation,
            sender: Sender::new(Arc::new(topics), settings.topics.input.clone()),
            source_headers: settings.source_headers,
            plugins_header,
            insights_limit: settings.limits.insights as usize,
            output: Output::default(),
            left_alone: BTreeSet::new(),
            history,
        },
        partitions: BTreeMap::new(),
        stops: Stops::default(),
        lacking: Lacking::default(),
        last_progress: Instant::now(),
    })
}

/// A worker's way of sending and committing.
fn delivery(number: usize, settings: &Settings, shared: &Shared) -> Result<Delivery> {
    let (kafka, options) = producer(settings);
    let totals = shared.totals.clone();
    Ok(match settings.guarantee {
        Guarantee::AtLeastOnce => Delivery::AtLeastOnce {
            producer: Box::new(Producer::new(&kafka, options)?),
            committer: Box::new(Committer::new(settings.commit_interval, totals)),
        },
        Guarantee::ExactlyOnce => {
            // Nobody else may have it; nor may a successor that can't know that this process is gone.
            let process = settings.instance.clone().unwrap_or_else(|| format!("{:016x}", random()));
            let id = format!("{}-{process}-{number}", settings.group);
            let make = move || TransactionalProducer::new(&kafka, options, id.as_str());
            let topic = settings.topics.input.clone();
            let interval = settings.commit_interval;
            Delivery::ExactlyOnce(Box::new(Transactions::new(Box::new(make), topic, interval, totals)?))
        }
    })
}

/// A number that nobody else has.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What makes a producer whose batches every output topic takes: a batch counts as one record to the broker's limit.
fn producer(settings: &Settings) -> (ClientSettings, ProducerOptions) {
    let mut kafka = settings.kafka.clone();
    let batch = settings.limits.smallest().saturating_sub(1024).clamp(1, 1_000_000);
    kafka.properties.entry("batch.size".to_owned()).or_insert_with(|| batch.to_string());
    let limits = &settings.limits;
    let largest = limits.processed.max(limits.rejected).max(limits.insights).max(limits.changelog);
    (kafka, ProducerOptions { max_message_bytes: largest })
}
