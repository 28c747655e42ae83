//! What plugins declare: aggregates and look-ups, as plain data.
//!
//! These types mirror the plugin contract (`wit/types.wit`) one to one. Nothing here is checked; that is
//! [`Catalog`](crate::Catalog)'s work.

use serde::{Deserialize, Serialize};

/// An aggregate that is to be kept over the accepted logins, as they are after all enrichers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name, unique in the plugin: 1 to 64 lower-case letters, digits, hyphens and underscores.
    pub name: String,
    /// What is kept for each key.
    pub measure: Measure,
    /// The dimensions of the key; none for a single value over all logins, and none of its own for a ranking.
    pub by: Vec<Dimension>,
    /// Buckets of the login time as a further part of the key. Not for a ranking.
    pub buckets: Option<TimeBuckets>,
    /// Only logins that meet all these conditions. Not for a ranking.
    pub filter: Vec<Condition>,
    /// Over which logins.
    pub span: Span,
}

/// What an aggregate keeps for each key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// How many logins.
    Count,
    /// How many different values of these fields together. A login that lacks one of them adds nothing.
    Distinct(Vec<String>),
    /// The values of these fields in the most recent login, in offset order, that has all of them.
    Latest(Vec<String>),
    /// A ranking of the keys by other aggregates of the same plugin.
    Top(Ranking),
}

/// A ranking of keys, kept up to date as logins come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranking {
    /// The names of the aggregates to rank by, most significant first. The largest value ranks first; where all are
    /// equal, the smallest key (in bytes) does.
    pub rank_by: Vec<String>,
    /// How many keys are kept, 1 to 1,000.
    pub size: u32,
}

/// A field that an aggregate is kept by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimension {
    /// The field's name.
    pub field: String,
    /// With a limit, the first so many different values of a partition keep their names, and all later ones are
    /// counted as `other`.
    pub limit: Option<u32>,
}

/// Keep an aggregate by time: a bucket begins at a multiple of its length since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeBuckets {
    /// The length of a bucket in seconds, at least 1.
    pub seconds: u64,
    /// How long buckets are kept.
    pub keep: Retention,
}

/// How long the time buckets of an aggregate are kept, in login time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Retention {
    /// The latest so many buckets that have logins, 1 to 10,000.
    Latest(u32),
    /// The buckets that end later than so many seconds before the partition's latest login time; at most 10,000.
    Seconds(u64),
}

/// A filter on the value of one field, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The field's name.
    pub field: String,
    /// The values it is compared with.
    pub any_of: Vec<String>,
    /// `false`: the field must have one of the values. `true`: it must have none of them; a missing field has none.
    pub negated: bool,
}

/// Over which logins an aggregate is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Span {
    /// All accepted logins since the beginning.
    Total,
    /// The logins of the current window; those of the previous one stay readable.
    Window,
}

/// A look-up to be made for each login, with the login's own values as the key, as the aggregate was just before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRequest {
    /// The name of an aggregate of the same plugin, with span [`Span::Total`] and no ranking.
    pub aggregate: String,
    /// What to look up.
    pub look_up: LookUp,
    /// Over how many seconds, counted in whole buckets, back from and including the bucket of the login's own time.
    /// All buckets that are kept, up to that one, where there is none.
    pub over: Option<u64>,
}

/// What of an aggregate an enricher wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// The count, or the number of different values; 0 for a key that isn't there.
    Value,
    /// Whether the aggregate already counts this login's own values.
    Contains,
    /// The latest value of this field.
    Latest(String),
}
