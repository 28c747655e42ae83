//! Kafka: what workers and commands talk to brokers with.
//!
//! This crate knows librdkafka (through `rdkafka`) and nothing of the messages that pass through it: no JSON, no login,
//! no plugin. It keeps these promises:
//!
//! - **Nothing is done before it is safe.** Offsets are committed only when the caller says so, every producer is idempotent,
//!   and a failed delivery can't go unnoticed: it fails every later call of its producer.
//! - **Rebalances are data.** Partitions come and go as events of [`Consumer::poll`], and a revoked partition is given up
//!   only at the poll after the one that announced it, so that its owner can finish and commit first.
//! - **No copy.** A [`Batch`] lends the bytes that librdkafka received.
//! - **No secret is shown**, neither in an error nor in a log line nor by `{:?}`.
//! - **One sentence.** An [`Error`] names the topic, partition, property or broker at hand, and why.
//!
//! The map: [`settings`] makes librdkafka configurations; [`consumer`], [`producer`], [`transactions`], [`topics`], [`read`] and
//! [`changelog`] are the clients;
//! [`embedded`] is a broker in this process; `native` is the only module with unsafe code.

pub mod changelog;
mod client;
pub mod consumer;
pub mod embedded;
mod error;
pub mod history;
mod native;
mod partitioner;
pub mod producer;
pub mod read;
pub mod settings;
pub mod topics;
pub mod transactions;

pub use changelog::{ChangelogRead, ChangelogReader};
pub use consumer::{Assigned, Commit, Consumer, ConsumerOptions, PartitionProgress, Polled, StartPosition, Waker};
pub use embedded::{EmbeddedBroker, TransactionRequest};
pub use error::Error;
pub use history::HistoryReader;
pub use native::{Batch, GroupMetadata, Header, Headers, Message};
pub use partitioner::partition_of;
pub use producer::{Epoch, Producer, ProducerOptions, Record};
pub use read::{OwnedRecord, Read, ReadFrom, Reader};
pub use settings::ClientSettings;
pub use topics::{MessageLimit, NewTopic, Setting, Topics};
pub use transactions::{FencedBy, TRANSACTION_TIMEOUT_MS, TransactionError, TransactionalProducer};
