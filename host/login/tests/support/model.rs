//! JSON documents as trees that keep what parsers drop (repeated names, how a number is written), made at random,
//! written in random styles, and read by the contract's rules in the plainest way there is.

use loginscope_login::{FieldType, Value};
use proptest::prelude::*;

/// A JSON value.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Boolean(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// A value as [`Value`], with what it points to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owned {
    Missing,
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Json(String),
}

impl Owned {
    pub(crate) fn of(value: Value<'_>) -> Self {
        match value {
            Value::Missing => Self::Missing,
            Value::Text(text) => Self::Text(text.to_owned()),
            Value::Integer(integer) => Self::Integer(integer),
            Value::Number(number) => Self::Number(number),
            Value::Boolean(boolean) => Self::Boolean(boolean),
            Value::Json(text) => Self::Json(text.to_owned()),
        }
    }

    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Missing => Value::Missing,
            Self::Text(text) => Value::Text(text),
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Number(number) => Value::Number(*number),
            Self::Boolean(boolean) => Value::Boolean(*boolean),
            Self::Json(text) => Value::Json(text),
        }
    }

    /// The text that `serde_json` writes.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Missing => unreachable!("a missing value is not written"),
            Self::Text(text) => serde_json::to_string(text).unwrap(),
            Self::Integer(integer) => serde_json::to_string(integer).unwrap(),
            Self::Number(number) => serde_json::to_string(number).unwrap(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Json(text) => text.clone(),
        }
    }
}

/// Names that mean something to one of the codecs, and others.
fn any_name() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 22] = [
        "user_id",
        "timestamp",
        "ip",
        "device_type",
        "device_id",
        "locale",
        "app_version",
        "outcome",
        "details",
        "userId",
        "time",
        "at",
        "device",
        "kind",
        "name",
        "geo",
        "score",
        "flag",
        "geo.score",
        "login_time",
        "user_logins",
        "ip_version",
    ];
    prop_oneof![4 => prop::sample::select(&KNOWN[..]).prop_map(str::to_owned), 1 => "\\PC{0,3}", 1 => any::<String>()]
}

fn any_leaf() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Boolean),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?".prop_map(Json::Number),
        any::<i64>().prop_map(|integer| Json::Number(integer.to_string())),
        any::<i64>().prop_map(|integer| Json::Text(integer.to_string())),
        "\\PC{0,20}".prop_map(Json::Text),
        any::<String>().prop_map(Json::Text),
    ]
}

fn any_value() -> impl Strategy<Value = Json> {
    any_leaf().prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            2 => prop::collection::vec((any_name(), inner), 0..5).prop_map(Json::Object),
        ]
    })
}

/// The members of a random login: mostly acceptable, mostly with each name once.
pub(crate) fn any_login() -> impl Strategy<Value = Vec<(String, Json)>> {
    let text = || prop_oneof![6 => "\\PC{0,12}".prop_map(Json::Text), 1 => any_value()];
    let timestamp = prop_oneof![
        (0..4_000_000_000_i64).prop_map(|seconds| Json::Number(seconds.to_string())),
        (0..4_000_000_000_i64).prop_map(|seconds| Json::Text(seconds.to_string())),
        any_leaf(),
    ];
    let details = (text(), prop::option::of(any_leaf())).prop_map(|(user, at)| {
        let mut members = vec![("userId".to_owned(), user)];
        members.extend(at.map(|at| ("time".to_owned(), Json::Object(vec![("at".to_owned(), at)]))));
        Json::Object(members)
    });
    let member = prop_oneof![
        2 => (prop::sample::select(&["user_id", "ip", "device_type", "outcome"][..]).prop_map(str::to_owned), text()),
        1 => (Just("timestamp".to_owned()), timestamp),
        1 => (Just("details".to_owned()), details),
        2 => (any_name(), any_value()),
    ];
    (prop::collection::vec(member, 0..9), 0..6_u8).prop_map(|(mut members, repeat)| {
        if repeat > 0 {
            let mut seen = std::collections::HashSet::new();
            members.retain(|(name, _)| seen.insert(name.clone()) || name.starts_with("geo") || name.len() < 3);
        }
        members
    })
}

/// Decides how a document is written, by bytes that are used over and over.
pub(crate) struct Style<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl<'a> Style<'a> {
    pub(crate) fn new(choices: &'a [u8]) -> Self {
        Self { choices: choices.iter().cycle() }
    }

    fn choice(&mut self) -> u8 {
        self.choices.next().copied().unwrap_or(0)
    }

