//! Integers as the login's table has them.

/// The integer that is written here as `-?(0|[1-9][0-9]*)`, where it fits 64 bits signed.
pub(crate) fn integer(text: &str) -> Option<i64> {
    match text.strip_prefix('-').unwrap_or(text).as_bytes() {
        [b'0'] => Some(0),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_read_by_its_grammar() {
        for (text, expected) in [("0", 0), ("-0", 0), ("7", 7), ("-12", -12), ("1694479551", 1_694_479_551)] {
            assert_eq!(integer(text), Some(expected), "{text}");
        }
        assert_eq!(integer("9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer("-9223372036854775808"), Some(i64::MIN));
    }

    #[test]
    fn what_is_no_integer_or_too_large_is_refused() {
        for text in [
            "",
            "-",
            "+5",
            " 5",
            "5 ",
            "05",
            "-05",
            "00",
            "1e3",
            "1.0",
            "--1",
            "0x1",
            "1_000",
            "٣",
            "1\u{0}",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999999999",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }
}
