//! What the host is asked to keep: aggregates, described in the words of `wit/types.wit`.

use std::marker::PhantomData;

use crate::contract::{self, Condition, Dimension, Retention, TimeBuckets, TypedField};
use crate::{FieldValue, Total, Windowed};

/// The measure of a count.
#[derive(Clone, Copy, Debug)]
pub enum Count {}

/// The measure of a count of different values.
#[derive(Clone, Copy, Debug)]
pub enum Distinct {}

/// The measure of the most recent values.
#[derive(Clone, Copy, Debug)]
pub enum Latest {}

/// The measure of a ranking.
#[derive(Clone, Copy, Debug)]
pub enum Top {}

/// A measure with one number for each key.
pub trait Valued {}
impl Valued for Count {}
impl Valued for Distinct {}

/// A measure that has a [`Summary`](crate::Summary).
pub trait Summed {}
impl Summed for Count {}
impl Summed for Distinct {}
impl Summed for Latest {}

/// An aggregate to be kept over the accepted logins as they go out, after all enrichers. Give it to
/// [`Declare::total`](crate::Declare::total) or [`Declare::window`](crate::Declare::window).
///
/// ```
/// # use loginscope_plugin::prelude::*;
/// // Failed logins of each address, minute by minute, for an hour.
/// let failures = Aggregate::count().by("ip").only("outcome", ["failure"]).buckets(60, Keep::Seconds(3600));
/// ```
#[derive(Clone, Debug)]
pub struct Aggregate<M> {
    pub(crate) measure: Measure,
    pub(crate) by: Vec<Dimension>,
    pub(crate) buckets: Option<TimeBuckets>,
    pub(crate) filter: Vec<Condition>,
    marker: PhantomData<M>,
}

/// What is kept for each key.
#[derive(Clone, Debug)]
pub(crate) enum Measure {
    Count,
    Distinct(Vec<String>),
    Latest(Vec<String>),
    Top { size: u32, rank_by: Vec<Rank> },
}

/// How long time buckets are kept. Time is login time: it moves on with the latest login of the partition.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// The latest so many buckets that have logins, at most 10,000.
    Latest(u32),
    /// The buckets of so many seconds before the partition's latest login time, at most 10,000 of them.
    Seconds(u64),
}

impl<M> Aggregate<M> {
    fn new(measure: Measure) -> Self {
        Self { measure, by: Vec::new(), buckets: None, filter: Vec::new(), marker: PhantomData }
    }
}

impl Aggregate<Count> {
    /// How many logins.
    pub fn count() -> Self {
        Self::new(Measure::Count)
    }
}

impl Aggregate<Distinct> {
    /// How many different values of these fields together. A login that lacks one of them adds nothing. With more of them
    /// than the host is configured to keep, a key has an estimate.
    pub fn distinct<F: Into<String>>(fields: impl IntoIterator<Item = F>) -> Self {
        Self::new(Measure::Distinct(fields.into_iter().map(Into::into).collect()))
    }
}

impl Aggregate<Latest> {
    /// The values of these fields in the most recent login that has all of them.
    pub fn latest<F: Into<String>>(fields: impl IntoIterator<Item = F>) -> Self {
        Self::new(Measure::Latest(fields.into_iter().map(Into::into).collect()))
    }
}

impl Aggregate<Top> {
    /// The first so many keys (1 to 1,000) of a ranking by other aggregates, most significant first; each was declared with
    /// the same dimensions and span, and has no buckets. The largest value ranks first, then the smallest key.
    pub fn top(size: u32, rank_by: impl IntoIterator<Item = Rank>) -> Self {
        Self::new(Measure::Top { size, rank_by: rank_by.into_iter().collect() })
    }
}

