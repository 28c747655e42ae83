//! What the plugin does when it behaves.
//!
//! The validator rejects users whose id begins with `reject` (code `rejected_by_guest`). The enricher sets `guest_user_bytes`, the
//! length of the user id; refuses users that begin with `refuse` (code `refused_by_guest`) and tells of those that begin
//! with `remark` (insight `guest_remark`). The insight generator makes one insight `guest_window`.

use crate::exports::loginscope::plugin::enricher::Enrichment;
use crate::loginscope::plugin::aggregates::{self, Period};
use crate::loginscope::plugin::types::{
    Aggregate, Batch, Column, Declaration, Dimension, FieldType, HistoryRequest, Insight, IntegerColumn, LoginInsight,
    LookUp, Measure, Rejection, Severity, Span, TextColumn, TypedField, Window,
};
use crate::settings::{self, EchoType};

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

/// The text of a row.
pub fn text(column: &TextColumn, row: usize) -> Option<&str> {
    if column.missing.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 1) {
        return None;
    }
    let start = row.checked_sub(1).map_or(0, |before| column.ends[before] as usize);
    Some(&column.data[start..column.ends[row] as usize])
}

/// The rows of users whose id begins like this.
fn rows_of<'a>(batch: &'a Batch, prefix: &'a str) -> impl Iterator<Item = (u32, &'a str)> {
    (0..batch.rows).filter_map(move |row| {
        let user = text(&batch.user_id, row as usize)?;
        user.starts_with(prefix).then_some((row, user))
    })
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
    let mut sets = vec![field("guest_user_bytes", FieldType::Integer)];
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
        reads: settings.echo.iter().map(|echo| field(&echo.name, field_type(echo.r#type))).collect(),
        aggregates: if settings.history { vec![user_logins()] } else { Vec::new() },
        history: if settings.history { vec![history] } else { Vec::new() },
        sets,
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

pub fn enrich(batch: Batch, history: Vec<Column>) -> Enrichment {
    let rows = 0..batch.rows as usize;
    let bytes = rows.map(|row| text(&batch.user_id, row).map_or(0, |user| user.len() as i64)).collect();
    let insights = rows_of(&batch, "remark").map(|(row, user)| {
        let data = serde_json::json!({ "user_id": user }).to_string();
        LoginInsight { row, insight: Insight { kind: "guest_remark".to_owned(), severity: Severity::Low, data } }
    });
    let insights = insights.collect();
    let rejections = rejections(&batch, "refuse", "refused_by_guest");
    let mut fields = vec![Column::Integer(IntegerColumn { values: bytes, missing: batch.user_id.missing.clone() })];
    fields.extend(history);
    let malformed = malformed_timestamps(&batch);
    fields.extend(batch.more);
    if settings::get().echo_table {
        fields.extend([
            Column::Text(batch.user_id),
            Column::Integer(batch.timestamp),
            Column::Text(malformed),
            Column::Integer(batch.record_timestamp),
            Column::Text(batch.ip),
            Column::Text(batch.device_type),
            Column::Text(batch.device_id),
            Column::Text(batch.locale),
            Column::Text(batch.app_version),
            Column::Text(batch.outcome),
        ]);
    }
    Enrichment { fields, insights, rejections }
}

/// The malformed timestamps as a column, empty where there is none.
fn malformed_timestamps(batch: &Batch) -> TextColumn {
    let mut column = TextColumn { data: String::new(), ends: Vec::new(), missing: Vec::new() };
    let mut malformed = batch.malformed_timestamps.iter().peekable();
    for row in 0..batch.rows {
        if let Some(it) = malformed.next_if(|it| it.row == row) {
            column.data.push_str(&it.text);
        }
        column.ends.push(column.data.len() as u32);
    }
    column
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
            Ok(entries) => serde_json::json!(format!("{entries:?}")),
            Err(sentence) => serde_json::json!(sentence),
        };
    }
    vec![Insight { kind: "guest_window".to_owned(), severity: Severity::Info, data: data.to_string() }]
}
