//! Where a partition keeps what: which aggregates share a table of keys, and which even share their values.
//!
//! - Aggregates with the same dimensions, buckets and span share one *table*: one look-up of the key serves them all.
//!   Where the latest so many buckets are kept, which ones those are depends on the logins that an aggregate counts;
//!   so there only aggregates that count the same logins, from the same time on, share a table.
//! - Equal aggregates that began to be kept at the same time share one *member* of their table.
//!
//! When a partition began to keep an aggregate is its *birth*: a number that grows with every catalog that brings new
//! ones. Places never change while a partition lives; what is given up leaves a gap, so that the undo journal's
//! entries stay right when a catalog is adopted.

use loginscope_login::Slot;

use crate::aggregate::{Retention, Span, TimeBuckets};
use crate::catalog::{Catalog, Content};
use crate::compile::{Compiled, Kept};
use crate::filter::Filter;

/// A dimension of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableField {
    pub(crate) slot: Slot,
    /// The dictionary that says which values keep their names, if its names are limited.
    pub(crate) dictionary: Option<usize>,
}

/// The aggregates that share the keys of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableLayout {
    pub(crate) key: Vec<TableField>,
    pub(crate) buckets: Option<TimeBuckets>,
    pub(crate) span: Span,
    /// Which logins all of its members count, where that decides which buckets are kept.
    only: Option<Only>,
    pub(crate) members: Vec<Option<MemberLayout>>,
    pub(crate) tops: Vec<Option<TopLayout>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Only {
    filters: Vec<Filter>,
    fields: Vec<Slot>,
    birth: u32,
}

/// What a table keeps for each of its keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberLayout {
    pub(crate) kept: Kept,
    pub(crate) filters: Vec<Filter>,
    pub(crate) birth: u32,
}

/// A ranking of a table's keys by these of its members.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopLayout {
    pub(crate) rank_by: Vec<usize>,
    pub(crate) size: usize,
}

/// The values of a field that keep their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DictionaryLayout {
    pub(crate) slot: Slot,
    pub(crate) limit: u32,
}

/// Where an aggregate's values or ranking are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Member {
        table: usize,
        member: usize,
    },
    Top {
        table: usize,
        top: usize,
    },
    /// Nowhere: it is lacking until it is [grafted](crate::graft).
    Absent,
}

/// Where everything is. Gaps stand where something was given up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) tables: Vec<Option<TableLayout>>,
    pub(crate) dictionaries: Vec<Option<DictionaryLayout>>,
    /// By the place in the catalog.
    pub(crate) places: Vec<Place>,
}

impl Layout {
    /// The layout for a catalog that keeps everything of this one's in its place. `births` says for each aggregate
    /// of the catalog that is no ranking when it began here; nothing for one that is lacking.
    pub(crate) fn evolve(&self, catalog: &Catalog, births: &[Option<u32>]) -> Self {
        let mut next = Self { places: Vec::new(), ..self.clone() };
        for (aggregate, birth) in catalog.aggregates.iter().zip(births) {
            let place = match (&aggregate.content, birth) {
                (Content::Values(compiled), Some(birth)) => next.place_values(compiled, *birth),
                (Content::Values(_), None) => Place::Absent,
                (Content::Ranking { rank_by, size }, _) => next.place_ranking(rank_by, *size),
            };
            next.places.push(place);
        }
        next.give_up_the_unused();
        next
    }

    /// An empty table for such values.
    fn table_for(&mut self, compiled: &Compiled, birth: u32) -> TableLayout {
        let key = compiled.key.iter().map(|field| TableField {
            slot: field.slot,
            dictionary: field.limit.map(|limit| self.dictionary(DictionaryLayout { slot: field.slot, limit })),
        });
        let key: Vec<TableField> = key.collect();
        let latest = matches!(compiled.buckets, Some(TimeBuckets { keep: Retention::Latest(_), .. }));
        let mut fields = compiled.kept.fields().to_vec();
        fields.sort_unstable();
        let only = latest.then(|| Only { filters: compiled.filters.clone(), fields, birth });
        let (members, tops) = (Vec::new(), Vec::new());
        TableLayout { key, buckets: compiled.buckets, span: compiled.span, only, members, tops }
    }

