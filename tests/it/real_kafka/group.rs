//! What a member of a consumer group is promised while another one comes and goes.
//!
//! On the embedded broker this can't be tested: its groups are done with a rebalance once the leader has told the assignment,
//! and turn away a member that asks for its own a moment later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loginscope_kafka::{
    Assigned, ClientSettings, Consumer, ConsumerOptions, Polled, Producer, ProducerOptions, Record,
};
use loginscope_tests::instance::PATIENCE;
use loginscope_tests::kafka::{Message, Scene, cluster};

const SHORT: Duration = Duration::from_millis(10);

pub(super) fn join(scene: &Scene) -> Consumer {
    Consumer::join(&scene.settings, ConsumerOptions::new(&scene.input, &scene.group)).expect("a member")
}

/// Polls members in turn until one answers something that is looked for.
pub(super) fn poll_until<T>(members: &mut [&mut Consumer], mut find: impl FnMut(usize, Polled) -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        for (number, member) in members.iter_mut().enumerate() {
            if let Some(found) = find(number, member.poll(10, SHORT).expect("a poll")) {
                return found;
            }
        }
        assert!(Instant::now() < until, "waited in vain");
    }
}

/// The partitions that the only member of a group gets.
pub(super) fn all_assigned(member: &mut Consumer) -> Vec<Assigned> {
    poll_until(&mut [member], |_, polled| match polled {
        Polled::Nothing => None,
        Polled::Assigned(assigned) => Some(assigned),
        other => panic!("an assignment was expected, not {other:?}"),
    })
}

#[test]
fn revoked_partitions_stay_until_the_next_poll_so_that_they_can_be_committed() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "revoked", 2);
    let messages = (0..20).map(|number| Message { partition: Some(number % 2), ..Message::default() });
    scene.write(&messages.collect::<Vec<_>>());
    let mut first = join(&scene);
    assert_eq!(all_assigned(&mut first).len(), 2);
    let mut read = 0;
    poll_until(&mut [&mut first], |_, polled| {
        if let Polled::Batch(batch) = polled {
            read += batch.len();
        }
        (read == 20).then_some(())
    });

    let mut second = join(&scene);
    let revoked = poll_until(&mut [&mut first, &mut second], |number, polled| match (number, polled) {
        (_, Polled::Nothing) => None,
        (0, Polled::Revoked(revoked)) => Some(revoked),
        (_, other) => panic!("a revocation was expected, not {other:?}"),
    });
    let [partition] = *revoked else { panic!("cooperative: only what goes is taken away, not {revoked:?}") };
    assert_eq!(first.assigned(), [1 - partition]);
    // Until the first one polls again, the second one gets nothing; then it begins at what was committed meanwhile.
    assert!(matches!(second.poll(10, Duration::from_millis(500)), Ok(Polled::Nothing)));
    first.commit(&[(partition, 6)]).expect("a commit of what is still its own");
    let assigned = poll_until(&mut [&mut first, &mut second], |number, polled| match (number, polled) {
        (_, Polled::Nothing) => None,
        (1, Polled::Assigned(assigned)) => Some(assigned),
        (_, other) => panic!("an assignment was expected, not {other:?}"),
    });
    assert_eq!(assigned.iter().map(|one| (one.partition, one.next_offset)).collect::<Vec<_>>(), [(partition, Some(6))]);
    let offset = poll_until(&mut [&mut first, &mut second], |number, polled| match (number, polled) {
        (_, Polled::Nothing) => None,
        (1, Polled::Batch(batch)) => batch.get(0).map(loginscope_kafka::Message::offset),
        (_, other) => panic!("messages were expected, not {other:?}"),
    });
    assert_eq!(offset, 6);
}

#[test]
fn a_member_that_leaves_hands_its_partitions_over() {
    let mut kafka = cluster();
    let scene = Scene::new(&mut kafka, "handed-over", 2);
    let mut first = join(&scene);
    assert_eq!(all_assigned(&mut first).len(), 2);
    let mut second = join(&scene);
    let handed_over = poll_until(&mut [&mut first, &mut second], |number, polled| match (number, polled) {
        (1, Polled::Assigned(assigned)) => Some(assigned),
        (_, Polled::Nothing | Polled::Revoked(_)) => None,
        (_, other) => panic!("partitions were expected to be handed over, not {other:?}"),
    });
    second.close();
    let back = all_assigned(&mut first);
    assert_eq!(
        back.iter().map(|one| one.partition).collect::<Vec<_>>(),
        handed_over.iter().map(|one| one.partition).collect::<Vec<_>>()
    );
    poll_until(&mut [&mut first], |_, polled| matches!(polled, Polled::Nothing).then_some(()));
    assert_eq!(first.assigned(), [0, 1]);
}

/// Writes messages to both partitions, one after the other, until it is told to end.
fn keep_writing(settings: &ClientSettings, topic: &str, is_over: &AtomicBool) {
    let settings = settings.clone().with("linger.ms", "0");
    let mut producer = Producer::new(&settings, ProducerOptions::default()).expect("a producer");
    while !is_over.load(Ordering::Relaxed) {
        for partition in [0, 1] {
            let record = Record { topic, partition: Some(partition), payload: Some(b"x"), ..Record::default() };
            producer.send(&record, &|| false).expect("a message that is sent");
        }
        producer.acknowledged().expect("a producer that goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The longest that nothing comes of the partition that stays while the other one goes to a member that joins.
fn longest_pause_of_what_stays(scene: &Scene, first: &mut Consumer) -> Duration {
    let mut second = join(scene);
    let (mut longest, mut last, mut batches_since) = (Duration::ZERO, Instant::now(), None);
    poll_until(&mut [&mut *first, &mut second], |number, polled| {
        match polled {
            Polled::Batch(_) if number == 0 => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                batches_since = batches_since.map(|batches: u32| batches + 1);
            }
            Polled::Assigned(_) => batches_since = Some(0),
            _ => {}
        }
        // What the group tells those that stay comes a moment after the other one has moved.
        batches_since.filter(|batches| *batches > 50)
    });
    second.close();
    poll_until(&mut [first], |_, polled| matches!(polled, Polled::Assigned(_)).then_some(()));
    longest
}

#[test]
fn a_partition_that_stays_goes_on_as_soon_as_a_rebalance_is_answered() {
    let mut kafka = cluster();
    let scene = Scene::new(&mut kafka, "staying", 2);
    let mut first = join(&scene);
    assert_eq!(all_assigned(&mut first).len(), 2);
    let is_over = AtomicBool::new(false);
    let longest: Vec<Duration> = std::thread::scope(|scope| {
        scope.spawn(|| keep_writing(&scene.settings, &scene.input, &is_over));
        let longest = (0..5).map(|_| longest_pause_of_what_stays(&scene, &mut first)).collect();
        is_over.store(true, Ordering::Relaxed);
        longest
    });
    // A machine that is busy may be late, but not each time. Left alone, librdkafka sleeps for up to a second.
    assert!(longest.iter().any(|pause| *pause < Duration::from_millis(300)), "{longest:?}");
}
