//! The binary on a real Kafka.

mod backfills;
mod changelog_reading;
mod delivery;
mod durable;
mod end_to_end;
mod exactly_once;
mod failing;
mod group;
mod held_partitions;
mod operation;
mod outage;
mod plugins_of_group;
mod plugins_of_instances;
mod plugins_of_members;
mod plugins_under_fire;
mod rebuilding;
mod records;
mod secured;
mod soak;
mod swaps;
mod transactions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use loginscope::generator::Options;
use loginscope_kafka::OwnedRecord;
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

/// Numbers that differ from one another like random ones, and are the same in each run.
fn numbers() -> impl Iterator<Item = u64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// Sources in headers, and whoever dies is noticed within seconds.
fn quick_configuration(delivery: &str) -> String {
    format!(
        "
delivery = \"{delivery}\"
source_headers = true
[kafka]
session.timeout.ms = 6000
transaction.timeout.ms = 3000
"
    )
}

/// The last one of those that were made several times.
fn last_of_each(records: Vec<OwnedRecord>, name: impl Fn(&OwnedRecord) -> String) -> Vec<OwnedRecord> {
    let mut places = BTreeMap::new();
    let mut kept: Vec<Option<OwnedRecord>> = Vec::new();
    for record in records {
        if let Some(before) = places.insert(name(&record), kept.len()) {
            kept[before] = None;
        }
        kept.push(Some(record));
    }
    kept.into_iter().flatten().collect()
}

fn id_of_insight(record: &OwnedRecord) -> String {
    let insight: serde_json::Value = serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap();
    insight["id"].to_string()
}

fn is_summary(record: &OwnedRecord) -> bool {
    let insight: serde_json::Value = serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap();
    insight["kind"] == "summary"
}
