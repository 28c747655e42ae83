//! Kafka with the input in it, and how far a consumer group is.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use xtask::kafka::{Kafka, Options};

/// The topic that all contenders read.
pub(crate) const INPUT: &str = "user-login";

/// How many partitions each topic has.
pub(crate) const PARTITIONS: u16 = 4;

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Kafka that goes when it is dropped.
pub(crate) struct Cluster {
    kafka: Kafka,
}

impl Cluster {
    /// Starts a broker with an empty input topic.
    pub(crate) fn start() -> Result<Self> {
        // The members of a group find each other before the first of them begins.
        let options = Options::default().property("group.initial.rebalance.delay.ms", "1000");
        let mut kafka = Kafka::start(options)?;
        kafka.create_topic(INPUT, PARTITIONS, &[])?;
        Ok(Self { kafka })
    }

    /// The address of the broker.
    pub(crate) fn brokers(&self) -> String {
        self.kafka.bootstrap()
    }

    /// Creates topics that contenders write to.
    pub(crate) fn create<'t>(&mut self, topics: impl IntoIterator<Item = &'t String>) -> Result<()> {
        // A topic that is deleted gives its room back at once, before the next run needs it.
        let configs = [("file.delete.delay.ms", "0")];
        topics.into_iter().try_for_each(|topic| self.kafka.create_topic(topic, PARTITIONS, &configs))
    }

    /// Deletes topics.
    pub(crate) fn delete<'t>(&mut self, topics: impl IntoIterator<Item = &'t String>) -> Result<()> {
        topics.into_iter().try_for_each(|topic| self.kafka.delete_topic(topic))
    }

    /// Looks at a consumer group, and at topics, from outside.
    pub(crate) fn observer(&self, group: &str) -> Result<Observer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("group.id", group);
        let client: BaseConsumer = config.create().context("cannot make a client that looks at the group")?;
        Ok(Observer { client })
    }
}

/// Sees what a group has committed and what topics hold. It is no member of the group.
pub(crate) struct Observer {
    client: BaseConsumer,
}

impl Observer {
    /// How many messages of the input the group has committed; 0 as long as no broker answers for the group.
    pub(crate) fn committed(&self) -> Result<u64> {
        let mut input = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            input.add_partition(INPUT, i32::from(partition));
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

    /// How many records the topics hold together.
    pub(crate) fn records<'t>(&self, topics: impl IntoIterator<Item = &'t String>) -> Result<u64> {
        let mut records = 0;
        for topic in topics {
            for partition in 0..i32::from(PARTITIONS) {
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
