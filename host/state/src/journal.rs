//! The undo journal: how to take back every change since the oldest open savepoint, latest change first.
//!
//! Marks are places in one log, so savepoints nest at no cost. What an entry needs beyond its few words stands on
//! stacks beside the log, which are popped as the log is. While no savepoint is open nothing is written.

use crate::buckets::Storage;
use crate::table::Table;
use crate::top::Replaced;

/// A value of a table: which key's, of which member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The bucket's begin; 0 in a table without buckets.
    pub(crate) bucket: i64,
    pub(crate) table: u32,
    pub(crate) member: u32,
    pub(crate) id: u32,
}

/// One change, as what takes it back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Undo {
    /// Count one less.
    Counted(Cell),
    /// Take the set's member on the stack out.
    Inserted(Cell),
    /// Put back the latest values on the stack.
    Replaced(Cell),
    /// Take the table's last key back.
    KeyAdded { bucket: i64, table: u32 },
    /// Put the rank on the stack back.
    Ranked { table: u32, top: u32 },
    /// Rank anew, from the values as they are once everything is taken back.
    RankingBuilt { table: u32, top: u32 },
    /// Drop the bucket.
    BucketBegun { bucket: i64, table: u32 },
    /// Put the bucket's table on the stack back.
    BucketDropped { bucket: i64, table: u32 },
    /// Take the dictionary's last name back.
    Named { dictionary: u32 },
    /// Put the tables of the window before on the stack back.
    WindowTurned,
}

/// The log of changes.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    active: bool,
    log: Vec<Undo>,
    /// One after the other, each with its length behind it.
    set_members: Vec<u8>,
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
    pub(crate) fn push(&mut self, undo: Undo) {
        if self.active {
            self.log.push(undo);
        }
    }

    #[inline]
    pub(crate) fn inserted(&mut self, cell: Cell, member: &[u8]) {
        if self.active {
            self.log.push(Undo::Inserted(cell));
            self.set_members.extend_from_slice(member);
            self.set_members.extend_from_slice(&(member.len() as u32).to_le_bytes());
        }
    }

    pub(crate) fn replaced(&mut self, cell: Cell, before: Option<Box<[u8]>>) {
        if self.active {
            self.log.push(Undo::Replaced(cell));
            self.latest.push(before);
        }
    }

    pub(crate) fn ranked(&mut self, table: u32, top: u32, replaced: Replaced) {
        if self.active {
            self.log.push(Undo::Ranked { table, top });
            self.ranks.push(replaced);
        }
    }

    pub(crate) fn bucket_dropped(&mut self, table: u32, bucket: i64, dropped: Table) {
        if self.active {
            self.log.push(Undo::BucketDropped { bucket, table });
            self.buckets.push(dropped);
        }
    }

    pub(crate) fn window_turned(&mut self, before: Vec<Option<Storage>>) {
        if self.active {
            self.log.push(Undo::WindowTurned);
            self.windows.push(before);
        }
    }

    /// The latest change, off the log.
    pub(crate) fn pop(&mut self) -> Option<Undo> {
        self.log.pop()
    }

    /// Hands the latest set member on the stack over, and takes it off.
    pub(crate) fn pop_set_member<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let (members, length) = self.set_members.split_last_chunk()?;
        let start = members.len().checked_sub(u32::from_le_bytes(*length) as usize)?;
        let taken = take(members.get(start..)?);
        self.set_members.truncate(start);
        Some(taken)
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
