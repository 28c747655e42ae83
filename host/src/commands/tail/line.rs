//! A record as one line: for people, or as JSON. Nothing in a record can break out of its line: control characters are escaped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use loginscope_kafka::OwnedRecord;
use loginscope_login::rejection::printable;
use serde::Serialize;
use serde_json::Value;

/// The most bytes that a line shows of a rejected value.
const REJECTED_VALUE_BYTES: usize = 300;

/// The most bytes that a line shows of an insight's data.
const DATA_BYTES: usize = 1200;

/// The most bytes that a line shows of any other value.
const VALUE_BYTES: usize = 2000;

/// The most bytes that a line shows of a field.
const FIELD_BYTES: usize = 128;

/// Objects inside an insight's data with more members are only counted, and so are lists of more objects.
const SHOWN_MEMBERS: usize = 6;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// What a topic's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Accepted logins.
    Processed,
    /// Insights.
    Insights,
    /// Rejected messages.
    Rejected,
    /// Anything.
    Other,
}

/// A record for a person, styled for a terminal. A record that isn't what its topic should hold is shown as any other.
pub(super) fn readable(view: View, record: &OwnedRecord) -> String {
    let object = || serde_json::from_slice::<Value>(record.payload.as_deref()?).ok().filter(Value::is_object);
    let line = match view {
        View::Processed => object().map(|login| processed(record, &login)),
        View::Insights => object().map(|insight| insights(record, &insight)),
        View::Rejected => header(record, "loginscope-code").map(|code| rejected(record, &code)),
        View::Other => None,
    };
    line.unwrap_or_else(|| other(record))
}

fn processed(record: &OwnedRecord, login: &Value) -> String {
    let field = |name: &str| login.get(name).map_or_else(|| "-".to_owned(), plain);
    let time = login.get("login_time").map_or_else(|| time(record), plain);
    let outcome = login.get("outcome").map_or_else(String::new, |outcome| format!("  {}", plain(outcome)));
    format!(
        "{DIM}{time}{DIM:#}  {BOLD}{:<36}{BOLD:#}  {GREEN}{:<8}{GREEN:#}  {CYAN}{:<15}{CYAN:#}  {:<8}  logins {}, IPs {}{outcome}",
        field("user_id"),
        field("device_type"),
        field("ip"),
        field("ip_scope"),
        field("user_logins"),
        field("user_unique_ips"),
    )
}

fn rejected(record: &OwnedRecord, code: &str) -> String {
    let part = |name: &str| header(record, name).unwrap_or_else(|| "-".to_owned());
    let plugin = header(record, "loginscope-plugin").map_or_else(String::new, |plugin| format!(" {plugin}"));
    let cut = header(record, "loginscope-truncated-from")
        .map_or_else(String::new, |bytes| format!(" {DIM}(cut from {bytes} bytes){DIM:#}"));
    format!(
        "{DIM}{}{DIM:#}  {RED}{code}{RED:#}  {}{plugin}  {}/{}/{}  {YELLOW}{}{YELLOW:#}  {DIM}{}{DIM:#}{cut}",
        time(record),
        part("loginscope-stage"),
        part("loginscope-source-topic"),
        part("loginscope-source-partition"),
        part("loginscope-source-offset"),
        part("loginscope-reason"),
        text(record.payload.as_deref(), REJECTED_VALUE_BYTES),
    )
}

fn insights(record: &OwnedRecord, insight: &Value) -> String {
    let field = |name: &str| insight.get(name).map_or_else(|| "-".to_owned(), plain);
    let severity = field("severity");
    let colour = match severity.as_str() {
        "high" | "critical" => RED,
        "medium" => YELLOW,
        "low" => GREEN,
        _ => CYAN,
    };
    let mut data = String::new();
    compact(insight.get("data").unwrap_or(&Value::Null), 0, &mut data);
    format!(
        "{DIM}{}{DIM:#}  {colour}{severity}{colour:#}  {BOLD}{}{BOLD:#}  {}  {}",
        time(record),
        field("kind"),
        field("id"),
        printable(&data, DATA_BYTES),
    )
}

fn other(record: &OwnedRecord) -> String {
    let place = format!("{}/{}", record.partition, record.offset);
    let key = text(record.key.as_deref(), FIELD_BYTES);
    let value = text(record.payload.as_deref(), VALUE_BYTES);
    format!("{DIM}{}  {place}{DIM:#}  {BOLD}{key}{BOLD:#}  {value}", time(record))
}

