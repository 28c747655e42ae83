//! What plugins are asked and what they answer, as plain values.

use loginscope_login::{Column, Rejection};

/// What an enricher found out about a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Enrichment {
    /// One column for each of the fields that the enricher sets, in the declaration's order, each with a value or none for
    /// every login.
    pub fields: Vec<Column>,
    /// Insights about single logins, each with the login's row, by row.
    pub insights: Vec<(u32, Insight)>,
    /// The logins that must not go on, each with its row, by row.
    pub rejections: Vec<(u32, Rejection)>,
}

/// Something that a plugin found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insight {
    /// Its kind, `lower_snake_case`.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// What was found: the text of a JSON object.
    pub data: String,
}

/// How much an insight matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For information.
    Info,
    /// Worth a look some day.
    Low,
    /// Worth a look.
    Medium,
    /// Worth a look now.
    High,
    /// Wake somebody up.
    Critical,
}

/// A window that has just become complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The input topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The window's number in its partition, from 1.
    pub number: u64,
    /// What it holds.
    pub facts: WindowFacts,
    /// The window before it; none for the first.
    pub previous: Option<WindowFacts>,
}

/// Facts about the logins of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowFacts {
    /// How many accepted logins it has.
    pub logins: u32,
    /// How many logins were rejected between the previous window's last login and this one's.
    pub rejected: u64,
    /// The offset of its first accepted login.
    pub first_offset: i64,
    /// The offset of its last accepted login.
    pub last_offset: i64,
    /// The smallest login time in it, in epoch seconds.
    pub earliest_login_time: Option<i64>,
    /// The largest login time in it, in epoch seconds.
    pub latest_login_time: Option<i64>,
}
