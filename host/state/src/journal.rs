//! The undo journal: how to take back every change since the oldest open savepoint, latest change first.
//!
//! Marks are places in one log, so savepoints nest at no cost. What an entry needs beyond its few words stands on
//! stacks beside the log, which are popped as the log is. While no savepoint is open nothing is written.

use crate::buckets::Storage;
use crate::set::Set;
use crate::sketch::Raised;
use crate::table::Table;
use crate::top::Replaced;

/// Where values are: in which member of which table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// The bucket's begin; 0 in a table without buckets.
    pub(crate) bucket: i64,
    pub(crate) table: u32,
    pub(crate) member: u32,
}

/// One change. (All in plain words, so that writing one down is storing four of them.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) bucket: i64,
    pub(crate) table: u32,
    /// The member, ranking or dictionary.
    pub(crate) part: u32,
    /// The key's id.
    pub(crate) id: u32,
    pub(crate) undo: Undo,
}

/// What takes a change back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Count one less.
    Count,
    /// Take the set's member on the stack out.
    Insert,
    /// Take back how a register of the set's sketch was raised, which is on the stack.
    Raise,
    /// Put back the set on the stack in place of its estimate.
    Estimate,
    /// Put back the latest values on the stack.
    Replace,
    /// Take the table's last key back.
    AddKey,
    /// Put the rank on the stack back.
    Rank,
    /// Rank anew, from the values as they are once everything is taken back.
    BuildRanking,
    /// Drop the bucket.
    BeginBucket,
    /// Put the bucket's table on the stack back.
    DropBucket,
    /// Take the dictionary's last name back.
    Name,
    /// Put the tables of the window before on the stack back.
    TurnWindow,
}

/// The log of changes.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    active: bool,
    log: Vec<Change>,
    /// One after the other, each with its length behind it.
    set_members: Vec<u8>,
    raised: Vec<Raised>,
    /// The sets that have an estimate in place of their members now.
    sets: Vec<Set>,
    latest: Vec<Option<Box<[u8]>>>,
    ranks: Vec<Replaced>,
    buckets: Vec<Table>,
    windows: Vec<Vec<Option<Storage>>>,
}

impl Journal {
    /// Whether changes have to be written down.
    pub(crate) fn set_active(&mut self, active: bool) {
        self.active = active;
        if !active {
            self.log.clear();
            self.set_members.clear();
            self.raised.clear();
            self.sets.clear();
            self.latest.clear();
            self.ranks.clear();
            self.buckets.clear();
            self.windows.clear();
        }
    }

    /// How many changes are written down.
    pub(crate) fn len(&self) -> usize {
        self.log.len()
    }

    #[inline]
    fn push(&mut self, undo: Undo, table: u32, part: u32, id: u32, bucket: i64) {
        if self.active {
            self.log.push(Change { bucket, table, part, id, undo });
        }
    }

    #[inline]
    pub(crate) fn counted(&mut self, at: &At, id: u32) {
        self.push(Undo::Count, at.table, at.member, id, at.bucket);
    }

    #[inline]
    pub(crate) fn inserted(&mut self, at: &At, id: u32, member: &[u8]) {
        if self.active {
            self.push(Undo::Insert, at.table, at.member, id, at.bucket);
            match <&[u8; 5]>::try_from(member) {
                // An IPv4 address: a few moves instead of a call.
                Ok(address) => self.set_members.extend_from_slice(address),
                Err(_) => self.set_members.extend_from_slice(member),
            }
            self.set_members.extend_from_slice(&(member.len() as u32).to_le_bytes());
        }
    }

    pub(crate) fn raised(&mut self, at: &At, id: u32, raised: Raised) {
        if self.active {
            self.push(Undo::Raise, at.table, at.member, id, at.bucket);
            self.raised.push(raised);
        }
    }

    pub(crate) fn estimated(&mut self, at: &At, id: u32, before: Set) {
        if self.active {
            self.push(Undo::Estimate, at.table, at.member, id, at.bucket);
            self.sets.push(before);
        }
    }

    pub(crate) fn replaced(&mut self, at: &At, id: u32, before: Option<Box<[u8]>>) {
        if self.active {
            self.push(Undo::Replace, at.table, at.member, id, at.bucket);
            self.latest.push(before);
        }
    }

    pub(crate) fn key_added(&mut self, table: u32, bucket: i64) {
        self.push(Undo::AddKey, table, 0, 0, bucket);
    }

    pub(crate) fn ranked(&mut self, table: u32, top: u32, replaced: Replaced) {
        if self.active {
            self.push(Undo::Rank, table, top, 0, 0);
            self.ranks.push(replaced);
        }
    }

    pub(crate) fn ranking_built(&mut self, table: u32, top: u32) {
        self.push(Undo::BuildRanking, table, top, 0, 0);
    }

    pub(crate) fn bucket_begun(&mut self, table: u32, bucket: i64) {
        self.push(Undo::BeginBucket, table, 0, 0, bucket);
    }

    pub(crate) fn bucket_dropped(&mut self, table: u32, bucket: i64, dropped: Table) {
        if self.active {
            self.push(Undo::DropBucket, table, 0, 0, bucket);
            self.buckets.push(dropped);
        }
    }

    pub(crate) fn named(&mut self, dictionary: u32) {
        self.push(Undo::Name, 0, dictionary, 0, 0);
    }

    pub(crate) fn window_turned(&mut self, before: Vec<Option<Storage>>) {
        if self.active {
            self.push(Undo::TurnWindow, 0, 0, 0, 0);
            self.windows.push(before);
        }
    }

    /// All changes, latest first, each with the member that it put into a set, or the register of a set's sketch that it
    /// raised.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (Change, &[u8], u16)> {
        let mut members = self.set_members.as_slice();
        let mut raised = self.raised.iter().rev();
        self.log.iter().rev().map(move |change| {
            let inserted = if change.undo == Undo::Insert { split_last(&mut members) } else { None };
            let raised = if change.undo == Undo::Raise { raised.next() } else { None };
            (*change, inserted.unwrap_or_default(), raised.map_or(0, |raised| raised.register))
        })
    }

    /// The latest change, off the log.
    pub(crate) fn pop(&mut self) -> Option<Change> {
        self.log.pop()
    }

    /// Hands the latest set member on the stack over, and takes it off.
    pub(crate) fn pop_set_member<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let mut rest = self.set_members.as_slice();
        let taken = take(split_last(&mut rest)?);
        let left = rest.len();
        self.set_members.truncate(left);
        Some(taken)
    }

    pub(crate) fn pop_raised(&mut self) -> Option<Raised> {
        self.raised.pop()
    }

    pub(crate) fn pop_set(&mut self) -> Option<Set> {
        self.sets.pop()
    }

    pub(crate) fn pop_latest(&mut self) -> Option<Box<[u8]>> {
        self.latest.pop().flatten()
    }

    pub(crate) fn pop_rank(&mut self) -> Option<Replaced> {
        self.ranks.pop()
    }

    pub(crate) fn pop_bucket(&mut self) -> Option<Table> {
        self.buckets.pop()
    }

    pub(crate) fn pop_window(&mut self) -> Option<Vec<Option<Storage>>> {
        self.windows.pop()
    }
}

/// The last of the set members, each of which has its length behind it; it is taken off.
fn split_last<'a>(members: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (rest, length) = members.split_last_chunk()?;
    let start = rest.len().checked_sub(u32::from_le_bytes(*length) as usize)?;
    let (rest, last) = rest.split_at_checked(start)?;
    *members = rest;
    Some(last)
}
