//! What would change with other plugins is told before they serve.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use loginscope::comparator::report::{Change, Report, Tolerance, Use};
use loginscope::comparator::trial::Trial;
use loginscope::comparator::{Comparator, Setting};
use loginscope::control::swap::{Request, Swapper};
use loginscope::pipeline::batch::OutputLimits;
use loginscope::pipeline::plugins::DEFAULTS;
use loginscope::pipeline::policy::OnFailure;
use loginscope::pipeline::serving::Serving;
use loginscope::pipeline::{Chain, Message, Output, TotalsBoard};
use loginscope_tests::guests::misbehave;
use loginscope_tests::in_process::{InProcess, plugin_set, policy};
use serde_json::{Value, json};

/// Logins of 40 users in turn; every tenth user is `reject-…`.
fn messages(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let user = number % 40;
            let user = if user % 10 == 0 { format!("reject-{user}") } else { format!("user-{user}") };
            let login = json!({ "user_id": user, "timestamp": 1_694_479_551 + number, "ip": format!("198.51.100.{}", number % 200) });
            login.to_string().into_bytes()
        })
        .collect()
}

/// These plugins, the guest among them with these settings.
fn chain(plugins: &[&'static [u8]], guest: Option<Value>) -> Arc<Chain> {
    let settings = guest.map(|guest| ("misbehave".to_owned(), guest)).into_iter().collect();
    Arc::new(plugin_set(plugins, settings).load().unwrap())
}

fn guest(settings: Value) -> Arc<Chain> {
    chain(&[misbehave()], Some(settings))
}

fn defaults() -> Vec<&'static [u8]> {
    DEFAULTS.iter().map(|(_, bytes)| *bytes).collect()
}

fn setting() -> Setting {
    let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: usize::MAX };
    Setting { topic: "user-login".into(), insight_every: 100, limits }
}

/// The new plugins tried on what a worker with the old ones makes of payloads, in batches of this size.
fn tried_on(old: &Arc<Chain>, new: &Arc<Chain>, payloads: &[Vec<u8>], size: usize) -> Report {
    let mut trial = Trial::new(old, new, &setting(), TOLERANCE).unwrap();
    let mut worker = InProcess::new(old, 100);
    let totals = TotalsBoard::default();
    for (batch, payloads) in payloads.chunks(size).enumerate() {
        let messages: Vec<Message<'_>> = (4000 + (batch * size) as i64..)
            .zip(payloads)
            .map(|(offset, payload)| Message { offset, payload: Some(payload), ..Message::default() })
            .collect();
        let mut output = Output::default();
        worker.pipeline.record(Some(trial.wanted()));
        worker.pipeline.process(&mut worker.partition, &messages, &totals, worker.now, &mut output);
        trial.compare(worker.pipeline.take_judged(0, &messages, &output).unwrap());
        if trial.failure().is_some() {
            break;
        }
    }
    trial.report().clone()
}

/// On so many logins.
fn tried(old: &Arc<Chain>, new: &Arc<Chain>, logins: usize) -> Report {
    tried_on(old, new, &messages(logins), 170)
}

/// Over so many logins in each of two partitions.
fn compared(old: &Arc<Chain>, new: &Arc<Chain>, logins: usize) -> Report {
    compared_by(|comparator| comparator, old, new, logins)
}

fn compared_by(with: fn(Comparator) -> Comparator, old: &Arc<Chain>, new: &Arc<Chain>, logins: usize) -> Report {
    let mut comparator = with(Comparator::new(old, new, &setting()).unwrap());
    for (partition, payloads) in (0..).zip(messages(2 * logins).chunks(logins)) {
        let messages: Vec<Message<'_>> = (4000..)
            .zip(payloads)
            .map(|(offset, payload)| Message { offset, payload: Some(payload), ..Message::default() })
            .collect();
        messages.chunks(170).for_each(|batch| comparator.compare(partition, batch));
    }
    comparator.report()
}

