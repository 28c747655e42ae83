//! A producer whose messages and input offsets become visible together or not at all: exactly once from topic to topic.
//!
//! # The life of a transaction
//!
//! [`TransactionalProducer::init`] comes once, before all else. A transaction begins with the first [`TransactionalProducer::send`] after
//! that, or after the one before has ended. [`TransactionalProducer::send_offsets`] adds the offsets to go on from, and
//! [`TransactionalProducer::commit`] or [`TransactionalProducer::abort`] ends it. Whatever fails says by its [`TransactionError`] what to
//! do.
//!
//! # Waiting
//!
//! Calls that talk to brokers take a timeout and can be made again where it was too short, so that between two of them a worker can
//! poll its consumer and look whether it shall stop. Most end in time; [`TransactionalProducer::send_offsets`] may take up to
//! `socket.timeout.ms` (by itself a little less than `transaction.timeout.ms`) where its coordinator doesn't answer. All of it is
//! far from `max.poll.interval.ms`, and heartbeats go on meanwhile.
//!
//! # Invariants
//!
//! - A commit that succeeded is known to have succeeded at the brokers; a doubtful one is never taken for either.
//! - `transactional.id` is taken away from any predecessor by `init`, which ends the predecessor's open transaction at once. Without a
//!   successor the brokers end it after `transaction.timeout.ms`, and look for such ones every 10 s by default.
//! - A producer that is dropped with an open transaction leaves it to its successor.

mod error;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

pub use self::error::{FencedBy, TransactionError};
use self::error::{Scope, fatal, judge_call};
use crate::error::Error;
use crate::native::{CallFailure, GroupMetadata, send_offsets};
use crate::producer::{NotSent, ProducerOptions, Record, Sending};
use crate::settings::ClientSettings;

/// The default of `transaction.timeout.ms`, in milliseconds: so long may a worker that has died stall whoever takes its partitions over and whoever
/// reads committed messages only.
pub const TRANSACTION_TIMEOUT_MS: u64 = 10_000;

/// How long a call of librdkafka may take at least. Its first step is only a word with a thread of its own; were that cut short,
/// the next call could take its answer for its own.
const LEAST_TIMEOUT: Duration = Duration::from_millis(250);

/// Messages of a transactional producer belong to no epoch.
const NO_EPOCH: usize = 0;

/// What the open transaction is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `init` has not succeeded yet.
    New,
    /// There is none.
    Ready,
    /// It takes messages, or has failed and waits to be aborted.
    Open,
    /// It was asked to commit, and the answer is missing.
    Committing,
    /// It was asked to abort, and the answer is missing.
    Aborting,
}

/// A transactional producer of one worker.
pub struct TransactionalProducer {
    sending: Sending,
    id: String,
    state: State,
}

impl TransactionalProducer {
    /// Makes a producer with this `transactional.id`: stable over restarts, so that a restart fences its predecessor, and different from
    /// that of every other worker. No broker is needed yet.
    ///
    /// `transaction.timeout.ms` is 10 s unless set. librdkafka bounds by it how long a message may wait (`message.timeout.ms`) and a
    /// request may take (`socket.timeout.ms`, 100 ms less); where these are set too, they must not be longer.
    ///
    /// # Errors
    /// The errors of properties.
    pub fn new(settings: &ClientSettings, options: ProducerOptions, id: impl Into<String>) -> Result<Self, Error> {
        let id = id.into();
        let timeout = TRANSACTION_TIMEOUT_MS.to_string();
        let defaults = [
            ("transaction.timeout.ms", timeout.as_str()),
            // The brokers end a transaction a few milliseconds after they have answered its commit, and the next one has to ask again
            // until then. By itself librdkafka asks after 100 ms.
            ("retry.backoff.ms", "10"),
        ];
        let sending = Sending::new(settings, options, &defaults, &[("transactional.id", &id)])?;
        Ok(Self { sending, id, state: State::New })
    }

    /// Takes the `transactional.id` over: fences any predecessor, and waits until its last transaction has ended. It goes on in the
    /// background when the timeout is over, so with a short one it can be called until it succeeds. Afterwards it does nothing.
    ///
    /// # Errors
    /// [`TransactionError::Retriable`]: call it again. [`TransactionError::Fatal`], among others where the brokers don't allow such a
    /// `transaction.timeout.ms`.
    pub fn init(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        if self.state != State::New {
            return Ok(());
        }
        let initialized = self.sending.client().init_transactions(timeout.max(LEAST_TIMEOUT));
        self.sending.serve();
        self.judge(initialized.map_err(CallFailure::from), Scope::Init)?;
        self.state = State::Ready;
        Ok(())
    }

