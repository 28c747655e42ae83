//! The group coordinator: members, generations, who has which partitions, and offsets.
//!
//! Rebalances are cooperative: a partition that is to move is first taken from its owner, and given away when the owner has let go.

use std::collections::{BTreeMap, BTreeSet};

use super::world::World;
use crate::pipeline::clients::GroupMembership;

#[derive(Default)]
pub(super) struct Group {
    pub(super) generation: i32,
    /// The consumer of each member.
    pub(super) members: BTreeMap<u64, usize>,
    next_member: u64,
    needs_rebalance: bool,
    pub(super) committed: BTreeMap<i32, i64>,
}

/// A membership as of some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) member: u64,
    pub(super) generation: i32,
}

impl GroupMembership for Membership {
    fn generation(&self) -> i32 {
        self.generation
    }
}

/// What a member is told at the end of a rebalance.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) generation: i32,
    pub(super) partitions: BTreeSet<i32>,
}

impl World {
    /// A consumer joins.
    pub(super) fn join(&mut self, consumer: usize) -> u64 {
        self.group.next_member += 1;
        let member = self.group.next_member;
        self.group.members.insert(member, consumer);
        self.group.needs_rebalance = true;
        member
    }

    /// A member leaves, or is taken for gone.
    pub(super) fn leave_group(&mut self, member: u64) {
        if self.group.members.remove(&member).is_some() {
            self.group.needs_rebalance = true;
            self.say(|| format!("member {member} is out of the group"));
        }
    }

    /// The group goes over to another generation, if all members are ready for that. Answers whether.
    pub(super) fn rebalance(&mut self, is_wanted: bool) -> bool {
        let members = self.group.members.clone();
        let is_ready = members.values().all(|consumer| self.consumers[*consumer].is_settled());
        if members.is_empty() || !is_ready || !(is_wanted || self.group.needs_rebalance) {
            return false;
        }
        self.group.generation += 1;
        self.group.needs_rebalance = false;
        let owners: BTreeMap<i32, u64> = members
            .iter()
            .flat_map(|(member, consumer)| self.consumers[*consumer].owned.iter().map(|owned| (*owned, *member)))
            .collect();
        let mut assignments: BTreeMap<u64, BTreeSet<i32>> =
            members.keys().map(|member| (*member, BTreeSet::new())).collect();
        for partition in 0..self.inputs.len() as i32 {
            let stays = self.is_calm || self.chance.below(3) > 0;
            let any = self.chance.below(assignments.len());
            let fewest = assignments.iter().min_by_key(|(_, partitions)| partitions.len()).map(|(member, _)| *member);
            let any = if stays { fewest } else { assignments.keys().nth(any).copied() };
            let next = match owners.get(&partition).copied() {
                Some(owner) if stays || any == Some(owner) => Some(owner),
                Some(_) => {
                    self.group.needs_rebalance = true;
                    None
                }
                None => any,
            };
            if let Some(partitions) = next.and_then(|next| assignments.get_mut(&next)) {
                partitions.insert(partition);
            }
        }
        let generation = self.group.generation;
        self.say(|| format!("generation {generation}: {assignments:?}"));
        for (member, partitions) in assignments {
            let consumer = members[&member];
            self.consumers[consumer].assignment = Some(Assignment { generation, partitions });
        }
        true
    }

    /// The group has these offsets.
    pub(super) fn take_offsets(&mut self, offsets: &[(i32, i64)]) {
        for (partition, offset) in offsets {
            self.group.committed.insert(*partition, *offset);
            self.inputs[*partition as usize].has_begun = true;
        }
        self.say(|| format!("the group has {offsets:?}"));
    }

    /// A group that nobody is in loses its offsets, and may be made anew.
    pub(super) fn expire_offsets(&mut self) -> bool {
        let partitions: Vec<i32> = (0..self.inputs.len() as i32).collect();
        // That takes days, in which whoever is alive hears that it is out.
        let knows = self.consumers.iter().all(|consumer| consumer.has_heard(&self.lives))
            && self.jobs.iter().all(|job| self.lives[job.worker].is_dead);
        let may = knows
            && self.group.members.is_empty()
            && !self.is_unstable(&partitions)
            && (self.fault(30) || self.chance.one_in(20));
        if may {
            self.group.committed.clear();
            if self.chance.one_in(2) {
                self.group.generation = 0;
            }
            let generation = self.group.generation;
            self.say(|| format!("the group's offsets expire; its generation is {generation}"));
        }
        may
    }
}