/// The parts of the key, and which logins count. A ranking has none of its own.
impl<M: Summed> Aggregate<M> {
    /// Keeps it for each value of this field. May be said several times. A login that lacks the field isn't counted.
    /// `ip` is compared as an address; `timestamp` is the login time.
    #[must_use]
    pub fn by(mut self, field: impl Into<String>) -> Self {
        self.by.push(Dimension { field: field.into(), limit: None });
        self
    }

    /// As [`by`](Self::by), but only the first so many different values of a partition keep their names; all later ones
    /// are counted as `other`. The entries of an aggregate over all logins can be listed only if every dimension has a limit.
    #[must_use]
    pub fn by_first(mut self, limit: u32, field: impl Into<String>) -> Self {
        self.by.push(Dimension { field: field.into(), limit: Some(limit) });
        self
    }

    /// Keeps it for each bucket of login time: a bucket is so many seconds long, and begins at a multiple of that.
    #[must_use]
    pub fn buckets(mut self, seconds: u64, keep: Keep) -> Self {
        let keep = match keep {
            Keep::Latest(buckets) => Retention::Latest(buckets),
            Keep::Seconds(seconds) => Retention::Seconds(seconds),
        };
        self.buckets = Some(TimeBuckets { seconds, keep });
        self
    }

    /// Counts only logins whose field has one of these values, as text. May be said several times; all must hold.
    #[must_use]
    pub fn only<V: Into<String>>(self, field: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        self.condition(field.into(), values, false)
    }

    /// Counts only logins whose field has none of these values, as text; a missing field has none.
    #[must_use]
    pub fn except<V: Into<String>>(self, field: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        self.condition(field.into(), values, true)
    }

    fn condition<V: Into<String>>(mut self, field: String, values: impl IntoIterator<Item = V>, negated: bool) -> Self {
        self.filter.push(Condition { field, any_of: values.into_iter().map(Into::into).collect(), negated });
        self
    }
}

/// An aggregate to rank by.
#[derive(Clone, Copy, Debug)]
pub struct Rank(pub(crate) usize);

impl<M> Total<M> {
    fn look_up<T: FieldValue + ?Sized>(self, what: contract::LookUp) -> LookUp<T> {
        LookUp { aggregate: self.index(), what, over: None, marker: PhantomData }
    }
}

impl<M: Valued> Total<M> {
    /// To rank by this aggregate.
    pub fn rank(self) -> Rank {
        Rank(self.index())
    }

    /// The number for the login's own key; 0 for a key that isn't there yet.
    pub fn value(self) -> LookUp<i64> {
        self.look_up(contract::LookUp::Value)
    }
}

impl<M: Valued> Windowed<M> {
    /// To rank by this aggregate.
    pub fn rank(self) -> Rank {
        Rank(self.index())
    }
}

impl Total<Distinct> {
    /// Whether the login's own values are already among the different ones. Missing where that can't be told any more, as there
    /// are more different ones than the host keeps.
    pub fn contains(self) -> LookUp<bool> {
        self.look_up(contract::LookUp::Contains)
    }
}

impl Total<Latest> {
    /// The latest value of one of the fields, of the field's type: `last.latest::<str>("country")`.
    pub fn latest<T: FieldValue + ?Sized>(self, field: impl Into<String>) -> LookUp<T> {
        self.look_up(contract::LookUp::Latest(TypedField { name: field.into(), type_: T::TYPE }))
    }
}

/// A question about a login's past. Give it to [`Declare::history`](crate::Declare::history).
#[derive(Clone, Debug)]
pub struct LookUp<T: ?Sized> {
    pub(crate) aggregate: usize,
    pub(crate) what: contract::LookUp,
    pub(crate) over: Option<u64>,
    marker: PhantomData<T>,
}

impl<T: ?Sized> LookUp<T> {
    /// For an aggregate with buckets: over so many seconds, in whole buckets, back from and including the bucket of the
    /// login's own time. Without it, over all buckets that are kept.
    #[must_use]
    pub fn over(mut self, seconds: u64) -> Self {
        self.over = Some(seconds);
        self
    }
}
