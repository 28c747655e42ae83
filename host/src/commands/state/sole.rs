//! The only member of a group: as long as it is, nobody else processes logins or writes state, and what it commits with its membership
//! is refused by the brokers as soon as somebody else has joined.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use loginscope_kafka::{Consumer, ConsumerOptions, GroupMetadata, Polled, Topics};

use crate::config::Config;

/// How long the group may take to give all partitions to its only member.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long one wait takes.
const POLL: Duration = Duration::from_millis(100);

/// The only member of a group. It takes no messages.
pub(super) struct SoleMember {
    consumer: Consumer,
    group: String,
    /// The group's offset of each partition.
    committed: BTreeMap<i32, Option<i64>>,
}

impl SoleMember {
    /// Joins a group without members, and waits until all these partitions of the input are its own.
    ///
    /// # Errors
    /// Where the group has members, and what else a person must solve.
    pub(super) fn join(config: &Config, topics: &Topics, partitions: i32) -> Result<Self> {
        let group = config.group.clone();
        let members = topics.group_members(&group)?;
        if members > 0 {
            bail!(
                "the group {group} has {members} members: stop all instances first (one that was killed, or that has an --instance \
                 name, counts until its session has timed out)"
            );
        }
        let options = ConsumerOptions::new(config.topics.input.as_str(), group.as_str());
        let consumer = Consumer::join(&config.kafka, options)?;
        let mut member = Self { consumer, group, committed: BTreeMap::new() };
        let until = Instant::now() + PATIENCE;
        while member.committed.len() < partitions.unsigned_abs() as usize {
            if Instant::now() >= until {
                bail!(
                    "the group {} gave only {} of {partitions} partitions to this command: others are in it; stop all instances",
                    member.group,
                    member.committed.len()
                );
            }
            member.poll(POLL)?;
        }
        // What was announced last is taken with the next poll.
        member.check()?;
        Ok(member)
    }

    /// The group's offset of a partition.
    pub(super) fn committed(&self, partition: i32) -> Option<i64> {
        self.committed.get(&partition).copied().flatten()
    }

    /// Makes sure that nobody else has joined, as far as is known here. To be called often: it keeps the membership.
    ///
    /// # Errors
    /// Where somebody has.
    pub(super) fn check(&mut self) -> Result<()> {
        self.poll(Duration::ZERO)
    }

    /// The membership, by which the brokers see that nobody else has joined.
    ///
    /// # Errors
    /// Where it has ended.
    pub(super) fn membership(&mut self) -> Result<GroupMetadata> {
        self.check()?;
        match self.consumer.group_metadata() {
            Some(membership) => Ok(membership),
            None => bail!("the membership in the group {} has ended: try again", self.group),
        }
    }

    fn poll(&mut self, timeout: Duration) -> Result<()> {
        match self.consumer.poll(0, timeout)? {
            Polled::Assigned(assigned) => {
                for one in assigned {
                    self.consumer.hold(one.partition);
                    self.committed.insert(one.partition, one.committed);
                }
                Ok(())
            }
            Polled::Revoked(_) => bail!("somebody else has joined the group {}: stop all instances first", self.group),
            Polled::Lost(_) => bail!(
                "the group {} has gone on without this command, which did not come to poll it for longer than max.poll.interval.ms, or \
                 was not heard by the brokers for longer than session.timeout.ms: make sure that all instances are stopped, and try \
                 again",
                self.group
            ),
            Polled::Batch(_) | Polled::Nothing => Ok(()),
        }
    }
}
