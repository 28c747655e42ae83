//! What went wrong with a transaction, by what is to be done about it.
//!
//! librdkafka says of every failure of a transactional call whether it is fatal, requires an abort, or may be tried again, and
//! recommends to take for fatal what says nothing of itself. That is the judgement here too, with three exceptions, where it
//! doesn't know what is at stake: a commit that may be tried again has begun, so its outcome is in doubt; offsets that the group
//! refuses to a former member would be refused again; and what isn't allowed would not be allowed the next time.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{Error, Meaning, describe, judge};
use crate::native::CallFailure;
use crate::producer::Sending;

/// What went wrong with a transaction. Each kind asks for something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// It may work in a moment: make the same call again, with the same arguments. Nothing is lost by it.
    #[error("{what} is not done yet: {reason}")]
    Retriable {
        /// What was tried.
        what: String,
        /// Why it is not done.
        reason: String,
    },
    /// The transaction has failed and the producer has not: abort, take everything since the last commit back, and do it again. Where
    /// the abort succeeds, it is certain that nothing was committed. It can come again: after a delivery that failed, librdkafka needs
    /// a second abort to make its sequence numbers fit the broker's.
    #[error("the transaction must be aborted: {0}")]
    Abortable(Error),
    /// Somebody else has taken over, so what this worker holds in memory may be outdated: drop it all, and restore from the log what is
    /// still to be done here. Whether the transaction was committed is unknown, unless it was never asked to commit.
    #[error("{}: {reason}", .by.sentence())]
    Fenced {
        /// Who has taken over, and so what is to be made anew.
        by: FencedBy,
        /// The broker's reason, or librdkafka's.
        reason: String,
    },
    /// The commit has begun and its outcome is unknown: call commit again until it is known; nothing else is possible. Or drop the
    /// producer and make a new one, whose [`init`](super::TransactionalProducer::init) waits for the outcome, and see in the log which it
    /// was.
    #[error("it is not known yet whether the transaction was committed: {reason}")]
    Doubtful {
        /// What is missing.
        reason: String,
    },
    /// This message or offset can't be sent at all. It is not part of the transaction, which is as before.
    #[error(transparent)]
    Refused(Error),
    /// The caller's stop condition ended a wait. The transaction is as before.
    #[error("stopped while waiting for the brokers to take more messages")]
    Stopped,
    /// This producer can't be used any more. For [`Error::Fatal`] make a new one and restore from the log, since the outcome of the
    /// transaction is unknown. Any other error is for a person to solve.
    #[error(transparent)]
    Fatal(Error),
}

/// Who has fenced a transaction off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FencedBy {
    /// A producer with the same `transactional.id`, or the brokers, because the transaction took longer than
    /// `transaction.timeout.ms`. This producer can't be used any more: make a new one.
    Producer,
    /// The group has gone on without this member. Abort the transaction, so that it holds nobody up; the producer can then be used
    /// again. The consumer's polls tell what else becomes of its partitions.
    Group,
}

impl FencedBy {
    fn sentence(self) -> &'static str {
        match self {
            Self::Producer => "another producer has taken this one's place, or its transaction took too long",
            Self::Group => "the group has gone on without this member and did not take its offsets",
        }
    }
}

impl From<KafkaError> for CallFailure {
    fn from(error: KafkaError) -> Self {
        if let KafkaError::Transaction(error) = error {
            return Self {
                code: error.code(),
                reason: error.string(),
                is_fatal: error.is_fatal(),
                requires_abort: error.txn_requires_abort(),
                is_retriable: error.is_retriable(),
            };
        }
        // `rdkafka` waits for acknowledgements by itself before it lets librdkafka commit.
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let is_retriable = code == RDKafkaErrorCode::OperationTimedOut;
        Self { code, reason: error.to_string(), is_fatal: false, requires_abort: false, is_retriable }
    }
}

/// What was being done.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Taking the `transactional.id` over.
    Init,
    /// Beginning a transaction.
    Transaction,
    /// Adding offsets of this group.
    Offsets { group: &'a str },
    /// Ending a transaction with a commit.
    Commit,
    /// Ending a transaction with an abort.
    Abort,
}

impl Scope<'_> {
    fn what(self, id: &str) -> String {
        match self {
            Self::Init => format!("taking the transactional id {id:?} over"),
            Self::Transaction => "beginning a transaction".to_owned(),
            Self::Offsets { group } => format!("adding offsets of the group {group:?} to a transaction"),
            Self::Commit => "committing a transaction".to_owned(),
            Self::Abort => "aborting a transaction".to_owned(),
        }
    }
}

