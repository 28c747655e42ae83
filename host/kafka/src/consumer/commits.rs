//! Committing offsets: only when asked to, with a limit in time, and with the outcome known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::Consumer;
use super::events::ExpectedCommit;
use crate::error::{Error, Meaning, describe, judge};
use crate::native::commit_with_event;

/// How long a commit may take whose caller sets no limit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one wait for the outcome of a commit takes at most.
const SLICE: Duration = Duration::from_millis(50);

/// A commit on its way. Its outcome comes with a later poll of its consumer; dropped, it goes on unwatched.
#[derive(Debug)]
#[must_use = "offsets whose commit fails are to be committed again"]
pub struct Commit {
    expected: Option<Arc<ExpectedCommit>>,
    group: String,
}

impl Commit {
    /// What became of it; `None` as long as that isn't known. The errors are those of [`Consumer::commit_within`].
    pub fn outcome(&self) -> Option<Result<(), Error>> {
        let Some(expected) = &self.expected else { return Some(Ok(())) };
        expected.outcome().map(|outcome| outcome.map_err(|code| refused(&self.group, code)))
    }
}

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
        let commit = self.commit_async(offsets)?;
        loop {
            self.serve_once(SLICE)?;
            match commit.outcome() {
                Some(outcome) => return outcome,
                None if Instant::now() >= until => {
                    let what = format!("committing offsets of the group {:?}", self.options.group);
                    return Err(Error::TimedOut { what, waited: timeout });
                }
                None => {}
            }
        }
    }

    /// Commits offsets without waiting. The outcome shows in the answer after a later poll, and, where it is taken, in
    /// [`Consumer::progress`].
    ///
    /// # Errors
    /// Where librdkafka doesn't even take the request: as [`Consumer::commit_within`].
    pub fn commit_async(&mut self, offsets: &[(i32, i64)]) -> Result<Commit, Error> {
        let group = self.options.group.clone();
        if offsets.is_empty() {
            return Ok(Commit { expected: None, group });
        }
        let list = self.offset_list(offsets)?;
        let expected = self.client.context().expect_commit(offsets);
        commit_with_event(&self.client, &list).map_err(|code| refused(&group, code))?;
        Ok(Commit { expected: Some(expected), group })
    }

    fn offset_list(&self, offsets: &[(i32, i64)]) -> Result<TopicPartitionList, Error> {
        self.list(offsets.iter().map(|(partition, offset)| (*partition, Offset::Offset(*offset))))
    }
}

/// The error of a commit that the group didn't take.
fn refused(group: &str, code: RDKafkaErrorCode) -> Error {
    if let Meaning::Permanent(error @ Error::NotAuthorized { .. }) =
        judge(code, "", &format!("commit offsets of the group {group:?}"), "Read")
    {
        return error;
    }
    let group = group.to_owned();
    let reason = describe(code);
    match code {
        RDKafkaErrorCode::IllegalGeneration
        | RDKafkaErrorCode::UnknownMemberId
        | RDKafkaErrorCode::FencedInstanceId
        | RDKafkaErrorCode::AssignmentLost
        | RDKafkaErrorCode::FencedMemberEpoch
        | RDKafkaErrorCode::StaleMemberEpoch => Error::CommitFenced { group, reason },
        _ => Error::Commit { group, reason },
    }
}
