//! `loginscope state rebuild` and `state forget`: the state is counted anew or has a person taken out of it, and a run goes on from there
//! as if nothing had been; or all is as before.

use std::time::Duration;

use loginscope::generator::Options;
use loginscope_kafka::{OwnedRecord, Producer, ProducerOptions, Record, partition_of};
use loginscope_tests::fold::Fold;
use loginscope_tests::instance::{Ended, PATIENCE, wait_until};
use loginscope_tests::kafka::{Message, Outputs, Scene, cluster, logins};

use super::{configuration, quick_configuration};

const REBUILD: [&str; 2] = ["rebuild", "--from-beginning"];

/// Logins of few users, so that each has many.
fn load(count: usize) -> Vec<Message> {
    logins(count, Options { seed: 11, users: 700, malformed: 0.01, ..Options::default() })
}

/// Writes a record that nobody else would write.
fn write(scene: &Scene, record: &Record<'_>) {
    let mut producer = Producer::new(&scene.settings, ProducerOptions::default()).unwrap();
    producer.send(record, &|| false).unwrap();
    producer.flush(PATIENCE).unwrap();
}

fn state(scene: &Scene, config: &str, what: &[&str]) -> Ended {
    scene.state(&[what, &["--config", config]].concat())
}

/// Runs it until all that was written is done, and answers what came of it by then.
fn run_through<'a>(scene: &Scene, config: &str, outputs: &'a mut Option<Outputs>) -> &'a mut Outputs {
    let mut instance = scene.run_with_partitions(&["--config", config, "--workers", "2"]);
    let outputs = outputs.get_or_insert_with(|| scene.outputs());
    outputs.wait_for(scene.written());
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs
}

fn refused(scene: &Scene, config: &str) -> String {
    let mut instance = scene.run(&["--config", config, "--workers", "1"]);
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    instance.log().clone()
}

/// All is right at the end: each login once, windows exact, and what was said after the past counts all of it.
fn assert_right(scene: &Scene, outputs: &mut Outputs, past: usize) {
    outputs.assert_complete(scene.written());
    assert!(outputs.repeated().is_empty());
    let processed = &outputs.processed.records;
    let (past, present): (Vec<_>, Vec<_>) = processed.iter().cloned().enumerate().partition(|(place, _)| *place < past);
    let records =
        |numbered: Vec<(usize, OwnedRecord)>| numbered.into_iter().map(|(_, record)| record).collect::<Vec<_>>();
    Fold::after(&records(past), &records(present)).check(&scene.all(&scene.insights), 100);
}

#[test]
fn users_take_their_state_along_when_partitions_are_added() {
    let mut kafka = cluster();
    for delivery in ["exactly_once", "at_least_once"] {
        let (_folder, config) = configuration(&quick_configuration(delivery));
        let mut scene = Scene::new(&mut kafka, &format!("grown-{delivery}"), 2);
        let (load, mut outputs) = (load(16_000), None);
        scene.write(&load[..9_050]);
        let past = run_through(&scene, &config, &mut outputs).processed.records.len();
        assert_right(&scene, outputs.as_mut().unwrap(), 0);

        kafka.add_partitions(&scene.input, 5).unwrap();
        assert!(refused(&scene, &config).contains("loginscope state rebuild --from-beginning"));
        let dry = state(&scene, &config, &[&REBUILD[..], &["--dry-run"]].concat());
        assert_eq!(dry.code, Some(0), "{}", dry.log);
        assert!(dry.output.contains("nothing was written") && dry.output.contains("partition 4"), "{}", dry.output);
        assert!(refused(&scene, &config).contains("partitions were added to the input topic"));

        let rebuilt = state(&scene, &config, &REBUILD);
        assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.log);
        assert_eq!(rebuilt.output, dry.output.replace("nothing was written\n", ""));
        let shown = state(&scene, &config, &["show"]).output;
        let sums =
            |shown: &str| shown.lines().filter(|line| line.contains("sum")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(sums(&shown), sums(&rebuilt.output));

        scene = scene.with_new_producer();
        scene.write(&load[9_050..]);
        run_through(&scene, &config, &mut outputs);
        assert_right(&scene, outputs.as_mut().unwrap(), past);
    }
}

