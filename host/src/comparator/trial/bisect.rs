//! An enricher asked about logins that it may fail on: halved until it is known on which.

use std::ops::Range;

use loginscope_login::{Column, Logins, Rejection, Slot, Value};
use loginscope_wasm::{Enrichment, Insight, Instance};

use crate::pipeline::judged::cut;

/// What an enricher is asked.
pub(super) struct Question<'a> {
    pub(super) logins: &'a Logins,
    /// The further fields that it reads.
    pub(super) reads: &'a [Slot],
    pub(super) history: &'a [Column],
    /// On how many logins it may fail; it isn't asked about the rest then.
    pub(super) allowed: u64,
}

/// What it says.
#[derive(Default)]
pub(super) struct Answer {
    /// One column a field that it sets; where it has failed, nothing is set.
    pub(super) fields: Vec<Column>,
    pub(super) insights: Vec<(u32, Insight)>,
    pub(super) rejections: Vec<(u32, Rejection)>,
    /// On how many logins it has failed; they are among the rejected.
    pub(super) failed: u64,
    /// The reason of each call that failed.
    pub(super) failures: Vec<String>,
}

/// Asks an enricher about some logins.
pub(super) fn ask(instance: &mut Instance, question: &Question<'_>) -> Answer {
    let mut answer = Answer::default();
    match instance.enrich(question.logins, question.reads, question.history) {
        Ok(Enrichment { fields, insights, rejections }) => Answer { fields, insights, rejections, ..answer },
        Err(failure) => {
            answer.failures.push(failure.to_string());
            let rows = question.logins.rows();
            ask_parts(instance, question, 0..rows, &mut answer);
            for column in &mut answer.fields {
                (column.len()..rows).for_each(|_| column.push(Value::Missing));
            }
            answer
        }
    }
}

/// Asks about both halves of some logins, or again about one.
fn ask_parts(instance: &mut Instance, question: &Question<'_>, rows: Range<usize>, answer: &mut Answer) {
    let middle = rows.start + rows.len() / 2;
    for part in [rows.start..middle, middle..rows.end] {
        if !part.is_empty() && answer.failed <= question.allowed {
            ask_part(instance, question, part, answer);
        }
    }
}

fn ask_part(instance: &mut Instance, question: &Question<'_>, rows: Range<usize>, answer: &mut Answer) {
    let numbers: Vec<u32> = (rows.start as u32..rows.end as u32).collect();
    let mut logins = question.logins.copy_of(&[]);
    logins.select_from(question.logins, &numbers);
    let history: Vec<Column> = question.history.iter().map(|column| cut(column, &rows)).collect();
    let was_fresh = instance.is_fresh();
    match instance.enrich(&logins, question.reads, &history) {
        Ok(enrichment) => answer.take(rows.start, enrichment),
        Err(failure) => {
            answer.failures.push(failure.to_string());
            if rows.len() == 1 && was_fresh {
                answer.failed += 1;
                answer.rejections.push((rows.start as u32, Rejection::new("plugin_failed", &failure.to_string())));
            } else {
                ask_parts(instance, question, rows, answer);
            }
        }
    }
}

impl Answer {
    /// Takes what was said of the logins from this one on, which are behind all others.
    fn take(&mut self, start: usize, enrichment: Enrichment) {
        if self.fields.is_empty() {
            self.fields = enrichment.fields.iter().map(|column| Column::empty(column.field_type())).collect();
        }
        for (all, column) in self.fields.iter_mut().zip(&enrichment.fields) {
            (all.len()..start).for_each(|_| all.push(Value::Missing));
            (0..column.len()).for_each(|row| all.push(column.value(row)));
        }
        let at = |row: u32| row + start as u32;
        self.insights.extend(enrichment.insights.into_iter().map(|(row, insight)| (at(row), insight)));
        self.rejections.extend(enrichment.rejections.into_iter().map(|(row, rejection)| (at(row), rejection)));
    }
}
