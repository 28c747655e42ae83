//! Columns as they come from the host: the values of some fields for all logins of a batch, packed as `wit/types.wit` lays
//! them out.
//!
//! The host keeps that layout, but nothing here panics on columns that don't: what can't be read is missing.

#![expect(clippy::inline_always, reason = "a call would cost more than what it does, for every field of every login")]

use crate::contract::{self, FieldType};

/// Packed columns, and where each of them begins.
#[derive(Debug)]
pub struct Columns {
    packed: contract::Columns,
    rows: usize,
    places: Vec<Place>,
}

/// Where one column has its parts.
#[derive(Clone, Copy, Debug)]
struct Place {
    field_type: FieldType,
    /// Its first entry in the list of its kind; for booleans, the first word of the set of true rows.
    first: usize,
    /// The first word of the set of rows without a value.
    missing: usize,
}

/// How many words a set of so many rows has.
pub fn words(rows: usize) -> usize {
    rows.div_ceil(32)
}

impl Columns {
    /// These columns, of so many rows.
    pub fn new(packed: contract::Columns, rows: usize) -> Self {
        let (mut ends, mut integers, mut numbers, mut bits) = (0, 0, 0, 0);
        let take = |next: &mut usize, count: usize| std::mem::replace(next, *next + count);
        let place = |field_type: &FieldType| {
            let missing = take(&mut bits, words(rows));
            let first = match field_type {
                FieldType::Text | FieldType::Json => take(&mut ends, rows),
                FieldType::Integer => take(&mut integers, rows),
                FieldType::Number => take(&mut numbers, rows),
                FieldType::Boolean => take(&mut bits, words(rows)),
            };
            Place { field_type: *field_type, first, missing }
        };
        let places = packed.types.iter().map(place).collect();
        Self { packed, rows, places }
    }

    /// The types of the columns.
    pub fn types(&self) -> &[FieldType] {
        &self.packed.types
    }

    /// The row's text in a column; `None` where it is missing, or where there is no such row or column of texts.
    #[inline(always)]
    pub fn text(&self, column: usize, row: usize) -> Option<&str> {
        self.chars(self.place(column, FieldType::Text, row)?, row)
    }

    /// The row's JSON in a column of JSON, as its text.
    #[inline(always)]
    pub fn json(&self, column: usize, row: usize) -> Option<&str> {
        self.chars(self.place(column, FieldType::Json, row)?, row)
    }

    /// The row's value in a column of integers.
    #[inline(always)]
    pub fn integer(&self, column: usize, row: usize) -> Option<i64> {
        let place = self.place(column, FieldType::Integer, row)?;
        self.packed.integers.get(place.first + row).copied()
    }

    /// The row's value in a column of numbers.
    #[inline(always)]
    pub fn number(&self, column: usize, row: usize) -> Option<f64> {
        let place = self.place(column, FieldType::Number, row)?;
        self.packed.numbers.get(place.first + row).copied()
    }

    /// The row's value in a column of booleans.
    #[inline(always)]
    pub fn boolean(&self, column: usize, row: usize) -> Option<bool> {
        let place = self.place(column, FieldType::Boolean, row)?;
        self.bit(place.first, row)
    }

    /// Where a column is, if it has this type and a value in the row.
    #[inline(always)]
    fn place(&self, column: usize, field_type: FieldType, row: usize) -> Option<Place> {
        let place = *self.places.get(column)?;
        let has_value = row < self.rows && place.field_type == field_type && !self.bit(place.missing, row)?;
        has_value.then_some(place)
    }

    #[inline(always)]
    fn chars(&self, place: Place, row: usize) -> Option<&str> {
        let index = place.first + row;
        let end = *self.packed.ends.get(index)? as usize;
        let begin = index.checked_sub(1).and_then(|before| self.packed.ends.get(before)).map_or(0, |end| *end as usize);
        self.packed.texts.get(begin..end)
    }

    /// Whether the row is in the set that begins with this word.
    #[inline(always)]
    fn bit(&self, first_word: usize, row: usize) -> Option<bool> {
        self.packed.bits.get(first_word + row / 32).map(|word| word >> (row % 32) & 1 == 1)
    }
}
