//! What the plugin does when it behaves.
//!
//! The validator rejects users whose id begins with `reject` (code `rejected_by_guest`). The enricher sets `guest_user_bytes`, the
//! length of the user id; refuses users that begin with `refuse` (code `refused_by_guest`) and tells of those that begin
//! with `remark` (insight `guest_remark`). The insight generator makes one insight `guest_window`.

use crate::exports::loginscope::plugin::enricher::Enrichment;
use crate::loginscope::plugin::aggregates::{self, Listing, Period};
use crate::loginscope::plugin::types::{
    Aggregate, Batch, Declaration, Dimension, FieldType, HistoryRequest, Insight, LoginInsight, LookUp, Measure,
    Rejection, Severity, Span, TableField, TypedField, Window,
};
use crate::packed::{Column, pack, unpack};
use crate::settings::{self, EchoType, How};

/// The aggregate that history and the insight generator are about.
const USER_LOGINS: &str = "guest-user-logins";

/// The columns of the login's own table that come back with `echo_table`.
const TABLE: [(&str, FieldType); 10] = [
    ("table_user_id", FieldType::Text),
    ("table_timestamp", FieldType::Integer),
    ("table_malformed", FieldType::Text),
    ("table_record_timestamp", FieldType::Integer),
    ("table_ip", FieldType::Text),
    ("table_device_type", FieldType::Text),
    ("table_device_id", FieldType::Text),
    ("table_locale", FieldType::Text),
    ("table_app_version", FieldType::Text),
    ("table_outcome", FieldType::Text),
];

/// The login's own table, the user first.
const OWN: [TableField; 9] = [
    TableField::UserId,
    TableField::Timestamp,
    TableField::RecordTimestamp,
    TableField::Ip,
    TableField::DeviceType,
    TableField::DeviceId,
    TableField::Locale,
    TableField::AppVersion,
    TableField::Outcome,
];

/// The user of a row. The first of all columns.
pub fn user_id(batch: &Batch, row: usize) -> Option<&str> {
    let fields = &batch.fields;
    let start = row.checked_sub(1).map_or(0, |before| fields.ends[before] as usize);
    let present = fields.bits[row / 32] >> (row % 32) & 1 == 0;
    present.then(|| &fields.texts[start..fields.ends[row] as usize])
}

/// The rows of users whose id begins like this.
fn rows_of<'a>(batch: &'a Batch, prefix: &'a str) -> impl Iterator<Item = (u32, &'a str)> {
    (0..batch.rows).filter_map(move |row| {
        let user = user_id(batch, row as usize)?;
        user.starts_with(prefix).then_some((row, user))
    })
}

pub fn validator_declaration() -> Declaration {
    Declaration { table: OWN.to_vec(), ..Declaration::default() }
}

pub fn validate(batch: &Batch) -> Vec<Rejection> {
    rejections(batch, "reject", "rejected_by_guest")
}

fn rejections(batch: &Batch, prefix: &str, code: &str) -> Vec<Rejection> {
    rows_of(batch, prefix)
        .map(|(row, _)| Rejection { row, code: code.to_owned(), reason: format!("user_id begins with {prefix}") })
        .collect()
}

