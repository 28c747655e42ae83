//! The columns that an enricher sets.

use loginscope_login::column::{BooleanColumn, IntegerColumn, NumberColumn, TextColumn};
use loginscope_login::{Column, RowSet, is_json};

use super::{Checked, broke};
use crate::bindings::loginscope::plugin::types;
use crate::declaration::TypedField;

/// The columns for the fields that an enricher declared to set, each with so many rows. They are moved, not copied.
pub(crate) fn columns(answer: Vec<types::ColumnResult>, sets: &[TypedField], rows: usize) -> Checked<Vec<Column>> {
    if answer.len() != sets.len() {
        return Err(broke(format!("{} columns for the {} fields that it declared to set", answer.len(), sets.len())));
    }
    answer
        .into_iter()
        .zip(sets)
        .map(|(column, field)| {
            let column =
                lift(column, rows).map_err(|what| broke(format!("the column of field {}: {what}", field.name)))?;
            if column.field_type() != field.field_type {
                return Err(broke(format!("the column of field {} has another type than declared", field.name)));
            }
            Ok(column)
        })
        .collect()
}

fn lift(column: types::ColumnResult, rows: usize) -> Result<Column, String> {
    Ok(match column {
        types::ColumnResult::Text(column) => Column::Text(text(column, rows)?),
        types::ColumnResult::Integer(column) => {
            let missing = row_set(column.missing, rows)?;
            check_length(column.values.len(), rows)?;
            check_missing(&missing, rows, |row| column.values.get(row) == Some(&0))?;
            Column::Integer(IntegerColumn { values: column.values, missing })
        }
        types::ColumnResult::Number(column) => {
            let missing = row_set(column.missing, rows)?;
            check_length(column.values.len(), rows)?;
            if let Some(row) = column.values.iter().position(|number| !number.is_finite()) {
                return Err(format!("the number in row {row} isn't finite"));
            }
            check_missing(&missing, rows, |row| column.values.get(row) == Some(&0.0))?;
            Column::Number(NumberColumn { values: column.values, missing })
        }
        types::ColumnResult::Boolean(column) => {
            let missing = row_set(column.missing, rows)?;
            let truths = row_set(column.truths, rows)?;
            check_length(column.rows as usize, rows)?;
            check_missing(&missing, rows, |row| !truths.contains(row))?;
            Column::Boolean(BooleanColumn { rows: column.rows, truths, missing })
        }
        types::ColumnResult::Json(column) => {
            let column = text(column, rows)?;
            check_json(&column)?;
            Column::Json(on_one_line(column))
        }
    })
}

