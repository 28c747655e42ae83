//! What is promised of sets that are too large to be kept, or that several partitions have a part of.

use std::sync::Arc;

use crate::support::listed::listed;
use crate::support::{DefinitionExt, Login, batch, count, distinct, schema, top};
use loginscope_state::{
    Catalog, Definition, Entry, Partition, PartitionTotals, Period, Reader, Replica, Scalar, SnapshotCursor, Summary,
};
use proptest::prelude::*;

/// The standard error of an estimate at full precision, 1.04 / √16384.
const STANDARD_ERROR: f64 = 0.008_125;

fn partition(definitions: &[Definition], exact_distinct: u64) -> Partition {
    let plugins = [("watcher".to_owned(), definitions.to_vec())];
    let catalog = Catalog::new(&plugins, schema()).unwrap().with_exact_distinct(exact_distinct);
    Partition::new(Arc::new(catalog), u32::MAX)
}

/// A login from the address with this number.
fn from(number: u32, device_type: &str) -> Login {
    let login = Login::new(i64::from(number)).text("ip", &std::net::Ipv4Addr::from(number).to_string());
    login.text("user_id", &format!("user {number}")).text("device_type", device_type)
}

fn observe(partition: &mut Partition, numbers: std::ops::Range<u32>, device_type: &str) {
    partition.observe(&batch(&numbers.map(|number| from(number, device_type)).collect::<Vec<_>>()));
}

fn summary(partition: &Partition, others: &[PartitionTotals], name: &str) -> Summary {
    Reader::new(partition, "watcher", others).summarize(name, Period::Current).unwrap()
}

fn entries(partition: &Partition, others: &[PartitionTotals], name: &str) -> Vec<Entry> {
    listed(&Reader::new(partition, "watcher", others), name, Period::Current).unwrap()
}

/// The totals of a partition among others, after having been sent somewhere.
fn sent(partition: &mut Partition) -> PartitionTotals {
    PartitionTotals::from_bytes(&partition.totals(true).to_bytes()).unwrap()
}

fn assert_near(estimate: u64, truth: u64, standard_error: f64) {
    let errors = (estimate as f64 / truth as f64 - 1.0) / standard_error;
    assert!(errors.abs() < 3.0, "{estimate} for {truth}: {errors} standard errors");
}

#[test]
fn different_values_are_counted_exactly_up_to_the_limit_and_nearly_so_beyond() {
    let mut partition = partition(&[distinct("ips", &["ip"], &[]), count("logins", &[])], 1000);
    observe(&mut partition, 0..1000, "ios");
    assert_eq!(summary(&partition, &[], "ips"), Summary { keys: 1, sum: 1000, approximate: false });
    let mut before = 1000;
    for step in 1..100 {
        observe(&mut partition, step * 1000..(step + 1) * 1000, "ios");
        let Summary { keys, sum, approximate } = summary(&partition, &[], "ips");
        assert!(keys == 1 && approximate && sum >= before, "{sum} after {before}");
        assert_near(sum, u64::from(step + 1) * 1000, STANDARD_ERROR);
        before = sum;
        // The same ones again add nothing.
        observe(&mut partition, step * 1000..step * 1000 + 10, "ios");
        assert_eq!(summary(&partition, &[], "ips").sum, sum);
    }
    assert!(!summary(&partition, &[], "logins").approximate);
}

#[test]
fn a_ranking_and_the_sum_follow_what_is_estimated() {
    let definitions = [distinct("ips", &["ip"], &["device_type"]).limit(9), top("top", &["ips"], 2)];
    let mut partition = partition(&definitions, 500);
    for (device_type, numbers) in [("few", 0..400), ("many", 1000..3000), ("more", 5000..9000)] {
        observe(&mut partition, numbers, device_type);
    }
    let listed = entries(&partition, &[], "ips");
    let number = |entry: &Entry| match entry.values[0] {
        Scalar::Integer(number) => number as u64,
        _ => unreachable!(),
    };
    assert_eq!(number(&listed[0]), 400);
    assert_near(number(&listed[1]), 2000, STANDARD_ERROR);
    assert_near(number(&listed[2]), 4000, STANDARD_ERROR);
    assert_eq!(summary(&partition, &[], "ips").sum, listed.iter().map(number).sum::<u64>());
    let ranked = entries(&partition, &[], "top");
    assert_eq!([&ranked[0].key, &ranked[1].key], [&listed[2].key, &listed[1].key]);
    assert_eq!([&ranked[0].values, &ranked[1].values], [&listed[2].values, &listed[1].values]);
}

