//! From the host's columns to what a plugin is given: columns packed into one list for each kind of value (`columns` in
//! `wit/types.wit`). Packing copies once more, but every list that crosses costs as much as copying kilobytes.

use loginscope_login::{Column, Logins, RowSet, Slot};

use crate::answer::{Window, WindowFacts};
use crate::bindings::loginscope::plugin::types;
use crate::declaration::TableField;

/// Columns, packed. Made to be filled again and again: it keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    texts: String,
    ends: Vec<u32>,
    integers: Vec<i64>,
    numbers: Vec<f64>,
    bits: Vec<u32>,
}

impl Packed {
    /// Becomes the columns of a batch for a plugin that reads these fields of the login's own table and the further ones at
    /// the slots `more`.
    pub(crate) fn batch(&mut self, logins: &Logins, table: &[TableField], more: &[Slot], history: &[Column]) {
        self.clear();
        let rows = logins.rows();
        for field in table {
            match field {
                TableField::Login(slot) => self.add_slot(logins, *slot, rows),
                TableField::RecordTimestamp => {
                    let record_timestamps = &logins.record_timestamps;
                    self.add_integers(&record_timestamps.values, &record_timestamps.missing, rows);
                }
            }
        }
        for slot in more {
            self.add_slot(logins, *slot, rows);
        }
        for column in history {
            self.add(column, rows);
        }
    }

    fn add_slot(&mut self, logins: &Logins, slot: Slot, rows: usize) {
        if let Some(column) = logins.column(slot) {
            self.add(column, rows);
        }
    }

    /// The batch as a plugin gets it.
    pub(crate) fn as_batch<'a>(
        &'a self,
        rows: usize,
        malformed_timestamps: &'a [types::MalformedTimestamp<'a>],
    ) -> types::Batch<'a> {
        let fields = types::ColumnsParam {
            texts: &self.texts,
            ends: &self.ends,
            integers: &self.integers,
            numbers: &self.numbers,
            bits: &self.bits,
        };
        types::Batch { rows: rows as u32, fields, malformed_timestamps }
    }

    fn clear(&mut self) {
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
                self.texts.push_str(&column.data);
                self.ends.extend_from_slice(&column.ends);
                self.add_set(&column.missing, rows);
            }
            Column::Integer(column) => self.add_integers(&column.values, &column.missing, rows),
            Column::Number(column) => {
                self.numbers.extend_from_slice(&column.values);
                self.add_set(&column.missing, rows);
            }
            Column::Boolean(column) => {
                self.add_set(&column.missing, rows);
                self.add_set(&column.truths, rows);
            }
        }
    }

    fn add_integers(&mut self, values: &[i64], missing: &RowSet, rows: usize) {
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
