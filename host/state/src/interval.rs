//! Commit intervals: what lies between two commits of a partition is written to its changelog as a [`delta`](Partition::delta),
//! or taken back as a whole.
//!
//! ```text
//! begin_interval ─▶ logins, windows, savepoints … ─▶ delta ─▶ written? ─ yes ─▶ end_interval ─▶ begin_interval …
//!                        ▲                                       └────── no ──▶ abort_interval ┐
//!                        └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Savepoints open and close inside of an interval and can't reach beyond it. A catalog that is adopted or a window
//! length that is set within an interval doesn't end it: the delta says them, whatever is taken back; and as a rollback
//! takes back neither, an aborted interval's are in the delta of the next one that is committed. So are aggregates that were
//! [grafted](crate::graft), whole.

use crate::graft::Unwritten;
use crate::partition::Partition;
use crate::shape::Head;
use crate::undo::Mark;

/// An open interval. Its begin is the outermost mark.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interval {
    /// Where the partition stood when the delta was taken: how many changes the journal had, and all scalars.
    taken: Option<(usize, Head)>,
}

/// The changelog doesn't have all that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the partition has changed since its delta was taken, or none was: its changelog is not complete; restore the \
     partition from it"
)]
pub struct NotInDelta;

impl Partition {
    /// Opens a commit interval. Savepoints that are open are released, and belong to what the interval can't take back.
    /// Nothing where one is open already.
    pub fn begin_interval(&mut self) {
        if self.interval.is_none() {
            while !self.marks.is_empty() {
                self.release();
            }
            self.savepoint();
            self.interval = Some(Interval::default());
        }
    }

    /// All that changed since the interval began, as one record to be written to the partition's changelog; `None`
    /// where nothing did, or no interval is open. [`Replica::apply`](crate::Replica::apply) reads it.
    ///
    /// What was counted ahead for [`history`](Self::history) and not observed is taken back first. Savepoints that are
    /// open are released: what they guard is in the delta, so it can't be taken back by itself any more. Until the
    /// interval is ended or aborted, nothing is to be changed.
    #[must_use = "what changed is in no other record"]
    pub fn delta(&mut self) -> Option<Vec<u8>> {
        self.take_back_ahead();
        let mark = *self.marks.first()?;
        let interval = self.interval.as_mut()?;
        self.marks.truncate(1);
        let head = Head { insight_every: self.insight_every, next_birth: self.next_birth, progress: self.progress };
        interval.taken = Some((self.journal.len(), head));
        let shape_is_known = self.known.is_some_and(|known| known.next_birth == self.next_birth);
        let is_as_known = self.known.is_some_and(|known| known == Head { progress: known.progress, ..head });
        let changed = !is_as_known || mark.progress != self.progress || self.journal.len() > 0;
        changed.then(|| self.delta_since(&mark, shape_is_known))
    }

    /// Ends the interval: its delta is in the changelog for good.
    ///
    /// # Errors
    /// Where something was changed after [`delta`](Self::delta), which is then in no record. The interval is over all
    /// the same.
    pub fn end_interval(&mut self) -> Result<(), NotInDelta> {
        self.take_back_ahead();
        let now = (self.journal.len(), self.head());
        let taken = self.interval.take().and_then(|interval| interval.taken);
        while !self.marks.is_empty() {
            self.release();
        }
        if taken == Some(now) {
            self.known = Some(now.1);
            self.unwritten = Unwritten::default();
            Ok(())
        } else {
            self.known = None;
            Err(NotInDelta)
        }
    }

    /// Takes back all logins since the interval began, but neither catalogs nor the length of windows. The interval
    /// stays open.
    pub fn abort_interval(&mut self) {
        let Some(interval) = &mut self.interval else { return };
        *interval = Interval::default();
        self.marks.truncate(1);
        self.roll_back_interval();
    }

    /// Whether all that is kept now is in the delta taken last, or in the changelog.
    pub(crate) fn is_in_delta(&self) -> bool {
        let now = (self.journal.len(), self.head());
        let taken = self.interval.and_then(|interval| interval.taken);
        taken == Some(now) || (now.0 == 0 && self.known == Some(now.1))
    }

    fn roll_back_interval(&mut self) {
        self.take_back_ahead();
        if let Some(Mark { position, progress }) = self.marks.first().copied() {
            self.undo_to(position);
            self.progress = progress;
        }
    }
}
