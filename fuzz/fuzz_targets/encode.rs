//! Whatever fields are set in whatever login was read: the output is the object that an ordinary parser would have edited,
//! and can be read again with the same verdict.
#![no_main]

#[path = "../../host/login/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use loginscope_login::Value;
use serde_json::{Map, json};
use support::{SET_BY_DEFAULT, SET_WHEN_MAPPED, default_codec, mapped_codec};

fuzz_target!(|input: (u8, bool, &str, &str)| {
    let (chosen, mapped, text, payload) = input;
    let mut codec = if mapped { mapped_codec() } else { default_codec() };
    let names: &[&str] = if mapped { &SET_WHEN_MAPPED } else { &SET_BY_DEFAULT };
    let Ok(row) = codec.decode(payload) else { return };
    let values = [
        (Value::Text(text), json!(text)),
        (Value::Integer(-7), json!(-7)),
        (Value::Number(0.5), json!(0.5)),
        (Value::Boolean(true), json!(true)),
        (Value::Json("{ \"a\" : [ 1 ] }"), json!({"a": [1]})),
    ];
    let fields: Vec<_> = (0..names.len())
        .filter(|name| chosen >> name & 1 == 1)
        .map(|name| (name, &values[(name + usize::from(chosen)) % values.len()]))
        .collect();
    let set: Vec<_> = fields.iter().map(|(name, (value, _))| (*name, *value)).collect();
    let out = codec.encode(payload, row, &set);
    // Numbers beyond what a double holds are JSON, but nothing that this parser reads.
    let Ok(mut expected) = serde_json::from_str::<Map<_, _>>(payload) else { return };
    for (name, (_, value)) in fields {
        expected.insert(names[name].to_owned(), value.clone());
    }
    let edited: Map<_, _> = serde_json::from_slice(&out).unwrap();
    assert!(edited.keys().eq(expected.keys()));
    assert_eq!(edited, expected);
});
