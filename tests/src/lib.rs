//! What the tests of more than one room share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "only tests use this"
)]

pub mod control;
pub mod fold;
pub mod guests;
pub mod in_process;
pub mod instance;
pub mod kafka;

use std::path::PathBuf;

/// The host's binary: the one that `LOGINSCOPE_BIN` names, or else the one of the development profile.
pub fn binary() -> PathBuf {
    std::env::var_os("LOGINSCOPE_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/debug/loginscope"), PathBuf::from)
}
