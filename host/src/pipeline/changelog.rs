//! The changelog of a partition that this process has: what each commit writes, when a snapshot is due, and what may be
//! deleted then. With each commit go the partition's totals, for other processes.
//!
//! Invariants:
//! - The first commit of a changelog has a whole snapshot, so there is always one to restore from.
//! - Before a snapshot begins, the changelog's end is asked for: nothing before that is needed once the snapshot is committed.
//! - What a commit wrote changes nothing here until it is known to be committed; aborted, it is as if it had never been.

mod janitor;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use loginscope_kafka::{Error, Record};
use loginscope_state::{CommitHead, NotInDelta, Partition, Restored, SnapshotCursor, Term, Writer};

pub use self::janitor::{Janitor, Request};
use super::batch::PartitionState;

/// How large snapshots are, and how often there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSizes {
    /// The least that a slice of a snapshot takes, in bytes. It is also at least twice the size of the delta beside it, so that
    /// new keys never outrun the snapshot.
    pub slice_bytes: usize,
    /// A snapshot is due when what came since the last one began is larger than it, and than this, in bytes.
    pub least_tail_bytes: u64,
}

impl Default for SnapshotSizes {
    fn default() -> Self {
        Self { slice_bytes: 64 * 1024, least_tail_bytes: 4 << 20 }
    }
}

/// Where a worker keeps state.
#[derive(Clone, Debug)]
pub struct Home {
    /// The changelog topic, which has a partition for each of the input.
    pub changelog: Arc<str>,
    /// The topic where each partition's totals are told to other processes; none where there is only one partition.
    pub totals: Option<Arc<str>>,
    /// Writes commits.
    pub writer: Writer,
    /// Looks after the changelog topic.
    pub janitor: Janitor,
    /// How large snapshots are.
    pub snapshots: SnapshotSizes,
}

/// A record of the state, to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    topic: Arc<str>,
    partition: i32,
    key: Option<String>,
    payload: Vec<u8>,
}

impl StateRecord {
    /// As it is sent.
    pub fn as_record(&self) -> Record<'_> {
        Record {
            topic: &self.topic,
            partition: Some(self.partition),
            key: self.key.as_deref().map(str::as_bytes),
            payload: Some(&self.payload),
            ..Record::default()
        }
    }
}

/// Writes the changelog of one partition.
pub struct Changelog {
    partition: i32,
    home: Home,
    term: Term,
    snapshot: Snapshot,
    /// How large the last snapshot is, in bytes.
    snapshot_bytes: u64,
    /// How much was written since it began, in bytes.
    tail_bytes: u64,
    /// What the open commit makes of these.
    written: Option<Written>,
}

/// How far the next snapshot is.
enum Snapshot {
    /// It isn't due.
    NotDue,
    /// It begins when it is known where the changelog ends.
    Due(Receiver<i64>),
    /// It is being written.
    Begun(Begun),
}

/// A snapshot that is being written.
#[derive(Clone, Copy)]
struct Begun {
    /// An offset of the changelog that it begins behind.
    behind: i64,
    cursor: SnapshotCursor,
    /// Whether all of it has to be in one commit, as there is none to restore from yet.
    at_once: bool,
    bytes: u64,
    /// How much else was written since it began, in bytes.
    tail_bytes: u64,
}

/// What a commit has written.
struct Written {
    delta_bytes: u64,
    /// How large its slices are, and where the snapshot goes on.
    slices: Option<(u64, Option<SnapshotCursor>)>,
}

/// What a changelog has that is no longer needed.
pub struct Obsolete {
    janitor: Janitor,
    partition: i32,
    before: i64,
}

impl Obsolete {
    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Has it deleted, in the background.
    pub fn delete(self) {
        self.janitor.delete_before(self.partition, self.before);
    }
}

impl Changelog {
    /// The changelog of a partition that has no commit yet. `term` is the highest one that was found in it all the same.
    pub fn new(partition: i32, term: Term, home: Home) -> Self {
        let begun = Begun { behind: 0, cursor: SnapshotCursor::default(), at_once: true, bytes: 0, tail_bytes: 0 };
        let snapshot = Snapshot::Begun(begun);
        Self { partition, home, term, snapshot, snapshot_bytes: 0, tail_bytes: 0, written: None }
    }

    /// The changelog that a partition was restored from. `term` is the highest one in it.
    pub fn of(partition: i32, restored: &Restored, term: Term, home: Home) -> Self {
        // Whoever wrote the snapshot may not have come to it.
        home.janitor.delete_before(partition, restored.snapshot_offset);
        let Restored { snapshot_bytes, tail_bytes, .. } = *restored;
        let snapshot = Snapshot::NotDue;
        Self { partition, home, term, snapshot, snapshot_bytes, tail_bytes, written: None }
    }