/// A swap that would go wrong on what came last is refused, and one that wouldn't is done.
#[test]
fn what_fails_on_recent_messages_never_serves() {
    let serving = Arc::new(Serving::new(plugin_set(&[misbehave()], BTreeMap::new()).load().unwrap()));
    serving.recent.want();
    let swapper = Swapper {
        serving: Arc::clone(&serving),
        telemetry: Arc::default(),
        setting: setting(),
        tolerance: TOLERANCE,
        probation: Duration::from_mins(1),
        turn: Mutex::default(),
        consent: RwLock::default(),
        tried: Mutex::default(),
    };
    let payloads = messages(80);
    let messages: Vec<Message<'_>> = (0..)
        .zip(&payloads)
        .map(|(offset, payload)| Message { offset, payload: Some(payload), ..Message::default() })
        .collect();
    serving.recent.offer(0, &messages);

    let bad = guest(json!({ "how": "trap", "when_user": "user-7" }));
    let swap = |chain: &Chain| swapper.swap(&Request::new("a test", "nobody"), |_| Ok(chain.plugins.clone()));
    let refused = swap(&bad).unwrap_err().to_string();
    assert!(refused.starts_with("misbehave@0.1.0 fails on 1 logins and 0 windows of 8 messages: "), "{refused}");
    assert_eq!(serving.load().number, 1);

    let elsewhere = guest(json!({ "how": "trap", "when_user": "somebody who did not come" }));
    swap(&elsewhere).unwrap();
    assert_eq!(serving.load().number, 2);
}

/// How long something takes is not for a test on a busy machine.
const TOLERANCE: Tolerance = Tolerance { max_changed_share: 1.0, max_slowdown: f64::MAX, max_failures: 0 };

#[test]
fn the_same_plugins_change_nothing() {
    let chain = chain(&defaults(), None);
    let report = compared(&chain, &chain, 500);
    assert_eq!((report.messages, report.changed), (1000, 0));
    assert_eq!((report.insights["summary"].same, report.insights.len()), (10, 1));
    assert!(report.examples.is_empty());
    let spent = |used: &Use| used.logins.cpu_time + used.windows.cpu_time;
    assert!(report.new.values().all(|used| !spent(used).is_zero() && used.failed_calls == 0));
    assert_eq!(report.refusal(&Tolerance { max_changed_share: 0.0, ..TOLERANCE }), None);
}

#[test]
fn what_is_to_mend_an_enricher_that_logins_go_on_without_is_tried_on_these() {
    let bypassing = |settings: Value| {
        let settings = BTreeMap::from([("misbehave".to_owned(), settings)]);
        let policies = policy("misbehave", OnFailure::Bypass);
        Arc::new(plugin_set(&[misbehave()], settings).with_policies(policies).load().unwrap())
    };
    let broken = bypassing(json!({ "how": "trap", "role": "enricher" }));
    let report = tried(&broken, &bypassing(json!({})), 500);
    // All but those that the validator rejects.
    assert_eq!((report.changed, report.not_tried), (450, 0));
    assert_eq!(report.changed_fields["guest_user_bytes"], 450);
    // Most went on without being handed to it, as it was left alone.
    let failed = report.old["misbehave"].failed_logins;
    assert!(0 < failed && failed < 300, "{failed}");
    let with_a_past = tried(&broken, &bypassing(json!({ "history": true })), 500);
    assert!(with_a_past.to_string().contains("  450 logins that went on without the plugin before were not tried\n"));
}

/// Each of them would take all the time that it may.
#[test]
fn what_fails_more_often_than_is_tolerated_is_asked_about_no_more_logins() {
    let within = |comparator: Comparator| comparator.within(TOLERANCE);
    let bad = |how: &str, role: &str| guest(json!({ "how": how, "role": role }));
    let good = guest(json!({}));
    // The first login doesn't come to the enricher.
    for (role, messages) in [("validator", 1), ("enricher", 2)] {
        let report = compared_by(within, &good, &bad("loop", role), 200);
        let Use { failed_logins, failed_calls, .. } = report.new["misbehave"];
        assert_eq!((report.messages, failed_logins), (messages, 1), "{role}");
        // As often as 170 can be halved, and alone, again, and fresh.
        assert!(failed_calls <= 12, "{role}: {failed_calls}");
        assert_eq!(report.examples.len(), 1, "{role}: it is shown what would become of it");
    }
    let report = compared_by(within, &good, &bad("trap", "insight-generator"), 200);
    // The hundredth that is accepted.
    assert_eq!((report.messages, report.new["misbehave"].failed_windows), (112, 1));
    let (as_before, same) = (compared(&bad("trap", "enricher"), &bad("panic", "enricher"), 80), within);
    let early = compared_by(same, &bad("trap", "enricher"), &bad("panic", "enricher"), 80);
    assert_eq!(
        (early.messages, early.changed),
        (as_before.messages, as_before.changed),
        "where both fail, all are asked about"
    );
}