    fn place_values(&mut self, compiled: &Compiled, birth: u32) -> Place {
        let wanted = self.table_for(compiled, birth);
        let table = place(&mut self.tables, |table| table.is_like(&wanted)).unwrap_or_else(|| {
            self.tables.push(Some(wanted));
            self.tables.len() - 1
        });
        let member = MemberLayout { kept: compiled.kept.clone(), filters: compiled.filters.clone(), birth };
        let members = self.tables.get_mut(table).and_then(Option::as_mut).map(|table| &mut table.members);
        Place::Member { table, member: members.map_or(0, |members| place_or_push(members, member)) }
    }

    /// Puts values at a place, in a table that has or is to have so many members; `None` where they can't be there.
    pub(crate) fn put_values(
        &mut self,
        compiled: &Compiled,
        birth: u32,
        (table, member): (usize, usize),
        members: usize,
    ) -> Option<()> {
        let mut wanted = self.table_for(compiled, birth);
        wanted.members.resize_with(members, || None);
        let there = self.tables.get_mut(table)?;
        let table = there.get_or_insert_with(|| wanted.clone());
        let member = table.members.get_mut(member)?;
        let layout = MemberLayout { kept: compiled.kept.clone(), filters: compiled.filters.clone(), birth };
        let is_it = *member.get_or_insert_with(|| layout.clone()) == layout;
        (is_it && table.is_like(&wanted)).then_some(())
    }

    fn place_ranking(&mut self, rank_by: &[usize], size: usize) -> Place {
        let mut in_table = 0;
        let mut members = Vec::new();
        for aggregate in rank_by {
            let Some(Place::Member { table, member }) = self.places.get(*aggregate) else { return Place::Absent };
            in_table = *table;
            members.push(*member);
        }
        let top = TopLayout { rank_by: members, size };
        let tops = self.tables.get_mut(in_table).and_then(Option::as_mut).map(|table| &mut table.tops);
        Place::Top { table: in_table, top: tops.map_or(0, |tops| place_or_push(tops, top)) }
    }

    pub(crate) fn dictionary(&mut self, wanted: DictionaryLayout) -> usize {
        place_or_push(&mut self.dictionaries, wanted)
    }

    fn give_up_the_unused(&mut self) {
        for (number, slot) in self.tables.iter_mut().enumerate() {
            let Some(table) = slot else { continue };
            for (member, layout) in table.members.iter_mut().enumerate() {
                if !self.places.contains(&Place::Member { table: number, member }) {
                    *layout = None;
                }
            }
            for (top, layout) in table.tops.iter_mut().enumerate() {
                if !self.places.contains(&Place::Top { table: number, top }) {
                    *layout = None;
                }
            }
            if table.members.iter().all(Option::is_none) {
                *slot = None;
            }
        }
        let tables = self.tables.iter().flatten();
        let used: Vec<usize> = tables.flat_map(|table| table.key.iter().filter_map(|field| field.dictionary)).collect();
        for (number, dictionary) in self.dictionaries.iter_mut().enumerate() {
            if !used.contains(&number) {
                *dictionary = None;
            }
        }
    }

    /// When the values at a place began to be kept.
    pub(crate) fn birth(&self, place: Place) -> Option<u32> {
        let Place::Member { table, member } = place else { return None };
        Some(self.table(table)?.members.get(member)?.as_ref()?.birth)
    }

    pub(crate) fn table(&self, table: usize) -> Option<&TableLayout> {
        self.tables.get(table)?.as_ref()
    }

    /// The slots of all values that observing encodes.
    pub(crate) fn encoded_slots(&self) -> impl Iterator<Item = Slot> {
        let tables = self.tables.iter().flatten();
        tables.flat_map(TableLayout::encoded_slots)
    }
}

impl TableLayout {
    /// Whether they keep the same keys.
    fn is_like(&self, other: &Self) -> bool {
        (&self.key, self.buckets, self.span, &self.only) == (&other.key, other.buckets, other.span, &other.only)
    }

    /// The slots of its keys and of the values that its members keep.
    pub(crate) fn encoded_slots(&self) -> impl Iterator<Item = Slot> {
        let members = self.members.iter().flatten().flat_map(|member| member.kept.fields());
        self.key.iter().map(|field| field.slot).chain(members.copied())
    }
}

fn place<T>(all: &mut [Option<T>], is_it: impl Fn(&T) -> bool) -> Option<usize> {
    all.iter().position(|one| one.as_ref().is_some_and(&is_it))
}

fn place_or_push<T: PartialEq>(all: &mut Vec<Option<T>>, wanted: T) -> usize {
    place(all, |one| *one == wanted).unwrap_or_else(|| {
        all.push(Some(wanted));
        all.len() - 1
    })
}