    pub(crate) fn space(&mut self) -> &'static str {
        ["", "", "", "", "", " ", "\t", "\r\n  "][usize::from(self.choice() % 8)]
    }

    pub(crate) fn string(&mut self, text: &str) -> String {
        let mut written = "\"".to_owned();
        for character in text.chars() {
            match (character, self.choice() % 16) {
                ('"', 0..8) => written.push_str("\\\""),
                ('\\', 0..8) => written.push_str("\\\\"),
                ('\n', 0..8) => written.push_str("\\n"),
                ('/', 0..8) => written.push_str("\\/"),
                ('"' | '\\' | '\0'..='\x1f', _) | (_, 0) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let upper = self.choice() < 128;
                        let escape = if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
                        written.push_str(&escape);
                    }
                }
                (plain, _) => written.push(plain),
            }
        }
        written.push('"');
        written
    }

    pub(crate) fn value(&mut self, value: &Json) -> String {
        match value {
            Json::Null => "null".to_owned(),
            Json::Boolean(boolean) => boolean.to_string(),
            Json::Number(number) => number.clone(),
            Json::Text(text) => self.string(text),
            Json::Array(elements) => {
                let elements: Vec<_> = elements
                    .iter()
                    .map(|element| format!("{}{}{}", self.space(), self.value(element), self.space()))
                    .collect();
                format!("[{}{}]", self.space(), elements.join(","))
            }
            Json::Object(members) => self.login(members).text(),
        }
    }

    pub(crate) fn login(&mut self, members: &[(String, Json)]) -> Written {
        let mut written = Written { members: Vec::new(), end: String::new() };
        for (index, (name, value)) in members.iter().enumerate() {
            let comma = if index == 0 { String::new() } else { format!("{},", self.space()) };
            written.members.push(WrittenMember {
                name: name.clone(),
                before: format!("{comma}{}", self.space()),
                name_and_colon: format!("{}{}:{}", self.string(name), self.space(), self.space()),
                value: self.value(value),
            });
        }
        written.end = format!("{}}}", self.space());
        written
    }
}

/// An object as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) members: Vec<WrittenMember>,
    /// What follows the last value.
    end: String,
}

/// A member as it is written.
#[derive(Clone, Debug)]
pub(crate) struct WrittenMember {
    name: String,
    /// What stands between the value before and the name.
    before: String,
    name_and_colon: String,
    pub(crate) value: String,
}

impl Written {
    pub(crate) fn text(&self) -> String {
        let member = |it: &WrittenMember| format!("{}{}{}", it.before, it.name_and_colon, it.value);
        format!("{{{}{}", self.members.iter().map(member).collect::<String>(), self.end)
    }

    /// The object with a field set as the contract says.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let mut found = false;
        self.members.retain_mut(|member| {
            if member.name != name {
                return true;
            }
            value.clone_into(&mut member.value);
            !std::mem::replace(&mut found, true)
        });
        if !found {
            let before = if self.members.is_empty() { "" } else { "," }.to_owned();
            let name_and_colon = format!("{}:", serde_json::to_string(name).unwrap());
            self.members.push(WrittenMember { name: name.to_owned(), before, name_and_colon, value: value.to_owned() });
        }
    }
}

/// How often a part of the path occurs at its level, at most.
pub(crate) fn occurrences(members: &[(String, Json)], path: &str) -> usize {
    let (part, rest) = path.split_once('.').map_or((path, None), |(part, rest)| (part, Some(rest)));
    let here: Vec<&Json> = members.iter().filter(|(name, _)| name == part).map(|(_, value)| value).collect();
    match (&here[..], rest) {
        ([Json::Object(inner)], Some(rest)) => occurrences(inner, rest).max(1),
        _ => here.len(),
    }
}

/// The value at a path, the last one of each name counting.
pub(crate) fn last<'a>(members: &'a [(String, Json)], path: &str) -> Option<&'a Json> {
    let (part, rest) = path.split_once('.').map_or((path, None), |(part, rest)| (part, Some(rest)));
    let (_, value) = members.iter().rev().find(|(name, _)| name == part)?;
    match (value, rest) {
        (value, None) => Some(value),
        (Json::Object(inner), Some(rest)) => last(inner, rest),
        (_, Some(_)) => None,
    }
}

/// The integer that is written plainly.
pub(crate) fn plain_integer(text: &str) -> Option<i64> {
    let integer: i64 = text.parse().ok()?;
    (integer.to_string() == text || text == "-0").then_some(integer)
}

/// A value as a column of that type holds it. JSON is left out: it depends on how it is written.
pub(crate) fn typed(value: Option<&Json>, field_type: FieldType) -> Owned {
    match (value, field_type) {
        (Some(Json::Text(text)), FieldType::Text) => Owned::Text(text.clone()),
        (Some(Json::Number(text)), FieldType::Integer) => plain_integer(text).map_or(Owned::Missing, Owned::Integer),
        (Some(Json::Number(text)), FieldType::Number) => {
            text.parse().ok().filter(|number: &f64| number.is_finite()).map_or(Owned::Missing, Owned::Number)
        }
        (Some(Json::Boolean(boolean)), FieldType::Boolean) => Owned::Boolean(*boolean),
        _ => Owned::Missing,
    }
}
