//! Encoded values for all rows of a batch, one after the other.

use loginscope_login::{Column, Logins, Slot, TextColumn};

use crate::value::{encode, encode_address, encode_text_or_id};

/// The encoded values of one field, or the encoded keys of one table, for all rows of a batch.
#[derive(Clone, Debug)]
pub(crate) struct EncodedColumn {
    bytes: Vec<u8>,
    /// Where each row's bytes begin, and at the end where the last row's end.
    bounds: Vec<u32>,
}

impl Default for EncodedColumn {
    fn default() -> Self {
        Self { bytes: Vec::new(), bounds: vec![0] }
    }
}

impl EncodedColumn {
    /// Encodes the values of a field.
    pub(crate) fn encode(&mut self, logins: &Logins, slot: Slot) {
        self.clear();
        let Some(column) = logins.column(slot) else { return };
        self.bounds.reserve(logins.rows());
        match column {
            Column::Text(texts) if slot == Slot::IP => self.encode_texts(texts, encode_address),
            Column::Text(texts) => self.encode_texts(texts, encode_text_or_id),
            _ => {
                for row in 0..logins.rows() {
                    encode(slot, column.value(row), &mut self.bytes);
                    self.end_row();
                }
            }
        }
    }

    fn encode_texts(&mut self, texts: &TextColumn, encode: impl Fn(&str, &mut Vec<u8>)) {
        let none_missing = texts.missing.is_empty();
        let mut start = 0;
        for (row, end) in texts.ends.iter().enumerate() {
            let end = *end as usize;
            if let Some(text) = texts.data.get(start..end).filter(|_| none_missing || !texts.missing.contains(row)) {
                encode(text, &mut self.bytes);
            }
            start = end;
            self.end_row();
        }
    }

    /// The row's bytes; `None` where it has no value.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        let [start, end] = self.bounds.get(row..row + 2)? else { return None };
        self.bytes.get(*start as usize..*end as usize).filter(|bytes| !bytes.is_empty())
    }

    /// Takes all rows out.
    fn clear(&mut self) {
        self.bytes.clear();
        self.bounds.truncate(1);
    }

    /// Appends to the row that has not ended yet.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Ends the row.
    pub(crate) fn end_row(&mut self) {
        self.bounds.push(self.bytes.len() as u32);
    }

    /// Ends the row without a value, whatever was appended to it.
    pub(crate) fn end_row_missing(&mut self) {
        self.bytes.truncate(self.bounds.last().map_or(0, |end| *end as usize));
        self.end_row();
    }
}
