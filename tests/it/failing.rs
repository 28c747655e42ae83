//! What becomes of logins on which a plugin fails, by its policy: rejected, without the plugin, or not before it succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use loginscope::pipeline::Chain;
use loginscope::pipeline::chain::Keep;
use loginscope::pipeline::plugins::DEFAULTS;
use loginscope::pipeline::policy::OnFailure;
use loginscope_tests::guests::misbehave;
use loginscope_tests::in_process::{InProcess, Result, plugin_set, policy};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The batch sizes that are compared with each other.
const SIZES: [usize; 4] = [1, 7, 100, 5000];

/// The place of the guest in the chain.
const GUEST: usize = 2;

/// The default plugins and, before the last of them, the guest with these settings and this policy.
fn chain(guest: &Value, on_failure: OnFailure) -> Arc<Chain> {
    let mut plugins: Vec<&'static [u8]> = DEFAULTS.iter().map(|(_, bytes)| *bytes).collect();
    plugins.insert(GUEST, misbehave());
    let settings = BTreeMap::from([("misbehave".to_owned(), guest.clone())]);
    Arc::new(plugin_set(&plugins, settings).with_policies(policy("misbehave", on_failure)).load().unwrap())
}

fn well() -> Arc<Chain> {
    chain(&json!({}), OnFailure::Reject)
}

fn login(number: usize, user: &str) -> Vec<u8> {
    let ip = format!("198.51.100.{}", number % 200);
    json!({ "user_id": user, "timestamp": 1_694_479_551 + number, "ip": ip }).to_string().into_bytes()
}

/// Logins of 30 users in turn, some of which the guest rejects or refuses, and of `poison` wherever `is_poison` says so.
fn logins(count: usize, is_poison: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
    let user = |number: usize| match number % 30 {
        _ if is_poison(number) => "poison".to_owned(),
        7 => "reject-me".to_owned(),
        11 => "refuse-me".to_owned(),
        13 => "remark-me".to_owned(),
        user => format!("user-{user}"),
    };
    (0..count).map(|number| login(number, &user(number))).collect()
}

fn run(chain: &Arc<Chain>, logins: &[Vec<u8>], size: usize) -> Result {
    let mut result = Result::default();
    InProcess::new(chain, 100).run(logins, size, &mut result);
    result
}

#[test]
fn a_bypassed_login_goes_on_as_if_the_plugin_were_not_there_and_all_others_with_it() {
    let is_poison = |number| number % 97 == 5;
    let logins = logins(1500, is_poison);
    let expected: Vec<(i64, usize)> = (0..1500).filter(|n| is_poison(*n)).map(|n| (n as i64, GUEST)).collect();
    let well = run(&well(), &logins, 5000);
    for role in ["validator", "enricher"] {
        let chain = chain(&json!({ "how": "trap", "when_user": "poison", "role": role }), OnFailure::Bypass);
        for size in SIZES {
            let result = run(&chain, &logins, size);
            assert_eq!(result.bypassed, expected, "{role} in batches of {size}");
            assert_eq!(result.rejected, well.rejected, "{role} in batches of {size}");
            assert_eq!(result.insights, well.insights, "{role} in batches of {size}");
            let sets_field = |value: &str| value.contains("\"guest_user_bytes\"");
            for ((offset, value), (_, well)) in result.processed.iter().zip(&well.processed) {
                let is_without = role == "enricher" && is_poison(*offset as usize);
                assert!(sets_field(well) && sets_field(value) != is_without, "{value}");
                assert!(is_without || value == well, "{value} is not {well}");
            }
            assert_eq!(result.processed.len(), well.processed.len());
        }
    }
}

#[test]
fn a_plugin_that_fails_in_two_roles_is_bypassed_once_and_a_failing_window_is_no_reason_to_bypass() {
    let logins = logins(200, |number| number % 50 == 5);
    let both = chain(&json!({ "how": "trap", "when_user": "poison" }), OnFailure::Bypass);
    let poison: Vec<(i64, usize)> = [5, 55, 105, 155].map(|offset| (offset, GUEST)).to_vec();
    assert_eq!(run(&both, &logins, 100).bypassed, poison);
    let generator = json!({ "how": "trap", "role": "insight-generator" });
    let bypassed = run(&chain(&generator, OnFailure::Bypass), &logins, 100);
    assert_eq!(bypassed, run(&chain(&generator, OnFailure::Reject), &logins, 100));
    assert_eq!(bypassed.bypassed, []);
    assert!(bypassed.insights.iter().any(|insight| insight.contains("\"kind\":\"plugin_failed\"")));
}

