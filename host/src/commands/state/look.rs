//! `state show`, `user` and `export`: a look into the state that a group keeps, whether it runs or not. It joins no group and writes
//! nothing; what it sees is as of the last commits.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use anyhow::{Result, bail};
use loginscope_login::Value;
use loginscope_state::{ListingShape, Restored, TakeEntries};
use serde_json::json;

use super::stored;
use crate::cli::Exit;
use crate::config::Config;
use crate::pipeline::plugins::PluginSet;

/// The field that a person is known by.
const USER_ID: &str = "user_id";

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// How far each partition is, and how much each aggregate holds.
    Show,
    /// All that is kept of a user.
    User(String),
    /// All that is kept, an entry a line.
    Export,
}

/// Looks, and writes what it sees to standard output.
pub fn run(config: &Config, look: &Look) -> Result<Exit> {
    let chain = PluginSet::from_config(&config.pipeline)?.load_at_start()?;
    let (catalog, mut partitions) = (stored::as_it_is(&chain.catalog), BTreeMap::new());
    for (number, stored) in stored::read(config, &catalog, stored::Read::Anytime, &mut || Ok(()))? {
        partitions.extend(stored?.restored.map(|restored| (number, restored)));
    }
    if partitions.is_empty() {
        bail!("the changelog of the group {} holds no state yet", config.group);
    }
    let mut output = BufWriter::new(std::io::stdout().lock());
    match look {
        Look::Show => show(&partitions, &mut output)?,
        Look::User(user) => entries(&partitions, Some(user), &mut output)?,
        Look::Export => entries(&partitions, None, &mut output)?,
    }
    output.flush()?;
    Ok(Exit::Done)
}

/// Says how far partitions are, and how much each aggregate holds.
pub(super) fn show(partitions: &BTreeMap<i32, Restored>, output: &mut impl Write) -> Result<()> {
    let mut totals: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for (number, Restored { partition, head, snapshot_bytes, tail_bytes, .. }) in partitions {
        let window = partition.window_progress();
        writeln!(
            output,
            "partition {number}   next offset {}, window {} has {} logins, snapshot {snapshot_bytes} bytes, \
             {tail_bytes} bytes since",
            head.next_offset, window.number, window.logins
        )?;
        for kept in partition.kept().filter(loginscope_state::Kept::is_total) {
            let (keys, sum) = kept.sums();
            let total = totals.entry((kept.plugin(), kept.definition().name.as_str())).or_default();
            *total = (total.0 + keys, total.1 + sum);
        }
    }
    for ((plugin, aggregate), (keys, sum)) in totals {
        writeln!(output, "{plugin}   {aggregate}: {keys} keys, sum {sum}")?;
    }
    Ok(())
}

/// Writes entries as lines of JSON: all, or those of a user.
fn entries(partitions: &BTreeMap<i32, Restored>, user: Option<&str>, output: &mut impl Write) -> Result<()> {
    for (number, Restored { partition, .. }) in partitions {
        for kept in partition.kept() {
            let place = kept.definition().by.iter().position(|dimension| dimension.field == USER_ID);
            let user = match (user, place) {
                (None, _) => None,
                (Some(user), Some(place)) => Some((place, user)),
                (Some(_), None) => continue,
            };
            let mut lines = Lines { user, bucket: None, key: Vec::new(), values: Vec::new(), found: Vec::new() };
            kept.give_entries(&mut lines);
            lines.end_entry();
            for (bucket, key, values) in lines.found {
                let mut line = json!({
                    "partition": number,
                    "plugin": kept.plugin(),
                    "aggregate": kept.definition().name,
                    "key": key,
                    "values": values,
                });
                if let (Some(bucket), Some(members)) = (bucket, line.as_object_mut()) {
                    members.insert("bucket".to_owned(), bucket.into());
                }
                writeln!(output, "{line}")?;
            }
        }
    }
    Ok(())
}

type Line = (Option<i64>, Vec<serde_json::Value>, Vec<serde_json::Value>);

/// Takes entries, all or those of a user.
struct Lines<'a> {
    /// The user, and which part of the key that is.
    user: Option<(usize, &'a str)>,
    bucket: Option<i64>,
    key: Vec<serde_json::Value>,
    values: Vec<serde_json::Value>,
    found: Vec<Line>,
}

impl Lines<'_> {
    fn end_entry(&mut self) {
        let (key, values) = (std::mem::take(&mut self.key), std::mem::take(&mut self.values));
        let is_meant = self.user.is_none_or(|(place, user)| key.get(place).is_some_and(|part| part == user));
        if is_meant && !values.is_empty() {
            self.found.push((self.bucket, key, values));
        }
    }
}

impl TakeEntries for Lines<'_> {
    fn begin(&mut self, _: ListingShape) {}

    fn entry(&mut self, bucket: Option<i64>) {
        self.end_entry();
        self.bucket = bucket;
    }

    fn key(&mut self, value: Value<'_>) {
        self.key.push(as_json(value));
    }

    fn value(&mut self, value: Value<'_>) {
        self.values.push(as_json(value));
    }
}

fn as_json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Text(text) | Value::Json(text) => text.into(),
        Value::Integer(integer) => integer.into(),
        Value::Number(number) => number.into(),
        Value::Boolean(boolean) => boolean.into(),
        Value::Missing => serde_json::Value::Null,
    }
}
