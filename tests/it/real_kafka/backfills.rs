//! `plugin deploy --backfill`: an aggregate that is new knows the past at its first live login, whoever comes, goes or dies meanwhile.
//!
//! The guest says of each login how many of its user it has counted before; `enrich-logins`, which has been there from the first login
//! on, says it as well.

use std::time::Duration;

use loginscope_kafka::OwnedRecord;
use loginscope_tests::control::Control;
use loginscope_tests::fold::Fold;
use loginscope_tests::guests::misbehave;
use loginscope_tests::instance::Instance;
use loginscope_tests::kafka::{Message, Outputs, Scene, cluster, header};
use serde_json::Value;
use tempfile::TempDir;

use super::{configuration, is_summary, last_of_each, well_formed};

const CONFIGURATION: &str = "
source_headers = true
plugins_header = true
control_token = \"correct-horse-battery-staple\"
workers = 1
[kafka]
session.timeout.ms = 6000
transaction.timeout.ms = 3000
";

/// The guest in a file, with its settings in others.
struct Guest {
    folder: TempDir,
}

impl Guest {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("misbehave.wasm"), misbehave()).unwrap();
        std::fs::write(folder.path().join("without.json"), "{}").unwrap();
        std::fs::write(folder.path().join("with.json"), r#"{"history": true}"#).unwrap();
        let bad = r#"{"history": true, "how": "trap", "role": "enricher", "when_user": "mallory"}"#;
        std::fs::write(folder.path().join("bad.json"), bad).unwrap();
        Self { folder }
    }

    /// `loginscope plugin deploy` of the guest with these settings, and further arguments. Answers what it writes.
    fn deployed(&self, control: &Control, settings: &str, more: &[&str]) -> String {
        let file = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let (guest, settings) = (file("misbehave.wasm"), file(settings));
        control.done(&[&["deploy", &guest, "--settings", &settings], more].concat())
    }
}

/// Writes some logins every now and then as long as something isn't done.
fn write_while(scene: &mut Scene, load: &[Message], is_done: impl Fn() -> bool) {
    let mut some = load.chunks(100).cycle();
    while !is_done() {
        scene.write(some.next().unwrap());
        std::thread::sleep(Duration::from_millis(25));
    }
}

fn json(record: &OwnedRecord) -> Value {
    serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap()
}

/// Each login that went through the guest since this generation says of its user's past what it was. Answers how many did.
fn assert_the_past_is_known(processed: &[OwnedRecord], since: u64) -> usize {
    let generation = |record: &OwnedRecord| -> u64 {
        let plugins = header(record, "loginscope-plugins").unwrap();
        plugins.strip_prefix("generation=").unwrap().split(';').next().unwrap().parse().unwrap()
    };
    let with: Vec<&OwnedRecord> = processed.iter().filter(|record| generation(record) >= since).collect();
    for record in &with {
        let (login, place) = (json(record), header(record, "loginscope-source-offset"));
        let before = login["user_logins"].as_i64().unwrap() - 1;
        assert_eq!(login["guest_user_logins"].as_i64(), Some(before), "at {place:?}: {login}");
    }
    with.len()
}

fn assert_each_once(scene: &Scene, outputs: &mut Outputs) {
    outputs.wait_for(scene.written());
    outputs.arrived();
    outputs.assert_complete(scene.written());
    assert!(outputs.repeated().is_empty(), "{} logins came more than once", outputs.repeated().len());
    let summaries: Vec<OwnedRecord> = scene.all(&scene.insights).into_iter().filter(is_summary).collect();
    Fold::new(&outputs.processed.records).check(&summaries, 100);
}

fn end(mut instance: Instance) {
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
}

