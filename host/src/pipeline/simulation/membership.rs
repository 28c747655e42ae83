//! What librdkafka does for a consumer by itself: it hears of the group, announces rebalances and carries them out.

use std::collections::{BTreeSet, VecDeque};

use loginscope_kafka::{Assigned, Error, Polled};

use super::batch::{Batch, BatchMessage};
use super::consumer::{Position, Rebalance};
use super::group::Assignment;
use super::world::{Login, World};

impl World {
    /// Whether a worker is a member of the group, not only in its own eyes.
    pub(super) fn is_member(&self, worker: usize) -> bool {
        self.member_of(worker).is_some()
    }

    /// The member that a worker is.
    pub(super) fn member_of(&self, worker: usize) -> Option<u64> {
        let is_it = |(_, consumer): &(&u64, &usize)| self.consumers[**consumer].worker == worker;
        self.group.members.iter().find(is_it).map(|(member, _)| *member)
    }

    /// The consumer hears what the group has become.
    pub(super) fn hear(&mut self, number: usize) -> bool {
        let consumer = &mut self.consumers[number];
        let is_member = self.group.members.get(&consumer.member) == Some(&number);
        if !is_member && consumer.generation > 0 {
            consumer.generation = 0;
            consumer.assignment = None;
            consumer.events = VecDeque::from([Rebalance::Lost]);
            return true;
        }
        if !is_member {
            consumer.assignment = None;
        }
        if !is_member && consumer.generation == 0 && consumer.is_settled() {
            // It never was one, or has given everything up.
            consumer.member = 0;
            let member = self.join(number);
            self.consumers[number].member = member;
            return true;
        }
        let Some(Assignment { generation, partitions }) = consumer.assignment.take() else { return false };
        consumer.generation = generation;
        let going: BTreeSet<i32> = consumer.owned.difference(&partitions).copied().collect();
        let coming: BTreeSet<i32> = partitions.difference(&consumer.owned).copied().collect();
        if !going.is_empty() {
            consumer.events.push_back(Rebalance::Revoke(going));
        }
        if !coming.is_empty() {
            consumer.events.push_back(Rebalance::Assign(coming));
        }
        true
    }

    /// What waits for the worker to hear of the group goes on, if it has.
    pub(super) fn end_waits(&mut self, number: usize) {
        let consumer = &self.consumers[number];
        let (worker, member) = (consumer.worker, consumer.member);
        if consumer.is_settled() && self.group.members.contains_key(&member) {
            self.jobs.iter_mut().filter(|job| job.worker == worker).for_each(|job| job.waits = false);
        }
    }

    /// The consumer answers the rebalance that was announced.
    pub(super) fn answer(&mut self, number: usize) {
        let consumer = &mut self.consumers[number];
        let mut holds = std::mem::take(&mut consumer.holds);
        match consumer.announced.take() {
            None => {}
            Some(Rebalance::Assign(partitions)) => {
                for partition in partitions {
                    self.inputs[partition as usize].taker = None;
                    consumer.owned.insert(partition);
                    let hold = holds.remove(&partition).expect("what has a changelog is held");
                    consumer.positions.insert(partition, hold);
                }
            }
            Some(Rebalance::Revoke(partitions)) => {
                consumer.owned.retain(|partition| !partitions.contains(partition));
                // The owner has let go, and joins again for those who wait.
                self.say(|| "partitions are given up".to_owned());
            }
            Some(Rebalance::Lost) => {
                consumer.owned.clear();
                consumer.positions.clear();
            }
        }
    }

    pub(super) fn announce(&mut self, number: usize) -> Option<Polled<Batch>> {
        match self.consumers[number].events.front()?.clone() {
            Rebalance::Assign(partitions) => {
                let list: Vec<i32> = partitions.iter().copied().collect();
                if self.is_unstable(&list) || self.fault(30) {
                    return None;
                }
                let assigned = list.iter().map(|partition| self.assigned(*partition)).collect();
                self.take_event(number);
                self.say(|| format!("assigned {assigned:?}"));
                Some(Polled::Assigned(assigned))
            }
            Rebalance::Revoke(partitions) => {
                self.consumers[number].positions.retain(|partition, _| !partitions.contains(partition));
                self.take_event(number);
                self.say(|| format!("revoked {partitions:?}"));
                Some(Polled::Revoked(partitions.into_iter().collect()))
            }
            Rebalance::Lost => {
                self.take_event(number);
                let lost: Vec<i32> = self.consumers[number].owned.iter().copied().collect();
                self.consumers[number].positions.clear();
                self.say(|| format!("lost {lost:?}"));
                if lost.is_empty() {
                    self.answer(number);
                }
                (!lost.is_empty()).then_some(Polled::Lost(lost))
            }
        }
    }

    fn take_event(&mut self, number: usize) {
        let event = self.consumers[number].events.pop_front();
        self.consumers[number].announced = event;
    }

    fn assigned(&self, partition: i32) -> Assigned {
        let committed = self.group.committed.get(&partition).copied();
        let latest = self.settings.starts_at_latest.then(|| self.inputs[partition as usize].end());
        Assigned { partition, committed, next_offset: committed.or(latest) }
    }

    pub(super) fn batch(&mut self, number: usize, most: usize) -> Option<Polled<Batch>> {
        let consumer = &self.consumers[number];
        let ready: Vec<(i32, usize)> = consumer
            .positions
            .iter()
            .filter_map(|(partition, position)| match position {
                Position::At(place) if *place < self.inputs[*partition as usize].arrived => Some((*partition, *place)),
                Position::At(_) | Position::Held | Position::Stopped => None,
            })
            .collect();
        if most == 0 || ready.is_empty() {
            return None;
        }
        let (partition, place) = ready[self.chance.below(ready.len())];
        let input = &self.inputs[partition as usize];
        let end = (place + 1 + self.chance.below(most.min(4))).min(input.arrived);
        let message = |Login { offset, user }: &Login| BatchMessage {
            offset: *offset,
            key: None,
            payload: user.as_bytes().to_vec(),
        };
        let messages = input.messages[place..end].iter().map(message).collect();
        self.consumers[number].positions.insert(partition, Position::At(end));
        Some(Polled::Batch(Batch { partition, messages }))
    }

    /// The oldest commit on its way arrives.
    pub(super) fn commit_arrives(&mut self, number: usize) -> bool {
        let Some(commit) = self.consumers[number].commits.pop_front() else { return false };
        let group = || "group".to_owned();
        let error = |reason: &str| Error::Commit { group: group(), reason: reason.to_owned() };
        let is_member = self.group.members.get(&commit.membership.member) == Some(&number);
        let outcome = if self.fault(30) {
            Err(error("simulated"))
        } else if !is_member || commit.membership.generation != self.group.generation {
            Err(Error::CommitFenced { group: group(), reason: "another generation".to_owned() })
        } else {
            self.take_offsets(&commit.offsets);
            if self.fault(10) { Err(error("simulated, though done")) } else { Ok(()) }
        };
        *commit.outcome.lock().unwrap() = Some(outcome);
        true
    }
}
