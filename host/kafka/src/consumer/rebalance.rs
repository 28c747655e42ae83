//! Announcing rebalances and answering them, in the order that the parent module describes.

use std::collections::BTreeMap;

use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::events::Rebalance;
use super::hold::{HELD_AT, Hold};
use super::start::Starts;
use super::{Assigned, Consumer, OwnedPartition, Polled};
use crate::error::Error;
use crate::native::PartitionQueue;

/// The offset as a number, where it is one.
pub(super) fn as_number(offset: Offset) -> Option<i64> {
    if let Offset::Offset(number) = offset { Some(number) } else { None }
}

impl Consumer {
    /// Turns a rebalance into an event; `None` where there is nothing to announce.
    pub(super) fn announce(&mut self, rebalance: Rebalance) -> Result<Option<Polled>, Error> {
        let event = match rebalance {
            Rebalance::Assign(list) => {
                // Partitions that go may go with their topic; if any come, it is there.
                self.missing_since = self.missing_since.filter(|_| list.count() == 0);
                let Some(Starts { list, committed }) = self.resolve_starts(list)? else { return Ok(None) };
                let assigned = |element: &TopicPartitionListElem<'_>| Assigned {
                    partition: element.partition(),
                    committed: committed.get(&element.partition()).copied(),
                    next_offset: as_number(element.offset()),
                };
                let coming: Vec<Assigned> = list.elements().iter().map(assigned).collect();
                self.announced = Some(Rebalance::Assign(list));
                (!coming.is_empty()).then_some(Polled::Assigned(coming))
            }
            Rebalance::Revoke { list, lost } => {
                let going: Vec<i32> = list.elements().iter().map(TopicPartitionListElem::partition).collect();
                self.partitions.retain(|owned| !going.contains(&owned.partition));
                self.announced = Some(Rebalance::Revoke { list, lost });
                let event = if lost { Polled::Lost } else { Polled::Revoked };
                (!going.is_empty()).then(|| event(going))
            }
        };
        if event.is_none() {
            self.answer_announced()?;
        }
        Ok(event)
    }

    /// Answers the rebalance that the last poll announced.
    pub(super) fn answer_announced(&mut self) -> Result<(), Error> {
        let holds = std::mem::take(&mut self.holds);
        match self.announced.take() {
            None => return Ok(()),
            Some(Rebalance::Assign(list)) => self.take_partitions(list, holds)?,
            Some(Rebalance::Revoke { list, .. }) => {
                self.client.context().forget_committed(&list);
                let answered = match self.client.rebalance_protocol() {
                    RebalanceProtocol::Cooperative => self.client.incremental_unassign(&list),
                    RebalanceProtocol::Eager | RebalanceProtocol::None => self.client.unassign(),
                };
                answered.map_err(|error| not_answered(&error))?;
            }
        }
        // Meanwhile librdkafka has paused all partitions, and now resumes those that stay.
        let stay = self.partitions.iter().filter(|owned| !owned.hold.is_closed());
        self.nudge(&stay.map(|owned| owned.partition).collect::<Vec<i32>>());
        Ok(())
    }

    fn take_partitions(&mut self, mut list: TopicPartitionList, mut holds: BTreeMap<i32, Hold>) -> Result<(), Error> {
        let first_commits = self.first_commits(&list, &holds);
        Self::hold_what_starts_at_the_earliest(&list, &mut holds);
        for partition in holds.keys() {
            list.set_partition_offset(&self.options.topic, *partition, HELD_AT)
                .map_err(|error| not_answered(&error))?;
        }
        self.client.context().forget_committed(&list);
        self.cut_queues_off(&list, &mut holds)?;
        self.pause_what_is_held(&list)?;
        let answered = match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.client.incremental_assign(&list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.client.assign(&list),
        };
        answered.map_err(|error| not_answered(&error))?;
        self.commit_first(&first_commits);
        Ok(())
    }

    fn cut_queues_off(&mut self, list: &TopicPartitionList, holds: &mut BTreeMap<i32, Hold>) -> Result<(), Error> {
        for element in list.elements() {
            let partition = element.partition();
            let missing = || Error::Failed {
                what: format!("taking the queue of partition {partition}"),
                reason: "there is none".to_owned(),
            };
            let queue = PartitionQueue::cut_off(&self.client, &self.topic, partition, &self.signal);
            let queue = queue.ok_or_else(missing)?;
            let hold = holds.remove(&partition).unwrap_or(Hold::Open);
            let next_offset = as_number(element.offset()).filter(|_| !hold.is_closed());
            self.partitions.push(OwnedPartition { partition, queue, next_offset, hold });
        }
        Ok(())
    }
}

pub(super) fn not_answered(error: &KafkaError) -> Error {
    Error::failed("answering a rebalance", error)
}
