//! What a partition keeps where, as it is written: which aggregates are in which table and member, and which fields'
//! names are in which dictionary.
//!
//! The numbers of tables, members and dictionaries are never used again, also not after a restore: a gap stays where
//! something was given up. So whatever is at the same place in two shapes of one changelog is the same thing.

use serde::{Deserialize, Serialize};

use crate::aggregate::{Definition, Measure, Span};
use crate::catalog::{Catalog, Content};
use crate::layout::{DictionaryLayout, Layout, Place};
use crate::partition::Partition;
use crate::persist::{RestoreError, damaged};
use crate::table::Kind;
use crate::window::Progress;

/// Everything about a partition that is no aggregate and has no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) insight_every: u32,
    pub(crate) next_birth: u32,
    pub(crate) progress: Progress,
}

/// What is kept where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) aggregates: Vec<SavedAggregate>,
    /// For every table that there ever was, whether something is kept in its members; nothing in a table's gap.
    pub(crate) tables: Vec<Vec<bool>>,
    /// Every dictionary that there ever was.
    pub(crate) dictionaries: Vec<Option<SavedDictionary>>,
}

/// An aggregate that is no ranking, and where its values are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedAggregate {
    pub(crate) plugin: String,
    pub(crate) definition: Definition,
    pub(crate) birth: u32,
    pub(crate) table: usize,
    pub(crate) member: usize,
}

/// The values of a field that keep their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedDictionary {
    pub(crate) field: String,
    pub(crate) limit: u32,
}

/// What a table is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableKind {
    pub(crate) is_windowed: bool,
    pub(crate) has_buckets: bool,
    /// How many values a key has.
    pub(crate) key: usize,
    pub(crate) members: Vec<Option<Kind>>,
}

impl TableKind {
    fn of(definition: &Definition, members: usize) -> Self {
        Self {
            is_windowed: definition.span == Span::Window,
            has_buckets: definition.buckets.is_some(),
            key: definition.by.len(),
            members: vec![None; members],
        }
    }
}

impl Shape {
    pub(crate) fn of(partition: &Partition) -> Self {
        let (catalog, layout) = (&partition.catalog, &partition.layout);
        let aggregates = catalog.aggregates.iter().zip(&layout.places);
        let aggregates = aggregates.filter_map(|(aggregate, place)| match place {
            Place::Member { table, member } => Some(SavedAggregate {
                plugin: aggregate.plugin.clone(),
                definition: aggregate.definition.clone(),
                birth: layout.birth(*place)?,
                table: *table,
                member: *member,
            }),
            Place::Top { .. } | Place::Absent => None,
        });
        let members = layout.tables.iter().map(|table| {
            let members = table.iter().flat_map(|table| &table.members);
            members.map(Option::is_some).collect()
        });
        let dictionaries = layout.dictionaries.iter().map(|dictionary| {
            let dictionary = dictionary.as_ref()?;
            let field = catalog.schema.field(dictionary.slot)?.name.clone();
            Some(SavedDictionary { field, limit: dictionary.limit })
        });
        Self { aggregates: aggregates.collect(), tables: members.collect(), dictionaries: dictionaries.collect() }
    }

    /// What every table is made of; `None` in a gap.
    ///
    /// # Errors
    /// Where the aggregates and their places don't fit together.
    pub(crate) fn kinds(&self) -> Result<Vec<Option<TableKind>>, RestoreError> {
        let mut kinds: Vec<Option<TableKind>> = self.tables.iter().map(|_| None).collect();
        for saved in &self.aggregates {
            let definition = &saved.definition;
            let kind = match definition.measure {
                Measure::Count => Kind::Count,
                Measure::Distinct(_) => Kind::Distinct,
                Measure::Latest(_) => Kind::Latest,
                Measure::Top(_) => return Err(damaged("a ranking is said to have values")),
            };
            let misplaced = || damaged("an aggregate has no place, or one that another has");
            let slots = self.tables.get(saved.table).ok_or_else(misplaced)?;
            let place = kinds.get_mut(saved.table).ok_or_else(misplaced)?;
            let new = TableKind::of(definition, slots.len());
            let table = place.get_or_insert_with(|| new.clone());
            if (table.is_windowed, table.has_buckets, table.key) != (new.is_windowed, new.has_buckets, new.key) {
                return Err(misplaced());
            }
            let member = table.members.get_mut(saved.member).ok_or_else(misplaced)?;
            if *member.get_or_insert(kind) != kind {
                return Err(misplaced());
            }
        }
        let is_whole = kinds.iter().zip(&self.tables).all(|(kind, slots)| match kind {
            Some(kind) => kind.members.iter().map(Option::is_some).eq(slots.iter().copied()),
            None => slots.is_empty(),
        });
        if is_whole { Ok(kinds) } else { Err(damaged("a table has members of no aggregate")) }
    }

    /// For each aggregate of a catalog the same one as it was saved, if it was: of the same plugin, name and definition.
    pub(crate) fn find(&self, catalog: &Catalog) -> Vec<Option<&SavedAggregate>> {
        let find = |aggregate: &crate::catalog::Aggregate| {
            let is_it =
                |saved: &&SavedAggregate| saved.plugin == aggregate.plugin && saved.definition == aggregate.definition;
            self.aggregates.iter().find(is_it)
        };
        catalog.aggregates.iter().map(find).collect()
    }

    /// The layout for a catalog that keeps everything of this shape's in its place. `births` says for each aggregate of
    /// the catalog when it began to be kept; nothing for one that is lacking.
    ///
    /// # Errors
    /// Where what is saved at a place can't be there.
    pub(crate) fn lay_out(&self, catalog: &Catalog, births: &[Option<u32>]) -> Result<Layout, RestoreError> {
        let mut layout = Layout::default();
        layout.tables.resize_with(self.tables.len(), || None);
        layout.dictionaries = self
            .dictionaries
            .iter()
            .map(|saved| {
                let saved = saved.as_ref()?;
                Some(DictionaryLayout { slot: catalog.schema.slot(&saved.field)?, limit: saved.limit })
            })
            .collect();
        let found = self.find(catalog);
        let misplaced = || damaged("its aggregates don't share their tables as they should");
        for ((aggregate, saved), birth) in catalog.aggregates.iter().zip(&found).zip(births) {
            if let (Content::Values(compiled), Some(saved)) = (&aggregate.content, saved) {
                let members = self.tables.get(saved.table).map_or(0, Vec::len);
                let birth = birth.unwrap_or(saved.birth);
                layout.put_values(compiled, birth, (saved.table, saved.member), members).ok_or_else(misplaced)?;
            }
        }
        let layout = layout.evolve(catalog, births);
        let stays = found.iter().zip(&layout.places).all(|(saved, place)| {
            saved.is_none_or(|saved| *place == Place::Member { table: saved.table, member: saved.member })
        });
        if stays { Ok(layout) } else { Err(misplaced()) }
    }
}
