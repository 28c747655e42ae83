//! The rejections that decoding makes, each with its sentence for a person.

use super::scan::Fault;
use crate::json::{Kind, Malformed, Problem};
use crate::rejection::{Rejection, printable};
use crate::schema::Slot;

/// How much of a value is shown.
const SHOWN_VALUE_BYTES: usize = 64;

#[cold]
pub(super) fn too_large(bytes: usize, limit: usize) -> Rejection {
    Rejection::new(
        "too_large",
        &format!("The message has {bytes} bytes; at most {limit} are read (max_message_bytes)."),
    )
}

#[cold]
pub(super) fn no_value() -> Rejection {
    Rejection::new("not_json", "The message has no value: it is a tombstone, not a JSON object.")
}

#[cold]
pub(super) fn empty() -> Rejection {
    Rejection::new("not_json", "The message is empty, not a JSON object.")
}

#[cold]
pub(super) fn not_utf8(payload: &[u8]) -> Rejection {
    let at = simdutf8::compat::from_utf8(payload).map_or_else(|error| error.valid_up_to(), str::len);
    malformed(Malformed { at, problem: Problem::Encoding })
}

#[cold]
pub(super) fn malformed(Malformed { at, problem }: Malformed) -> Rejection {
    Rejection::new("not_json", &format!("The message is not one well-formed JSON document: {problem}, at byte {at}."))
}

#[cold]
pub(super) fn not_an_object(kind: Kind, text: &str) -> Rejection {
    let shown = printable(text.trim_ascii(), SHOWN_VALUE_BYTES);
    Rejection::new("not_an_object", &format!("The message is {}, not a JSON object: {shown}", named(kind)))
}

#[cold]
pub(super) fn duplicate(fault: &Fault, paths: &[String]) -> Rejection {
    let path = shown_path(&fault.path);
    let whole = paths.get(fault.slot.0).filter(|whole| **whole != fault.path);
    let use_of = whole.map(|whole| format!(", which {} is inside of,", shown_path(whole))).unwrap_or_default();
    let at = fault.cell.start;
    Rejection::new(
        "duplicate_field",
        &format!("Field {path}{use_of} occurs more than once: again with its value at byte {at}."),
    )
}

#[cold]
pub(super) fn wrong_type(fault: &Fault, text: &str) -> Rejection {
    let path = shown_path(&fault.path);
    let wanted = if fault.slot == Slot::TIMESTAMP { "an integer or a string" } else { "a string" };
    let (kind, at) = (named(fault.cell.kind), fault.cell.start);
    let value = printable(fault.cell.raw(text), SHOWN_VALUE_BYTES);
    Rejection::new("wrong_type", &format!("Field {path} must be {wanted}, but is {kind} at byte {at}: {value}"))
}

/// A path may be long; what is wrong must still be seen.
fn shown_path(path: &str) -> String {
    printable(path, SHOWN_VALUE_BYTES)
}

fn named(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::True | Kind::False => "a boolean",
        Kind::Number => "a number",
        Kind::PlainString | Kind::EscapedString => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}