/// What a failed call means.
pub(super) fn judge_call(failure: &CallFailure, scope: Scope<'_>, id: &str, sending: &Sending) -> TransactionError {
    let CallFailure { code, is_fatal, requires_abort, is_retriable, .. } = *failure;
    let reason = sending.hide(&failure.reason);
    if is_fatal {
        return fatal_or_cause(code, reason, id, sending);
    }
    if requires_abort {
        return match scope {
            // librdkafka is ready to abort again.
            Scope::Abort => TransactionError::Retriable { what: scope.what(id), reason },
            Scope::Offsets { group } => offsets_refused(code, reason, group, id, sending),
            Scope::Init | Scope::Transaction | Scope::Commit => abortable(code, reason, id, sending),
        };
    }
    if is_retriable {
        return match scope {
            Scope::Commit => TransactionError::Doubtful { reason },
            _ => TransactionError::Retriable { what: scope.what(id), reason },
        };
    }
    TransactionError::Fatal(not_allowed(code, id, sending).unwrap_or(Error::Fatal { reason }))
}

/// What a producer that can't be used any more means.
pub(super) fn fatal(code: RDKafkaErrorCode, reason: String, id: &str, sending: &Sending) -> TransactionError {
    match code {
        RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch => {
            TransactionError::Fenced { by: FencedBy::Producer, reason }
        }
        RDKafkaErrorCode::InvalidTransactionTimeout => TransactionError::Fatal(Error::Property {
            property: "transaction.timeout.ms".to_owned(),
            reason: "the brokers allow only less (their transaction.max.timeout.ms)".to_owned(),
        }),
        _ => TransactionError::Fatal(not_allowed(code, id, sending).unwrap_or(Error::Fatal { reason })),
    }
}

/// A later call only says that there was a fatal error.
fn fatal_or_cause(code: RDKafkaErrorCode, reason: String, id: &str, sending: &Sending) -> TransactionError {
    let (code, reason) = sending.fatal().unwrap_or((code, reason));
    fatal(code, reason, id, sending)
}

fn abortable(code: RDKafkaErrorCode, reason: String, id: &str, sending: &Sending) -> TransactionError {
    if is_former_member(code) {
        return TransactionError::Fenced { by: FencedBy::Group, reason };
    }
    if let Some(error) = not_allowed(code, id, sending) {
        return TransactionError::Fatal(error);
    }
    match sending.failure() {
        // It names the topic.
        Some(error @ Error::Delivery { .. }) => TransactionError::Abortable(error),
        _ => TransactionError::Abortable(Error::Failed { what: "a transaction".to_owned(), reason }),
    }
}

fn offsets_refused(
    code: RDKafkaErrorCode,
    reason: String,
    group: &str,
    id: &str,
    sending: &Sending,
) -> TransactionError {
    let action = format!("commit offsets of the group {group:?}");
    if let Meaning::Permanent(error @ Error::NotAuthorized { .. }) = judge(code, &reason, &action, "Read") {
        return TransactionError::Fatal(error);
    }
    match abortable(code, reason, id, sending) {
        // A member whose generation is wrong is still one: the broker is only a rebalance ahead of what the consumer has heard.
        TransactionError::Abortable(Error::Failed { reason, .. }) => {
            TransactionError::Abortable(Error::Commit { group: group.to_owned(), reason })
        }
        error => error,
    }
}

/// Whether the group has gone on without the member.
fn is_former_member(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::FencedMemberEpoch
    )
}

/// What only a person can change.
fn not_allowed(code: RDKafkaErrorCode, id: &str, sending: &Sending) -> Option<Error> {
    if code == RDKafkaErrorCode::TransactionalIdAuthorizationFailed {
        return Some(Error::NotAuthorized {
            action: format!("use the transactional id {id:?}"),
            right: "Write on the transactional id".to_owned(),
            reason: describe(code),
        });
    }
    // What the log says may be still to be taken in.
    sending.serve();
    let action = match sending.forbidden_topic() {
        Some(topic) => format!("write to the topic {topic:?}"),
        None => "write in a transaction".to_owned(),
    };
    match judge(code, "", &action, "Write") {
        Meaning::Permanent(error @ (Error::NotAuthorized { .. } | Error::Authentication { .. })) => Some(error),
        _ => None,
    }
}
