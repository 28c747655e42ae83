use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loginscope_login::decode::InputFormat;
use loginscope_state::Partition;

use super::*;
use crate::pipeline::batch::{OutputLimits, PartitionState};
use crate::pipeline::plugins::{DEFAULTS, PluginSet, PluginSource};
use crate::pipeline::{Message, Output, Pipeline, TotalsBoard};

/// Every code that a message of ordinary size can be rejected with, of the host's and of `validate-logins`.
const CODES: [&str; 13] = [
    "duplicate_field",
    "field_too_long",
    "invalid_ip",
    "invalid_outcome",
    "invalid_timestamp",
    "invalid_user_id",
    "missing_ip",
    "missing_timestamp",
    "missing_user_id",
    "not_an_object",
    "not_json",
    "timestamp_out_of_range",
    "wrong_type",
];

fn messages(options: Options, count: usize) -> Vec<Made> {
    let mut generator = Generator::new(options).unwrap();
    (0..count)
        .map(|_| {
            let mut made = Made::default();
            generator.make(&mut made);
            made
        })
        .collect()
}

fn payloads(made: &[Made]) -> Vec<(&str, Option<&[u8]>)> {
    made.iter().map(|made| (made.key.as_str(), made.payload())).collect()
}

/// The code with which the default plugins reject each message; none for one that they accept.
fn codes(messages: &[Option<&[u8]>], timestamp_ms: Option<i64>) -> Vec<Option<String>> {
    let inside = DEFAULTS.iter().map(|(name, bytes)| PluginSource::Inside { name, bytes }).collect();
    let plugins = PluginSet::new(inside, BTreeMap::new(), InputFormat::default()).unwrap();
    let chain = Arc::new(plugins.load().unwrap());
    let state = Box::new(Partition::new(Arc::clone(&chain.catalog), 100));
    let mut partition = PartitionState { topic: "user-login".into(), number: 0, has_siblings: false, state };
    let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: usize::MAX };
    let batch: Vec<Message<'_>> = (0..)
        .zip(messages)
        .map(|(offset, payload)| Message { offset, payload: *payload, timestamp_ms, ..Message::default() })
        .collect();
    let mut output = Output::default();
    Pipeline::new(chain, limits).unwrap().process(
        &mut partition,
        &batch,
        &TotalsBoard::default(),
        std::time::Instant::now(),
        &mut output,
    );
    let mut codes = vec![None; messages.len()];
    for (place, rejected) in output.rejected {
        codes[place] = Some(rejected.rejection.code.to_string());
    }
    codes
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let options = Options { malformed: 0.1, outcome: 0.5, seed: 7, ..Options::default() };
    assert_eq!(payloads(&messages(options, 1000)), payloads(&messages(options, 1000)));
    assert_ne!(payloads(&messages(options, 10)), payloads(&messages(Options { seed: 8, ..options }, 10)));
}

#[test]
fn logins_look_like_the_originals() {
    let lines: Vec<String> =
        messages(Options::default(), 6).into_iter().map(|made| String::from_utf8(made.value).unwrap()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn logins_have_everything_that_the_originals_have() {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for made in messages(Options::default(), 2000) {
        let login: serde_json::Value = serde_json::from_slice(&made.value).unwrap();
        seen.insert(match &login["timestamp"] {
            serde_json::Value::String(_) => "timestamp as text",
            _ => "timestamp as number",
        });
        seen.insert(match login["device_type"].as_str() {
            Some("android") => "android",
            Some("iOS") => "iOS",
            None => "no device type",
            other => panic!("{other:?}"),
        });
        let device = login["device_id"].as_str().unwrap();
        let digits: Vec<usize> = device.split('-').map(str::len).collect();
        seen.insert(if digits == [3, 2, 4] { "device id like 593-47-5928" } else { "device id like a UUID" });
        assert!(STATES.contains(&login["locale"].as_str().unwrap()));
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}

#[test]
fn every_login_is_keyed_by_its_user_and_users_follow_zipf() {
    let mut users: BTreeMap<String, u64> = BTreeMap::new();
    for made in messages(Options { users: 1000, ..Options::default() }, 20_000) {
        let login: serde_json::Value = serde_json::from_slice(&made.value).unwrap();
        assert_eq!(login["user_id"], made.key.as_str());
        *users.entry(made.key).or_default() += 1;
    }
    let mut counts: Vec<u64> = users.into_values().collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    assert!(counts[0] > 20_000 / 10, "the busiest of 1,000 users has about an eighth of all logins: {}", counts[0]);
    assert!(counts.len() > 900, "nearly every user logs in: {}", counts.len());
}

#[test]
fn the_share_of_malformed_messages_is_as_asked_and_none_holds_a_line_feed() {
    let made = messages(Options { malformed: 0.25, ..Options::default() }, 8000);
    let malformed = made.iter().filter(|made| made.malformed.is_some()).count();
    assert!((1800..=2200).contains(&malformed), "a quarter of 8,000 is 2,000: {malformed}");
    let kinds: BTreeSet<&str> = made.iter().filter_map(|made| Some(made.malformed?.name)).collect();
    assert_eq!(kinds.len(), ALL_MALFORMED.len(), "every kind comes up, and each has a name of its own");
    assert!(made.iter().all(|made| !made.value.contains(&b'\n')));
    assert!(made.iter().any(|made| made.is_tombstone && made.value.is_empty()));
}

#[test]
fn good_logins_are_accepted_with_and_without_record_timestamps() {
    let made = messages(Options { outcome: 0.5, ..Options::default() }, 500);
    let payloads: Vec<_> = made.iter().map(Made::payload).collect();
    for timestamp_ms in [None, Some(Options::default().start * 1000)] {
        assert!(codes(&payloads, timestamp_ms).iter().all(Option::is_none));
    }
}

#[test]
fn each_kind_of_malformed_message_is_rejected_with_the_code_it_is_made_for() {
    let logins = messages(Options { outcome: 0.5, ..Options::default() }, 20);
    let logins: Vec<&str> = logins.iter().map(|made| std::str::from_utf8(&made.value).unwrap()).collect();
    let spoiled: Vec<(&Malformed, Option<Vec<u8>>)> = ALL_MALFORMED
        .iter()
        .flat_map(|malformed| logins.iter().map(move |login| (malformed, malformed.spoil(login))))
        .collect();
    let payloads: Vec<_> = spoiled.iter().map(|(_, value)| value.as_deref()).collect();
    for timestamp_ms in [None, Some(Options::default().start * 1000)] {
        for ((malformed, value), code) in spoiled.iter().zip(codes(&payloads, timestamp_ms)) {
            let shown = value.as_ref().map(|value| String::from_utf8_lossy(value));
            assert_eq!(code.as_deref(), Some(malformed.code), "{}: {shown:?}", malformed.name);
            assert!(!value.as_ref().is_some_and(|value| value.contains(&b'\n')), "{}", malformed.name);
        }
    }
    let made_for: BTreeSet<&str> = ALL_MALFORMED.iter().map(|malformed| malformed.code).collect();
    assert!(made_for.iter().eq(&CODES), "codes without a message that gets them, or the other way round: {made_for:?}");
}
