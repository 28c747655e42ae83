//! What commit intervals, deltas and snapshots promise.

use std::sync::Arc;

use crate::support::{DefinitionExt, Login, batch, count, distinct, latest, schema, top};
use loginscope_state::{Catalog, Definition, NotInDelta, Partition, Replica, RestoreError, Retention, SnapshotCursor};

fn watcher(definitions: &[Definition]) -> Arc<Catalog> {
    Arc::new(Catalog::new(&[("watcher".to_owned(), definitions.to_vec())], schema()).unwrap())
}

fn by(offset: i64, user: &str) -> Login {
    Login::new(offset).text("user_id", user).text("ip", &format!("10.0.0.{offset}"))
}

fn open(definitions: &[Definition]) -> Partition {
    let mut partition = Partition::new(watcher(definitions), 100);
    partition.begin_interval();
    partition
}

#[test]
fn an_interval_without_changes_has_no_delta() {
    let mut partition = open(&[count("logins", &[])]);
    assert!(partition.delta().is_some(), "a changelog begins with what is kept where");
    partition.end_interval().unwrap();
    partition.begin_interval();
    assert_eq!(partition.delta(), None);
    partition.set_insight_every(7);
    assert!(partition.delta().is_some());
    partition.abort_interval();
    assert!(partition.delta().is_some(), "an abort doesn't take that back, so it is still to be written");
    partition.end_interval().unwrap();
    partition.begin_interval();
    partition.savepoint();
    partition.observe(&batch(&[by(1, "ann")]));
    partition.rollback();
    assert_eq!(partition.delta(), None);
    partition.count_rejected(1);
    assert!(partition.delta().is_some());
}

#[test]
fn what_changes_after_the_delta_is_noticed() {
    let mut partition = open(&[count("logins", &[])]);
    assert_eq!(partition.end_interval(), Err(NotInDelta), "no delta was taken");
    partition.begin_interval();
    assert!(partition.delta().is_some());
    partition.observe(&batch(&[by(1, "ann")]));
    assert_eq!(partition.slice(&SnapshotCursor::default(), 1000), Err(NotInDelta));
    assert_eq!(partition.end_interval(), Err(NotInDelta));
}

#[test]
fn savepoints_do_not_reach_beyond_the_interval() {
    let mut partition = open(&[count("logins", &["user_id"])]);
    partition.observe(&batch(&[by(1, "ann")]));
    partition.rollback();
    partition.release();
    assert_eq!(partition.last_accepted_offset(), Some(1));
    partition.savepoint();
    partition.abort_interval();
    assert_eq!(partition.last_accepted_offset(), None);
    partition.observe(&batch(&[by(2, "bob")]));
    partition.abort_interval();
    assert_eq!(partition.last_accepted_offset(), None);
}

#[test]
fn a_changelog_whose_snapshot_is_not_complete_is_refused() {
    let definitions = [count("logins", &["user_id"])];
    let mut partition = open(&definitions);
    let users: Vec<Login> = (0..50).map(|offset| by(offset, &format!("user {offset}"))).collect();
    partition.observe(&batch(&users));
    let mut replica = Replica::default();
    replica.apply(&partition.delta().unwrap()).unwrap();
    let slice = partition.slice(&SnapshotCursor::default(), 300).unwrap();
    replica.apply(&slice.record).unwrap();
    assert!(matches!(replica.clone().into_partition(watcher(&definitions)), Err(RestoreError::Damaged(_))));
    // A slice that is left out is noticed, one of an old snapshot without its begin is passed over.
    let second = partition.slice(&slice.next.unwrap(), 100).unwrap();
    let third = partition.slice(&second.next.unwrap(), 100).unwrap();
    assert!(matches!(replica.apply(&third.record), Err(RestoreError::Damaged(_))));
    let mut late = Replica::default();
    late.apply(&second.record).unwrap();
    assert!(!late.is_complete());
}

#[test]
fn slices_have_the_size_that_is_asked_for_and_their_keys_are_cut_nowhere_else() {
    let mut partition = open(&[count("logins", &["user_id"]), distinct("ips", &["ip"], &["user_id"])]);
    partition.set_insight_every(5000);
    let users: Vec<Login> = (0..3000).map(|offset| by(offset % 250, &format!("user {offset}"))).collect();
    partition.observe(&batch(&users));
    assert!(partition.delta().is_some());
    let (mut cursor, mut sizes) = (Some(SnapshotCursor::default()), Vec::new());
    while let Some(at) = cursor {
        let slice = partition.slice(&at, 4096).unwrap();
        sizes.push(slice.record.len());
        cursor = slice.next;
    }
    assert!(sizes.len() > 10);
    assert!(sizes.iter().all(|size| *size < 4096 + 256), "{sizes:?}");
    assert!(sizes[..sizes.len() - 1].iter().all(|size| *size > 3500), "{sizes:?}");
}

