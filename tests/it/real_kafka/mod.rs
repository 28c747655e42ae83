//! The binary on a real Kafka.

mod changelog_reading;
mod delivery;
mod durable;
mod end_to_end;
mod exactly_once;
mod group;
mod held_partitions;
mod operation;
mod outage;
mod rebuilding;
mod records;
mod secured;
mod soak;
mod transactions;

use std::path::{Path, PathBuf};

use loginscope::generator::Options;
use loginscope_tests::kafka::{Message, logins};
use tempfile::TempDir;

/// Well-formed logins of a fixed time.
fn well_formed(count: usize, seed: u64) -> Vec<Message> {
    logins(count, Options { seed, ..Options::default() })
}

/// A folder with a configuration file, and the path of that.
fn configuration(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loginscope.toml");
    std::fs::write(&file, text).unwrap();
    (folder, file.to_str().unwrap().to_owned())
}

/// The default plugins' components.
fn plugin_files() -> Vec<PathBuf> {
    let folder = std::env::var_os("LOGINSCOPE_PLUGINS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins"), PathBuf::from);
    let names = ["validate_logins.wasm", "enrich_logins.wasm", "summarize_logins.wasm"];
    names.map(|name| folder.join(name)).to_vec()
}
