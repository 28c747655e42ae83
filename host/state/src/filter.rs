//! Filters on field values, compiled so that judging a login compares values instead of writing them as text.

use loginscope_login::{FieldType, Logins, Schema, Slot, Value};

use crate::aggregate::Condition;
use crate::value::encode;

/// A condition whose field and values are known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filter {
    pub(crate) slot: Slot,
    any_of: AnyOf,
    negated: bool,
}

/// What a field's value is compared with. A text that no value of the field's type is written as, is left out: it
/// never equals one.
#[derive(Clone, Debug, PartialEq)]
enum AnyOf {
    Texts(Vec<String>),
    /// Encoded, so that two ways to write an address are one.
    Addresses(Vec<Vec<u8>>),
    Integers(Vec<i64>),
    /// By value: `1`, `1.0` and `1e0` are one number.
    Numbers(Vec<f64>),
    Booleans(Vec<bool>),
}

impl Filter {
    /// Compiles a condition; `None` where its field is unknown.
    pub(crate) fn compile(condition: &Condition, schema: &Schema) -> Option<Self> {
        let slot = schema.slot(&condition.field)?;
        let texts = || condition.any_of.iter();
        let any_of = match schema.field(slot)?.field_type {
            FieldType::Text if slot == Slot::IP => AnyOf::Addresses(texts().map(|text| address(text)).collect()),
            FieldType::Text | FieldType::Json => AnyOf::Texts(condition.any_of.clone()),
            FieldType::Integer => AnyOf::Integers(texts().filter_map(|text| integer(text)).collect()),
            FieldType::Number => AnyOf::Numbers(texts().filter_map(|text| number(text)).collect()),
            FieldType::Boolean => AnyOf::Booleans(texts().filter_map(|text| text.parse().ok()).collect()),
        };
        Some(Self { slot, any_of, negated: condition.negated })
    }

    /// Whether the login in this row meets the condition.
    pub(crate) fn passes(&self, logins: &Logins, row: usize) -> bool {
        let has_one = match (logins.value(self.slot, row), &self.any_of) {
            (Value::Text(text) | Value::Json(text), AnyOf::Texts(texts)) => texts.iter().any(|one| one == text),
            (Value::Text(text), AnyOf::Addresses(addresses)) => addresses.contains(&address(text)),
            (Value::Integer(integer), AnyOf::Integers(integers)) => integers.contains(&integer),
            (Value::Number(number), AnyOf::Numbers(numbers)) => numbers.contains(&number),
            (Value::Boolean(boolean), AnyOf::Booleans(booleans)) => booleans.contains(&boolean),
            _ => false,
        };
        has_one != self.negated
    }
}

fn address(text: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    encode(Slot::IP, Value::Text(text), &mut encoded);
    encoded
}

/// The integer that JSON would write this way.
fn integer(text: &str) -> Option<i64> {
    let integer: i64 = text.parse().ok()?;
    (integer.to_string() == text).then_some(integer)
}

/// The number that JSON would write this way.
fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let written = digits.starts_with(|first: char| first.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| written && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(field: &str, field_type: FieldType, any_of: &[&str], negated: bool, value: Value<'_>) -> bool {
        let mut schema = Schema::default();
        schema.add(field, field_type).unwrap();
        let any_of = any_of.iter().map(ToString::to_string).collect();
        let filter = Filter::compile(&Condition { field: field.into(), any_of, negated }, &schema).unwrap();
        let mut logins = Logins::new(&schema);
        let slot = schema.slot(field).unwrap();
        for (index, column) in logins.columns_mut().iter_mut().enumerate() {
            column.push(if index == slot.0 { value } else { Value::Missing });
        }
        logins.offsets.push(0);
        filter.passes(&logins, 0)
    }

    #[test]
    fn a_login_passes_with_one_of_the_values() {
        assert!(passes("outcome", FieldType::Text, &["x", "failure"], false, Value::Text("failure")));
        assert!(!passes("outcome", FieldType::Text, &["x", "failure"], false, Value::Text("success")));
        assert!(!passes("outcome", FieldType::Text, &["failure"], false, Value::Missing));
    }

    #[test]
    fn a_negated_condition_is_met_by_other_values_and_by_none() {
        assert!(!passes("outcome", FieldType::Text, &["failure"], true, Value::Text("failure")));
        assert!(passes("outcome", FieldType::Text, &["failure"], true, Value::Text("success")));
        assert!(passes("outcome", FieldType::Text, &["failure"], true, Value::Missing));
    }

    #[test]
    fn values_are_compared_as_json_writes_them() {
        assert!(passes("n", FieldType::Integer, &["-5"], false, Value::Integer(-5)));
        assert!(!passes("n", FieldType::Integer, &["+5", "05", "5.0"], false, Value::Integer(5)));
        assert!(passes("n", FieldType::Number, &["5"], false, Value::Number(5.0)));
        assert!(passes("n", FieldType::Number, &["5e-1"], false, Value::Number(0.5)));
        assert!(!passes("n", FieldType::Number, &["inf", "nan", "+5", ".5"], false, Value::Number(5.0)));
        assert!(passes("n", FieldType::Boolean, &["true"], false, Value::Boolean(true)));
        assert!(!passes("n", FieldType::Boolean, &["True", "1"], false, Value::Boolean(true)));
        assert!(passes("n", FieldType::Json, &["[1]"], false, Value::Json("[1]")));
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        assert!(passes("ip", FieldType::Text, &["1.2.3.4"], false, Value::Text("::ffff:1.2.3.4")));
        assert!(passes("ip", FieldType::Text, &["2001:DB8::1"], false, Value::Text("2001:db8:0::1")));
    }
}
