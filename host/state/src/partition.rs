//! Everything that is kept of one partition, and how it changes: accepted logins, windows, catalogs, savepoints.
//!
//! Invariants:
//! - Every accepted login is counted exactly once in every aggregate that counts it, however the logins are cut into
//!   batches and whether or not some of them were counted ahead for [`history`](crate::history).
//! - Every change is in the journal while a savepoint is open. Scalars aren't: a mark holds a copy of them.
//! - What was counted ahead lies at the journal's end: it is observed, or taken back before anything else happens.

use std::sync::Arc;

use loginscope_login::Logins;

use crate::aggregate::Span;
use crate::batch::Prepared;
use crate::buckets::Storage;
use crate::catalog::Catalog;
use crate::dictionary::Dictionary;
use crate::graft::Unwritten;
use crate::history::Ahead;
use crate::interval::Interval;
use crate::journal::Journal;
use crate::layout::{Layout, TableLayout};
use crate::pass::Pass;
use crate::shape::Head;
use crate::undo::Mark;
use crate::window::{CompletedWindow, Progress, WindowProgress};

/// What is kept of one partition.
#[derive(Debug)]
pub struct Partition {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) layout: Layout,
    /// The birth of the aggregates that the next catalog brings.
    pub(crate) next_birth: u32,
    pub(crate) insight_every: u32,
    pub(crate) progress: Progress,
    /// By their place in the layout, as the tables are.
    pub(crate) dictionaries: Vec<Option<Dictionary>>,
    pub(crate) tables: Vec<Option<TableState>>,
    pub(crate) journal: Journal,
    pub(crate) marks: Vec<Mark>,
    /// The open commit interval, which begins at the outermost mark.
    pub(crate) interval: Option<Interval>,
    /// What the changelog has of the scalars, as of the last commit; nothing before the first one.
    pub(crate) known: Option<Head>,
    /// What was grafted and isn't in the changelog yet.
    pub(crate) unwritten: Unwritten,
    pub(crate) ahead: Option<Box<Ahead>>,
    /// Room for the next batch's work, to be used again.
    pub(crate) spare: Prepared,
}

/// A table, and for span [`Span::Window`] that of the window before.
#[derive(Clone, Debug)]
pub(crate) struct TableState {
    pub(crate) current: Storage,
    pub(crate) previous: Option<Storage>,
}

impl Partition {
    /// A partition without logins, whose windows have this many, at least 1.
    pub fn new(catalog: Arc<Catalog>, insight_every: u32) -> Self {
        let births = vec![Some(0); catalog.aggregates.len()];
        let layout = Layout::default().evolve(&catalog, &births);
        Self::with_layout(catalog, layout, Head { insight_every, next_birth: 1, progress: Progress::default() })
    }

    /// A partition in which everything has its place and nothing has values yet.
    pub(crate) fn with_layout(catalog: Arc<Catalog>, layout: Layout, head: Head) -> Self {
        let mut partition = Self {
            layout,
            catalog,
            next_birth: head.next_birth,
            insight_every: head.insight_every.max(1),
            progress: head.progress,
            dictionaries: Vec::new(),
            tables: Vec::new(),
            journal: Journal::default(),
            marks: Vec::new(),
            interval: None,
            known: None,
            unwritten: Unwritten::default(),
            ahead: None,
            spare: Prepared::default(),
        };
        partition.conform();
        partition
    }

    /// Makes what is kept follow another catalog, from the next login on. Aggregates with the plugin, name and
    /// definition of one that is kept go on as they are, new ones start empty, and what is gone is dropped. A ranking
    /// shows what the aggregates that it ranks by hold, and so is complete at once. New ones that are backfilled are
    /// [`lacking`](Self::lacking).
    ///
    /// Savepoints stay open: a rollback takes back the logins, not the catalog.
    pub fn adopt(&mut self, catalog: Arc<Catalog>) {
        self.take_back_ahead();
        let births: Vec<Option<u32>> = catalog
            .aggregates
            .iter()
            .map(|aggregate| {
                let before = self.catalog.find(&aggregate.plugin, &aggregate.definition.name);
                let same = before.filter(|(_, before)| before.definition == aggregate.definition);
                let place = same.and_then(|(index, _)| self.layout.places.get(index));
                let birth = place.and_then(|place| self.layout.birth(*place));
                birth.or((!aggregate.is_backfilled).then_some(self.next_birth))
            })
            .collect();
        self.follow(catalog, &births);
    }

