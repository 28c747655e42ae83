//! Offsets are taken from present members of the group only.

use std::time::Duration;

use loginscope_kafka::{ClientSettings, Consumer, ConsumerOptions, Error, FencedBy, Polled, TransactionError};
use loginscope_tests::instance::wait_until;
use loginscope_tests::kafka::{Scene, cluster};

use super::super::group::{all_assigned, poll_until};
use super::{CALL, again, assert_fenced, committed, membership, producer, resumes_at, scene, send};

/// Who assigns the partitions of a group: a member, or the brokers.
const PROTOCOLS: [&str; 2] = ["classic", "consumer"];

fn with_protocol(scene: &Scene, protocol: &str) -> ClientSettings {
    scene.settings.clone().with("group.protocol", protocol)
}

#[test]
fn offsets_of_a_member_that_has_left_are_refused_and_a_present_member_goes_on() {
    let mut kafka = cluster();
    for protocol in PROTOCOLS {
        let scene = scene(&mut kafka, &format!("zombie-{protocol}"), 1);
        let settings = with_protocol(&scene, protocol);
        let options = ConsumerOptions::new(&scene.input, &scene.group);
        let mut zombie = Consumer::join(&settings, options.clone()).unwrap();
        all_assigned(&mut zombie);
        let stale = membership(&zombie);
        zombie.close();
        let mut member = Consumer::join(&settings, options).unwrap();
        all_assigned(&mut member);

        let mut producer = producer(&settings, protocol);
        send(&mut producer, &scene.processed, "zombie").unwrap();
        let outcome = again(|| producer.send_offsets(&scene.input, &[(0, 7)], &stale, CALL));
        assert_fenced(&outcome, FencedBy::Group);
        assert_fenced(&producer.commit(CALL), FencedBy::Group);
        again(|| producer.abort(CALL)).unwrap();

        send(&mut producer, &scene.processed, "member").unwrap();
        again(|| producer.send_offsets(&scene.input, &[(0, 5)], &membership(&member), CALL)).unwrap();
        again(|| producer.commit(CALL)).unwrap();
        assert_eq!(committed(&scene, &scene.processed), ["member"]);
        member.close();
        assert_eq!(resumes_at(&scene), Some(5));
    }
}

#[test]
fn offsets_of_a_member_whose_name_another_one_has_taken_are_refused() {
    let mut kafka = cluster();
    let scene = scene(&mut kafka, "static-zombie", 1);
    let options =
        ConsumerOptions { instance: Some("instance".to_owned()), ..ConsumerOptions::new(&scene.input, &scene.group) };
    let mut zombie = Consumer::join(&scene.settings, options.clone()).unwrap();
    all_assigned(&mut zombie);
    let stale = membership(&zombie);
    let mut member = Consumer::join(&scene.settings, options).unwrap();
    all_assigned(&mut member);
    let mut producer = producer(&scene.settings, "static-zombie");
    send(&mut producer, &scene.processed, "zombie").unwrap();
    let outcome = again(|| producer.send_offsets(&scene.input, &[(0, 7)], &stale, CALL));
    assert_fenced(&outcome, FencedBy::Group);
    again(|| producer.abort(CALL)).unwrap();
    assert!(committed(&scene, &scene.processed).is_empty());
}

#[test]
fn offsets_of_a_generation_that_has_passed_are_refused_and_taken_with_the_present_one() {
    let mut kafka = cluster();
    for protocol in PROTOCOLS {
        let scene = scene(&mut kafka, &format!("generation-{protocol}"), 2);
        let settings = with_protocol(&scene, protocol);
        let options = ConsumerOptions::new(&scene.input, &scene.group);
        let mut first = Consumer::join(&settings, options.clone()).unwrap();
        all_assigned(&mut first);
        let stale = membership(&first);
        let mut second = Consumer::join(&settings, options).unwrap();
        wait_until("both to be members of a later generation", String::new, || {
            let has_joined = [&mut first, &mut second].map(|member| {
                member.poll(0, Duration::from_millis(10)).expect("a poll");
                member.assigned().len() == 1
            });
            let is_later = first.group_metadata().is_some_and(|group| group.generation() > stale.generation());
            (has_joined == [true, true] && is_later).then_some(())
        });
        let [partition] = *first.assigned() else { panic!("one partition each") };

        let mut producer = producer(&settings, &scene.group);
        let outcome = again(|| producer.send_offsets(&scene.input, &[(partition, 7)], &stale, CALL));
        let is_refused =
            matches!(&outcome, Err(TransactionError::Abortable(Error::Commit { group, .. })) if *group == scene.group);
        assert!(is_refused, "{outcome:?}");
        again(|| producer.abort(CALL)).unwrap();
        again(|| producer.send_offsets(&scene.input, &[(partition, 5)], &membership(&first), CALL)).unwrap();
        again(|| producer.commit(CALL)).unwrap();
    }
}

#[test]
fn a_member_that_polls_too_seldom_is_none_and_what_it_was_is_refused() {
    let mut kafka = cluster();
    let scene = scene(&mut kafka, "slow-member", 1);
    let settings = scene.settings.clone().with("session.timeout.ms", "6000").with("max.poll.interval.ms", "6000");
    let mut slow = Consumer::join(&settings, ConsumerOptions::new(&scene.input, &scene.group)).unwrap();
    all_assigned(&mut slow);
    poll_until(&mut [&mut slow], |_, polled| matches!(polled, Polled::Nothing).then_some(()));
    let stale = membership(&slow);
    wait_until("the group to go on without it", String::new, || slow.group_metadata().is_none().then_some(()));
    let mut producer = producer(&scene.settings, "slow-member");
    let outcome = again(|| producer.send_offsets(&scene.input, &[(0, 7)], &stale, CALL));
    assert_fenced(&outcome, FencedBy::Group);
    again(|| producer.abort(CALL)).unwrap();
    let lost = poll_until(&mut [&mut slow], |_, polled| match polled {
        Polled::Nothing => None,
        Polled::Lost(lost) => Some(lost),
        other => panic!("a loss was expected, not {other:?}"),
    });
    assert_eq!(lost, [0]);
}
