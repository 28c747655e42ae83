//! What can go wrong with Kafka, each as one sentence for a person.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What went wrong. The text is one sentence that names what is at hand; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A property is unknown, has a value that librdkafka doesn't take, or would break a guarantee.
    #[error("Kafka property {property:?}: {reason}")]
    Property {
        /// The property's name.
        property: String,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
    /// The properties don't go together.
    #[error("the Kafka properties don't go together: {reason}")]
    Properties {
        /// librdkafka's reason.
        reason: String,
    },
    /// No topic can have this name.
    #[error("{topic:?} can't be the name of a Kafka topic: {reason}")]
    TopicName {
        /// The name.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No broker answered in time.
    #[error("no Kafka broker answers at {brokers} (waited {waited:.1?}): {reason}")]
    Unreachable {
        /// The bootstrap servers.
        brokers: String,
        /// How long was waited.
        waited: Duration,
        /// The last thing librdkafka reported.
        reason: String,
    },
    /// The brokers don't accept who we say we are.
    #[error("the Kafka brokers refuse the credentials: {reason}; check security.protocol, sasl.* and ssl.*")]
    Authentication {
        /// The broker's reason.
        reason: String,
    },
    /// The brokers don't allow what is asked for.
    #[error("not allowed to {action}: it takes the right {right} ({reason})")]
    NotAuthorized {
        /// What is not allowed, with the topic or group.
        action: String,
        /// The right that it takes, in Kafka's words.
        right: String,
        /// The broker's reason.
        reason: String,
    },
    /// The topic doesn't exist, or doesn't any more.
    #[error("the topic {topic:?} does not exist")]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// A message was not taken by its topic.
    #[error("a message of {bytes} bytes could not be written to the topic {topic:?}: {reason}")]
    Delivery {
        /// The topic.
        topic: String,
        /// The partition, where one was chosen already.
        partition: Option<i32>,
        /// Key and value together, in bytes.
        bytes: usize,
        /// The broker's reason, or the client's.
        reason: String,
    },
    /// The group has gone on without this consumer: the partitions belong to another one now, and nothing was committed.
    #[error(
        "the group {group:?} did not take the offsets, since these partitions now belong to another member: {reason}"
    )]
    CommitFenced {
        /// The group.
        group: String,
        /// The broker's reason.
        reason: String,
    },
    /// Offsets could not be committed for another reason.
    #[error("the offsets of the group {group:?} could not be committed: {reason}")]
    Commit {
        /// The group.
        group: String,
        /// The broker's reason.
        reason: String,
    },
    /// The log has not got the offset that the group is to read next: messages were deleted before they were read, or the topic is
    /// another one by now. The consumer doesn't go on in this partition.
    #[error(
        "the group {group:?} can't go on in partition {partition} of the topic {topic:?}: {reason}; to go on with the \
         earliest message that there is, set the Kafka property auto.offset.reset to \"earliest\""
    )]
    OffsetGone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The group.
        group: String,
        /// Which offsets are missing.
        reason: String,
    },
    /// Messages were deleted while they were being read.
    #[error("messages of partition {partition} of the topic {topic:?} were deleted while they were being read")]
    Deleted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {waited:.1?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The caller's stop condition ended a wait.
    #[error("stopped while waiting for the brokers to take more messages")]
    Stopped,
    /// The client can't be used any more: make a new one.
    #[error("the Kafka client failed for good: {reason}")]
    Fatal {
        /// librdkafka's reason.
        reason: String,
    },
    /// Anything else.
    #[error("{what} failed: {reason}")]
    Failed {
        /// What was tried.
        what: String,
        /// Why it failed.
        reason: String,
    },
}

impl Error {
    /// Whether the user's settings are wrong, as opposed to something that happened at run time.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Property { .. } | Self::Properties { .. } | Self::TopicName { .. })
    }

    /// Whether a request that failed so may be made again, as nobody has to change anything before.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Unreachable { .. } | Self::TimedOut { .. })
    }

    /// The error of something that librdkafka refused outright.
    pub(crate) fn failed(what: impl Into<String>, error: &KafkaError) -> Self {
        let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), describe);
        Self::Failed { what: what.into(), reason }
    }
}

/// What an error code says to a person: librdkafka's own words, without its prefix.
pub(crate) fn describe(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    // "MessageSizeTooLarge (Broker: Message size too large)": the words are in the brackets.
    let words = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(&text);
    words.strip_prefix("Broker: ").unwrap_or(words).to_owned()
}

/// What an error that a client reports means for it.
pub(crate) enum Meaning {
    /// librdkafka goes on trying by itself.
    Transient,
    /// A topic is missing: it may still come.
    UnknownTopic,
    /// Nothing will change without a person.
    Permanent(Error),
}

/// Judges an error code. `action` is what was being done, as in "not allowed to …", and `operation` the right that it takes on
/// a topic.
pub(crate) fn judge(code: RDKafkaErrorCode, reason: &str, action: &str, operation: &str) -> Meaning {
    let reason = if reason.is_empty() { describe(code) } else { reason.to_owned() };
    match code {
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::UnsupportedSASLMechanism => Meaning::Permanent(Error::Authentication { reason }),
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::GroupAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed => Meaning::Permanent(Error::NotAuthorized {
            action: action.to_owned(),
            right: right(code, operation),
            reason: describe(code),
        }),
        RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId => Meaning::Permanent(Error::Fatal { reason }),
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Meaning::UnknownTopic,
        _ => Meaning::Transient,
    }
}

/// The right whose lack an error code tells of.
fn right(code: RDKafkaErrorCode, operation: &str) -> String {
    match code {
        RDKafkaErrorCode::GroupAuthorizationFailed => "Read on the group".to_owned(),
        // A producer that repeats nothing: since Kafka 2.8, whoever may write to some topic may have one.
        RDKafkaErrorCode::ClusterAuthorizationFailed if operation == "Write" => {
            "Write on a topic, or IdempotentWrite on the cluster".to_owned()
        }
        RDKafkaErrorCode::ClusterAuthorizationFailed => format!("{operation} on the cluster"),
        _ if operation == "Describe" => "Describe on the topic, which Read and Write include".to_owned(),
        _ => format!("{operation} on the topic"),
    }
}
