//! At least once: nothing is lost, whoever comes, goes or breaks.

use loginscope_tests::instance::{Instance, wait_until};
use loginscope_tests::kafka::{Scene, cluster, header, id};

use super::well_formed;

const ARGUMENTS: [&str; 4] = ["--workers", "2", "--delivery", "at_least_once"];

const PROCESSED: &str = "loginscope_logins_processed_total";

/// How an instance says that some of what it did will be done again.
const UNCOMMITTED: [&str; 2] = ["partitions go without their last commit", "offsets were not committed"];

/// Writes logins until the instance has processed some.
fn write_until_it_takes_part(scene: &mut Scene, instance: &mut Instance) {
    let more = well_formed(200, 3);
    let what = "a share of the logins";
    wait_until(what, String::new, || {
        scene.write(&more);
        (instance.metric(PROCESSED) > 0).then_some(())
    });
}

#[test]
fn an_instance_that_joins_and_leaves_under_load_loses_no_login() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "rebalance", 4);
    let load = well_formed(60_000, 1);
    let mut first = scene.run_with_partitions(&ARGUMENTS);
    scene.write(&load);
    let mut outputs = scene.outputs();
    outputs.wait_for(1);

    let mut second = scene.run(&ARGUMENTS);
    scene.write(&load);
    write_until_it_takes_part(&mut scene, &mut second);
    scene.write(&load);
    assert_eq!(second.ended_by("TERM"), Some(0), "{}", second.log());
    scene.write(&load);

    outputs.wait_for(scene.written());
    assert_eq!(first.ended_by("TERM"), Some(0), "{}", first.log());
    outputs.arrived();
    assert!(scene.written() >= 200_000);
    outputs.assert_complete(scene.written());
    let is_told = |instance: &Instance| UNCOMMITTED.iter().any(|text| instance.lines_with(text) > 0);
    let repeated = outputs.repeated().len();
    println!("{repeated} of {} logins were done again", scene.written());
    assert!(
        repeated == 0 || is_told(&first) || is_told(&second),
        "{repeated} logins were done again though all offsets were committed"
    );
}

#[test]
fn an_instance_that_is_killed_loses_no_login() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "killed", 4);
    let load = well_formed(60_000, 2);
    let mut first = scene.run_with_partitions(&ARGUMENTS);
    let mut outputs = scene.outputs();
    scene.write(&load);
    first.metric_reaches("loginscope_commits_total", 1);
    scene.write(&load);
    assert_eq!(first.ended_by("KILL"), None);

    let mut second = scene.run(&ARGUMENTS);
    outputs.wait_for(scene.written());
    assert_eq!(second.ended_by("TERM"), Some(0), "{}", second.log());
    outputs.arrived();
    outputs.assert_complete(scene.written());
    assert!(outputs.repeated().len() < 60_000, "what was committed is not done again");
}

#[test]
fn a_restart_of_the_broker_loses_no_login() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "broker-restart", 4);
    let load = well_formed(40_000, 4);
    let mut instance = scene.run_with_partitions(&ARGUMENTS);
    let mut outputs = scene.outputs();
    scene.write(&load);
    outputs.wait_for(1);
    scene.write(&load);
    kafka.restart().unwrap();
    scene.write(&load);
    outputs.wait_for(scene.written());
    kafka.kill();
    kafka.restart().unwrap();
    scene.write(&load);
    outputs.wait_for(scene.written());
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(scene.written());
}

/// Sizes around both limits, byte by byte, so that none lies at a boundary unseen.
#[test]
fn what_is_too_large_for_its_output_topic_is_rejected_and_what_is_too_large_for_that_is_cut() {
    const PROCESSED_LIMIT: usize = 2000;
    const REJECTED_LIMIT: usize = 1500;
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "too-large", 1);
    let limit = |bytes: usize| bytes.to_string();
    kafka.create_topic(&scene.processed, 1, &[("max.message.bytes", &limit(PROCESSED_LIMIT))]).unwrap();
    kafka.create_topic(&scene.rejected, 1, &[("max.message.bytes", &limit(REJECTED_LIMIT))]).unwrap();
    let mut messages = well_formed(2000, 5);
    for (number, message) in messages.iter_mut().enumerate() {
        // A malformed one now and then, for it is rejected at any size.
        let end = if number % 10 == 9 { "\"," } else { "\"}" };
        message.value.pop();
        message.value.extend_from_slice(b",\"note\":\"");
        message.value.resize(message.value.len() + number, b'x');
        message.value.extend_from_slice(end.as_bytes());
    }
    scene.write(&messages);
    let mut outputs = {
        let mut instance = scene.run_with_partitions(&[]);
        let mut outputs = scene.outputs();
        outputs.wait_for(scene.written());
        assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
        outputs
    };
    outputs.arrived();
    outputs.assert_complete(scene.written());
    assert_eq!(outputs.repeated(), [0_u64; 0]);

    let value = |number: u64| &messages[number as usize].value;
    let (mut whole, mut cut) = (0, 0);
    for record in &outputs.rejected.records {
        let value = value(id(record));
        let payload = record.payload.as_ref().unwrap();
        let malformed = id(record) % 10 == 9;
        assert_eq!(header(record, "loginscope-code"), Some(if malformed { "not_json" } else { "enriched_too_large" }));
        assert_eq!(header(record, "loginscope-stage"), Some(if malformed { "decode" } else { "encode" }));
        match header(record, "loginscope-truncated-from") {
            None => {
                assert_eq!(payload, value);
                whole += 1;
            }
            Some(length) => {
                assert_eq!(length, value.len().to_string());
                assert!(value.starts_with(payload) && payload.len() < value.len());
                assert!(payload.len() > REJECTED_LIMIT / 2, "cut to {} bytes", payload.len());
                cut += 1;
            }
        }
    }
    assert!(whole > 50 && cut > 500, "{whole} whole, {cut} cut");
    let largest = outputs.processed.records.iter().map(|record| record.payload.as_ref().unwrap().len()).max();
    assert!(largest.is_some_and(|bytes| bytes > PROCESSED_LIMIT * 3 / 4 && bytes < PROCESSED_LIMIT), "{largest:?}");
}
