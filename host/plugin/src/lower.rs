//! From the host's columns to what a plugin is given: columns packed into one list for each kind of value (`columns` in
//! `wit/types.wit`). Packing copies once more, but every list that crosses costs as much as copying kilobytes.

use loginscope_login::{Column, FieldType, Logins, RowSet, Slot};

use crate::answer::{Window, WindowFacts};
use crate::bindings::loginscope::plugin::types;

/// The login's own table in the order in which its columns cross, around the record's own timestamp.
const BEFORE_RECORD_TIMESTAMP: [Slot; 2] = [Slot::USER_ID, Slot::TIMESTAMP];
const AFTER_RECORD_TIMESTAMP: [Slot; 6] =
    [Slot::IP, Slot::DEVICE_TYPE, Slot::DEVICE_ID, Slot::LOCALE, Slot::APP_VERSION, Slot::OUTCOME];

/// Columns, packed. Made to be filled again and again: it keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    types: Vec<types::FieldType>,
    texts: String,
    ends: Vec<u32>,
    integers: Vec<i64>,
    numbers: Vec<f64>,
    bits: Vec<u32>,
}

impl Packed {
    /// Becomes the columns of a batch for a plugin that reads the further fields at the slots `more`.
    pub(crate) fn batch(&mut self, logins: &Logins, more: &[Slot]) {
        self.clear();
        let rows = logins.rows();
        let column = |slot: &Slot| logins.column(*slot);
        for column in BEFORE_RECORD_TIMESTAMP.iter().filter_map(column) {
            self.add(column, rows);
        }
        let record_timestamps = &logins.record_timestamps;
        self.add_integers(&record_timestamps.values, &record_timestamps.missing, rows);
        for column in AFTER_RECORD_TIMESTAMP.iter().chain(more).filter_map(column) {
            self.add(column, rows);
        }
    }

    /// Becomes these columns, of so many rows each.
    pub(crate) fn columns(&mut self, columns: &[Column], rows: usize) {
        self.clear();
        for column in columns {
            self.add(column, rows);
        }
    }

    /// The batch as a plugin gets it.
    pub(crate) fn as_batch<'a>(
        &'a self,
        rows: usize,
        malformed_timestamps: &'a [types::MalformedTimestamp<'a>],
    ) -> types::Batch<'a> {
        types::Batch { rows: rows as u32, fields: self.as_columns(), malformed_timestamps }
    }

    /// The columns as a plugin gets them.
    pub(crate) fn as_columns(&self) -> types::ColumnsParam<'_> {
        types::ColumnsParam {
            types: &self.types,
            texts: &self.texts,
            ends: &self.ends,
            integers: &self.integers,
            numbers: &self.numbers,
            bits: &self.bits,
        }
    }

    fn clear(&mut self) {
        self.types.clear();
        self.texts.clear();
        self.ends.clear();
        self.integers.clear();
        self.numbers.clear();
        self.bits.clear();
    }

    fn add(&mut self, column: &Column, rows: usize) {
        debug_assert_eq!(column.len(), rows, "every column of a batch has its rows");
        match column {
            Column::Text(column) | Column::Json(column) => {
                let base = self.texts.len() as u32;
                self.texts.push_str(&column.data);
                self.ends.extend(column.ends.iter().map(|end| base + end));
                self.add_set(&column.missing, rows);
            }
            Column::Integer(column) => return self.add_integers(&column.values, &column.missing, rows),
            Column::Number(column) => {
                self.numbers.extend_from_slice(&column.values);
                self.add_set(&column.missing, rows);
            }
            Column::Boolean(column) => {
                self.add_set(&column.missing, rows);
                self.add_set(&column.truths, rows);
            }
        }
        self.types.push(field_type(column.field_type()));
    }

    fn add_integers(&mut self, values: &[i64], missing: &RowSet, rows: usize) {
        self.types.push(types::FieldType::Integer);
        self.integers.extend_from_slice(values);
        self.add_set(missing, rows);
    }

    fn add_set(&mut self, set: &RowSet, rows: usize) {
        let words = rows.div_ceil(32);
        let end = self.bits.len() + words;
        self.bits.extend(set.words().iter().take(words));
        self.bits.resize(end, 0);
    }
}

/// The timestamps that are no times, as a plugin gets them.
pub(crate) fn malformed_timestamps(logins: &Logins) -> Vec<types::MalformedTimestamp<'_>> {
    let malformed = logins.malformed_timestamps.iter();
    malformed.map(|it| types::MalformedTimestamp { row: it.row, text: &it.text }).collect()
}

/// A window as a plugin gets it.
pub(crate) fn window(window: &Window) -> types::Window<'_> {
    let facts = |facts: &WindowFacts| types::WindowFacts {
        logins: facts.logins,
        rejected: facts.rejected,
        first_offset: facts.first_offset,
        last_offset: facts.last_offset,
        earliest_login_time: facts.earliest_login_time,
        latest_login_time: facts.latest_login_time,
    };
    types::Window {
        topic: &window.topic,
        partition: window.partition,
        number: window.number,
        facts: facts(&window.facts),
        previous: window.previous.as_ref().map(facts),
    }
}

/// A type in the contract's words.
fn field_type(field_type: FieldType) -> types::FieldType {
    match field_type {
        FieldType::Text => types::FieldType::Text,
        FieldType::Integer => types::FieldType::Integer,
        FieldType::Number => types::FieldType::Number,
        FieldType::Boolean => types::FieldType::Boolean,
        FieldType::Json => types::FieldType::Json,
    }
}