#[derive(Clone, Debug)]
enum Step {
    Observe(u32),
    /// Other partitions are told, so that sketches are kept up from then on.
    Tell,
    Savepoint,
    Rollback,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..200_u32).prop_map(Step::Observe),
        1 => Just(Step::Tell),
        2 => Just(Step::Savepoint),
        2 => Just(Step::Rollback),
    ]
}

proptest! {
    #[test]
    fn what_is_taken_back_leaves_no_trace_in_a_sketch(
        steps in prop::collection::vec(step(), 1..30), exact_distinct in prop_oneof![1..900_u64, Just(u64::MAX)],
    ) {
        let definitions = [distinct("ips", &["ip"], &[]), distinct("by-device", &["ip"], &["device_type"]).limit(9)];
        let mut partition = partition(&definitions, exact_distinct);
        let mut savepoints = Vec::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Observe(how_many) => {
                    observe(&mut partition, next..next + how_many, ["ios", "android"][next as usize % 2]);
                    next += how_many;
                }
                Step::Tell => drop(partition.totals(true)),
                Step::Savepoint => {
                    savepoints.push((partition.to_bytes(), partition.totals(true)));
                    partition.savepoint();
                }
                Step::Rollback => {
                    partition.rollback();
                    if let Some((bytes, totals)) = savepoints.pop() {
                        prop_assert!(partition.to_bytes() == bytes);
                        prop_assert!(partition.totals(true) == totals);
                    }
                }
            }
            // One that is restored makes its sketches anew.
            let mut restored = Partition::from_bytes(&partition.to_bytes(), Arc::clone(partition.catalog())).unwrap();
            prop_assert!(restored.to_bytes() == partition.to_bytes());
            prop_assert!(restored.totals(true) == partition.totals(true));
        }
    }
}

/// Writes a commit, and a slice of a snapshot with it; a replica reads them.
fn commit(partition: &mut Partition, replica: &mut Replica, cursor: &mut Option<SnapshotCursor>) -> (usize, usize) {
    let mut records: Vec<Vec<u8>> = partition.delta().into_iter().collect();
    let delta = records.iter().map(Vec::len).sum();
    if let Some(at) = *cursor {
        let slice = partition.slice(&at, 10_000).unwrap();
        records.push(slice.record);
        *cursor = slice.next;
    }
    partition.end_interval().unwrap();
    partition.begin_interval();
    for record in &records {
        replica.apply(record).unwrap();
    }
    (delta, records.last().map_or(0, Vec::len))
}

#[test]
fn a_set_that_is_given_up_for_an_estimate_between_two_parts_of_it_is_restored_exactly() {
    let by_user = distinct("pairs", &["user_id", "ip"], &[]);
    let definitions = [distinct("ips", &["ip"], &[]), count("logins", &[]), by_user];
    let mut partition = partition(&definitions, 30_000);
    partition.begin_interval();
    observe(&mut partition, 0..29_000, "ios");
    let (mut replica, mut cursor) = (Replica::default(), Some(SnapshotCursor::default()));
    let (mut slices, mut estimated_at) = (0, 0);
    while cursor.is_some() {
        commit(&mut partition, &mut replica, &mut cursor);
        slices += 1;
        if slices <= 10 {
            observe(&mut partition, 29_000 + slices * 200..29_200 + slices * 200, "ios");
        }
        if estimated_at == 0 && summary(&partition, &[], "ips").approximate {
            estimated_at = slices;
        }
    }
    assert!((2..slices).contains(&estimated_at), "{estimated_at} of {slices}");
    commit(&mut partition, &mut replica, &mut cursor);
    let restored = replica.into_partition(Arc::clone(partition.catalog())).unwrap();
    assert!(restored.to_bytes() == partition.to_bytes());
}