#[test]
fn other_verdicts_and_fields_are_counted_and_shown() {
    let with_guest: Vec<&'static [u8]> = defaults().into_iter().chain([misbehave()]).collect();
    let report = compared(&chain(&defaults(), None), &chain(&with_guest, Some(json!({}))), 500);
    assert_eq!(report.judged_differently, BTreeMap::from([("accepted → rejected_by_guest".to_owned(), 100)]));
    assert_eq!(report.changed_fields, BTreeMap::from([("guest_user_bytes".to_owned(), 900)]));
    assert_eq!(report.changed, 1000);
    // Windows end elsewhere where a tenth of the logins is missing; the guest makes one of its own for each.
    let summaries = report.insights["summary"];
    assert_eq!((summaries.changed + summaries.same, summaries.gone, summaries.added), (8, 2, 0));
    assert_eq!((report.insights["guest_window"].added, report.insights["guest_window"].gone), (8, 0));
    assert_eq!(report.examples.len(), 20);
    let Change::Judged { old, new } = &report.examples[0].change else { panic!("{:?}", report.examples[0]) };
    assert_eq!((report.examples[0].partition, report.examples[0].offset), (0, 4000));
    assert_eq!(serde_json::to_value(old).unwrap()["processed"]["user_id"], "reject-0");
    assert_eq!(serde_json::to_value(new).unwrap()["code"], "rejected_by_guest");
    let refusal = report.refusal(&Tolerance { max_changed_share: 0.5, ..TOLERANCE }).unwrap();
    assert!(refusal.starts_with("1000 of 1000 messages come to something else"), "{refusal}");
    assert_eq!(report.refusal(&TOLERANCE), None, "changes are told, and allowed");
    let text = report.to_string();
    assert!(text.contains("100 accepted → rejected_by_guest\n"), "{text}");
    assert!(text.contains("900 with another guest_user_bytes\n"), "{text}");
}

#[test]
fn a_plugin_that_fails_on_a_login_is_refused_with_what_happened() {
    let good = guest(json!({}));
    let bad = |how| guest(json!({ "how": how, "when_user": "user-7", "role": "enricher" }));
    for how in ["trap", "panic", "loop", "hoard", "lie_row"] {
        let report = compared(&good, &bad(how), 80);
        assert_eq!(report.judged_differently, BTreeMap::from([("accepted → plugin_failed".to_owned(), 4)]), "{how}");
        let used = &report.new["misbehave"];
        assert!(used.failed_logins == 4 && used.failed_calls >= 4, "{how}: {used:?}");
        let refusal = report.refusal(&TOLERANCE).unwrap();
        assert!(!refusal.ends_with(": "), "{refusal}");
        assert!(refusal.starts_with("misbehave@0.1.0 fails on 4 logins and 0 windows of 160 messages: "), "{refusal}");
        assert_eq!(report.refusal(&Tolerance { max_failures: 4, ..TOLERANCE }), None);
    }
    // The other way round it is an improvement, and one that is as bad as before is none.
    assert_eq!(compared(&bad("trap"), &good, 80).refusal(&TOLERANCE), None);
    assert_eq!(compared(&bad("trap"), &bad("panic"), 80).refusal(&TOLERANCE), None);
}

#[test]
fn a_generator_that_fails_is_refused_though_no_login_is_at_fault() {
    let bad = guest(json!({ "how": "trap", "role": "insight-generator" }));
    let report = compared(&guest(json!({})), &bad, 500);
    assert_eq!(report.changed, 0);
    assert!(
        report
            .refusal(&TOLERANCE)
            .unwrap()
            .starts_with("misbehave@0.1.0 fails on 0 logins and 8 windows of 1000 messages: ")
    );
}

/// The default plugins with one whose bytes are others, but which does the same.
fn defaults_with_another(place: usize) -> Arc<Chain> {
    let mut plugins = defaults();
    let section = [0, 8, 3, b'v', b'e', b'r', 0, 0, 0, 0];
    plugins[place] = Vec::leak([plugins[place], &section].concat());
    chain(&plugins, None)
}

