//! Decode and encode against a plain model of the contract, on random documents.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[path = "support/model.rs"]
mod model;
mod support;

use std::collections::BTreeMap;

use loginscope_login::{FieldType, Slot, is_json, is_json_object};
use model::{Json, Owned, Style, any_login, last, occurrences, plain_integer, typed};
use proptest::prelude::*;
use support::{Codec, SET_BY_DEFAULT, SET_WHEN_MAPPED, default_codec, is_json_by_the_book, mapped_codec};

/// Where the table's fields are read from, by slot.
fn table_paths(mapped: bool) -> [&'static str; Slot::CANONICAL] {
    let mut paths = ["user_id", "timestamp", "ip", "device_type", "device_id", "locale", "app_version", "outcome"];
    if mapped {
        (paths[0], paths[1], paths[3]) = ("details.userId", "details.time.at", "device.kind");
    }
    paths
}

fn codec(mapped: bool) -> Codec {
    if mapped { mapped_codec() } else { default_codec() }
}

fn set_names(mapped: bool) -> &'static [&'static str] {
    if mapped { &SET_WHEN_MAPPED } else { &SET_BY_DEFAULT }
}

/// The code that the contract rejects a well-formed login with.
fn expected_code(members: &[(String, Json)], paths: &[&str]) -> Option<&'static str> {
    if paths.iter().any(|path| occurrences(members, path) > 1) {
        return Some("duplicate_field");
    }
    let fits = |(slot, path): (usize, &&str)| match last(members, path) {
        None | Some(Json::Null | Json::Text(_)) => true,
        Some(Json::Number(_)) => slot == Slot::TIMESTAMP.0,
        Some(Json::Boolean(_) | Json::Array(_) | Json::Object(_)) => false,
    };
    if paths.iter().enumerate().all(fits) { None } else { Some("wrong_type") }
}

/// Values to set, by name, in a random order.
fn any_fields(mapped: bool) -> impl Strategy<Value = Vec<(usize, Owned)>> {
    let value = prop_oneof![
        Just(Owned::Missing),
        "\\PC{0,10}".prop_map(Owned::Text),
        any::<String>().prop_map(Owned::Text),
        any::<i64>().prop_map(Owned::Integer),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Owned::Number),
        any::<bool>().prop_map(Owned::Boolean),
        prop::sample::select(&["{ \"a\": [1, 2.50] }", "null", "\"x\"", "[]"][..])
            .prop_map(|text| Owned::Json(text.to_owned())),
    ];
    let names = set_names(mapped).len();
    prop::collection::vec(value, names)
        .prop_map(|values| values.into_iter().enumerate().collect::<Vec<_>>())
        .prop_shuffle()
}

/// Whether fields are mapped, the members of a login, the style they are written in, and what is set.
type Case = (bool, Vec<(String, Json)>, Vec<u8>, Vec<(usize, Owned)>);

fn any_case() -> impl Strategy<Value = Case> {
    any::<bool>().prop_flat_map(|mapped| {
        (Just(mapped), any_login(), prop::collection::vec(any::<u8>(), 1..64), any_fields(mapped))
    })
}

