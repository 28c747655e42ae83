//! The shape of a summary: the members of the insight's data, in their order.

use std::collections::BTreeMap;

use loginscope_plugin::Entry;
use loginscope_plugin::time::Rfc3339;
use serde::Serialize;

use crate::development::Development;

/// The data of a `summary`.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// What the window says.
    pub in_window: InWindow,
    /// What all logins since the beginning say.
    pub totals: Overall,
    /// What is known of users.
    pub users: Users,
    /// What changed against the window before; empty for the first.
    pub developments: Vec<Development>,
}

/// What a window says.
#[derive(Clone, Debug, Serialize)]
pub struct InWindow {
    /// Its logins by device type.
    pub logins_by_device_type: BTreeMap<String, u64>,
    /// How many different users there are.
    pub unique_users: u64,
    /// How many different addresses there are.
    pub unique_ips: u64,
    /// Logins over the time from the earliest to the latest, to 4 decimals.
    pub logins_per_minute: f64,
}

/// What all logins since the beginning say.
#[derive(Clone, Debug, Serialize)]
pub struct Overall {
    /// How many there are.
    pub logins: u64,
    /// How many different users there are.
    pub users: u64,
    /// The logins by device type.
    pub logins_by_device_type: BTreeMap<String, u64>,
    /// The logins by device type for each of the latest hours that have logins.
    pub logins_by_device_type_per_hour: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What is known of users.
#[derive(Clone, Debug, Serialize)]
pub struct Users {
    /// Those with the most different addresses, in that order.
    pub most_unique_ips: Vec<MostUniqueIps>,
    /// The different addresses of a user, averaged over all users, to 4 decimals.
    pub average_unique_ips: f64,
}

/// A user with many addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MostUniqueIps {
    /// The user.
    pub user_id: String,
    /// How many different addresses it logged in from.
    pub unique_ips: u64,
    /// How many addresses it logged in from, one a login.
    pub total_ips: u64,
}

impl MostUniqueIps {
    /// A user of the ranking by different addresses, then logins.
    pub fn of(entry: &Entry) -> Self {
        Self {
            user_id: entry.key_text(0).unwrap_or_default().to_owned(),
            unique_ips: entry.number(0) as u64,
            total_ips: entry.number(1) as u64,
        }
    }
}

/// The counts of an aggregate with one dimension, by its value.
pub fn by_name(entries: Vec<Entry>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        *counts.entry(entry.key_text(0).unwrap_or_default().to_owned()).or_default() += entry.number(0) as u64;
    }
    counts
}

/// The counts of an aggregate with one dimension and buckets of an hour, by hour and then by value, for so many of the
/// latest hours. Partitions keep as many hours each, but not the same ones.
pub fn latest_hours(entries: Vec<Entry>, hours: usize) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut by_hour: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        by_hour.entry(entry.bucket.unwrap_or_default()).or_default().push(entry);
    }
    let latest = by_hour.into_iter().rev().take(hours);
    latest
        .filter_map(|(hour, entries)| Some((Rfc3339::from_epoch_seconds(hour)?.to_string(), by_name(entries))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use loginscope_plugin::testing::{bucket_entry, entry};

    #[test]
    fn counts_are_sorted_by_the_bytes_of_their_names() {
        let counts = by_name(vec![entry(["ios"], [3]), entry(["é"], [1]), entry(["Zx"], [2]), entry(["ios"], [4])]);
        let counts: Vec<_> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(counts, [("Zx", 2), ("ios", 7), ("é", 1)]);
    }

    #[test]
    fn only_the_latest_hours_are_told_when_partitions_keep_different_ones() {
        let entries = (0..30).rev().map(|hour| bucket_entry(hour * 3600, ["ios"], [hour])).collect();
        let hours = latest_hours(entries, 24);
        assert_eq!(hours.len(), 24);
        assert_eq!(hours.first_key_value().unwrap().0, "1970-01-01T06:00:00Z");
        assert_eq!(hours["1970-01-02T05:00:00Z"]["ios"], 29);
    }
}
