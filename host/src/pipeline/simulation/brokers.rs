//! What goes on among the brokers, and where a worker has no say.

use std::time::Duration;

use super::world::World;
use crate::pipeline::changelog::Request;

impl World {
    /// Something goes on among the brokers. Answers whether anything did.
    pub(super) fn go_on(&mut self) -> bool {
        match self.chance.below(11) {
            0 => self.arrive(),
            1 | 2 => self.end_transactions(),
            3 => {
                let consumer = self.chance.below(self.consumers.len());
                self.is_alive(self.consumers[consumer].worker) && self.hear(consumer)
            }
            4 => {
                let is_wanted = self.fault(if self.settings.has_slow_jobs { 300 } else { 40 });
                self.rebalance(is_wanted)
            }
            5 => self.expire(),
            6 => self.serve_janitor(),
            7 => {
                let consumer = self.chance.below(self.consumers.len());
                self.commit_arrives(consumer)
            }
            8 if !self.producers.is_empty() => {
                let producer = self.chance.below(self.producers.len());
                self.deliver(producer)
            }
            9 => self.sleep_long(),
            _ => self.expire_offsets(),
        }
    }

    /// All processes are stopped for so long that the group is forgotten.
    fn sleep_long(&mut self) -> bool {
        if !self.fault(6) {
            return false;
        }
        (0..self.lives.len()).for_each(|worker| self.kill(worker));
        self.group.members.clear();
        self.now += Duration::from_hours(1);
        while self.ids.values().any(|id| id.current.is_some()) {
            self.end_transactions();
        }
        (0..20).any(|_| self.expire_offsets())
    }

    fn is_alive(&self, worker: usize) -> bool {
        let life = &self.lives[worker];
        !life.is_dead
    }

    /// Messages come.
    fn arrive(&mut self) -> bool {
        let place = self.chance.below(self.inputs.len());
        let more = self.chance.below(4);
        let input = &mut self.inputs[place];
        input.arrived = (input.arrived + more).min(input.messages.len());
        true
    }

    /// The group takes a member for gone: one that is, or one whose heartbeats don't come.
    fn expire(&mut self) -> bool {
        let members: Vec<(u64, usize)> =
            self.group.members.iter().map(|(member, consumer)| (*member, *consumer)).collect();
        let Some((member, consumer)) = members.get(self.chance.below(members.len())).copied() else { return false };
        let worker = self.consumers[consumer].worker;
        let is_paused = !self.is_calm && self.lives[worker].paused_until > self.now + Duration::from_secs(5);
        let is_silent = !self.is_alive(worker) || is_paused;
        let is_expired = is_silent && self.chance.one_in(2) || self.fault(10);
        if is_expired {
            self.leave_group(member);
        }
        is_expired
    }

    /// A request about the changelog is served, or not.
    fn serve_janitor(&mut self) -> bool {
        let place = self.chance.below(self.requests.len());
        let Ok(request) = self.requests[place].try_recv() else { return false };
        if self.fault(40) {
            return true;
        }
        match request {
            Request::End { partition, reply } => {
                let end = self.logs[partition as usize].end();
                self.say(|| format!("changelog {partition} ends at {end}"));
                reply.send(end).ok();
            }
            Request::Delete { partition, before } => {
                self.say(|| format!("changelog {partition} is deleted before {before}"));
                self.logs[partition as usize].delete_before(before);
            }
        }
        true
    }
}
