//! A partition's changelog: its commits, one behind the other, each in one or more messages.
//!
//! A commit says from which input offset on to go on, and holds records: what changed ([`delta`](Partition::delta)), and
//! slices of a snapshot. It is written as messages `part i of n`, each small enough for its topic:
//!
//! ```text
//! message  "LS" … (`record`)  writer: 8 bytes  term (era, generation)  part  parts  a piece of the commit
//! commit   next offset  group offset  how many records, each behind its length
//! ```
//!
//! A message of no parts is a claim: from there on only its writer's messages count in its term. Where transactions see to
//! that already, nobody needs to claim.
//!
//! Invariants:
//! - A commit counts when all of its parts are there, in order. Parts that another commit follows count for nothing.
//! - What is written in a lower term behind a message of a higher one counts for nothing: somebody else has the partition by
//!   then.
//! - A log may begin at any commit before the first slice of a complete snapshot.
//! - A changelog may begin anew ([`Writer::anew`]): what is before that counts for nothing from then on.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::interval::NotInDelta;
use crate::partition::Partition;
use crate::persist::{RestoreError, damaged};
use crate::record::{Kind, begin, open, seal};
use crate::replica::{Applied, Replica};
use crate::slice::SnapshotCursor;
use crate::wire::{Input, put, put_bytes, put_signed};

/// What a message has beside its piece of the commit, in bytes, at most.
const MESSAGE_OVERHEAD: usize = 64;

/// When somebody had a partition, in the order of time: first by `era`, then by `generation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// How often the consumer group was made anew, as its generations begin anew with it.
    pub era: u32,
    /// The generation of the group.
    pub generation: u32,
}

impl Term {
    /// The term of this generation, which isn't before this one: the group has been made anew where its generation seems to
    /// be.
    #[must_use]
    pub fn at(self, generation: u32) -> Self {
        let era = if generation < self.generation { self.era.saturating_add(1) } else { self.era };
        Self { era, generation }
    }

    /// A term of this generation that is certainly after this one: not even somebody of the same generation of a group that was
    /// made anew is in it.
    #[must_use]
    pub fn after(self, generation: u32) -> Self {
        Self { era: self.era.saturating_add(1), generation }
    }
}

/// What a commit says beside what has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitHead {
    /// The input offset to go on from.
    pub next_offset: i64,
    /// The consumer group's offset is at least this one once the commit counts, and at most `next_offset`.
    pub group_offset: i64,
    /// When it was written.
    pub term: Term,
}

/// Writes a partition's changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Tells those apart that write at the same time.
    pub id: u64,
    /// The most that a message takes, in bytes.
    pub max_bytes: usize,
}

impl Writer {
    /// A commit as messages to be written one behind the other.
    pub fn commit(&self, head: &CommitHead, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let size = records.iter().map(|record| record.len() + 5).sum::<usize>();
        let mut commit = Vec::with_capacity(MESSAGE_OVERHEAD + size);
        put_signed(&mut commit, head.next_offset);
        put_signed(&mut commit, head.group_offset);
        put(&mut commit, records.len() as u64);
        for record in records {
            put_bytes(&mut commit, record);
        }
        let pieces = commit.chunks(self.max_bytes.saturating_sub(MESSAGE_OVERHEAD).max(1));
        let parts = pieces.len() as u64;
        (0..).zip(pieces).map(|(part, piece)| self.message(head.term, part, parts, piece)).collect()
    }

    /// A changelog that begins anew with a partition as it is now: messages to be written one behind the other, and all of them
    /// in one transaction, as there are several commits. Whoever reads them forgets what came before. `each` takes them.
    ///
    /// # Errors
    /// Those of `each`, and [`NotInDelta`] where the partition has open savepoints that hold something back.
    pub fn anew<E: From<NotInDelta>>(
        &self,
        head: &CommitHead,
        partition: &mut Partition,
        mut each: impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        partition.begin_interval();
        // The snapshot says all of it.
        drop(partition.delta());
        let mut records = vec![seal(begin(Kind::Anew))];
        let mut next = Some(SnapshotCursor::default());
        while let Some(cursor) = next {
            let slice = partition.slice(&cursor, self.max_bytes)?;
            records.push(slice.record);
            self.commit(head, &records).into_iter().try_for_each(&mut each)?;
            records.clear();
            next = slice.next;
        }
        Ok(partition.end_interval()?)
    }

    /// The message that says that nobody else's count any more in this term, nor in an earlier one.
    pub fn claim(&self, term: Term) -> Vec<u8> {
        self.message(term, 0, 0, &[])
    }

