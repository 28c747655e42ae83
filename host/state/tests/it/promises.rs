//! What a partition promises, one line of the contract at a time.

use std::sync::Arc;

use crate::support::listed::listed;
use crate::support::{DefinitionExt, Login, answer, batch, count, distinct, latest, schema, top};
use loginscope_login::Column;
use loginscope_state::{
    Catalog, Definition, Dimension, Entry, HistoryRequest, LookUp, Partition, Period, Reader, RestoreError, Retention,
    Scalar, Summary,
};

fn catalog(definitions: &[Definition]) -> Arc<Catalog> {
    Arc::new(Catalog::new(&[("watcher".to_owned(), definitions.to_vec())], schema()).unwrap())
}

fn partition(definitions: &[Definition]) -> Partition {
    Partition::new(catalog(definitions), 100)
}

fn observe(partition: &mut Partition, logins: &[Login]) {
    for login in logins {
        partition.observe(&batch(std::slice::from_ref(login)));
        partition.begin_next_window();
    }
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

fn shown(entries: &[Entry]) -> Vec<String> {
    let one = |scalar: &Scalar| match scalar {
        Scalar::Text(text) => text.clone(),
        Scalar::Integer(integer) => integer.to_string(),
        Scalar::Number(number) => number.to_string(),
        Scalar::Boolean(boolean) => boolean.to_string(),
    };
    let entry = |entry: &Entry| {
        let bucket = entry.bucket.map(|bucket| format!("{bucket}: ")).unwrap_or_default();
        let key: Vec<String> = entry.key.iter().map(one).collect();
        let values: Vec<String> = entry.values.iter().map(one).collect();
        format!("{bucket}{}={}", key.join("/"), values.join("/"))
    };
    entries.iter().map(entry).collect()
}

fn entries(partition: &Partition, name: &str) -> Vec<String> {
    shown(&listed(&Reader::new(partition, "watcher", []), name, Period::Current).unwrap())
}

fn summary(partition: &Partition, name: &str) -> (u64, u64) {
    let Summary { keys, sum, approximate } =
        Reader::new(partition, "watcher", []).summarize(name, Period::Current).unwrap();
    assert!(!approximate, "one partition knows exactly");
    (keys, sum)
}

fn login(offset: i64) -> Login {
    Login::new(offset)
}

fn ask(partition: &mut Partition, requests: &[HistoryRequest], logins: &[Login]) -> Vec<Vec<Option<Scalar>>> {
    let plan = partition.catalog().plan_history("watcher", requests).unwrap();
    let columns = partition.history(&plan, &batch(logins));
    (0..logins.len()).map(|row| columns.iter().map(|column: &Column| answer(column, row)).collect()).collect()
}

fn request(aggregate: &str, look_up: LookUp, over: Option<u64>) -> HistoryRequest {
    HistoryRequest { aggregate: aggregate.into(), look_up, over }
}

#[test]
fn a_login_that_lacks_a_field_of_the_key_is_not_counted() {
    let mut partition = partition(&[count("a", &["user_id", "ip"]).limit(10)]);
    let whole = login(0).text("user_id", "ann").text("ip", "::1");
    observe(&mut partition, &[whole.clone(), login(1).text("user_id", "ann"), login(2).text("ip", "::1"), whole]);
    assert_eq!(entries(&partition, "a"), ["ann/::1=2"]);
}

#[test]
fn addresses_are_compared_as_addresses_and_shown_in_their_canonical_form() {
    let mut partition =
        partition(&[count("by-ip", &["ip"]).limit(10), distinct("ips", &["ip"], &[]), latest("last", &["ip"], &[])]);
    let texts = ["::ffff:1.2.3.4", "1.2.3.4", "2001:DB8:0:0::1", "2001:db8::1", "1.2.3.4:80"];
    let logins: Vec<Login> = texts.iter().zip(0..).map(|(ip, offset)| login(offset).text("ip", ip)).collect();
    observe(&mut partition, &logins[..4]);
    assert_eq!(entries(&partition, "by-ip"), ["1.2.3.4=2", "2001:db8::1=2"]);
    assert_eq!(entries(&partition, "ips"), ["=2"]);
    assert_eq!(entries(&partition, "last"), ["=2001:db8::1"]);
    // What is no address is compared as the text it is.
    observe(&mut partition, &logins[4..]);
    assert_eq!(entries(&partition, "last"), ["=1.2.3.4:80"]);
    assert_eq!(entries(&partition, "ips"), ["=3"]);
}

#[test]
fn the_first_values_of_a_field_keep_their_names_whatever_filters_and_spans_say() {
    let mut partition = partition(&[
        count("all", &["device_type"]).limit(2),
        count("failures", &["device_type"]).limit(2).only("outcome", &["failure"]),
        count("window", &["device_type"]).limit(2).window(),
        count("roomy", &["device_type"]).limit(3),
    ]);
    let devices = ["web", "ios", "android", "tv", "other"];
    let logins = devices.iter().zip(0..).map(|(device, offset)| {
        login(offset).text("device_type", device).text("outcome", if offset < 2 { "success" } else { "failure" })
    });
    observe(&mut partition, &logins.collect::<Vec<_>>());
    assert_eq!(entries(&partition, "all"), ["ios=1", "other=3", "web=1"]);
    assert_eq!(entries(&partition, "failures"), ["other=3"]);
    assert_eq!(entries(&partition, "window"), ["ios=1", "other=3", "web=1"]);
    assert_eq!(entries(&partition, "roomy"), ["android=1", "ios=1", "other=2", "web=1"]);
}

#[test]
fn a_value_without_a_name_is_looked_up_as_other_once_all_names_are_given() {
    let mut partition = partition(&[count("a", &["device_type"]).limit(2)]);
    let on = |offset, device| login(offset).text("device_type", device);
    let requests = [request("a", LookUp::Value, None)];
    let value = |answers: Vec<Vec<Option<Scalar>>>| answers.into_iter().flatten().collect::<Vec<_>>();
    // One after the other, and all at once.
    for at_once in [false, true] {
        partition.savepoint();
        let logins = [on(1, "a"), on(2, "b"), on(3, "c"), on(4, "d"), on(5, "b"), login(6)];
        let mut answers = Vec::new();
        if at_once {
            answers = value(ask(&mut partition, &requests, &logins));
        } else {
            for login in &logins {
                answers.extend(value(ask(&mut partition, &requests, std::slice::from_ref(login))));
                partition.observe(&batch(std::slice::from_ref(login)));
            }
        }
        let counts = [Some(0), Some(0), Some(0), Some(1), Some(1), None];
        assert_eq!(answers, counts.map(|count| count.map(Scalar::Integer)));
        partition.rollback();
    }
}

#[test]
fn buckets_that_end_within_a_batch_are_still_there_for_its_earlier_logins_whoever_asked_before() {
    let hours = |definition: Definition| definition.buckets(10, Retention::Latest(2));
    let definitions = [hours(latest("last", &["ip"], &[])), hours(distinct("ips", &["ip"], &[]))];
    let mut partition = partition(&definitions);
    let at = |offset, ip, time| login(offset).text("ip", ip).time(time);
    observe(&mut partition, &[at(1, "::1", 0), at(2, "::2", 10)]);
    let batch = [at(3, "::2", 10), at(4, "::2", 20)];
    let last = ask(&mut partition, &[request("last", LookUp::Latest("ip".into()), None)], &batch);
    assert_eq!(last, [[Some(text("::2"))], [Some(text("::2"))]]);
    let ips = ask(&mut partition, &[request("ips", LookUp::Value, None)], &batch);
    assert_eq!(ips, [[Some(Scalar::Integer(2))], [Some(Scalar::Integer(2))]]);
}

#[test]
fn distinct_counts_combinations_and_a_login_that_lacks_a_field_adds_nothing() {
    let mut partition = partition(&[distinct("a", &["ip", "device_type"], &["user_id"])]);
    let ann = |offset| login(offset).text("user_id", "ann");
    let logins = [
        ann(0).text("ip", "::1"),
        ann(1).text("ip", "::1").text("device_type", "ios"),
        ann(2).text("ip", "::2").text("device_type", "ios"),
        ann(3).text("ip", "::1").text("device_type", "ios"),
        ann(4).text("device_type", "ios"),
        login(5).text("user_id", "bob").text("ip", "::1"),
    ];
    observe(&mut partition, &logins);
    assert_eq!(summary(&partition, "a"), (1, 2));
}

#[test]
fn latest_is_of_the_last_login_that_has_all_the_fields() {
    let mut partition = partition(&[latest("a", &["geo", "timestamp"], &["user_id"]).limit(9)]);
    let ann = |offset| login(offset).text("user_id", "ann");
    let logins = [
        ann(0).text("geo", "[1]").time(500),
        ann(1).text("geo", "[2]").time(400),
        ann(2).time(600),
        ann(3).text("geo", "[3]"),
    ];
    observe(&mut partition, &logins);
    assert_eq!(entries(&partition, "a"), ["ann=[2]/400"]);
    assert_eq!(summary(&partition, "a"), (1, 0));
    let requests =
        [request("a", LookUp::Latest("geo".into()), None), request("a", LookUp::Latest("timestamp".into()), None)];
    let answers = ask(&mut partition, &requests, &[ann(9), login(10).text("user_id", "eve"), login(11)]);
    assert_eq!(answers, [vec![Some(text("[2]")), Some(Scalar::Integer(400))], vec![None, None], vec![None, None]]);
}

#[test]
fn only_the_latest_buckets_that_have_logins_are_kept() {
    let mut partition = partition(&[
        count("all", &[]).buckets(10, Retention::Latest(2)),
        count("failures", &[]).buckets(10, Retention::Latest(2)).only("outcome", &["failure"]),
    ]);
    let at = |offset, time, outcome| login(offset).time(time).text("outcome", outcome);
    observe(&mut partition, &[at(0, 5, "failure"), at(1, 15, "failure"), at(2, 11, "success"), at(3, 40, "success")]);
    assert_eq!(entries(&partition, "all"), ["10: =2", "40: =1"]);
    assert_eq!(entries(&partition, "failures"), ["0: =1", "10: =1"]);
    // Too late for one of them, and in the middle for the other.
    observe(&mut partition, &[at(4, 9, "failure"), at(5, 25, "failure"), login(6)]);
    assert_eq!(entries(&partition, "all"), ["20: =1", "40: =1"]);
    assert_eq!(entries(&partition, "failures"), ["10: =1", "20: =1"]);
}

#[test]
fn buckets_before_the_begin_of_the_epoch_begin_at_multiples_too() {
    let mut partition = partition(&[count("a", &[]).buckets(10, Retention::Latest(9))]);
    observe(&mut partition, &[login(0).time(-1), login(1).time(-10), login(2).time(-11), login(3).time(i64::MIN)]);
    assert_eq!(entries(&partition, "a").last().unwrap(), "-10: =2");
}

#[test]
fn buckets_kept_by_seconds_go_with_the_latest_login_time() {
    let mut partition = partition(&[count("a", &["user_id"]).limit(9).buckets(10, Retention::Seconds(15))]);
    let at = |offset, time| login(offset).time(time).text("user_id", "ann");
    observe(&mut partition, &[at(0, 5), at(1, 24)]);
    assert_eq!(entries(&partition, "a"), ["0: ann=1", "20: ann=1"]);
    // Time moves on also by a login that the aggregate doesn't count, and what is too late never counts.
    observe(&mut partition, &[login(2).time(25), at(3, 9), at(4, 10)]);
    assert_eq!(entries(&partition, "a"), ["10: ann=1", "20: ann=1"]);
    let requests = [request("a", LookUp::Value, None), request("a", LookUp::Value, Some(10))];
    let (whole, bucket) = (Some(Scalar::Integer(2)), Some(Scalar::Integer(1)));
    assert_eq!(ask(&mut partition, &requests, &[at(5, 24)]), [vec![whole, bucket]]);
    // The time of the login that asks counts as well.
    assert_eq!(
        ask(&mut partition, &requests, &[at(6, 40)]),
        [vec![Some(Scalar::Integer(1)), Some(Scalar::Integer(0))]]
    );
    assert_eq!(ask(&mut partition, &requests, &[login(7).text("user_id", "ann")]), [vec![None, None]]);
}

#[test]
fn memory_of_buckets_that_are_over_is_freed() {
    let mut partition = partition(&[
        distinct("a", &["user_id"], &["ip"]).buckets(1, Retention::Seconds(5)),
        distinct("b", &["user_id"], &["ip"]).buckets(1, Retention::Latest(5)),
    ]);
    let mut sizes = Vec::new();
    for time in 0..300 {
        let login = login(time).time(time).text("user_id", &format!("user {}", 1000 + time)).text("ip", "1.2.3.4");
        observe(&mut partition, &[login]);
        sizes.push(partition.to_bytes().len());
    }
    // But for numbers getting longer.
    assert!(sizes[299] < sizes[50] + 50, "{} bytes have become {}", sizes[50], sizes[299]);
}

#[test]
fn history_over_some_seconds_looks_at_whole_buckets_back_from_the_logins_own() {
    let mut partition = partition(&[
        count("count", &["user_id"]).buckets(10, Retention::Latest(100)),
        distinct("ips", &["ip"], &["user_id"]).buckets(10, Retention::Latest(100)),
        latest("last", &["ip"], &["user_id"]).buckets(10, Retention::Latest(100)),
    ]);
    let at = |offset, time, ip: &str| login(offset).time(time).text("user_id", "ann").text("ip", ip);
    observe(&mut partition, &[at(0, 12, "::1"), at(1, 3, "::2"), at(2, 25, "::1"), at(3, 38, "::3")]);
    let requests = |over| {
        [
            request("count", LookUp::Value, over),
            request("ips", LookUp::Value, over),
            request("ips", LookUp::Contains, over),
            request("last", LookUp::Latest("ip".into()), over),
        ]
    };
    let said = |count, ips, contains, last: &str| {
        vec![
            Some(Scalar::Integer(count)),
            Some(Scalar::Integer(ips)),
            Some(Scalar::Boolean(contains)),
            Some(text(last)),
        ]
    };
    let me = at(9, 21, "::2");
    // Buckets 20; 10 and 20; 0, 10 and 20. The bucket 30 is later than the login's own.
    for (over, expected) in [
        (Some(10), said(1, 1, false, "::1")),
        (Some(11), said(2, 1, false, "::1")),
        (Some(30), said(3, 2, true, "::1")),
        (None, said(3, 2, true, "::1")),
    ] {
        assert_eq!(ask(&mut partition, &requests(over), std::slice::from_ref(&me)), [expected], "{over:?}");
    }
    // Most recent is by offset, not by time.
    assert_eq!(ask(&mut partition, &requests(Some(20))[3..], &[at(10, 14, "::9")]), [vec![Some(text("::2"))]]);
}

#[test]
fn contains_is_missing_where_the_login_has_no_such_value() {
    let mut partition = partition(&[distinct("devices", &["device_id"], &["user_id"])]);
    let ann = |offset| login(offset).text("user_id", "ann");
    observe(&mut partition, &[ann(0).text("device_id", "x")]);
    let logins =
        [ann(1).text("device_id", "x"), ann(2).text("device_id", "y"), ann(3), login(4).text("device_id", "x")];
    let answers = ask(&mut partition, &[request("devices", LookUp::Contains, None)], &logins);
    assert_eq!(answers.concat(), [Some(Scalar::Boolean(true)), Some(Scalar::Boolean(false)), None, None]);
}

#[test]
fn history_counts_the_earlier_logins_of_the_same_batch() {
    let definitions = [count("logins", &["user_id"]), distinct("ips", &["ip"], &["user_id"])];
    let mut partition = partition(&definitions);
    let from = |offset, ip| login(offset).text("user_id", "ann").text("ip", ip);
    let logins = [from(0, "::1"), from(1, "::2"), from(2, "::1")];
    let requests = [
        request("logins", LookUp::Value, None),
        request("ips", LookUp::Value, None),
        request("ips", LookUp::Contains, None),
    ];
    let said = |logins, ips, contains| {
        vec![Some(Scalar::Integer(logins)), Some(Scalar::Integer(ips)), Some(Scalar::Boolean(contains))]
    };
    let expected = [said(0, 0, false), said(1, 1, false), said(2, 2, true)];
    assert_eq!(ask(&mut partition, &requests, &logins), expected);
    // Another enricher's look-ups in the same attempt, in another order.
    assert_eq!(
        ask(&mut partition, &requests[2..], &logins).concat(),
        [false, false, true].map(|is| Some(Scalar::Boolean(is)))
    );
    partition.observe(&batch(&logins));
    assert_eq!((summary(&partition, "logins"), summary(&partition, "ips")), ((1, 3), (1, 2)));
}

#[test]
fn an_attempt_that_fails_leaves_no_trace() {
    let definitions = [
        count("logins", &["device_type"]).limit(1),
        count("hours", &["device_type"]).limit(1).buckets(3600, Retention::Latest(1)),
        top("top", &["logins"], 1),
    ];
    let mut partition = partition(&definitions);
    let on = |offset, device, time| login(offset).text("device_type", device).time(time);
    observe(&mut partition, &[on(0, "ios", 0)]);
    let before = partition.to_bytes();
    partition.savepoint();
    let logins = [on(1, "web", 7200), on(2, "ios", 3600), on(3, "web", 9000)];
    let requests = [request("logins", LookUp::Value, None), request("hours", LookUp::Value, None)];
    ask(&mut partition, &requests, &logins);
    partition.observe(&batch(&logins));
    partition.count_rejected(7);
    assert_ne!(partition.to_bytes(), before);
    partition.rollback();
    assert_eq!(partition.to_bytes(), before);
    assert_eq!(entries(&partition, "top"), ["ios=1"]);
}

#[test]
fn savepoints_nest() {
    let mut partition = partition(&[count("logins", &["user_id"]).limit(9)]);
    let by = |offset, user| login(offset).text("user_id", user);
    partition.savepoint();
    observe(&mut partition, &[by(0, "ann")]);
    partition.savepoint();
    observe(&mut partition, &[by(1, "bob")]);
    partition.rollback();
    assert_eq!(entries(&partition, "logins"), ["ann=1"]);
    partition.savepoint();
    observe(&mut partition, &[by(1, "eve")]);
    partition.release();
    assert_eq!(entries(&partition, "logins"), ["ann=1", "eve=1"]);
    partition.rollback();
    assert!(entries(&partition, "logins").is_empty());
    assert_eq!(partition.last_accepted_offset(), None);
}

#[test]
fn a_window_has_exactly_its_logins_and_the_one_before_stays_readable() {
    let definitions = [count("devices", &["device_type"]).limit(9).window(), count("all", &[])];
    let mut partition = Partition::new(catalog(&definitions), 2);
    let on = |offset, device, time| login(offset).text("device_type", device).time(time);
    let reader = |partition: &Partition, period| {
        let reader = Reader::new(partition, "watcher", []);
        (shown(&listed(&reader, "devices", period).unwrap()), reader.summarize("devices", period).unwrap().keys)
    };
    partition.count_rejected(1);
    assert_eq!(partition.room(), 2);
    partition.observe(&batch(&[on(3, "ios", 50)]));
    partition.count_rejected(2);
    assert_eq!((partition.room(), partition.completed_window()), (1, None));
    assert_eq!(reader(&partition, Period::Previous), (vec![], 0));
    partition.observe(&batch(&[on(9, "web", 40)]));
    let first = partition.completed_window().unwrap();
    assert_eq!((first.number, first.previous, first.facts.rejected, first.facts.logins), (1, None, 3, 2));
    assert_eq!((first.facts.first_offset, first.facts.last_offset), (3, 9));
    assert_eq!((first.facts.earliest_login_time, first.facts.latest_login_time), (Some(40), Some(50)));
    partition.begin_next_window();
    // Only a complete window is closed.
    partition.begin_next_window();
    assert_eq!((partition.window_progress().number, partition.window_progress().logins), (2, 0));
    partition.observe(&batch(&[login(10), login(11).text("device_type", "tv")]));
    let second = partition.completed_window().unwrap();
    assert_eq!((second.number, second.previous), (2, Some(first.facts)));
    assert_eq!(second.facts.earliest_login_time, None);
    assert_eq!(reader(&partition, Period::Current), (vec!["tv=1".to_owned()], 1));
    assert_eq!(reader(&partition, Period::Previous), (vec!["ios=1".to_owned(), "web=1".to_owned()], 2));
    assert_eq!(entries(&partition, "all"), ["=4"]);
}

#[test]
fn a_ranking_is_by_value_and_then_by_key() {
    let mut partition = partition(&[
        count("logins", &["user_id"]),
        distinct("ips", &["ip"], &["user_id"]),
        top("top", &["ips", "logins"], 3),
    ]);
    let by = |user: &str, ip: &str| login(0).text("user_id", user).text("ip", ip);
    let mut logins = vec![by("dan", "::1"), by("cat", "::1"), by("bob", "::1"), by("bob", "::1")];
    logins.extend([by("ann", "::1"), by("ann", "::2"), by("eve", "::1")]);
    for (login, offset) in logins.iter_mut().zip(0..) {
        login.offset = offset;
    }
    observe(&mut partition, &logins);
    assert_eq!(entries(&partition, "top"), ["ann=2/2", "bob=1/2", "cat=1/1"]);
}

#[test]
fn calls_that_do_not_fit_an_aggregate_fail_with_a_sentence() {
    let by_level = Definition {
        by: vec![
            Dimension { field: "user_id".into(), limit: None },
            Dimension { field: "level".into(), limit: Some(3) },
        ],
        ..count("levels", &[])
    };
    let partition = partition(&[count("logins", &["user_id"]), top("top", &["logins"], 3), by_level]);
    let reader = Reader::new(&partition, "watcher", []);
    let said = |result: Result<Vec<Entry>, String>| result.unwrap_err();
    assert!(said(listed(&reader, "nothing", Period::Current)).contains("has declared no aggregate `nothing`"));
    assert!(said(listed(&reader, "logins", Period::Current)).contains("its dimension `user_id` has no limit"));
    assert!(said(listed(&reader, "levels", Period::Current)).contains("its dimension `user_id` has no limit"));
    assert!(said(listed(&reader, "top", Period::Previous)).contains("no period before"));
    assert!(reader.summarize("top", Period::Current).unwrap_err().contains("is a ranking"));
    assert!(reader.summarize("logins", Period::Previous).unwrap_err().contains("no period before"));
    let other = Reader::new(&partition, "somebody-else", []);
    assert!(said(listed(&other, "top", Period::Current)).contains("`somebody-else`"));
}

#[test]
fn equal_aggregates_of_two_plugins_are_kept_once() {
    let users = |name: &str| distinct(name, &["ip"], &["user_id"]);
    let one = vec![("a".to_owned(), vec![users("x")])];
    let two = vec![("a".to_owned(), vec![users("x")]), ("b".to_owned(), vec![users("y")])];
    let logins: Vec<Login> =
        (0..99).map(|offset| login(offset).text("user_id", &offset.to_string()).text("ip", "::1")).collect();
    let mut sizes = Vec::new();
    for plugins in [one, two] {
        let mut partition = Partition::new(Arc::new(Catalog::new(&plugins, schema()).unwrap()), 100);
        partition.observe(&batch(&logins));
        sizes.push(partition.to_bytes().len());
        for (plugin, definitions) in &plugins {
            let reader = Reader::new(&partition, plugin, []);
            assert_eq!(reader.summarize(&definitions[0].name, Period::Current).unwrap().sum, 99);
        }
    }
    assert!(sizes[1] < sizes[0] + 60, "{sizes:?}");
}

#[test]
fn an_aggregate_that_a_swap_brings_starts_empty_beside_an_equal_one() {
    let a = ("a".to_owned(), vec![count("x", &["user_id"]).limit(9)]);
    let b = ("b".to_owned(), vec![count("y", &["user_id"]).limit(9)]);
    let first = Catalog::new(std::slice::from_ref(&a), schema()).unwrap();
    let second = Arc::new(first.evolve(&[a, b], schema()).unwrap());
    let mut partition = Partition::new(Arc::new(first), 100);
    let ann = |offset| login(offset).text("user_id", "ann");
    observe(&mut partition, &[ann(0)]);
    partition.adopt(Arc::clone(&second));
    observe(&mut partition, &[ann(1)]);
    let check = |partition: &Partition| {
        for (plugin, name, expected) in [("a", "x", "ann=2"), ("b", "y", "ann=1")] {
            let entries = listed(&Reader::new(partition, plugin, []), name, Period::Current).unwrap();
            assert_eq!(shown(&entries), [expected]);
        }
    };
    check(&partition);
    // And stays apart from it over a restart.
    check(&Partition::from_bytes(&partition.to_bytes(), second).unwrap());
}

#[test]
fn a_ranking_that_a_swap_brings_is_complete_at_once() {
    let kept = count("logins", &["user_id"]);
    let mut partition = partition(std::slice::from_ref(&kept));
    observe(&mut partition, &[login(0).text("user_id", "ann"), login(1).text("user_id", "bob")]);
    let next = partition.catalog().evolve(&[("watcher".to_owned(), vec![kept, top("top", &["logins"], 1)])], schema());
    partition.adopt(Arc::new(next.unwrap()));
    assert_eq!(entries(&partition, "top"), ["ann=1"]);
}

#[test]
fn a_rollback_over_a_swap_takes_back_the_logins_and_keeps_the_new_catalog() {
    let kept = count("logins", &["user_id"]);
    let mut partition = partition(&[kept.clone(), count("gone", &["user_id"])]);
    let by = |offset, user| login(offset).text("user_id", user);
    observe(&mut partition, &[by(0, "ann"), by(1, "bob"), by(2, "bob")]);
    partition.savepoint();
    observe(&mut partition, &[by(3, "ann"), by(4, "ann"), by(5, "eve")]);
    let brought = vec![kept, top("top", &["logins"], 2), count("new", &[])];
    let next = partition.catalog().evolve(&[("watcher".to_owned(), brought)], schema()).unwrap();
    partition.adopt(Arc::new(next));
    observe(&mut partition, &[by(6, "eve"), by(7, "eve"), by(8, "eve")]);
    assert_eq!(entries(&partition, "top"), ["eve=4", "ann=3"]);
    assert_eq!(entries(&partition, "new"), ["=3"]);
    partition.rollback();
    assert_eq!(entries(&partition, "top"), ["bob=2", "ann=1"]);
    assert!(entries(&partition, "new").is_empty());
    assert_eq!(summary(&partition, "logins"), (2, 3));
}

#[test]
fn bytes_of_another_version_or_damaged_ones_are_refused_and_never_believed() {
    let definitions = [
        count("logins", &["user_id"]),
        distinct("ips", &["ip"], &["user_id"]),
        latest("last", &["ip"], &["user_id"]),
        count("hours", &["device_type"]).limit(2).buckets(3600, Retention::Latest(3)),
        distinct("users", &["user_id"], &[]).window(),
        top("top", &["ips", "logins"], 2),
    ];
    let mut partition = Partition::new(catalog(&definitions), 4);
    let logins: Vec<Login> = (0..11)
        .map(|offset| {
            let login = login(offset).text("user_id", &format!("{}", offset % 3)).text("ip", &format!("::{offset}"));
            login.text("device_type", &offset.to_string()).time(offset * 1000)
        })
        .collect();
    observe(&mut partition, &logins);
    let (bytes, catalog) = (partition.to_bytes(), catalog(&definitions));
    let read = |bytes: &[u8]| Partition::from_bytes(bytes, Arc::clone(&catalog));
    assert_eq!(read(&bytes).unwrap().to_bytes(), {
        let again = read(&bytes).unwrap();
        again.to_bytes()
    });
    let mut other = bytes.clone();
    other[0] = 99;
    assert_eq!(read(&other).unwrap_err(), RestoreError::Version { found: 99 });
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "cut to {end} bytes");
    }
    assert!(read(&[bytes.clone(), vec![0]].concat()).is_err());
    // Whatever else is changed, reading it and going on never panics.
    for at in 1..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            if let Ok(mut partition) = read(&damaged) {
                partition.savepoint();
                let room = partition.room().min(logins.len());
                partition.observe(&batch(&logins[..room]));
                partition.rollback();
                partition.totals(true);
            }
        }
    }
}

#[test]
fn a_restored_partition_has_its_windows_settings_and_offsets() {
    let definitions = [count("logins", &[])];
    let mut partition = Partition::new(catalog(&definitions), 5);
    partition.observe(&batch(&[login(41).time(7), login(42)]));
    partition.count_rejected(3);
    let mut restored = Partition::from_bytes(&partition.to_bytes(), catalog(&definitions)).unwrap();
    assert_eq!((restored.room(), restored.last_accepted_offset()), (3, Some(42)));
    restored.set_insight_every(2);
    assert_eq!(restored.completed_window().unwrap().facts.rejected, 3);
}
