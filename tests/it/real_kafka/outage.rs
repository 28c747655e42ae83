//! Kafka goes away, comes back, or changes under a running instance.

use loginscope_tests::instance::Instance;
use loginscope_tests::kafka::{Scene, cluster};

use super::{configuration, well_formed};

/// An instance that has done something and committed nothing. It has one worker: what a worker hands on to another one, it commits
/// first, with everything else that it has.
fn with_uncommitted_logins(scene: &mut Scene, config: &str) -> Instance {
    let mut instance = scene.run_with_partitions(&["--workers", "1", "--config", config]);
    scene.write(&well_formed(500, 1));
    scene.outputs().wait_for(scene.written());
    instance.metric_reaches("loginscope_logins_processed_total", 500);
    instance
}

#[test]
fn without_a_broker_a_drain_ends_in_time_and_what_it_could_not_commit_is_done_again() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "drain-away", 2);
    let (_folder, config) = configuration(
        "delivery = \"at_least_once\"\ncommit_interval = \"1m\"\ndrain_timeout = \"2s\"\nstatus_interval = \"1s\"\n",
    );
    let mut instance = with_uncommitted_logins(&mut scene, &config);
    kafka.kill();
    let said = instance.lines_with("logins/s");
    loginscope_tests::instance::wait_until("status lines", String::new, || {
        (instance.lines_with("logins/s") >= said + 5).then_some(())
    });
    assert!(instance.lines_with("WARN") <= 5, "a flood: {}", instance.log());
    assert_eq!(instance.ended_by("TERM"), Some(1), "{}", instance.log());
    let words = instance.log().lines().last().unwrap().to_owned();
    assert!(words.starts_with("loginscope: not everything could be committed before the end"), "{words}");

    kafka.restart().unwrap();
    let mut outputs = scene.outputs();
    let mut instance = scene.run(&["--workers", "2"]);
    instance.metric_reaches("loginscope_logins_processed_total", 500);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.wait_for(scene.written());
    outputs.arrived();
    outputs.assert_complete(scene.written());
    assert_eq!(outputs.repeated().len(), 500);
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "second-signal", 1);
    let (_folder, config) =
        configuration("delivery = \"at_least_once\"\ncommit_interval = \"1m\"\ndrain_timeout = \"1h\"\n");
    let mut instance = with_uncommitted_logins(&mut scene, &config);
    kafka.kill();
    instance.signal("INT");
    instance.line_with("draining");
    assert_eq!(instance.ended_by("INT"), Some(130), "{}", instance.log());
    kafka.restart().unwrap();
}

#[test]
fn partitions_that_are_added_end_it_with_what_to_do_and_another_group_counts_all_again() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "more-partitions", 1);
    let (_folder, config) = configuration("[kafka]\ntopic.metadata.refresh.interval.ms = 500\n");
    let instance = with_uncommitted_logins(&mut scene, &config);
    kafka.add_partitions(&scene.input, 4).unwrap();
    // While it runs, and at the next start.
    for mut ended in [instance, scene.run(&[])] {
        assert_eq!(ended.ended().code(), Some(1), "{}", ended.log());
        let words = ended.log().lines().last().unwrap().to_owned();
        assert!(words.starts_with("loginscope: partitions were added to the input topic"), "{words}");
    }
    let mut messages = well_formed(2000, 2);
    for (message, partition) in messages.iter_mut().zip((0..4).cycle()) {
        message.partition = Some(partition);
    }
    // The producer so far still believes in one partition.
    let mut scene = scene.with_new_producer();
    scene.write(&messages);
    scene.group.push_str("-2");
    let mut outputs = scene.outputs();
    let mut instance = scene.run_with_partitions(&[]);
    outputs.wait_for(scene.written());
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(scene.written());
}

#[test]
fn an_input_topic_that_is_deleted_ends_it_with_its_name() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "deleted", 1);
    let (_folder, config) = configuration("[kafka]\ntopic.metadata.refresh.interval.ms = 500\n");
    let mut instance = with_uncommitted_logins(&mut scene, &config);
    // A producer that has written to the topic would have the broker create it again.
    let scene = scene.with_new_producer();
    kafka.delete_topic(&scene.input).unwrap();
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    let words = instance.log().lines().last().unwrap().to_owned();
    assert_eq!(words, format!("loginscope: the topic {:?} does not exist", scene.input));
}

/// A batch has far more messages than the producer's queue takes.
#[test]
fn a_full_output_queue_makes_it_wait_and_lose_nothing() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "small-queue", 1);
    let (_folder, config) = configuration("[kafka]\nqueue.buffering.max.messages = 50\n");
    scene.write(&well_formed(5000, 1));
    let mut instance = scene.run_with_partitions(&["--config", &config]);
    let mut outputs = scene.outputs();
    outputs.wait_for(5000);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(5000);
    assert_eq!(outputs.repeated(), [0_u64; 0]);
}
