//! Strict JSON (RFC 8259): where a value ends, whether it is well-formed, what a string says.
//!
//! It works on positions in the bytes and builds no tree. It must not know what a login is.
//!
//! Invariants: the bytes are UTF-8 (whoever calls has checked that); a position that is handed back never lies
//! inside a character, because every boundary is an ASCII byte; at most [`MAX_DEPTH`] levels are open at a time,
//! so the depth of a document costs no stack.

mod integer;
mod malformed;
mod string;
mod value;

pub(crate) use integer::integer;
pub(crate) use malformed::{Malformed, Problem, expected};
pub(crate) use string::{plain_end, string, unescape_into};
pub(crate) use value::{Kind, after_colon, skip_space, value};

/// How many levels of objects and arrays a document may have, the outermost being the first.
pub(crate) const MAX_DEPTH: u32 = 64;

/// The kind of the one value that a document holds.
pub(crate) fn document(bytes: &[u8]) -> Result<Kind, Malformed> {
    let (kind, end) = value(bytes, skip_space(bytes, 0), 0)?;
    at_end(bytes, end)?;
    Ok(kind)
}

/// Checks that only white space is left.
pub(crate) fn at_end(bytes: &[u8], at: usize) -> Result<(), Malformed> {
    let at = skip_space(bytes, at);
    if at == bytes.len() { Ok(()) } else { Err(Malformed { at, problem: Problem::Trailing }) }
}

/// Whether the text is one well-formed JSON document, as strictly as logins are read: no unpaired surrogate escape, at
/// most 64 levels of objects and arrays. White space around it is allowed.
pub fn is_json(text: &str) -> bool {
    document(text.as_bytes()).is_ok()
}

/// Whether the text is one well-formed JSON document, as strictly as [`is_json`] takes it, and an object.
pub fn is_json_object(text: &str) -> bool {
    document(text.as_bytes()) == Ok(Kind::Object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rfc_8259_allows_is_json() {
        let deepest = format!("{}1{}", "[".repeat(64), "]".repeat(64));
        for text in [
            "0",
            "-0",
            "-1.5e+10",
            "1E9",
            "true",
            "false",
            "null",
            "\"\"",
            "[]",
            "{}",
            " \t\r\n[ 1 , 2 ] \n",
            "{\"a\":[{}]}",
            "\"\\u0000\\ud83d\\ude00\\/\"",
            "\"ü\u{10ffff}\u{7f}\"",
            "{\"\":1,\"\":2}",
            "\"\u{2028}\"",
            &deepest,
        ] {
            assert!(is_json(text), "{text}");
        }
    }

    #[test]
    fn what_rfc_8259_forbids_is_not_json() {
        let too_deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        let too_deep_mixed = format!("{}1{}", "{\"a\":[".repeat(33), "]}".repeat(33));
        for text in [
            "",
            " ",
            "01",
            "-",
            "-01",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "Infinity",
            "tru",
            "truee",
            "nul",
            "True",
            "'a'",
            "\"",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u123\"",
            "\"\t\"",
            "\"\u{0}\"",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{1:1}",
            "{\"a\":1]",
            "[1}",
            "1 2",
            "{}x",
            "\u{feff}{}",
            "\u{a0}1",
            "/**/1",
            "\\",
            &too_deep,
            &too_deep_mixed,
        ] {
            assert!(!is_json(text), "{text}");
        }
    }

    #[test]
    fn an_unpaired_surrogate_escape_is_not_json() {
        for text in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\udfff\ud800""#,
            r#""\uD83D\u0041""#,
            r#"[{"a":["\ud800"]}]"#,
            r#"{"\udc00":1}"#,
            r#""\ud800\"#,
            r#""\ud800\u"#,
        ] {
            assert!(!is_json(text), "{text}");
        }
    }

    #[test]
    fn only_objects_are_json_objects() {
        assert!(is_json_object(" {\"a\":1} "));
        assert!(!is_json_object("[{}]"));
        assert!(!is_json_object("\"{}\""));
        assert!(!is_json_object("{"));
    }
}