proptest! {
    #[test]
    fn a_well_formed_login_is_read_as_the_contract_says((mapped, members, choices, _) in any_case()) {
        let mut codec = codec(mapped);
        let paths = table_paths(mapped);
        let mut style = Style::new(&choices);
        let payload = format!("{}{}{}", style.space(), style.login(&members).text(), style.space());
        let decoded = codec.decode(&payload);
        let code = decoded.as_ref().err().map(|rejection| &*rejection.code);
        prop_assert_eq!(code, expected_code(&members, &paths), "{}", payload);
        let Ok(row) = decoded else { return Ok(()) };
        for (slot, path) in paths.iter().enumerate() {
            let value = Owned::of(codec.logins.value(Slot(slot), row));
            if slot == Slot::TIMESTAMP.0 {
                let written = match last(&members, path) {
                    Some(Json::Number(text) | Json::Text(text)) => Some(text),
                    _ => None,
                };
                let seconds = written.and_then(|text| plain_integer(text));
                prop_assert_eq!(value, seconds.map_or(Owned::Missing, Owned::Integer));
                let malformed = codec.logins.malformed_timestamps.first().map(|malformed| malformed.text.clone());
                let expected = written.filter(|_| seconds.is_none());
                prop_assert_eq!(malformed, expected.map(|text| text[..text.floor_char_boundary(64)].to_owned()));
            } else {
                prop_assert_eq!(value, typed(last(&members, path), FieldType::Text), "{} in {}", path, payload);
            }
        }
        for (slot, field) in codec.schema.fields().iter().enumerate().skip(Slot::CANONICAL) {
            let value = Owned::of(codec.logins.value(Slot(slot), row));
            let expected = last(&members, &field.name);
            if field.field_type == FieldType::Json {
                prop_assert_eq!(value == Owned::Missing, matches!(expected, None | Some(Json::Null)));
                if let Owned::Json(text) = value {
                    prop_assert!(is_json(&text) && payload.contains(&text));
                }
            } else {
                prop_assert_eq!(value, typed(expected, field.field_type), "{} in {}", field.name, payload);
            }
        }
    }

    #[test]
    fn untouched_fields_come_out_as_the_same_bytes((mapped, members, choices, fields) in any_case()) {
        let mut codec = codec(mapped);
        let mut written = Style::new(&choices).login(&members);
        let payload = written.text();
        let Ok(row) = codec.decode(&payload) else { return Ok(()) };
        prop_assert_eq!(codec.encode(&payload, row, &[]), payload.as_bytes());

        let values: Vec<_> = fields.iter().map(|(name, value)| (*name, value.value())).collect();
        let out = String::from_utf8(codec.encode(&payload, row, &values)).unwrap();
        for (name, value) in fields.iter().filter(|(_, value)| *value != Owned::Missing) {
            written.set(set_names(mapped)[*name], &value.text());
        }
        prop_assert_eq!(&out, &written.text(), "{}", payload);
    }

    #[test]
    fn the_output_is_the_object_that_serde_json_would_edit((mapped, members, choices, fields) in any_case()) {
        type Object = serde_json::Map<String, serde_json::Value>;
        let mut codec = codec(mapped);
        let payload = Style::new(&choices).login(&members).text();
        let Ok(row) = codec.decode(&payload) else { return Ok(()) };
        let mut expected: Object = serde_json::from_str(&payload).unwrap();
        let values: Vec<_> = fields.iter().map(|(name, value)| (*name, value.value())).collect();
        for (name, value) in fields.iter().filter(|(_, value)| *value != Owned::Missing) {
            expected.insert(set_names(mapped)[*name].to_owned(), serde_json::from_str(&value.text()).unwrap());
        }
        let out = codec.encode(&payload, row, &values);
        let edited: Object = serde_json::from_slice(&out).unwrap();
        prop_assert!(edited.keys().eq(expected.keys()), "{:?} {:?}", edited, expected);
        prop_assert_eq!(edited, expected);
        // Of a field that is set, nothing of the input is left.
        let mut occurrences = BTreeMap::new();
        let all: Vec<(String, serde_json::Value)> = members_of(&out);
        for (name, _) in &all {
            *occurrences.entry(name.as_str()).or_insert(0) += 1;
        }
        for (name, _) in fields.iter().filter(|(_, value)| *value != Owned::Missing) {
            prop_assert_eq!(occurrences[set_names(mapped)[*name]], 1);
        }
    }

    #[test]
    fn damaged_logins_are_judged_by_the_book(
        (mapped, members, choices, fields) in any_case(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any_damage()), 1..4),
    ) {
        let mut payload = Style::new(&choices).login(&members).text().into_bytes();
        for (place, damage) in damages {
            if !payload.is_empty() {
                damage.apply(&mut payload, place.index(usize::MAX));
            }
        }
        check_any_bytes(&mut codec(mapped), &payload, &fields)?;
    }

    #[test]
    fn any_bytes_are_judged_by_the_book(payload in prop::collection::vec(any::<u8>(), 0..64), mapped: bool) {
        check_any_bytes(&mut codec(mapped), &payload, &[])?;
    }

    #[test]
    fn what_looks_like_json_is_judged_by_the_book(
        pieces in prop::collection::vec(
            prop::sample::select(&[
                "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u", "\\ud83d", "\\ude00", "00e4", "\\n", "a", "ä", "0", "1", "-", "+",
                ".", "e", "E", " ", "\n", "\t", "true", "false", "null", "\"ip\"", "\"ip\":", "\"a\":1", "\u{0}", "\u{7f}", "{}", "[]",
            ][..]),
            0..24,
        ),
    ) {
        let text = pieces.concat();
        prop_assert_eq!(is_json(&text), is_json_by_the_book(text.as_bytes()), "{}", text);
        prop_assert_eq!(is_json_object(&text), is_json(&text) && text.trim_ascii().starts_with('{'));
        check_any_bytes(&mut default_codec(), text.as_bytes(), &[])?;
    }
}

/// The members of an object, repeated names as well.
fn members_of(object: &[u8]) -> Vec<(String, serde_json::Value)> {
    struct Members(Vec<(String, serde_json::Value)>);
    impl<'de> serde::Deserialize<'de> for Members {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Visitor).map(Members)
        }
    }
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<(String, serde_json::Value)>;
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    serde_json::from_slice::<Members>(object).unwrap().0
}

/// What may happen to a byte.
#[derive(Clone, Debug)]
enum Damage {
    Replace(u8),
    Insert(u8),
    Remove,
    Cut,
    Repeat,
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let telling = prop::sample::select(&b"{}[]:,\"\\ux0189-+.eE \n\t\0\x1f\x7f\x80\xc3\xed\xf0"[..]);
    let byte = || prop_oneof![telling.clone(), any::<u8>()];
    prop_oneof![
        byte().prop_map(Damage::Replace),
        byte().prop_map(Damage::Insert),
        Just(Damage::Remove),
        Just(Damage::Cut),
        Just(Damage::Repeat),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, place: usize) {
        let at = place % bytes.len();
        match self {
            Self::Replace(byte) => bytes[at] = *byte,
            Self::Insert(byte) => bytes.insert(at, *byte),
            Self::Remove => drop(bytes.remove(at)),
            Self::Cut => bytes.truncate(at),
            Self::Repeat => bytes.extend_from_within(at..),
        }
    }
}

/// Whatever the bytes are, they are `not_json` exactly if they are not JSON by the book, and what is accepted can be
/// written again, with fields and without.
fn check_any_bytes(codec: &mut Codec, payload: &[u8], fields: &[(usize, Owned)]) -> Result<(), TestCaseError> {
    let code = match codec.decode(payload) {
        Ok(row) => {
            prop_assert_eq!(codec.encode(payload, row, &[]), payload.trim_ascii());
            let values: Vec<_> = fields.iter().map(|(name, value)| (*name, value.value())).collect();
            let out = codec.encode(payload, row, &values);
            prop_assert!(is_json_object(std::str::from_utf8(&out).unwrap()));
            None
        }
        Err(rejection) => Some(rejection.code),
    };
    prop_assert_eq!(code.as_deref() != Some("not_json"), is_json_by_the_book(payload), "{:?}", payload);
    let object = payload.trim_ascii().starts_with(b"{");
    prop_assert_eq!(code.as_deref() == Some("not_an_object"), is_json_by_the_book(payload) && !object);
    Ok(())
}
