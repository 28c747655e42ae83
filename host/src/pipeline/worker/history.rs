//! What a worker does for partitions that lack something of their history: it goes over to new plugins when that is nearly counted, holds
//! partitions until it is, and gives it to them.
//!
//! Invariant: a partition is handed to plugins only when it has all that these ask for, and what it has of its history ends exactly where it
//! goes on.

use std::sync::Arc;
use std::time::Duration;

use loginscope_kafka::Error;
use loginscope_state::Partition;

use super::{Work, Worker};
use crate::pipeline::clients::{Clients, GroupConsumer as _, MessageBatch as _};

/// How long a commit may take on which new plugins wait, before logins go on under those at hand.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

impl<K: Clients, W: Work<K>> Worker<K, W> {
    pub(super) fn would_lack(&self) -> bool {
        self.partitions.values().any(|partition| self.work.would_lack(&partition.state))
    }

    /// Whether a partition is held until it has something that the newest plugins ask for, too.
    pub(super) fn waits_for_what_goes_on(&self) -> bool {
        let mut held = self.partitions.iter().filter(|(number, _)| self.lacking.is_held(**number));
        held.any(|(_, partition)| self.work.would_still_lack(&partition.state))
    }

    /// Has counted what partitions would lack under the newest plugins, while those at hand go on, unless they were taken out of service.
    /// Answers whether little is left, for which partitions can be held.
    pub(super) fn histories_are_close(&mut self) -> anyhow::Result<bool> {
        let mut are_close = true;
        for (number, partition) in &self.partitions {
            // A partition that begins with the earliest message has no history yet.
            let Some(offset) = self.lacking.judged_up_to(*number) else { continue };
            if self.work.would_lack(&partition.state) {
                let telemetry = &self.shared.telemetry;
                are_close &= self.work.follow_history(*number, &partition.state, offset, telemetry)?;
            }
        }
        Ok(are_close || self.lacking.must_go_over)
    }

    /// Commits all that was judged, so that none of it is judged anew by other plugins. Answers whether it is committed: if not, it is
    /// judged anew by the same ones first.
    pub(super) fn is_settled(&mut self) -> Result<bool, Error> {
        match self.settle(SETTLE_TIMEOUT) {
            // What was aborted before is to be done again first.
            Ok(()) => Ok(self.delivery.is_idle()),
            Err(error @ (Error::CommitFenced { .. } | Error::Commit { .. } | Error::TimedOut { .. })) => {
                tracing::debug!(worker = self.number, "new plugins wait for a commit: {error}");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Holds the partitions that lack something now. All that they have judged is committed.
    pub(super) fn hold_what_lacks(&mut self) -> anyhow::Result<()> {
        for (number, partition) in &mut self.partitions {
            if !self.work.lacks(&partition.state) {
                if self.lacking.release(*number).is_some() {
                    self.consumer.start(*number, self.lacking.judged_up_to(*number))?;
                }
                continue;
            }
            self.consumer.hold(*number);
            self.delivery.drop_again(*number);
            if self.stops.forget(*number) {
                self.shared.telemetry.goes_on(*number);
            }
            self.lacking.hold(*number, K::now());
            let until = self.lacking.judged_up_to(*number).unwrap_or(0);
            self.work.end_history(*number, &partition.state, until)?;
        }
        let lacking = &self.lacking;
        self.work.went_over(|number| lacking.is_held(number));
        Ok(())
    }

    /// Has partitions go on that have by now what they lacked. It is committed at once, whether or not logins come, and alone: with the
    /// outputs of logins, or with that of another partition, it could take longer than a transaction may.
    pub(super) fn graft_histories(&mut self) -> anyhow::Result<()> {
        for number in self.lacking.held() {
            if !self.delivery.takes_grafted() {
                break;
            }
            let Some(partition) = self.partitions.get_mut(&number) else { continue };
            // What was aborted left an interval open in which nothing happened.
            partition.state.end_interval().ok();
            match self.work.graft_history(number, &mut partition.state)? {
                Ok(false) => {}
                Ok(true) => {
                    if let Some(since) = self.lacking.release(number) {
                        self.shared.telemetry.had_lacked(number, K::since(since));
                    }
                    let offset = self.lacking.judged_up_to(number);
                    self.consumer.start(number, offset)?;
                    if let Some(offset) = offset {
                        self.delivery.commit_grafted(partition, offset);
                    }
                }
                Err(error) => {
                    tracing::info!(partition = number, "counting the history anew: {error}");
                    let until = self.lacking.judged_up_to(number).unwrap_or(0);
                    self.work.end_history(number, &partition.state, until)?;
                }
            }
        }
        Ok(())
    }

    /// Has the messages of a batch from this place on fetched again, for the newest plugins. They are taken over when all that was judged
    /// is committed.
    pub(super) fn set_back(&mut self, batch: &mut K::Batch, at: usize) -> Result<(), Error> {
        let number = batch.partition();
        let Some(offset) = batch.messages().nth(at).map(|message| message.offset) else { return Ok(()) };
        batch.truncate(at);
        self.lacking.judged(number, offset);
        self.delivery.drop_again(number);
        self.consumer.hold(number);
        // Whatever it waited for before.
        if self.stops.forget(number) {
            self.shared.telemetry.goes_on(number);
        }
        self.lacking.must_go_over = true;
        self.consumer.start(number, Some(offset))
    }

    /// The state of a partition that begins at this offset.
    pub(super) fn begun(&self, offset: Option<i64>) -> Partition {
        let (catalog, insight_every) = (Arc::clone(self.work.catalog()), self.shared.insight_every);
        if offset.is_some() {
            Partition::without_history(catalog, insight_every)
        } else {
            Partition::new(catalog, insight_every)
        }
    }
}