    /// The records of a commit. The partition must not change until [`Changelog::committed`] or [`Changelog::aborted`].
    /// `group_offset` is one that the group has once this is committed, or an earlier one. The generation is that of the group;
    /// none where it isn't known just now.
    ///
    /// # Errors
    /// [`Error::Failed`] where the partition has changed since its delta was taken, which is a mistake: restored, it is as it was
    /// committed last.
    pub fn write(
        &mut self,
        partition: &mut PartitionState,
        next_offset: i64,
        group_offset: i64,
        generation: Option<i32>,
    ) -> Result<Vec<StateRecord>, Error> {
        self.begin_snapshot_if_due();
        let mut records: Vec<Vec<u8>> = partition.state.delta().into_iter().collect();
        let delta_bytes = size(&records);
        let slices = match &self.snapshot {
            Snapshot::Begun(begun) => {
                let mut slices = slices(&mut partition.state, begun, self.least_slice(delta_bytes))
                    .map_err(|e| self.inconsistent(e))?;
                let written = (size(&slices.0), slices.1);
                records.append(&mut slices.0);
                Some(written)
            }
            Snapshot::NotDue | Snapshot::Due(_) => None,
        };
        self.written = Some(Written { delta_bytes, slices });
        if let Some(generation) = generation {
            self.term = self.term.at(generation.unsigned_abs());
        }
        let head = CommitHead { next_offset, group_offset, term: self.term };
        let messages = self.home.writer.commit(&head, &records).into_iter().map(|payload| StateRecord {
            topic: Arc::clone(&self.home.changelog),
            partition: self.partition,
            key: None,
            payload,
        });
        Ok(messages.chain(self.totals(partition)).collect())
    }

    /// What was written last is committed. Answers what may be deleted now.
    ///
    /// # Errors
    /// As [`Changelog::write`].
    pub fn committed(&mut self, partition: &mut PartitionState) -> Result<Option<Obsolete>, Error> {
        partition.state.end_interval().map_err(|error| self.inconsistent(error))?;
        let Some(Written { delta_bytes, slices }) = self.written.take() else { return Ok(None) };
        self.tail_bytes += delta_bytes;
        let (Snapshot::Begun(begun), Some((bytes, next))) = (&mut self.snapshot, slices) else { return Ok(None) };
        begun.bytes += bytes;
        begun.tail_bytes += delta_bytes;
        if let Some(next) = next {
            begun.cursor = next;
            return Ok(None);
        }
        (self.snapshot_bytes, self.tail_bytes) = (begun.bytes, begun.tail_bytes);
        let before = begun.behind;
        self.snapshot = Snapshot::NotDue;
        Ok(Some(Obsolete { janitor: self.home.janitor.clone(), partition: self.partition, before }))
    }

    /// Nothing since the last commit has been.
    pub fn aborted(&mut self, partition: &mut PartitionState) {
        partition.state.abort_interval();
        self.written = None;
    }

    /// How many bytes a slice has at least that goes with such a delta.
    fn least_slice(&self, delta_bytes: u64) -> usize {
        usize::try_from(2 * delta_bytes).unwrap_or(usize::MAX).max(self.home.snapshots.slice_bytes)
    }

    fn inconsistent(&self, error: NotInDelta) -> Error {
        Error::Failed { what: format!("writing the state of partition {}", self.partition), reason: error.to_string() }
    }

    /// What is told to other processes.
    fn totals(&self, partition: &mut PartitionState) -> Option<StateRecord> {
        let topic = Arc::clone(self.home.totals.as_ref()?);
        let payload = partition.totals().to_bytes();
        Some(StateRecord { topic, partition: 0, key: Some(self.partition.to_string()), payload })
    }

    fn begin_snapshot_if_due(&mut self) {
        match &self.snapshot {
            Snapshot::NotDue if self.tail_bytes >= self.snapshot_bytes.max(self.home.snapshots.least_tail_bytes) => {
                self.snapshot = Snapshot::Due(self.home.janitor.end_of(self.partition));
            }
            Snapshot::Due(end) => match end.try_recv() {
                Ok(behind) => {
                    let cursor = SnapshotCursor::default();
                    self.snapshot = Snapshot::Begun(Begun { behind, cursor, at_once: false, bytes: 0, tail_bytes: 0 });
                }
                // The broker couldn't be asked: the next commit does it again.
                Err(TryRecvError::Disconnected) => self.snapshot = Snapshot::NotDue,
                Err(TryRecvError::Empty) => {}
            },
            Snapshot::NotDue | Snapshot::Begun(_) => {}
        }
    }
}

/// The next slices of a snapshot, of at least so many bytes, and where it goes on.
fn slices(
    state: &mut Partition,
    begun: &Begun,
    bytes: usize,
) -> Result<(Vec<Vec<u8>>, Option<SnapshotCursor>), NotInDelta> {
    let (mut records, mut next) = (Vec::new(), Some(begun.cursor));
    while let Some(cursor) = next.filter(|_| begun.at_once || records.is_empty()) {
        let slice = state.slice(&cursor, bytes)?;
        records.push(slice.record);
        next = slice.next;
    }
    Ok((records, next))
}

fn size(records: &[Vec<u8>]) -> u64 {
    records.iter().map(|record| record.len() as u64).sum()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