pub fn enricher_declaration() -> Declaration {
    let settings = settings::get();
    let field_type = |of: EchoType| match of {
        EchoType::Text => FieldType::Text,
        EchoType::Integer => FieldType::Integer,
        EchoType::Number => FieldType::Number,
        EchoType::Boolean => FieldType::Boolean,
        EchoType::Json => FieldType::Json,
    };
    let field = |name: &str, field_type| TypedField { name: name.to_owned(), type_: field_type };
    let mut sets = vec![field("guest_user_bytes", first_type(&settings.how))];
    if settings.history {
        sets.push(field("guest_user_logins", FieldType::Integer));
    }
    for echo in &settings.echo {
        sets.push(field(&format!("echo_{}", echo.name.replace('.', "_")), field_type(echo.r#type)));
    }
    if settings.echo_table {
        sets.extend(TABLE.iter().map(|(name, field_type)| field(name, *field_type)));
    }
    let history = HistoryRequest { aggregate: USER_LOGINS.to_owned(), look_up: LookUp::Value, over: None };
    Declaration {
        table: OWN.to_vec(),
        reads: settings.echo.iter().map(|echo| field(&echo.name, field_type(echo.r#type))).collect(),
        aggregates: if settings.history { vec![user_logins()] } else { Vec::new() },
        history: if settings.history { vec![history] } else { Vec::new() },
        sets,
    }
}

/// The type of the first field: whoever is to lie about texts or numbers needs some.
fn first_type(how: &How) -> FieldType {
    match how {
        How::LieEnds => FieldType::Text,
        How::LieNumber => FieldType::Number,
        _ => FieldType::Integer,
    }
}

fn user_logins() -> Aggregate {
    Aggregate {
        name: USER_LOGINS.to_owned(),
        measure: Measure::Count,
        by: vec![Dimension { field: "user_id".to_owned(), limit: None }],
        buckets: None,
        filter: Vec::new(),
        span: Span::Total,
    }
}

pub fn enrich(batch: &Batch) -> Enrichment {
    let rows = batch.rows as usize;
    let bytes = (0..rows).map(|row| user_id(batch, row).map(str::len));
    let first = match first_type(&settings::get().how) {
        FieldType::Text => Column::Text(bytes.map(|bytes| bytes.map(|bytes| bytes.to_string())).collect()),
        FieldType::Number => Column::Number(bytes.map(|bytes| bytes.map(|bytes| bytes as f64)).collect()),
        _ => Column::Integer(bytes.map(|bytes| bytes.map(|bytes| bytes as i64)).collect()),
    };
    let insights = rows_of(batch, "remark").map(|(row, user)| {
        let data = serde_json::json!({ "user_id": user }).to_string();
        LoginInsight { row, insight: Insight { kind: "guest_remark".to_owned(), severity: Severity::Low, data } }
    });
    let mut fields = vec![first];
    let mut given = unpack(&batch.fields, rows, &given_types());
    let mut further = given.split_off(OWN.len());
    let history = further.split_off(settings::get().echo.len());
    fields.extend(history.into_iter().chain(further));
    if settings::get().echo_table {
        // The malformed timestamps stand behind the timestamps.
        given.insert(2, Column::Text(malformed_timestamps(batch)));
        fields.extend(given);
    }
    Enrichment {
        fields: pack(fields),
        insights: insights.collect(),
        rejections: rejections(batch, "refuse", "refused_by_guest"),
    }
}

/// The types of a batch's columns.
fn given_types() -> Vec<FieldType> {
    let declaration = enricher_declaration();
    let table = OWN.map(|field| match field {
        TableField::Timestamp | TableField::RecordTimestamp => FieldType::Integer,
        _ => FieldType::Text,
    });
    let history = declaration.history.iter().map(|_| FieldType::Integer);
    table.into_iter().chain(declaration.reads.iter().map(|field| field.type_)).chain(history).collect()
}

/// The malformed timestamps as a column, empty where there is none.
fn malformed_timestamps(batch: &Batch) -> Vec<Option<String>> {
    let text_of = |row| batch.malformed_timestamps.iter().find(|it| it.row == row).map(|it| it.text.clone());
    (0..batch.rows).map(|row| Some(text_of(row).unwrap_or_default())).collect()
}

pub fn generator_declaration() -> Declaration {
    let aggregates = if settings::get().history { vec![user_logins()] } else { Vec::new() };
    Declaration { aggregates, ..Declaration::default() }
}

pub fn generate(window: &Window) -> Vec<Insight> {
    let mut data = serde_json::json!({
        "topic": window.topic,
        "number": window.number,
        "logins": window.facts.logins,
        "previous_logins": window.previous.as_ref().map(|facts| facts.logins),
    });
    if let Some(aggregate) = &settings::get().read_aggregate {
        data["read"] = match aggregates::summarize(aggregate, Period::Current) {
            Ok(summary) => serde_json::json!([summary.keys, summary.sum, summary.approximate]),
            Err(sentence) => serde_json::json!(sentence),
        };
        data["entries"] = match aggregates::entries(aggregate, Period::Previous) {
            Ok(listing) => serde_json::json!({
                "shape": [listing.rows, listing.has_buckets, listing.dimensions, listing.values],
                "cells": cells(&listing),
            }),
            Err(sentence) => serde_json::json!(sentence),
        };
    }
    vec![Insight { kind: "guest_window".to_owned(), severity: Severity::Info, data: data.to_string() }]
}

/// The cells of a listing, one after the other.
fn cells(listing: &Listing) -> Vec<serde_json::Value> {
    let cells = listing.kinds.iter().zip(&listing.words);
    let cells = cells.map(|(kind, word)| match kind {
        0 => serde_json::json!(listing.texts[(word >> 32) as usize..*word as u32 as usize]),
        1 => serde_json::json!(*word as i64),
        2 => serde_json::json!(f64::from_bits(*word)),
        3 => serde_json::json!(*word == 1),
        _ => panic!("a cell of kind {kind}"),
    });
    cells.collect()
}
