//! A partition as bytes, and back: everything but open savepoints.
//!
//! The bytes begin with a number that says how they are to be read. Aggregates are found again by plugin, name and
//! definition; so the catalog that they are read for may differ from the one that they were written with, as in
//! [`Partition::adopt`]. What is found keeps its place (`shape`), so that a partition that is read is written as the
//! same bytes again. Nothing in them is trusted: sums and rankings are worked out anew, and what doesn't fit together is
//! refused.

use std::sync::Arc;

use crate::buckets::Storage;
use crate::catalog::Catalog;
use crate::compile::Kept;
use crate::dictionary::Dictionary;
use crate::layout::TableLayout;
use crate::partition::{Partition, TableState};
use crate::record::RECORD_VERSION;
use crate::shape::{Head, Shape};
use crate::table::{Cells, Latest, Member};
use crate::value::is_key_of;

/// How the bytes are to be read.
const VERSION: u32 = 4;

/// Why a partition can't be read from bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// They were written in another version's way.
    #[error("the state is of version {found}, and this program reads version {VERSION}")]
    Version {
        /// The number at their begin.
        found: u32,
    },
    /// The records of a changelog were written in another version's way.
    #[error(
        "the changelog was written by another version of this program (its records are of format {found}, and this \
         one reads {RECORD_VERSION}): run that version"
    )]
    Record {
        /// The format's number.
        found: u8,
    },
    /// They are damaged.
    #[error("the state is damaged: {0}")]
    Damaged(String),
}

/// Everything that a partition keeps, not yet made to fit a catalog.
pub(crate) struct Parts {
    pub(crate) head: Head,
    pub(crate) shape: Shape,
    /// By their places in the shape.
    pub(crate) dictionaries: Vec<Option<Dictionary>>,
    pub(crate) tables: Vec<Option<TableState>>,
}

impl Partition {
    /// Everything that is kept, to be read by [`Partition::from_bytes`]. What was counted ahead for
    /// [`history`](Self::history) is in it, so it is to be called between batches.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory can't fail, and all sequences know their lengths.
        let _ = postcard::to_io(&VERSION, &mut bytes);
        let _ = postcard::to_io(&(self.head(), Shape::of(self)), &mut bytes);
        for dictionary in &self.dictionaries {
            let _ = postcard::to_io(dictionary, &mut bytes);
        }
        for state in &self.tables {
            let tables = state.as_ref().map(|state| (&state.current, &state.previous));
            let _ = postcard::to_io(&tables, &mut bytes);
        }
        bytes
    }

    pub(crate) fn head(&self) -> Head {
        Head { insight_every: self.insight_every, next_birth: self.next_birth, progress: self.progress }
    }

    /// A partition as it was when these bytes were written, for this catalog: aggregates that the bytes don't have
    /// start empty, or are [`lacking`](Self::lacking) where they are backfilled, and those that the catalog doesn't have are dropped.
    ///
    /// # Errors
    /// Where the bytes are of another version, or damaged.
    pub fn from_bytes(bytes: &[u8], catalog: Arc<Catalog>) -> Result<Self, RestoreError> {
        let (found, bytes) = postcard::take_from_bytes::<u32>(bytes).map_err(malformed)?;
        if found != VERSION {
            return Err(RestoreError::Version { found });
        }
        let ((head, shape), mut bytes) = postcard::take_from_bytes::<(Head, Shape)>(bytes).map_err(malformed)?;
        let (mut dictionaries, mut tables) = (Vec::new(), Vec::new());
        for _ in &shape.dictionaries {
            let (dictionary, rest) = postcard::take_from_bytes(bytes).map_err(malformed)?;
            dictionaries.push(dictionary);
            bytes = rest;
        }
        for _ in &shape.tables {
            let (state, rest) =
                postcard::take_from_bytes::<Option<(Storage, Option<Storage>)>>(bytes).map_err(malformed)?;
            tables.push(state.map(|(current, previous)| TableState { current, previous }));
            bytes = rest;
        }
        if !bytes.is_empty() {
            return Err(damaged("there are bytes behind its end"));
        }
        Self::from_parts(Parts { head, shape, dictionaries, tables }, catalog)
    }

    /// A partition that goes on with these parts, for this catalog.
    pub(crate) fn from_parts(parts: Parts, catalog: Arc<Catalog>) -> Result<Self, RestoreError> {
        let Parts { mut head, shape, dictionaries, tables } = parts;
        let kinds = shape.kinds()?;
        let found = shape.find(&catalog);
        let births = found.iter().zip(&catalog.aggregates).map(|(found, aggregate)| match found {
            Some(found) => Some(found.birth),
            None => (!aggregate.is_backfilled).then_some(head.next_birth),
        });
        let layout = shape.lay_out(&catalog, &births.collect::<Vec<Option<u32>>>())?;
        let is_new = |(found, aggregate): (&Option<_>, &crate::catalog::Aggregate)| {
            found.is_none() && aggregate.values().is_some() && !aggregate.is_backfilled
        };
        if found.iter().zip(&catalog.aggregates).any(is_new) {
            head.next_birth = head.next_birth.saturating_add(1);
        }
        let mut partition = Self::with_layout(catalog, layout, head);
        for ((number, state), kind) in tables.into_iter().enumerate().zip(kinds) {
            let Some(layout) = partition.layout.table(number) else { continue };
            let (Some(mut state), Some(kind)) = (state, kind) else { return Err(damaged("a table is missing")) };
            let members: Vec<bool> = kind.members.iter().map(Option::is_some).collect();
            restore(&mut state.current, layout, &members)?;
            if let Some(previous) = &mut state.previous {
                restore(previous, layout, &members)?;
            }
            state.conform(layout);
            if let Some(place) = partition.tables.get_mut(number) {
                *place = Some(state);
            }
        }
        for (number, dictionary) in dictionaries.into_iter().enumerate() {
            if let Some(Some(place)) = partition.dictionaries.get_mut(number) {
                *place = dictionary.ok_or_else(|| damaged("a dictionary is missing"))?;
            }
        }
        Ok(partition)
    }
}

