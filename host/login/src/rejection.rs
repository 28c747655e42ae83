//! Why a login is not accepted.

use std::borrow::Cow;

/// The longest reason, in bytes.
pub const MAX_REASON_BYTES: usize = 256;

/// Why a login is not accepted: what goes into the headers `loginscope-code` and `loginscope-reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The code, in `lower_snake_case`.
    pub code: Cow<'static, str>,
    /// One sentence for a person, at most [`MAX_REASON_BYTES`] and without control characters.
    pub reason: String,
}

impl Rejection {
    /// A rejection; control characters in the reason are escaped, and it is cut to fit.
    pub fn new(code: impl Into<Cow<'static, str>>, reason: &str) -> Self {
        Self { code: code.into(), reason: printable(reason, MAX_REASON_BYTES) }
    }
}

/// The text with its control characters escaped, cut at a character boundary to at most `limit` bytes, with an
/// ellipsis where something was cut off. `limit` is at least 3.
pub fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
        if shown.len() > limit {
            let end = shown.floor_char_boundary(limit - '…'.len_utf8());
            shown.truncate(end);
            shown.push('…');
            break;
        }
    }
    shown
}
