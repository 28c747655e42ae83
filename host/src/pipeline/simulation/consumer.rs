//! Members of the group, with what librdkafka does for them by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loginscope_kafka::{Error, PartitionProgress, Polled};

use super::batch::{Batch, Commit, CommitModel};
use super::group::{Assignment, Membership};
use super::world::{Crash, Life, call, with};
use crate::pipeline::clients::{GroupConsumer, PendingCommit as _};

/// A rebalance that is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    Assign(BTreeSet<i32>),
    Revoke(BTreeSet<i32>),
    Lost,
}

/// Where a partition that is assigned is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Held,
    /// Held after it had begun.
    Stopped,
    /// The next message.
    At(usize),
}

/// What is known of a consumer.
pub(super) struct ConsumerModel {
    pub(super) worker: usize,
    pub(super) member: u64,
    /// As it has heard last; 0 where it is no member as far as it knows.
    pub(super) generation: i32,
    pub(super) owned: BTreeSet<i32>,
    pub(super) assignment: Option<Assignment>,
    pub(super) events: VecDeque<Rebalance>,
    pub(super) announced: Option<Rebalance>,
    pub(super) holds: BTreeMap<i32, Position>,
    pub(super) positions: BTreeMap<i32, Position>,
    pub(super) commits: VecDeque<Arc<CommitModel>>,
}

/// A consumer's number.
pub(super) struct Consumer {
    number: usize,
    worker: usize,
}

impl Consumer {
    pub(super) fn join(worker: usize) -> Self {
        let number = with(|world| {
            let number = world.consumers.len();
            world.consumers.push(ConsumerModel {
                worker,
                member: 0,
                generation: 0,
                owned: BTreeSet::new(),
                assignment: None,
                events: VecDeque::new(),
                announced: None,
                holds: BTreeMap::new(),
                positions: BTreeMap::new(),
                commits: VecDeque::new(),
            });
            world.consumers[number].member = world.join(number);
            number
        });
        Self { number, worker }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        with(|world| {
            let consumer = &mut world.consumers[self.number];
            let member = consumer.member;
            consumer.generation = 0;
            // Who is killed doesn't say that it leaves.
            if !world.lives[self.worker].is_dead {
                world.leave_group(member);
            }
        });
    }
}

impl ConsumerModel {
    /// Whether nothing of a rebalance is unanswered.
    pub(super) fn is_settled(&self) -> bool {
        self.assignment.is_none() && self.events.is_empty() && self.announced.is_none()
    }

    /// Whether it knows that it is out of the group, or can't know anything.
    pub(super) fn has_heard(&self, lives: &[Life]) -> bool {
        self.generation == 0 || lives[self.worker].is_dead
    }

    fn membership(&self) -> Membership {
        Membership { member: self.member, generation: self.generation }
    }

    /// Whether everything that is there was handed out.
    pub(super) fn is_at(&self, partition: i32, place: usize) -> bool {
        self.positions.get(&partition) == Some(&Position::At(place))
    }
}

impl GroupConsumer for Consumer {
    type Batch = Batch;
    type Membership = Membership;
    type Commit = Commit;

    fn poll(&mut self, most: usize, _: Duration) -> Result<Polled<Batch>, Error> {
        call(self.worker, "poll").map_err(stopped)?;
        Ok(with(|world| {
            world.answer(self.number);
            if world.is_calm || world.chance.one_in(2) {
                world.hear(self.number);
            }
            if let Some(event) = world.announce(self.number) {
                return event;
            }
            world.end_waits(self.number);
            if let Some(batch) = world.batch(self.number, most) {
                return batch;
            }
            world.pass(1, 50);
            Polled::Nothing
        }))
    }

    fn hold(&mut self, partition: i32) {
        with(|world| {
            let consumer = &mut world.consumers[self.number];
            if let Some(Rebalance::Assign(coming)) = &consumer.announced
                && coming.contains(&partition)
            {
                consumer.holds.insert(partition, Position::Held);
            } else if let Some(position @ Position::At(_)) = consumer.positions.get_mut(&partition) {
                *position = Position::Stopped;
            }
        });
    }

    fn start(&mut self, partition: i32, offset: Option<i64>) -> Result<(), Error> {
        call(self.worker, "start").map_err(stopped)?;
        with(|world| {
            let goes_on = world.consumers[self.number].positions.get(&partition) == Some(&Position::Stopped);
            let chooses_start = world.settings.starts_at_latest && !goes_on && world.is_member(self.worker);
            let has_state = chooses_start && super::judging::has_state(world, partition);
            let input = &mut world.inputs[partition as usize];
            let place = offset.map_or(0, |offset| input.before(offset));
            input.has_begun |= has_state;
            if chooses_start && !input.has_begun {
                input.start = offset.unwrap_or_default();
            }
            let consumer = &mut world.consumers[self.number];
            let is_announced =
                matches!(&consumer.announced, Some(Rebalance::Assign(list)) if list.contains(&partition));
            let places = if is_announced { &mut consumer.holds } else { &mut consumer.positions };
            if let Some(position) = places.get_mut(&partition) {
                assert!(matches!(position, Position::Held | Position::Stopped), "it is held");
                *position = Position::At(place);
            }
            world.say(|| format!("partition {partition} starts at {offset:?}"));
        });
        Ok(())
    }

    fn group_metadata(&self) -> Option<Membership> {
        with(|world| Some(world.consumers[self.number].membership()).filter(|membership| membership.generation > 0))
    }

    fn committed(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, Option<i64>)>, Error> {
        call(self.worker, "committed").map_err(stopped)?;
        with(|world| {
            world.pass(1, 50);
            if world.is_unstable(partitions) || world.fault(30) {
                return Err(Error::TimedOut { what: "offsets".to_owned(), waited: timeout });
            }
            Ok(partitions.iter().map(|partition| (*partition, world.group.committed.get(partition).copied())).collect())
        })
    }

    fn commit_async(&mut self, offsets: &[(i32, i64)]) -> Result<Commit, Error> {
        call(self.worker, "commit").map_err(stopped)?;
        Ok(with(|world| {
            let consumer = &mut world.consumers[self.number];
            let membership = consumer.membership();
            let commit = Arc::new(CommitModel { offsets: offsets.to_vec(), membership, outcome: Mutex::new(None) });
            consumer.commits.push_back(Arc::clone(&commit));
            Commit(commit)
        }))
    }

    fn commit_within(&mut self, offsets: &[(i32, i64)], timeout: Duration) -> Result<(), Error> {
        let commit = self.commit_async(offsets)?;
        with(|world| {
            world.pass(1, 50);
            while !world.fault(20) && world.commit_arrives(self.number) {}
        });
        call(self.worker, "committed").map_err(stopped)?;
        let late = || Err(Error::TimedOut { what: "committing".to_owned(), waited: timeout });
        commit.outcome().unwrap_or_else(late)
    }

    fn progress(&self) -> Vec<PartitionProgress> {
        Vec::new()
    }
}

fn stopped(_: Crash) -> Error {
    Error::Stopped
}
