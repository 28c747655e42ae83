use loginscope_state::{Follower, PartitionTotals};

use super::testing::catalog;
use super::*;

/// A partition whose changelog is read along.
struct Scene {
    partition: PartitionState,
    changelog: Changelog,
    requests: Receiver<Request>,
    log: Vec<StateRecord>,
    next_offset: i64,
}

fn home(janitor: Janitor) -> Home {
    testing::home(janitor, Some("totals"), 100_000)
}

fn with_state(state: Partition) -> PartitionState {
    PartitionState { topic: "in".into(), number: 3, has_siblings: true, state: Box::new(state) }
}

impl Scene {
    fn new() -> Self {
        let (janitor, requests) = Janitor::new();
        let changelog = Changelog::new(3, Term::default(), home(janitor));
        let partition = with_state(Partition::new(catalog(), 100));
        Self { partition, changelog, requests, log: Vec::new(), next_offset: 0 }
    }

    fn write(&mut self) -> Vec<StateRecord> {
        self.partition.state.begin_interval();
        self.partition.state.count_rejected(1);
        self.next_offset += 1;
        self.changelog.write(&mut self.partition, self.next_offset, self.next_offset, Some(1)).unwrap()
    }

    fn commit(&mut self) {
        let mut records = self.write();
        let totals = records.pop().unwrap();
        assert_eq!((&*totals.topic, totals.partition, totals.key.as_deref()), ("totals", 0, Some("3")));
        assert_eq!(PartitionTotals::from_bytes(&totals.payload).unwrap(), self.partition.totals());
        self.log.extend(records);
        if let Some(obsolete) = self.changelog.committed(&mut self.partition).unwrap() {
            obsolete.delete();
        }
    }

    fn abort(&mut self) {
        self.write();
        self.changelog.aborted(&mut self.partition);
        self.next_offset -= 1;
    }

    fn restored(&self, from: usize) -> Restored {
        let mut follower = Follower::default();
        for (offset, message) in (0..).zip(&self.log).skip(from) {
            assert_eq!((&*message.topic, message.partition, &message.key), ("changelog", 3, &None));
            follower.read(offset, &message.payload).unwrap();
        }
        follower.finish(catalog()).unwrap().unwrap()
    }
}

#[test]
fn after_the_first_commit_there_is_a_snapshot_to_restore_from() {
    let mut scene = Scene::new();
    scene.abort();
    scene.commit();
    let restored = scene.restored(0);
    assert_eq!(restored.head.next_offset, 1);
    assert!(restored.partition.to_bytes() == scene.partition.state.to_bytes());
    assert!(scene.requests.try_recv().is_err(), "there is nothing to delete");
}

#[test]
fn what_is_before_a_snapshot_is_deleted_only_when_all_of_it_is_committed() {
    let mut scene = Scene::new();
    scene.commit();
    scene.changelog.tail_bytes = SnapshotSizes::default().least_tail_bytes;
    scene.abort();
    let Ok(Request::End { partition: 3, reply }) = scene.requests.try_recv() else { panic!("the end is asked for") };
    scene.commit();
    assert!(scene.requests.try_recv().is_err(), "it is asked for once");
    let end = scene.log.len();
    reply.send(end as i64).unwrap();
    scene.abort();
    assert!(scene.requests.try_recv().is_err());
    scene.commit();
    let Ok(Request::Delete { partition: 3, before }) = scene.requests.try_recv() else { panic!("it is deleted") };
    assert_eq!(before, end as i64);
    let restored = scene.restored(end);
    assert!(restored.partition.to_bytes() == scene.partition.state.to_bytes());
    assert_eq!(restored.snapshot_bytes, scene.changelog.snapshot_bytes);
}

#[test]
fn a_broker_that_cannot_say_where_the_changelog_ends_is_asked_again() {
    let mut scene = Scene::new();
    scene.commit();
    scene.changelog.tail_bytes = SnapshotSizes::default().least_tail_bytes;
    for _ in 0..3 {
        scene.commit();
        assert!(matches!(scene.requests.try_recv(), Ok(Request::End { .. })), "and drops the reply");
        scene.commit();
    }
    assert!(scene.restored(0).partition.to_bytes() == scene.partition.state.to_bytes());
}

#[test]
fn whoever_restores_goes_on_where_the_last_one_stopped() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.commit();
    }
    let restored = scene.restored(0);
    let (janitor, requests) = Janitor::new();
    let mut changelog = Changelog::of(3, &Restored { snapshot_offset: 7, ..restored }, Term::default(), home(janitor));
    assert!(matches!(requests.try_recv(), Ok(Request::Delete { partition: 3, before: 7 })));
    let mut partition = with_state(scene.restored(0).partition);
    partition.state.begin_interval();
    partition.state.count_rejected(1);
    let records = changelog.write(&mut partition, 6, 6, Some(1)).unwrap();
    scene.log.extend(records.into_iter().filter(|record| &*record.topic == "changelog"));
    assert!(scene.restored(0).partition.to_bytes() == partition.state.to_bytes());
    assert_eq!(scene.restored(0).tail_bytes, changelog.tail_bytes + changelog.written.unwrap().delta_bytes);
}

#[test]
fn generations_that_begin_anew_begin_a_new_era() {
    let mut scene = Scene::new();
    let mut term = |generation| {
        scene.partition.state.begin_interval();
        let records = scene.changelog.write(&mut scene.partition, 1, 1, generation).unwrap();
        scene.log.extend(records.into_iter().filter(|record| &*record.topic == "changelog"));
        scene.restored(0).head.term
    };
    assert_eq!(term(Some(5)), Term { era: 0, generation: 5 });
    assert_eq!(term(None), Term { era: 0, generation: 5 }, "none is known");
    assert_eq!(term(Some(6)), Term { era: 0, generation: 6 });
    assert_eq!(term(Some(1)), Term { era: 1, generation: 1 });
}
