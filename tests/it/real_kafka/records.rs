//! Anything that a Kafka message can be ends in exactly one topic, and other clients read there what was written.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use loginscope_kafka::{ClientSettings, Header, MessageLimit, OwnedRecord, Producer, ProducerOptions, Record, Topics};
use loginscope_tests::instance::{PATIENCE, wait_until};
use loginscope_tests::kafka::{Scene, cluster, header, id};
use serde_json::Value;

const LOGIN: &[u8] = br#"{"user_id":"u1","timestamp":1694479551,"ip":"1.2.3.4"}"#;

/// More than what the topics take that are created for messages of 1 MiB.
const HUGE: usize = 2 << 20;

/// A key, a value or a header's value.
type Bytes<'a> = Option<&'a [u8]>;

/// Writes messages of any kind, which get ids from 0, and waits until they are there.
fn write(scene: &Scene, messages: &[Record<'_>]) {
    let mut producer = Producer::new(&scene.settings, ProducerOptions { max_message_bytes: 8 << 20 }).unwrap();
    for (id, message) in messages.iter().enumerate() {
        let id = id.to_string();
        let headers = [&[Header { name: b"id", value: Some(id.as_bytes()) }], message.headers].concat();
        producer.send(&Record { topic: &scene.input, headers: &headers, ..*message }, &|| false).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// The hash of Kafka's Java clients.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let mut word = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

fn by_id(records: &[OwnedRecord]) -> BTreeMap<u64, &OwnedRecord> {
    records.iter().map(|record| (id(record), record)).collect()
}

/// The headers that don't come from loginscope, without the id.
fn foreign(record: &OwnedRecord) -> Vec<(&[u8], Bytes<'_>)> {
    let is_foreign = |name: &[u8]| name != b"id" && (!name.starts_with(b"loginscope-") || name.ends_with(b"-origin"));
    let all = record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
    all.filter(|(name, _)| is_foreign(name)).collect()
}

#[test]
fn whatever_a_message_is_made_of_it_ends_in_one_topic_and_no_other_client_reads_it_otherwise() {
    const PARTITIONS: u16 = 5;
    let mut kafka = cluster();
    let scene = Scene::new(&mut kafka, "records", PARTITIONS);
    let odd = [
        Header { name: b"null", value: None },
        Header { name: b"empty", value: Some(b"") },
        Header { name: b"twice", value: Some(b"1") },
        Header { name: b"loginscope-origin", value: None },
        Header { name: b"loginscope-made-up", value: None },
        Header { name: b"twice", value: Some(b"2") },
    ];
    let kept = [(&b"null"[..], None), (b"empty", Some(&b""[..])), (b"twice", Some(b"1")), (b"loginscope-origin", None)];
    let kept: Vec<_> = kept.into_iter().chain([(&b"twice"[..], Some(&b"2"[..]))]).collect();
    let message = Record { headers: &odd, ..Record::default() };
    write(
        &scene,
        &[
            Record { key: Some(b"u1"), payload: Some(LOGIN), ..message },
            Record { key: None, payload: Some(LOGIN), ..message },
            Record { key: Some(b"a tombstone"), payload: None, ..message },
            Record { key: Some(b""), payload: Some(b""), ..message },
            Record { key: None, payload: None, ..message },
            Record { key: None, payload: Some(b"[]"), ..message },
        ],
    );
    let mut instance = scene.run_with_partitions(&["--workers", "2"]);
    let mut outputs = scene.outputs();
    outputs.wait_for(6);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(6);
    let (processed, rejected) = (by_id(&outputs.processed.records), by_id(&outputs.rejected.records));
    for record in processed.values() {
        assert_eq!((record.key.as_deref(), foreign(record)), (Some(&b"u1"[..]), kept.clone()));
    }
    let expected: [(&str, Bytes<'_>, Bytes<'_>); 4] = [
        ("not_json", Some(b"a tombstone"), None),
        ("not_json", Some(b""), Some(b"")),
        ("not_json", None, None),
        ("not_an_object", None, Some(b"[]")),
    ];
    for ((code, key, payload), (id, record)) in expected.into_iter().zip(&rejected) {
        assert_eq!(header(record, "loginscope-code"), Some(code), "message {id}");
        assert_eq!((record.key.as_deref(), record.payload.as_deref()), (key, payload), "message {id}");
        assert_eq!(foreign(record), kept, "message {id}");
    }
    let all = outputs.processed.records.iter().chain(&outputs.rejected.records);
    for (key, record) in all.filter_map(|record| Some((record.key.as_deref()?, record))) {
        assert_eq!(record.partition as u32, (murmur2(key) & 0x7fff_ffff) % u32::from(PARTITIONS), "key {key:?}");
    }
    let topics = Topics::connect(&scene.settings, Duration::from_secs(30)).unwrap();
    for topic in [&scene.processed, &scene.insights, &scene.rejected] {
        assert_eq!(topics.partitions(topic), Ok(Some(i32::from(PARTITIONS))), "as many as the input has");
        assert_eq!(topics.message_limits(&[topic]).unwrap(), [MessageLimit::Known((1 << 20) + (64 << 10))]);
    }
    compare_with_kcat(&scene.settings, &scene.processed, &outputs.processed.records);
    compare_with_kcat(&scene.settings, &scene.rejected, &outputs.rejected.records);
}

/// kcat, where it is installed, reads the same keys, values and headers.
fn compare_with_kcat(settings: &ClientSettings, topic: &str, records: &[OwnedRecord]) {
    let arguments = ["-b", &settings.brokers, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J"];
    let Ok(output) = Command::new("kcat").args(arguments).stderr(Stdio::inherit()).output() else { return };
    assert!(output.status.success(), "kcat failed");
    let text = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, |bytes| String::from_utf8_lossy(bytes).into());
    let mut read = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        read.insert((line["partition"].as_i64().unwrap(), line["offset"].as_i64().unwrap()), line);
    }
    assert_eq!(read.len(), records.len());
    for record in records {
        let line = &read[&(i64::from(record.partition), record.offset)];
        let headers = record.headers.iter().flat_map(|(name, value)| [text(Some(name)), text(value.as_deref())]);
        assert_eq!(line["headers"], headers.collect::<Value>(), "{line}");
        assert_eq!(line["payload"], text(record.payload.as_deref()), "{line}");
        assert_eq!(line["key"], text(record.key.as_deref()), "{line}");
    }
}

#[test]
fn no_part_of_a_message_is_too_large_to_be_rejected() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "huge", 1);
    let input = format!("{}-that-takes-more", scene.input);
    kafka.create_topic(&input, 1, &[("max.message.bytes", &(8 << 20).to_string())]).unwrap();
    scene.input = input;
    let huge = vec![b'x'; HUGE];
    let large = [Header { name: b"large", value: Some(&huge) }];
    write(
        &scene,
        &[
            Record { key: Some(b"k"), payload: Some(&huge), ..Record::default() },
            Record { key: Some(&huge), payload: Some(b"not json"), ..Record::default() },
            Record { key: Some(b"k"), payload: Some(b"not json"), headers: &large, ..Record::default() },
            Record { key: Some(b"k"), payload: Some(LOGIN), headers: &large, ..Record::default() },
            Record { key: Some(b"k"), payload: None, headers: &large, ..Record::default() },
            Record { key: Some(&huge), payload: None, headers: &large, ..Record::default() },
            Record { key: Some(&huge), payload: Some(LOGIN), ..Record::default() },
        ],
    );
    let mut instance = scene.run_with_partitions(&[]);
    let ended = || scene.all(&scene.processed).len() + scene.all(&scene.rejected).len();
    wait_until("all messages", || instance.log().clone(), || (ended() >= 7).then_some(()));
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    assert_eq!(scene.all(&scene.processed).iter().map(id).collect::<Vec<_>>(), [6], "its key is the user's");
    let rejected = scene.all(&scene.rejected);
    let offset = |record: &OwnedRecord| header(record, "loginscope-source-offset").unwrap().parse::<u64>().unwrap();
    assert_eq!(rejected.iter().map(offset).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let rejected: BTreeMap<u64, &OwnedRecord> = rejected.iter().map(|record| (offset(record), record)).collect();
    let told = |id: u64| {
        let from = header(rejected[&id], "loginscope-truncated-from").map(|bytes| bytes.parse::<usize>().unwrap());
        (header(rejected[&id], "loginscope-code").unwrap(), from, foreign(rejected[&id]).len())
    };
    let bytes = |part: &Option<Vec<u8>>| part.as_ref().map(Vec::len);
    let sizes = |id: u64| (bytes(&rejected[&id].key), bytes(&rejected[&id].payload));
    let is_cut = |size: Option<usize>| size.is_some_and(|size| size > HUGE / 3 && size < HUGE);
    assert!(is_cut(sizes(0).1), "{:?}", sizes(0));
    assert_eq!((told(0), sizes(0).0), (("too_large", Some(HUGE), 0), Some(1)));
    assert!(is_cut(sizes(1).0), "{:?}", sizes(1));
    assert_eq!((told(1), sizes(1).1), (("not_json", Some(8), 0), Some(0)));
    assert_eq!((told(2), sizes(2)), (("not_json", Some(8), 0), (Some(1), Some(8))));
    assert_eq!((told(3), sizes(3)), (("enriched_too_large", Some(LOGIN.len()), 0), (Some(1), Some(LOGIN.len()))));
    assert_eq!((told(4), sizes(4)), (("not_json", Some(0), 0), (Some(1), None)));
    assert!(is_cut(sizes(5).0), "{:?}", sizes(5));
    assert_eq!((told(5), sizes(5).1), (("not_json", Some(0), 0), None));
}

#[test]
fn an_insight_that_its_topic_does_not_take_is_left_out_and_told() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "small-insights", 1);
    kafka.create_topic(&scene.insights, 1, &[("max.message.bytes", "1000")]).unwrap();
    scene.write(&super::well_formed(350, 1));
    let mut instance = scene.run_with_partitions(&[]);
    let mut outputs = scene.outputs();
    outputs.wait_for(350);
    instance.metric_reaches("loginscope_insights_too_large_total{kind=\"summary\"}", 3);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    assert_eq!(instance.lines_with("is left out, for its topic takes 1000"), 1);
    assert!(scene.all(&scene.insights).is_empty());
}