/// Whatever came of logins, but not how many calls failed.
fn outcome(result: &Result) -> Result {
    Result { failures: 0, ..result.clone() }
}

/// Runs until it is stopped, and on with the same plugins that behave; all comes to what it would have come to.
fn stops_and_goes_on(guest: &Value, logins: &[Vec<u8>], size: usize, stopped_at: i64) -> loginscope::pipeline::Stopped {
    let bad = chain(guest, OnFailure::Stop);
    let mut process = InProcess::new(&bad, 100);
    let mut result = Result::default();
    process.run(logins, size, &mut result);
    let stopped = result.stopped.take().expect("it was stopped");
    assert_eq!((process.next_offset(), stopped.plugin), (stopped_at, GUEST), "in batches of {size}");
    let before = run(&well(), &logins[..stopped_at as usize], size);
    assert_eq!(outcome(&result), outcome(&before), "what is before it went out, and nothing else");
    // It stays so as long as the plugin fails.
    let state = process.partition.state.to_bytes();
    for _ in 0..3 {
        let mut again = Result::default();
        process.run(&logins[stopped_at as usize..], size, &mut again);
        assert_eq!(again.stopped.take().map(|stopped| stopped.plugin), Some(GUEST));
        assert_eq!(outcome(&again), outcome(&Result::default()));
        assert_eq!(process.partition.state.to_bytes(), state, "it leaves no trace");
    }
    process.adopt(&Arc::new(bad.next(well().plugins.clone(), Keep::Declared).unwrap()));
    process.run(&logins[stopped_at as usize..], size, &mut result);
    assert_eq!(outcome(&result), outcome(&run(&well(), logins, size)), "in batches of {size}");
    stopped
}

#[test]
fn a_login_that_is_waited_for_stops_all_behind_it_and_loses_nothing() {
    let logins = logins(1000, |number| number == 333 || number == 334 || number == 800);
    for role in ["validator", "enricher"] {
        for size in SIZES {
            let guest = json!({ "how": "trap", "when_user": "poison", "role": role });
            let stopped = stops_and_goes_on(&guest, &logins, size, 333);
            assert_eq!(stopped.window, None);
            assert!(stopped.reason.contains("trap"), "{}", stopped.reason);
        }
    }
}

#[test]
fn a_window_that_is_waited_for_stops_at_the_login_that_completes_it() {
    let logins: Vec<Vec<u8>> = (0..350).map(|number| login(number, &format!("user-{}", number % 30))).collect();
    for size in SIZES {
        let stopped = stops_and_goes_on(&json!({ "how": "trap", "role": "insight-generator" }), &logins, size, 99);
        assert_eq!(stopped.window, Some(1));
    }
}

#[test]
fn the_policy_belongs_to_the_name_and_survives_swaps() {
    let first = chain(&json!({}), OnFailure::Bypass);
    let bad = chain(&json!({ "how": "trap", "when_user": "poison" }), OnFailure::Reject);
    let next = Arc::new(first.next(bad.plugins.clone(), Keep::Declared).unwrap());
    assert_eq!(next.on_failure(GUEST), OnFailure::Bypass);
    assert_eq!(next.on_failure(0), OnFailure::Reject);
    assert_eq!(run(&next, &logins(100, |number| number == 5), 100).bypassed, [(5, GUEST)]);
}

#[test]
fn a_plugin_that_always_fails_is_left_alone_and_asked_again_now_and_then() {
    for role in ["validator", "enricher"] {
        let bad = chain(&json!({ "how": "trap", "when_user": "poison", "role": role }), OnFailure::Bypass);
        let (poison, ordinary) = (logins(4000, |_| true), logins(200, |_| false));
        let mut process = InProcess::new(&bad, 100);
        let mut batch = |logins: &[Vec<u8>], seconds: u64| {
            process.now += Duration::from_secs(seconds);
            let mut result = Result::default();
            process.run(logins, 5000, &mut result);
            let places: BTreeSet<i64> = result.bypassed.iter().map(|(offset, _)| *offset).collect();
            assert_eq!(places.len(), result.bypassed.len());
            (result.processed.len(), places.len(), result.failures, process.pipeline.left_alone().collect::<Vec<_>>())
        };
        let (processed, bypassed, failures, left_alone) = batch(&poison, 0);
        assert_eq!((processed, bypassed, left_alone), (4000, 4000, vec![GUEST]));
        assert!(failures < 1000, "{failures} calls for 4000 logins");
        // It isn't even asked about logins on which it wouldn't fail, but in its other role it is: there it rejects seven of them.
        let (_, bypassed, failures, _) = batch(&ordinary, 0);
        assert_eq!((bypassed, failures), (if role == "enricher" { 193 } else { 200 }, 0), "{role}");
        let (_, bypassed, failures, left_alone) = batch(&poison, 1);
        assert_eq!((bypassed, left_alone), (4000, vec![GUEST]));
        // Anew, where its instance has served others.
        assert!(failures == 1 || failures == 2, "one login is tried, not {failures}");
        assert_eq!(batch(&poison, 1), (4000, 4000, 0, vec![GUEST]), "and the next one in two seconds");
        let (_, bypassed, failures, left_alone) = batch(&ordinary, 1);
        assert_eq!((bypassed, failures, left_alone), (0, 0, vec![]), "{role}: a try that succeeds ends it");
    }
}

