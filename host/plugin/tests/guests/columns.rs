//! Columns through a real guest and back.

use loginscope_login::{Column, FieldType, Logins, MalformedTimestamp, Schema, Slot, Value};
use loginscope_wasm::{Instance, Plugin, Role};
use proptest::prelude::*;

use crate::support::{breach, enrich, integers, logins_with, plugin};

/// Further fields of every type.
const FURTHER: [(&str, FieldType); 5] = [
    ("geo.country", FieldType::Text),
    ("attempts", FieldType::Integer),
    ("risk", FieldType::Number),
    ("known", FieldType::Boolean),
    ("details", FieldType::Json),
];

/// The fields of the login's own table, and those of the plugin.
fn schema() -> Schema {
    let mut schema = Schema::default();
    for (name, field_type) in FURTHER {
        schema.add(name, field_type).unwrap();
    }
    schema
}

/// A plugin that gives back every column it is given.
fn echo() -> Plugin {
    plugin(
        r#"{"echo_table":true,"echo":[
            {"name":"geo.country","type":"text"},{"name":"attempts","type":"integer"},{"name":"risk","type":"number"},
            {"name":"known","type":"boolean"},{"name":"details","type":"json"}]}"#,
    )
}

/// An owned value of any type.
#[derive(Clone, Debug)]
enum Given {
    Missing,
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Json(String),
}

impl Given {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Missing => Value::Missing,
            Self::Text(text) => Value::Text(text),
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Number(number) => Value::Number(*number),
            Self::Boolean(boolean) => Value::Boolean(*boolean),
            Self::Json(json) => Value::Json(json),
        }
    }
}

fn given(field_type: FieldType) -> impl Strategy<Value = Given> {
    let value = match field_type {
        FieldType::Text => ".{0,12}".prop_map(Given::Text).boxed(),
        FieldType::Integer => any::<i64>().prop_map(Given::Integer).boxed(),
        FieldType::Number => any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(Given::Number).boxed(),
        FieldType::Boolean => any::<bool>().prop_map(Given::Boolean).boxed(),
        FieldType::Json => prop::sample::select(vec!["{}", "[1, 2]", "\"ü\"", "1e3", "false", "{\"a\":{\"b\":null}}"])
            .prop_map(|json| Given::Json(json.to_owned()))
            .boxed(),
    };
    prop_oneof![1 => Just(Given::Missing), 3 => value]
}

/// Values for all columns of one login, and its record timestamp.
fn login() -> impl Strategy<Value = (Vec<Given>, Option<i64>)> {
    let values: Vec<_> = schema().fields().iter().map(|field| given(field.field_type)).collect();
    (values, any::<Option<i64>>())
}

fn logins(rows: &[(Vec<Given>, Option<i64>)], malformed: &[(usize, String)]) -> Logins {
    let mut logins = Logins::new(&schema());
    for (row, (values, record_timestamp)) in rows.iter().enumerate() {
        for (column, value) in logins.columns_mut().iter_mut().zip(values) {
            column.push(value.value());
        }
        logins.record_timestamps.push(*record_timestamp);
        logins.offsets.push(row as i64);
    }
    logins.malformed_timestamps = malformed
        .iter()
        .filter(|(row, _)| *row < rows.len())
        .map(|(row, text)| MalformedTimestamp { row: *row as u32, text: text.clone() })
        .collect();
    logins
}

fn further_slots() -> Vec<Slot> {
    (0..FURTHER.len()).map(|index| Slot(Slot::CANONICAL + index)).collect()
}

/// Row by row, because a set of rows may be written with more or fewer words.
fn assert_same(echoed: &Column, sent: &Column) {
    assert_eq!(echoed.field_type(), sent.field_type());
    assert_eq!(echoed.len(), sent.len());
    for row in 0..sent.len() {
        assert_eq!(echoed.value(row), sent.value(row), "row {row}");
    }
}

