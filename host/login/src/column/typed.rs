//! The columns of each type. All of them append, copy and forget rows in the same way.

use std::ops::Range;

use super::RowSet;

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

    /// Appends these rows of another column; rows that it doesn't have are missing.
    pub(crate) fn extend_from(&mut self, source: &Self, rows: Range<usize>) {
        let ends = within(&source.ends, &rows);
        let start = rows.start.checked_sub(1).and_then(|before| source.ends.get(before)).map_or(0, |end| *end as usize);
        let end = ends.last().map_or(start, |end| *end as usize);
        self.missing.extend_from(&source.missing, &rows, self.len(), ends.len());
        let base = self.data.len();
        self.data.push_str(source.data.get(start..end).unwrap_or_default());
        self.ends.extend(ends.iter().map(|end| (base + (*end as usize).saturating_sub(start)) as u32));
        (ends.len()..rows.len()).for_each(|_| self.push(None));
    }

    /// Appends a row whose text is what `write` appends to the column's data.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.data);
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

    /// Appends these rows of another column; rows that it doesn't have are missing.
    pub(crate) fn extend_from(&mut self, source: &Self, rows: Range<usize>) {
        let values = within(&source.values, &rows);
        self.missing.extend_from(&source.missing, &rows, self.len(), values.len());
        self.values.extend_from_slice(values);
        (values.len()..rows.len()).for_each(|_| self.push(None));
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

    /// Appends these rows of another column; rows that it doesn't have are missing.
    pub(crate) fn extend_from(&mut self, source: &Self, rows: Range<usize>) {
        let values = within(&source.values, &rows);
        self.missing.extend_from(&source.missing, &rows, self.len(), values.len());
        self.values.extend_from_slice(values);
        (values.len()..rows.len()).for_each(|_| self.push(None));
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

    /// Appends these rows of another column; rows that it doesn't have are missing.
    pub(crate) fn extend_from(&mut self, source: &Self, rows: Range<usize>) {
        let inside = source.len().min(rows.end).saturating_sub(rows.start);
        self.truths.extend_from(&source.truths, &rows, self.len(), inside);
        self.missing.extend_from(&source.missing, &rows, self.len(), inside);
        self.rows += inside as u32;
        (inside..rows.len()).for_each(|_| self.push(None));
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

/// Those of the rows' items that there are.
fn within<'a, T>(items: &'a [T], rows: &Range<usize>) -> &'a [T] {
    items.get(rows.start..rows.end.min(items.len())).unwrap_or_default()
}
