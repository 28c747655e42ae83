//! What an operator's commands need: forgetting a person, a changelog that begins anew, and a partition that was counted anew.

use std::sync::Arc;

use crate::support::listed::listed;
use crate::support::{DefinitionExt, Login, batch, count, distinct, latest, schema, top};
use loginscope_state::{
    Catalog, CommitHead, Definition, Follower, NotInDelta, Partition, Period, Reader, Retention, Term, Writer,
};
use proptest::prelude::*;

const WRITER: Writer = Writer { id: 7, max_bytes: 200 };

/// Everything that may name a user, and what doesn't.
fn definitions() -> Vec<Definition> {
    vec![
        count("user-logins", &["user_id"]),
        distinct("user-ips", &["ip"], &["user_id"]),
        latest("user-last", &["ip", "device_type"], &["user_id"]),
        top("busiest", &["user-ips", "user-logins"], 3),
        distinct("users", &["user_id"], &[]),
        distinct("users-of-ip", &["user_id"], &["ip"]),
        distinct("pairs", &["ip", "user_id"], &["device_type"]),
        latest("last-of-ip", &["device_type", "user_id"], &["ip"]),
        count("by-hour", &["device_type", "user_id"]).buckets(10, Retention::Latest(3)),
        count("recent", &["user_id"]).buckets(10, Retention::Seconds(25)),
        distinct("window-users", &["user_id"], &[]).window(),
        count("window-logins", &["user_id"]).window(),
    ]
}

fn nameless() -> Vec<Definition> {
    vec![
        count("logins", &[]),
        count("by-device", &["device_type"]).limit(2),
        count("window-devices", &["device_type"]).window(),
    ]
}

fn catalog() -> Arc<Catalog> {
    let all = [definitions(), nameless()].concat();
    Arc::new(Catalog::new(&[("watcher".to_owned(), all)], schema()).unwrap())
}

fn login() -> impl Strategy<Value = Login> {
    let user = prop_oneof![
        (0..5_u8).prop_map(|user| format!("user{user}")),
        Just("424cdd21-063a-43a7-b91b-7ca1a833afae".to_owned()),
    ];
    (user, 0..6_u8, 0..3_u8, 0..90_i64).prop_map(|(user, ip, device, time)| {
        let login = Login::new(0).text("user_id", &user).text("ip", &format!("10.0.0.{ip}")).time(1_700_000_000 + time);
        login.text("device_type", ["ios", "android", "web"][usize::from(device)])
    })
}

fn observe(partition: &mut Partition, logins: &[Login]) {
    for (offset, login) in (0..).zip(logins) {
        partition.observe(&batch(&[Login { offset, ..login.clone() }]));
        partition.begin_next_window();
    }
}

fn counted(logins: &[Login], insight_every: u32) -> Partition {
    let mut partition = Partition::new(catalog(), insight_every);
    observe(&mut partition, logins);
    partition
}

/// All that some aggregates tell, of both windows.
fn read(partition: &Partition, definitions: &[Definition], periods: &[Period]) -> String {
    let reader = Reader::new(partition, "watcher", []);
    let of = |definition: &Definition, period| {
        let name = &definition.name;
        format!("{name}: {:?} {:?}\n", reader.summarize(name, period).ok(), listed(&reader, name, period).ok())
    };
    let all = definitions.iter().flat_map(|definition| periods.iter().map(move |period| of(definition, *period)));
    all.collect()
}

const BOTH: [Period; 2] = [Period::Current, Period::Previous];

fn is(user: &str) -> impl Fn(&Login) -> bool {
    move |login| login.shown("user_id") == Some(loginscope_state::Scalar::Text(user.to_owned()))
}

/// The changelog that begins anew with a partition, behind what was there before.
fn write_anew(partition: &mut Partition, term: Term) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let head = CommitHead { next_offset: 40, group_offset: 40, term };
    WRITER
        .anew(&head, partition, |message| {
            messages.push(message);
            Ok::<(), NotInDelta>(())
        })
        .unwrap();
    messages
}

fn restored(messages: &[Vec<u8>]) -> Partition {
    let mut follower = Follower::default();
    for (offset, message) in (0..).zip(messages) {
        follower.read(offset, message).unwrap();
    }
    follower.finish(catalog()).unwrap().unwrap().partition
}

