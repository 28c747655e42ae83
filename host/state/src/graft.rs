//! Grafting: aggregates that a partition lacks become part of it, whole, as they were counted elsewhere from its history.
//!
//! A partition *lacks* a backfilled aggregate of its catalog ([`Catalog::with_backfilled`]) that it doesn't keep: it has no place, is
//! counted nowhere, and the changelog says nothing about it. So whoever restores the partition lacks it, too, and nobody takes an
//! empty aggregate for one that was counted.
//!
//! What is grafted goes where it would be had it been counted here: into the table of its keys, which others may share. That is
//! nothing a rollback could take back, so it happens between two commit intervals. The delta of the next one has all of it
//! (`Unwritten`), and a commit counts as a whole: a changelog has an aggregate with all that it counted, or not at all.
//!
//! Which values of a field keep their names is one matter for all aggregates that limit it alike (`dictionary`).
//! So the history is counted with the [`Names`] that the partition has given, and what it has named besides is named here from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::aggregate::Span;
use crate::buckets::{Storage, is_visible};
use crate::catalog::{Aggregate, Catalog};
use crate::dictionary::Dictionary;
use crate::interner::Interner;
use crate::layout::{DictionaryLayout, Layout, Place, TableLayout};
use crate::partition::{Partition, TableState};
use crate::shape::Head;
use crate::sharded::hash;
use crate::table::{Cells, Kind, Member, Table};
use crate::unit::{Unit, UnitPlace};
use crate::window::Progress;

/// Why a history can't be grafted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGrafted {
    /// Logins that were counted may still be taken back.
    #[error("the partition has an open savepoint or commit interval")]
    Open,
    /// Other values of a field keep their names: the history is to be counted anew, with those that the partition has given by now.
    #[error("the partition has given names to values that have none in the history")]
    OtherNames,
}

/// The values that keep their names in a partition, by field and limit.
#[derive(Clone, Debug, Default)]
pub struct Names {
    all: Vec<(DictionaryLayout, Interner)>,
}

/// What was grafted and isn't in the changelog yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unwritten {
    /// The units that keys were added to, and how many of their keys the changelog has.
    pub(crate) known_keys: BTreeMap<Unit, usize>,
    /// The tables' members of which the changelog has nothing.
    members: BTreeSet<(usize, usize)>,
}

impl Unwritten {
    /// The members of a table of which the changelog has nothing.
    pub(crate) fn members_of(&self, table: u32) -> BTreeSet<usize> {
        let of_table = self.members.range((table as usize, 0)..=(table as usize, usize::MAX));
        of_table.map(|(_, member)| *member).collect()
    }
}

/// Where an aggregate is in the history, and where it is to be.
#[derive(Clone, Copy)]
struct Move {
    from: (usize, usize),
    to: (usize, usize),
}

impl Partition {
    /// A partition without logins that begins in the middle of a topic: it lacks what is backfilled.
    pub fn without_history(catalog: Arc<Catalog>, insight_every: u32) -> Self {
        let births = catalog.aggregates.iter().map(|aggregate| (!aggregate.is_backfilled).then_some(0));
        let layout = Layout::default().evolve(&catalog, &births.collect::<Vec<Option<u32>>>());
        Self::with_layout(catalog, layout, Head { insight_every, next_birth: 1, progress: Progress::default() })
    }

    /// The aggregates that are in its catalog and that it doesn't keep, by plugin and name. Logins must not be counted as long as a
    /// plugin asks for one of them.
    pub fn lacking(&self) -> impl Iterator<Item = (&str, &str)> {
        let places = self.catalog.aggregates.iter().zip(&self.layout.places);
        let lacking = places.filter(|(aggregate, place)| **place == Place::Absent && aggregate.values().is_some());
        lacking.map(|(aggregate, _)| (aggregate.plugin.as_str(), aggregate.definition.name.as_str()))
    }

