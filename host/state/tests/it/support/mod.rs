//! What the tests share: logins, declarations, and a model that keeps all logins and works everything out anew.

pub(crate) mod listed;
pub(crate) mod model;

use std::net::IpAddr;
use std::sync::LazyLock;

use loginscope_login::{Column, FieldType, Logins, Schema, Slot, Value};
use loginscope_state::{Condition, Definition, Dimension, Measure, Retention, Scalar, Span, TimeBuckets};

/// Fields that the tests add to the login's own.
pub(crate) const FURTHER: [(&str, FieldType); 4] = [
    ("level", FieldType::Integer),
    ("score", FieldType::Number),
    ("vip", FieldType::Boolean),
    ("geo", FieldType::Json),
];

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = Schema::default();
    for (name, field_type) in FURTHER {
        schema.add(name, field_type).unwrap();
    }
    schema
});

pub(crate) fn schema() -> &'static Schema {
    &SCHEMA
}

/// A login of a test: an offset, and the values by slot, as JSON would hold them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Login {
    pub(crate) offset: i64,
    pub(crate) values: Vec<Option<Scalar>>,
}

impl Login {
    pub(crate) fn new(offset: i64) -> Self {
        Self { offset, values: vec![None; Slot::CANONICAL + FURTHER.len()] }
    }

    pub(crate) fn with(mut self, field: &str, value: Scalar) -> Self {
        self.values[schema().slot(field).unwrap().0] = Some(value);
        self
    }

    pub(crate) fn text(self, field: &str, value: &str) -> Self {
        self.with(field, Scalar::Text(value.to_owned()))
    }

    pub(crate) fn time(self, time: i64) -> Self {
        self.with("timestamp", Scalar::Integer(time))
    }

    pub(crate) fn timestamp(&self) -> Option<i64> {
        match self.values[Slot::TIMESTAMP.0] {
            Some(Scalar::Integer(time)) => Some(time),
            _ => None,
        }
    }

    /// A value as it is compared and shown.
    pub(crate) fn shown(&self, field: &str) -> Option<Scalar> {
        let value = self.values[schema().slot(field).unwrap().0].clone()?;
        Some(match value {
            Scalar::Text(text) if field == "ip" => Scalar::Text(match text.parse::<IpAddr>() {
                Ok(address) => address.to_canonical().to_string(),
                Err(_) => text,
            }),
            Scalar::Number(number) => Scalar::Number(number + 0.0),
            value => value,
        })
    }
}

/// Logins as columns.
pub(crate) fn batch(logins: &[Login]) -> Logins {
    let mut batch = Logins::new(schema());
    for login in logins {
        for (column, value) in batch.columns_mut().iter_mut().zip(&login.values) {
            let is_json = matches!(column, Column::Json(_));
            column.push(match value {
                None => Value::Missing,
                Some(Scalar::Text(text)) if is_json => Value::Json(text),
                Some(Scalar::Text(text)) => Value::Text(text),
                Some(Scalar::Integer(integer)) => Value::Integer(*integer),
                Some(Scalar::Number(number)) => Value::Number(*number),
                Some(Scalar::Boolean(boolean)) => Value::Boolean(*boolean),
            });
        }
        batch.record_timestamps.push(None);
        batch.offsets.push(login.offset);
    }
    batch
}

/// A value of an answer column.
pub(crate) fn answer(column: &Column, row: usize) -> Option<Scalar> {
    match column.value(row) {
        Value::Missing => None,
        Value::Text(text) | Value::Json(text) => Some(Scalar::Text(text.to_owned())),
        Value::Integer(integer) => Some(Scalar::Integer(integer)),
        Value::Number(number) => Some(Scalar::Number(number)),
        Value::Boolean(boolean) => Some(Scalar::Boolean(boolean)),
    }
}

pub(crate) fn count(name: &str, by: &[&str]) -> Definition {
    Definition {
        name: name.to_owned(),
        measure: Measure::Count,
        by: by.iter().map(|field| Dimension { field: (*field).to_owned(), limit: None }).collect(),
        buckets: None,
        filter: Vec::new(),
        span: Span::Total,
    }
}

pub(crate) fn distinct(name: &str, fields: &[&str], by: &[&str]) -> Definition {
    let fields = fields.iter().map(ToString::to_string).collect();
    Definition { measure: Measure::Distinct(fields), ..count(name, by) }
}

pub(crate) fn latest(name: &str, fields: &[&str], by: &[&str]) -> Definition {
    let fields = fields.iter().map(ToString::to_string).collect();
    Definition { measure: Measure::Latest(fields), ..count(name, by) }
}

pub(crate) fn top(name: &str, rank_by: &[&str], size: u32) -> Definition {
    let rank_by = rank_by.iter().map(ToString::to_string).collect();
    Definition { measure: Measure::Top(loginscope_state::Ranking { rank_by, size }), ..count(name, &[]) }
}

/// What is added to a definition.
pub(crate) trait DefinitionExt {
    fn limit(self, limit: u32) -> Self;
    fn buckets(self, seconds: u64, keep: Retention) -> Self;
    fn only(self, field: &str, any_of: &[&str]) -> Self;
    fn window(self) -> Self;
}

impl DefinitionExt for Definition {
    fn limit(mut self, limit: u32) -> Self {
        self.by.iter_mut().for_each(|dimension| dimension.limit = Some(limit));
        self
    }

    fn buckets(self, seconds: u64, keep: Retention) -> Self {
        Self { buckets: Some(TimeBuckets { seconds, keep }), ..self }
    }

    fn only(mut self, field: &str, any_of: &[&str]) -> Self {
        let any_of = any_of.iter().map(ToString::to_string).collect();
        self.filter.push(Condition { field: field.to_owned(), any_of, negated: false });
        self
    }

    fn window(self) -> Self {
        Self { span: Span::Window, ..self }
    }
}
