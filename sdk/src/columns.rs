//! Reading and writing columns: the values of one field for all logins of a batch, as `wit/types.wit` lays them out.
//!
//! A column comes from the host, which keeps the layout, but nothing here panics on one that doesn't: what can't be read
//! is missing. A column that is written always has one entry a row, missing or not.

#![expect(clippy::inline_always, reason = "a call would cost more than what it does, for every field of every login")]

use std::ops::Range;

use crate::contract::{BooleanColumn, Column, FieldType, IntegerColumn, NumberColumn, RowSet, TextColumn};

/// For how many bytes a text there is room from the start: as many as a time has.
const USUAL_TEXT_BYTES: usize = 20;

/// Whether the row is in the set. Rows beyond its last word are not.
#[inline(always)]
fn contains(rows: &RowSet, row: usize) -> bool {
    rows.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 1)
}

/// Puts these rows into the set.
fn insert(rows: &mut RowSet, new: Range<usize>) {
    if new.is_empty() {
        return;
    }
    if rows.len() < new.end.div_ceil(32) {
        rows.resize(new.end.div_ceil(32), 0);
    }
    for row in new {
        if let Some(word) = rows.get_mut(row / 32) {
            *word |= 1 << (row % 32);
        }
    }
}

impl TextColumn {
    /// A column without rows.
    pub const fn empty() -> Self {
        Self { data: String::new(), ends: Vec::new(), missing: Vec::new() }
    }

    /// The row's text; `None` where it is missing or there is no such row.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<&str> {
        if contains(&self.missing, row) {
            return None;
        }
        let end = *self.ends.get(row)? as usize;
        self.data.get(self.end_before(row)..end)
    }

    /// Gives the row, the last one or a later one, this text.
    #[inline(always)]
    pub(crate) fn put(&mut self, row: usize, text: &str) {
        self.put_with(row, |data| data.push_str(text));
    }

    /// Gives the row, the last one or a later one, the text that `write` appends.
    #[inline(always)]
    pub(crate) fn put_with(&mut self, row: usize, write: impl FnOnce(&mut String)) {
        if self.ends.len() != row {
            self.end_at(row);
        }
        write(&mut self.data);
        self.ends.push(self.data.len() as u32);
    }

    /// Makes the column this long: rows that aren't there yet are missing.
    #[cold]
    pub(crate) fn end_at(&mut self, rows: usize) {
        if self.ends.len() > rows {
            self.data.truncate(self.end_before(rows));
            self.ends.truncate(rows);
        }
        insert(&mut self.missing, self.ends.len()..rows);
        self.ends.resize(rows, self.data.len() as u32);
    }

    #[inline(always)]
    fn end_before(&self, row: usize) -> usize {
        row.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize)
    }
}

macro_rules! plain_column {
    ($column:ident, $value:ty) => {
        impl $column {
            /// A column without rows.
            pub const fn empty() -> Self {
                Self { values: Vec::new(), missing: Vec::new() }
            }

            /// The row's value; `None` where it is missing or there is no such row.
            #[inline(always)]
            pub fn get(&self, row: usize) -> Option<$value> {
                if contains(&self.missing, row) { None } else { self.values.get(row).copied() }
            }

            /// Gives the row, the last one or a later one, this value.
            #[inline(always)]
            pub(crate) fn put(&mut self, row: usize, value: $value) {
                if self.values.len() != row {
                    self.end_at(row);
                }
                self.values.push(value);
            }

            /// Makes the column this long: rows that aren't there yet are missing.
            #[cold]
            fn end_at(&mut self, rows: usize) {
                insert(&mut self.missing, self.values.len()..rows);
                self.values.resize(rows, Default::default());
            }
        }
    };
}

plain_column!(IntegerColumn, i64);
plain_column!(NumberColumn, f64);

impl BooleanColumn {
    /// A column without rows.
    pub const fn empty() -> Self {
        Self { rows: 0, truths: Vec::new(), missing: Vec::new() }
    }

    /// The row's value; `None` where it is missing or there is no such row.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<bool> {
        (row < self.rows as usize && !contains(&self.missing, row)).then(|| contains(&self.truths, row))
    }

    /// Gives the row, the last one or a later one, this value.
    #[inline(always)]
    pub(crate) fn put(&mut self, row: usize, value: bool) {
        if self.rows as usize != row {
            self.end_at(row);
        }
        if value {
            insert(&mut self.truths, row..row + 1);
        }
        self.rows += 1;
    }

    /// Makes the column this long, by one row shorter at most: rows that aren't there yet are missing.
    #[cold]
    fn end_at(&mut self, rows: usize) {
        if let Some(word) = self.truths.get_mut(rows / 32) {
            *word &= !(1 << (rows % 32));
        }
        insert(&mut self.missing, self.rows as usize..rows);
        self.rows = rows as u32;
    }
}

impl Column {
    /// A column of this type without rows.
    pub const fn empty(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Text => Self::Text(TextColumn::empty()),
            FieldType::Integer => Self::Integer(IntegerColumn::empty()),
            FieldType::Number => Self::Number(NumberColumn::empty()),
            FieldType::Boolean => Self::Boolean(BooleanColumn::empty()),
            FieldType::Json => Self::Json(TextColumn::empty()),
        }
    }

    /// The type of its values.
    pub const fn field_type(&self) -> FieldType {
        match self {
            Self::Text(_) => FieldType::Text,
            Self::Integer(_) => FieldType::Integer,
            Self::Number(_) => FieldType::Number,
            Self::Boolean(_) => FieldType::Boolean,
            Self::Json(_) => FieldType::Json,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Self::Text(column) | Self::Json(column) => column.ends.len(),
            Self::Integer(column) => column.values.len(),
            Self::Number(column) => column.values.len(),
            Self::Boolean(column) => column.rows as usize,
        }
    }

    /// Makes the column this long: rows that aren't there yet are missing. At most its last row is taken off.
    pub(crate) fn end_at(&mut self, rows: usize) {
        match self {
            Self::Text(column) | Self::Json(column) => column.end_at(rows),
            Self::Integer(column) => column.end_at(rows),
            Self::Number(column) => column.end_at(rows),
            Self::Boolean(column) => column.end_at(rows),
        }
    }

    /// Makes room for so many rows in all.
    pub(crate) fn reserve(&mut self, rows: usize) {
        match self {
            Self::Text(column) | Self::Json(column) => {
                column.data.reserve(rows * USUAL_TEXT_BYTES);
                column.ends.reserve(rows);
            }
            Self::Integer(column) => column.values.reserve(rows),
            Self::Number(column) => column.values.reserve(rows),
            Self::Boolean(_) => {}
        }
    }
}
