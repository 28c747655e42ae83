//! A Kafka broker in this process: librdkafka's mock cluster.
//!
//! It speaks the real protocol on a local port, so that any client can connect, also from other processes. It is for trying
//! things out and for tests, and has limits:
//!
//! - It keeps the newest 5 MiB or 100,000 messages of a partition, whichever is less, in memory, and forgets the older ones.
//! - Admin requests (creating topics, reading a topic's configuration) time out: create topics with [`EmbeddedBroker::create_topic`].
//!   A topic that a producer writes to without that gets 4 partitions.
//! - A group begins 250 ms after its first member came. Every later join or leave takes one second less than the session timeout of
//!   the members, so [`EmbeddedBroker::settings`] has a short one.
//! - Transactions are accepted, but nothing is ever rolled back, and offsets in them are not taken.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext};

use crate::error::Error;
use crate::native::set_mock_group_delay;
use crate::settings::ClientSettings;
use crate::topics::check_name;

/// How long a new group waits for more members: enough for all workers of a process.
const GROUP_DELAY_MS: i32 = 250;

/// A running broker; it stops when dropped.
pub struct EmbeddedBroker {
    /// The client that librdkafka runs the mock cluster for. It sends nothing.
    host: BaseProducer<Silent>,
    bootstrap_servers: String,
}

impl EmbeddedBroker {
    /// Starts a broker on a free local port.
    ///
    /// # Errors
    /// [`Error::Failed`] where no port can be opened.
    pub fn start() -> Result<Self, Error> {
        let failed = |error: &KafkaError| Error::failed("starting the embedded broker", error);
        let host: BaseProducer<Silent> = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .create_with_context(Silent)
            .map_err(|error| failed(&error))?;
        let bootstrap_servers = host
            .client()
            .mock_cluster()
            .ok_or_else(|| failed(&KafkaError::MockCluster(RDKafkaErrorCode::Fail)))?
            .bootstrap_servers();
        set_mock_group_delay(host.client(), GROUP_DELAY_MS);
        Ok(Self { host, bootstrap_servers })
    }

    /// Where clients find it, `host:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Settings for clients of this broker.
    pub fn settings(&self) -> ClientSettings {
        ClientSettings::new(&self.bootstrap_servers)
            .with("session.timeout.ms", "3000")
            .with("heartbeat.interval.ms", "300")
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`Error::TopicName`], or [`Error::Failed`], also where the topic is there already.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        check_name(topic)?;
        self.on_cluster(&format!("creating the topic {topic:?}"), |cluster| cluster.create_topic(topic, partitions, 1))
    }

    /// Disconnects all clients and takes no new ones, as a broker that is down, until [`EmbeddedBroker::come_back`]. Messages are kept.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn go_down(&self) -> Result<(), Error> {
        self.on_cluster("taking the embedded broker down", |cluster| cluster.broker_down(-1))
    }

    /// Takes clients again.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn come_back(&self) -> Result<(), Error> {
        self.on_cluster("bringing the embedded broker back", |cluster| cluster.broker_up(-1))
    }

    /// Refuses the next commits of offsets, so many, as a broker with a problem of its own does.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn refuse_commits(&self, count: usize) -> Result<(), Error> {
        // One that librdkafka neither retries by itself nor takes for a rebalance.
        let refusals = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE; count];
        self.on_cluster("making the embedded broker refuse commits", |cluster| {
            cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
            Ok(())
        })
    }

    /// Answers the next requests of this kind with these error codes of Kafka's protocol, one after the other. With -195 the connection
    /// is closed instead.
    ///
    /// # Errors
    /// [`Error::Failed`], also for a code that doesn't exist.
    pub fn answer_with(&self, request: TransactionRequest, codes: &[i32]) -> Result<(), Error> {
        let what = "making the embedded broker answer with errors";
        let known = codes.iter().map(|code| RDKafkaRespErr::try_from(*code)).collect::<Result<Vec<_>, _>>();
        let errors = known.map_err(|error| Error::Failed { what: what.to_owned(), reason: error.to_string() })?;
        self.on_cluster(what, |cluster| {
            cluster.request_errors(request.key(), &errors);
            Ok(())
        })
    }

    fn on_cluster(
        &self,
        what: &str,
        action: impl FnOnce(&rdkafka::mocking::MockCluster<'_, Silent>) -> Result<(), KafkaError>,
    ) -> Result<(), Error> {
        let Some(cluster) = self.host.client().mock_cluster() else {
            return Err(Error::Failed { what: what.to_owned(), reason: "the embedded broker has stopped".to_owned() });
        };
        action(&cluster).map_err(|error| Error::failed(what, &error))
    }
}

/// What transactional producers ask of brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionRequest {
    /// Taking a `transactional.id` over.
    Init,
    /// Writing messages.
    Produce,
    /// Telling that offsets of a group will come.
    AddOffsets,
    /// The offsets.
    CommitOffsets,
    /// Committing or aborting.
    End,
}

impl TransactionRequest {
    fn key(self) -> RDKafkaApiKey {
        match self {
            Self::Init => RDKafkaApiKey::InitProducerId,
            Self::Produce => RDKafkaApiKey::Produce,
            Self::AddOffsets => RDKafkaApiKey::AddOffsetsToTxn,
            Self::CommitOffsets => RDKafkaApiKey::TxnOffsetCommit,
            Self::End => RDKafkaApiKey::EndTxn,
        }
    }
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EmbeddedBroker")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .finish_non_exhaustive()
    }
}

/// The context of a client that nobody polls.
struct Silent;

impl ClientContext for Silent {
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl rdkafka::producer::ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {}
}
