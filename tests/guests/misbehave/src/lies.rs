//! Answers that the contract doesn't allow.

use crate::exports::loginscope::plugin::enricher::Enrichment;
use crate::good::enricher_declaration;
use crate::loginscope::plugin::types::{
    Batch, Declaration, FieldType, Insight, LoginInsight, Rejection, Severity, TypedField,
};
use crate::packed::{Column, pack, unpack};
use crate::settings::{How, Role};

/// More insights than there is memory for.
const TEN_MILLION: usize = 10_000_000;

/// More insights than the host takes.
const HUNDRED_THOUSAND: usize = 100_000;

/// How much text is too much, in bytes.
const HUGE: usize = 8 << 20;

/// A declaration of a field without a name; by a role that can't set any, of a field.
pub fn declaration(role: Role) -> Declaration {
    let name = if role == Role::Enricher { "" } else { "risk" };
    Declaration { sets: vec![TypedField { name: name.to_owned(), type_: FieldType::Text }], ..Declaration::default() }
}

pub fn validate(how: &How, row: usize, batch: &Batch, rejections: &mut Vec<Rejection>) {
    let row = row as u32;
    let rejection = |row, code: &str, reason| Rejection { row, code: code.to_owned(), reason };
    match how {
        How::LieRow => rejections.push(rejection(batch.rows, "lie", String::new())),
        How::LieOrder => {
            *rejections = vec![rejection(row, "lie", String::new()), rejection(row, "lie", String::new())];
        }
        How::LieCode => *rejections = vec![rejection(row, "Not A Code", String::new())],
        How::LieReason => *rejections = vec![rejection(row, "lie", "two\nlines".to_owned())],
        How::LieUtf8 => *rejections = vec![rejection(row, "lie", not_utf8())],
        How::LiePointer => *rejections = vec![rejection(row, "lie", outside())],
        How::ManyInsights => *rejections = vec![rejection(row, "", String::new()); TEN_MILLION],
        How::TooManyInsights => *rejections = vec![rejection(row, "lie", String::new()); HUNDRED_THOUSAND],
        How::HugeText => *rejections = vec![rejection(row, "lie", "x".repeat(HUGE))],
        _ => {}
    }
}

pub fn enrich(how: &How, row: usize, rows: usize, enrichment: &mut Enrichment) {
    let about = |row, insight| LoginInsight { row, insight };
    match how {
        How::LieRow => enrichment.insights.push(about(rows as u32, insight("lie", "{}".to_owned()))),
        How::LieOrder => {
            let of = |row| about(row, insight("lie", "{}".to_owned()));
            enrichment.insights = vec![of(row as u32 + 1), of(row as u32)];
        }
        How::LieCode => enrichment.insights = vec![about(row as u32, insight("Not A Kind", "{}".to_owned()))],
        How::LieReason => enrichment.insights = vec![about(row as u32, insight("lie", "[]".to_owned()))],
        How::LieUtf8 => enrichment.insights = vec![about(row as u32, insight("lie", not_utf8()))],
        How::LiePointer => enrichment.insights = vec![about(row as u32, insight("lie", outside()))],
        How::ManyInsights => enrichment.insights = vec![about(row as u32, insight("", String::new())); TEN_MILLION],
        How::TooManyInsights => {
            enrichment.insights = vec![about(row as u32, insight("lie", "{}".to_owned())); HUNDRED_THOUSAND];
        }
        How::HugeText => enrichment.insights = vec![about(row as u32, insight("lie", "x".repeat(HUGE)))],
        How::LieCount => replace_first(enrichment, rows, |column| vec![column.clone(), column]),
        How::LieLength => {
            enrichment.fields.integers.pop();
        }
        How::LieRest => enrichment.fields.integers.push(0),
        How::LieType => replace_first(enrichment, rows, |_| vec![Column::Boolean(vec![None; rows])]),
        How::LieMissing => enrichment.fields.bits[rows / 32] |= 1 << (rows % 32),
        How::LieNumber => enrichment.fields.numbers[0] = f64::NAN,
        How::LieEnds => enrichment.fields.ends[0] = u32::MAX,
        _ => {}
    }
}

/// Puts other columns in the place of the first one.
fn replace_first(enrichment: &mut Enrichment, rows: usize, replace: impl FnOnce(Column) -> Vec<Column>) {
    let types: Vec<_> = enricher_declaration().sets.iter().map(|field| field.type_).collect();
    let mut columns = unpack(&enrichment.fields, rows, &types);
    let first = columns.remove(0);
    let columns = replace(first).into_iter().chain(columns).collect();
    enrichment.fields = pack(columns);
}

pub fn generate(how: &How, insights: &mut Vec<Insight>) {
    match how {
        How::LieCode => *insights = vec![insight("Not A Kind", "{}".to_owned())],
        How::LieReason => *insights = vec![insight("lie", "[1]".to_owned())],
        How::LieUtf8 => *insights = vec![insight("lie", not_utf8())],
        How::LiePointer => *insights = vec![insight("lie", outside())],
        How::ManyInsights => *insights = vec![insight("", String::new()); TEN_MILLION],
        How::TooManyInsights => *insights = vec![insight("lie", "{}".to_owned()); HUNDRED_THOUSAND],
        How::HugeText => *insights = vec![insight("lie", format!("{{\"a\":\"{}\"}}", "x".repeat(HUGE)))],
        _ => {}
    }
}

fn insight(kind: &str, data: String) -> Insight {
    Insight { kind: kind.to_owned(), severity: Severity::Low, data }
}

/// A text that is not UTF-8.
fn not_utf8() -> String {
    // SAFETY: none. Nobody here reads it; the host has to notice.
    unsafe { String::from_utf8_unchecked(vec![b'a', 0xff, 0xc0]) }
}

/// A text that lies outside of memory.
fn outside() -> String {
    // SAFETY: none. Nobody here reads it; the host has to notice.
    unsafe { String::from_raw_parts(0xffff_0000 as *mut u8, 0x8000, 0x8000) }
}
