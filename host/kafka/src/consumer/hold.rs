//! Partitions that are assigned but bring nothing until somebody says where they start.
//!
//! # How librdkafka is made to do that
//!
//! - A held partition is paused *before* it is assigned, so nothing of it is ever fetched. A pause outlives the assignment, so all
//!   partitions that come are paused or resumed anew.
//! - It is assigned at a number ([`HELD_AT`]). A logical offset (the earliest, say) would be looked up in the background, and the
//!   answer to a look-up that a seek or a resume has overtaken makes librdkafka look again and go there, half a second later.
//! - It is started by a seek while it is still paused, then resumed. A seek is answered by librdkafka's main thread without asking
//!   a broker. It fails as long as the assignment itself waits for partitions to be given up; then the next poll tries again.
//!   Resumed is only what has been sought, so no other message can be fetched.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::Consumer;
use super::rebalance::not_answered;
use crate::error::Error;

/// Where a held partition is assigned; nothing is read there.
pub(super) const HELD_AT: Offset = Offset::Offset(0);

/// How long one attempt at starting a partition may take.
const ATTEMPT: Duration = Duration::from_millis(100);

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
    /// Holds a partition of the [`super::Polled::Assigned`] that was just returned; to be called before the next poll. It will be
    /// assigned, but nothing of it is fetched or handed out until [`Consumer::start`]. Nor is its start committed: whoever starts
    /// it does that, where the start position must count only once. Any other partition is left as it is.
    pub fn hold(&mut self, partition: i32) {
        if self.is_announced(partition) {
            self.holds.insert(partition, Hold::Held);
        }
    }

    /// Hands the messages of a held partition out, from this offset on whatever is committed (`None`: from the earliest one that there
    /// is). It doesn't wait for that, and for `None` asks a broker, at most 100 ms; where that fails, later polls go on trying. Does
    /// nothing for a partition that isn't assigned (any more).
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

    /// Makes librdkafka start the partitions whose start is known.
    pub(super) fn start_what_waits(&mut self) -> Result<(), Error> {
        for place in 0..self.partitions.len() {
            let Some(owned) = self.partitions.get(place) else { continue };
            let Hold::Starting(offset) = owned.hold else { continue };
            let started_at = self.begin(owned.partition, offset)?;
            if let (Some(offset), Some(owned)) = (started_at, self.partitions.get_mut(place)) {
                owned.next_offset = Some(offset);
                owned.hold = Hold::Open;
            }
        }
        Ok(())
    }

    /// Starts a partition. Answers where; `None` where it is too early for that.
    fn begin(&mut self, partition: i32, offset: Option<i64>) -> Result<Option<i64>, Error> {
        let earliest = || self.client.fetch_watermarks(&self.options.topic, partition, ATTEMPT).map(|(low, _)| low);
        let offset = match offset.map_or_else(earliest, Ok) {
            Ok(offset) => offset,
            Err(error) => return self.judge_error(&error).map(|()| None),
        };
        let target = self.list([(partition, Offset::Offset(offset))].into_iter())?;
        let is_sought = match self.client.seek_partitions(target, ATTEMPT) {
            Ok(sought) => sought.elements().iter().all(|element| element.error().is_ok()),
            Err(_) => false,
        };
        if !is_sought {
            tracing::debug!(partition, offset, "the partition can't be started yet");
            return Ok(None);
        }
        let list = self.list([(partition, Offset::Invalid)].into_iter())?;
        self.client.resume(&list).map_err(|error| Error::failed("starting a partition", &error))?;
        Ok(Some(offset))
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
