//! What goes in, what comes out, and how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use loginscope::generator::Options;
use loginscope_kafka::OwnedRecord;
use loginscope_tests::kafka::{Message, Scene, cluster, header, id, logins};
use serde_json::Value;

const PARTITIONS: u16 = 4;

/// Headers that go on with a login, and such as only pretend to come from loginscope.
fn with_headers(mut messages: Vec<Message>) -> Vec<Message> {
    for message in &mut messages {
        message.headers = vec![
            ("trace", vec![0, 0xff, 0x80]),
            ("loginscope-origin", b"batch-7".to_vec()),
            ("loginscope-code", b"forged".to_vec()),
            ("loginscope-source-offset", b"-1".to_vec()),
            ("loginscope-anything", b"forged".to_vec()),
            ("loginscope-attempt", b"2".to_vec()),
            ("trace", b"again".to_vec()),
        ];
    }
    messages
}

fn text(value: Option<&Vec<u8>>) -> &str {
    std::str::from_utf8(value.expect("a value")).unwrap()
}

fn json(value: Option<&Vec<u8>>) -> Value {
    serde_json::from_slice(value.expect("a value")).unwrap()
}

/// The input's headers without those that are not carried over.
fn carried_over(input: &OwnedRecord) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let kept = |name: &[u8]| {
        !name.starts_with(b"loginscope-") || name == b"loginscope-origin" || name == b"loginscope-attempt"
    };
    input.headers.iter().filter(|(name, _)| kept(name)).cloned().collect()
}

fn check_source(output: &OwnedRecord, input: &OwnedRecord, topic: &str) {
    assert_eq!(header(output, "loginscope-source-topic"), Some(topic));
    assert_eq!(header(output, "loginscope-source-partition"), Some(input.partition.to_string().as_str()));
    assert_eq!(header(output, "loginscope-source-offset"), Some(input.offset.to_string().as_str()));
}

fn check_processed(output: &OwnedRecord, input: &OwnedRecord, topic: &str) {
    check_source(output, input, topic);
    assert_eq!(output.partition, input.partition, "the same key goes to the same partition");
    assert_eq!(output.timestamp, input.timestamp);
    let login = json(output.payload.as_ref());
    assert_eq!(login["user_id"], text(output.key.as_ref()));
    let carried = carried_over(input);
    assert_eq!(&output.headers[..carried.len()], carried, "headers of {}", id(input));
    assert_eq!(output.headers.len(), carried.len() + 3, "nothing but the source is added");
}

fn check_rejected(output: &OwnedRecord, input: &OwnedRecord, topic: &str) {
    check_source(output, input, topic);
    assert_eq!(output.payload, input.payload, "a rejected message is as it was");
    assert_eq!(output.key, input.key);
    let code = header(output, "loginscope-code").unwrap();
    let reason = header(output, "loginscope-reason").unwrap();
    assert!(!reason.is_empty() && reason.len() <= 256 && !reason.contains(char::is_control), "{reason:?}");
    let by_the_host = ["not_json", "not_an_object", "duplicate_field", "wrong_type"].contains(&code);
    let by_a_plugin = ["missing_", "invalid_"].iter().any(|prefix| code.starts_with(prefix))
        || ["timestamp_out_of_range", "field_too_long"].contains(&code);
    assert!(by_the_host != by_a_plugin, "{code}");
    assert_eq!(header(output, "loginscope-stage"), Some(if by_the_host { "decode" } else { "validate" }), "{code}");
    assert_eq!(header(output, "loginscope-plugin"), by_a_plugin.then_some("validate-logins@0.1.0"), "{code}");
    let at = header(output, "loginscope-rejected-at").unwrap();
    let shape: String = at.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let carried = carried_over(input);
    assert_eq!(&output.headers[..carried.len()], carried, "headers of {}", id(input));
    assert_eq!(output.headers.len(), carried.len() + 4 + 3 + usize::from(by_a_plugin), "and no others are added");
}

/// Each partition has its windows, one after the other, each of 100 logins; `accepted` are offsets by partition.
fn check_windows(insights: &[OwnedRecord], accepted: &BTreeMap<i32, BTreeSet<i64>>, topic: &str) {
    let mut windows: BTreeMap<i32, Vec<Value>> = BTreeMap::new();
    for record in insights {
        let insight = json(record.payload.as_ref());
        let partition = insight["window"]["partition"].as_i64().unwrap() as i32;
        assert_eq!(text(record.key.as_ref()), format!("{topic}/{partition}"));
        windows.entry(partition).or_default().push(insight);
    }
    for (partition, offsets) in accepted {
        let offsets: Vec<i64> = offsets.iter().copied().collect();
        let windows = windows.remove(partition).unwrap_or_default();
        assert_eq!(windows.len(), offsets.len() / 100, "windows of partition {partition}");
        for (number, (insight, logins)) in (1..).zip(windows.iter().zip(offsets.chunks_exact(100))) {
            let window = &insight["window"];
            assert_eq!(insight["id"], format!("{topic}/{partition}/{number}/summary"));
            assert_eq!((&window["number"], &window["logins"]), (&number.into(), &100.into()));
            assert_eq!((&window["first_offset"], &window["last_offset"]), (&logins[0].into(), &logins[99].into()));
        }
    }
    assert!(windows.is_empty(), "windows of partitions without logins");
}

