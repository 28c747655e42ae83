//! Tables by time: which buckets are kept, which may be seen, and when their memory is freed.
//!
//! - `Latest(n)`: the n latest buckets that ever had a login counted. As a bucket that isn't among them never is
//!   again, dropping it when a later one begins is the same as never having counted its logins.
//! - `Seconds(s)`: a bucket may be seen while it ends later than s seconds before the *watermark*, the largest login
//!   time of the partition so far. That is decided when it is looked at; memory is freed behind that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::aggregate::{Retention, TimeBuckets};
use crate::journal::Journal;
use crate::layout::TableLayout;
use crate::table::Table;

/// No login has had a time yet.
pub(crate) const NO_WATERMARK: i64 = i64::MIN;

/// One table, or one a time bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Storage {
    Plain(Table),
    /// By the begin of the bucket.
    Buckets(BTreeMap<i64, Table>),
}

impl Storage {
    pub(crate) fn new(layout: &TableLayout) -> Self {
        match layout.buckets {
            None => Self::Plain(Table::new(layout)),
            Some(_) => Self::Buckets(BTreeMap::new()),
        }
    }

    /// The table without buckets, or that of a bucket.
    pub(crate) fn table_mut(&mut self, bucket: i64) -> Option<&mut Table> {
        match self {
            Self::Plain(table) => Some(table),
            Self::Buckets(tables) => tables.get_mut(&bucket),
        }
    }

    /// All tables, each with the begin of its bucket.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (Option<i64>, &Table)> {
        let (plain, buckets) = match self {
            Self::Plain(table) => (Some(table), None),
            Self::Buckets(tables) => (None, Some(tables)),
        };
        let buckets = buckets.into_iter().flatten().map(|(bucket, table)| (Some(*bucket), table));
        plain.map(|table| (None, table)).into_iter().chain(buckets)
    }

    pub(crate) fn tables_mut(&mut self) -> Box<dyn Iterator<Item = &mut Table> + '_> {
        match self {
            Self::Plain(table) => Box::new(std::iter::once(table)),
            Self::Buckets(tables) => Box::new(tables.values_mut()),
        }
    }

    /// The tables that may be seen once this is the watermark.
    pub(crate) fn visible(
        &self,
        buckets: Option<TimeBuckets>,
        watermark: i64,
    ) -> impl Iterator<Item = (Option<i64>, &Table)> {
        let is_visible = move |bucket: Option<i64>| match (bucket, buckets) {
            (Some(bucket), Some(buckets)) => is_visible(bucket, buckets, watermark),
            _ => true,
        };
        self.tables().filter(move |(bucket, _)| is_visible(*bucket))
    }

    /// Frees the buckets that may never be seen again.
    pub(crate) fn free(&mut self, layout: &TableLayout, number: u32, watermark: i64, journal: &mut Journal) {
        let (Self::Buckets(tables), Some(buckets)) = (self, layout.buckets) else { return };
        while let Some(first) = tables.first_entry().filter(|first| !is_visible(*first.key(), buckets, watermark)) {
            let (bucket, table) = first.remove_entry();
            journal.bucket_dropped(number, bucket, table);
        }
    }
}

fn length(buckets: TimeBuckets) -> i64 {
    i64::try_from(buckets.seconds).unwrap_or(i64::MAX)
}

/// The begin of the bucket that a login time is in.
pub(crate) fn bucket_of(time: i64, buckets: TimeBuckets) -> i64 {
    time.div_euclid(length(buckets)).saturating_mul(length(buckets))
}

/// The begin of the first of so many buckets up to this one.
pub(crate) fn first_of(how_many: u64, bucket: i64, buckets: TimeBuckets) -> i64 {
    let earlier = i64::try_from(how_many.saturating_sub(1)).unwrap_or(i64::MAX);
    bucket.saturating_sub(earlier.saturating_mul(length(buckets)))
}

/// Whether a bucket may be seen once this is the watermark. Never again, if it may not.
pub(crate) fn is_visible(bucket: i64, buckets: TimeBuckets, watermark: i64) -> bool {
    match buckets.keep {
        Retention::Latest(_) => true,
        Retention::Seconds(seconds) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            bucket.saturating_add(length(buckets)) > watermark.saturating_sub(seconds)
        }
    }
}

/// The table of a bucket that a login is to be counted in, begun if need be; `None` if it isn't kept any more.
/// `watermark` includes this login.
pub(crate) fn admit<'a>(
    tables: &'a mut BTreeMap<i64, Table>,
    bucket: i64,
    layout: &TableLayout,
    number: u32,
    watermark: i64,
    journal: &mut Journal,
) -> Option<&'a mut Table> {
    let buckets = layout.buckets?;
    if !tables.contains_key(&bucket) {
        if !is_visible(bucket, buckets, watermark) {
            return None;
        }
        if let Retention::Latest(kept) = buckets.keep
            && tables.len() >= kept as usize
        {
            let earliest = tables.first_entry().filter(|earliest| *earliest.key() < bucket)?;
            let (earliest, table) = earliest.remove_entry();
            journal.bucket_dropped(number, earliest, table);
        }
        tables.insert(bucket, Table::new(layout));
        journal.bucket_begun(number, bucket);
    }
    tables.get_mut(&bucket)
}