proptest! {
    /// Latest values of others are theirs even so: a user's last place is gone, not replaced by what was there before.
    #[test]
    fn who_is_forgotten_is_in_no_aggregate_and_all_others_are_as_if_there_had_been_nobody_else(
        logins in prop::collection::vec(login(), 0..40),
        at in 0..6_usize,
    ) {
        let users = ["user0", "user1", "user2", "user3", "nobody", "424cdd21-063a-43a7-b91b-7ca1a833afae"];
        let user = users[at];
        let mut partition = counted(&logins, 1_000);
        let before = read(&partition, &nameless(), &BOTH);
        let forgotten = partition.forget(user);
        prop_assert_eq!(forgotten.is_empty(), !logins.iter().any(is(user)));
        let others: Vec<Login> = logins.iter().filter(|login| !is(user)(login)).cloned().collect();
        // Which buckets are the latest, and which the last login of an address was, was decided with the user.
        let exact: Vec<Definition> = definitions()
            .into_iter()
            .filter(|definition| !["by-hour", "recent", "last-of-ip"].contains(&definition.name.as_str()))
            .collect();
        prop_assert_eq!(read(&partition, &exact, &[Period::Current]), read(&counted(&others, 1_000), &exact, &[Period::Current]));
        prop_assert_eq!(read(&partition, &nameless(), &BOTH), before, "sums without a name stay");
        let whole = read(&partition, &[definitions(), nameless()].concat(), &BOTH);
        prop_assert!(!whole.contains(&format!("{user:?}")), "{}", whole);
        prop_assert!(partition.forget(user).is_empty(), "once is enough");
        // What is left is written, read again and counted on with as ever.
        let bytes = partition.to_bytes();
        let name = user.as_bytes();
        prop_assert!(!bytes.windows(name.len()).any(|part| part == name));
        let mut again = restored(&write_anew(&mut partition, Term::default()));
        prop_assert_eq!(read(&again, &definitions(), &BOTH), read(&partition, &definitions(), &BOTH));
        for counting in [&mut again, &mut partition] {
            observe(counting, &logins);
        }
        prop_assert_eq!(read(&again, &definitions(), &BOTH), read(&partition, &definitions(), &BOTH));
    }

    #[test]
    fn who_is_forgotten_is_in_no_window_and_no_bucket_either(logins in prop::collection::vec(login(), 1..40)) {
        let mut partition = counted(&logins, 7);
        partition.forget("user1");
        prop_assert!(!read(&partition, &definitions(), &BOTH).contains("\"user1\""));
        prop_assert_eq!(partition.window_progress(), counted(&logins, 7).window_progress());
    }

    #[test]
    fn a_changelog_that_begins_anew_tells_nothing_of_what_came_before(
        old in prop::collection::vec(login(), 1..30),
        new in prop::collection::vec(login(), 0..30),
    ) {
        let (mut old, mut new) = (counted(&old, 5), counted(&new, 5));
        let before = write_anew(&mut old, Term { era: 0, generation: 9 });
        let anew = write_anew(&mut new, Term { era: 0, generation: 9 }.after(2));
        let late = write_anew(&mut old, Term { era: 0, generation: 9 });
        let expected = read(&new, &definitions(), &BOTH);
        let all = [before.clone(), anew.clone(), late].concat();
        prop_assert_eq!(read(&restored(&all), &definitions(), &BOTH), expected.clone(), "nor of who came too late");
        prop_assert_eq!(read(&restored(&anew), &definitions(), &BOTH), expected, "and needs nothing of it");
        prop_assert_eq!(restored(&all).window_progress(), new.window_progress());
    }

    /// The windows are those of a partition's own logins, the totals those of its users.
    #[test]
    fn totals_and_windows_that_were_counted_apart_go_together(
        own in prop::collection::vec(login(), 0..40),
        users in prop::collection::vec(login(), 0..40),
        next in prop::collection::vec(login(), 0..12),
    ) {
        let mut all = [definitions(), nameless()].concat();
        // The latest login of either says which of these buckets may still be seen.
        all.retain(|definition| definition.name != "recent");
        let (windowed, total): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|definition| definition.span == loginscope_state::Span::Window);
        let windows = counted(&own, 5);
        let mut rebuilt = windows.emptied();
        observe(&mut rebuilt, &users);
        let expected = (read(&windows, &windowed, &BOTH), read(&rebuilt, &total, &[Period::Current]));
        let (progress, last) = (windows.window_progress(), windows.last_accepted_offset());
        rebuilt.take_windows_of(windows);
        prop_assert_eq!((read(&rebuilt, &windowed, &BOTH), read(&rebuilt, &total, &[Period::Current])), expected);
        prop_assert_eq!((rebuilt.window_progress(), rebuilt.last_accepted_offset()), (progress, last));
        let mut again = restored(&write_anew(&mut rebuilt, Term::default()));
        for counting in [&mut rebuilt, &mut again] {
            observe(counting, &next);
        }
        prop_assert_eq!(read(&again, &windowed, &BOTH), read(&rebuilt, &windowed, &BOTH));
        prop_assert_eq!(read(&again, &total, &BOTH), read(&rebuilt, &total, &BOTH));
    }
}

#[test]
fn a_window_that_is_skipped_to_is_empty_and_has_none_before_it() {
    let login = Login::new(0).text("user_id", "a").text("device_type", "ios").time(1_700_000_000);
    let mut partition = counted(&vec![login; 12], 5);
    let total = read(&partition, &[count("user-logins", &["user_id"])], &BOTH);
    partition.skip_to_window(9, Some(17));
    assert_eq!((partition.window_progress().number, partition.window_progress().logins), (9, 0));
    let windows = read(&partition, &[count("window-logins", &["user_id"]).window()], &BOTH);
    assert!(windows.contains("sum: 0") && !windows.contains("\"a\""), "{windows}");
    assert_eq!(read(&partition, &[count("user-logins", &["user_id"])], &BOTH), total);
    assert_eq!(partition.last_accepted_offset(), Some(17));
}
