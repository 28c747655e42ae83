//! What is asked about the past, and how it is answered from what is kept.

use loginscope_login::{Column, FieldType, Value};

use crate::set::Set;
use crate::table::Member;
use crate::value::{decode, split_first};

/// What is asked of a member of a table, for every login.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) member: usize,
    pub(crate) ask: Ask,
    /// Over how many buckets; over all of them where there is none.
    pub(crate) over: Option<u64>,
    /// One row a login.
    pub(crate) answers: Column,
}

impl Question {
    /// Answers with a number.
    #[inline]
    pub(crate) fn number(&mut self, number: u64) {
        match &mut self.answers {
            Column::Integer(answers) => answers.values.push(number as i64),
            answers => answers.push(Value::Missing),
        }
    }

    /// Answers whether a value is there; with nothing where that isn't known.
    #[inline]
    pub(crate) fn contains(&mut self, contains: Option<bool>) {
        self.answers.push(contains.map_or(Value::Missing, Value::Boolean));
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The count, or the number of different values.
    Value,
    /// Whether the login's own values are already there.
    Contains,
    /// The latest value of the field at this place.
    Latest { field: usize, field_type: FieldType },
}

impl Ask {
    /// The type of the answers.
    pub(crate) fn field_type(self) -> FieldType {
        match self {
            Self::Value => FieldType::Integer,
            Self::Contains => FieldType::Boolean,
            Self::Latest { field_type, .. } => field_type,
        }
    }
}

/// Answers a question from what was found under the key: nothing, one value, or one a bucket. `own` are the login's
/// own values of what the member keeps.
#[inline]
pub(crate) fn answer<'a>(question: &mut Question, found: impl Iterator<Item = (&'a Member, u32)>, own: Option<&[u8]>) {
    match question.ask {
        Ask::Value => question.number(value_of_all(found)),
        Ask::Contains => {
            let contains = own.map(|own| contained(found.filter_map(|(member, id)| member.set(id)), own));
            question.contains(contains.flatten());
        }
        Ask::Latest { field, field_type } => {
            let latest = found.filter_map(|(member, id)| member.latest(id)).max_by_key(|latest| latest.offset);
            let encoded = latest.and_then(|latest| nth(latest.values, field));
            let answered = encoded.and_then(|encoded| {
                decode(encoded, |value| match (value, field_type) {
                    (Value::Text(text), FieldType::Json) => question.answers.push(Value::Json(text)),
                    (value, _) => question.answers.push(value),
                })
            });
            if answered.is_none() {
                question.answers.push(Value::Missing);
            }
        }
    }
}

/// Whether a value is in one of these sets; nothing where it isn't in any that has members, but may be in one that is
/// estimated.
fn contained<'a>(sets: impl Iterator<Item = &'a Set>, value: &[u8]) -> Option<bool> {
    let mut contains = Some(false);
    for set in sets {
        match set.contains(value) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => contains = None,
        }
    }
    contains
}

/// The sum of counts, or how many different values there are in sets taken together.
fn value_of_all<'a>(found: impl Iterator<Item = (&'a Member, u32)>) -> u64 {
    let (mut sum, mut only, mut union) = (0, None::<&Set>, None::<Set>);
    for (member, id) in found {
        match (member.set(id), only) {
            (None, _) => sum += member.value(id),
            (Some(set), None) => only = Some(set),
            (Some(set), Some(first)) => union.get_or_insert_with(|| first.clone()).absorb(set),
        }
    }
    union.as_ref().or(only).map_or(sum, Set::len)
}

fn nth(mut values: &[u8], index: usize) -> Option<&[u8]> {
    for _ in 0..index {
        values = split_first(values)?.1;
    }
    Some(split_first(values)?.0)
}
