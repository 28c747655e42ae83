//! Columns one by one, from the packed ones of the contract and back. Written by hand, so that what lies in columns is up to
//! this plugin alone.

use crate::loginscope::plugin::types::{Columns, FieldType};

/// One column.
#[derive(Clone)]
pub enum Column {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Boolean(Vec<Option<bool>>),
    Json(Vec<Option<String>>),
}

/// These columns of so many rows and these types, one by one.
pub fn unpack(packed: &Columns, rows: usize, types: &[FieldType]) -> Vec<Column> {
    let (mut text, mut integer, mut number, mut word, mut begin) = (0, 0, 0, 0, 0);
    let mut columns = Vec::new();
    for field_type in types {
        let missing = word;
        word += rows.div_ceil(32);
        let is_in = |first: usize, row: usize| packed.bits[first + row / 32] >> (row % 32) & 1 == 1;
        let present = |row: usize| !is_in(missing, row);
        let mut texts = || -> Vec<Option<String>> {
            let first = begin;
            let column = (0..rows).map(|row| {
                let end = first + packed.ends[text + row] as usize;
                let value = &packed.texts[begin..end];
                begin = end;
                present(row).then(|| value.to_owned())
            });
            let column = column.collect();
            text += rows;
            column
        };
        columns.push(match field_type {
            FieldType::Text => Column::Text(texts()),
            FieldType::Json => Column::Json(texts()),
            FieldType::Integer => {
                integer += rows;
                let value = |row| packed.integers[integer - rows + row];
                Column::Integer((0..rows).map(|row| present(row).then(|| value(row))).collect())
            }
            FieldType::Number => {
                number += rows;
                let value = |row| packed.numbers[number - rows + row];
                Column::Number((0..rows).map(|row| present(row).then(|| value(row))).collect())
            }
            FieldType::Boolean => {
                let truths = word;
                word += rows.div_ceil(32);
                Column::Boolean((0..rows).map(|row| present(row).then(|| is_in(truths, row))).collect())
            }
        });
    }
    columns
}

/// These columns, packed.
pub fn pack(columns: Vec<Column>) -> Columns {
    let mut packed =
        Columns { texts: String::new(), ends: Vec::new(), integers: Vec::new(), numbers: Vec::new(), bits: Vec::new() };
    for column in columns {
        match column {
            Column::Text(values) | Column::Json(values) => add_texts(&mut packed, &values),
            Column::Integer(values) => {
                add_set(&mut packed.bits, values.iter().map(Option::is_none));
                packed.integers.extend(values.into_iter().map(Option::unwrap_or_default));
            }
            Column::Number(values) => {
                add_set(&mut packed.bits, values.iter().map(Option::is_none));
                packed.numbers.extend(values.into_iter().map(Option::unwrap_or_default));
            }
            Column::Boolean(values) => {
                add_set(&mut packed.bits, values.iter().map(Option::is_none));
                add_set(&mut packed.bits, values.iter().map(|value| *value == Some(true)));
            }
        }
    }
    packed
}

fn add_texts(packed: &mut Columns, values: &[Option<String>]) {
    add_set(&mut packed.bits, values.iter().map(Option::is_none));
    let begin = packed.texts.len();
    for value in values {
        packed.texts.push_str(value.as_deref().unwrap_or_default());
        packed.ends.push((packed.texts.len() - begin) as u32);
    }
}

fn add_set(bits: &mut Vec<u32>, rows: impl Iterator<Item = bool>) {
    for (row, inside) in rows.enumerate() {
        if row % 32 == 0 {
            bits.push(0);
        }
        *bits.last_mut().unwrap() |= u32::from(inside) << (row % 32);
    }
}
