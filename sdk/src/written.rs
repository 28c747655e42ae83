//! Columns in the making: what a plugin says about the logins of a batch, one after the other, and how that is packed as
//! `wit/types.wit` lays it out.
//!
//! A column may end before the last row; what it doesn't have is missing. Packed, every column has one entry a row.

#![expect(clippy::inline_always, reason = "a call would cost more than what it does, for every field of every login")]

use std::ops::Range;

use crate::columns::words;
use crate::contract::{Columns, FieldType};

/// For how many bytes a text there is room from the start: as many as a time has.
const USUAL_TEXT_BYTES: usize = 20;

/// A column in the making.
#[derive(Clone, Debug)]
pub struct Written {
    /// The rows so far that have no value.
    missing: Rows,
    values: Values,
}

/// The values of a column, one entry a row, missing or not.
#[derive(Clone, Debug)]
enum Values {
    Text(Texts),
    Json(Texts),
    Integer(Vec<i64>),
    Number(Vec<f64>),
    Boolean { rows: usize, truths: Rows },
}

/// The texts of some rows.
#[derive(Clone, Debug, Default)]
struct Texts {
    data: String,
    /// Where each row's text ends in `data`.
    ends: Vec<u32>,
}

/// A set of rows. Rows beyond its last word are not in it.
#[derive(Clone, Debug, Default)]
struct Rows(Vec<u32>);

impl Rows {
    fn contains(&self, row: usize) -> bool {
        self.0.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 1)
    }

    fn insert(&mut self, new: Range<usize>) {
        if self.0.len() < words(new.end) && !new.is_empty() {
            self.0.resize(words(new.end), 0);
        }
        for row in new {
            if let Some(word) = self.0.get_mut(row / 32) {
                *word |= 1 << (row % 32);
            }
        }
    }

    fn remove(&mut self, row: usize) {
        if let Some(word) = self.0.get_mut(row / 32) {
            *word &= !(1 << (row % 32));
        }
    }
}

impl Texts {
    #[inline(always)]
    fn begin(&self, row: usize) -> usize {
        row.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize)
    }

    #[inline(always)]
    fn push(&mut self, text: &str) {
        self.data.push_str(text);
        self.ends.push(self.data.len() as u32);
    }

    fn get(&self, row: usize) -> Option<&str> {
        self.data.get(self.begin(row)..*self.ends.get(row)? as usize)
    }
}

impl Written {
    /// A column of this type without rows.
    pub(crate) fn empty(field_type: FieldType) -> Self {
        let values = match field_type {
            FieldType::Text => Values::Text(Texts::default()),
            FieldType::Json => Values::Json(Texts::default()),
            FieldType::Integer => Values::Integer(Vec::new()),
            FieldType::Number => Values::Number(Vec::new()),
            FieldType::Boolean => Values::Boolean { rows: 0, truths: Rows::default() },
        };
        Self { missing: Rows::default(), values }
    }

    /// Makes room for so many rows more, so that nothing is moved while they are written.
    pub(crate) fn make_room(&mut self, rows: usize) {
        match &mut self.values {
            Values::Text(texts) | Values::Json(texts) => {
                texts.data.reserve(rows * USUAL_TEXT_BYTES);
                texts.ends.reserve(rows);
            }
            Values::Integer(values) => values.reserve(rows),
            Values::Number(values) => values.reserve(rows),
            Values::Boolean { .. } => {}
        }
    }