/// The record's time in UTC; `-` where it has none.
fn time(record: &OwnedRecord) -> String {
    let time = record.timestamp.and_then(DateTime::from_timestamp_millis);
    time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// A header as text that can be shown.
fn header(record: &OwnedRecord, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().find(|(header, _)| header == name.as_bytes())?;
    Some(text(value.as_deref(), 256))
}

/// Bytes as text that can be shown; `-` where there are none.
fn text(bytes: Option<&[u8]>, limit: usize) -> String {
    // A character takes at most four bytes, and three more bytes show whether something was cut off.
    let bytes = bytes.map(|bytes| bytes.get(..limit + 4).unwrap_or(bytes));
    bytes.map_or_else(|| "-".to_owned(), |bytes| printable(&String::from_utf8_lossy(bytes), limit))
}

/// A JSON value in few words: text without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text, FIELD_BYTES),
        value => printable(&value.to_string(), FIELD_BYTES),
    }
}

/// A JSON value without quotes and colons; what is large and deep is only counted.
fn compact(value: &Value, depth: usize, shown: &mut String) {
    match value {
        Value::Object(members) if depth > 0 && members.is_empty() => shown.push_str("none"),
        Value::Object(members) if depth > 1 && members.len() > SHOWN_MEMBERS => {
            let _ = write!(shown, "({} members)", members.len());
        }
        Value::Object(members) => {
            shown.push_str(if depth > 0 { "(" } else { "" });
            for (place, (name, value)) in members.iter().enumerate() {
                shown.push_str(if place > 0 { ", " } else { "" });
                let _ = write!(shown, "{name} ");
                compact(value, depth + 1, shown);
            }
            shown.push_str(if depth > 0 { ")" } else { "" });
        }
        Value::Array(items) if items.is_empty() => shown.push_str("none"),
        Value::Array(items) if items.len() > SHOWN_MEMBERS && items.iter().any(Value::is_object) => {
            let _ = write!(shown, "({} items)", items.len());
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                shown.push_str(if place > 0 { " " } else { "" });
                compact(item, depth + 1, shown);
            }
        }
        Value::String(text) => shown.push_str(text),
        value => {
            let _ = write!(shown, "{value}");
        }
    }
}

/// A record as JSON, all but its value.
#[derive(Serialize)]
struct RecordLine<'r> {
    topic: &'r str,
    partition: i32,
    offset: i64,
    /// Epoch milliseconds.
    timestamp: Option<i64>,
    key: Option<Cow<'r, str>>,
    headers: BTreeMap<Cow<'r, str>, HeaderValue<'r>>,
}

