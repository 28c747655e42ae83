//! What became of a message on one side, in a form that can be held against the other side.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::pipeline::{InsightRecord, Rejected};

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It was accepted, and came to this value.
    Accepted(&'a [u8]),
    /// It was rejected.
    Rejected {
        /// Why and where.
        rejected: &'a Rejected,
        /// The plugin's name; none for decode and encode.
        plugin: Option<&'a str>,
    },
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
            Self::Accepted(value) => {
                ShownOutcome::Accepted { processed: serde_json::from_slice(value).unwrap_or_default() }
            }
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

/// The fields that differ between two processed logins, by name.
pub fn changed_fields(old: &[u8], new: &[u8]) -> Vec<(String, FieldChange)> {
    let fields = |value: &[u8]| serde_json::from_slice::<Map<String, Value>>(value).unwrap_or_default();
    let (mut old, new) = (fields(old), fields(new));
    let mut changes = Vec::new();
    for (name, new) in new {
        let old = old.shift_remove(&name);
        if old.as_ref() != Some(&new) {
            changes.push((name, FieldChange { old, new: Some(new) }));
        }
    }
    changes.extend(old.into_iter().map(|(name, old)| (name, FieldChange { old: Some(old), new: None })));
    changes
}

/// An insight without what may differ though it says the same: the version of its plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenInsight {
    /// Its kind.
    pub kind: String,
    /// Its document.
    pub document: Value,
}

impl SeenInsight {
    /// An insight and its id.
    pub fn of(insight: &InsightRecord) -> Option<(String, Self)> {
        let mut document: Value = serde_json::from_str(&insight.value).ok()?;
        let members = document.as_object_mut()?;
        members.shift_remove("plugin");
        let id = members.get("id")?.as_str()?.to_owned();
        Some((id, Self { kind: insight.kind.clone(), document }))
    }
}
