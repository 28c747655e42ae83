//! The columns that an enricher sets.

use loginscope_login::column::{BooleanColumn, IntegerColumn, NumberColumn, TextColumn};
use loginscope_login::{Column, FieldType, RowSet, is_json};

use super::{Checked, broke};
use crate::bindings::loginscope::plugin::types;
use crate::declaration::TypedField;

/// The columns for the fields that an enricher declared to set, each with so many rows.
pub(crate) fn columns(answer: &types::ColumnsResult, sets: &[TypedField], rows: usize) -> Checked<Vec<Column>> {
    let mut packed = Unpacking::new(answer, rows);
    let unpack = |field: &TypedField| {
        packed.next(field.field_type).map_err(|what| broke(format!("the column of field {}: {what}", field.name)))
    };
    let columns = sets.iter().map(unpack).collect::<Checked<_>>()?;
    packed.finish().map_err(broke)?;
    Ok(columns)
}

/// What is left of packed columns.
struct Unpacking<'a> {
    rows: usize,
    texts: &'a str,
    /// Whether every byte of the texts is a character.
    ascii: bool,
    ends: &'a [u32],
    integers: &'a [i64],
    numbers: &'a [f64],
    bits: &'a [u32],
}

impl<'a> Unpacking<'a> {
    fn new(packed: &'a types::ColumnsResult, rows: usize) -> Self {
        Self {
            rows,
            texts: &packed.texts,
            ascii: packed.texts.is_ascii(),
            ends: &packed.ends,
            integers: &packed.integers,
            numbers: &packed.numbers,
            bits: &packed.bits,
        }
    }

    fn next(&mut self, field_type: FieldType) -> Result<Column, String> {
        let missing = self.row_set()?;
        Ok(match field_type {
            FieldType::Text => Column::Text(self.text(missing)?),
            FieldType::Json => {
                let column = self.text(missing)?;
                check_json(&column)?;
                Column::Json(on_one_line(column))
            }
            FieldType::Integer => {
                let values = take(&mut self.integers, self.rows)?.to_vec();
                check_missing(&missing, self.rows, |row| values.get(row) == Some(&0))?;
                Column::Integer(IntegerColumn { values, missing })
            }
            FieldType::Number => {
                let values = take(&mut self.numbers, self.rows)?.to_vec();
                if let Some(row) = values.iter().position(|number| !number.is_finite()) {
                    return Err(format!("the number in row {row} isn't finite"));
                }
                check_missing(&missing, self.rows, |row| values.get(row) == Some(&0.0))?;
                Column::Number(NumberColumn { values, missing })
            }
            FieldType::Boolean => {
                let truths = self.row_set()?;
                check_missing(&missing, self.rows, |row| !truths.contains(row))?;
                Column::Boolean(BooleanColumn { rows: self.rows as u32, truths, missing })
            }
        })
    }

    fn text(&mut self, missing: RowSet) -> Result<TextColumn, String> {
        let ends = take(&mut self.ends, self.rows)?;
        if !ends.is_sorted() {
            return Err("a text ends before it begins".to_owned());
        }
        let length = ends.last().map_or(0, |end| *end as usize);
        if length > self.texts.len() {
            return Err(format!("its last text ends at {length}, behind all texts"));
        }
        if !self.ascii && !ends.iter().all(|end| self.texts.is_char_boundary(*end as usize)) {
            return Err("a text ends within a character".to_owned());
        }
        let (data, rest) = self.texts.split_at(length);
        self.texts = rest;
        let column = TextColumn { data: data.to_owned(), ends: ends.to_vec(), missing };
        check_missing(&column.missing, self.rows, |row| is_empty(&column, row))?;
        Ok(column)
    }

    /// A set of rows, none beyond the batch's.
    fn row_set(&mut self) -> Result<RowSet, String> {
        let words = take(&mut self.bits, self.rows.div_ceil(32))?;
        let bits_of_last_word = self.rows % 32;
        if bits_of_last_word != 0 && words.last().is_some_and(|last_word| last_word >> bits_of_last_word != 0) {
            return Err(format!("a set of rows goes beyond the {} rows", self.rows));
        }
        let is_empty = words.iter().all(|word| *word == 0);
        Ok(if is_empty { RowSet::default() } else { RowSet::from_words(words.to_vec()) })
    }

