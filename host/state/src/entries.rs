//! The entries of an aggregate in one partition: found where they stand, and handed on one by one, so that nothing is
//! copied or allocated for any of them unless whoever takes it does so.

use loginscope_login::Value;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Content};
use crate::compile::{Compiled, Kept};
use crate::layout::Place;
use crate::packed::Packed;
use crate::partition::Partition;
use crate::scalar::Scalar;
use crate::set::Set;
use crate::table::{Latest, Member, Table};
use crate::totals::Period;
use crate::value::{compare_keys, decode_all, decode_each};

/// A key of an aggregate and what is kept for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The begin of the time bucket in epoch seconds, for an aggregate with buckets.
    pub bucket: Option<i64>,
    /// The key, one value a dimension.
    pub key: Vec<Scalar>,
    /// One value for a count or distinct count, for latest values one a field, for a ranking one for each aggregate
    /// that it ranks by.
    pub values: Vec<Scalar>,
}

/// What the entries of an aggregate are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListingShape {
    /// How many there are.
    pub rows: usize,
    /// Whether each has a time bucket.
    pub has_buckets: bool,
    /// Of how many values their keys are.
    pub dimensions: usize,
    /// How many values are kept for each.
    pub values: usize,
}

/// Takes the entries of an aggregate, one after the other.
pub trait TakeEntries {
    /// Comes first: what the entries are made of.
    fn begin(&mut self, shape: ListingShape);

    /// The next entry begins; `bucket` is the begin of its time bucket in epoch seconds, for an aggregate with buckets.
    fn entry(&mut self, bucket: Option<i64>);

    /// The next value of its key; never [`Value::Missing`].
    fn key(&mut self, value: Value<'_>);

    /// The next value that is kept for it, after those of the key; never [`Value::Missing`].
    fn value(&mut self, value: Value<'_>);
}

/// An entry, and what it takes to make one of the entries of the same key in several partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) entry: Entry,
    /// For latest values, the time and offset of the login that they come from.
    pub(crate) from: Option<(i64, i64)>,
    /// For different values that may be in several partitions, their sketch.
    pub(crate) sketch: Option<Packed>,
}

/// An entry where it is stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredEntry<'a> {
    bucket: Option<i64>,
    /// The encoded key.
    key: &'a [u8],
    values: StoredValues<'a>,
}

/// The values of an entry where they are stored.
#[derive(Clone, Copy)]
enum StoredValues<'a> {
    /// A count.
    Number(u64),
    /// Different values.
    Set(&'a Set),
    Latest(Latest<'a>),
    /// Those of these members of the key's table.
    Ranked {
        table: &'a Table,
        rank_by: &'a [usize],
        id: u32,
    },
}

impl<'a> StoredValues<'a> {
    fn of(member: &'a Member, id: u32) -> Self {
        match (member.latest(id), member.set(id)) {
            (Some(latest), _) => Self::Latest(latest),
            (None, Some(set)) => Self::Set(set),
            (None, None) => Self::Number(member.value(id)),
        }
    }
}

impl Entry {
    pub(crate) fn give_to(&self, taker: &mut impl TakeEntries) {
        taker.entry(self.bucket);
        self.key.iter().for_each(|value| taker.key(value.as_value()));
        self.values.iter().for_each(|value| taker.value(value.as_value()));
    }
}

impl<'a> StoredEntry<'a> {
    fn give_to(&self, taker: &mut impl TakeEntries) {
        taker.entry(self.bucket);
        decode_each(self.key, |value| taker.key(value));
        match self.values {
            StoredValues::Number(number) => taker.value(Value::Integer(number as i64)),
            StoredValues::Set(set) => taker.value(Value::Integer(set.len() as i64)),
            StoredValues::Latest(latest) => decode_each(latest.values, |value| taker.value(value)),
            StoredValues::Ranked { table, rank_by, id } => {
                let numbers = rank_by.iter().map(|member| table.value(*member, id));
                numbers.for_each(|number| taker.value(Value::Integer(number as i64)));
            }
        }
    }

    /// The set of different values, if that is what is kept.
    pub(crate) fn set(&self) -> Option<&'a Set> {
        match self.values {
            StoredValues::Set(set) => Some(set),
            StoredValues::Number(_) | StoredValues::Latest(_) | StoredValues::Ranked { .. } => None,
        }
    }

    /// The same, as values of its own.
    pub(crate) fn found(&self) -> Found {
        let (values, from) = match self.values {
            StoredValues::Number(number) => (vec![Scalar::Integer(number as i64)], None),
            StoredValues::Set(set) => (vec![Scalar::Integer(set.len() as i64)], None),
            StoredValues::Latest(latest) => (decode_all(latest.values), Some((latest.time, latest.offset))),
            StoredValues::Ranked { table, rank_by, id } => {
                let numbers = rank_by.iter().map(|member| Scalar::Integer(table.value(*member, id) as i64));
                (numbers.collect(), None)
            }
        };
        Found { entry: Entry { bucket: self.bucket, key: decode_all(self.key), values }, from, sketch: None }
    }
}