#[test]
fn a_changelog_that_was_lost_or_damaged_is_counted_anew_and_the_run_goes_on() {
    let mut kafka = cluster();
    for (delivery, partitions, is_damaged) in [("exactly_once", 2, false), ("at_least_once", 1, true)] {
        let (_folder, config) = configuration(&quick_configuration(delivery));
        let mut scene = Scene::new(&mut kafka, &format!("lost-{delivery}"), partitions);
        let (load, mut outputs) = (load(9_000), None);
        scene.write(&load[..5_555]);
        run_through(&scene, &config, &mut outputs);
        let before = state(&scene, &config, &["export"]).output;
        if is_damaged {
            write(
                &scene,
                &Record { topic: &scene.changelog, partition: Some(0), payload: Some(b"?"), ..Record::default() },
            );
            assert!(refused(&scene, &config).contains("the state is damaged"));
        } else {
            kafka.delete_topic(&scene.changelog).unwrap();
            assert!(refused(&scene, &config).contains("its changelog is empty"));
        }
        let rebuilt = state(&scene, &config, &REBUILD);
        assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.log);
        assert!(state(&scene, &config, &["export"]).output == before, "all is as it was");
        scene.write(&load[5_555..]);
        run_through(&scene, &config, &mut outputs);
        assert_right(&scene, outputs.as_mut().unwrap(), 0);
    }
}

#[test]
fn users_are_at_home_also_where_partitions_were_added_and_the_changelog_is_lost() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "grown-lost", 1);
    let (load, mut outputs) = (load(9_000), None);
    scene.write(&load[..4_321]);
    let past = run_through(&scene, &config, &mut outputs).processed.records.len();
    kafka.add_partitions(&scene.input, 3).unwrap();
    kafka.delete_topic(&scene.changelog).unwrap();
    let rebuilt = state(&scene, &config, &REBUILD);
    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.log);
    assert!(rebuilt.log.contains("counting the windows, too"), "{}", rebuilt.log);
    scene = scene.with_new_producer();
    scene.write(&load[4_321..]);
    run_through(&scene, &config, &mut outputs);
    assert_right(&scene, outputs.as_mut().unwrap(), past);
}

#[test]
fn accepted_logins_say_the_same_as_those_that_came_in() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "from-processed", 2);
    let (load, mut outputs) = (load(9_000), None);
    scene.write(&load[..5_000]);
    let past = run_through(&scene, &config, &mut outputs).processed.records.len();
    kafka.add_partitions(&scene.input, 3).unwrap();
    let rebuilt = state(&scene, &config, &[&REBUILD[..], &["--source", "processed"]].concat());
    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.log);
    scene = scene.with_new_producer();
    scene.write(&load[5_000..]);
    run_through(&scene, &config, &mut outputs);
    assert_right(&scene, outputs.as_mut().unwrap(), past);
}

#[test]
fn a_group_that_runs_is_left_alone() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "running", 2);
    let mut instance = scene.run_with_partitions(&["--config", &config]);
    for what in [&REBUILD[..], &["forget", "somebody"]] {
        let ended = state(&scene, &config, what);
        assert_eq!(ended.code, Some(1), "{}", ended.log);
        assert!(ended.log.contains("stop all instances first"), "{}", ended.log);
    }
    scene.write(&load(2_000));
    let mut outputs = scene.outputs();
    outputs.wait_for(scene.written());
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    assert_right(&scene, &mut outputs, 0);
}

