//! `--delivery exactly_once`: whoever comes, goes or breaks, a reader of committed messages sees each login once, and windows and
//! totals are right.

use std::time::Duration;

use loginscope_tests::fold::Fold;
use loginscope_tests::instance::{Instance, wait_until};
use loginscope_tests::kafka::{Outputs, Scene, cluster};

use super::{configuration, numbers, well_formed};

const COMMITS: &str = "loginscope_commits_total";

/// A killed instance holds others up no longer than the brokers must allow.
const CONFIGURATION: &str = "
source_headers = true
[kafka]
session.timeout.ms = 6000
transaction.timeout.ms = 3000
";

fn assert_each_once(scene: &Scene, outputs: &mut Outputs) {
    let count = scene.written();
    outputs.arrived();
    outputs.assert_complete(count);
    let repeated = outputs.repeated();
    assert!(repeated.is_empty(), "{} of {count} logins came more than once", repeated.len());
    Fold::new(&outputs.processed.records).check(&scene.all(&scene.insights), 100);
}

#[test]
fn instances_that_are_killed_leave_each_login_once() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(CONFIGURATION);
    let mut scene = Scene::new(&mut kafka, "killed-once", 4);
    let load = well_formed(30_000, 1);
    let mut outputs = None;
    for number in numbers().take(4) {
        let mut instance = scene.run_with_partitions(&["--config", &config, "--workers", "2"]);
        scene.write(&load);
        instance.metric_reaches(COMMITS, 1);
        outputs.get_or_insert_with(|| scene.outputs());
        // Somewhere in the middle of whatever it does then: waiting is what the test is about.
        std::thread::sleep(Duration::from_millis(number % 700));
        scene.write(&load);
        assert_eq!(instance.ended_by("KILL"), None);
    }
    let mut outputs = outputs.expect("there was an instance");
    let mut last = scene.run(&["--config", &config, "--workers", "2"]);
    outputs.wait_for(scene.written());
    assert_eq!(last.ended_by("TERM"), Some(0), "{}", last.log());
    assert_each_once(&scene, &mut outputs);
}

#[test]
fn instances_that_come_and_go_leave_each_login_once() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(CONFIGURATION);
    let mut scene = Scene::new(&mut kafka, "moved-once", 4);
    let load = well_formed(30_000, 2);
    let arguments = ["--config", config.as_str(), "--workers", "2"];
    let mut first = scene.run_with_partitions(&arguments);
    assert!(first.log().contains("exactly once"));
    scene.write(&load);
    let mut outputs = scene.outputs();
    outputs.wait_for(1);
    for _ in 0..3 {
        let mut other: Instance = scene.run(&arguments);
        wait_until("a commit of the other one", String::new, || {
            scene.write(&load[..500]);
            (other.metric(COMMITS) > 0).then_some(())
        });
        scene.write(&load);
        assert_eq!(other.ended_by("TERM"), Some(0), "{}", other.log());
    }
    outputs.wait_for(scene.written());
    assert_eq!(first.ended_by("TERM"), Some(0), "{}", first.log());
    assert_each_once(&scene, &mut outputs);
}

#[test]
fn an_instance_that_is_held_still_for_too_long_is_fenced_and_leaves_each_login_once() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(CONFIGURATION);
    let mut scene = Scene::new(&mut kafka, "zombie-once", 2);
    let load = well_formed(30_000, 3);
    let arguments = ["--config", config.as_str(), "--workers", "1"];
    let mut zombie = scene.run_with_partitions(&arguments);
    scene.write(&load);
    zombie.metric_reaches(COMMITS, 1);
    let mut outputs = scene.outputs();
    scene.write(&load);
    zombie.signal("STOP");
    // The group gives its partitions to another one, which does all the rest.
    let mut successor = scene.run_with_partitions(&arguments);
    scene.write(&load);
    outputs.wait_for(scene.written());
    zombie.signal("CONT");
    scene.write(&load);
    outputs.wait_for(scene.written());
    for instance in [&mut zombie, &mut successor] {
        assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    }
    assert_each_once(&scene, &mut outputs);
}

#[test]
fn restarts_of_the_broker_leave_each_login_once() {
    let mut kafka = cluster();
    // With the timeouts of everyday.
    let (_folder, config) = configuration("source_headers = true\n");
    let mut scene = Scene::new(&mut kafka, "restarted-once", 4);
    let load = well_formed(30_000, 4);
    let mut instance = scene.run_with_partitions(&["--config", &config, "--workers", "2"]);
    scene.write(&load);
    instance.metric_reaches(COMMITS, 1);
    let mut outputs = scene.outputs();
    scene.write(&load);
    kafka.restart().unwrap();
    scene.write(&load);
    outputs.wait_for(scene.written());
    scene.write(&load);
    kafka.kill();
    kafka.restart().unwrap();
    scene.write(&load);
    outputs.wait_for(scene.written());
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    assert_each_once(&scene, &mut outputs);
}