#[test]
fn a_new_aggregate_knows_the_past_at_its_first_login_while_logins_flow_and_after_a_restart() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "backfilled", 3);
    let (_folder, config) = configuration(&CONFIGURATION.replace("workers = 1", "workers = 2"));
    let guest = Guest::new();
    let load = well_formed(20_000, 5);
    let mut instance = scene.run_with_partitions(&["--config", &config]);
    let mut outputs = scene.outputs();
    scene.write(&load);
    outputs.wait_for(20_000);
    let control = Control::when_ready(&mut instance);
    guest.deployed(&control, "without.json", &[]);
    let dry = guest.deployed(&control, "with.json", &["--backfill", "--dry-run"]);
    assert!(
        dry.contains("misbehave/guest-user-logins would be computed from the topic's history, 20000 offsets"),
        "{dry}"
    );

    let told = std::thread::scope(|threads| {
        let deploying = threads.spawn(|| guest.deployed(&control, "with.json", &["--backfill"]));
        write_while(&mut scene, &load, || deploying.is_finished());
        deploying.join().unwrap()
    });
    assert!(told.contains("generation 3 serves"), "{told}");
    assert!(told.contains("misbehave/guest-user-logins computed from the topic's history"), "{told}");
    let partitions = told.lines().filter(|line| line.starts_with("  partition ") && line.contains(": offsets 0 to "));
    assert_eq!(partitions.count(), 3, "{told}");
    scene.write(&load[..3000]);
    assert_each_once(&scene, &mut outputs);
    let first = assert_the_past_is_known(&outputs.processed.records, 3);
    assert!(first >= 3000, "{first}");
    assert_eq!(instance.lines_with("backfilled in "), 3, "{}", instance.log());

    let again = guest.deployed(&control, "with.json", &["--backfill"]);
    assert!(again.contains("nothing to backfill"), "{again}");
    // What was computed is in the changelog, and isn't computed again.
    end(instance);
    let mut instance = scene.run_with_partitions(&["--config", &config]);
    scene.write(&load[..3000]);
    assert_each_once(&scene, &mut outputs);
    assert!(assert_the_past_is_known(&outputs.processed.records, 3) >= first + 3000);
    assert_eq!(instance.lines_with("backfill begins"), 0, "{}", instance.log());
    assert_eq!(instance.metric("loginscope_plugin_failures_total{plugin=\"misbehave@0.1.0\"}"), 0);
    end(instance);
}

#[test]
fn instances_that_join_and_are_killed_in_the_middle_of_it_take_nothing_from_it() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "backfill-killed", 4);
    let (_folder, config) = configuration(CONFIGURATION);
    let guest = Guest::new();
    let load = well_formed(40_000, 6);
    let mut one = scene.run_with_partitions(&["--config", &config, "--instance", "one"]);
    let mut outputs = scene.outputs();
    scene.write(&load);
    outputs.wait_for(40_000);
    let mut two = scene.run_with_partitions(&["--config", &config, "--instance", "two"]);
    let control = Control::when_ready(&mut one);
    Control::when_ready(&mut two);
    // One dies when it has begun, and another one comes in its place.
    let mut three = None;
    std::thread::scope(|threads| {
        let deploying = threads.spawn(|| guest.deployed(&control, "with.json", &["--backfill"]));
        let killing = threads.spawn(|| {
            two.line_with("backfill begins");
            assert_eq!(two.ended_by("KILL"), None);
        });
        write_while(&mut scene, &load, || killing.is_finished());
        killing.join().unwrap();
        three = Some(scene.run(&["--config", &config, "--instance", "three"]));
        write_while(&mut scene, &load, || deploying.is_finished());
        deploying.join().unwrap();
    });
    let mut three = three.unwrap();
    three.line_with("partition assigned");
    scene.write(&load[..4000]);
    assert_each_once(&scene, &mut outputs);
    assert!(assert_the_past_is_known(&outputs.processed.records, 2) >= 4000);
    end(one);
    scene.write(&load[..4000]);
    assert_each_once(&scene, &mut outputs);
    assert!(assert_the_past_is_known(&outputs.processed.records, 2) >= 8000);
    end(three);
}