/// Logins of which some are no JSON, some have no address, and some are of another device.
fn mixed(count: usize) -> Vec<Vec<u8>> {
    let mut payloads = messages(count);
    for (number, payload) in payloads.iter_mut().enumerate() {
        match number % 17 {
            3 => *payload = b"{".to_vec(),
            7 => *payload = json!({ "user_id": "nowhere", "timestamp": 1_694_479_551 }).to_string().into_bytes(),
            _ => {}
        }
    }
    payloads
}

#[test]
fn a_plugin_that_does_the_same_changes_nothing_on_live_logins_and_only_its_time_is_told() {
    for (place, name) in ["validate-logins", "enrich-logins", "summarize-logins"].into_iter().enumerate() {
        for size in [1, 7, 170, 1000] {
            let report = tried_on(&chain(&defaults(), None), &defaults_with_another(place), &mixed(1000), size);
            assert_eq!((report.messages, report.changed), (1000, 0), "{report}");
            let (old, new) = (&report.old, &report.new);
            assert!(old.keys().chain(new.keys()).eq([name, name]), "{report}");
            let spent = |used: &Use| used.logins.cpu_time + used.windows.cpu_time;
            assert!(!spent(&old[name]).is_zero() && !spent(&new[name]).is_zero(), "{report}");
            assert_eq!(old[name].logins.rows, new[name].logins.rows, "{report}");
            let summaries = report.insights.get("summary").map(|changes| (changes.same, changes.changed));
            assert_eq!(summaries, (place == 2).then_some((8, 0)), "{report}");
            assert!(report.examples.is_empty());
        }
    }
}

#[test]
fn other_verdicts_fields_and_insights_are_found_on_live_logins() {
    let with_guest: Vec<&'static [u8]> = defaults().into_iter().chain([misbehave()]).collect();
    for history in [false, true] {
        let new = chain(&with_guest, Some(json!({ "history": history })));
        let report = tried(&chain(&defaults(), None), &new, 1000);
        assert_eq!(report.judged_differently, BTreeMap::from([("accepted → rejected_by_guest".to_owned(), 100)]));
        assert_eq!(report.changed_fields["guest_user_bytes"], 900);
        assert_eq!(report.changed_fields.get("guest_user_logins"), history.then_some(&900));
        assert_eq!((report.messages, report.changed), (1000, 1000));
        // It looks at windows of what the serving plugins accept.
        assert_eq!((report.insights["guest_window"].added, report.insights["guest_window"].gone), (10, 0));
        assert_eq!(report.examples.len(), 20);
        let Change::Judged { old, new } = &report.examples[0].change else { panic!("{:?}", report.examples[0]) };
        assert_eq!((report.examples[0].partition, report.examples[0].offset), (0, 4000));
        assert_eq!(serde_json::to_value(old).unwrap()["processed"]["user_id"], "reject-0");
        assert_eq!(serde_json::to_value(new).unwrap()["code"], "rejected_by_guest");
        assert!(report.refusal(&Tolerance { max_changed_share: 0.5, ..TOLERANCE }).is_some());
    }
}

#[test]
fn a_history_that_only_the_new_plugin_asks_for_is_that_of_the_logins_it_is_tried_on() {
    let (old, new) = (guest(json!({})), guest(json!({ "history": true })));
    for size in [1, 33, 1000] {
        let report = tried_on(&old, &new, &messages(400), size);
        assert_eq!(report.changed_fields, BTreeMap::from([("guest_user_logins".to_owned(), 360)]), "{report}");
        let mut counts: Vec<u64> = report
            .examples
            .iter()
            .map(|example| {
                let Change::Fields { fields } = &example.change else { panic!("{example:?}") };
                fields["guest_user_logins"].new.as_ref().unwrap().as_u64().unwrap()
            })
            .collect();
        counts.dedup();
        assert_eq!(counts, [0], "the first 20 logins are of different users");
        assert_eq!(report.insights["guest_window"].same, 3);
    }
}

