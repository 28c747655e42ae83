//! What goes into a group consumer, and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use super::StartPosition;
use crate::client::Signal;
use crate::native::Batch;

/// What a group consumer needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// The topic to read.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// `group.instance.id`: a name that stays the same over restarts and differs from every other member's. With it, a restart
    /// within the session timeout causes no rebalance.
    pub instance: Option<String>,
    /// Where to start in a partition for which the group has no committed offset.
    pub start: StartPosition,
    /// How many partitions this member is likely to own: the more there are, the less of each waits here to be taken.
    pub likely_partitions: u32,
    /// How long the topic may be missing before that is an error.
    pub missing_topic_patience: Duration,
}

impl ConsumerOptions {
    /// A member of this group that reads this topic, from the earliest offset if the group is new.
    pub fn new(topic: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            group: group.into(),
            instance: None,
            start: StartPosition::Earliest,
            likely_partitions: 1,
            missing_topic_patience: Duration::from_secs(30),
        }
    }
}

/// What a poll brought.
#[derive(Debug)]
pub enum Polled<B = Batch> {
    /// Messages of one partition.
    Batch(B),
    /// Partitions come.
    Assigned(Vec<Assigned>),
    /// Partitions go with the next poll.
    Revoked(Vec<i32>),
    /// Partitions are gone: nothing of theirs can be committed.
    Lost(Vec<i32>),
    /// Nothing within the timeout, or [`Waker::wake`] was called.
    Nothing,
}

/// A partition that was assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: i32,
    /// The offset that the group has committed; `None`: nothing.
    pub committed: Option<i64>,
    /// The offset that reading starts from unless the partition is held: what the group has committed, or what the start position
    /// says. `None`: the earliest one that there is.
    pub next_offset: Option<i64>,
}

/// How far a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The partition.
    pub partition: i32,
    /// The offset after the last message handed out, markers of transactions included. `None` while the partition is held, or its
    /// earliest offset not known yet.
    pub next_offset: Option<i64>,
    /// The offset after the last message that the broker has, as of the last fetch.
    pub high_watermark: Option<i64>,
    /// What was committed last, if anything was since the assignment.
    pub committed: Option<i64>,
}

impl PartitionProgress {
    /// How many messages are still to be handed out, as far as known.
    pub fn lag(&self) -> Option<u64> {
        Some(u64::try_from(self.high_watermark? - self.next_offset?).unwrap_or(0))
    }
}

/// Ends a poll that waits, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Signal>);

impl Waker {
    pub(super) fn new(signal: &Arc<Signal>) -> Self {
        Self(Arc::clone(signal))
    }

    /// Makes the poll that waits now, or else the next one that would wait, return at once.
    pub fn wake(&self) {
        self.0.call();
    }
}
