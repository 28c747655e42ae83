//! The kind of device, in one spelling.

/// What stands for a kind of device that isn't said.
const UNKNOWN: &str = "unknown";

/// Gives `take` the device type without white space around it and in lower case, by Unicode's full mapping; `unknown`
/// where nothing is left.
pub fn with_clean_type(device_type: Option<&str>, take: impl FnOnce(&str)) {
    let device_type = device_type.unwrap_or_default();
    if !device_type.is_empty() && device_type.bytes().all(is_clean) {
        return take(device_type);
    }
    let trimmed = device_type.trim();
    if trimmed.is_empty() {
        take(UNKNOWN);
    } else {
        with_lower_case(trimmed, take);
    }
}

/// Whether the byte is an ASCII character that is neither white space nor upper case.
fn is_clean(byte: u8) -> bool {
    matches!(byte, b'!'..=b'@' | b'['..=b'~')
}

/// Gives `take` the text in lower case. Short ASCII, which is nearly every device type, isn't allocated for.
fn with_lower_case(text: &str, take: impl FnOnce(&str)) {
    let mut buffer = [0; 32];
    let bytes = text.as_bytes();
    if let Some(room) = buffer.get_mut(..bytes.len())
        && text.is_ascii()
    {
        for (lower, byte) in room.iter_mut().zip(bytes) {
            *lower = byte.to_ascii_lowercase();
        }
        take(str::from_utf8(room).unwrap_or_default());
    } else {
        take(&text.to_lowercase());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(device_type: Option<&str>) -> String {
        let mut result = String::new();
        with_clean_type(device_type, |device_type| device_type.clone_into(&mut result));
        result
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
