//! The totals of partitions that other processes have, from the topic where each commit tells its partition's.
//!
//! Invariant: before a partition that was assigned takes its first login, everything is known here that its former owner could
//! know. So what a partition's windows say of others never goes back, whoever has it.
//!
//! As all instances read it first, it also tells that a rebuild of the group's state has begun and must be finished.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loginscope_kafka::{ChangelogRead, ClientSettings, Error, Read, ReadFrom, Reader};
use loginscope_state::PartitionTotals;

use super::clients::{Clients, LogReader as _, MessageBatch, Turn};
use super::totals::TotalsBoard;

/// How long a request may take before it is made again.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one wait for messages takes at most.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// The most messages taken at once.
pub(super) const MAX_MESSAGES: usize = 1000;

/// The key of the record that is there while a rebuild has begun and isn't finished, among those of partitions.
pub const REBUILD: &str = "rebuild";

/// A rebuild has begun and isn't finished, so that some users' state is where they are no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rebuild of the group's state has begun and was not finished: run `loginscope state rebuild --from-beginning` again, to its \
     end"
)]
pub struct RebuildUnfinished;

/// Reads the topic to its end.
pub struct CatchUp<K: Clients> {
    /// None until a broker has answered.
    reader: Option<K::Reader>,
    /// Whether a rebuild has begun and isn't finished, as far as is read.
    is_rebuilding: bool,
}

impl<K: Clients> Default for CatchUp<K> {
    fn default() -> Self {
        Self { reader: None, is_rebuilding: false }
    }
}

impl<K: Clients> CatchUp<K> {
    /// Reads on. A broker that doesn't answer is waited for.
    ///
    /// # Errors
    /// [`RebuildUnfinished`], and what else a person must solve.
    pub fn turn(&mut self, kafka: &K::Settings, topic: &str, board: &TotalsBoard) -> anyhow::Result<Turn> {
        let Some(reader) = &mut self.reader else {
            return match K::reader(kafka, topic, &[0], OPEN_TIMEOUT) {
                Ok(reader) => {
                    self.reader = Some(reader);
                    Ok(Turn::Next)
                }
                Err(error) => Ok(said_or_fatal(error).map(|()| Turn::After(POLL))?),
            };
        };
        match reader.poll(MAX_MESSAGES, POLL) {
            Ok(ChangelogRead::Batch(batch)) => {
                let of_rebuild = batch.messages().filter(|message| message.key == Some(REBUILD.as_bytes()));
                if let Some(last) = of_rebuild.last() {
                    self.is_rebuilding = last.payload.is_some();
                }
                take(&batch, board);
            }
            Ok(ChangelogRead::End(_)) if self.is_rebuilding => return Err(RebuildUnfinished.into()),
            Ok(ChangelogRead::End(_)) => return Ok(Turn::Done),
            Ok(ChangelogRead::Nothing) => {}
            // What a partition told last is never deleted.
            Err(Error::Deleted { .. }) => *self = Self::default(),
            Err(error) => return Err(error.into()),
        }
        Ok(Turn::Next)
    }
}

/// Reads the topic and whatever comes, until `stop`.
///
/// # Errors
/// What a person must solve.
pub fn follow(kafka: &ClientSettings, topic: &str, board: &TotalsBoard, stop: &AtomicBool) -> Result<(), Error> {
    let is_wanted = || !stop.load(Ordering::Relaxed);
    while is_wanted() {
        let mut reader = match Reader::open(kafka, topic, &ReadFrom::Beginning, OPEN_TIMEOUT) {
            Ok(reader) => reader,
            Err(error) => {
                said_or_fatal(error)?;
                std::thread::sleep(POLL);
                continue;
            }
        };
        while is_wanted() {
            if let Read::Batch(batch) = reader.poll(MAX_MESSAGES, POLL)? {
                take(&batch, board);
            }
        }
    }
    Ok(())
}

/// Says an error that passes by itself.
///
/// # Errors
/// One that doesn't.
fn said_or_fatal(error: Error) -> Result<(), Error> {
    if error.may_pass() {
        tracing::warn!("the totals of other processes can't be read yet; trying again: {error}");
        return Ok(());
    }
    Err(error)
}

/// Puts the totals that these messages tell on the board.
pub(super) fn take(batch: &impl MessageBatch, board: &TotalsBoard) {
    for message in batch.messages() {
        let partition = message.key.and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
        match (partition, message.payload.map(PartitionTotals::from_bytes)) {
            (Some(partition), Some(Ok(totals))) => board.offer(partition, totals),
            // Another version may be among the others, and its totals are in no insight of this one.
            (Some(_), Some(Err(error))) => {
                tracing::warn!(offset = message.offset, "totals that can't be read: {error}");
            }
            (_, None) | (None, _) => {}
        }
    }
}
