//! Partitions that wait for their start, while members come and go; and offsets that are gone.

use std::collections::{BTreeMap, BTreeSet};

use loginscope_kafka::{Assigned, ClientSettings, Consumer, ConsumerOptions, Error, Polled, Topics};
use loginscope_tests::instance::PATIENCE;
use loginscope_tests::kafka::{Message, Scene, cluster};

use super::group::{all_assigned, join, poll_until};
use super::transactions::{CALL, again, producer, send};

const PARTITIONS: u16 = 4;

/// How partitions are assigned: by degrees or all at once by a member, or by the brokers.
const PROTOCOLS: [(&str, &str, &str); 3] = [
    ("cooperative", "partition.assignment.strategy", "cooperative-sticky"),
    ("eager", "partition.assignment.strategy", "range"),
    ("brokers", "group.protocol", "consumer"),
];

/// Writes so many messages into each partition.
fn write_to_all(scene: &mut Scene, count: i32) {
    let partitions = i32::from(PARTITIONS);
    let messages = (0..partitions * count).map(|n| Message { partition: Some(n % partitions), ..Message::default() });
    scene.write(&messages.collect::<Vec<_>>());
}

/// Members that hold whatever they are assigned.
struct Holding {
    members: Vec<Consumer>,
    /// What each has, and whether it is held.
    owned: Vec<BTreeMap<i32, bool>>,
    read: Vec<(i32, i64)>,
}

impl Holding {
    fn new() -> Self {
        Self { members: Vec::new(), owned: Vec::new(), read: Vec::new() }
    }

    fn join(&mut self, settings: &ClientSettings, scene: &Scene) {
        let options = ConsumerOptions::new(&scene.input, &scene.group);
        self.members.push(Consumer::join(settings, options).expect("a member"));
        self.owned.push(BTreeMap::new());
    }

    /// Waits until something happens. Messages come of what has been started only.
    fn step(&mut self) {
        let mut members: Vec<&mut Consumer> = self.members.iter_mut().collect();
        let (number, polled) =
            poll_until(&mut members, |number, polled| (!matches!(polled, Polled::Nothing)).then_some((number, polled)));
        let owned = &mut self.owned[number];
        match polled {
            Polled::Assigned(assigned) => {
                for Assigned { partition, committed, .. } in assigned {
                    assert_eq!(committed, Some(2));
                    self.members[number].hold(partition);
                    assert!(owned.insert(partition, true).is_none(), "{partition} came twice");
                }
            }
            Polled::Revoked(revoked) => owned.retain(|partition, _| !revoked.contains(partition)),
            Polled::Batch(batch) => {
                assert_eq!(owned.get(&batch.partition()), Some(&false), "messages of what is held: {batch:?}");
                self.read.extend(batch.iter().map(|message| (batch.partition(), message.offset())));
            }
            other => panic!("{other:?}"),
        }
    }

    fn step_until_each_owns(&mut self, count: usize) {
        while self.owned.iter().any(|owned| owned.len() != count) {
            self.step();
        }
    }

    /// Tells all members to start all partitions there are, and reads what comes.
    fn start_all_at(&mut self, offset: i64, end: i64) {
        let mut expected: BTreeSet<(i32, i64)> = BTreeSet::new();
        for (member, owned) in self.members.iter_mut().zip(&mut self.owned) {
            for partition in 0..i32::from(PARTITIONS) {
                match owned.get_mut(&partition) {
                    Some(is_held) if *is_held => {
                        member.start(partition, Some(offset)).expect("a partition that is held");
                        *is_held = false;
                        expected.extend((offset..end).map(|offset| (partition, offset)));
                    }
                    Some(_) => {}
                    None => member.start(partition, Some(offset)).expect("another's partition is left alone"),
                }
            }
        }
        self.read.clear();
        while self.read.len() < expected.len() {
            self.step();
        }
        assert_eq!(self.read.iter().copied().collect::<BTreeSet<_>>(), expected);
    }

    /// Of each partition comes the message that was just written, and nothing else.
    fn assert_next(&mut self, offset: i64) {
        self.read.clear();
        while self.read.len() < usize::from(PARTITIONS) {
            self.step();
        }
        let expected: BTreeSet<_> = (0..i32::from(PARTITIONS)).map(|partition| (partition, offset)).collect();
        assert_eq!(self.read.iter().copied().collect::<BTreeSet<_>>(), expected);
    }
}

