//! Partitions that are assigned but bring nothing until it is known where they start: because somebody holds them, from the begin or
//! from some message on, or because it is at the earliest offset, which has to be looked up.
//!
//! # How librdkafka is made to do that
//!
//! - A held partition is paused *before* it is assigned, so nothing of it is ever fetched. A pause outlives the assignment, so all
//!   partitions that come are paused or resumed anew. One that is held later is paused then, and what is queued of it thrown away.
//! - It is assigned at a number ([`HELD_AT`]), and no logical offset is ever given to librdkafka. It would look it up in the background.
//!   The answer to a look-up that a seek or a resume has overtaken makes it look again and go there, half a second later; the
//!   earliest offset it may take from an earlier fetch, when there were still older messages; and with `auto.offset.reset` = `error`
//!   a look-up that fails for a moment, as on a topic that has just been created, stops the partition for good.
//! - It is started by a seek while it is still paused, then resumed. A seek is answered by librdkafka's main thread without asking
//!   a broker. It fails as long as the assignment itself waits for partitions to be given up; then the next poll tries again.
//!   Resumed is only what has been sought, so no other message can be fetched.
//! - Resuming doesn't wake the thread that fetches from the partition's broker: it may sleep for a second. Any request to that broker does.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::rebalance::{as_number, not_answered};
use super::{Consumer, OwnedPartition};
use crate::error::Error;

/// Where a held partition is assigned; nothing is read there.
pub(super) const HELD_AT: Offset = Offset::Offset(0);

/// How long a request may take that a poll waits for.
const ATTEMPT: Duration = Duration::from_millis(100);

/// How long to wait for the answer to a request that is made only to be made.
const NUDGE: Duration = Duration::from_millis(1);

/// Whether a partition hands its messages out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It does.
    Open,
    /// Not until somebody says where it starts.
    Held,
    /// It will, from this offset on (`None`: the earliest), as soon as librdkafka has been told.
    Starting(Option<i64>),
}

impl Hold {
    /// Whether nothing may be handed out.
    pub(super) fn is_closed(self) -> bool {
        self != Self::Open
    }
}

impl Consumer {
    /// Holds a partition: nothing of it is fetched or handed out until [`Consumer::start`]. That may be one of the
    /// [`super::Polled::Assigned`] that was just returned, before the next poll: it will be assigned, but its start isn't committed:
    /// whoever starts it does that, where the start position must count only once. Or it is one that is assigned already: then
    /// whoever starts it says from which message on. What isn't assigned is left as it is.
    pub fn hold(&mut self, partition: i32) {
        if self.is_announced(partition) {
            self.holds.insert(partition, Hold::Held);
        } else if let Some(owned) = self.partitions.iter_mut().find(|owned| owned.partition == partition) {
            owned.hold = Hold::Held;
            // Were it to fail, what is fetched would be thrown away.
            if let Err(error) = self.pause(&[partition]) {
                tracing::debug!(partition, "a partition that is held is still fetched: {error}");
            }
        }
    }

    /// Hands the messages of a held partition out, from this offset on whatever is committed (`None`: from the earliest one that there
    /// is). For `None` brokers are asked, which takes 200 ms at most; otherwise it takes about a millisecond. What can't be done just now,
    /// later polls go on trying. Does nothing for a partition that isn't assigned (any more). One that has just been announced
    /// need not be held before.
    ///
    /// # Errors
    /// [`Error::Failed`] for a partition that is not held, or a negative offset. As [`Consumer::poll`] where a broker is asked.
    pub fn start(&mut self, partition: i32, offset: Option<i64>) -> Result<(), Error> {
        let what = || format!("starting partition {partition} of the topic {:?}", self.options.topic);
        if let Some(negative) = offset.filter(|offset| *offset < 0) {
            return Err(Error::Failed { what: what(), reason: format!("{negative} is no offset") });
        }
        if self.is_announced(partition) {
            self.holds.insert(partition, Hold::Starting(offset));
            return Ok(());
        }
        match self.partitions.iter_mut().find(|owned| owned.partition == partition) {
            None => Ok(()),
            Some(owned) if owned.hold == Hold::Open => {
                Err(Error::Failed { what: what(), reason: "it is not held".to_owned() })
            }
            Some(owned) => {
                owned.hold = Hold::Starting(offset);
                self.start_what_waits()
            }
        }
    }