pub(crate) fn damaged(reason: &str) -> RestoreError {
    RestoreError::Damaged(reason.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
pub(crate) fn malformed(error: postcard::Error) -> RestoreError {
    RestoreError::Damaged(error.to_string())
}

/// Checks tables that were read against the layout, and works out what follows from their values. `members` says which
/// ones they have to have.
fn restore(storage: &mut Storage, layout: &TableLayout, members: &[bool]) -> Result<(), RestoreError> {
    if matches!(storage, Storage::Buckets(_)) != layout.buckets.is_some() {
        return Err(damaged("a table has time buckets and should not, or the other way round"));
    }
    for table in storage.tables_mut() {
        if !table.keys.iter().all(|key| is_key_of(key, layout.key.len())) {
            return Err(damaged("a key is malformed"));
        }
        table.members.resize_with(members.len(), || None);
        let keys = table.keys.len();
        for ((member, layout), is_there) in table.members.iter_mut().zip(&layout.members).zip(members) {
            match (layout, member) {
                (Some(layout), Some(member)) => check(member, &layout.kept, keys)?,
                (Some(_), None) if *is_there => return Err(damaged("a table lacks the values of an aggregate")),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Checks the values of an aggregate, and works out what follows from them.
fn check(member: &mut Member, kept: &Kept, keys: usize) -> Result<(), RestoreError> {
    let fits = match (&member.cells, kept) {
        (Cells::Counts(_), Kept::Count) | (Cells::Sets(_), Kept::Distinct(_)) => true,
        (Cells::Latest(all), Kept::Latest(fields)) => all
            .iter()
            .flatten()
            .all(|bytes| Latest::read(bytes).is_some_and(|latest| is_key_of(latest.values, fields.len()))),
        _ => false,
    };
    if !fits || member.len() > keys {
        return Err(damaged("the values of an aggregate are malformed"));
    }
    member.recount().ok_or_else(|| damaged("the values of an aggregate are too large"))
}