    /// Makes what is kept follow a catalog whose aggregates began then.
    pub(crate) fn follow(&mut self, catalog: Arc<Catalog>, births: &[Option<u32>]) {
        self.layout = self.layout.evolve(&catalog, births);
        self.catalog = catalog;
        self.next_birth += 1;
        self.conform();
    }

    /// Makes the tables what the layout says.
    fn conform(&mut self) {
        self.dictionaries.resize_with(self.layout.dictionaries.len(), || None);
        for (dictionary, layout) in self.dictionaries.iter_mut().zip(&self.layout.dictionaries) {
            match layout {
                Some(_) => drop(dictionary.get_or_insert_default()),
                None => *dictionary = None,
            }
        }
        self.tables.resize_with(self.layout.tables.len(), || None);
        for (number, (state, layout)) in self.tables.iter_mut().zip(&self.layout.tables).enumerate() {
            let Some(layout) = layout else {
                *state = None;
                continue;
            };
            let state = state.get_or_insert_with(|| TableState { current: Storage::new(layout), previous: None });
            for top in state.conform(layout) {
                self.journal.ranking_built(number as u32, top as u32);
            }
        }
    }

    /// Sets how many accepted logins make a window, at least 1, from the current window on. One that has as many
    /// already is complete.
    pub fn set_insight_every(&mut self, insight_every: u32) {
        self.insight_every = insight_every.max(1);
    }

    /// The catalog that it follows.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// How many more accepted logins until the window is complete, at least 1: for a complete one, until the next is.
    pub fn room(&self) -> usize {
        let missing = self.insight_every.saturating_sub(self.progress.facts.logins);
        (if missing == 0 { self.insight_every } else { missing }) as usize
    }

    /// Counts accepted logins, at most [`room`](Self::room) of them and later ones than all before. A complete window
    /// that is still open is closed first.
    pub fn observe(&mut self, logins: &Logins) {
        if logins.rows() == 0 {
            return;
        }
        debug_assert!(logins.rows() <= self.room(), "a window never has more logins than it is to have");
        let mut ahead = self.ahead_of(logins);
        if self.completed_window().is_some() {
            self.turn_window();
        }
        for slot in self.layout.encoded_slots() {
            ahead.prepared.encode(logins, slot);
        }
        for dictionary in 0..self.dictionaries.len() {
            self.give_names(&mut ahead.prepared, logins, dictionary);
        }
        for table in 0..self.tables.len() {
            self.observe_table(table, logins, &mut ahead);
        }
        self.progress.observe(logins);
        self.free_buckets();
        self.spare = ahead.prepared;
        self.journal.set_active(!self.marks.is_empty());
    }

    /// Counts the logins in all members of a table that haven't counted them ahead.
    fn observe_table(&mut self, number: usize, logins: &Logins, ahead: &mut Ahead) {
        let Some((layout, state)) = self.layout.table(number).zip(self.tables.get_mut(number)) else { return };
        let Some(state) = state else { return };
        let counted: Vec<usize> =
            (0..layout.members.len()).filter(|member| !ahead.counted.contains(&(number, *member))).collect();
        let (most_members, journal) = (self.catalog.exact_distinct, &mut self.journal);
        let mut pass = Pass { number: number as u32, layout, most_members, logins, prepared: &ahead.prepared, journal };
        match (&mut state.current, layout.buckets) {
            (Storage::Plain(table), _) => {
                let mut ids = ahead.ids.remove(&number).unwrap_or_default();
                pass.plain(table, &counted, &mut [], &mut ids);
                pass.rank(table, &ids);
            }
            (Storage::Buckets(tables), Some(buckets)) => pass.bucketed(tables, buckets, &counted, &mut []),
            (Storage::Buckets(_), None) => {}
        }
    }