    /// Makes librdkafka start the partitions that shall, as many as it can for now.
    pub(super) fn start_what_waits(&mut self) -> Result<(), Error> {
        self.look_up_the_earliest()?;
        let start = |owned: &OwnedPartition| match owned.hold {
            Hold::Starting(Some(offset)) => Some((owned.partition, offset)),
            _ => None,
        };
        let starts: BTreeMap<i32, i64> = self.partitions.iter().filter_map(start).collect();
        if starts.is_empty() {
            return Ok(());
        }
        let targets = self.list(starts.iter().map(|(partition, offset)| (*partition, Offset::Offset(*offset))))?;
        let Ok(sought) = self.client.seek_partitions(targets, ATTEMPT) else { return Ok(()) };
        let is_sought = |element: &TopicPartitionListElem<'_>| element.error().is_ok();
        let sought: Vec<i32> =
            sought.elements().iter().filter(|e| is_sought(e)).map(TopicPartitionListElem::partition).collect();
        let resumed = self.list(sought.iter().map(|partition| (*partition, Offset::Invalid)))?;
        self.client.resume(&resumed).map_err(|error| Error::failed("starting partitions", &error))?;
        self.nudge(&sought);
        for owned in self.partitions.iter_mut().filter(|owned| sought.contains(&owned.partition)) {
            owned.next_offset = starts.get(&owned.partition).copied();
            owned.hold = Hold::Open;
        }
        Ok(())
    }

    /// Looks the earliest offsets up, of all partitions that shall start there at once: as soon as one is being fetched, its broker
    /// answers only when there is something to fetch, or after `fetch.wait.max.ms`.
    fn look_up_the_earliest(&mut self) -> Result<(), Error> {
        let is_unknown = |owned: &&OwnedPartition| owned.hold == Hold::Starting(None);
        let unknown: Vec<i32> = self.partitions.iter().filter(is_unknown).map(|owned| owned.partition).collect();
        let Some(first) = unknown.first() else { return Ok(()) };
        let found = match self.earliest(&unknown, ATTEMPT) {
            // One whose leader is missing must not stand in the way of the others.
            Err(_) if unknown.len() > 1 => {
                self.partitions.sort_by_key(|owned| owned.partition == *first);
                self.earliest(&[*first], ATTEMPT)
            }
            found => found,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.judge_error(&error),
        };
        for owned in self.partitions.iter_mut().filter(|owned| owned.hold == Hold::Starting(None)) {
            owned.hold = Hold::Starting(found.get(&owned.partition).copied());
        }
        Ok(())
    }

    /// The earliest offsets of these partitions, as far as they are known.
    fn earliest(&self, partitions: &[i32], timeout: Duration) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            // Brokers take the earliest for a time.
            list.add_partition_offset(&self.options.topic, *partition, Offset::Beginning)?;
        }
        let found = self.client.offsets_for_times(list, timeout)?;
        let known = |element: TopicPartitionListElem<'_>| {
            element.error()?;
            Ok(as_number(element.offset()).map(|offset| (element.partition(), offset)))
        };
        found.elements().into_iter().filter_map(|element| known(element).transpose()).collect()
    }

    /// Wakes the threads that fetch from the brokers of these partitions, which were just resumed.
    pub(super) fn nudge(&self, partitions: &[i32]) {
        if !partitions.is_empty() {
            let _is_of_no_interest = self.earliest(partitions, NUDGE);
        }
    }

    /// Adds the partitions that start at their earliest offset to those that are held.
    pub(super) fn hold_what_starts_at_the_earliest(coming: &TopicPartitionList, holds: &mut BTreeMap<i32, Hold>) {
        for element in coming.elements() {
            if element.offset() == Offset::Beginning {
                holds.entry(element.partition()).or_insert(Hold::Starting(None));
            }
        }
    }

    /// Pauses those of these partitions that are held, and no other one. To be called before they are assigned.
    pub(super) fn pause_what_is_held(&self, coming: &TopicPartitionList) -> Result<(), Error> {
        let is_held = |partition| self.partitions.iter().any(|o| o.partition == partition && o.hold.is_closed());
        let coming: Vec<i32> = coming.elements().iter().map(TopicPartitionListElem::partition).collect();
        let (held, open): (Vec<i32>, Vec<i32>) = coming.into_iter().partition(|partition| is_held(*partition));
        let list =
            |partitions: Vec<i32>| self.list(partitions.into_iter().map(|partition| (partition, Offset::Invalid)));
        self.client.pause(&list(held)?).map_err(|error| not_answered(&error))?;
        self.client.resume(&list(open)?).map_err(|error| not_answered(&error))
    }

    /// Whether it is one of the partitions that come with the next poll.
    fn is_announced(&self, partition: i32) -> bool {
        let Some(super::Rebalance::Assign(list)) = &self.announced else { return false };
        list.find_partition(&self.options.topic, partition).is_some()
    }
}
