//! A batch of logins of one partition, column by column.

use crate::column::{self, Column, IntegerColumn, TextColumn, Value};
use crate::schema::{Schema, Slot};

/// A timestamp that is there but is no time in the configured format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedTimestamp {
    /// The login's row.
    pub row: u32,
    /// What was written, at most its first 64 bytes.
    pub text: String,
}

/// Some logins of one partition, in offset order. Every column has the same number of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Logins {
    /// One column a field of the schema, by slot.
    columns: Vec<Column>,
    /// The timestamps that are no times, by row, ascending.
    pub malformed_timestamps: Vec<MalformedTimestamp>,
    /// The records' own timestamps in epoch milliseconds.
    pub record_timestamps: IntegerColumn,
    /// The records' offsets.
    pub offsets: Vec<i64>,
}

impl Logins {
    /// A batch without rows.
    pub fn new(schema: &Schema) -> Self {
        Self {
            columns: schema.fields().iter().map(|field| Column::empty(field.field_type)).collect(),
            malformed_timestamps: Vec::new(),
            record_timestamps: IntegerColumn::default(),
            offsets: Vec::new(),
        }
    }

    /// How many logins there are.
    pub fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// The columns, by slot.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns, by slot. Whoever changes them keeps the number of rows and the types.
    pub fn columns_mut(&mut self) -> &mut [Column] {
        &mut self.columns
    }

    /// The column of a field.
    pub fn column(&self, slot: Slot) -> Option<&Column> {
        self.columns.get(slot.0)
    }

    /// The value of a field in a row.
    pub fn value(&self, slot: Slot, row: usize) -> Value<'_> {
        self.columns.get(slot.0).map_or(Value::Missing, |column| column.value(row))
    }

    /// The text of a field in a row; `None` where it is missing or no text.
    pub fn text(&self, slot: Slot, row: usize) -> Option<&str> {
        match self.columns.get(slot.0) {
            Some(Column::Text(column)) => column.get(row),
            _ => None,
        }
    }

    /// The text column of a field of the login's own table.
    pub fn text_column(&self, slot: Slot) -> Option<&TextColumn> {
        match self.columns.get(slot.0) {
            Some(Column::Text(column)) => Some(column),
            _ => None,
        }
    }

    /// The login times in epoch seconds.
    pub fn timestamp(&self, row: usize) -> Option<i64> {
        match self.columns.get(Slot::TIMESTAMP.0) {
            Some(Column::Integer(column)) => column.get(row),
            _ => None,
        }
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.columns.iter_mut().for_each(Column::clear);
        self.malformed_timestamps.clear();
        self.record_timestamps.clear();
        self.offsets.clear();
    }

    /// A copy that has these columns only; the others have no rows.
    #[must_use]
    pub fn copy_of(&self, slots: &[Slot]) -> Self {
        let columns = self.columns.iter().enumerate().map(|(slot, column)| {
            if slots.contains(&Slot(slot)) { column.clone() } else { Column::empty(column.field_type()) }
        });
        Self {
            columns: columns.collect(),
            malformed_timestamps: self.malformed_timestamps.clone(),
            record_timestamps: self.record_timestamps.clone(),
            offsets: self.offsets.clone(),
        }
    }

    /// Makes this batch hold these rows of another one with the same schema. `rows` ascend.
    pub fn select_from(&mut self, source: &Self, rows: &[u32]) {
        self.select(source, rows, |_| true);
    }

    /// Makes these columns hold these rows of another batch, and the others none. What the other one doesn't have is missing: its schema
    /// may lack the last fields of this one. `rows` ascend.
    pub fn select_columns_from(&mut self, source: &Self, rows: &[u32], slots: &[Slot]) {
        self.select(source, rows, |slot| slots.contains(&slot));
    }

    fn select(&mut self, source: &Self, rows: &[u32], is_wanted: impl Fn(Slot) -> bool) {
        let runs = column::runs(rows.iter().map(|row| *row as usize));
        for (slot, column) in self.columns.iter_mut().enumerate() {
            match source.columns.get(slot) {
                _ if !is_wanted(Slot(slot)) => column.clear(),
                Some(from) => column.select_runs_from(from, &runs),
                None => {
                    column.clear();
                    for _ in rows {
                        column.push(Value::Missing);
                    }
                }
            }
        }
        self.malformed_timestamps.clear();
        for malformed in &source.malformed_timestamps {
            if let Ok(row) = rows.binary_search(&malformed.row) {
                self.malformed_timestamps.push(MalformedTimestamp { row: row as u32, text: malformed.text.clone() });
            }
        }
        self.record_timestamps.clear();
        self.offsets.clear();
        for run in runs {
            self.offsets.extend_from_slice(source.offsets.get(run.clone()).unwrap_or_default());
            self.record_timestamps.extend_from(&source.record_timestamps, run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_of_logins_keeps_all_that_belongs_to_them() {
        let mut logins = Logins::new(&Schema::default());
        for row in 0..5 {
            for column in logins.columns_mut() {
                column.push(Value::Text(["a", "b", "c", "d", "e"][row]));
            }
            logins.offsets.push(100 + row as i64);
            logins.record_timestamps.push((row != 3).then_some(row as i64));
        }
        for row in [1, 3] {
            logins.malformed_timestamps.push(MalformedTimestamp { row, text: format!("bad {row}") });
        }
        let mut selected = logins.clone();
        selected.select_from(&logins, &[0, 3, 4]);
        assert_eq!(selected.rows(), 3);
        assert_eq!(selected.offsets, [100, 103, 104]);
        assert_eq!(selected.text(Slot::USER_ID, 1), Some("d"));
        assert_eq!(selected.text(Slot::OUTCOME, 2), Some("e"));
        assert_eq!(selected.timestamp(1), None);
        assert_eq!(selected.record_timestamps.get(0), Some(0));
        assert_eq!(selected.record_timestamps.get(1), None);
        assert_eq!(selected.malformed_timestamps, [MalformedTimestamp { row: 1, text: "bad 3".to_owned() }]);
    }

    #[test]
    fn columns_that_nobody_wants_have_no_rows_and_those_that_are_not_there_are_missing() {
        let mut logins = Logins::new(&Schema::default());
        for row in 0..3 {
            for column in logins.columns_mut() {
                column.push(Value::Text(["a", "b", "c"][row]));
            }
            logins.offsets.push(100 + row as i64);
            logins.record_timestamps.push(None);
        }
        let copy = logins.copy_of(&[Slot::IP]);
        assert_eq!((copy.rows(), copy.text(Slot::IP, 2), copy.text(Slot::LOCALE, 2)), (3, Some("c"), None));
        assert!(copy.columns()[Slot::LOCALE.0].is_empty());

        let mut longer = Schema::default();
        let further = longer.add("further", crate::FieldType::Boolean).unwrap();
        let mut selected = Logins::new(&longer);
        selected.select_columns_from(&copy, &[0, 2], &[Slot::IP, Slot::LOCALE, further]);
        assert_eq!((selected.offsets.as_slice(), selected.text(Slot::IP, 1)), (&[100, 102][..], Some("c")));
        let rows = |slot: Slot| selected.columns()[slot.0].len();
        assert_eq!((rows(Slot::IP), rows(Slot::LOCALE), rows(further), rows(Slot::USER_ID)), (2, 2, 2, 0));
    }
}
