//! What became of a message on one side, in a form that can be held against the other side.

use std::borrow::Cow;
use std::collections::BTreeMap;

use loginscope_login::{Logins, Schema, Value as Cell};
use loginscope_wasm::Insight;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::pipeline::{InsightRecord, Rejected};

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It was accepted, and came to this.
    Accepted(Login<'a>),
    /// It was rejected.
    Rejected {
        /// Why and where.
        rejected: &'a Rejected,
        /// The plugin's name; none for decode and encode.
        plugin: Option<&'a str>,
    },
}

/// A login that was accepted.
#[derive(Clone, Copy, Debug)]
pub enum Login<'a> {
    /// As it would go out.
    Json(&'a [u8]),
    /// As a row of columns, which needn't be all.
    Row(&'a Schema, &'a Logins, usize),
}

/// What became of a message, to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ShownOutcome {
    /// It was accepted, and came to this value.
    Accepted {
        /// The value.
        processed: Value,
    },
    /// It was rejected.
    Rejected {
        /// The code.
        code: String,
        /// The reason, a sentence.
        reason: String,
        /// The plugin's name; none for decode and encode.
        plugin: Option<String>,
    },
}

impl Outcome<'_> {
    /// The code, or `accepted`.
    pub fn word(&self) -> &str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Rejected { rejected, .. } => &rejected.rejection.code,
        }
    }

    /// To be shown.
    pub fn shown(&self) -> ShownOutcome {
        match self {
            Self::Accepted(login) => ShownOutcome::Accepted { processed: Value::Object(login.fields()) },
            Self::Rejected { rejected, plugin } => ShownOutcome::Rejected {
                code: rejected.rejection.code.to_string(),
                reason: rejected.rejection.reason.clone(),
                plugin: plugin.map(str::to_owned),
            },
        }
    }
}

/// A field of a processed login on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldChange {
    /// What it was; none where it wasn't there.
    pub old: Option<Value>,
    /// What it would be; none where it wouldn't be there.
    pub new: Option<Value>,
}

impl Login<'_> {
    /// Its fields, as far as they are at hand.
    fn fields(&self) -> Map<String, Value> {
        match self {
            Self::Json(value) => serde_json::from_slice(value).unwrap_or_default(),
            Self::Row(schema, logins, row) => {
                let fields = schema.fields().iter().zip(logins.columns());
                fields.filter_map(|(field, column)| Some((field.name.clone(), as_json(column.value(*row))?))).collect()
            }
        }
    }

    /// The fields that another one has otherwise, by name; none where both are the same.
    pub fn changed_fields(&self, new: &Self) -> Option<Vec<(String, FieldChange)>> {
        if let (Self::Json(old), Self::Json(new)) = (self, new)
            && old == new
        {
            return None;
        }
        let (mut old, new) = (self.fields(), new.fields());
        let mut changes = Vec::new();
        for (name, new) in new {
            let old = old.shift_remove(&name);
            if old.as_ref() != Some(&new) {
                changes.push((name, FieldChange { old, new: Some(new) }));
            }
        }
        changes.extend(old.into_iter().map(|(name, old)| (name, FieldChange { old: Some(old), new: None })));
        Some(changes)
    }
}

/// A value of a column as it would go out.
pub fn as_json(value: Cell<'_>) -> Option<Value> {
    match value {
        Cell::Missing => None,
        Cell::Text(text) => Some(text.into()),
        Cell::Integer(integer) => Some(integer.into()),
        Cell::Number(number) => Some(number.into()),
        Cell::Boolean(boolean) => Some(boolean.into()),
        Cell::Json(text) => Some(serde_json::from_str(text).unwrap_or_default()),
    }
}

/// An insight, to be held against another one: both say the same if they do so but for the plugin, of which the version may differ.
#[derive(Clone, Debug)]
pub struct SeenInsight {
    /// Its kind.
    pub kind: String,
    /// Its document.
    document: String,
}

/// What comes before the plugin in a document.
const PLUGIN: &str = "\"plugin\":\"";

/// What is read of a document.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

impl SeenInsight {
    /// Insights, each with what it is about, by an id.
    pub fn by_id<'i>(insights: impl Iterator<Item = (i64, &'i Insight)>) -> BTreeMap<String, Self> {
        let mut numbers: BTreeMap<(i64, &str), u32> = BTreeMap::new();
        let seen = insights.map(|(about, Insight { kind, severity, data })| {
            let number = numbers.entry((about, kind)).or_default();
            *number += 1;
            let document = format!("{{\"severity\":\"{severity:?}\",\"data\":{data}}}");
            (format!("{about}/{kind}/{number}"), Self { kind: kind.clone(), document })
        });
        seen.collect()
    }

    /// An insight and its id.
    pub fn of(insight: InsightRecord) -> Option<(String, Self)> {
        let Head { id } = serde_json::from_str(&insight.value).ok()?;
        Some((id.into_owned(), Self { kind: insight.kind, document: insight.value }))
    }

    /// What stands before its plugin and behind it.
    fn without_plugin(&self) -> Option<(&str, &str)> {
        let (before, plugin) = self.document.split_once(PLUGIN)?;
        Some((before, plugin.split_once('"')?.1))
    }

    /// The same as values, which may be written in more than one way.
    fn values(&self) -> Option<Value> {
        let mut values: Value = serde_json::from_str(&self.document).ok()?;
        values.as_object_mut()?.shift_remove("plugin");
        Some(values)
    }
}

impl PartialEq for SeenInsight {
    fn eq(&self, other: &Self) -> bool {
        let (one, another) = (self.without_plugin(), other.without_plugin());
        self.document == other.document || one.is_some() && one == another || self.values() == other.values()
    }
}

#[cfg(test)]
mod tests {
    use loginscope_wasm::Severity;

    use super::*;

    #[test]
    fn insights_of_two_versions_say_the_same_however_it_is_written() {
        let seen = |value: &str| {
            let value = value.to_owned();
            SeenInsight::of(InsightRecord { key: String::new(), kind: "k".to_owned(), value }).unwrap().1
        };
        let old = seen(r#"{"id":"t/0/1/k","plugin":"p@0.1.0","data":{"a":1,"b":2}}"#);
        assert_eq!(old, seen(r#"{"id":"t/0/1/k","plugin":"p@0.2.0","data":{"a":1,"b":2}}"#));
        assert_eq!(old, seen(r#"{"id":"t/0/1/k","plugin":"p@0.2.0","data":{"b":2, "a":1}}"#));
        assert_ne!(old, seen(r#"{"id":"t/0/1/k","plugin":"p@0.1.0","data":{"a":1,"b":3}}"#));
        let about = |data: &str| {
            let insight = Insight { kind: "k".to_owned(), severity: Severity::Low, data: data.to_owned() };
            SeenInsight::by_id(std::iter::once((7, &insight))).remove("7/k/1").unwrap()
        };
        assert_eq!(about("{}"), about("{ }"));
        assert_ne!(about("{}"), about(r#"{"a":1}"#));
    }
}
