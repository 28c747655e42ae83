//! Reading aggregates, as plugins do while they make insights: this partition exactly as it is, and for span
//! [`Span::Total`] the other partitions as they last told.

use std::cmp::Ordering;

use loginscope_login::Slot;

use crate::aggregate::{Retention, Span, TimeBuckets};
use crate::catalog::Aggregate;
use crate::compile::{Compiled, Kept};
use crate::entries::{Entry, Found, TakeEntries};
use crate::partition::Partition;
use crate::scalar::{Scalar, compare_scalars};
use crate::totals::{AggregateTotals, BucketTotals, PartitionTotals, Period, is_listed};

/// All keys of an aggregate taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many keys (bucket included) it has.
    pub keys: u64,
    /// The sum of the values of all keys; 0 for latest values.
    pub sum: u64,
    /// Whether these are estimates: something may occur in several partitions, and is counted once in each.
    pub approximate: bool,
}

/// One plugin's view of its aggregates.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    partition: &'a Partition,
    plugin: &'a str,
    others: Vec<&'a PartitionTotals>,
}

impl<'a> Reader<'a> {
    /// What this plugin may read: its aggregates in this partition, and their totals in the other ones.
    pub fn new(
        partition: &'a Partition,
        plugin: &'a str,
        others: impl IntoIterator<Item = &'a PartitionTotals>,
    ) -> Self {
        Self { partition, plugin, others: others.into_iter().collect() }
    }

    /// The summary of an aggregate that is no ranking.
    ///
    /// # Errors
    /// A sentence, where the name is unknown or the call doesn't fit the aggregate.
    pub fn summarize(&self, name: &str, period: Period) -> Result<Summary, String> {
        let (index, aggregate) = self.find(name, period)?;
        let compiled =
            aggregate.values().ok_or_else(|| format!("`{name}` is a ranking: it has entries, but no summary"))?;
        let own = self.partition.sums(index, period);
        let others = self.elsewhere(aggregate);
        if others.is_empty() {
            return Ok(add_up(own));
        }
        let own: Vec<BucketTotals> = own.collect();
        let with_some = others.iter().filter(|other| !other.sums.is_empty()).count() + usize::from(!own.is_empty());
        let sums = || own.iter().chain(others.iter().flat_map(|other| &other.sums)).copied();
        let earliest = earliest_kept(compiled.buckets, sums().filter_map(|sum| sum.bucket));
        let mut summary = add_up(sums().filter(|sum| is_kept(sum.bucket, earliest)));
        if is_listed(compiled) {
            summary.keys = self.merged(index, aggregate, &others).len() as u64;
        }
        summary.approximate = with_some > 1 && may_count_twice(compiled);
        Ok(summary)
    }

    /// Gives the entries of an aggregate to whoever takes them, sorted by bucket, then key; those of a ranking in its order.
    ///
    /// # Errors
    /// A sentence, where the name is unknown or the call doesn't fit the aggregate. Nothing has been given then.
    pub fn entries(&self, name: &str, period: Period, taker: &mut impl TakeEntries) -> Result<(), String> {
        let (index, aggregate) = self.find(name, period)?;
        let unlimited = aggregate.definition.by.iter().find(|dimension| dimension.limit.is_none());
        if let (Span::Total, Some(dimension)) = (aggregate.definition.span, unlimited) {
            return Err(format!(
                "the entries of `{name}` can't be listed over all logins: its dimension `{}` has no limit",
                dimension.field
            ));
        }
        let others = self.elsewhere(aggregate);
        if others.is_empty() {
            self.partition.give_entries(index, period, taker);
        } else {
            let merged = self.merged(index, aggregate, &others);
            taker.begin(self.partition.catalog.listing_shape(index, merged.len()));
            for found in &merged {
                found.entry.give_to(taker);
            }
        }
        Ok(())
    }

    fn find(&self, name: &str, period: Period) -> Result<(usize, &'a Aggregate), String> {
        let found = self.partition.catalog.find(self.plugin, name);
        let found = found.ok_or_else(|| format!("the plugin `{}` has declared no aggregate `{name}`", self.plugin))?;
        if found.1.definition.span == Span::Total && period == Period::Previous {
            return Err(format!("`{name}` is kept over all logins: there is no period before"));
        }
        Ok(found)
    }

