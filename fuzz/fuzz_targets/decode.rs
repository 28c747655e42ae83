//! Any message is either read or rejected, `not_json` exactly if it is none by the book, and what was read can be written
//! again byte by byte.
#![no_main]

#[path = "../../host/login/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use support::{default_codec, is_json_by_the_book, mapped_codec};

fuzz_target!(|payload: &[u8]| {
    for mut codec in [default_codec(), mapped_codec()] {
        let decoded = codec.decode(payload);
        let not_json = decoded.as_ref().is_err_and(|rejection| rejection.code == "not_json");
        assert_eq!(not_json, !is_json_by_the_book(payload));
        if let Ok(row) = decoded {
            assert_eq!(codec.encode(payload, row, &[]), payload.trim_ascii());
        }
    }
});