#[test]
fn other_plugins_are_asked_at_once_and_the_same_ones_stay_alone() {
    let bad = chain(&json!({ "how": "trap", "role": "enricher" }), OnFailure::Bypass);
    let mut process = InProcess::new(&bad, 100);
    let logins = logins(500, |_| false);
    process.run(&logins, 500, &mut Result::default());
    let left_alone = |process: &InProcess| process.pipeline.left_alone().collect::<Vec<_>>();
    assert_eq!(left_alone(&process), [GUEST]);
    process.adopt(&Arc::new(bad.next(bad.plugins.clone(), Keep::Declared).unwrap()));
    assert_eq!(left_alone(&process), [GUEST]);
    process.adopt(&Arc::new(bad.next(well().plugins.clone(), Keep::Declared).unwrap()));
    assert_eq!(left_alone(&process), [0_usize; 0]);
    let mut result = Result::default();
    process.run(&logins, 500, &mut result);
    assert_eq!((result.bypassed.len(), result.failures), (0, 0));
}

/// A login is rejected as `plugin_failed` only where the plugin has failed on that very login.
#[test]
fn a_plugin_whose_logins_are_rejected_is_asked_about_each_of_them() {
    let bad = chain(&json!({ "how": "trap", "when_user": "poison" }), OnFailure::Reject);
    let mut logins = logins(400, |_| true);
    logins.push(login(400, "user-1"));
    let result = run(&bad, &logins, 5000);
    assert!(result.rejected.iter().all(|rejected| rejected.1 == "plugin_failed") && result.rejected.len() == 400);
    assert_eq!(result.processed.len(), 1);
    assert!(result.failures >= 400);
}

/// Pipes logins of an ordinary user, with poison at one place, with the guest alone and its policy.
fn pipe(folder: &TempDir, logins: &[Vec<u8>], on_failure: &str) -> Output {
    let path = |name: &str| folder.path().join(name);
    let guest = "[misbehave]\nhow = \"trap\"\nwhen_user = \"poison\"\n";
    let config = format!("plugins = [\"misbehave.wasm\"]\n{guest}[policy.misbehave]\non_failure = \"{on_failure}\"\n");
    fs::write(path("loginscope.toml"), config).unwrap();
    fs::write(path("misbehave.wasm"), misbehave()).unwrap();
    fs::write(path("input"), logins.join(&b'\n')).unwrap();
    Command::new(loginscope_tests::binary())
        .current_dir(folder.path())
        .args(["pipe", "--config", "loginscope.toml", "--state", "state"])
        .stdin(Stdio::from(fs::File::open(path("input")).unwrap()))
        .output()
        .unwrap()
}

#[test]
fn pipe_counts_what_was_bypassed_and_ends_where_it_would_have_to_wait() {
    let user = |number| if number == 5 { "poison" } else { "ann" };
    let logins: Vec<Vec<u8>> = (0..10).map(|number| login(number, user(number))).collect();
    let lines = |output: &Output| String::from_utf8_lossy(&output.stdout).lines().count();
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let bypassed = pipe(&folder, &logins, "bypass");
    assert_eq!((bypassed.status.code(), lines(&bypassed)), (Some(0), 10));
    assert!(said(&bypassed).contains("10 logins accepted, 0 rejected, "), "{}", said(&bypassed));
    assert!(said(&bypassed).ends_with(", 1 without misbehave@0.1.0"), "{}", said(&bypassed));

    let folder = tempfile::tempdir().unwrap();
    let stopped = pipe(&folder, &logins, "stop");
    assert_eq!((stopped.status.code(), lines(&stopped)), (Some(1), 5));
    let sentence = said(&stopped);
    assert!(sentence.starts_with("loginscope: misbehave@0.1.0 fails on the line at offset 5, "), "{sentence}");
    // The state is that of what was done: the rest of the lines goes on from there.
    let rest = pipe(&folder, &logins[5..], "bypass");
    assert_eq!((rest.status.code(), lines(&rest)), (Some(0), 5));
}
