//! What a partition tells the others: the totals of its aggregates, small enough to be sent around, and to be merged
//! by whoever reads them.
//!
//! The number of keys doesn't show in their size: there are sums, rankings, and the entries of those aggregates whose
//! every dimension has a limit.

use serde::{Deserialize, Serialize};

use crate::aggregate::{Definition, Span};
use crate::catalog::{Aggregate, Content};
use crate::compile::Compiled;
use crate::entries::Found;
use crate::layout::{Place, TableLayout};
use crate::partition::Partition;
use crate::persist::{RestoreError, damaged};
use crate::record::{Kind, begin, open, seal};
use crate::table::Table;
use crate::wire::{Input, put_value};

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

impl Partition {
    /// The totals as they are now.
    pub fn totals(&self) -> PartitionTotals {
        let aggregates =
            self.catalog.aggregates.iter().enumerate().filter(|(index, _)| self.span(*index) == Span::Total);
        let aggregates = aggregates.map(|(index, aggregate)| AggregateTotals {
            plugin: aggregate.plugin.clone(),
            definition: aggregate.definition.clone(),
            sums: self.sums(index, Period::Current).collect(),
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

    /// The tables of an aggregate that may be seen, each with the begin of its bucket, and their layout.
    pub(crate) fn seen(
        &self,
        index: usize,
        period: Period,
    ) -> Option<(&TableLayout, impl Iterator<Item = (Option<i64>, &Table)>)> {
        let number = match self.layout.places.get(index)? {
            Place::Member { table, .. } | Place::Top { table, .. } => *table,
        };
        let layout = self.layout.table(number)?;
        let state = self.tables.get(number)?.as_ref()?;
        let (storage, watermark) = match period {
            Period::Current => (&state.current, self.progress.watermark),
            Period::Previous => (state.previous.as_ref()?, self.progress.previous_watermark),
        };
        Some((layout, storage.visible(layout.buckets, watermark)))
    }

    /// The sums of an aggregate that is no ranking, bucket by bucket.
    pub(crate) fn sums(&self, index: usize, period: Period) -> impl Iterator<Item = BucketTotals> {
        let member = match self.layout.places.get(index) {
            Some(Place::Member { member, .. }) => Some(*member),
            Some(Place::Top { .. }) | None => None,
        };
        let tables = self.seen(index, period).into_iter().flat_map(|(_, tables)| tables);
        tables.filter_map(move |(bucket, table)| {
            let member = table.member(member?).filter(|member| member.keys > 0)?;
            Some(BucketTotals { bucket, keys: member.keys, sum: member.sum })
        })
    }
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
