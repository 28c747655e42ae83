//! What the tests of this crate share, and its fuzz targets with them: one decoder with all that belongs to it, and an
//! independent judge of what is JSON.
#![allow(dead_code, reason = "each test binary uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

use loginscope_login::decode::{Decoder, InputFormat, Layouts};
use loginscope_login::encode::Encoder;
use loginscope_login::{FieldType, Logins, Rejection, Schema, Slot, Value};

/// A decoder and an encoder for the same fields, with a batch.
pub(crate) struct Codec {
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Encoder,
    pub(crate) schema: Schema,
    pub(crate) logins: Logins,
    pub(crate) layouts: Layouts,
}

impl Codec {
    pub(crate) fn new(format: &InputFormat, further: &[(&str, FieldType)], set_names: &[&str]) -> Self {
        let mut schema = Schema::default();
        for (name, field_type) in further {
            schema.add(name, *field_type).unwrap();
        }
        let set_names: Vec<String> = set_names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            decoder: Decoder::new(format, &schema, &set_names).unwrap(),
            encoder: Encoder::new(&set_names),
            logins: Logins::new(&schema),
            layouts: Layouts::default(),
            schema,
        }
    }

    /// Decodes one message; the columns must all have the same rows afterwards.
    pub(crate) fn decode(&mut self, payload: impl AsRef<[u8]>) -> Result<usize, Rejection> {
        let row = self.logins.rows();
        let decoded =
            self.decoder.decode(Some(payload.as_ref()), row as i64, Some(7), &mut self.logins, &mut self.layouts);
        let rows = row + usize::from(decoded.is_ok());
        assert_eq!(self.layouts.len(), rows);
        assert_eq!(self.logins.rows(), rows);
        assert_eq!(self.logins.record_timestamps.len(), rows);
        assert!(self.logins.columns().iter().all(|column| column.len() == rows));
        assert!(self.logins.malformed_timestamps.iter().all(|malformed| (malformed.row as usize) < rows));
        decoded.map(|()| row).inspect_err(|rejection| {
            assert!(rejection.reason.len() <= 256 && !rejection.reason.contains(char::is_control), "{rejection:?}");
            assert!(!rejection.reason.is_empty());
        })
    }

    /// The code that a message is rejected with.
    pub(crate) fn code(&mut self, payload: impl AsRef<[u8]>) -> Option<String> {
        self.decode(payload).err().map(|rejection| rejection.code.into_owned())
    }

    /// The value of a field in a row.
    pub(crate) fn value(&self, field: &str, row: usize) -> Value<'_> {
        self.logins.value(self.schema.slot(field).unwrap(), row)
    }

    /// A decoded row with some fields set.
    pub(crate) fn encode(&self, payload: impl AsRef<[u8]>, row: usize, fields: &[(usize, Value<'_>)]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let layout = self.layouts.get(row).unwrap();
        self.encoder.encode(payload.as_ref(), layout, fields.iter().copied(), &mut out);
        assert!(out.starts_with(b"before"));
        out.split_off(6)
    }
}

/// The fields that the default enricher sets.
pub(crate) const SET_BY_DEFAULT: [&str; 7] =
    ["device_type", "login_time", "login_hour", "ip_version", "ip_scope", "user_logins", "user_unique_ips"];

/// A codec as the default plugins need it.
pub(crate) fn default_codec() -> Codec {
    let further = [
        ("login_time", FieldType::Text),
        ("login_hour", FieldType::Text),
        ("ip_version", FieldType::Integer),
        ("ip_scope", FieldType::Text),
        ("user_logins", FieldType::Integer),
        ("user_unique_ips", FieldType::Integer),
    ];
    Codec::new(&InputFormat::default(), &further, &SET_BY_DEFAULT)
}

/// A codec with mapped fields, further fields around, beside and inside of them, and all types.
pub(crate) fn mapped_codec() -> Codec {
    let format = InputFormat {
        fields: vec![
            (Slot::USER_ID, "details.userId".to_owned()),
            (Slot::TIMESTAMP, "details.time.at".to_owned()),
            (Slot::DEVICE_TYPE, "device.kind".to_owned()),
        ],
        ..InputFormat::default()
    };
    Codec::new(&format, &MAPPED_FURTHER, &SET_WHEN_MAPPED)
}

/// The further fields of [`mapped_codec`].
pub(crate) const MAPPED_FURTHER: [(&str, FieldType); 7] = [
    ("details", FieldType::Json),
    ("details.userId", FieldType::Text),
    ("details.time", FieldType::Json),
    ("device.kind.name", FieldType::Text),
    ("geo.score", FieldType::Number),
    ("geo", FieldType::Integer),
    ("flag", FieldType::Boolean),
];

/// The fields that enrichers set with [`mapped_codec`].
pub(crate) const SET_WHEN_MAPPED: [&str; 4] = ["device_type", "geo", "geo.score", "details"];

/// Whether the bytes are one JSON document as the contract has it, by other means than the crate's: `serde_json`
/// for the grammar, and simple passes for what it leaves open.
pub(crate) fn is_json_by_the_book(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() && depth(text) <= 64 && surrogates_are_paired(text)
    })
}

/// The text without what stands in strings; it must be well-formed.
fn outside_of_strings(text: &str) -> String {
    let mut outside = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        outside.push(character);
        if character == '"' {
            skip_string(&mut characters);
        }
    }
    outside
}

/// Goes on behind the closing quote of a string.
fn skip_string(characters: &mut std::str::Chars<'_>) {
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '"' => return,
            _ => {}
        }
    }
}

/// How many levels of objects and arrays a well-formed document has.
fn depth(text: &str) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    for character in outside_of_strings(text).chars() {
        match character {
            '{' | '[' => level += 1,
            '}' | ']' => level -= 1,
            _ => {}
        }
        deepest = deepest.max(level);
    }
    deepest
}

/// Whether every surrogate that is escaped in a well-formed document is one of a pair.
fn surrogates_are_paired(text: &str) -> bool {
    let units: Vec<u16> = code_units(text);
    char::decode_utf16(units).all(|character| character.is_ok())
}

/// The document as UTF-16, with each `\u` escape as its code unit and other escapes as they are.
fn code_units(text: &str) -> Vec<u16> {
    let mut units = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let (taken, unit) = match rest.as_bytes() {
            [b'\\', b'u', ..] => (6, u16::from_str_radix(&rest[2..6], 16).ok()),
            [b'\\', ..] => (2, None),
            _ => (character.len_utf8(), None),
        };
        match unit {
            Some(unit) => units.push(unit),
            None => units.extend(rest[..taken].encode_utf16()),
        }
        rest = &rest[taken..];
    }
    units
}
