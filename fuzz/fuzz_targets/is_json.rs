//! A text is JSON exactly if it is by the book.
#![no_main]

#[path = "../../host/login/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use loginscope_login::{is_json, is_json_object};
use support::is_json_by_the_book;

fuzz_target!(|text: &str| {
    let expected = is_json_by_the_book(text.as_bytes());
    assert_eq!(is_json(text), expected);
    assert_eq!(is_json_object(text), expected && text.trim_ascii().starts_with('{'));
});