fn text(column: types::TextColumnResult, rows: usize) -> Result<TextColumn, String> {
    let types::TextColumnResult { data, ends, missing } = column;
    let missing = row_set(missing, rows)?;
    check_length(ends.len(), rows)?;
    // In ASCII, every byte is a character.
    let ascii = data.is_ascii();
    let mut before = 0;
    for (row, &end) in ends.iter().enumerate() {
        if end < before {
            return Err(format!("the text in row {row} ends before it begins"));
        }
        if !ascii && !data.is_char_boundary(end as usize) {
            return Err(format!("the text in row {row} ends within a character"));
        }
        before = end;
    }
    if before as usize != data.len() {
        return Err(format!("its last text ends at {before}, and its data is {} bytes long", data.len()));
    }
    let column = TextColumn { data, ends, missing };
    check_missing(&column.missing, rows, |row| is_empty(&column, row))?;
    Ok(column)
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

fn check_length(length: usize, rows: usize) -> Result<(), String> {
    if length == rows { Ok(()) } else { Err(format!("{length} rows, and the batch has {rows}")) }
}

/// A set of rows, none beyond the batch's.
fn row_set(words: Vec<u32>, rows: usize) -> Result<RowSet, String> {
    let bits_of_last_word = rows % 32;
    let beyond = words.len() > rows.div_ceil(32)
        || (bits_of_last_word != 0
            && words.get(rows / 32).is_some_and(|last_word| last_word >> bits_of_last_word != 0));
    if beyond { Err(format!("a set of rows goes beyond the {rows} rows")) } else { Ok(RowSet::from_words(words)) }
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
    use loginscope_login::{FieldType, Value};

    use super::*;

    fn text_of(data: &str, ends: &[u32], missing: &[u32]) -> types::ColumnResult {
        types::ColumnResult::Text(raw_text(data, ends, missing))
    }

    fn raw_text(data: &str, ends: &[u32], missing: &[u32]) -> types::TextColumnResult {
        types::TextColumnResult { data: data.to_owned(), ends: ends.to_vec(), missing: missing.to_vec() }
    }

    fn json_of(data: &str) -> types::ColumnResult {
        types::ColumnResult::Json(raw_text(data, &[data.len() as u32], &[]))
    }

    fn integers(values: &[i64], missing: &[u32]) -> types::ColumnResult {
        types::ColumnResult::Integer(types::IntegerColumnResult { values: values.to_vec(), missing: missing.to_vec() })
    }

    fn numbers(values: &[f64]) -> types::ColumnResult {
        types::ColumnResult::Number(types::NumberColumnResult { values: values.to_vec(), missing: Vec::new() })
    }

    fn booleans(rows: u32, truths: &[u32], missing: &[u32]) -> types::ColumnResult {
        types::ColumnResult::Boolean(types::BooleanColumnResult {
            rows,
            truths: truths.to_vec(),
            missing: missing.to_vec(),
        })
    }

    #[test]
    fn good_columns_come_out_as_they_went_in() {
        let column = lift(text_of("aüb", &[1, 1, 4], &[0b010]), 3).unwrap();
        assert_eq!(column.value(0), Value::Text("a"));
        assert_eq!(column.value(1), Value::Missing);
        assert_eq!(column.value(2), Value::Text("üb"));
        assert_eq!(lift(integers(&[5, 0], &[0b10]), 2).unwrap().value(1), Value::Missing);
        assert_eq!(lift(numbers(&[-0.5]), 1).unwrap().value(0), Value::Number(-0.5));
        assert_eq!(lift(booleans(2, &[0b01], &[0b10]), 2).unwrap().value(0), Value::Boolean(true));
        assert_eq!(lift(json_of(" [1] "), 1).unwrap().value(0), Value::Json(" [1] "));
        assert_eq!(lift(json_of("[1,\n2]"), 1).unwrap().value(0), Value::Json("[1, 2]"));
        assert!(lift(text_of("", &[], &[]), 0).is_ok());
    }

    #[test]
    fn lies_in_columns_break_the_contract() {
        for (column, rows) in [
            (text_of("abc", &[2, 1, 3], &[]), 3),
            (text_of("abc", &[1, 2], &[]), 2),
            (text_of("abc", &[1, 9], &[]), 2),
            (text_of("abc", &[3], &[]), 2),
            (text_of("ü", &[1, 2], &[]), 2),
            (text_of("x", &[], &[]), 0),
            (text_of("a", &[1], &[1]), 1),
            (text_of("ab", &[1, 2], &[0b100]), 2),
            (text_of("ab", &[1, 2], &[0, 0]), 2),
            (integers(&[1], &[]), 2),
            (integers(&[1, 1], &[0b10]), 2),
            (integers(&[1], &[0b10]), 1),
            (numbers(&[f64::NAN]), 1),
            (numbers(&[f64::INFINITY]), 1),
            (numbers(&[]), 1),
            (booleans(1, &[], &[]), 2),
            (booleans(1, &[0b10], &[]), 1),
            (booleans(1, &[0b1], &[0b1]), 1),
            (json_of("{"), 1),
            (json_of("null"), 1),
            (json_of(""), 1),
        ] {
            let shown = format!("{column:?}");
            assert!(lift(column, rows).is_err(), "{shown}");
        }
    }

    #[test]
    fn a_full_last_word_is_within_the_rows() {
        assert!(row_set(vec![u32::MAX], 32).is_ok());
        assert!(row_set(vec![u32::MAX, 1], 33).is_ok());
        assert!(row_set(vec![u32::MAX, 2], 33).is_err());
        assert!(row_set(vec![u32::MAX, 0], 32).is_err());
        assert!(row_set(vec![], 5).is_ok());
    }

    #[test]
    fn number_and_types_of_columns_are_the_declared_ones() {
        let sets = [TypedField { name: "a".to_owned(), field_type: FieldType::Integer }];
        assert!(columns(vec![integers(&[1], &[])], &sets, 1).is_ok());
        assert!(columns(vec![numbers(&[1.0])], &sets, 1).is_err());
        assert!(columns(vec![], &sets, 1).is_err());
        assert!(columns(vec![integers(&[1], &[]), integers(&[1], &[])], &sets, 1).is_err());
    }
}
