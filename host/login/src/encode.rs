//! Columns to JSON: the input's own bytes with the fields that enrichers set spliced in.
//!
//! The bytes of every member that no enricher sets are copied as they are, white space included. It must not know what
//! a field means.

pub use crate::json::{is_json, is_json_object};

use crate::column::Value;
use crate::decode::Layout;
use crate::json::plain_end;

/// Writes enriched logins. Made once for the fields that enrichers set.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// The JSON text of each name, with a comma before and a colon behind it.
    names: Vec<Box<[u8]>>,
}

impl Encoder {
    /// An encoder for the fields with these names, the same ones, in the same order, that the
    /// [`Decoder`](crate::decode::Decoder) was made with.
    pub fn new(set_names: &[String]) -> Self {
        let names = set_names.iter().map(|name| {
            let mut text = vec![b','];
            write_string(name, &mut text);
            text.push(b':');
            text.into_boxed_slice()
        });
        Self { names: names.collect() }
    }

    /// Appends a login to `out`: the object in `payload`, from brace to brace, with these fields set.
    ///
    /// A field is given by its place among the encoder's names, at most once; a missing value sets nothing. A field that
    /// the object has is replaced in place, its further occurrences are left out; the others follow the object's last
    /// member, in the order given. A [`Value::Json`] is written as it is: see [`is_json`].
    pub fn encode<'v>(
        &self,
        payload: &[u8],
        layout: Layout<'_>,
        fields: impl Iterator<Item = (usize, Value<'v>)> + Clone,
        out: &mut Vec<u8>,
    ) {
        let part = |start: u32, end: u32| payload.get(start as usize..end as usize).unwrap_or_default();
        let mut copied = layout.frame.start;
        for span in layout.spans {
            let set = fields.clone().find(|(name, value)| *name == span.name as usize && *value != Value::Missing);
            let Some((_, value)) = set else { continue };
            out.extend_from_slice(part(copied, span.start));
            if span.first {
                write_value(value, out);
            }
            copied = span.end;
        }
        // Dropped occurrences at the end reach up to the last value's end: then all that remains is copied already.
        out.extend_from_slice(part(copied, layout.frame.last_value_end));
        let mut first = layout.frame.empty;
        for (name, value) in fields {
            if value == Value::Missing || layout.spans.iter().any(|span| span.name as usize == name) {
                continue;
            }
            let text = self.names.get(name).map(|text| &**text).unwrap_or_default();
            out.extend_from_slice(text.get(usize::from(first)..).unwrap_or_default());
            write_value(value, out);
            first = false;
        }
        out.extend_from_slice(part(layout.frame.last_value_end, layout.frame.end));
    }
}

/// Appends the JSON text of a value.
#[inline]
fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => write_string(text, out),
        Value::Integer(integer) => out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes()),
        Value::Number(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
        }
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Json(text) => out.extend_from_slice(text.as_bytes()),
        Value::Missing | Value::Number(_) => out.extend_from_slice(b"null"),
    }
}

/// Appends the text as a JSON string. Only what must be escaped is.
#[inline]
fn write_string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.push(b'"');
    loop {
        let (plain, special) = rest.split_at_checked(plain_end(rest, 0)).unwrap_or((rest, b""));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        write_escape(*byte, out);
        rest = after;
    }
    out.push(b'"');
}

#[cold]
fn write_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0C => b'f',
        b'\r' => b'r',
        _ => {
            let digit = |half: u8| char::from_digit(u32::from(half), 16).map_or(b'0', |digit| digit as u8);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xF)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
