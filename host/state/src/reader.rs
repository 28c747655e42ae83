//! Reading aggregates, as plugins do while they make insights: this partition exactly as it is, and for span
//! [`Span::Total`] the other partitions as they last told.

use std::cmp::Ordering;

use crate::aggregate::{Retention, Span, TimeBuckets};
use crate::catalog::Aggregate;
use crate::entries::{Entry, Found, StoredEntry, TakeEntries};
use crate::packed::{Share, different_members};
use crate::partition::Partition;
use crate::scalar::{Scalar, compare_scalars};
use crate::totals::{AggregateTotals, BucketTotals, PartitionTotals, Period, has_sketches, is_listed, may_count_twice};

/// All keys of an aggregate taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many keys (bucket included) it has.
    pub keys: u64,
    /// The sum of the values of all keys; 0 for latest values.
    pub sum: u64,
    /// Whether these are estimates: a key has too many different values to keep them all, or something may occur in
    /// several partitions, and was counted once in each, or was made one by sketches.
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
        let is_unkeyed = self.is_unkeyed();
        if is_listed(compiled) {
            let merged = self.merged(index, aggregate, &others);
            summary.keys = merged.len() as u64;
            if has_sketches(compiled, is_unkeyed) {
                summary.sum = merged.iter().filter_map(number).sum();
            }
        }
        summary.approximate |= with_some > 1 && may_count_twice(compiled, is_unkeyed);
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

    /// Whether logins of one user may be in several partitions.
    fn is_unkeyed(&self) -> bool {
        self.partition.is_unkeyed() || self.others.iter().any(|other| other.is_unkeyed)
    }

    /// The entries of all partitions, those of one key made one.
    fn merged(&self, index: usize, aggregate: &Aggregate, others: &[&AggregateTotals]) -> Vec<Found> {
        let unites = aggregate.values().is_some_and(|compiled| has_sketches(compiled, self.is_unkeyed()));
        let own = self.partition.stored_entries(index, Period::Current);
        let mut all: Vec<Candidate<'_>> = own.iter().map(|stored| Candidate::own(stored, unites)).collect();
        all.extend(
            others.iter().flat_map(|other| other.entries.iter().flatten()).map(|found| Candidate::sent(found, unites)),
        );
        let buckets = aggregate.definition.buckets;
        let earliest = earliest_kept(buckets, all.iter().filter_map(|candidate| candidate.found.entry.bucket));
        all.retain(|candidate| is_kept(candidate.found.entry.bucket, earliest));
        all.sort_by(|left, right| by_bucket_and_key(&left.found.entry, &right.found.entry));
        all.dedup_by(|later, earlier| {
            let same = by_bucket_and_key(&later.found.entry, &earlier.found.entry).is_eq();
            if same {
                merge(&mut earlier.found, &later.found);
                earlier.shares.append(&mut later.shares);
            }
            same
        });
        let mut all: Vec<Found> = all.into_iter().map(Candidate::united).collect();
        if let Some(size) = aggregate.ranking_size() {
            // Stable, so that equal ones stay in the order of their keys.
            all.sort_by(|left, right| compare_scalars(&right.entry.values, &left.entry.values));
            all.truncate(size);
        }
        all
    }
}

/// An entry that is made one with those of the same key in other partitions.
struct Candidate<'a> {
    found: Found,
    /// What each partition has of different values, where several may have the same ones.
    shares: Vec<Share<'a>>,
}

impl<'a> Candidate<'a> {
    fn own(stored: &StoredEntry<'a>, unites: bool) -> Self {
        let shares = stored.set().filter(|_| unites).map(Share::Own);
        Self { found: stored.found(), shares: shares.into_iter().collect() }
    }

    fn sent(found: &'a Found, unites: bool) -> Self {
        let Found { entry, from, sketch } = found;
        let shares = number(found).filter(|_| unites).map(|members| Share::Sent(members, sketch.as_ref()));
        Self { found: Found { entry: entry.clone(), from: *from, sketch: None }, shares: shares.into_iter().collect() }
    }

    /// The entry, with as many different values as there are in all partitions together.
    fn united(mut self) -> Found {
        if self.shares.len() > 1 {
            self.found.entry.values = vec![Scalar::Integer(different_members(&self.shares) as i64)];
        }
        self.found
    }
}

/// The number that an entry of a count or distinct count has.
fn number(found: &Found) -> Option<u64> {
    match found.entry.values.first() {
        Some(Scalar::Integer(number)) => Some(*number as u64),
        _ => None,
    }
}

fn add_up(sums: impl Iterator<Item = BucketTotals>) -> Summary {
    sums.fold(Summary::default(), |summary, bucket| Summary {
        keys: summary.keys + bucket.keys,
        sum: summary.sum + bucket.sum,
        approximate: summary.approximate || bucket.is_estimated,
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