    /// Takes all rows out; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.missing.0.clear();
        match &mut self.values {
            Values::Text(texts) | Values::Json(texts) => {
                texts.data.clear();
                texts.ends.clear();
            }
            Values::Integer(values) => values.clear(),
            Values::Number(values) => values.clear(),
            Values::Boolean { rows, truths } => {
                *rows = 0;
                truths.0.clear();
            }
        }
    }

    /// The type of its values.
    pub(crate) fn field_type(&self) -> FieldType {
        match self.values {
            Values::Text(_) => FieldType::Text,
            Values::Json(_) => FieldType::Json,
            Values::Integer(_) => FieldType::Integer,
            Values::Number(_) => FieldType::Number,
            Values::Boolean { .. } => FieldType::Boolean,
        }
    }

    #[inline(always)]
    fn rows(&self) -> usize {
        match &self.values {
            Values::Text(texts) | Values::Json(texts) => texts.ends.len(),
            Values::Integer(values) => values.len(),
            Values::Number(values) => values.len(),
            Values::Boolean { rows, .. } => *rows,
        }
    }

    /// Gives the row, the last one or a later one, the text that `write` appends. The rows between are missing.
    #[inline(always)]
    pub(crate) fn put_text(&mut self, row: usize, text: &str) {
        match &mut self.values {
            Values::Text(texts) if texts.ends.len() == row => texts.push(text),
            _ => self.put_text_at(row, text),
        }
    }

    #[cold]
    fn put_text_at(&mut self, row: usize, text: &str) {
        self.end_at(row);
        if let Values::Text(texts) = &mut self.values {
            texts.push(text);
        }
    }

    /// Gives the row this JSON.
    pub(crate) fn put_json(&mut self, row: usize, json: &str) {
        self.go_to(row);
        if let Values::Json(texts) = &mut self.values {
            texts.push(json);
        }
    }

    /// Gives the row this integer.
    #[inline(always)]
    pub(crate) fn put_integer(&mut self, row: usize, value: i64) {
        match &mut self.values {
            Values::Integer(values) if values.len() == row => values.push(value),
            _ => self.put_integer_at(row, value),
        }
    }

    #[cold]
    fn put_integer_at(&mut self, row: usize, value: i64) {
        self.end_at(row);
        if let Values::Integer(values) = &mut self.values {
            values.push(value);
        }
    }

    /// Gives the row this number.
    #[inline(always)]
    pub(crate) fn put_number(&mut self, row: usize, value: f64) {
        self.go_to(row);
        if let Values::Number(values) = &mut self.values {
            values.push(value);
        }
    }

    /// Gives the row this boolean.
    #[inline(always)]
    pub(crate) fn put_boolean(&mut self, row: usize, value: bool) {
        self.go_to(row);
        if let Values::Boolean { rows, truths } = &mut self.values {
            if value {
                truths.insert(row..row + 1);
            }
            *rows += 1;
        }
    }

    /// The next entry is to be this row's.
    #[inline(always)]
    fn go_to(&mut self, row: usize) {
        if self.rows() != row {
            self.end_at(row);
        }
    }

    /// Makes the column this long: rows that aren't there yet are missing, those that are too many (one at most) go.
    #[cold]
    pub(crate) fn end_at(&mut self, end: usize) {
        let rows = self.rows();
        self.missing.remove(end);
        self.missing.insert(rows..end);
        match &mut self.values {
            Values::Text(texts) | Values::Json(texts) => {
                let begin = texts.begin(end);
                if rows > end {
                    texts.data.truncate(begin);
                }
                texts.ends.resize(end, texts.data.len() as u32);
            }
            Values::Integer(values) => values.resize(end, 0),
            Values::Number(values) => values.resize(end, 0.0),
            Values::Boolean { rows, truths } => {
                truths.remove(end);
                *rows = end;
            }
        }
    }

    /// The row's text; `None` where it has none, or the column holds no texts.
    pub(crate) fn text(&self, row: usize) -> Option<&str> {
        match &self.values {
            Values::Text(texts) if !self.missing.contains(row) => texts.get(row),
            _ => None,
        }
    }

    /// The row's JSON, as its text.
    pub(crate) fn json(&self, row: usize) -> Option<&str> {
        match &self.values {
            Values::Json(texts) if !self.missing.contains(row) => texts.get(row),
            _ => None,
        }
    }

    /// The row's integer.
    pub(crate) fn integer(&self, row: usize) -> Option<i64> {
        match &self.values {
            Values::Integer(values) if !self.missing.contains(row) => values.get(row).copied(),
            _ => None,
        }
    }

    /// The row's number.
    pub(crate) fn number(&self, row: usize) -> Option<f64> {
        match &self.values {
            Values::Number(values) if !self.missing.contains(row) => values.get(row).copied(),
            _ => None,
        }
    }

    /// The row's boolean.
    pub(crate) fn boolean(&self, row: usize) -> Option<bool> {
        match &self.values {
            Values::Boolean { rows, truths } if row < *rows && !self.missing.contains(row) => {
                Some(truths.contains(row))
            }
            _ => None,
        }
    }
}

/// Packs columns of so many rows each.
pub(crate) fn pack(columns: &mut [Written], rows: usize) -> Columns {
    let mut packed = Columns {
        texts: String::new(),
        ends: Vec::new(),
        integers: Vec::new(),
        numbers: Vec::new(),
        bits: Vec::with_capacity(columns.len() * words(rows)),
    };
    reserve(&mut packed, columns, rows);
    for column in columns {
        if column.rows() != rows {
            column.end_at(rows);
        }
        append_set(&mut packed.bits, &column.missing, rows);
        match &column.values {
            Values::Text(texts) | Values::Json(texts) => {
                packed.texts.push_str(&texts.data);
                packed.ends.extend_from_slice(&texts.ends);
            }
            Values::Integer(values) => packed.integers.extend_from_slice(values),
            Values::Number(values) => packed.numbers.extend_from_slice(values),
            Values::Boolean { truths, .. } => append_set(&mut packed.bits, truths, rows),
        }
    }
    packed
}

/// Makes room for all that these columns hold, so that nothing is moved while it is packed.
fn reserve(packed: &mut Columns, columns: &[Written], rows: usize) {
    let (mut text_bytes, mut ends, mut integers, mut numbers) = (0, 0, 0, 0);
    for column in columns {
        match &column.values {
            Values::Text(texts) | Values::Json(texts) => {
                text_bytes += texts.data.len();
                ends += rows;
            }
            Values::Integer(_) => integers += rows,
            Values::Number(_) => numbers += rows,
            Values::Boolean { .. } => {}
        }
    }
    packed.texts.reserve_exact(text_bytes);
    packed.ends.reserve_exact(ends);
    packed.integers.reserve_exact(integers);
    packed.numbers.reserve_exact(numbers);
}

fn append_set(bits: &mut Vec<u32>, set: &Rows, rows: usize) {
    let end = bits.len() + words(rows);
    bits.extend_from_slice(set.0.get(..words(rows)).unwrap_or(&set.0));
    bits.resize(end, 0);
}
