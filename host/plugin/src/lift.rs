//! From what a plugin answered to the host's values, with every promise of the contract checked: nothing that comes out
//! of here can be wrong in form.

mod columns;

use loginscope_login::rejection::MAX_REASON_BYTES;
use loginscope_login::{Rejection, is_json_object};

use crate::answer::{Insight, Severity};
use crate::bindings::loginscope::plugin::types;
use crate::contract::is_identifier;
use crate::failure::Failure;
use crate::limits::Limits;
pub(crate) use columns::columns;

/// What is wrong with an answer, or nothing.
type Checked<T> = Result<T, Failure>;

/// The rejections of a batch with so many rows.
pub(crate) fn rejections(answer: Vec<types::Rejection>, rows: usize) -> Checked<Vec<(u32, Rejection)>> {
    let mut next_row = 0;
    answer
        .into_iter()
        .map(|it| {
            check_row("rejection", it.row, next_row, rows)?;
            next_row = it.row + 1;
            if !is_identifier(&it.code, b'_') {
                return Err(broke(format!("the code {:?} of a rejection isn't lower_snake_case", excerpt(&it.code))));
            }
            if it.reason.len() > MAX_REASON_BYTES || it.reason.chars().any(char::is_control) {
                return Err(broke(format!(
                    "the reason of a rejection with code {} has control characters or more than {MAX_REASON_BYTES} bytes",
                    it.code
                )));
            }
            Ok((it.row, Rejection { code: it.code.into(), reason: it.reason }))
        })
        .collect()
}

/// The insights about single logins of a batch with so many rows.
pub(crate) fn login_insights(
    answer: Vec<types::LoginInsight>,
    rows: usize,
    limits: &Limits,
) -> Checked<Vec<(u32, Insight)>> {
    let (mut row, mut of_row) = (0, 0);
    answer
        .into_iter()
        .map(|it| {
            check_row("insight", it.row, row, rows)?;
            of_row = if it.row == row { of_row + 1 } else { 1 };
            row = it.row;
            if of_row > limits.insights_per_login {
                let allowed = limits.insights_per_login;
                return Err(broke(format!("more than {allowed} insights about the login in row {row}")));
            }
            Ok((row, insight(it.insight, limits)?))
        })
        .collect()
}

/// The insights of a window.
pub(crate) fn insights(answer: Vec<types::Insight>, limits: &Limits) -> Checked<Vec<Insight>> {
    if answer.len() > limits.insights_per_window {
        let allowed = limits.insights_per_window;
        return Err(broke(format!("{} insights about one window, and at most {allowed} are possible", answer.len())));
    }
    answer.into_iter().map(|it| insight(it, limits)).collect()
}

fn insight(it: types::Insight, limits: &Limits) -> Checked<Insight> {
    if !is_identifier(&it.kind, b'_') {
        return Err(broke(format!("the kind {:?} of an insight isn't lower_snake_case", excerpt(&it.kind))));
    }
    if it.data.len() > limits.insight_bytes {
        let (bytes, allowed) = (it.data.len(), limits.insight_bytes);
        return Err(broke(format!("the data of insight {} has {bytes} bytes, and {allowed} are possible", it.kind)));
    }
    if !is_json_object(&it.data) {
        return Err(broke(format!("the data of insight {} isn't a JSON object: {}", it.kind, excerpt(&it.data))));
    }
    let severity = match it.severity {
        types::Severity::Info => Severity::Info,
        types::Severity::Low => Severity::Low,
        types::Severity::Medium => Severity::Medium,
        types::Severity::High => Severity::High,
        types::Severity::Critical => Severity::Critical,
    };
    Ok(Insight { kind: it.kind, severity, data: it.data })
}

/// Rows ascend from `first` and are rows of the batch.
fn check_row(what: &str, row: u32, first: u32, rows: usize) -> Checked<()> {
    if row as usize >= rows {
        return Err(broke(format!("a {what} for row {row} of {rows} rows")));
    }
    if row < first {
        return Err(broke(format!("a {what} for row {row} comes too late: they go by row, ascending")));
    }
    Ok(())
}

fn broke(what: String) -> Failure {
    Failure::broke_contract(what)
}

/// The begin of a text, for a message.
fn excerpt(text: &str) -> String {
    loginscope_login::rejection::printable(text, 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(row: u32, code: &str, reason: &str) -> types::Rejection {
        types::Rejection { row, code: code.to_owned(), reason: reason.to_owned() }
    }

    fn login_insight(row: u32, kind: &str, data: &str) -> types::LoginInsight {
        let insight = types::Insight { kind: kind.to_owned(), severity: types::Severity::Low, data: data.to_owned() };
        types::LoginInsight { row, insight }
    }

    #[test]
    fn rejections_come_out_as_they_went_in() {
        let lifted = rejections(vec![rejection(0, "a", "why"), rejection(2, "b_2", "")], 3).unwrap();
        assert_eq!(lifted, vec![(0, Rejection::new("a", "why")), (2, Rejection::new("b_2", ""))]);
    }

    #[test]
    fn rejections_out_of_order_or_form_break_the_contract() {
        let long = "x".repeat(257);
        for answer in [
            vec![rejection(3, "a", "")],
            vec![rejection(1, "a", ""), rejection(1, "a", "")],
            vec![rejection(1, "a", ""), rejection(0, "a", "")],
            vec![rejection(u32::MAX, "a", "")],
            vec![rejection(0, "", "")],
            vec![rejection(0, "Bad", "")],
            vec![rejection(0, "a", &long)],
            vec![rejection(0, "a", "two\nlines")],
        ] {
            assert!(matches!(rejections(answer, 3), Err(Failure::BrokeContract { .. })));
        }
    }

    #[test]
    fn several_insights_about_a_login_are_fine_and_many_are_not() {
        let limits = Limits { insights_per_login: 2, ..Limits::default() };
        let of =
            |rows: &[u32]| login_insights(rows.iter().map(|row| login_insight(*row, "k", "{}")).collect(), 3, &limits);
        assert_eq!(of(&[0, 0, 2, 2]).unwrap().len(), 4);
        for rows in [&[0, 0, 0][..], &[1, 2, 2, 2], &[3], &[1, 0]] {
            assert!(of(rows).is_err(), "{rows:?}");
        }
    }

    #[test]
    fn insights_are_named_small_json_objects() {
        let limits = Limits { insight_bytes: 20, ..Limits::default() };
        let of = |kind: &str, data: &str| login_insights(vec![login_insight(0, kind, data)], 1, &limits);
        assert!(of("new_device", r#"{"a":[1]}"#).is_ok());
        for (kind, data) in [("New", "{}"), ("a", "[]"), ("a", "{"), ("a", ""), ("a", r#"{"a":"0123456789abcdef"}"#)] {
            assert!(of(kind, data).is_err(), "{kind} {data}");
        }
    }
}
