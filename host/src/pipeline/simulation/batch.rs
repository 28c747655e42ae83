//! What consumers hand out: messages, and commits on their way.

use std::sync::{Arc, Mutex};

use loginscope_kafka::Error;

use super::group::Membership;
use crate::pipeline::clients::{LogMessage, MessageBatch, PendingCommit};

/// A commit on its way.
pub(super) struct CommitModel {
    pub(super) offsets: Vec<(i32, i64)>,
    pub(super) membership: Membership,
    pub(super) outcome: Mutex<Option<Result<(), Error>>>,
}

/// As whoever asked for it sees it.
pub(super) struct Commit(pub(super) Arc<CommitModel>);

impl PendingCommit for Commit {
    fn outcome(&self) -> Option<Result<(), Error>> {
        self.0.outcome.lock().unwrap().clone()
    }
}

/// Messages of a partition of the input or of a log.
pub(super) struct Batch {
    pub(super) partition: i32,
    pub(super) messages: Vec<BatchMessage>,
}

pub(super) struct BatchMessage {
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Vec<u8>,
}

impl MessageBatch for Batch {
    fn partition(&self) -> i32 {
        self.partition
    }

    fn count(&self) -> usize {
        self.messages.len()
    }

    fn first_offset(&self) -> Option<i64> {
        self.messages.first().map(|first| first.offset)
    }

    fn next_offset(&self) -> i64 {
        self.messages.last().map_or(0, |last| last.offset + 1)
    }

    fn truncate(&mut self, count: usize) {
        self.messages.truncate(count);
    }

    fn messages(&self) -> impl Iterator<Item = LogMessage<'_>> {
        self.messages.iter().map(|message| LogMessage {
            offset: message.offset,
            key: message.key.as_deref(),
            payload: Some(&message.payload),
        })
    }
}
