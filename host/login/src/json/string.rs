//! Strings: where they end, and what they say.

use super::malformed::{Malformed, Problem, expected};

/// Where a string ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StringEnd {
    /// The position of its closing quote.
    pub(crate) quote: usize,
    /// Whether it holds escapes.
    pub(crate) escaped: bool,
}

/// The end of the string whose content begins at `start`, right after its opening quote.
#[inline]
pub(crate) fn string(bytes: &[u8], start: usize) -> Result<StringEnd, Malformed> {
    let at = plain_end(bytes, start);
    if bytes.get(at) == Some(&b'"') {
        return Ok(StringEnd { quote: at, escaped: false });
    }
    string_with_escapes(bytes, at)
}

/// The rest of a string from something that is no plain character on.
#[inline(never)]
fn string_with_escapes(bytes: &[u8], mut at: usize) -> Result<StringEnd, Malformed> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(StringEnd { quote: at, escaped: true }),
            Some(b'\\') => at = plain_end(bytes, escape_end(bytes, at)?),
            _ => return expected(bytes, at, Problem::ControlCharacter),
        }
    }
}

/// The end of the escape, or of the pair of surrogate escapes, that begins at `at`.
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match code_unit(bytes, at + 2) {
            None => expected(bytes, at + 1, Problem::Escape),
            Some(0xDC00..=0xDFFF) => Err(Malformed { at, problem: Problem::Surrogate }),
            Some(0xD800..=0xDBFF) => match low_surrogate(bytes, at + 6) {
                Some(_) => Ok(at + 12),
                None => Err(Malformed { at, problem: Problem::Surrogate }),
            },
            Some(_) => Ok(at + 6),
        },
        _ => expected(bytes, at + 1, Problem::Escape),
    }
}

/// The value of the four hexadecimal digits at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// The low surrogate that is escaped at `at`.
fn low_surrogate(bytes: &[u8], at: usize) -> Option<u32> {
    if bytes.get(at..at + 2)? != b"\\u" {
        return None;
    }
    code_unit(bytes, at + 2).filter(|unit| (0xDC00..=0xDFFF).contains(unit))
}

/// Appends what a string says whose well-formed content is `raw`.
pub(crate) fn unescape_into(raw: &str, text: &mut String) {
    let mut rest = raw;
    while let Some((plain, escape)) = memchr::memchr(b'\\', rest.as_bytes()).and_then(|at| rest.split_at_checked(at)) {
        let (character, length) = escaped_character(escape.as_bytes());
        text.push_str(plain);
        text.push(character);
        rest = escape.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
}

/// The character that the well-formed escape at the beginning stands for, and the length of the escape.
fn escaped_character(escape: &[u8]) -> (char, usize) {
    let (code_point, length) = match escape.get(1) {
        Some(b'b') => (0x08, 2),
        Some(b't') => (0x09, 2),
        Some(b'n') => (0x0A, 2),
        Some(b'f') => (0x0C, 2),
        Some(b'r') => (0x0D, 2),
        Some(b'u') => match (code_unit(escape, 2).unwrap_or_default(), low_surrogate(escape, 6)) {
            (high @ 0xD800..=0xDBFF, Some(low)) => (0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12),
            (unit, _) => (unit, 6),
        },
        Some(itself) => (u32::from(*itself), 2),
        None => (u32::from('\\'), 1),
    };
    (char::from_u32(code_point).unwrap_or(char::REPLACEMENT_CHARACTER), length)
}

/// The position of the first quote, backslash or control character from `at` on; the length where there is none.
#[inline]
pub(crate) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let is_special = |byte: &u8| matches!(*byte, b'"' | b'\\' | 0..=0x1F);
    rest.iter().position(is_special).map_or(bytes.len(), |plain| at + plain)
}

/// The highest bit of each byte that is a quote, a backslash or a control character. The lowest bit that is set is
/// exact; a borrow may also set the bits of bytes above it.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    const HIGH_BITS: u64 = ONES << 7;
    let quotes = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslashes = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    let controls = word.wrapping_sub(ONES * 0x20);
    // A byte of 0x80 or more has its high bit set in `word`, and neither XOR clears it: it is none of the three.
    (quotes | backslashes | controls) & !word & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(raw: &str) -> String {
        let mut text = String::new();
        unescape_into(raw, &mut text);
        text
    }

    #[test]
    fn every_escape_says_its_character() {
        assert_eq!(said(r#"\"\\\/\b\f\n\r\t"#), "\"\\/\u{8}\u{c}\n\r\t");
        assert_eq!(said(r"a\u00e4\u20AC\ud83d\ude00z"), "aä€😀z");
        assert_eq!(said(r"\\u0041"), r"\u0041");
        assert_eq!(said("ünchanged"), "ünchanged");
    }

    #[test]
    fn the_first_special_byte_is_found_at_every_place() {
        for special in (0..=0x1F).chain([b'"', b'\\']) {
            for length in 0..40 {
                for at in 0..length {
                    for filling in [b'a', 0x20, 0x21, 0x23, 0x5B, 0x5D, 0x7F, 0x80, 0xA2, 0xDC, 0xFF] {
                        let mut bytes = vec![filling; length];
                        bytes[at] = special;
                        assert_eq!(plain_end(&bytes, 0), at);
                        assert_eq!(plain_end(&bytes, at + 1), length);
                    }
                }
            }
        }
    }
}
