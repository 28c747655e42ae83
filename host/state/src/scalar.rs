//! The values that aggregates hold, and their order.

use std::cmp::Ordering;

use loginscope_login::Value;
use serde::{Deserialize, Serialize};

/// A value that an aggregate holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// A text; addresses in their canonical form, JSON documents as they were written.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// A boolean.
    Boolean(bool),
}

impl Scalar {
    /// The order of keys: texts by their bytes, numbers by size, `false` before `true`, and texts after all others.
    pub fn compare(&self, other: &Self) -> Ordering {
        compare_values(self.as_value(), other.as_value())
    }

    /// A value of a column; `None` where it is missing.
    pub(crate) fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Text(text) | Value::Json(text) => Self::Text(text.to_owned()),
            Value::Integer(integer) => Self::Integer(integer),
            Value::Number(number) => Self::Number(number),
            Value::Boolean(boolean) => Self::Boolean(boolean),
            Value::Missing => return None,
        })
    }

    /// The value as one of a column's.
    pub(crate) fn as_value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text(text),
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Number(number) => Value::Number(*number),
            Self::Boolean(boolean) => Value::Boolean(*boolean),
        }
    }
}

/// The order that [`Scalar::compare`] tells of.
pub(crate) fn compare_values(left: Value<'_>, right: Value<'_>) -> Ordering {
    fn rank(value: Value<'_>) -> u8 {
        match value {
            Value::Missing => 0,
            Value::Boolean(_) => 1,
            Value::Integer(_) => 2,
            Value::Number(_) => 3,
            Value::Text(_) | Value::Json(_) => 4,
        }
    }
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Value::Integer(left), Value::Integer(right)) => left.cmp(&right),
        (Value::Number(left), Value::Number(right)) => left.total_cmp(&right),
        (Value::Boolean(left), Value::Boolean(right)) => left.cmp(&right),
        _ => rank(left).cmp(&rank(right)),
    }
}

/// Compares two keys value by value.
pub(crate) fn compare_scalars(left: &[Scalar], right: &[Scalar]) -> Ordering {
    let by_value = left.iter().zip(right).map(|(left, right)| left.compare(right));
    by_value.fold(Ordering::Equal, Ordering::then).then(left.len().cmp(&right.len()))
}