    /// The aggregates that it would lack if it adopted this catalog, by plugin and name.
    pub fn would_lack<'a>(&self, catalog: &'a Catalog) -> Vec<(&'a str, &'a str)> {
        let is_lacking = |aggregate: &&Aggregate| aggregate.is_backfilled && self.place_of(aggregate).is_none();
        let lacking = catalog.aggregates.iter().filter(is_lacking);
        lacking.map(|aggregate| (aggregate.plugin.as_str(), aggregate.definition.name.as_str())).collect()
    }

    /// Where the values of this very aggregate are, of the same plugin, name and definition.
    fn place_of(&self, aggregate: &Aggregate) -> Option<(usize, usize)> {
        let (index, found) = self.catalog.find(&aggregate.plugin, &aggregate.definition.name)?;
        match self.layout.places.get(index)? {
            Place::Member { table, member } if found.definition == aggregate.definition => Some((*table, *member)),
            _ => None,
        }
    }

    /// The values that keep their names.
    pub fn names(&self) -> Names {
        let all = self.layout.dictionaries.iter().zip(&self.dictionaries);
        let all = all.filter_map(|(layout, dictionary)| Some(((*layout)?, dictionary.as_ref()?.names.clone())));
        Names { all: all.collect() }
    }

    /// Has values keep their names that do so in another partition of the same schema, before any login is counted.
    pub fn give_the_same_names(&mut self, names: &Names) {
        for (layout, dictionary) in self.layout.dictionaries.iter().zip(&mut self.dictionaries) {
            let (Some(layout), Some(dictionary)) = (layout, dictionary) else { continue };
            if let Some((_, names)) = names.all.iter().find(|(other, _)| other == layout) {
                dictionary.names = names.clone();
            }
        }
    }

    /// Takes over what it lacks and a partition of the same schema keeps that has counted the same messages, and their
    /// past.
    ///
    /// # Errors
    /// See [`NotGrafted`].
    pub fn graft(&mut self, mut history: Self) -> Result<(), NotGrafted> {
        self.take_back_ahead();
        history.take_back_ahead();
        if !self.marks.is_empty() {
            return Err(NotGrafted::Open);
        }
        let aggregates = self.catalog.aggregates.iter().zip(&self.layout.places);
        let found = aggregates.map(|(aggregate, place)| match place {
            Place::Absent if aggregate.definition.span == Span::Total => history.place_of(aggregate),
            _ => None,
        });
        let found: Vec<Option<(usize, usize)>> = found.collect();
        self.take_names(&history, &found)?;
        let births = self.layout.places.iter().zip(&found);
        let births = births.map(|(place, found)| self.layout.birth(*place).or(found.map(|_| self.next_birth)));
        let births: Vec<Option<u32>> = births.collect();
        self.follow(Arc::clone(&self.catalog), &births);
        let moves = found.iter().zip(&self.layout.places).filter_map(|(from, place)| match (from, place) {
            (Some(from), Place::Member { table, member }) => Some(Move { from: *from, to: (*table, *member) }),
            _ => None,
        });
        for one in moves.collect::<Vec<Move>>() {
            // Equal aggregates share their values.
            if self.unwritten.members.insert(one.to) {
                self.take_values(&mut history, one);
            }
        }
        Ok(())
    }

    /// Gives the names that the history has given besides those of this partition.
    fn take_names(&mut self, history: &Self, found: &[Option<(usize, usize)>]) -> Result<(), NotGrafted> {
        let tables: BTreeSet<usize> = found.iter().flatten().map(|(table, _)| *table).collect();
        let tables = tables.into_iter().filter_map(|table| history.layout.table(table));
        let used: BTreeSet<usize> = tables.flat_map(|table| table.key.iter().filter_map(|it| it.dictionary)).collect();
        let given = used.into_iter().filter_map(|number| {
            Some(((*history.layout.dictionaries.get(number)?)?, &history.dictionaries.get(number)?.as_ref()?.names))
        });
        let given: Vec<(DictionaryLayout, &Interner)> = given.collect();
        let own = self.names();
        for (layout, names) in &given {
            let is_given = |name: &[u8]| names.find(hash(name), name).is_some();
            let own = own.all.iter().filter(|(other, _)| other == layout);
            if !own.flat_map(|(_, names)| names.iter()).all(is_given) {
                return Err(NotGrafted::OtherNames);
            }
        }
        for (layout, names) in given {
            let number = self.layout.dictionary(layout);
            self.dictionaries.resize_with(self.layout.dictionaries.len(), || None);
            let Some(dictionary) = self.dictionaries.get_mut(number) else { continue };
            let own = &mut dictionary.get_or_insert_with(Dictionary::default).names;
            self.unwritten.known_keys.entry(Unit::dictionary(number as u32)).or_insert(own.len());
            for name in names.iter() {
                find_or_insert(own, name);
            }
        }
        Ok(())
    }

    /// Takes the values of an aggregate out of the history, and its keys as far as they aren't there yet.
    fn take_values(&mut self, history: &mut Self, Move { from, to }: Move) {
        let watermark = self.progress.watermark;
        let Some((layout, Some(Some(state)))) = self.layout.table(to.0).zip(Some(self.tables.get_mut(to.0))) else {
            return;
        };
        let Some(Some(TableState { current: theirs, .. })) = history.tables.get_mut(from.0) else { return };
        let place = UnitPlace::Table(to.0 as u32);
        let known_keys = &mut self.unwritten.known_keys;
        let mut take = |bucket: i64, ours: &mut Table, theirs: &mut Table| {
            known_keys.entry(Unit { place, window: 0, bucket }).or_insert(ours.keys.len());
            take_column(ours, to.1, theirs, from.1, layout);
        };
        match (&mut state.current, theirs) {
            (Storage::Plain(ours), Storage::Plain(theirs)) => take(0, ours, theirs),
            (Storage::Buckets(ours), Storage::Buckets(theirs)) => {
                let has_values = |table: &Table| table.member(from.1).is_some_and(|member| member.keys > 0);
                for (bucket, theirs) in theirs.iter_mut().filter(|(_, theirs)| has_values(theirs)) {
                    if layout.buckets.is_some_and(|buckets| is_visible(*bucket, buckets, watermark)) {
                        take(*bucket, ours.entry(*bucket).or_insert_with(|| Table::new(layout)), theirs);
                    }
                }
            }
            (Storage::Plain(_), Storage::Buckets(_)) | (Storage::Buckets(_), Storage::Plain(_)) => {}
        }
    }
}

