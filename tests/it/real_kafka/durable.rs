//! State outlives the process: windows and totals go on where they stopped, and resume where the state says.

use std::time::Duration;

use loginscope::generator::Options;
use loginscope_kafka::{Consumer, ConsumerOptions, OwnedRecord, Polled, Topics};
use loginscope_tests::fold::Fold;
use loginscope_tests::instance::PATIENCE;
use loginscope_tests::kafka::{Scene, cluster, header, logins};

use super::{configuration, id_of_insight, last_of_each, quick_configuration, well_formed};

const COMMITS: &str = "loginscope_commits_total";

fn source(record: &OwnedRecord) -> String {
    let part = |name| header(record, name).unwrap();
    format!("{}/{}", part("loginscope-source-partition"), part("loginscope-source-offset"))
}

#[test]
fn a_restart_forgets_nothing() {
    let mut kafka = cluster();
    for delivery in ["exactly_once", "at_least_once"] {
        let (_folder, config) = configuration(&quick_configuration(delivery));
        let mut scene = Scene::new(&mut kafka, &format!("restarted-{delivery}"), 3);
        let load = logins(7_531, Options { seed: 5, malformed: 0.02, ..Options::default() });
        let mut outputs = None;
        for workers in ["1", "2", "3"] {
            let mut instance = scene.run_with_partitions(&["--config", &config, "--workers", workers]);
            scene.write(&load);
            let outputs = outputs.get_or_insert_with(|| scene.outputs());
            outputs.wait_for(scene.written());
            assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
        }
        let mut outputs = outputs.unwrap();
        outputs.arrived();
        outputs.assert_complete(scene.written());
        assert!(outputs.repeated().is_empty());
        Fold::new(&outputs.processed.records).check(&scene.all(&scene.insights), 100);
    }
}

#[test]
fn in_memory_only_a_restart_goes_on_in_the_topic_and_counts_anew() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "in-memory", 1);
    let mut outputs = None;
    for _ in 0..2 {
        let mut instance = scene.run_with_partitions(&["--state-in", "memory", "--workers", "1"]);
        scene.write(&well_formed(150, 8));
        outputs.get_or_insert_with(|| scene.outputs()).wait_for(scene.written());
        assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
        assert!(instance.log().contains("the state is in memory only"), "{}", instance.log());
    }
    let outputs = outputs.unwrap();
    outputs.assert_complete(scene.written());
    assert!(outputs.repeated().is_empty());
    let ids: Vec<String> = scene.all(&scene.insights).iter().map(id_of_insight).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "each run has filled its first window: {ids:?}");
    let topics = Topics::connect(&scene.settings, PATIENCE).unwrap();
    assert_eq!(topics.partitions(&scene.changelog).unwrap(), None, "there is no changelog");
}

#[test]
fn at_least_once_repeats_outputs_but_counts_each_login_once() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("at_least_once"));
    let mut scene = Scene::new(&mut kafka, "killed-durable", 3);
    let load = well_formed(20_000, 6);
    let mut outputs = None;
    for moment in [130, 340, 20, 250] {
        let mut instance = scene.run_with_partitions(&["--config", &config, "--workers", "2"]);
        scene.write(&load);
        instance.metric_reaches(COMMITS, 1);
        outputs.get_or_insert_with(|| scene.outputs());
        // Somewhere in the middle of whatever it does then: waiting is what the test is about.
        std::thread::sleep(Duration::from_millis(moment));
        scene.write(&load);
        assert_eq!(instance.ended_by("KILL"), None);
    }
    let mut outputs = outputs.unwrap();
    let mut last = scene.run(&["--config", &config, "--workers", "1"]);
    outputs.wait_for(scene.written());
    assert_eq!(last.ended_by("TERM"), Some(0), "{}", last.log());
    outputs.arrived();
    outputs.assert_complete(scene.written());
    let processed = last_of_each(outputs.processed.records, source);
    Fold::new(&processed).check(&last_of_each(scene.all(&scene.insights), id_of_insight), 100);
}

/// Sets the group's offset of partition 0 by hand.
fn set_offset(scene: &Scene, offset: i64) {
    let options = ConsumerOptions::new(scene.input.as_str(), scene.group.as_str());
    let mut consumer = Consumer::join(&scene.settings, options).unwrap();
    loop {
        if let Polled::Assigned(_) = consumer.poll(0, PATIENCE).unwrap() {
            break;
        }
    }
    consumer.commit_within(&[(0, offset)], PATIENCE).unwrap();
    consumer.close();
}

#[test]
fn an_offset_that_was_changed_by_hand_is_refused_with_what_to_do() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "by-hand", 1);
    let arguments = ["--config", config.as_str(), "--workers", "1"];
    let mut instance = scene.run_with_partitions(&arguments);
    scene.write(&well_formed(1_000, 7));
    scene.outputs().wait_for(scene.written());
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    for (offset, sentence) in [(500, "was set back to 500"), (1_500, "what is counted ends before offset")] {
        set_offset(&scene, offset);
        let mut refused = scene.run(&arguments);
        assert_eq!(refused.ended().code(), Some(1), "{}", refused.log());
        assert!(refused.log().contains(sentence), "{}", refused.log());
    }
}