fn check_echo(instance: &mut Instance, logins: &Logins) {
    let enrichment = instance.enrich(logins, &further_slots(), &[]).unwrap();
    // First the length of the user id, then the further fields, then the login's own table.
    let (further, table) = enrichment.fields[1..].split_at(FURTHER.len());
    for (echoed, slot) in further.iter().zip(further_slots()) {
        assert_same(echoed, logins.column(slot).unwrap());
    }
    let own = [
        Slot::USER_ID,
        Slot::TIMESTAMP,
        Slot::IP,
        Slot::DEVICE_TYPE,
        Slot::DEVICE_ID,
        Slot::LOCALE,
        Slot::APP_VERSION,
        Slot::OUTCOME,
    ];
    let echoed_own = table.iter().enumerate().filter(|(index, _)| ![2, 3].contains(index)).map(|(_, column)| column);
    for (echoed, slot) in echoed_own.zip(own) {
        assert_same(echoed, logins.column(slot).unwrap());
    }
    assert_same(&table[3], &Column::Integer(logins.record_timestamps.clone()));
    for malformed in &logins.malformed_timestamps {
        assert_eq!(table[2].value(malformed.row as usize), Value::Text(&malformed.text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_column_goes_through_a_guest_and_back(
        rows in prop::collection::vec(login(), 0..70),
        malformed in prop::collection::btree_map(0..70_usize, "[a-zü]{1,8}", 0..4),
    ) {
        let logins = logins(&rows, &malformed.into_iter().collect::<Vec<_>>());
        let plugin = echo();
        let mut instance = plugin.instance();
        check_echo(&mut instance, &logins);
        check_echo(&mut instance, &logins);
    }
}

#[test]
fn history_crosses_in_its_order() {
    let plugin = plugin(r#"{"history":true}"#);
    let declaration = plugin.declaration(Role::Enricher).unwrap();
    assert_eq!(declaration.history.len(), 1);
    assert_eq!(declaration.aggregates[0].name, "guest-user-logins");
    let mut seen = Column::empty(FieldType::Integer);
    seen.push(Value::Integer(4));
    seen.push(Value::Integer(0));
    let enrichment = plugin.instance().enrich(&logins_with(&schema(), &["ann", "bo"]), &[], &[seen]).unwrap();
    assert_eq!(enrichment.fields.iter().map(integers).collect::<Vec<_>>(), [vec![3, 2], vec![4, 0]]);
}

#[test]
fn an_enricher_refuses_and_remarks_on_single_logins() {
    let logins = logins_with(&schema(), &["ann", "remark-1", "refuse-1", "remark-2"]);
    let enrichment = enrich(&mut plugin("{}").instance(), &logins).unwrap();
    let insights: Vec<_> =
        enrichment.insights.iter().map(|(row, it)| (*row, it.kind.as_str(), it.data.as_str())).collect();
    assert_eq!(
        insights,
        [(1, "guest_remark", r#"{"user_id":"remark-1"}"#), (3, "guest_remark", r#"{"user_id":"remark-2"}"#),]
    );
    let rejections: Vec<_> = enrichment.rejections.iter().map(|(row, it)| (*row, it.code.as_ref())).collect();
    assert_eq!(rejections, [(2, "refused_by_guest")]);
}

#[test]
fn an_empty_batch_is_a_batch() {
    let logins = Logins::new(&schema());
    let mut instance = plugin("{}").instance();
    assert_eq!(instance.validate(&logins, &[]), Ok(Vec::new()));
    assert_eq!(integers(&enrich(&mut instance, &logins).unwrap().fields[0]), Vec::<i64>::new());
}

#[test]
fn a_json_null_that_is_not_missing_breaks_the_contract() {
    let mut logins = logins_with(&schema(), &["ann"]);
    let details = schema().slot("details").unwrap();
    let column = &mut logins.columns_mut()[details.0];
    column.clear();
    column.push(Value::Json("null"));
    let what = breach(echo().instance().enrich(&logins, &further_slots(), &[]));
    assert!(what.contains("echo_details") && what.contains("null"), "{what}");
}
