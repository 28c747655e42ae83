//! Columns through a plugin and back: what a login has comes out of `Login`, what a plugin sets goes into its column.
//!
//! The columns are written and read here by hand, as `wit/types.wit` describes them, so that the SDK isn't its own judge.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use loginscope_plugin::contract::{
    Batch, BooleanColumn, Column, IntegerColumn, MalformedTimestamp, NumberColumn, TextColumn,
};
use loginscope_plugin::prelude::*;
use loginscope_plugin::runtime::Instance;
use proptest::prelude::*;

/// Sets a field to each field that it reads.
struct Echo {
    text: (Field<str>, OutputField<str>),
    integer: (Field<i64>, OutputField<i64>),
    number: (Field<f64>, OutputField<f64>),
    boolean: (Field<bool>, OutputField<bool>),
    json: (Field<Json>, OutputField<Json>),
    user_id: OutputField<str>,
    timestamp: OutputField<i64>,
    malformed: OutputField<str>,
    record_timestamp: OutputField<i64>,
    past: (Past<i64>, OutputField<i64>),
}

impl Plugin for Echo {
    type Settings = NoSettings;

    fn new(_: NoSettings, declare: &mut Declare) -> Result<Self, String> {
        let count = declare.total("count", Aggregate::count().by("user_id"));
        Ok(Self {
            text: (declare.reads("text"), declare.sets("text_out")),
            integer: (declare.reads("integer"), declare.sets("integer_out")),
            number: (declare.reads("number"), declare.sets("number_out")),
            boolean: (declare.reads("boolean"), declare.sets("boolean_out")),
            json: (declare.reads("json"), declare.sets_json("json_out")),
            user_id: declare.sets("user_id"),
            timestamp: declare.sets("timestamp"),
            malformed: declare.sets("malformed"),
            record_timestamp: declare.sets("record_timestamp"),
            past: (declare.history(count.value()), declare.sets("past")),
        })
    }
}

impl Enricher for Echo {
    fn enrich(&self, login: &Login, history: &History, fields: &mut Fields) {
        // Set last to first: the order of setting must not matter.
        history.get(self.past.0).inspect(|value| fields.set(self.past.1, *value));
        login.record_timestamp_ms().inspect(|value| fields.set(self.record_timestamp, *value));
        login.malformed_timestamp().inspect(|value| fields.set(self.malformed, value));
        login.timestamp().inspect(|value| fields.set(self.timestamp, *value));
        login.user_id().inspect(|value| fields.set(self.user_id, value));
        login.get(self.json.0).inspect(|text| {
            fields.set_json(self.json.1, &serde_json::from_str::<serde_json::Value>(text).unwrap());
        });
        login.get(self.boolean.0).inspect(|value| fields.set(self.boolean.1, *value));
        login.get(self.number.0).inspect(|value| fields.set(self.number.1, *value));
        login.get(self.integer.0).inspect(|value| fields.set(self.integer.1, *value));
        login.get(self.text.0).inspect(|value| {
            // The second value replaces the first.
            fields.set(self.text.1, "something else that is rather long");
            fields.set(self.text.1, value);
        });
    }
}

/// How a set of rows is written: with as few words as it needs, or more.
fn row_set(rows: impl Iterator<Item = bool>, spare_words: usize) -> Vec<u32> {
    let mut words = Vec::new();
    for (row, inside) in rows.enumerate() {
        if inside {
            words.resize((row / 32 + 1).max(words.len()), 0u32);
            words[row / 32] |= 1 << (row % 32);
        }
    }
    words.extend(vec![0; spare_words]);
    words
}

fn is_in(words: &[u32], row: usize) -> bool {
    words.get(row / 32).is_some_and(|word| (word >> (row % 32)) % 2 == 1)
}

fn text_column(values: &[Option<String>], spare: usize) -> TextColumn {
    let mut column = TextColumn::empty();
    for value in values {
        column.data += value.as_deref().unwrap_or_default();
        column.ends.push(column.data.len() as u32);
    }
    column.missing = row_set(values.iter().map(Option::is_none), spare);
    column
}

fn texts(column: &TextColumn) -> Vec<Option<String>> {
    let starts = std::iter::once(0).chain(column.ends.iter().copied());
    let texts = starts.zip(&column.ends).map(|(start, end)| column.data[start as usize..*end as usize].to_owned());
    texts.enumerate().map(|(row, text)| (!is_in(&column.missing, row)).then_some(text)).collect()
}

fn integer_column(values: &[Option<i64>], spare: usize) -> IntegerColumn {
    IntegerColumn {
        values: values.iter().map(|value| value.unwrap_or_default()).collect(),
        missing: row_set(values.iter().map(Option::is_none), spare),
    }
}

fn plain<T: Copy>(values: &[T], missing: &[u32]) -> Vec<Option<T>> {
    values.iter().enumerate().map(|(row, value)| (!is_in(missing, row)).then_some(*value)).collect()
}

#[derive(Clone, Debug)]
struct Row {
    text: Option<String>,
    integer: Option<i64>,
    number: Option<f64>,
    boolean: Option<bool>,
    json: Option<String>,
    malformed: bool,
}