    /// Nothing may be left over.
    fn finish(self) -> Result<(), String> {
        let entries = self.ends.len() + self.integers.len() + self.numbers.len() + self.bits.len();
        let bytes = self.texts.len();
        if entries + bytes > 0 {
            return Err(format!("{entries} entries and {bytes} bytes of text belong to none of its columns"));
        }
        Ok(())
    }
}

/// The next entries of a list.
fn take<'a, T>(list: &mut &'a [T], count: usize) -> Result<&'a [T], String> {
    let there = list.len();
    let (taken, rest) =
        list.split_at_checked(count).ok_or_else(|| format!("{there} entries are left for it, and it needs {count}"))?;
    *list = rest;
    Ok(taken)
}

fn is_empty(column: &TextColumn, row: usize) -> bool {
    let before = row.checked_sub(1).map_or(Some(&0), |before| column.ends.get(before));
    before == column.ends.get(row)
}

/// Line breaks in JSON can only be white space; a login is one line wherever lines matter.
fn on_one_line(mut column: TextColumn) -> TextColumn {
    if column.data.contains(['\n', '\r']) {
        column.data = column.data.replace(['\n', '\r'], " ");
    }
    column
}

fn check_json(column: &TextColumn) -> Result<(), String> {
    for row in 0..column.len() {
        match column.get(row) {
            Some(text) if !is_json(text) => return Err(format!("the text in row {row} isn't JSON")),
            Some(text) if text.trim_ascii() == "null" => {
                return Err(format!("the JSON in row {row} is null, and not missing"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Missing rows hold nothing.
fn check_missing(missing: &RowSet, rows: usize, is_nothing: impl Fn(usize) -> bool) -> Result<(), String> {
    if missing.is_empty() {
        return Ok(());
    }
    match (0..rows).find(|row| missing.contains(*row) && !is_nothing(*row)) {
        Some(row) => Err(format!("row {row} is missing and has a value")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use loginscope_login::Value;

    use super::*;

    /// A packed column and its type.
    type Given = (FieldType, types::ColumnsResult);

    fn nothing() -> types::ColumnsResult {
        types::ColumnsResult {
            texts: String::new(),
            ends: Vec::new(),
            integers: Vec::new(),
            numbers: Vec::new(),
            bits: Vec::new(),
        }
    }

    fn text_of(texts: &str, ends: &[u32], bits: &[u32]) -> Given {
        let column =
            types::ColumnsResult { texts: texts.to_owned(), ends: ends.to_vec(), bits: bits.to_vec(), ..nothing() };
        (FieldType::Text, column)
    }

    fn json_of(json: &str) -> Given {
        (FieldType::Json, text_of(json, &[json.len() as u32], &[0]).1)
    }

    fn integers(values: &[i64], bits: &[u32]) -> Given {
        let column = types::ColumnsResult { integers: values.to_vec(), bits: bits.to_vec(), ..nothing() };
        (FieldType::Integer, column)
    }

    fn numbers(values: &[f64]) -> Given {
        (FieldType::Number, types::ColumnsResult { numbers: values.to_vec(), bits: vec![0], ..nothing() })
    }

    fn booleans(bits: &[u32]) -> Given {
        (FieldType::Boolean, types::ColumnsResult { bits: bits.to_vec(), ..nothing() })
    }

    fn field(field_type: FieldType) -> TypedField {
        TypedField { name: "a".to_owned(), field_type }
    }

    fn lift((field_type, packed): &Given, rows: usize) -> Checked<Column> {
        Ok(columns(packed, &[field(*field_type)], rows)?.remove(0))
    }

    #[test]
    fn good_columns_come_out_as_they_went_in() {
        let column = lift(&text_of("aüb", &[1, 1, 4], &[0b010]), 3).unwrap();
        assert_eq!([0, 1, 2].map(|row| column.value(row)), [Value::Text("a"), Value::Missing, Value::Text("üb")]);
        assert_eq!(lift(&integers(&[5, 0], &[0b10]), 2).unwrap().value(1), Value::Missing);
        assert_eq!(lift(&numbers(&[-0.5]), 1).unwrap().value(0), Value::Number(-0.5));
        assert_eq!(lift(&booleans(&[0b10, 0b01]), 2).unwrap().value(0), Value::Boolean(true));
        assert_eq!(lift(&json_of(" [1] "), 1).unwrap().value(0), Value::Json(" [1] "));
        assert_eq!(lift(&json_of("[1,\n2]"), 1).unwrap().value(0), Value::Json("[1, 2]"));
        assert!(lift(&text_of("", &[], &[]), 0).is_ok());
    }

    #[test]
    fn columns_share_their_lists_in_their_order() {
        let packed = types::ColumnsResult {
            texts: "äb[]{}".to_owned(),
            ends: vec![2, 3, 2, 4],
            integers: vec![1, 0, 3, 4],
            numbers: Vec::new(),
            bits: vec![0, 0b10, 0b01, 0b10, 0, 0],
        };
        let sets = [FieldType::Text, FieldType::Integer, FieldType::Boolean, FieldType::Integer, FieldType::Json];
        let columns = columns(&packed, &sets.map(field), 2).unwrap();
        let values: Vec<_> = columns.iter().map(|column| [column.value(0), column.value(1)]).collect();
        assert_eq!(
            values,
            [
                [Value::Text("ä"), Value::Text("b")],
                [Value::Integer(1), Value::Missing],
                [Value::Missing, Value::Boolean(true)],
                [Value::Integer(3), Value::Integer(4)],
                [Value::Json("[]"), Value::Json("{}")],
            ]
        );
    }

    #[test]
    fn lies_in_columns_break_the_contract() {
        for (column, rows) in [
            (text_of("abc", &[2, 1, 3], &[0]), 3),
            (text_of("abc", &[1, 2], &[0]), 2),
            (text_of("abc", &[1, 9], &[0]), 2),
            (text_of("abc", &[3], &[0]), 2),
            (text_of("abc", &[1, 2, 3], &[0]), 2),
            (text_of("ü", &[1, 2], &[0]), 2),
            (text_of("x", &[], &[]), 0),
            (text_of("a", &[1], &[1]), 1),
            (text_of("ab", &[1, 2], &[0b100]), 2),
            (text_of("ab", &[1, 2], &[0, 0]), 2),
            (text_of("ab", &[1, 2], &[]), 2),
            (integers(&[1], &[0]), 2),
            (integers(&[1, 1], &[0b10]), 2),
            (integers(&[1], &[0b10]), 1),
            (integers(&[1, 2], &[0]), 1),
            (numbers(&[f64::NAN]), 1),
            (numbers(&[f64::INFINITY]), 1),
            (numbers(&[]), 1),
            (booleans(&[0]), 2),
            (booleans(&[0, 0b10]), 1),
            (booleans(&[0b10, 0]), 1),
            (booleans(&[0b1, 0b1]), 1),
            (booleans(&[0, 0, 0]), 1),
            (json_of("{"), 1),
            (json_of("null"), 1),
            (json_of(""), 1),
        ] {
            assert!(lift(&column, rows).is_err(), "{column:?}");
        }
    }

    #[test]
    fn a_full_last_word_is_within_the_rows() {
        assert!(lift(&booleans(&[0, u32::MAX]), 32).is_ok());
        assert!(lift(&booleans(&[0, 0, u32::MAX, 1]), 33).is_ok());
        assert!(lift(&booleans(&[0, 0, u32::MAX, 2]), 33).is_err());
    }

    #[test]
    fn number_and_types_of_columns_are_the_declared_ones() {
        let sets = [field(FieldType::Integer)];
        let given = |(_, packed): Given| columns(&packed, &sets, 1);
        assert!(given(integers(&[1], &[0])).is_ok());
        assert!(given(numbers(&[1.0])).is_err());
        assert!(given(integers(&[], &[])).is_err());
        assert!(given(integers(&[1, 1], &[0, 0])).is_err());
    }
}