#[test]
fn a_large_set_is_written_in_parts_while_it_grows() {
    // Some of the sets become large, and are split, only while the slices are written.
    assert!(slices_of_growing_sets(5000) < 10, "what isn't split yet is written at once");
    assert!(slices_of_growing_sets(15_000) > 20);
}

/// How many slices it takes until a replica has sets that have this many members when the snapshot begins.
fn slices_of_growing_sets(members: u32) -> usize {
    let all = || distinct("pairs", &["user_id", "ip"], &[]);
    let definitions =
        [distinct("ips", &["ip"], &[]), count("logins", &[]), distinct("users", &["user_id"], &[]), all()];
    let mut partition = open(&definitions);
    partition.set_insight_every(u32::MAX);
    let mut next = 0;
    let mut observe = |partition: &mut Partition, how_many: u32| {
        let login = |number: u32| {
            let id = format!("424cdd21-063a-43a7-b91b-7ca1{number:08x}");
            Login::new(i64::from(number)).text("user_id", &id).text("ip", &std::net::Ipv4Addr::from(number).to_string())
        };
        partition.observe(&batch(&(next..next + how_many).map(login).collect::<Vec<_>>()));
        next += how_many;
    };
    observe(&mut partition, members);
    let (mut replica, mut cursor) = (Replica::default(), Some(SnapshotCursor::default()));
    let (mut slices, mut largest) = (0, 0);
    while let Some(at) = cursor {
        let delta = partition.delta().unwrap();
        let slice = partition.slice(&at, 10_000).unwrap();
        partition.end_interval().unwrap();
        partition.begin_interval();
        for record in [&delta, &slice.record] {
            replica.apply(record).unwrap();
        }
        (slices, largest) = (slices + 1, slice.record.len().max(largest));
        cursor = slice.next;
        observe(&mut partition, 500);
    }
    assert!(largest < 400_000, "two parts at most are larger: {largest}");
    replica.apply(&partition.delta().unwrap()).unwrap();
    let restored = replica.into_partition(Arc::clone(partition.catalog())).unwrap();
    assert!(restored.to_bytes() == partition.to_bytes());
    slices
}

/// What the default plugins declare.
fn defaults() -> Vec<Definition> {
    let devices = |name: &str| count(name, &["device_type"]).limit(100);
    vec![
        devices("window_device_types").window(),
        distinct("window_users", &["user_id"], &[]).window(),
        distinct("window_ips", &["ip"], &[]).window(),
        count("logins", &[]),
        count("user_logins", &["user_id"]),
        distinct("user_ips", &["ip"], &["user_id"]),
        top("top_users", &["user_ips", "user_logins"], 10),
        devices("device_types"),
        devices("hourly_device_types").buckets(3600, Retention::Latest(24)),
    ]
}

/// A login of one of so many users, from one of twelve addresses of theirs.
fn usual(offset: i64, users: u64) -> Login {
    let random = (offset as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let user = (random >> 20) % users;
    let id = user.wrapping_mul(0xd6e8_feb8_6659_fd93);
    let address = (user * 12 + (random >> 8) % 12).wrapping_mul(0x9e37_79b1) as u32;
    Login::new(offset)
        .text("user_id", &format!("{:08x}-{:04x}-4a7c-8b1b-{:012x}", id >> 32, id & 0xffff, id >> 16))
        .text("ip", &std::net::Ipv4Addr::from(address).to_string())
        .text("device_type", ["ios", "android", "web"][(random % 3) as usize])
        .time(1_700_000_000 + offset / 50)
}

/// The bytes of the delta, and of one login in it, of so many logins once there have been so many.
fn bytes_a_login(definitions: &[Definition], before: i64, logins: i64, users: u64) -> (usize, f64) {
    let mut partition = open(definitions);
    let observe = |partition: &mut Partition, from: i64, to: i64| {
        for offset in from..to {
            partition.observe(&batch(&[usual(offset, users)]));
            partition.begin_next_window();
        }
    };
    observe(&mut partition, 0, before);
    assert!(partition.delta().is_some());
    partition.end_interval().unwrap();
    partition.begin_interval();
    observe(&mut partition, before, before + logins);
    let bytes = partition.delta().unwrap().len();
    (bytes, bytes as f64 / logins as f64)
}

#[test]
fn a_login_takes_few_bytes_in_a_delta() {
    // Many users are new; or all are known, and so are nearly all of their addresses.
    let (new, known) = (bytes_a_login(&defaults(), 1000, 2000, 4000), bytes_a_login(&defaults(), 20_000, 2000, 2000));
    eprintln!("new users: {new:?}, known users: {known:?}");
    assert!(new.1 < 30.0 && known.1 < 10.0, "{new:?} {known:?}");
    let with_latest = [defaults(), vec![latest("last", &["ip", "device_type"], &["user_id"])]].concat();
    let with_latest = bytes_a_login(&with_latest, 20_000, 2000, 2000);
    eprintln!("with latest: {with_latest:?}");
    assert!(with_latest.1 < 30.0, "{with_latest:?}");
}
