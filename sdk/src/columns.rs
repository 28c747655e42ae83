//! Columns as they come from the host: the values of some fields for all logins of a batch, packed as `wit/types.wit` lays
//! them out.
//!
//! The host keeps that layout, but nothing here panics on columns that don't: what can't be read is missing.

#![expect(clippy::inline_always, reason = "a call would cost more than what it does, for every field of every login")]

use crate::contract::{self, FieldType, TableField};
use crate::login::own;

/// Packed columns, and where each of them begins.
#[derive(Debug)]
pub struct Columns {
    packed: contract::Columns,
    rows: usize,
    places: Vec<Place>,
}

/// Where one column has its parts.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// None where there is no such column.
    field_type: Option<FieldType>,
    /// Its first entry in the list of its kind; for booleans, the first word of the set of true rows.
    first: usize,
    /// For texts: where they begin among all texts.
    texts: usize,
    /// The first word of the set of rows without a value, if there are any.
    missing: Option<usize>,
}

/// How many words a set of so many rows has.
pub fn words(rows: usize) -> usize {
    rows.div_ceil(32)
}

impl Columns {
    /// These columns, of so many rows and these types.
    pub fn new(packed: contract::Columns, rows: usize, types: &[FieldType]) -> Self {
        let (mut texts, mut ends, mut integers, mut numbers, mut bits) = (0_usize, 0, 0, 0, 0);
        let take = |next: &mut usize, count: usize| std::mem::replace(next, *next + count);
        let place = |field_type: &FieldType| {
            let missing = take(&mut bits, words(rows));
            let set = packed.bits.get(missing..bits).unwrap_or_default();
            let missing = set.iter().any(|word| *word != 0).then_some(missing);
            let first = match field_type {
                FieldType::Text | FieldType::Json => take(&mut ends, rows),
                FieldType::Integer => take(&mut integers, rows),
                FieldType::Number => take(&mut numbers, rows),
                FieldType::Boolean => take(&mut bits, words(rows)),
            };
            let place = Place { field_type: Some(*field_type), first, texts, missing };
            if let FieldType::Text | FieldType::Json = field_type {
                let last = ends.checked_sub(1).filter(|_| rows > 0).and_then(|last| packed.ends.get(last));
                texts = texts.saturating_add(last.map_or(0, |end| *end as usize));
            }
            place
        };
        let places = types.iter().map(place).collect();
        Self { packed, rows, places }
    }

    /// The columns of a batch whose first ones are these fields of the login's own table. All fields of that table have a
    /// place here, whether they are there or not, and then come the further columns.
    pub(crate) fn of_batch(packed: contract::Columns, rows: usize, table: &[TableField], types: &[FieldType]) -> Self {
        let given = Self::new(packed, rows, types);
        let mut places = vec![Place::default(); own::COUNT];
        for (field, place) in table.iter().zip(&given.places) {
            if let Some(own) = places.get_mut(*field as usize) {
                *own = *place;
            }
        }
        places.extend(given.places.iter().skip(table.len()));
        Self { places, ..given }
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
        if row >= self.rows || place.field_type != Some(field_type) {
            return None;
        }
        match place.missing {
            Some(missing) if self.bit(missing, row)? => None,
            _ => Some(place),
        }
    }

    #[inline(always)]
    fn chars(&self, place: Place, row: usize) -> Option<&str> {
        let index = place.first + row;
        let end = *self.packed.ends.get(index)? as usize;
        let begin = if row == 0 { 0 } else { *self.packed.ends.get(index - 1)? as usize };
        self.packed.texts.get(place.texts.wrapping_add(begin)..place.texts.wrapping_add(end))
    }

    /// Whether the row is in the set that begins with this word.
    #[inline(always)]
    fn bit(&self, first_word: usize, row: usize) -> Option<bool> {
        self.packed.bits.get(first_word + row / 32).map(|word| word >> (row % 32) & 1 == 1)
    }
}
