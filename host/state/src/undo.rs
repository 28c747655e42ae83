//! Savepoints, and taking back what has happened since.
//!
//! The journal's entries are taken back latest first, so each finds everything as its change left it. A catalog that
//! was adopted meanwhile stays: what it gave up is passed over, and its new rankings are made anew at the end.

use crate::aggregate::Span;
use crate::buckets::Storage;
use crate::journal::{Change, Undo};
use crate::layout::TableLayout;
use crate::partition::Partition;
use crate::table::{Member, Table};
use crate::window::Progress;

/// An open savepoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// How many changes were in the journal.
    pub(crate) position: usize,
    pub(crate) progress: Progress,
}

impl Partition {
    /// Opens a savepoint, inside those that are open.
    pub fn savepoint(&mut self) {
        self.take_back_ahead();
        self.marks.push(Mark { position: self.journal.len(), progress: self.progress });
        self.journal.set_active(true);
    }

    /// Takes back everything since the innermost open savepoint, and closes it.
    pub fn rollback(&mut self) {
        self.take_back_ahead();
        if let Some(mark) = self.pop_mark() {
            self.undo_to(mark.position);
            self.progress = mark.progress;
        }
        self.journal.set_active(!self.marks.is_empty());
    }

    /// Closes the innermost open savepoint; what has happened since then belongs to the one around it.
    pub fn release(&mut self) {
        self.pop_mark();
        self.journal.set_active(!self.marks.is_empty() || self.ahead.is_some());
    }

    /// The innermost open savepoint, which is closed. The begin of a commit interval is none.
    fn pop_mark(&mut self) -> Option<Mark> {
        let outer = usize::from(self.interval.is_some());
        if self.marks.len() > outer { self.marks.pop() } else { None }
    }

    /// Takes back what was counted ahead of being observed.
    pub(crate) fn take_back_ahead(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            self.undo_to(ahead.position);
            self.spare = ahead.prepared;
            self.journal.set_active(!self.marks.is_empty());
        }
    }

    pub(crate) fn undo_to(&mut self, position: usize) {
        let mut rankings = Vec::new();
        while self.journal.len() > position {
            match self.journal.pop() {
                Some(Change { undo: Undo::BuildRanking, table, part, .. }) => {
                    rankings.push((table as usize, part as usize));
                }
                Some(change) => self.undo(change),
                None => break,
            }
        }
        for (number, top) in rankings {
            let layout = self.layout.tables.get(number).and_then(Option::as_ref);
            if let (Some(layout), Some(Some(state))) = (layout, self.tables.get_mut(number)) {
                state.current.tables_mut().for_each(|table| table.rank(layout, top));
            }
        }
    }

    fn undo(&mut self, change: Change) {
        let Change { bucket, table, part, id, undo } = change;
        match undo {
            Undo::Count => {
                if let Some(member) = self.member(change) {
                    member.uncount(id);
                }
            }
            Undo::Insert => {
                let mut value = Vec::new();
                self.journal.pop_set_member(|member| value.extend_from_slice(member));
                if let Some(member) = self.member(change) {
                    member.remove(id, &value);
                }
            }
            Undo::Raise => {
                let raised = self.journal.pop_raised();
                if let (Some(member), Some(raised)) = (self.member(change), raised) {
                    member.change_set(id, |set| set.take_back(raised));
                }
            }
            Undo::Estimate => {
                let before = self.journal.pop_set();
                if let (Some(member), Some(before)) = (self.member(change), before) {
                    member.change_set(id, |set| *set = before);
                }
            }
            Undo::Replace => {
                let before = self.journal.pop_latest();
                if let Some(member) = self.member(change) {
                    member.put_back(id, before);
                }
            }
            Undo::AddKey => {
                if let Some((_, table)) = self.table(table, bucket) {
                    table.pop_key();
                }
            }
            Undo::Rank => self.rank_back(table, part as usize),
            Undo::BeginBucket => {
                if let Some((_, Storage::Buckets(tables))) = self.storage(table) {
                    tables.remove(&bucket);
                }
            }
            Undo::DropBucket => {
                let dropped = self.journal.pop_bucket();
                if let (Some((layout, Storage::Buckets(tables))), Some(mut dropped)) = (self.storage(table), dropped) {
                    dropped.conform(layout);
                    tables.insert(bucket, dropped);
                }
            }
            Undo::Name => {
                if let Some(Some(dictionary)) = self.dictionaries.get_mut(part as usize) {
                    dictionary.pop();
                }
            }
            Undo::TurnWindow => self.turn_window_back(),
            Undo::BuildRanking => {}
        }
    }

    fn storage(&mut self, table: u32) -> Option<(&TableLayout, &mut Storage)> {
        let layout = self.layout.table(table as usize)?;
        Some((layout, &mut self.tables.get_mut(table as usize)?.as_mut()?.current))
    }

    fn table(&mut self, table: u32, bucket: i64) -> Option<(&TableLayout, &mut Table)> {
        let (layout, storage) = self.storage(table)?;
        Some((layout, storage.table_mut(bucket)?))
    }

    fn member(&mut self, change: Change) -> Option<&mut Member> {
        self.table(change.table, change.bucket)?.1.member_mut(change.part as usize)
    }

    fn rank_back(&mut self, table: u32, top: usize) {
        let Some(replaced) = self.journal.pop_rank() else { return };
        let Some((layout, table)) = self.table(table, 0) else { return };
        if let Some(Some(layout)) = layout.tops.get(top)
            && let Some(Some(top)) = table.tops.get_mut(top)
        {
            top.take_back(replaced, layout.rank_by.len());
        }
    }

    fn turn_window_back(&mut self) {
        let mut before = self.journal.pop_window().unwrap_or_default();
        before.resize_with(self.tables.len(), || None);
        for ((state, layout), before) in self.tables.iter_mut().zip(&self.layout.tables).zip(before) {
            if let (Some(state), Some(layout)) = (state, layout)
                && layout.span == Span::Window
            {
                state.current = state.previous.take().unwrap_or_else(|| Storage::new(layout));
                state.previous = before;
                state.conform(layout);
            }
        }
    }
}
