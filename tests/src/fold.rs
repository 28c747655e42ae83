//! What insights must say, worked out from the accepted logins alone, in another way than the host does it.
//!
//! Accepted logins need to tell where they came from (`source_headers`), and the topic has to be keyed by user, who may move to another
//! partition only between what is past and the rest.

use std::collections::{BTreeMap, BTreeSet};

use loginscope_kafka::OwnedRecord;
use serde_json::{Map, Value, json};

use crate::kafka::header;

/// An accepted login.
struct Login {
    offset: i64,
    /// Whether it counts in all totals, whatever they are as of.
    is_past: bool,
    user: String,
    ip: String,
    device_type: String,
    hour: String,
}

/// The accepted logins of each partition in offset order, and by what they count as.
#[derive(Default)]
pub struct Fold {
    logins: BTreeMap<i32, Vec<Login>>,
    /// By partition and what is counted: the offsets where that went up by one.
    counted: BTreeMap<(i32, Counted), Vec<i64>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Logins,
    Users,
    UserIps,
    DeviceType(String),
    Hour(String, String),
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().expect("a text").to_owned()
}

impl Fold {
    /// The accepted logins, each once. Along the way, each says how many of its user came before it.
    ///
    /// # Panics
    /// What a login says of its user's past is wrong, or it is there twice.
    pub fn new(processed: &[OwnedRecord]) -> Self {
        Self::after(&[], processed)
    }

    /// The same behind logins that are past: all totals count them.
    ///
    /// # Panics
    /// As [`Fold::new`].
    pub fn after(past: &[OwnedRecord], processed: &[OwnedRecord]) -> Self {
        let mut by_place = BTreeMap::new();
        for (is_past, record) in past.iter().map(|record| (true, record)).chain(processed.iter().map(|it| (false, it)))
        {
            let number = |name| header(record, name).expect("a source").parse::<i64>().expect("a number");
            let place = (number("loginscope-source-partition") as i32, number("loginscope-source-offset"));
            let login: Value = serde_json::from_slice(record.payload.as_ref().expect("a value")).expect("JSON");
            assert!(by_place.insert((!is_past, place), login).is_none(), "{place:?} was accepted twice");
        }
        let mut fold = Self::default();
        let mut past: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
        for ((is_present, (partition, offset)), value) in by_place {
            let login = Login {
                offset,
                is_past: !is_present,
                user: text(&value, "user_id"),
                ip: text(&value, "ip"),
                device_type: text(&value, "device_type"),
                hour: text(&value, "login_hour"),
            };
            let (logins, ips) = past.entry(login.user.clone()).or_default();
            *logins += 1;
            let is_new_ip = ips.insert(login.ip.clone());
            let said = (&value["user_logins"], &value["user_unique_ips"]);
            assert_eq!(
                said,
                (&json!(*logins), &json!(ips.len())),
                "the past of {} at {partition}/{offset}",
                login.user
            );
            let from = if login.is_past { i64::MIN } else { offset };
            let mut count = |counted| fold.counted.entry((partition, counted)).or_default().push(from);
            count(Counted::Logins);
            count(Counted::DeviceType(login.device_type.clone()));
            count(Counted::Hour(login.hour.clone(), login.device_type.clone()));
            if *logins == 1 {
                count(Counted::Users);
            }
            if is_new_ip {
                count(Counted::UserIps);
            }
            fold.logins.entry(partition).or_default().push(login);
        }
        fold
    }

    /// Each partition has its windows, each once, in order and with the right content, and totals are right as of what they say.
    ///
    /// # Panics
    /// They aren't.
    pub fn check(&self, insights: &[OwnedRecord], every: usize) {
        let mut windows: BTreeMap<i32, Vec<Value>> = BTreeMap::new();
        for record in insights {
            let insight: Value = serde_json::from_slice(record.payload.as_ref().expect("a value")).expect("JSON");
            windows.entry(insight["window"]["partition"].as_i64().expect("a number") as i32).or_default().push(insight);
        }
        for (partition, logins) in &self.logins {
            let windows = windows.remove(partition).unwrap_or_default();
            let numbers: Vec<u64> =
                windows.iter().map(|it| it["window"]["number"].as_u64().expect("a number")).collect();
            let expected: Vec<u64> = (1..=(logins.len() / every) as u64).collect();
            assert_eq!(numbers, expected, "windows of partition {partition}");
            for (insight, logins) in windows.iter().zip(logins.chunks_exact(every)) {
                check_window(insight, logins);
            }
            let sampled = windows.len().div_ceil(8).max(1);
            // Of what was said in the past, the past says whether that was right.
            let is_past =
                |(place, _): &(usize, &Value)| logins.get((place + 1) * every - 1).is_some_and(|it| it.is_past);
            for (place, insight) in windows.iter().enumerate().skip_while(is_past) {
                self.check_totals(insight, place % sampled == sampled - 1 || place + 1 == windows.len());
            }
        }
        assert!(windows.is_empty(), "there are windows of partitions without logins");
    }