    /// Gives names to the values of a dictionary's field, if that isn't done yet for this batch.
    pub(crate) fn give_names(&mut self, prepared: &mut Prepared, logins: &Logins, number: usize) {
        let Some(Some(layout)) = self.layout.dictionaries.get(number) else { return };
        let Some(Some(dictionary)) = self.dictionaries.get_mut(number) else { return };
        prepared.name(number, layout.slot, |values| {
            dictionary.name(*layout, number as u32, values, logins.rows(), &mut self.journal)
        });
    }

    /// Looks which values of a dictionary's field have names.
    pub(crate) fn peek_names(&self, prepared: &mut Prepared, logins: &Logins, number: usize) {
        let Some(Some(layout)) = self.layout.dictionaries.get(number) else { return };
        let Some(Some(dictionary)) = self.dictionaries.get(number) else { return };
        prepared.name(number, layout.slot, |values| dictionary.peek(*layout, values, logins.rows()));
    }

    fn free_buckets(&mut self) {
        for (number, (state, layout)) in self.tables.iter_mut().zip(&self.layout.tables).enumerate() {
            if let (Some(state), Some(layout)) = (state, layout) {
                state.current.free(layout, number as u32, self.progress.watermark, &mut self.journal);
            }
        }
    }

    /// Counts rejected logins that came before the next accepted one.
    pub fn count_rejected(&mut self, how_many: u64) {
        self.progress.facts.rejected += how_many;
    }

    /// Whether logins of one user may be in other partitions, too, so that what is known per user is partial.
    pub fn is_unkeyed(&self) -> bool {
        self.progress.is_unkeyed
    }

    /// Says whether logins of one user may be in other partitions, too.
    pub fn set_unkeyed(&mut self, is_unkeyed: bool) {
        self.progress.is_unkeyed = is_unkeyed;
    }

    /// The current window, once it is complete.
    pub fn completed_window(&self) -> Option<CompletedWindow> {
        let Progress { number, facts, previous, .. } = self.progress;
        (facts.logins >= self.insight_every).then_some(CompletedWindow { number, facts, previous })
    }

    /// Closes a complete window and begins the next one; nothing where it isn't complete.
    pub fn begin_next_window(&mut self) {
        if self.completed_window().is_some() {
            self.take_back_ahead();
            self.turn_window();
        }
    }

    fn turn_window(&mut self) {
        let mut before = Vec::new();
        for (state, layout) in self.tables.iter_mut().zip(&self.layout.tables) {
            before.push(match (state, layout) {
                (Some(state), Some(layout)) if layout.span == Span::Window => {
                    let ended = std::mem::replace(&mut state.current, Storage::new(layout));
                    state.previous.replace(ended)
                }
                _ => None,
            });
        }
        self.journal.window_turned(before);
        self.progress.begin_next_window();
    }

    /// The number of the current window and how many accepted logins it has.
    pub fn window_progress(&self) -> WindowProgress {
        WindowProgress { number: self.progress.number, logins: self.progress.facts.logins }
    }

    /// The offset of the last accepted login.
    pub fn last_accepted_offset(&self) -> Option<i64> {
        self.progress.last_accepted_offset
    }
}

impl TableState {
    /// Makes both tables what the layout says. Returns the rankings that are new in the current one.
    pub(crate) fn conform(&mut self, layout: &TableLayout) -> Vec<usize> {
        for table in self.previous.iter_mut().flat_map(Storage::tables_mut) {
            for top in table.conform(layout) {
                table.rank(layout, top);
            }
        }
        let mut new = Vec::new();
        for table in self.current.tables_mut() {
            new = table.conform(layout);
            for top in &new {
                table.rank(layout, *top);
            }
        }
        new
    }
}