fn row() -> impl Strategy<Value = Row> {
    let json = prop_oneof![Just("[1,{\"a\":null}]"), Just("\"é\""), Just("{}"), Just("0.5"), Just("false")];
    (
        proptest::option::of(".{0,9}"),
        proptest::option::of(any::<i64>()),
        proptest::option::of(prop::num::f64::NORMAL),
        any::<Option<bool>>(),
        proptest::option::of(json.prop_map(str::to_owned)),
        any::<bool>(),
    )
        .prop_map(|(text, integer, number, boolean, json, malformed)| Row {
            text,
            integer,
            number,
            boolean,
            json,
            malformed,
        })
}

fn column<T>(rows: &[Row], value: impl Fn(&Row) -> Option<T>) -> Vec<Option<T>> {
    rows.iter().map(value).collect()
}

fn batch(rows: &[Row], spare: usize) -> Batch {
    let texts = text_column(&column(rows, |row| row.text.clone()), spare);
    let integers = integer_column(&column(rows, |row| row.integer), spare);
    let numbers = column(rows, |row| row.number);
    let booleans = column(rows, |row| row.boolean);
    let malformed = (0..).zip(rows).filter(|(_, row)| row.malformed);
    Batch {
        rows: rows.len() as u32,
        user_id: texts.clone(),
        timestamp: integers.clone(),
        malformed_timestamps: malformed
            .map(|(row, _)| MalformedTimestamp { row, text: format!("malformed {row}") })
            .collect(),
        record_timestamp: integers.clone(),
        ip: texts.clone(),
        device_type: texts.clone(),
        device_id: texts.clone(),
        locale: texts.clone(),
        app_version: texts.clone(),
        outcome: texts.clone(),
        more: vec![
            Column::Text(texts),
            Column::Integer(integers),
            Column::Number(NumberColumn {
                values: numbers.iter().map(|value| value.unwrap_or_default()).collect(),
                missing: row_set(numbers.iter().map(Option::is_none), spare),
            }),
            Column::Boolean(BooleanColumn {
                rows: rows.len() as u32,
                truths: row_set(booleans.iter().map(|value| *value == Some(true)), spare),
                missing: row_set(booleans.iter().map(Option::is_none), spare),
            }),
            Column::Json(text_column(&column(rows, |row| row.json.clone()), spare)),
        ],
    }
}

proptest! {
    #[test]
    fn every_value_and_every_gap_goes_through_a_plugin_and_back(
        rows in prop::collection::vec(row(), 0..80),
        spare_words in 0usize..3,
    ) {
        let history = vec![Column::Integer(integer_column(&column(&rows, |row| row.integer), spare_words))];
        let instance = Instance::<Echo>::new("{}").unwrap();
        let enrichment = instance.enrich(batch(&rows, spare_words), history);

        let [
            Column::Text(text), Column::Integer(integer), Column::Number(number), Column::Boolean(boolean),
            Column::Json(json), Column::Text(user_id), Column::Integer(timestamp), Column::Text(malformed),
            Column::Integer(record_timestamp), Column::Integer(past),
        ] = enrichment.fields.as_slice() else {
            panic!("a column for each field that is set, in order, of its type");
        };
        let wanted_texts = column(&rows, |row| row.text.clone());
        let wanted_integers = column(&rows, |row| row.integer);
        let wanted_malformed: Vec<_> =
            rows.iter().enumerate().map(|(row, it)| it.malformed.then(|| format!("malformed {row}"))).collect();
        prop_assert_eq!(&texts(text), &wanted_texts);
        prop_assert_eq!(&texts(user_id), &wanted_texts);
        for integers in [integer, timestamp, record_timestamp, past] {
            prop_assert_eq!(&plain(&integers.values, &integers.missing), &wanted_integers);
        }
        prop_assert_eq!(plain(&number.values, &number.missing), column(&rows, |row| row.number));
        prop_assert_eq!(boolean.rows as usize, rows.len());
        let truths: Vec<bool> = (0..rows.len()).map(|row| is_in(&boolean.truths, row)).collect();
        prop_assert_eq!(plain(&truths, &boolean.missing), column(&rows, |row| row.boolean));
        prop_assert_eq!(texts(json), column(&rows, |row| row.json.clone()));
        prop_assert_eq!(texts(malformed), wanted_malformed);
        // Nothing but the texts themselves: the contract has no gaps in `data`.
        prop_assert_eq!(text.data.len(), *text.ends.last().unwrap_or(&0) as usize);
        prop_assert!(enrichment.insights.is_empty() && enrichment.rejections.is_empty());
    }
}

#[test]
fn a_column_that_lies_is_read_as_missing_and_never_panics() {
    let lies = TextColumn { data: "añb".to_owned(), ends: vec![2, 1, 99, 4], missing: Vec::new() };
    assert_eq!([0, 1, 2, 3, 4].map(|row| lies.get(row)), [None; 5]);
    let short = IntegerColumn { values: vec![7], missing: Vec::new() };
    assert_eq!([0, 1, 64].map(|row| short.get(row)), [Some(7), None, None]);
    let short = BooleanColumn { rows: 1, truths: vec![3], missing: Vec::new() };
    assert_eq!([0, 1, 64].map(|row| short.get(row)), [Some(true), None, None]);
}