#[test]
fn a_delta_has_only_the_registers_that_were_raised() {
    let mut partition = partition(&[distinct("ips", &["ip"], &[])], 2000);
    partition.begin_interval();
    let (mut replica, mut cursor) = (Replica::default(), Some(SnapshotCursor::default()));
    observe(&mut partition, 0..2000, "ios");
    commit(&mut partition, &mut replica, &mut cursor);
    observe(&mut partition, 2000..40_000, "ios");
    let (crossing, _) = commit(&mut partition, &mut replica, &mut cursor);
    observe(&mut partition, 40_000..40_100, "ios");
    let (few, _) = commit(&mut partition, &mut replica, &mut cursor);
    let (_, slice) = commit(&mut partition, &mut replica, &mut Some(SnapshotCursor::default()));
    eprintln!("crossing: {crossing}, 100 logins: {few}, in a snapshot: {slice}");
    assert!(crossing < 25_000 && few < 300 && slice < 25_000, "{crossing} {few} {slice}");
    let restored = replica.into_partition(Arc::clone(partition.catalog())).unwrap();
    assert!(restored.to_bytes() == partition.to_bytes());
    assert_eq!(summary(&restored, &[], "ips"), summary(&partition, &[], "ips"));
}

#[test]
fn an_aborted_interval_gives_back_the_members_that_were_given_up_in_it() {
    let mut partition = partition(&[distinct("ips", &["ip"], &[])], 100);
    observe(&mut partition, 0..100, "ios");
    let before = partition.to_bytes();
    partition.begin_interval();
    observe(&mut partition, 50..5000, "ios");
    assert!(partition.delta().is_some());
    assert!(summary(&partition, &[], "ips").approximate);
    partition.abort_interval();
    assert!(partition.to_bytes() == before);
    assert_eq!(summary(&partition, &[], "ips"), Summary { keys: 1, sum: 100, approximate: false });
}

#[test]
fn what_two_partitions_both_have_counts_once() {
    let by_device = distinct("by-device", &["ip"], &["device_type"]).limit(9);
    let definitions = [distinct("ips", &["ip"], &[]), by_device, distinct("users", &["user_id"], &[])];
    for exact_distinct in [500, Catalog::EXACT_DISTINCT] {
        let (mut one, mut other) = (partition(&definitions, exact_distinct), partition(&definitions, exact_distinct));
        observe(&mut one, 0..3000, "ios");
        observe(&mut other, 2000..6000, "ios");
        observe(&mut other, 2000..2010, "web");
        let others = [sent(&mut other)];
        for name in ["ips", "by-device"] {
            let Summary { sum, approximate, .. } = summary(&one, &others, name);
            assert!(approximate, "{name}");
            let only_there = if name == "ips" { 0 } else { 10 };
            assert_near(sum - only_there, 6000, STANDARD_ERROR);
        }
        // Each user is in one partition, unless the topic turns out not to be keyed.
        let users = |one: &Partition, others: &[PartitionTotals]| summary(one, others, "users");
        if exact_distinct > 500 {
            assert_eq!(users(&one, &others), Summary { keys: 1, sum: 7000, approximate: false });
        }
        other.set_unkeyed(true);
        let others = [sent(&mut other)];
        assert!(users(&one, &others).approximate);
        assert_near(users(&one, &others).sum, 6000, STANDARD_ERROR);
        // Alone, with a partition that has nothing, it says what it has itself.
        let nothing = [sent(&mut partition(&definitions, exact_distinct))];
        for name in ["ips", "by-device", "users"] {
            assert_eq!(summary(&one, &nothing, name), summary(&one, &[], name), "{name}");
        }
    }
}

#[test]
fn the_totals_of_many_large_sets_stay_small_and_are_less_precise() {
    let definitions = [distinct("ips", &["ip"], &["device_type"]).limit(200)];
    let mut partitions = [partition(&definitions, 1000), partition(&definitions, 1000)];
    for (number, partition) in (0..).zip(&mut partitions) {
        for device in 0..200 {
            let begin = device * 10_000 + number * 500;
            observe(partition, begin..begin + 1500, &format!("device {device:03}"));
        }
    }
    let [one, other] = &mut partitions;
    let bytes = other.totals(true).to_bytes();
    assert!(bytes.len() < 256 * 1024, "{}", bytes.len());
    let others = [PartitionTotals::from_bytes(&bytes).unwrap()];
    let (mut squares, precision) = (0.0, 1.04 / 512_f64.sqrt());
    let united = entries(one, &others, "ips");
    for entry in &united {
        let Scalar::Integer(number) = entry.values[0] else { unreachable!() };
        squares += ((number as f64 / 2000.0 - 1.0) / precision).powi(2);
    }
    assert_eq!(united.len(), 200);
    assert!((squares / 200.0).sqrt() < 1.2, "{squares}");
}
