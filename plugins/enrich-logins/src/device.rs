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
    // Most device types are one word in ASCII, many of them in lower case.
    if !device_type.is_empty()
        && device_type.len() <= room.len()
        && device_type.bytes().all(|byte| byte.is_ascii_graphic())
    {
        if !device_type.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Borrowed(device_type);
        }
        for (lower, byte) in room.iter_mut().zip(device_type.bytes()) {
            *lower = byte.to_ascii_lowercase();
        }
        return Cow::Borrowed(
            room.get(..device_type.len()).and_then(|lower| str::from_utf8(lower).ok()).unwrap_or_default(),
        );
    }
    clean_any(device_type)
}

fn clean_any<'a>(device_type: &str) -> Cow<'a, str> {
    match device_type.trim() {
        "" => Cow::Borrowed(UNKNOWN),
        trimmed => Cow::Owned(trimmed.to_lowercase()),
    }
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