#[test]
fn at_least_once_whoever_dies_right_after_it_has_lost_nothing_of_it() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "backfill-at-least", 2);
    let (_folder, config) = configuration(&format!("delivery = \"at_least_once\"\n{CONFIGURATION}"));
    let guest = Guest::new();
    let load = well_formed(10_000, 7);
    let mut one = scene.run_with_partitions(&["--config", &config, "--instance", "one"]);
    let mut outputs = scene.outputs();
    scene.write(&load);
    outputs.wait_for(10_000);
    let control = Control::when_ready(&mut one);
    std::thread::scope(|threads| {
        let deploying = threads.spawn(|| guest.deployed(&control, "with.json", &["--backfill"]));
        write_while(&mut scene, &load, || deploying.is_finished());
        deploying.join().unwrap();
    });
    assert_eq!(one.ended_by("KILL"), None);
    let two = scene.run_with_partitions(&["--config", &config, "--instance", "two"]);
    scene.write(&load[..2000]);
    outputs.wait_for(scene.written());
    outputs.arrived();
    outputs.assert_complete(scene.written());
    // What is done again may be done by other plugins the second time.
    let place = |record: &OwnedRecord| {
        let header = |name: &str| header(record, name).unwrap().to_owned();
        header("loginscope-source-partition") + "/" + &header("loginscope-source-offset")
    };
    let processed = last_of_each(outputs.processed.records.clone(), place);
    assert!(assert_the_past_is_known(&processed, 2) >= 2000);
    end(two);
}

#[test]
fn a_roll_back_on_probation_keeps_what_was_computed() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "backfill-rolled-back", 2);
    let (_folder, config) = configuration(CONFIGURATION);
    let guest = Guest::new();
    let load = well_formed(5000, 8);
    let mut instance = scene.run_with_partitions(&["--config", &config]);
    let mut outputs = scene.outputs();
    scene.write(&load);
    outputs.wait_for(5000);
    let control = Control::when_ready(&mut instance);
    let told = guest.deployed(&control, "bad.json", &["--backfill"]);
    assert!(told.contains("misbehave/guest-user-logins computed"), "{told}");
    scene.write(&load[..1000]);
    outputs.wait_for(scene.written());
    // It fails on this one's, and those before it judge it.
    let user = load[0].key.clone().unwrap();
    let value = String::from_utf8(load[0].value.clone()).unwrap().replace(&user, "mallory").into_bytes();
    scene.write(&[Message { key: Some("mallory".to_owned()), value, ..Message::default() }]);
    instance.line_with("plugins rolled back to");
    scene.write(&load[..1000]);
    assert_each_once(&scene, &mut outputs);
    assert!(outputs.rejected.records.is_empty());
    let again = guest.deployed(&control, "with.json", &["--backfill"]);
    assert!(again.contains("generation 4 serves") && again.contains("nothing to backfill"), "{again}");
    scene.write(&load[..1000]);
    assert_each_once(&scene, &mut outputs);
    assert!(assert_the_past_is_known(&outputs.processed.records, 4) >= 1000);
    end(instance);
}

#[test]
fn with_state_in_memory_it_is_the_same() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "backfill-memory", 2);
    let (_folder, config) = configuration(&format!("state_in = \"memory\"\n{CONFIGURATION}"));
    let guest = Guest::new();
    let load = well_formed(5000, 9);
    let mut one = scene.run_with_partitions(&["--config", &config]);
    let mut outputs = scene.outputs();
    scene.write(&load);
    outputs.wait_for(5000);
    let control = Control::when_ready(&mut one);
    let told = guest.deployed(&control, "with.json", &["--backfill"]);
    assert!(told.contains("misbehave/guest-user-logins computed"), "{told}");
    scene.write(&load[..1000]);
    outputs.wait_for(scene.written());
    assert!(assert_the_past_is_known(&outputs.processed.records, 2) >= 1000);
    end(one);
}
