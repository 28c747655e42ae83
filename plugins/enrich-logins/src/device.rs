//! The kind of device, in one spelling.

use std::borrow::Cow;

/// What stands for a kind of device that isn't said.
const UNKNOWN: &str = "unknown";

/// The longest device type that is looked at as one number.
const WORD_BYTES: usize = 8;

/// Room for a short device type in lower case, so that nothing is allocated for it.
pub type Room = [u8; WORD_BYTES];

/// The device type without white space around it and in lower case, by Unicode's full mapping; `unknown` where nothing is
/// left.
#[inline]
pub fn clean_type<'a>(device_type: Option<&'a str>, room: &'a mut Room) -> Cow<'a, str> {
    let Some(device_type) = device_type else { return Cow::Borrowed(UNKNOWN) };
    let Some(word) = graphic_word(device_type.as_bytes()) else { return clean_any(device_type) };
    let lower = lower_case(word);
    if lower == word {
        return Cow::Borrowed(device_type);
    }
    *room = lower.to_le_bytes();
    let lower = room.get(..device_type.len()).unwrap_or_default();
    Cow::Borrowed(str::from_utf8(lower).unwrap_or_default())
}

/// Any device type at all: those that have more than a few ASCII letters.
fn clean_any<'a>(device_type: &str) -> Cow<'a, str> {
    match device_type.trim() {
        "" => Cow::Borrowed(UNKNOWN),
        trimmed => Cow::Owned(trimmed.to_lowercase()),
    }
}

/// The same in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

/// 1 to 8 bytes as one number, filled up with small letters, if all are ASCII and neither space nor control characters.
/// May leave out texts that are.
#[inline]
fn graphic_word(text: &[u8]) -> Option<u64> {
    let last_place = 8 * text.len().checked_sub(1)? as u32;
    let word = if let Some(whole) = text.first_chunk() {
        (text.len() == WORD_BYTES).then(|| u64::from_le_bytes(*whole))?
    } else {
        let begin = if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
            // They overlap, and agree where they do.
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (last_place - 24)
        } else {
            let middle = text.len() / 2;
            u64::from(*text.first()?)
                | u64::from(*text.get(middle)?) << (8 * middle)
                | u64::from(*text.last()?) << last_place
        };
        begin | (u64::from(b'a') * EACH) << (last_place + 8)
    };
    // A byte's top bit is set if it isn't ASCII, or 0x7F plus one, or below 0x21 and so borrows.
    let is_graphic = (word | word.wrapping_add(EACH) | word.wrapping_sub(0x21 * EACH)) & (0x80 * EACH) == 0;
    is_graphic.then_some(word)
}

/// Eight ASCII characters in lower case.
#[inline]
fn lower_case(word: u64) -> u64 {
    // The top bit of a byte: from `A` on, and not from after `Z` on. No sum of an ASCII character carries over.
    let capitals = (word + (0x80 - 0x41) * EACH) & !(word + (0x80 - 0x5b) * EACH) & (0x80 * EACH);
    word | capitals >> 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(device_type: Option<&str>) -> String {
        clean_type(device_type, &mut Room::default()).into_owned()
    }

    #[test]
    fn a_device_type_is_trimmed_of_all_unicode_white_space() {
        assert_eq!(clean(Some(" \t\u{3000}\u{85}iOS\u{a0}\n")), "ios");
        // U+200B and U+FEFF look like space, but don't have the property White_Space.
        assert_eq!(clean(Some("\u{200b}ios\u{feff}")), "\u{200b}ios\u{feff}");
        assert_eq!(clean(Some("smart  TV")), "smart  tv");
    }

    #[test]
    fn lower_case_is_unicodes_full_mapping() {
        assert_eq!(clean(Some("ΌΔΥΣΣΕΎΣ")), "όδυσσεύς");
        assert_eq!(clean(Some("İPAD")), "i\u{307}pad");
        assert_eq!(clean(Some("ẞ")), "ß");
        assert_eq!(clean(Some("\u{212a}indle")), "kindle");
    }

    #[test]
    fn nothing_is_unknown() {
        assert_eq!(clean(None), "unknown");
        assert_eq!(clean(Some("")), "unknown");
        assert_eq!(clean(Some(" \u{2003} ")), "unknown");
    }

    proptest! {
        #[test]
        fn the_short_way_and_the_long_way_agree(text in "[!-~]{0,9}|[\\x00-\\x7f]{0,10}|[ -~]{0,40}|.{0,12}") {
            let expected = text.trim().to_lowercase();
            prop_assert_eq!(clean(Some(&text)), if expected.is_empty() { "unknown".to_owned() } else { expected });
        }
    }
}