#[test]
fn what_is_held_moves_between_members_and_starts_exactly_where_its_owner_says() {
    let mut kafka = cluster();
    for (name, property, value) in PROTOCOLS {
        let mut scene = Scene::new(&mut kafka, &format!("held-{name}"), PARTITIONS);
        let settings = scene.settings.clone().with(property, value);
        write_to_all(&mut scene, 10);
        let mut first = join(&scene);
        all_assigned(&mut first);
        first.commit(&[(0, 2), (1, 2), (2, 2), (3, 2)]).unwrap();
        first.close();

        let mut group = Holding::new();
        group.join(&settings, &scene);
        group.step_until_each_owns(4);
        // One goes on while the others are held.
        group.members[0].start(0, Some(6)).unwrap();
        group.owned[0].insert(0, false);
        while group.read.len() < 4 {
            group.step();
        }
        assert_eq!(group.read, [(0, 6), (0, 7), (0, 8), (0, 9)]);

        // What is held is revoked, and comes to another one or back, where it is held anew.
        group.join(&settings, &scene);
        group.step_until_each_owns(2);
        group.start_all_at(7, 10);
        write_to_all(&mut scene, 1);
        group.assert_next(10);

        // What has been started is revoked and comes back to be held.
        group.members.pop().unwrap().close();
        group.owned.pop();
        group.step_until_each_owns(4);
        group.start_all_at(1, 11);
        write_to_all(&mut scene, 1);
        group.assert_next(11);
    }
}

#[test]
fn what_was_held_or_paused_is_neither_when_it_comes_back() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "held-no-more", PARTITIONS);
    // So everything goes and comes when another one joins.
    let settings = scene.settings.clone().with("partition.assignment.strategy", "range");
    write_to_all(&mut scene, 10);
    let options = ConsumerOptions::new(&scene.input, &scene.group);
    let mut first = Consumer::join(&settings, options.clone()).expect("a member");
    all_assigned(&mut first);
    // One of each kind comes back, whichever two do.
    first.hold(0);
    first.hold(2);
    assert!(matches!(first.poll(0, CALL), Ok(Polled::Nothing)));
    first.pause(&[1, 3]).unwrap();
    first.commit(&[(0, 8), (1, 8), (2, 8), (3, 8)]).unwrap();

    let mut second = Consumer::join(&settings, options).expect("a member");
    let mut read = BTreeSet::new();
    poll_until(&mut [&mut first, &mut second], |number, polled| {
        if let (0, Polled::Batch(batch)) = (number, polled) {
            read.extend(batch.iter().map(|message| (batch.partition(), message.offset())));
        }
        (read.len() == 4).then_some(())
    });
    let expected = first.assigned().into_iter().flat_map(|partition| [(partition, 8), (partition, 9)]);
    assert_eq!(read, expected.collect());
}

#[test]
fn a_partition_can_start_at_the_marker_of_a_transaction() {
    let mut kafka = cluster();
    let scene = Scene::new(&mut kafka, "held-marker", 1);
    let mut producer = producer(&scene.settings, "held-marker");
    for (value, is_committed) in [("0", true), ("2", false), ("4", true)] {
        send(&mut producer, &scene.input, value).unwrap();
        again(|| if is_committed { producer.commit(CALL) } else { producer.abort(CALL) }).unwrap();
    }
    for (start, expected) in [(None, vec![0, 4]), (Some(0), vec![0, 4]), (Some(1), vec![4]), (Some(2), vec![4])] {
        let mut member = join(&scene);
        all_assigned(&mut member);
        member.hold(0);
        member.start(0, start).unwrap();
        let mut read = Vec::new();
        poll_until(&mut [&mut member], |_, polled| {
            if let Polled::Batch(batch) = polled {
                read.extend(batch.iter().map(loginscope_kafka::Message::offset));
            }
            (read.len() >= expected.len()).then_some(())
        });
        assert_eq!(read, expected, "{start:?}");
        member.close();
    }
}

/// What a member of the group gets: the first offset of a batch, or the error of a poll.
fn first_of(settings: &ClientSettings, scene: &Scene) -> Result<i64, Error> {
    let mut member = Consumer::join(settings, ConsumerOptions::new(&scene.input, &scene.group)).expect("a member");
    loop {
        match member.poll(10, PATIENCE)? {
            Polled::Batch(batch) => return Ok(batch.get(0).expect("a message").offset()),
            Polled::Assigned(_) | Polled::Nothing => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn messages_that_were_deleted_before_they_were_read_are_an_error_unless_that_is_wanted() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "offsets-gone", 1);
    scene.write(&vec![Message::default(); 10]);
    Topics::connect(&scene.settings, PATIENCE).unwrap().delete_before(&scene.input, &[(0, 5)]).unwrap();
    assert_eq!(first_of(&scene.settings, &scene), Ok(5), "a new group begins with what there is");

    let commit = |offset| {
        let mut member = join(&scene);
        all_assigned(&mut member);
        member.commit(&[(0, offset)]).unwrap();
        member.close();
    };
    commit(5);
    assert_eq!(first_of(&scene.settings, &scene), Ok(5));
    commit(3);
    let error = first_of(&scene.settings, &scene).unwrap_err();
    let sentence = error.to_string();
    assert!(matches!(error, Error::OffsetGone { partition: 0, .. }), "{sentence}");
    for part in [&scene.input, &scene.group, "partition 0", "offset 3 to 4 were deleted before they were read"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    assert_eq!(first_of(&scene.settings.clone().with("auto.offset.reset", "earliest"), &scene), Ok(5));
    // The topic was created anew, say.
    commit(20);
    let error = first_of(&scene.settings, &scene).unwrap_err();
    assert!(matches!(&error, Error::OffsetGone { reason, .. } if reason.contains("offset 20")), "{error}");
}
