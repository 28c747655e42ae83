//! A partition as bytes, and back: everything but open savepoints.
//!
//! The bytes begin with a number that says how they are to be read. Aggregates are found again by plugin, name and
//! definition, tables and dictionaries by what they are made of; so the catalog that they are read for may differ from
//! the one that they were written with, as in [`Partition::adopt`]. Nothing in them is trusted: sums and rankings are
//! worked out anew, and what doesn't fit together is refused.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::aggregate::Definition;
use crate::buckets::Storage;
use crate::catalog::Catalog;
use crate::compile::Kept;
use crate::dictionary::Dictionary;
use crate::layout::{Place, TableLayout};
use crate::partition::{Partition, TableState};
use crate::table::{Cells, Latest, Member, Table};
use crate::value::is_key_of;
use crate::window::Progress;

/// How the bytes are to be read.
const VERSION: u32 = 1;

/// Why a partition can't be read from bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// They were written in another version's way.
    #[error("the state is of version {found}, and this program reads version {VERSION}")]
    Version {
        /// The number at their begin.
        found: u32,
    },
    /// They are damaged.
    #[error("the state is damaged: {0}")]
    Damaged(String),
}

/// A partition but for its aggregates' values, as it is written.
#[derive(Serialize, Deserialize)]
struct Saved {
    insight_every: u32,
    next_birth: u32,
    progress: Progress,
    aggregates: Vec<SavedAggregate>,
    dictionaries: Vec<(SavedDictionary, Dictionary)>,
    tables: usize,
}

/// An aggregate that is no ranking, and where its values are.
#[derive(Serialize, Deserialize)]
struct SavedAggregate {
    plugin: String,
    definition: Definition,
    birth: u32,
    table: usize,
    member: usize,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct SavedDictionary {
    field: String,
    limit: u32,
}

impl Partition {
    /// Everything that is kept, to be read by [`Partition::from_bytes`]. What was counted ahead for
    /// [`history`](Self::history) is in it, so it is to be called between batches.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory can't fail, and all sequences know their lengths.
        let _ = postcard::to_io(&VERSION, &mut bytes);
        let _ = postcard::to_io(&self.saved(), &mut bytes);
        for (number, state) in self.tables.iter().enumerate() {
            if let Some(state) = state {
                let _ = postcard::to_io(&(number, &state.current, &state.previous), &mut bytes);
            }
        }
        bytes
    }

    fn saved(&self) -> Saved {
        let aggregates = self.catalog.aggregates.iter().zip(&self.layout.places);
        let aggregates = aggregates.filter_map(|(aggregate, place)| match place {
            Place::Member { table, member } => Some(SavedAggregate {
                plugin: aggregate.plugin.clone(),
                definition: aggregate.definition.clone(),
                birth: self.layout.birth(*place)?,
                table: *table,
                member: *member,
            }),
            Place::Top { .. } => None,
        });
        let dictionaries = (0..self.dictionaries.len()).filter_map(|number| {
            let dictionary = self.dictionaries.get(number)?.as_ref()?;
            Some((saved_dictionary(&self.catalog, &self.layout, number)?, dictionary.clone()))
        });
        Saved {
            insight_every: self.insight_every,
            next_birth: self.next_birth,
            progress: self.progress,
            aggregates: aggregates.collect(),
            dictionaries: dictionaries.collect(),
            tables: self.tables.iter().flatten().count(),
        }
    }

    /// A partition as it was when these bytes were written, for this catalog: aggregates that the bytes don't have
    /// start empty, and those that the catalog doesn't have are dropped.
    ///
    /// # Errors
    /// Where the bytes are of another version, or damaged.
    pub fn from_bytes(bytes: &[u8], catalog: Arc<Catalog>) -> Result<Self, RestoreError> {
        let (found, bytes) = postcard::take_from_bytes::<u32>(bytes).map_err(malformed)?;
        if found != VERSION {
            return Err(RestoreError::Version { found });
        }
        let (saved, mut bytes) = postcard::take_from_bytes::<Saved>(bytes).map_err(malformed)?;
        let birth = |index: usize| {
            let aggregate = catalog.aggregates.get(index)?;
            let is_it =
                |saved: &&SavedAggregate| saved.plugin == aggregate.plugin && saved.definition == aggregate.definition;
            saved.aggregates.iter().find(is_it)
        };
        let found: Vec<Option<&SavedAggregate>> = (0..catalog.aggregates.len()).map(birth).collect();
        let births: Vec<u32> = found.iter().map(|found| found.map_or(saved.next_birth, |found| found.birth)).collect();
        let mut partition =
            Self::with_births(catalog, saved.insight_every, &births, saved.next_birth.saturating_add(1));
        partition.progress = saved.progress;
        // Where what was kept at a place is kept now.
        let moves: Vec<(usize, usize, Place)> = found
            .iter()
            .zip(&partition.layout.places)
            .filter_map(|(found, place)| found.map(|found| (found.table, found.member, *place)))
            .collect();
        for _ in 0..saved.tables {
            let (table, rest) =
                postcard::take_from_bytes::<(usize, Storage, Option<Storage>)>(bytes).map_err(malformed)?;
            partition.restore_table(table, &moves)?;
            bytes = rest;
        }
        partition.restore_dictionaries(saved.dictionaries);
        if bytes.is_empty() { Ok(partition) } else { Err(damaged("there are bytes behind its end")) }
    }