/// What `loginscope pipe` makes of these values.
fn piped(values: impl Iterator<Item = Vec<u8>>, folder: &Path) -> String {
    let input = folder.join("input.jsonl");
    fs::write(&input, values.flat_map(|value| [value, b"\n".to_vec()].concat()).collect::<Vec<u8>>()).unwrap();
    let output = Command::new(loginscope_tests::binary())
        .arg("pipe")
        .stdin(fs::File::open(input).unwrap())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// What kcat reads from a topic: a line with partition, offset, key and size a record. `None` where there is no kcat.
fn read_by_kcat(scene: &Scene, topic: &str) -> Option<BTreeSet<String>> {
    let output = Command::new("kcat")
        .args(["-b", &scene.settings.brokers, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %k %S\n"])
        .stderr(Stdio::inherit())
        .output()
        .ok()?;
    assert!(output.status.success(), "kcat failed");
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn every_message_ends_in_exactly_one_topic_and_a_restart_goes_on_without_a_gap() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "end-to-end", PARTITIONS);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("loginscope.toml");
    fs::write(&config, "source_headers = true\n").unwrap();
    let arguments = ["--workers", "2", "--config", config.to_str().unwrap()];
    let messages = with_headers(logins(6000, Options { malformed: 0.1, users: 500, seed: 7, ..Options::default() }));

    let mut instance = scene.run_with_partitions(&arguments);
    assert!(instance.get("/healthz").ends_with("ok\n"));
    scene.write(&messages[..5000]);
    let mut outputs = scene.outputs();
    outputs.wait_for(5000);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(5000);
    let insights = scene.all(&scene.insights);

    let mut accepted: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    let inputs: BTreeMap<u64, OwnedRecord> =
        scene.all(&scene.input).into_iter().map(|record| (id(&record), record)).collect();
    for output in &outputs.processed.records {
        let input = &inputs[&id(output)];
        check_processed(output, input, &scene.input);
        accepted.entry(input.partition).or_default().insert(input.offset);
    }
    for output in &outputs.rejected.records {
        check_rejected(output, &inputs[&id(output)], &scene.input);
    }
    let codes: BTreeSet<_> = outputs.rejected.records.iter().map(|record| header(record, "loginscope-code")).collect();
    assert_eq!(codes.len(), 13, "every code that a message of ordinary size can get: {codes:?}");
    check_windows(&insights, &accepted, &scene.input);
    compare_with_pipe(&inputs, &outputs.processed.records, folder.path());

    // From the committed offsets: nothing again, nothing left out.
    let mut instance = scene.run_with_partitions(&arguments);
    scene.write(&messages[5000..]);
    outputs.wait_for(6000);
    assert_eq!(instance.ended_by("INT"), Some(130), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(6000);
    assert_eq!(outputs.repeated(), [0_u64; 0], "after a clean end nothing is done again");
    if let Some(lines) = read_by_kcat(&scene, &scene.processed) {
        let line = |record: &OwnedRecord| {
            let size = record.payload.as_ref().map_or(0, Vec::len);
            format!("{} {} {} {size}", record.partition, record.offset, text(record.key.as_ref()))
        };
        assert_eq!(lines, outputs.processed.records.iter().map(line).collect());
    }
}

/// The values and their order, partition by partition, are those that `loginscope pipe` gives.
fn compare_with_pipe(inputs: &BTreeMap<u64, OwnedRecord>, processed: &[OwnedRecord], folder: &Path) {
    for partition in 0..i32::from(PARTITIONS) {
        let mut input: Vec<&OwnedRecord> = inputs.values().filter(|record| record.partition == partition).collect();
        input.sort_by_key(|record| record.offset);
        let expected = piped(input.iter().map(|record| record.payload.clone().unwrap_or_default()), folder);
        let mut actual: Vec<&OwnedRecord> = processed.iter().filter(|record| record.partition == partition).collect();
        actual.sort_by_key(|record| record.offset);
        assert_eq!(actual.len(), expected.lines().count(), "partition {partition}");
        for (actual, expected) in actual.iter().zip(expected.lines()) {
            assert_eq!(text(actual.payload.as_ref()), expected, "partition {partition}, message {}", id(actual));
        }
    }
}