impl Catalog {
    /// What so many entries of the aggregate at this place are made of.
    pub(crate) fn listing_shape(&self, index: usize, rows: usize) -> ListingShape {
        let of_values = |compiled: &Compiled| ListingShape {
            rows,
            has_buckets: compiled.buckets.is_some(),
            dimensions: compiled.key.len(),
            values: match &compiled.kept {
                Kept::Count | Kept::Distinct(_) => 1,
                Kept::Latest(fields) => fields.len(),
            },
        };
        let nothing = ListingShape { rows, has_buckets: false, dimensions: 0, values: 0 };
        match self.aggregates.get(index).map(|aggregate| &aggregate.content) {
            Some(Content::Values(compiled)) => of_values(compiled),
            Some(Content::Ranking { rank_by, .. }) => {
                let first = rank_by.first().and_then(|index| self.aggregates.get(*index)?.values());
                ListingShape { values: rank_by.len(), ..first.map_or(nothing, of_values) }
            }
            None => nothing,
        }
    }
}

impl Partition {
    /// Gives the entries of an aggregate to whoever takes them, sorted by bucket and key; those of a ranking in its order.
    pub(crate) fn give_entries(&self, index: usize, period: Period, taker: &mut impl TakeEntries) {
        taker.begin(self.catalog.listing_shape(index, self.count_entries(index, period)));
        self.each_entry(index, period, |stored| stored.give_to(taker));
    }

    /// The same entries, as they are stored.
    pub(crate) fn stored_entries(&self, index: usize, period: Period) -> Vec<StoredEntry<'_>> {
        let mut entries = Vec::new();
        self.each_entry(index, period, |stored| entries.push(stored));
        entries
    }

    fn count_entries(&self, index: usize, period: Period) -> usize {
        match self.layout.places.get(index) {
            Some(Place::Member { .. }) => self.sums(index, period).map(|sums| sums.keys as usize).sum(),
            Some(Place::Top { top, .. }) => {
                let tables = self.seen(index, period).into_iter().flat_map(|(_, tables)| tables);
                tables.map(|(_, table)| table.ranked(*top).len()).sum()
            }
            Some(Place::Absent) | None => 0,
        }
    }

    fn each_entry<'a>(&'a self, index: usize, period: Period, mut each: impl FnMut(StoredEntry<'a>)) {
        let Some((layout, tables)) = self.seen(index, period) else { return };
        match self.layout.places.get(index) {
            Some(Place::Member { member, .. }) => {
                let mut ids = Vec::new();
                for (bucket, table) in tables {
                    let (keys, Some(member)) = (&table.keys, table.member(*member)) else { continue };
                    ids.clear();
                    ids.extend((0..keys.len() as u32).filter(|id| member.value(*id) > 0));
                    ids.sort_unstable_by(|left, right| compare_keys(keys.key(*left), keys.key(*right)));
                    for id in &ids {
                        each(StoredEntry { bucket, key: keys.key(*id), values: StoredValues::of(member, *id) });
                    }
                }
            }
            Some(Place::Top { top, .. }) => {
                let rank_by = layout.tops.get(*top).and_then(Option::as_ref).map_or(&[][..], |top| &top.rank_by);
                for (_, table) in tables {
                    for id in table.ranked(*top) {
                        let values = StoredValues::Ranked { table, rank_by, id: *id };
                        each(StoredEntry { bucket: None, key: table.keys.key(*id), values });
                    }
                }
            }
            Some(Place::Absent) | None => {}
        }
    }
}
