//! Why a login is not accepted.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

use crate::contract;

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 256;

/// The longest value that is shown in a reason, in bytes.
const MAX_QUOTED_BYTES: usize = 96;

/// Why a login is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    code: Cow<'static, str>,
    reason: String,
}

impl Rejection {
    /// A rejection. The code is `lower_snake_case`: 1 to 64 lower-case letters, digits and underscores, beginning with a
    /// letter. The reason is a sentence for a person that names field and value (see [`quoted`]); control characters in
    /// it are escaped, and it is cut to 256 bytes.
    pub fn new(code: impl Into<Cow<'static, str>>, reason: impl AsRef<str>) -> Self {
        Self { code: code.into(), reason: printable(reason.as_ref(), MAX_REASON_BYTES) }
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn of_row(self, row: usize) -> contract::Rejection {
        contract::Rejection { row: row as u32, code: self.code.into_owned(), reason: self.reason }
    }
}

/// A value of a login for use in a sentence: in quotes, control characters escaped, cut to 96 bytes.
///
/// ```
/// # use loginscope_plugin::quoted;
/// assert_eq!(format!("locale {} is not served", quoted("x\n")), "locale \"x\\u{a}\" is not served");
/// ```
pub fn quoted(value: &str) -> impl Display {
    Quoted(value)
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_char('"')?;
        formatter.write_str(&printable(self.0, MAX_QUOTED_BYTES))?;
        formatter.write_char('"')
    }
}

/// The text with its control characters escaped, cut to at most `limit` bytes between two characters. An ellipsis stands
/// for what was cut off.
fn printable(text: &str, limit: usize) -> String {
    const ELLIPSIS: char = '…';
    let mut shown = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
        if shown.len() > limit {
            shown.truncate(shown.floor_char_boundary(limit.saturating_sub(ELLIPSIS.len_utf8())));
            shown.push(ELLIPSIS);
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_in_a_reason_are_escaped() {
        let rejection = Rejection::new("bad", "a\u{0}b\u{85}c\u{7f}\n");
        assert_eq!(rejection.reason(), r"a\u{0}b\u{85}c\u{7f}\u{a}");
        assert!(!rejection.reason().chars().any(char::is_control));
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters_to_256_bytes() {
        for filler in ["x", "é", "日", "🦀", "\u{1}"] {
            let exact = Rejection::new("bad", "x".repeat(256));
            assert_eq!(exact.reason(), "x".repeat(256));
            for lead in 0..4 {
                let reason = Rejection::new("bad", "x".repeat(lead) + &filler.repeat(300)).reason;
                assert!(reason.len() <= 256 && reason.len() > 256 - 8 && reason.ends_with('…'), "{reason}");
            }
        }
    }

    #[test]
    fn a_sentence_with_two_quoted_values_fits() {
        let long = "\u{1}".repeat(1000);
        let sentence = format!("a {} and b {}", quoted(&long), quoted(&long));
        assert!(sentence.len() <= 256 && !sentence.chars().any(char::is_control));
    }
}
