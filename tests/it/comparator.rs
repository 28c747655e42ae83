//! What would change with other plugins is told before they serve.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use loginscope::comparator::report::{Change, Report, Tolerance, Use};
use loginscope::comparator::{Comparator, Setting};
use loginscope::control::swap::{Request, Swapper};
use loginscope::pipeline::batch::OutputLimits;
use loginscope::pipeline::plugins::DEFAULTS;
use loginscope::pipeline::serving::Serving;
use loginscope::pipeline::{Chain, Message};
use loginscope_tests::guests::misbehave;
use loginscope_tests::in_process::plugin_set;
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

/// Over so many logins in each of two partitions.
fn compared(old: &Arc<Chain>, new: &Arc<Chain>, logins: usize) -> Report {
    compared_by(|comparator| comparator, old, new, logins)
}

fn compared_by(with: fn(Comparator) -> Comparator, old: &Arc<Chain>, new: &Arc<Chain>, logins: usize) -> Report {
    let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: usize::MAX };
    let setting = Setting { topic: "user-login".into(), insight_every: 100, limits };
    let mut comparator = with(Comparator::new(old, new, &setting).unwrap());
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
    let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: usize::MAX };
    let setting = Setting { topic: "user-login".into(), insight_every: 100, limits };
    let swapper = Swapper {
        serving: Arc::clone(&serving),
        telemetry: Arc::default(),
        setting,
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