/// The value of a header; all of them where the header occurs several times.
#[derive(Serialize)]
#[serde(untagged)]
enum HeaderValue<'r> {
    One(Option<Cow<'r, str>>),
    Several(Vec<Option<Cow<'r, str>>>),
}

/// A record as one JSON object: its value as it is where it is JSON, else as text, else in base64.
pub(super) fn json(topic: &str, record: &OwnedRecord) -> String {
    let line = RecordLine {
        topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.as_deref().map(text_or_base64),
        headers: headers(record),
    };
    // The value is put in as it was written: reading it would lose digits, and members that occur twice.
    let mut line = serde_json::to_string(&line).unwrap_or_default();
    line.pop();
    let _ = write!(line, ",\"value\":{}}}", json_value(record.payload.as_deref()));
    line
}

fn headers(record: &OwnedRecord) -> BTreeMap<Cow<'_, str>, HeaderValue<'_>> {
    let mut headers: BTreeMap<Cow<'_, str>, HeaderValue<'_>> = BTreeMap::new();
    for (name, value) in &record.headers {
        let value = value.as_deref().map(text_or_base64);
        let name = text_or_base64(name);
        let values = match headers.remove(&name) {
            None => HeaderValue::One(value),
            Some(HeaderValue::One(first)) => HeaderValue::Several(vec![first, value]),
            Some(HeaderValue::Several(mut values)) => {
                values.push(value);
                HeaderValue::Several(values)
            }
        };
        headers.insert(name, values);
    }
    headers
}

fn json_value(payload: Option<&[u8]>) -> String {
    let Some(payload) = payload else { return "null".to_owned() };
    let Ok(text) = std::str::from_utf8(payload) else {
        return Value::String(STANDARD.encode(payload)).to_string();
    };
    if loginscope_login::is_json(text) {
        // In JSON, the end of a line can only stand between values.
        return text.trim().replace(['\n', '\r'], " ");
    }
    Value::String(text.to_owned()).to_string()
}

fn text_or_base64(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| STANDARD.encode(bytes).into(), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: Option<&[u8]>, headers: &[(&str, &str)]) -> OwnedRecord {
        let header = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        OwnedRecord {
            partition: 1,
            offset: 42,
            timestamp: Some(1_694_479_551_500),
            key: Some(b"u1".to_vec()),
            payload: payload.map(<[u8]>::to_vec),
            headers: headers.iter().map(header).collect(),
        }
    }

    /// A line as it is written where there is no terminal.
    fn line(view: View, record: &OwnedRecord) -> String {
        anstream::adapter::strip_str(&readable(view, record)).to_string()
    }

    #[test]
    fn a_processed_login_tells_time_user_device_address_and_counts() {
        let login = br#"{"user_id":"u1","ip":"10.0.0.1","device_type":"ios","login_time":"2023-09-12T00:45:50Z",
            "ip_scope":"private","user_logins":7,"user_unique_ips":2,"outcome":"failure"}"#;
        let shown = line(View::Processed, &record(Some(login), &[]));
        let words: Vec<&str> = shown.split_whitespace().collect();
        assert_eq!(
            words,
            ["2023-09-12T00:45:50Z", "u1", "ios", "10.0.0.1", "private", "logins", "7,", "IPs", "2", "failure"]
        );
    }

    #[test]
    fn a_rejected_message_tells_code_place_and_reason_and_shows_the_value() {
        let headers = [
            ("loginscope-code", "invalid_ip"),
            ("loginscope-reason", "ip is \"x\""),
            ("loginscope-stage", "validate"),
            ("loginscope-plugin", "validate-logins@0.1.0"),
            ("loginscope-source-topic", "user-login"),
            ("loginscope-source-partition", "3"),
            ("loginscope-source-offset", "99"),
        ];
        assert_eq!(
            line(View::Rejected, &record(Some(b"{\"ip\":\n\"x\"}"), &headers)),
            "2023-09-12T00:45:51Z  invalid_ip  validate validate-logins@0.1.0  user-login/3/99  ip is \"x\"  \
             {\"ip\":\\u{a}\"x\"}"
        );
    }

    #[test]
    fn an_insight_tells_severity_kind_id_and_its_data_in_short() {
        let insight = br#"{"id":"user-login/0/42/summary","kind":"summary","severity":"info","data":{
            "in_window":{"unique_users":63,"devices":{"ios":47}},
            "users":{"most":[{"a":1},{"a":2},{"a":3},{"a":4},{"a":5},{"a":6},{"a":7}]},"hours":{"h":{"1":1,"2":2,"3":3,"4":4,"5":5,"6":6,"7":7}},
            "developments":[{"type":"active_users","previous":90}],"empty":[]}}"#;
        assert_eq!(
            line(View::Insights, &record(Some(insight), &[])),
            "2023-09-12T00:45:51Z  info  summary  user-login/0/42/summary  in_window (unique_users 63, devices (ios 47)), \
             users (most (7 items)), hours (h (7 members)), developments (type active_users, previous 90), empty none"
        );
    }

    #[test]
    fn what_is_not_as_expected_is_shown_as_any_other_record() {
        for view in [View::Processed, View::Insights, View::Rejected, View::Other] {
            assert_eq!(line(view, &record(Some(b"[1]"), &[])), "2023-09-12T00:45:51Z  1/42  u1  [1]");
        }
        assert_eq!(line(View::Other, &record(None, &[])), "2023-09-12T00:45:51Z  1/42  u1  -");
    }

    #[test]
    fn nothing_in_a_record_reaches_the_terminal_as_a_control_character() {
        let shown = readable(View::Other, &record(Some(b"\x1b[31mred\r\n\x07"), &[]));
        let shown = anstream::adapter::strip_str(&shown).to_string();
        assert!(!shown.contains(|character: char| character.is_control()), "{shown:?}");
        assert!(shown.ends_with("\\u{1b}[31mred\\u{d}\\u{a}\\u{7}"), "{shown}");
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let shown = line(View::Other, &record(Some("é".repeat(5000).as_bytes()), &[]));
        assert!(shown.ends_with("é…"), "{shown}");
        assert!(shown.len() < VALUE_BYTES + 100);
    }

    #[test]
    fn json_keeps_a_json_value_as_it_was_written() {
        let line = json("t", &record(Some(b"{\"n\": 1.0e3,\n\"n\": 12345678901234567890123}\n"), &[]));
        assert!(line.ends_with(r#","headers":{},"value":{"n": 1.0e3, "n": 12345678901234567890123}}"#), "{line}");
        assert!(line.starts_with(r#"{"topic":"t","partition":1,"offset":42,"timestamp":1694479551500,"key":"u1","#));
        assert!(!line.contains('\n'));
        serde_json::from_str::<Value>(&line).unwrap();
    }

    #[test]
    fn json_shows_other_values_as_text_or_base64_and_none_as_null() {
        let value = |payload: Option<&[u8]>| {
            serde_json::from_str::<Value>(&json("t", &record(payload, &[]))).unwrap()["value"].clone()
        };
        assert_eq!(value(Some(b"{nope")), "{nope");
        assert_eq!(value(Some(b"")), "");
        assert_eq!(value(Some(b"\xff\x00")), "/wA=");
        assert_eq!(value(None), Value::Null);
    }

    #[test]
    fn json_keeps_headers_that_occur_several_times() {
        let line = json("t", &record(None, &[("a", "1"), ("b", "2"), ("a", "3")]));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["headers"], serde_json::json!({"a": ["1", "3"], "b": "2"}));
    }
}
