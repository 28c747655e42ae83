//! Columns packed and unpacked by hand, as `wit/types.wit` describes them, so that the SDK isn't its own judge.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use loginscope_plugin::contract::{Batch, Columns, FieldType, MalformedTimestamp};

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Column {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Boolean(Vec<Option<bool>>),
    Json(Vec<Option<String>>),
}

/// These columns, packed.
pub(crate) fn pack(columns: &[Column]) -> Columns {
    let mut packed =
        Columns { texts: String::new(), ends: Vec::new(), integers: Vec::new(), numbers: Vec::new(), bits: Vec::new() };
    for column in columns {
        match column {
            Column::Text(values) | Column::Json(values) => {
                packed.bits.extend(set(values.iter().map(Option::is_none)));
                let begin = packed.texts.len();
                for value in values {
                    packed.texts += value.as_deref().unwrap_or_default();
                    packed.ends.push((packed.texts.len() - begin) as u32);
                }
            }
            Column::Integer(values) => {
                packed.bits.extend(set(values.iter().map(Option::is_none)));
                packed.integers.extend(values.iter().map(|value| value.unwrap_or_default()));
            }
            Column::Number(values) => {
                packed.bits.extend(set(values.iter().map(Option::is_none)));
                packed.numbers.extend(values.iter().map(|value| value.unwrap_or_default()));
            }
            Column::Boolean(values) => {
                packed.bits.extend(set(values.iter().map(Option::is_none)));
                packed.bits.extend(set(values.iter().map(|value| *value == Some(true))));
            }
        }
    }
    packed
}

/// A set of rows.
fn set(rows: impl Iterator<Item = bool>) -> Vec<u32> {
    let rows: Vec<bool> = rows.collect();
    let word = |rows: &[bool]| rows.iter().rev().fold(0, |word, inside| word << 1 | u32::from(*inside));
    rows.chunks(32).map(word).collect()
}

/// Packed columns of so many rows and these types, one by one.
pub(crate) fn unpack(packed: &Columns, rows: usize, types: &[FieldType]) -> Vec<Column> {
    let mut ends = packed.ends.iter().map(|end| *end as usize);
    let mut integers = packed.integers.iter().copied();
    let mut numbers = packed.numbers.iter().copied();
    let mut words = packed.bits.iter().copied();
    let mut begin = 0;
    let mut columns = Vec::new();
    for field_type in types {
        let mut set = || -> Vec<bool> {
            let words: Vec<u32> = words.by_ref().take(rows.div_ceil(32)).collect();
            assert!(
                words.len() == rows.div_ceil(32)
                    && (rows.is_multiple_of(32) || words.last().unwrap() >> (rows % 32) == 0)
            );
            (0..rows).map(|row| words[row / 32] >> (row % 32) & 1 == 1).collect()
        };
        let missing = set();
        let present = |row: usize| !missing[row];
        let mut texts = || -> Vec<Option<String>> {
            let first = begin;
            let text = |row| {
                let end = first + ends.next().unwrap();
                let text = packed.texts[begin..end].to_owned();
                begin = end;
                assert!(present(row) || text.is_empty());
                present(row).then_some(text)
            };
            (0..rows).map(text).collect()
        };
        columns.push(match field_type {
            FieldType::Text => Column::Text(texts()),
            FieldType::Json => Column::Json(texts()),
            FieldType::Integer => {
                let value = |row| integers.next().filter(|value| present(row) || *value != 0);
                Column::Integer((0..rows).map(value).collect())
            }
            FieldType::Number => {
                let value = |row| numbers.next().filter(|value| present(row) || *value != 0.0);
                Column::Number((0..rows).map(value).collect())
            }
            FieldType::Boolean => {
                let truths = set();
                Column::Boolean((0..rows).map(|row| (present(row) || truths[row]).then_some(truths[row])).collect())
            }
        });
    }
    assert_eq!(begin, packed.texts.len(), "no text is left over");
    assert!(ends.next().is_none() && integers.next().is_none() && numbers.next().is_none() && words.next().is_none());
    columns
}

/// A batch of so many rows: the columns of the login's own table, then further ones and those of the history.
pub(crate) fn batch(rows: usize, own: [Column; 9], more: Vec<Column>, malformed: &[(u32, &str)]) -> Batch {
    let columns: Vec<_> = own.into_iter().chain(more).collect();
    let malformed = malformed.iter().map(|(row, text)| MalformedTimestamp { row: *row, text: (*text).to_owned() });
    Batch { rows: rows as u32, fields: pack(&columns), malformed_timestamps: malformed.collect() }
}
