//! Columns: the values of one field for all logins of a batch.
//!
//! The layout is the plugin contract's (`wit/types.wit`), so that a column crosses to a plugin as it is. Every column
//! keeps one entry a row, missing or not: a text column's missing row is an empty text whose row is in `missing`.

mod row_set;
mod typed;

use std::ops::Range;

pub use row_set::RowSet;
pub use typed::{BooleanColumn, IntegerColumn, NumberColumn, TextColumn};

use crate::schema::FieldType;

/// One row's value of any column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// There is none.
    Missing,
    /// A text.
    Text(&'a str),
    /// An integer.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A JSON document, as its text.
    Json(&'a str),
}

/// A column of any type.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Texts.
    Text(TextColumn),
    /// Integers.
    Integer(IntegerColumn),
    /// Finite numbers.
    Number(NumberColumn),
    /// Booleans.
    Boolean(BooleanColumn),
    /// JSON documents, as their texts.
    Json(TextColumn),
}

impl Column {
    /// A column of this type without rows.
    pub fn empty(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Text => Self::Text(TextColumn::default()),
            FieldType::Integer => Self::Integer(IntegerColumn::default()),
            FieldType::Number => Self::Number(NumberColumn::default()),
            FieldType::Boolean => Self::Boolean(BooleanColumn::default()),
            FieldType::Json => Self::Json(TextColumn::default()),
        }
    }

    /// The type of its values.
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Text(_) => FieldType::Text,
            Self::Integer(_) => FieldType::Integer,
            Self::Number(_) => FieldType::Number,
            Self::Boolean(_) => FieldType::Boolean,
            Self::Json(_) => FieldType::Json,
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(column) | Self::Json(column) => column.len(),
            Self::Integer(column) => column.len(),
            Self::Number(column) => column.len(),
            Self::Boolean(column) => column.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row's value.
    pub fn value(&self, row: usize) -> Value<'_> {
        match self {
            Self::Text(column) => column.get(row).map_or(Value::Missing, Value::Text),
            Self::Integer(column) => column.get(row).map_or(Value::Missing, Value::Integer),
            Self::Number(column) => column.get(row).map_or(Value::Missing, Value::Number),
            Self::Boolean(column) => column.get(row).map_or(Value::Missing, Value::Boolean),
            Self::Json(column) => column.get(row).map_or(Value::Missing, Value::Json),
        }
    }

    /// Appends a row; a value of another type than the column's counts as missing.
    pub fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) | (Self::Json(column), Value::Json(text)) => {
                column.push(Some(text));
            }
            (Self::Integer(column), Value::Integer(integer)) => column.push(Some(integer)),
            (Self::Number(column), Value::Number(number)) => column.push(Some(number)),
            (Self::Boolean(column), Value::Boolean(boolean)) => column.push(Some(boolean)),
            (Self::Text(column) | Self::Json(column), _) => column.push(None),
            (Self::Integer(column), _) => column.push(None),
            (Self::Number(column), _) => column.push(None),
            (Self::Boolean(column), _) => column.push(None),
        }
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        match self {
            Self::Text(column) | Self::Json(column) => column.clear(),
            Self::Integer(column) => column.clear(),
            Self::Number(column) => column.clear(),
            Self::Boolean(column) => column.clear(),
        }
    }

    /// Makes this column hold these rows of another one of the same type, in this order. Rows that follow one another
    /// are copied together.
    pub fn select_from(&mut self, source: &Self, rows: impl Iterator<Item = usize>) {
        self.select_runs_from(source, &runs(rows));
    }

    /// Makes this column hold these runs of rows of another one of the same type, in this order.
    pub(crate) fn select_runs_from(&mut self, source: &Self, runs: &[Range<usize>]) {
        self.clear();
        for run in runs.iter().cloned() {
            match (&mut *self, source) {
                (Self::Text(column), Self::Text(source)) | (Self::Json(column), Self::Json(source)) => {
                    column.extend_from(source, run);
                }
                (Self::Integer(column), Self::Integer(source)) => column.extend_from(source, run),
                (Self::Number(column), Self::Number(source)) => column.extend_from(source, run),
                (Self::Boolean(column), Self::Boolean(source)) => column.extend_from(source, run),
                (column, _) => {
                    for _ in run {
                        column.push(Value::Missing);
                    }
                }
            }
        }
    }
}

/// The runs of rows that follow one another.
pub(crate) fn runs(rows: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match runs.last_mut() {
            Some(run) if run.end == row => run.end += 1,
            _ => runs.push(row..row + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_column() -> impl Strategy<Value = Column> {
        let rows = || 0..100_usize;
        prop_oneof![
            (any::<bool>(), prop::collection::vec(prop::option::of("[aä€]{0,3}"), rows())).prop_map(
                |(json, values)| {
                    let mut column = Column::empty(if json { FieldType::Json } else { FieldType::Text });
                    for value in &values {
                        let value = value.as_deref();
                        column.push(value.map_or(Value::Missing, if json { Value::Json } else { Value::Text }));
                    }
                    column
                }
            ),
            prop::collection::vec(prop::option::of(any::<i64>()), rows()).prop_map(|values| {
                let mut column = IntegerColumn::default();
                for value in values {
                    column.push(value);
                }
                Column::Integer(column)
            }),
            prop::collection::vec(prop::option::of(-1e9..1e9), rows()).prop_map(|values| {
                let mut column = NumberColumn::default();
                for value in values {
                    column.push(value);
                }
                Column::Number(column)
            }),
            prop::collection::vec(any::<Option<bool>>(), rows()).prop_map(|values| {
                let mut column = BooleanColumn::default();
                for value in values {
                    column.push(value);
                }
                Column::Boolean(column)
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_selection_holds_the_rows_it_was_asked_for(
            source in any_column(),
            mut selected in any_column(),
            rows in prop::collection::vec((0..110_usize, 1..40_usize), 0..8),
        ) {
            let rows: Vec<usize> = rows.into_iter().flat_map(|(start, count)| start..start + count).collect();
            selected.select_from(&source, rows.iter().copied());
            let same_type = selected.field_type() == source.field_type();
            let mut one_by_one = Column::empty(selected.field_type());
            for row in &rows {
                one_by_one.push(if same_type { source.value(*row) } else { Value::Missing });
            }
            prop_assert_eq!(selected, one_by_one);
        }
    }

    #[test]
    fn a_value_of_another_type_is_missing() {
        let mut column = Column::empty(FieldType::Integer);
        column.push(Value::Integer(7));
        column.push(Value::Text("7"));
        column.push(Value::Boolean(true));
        assert_eq!(
            [column.value(0), column.value(1), column.value(2)],
            [Value::Integer(7), Value::Missing, Value::Missing]
        );
        assert_eq!(column.len(), 3);
    }
}