    fn check_totals(&self, insight: &Value, with_users: bool) {
        let id = &insight["id"];
        let as_of: BTreeMap<i32, i64> = insight["as_of"]
            .as_object()
            .expect("an object")
            .iter()
            .map(|(partition, offset)| (partition.parse().expect("a number"), offset.as_i64().expect("a number")))
            .collect();
        let window = &insight["window"];
        let own = window["partition"].as_i64().expect("a number") as i32;
        assert_eq!(json!(as_of[&own]), window["last_offset"], "{id}");
        let mut counts: BTreeMap<&Counted, u64> = BTreeMap::new();
        for ((partition, counted), offsets) in &self.counted {
            let as_of = as_of.get(partition).copied().unwrap_or(-1);
            let count = offsets.partition_point(|offset| *offset <= as_of);
            *counts.entry(counted).or_default() += count as u64;
        }
        let count = |counted| counts.get(&counted).copied().unwrap_or_default();
        let totals = &insight["data"]["totals"];
        assert_eq!(totals["logins"], json!(count(Counted::Logins)), "{id}");
        assert_eq!(totals["users"], json!(count(Counted::Users)), "{id}");
        let (mut device_types, mut hours) = (Map::new(), BTreeMap::<&str, Map<String, Value>>::new());
        for (counted, count) in counts.iter().filter(|(_, count)| **count > 0) {
            match counted {
                Counted::DeviceType(name) => drop(device_types.insert(name.clone(), json!(count))),
                Counted::Hour(hour, name) => {
                    hours.entry(hour.as_str()).or_default().insert(name.clone(), json!(count));
                }
                Counted::Logins | Counted::Users | Counted::UserIps => {}
            }
        }
        let hours: Map<String, Value> =
            hours.into_iter().rev().take(24).map(|(hour, counts)| (hour.to_owned(), Value::Object(counts))).collect();
        assert_eq!(totals["logins_by_device_type"], Value::Object(device_types), "{id}");
        assert_eq!(totals["logins_by_device_type_per_hour"], Value::Object(hours), "{id}");
        let users = &insight["data"]["users"];
        let average = count(Counted::UserIps) as f64 / count(Counted::Users) as f64;
        let said = users["average_unique_ips"].as_f64().expect("a number");
        // Rounded to 4 decimals, on a tie either way.
        assert!((said - average).abs() < 0.000_050_01, "{id}: {said} is not {average}");
        if with_users {
            assert_eq!(users["most_unique_ips"], self.most_unique_ips(&as_of), "{id}");
        }
    }

    fn most_unique_ips(&self, as_of: &BTreeMap<i32, i64>) -> Value {
        let mut users: BTreeMap<&str, (BTreeSet<&str>, u64)> = BTreeMap::new();
        for (partition, logins) in &self.logins {
            let as_of = as_of.get(partition).copied().unwrap_or(-1);
            for login in logins.iter().take_while(|login| login.is_past || login.offset <= as_of) {
                let (ips, logins) = users.entry(&login.user).or_default();
                ips.insert(&login.ip);
                *logins += 1;
            }
        }
        let mut users: Vec<_> = users.into_iter().map(|(user, (ips, logins))| (ips.len(), logins, user)).collect();
        users.sort_by(|left, right| (right.0, right.1).cmp(&(left.0, left.1)).then(left.2.cmp(right.2)));
        let shown = |(ips, logins, user): &(usize, u64, &str)| json!({ "user_id": user, "unique_ips": ips, "total_ips": logins });
        users.iter().take(10).map(shown).collect()
    }
}

fn check_window(insight: &Value, logins: &[Login]) {
    let (id, window) = (&insight["id"], &insight["window"]);
    let (first, last) = (logins.first().expect("a login").offset, logins.last().expect("a login").offset);
    assert_eq!((&window["first_offset"], &window["last_offset"]), (&json!(first), &json!(last)), "{id}");
    assert_eq!(window["logins"], json!(logins.len()), "{id}");
    let mut device_types = BTreeMap::<&str, u64>::new();
    for login in logins {
        *device_types.entry(&login.device_type).or_default() += 1;
    }
    let users: BTreeSet<&str> = logins.iter().map(|login| login.user.as_str()).collect();
    let ips: BTreeSet<&str> = logins.iter().map(|login| login.ip.as_str()).collect();
    let said = &insight["data"]["in_window"];
    assert_eq!(said["logins_by_device_type"], json!(device_types), "{id}");
    assert_eq!((&said["unique_users"], &said["unique_ips"]), (&json!(users.len()), &json!(ips.len())), "{id}");
}
