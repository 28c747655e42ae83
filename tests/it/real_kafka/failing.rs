//! A plugin that fails on a few logins, by its policy, while logins flow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use loginscope_kafka::OwnedRecord;
use loginscope_tests::fold::Fold;
use loginscope_tests::guests::misbehave;
use loginscope_tests::instance::{Instance, wait_until};
use loginscope_tests::kafka::{Message, Scene, cluster, header, id};
use tempfile::TempDir;

use super::{configuration, plugin_files, well_formed};

const GUEST: &str = "misbehave@0.1.0";

fn poison() -> Message {
    let value = r#"{"user_id":"poison","timestamp":"1694479551","ip":"198.51.100.7"}"#;
    Message { key: Some("poison".to_owned()), value: value.into(), ..Message::default() }
}

/// A folder with the guest, and its configuration: it fails on the logins of one user.
fn failing(on_failure: &str) -> (TempDir, String) {
    let (folder, file) = configuration(&format!(
        "
source_headers = true
workers = 2
[kafka]
session.timeout.ms = 6000
[misbehave]
how = \"trap\"
when_user = \"poison\"
role = \"enricher\"
[policy.misbehave]
on_failure = \"{on_failure}\"
"
    ));
    fs::write(folder.path().join("misbehave.wasm"), misbehave()).unwrap();
    (folder, file)
}

/// Whatever the binary needs to run the guest with `enrich-logins` and `summarize-logins`.
fn arguments(folder: &TempDir, file: &str) -> Vec<String> {
    let [_, enrich, summarize] = plugin_files().try_into().unwrap();
    let plugins = [folder.path().join("misbehave.wasm"), enrich, summarize];
    let plugins = plugins.iter().flat_map(|file| ["--plugin".to_owned(), file.to_str().unwrap().to_owned()]);
    ["--watch", "--config", file].map(str::to_owned).into_iter().chain(plugins).collect()
}

fn run(scene: &Scene, arguments: &[String]) -> Instance {
    scene.run_with_partitions(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The windows are right for what was accepted. The guest tells of them, too.
fn check_windows(scene: &Scene, processed: &[OwnedRecord]) {
    let by_the_default = |record: &OwnedRecord| {
        String::from_utf8_lossy(record.payload.as_ref().unwrap()).contains("\"plugin\":\"summarize-logins@")
    };
    let insights: Vec<OwnedRecord> = scene.all(&scene.insights).into_iter().filter(by_the_default).collect();
    Fold::new(processed).check(&insights, 100);
}

#[test]
fn of_poison_logins_under_load_exactly_those_are_rejected_or_bypassed_and_all_others_come_out_once() {
    let mut kafka = cluster();
    for on_failure in ["reject", "bypass"] {
        let mut scene = Scene::new(&mut kafka, &format!("poison-{on_failure}"), 4);
        let (folder, file) = failing(on_failure);
        let mut instance = run(&scene, &arguments(&folder, &file));
        let mut outputs = scene.outputs();
        let mut poisoned = BTreeSet::new();
        for round in 0..20 {
            // One in a thousand.
            let mut load = well_formed(1000, round);
            load[(round as usize * 37) % 1000] = poison();
            poisoned.insert(scene.written() + (round * 37) % 1000);
            scene.write(&load);
        }
        outputs.wait_for(scene.written());
        let bypassed = format!("loginscope_logins_bypassed_total{{plugin=\"{GUEST}\"}}");
        if on_failure == "bypass" {
            instance.metric_reaches(&bypassed, poisoned.len() as u64);
        }
        assert_eq!(instance.metric(&format!("loginscope_plugin_circuit_open{{plugin=\"{GUEST}\"}}")), 0);
        assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
        outputs.arrived();
        outputs.assert_complete(scene.written());
        assert_eq!(outputs.repeated(), [0_u64; 0]);
        let (processed, rejected) = (&outputs.processed.records, &outputs.rejected.records);
        let without = processed.iter().filter(|record| header(record, "loginscope-bypassed").is_some());
        let without: BTreeMap<u64, _> = without.map(|it| (id(it), header(it, "loginscope-bypassed"))).collect();
        let failed: BTreeMap<u64, _> = rejected.iter().map(|it| (id(it), header(it, "loginscope-plugin"))).collect();
        let expected: BTreeMap<u64, _> = poisoned.iter().map(|id| (*id, Some(GUEST))).collect();
        let is_bypass = on_failure == "bypass";
        assert_eq!(if is_bypass { &without } else { &failed }, &expected);
        assert!(if is_bypass { failed.is_empty() } else { without.is_empty() });
        assert!(rejected.iter().all(|record| header(record, "loginscope-code") == Some("plugin_failed")));
        check_windows(&scene, processed);
    }
}

#[test]
fn a_partition_waits_for_its_plugin_through_restarts_and_rebalances_and_goes_on_when_it_is_mended() {
    const FAILURES: &str = "loginscope_plugin_failures_total{plugin=\"misbehave@0.1.0\"}";
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "stopped", 4);
    let (folder, file) = failing("stop");
    let arguments = arguments(&folder, &file);
    let mut first = run(&scene, &arguments);
    let mut outputs = scene.outputs();
    scene.write(&well_formed(1000, 1));
    scene.write(&[poison()]);
    scene.write(&well_formed(1000, 2));
    let input = scene.all(&scene.input);
    let found = input.iter().find(|record| record.key.as_deref() == Some(b"poison")).unwrap();
    let (partition, offset) = (found.partition, found.offset);
    let may_go_out = |record: &&OwnedRecord| record.partition != partition || record.offset < offset;
    let judged = input.iter().filter(may_go_out).count() as u64;

    let not_ready = |instance: &mut Instance| {
        let said = format!("partition {partition} is stopped at offset {offset}: {GUEST} fails on it: ");
        wait_until("it not to be ready", String::new, || instance.get("/readyz").contains(&said).then_some(()));
        assert!(instance.get("/readyz").starts_with("HTTP/1.1 503"));
        assert_eq!(instance.metric("loginscope_partitions_stopped"), 1);
        let tries = instance.metric(FAILURES) + 3;
        instance.metric_reaches(FAILURES, tries);
    };
    not_ready(&mut first);
    outputs.wait_for(judged);
    // Others come, and this one goes, while the partition waits.
    let mut second = run(&scene, &arguments);
    assert_eq!(first.ended_by("TERM"), Some(0), "{}", first.log());
    not_ready(&mut second);
    scene.write(&well_formed(1000, 3));
    let input = scene.all(&scene.input);
    let judged = input.iter().filter(may_go_out).count() as u64;
    outputs.wait_for(judged);
    not_ready(&mut second);
    assert_eq!(outputs.arrived(), judged, "nothing behind it has gone out");

    // In its place comes another plugin, which doesn't fail.
    let new = folder.path().join("new");
    fs::copy(&plugin_files()[0], &new).unwrap();
    fs::rename(&new, folder.path().join("misbehave.wasm")).unwrap();
    second.line_with("plugins swapped");
    outputs.wait_for(scene.written());
    wait_until("it to be ready", String::new, || second.get("/readyz").starts_with("HTTP/1.1 200").then_some(()));
    assert_eq!(second.metric("loginscope_partitions_stopped"), 0);
    assert_eq!(second.ended_by("TERM"), Some(0), "{}", second.log());
    outputs.arrived();
    outputs.assert_complete(scene.written());
    assert_eq!(outputs.repeated(), [0_u64; 0]);
    assert!(outputs.rejected.records.is_empty());
    check_windows(&scene, &outputs.processed.records);
}