/// Moves the values of a member from one table to another, and ranks that anew.
fn take_column(ours: &mut Table, to: usize, theirs: &mut Table, from: usize, layout: &TableLayout) {
    let Table { keys, members, .. } = theirs;
    let (Some(Some(theirs)), Some(kept)) = (members.get_mut(from), layout.members.get(to).and_then(Option::as_ref))
    else {
        return;
    };
    let mut taken = Member::new(Kind::of(&kept.kept));
    for id in (0..theirs.len() as u32).filter(|id| theirs.value(*id) > 0).collect::<Vec<u32>>() {
        taken.take(find_or_insert(&mut ours.keys, keys.key(id)), theirs, id);
    }
    // It fits: it did in the history.
    let _ = taken.recount();
    if let Some(member) = ours.members.get_mut(to) {
        *member = Some(taken);
    }
    for top in 0..layout.tops.len() {
        ours.rank(layout, top);
    }
}

impl Member {
    /// Takes the value of another one's key for one of its own.
    fn take(&mut self, id: u32, other: &mut Self, from: u32) {
        let (id, from) = (id as usize, from as usize);
        match (&mut self.cells, &mut other.cells) {
            (Cells::Counts(ours), Cells::Counts(theirs)) => take(ours.grown_to(id), theirs.get_mut(from)),
            (Cells::Sets(ours), Cells::Sets(theirs)) => take(ours.grown_to(id), theirs.get_mut(from)),
            (Cells::Latest(ours), Cells::Latest(theirs)) => take(ours.grown_to(id), theirs.get_mut(from)),
            // Both were made for the same definition.
            (Cells::Counts(_) | Cells::Sets(_) | Cells::Latest(_), _) => {}
        }
    }
}

fn take<T: Default>(ours: Option<&mut T>, theirs: Option<&mut T>) {
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        *ours = std::mem::take(theirs);
    }
}

fn find_or_insert(keys: &mut Interner, key: &[u8]) -> u32 {
    let hash = hash(key);
    keys.find(hash, key).unwrap_or_else(|| keys.insert(hash, key))
}
