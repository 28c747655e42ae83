//! Values: of which kind they are, and where they end.

use super::MAX_DEPTH;
use super::malformed::{Malformed, Problem, expected};
use super::string::string;

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
    /// A number.
    Number,
    /// A string without escapes.
    PlainString,
    /// A string with escapes.
    EscapedString,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// The first position from `at` on that is no white space.
#[inline]
pub(crate) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The kind and the end of the value that begins at `at`, inside of so many levels of objects and arrays.
#[inline]
pub(crate) fn value(bytes: &[u8], at: usize, levels: u32) -> Result<(Kind, usize), Malformed> {
    match bytes.get(at) {
        Some(b'"') => {
            let end = string(bytes, at + 1)?;
            Ok((if end.escaped { Kind::EscapedString } else { Kind::PlainString }, end.quote + 1))
        }
        Some(b'{') => Ok((Kind::Object, nested(bytes, at, levels)?)),
        Some(b'[') => Ok((Kind::Array, nested(bytes, at, levels)?)),
        _ => number_or_word(bytes, at),
    }
}

/// The position of a member's value, given that of its name's closing quote.
#[inline]
pub(crate) fn after_colon(bytes: &[u8], quote: usize) -> Result<usize, Malformed> {
    let colon = skip_space(bytes, quote + 1);
    if bytes.get(colon) == Some(&b':') {
        Ok(skip_space(bytes, colon + 1))
    } else {
        expected(bytes, colon, Problem::Colon)
    }
}

fn number_or_word(bytes: &[u8], at: usize) -> Result<(Kind, usize), Malformed> {
    let word = |word: &[u8], kind: Kind| {
        let stands_here = bytes.get(at..).is_some_and(|rest| rest.starts_with(word));
        if stands_here { Ok((kind, at + word.len())) } else { Err(Malformed { at, problem: Problem::Value }) }
    };
    match bytes.get(at) {
        Some(b'-' | b'0'..=b'9') => Ok((Kind::Number, number(bytes, at)?)),
        Some(b't') => word(b"true", Kind::True),
        Some(b'f') => word(b"false", Kind::False),
        Some(b'n') => word(b"null", Kind::Null),
        _ => expected(bytes, at, Problem::Value),
    }
}

/// The end of the number that begins at `start`.
fn number(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits(bytes, at + 1 + sign)?;
    }
    Ok(at)
}

/// The end of the digits, at least one, that begin at `start`.
fn digits(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut at = start;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at == start { expected(bytes, at, Problem::Number) } else { Ok(at) }
}

/// The objects and arrays that are open, innermost in the lowest bit: 1 for an object, 0 for an array.
struct Open {
    kinds: u64,
    count: u32,
    /// How many may be open.
    limit: u32,
}

impl Open {
    fn enter(&mut self, object: bool, at: usize) -> Result<(), Malformed> {
        if self.count >= self.limit {
            return Err(Malformed { at, problem: Problem::Depth });
        }
        self.kinds = self.kinds << 1 | u64::from(object);
        self.count += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.kinds >>= 1;
        self.count -= 1;
    }

    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }
}

/// The end of the object or array that begins at `start`, inside of so many levels of others.
fn nested(bytes: &[u8], start: usize, levels: u32) -> Result<usize, Malformed> {
    let mut open = Open { kinds: 0, count: 0, limit: MAX_DEPTH - levels.min(MAX_DEPTH) };
    let mut at = start;
    loop {
        at = match bytes.get(at) {
            Some(bracket @ (b'{' | b'[')) => {
                open.enter(*bracket == b'{', at)?;
                let first = skip_space(bytes, at + 1);
                if bytes.get(first) != Some(if open.in_object() { &b'}' } else { &b']' }) {
                    at = item(bytes, first, &open)?;
                    continue;
                }
                open.leave();
                first + 1
            }
            Some(b'"') => string(bytes, at + 1)?.quote + 1,
            _ => number_or_word(bytes, at)?.1,
        };
        match after_value(bytes, at, &mut open)? {
            Next::Item(next) => at = next,
            Next::End(end) => return Ok(end),
        }
    }
}

/// What follows a value.
enum Next {
    /// Another value, that begins here.
    Item(usize),
    /// Nothing: the outermost object or array ends here.
    End(usize),
}

/// Closes the objects and arrays that end at `at`, right after a value, and goes on to the next value.
fn after_value(bytes: &[u8], mut at: usize, open: &mut Open) -> Result<Next, Malformed> {
    while open.count > 0 {
        at = skip_space(bytes, at);
        match (bytes.get(at), open.in_object()) {
            (Some(b','), _) => return Ok(Next::Item(item(bytes, skip_space(bytes, at + 1), open)?)),
            (Some(b'}'), true) | (Some(b']'), false) => {
                open.leave();
                at += 1;
            }
            (_, true) => return expected(bytes, at, Problem::ObjectDelimiter),
            (_, false) => return expected(bytes, at, Problem::ArrayDelimiter),
        }
    }
    Ok(Next::End(at))
}

/// The position of the value of the member or element that begins at `at`.
fn item(bytes: &[u8], at: usize, open: &Open) -> Result<usize, Malformed> {
    if !open.in_object() {
        return Ok(at);
    }
    if bytes.get(at) != Some(&b'"') {
        return expected(bytes, at, Problem::Name);
    }
    after_colon(bytes, string(bytes, at + 1)?.quote)
}