    /// The totals of the same aggregate in the other partitions; none for span [`Span::Window`].
    fn elsewhere(&self, aggregate: &Aggregate) -> Vec<&'a AggregateTotals> {
        if aggregate.definition.span == Span::Window {
            return Vec::new();
        }
        let all = self.others.iter().flat_map(|other| &other.aggregates);
        all.filter(|other| other.plugin == self.plugin && other.definition == aggregate.definition).collect()
    }

    /// The entries of all partitions, those of one key made one.
    fn merged(&self, index: usize, aggregate: &Aggregate, others: &[&AggregateTotals]) -> Vec<Found> {
        let mut all = self.partition.entries(index, Period::Current);
        all.extend(others.iter().flat_map(|other| other.entries.iter().flatten()).cloned());
        let buckets = aggregate.definition.buckets;
        let earliest = earliest_kept(buckets, all.iter().filter_map(|found| found.entry.bucket));
        all.retain(|found| is_kept(found.entry.bucket, earliest));
        all.sort_by(|left, right| by_bucket_and_key(&left.entry, &right.entry));
        all.dedup_by(|later, earlier| {
            let same = by_bucket_and_key(&later.entry, &earlier.entry).is_eq();
            if same {
                merge(earlier, later);
            }
            same
        });
        if let Some(size) = aggregate.ranking_size() {
            // Stable, so that equal ones stay in the order of their keys.
            all.sort_by(|left, right| compare_scalars(&right.entry.values, &left.entry.values));
            all.truncate(size);
        }
        all
    }
}

fn add_up(sums: impl Iterator<Item = BucketTotals>) -> Summary {
    sums.fold(Summary::default(), |summary, bucket| Summary {
        keys: summary.keys + bucket.keys,
        sum: summary.sum + bucket.sum,
        approximate: false,
    })
}

/// The first of the latest buckets that are kept, among those of all partitions; `None` where all are.
fn earliest_kept(buckets: Option<TimeBuckets>, all: impl Iterator<Item = i64>) -> Option<i64> {
    let Some(TimeBuckets { keep: Retention::Latest(kept), .. }) = buckets else { return None };
    let mut all: Vec<i64> = all.collect();
    all.sort_unstable();
    all.dedup();
    all.get(all.len().checked_sub(kept as usize)?).copied()
}

fn is_kept(bucket: Option<i64>, earliest: Option<i64>) -> bool {
    bucket.is_none_or(|bucket| earliest.is_none_or(|earliest| bucket >= earliest))
}

/// Whether partitions that are added up may have counted the same thing. They haven't where it belongs to one user,
/// as all logins of a user are in one partition, and keys that are listed are matched by name.
fn may_count_twice(compiled: &Compiled) -> bool {
    let by_user = compiled.key.iter().any(|field| field.slot == Slot::USER_ID && field.limit.is_none());
    let of_users = matches!(&compiled.kept, Kept::Distinct(fields) if fields.contains(&Slot::USER_ID));
    let values = matches!(compiled.kept, Kept::Distinct(_)) && !of_users;
    !by_user && (values || !is_listed(compiled))
}

fn by_bucket_and_key(left: &Entry, right: &Entry) -> Ordering {
    left.bucket.cmp(&right.bucket).then_with(|| compare_scalars(&left.key, &right.key))
}

/// Makes one of the entries of the same key in two partitions: numbers are added up, and of latest values those of
/// the later login time stay (then those of the larger offset, which says nothing but is always the same).
fn merge(into: &mut Found, from: &Found) {
    if from.from.is_some() {
        let is_later = from.from.cmp(&into.from);
        if is_later.then_with(|| compare_scalars(&from.entry.values, &into.entry.values)).is_gt() {
            *into = from.clone();
        }
        return;
    }
    for (sum, more) in into.entry.values.iter_mut().zip(&from.entry.values) {
        if let (Scalar::Integer(sum), Scalar::Integer(more)) = (sum, more) {
            *sum += more;
        }
    }
}
