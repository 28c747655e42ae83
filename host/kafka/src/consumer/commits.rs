//! Committing offsets: only when asked to, with a limit in time, and with the outcome known.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::Consumer;
use crate::error::{Error, describe};
use crate::native::commit_with_event;

/// How long a commit may take whose caller sets no limit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one wait for the outcome of a commit takes at most.
const SLICE: Duration = Duration::from_millis(50);

impl Consumer {
    /// Commits offsets (each the last processed one plus 1) and waits until the broker has them, at most half a minute.
    ///
    /// # Errors
    /// As [`Consumer::commit_within`].
    pub fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error> {
        self.commit_within(offsets, COMMIT_TIMEOUT)
    }

    /// Commits offsets and waits until the broker has them, at most this long.
    ///
    /// # Errors
    /// [`Error::CommitFenced`] where the partitions belong to another member by now, [`Error::TimedOut`] (the broker may or may not
    /// have them), else [`Error::Commit`].
    pub fn commit_within(&mut self, offsets: &[(i32, i64)], timeout: Duration) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + timeout;
        let ticket = self.client.context().expect_commit(offsets);
        self.commit_async(offsets)?;
        loop {
            self.serve_once(SLICE)?;
            match ticket.outcome() {
                Some(Ok(())) => return Ok(()),
                Some(Err(code)) => return Err(self.commit_refused(code)),
                None if Instant::now() >= until => {
                    let what = format!("committing offsets of the group {:?}", self.options.group);
                    return Err(Error::TimedOut { what, waited: timeout });
                }
                None => {}
            }
        }
    }

    /// Commits offsets without waiting. What became of it shows in [`Consumer::progress`] after a later poll; a refusal is logged.
    ///
    /// # Errors
    /// Where librdkafka doesn't even take the request.
    pub fn commit_async(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let list = self.offset_list(offsets)?;
        commit_with_event(&self.client, &list).map_err(|code| self.commit_refused(code))
    }

    fn offset_list(&self, offsets: &[(i32, i64)]) -> Result<TopicPartitionList, Error> {
        self.list(offsets.iter().map(|(partition, offset)| (*partition, Offset::Offset(*offset))))
    }

    fn commit_refused(&self, code: RDKafkaErrorCode) -> Error {
        let group = self.options.group.clone();
        let reason = describe(code);
        match code {
            RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::FencedInstanceId
            | RDKafkaErrorCode::AssignmentLost
            | RDKafkaErrorCode::FencedMemberEpoch
            | RDKafkaErrorCode::StaleMemberEpoch => Error::CommitFenced { group, reason },
            RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed => {
                Error::NotAuthorized { action: format!("commit offsets of the group {group:?}"), reason }
            }
            _ => Error::Commit { group, reason },
        }
    }
}