#[test]
fn a_run_does_not_go_on_before_a_rebuild_that_has_begun_is_done() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "unfinished", 2);
    let (load, mut outputs) = (load(2_000), None);
    scene.write(&load[..1_000]);
    run_through(&scene, &config, &mut outputs);
    let totals = scene.changelog.replace("-changelog", "-totals");
    write(&scene, &Record { topic: &totals, key: Some(b"rebuild"), payload: Some(b"1"), ..Record::default() });
    let sentence = "was not finished: run `loginscope state rebuild --from-beginning` again";
    assert!(refused(&scene, &config).contains(sentence));
    let forget = state(&scene, &config, &["forget", "somebody"]);
    assert!(forget.code == Some(1) && forget.log.contains(sentence), "{}", forget.log);
    let rebuilt = state(&scene, &config, &REBUILD);
    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.log);
    scene.write(&load[1_000..]);
    run_through(&scene, &config, &mut outputs);
    assert_right(&scene, outputs.as_mut().unwrap(), 0);
}

#[test]
fn logins_that_are_still_to_be_read_where_their_users_are_no_more_are_told() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "unread", 2);
    let load = load(1_500);
    scene.write(&load[..1_000]);
    run_through(&scene, &config, &mut None);
    scene.write(&load[1_000..]);
    kafka.add_partitions(&scene.input, 5).unwrap();
    let has_moved = |message: &&Message| {
        let key = message.key.as_deref().unwrap().as_bytes();
        partition_of(key, 2) != partition_of(key, 5)
    };
    let moved = load[1_000..].iter().filter(has_moved).count();
    let rebuilt = state(&scene, &config, &[&REBUILD[..], &["--dry-run"]].concat());
    let sentence = format!("{moved} messages of {} are still to be read", scene.input);
    assert!(rebuilt.log.contains(&sentence), "{sentence}: {}", rebuilt.log);
}

#[test]
fn where_keys_do_not_say_where_users_are_each_login_stays_where_it_is() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "by-hand-partitioned", 2);
    let load: Vec<Message> =
        (0..).zip(load(1_000)).map(|(number, message)| Message { partition: Some(number % 2), ..message }).collect();
    scene.write(&load);
    run_through(&scene, &config, &mut None);
    let before = state(&scene, &config, &["export"]).output;
    let rebuilt = state(&scene, &config, &REBUILD);
    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.log);
    assert!(rebuilt.log.contains("each login is counted where it is"), "{}", rebuilt.log);
    assert!(state(&scene, &config, &["export"]).output == before, "all is as it was");
}

/// Kills a rebuild a moment after it has said this, somewhere in the middle of whatever it does then. Answers whether it had ended
/// before, and so done all of it.
fn killed_rebuild(scene: &Scene, config: &str, line: &str, moment: Duration) -> bool {
    // Who was killed before counts as a member for a while.
    wait_until("a group without members", String::new, || {
        let mut rebuild = scene.start_state(&[&REBUILD[..], &["--config", config]].concat());
        wait_until("what it says, or its end", String::new, || {
            (rebuild.lines_with(line) > 0 || rebuild.has_ended().is_some()).then_some(())
        });
        if let Some(status) = rebuild.has_ended() {
            rebuild.ended();
            assert!(status.success() || rebuild.lines_with("stop all instances first") > 0, "{}", rebuild.log());
            return status.success().then_some(true);
        }
        // Waiting is what the test is about.
        std::thread::sleep(moment);
        Some(rebuild.ended_by("KILL") == Some(0))
    })
}

/// Whether a run goes on, or ends with a sentence that says what to do about the rebuild.
fn goes_on(scene: &Scene, config: &str) -> bool {
    let mut next = scene.run(&["--config", config, "--workers", "2"]);
    let goes_on = wait_until("it goes on or ends", String::new, || match next.has_ended() {
        Some(_) => Some(false),
        None => (next.lines_with("partition assigned") > 0).then_some(true),
    });
    if goes_on {
        assert_eq!(next.ended_by("TERM"), Some(0), "{}", next.log());
    } else {
        assert_eq!(next.ended().code(), Some(1), "{}", next.log());
        let sentences = ["partitions were added to the input topic", "was not finished: run `loginscope state rebuild"];
        assert!(sentences.iter().any(|sentence| next.log().contains(sentence)), "{}", next.log());
    }
    goes_on
}

