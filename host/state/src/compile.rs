//! One definition at a time: checked against the contract's rules, and its field names resolved to slots.
//!
//! Every refusal is the reason as a sentence's end; [`catalog`](crate::catalog) says whose aggregate it is.

use loginscope_login::{Schema, Slot};

use crate::aggregate::{Definition, Measure, Ranking, Retention, Span, TimeBuckets};
use crate::filter::Filter;

/// The most buckets that an aggregate keeps, and the most keys that a ranking does.
const MAX_BUCKETS: u64 = 10_000;
const MAX_RANKED: u32 = 1_000;
const MAX_NAME_BYTES: usize = 64;

/// A field of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyField {
    pub(crate) slot: Slot,
    pub(crate) limit: Option<u32>,
}

/// What is kept for each key, its fields resolved. The fields of [`Measure`]'s cases, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kept {
    Count,
    Distinct(Vec<Slot>),
    Latest(Vec<Slot>),
}

impl Kept {
    /// The fields that a login must have to add something.
    pub(crate) fn fields(&self) -> &[Slot] {
        match self {
            Self::Count => &[],
            Self::Distinct(fields) | Self::Latest(fields) => fields,
        }
    }
}

/// An aggregate that is no ranking, resolved. Two that are equal here keep the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compiled {
    pub(crate) key: Vec<KeyField>,
    pub(crate) kept: Kept,
    pub(crate) buckets: Option<TimeBuckets>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) span: Span,
}

impl Compiled {
    /// The slots of all fields that what is kept depends on, sorted.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.key.iter().map(|field| field.slot).collect();
        slots.extend(self.kept.fields());
        slots.extend(self.filters.iter().map(|filter| filter.slot));
        slots.extend(self.buckets.map(|_| Slot::TIMESTAMP));
        slots.sort_unstable();
        slots.dedup();
        slots
    }
}

/// Whether a name is one that an aggregate may have.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Err("its name must be 1 to 64 lower-case letters, digits, hyphens and underscores".into());
    }
    Ok(())
}

/// Resolves an aggregate that is no ranking.
pub(crate) fn compile(definition: &Definition, schema: &Schema) -> Result<Compiled, String> {
    let kept = match &definition.measure {
        Measure::Count => Kept::Count,
        Measure::Distinct(fields) => Kept::Distinct(measured(fields, schema)?),
        Measure::Latest(fields) => Kept::Latest(measured(fields, schema)?),
        Measure::Top(_) => return Err("a ranking keeps nothing of its own".into()),
    };
    let mut key: Vec<KeyField> = Vec::new();
    for dimension in &definition.by {
        let slot = slot_of(&dimension.field, schema)?;
        if key.iter().any(|field| field.slot == slot) {
            return Err(format!("it is kept by `{}` twice", dimension.field));
        }
        if dimension.limit == Some(0) {
            return Err(format!("the limit of its dimension `{}` must be at least 1", dimension.field));
        }
        key.push(KeyField { slot, limit: dimension.limit });
    }
    if let Some(buckets) = definition.buckets {
        check_buckets(buckets)?;
    }
    let filters = definition
        .filter
        .iter()
        .map(|condition| Filter::compile(condition, schema).ok_or_else(|| unknown_field(&condition.field)));
    Ok(Compiled {
        key,
        kept,
        buckets: definition.buckets,
        filters: filters.collect::<Result<_, _>>()?,
        span: definition.span,
    })
}

fn unknown_field(field: &str) -> String {
    format!("there is no field `{field}`")
}

fn slot_of(field: &str, schema: &Schema) -> Result<Slot, String> {
    schema.slot(field).ok_or_else(|| unknown_field(field))
}

fn measured(fields: &[String], schema: &Schema) -> Result<Vec<Slot>, String> {
    if fields.is_empty() {
        return Err("it names no field to keep values of".into());
    }
    let mut slots = Vec::new();
    for field in fields {
        let slot = slot_of(field, schema)?;
        if slots.contains(&slot) {
            return Err(format!("it keeps values of `{field}` twice"));
        }
        slots.push(slot);
    }
    Ok(slots)
}

fn check_buckets(buckets: TimeBuckets) -> Result<(), String> {
    if buckets.seconds == 0 || i64::try_from(buckets.seconds).is_err() {
        return Err("the length of its time buckets must be at least one second and fit 63 bits".into());
    }
    let kept = match buckets.keep {
        Retention::Latest(kept) => u64::from(kept),
        Retention::Seconds(seconds) => seconds.div_ceil(buckets.seconds),
    };
    if kept == 0 || kept > MAX_BUCKETS {
        return Err(format!("it must keep 1 to {MAX_BUCKETS} time buckets, not {kept}"));
    }
    Ok(())
}

/// Checks a ranking against the aggregates that it ranks by, each with what it was compiled to; `None` for a name
/// that the plugin doesn't have, or that is a ranking itself.
pub(crate) fn check_ranking<'a>(
    definition: &Definition,
    ranking: &Ranking,
    ranked: impl Fn(&str) -> Option<&'a Compiled>,
) -> Result<(), String> {
    if !definition.by.is_empty() || definition.buckets.is_some() || !definition.filter.is_empty() {
        return Err("a ranking has no dimensions, buckets or filter of its own".into());
    }
    if !(1..=MAX_RANKED).contains(&ranking.size) {
        return Err(format!("a ranking keeps 1 to {MAX_RANKED} keys, not {}", ranking.size));
    }
    let mut key = None;
    for name in &ranking.rank_by {
        let Some(by) = ranked(name) else {
            return Err(format!("it ranks by `{name}`, which is no count or distinct count of the same plugin"));
        };
        if matches!(by.kept, Kept::Latest(_)) || by.buckets.is_some() || by.span != definition.span {
            return Err(format!("it ranks by `{name}`, which must count, have no buckets and have the same span"));
        }
        if *key.get_or_insert(&by.key) != &by.key {
            return Err(format!("it ranks by `{name}`, which has other dimensions than the first one"));
        }
    }
    if key.is_none() { Err("it names no aggregate to rank by".into()) } else { Ok(()) }
}