    fn message(&self, term: Term, part: u64, parts: u64, piece: &[u8]) -> Vec<u8> {
        let mut message = begin(Kind::Part);
        message.reserve(MESSAGE_OVERHEAD + piece.len());
        message.extend_from_slice(&self.id.to_le_bytes());
        put(&mut message, u64::from(term.era));
        put(&mut message, u64::from(term.generation));
        put(&mut message, part);
        put(&mut message, parts);
        message.extend_from_slice(piece);
        seal(message)
    }
}

/// Reads a partition's changelog, message by message.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    replica: Replica,
    /// The highest term so far.
    term: Term,
    /// Who has claimed it.
    owner: Option<u64>,
    assembly: Option<Assembly>,
    head: Option<CommitHead>,
    /// Where the snapshot begins that is read first.
    snapshot_offset: i64,
    snapshot_bytes: u64,
    tail_bytes: u64,
}

/// The parts of a commit that are there.
#[derive(Clone, Debug)]
struct Assembly {
    writer: u64,
    /// Where the first one is.
    offset: i64,
    next: u64,
    parts: u64,
    commit: Vec<u8>,
}

/// A partition as its changelog tells it.
#[derive(Debug)]
pub struct Restored {
    /// The partition.
    pub partition: Partition,
    /// What the last commit said.
    pub head: CommitHead,
    /// Where the snapshot that it was restored from begins in the changelog. Nothing before that is needed.
    pub snapshot_offset: i64,
    /// How large that snapshot is, in bytes.
    pub snapshot_bytes: u64,
    /// How much came behind it, in bytes.
    pub tail_bytes: u64,
}

impl Follower {
    /// Reads the next message, which has this offset.
    ///
    /// # Errors
    /// Where it is damaged, was written by another version, or isn't what follows. The follower is of no use then.
    pub fn read(&mut self, offset: i64, message: &[u8]) -> Result<(), RestoreError> {
        let (Kind::Part, content) = open(message)? else {
            return Err(damaged("a message is no part of a commit"));
        };
        let (writer, content) = content.split_first_chunk().ok_or_else(|| damaged("a message ends too early"))?;
        let (writer, mut input) = (u64::from_le_bytes(*writer), Input(content));
        let term = Term { era: input.small()?, generation: input.small()? };
        let (part, parts) = (input.number()?, input.number()?);
        if term > self.term {
            (self.term, self.owner, self.assembly) = (term, None, None);
        }
        if parts == 0 && term == self.term {
            (self.owner, self.assembly) = (Some(writer), None);
        }
        let counts = term == self.term && self.owner.is_none_or(|owner| owner == writer);
        if !counts || parts == 0 {
            return Ok(());
        }
        if part == 0 {
            self.assembly = Some(Assembly { writer, offset, next: 0, parts, commit: Vec::new() });
        }
        // Without its begin, it is what is left of a commit whose begin was deleted.
        let Some(assembly) = &mut self.assembly else { return Ok(()) };
        if (assembly.writer, assembly.next, assembly.parts) != (writer, part, parts) {
            return Err(damaged("a part of a commit is missing"));
        }
        assembly.next += 1;
        assembly.commit.extend_from_slice(input.0);
        match self.assembly.take_if(|assembly| assembly.next == assembly.parts) {
            Some(Assembly { offset, commit, .. }) => self.apply(offset, &commit),
            None => Ok(()),
        }
    }

    fn apply(&mut self, offset: i64, commit: &[u8]) -> Result<(), RestoreError> {
        let mut input = Input(commit);
        let (next_offset, group_offset) = (input.signed()?, input.signed()?);
        for _ in 0..input.count()? {
            let record = input.bytes()?;
            let size = record.len() as u64;
            match self.replica.apply(record)? {
                Applied::SnapshotBegan => {
                    (self.snapshot_offset, self.snapshot_bytes, self.tail_bytes) = (offset, size, 0);
                }
                Applied::Slice => self.snapshot_bytes += size,
                Applied::Other => self.tail_bytes += size,
            }
        }
        self.head = Some(CommitHead { next_offset, group_offset, term: self.term });
        Ok(())
    }

    /// The highest term so far.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The writer who has claimed it last, if any has.
    pub fn owner(&self) -> Option<u64> {
        self.owner
    }

    /// The partition as of the last commit, for this catalog (see [`Replica::into_partition`]); nothing where there is no commit.
    ///
    /// # Errors
    /// Where there are commits but no complete snapshot, or values don't fit together.
    pub fn finish(self, catalog: Arc<Catalog>) -> Result<Option<Restored>, RestoreError> {
        let Some(head) = self.head else { return Ok(None) };
        let partition = self.replica.into_partition(catalog)?;
        let (snapshot_offset, snapshot_bytes, tail_bytes) =
            (self.snapshot_offset, self.snapshot_bytes, self.tail_bytes);
        Ok(Some(Restored { partition, head, snapshot_offset, snapshot_bytes, tail_bytes }))
    }
}