#[test]
fn a_rebuild_that_is_killed_leaves_the_former_state_or_the_new_one() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "killed-rebuild", 2);
    let (load, mut outputs) = (load(30_000), None);
    scene.write(&load[..20_000]);
    let past = run_through(&scene, &config, &mut outputs).processed.records.len();
    kafka.add_partitions(&scene.input, 4).unwrap();
    let moments =
        [("messages counted anew", 0), ("gets 4 partitions", 0), ("writing the state", 0), ("writing the state", 15)];
    let is_done = moments.into_iter().any(|(line, moment)| {
        let ended = killed_rebuild(&scene, &config, line, Duration::from_millis(moment));
        let goes_on = goes_on(&scene, &config);
        assert!(goes_on || !ended, "what has ended is there");
        goes_on
    });
    if !is_done {
        wait_until("a group without members", String::new, || {
            (state(&scene, &config, &REBUILD).code == Some(0)).then_some(())
        });
    }
    scene = scene.with_new_producer();
    scene.write(&load[20_000..]);
    run_through(&scene, &config, &mut outputs);
    assert_right(&scene, outputs.as_mut().unwrap(), past);
}

#[test]
fn a_user_who_is_forgotten_is_in_no_record_of_the_state_any_more() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&quick_configuration("exactly_once"));
    let mut scene = Scene::new(&mut kafka, "forgotten", 2);
    let user = "the-one-who-wants-to-be-forgotten";
    let mut load = load(6_000);
    // With so many addresses that no ranking is without them.
    for number in 0..300_u32 {
        let ip = format!("10.9.{}.{}", number / 256, number % 256);
        let value = format!(r#"{{"user_id":"{user}","timestamp":1694479551,"ip":"{ip}","device_type":"ios"}}"#);
        load.insert(
            10 * number as usize,
            Message { key: Some(user.to_owned()), value: value.into_bytes(), ..Message::default() },
        );
    }
    let mut outputs = None;
    scene.write(&load[..5_000]);
    run_through(&scene, &config, &mut outputs);
    assert!(!state(&scene, &config, &["user", user]).output.is_empty());
    let totals = scene.changelog.replace("-changelog", "-totals");
    let occurs = |scene: &Scene, topic: &str| {
        let is_in = |bytes: &[u8]| bytes.windows(user.len()).any(|part| part == user.as_bytes());
        scene.all(topic).iter().any(|record| record.payload.as_deref().is_some_and(is_in))
    };
    assert!(occurs(&scene, &scene.changelog) && occurs(&scene, &totals));
    let before = state(&scene, &config, &["show"]).output;

    let forgotten = state(&scene, &config, &["forget", user]);
    assert_eq!(forgotten.code, Some(0), "{}{}", forgotten.output, forgotten.log);
    assert!(forgotten.output.contains("removed"), "{}", forgotten.output);
    assert!(forgotten.output.contains("rejected records have the bytes of the input"), "{}", forgotten.output);
    assert!(state(&scene, &config, &["user", user]).output.is_empty());
    assert!(!occurs(&scene, &scene.changelog) && !occurs(&scene, &totals));
    let progress = |shown: &str| {
        shown
            .lines()
            .filter_map(|line| line.split_once(", snapshot"))
            .map(|(progress, _)| progress.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(progress(&state(&scene, &config, &["show"]).output), progress(&before), "nothing else has changed");
    let again = state(&scene, &config, &["forget", user]);
    assert_eq!(again.code, Some(0), "{}", again.log);
    assert!(again.output.contains("nothing is kept of the user"), "{}", again.output);

    let others: Vec<Message> = load[5_000..].to_vec();
    scene.write(&others);
    let outputs = run_through(&scene, &config, &mut outputs);
    outputs.assert_complete(scene.written());
    assert!(outputs.repeated().is_empty());
    assert!(!occurs(&scene, &scene.changelog) && !occurs(&scene, &totals));
}
