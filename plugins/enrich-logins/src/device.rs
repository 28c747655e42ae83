//! The kind of device, in one spelling.

use std::borrow::Cow;

/// What stands for a kind of device that isn't said.
const UNKNOWN: &str = "unknown";

/// Room for a device type in lower case, so that short ones, which are nearly all, aren't allocated for.
pub type Room = [u8; 32];

/// The device type without white space around it and in lower case, by Unicode's full mapping; `unknown` where nothing is
/// left.
#[inline]
pub fn clean_type<'a>(device_type: Option<&'a str>, room: &'a mut Room) -> Cow<'a, str> {
    let device_type = device_type.unwrap_or_default();
    if device_type.bytes().all(is_clean) {
        return Cow::Borrowed(if device_type.is_empty() { UNKNOWN } else { device_type });
    }
    match device_type.trim() {
        "" => Cow::Borrowed(UNKNOWN),
        trimmed => lower_case(trimmed, room),
    }
}

/// Whether the byte is an ASCII character that is neither white space nor upper case.
fn is_clean(byte: u8) -> bool {
    matches!(byte, b'!'..=b'@' | b'['..=b'~')
}

fn lower_case<'a>(text: &str, room: &'a mut Room) -> Cow<'a, str> {
    let Some(room) = room.get_mut(..text.len()).filter(|_| text.is_ascii()) else {
        return Cow::Owned(text.to_lowercase());
    };
    for (lower, byte) in room.iter_mut().zip(text.bytes()) {
        *lower = byte.to_ascii_lowercase();
    }
    Cow::Borrowed(str::from_utf8(room).unwrap_or_default())
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
        fn the_short_way_and_the_long_way_agree(text in "[ -~]{0,40}|.{0,12}") {
            let expected = text.trim().to_lowercase();
            prop_assert_eq!(clean(Some(&text)), if expected.is_empty() { "unknown".to_owned() } else { expected });
        }
    }
}