#[test]
fn what_a_plugin_rejects_and_no_longer_rejects_is_found_on_live_logins() {
    let payloads: Vec<Vec<u8>> = ["reject-1", "refuse-2", "remark-3", "user-4"]
        .iter()
        .cycle()
        .take(400)
        .map(|user| {
            json!({ "user_id": user, "timestamp": 1_694_479_551, "ip": "198.51.100.7" }).to_string().into_bytes()
        })
        .collect();
    let with_guest: Vec<&'static [u8]> = defaults().into_iter().chain([misbehave()]).collect();
    let (without, with) = (chain(&defaults(), None), chain(&with_guest, Some(json!({}))));
    let report = tried_on(&without, &with, &payloads, 64);
    let expected = ["rejected_by_guest", "refused_by_guest"].map(|code| (format!("accepted → {code}"), 100));
    assert_eq!(report.judged_differently, BTreeMap::from(expected));
    assert_eq!((report.changed_fields["guest_user_bytes"], report.insights["guest_remark"].added), (200, 100));

    // The same again with other settings, which change nothing.
    let alike = chain(&with_guest, Some(json!({ "after": 1 })));
    let report = tried_on(&with, &alike, &payloads, 64);
    assert_eq!((report.changed, report.insights["guest_remark"].same), (0, 100), "{report}");
    assert_eq!(report.insights["guest_window"].same, 2);

    // One that rejects nobody any more, as it fails on nobody.
    let failing = chain(&with_guest, Some(json!({ "how": "trap", "when_user": "user-4", "role": "enricher" })));
    let report = tried_on(&failing, &with, &payloads, 64);
    assert_eq!(report.judged_differently, BTreeMap::from([("plugin_failed → accepted".to_owned(), 100)]));
    assert_eq!((report.old["misbehave"].failed_logins, report.refusal(&TOLERANCE)), (100, None));
}

#[test]
fn a_plugin_behind_one_that_sets_something_else_is_tried_as_well() {
    let echo = json!({ "echo": [{ "name": "login_hour", "type": "text" }] });
    let chain_of = |enrich| {
        let plugins: Vec<&'static [u8]> = if enrich { vec![defaults()[1], misbehave()] } else { vec![misbehave()] };
        chain(&plugins, Some(echo.clone()))
    };
    // That of before serves, and what it reads wasn't set by anybody.
    let report = tried(&chain_of(false), &chain_of(true), 100);
    assert_eq!(report.changed_fields["login_hour"], 90, "{report}");
    assert!(!report.new.contains_key("misbehave"), "it isn't new");
}

#[test]
fn a_field_that_nobody_has_read_is_read_from_live_messages() {
    let echo = |name: &str| guest(json!({ "echo": [{ "name": name, "type": "integer" }] }));
    let payloads: Vec<Vec<u8>> = (0..100)
        .map(|number| match number % 10 {
            0 => b"{".to_vec(),
            _ => json!({ "user_id": "u", "shoe_size": number }).to_string().into_bytes(),
        })
        .collect();
    let report = tried_on(&guest(json!({})), &echo("shoe_size"), &payloads, 32);
    assert_eq!(report.changed_fields, BTreeMap::from([("echo_shoe_size".to_owned(), 90)]), "{report}");
    let Change::Fields { fields } = &report.examples[0].change else { panic!() };
    assert_eq!(fields["echo_shoe_size"].new, Some(json!(1)));
}

#[test]
fn a_plugin_that_fails_on_live_logins_is_refused_and_asked_no_more_when_that_is_certain() {
    let good = guest(json!({}));
    for role in ["validator", "enricher"] {
        let bad = |how| guest(json!({ "how": how, "when_user": "user-7", "role": role }));
        for how in ["trap", "panic", "loop", "hoard", "lie_row"] {
            let report = tried(&good, &bad(how), 160);
            assert_eq!(report.judged_differently["accepted → plugin_failed"], 1, "{role} {how}: {report}");
            let refusal = report.refusal(&TOLERANCE).unwrap();
            assert!(
                refusal.starts_with("misbehave@0.1.0 fails on 1 logins and 0 windows of 160 messages: "),
                "{refusal}"
            );
        }
        // The other way round it is an improvement, and one that is as bad as before is none.
        assert_eq!(tried(&bad("trap"), &good, 160).refusal(&TOLERANCE), None);
        let report = tried(&bad("trap"), &bad("panic"), 160);
        assert_eq!((report.new["misbehave"].failed_logins, report.refusal(&TOLERANCE)), (4, None), "{report}");
    }
    let bad = guest(json!({ "how": "trap", "role": "insight-generator" }));
    let refusal = tried(&good, &bad, 500).refusal(&TOLERANCE).unwrap();
    assert!(refusal.starts_with("misbehave@0.1.0 fails on 0 logins and 1 windows of 170 messages: "), "{refusal}");
    assert_eq!(tried(&bad, &good, 500).refusal(&TOLERANCE), None);
}