    /// Sends a message as part of the open transaction, and begins one where there is none. Where the queue is full, it waits until
    /// there is room, or until `stop` is true.
    ///
    /// # Errors
    /// [`TransactionError::Refused`] for this message if it can't be queued (too large, no such partition), and
    /// [`TransactionError::Stopped`]: it is not sent, and the transaction is as before. [`TransactionError::Abortable`], also where an
    /// earlier message was not delivered. [`TransactionError::Doubtful`] while a commit is unanswered. [`TransactionError::Fenced`] and
    /// [`TransactionError::Fatal`].
    pub fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), TransactionError> {
        self.begin()?;
        match self.sending.send(record, NO_EPOCH, stop) {
            Ok(()) => Ok(()),
            Err(NotSent::Stopped) => Err(TransactionError::Stopped),
            Err(NotSent::Failed(error)) => Err(self.delivery_failed(error)),
            // The transaction has failed meanwhile, or the producer has: whichever it is, librdkafka says why.
            Err(NotSent::Refused { code: Some(RDKafkaErrorCode::State | RDKafkaErrorCode::Fatal), error }) => {
                let begun = self.sending.client().begin_transaction();
                self.judge(begun.map_err(CallFailure::from), Scope::Transaction)?;
                Err(TransactionError::Fatal(error))
            }
            Err(NotSent::Refused { error, .. }) => Err(TransactionError::Refused(error)),
        }
    }

    /// Serves delivery reports without waiting. To be called now and then while a transaction is open and nothing is sent: it bounds
    /// memory, and a delivery that failed shows.
    ///
    /// # Errors
    /// As [`TransactionalProducer::send`].
    pub fn serve(&mut self) -> Result<(), TransactionError> {
        self.sending.serve();
        self.fail_if_failed()
    }

    /// Makes input offsets (each the last processed one plus 1) part of the open transaction, and begins one where there is none: the
    /// group has them if the transaction is committed. `group` is to be asked for after the consumer's last poll, and partitions
    /// that were revoked or lost are to be left out by then: of a member whose generation is right, brokers take any.
    ///
    /// # Errors
    /// [`TransactionError::Retriable`]: call it again with the same offsets. [`TransactionError::Abortable`]: also where the group is
    /// just going on to another generation. [`TransactionError::Fenced`] by the group where it has gone on without this member.
    /// [`TransactionError::Doubtful`] while a commit is unanswered, and [`TransactionError::Fatal`].
    pub fn send_offsets(
        &mut self,
        topic: &str,
        offsets: &[(i32, i64)],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), TransactionError> {
        if offsets.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
            added.map_err(|error| {
                TransactionError::Refused(Error::failed(format!("naming an offset of partition {partition}"), &error))
            })?;
        }
        let sent = send_offsets(self.sending.client().client(), &list, group, timeout.max(LEAST_TIMEOUT));
        self.sending.serve();
        self.judge(sent, Scope::Offsets { group: &group.group() })
    }

    /// Waits until everything sent is acknowledged and commits the open transaction. Does nothing where none is open.
    ///
    /// # Errors
    /// [`TransactionError::Retriable`]: not everything is acknowledged yet, and nothing was committed; call it again, or abort.
    /// [`TransactionError::Doubtful`]: call it again, and nothing else. [`TransactionError::Abortable`],
    /// [`TransactionError::Fenced`] and [`TransactionError::Fatal`].
    pub fn commit(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        let until = Instant::now() + timeout;
        match self.state {
            State::New | State::Ready => return Ok(()),
            State::Aborting => return Err(still_aborting()),
            // Only then is librdkafka told: it takes back no commit that it has begun, not even one that waits for messages.
            State::Open => self.flush(until, timeout)?,
            State::Committing => {}
        }
        let left = until.saturating_duration_since(Instant::now()).max(LEAST_TIMEOUT);
        let committed = self.sending.client().commit_transaction(left);
        self.sending.serve();
        let outcome = self.judge(committed.map_err(CallFailure::from), Scope::Commit);
        self.state = match outcome {
            Ok(()) => State::Ready,
            Err(TransactionError::Doubtful { .. }) => State::Committing,
            Err(_) => State::Open,
        };
        outcome
    }

    /// Aborts the open transaction: nothing of it is ever read as committed. Does nothing where none is open.
    ///
    /// # Errors
    /// [`TransactionError::Retriable`]: call it again. [`TransactionError::Doubtful`] while a commit is unanswered: that can't be
    /// taken back. [`TransactionError::Fenced`] and [`TransactionError::Fatal`], where it isn't even known that it was not committed.
    pub fn abort(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        match self.state {
            State::New | State::Ready => return Ok(()),
            State::Committing => return Err(unanswered()),
            State::Open | State::Aborting => {}
        }
        self.state = State::Aborting;
        let aborted = self.abort_within(timeout.max(LEAST_TIMEOUT))?;
        self.sending.serve();
        let outcome = self.judge(aborted.map_err(CallFailure::from), Scope::Abort);
        match outcome {
            Ok(()) => {
                self.sending.forgive_deliveries();
                self.state = State::Ready;
            }
            Err(TransactionError::Retriable { .. }) => {}
            // librdkafka says it again to whatever is tried next.
            Err(_) => self.state = State::Open,
        }
        outcome
    }

    /// Whether a transaction is open, so that there is something to commit or to abort.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::New | State::Ready)
    }

    /// How many messages were sent whose delivery has not been reported yet.
    pub fn in_flight(&self) -> usize {
        self.sending.in_flight()
    }

    /// Its `transactional.id`.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        match self.state {
            State::Open => Ok(()),
            State::Committing => Err(unanswered()),
            State::Aborting => Err(still_aborting()),
            State::New | State::Ready => {
                let begun = self.sending.client().begin_transaction();
                self.judge(begun.map_err(CallFailure::from), Scope::Transaction)?;
                self.state = State::Open;
                Ok(())
            }
        }
    }

    /// Waits until everything sent is acknowledged.
    fn flush(&self, until: Instant, timeout: Duration) -> Result<(), TransactionError> {
        loop {
            self.sending.serve();
            self.fail_if_failed()?;
            if self.in_flight() == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                let waited = Error::TimedOut { what: self.sending.missing(), waited: timeout };
                let what = "committing a transaction".to_owned();
                return Err(TransactionError::Retriable { what, reason: waited.to_string() });
            }
            self.sending.hurry();
        }
    }

    /// librdkafka throws away what is queued and waits until that is reported, so somebody must serve the reports meanwhile.
    fn abort_within(&self, timeout: Duration) -> Result<Result<(), KafkaError>, TransactionError> {
        let is_over = AtomicBool::new(false);
        let serve = || {
            while !is_over.load(Ordering::Relaxed) {
                self.sending.wait();
            }
        };
        std::thread::scope(|scope| {
            let server = std::thread::Builder::new().name("abort".to_owned()).spawn_scoped(scope, serve);
            server.map_err(|error| TransactionError::Retriable {
                what: "aborting a transaction".to_owned(),
                reason: format!("no thread can be started: {error}"),
            })?;
            let aborted = self.sending.client().abort_transaction(timeout);
            is_over.store(true, Ordering::Relaxed);
            Ok(aborted)
        })
    }

    fn fail_if_failed(&self) -> Result<(), TransactionError> {
        self.sending.failure().map_or(Ok(()), |error| Err(self.delivery_failed(error)))
    }

    /// What a message that was not delivered means.
    fn delivery_failed(&self, error: Error) -> TransactionError {
        match (self.sending.fatal(), error) {
            (Some((code, reason)), _) => fatal(code, reason, &self.id, &self.sending),
            (None, error @ Error::Delivery { .. }) => TransactionError::Abortable(error),
            (None, error) => TransactionError::Fatal(error),
        }
    }

    fn judge(&self, outcome: Result<(), CallFailure>, scope: Scope<'_>) -> Result<(), TransactionError> {
        outcome.map_err(|failure| judge_call(&failure, scope, &self.id, &self.sending))
    }
}

impl std::fmt::Debug for TransactionalProducer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TransactionalProducer")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

fn unanswered() -> TransactionError {
    TransactionError::Doubtful { reason: "its commit has not been answered yet".to_owned() }
}

fn still_aborting() -> TransactionError {
    let reason = "abort it to the end first".to_owned();
    TransactionError::Abortable(Error::Failed { what: "going on with an aborted transaction".to_owned(), reason })
}
