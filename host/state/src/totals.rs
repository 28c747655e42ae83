//! What a partition tells the others: the totals of its aggregates, small enough to be sent around, and to be merged
//! by whoever reads them.
//!
//! The number of keys doesn't show in their size: there are sums, rankings, and the entries of those aggregates whose
//! every dimension has a limit.

use serde::{Deserialize, Serialize};

use crate::aggregate::{Definition, Span};
use crate::catalog::{Aggregate, Content};
use crate::compile::Compiled;
use crate::layout::{Place, TableLayout};
use crate::partition::Partition;
use crate::persist::{RestoreError, damaged};
use crate::record::{Kind, begin, open, seal};
use crate::table::{Cells, Member, Table};
use crate::value::{Scalar, compare_scalars, decode_all};
use crate::wire::{Input, put_value};

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

/// The totals of one partition: of all its aggregates with span [`Span::Total`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionTotals {
    /// The offset of the last accepted login that they count.
    pub last_accepted_offset: Option<i64>,
    /// Whether logins of one user may be in other partitions, too, so that what is told per user is partial.
    pub is_unkeyed: bool,
    pub(crate) aggregates: Vec<AggregateTotals>,
}

impl PartitionTotals {
    /// As bytes, to be read by [`PartitionTotals::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = begin(Kind::Totals);
        put_value(&mut out, self);
        seal(out)
    }

    /// The totals that were written as these bytes.
    ///
    /// # Errors
    /// Where they are damaged, or were written by a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RestoreError> {
        let (Kind::Totals, content) = open(bytes)? else { return Err(damaged("it holds no totals")) };
        Input(content).value()
    }
}

/// The totals of one aggregate in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AggregateTotals {
    pub(crate) plugin: String,
    pub(crate) definition: Definition,
    pub(crate) sums: Vec<BucketTotals>,
    /// The ranked keys, or those of an aggregate whose keys can be listed.
    pub(crate) entries: Option<Vec<Found>>,
}

/// All keys of an aggregate, or those in one of its buckets, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketTotals {
    pub(crate) bucket: Option<i64>,
    pub(crate) keys: u64,
    pub(crate) sum: u64,
}

/// An entry, and for latest values the time and offset of the login that they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) entry: Entry,
    pub(crate) from: Option<(i64, i64)>,
}

/// Which logins are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// This window, or all logins.
    Current,
    /// The window before this one.
    Previous,
}

/// Whether the keys can be listed: every dimension has a limit.
pub(crate) fn is_listed(compiled: &Compiled) -> bool {
    compiled.key.iter().all(|field| field.limit.is_some())
}

/// The tables of an aggregate that may be seen, each with the begin of its bucket.
type Seen<'a> = (&'a TableLayout, Vec<(Option<i64>, &'a Table)>);

impl Partition {
    /// The totals as they are now.
    pub fn totals(&self) -> PartitionTotals {
        let aggregates =
            self.catalog.aggregates.iter().enumerate().filter(|(index, _)| self.span(*index) == Span::Total);
        let aggregates = aggregates.map(|(index, aggregate)| AggregateTotals {
            plugin: aggregate.plugin.clone(),
            definition: aggregate.definition.clone(),
            sums: self.sums(index, Period::Current),
            entries: aggregate.values().is_none_or(is_listed).then(|| self.entries(index, Period::Current)),
        });
        PartitionTotals {
            last_accepted_offset: self.last_accepted_offset(),
            is_unkeyed: self.is_unkeyed(),
            aggregates: aggregates.collect(),
        }
    }

    fn span(&self, index: usize) -> Span {
        self.catalog.aggregates.get(index).map_or(Span::Total, |aggregate| aggregate.definition.span)
    }

    /// The tables of an aggregate that may be seen, and their layout.
    fn seen(&self, index: usize, period: Period) -> Option<Seen<'_>> {
        let number = match self.layout.places.get(index)? {
            Place::Member { table, .. } | Place::Top { table, .. } => *table,
        };
        let layout = self.layout.table(number)?;
        let state = self.tables.get(number)?.as_ref()?;
        let (storage, watermark) = match period {
            Period::Current => (&state.current, self.progress.watermark),
            Period::Previous => (state.previous.as_ref()?, self.progress.previous_watermark),
        };
        Some((layout, storage.visible(layout.buckets, watermark).collect()))
    }

    /// The sums of an aggregate, bucket by bucket.
    pub(crate) fn sums(&self, index: usize, period: Period) -> Vec<BucketTotals> {
        let Some(Place::Member { member, .. }) = self.layout.places.get(index) else { return Vec::new() };
        let Some((_, tables)) = self.seen(index, period) else { return Vec::new() };
        let sums = tables.into_iter().filter_map(|(bucket, table)| {
            let member = table.member(*member).filter(|member| member.keys > 0)?;
            Some(BucketTotals { bucket, keys: member.keys, sum: member.sum })
        });
        sums.collect()
    }

    /// The entries of an aggregate, sorted by bucket and key; those of a ranking in its order.
    pub(crate) fn entries(&self, index: usize, period: Period) -> Vec<Found> {
        let Some((layout, tables)) = self.seen(index, period) else { return Vec::new() };
        match self.layout.places.get(index) {
            Some(Place::Member { member, .. }) => {
                let mut entries = Vec::new();
                for (bucket, table) in tables {
                    let Some(member) = table.member(*member) else { continue };
                    let of_bucket = entries.len();
                    entries.extend((0..table.keys.len() as u32).filter_map(|id| found(table, member, bucket, id)));
                    if let Some(of_bucket) = entries.get_mut(of_bucket..) {
                        of_bucket.sort_by(|left, right| compare_scalars(&left.entry.key, &right.entry.key));
                    }
                }
                entries
            }
            Some(Place::Top { top, .. }) => {
                let rank_by = layout.tops.get(*top).and_then(Option::as_ref).map(|top| top.rank_by.as_slice());
                let ranked = tables.iter().flat_map(|(_, table)| {
                    let ids = table.tops.get(*top).and_then(Option::as_ref).map(crate::top::Top::ids);
                    ids.unwrap_or_default().iter().map(|id| ranked(table, rank_by.unwrap_or_default(), *id))
                });
                ranked.collect()
            }
            None => Vec::new(),
        }
    }
}

fn found(table: &Table, member: &Member, bucket: Option<i64>, id: u32) -> Option<Found> {
    let (values, from) = match &member.cells {
        Cells::Latest(_) => {
            let latest = member.latest(id)?;
            (decode_all(latest.values), Some((latest.time, latest.offset)))
        }
        Cells::Counts(_) | Cells::Sets(_) => match member.value(id) {
            0 => return None,
            value => (vec![Scalar::Integer(value as i64)], None),
        },
    };
    Some(Found { entry: Entry { bucket, key: decode_all(table.keys.key(id)), values }, from })
}

fn ranked(table: &Table, rank_by: &[usize], id: u32) -> Found {
    let values = rank_by.iter().map(|member| Scalar::Integer(table.value(*member, id) as i64));
    let key = decode_all(table.keys.key(id));
    Found { entry: Entry { bucket: None, key, values: values.collect() }, from: None }
}

impl Aggregate {
    /// How many keys a ranking keeps; `None` for any other aggregate.
    pub(crate) fn ranking_size(&self) -> Option<usize> {
        match self.content {
            Content::Ranking { size, .. } => Some(size),
            Content::Values(_) => None,
        }
    }
}
