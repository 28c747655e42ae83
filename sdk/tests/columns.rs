//! Columns through a plugin and back: what a login has comes out of `Login`, what a plugin sets goes into its column.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod packed;

use loginscope_plugin::columns::Columns;
use loginscope_plugin::contract::{self, Batch, FieldType};
use loginscope_plugin::prelude::*;
use loginscope_plugin::runtime::Instance;
use packed::Column;
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

fn batch(rows: &[Row]) -> Batch {
    let texts = Column::Text(column(rows, |row| row.text.clone()));
    let integers = Column::Integer(column(rows, |row| row.integer));
    let own = std::array::from_fn(|place| if [1, 2].contains(&place) { integers.clone() } else { texts.clone() });
    let more = vec![
        texts.clone(),
        integers.clone(),
        Column::Number(column(rows, |row| row.number)),
        Column::Boolean(column(rows, |row| row.boolean)),
        Column::Json(column(rows, |row| row.json.clone())),
        integers,
    ];
    let malformed: Vec<_> = (0..).zip(rows).filter(|(_, row)| row.malformed).map(|(row, _)| (row, "bad")).collect();
    packed::batch(rows.len(), own, more, &malformed)
}

proptest! {
    #[test]
    fn every_value_and_every_gap_goes_through_a_plugin_and_back(rows in prop::collection::vec(row(), 0..80)) {
        let texts = Column::Text(column(&rows, |row| row.text.clone()));
        let integers = Column::Integer(column(&rows, |row| row.integer));
        let instance = Instance::<Echo>::new("{}").unwrap();
        let enrichment = instance.enrich(batch(&rows));
        let types: Vec<_> = instance.enricher_declaration().sets.iter().map(|field| field.type_).collect();
        let expected = [
            texts.clone(),
            integers.clone(),
            Column::Number(column(&rows, |row| row.number)),
            Column::Boolean(column(&rows, |row| row.boolean)),
            Column::Json(column(&rows, |row| row.json.clone())),
            texts,
            integers.clone(),
            Column::Text(column(&rows, |row| row.malformed.then(|| "bad".to_owned()))),
            integers.clone(),
            integers,
        ];
        prop_assert_eq!(packed::unpack(&enrichment.fields, rows.len(), &types), expected);
        prop_assert!(enrichment.insights.is_empty() && enrichment.rejections.is_empty());
    }
}

#[test]
fn columns_that_lie_never_make_the_plugin_panic() {
    let lies = contract::Columns {
        texts: "añb".to_owned(),
        ends: vec![2, 1, 99, 4],
        integers: vec![7],
        numbers: Vec::new(),
        bits: vec![0, 0, 0],
    };
    let types = [FieldType::Text, FieldType::Integer, FieldType::Boolean, FieldType::Number, FieldType::Json];
    for rows in [0, 1, 4, 40, 1 << 20] {
        let lies = Columns::new(lies.clone(), rows, &types);
        for column in 0..7 {
            for row in [0, 1, 2, 3, 4, 39, 64, rows] {
                let _ = (lies.text(column, row), lies.json(column, row), lies.integer(column, row));
                let _ = (lies.number(column, row), lies.boolean(column, row));
            }
        }
    }
    let lies = Columns::new(lies, 4, &types);
    assert_eq!([0, 1, 2, 3, 4].map(|row| lies.text(0, row)), [None; 5]);
    assert_eq!([0, 1].map(|row| lies.integer(1, row)), [Some(7), None]);
}
