//! Totals of all partitions: what each tells about itself comes together as if one had seen all logins.

use std::sync::Arc;

use crate::support::listed::listed;
use crate::support::model::Model;
use crate::support::{DefinitionExt, Login, batch, count, distinct, latest, schema, top};
use loginscope_state::{Catalog, Definition, Partition, PartitionTotals, Period, Reader, Retention, Scalar, Summary};
use proptest::prelude::*;

fn partition(definitions: &[Definition], logins: &[Login]) -> Partition {
    let catalog = Catalog::new(&[("watcher".to_owned(), definitions.to_vec())], schema()).unwrap();
    let mut partition = Partition::new(Arc::new(catalog), 1000);
    if !logins.is_empty() {
        partition.observe(&batch(logins));
    }
    partition
}

/// What a partition's totals are after having been sent somewhere.
fn sent(partition: &mut Partition) -> PartitionTotals {
    PartitionTotals::from_bytes(&partition.totals(true).to_bytes()).unwrap()
}

fn login() -> impl Strategy<Value = (usize, Login)> {
    (0..12_usize, 0..6_u8, 0..4_u8, 0..100_i64).prop_map(|(user, ip, device, time)| {
        let login = Login::new(0).text("user_id", &format!("user {user}")).text("ip", &format!("10.0.0.{ip}"));
        let login = login.text("device_type", ["ios", "android", "web", "tv"][usize::from(device)]);
        // All logins of a user are in one partition.
        (user % 3, login.time(time))
    })
}

fn declarations() -> Vec<Definition> {
    vec![
        count("logins", &["user_id"]),
        distinct("ips", &["ip"], &["user_id"]),
        count("devices", &["device_type"]).limit(100),
        count("hours", &["device_type"]).limit(100).buckets(10, Retention::Latest(3)),
        distinct("users-by-hour", &["user_id"], &[]).buckets(10, Retention::Latest(4)),
        distinct("users", &["user_id"], &["device_type"]).limit(100),
        top("top", &["ips", "logins"], 4),
        count("window", &[]).window(),
    ]
}

proptest! {
    #[test]
    fn partitions_together_say_what_one_with_all_logins_would_say(logins in prop::collection::vec(login(), 0..60)) {
        let definitions = declarations();
        let mut all: [Vec<Login>; 3] = Default::default();
        for ((place, login), offset) in logins.into_iter().zip(0..) {
            all[place].push(Login { offset, ..login });
        }
        let mut model = Model::new(&[("watcher".to_owned(), definitions.clone())]);
        model.logins = all.concat();
        let mut partitions = all.each_ref().map(|logins| partition(&definitions, logins));
        let others = [sent(&mut partitions[1]), sent(&mut partitions[2])];
        let reader = Reader::new(&partitions[0], "watcher", &others);
        for definition in &definitions {
            let name = definition.name.as_str();
            let expected = model.entries("watcher", name, Period::Current);
            if name == "window" {
                prop_assert_eq!(reader.summarize(name, Period::Current).unwrap().sum, all[0].len() as u64);
                continue;
            }
            if definition.by.iter().all(|by| by.limit.is_some()) {
                prop_assert_eq!(&listed(&reader, name, Period::Current).unwrap(), &expected, "{}", name);
            }
            if name != "top" {
                let sum = expected.iter().map(|entry| match entry.values[0] {
                    Scalar::Integer(value) => value as u64,
                    _ => 0,
                });
                let summary = Summary { keys: expected.len() as u64, sum: sum.sum(), approximate: false };
                prop_assert_eq!(reader.summarize(name, Period::Current).unwrap(), summary, "{}", name);
            }
        }
    }
}

fn on(offset: i64, ip: &str) -> Login {
    Login::new(offset).text("user_id", &format!("user {offset}")).text("ip", ip).text("device_type", "ios")
}

#[test]
fn what_several_partitions_may_both_have_counted_is_approximate() {
    let definitions = [
        distinct("ips", &["ip"], &[]),
        distinct("ips-by-device", &["ip"], &["device_type"]).limit(9),
        count("by-ip", &["ip"]),
        distinct("users-by-ip", &["user_id"], &["ip"]),
        distinct("users", &["user_id"], &[]),
        distinct("ips-by-user", &["ip"], &["user_id"]),
        count("by-device", &["device_type"]).limit(9),
        count("all", &[]),
    ];
    let one = partition(&definitions, &[on(0, "::1")]);
    let others = [sent(&mut partition(&definitions, &[on(1, "::1")])), sent(&mut partition(&definitions, &[]))];
    for definition in &definitions {
        let name = definition.name.as_str();
        let both = Reader::new(&one, "watcher", &others).summarize(name, Period::Current).unwrap();
        let estimated = ["ips", "ips-by-device", "by-ip", "users-by-ip"].contains(&name);
        assert_eq!(both.approximate, estimated, "{name}");
        // What can be listed is made one; of the rest only sums are known.
        let is_made_one = ["ips", "ips-by-device"].contains(&name);
        assert_eq!(both.sum, if is_made_one { 1 } else { 2 }, "{name}");
        // A partition without logins makes nothing uncertain.
        let alone = Reader::new(&one, "watcher", &others[1..]).summarize(name, Period::Current).unwrap();
        assert_eq!((alone.approximate, alone.sum), (false, 1), "{name}");
    }
}

#[test]
fn counts_of_the_same_name_add_up_and_the_latest_login_time_wins() {
    let definitions = [count("devices", &["device_type"]).limit(9), latest("last", &["ip"], &["device_type"]).limit(9)];
    let one = partition(&definitions, &[on(5, "::5").time(100), on(6, "::6").time(90)]);
    let mut other = partition(&definitions, &[on(1, "::1").time(95)]);
    let mut later = partition(&definitions, &[on(1, "::2").time(96), on(2, "::3")]);
    let value = |others: &[PartitionTotals], name| {
        let entries = listed(&Reader::new(&one, "watcher", others), name, Period::Current).unwrap();
        assert_eq!(entries.len(), 1);
        entries[0].values[0].clone()
    };
    assert_eq!(value(&[sent(&mut other)], "devices"), Scalar::Integer(3));
    // Each partition's latest is that of its last login; among those the latest time counts.
    assert_eq!(value(&[], "last"), Scalar::Text("::6".into()));
    assert_eq!(value(&[sent(&mut other)], "last"), Scalar::Text("::1".into()));
    assert_eq!(value(&[sent(&mut later)], "last"), Scalar::Text("::6".into()));
}

#[test]
fn totals_of_another_plugin_or_definition_do_not_count() {
    let one = partition(&[count("a", &[])], &[on(0, "::1")]);
    let mut other = partition(&[count("a", &["user_id"])], &[on(1, "::1")]);
    let others = [sent(&mut other)];
    assert_eq!(Reader::new(&one, "watcher", &others).summarize("a", Period::Current).unwrap().sum, 1);
    assert_eq!(others[0].last_accepted_offset, Some(1));
}
