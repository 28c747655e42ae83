//! What a plugin needs and gives: plain mirrors of the contract's records, without a trace of WebAssembly.
//!
//! What they mean stands in `wit/types.wit`. A [`Declaration`] that comes out of this crate has been checked: names and
//! counts are the contract's, nothing occurs twice, and only an enricher asks for history or sets fields. Whether the
//! aggregates make sense together is for whoever keeps them.

mod check;

use loginscope_login::{FieldType, Slot};

use crate::bindings::loginscope::plugin::types;
pub(crate) use check::check;

/// What a plugin needs and gives in one of its roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declaration {
    /// The fields of the login's own table that it reads.
    pub table: Vec<TableField>,
    /// The further fields it reads.
    pub reads: Vec<TypedField>,
    /// The aggregates it wants kept.
    pub aggregates: Vec<Aggregate>,
    /// What it wants to know of each login's past.
    pub history: Vec<HistoryRequest>,
    /// The fields it sets, in the order in which they are added to the login.
    pub sets: Vec<TypedField>,
}

/// A field of the login's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableField {
    /// A field of the login.
    Login(Slot),
    /// The record's own timestamp.
    RecordTimestamp,
}

/// A field and the type of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedField {
    /// Its name; for a field of the input, it may be a dotted path.
    pub name: String,
    /// The type of its values.
    pub field_type: FieldType,
}

/// An aggregate that the host is to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Its name, unique in the role.
    pub name: String,
    /// What is kept for each key.
    pub measure: Measure,
    /// The dimensions of the key.
    pub by: Vec<Dimension>,
    /// Time buckets, as a further part of the key.
    pub buckets: Option<TimeBuckets>,
    /// Only logins that meet all these conditions.
    pub filter: Vec<Condition>,
    /// Over which logins.
    pub span: Span,
}

/// What an aggregate keeps for each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// How many logins.
    Count,
    /// How many different values of these fields together.
    Distinct(Vec<String>),
    /// The values of these fields in the most recent login that has all of them.
    Latest(Vec<String>),
    /// A ranking of the keys by other aggregates.
    Top(Ranking),
}

/// A ranking of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The aggregates to rank by, most significant first.
    pub rank_by: Vec<String>,
    /// How many keys are kept.
    pub size: u32,
}

/// A field that an aggregate is kept by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// The field's name.
    pub field: String,
    /// How many different values keep their names.
    pub limit: Option<u32>,
}

/// Keep an aggregate by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeBuckets {
    /// The length of a bucket in seconds.
    pub seconds: u64,
    /// How long buckets are kept.
    pub keep: Retention,
}

/// How long time buckets are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// The latest so many buckets that have logins.
    Latest(u32),
    /// The buckets of so many seconds before the partition's latest login time.
    Seconds(u64),
}

/// A filter on the value of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The field's name.
    pub field: String,
    /// The values it is compared with.
    pub any_of: Vec<String>,
    /// Whether the field must have none of them.
    pub negated: bool,
}

/// Over which logins an aggregate is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All accepted logins since the beginning.
    Total,
    /// The logins of the current window, and of the one before.
    Window,
}

/// A look-up to be made for each login, as of just before that login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRequest {
    /// The aggregate.
    pub aggregate: String,
    /// What to look up.
    pub look_up: LookUp,
    /// Over how many seconds back.
    pub over: Option<u64>,
}

/// What of an aggregate an enricher wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// The count, or the number of different values.
    Value,
    /// Whether the aggregate already counts this login's own values.
    Contains,
    /// The latest value of this field.
    Latest(TypedField),
}

fn converted<Wit, Plain: From<Wit>>(items: Vec<Wit>) -> Vec<Plain> {
    items.into_iter().map(Plain::from).collect()
}

impl From<types::Declaration> for Declaration {
    fn from(it: types::Declaration) -> Self {
        Self {
            table: converted(it.table),
            reads: converted(it.reads),
            aggregates: converted(it.aggregates),
            history: converted(it.history),
            sets: converted(it.sets),
        }
    }
}

impl From<types::TableField> for TableField {
    fn from(it: types::TableField) -> Self {
        Self::Login(match it {
            types::TableField::UserId => Slot::USER_ID,
            types::TableField::Timestamp => Slot::TIMESTAMP,
            types::TableField::RecordTimestamp => return Self::RecordTimestamp,
            types::TableField::Ip => Slot::IP,
            types::TableField::DeviceType => Slot::DEVICE_TYPE,
            types::TableField::DeviceId => Slot::DEVICE_ID,
            types::TableField::Locale => Slot::LOCALE,
            types::TableField::AppVersion => Slot::APP_VERSION,
            types::TableField::Outcome => Slot::OUTCOME,
        })
    }
}

impl From<types::TypedField> for TypedField {
    fn from(it: types::TypedField) -> Self {
        Self { name: it.name, field_type: it.type_.into() }
    }
}

impl From<types::FieldType> for FieldType {
    fn from(it: types::FieldType) -> Self {
        match it {
            types::FieldType::Text => Self::Text,
            types::FieldType::Integer => Self::Integer,
            types::FieldType::Number => Self::Number,
            types::FieldType::Boolean => Self::Boolean,
            types::FieldType::Json => Self::Json,
        }
    }
}

impl From<types::Aggregate> for Aggregate {
    fn from(it: types::Aggregate) -> Self {
        Self {
            name: it.name,
            measure: it.measure.into(),
            by: converted(it.by),
            buckets: it.buckets.map(TimeBuckets::from),
            filter: converted(it.filter),
            span: match it.span {
                types::Span::Total => Span::Total,
                types::Span::Window => Span::Window,
            },
        }
    }
}

impl From<types::Measure> for Measure {
    fn from(it: types::Measure) -> Self {
        match it {
            types::Measure::Count => Self::Count,
            types::Measure::Distinct(fields) => Self::Distinct(fields),
            types::Measure::Latest(fields) => Self::Latest(fields),
            types::Measure::Top(ranking) => Self::Top(Ranking { rank_by: ranking.rank_by, size: ranking.size }),
        }
    }
}

impl From<types::Dimension> for Dimension {
    fn from(it: types::Dimension) -> Self {
        Self { field: it.field, limit: it.limit }
    }
}

impl From<types::TimeBuckets> for TimeBuckets {
    fn from(it: types::TimeBuckets) -> Self {
        let keep = match it.keep {
            types::Retention::Latest(buckets) => Retention::Latest(buckets),
            types::Retention::Seconds(seconds) => Retention::Seconds(seconds),
        };
        Self { seconds: it.seconds, keep }
    }
}

impl From<types::Condition> for Condition {
    fn from(it: types::Condition) -> Self {
        Self { field: it.field, any_of: it.any_of, negated: it.negated }
    }
}

impl From<types::HistoryRequest> for HistoryRequest {
    fn from(it: types::HistoryRequest) -> Self {
        let look_up = match it.look_up {
            types::LookUp::Value => LookUp::Value,
            types::LookUp::Contains => LookUp::Contains,
            types::LookUp::Latest(field) => LookUp::Latest(field.into()),
        };
        Self { aggregate: it.aggregate, look_up, over: it.over }
    }
}
