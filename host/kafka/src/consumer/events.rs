//! What librdkafka calls while a consumer is polled: rebalances are put aside for the poll to announce, results of commits are
//! remembered, log lines and errors go to the reporter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::client::{Reporter, Signal, lock};
use crate::error::describe;
use crate::settings::ClientSettings;

/// A rebalance that waits for its answer.
pub(crate) enum Rebalance {
    /// Partitions come.
    Assign(TopicPartitionList),
    /// Partitions go; `lost`: they are gone already.
    Revoke {
        /// The partitions.
        list: TopicPartitionList,
        /// Whether they belong to others already.
        lost: bool,
    },
}

/// The context of a consumer.
pub(crate) struct ConsumerEvents {
    reporter: Reporter,
    signal: Arc<Signal>,
    rebalance: Mutex<Option<Rebalance>>,
    committed: Mutex<HashMap<i32, i64>>,
    /// Commits on their way whose outcome somebody may want to know, the oldest first.
    expected: Mutex<Vec<Weak<ExpectedCommit>>>,
    is_closing: AtomicBool,
    /// Whether it is no member of a group, and so needs no right on one; librdkafka looks for the coordinator all the same.
    is_without_group: bool,
}

impl ConsumerEvents {
    pub(crate) fn new(settings: &ClientSettings, signal: Arc<Signal>) -> Self {
        Self {
            reporter: Reporter::new(settings.secrets()),
            signal,
            rebalance: Mutex::new(None),
            committed: Mutex::new(HashMap::new()),
            expected: Mutex::new(Vec::new()),
            is_closing: AtomicBool::new(false),
            is_without_group: false,
        }
    }

    /// Those of a consumer that is no member of a group.
    pub(crate) fn without_group(settings: &ClientSettings, signal: Arc<Signal>) -> Self {
        Self { is_without_group: true, ..Self::new(settings, signal) }
    }

    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    pub(super) fn take_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalance).take()
    }

    pub(super) fn begin_closing(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn committed(&self, partition: i32) -> Option<i64> {
        lock(&self.committed).get(&partition).copied()
    }

    /// Says beforehand which commit's outcome is wanted; the answer tells it when it is there.
    pub(super) fn expect_commit(&self, offsets: &[(i32, i64)]) -> Arc<ExpectedCommit> {
        let new = Arc::new(ExpectedCommit { offsets: offsets.to_vec(), outcome: Mutex::new(None) });
        let mut expected = lock(&self.expected);
        expected.retain(|commit| commit.strong_count() > 0);
        expected.push(Arc::downgrade(&new));
        new
    }

    /// The commit of these offsets (or of any, where librdkafka doesn't say) that has been on its way for the longest.
    fn take_expected(&self, offsets: &[(i32, i64)]) -> Option<Arc<ExpectedCommit>> {
        let mut expected = lock(&self.expected);
        let is_for = |commit: &Weak<ExpectedCommit>| {
            commit.upgrade().is_some_and(|commit| offsets.is_empty() || commit.is_for(offsets))
        };
        let place = expected.iter().position(is_for)?;
        expected.remove(place).upgrade()
    }

    pub(super) fn forget_committed(&self, list: &TopicPartitionList) {
        let mut committed = lock(&self.committed);
        for element in list.elements() {
            committed.remove(&element.partition());
        }
    }
}

impl ClientContext for ConsumerEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.reporter.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if self.is_without_group && error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            self.reporter.count_event();
            return;
        }
        self.reporter.error(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.reporter.count_event();
        tracing::debug!(target: "librdkafka", "statistics: {}", String::from_utf8_lossy(statistics));
    }
}

impl ConsumerContext for ConsumerEvents {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.reporter.count_event();
        let is_assign = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Relaxed) {
            if let Err(error) = give_up(consumer, if is_assign { None } else { Some(list) }) {
                tracing::warn!("giving up partitions while leaving the group: {error}");
            }
            return;
        }
        let rebalance = if is_assign {
            Rebalance::Assign(list.clone())
        } else {
            Rebalance::Revoke { list: list.clone(), lost: consumer.assignment_lost() }
        };
        *lock(&self.rebalance) = Some(rebalance);
        self.signal.queue();
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.reporter.count_event();
        let overall = match result {
            Ok(()) => Ok(()),
            Err(error) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        let outcome_of = |element: &TopicPartitionListElem<'_>| match element.error() {
            Ok(()) => overall,
            Err(error) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        let mut named = Vec::with_capacity(offsets.count());
        let mut outcome = overall;
        for element in offsets.elements() {
            let Offset::Offset(offset) = element.offset() else { continue };
            named.push((element.partition(), offset));
            match outcome_of(&element) {
                Ok(()) => drop(lock(&self.committed).insert(element.partition(), offset)),
                Err(code) => outcome = Err(code),
            }
        }
        match (self.take_expected(&named), outcome) {
            (Some(expected), outcome) => *lock(&expected.outcome) = Some(outcome),
            (None, Ok(())) => {}
            (None, Err(code)) => {
                let reason = describe(code);
                tracing::warn!(reason, "offsets were not committed; their messages may be read again after a restart");
            }
        }
    }
}

/// A commit whose outcome somebody may want to know.
#[derive(Debug)]
pub(super) struct ExpectedCommit {
    offsets: Vec<(i32, i64)>,
    outcome: Mutex<Option<Result<(), RDKafkaErrorCode>>>,
}

impl ExpectedCommit {
    /// What became of it, if that is known.
    pub(super) fn outcome(&self) -> Option<Result<(), RDKafkaErrorCode>> {
        *lock(&self.outcome)
    }

    /// Whether these are its offsets, in whatever order.
    fn is_for(&self, offsets: &[(i32, i64)]) -> bool {
        self.offsets.len() == offsets.len() && self.offsets.iter().all(|offset| offsets.contains(offset))
    }
}

/// Answers a rebalance of a consumer that leaves: it takes nothing more and gives everything up.
pub(super) fn give_up(consumer: &BaseConsumer<ConsumerEvents>, going: Option<&TopicPartitionList>) -> KafkaResult<()> {
    match (consumer.rebalance_protocol(), going) {
        (RebalanceProtocol::Cooperative, Some(going)) => consumer.incremental_unassign(going),
        (RebalanceProtocol::Cooperative, None) => consumer.incremental_assign(&TopicPartitionList::new()),
        _ => consumer.unassign(),
    }
}
