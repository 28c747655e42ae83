//! Reading and writing columns: the values of one field for all logins of a batch, as `wit/types.wit` lays them out.
//!
//! A column comes from the host, which keeps the layout, but nothing here panics on one that doesn't: what can't be read
//! is missing. A column that is written always has one entry a row, missing or not.

use crate::contract::{BooleanColumn, Column, FieldType, IntegerColumn, NumberColumn, RowSet, TextColumn};

/// Whether the row is in the set. Rows beyond its last word are not.
fn contains(rows: &RowSet, row: usize) -> bool {
    rows.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 1)
}

/// Puts the row into the set, or takes it out.
fn mark(rows: &mut RowSet, row: usize, inside: bool) {
    let word = row / 32;
    if rows.len() <= word {
        if !inside {
            return;
        }
        rows.resize(word + 1, 0);
    }
    if let Some(bits) = rows.get_mut(word) {
        let bit = 1 << (row % 32);
        *bits = if inside { *bits | bit } else { *bits & !bit };
    }
}

impl TextColumn {
    /// A column without rows.
    pub const fn empty() -> Self {
        Self { data: String::new(), ends: Vec::new(), missing: Vec::new() }
    }

    /// The row's text; `None` where it is missing or there is no such row.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&str> {
        if contains(&self.missing, row) {
            return None;
        }
        let end = *self.ends.get(row)? as usize;
        self.data.get(self.end_before(row)..end)
    }

    /// Gives the row, the last or the next one, this text.
    pub(crate) fn put(&mut self, row: usize, text: Option<&str>) {
        if self.ends.len() > row {
            self.data.truncate(self.end_before(row));
            self.ends.truncate(row);
        }
        self.data.push_str(text.unwrap_or_default());
        self.ends.push(self.data.len() as u32);
        mark(&mut self.missing, row, text.is_none());
    }

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
            #[inline]
            pub fn get(&self, row: usize) -> Option<$value> {
                if contains(&self.missing, row) { None } else { self.values.get(row).copied() }
            }

            /// Gives the row, the last or the next one, this value.
            pub(crate) fn put(&mut self, row: usize, value: Option<$value>) {
                self.values.truncate(row);
                self.values.push(value.unwrap_or_default());
                mark(&mut self.missing, row, value.is_none());
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
    #[inline]
    pub fn get(&self, row: usize) -> Option<bool> {
        (row < self.rows as usize && !contains(&self.missing, row)).then(|| contains(&self.truths, row))
    }

    /// Gives the row, the last or the next one, this value.
    pub(crate) fn put(&mut self, row: usize, value: Option<bool>) {
        self.rows = row as u32 + 1;
        mark(&mut self.truths, row, value == Some(true));
        mark(&mut self.missing, row, value.is_none());
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

    /// Leaves the row, the last or the next one, without a value.
    pub(crate) fn put_missing(&mut self, row: usize) {
        match self {
            Self::Text(column) | Self::Json(column) => column.put(row, None),
            Self::Integer(column) => column.put(row, None),
            Self::Number(column) => column.put(row, None),
            Self::Boolean(column) => column.put(row, None),
        }
    }

    /// Makes room for so many rows in all.
    pub(crate) fn reserve(&mut self, rows: usize) {
        match self {
            Self::Text(column) | Self::Json(column) => column.ends.reserve(rows),
            Self::Integer(column) => column.values.reserve(rows),
            Self::Number(column) => column.values.reserve(rows),
            Self::Boolean(_) => {}
        }
    }
}