    fn restore_table(
        &mut self,
        (number, current, previous): (usize, Storage, Option<Storage>),
        moves: &[(usize, usize, Place)],
    ) -> Result<(), RestoreError> {
        let moves = moves.iter().filter_map(|(table, member, place)| match place {
            Place::Member { table: new_table, member: new_member } if *table == number => {
                Some((*member, *new_table, *new_member))
            }
            _ => None,
        });
        let moves: Vec<(usize, usize, usize)> = moves.collect();
        let Some((_, new_table, _)) = moves.first().copied() else { return Ok(()) };
        let layout = self.layout.table(new_table).filter(|_| moves.iter().all(|(_, table, _)| *table == new_table));
        let layout = layout.ok_or_else(|| damaged("its aggregates don't share their tables as they should"))?;
        let moves: Vec<(usize, usize)> = moves.iter().map(|(old, _, new)| (*old, *new)).collect();
        let mut state = TableState {
            current: restored(current, layout, &moves)?,
            previous: previous.map(|previous| restored(previous, layout, &moves)).transpose()?,
        };
        state.conform(layout);
        if let Some(place) = self.tables.get_mut(new_table) {
            *place = Some(state);
        }
        Ok(())
    }

    fn restore_dictionaries(&mut self, saved: Vec<(SavedDictionary, Dictionary)>) {
        for (saved, dictionary) in saved {
            let is_it = |number: &usize| {
                saved_dictionary(&self.catalog, &self.layout, *number).is_some_and(|layout| layout == saved)
            };
            let number = (0..self.dictionaries.len()).find(is_it);
            if let Some(place) = number.and_then(|number| self.dictionaries.get_mut(number)) {
                *place = Some(dictionary);
            }
        }
    }
}

fn damaged(reason: &str) -> RestoreError {
    RestoreError::Damaged(reason.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn malformed(error: postcard::Error) -> RestoreError {
    RestoreError::Damaged(error.to_string())
}

fn saved_dictionary(catalog: &Catalog, layout: &crate::layout::Layout, number: usize) -> Option<SavedDictionary> {
    let dictionary = layout.dictionaries.get(number)?.as_ref()?;
    let field = catalog.schema.field(dictionary.slot)?.name.clone();
    Some(SavedDictionary { field, limit: dictionary.limit })
}

/// Tables that were read, their members moved to their new places, checked against the layout.
fn restored(mut storage: Storage, layout: &TableLayout, moves: &[(usize, usize)]) -> Result<Storage, RestoreError> {
    if matches!(storage, Storage::Buckets(_)) != layout.buckets.is_some() {
        return Err(damaged("a table has time buckets and should not, or the other way round"));
    }
    for table in storage.tables_mut() {
        let mut members = Vec::new();
        members.resize_with(layout.members.len(), || None);
        for (old, new) in moves {
            let member = table.members.get(*old).cloned().flatten();
            let kept = layout.members.get(*new).and_then(Option::as_ref).map(|member| &member.kept);
            let (Some(mut member), Some(kept)) = (member, kept) else {
                return Err(damaged("a table lacks the values of an aggregate"));
            };
            check(&mut member, kept, table)?;
            if let Some(place) = members.get_mut(*new) {
                *place = Some(member);
            }
        }
        if !table.keys.iter().all(|key| is_key_of(key, layout.key.len())) {
            return Err(damaged("a key is malformed"));
        }
        table.members = members;
    }
    Ok(storage)
}

/// Checks the values of an aggregate, and works out what follows from them.
fn check(member: &mut Member, kept: &Kept, table: &Table) -> Result<(), RestoreError> {
    let fits = match (&member.cells, kept) {
        (Cells::Counts(_), Kept::Count) | (Cells::Sets(_), Kept::Distinct(_)) => true,
        (Cells::Latest(all), Kept::Latest(fields)) => all
            .iter()
            .flatten()
            .all(|bytes| Latest::read(bytes).is_some_and(|latest| is_key_of(latest.values, fields.len()))),
        _ => false,
    };
    if !fits || member.len() > table.keys.len() {
        return Err(damaged("the values of an aggregate are malformed"));
    }
    let values = || (0..member.len() as u32).map(|id| member.value(id));
    let sum =
        values().try_fold(0, u64::checked_add).ok_or_else(|| damaged("the values of an aggregate are too large"))?;
    member.keys = values().filter(|value| *value > 0).count() as u64;
    member.sum = if matches!(kept, Kept::Latest(_)) { 0 } else { sum };
    Ok(())
}
