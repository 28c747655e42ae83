//! What a partition tells the others: the totals of its aggregates, small enough to be sent around, and to be merged
//! by whoever reads them.
//!
//! The number of keys doesn't show in their size: there are sums, rankings, and the entries of those aggregates whose
//! every dimension has a limit. Where the same values may be in several partitions, entries have a sketch of theirs, so that
//! they are counted once (`packed` says how large all of these may be). Sketches of large sets are kept up as values
//! come, from the first time on that they are asked for.

use loginscope_login::Slot;
use serde::{Deserialize, Serialize};

use crate::aggregate::{Definition, Span};
use crate::catalog::{Aggregate, Content};
use crate::compile::{Compiled, Kept};
use crate::entries::{Found, StoredEntry};
use crate::layout::{Place, TableLayout};
use crate::packed::{Packed, precision_for};
use crate::partition::Partition;
use crate::persist::{RestoreError, damaged};
use crate::record::{Kind, begin, open, seal};
use crate::set::Set;
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
    /// Where they are damaged, or were written by another version.
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
    /// Whether some of the values are estimates.
    pub(crate) is_estimated: bool,
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

/// Whether partitions that are added up may have counted the same thing. They haven't where it belongs to one user and all
/// logins of a user are in one partition; and keys that are listed are matched by name.
pub(crate) fn may_count_twice(compiled: &Compiled, is_unkeyed: bool) -> bool {
    let is_user = |slot: Slot| slot == Slot::USER_ID && !is_unkeyed;
    let by_user = compiled.key.iter().any(|field| is_user(field.slot) && field.limit.is_none());
    !by_user && (may_have_same_values(compiled, is_unkeyed) || !is_listed(compiled))
}

fn may_have_same_values(compiled: &Compiled, is_unkeyed: bool) -> bool {
    matches!(&compiled.kept, Kept::Distinct(fields) if is_unkeyed || !fields.contains(&Slot::USER_ID))
}

/// Whether its entries are made one with those of other partitions by their sketches.
pub(crate) fn has_sketches(compiled: &Compiled, is_unkeyed: bool) -> bool {
    is_listed(compiled) && may_have_same_values(compiled, is_unkeyed)
}

impl Partition {
    /// The totals as they are now. Only if there are other partitions do they have what it takes to be merged with theirs.
    pub fn totals(&mut self, has_others: bool) -> PartitionTotals {
        let sketched = if has_others { self.sketched() } else { Vec::new() };
        let precision = self.begin_sketches(&sketched);
        let aggregates =
            self.catalog.aggregates.iter().enumerate().filter(|(index, _)| self.span(*index) == Span::Total);
        let aggregates = aggregates.map(|(index, aggregate)| AggregateTotals {
            plugin: aggregate.plugin.clone(),
            definition: aggregate.definition.clone(),
            sums: self.sums(index, Period::Current).collect(),
            entries: aggregate.values().is_none_or(is_listed).then(|| {
                let precision = precision.filter(|_| sketched.contains(&index));
                self.entries_with_sketches(index, precision)
            }),
        });
        PartitionTotals {
            last_accepted_offset: self.last_accepted_offset(),
            is_unkeyed: self.is_unkeyed(),
            aggregates: aggregates.collect(),
        }
    }

    /// The aggregates whose entries have sketches.
    fn sketched(&self) -> Vec<usize> {
        let is_sketched = |aggregate: &Aggregate| {
            aggregate.definition.span == Span::Total
                && aggregate.values().is_some_and(|compiled| has_sketches(compiled, self.is_unkeyed()))
        };
        let aggregates = self.catalog.aggregates.iter().enumerate();
        aggregates.filter(|(_, aggregate)| is_sketched(aggregate)).map(|(index, _)| index).collect()
    }

    /// Lets the sketches of all sets of these aggregates be at hand, and says at which precision there is room for them.
    fn begin_sketches(&mut self, aggregates: &[usize]) -> Option<u8> {
        let mut sizes = Vec::new();
        for index in aggregates {
            let stored = self.stored_entries(*index, Period::Current);
            sizes.extend(stored.iter().filter_map(StoredEntry::set).map(Set::len));
        }
        let precision = precision_for(&sizes)?;
        for index in aggregates {
            let Some(Place::Member { table, member }) = self.layout.places.get(*index) else { continue };
            let Some(Some(state)) = self.tables.get_mut(*table) else { continue };
            for table in state.current.tables_mut() {
                if let Some(member) = table.member_mut(*member) {
                    member.begin_sketches();
                }
            }
        }
        Some(precision)
    }

    fn entries_with_sketches(&self, index: usize, precision: Option<u8>) -> Vec<Found> {
        let stored = self.stored_entries(index, Period::Current);
        let found = stored.iter().map(|stored| {
            let sketch = precision.and_then(|precision| Some(Packed::of(stored.set()?, precision)));
            Found { sketch, ..stored.found() }
        });
        found.collect()
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
            Place::Absent => return None,
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
            Some(Place::Top { .. } | Place::Absent) | None => None,
        };
        let tables = self.seen(index, period).into_iter().flat_map(|(_, tables)| tables);
        tables.filter_map(move |(bucket, table)| {
            let member = table.member(member?).filter(|member| member.keys > 0)?;
            let (keys, sum, is_estimated) = (member.keys, member.sum, member.estimates > 0);
            Some(BucketTotals { bucket, keys, sum, is_estimated })
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
