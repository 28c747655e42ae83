//! Kafka, and how far a consumer group is.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use loginscope_kafka::ClientSettings;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use xtask::kafka::{Kafka, Options};

use crate::Stop;
use crate::process::Running;

/// How many partitions topics have where that isn't what is measured.
pub(crate) const PARTITIONS: u16 = 4;

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a group may commit nothing while there is something to do.
const QUIET: Duration = Duration::from_mins(1);

/// A Kafka that goes when it is dropped.
pub(crate) struct Cluster {
    kafka: Kafka,
}

impl Cluster {
    /// Starts a broker with these properties beside the usual ones.
    pub(crate) fn start(properties: &[(&str, &str)]) -> Result<Self> {
        eprintln!("starting Kafka");
        // A topic that is deleted gives its room back at once, before the next run needs it.
        let options = Options::default().property("log.segment.delete.delay.ms", "0");
        let options = properties.iter().fold(options, |options, (name, value)| options.property(name, value));
        Ok(Self { kafka: Kafka::start(options)? })
    }

    /// The address of the broker.
    pub(crate) fn brokers(&self) -> String {
        self.kafka.bootstrap()
    }

    /// How clients reach it.
    pub(crate) fn settings(&self) -> ClientSettings {
        ClientSettings::new(self.brokers())
    }

    /// Creates topics with so many partitions, and with these settings.
    pub(crate) fn create<'t>(
        &mut self,
        topics: impl IntoIterator<Item = &'t String>,
        partitions: u16,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        topics.into_iter().try_for_each(|topic| self.kafka.create_topic(topic, partitions, settings))
    }

    /// Deletes topics.
    pub(crate) fn delete<'t>(&mut self, topics: impl IntoIterator<Item = &'t String>) -> Result<()> {
        topics.into_iter().try_for_each(|topic| self.kafka.delete_topic(topic))
    }

    /// Looks from outside at a consumer group, and at what it reads.
    pub(crate) fn observer(&self, group: &str, input: &str, partitions: u16) -> Result<Observer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("group.id", group);
        let client: BaseConsumer = config.create().context("cannot make a client that looks at the group")?;
        Ok(Observer { client, input: input.to_owned(), partitions: partitions.into() })
    }
}

/// Sees what a group has committed and what topics hold. It is no member of the group.
pub(crate) struct Observer {
    client: BaseConsumer,
    input: String,
    partitions: i32,
}

impl Observer {
    /// How many messages of the input the group has committed; 0 as long as no broker answers for the group.
    pub(crate) fn committed(&self) -> Result<u64> {
        let mut input = TopicPartitionList::new();
        for partition in 0..self.partitions {
            input.add_partition(&self.input, partition);
        }
        let committed = match self.client.committed_offsets(input, PATIENCE) {
            Err(error) if error.rdkafka_error_code().is_some_and(has_no_coordinator) => return Ok(0),
            committed => committed.context("cannot read the group's offsets")?,
        };
        let count = committed.elements().into_iter().map(|element| match element.offset() {
            Offset::Offset(offset) => offset.unsigned_abs(),
            _ => 0,
        });
        Ok(count.sum())
    }

    /// Waits until the group has committed so many messages of the input.
    pub(crate) fn wait_for(&self, messages: u64, running: &mut Running, stop: &Stop) -> Result<()> {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            stop.check()?;
            running.check_alive()?;
            let committed = self.committed()?;
            if committed >= messages {
                return Ok(());
            }
            if committed > before {
                (before, since) = (committed, Instant::now());
            }
            if since.elapsed() > QUIET {
                bail!("nothing was committed for {QUIET:?}, {committed} messages before:\n{}", running.last_words());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many records the topics hold together, which have as many partitions as the input.
    pub(crate) fn records<'t>(&self, topics: impl IntoIterator<Item = &'t String>) -> Result<u64> {
        let mut records = 0;
        for topic in topics {
            for partition in 0..self.partitions {
                let watermarks = self.client.fetch_watermarks(topic, partition, PATIENCE);
                let (low, high) = watermarks.with_context(|| format!("cannot tell how much is in {topic}"))?;
                records += (high - low).unsigned_abs();
            }
        }
        Ok(records)
    }
}

/// Whether it is still open which broker answers for the group, as just after the first group came.
fn has_no_coordinator(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator, WaitingForCoordinator};
    matches!(code, NotCoordinator | CoordinatorNotAvailable | CoordinatorLoadInProgress | WaitingForCoordinator)
}
