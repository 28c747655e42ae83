//! Columns: the values of one field for all logins of a batch.
//!
//! The layout is the plugin contract's (`wit/types.wit`), so that a column crosses to a plugin as it is. Every column
//! keeps one entry a row, missing or not: a text column's missing row is an empty text whose row is in `missing`.

use crate::schema::FieldType;

/// A set of rows: bit `row % 32` of word `row / 32`. Rows beyond the last word are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u32>,
}

impl RowSet {
    /// The set whose bits are these words.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// The words that hold the bits.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether the row is in the set.
    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 1)
    }

    /// Puts the row into the set.
    pub fn insert(&mut self, row: usize) {
        let word = row / 32;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= 1 << (row % 32);
        }
    }

    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Takes all rows out of the set.
    pub fn clear(&mut self) {
        self.words.clear();
    }
}

/// A column of texts: row `i` is `data[ends[i - 1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextColumn {
    /// The texts of all rows, one after the other.
    pub data: String,
    /// Where each row's text ends, in bytes.
    pub ends: Vec<u32>,
    /// The rows without a value.
    pub missing: RowSet,
}

impl TextColumn {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The row's text; `None` where it is missing or there is no such row.
    pub fn get(&self, row: usize) -> Option<&str> {
        if self.missing.contains(row) {
            return None;
        }
        let end = *self.ends.get(row)? as usize;
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        self.data.get(start..end)
    }

    /// Appends a row.
    pub fn push(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.data.push_str(text),
            None => self.missing.insert(self.ends.len()),
        }
        self.ends.push(self.data.len() as u32);
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
        self.missing.clear();
    }
}

/// A column of integers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegerColumn {
    /// The values; 0 where missing.
    pub values: Vec<i64>,
    /// The rows without a value.
    pub missing: RowSet,
}

impl IntegerColumn {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The row's value; `None` where it is missing or there is no such row.
    pub fn get(&self, row: usize) -> Option<i64> {
        if self.missing.contains(row) { None } else { self.values.get(row).copied() }
    }

    /// Appends a row.
    pub fn push(&mut self, value: Option<i64>) {
        if value.is_none() {
            self.missing.insert(self.values.len());
        }
        self.values.push(value.unwrap_or_default());
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.values.clear();
        self.missing.clear();
    }
}

/// A column of finite numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberColumn {
    /// The values; 0 where missing.
    pub values: Vec<f64>,
    /// The rows without a value.
    pub missing: RowSet,
}

impl NumberColumn {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The row's value; `None` where it is missing or there is no such row.
    pub fn get(&self, row: usize) -> Option<f64> {
        if self.missing.contains(row) { None } else { self.values.get(row).copied() }
    }

    /// Appends a row.
    pub fn push(&mut self, value: Option<f64>) {
        if value.is_none() {
            self.missing.insert(self.values.len());
        }
        self.values.push(value.unwrap_or_default());
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.values.clear();
        self.missing.clear();
    }
}

/// A column of booleans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BooleanColumn {
    /// How many rows there are.
    pub rows: u32,
    /// The rows that are true.
    pub truths: RowSet,
    /// The rows without a value.
    pub missing: RowSet,
}

impl BooleanColumn {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows as usize
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The row's value; `None` where it is missing or there is no such row.
    pub fn get(&self, row: usize) -> Option<bool> {
        (row < self.len() && !self.missing.contains(row)).then(|| self.truths.contains(row))
    }

    /// Appends a row.
    pub fn push(&mut self, value: Option<bool>) {
        let row = self.len();
        match value {
            Some(true) => self.truths.insert(row),
            Some(false) => {}
            None => self.missing.insert(row),
        }
        self.rows += 1;
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.truths.clear();
        self.missing.clear();
    }
}

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
            (Self::Text(column), Value::Text(text)) | (Self::Json(column), Value::Json(text)) => column.push(Some(text)),
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

    /// Makes this column hold these rows of another one of the same type, in this order.
    pub fn select_from(&mut self, source: &Self, rows: impl Iterator<Item = usize>) {
        self.clear();
        for row in rows {
            self.push(source.value(row));
        }
    }
}
