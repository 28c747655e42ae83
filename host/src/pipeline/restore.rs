//! Restoring partitions that were assigned from their changelog, in the background, while others go on.
//!
//! Invariants:
//! - A partition resumes where its state says. The group's offset must fit that; where it doesn't, somebody has changed one of the
//!   two by hand, and nothing is guessed.
//! - What a former owner that is still alive writes counts for nothing from the moment on up to which the changelog is read.
//!   Transactions see to that; without them, the partition is claimed before it is read.

mod job;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use anyhow::{Context as _, Result};
use loginscope_kafka::Assigned;
use loginscope_state::{Catalog, CommitHead, RestoreError, Restored, Term};

use self::job::{Open, Restore};
use super::changelog::Home;
use super::clients::{Clients, Librdkafka, Turn};
use super::totals::TotalsBoard;

/// A partition that was read from its changelog.
pub struct Found {
    /// The partition as it was assigned.
    pub assigned: Assigned,
    /// What it was; nothing where its changelog is empty.
    pub restored: Option<Restored>,
    /// The highest term that its changelog has.
    pub term: Term,
    /// How long that took.
    pub took: Duration,
}

/// As [`Source::patience`]: a minute, in which any member of the group has heard that a partition isn't its own any more.
pub const PATIENCE: u32 = 600;

/// What a worker's partitions are restored from, and by whom.
#[derive(Clone)]
pub struct Source<K: Clients = Librdkafka> {
    /// How to reach Kafka.
    pub kafka: K::Settings,
    /// Where the state is, and who writes it from then on.
    pub home: Home,
    /// How many partitions the changelog has.
    pub partitions: i32,
    /// Whether partitions are claimed first.
    pub claims: bool,
    /// How often it is looked whether a partition that somebody else has claimed is still this worker's, before that counts.
    pub patience: u32,
    /// The totals of partitions elsewhere are put here.
    pub totals: TotalsBoard,
}

/// Restores the partitions of a worker.
pub struct Restorer<K: Clients = Librdkafka> {
    source: Source<K>,
    wake: Wake,
    /// By partition.
    jobs: BTreeMap<i32, Job>,
    next_job: u64,
    results: Receiver<(u64, i32, Result<Found>)>,
    report: Sender<(u64, i32, Result<Found>)>,
}

/// Wakes a worker.
type Wake = Arc<dyn Fn() + Send + Sync>;

struct Job {
    number: u64,
    /// Whether the partition is still wanted.
    is_wanted: Arc<AtomicBool>,
}

impl<K: Clients> Restorer<K> {
    /// Restores from this source; `wake` wakes the worker when a partition is there.
    pub fn new(source: Source<K>, wake: Wake) -> Self {
        let (report, results) = mpsc::channel();
        Self { source, wake, jobs: BTreeMap::new(), next_job: 0, results, report }
    }

    /// Begins to restore these partitions, which were assigned in this generation of the group, for this catalog.
    ///
    /// # Errors
    /// [`PartitionsAdded`], and where no thread can be started.
    pub fn begin(&mut self, assigned: &[Assigned], generation: i32, catalog: Arc<Catalog>) -> Result<()> {
        let Source { home, partitions, .. } = &self.source;
        if assigned.iter().any(|assigned| assigned.partition >= *partitions) {
            return Err(PartitionsAdded { changelog: home.changelog.to_string(), partitions: *partitions }.into());
        }
        let number = self.next_job;
        self.next_job += 1;
        let claim = self.source.claims.then(|| Term::default().at(generation.unsigned_abs()));
        let open = assigned.iter().map(|assigned| {
            let is_wanted = Arc::new(AtomicBool::new(true));
            self.jobs.insert(assigned.partition, Job { number, is_wanted: Arc::clone(&is_wanted) });
            (assigned.partition, Open::new(*assigned, claim, is_wanted))
        });
        let open = open.collect();
        let (report, wake) = (self.report.clone(), Arc::clone(&self.wake));
        let report = Box::new(move |partition, found| {
            // The worker may be gone.
            report.send((number, partition, found)).ok();
            wake();
        });
        let mut restore = Restore::new(self.source.clone(), open, catalog, report);
        K::in_background("restore", move || restore.turn()).context("cannot start a thread that restores partitions")
    }

    /// These partitions are no longer wanted.
    pub fn cancel(&mut self, partitions: &[i32]) {
        for job in partitions.iter().filter_map(|partition| self.jobs.remove(partition)) {
            job.is_wanted.store(false, Ordering::Relaxed);
        }
    }

    /// The next partition that is there.
    ///
    /// # Errors
    /// What a person must solve.
    pub fn next_found(&mut self) -> Result<Option<Found>> {
        while let Ok((number, partition, found)) = self.results.try_recv() {
            if self.jobs.get(&partition).is_some_and(|job| job.number == number) {
                self.jobs.remove(&partition);
                return found.map(Some);
            }
        }
        Ok(None)
    }
}

/// Reads partitions here and now, for whoever looks into them or writes them anew. Nothing is claimed. Partitions whose changelog
/// makes no state are among the answers, each with its error. `turned` is called each turn.
///
/// # Errors
/// What keeps all of them from being read, and those of `turned`.
pub fn read_all<K: Clients>(
    source: Source<K>,
    partitions: &[i32],
    catalog: Arc<Catalog>,
    turned: &mut dyn FnMut() -> Result<()>,
) -> Result<BTreeMap<i32, Result<Found>>> {
    let open = partitions.iter().map(|partition| {
        let assigned = Assigned { partition: *partition, committed: None, next_offset: None };
        (*partition, Open::new(assigned, None, Arc::new(AtomicBool::new(true))))
    });
    let (report, results) = mpsc::channel();
    let report = Box::new(move |partition, found| {
        report.send((partition, found)).ok();
    });
    let mut restore = Restore::new(source, open.collect(), catalog, report);
    loop {
        match restore.turn() {
            Turn::Next => {}
            Turn::After(time) => K::sleep(time),
            Turn::Done => break,
        }
        turned()?;
    }
    let is_damaged = |error: &anyhow::Error| error.is::<RestoreError>();
    let results = results.try_iter().map(|(partition, found): (i32, Result<Found>)| match found {
        Err(error) if !is_damaged(&error) => Err(error),
        found => Ok((partition, found)),
    });
    results.collect()
}

impl<K: Clients> Drop for Restorer<K> {
    fn drop(&mut self) {
        let partitions: Vec<i32> = self.jobs.keys().copied().collect();
        self.cancel(&partitions);
    }
}

/// The input has got more partitions than its changelog has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "partitions were added to the input topic: its changelog {changelog} has only {partitions}. Users whose logins go to other \
     partitions now have their state in the old ones; to take them along, stop all instances of the group and run `loginscope state \
     rebuild --from-beginning`, which counts all logins again that the topic still has, and writes nothing else"
)]
pub struct PartitionsAdded {
    /// The changelog topic.
    pub changelog: String,
    /// How many partitions it has.
    pub partitions: i32,
}

/// Why a partition can't go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The changelog has nothing of it.
    #[error(
        "the group has read partition {partition} up to offset {committed}, but its changelog is empty (was the topic \
         deleted, or the state kept in memory?), so windows and totals would silently begin anew: run `loginscope state rebuild \
         --from-beginning` to count the logins before that offset again, or delete the group's offsets, too, to process all logins \
         again"
    )]
    Empty {
        /// The partition.
        partition: i32,
        /// The group's offset.
        committed: i64,
    },
    /// The group has come further than the state.
    #[error(
        "the group's offset of partition {partition} is {committed}, but what is counted ends before offset {next_offset}: \
         the logins between would be in no window and no total; set the group's offset back to {next_offset} \
         (kafka-consumer-groups.sh --reset-offsets --to-offset {next_offset}), which `loginscope state rebuild --from-beginning` \
         does, too"
    )]
    Behind {
        /// The partition.
        partition: i32,
        /// The group's offset.
        committed: i64,
        /// Where the state goes on.
        next_offset: i64,
    },
    /// The group was set back.
    #[error(
        "the group's offset of partition {partition} was set back to {committed}, but all logins before offset {next_offset} \
         are counted already and would count twice: set it to {next_offset}, which `loginscope state rebuild --from-beginning` \
         does, too, or use another group to process them again"
    )]
    SetBack {
        /// The partition.
        partition: i32,
        /// The group's offset.
        committed: i64,
        /// Where the state goes on.
        next_offset: i64,
    },
}

/// The offset to go on from; nothing: the earliest there is.
///
/// # Errors
/// Where state and group don't fit together.
pub fn resume_at(assigned: &Assigned, head: Option<&CommitHead>) -> Result<Option<i64>, Mismatch> {
    let partition = assigned.partition;
    match (head, assigned.committed) {
        (None, None) => Ok(assigned.next_offset),
        (None, Some(committed)) => Err(Mismatch::Empty { partition, committed }),
        // A group that nobody has been in for long has lost its offsets.
        (Some(head), None) => Ok(Some(head.next_offset)),
        (Some(CommitHead { next_offset, group_offset, .. }), Some(committed)) => match committed {
            _ if committed > *next_offset => Err(Mismatch::Behind { partition, committed, next_offset: *next_offset }),
            _ if committed < *group_offset => {
                Err(Mismatch::SetBack { partition, committed, next_offset: *next_offset })
            }
            _ => Ok(Some(*next_offset)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resume(committed: Option<i64>, head: Option<(i64, i64)>) -> Result<Option<i64>, Mismatch> {
        let assigned = Assigned { partition: 3, committed, next_offset: committed.or(Some(7)) };
        let head =
            head.map(|(group_offset, next_offset)| CommitHead { next_offset, group_offset, term: Term::default() });
        resume_at(&assigned, head.as_ref())
    }

    #[test]
    fn a_partition_without_state_begins_where_a_new_group_begins() {
        assert_eq!(resume(None, None), Ok(Some(7)));
    }

    #[test]
    fn a_partition_goes_on_where_its_state_says() {
        assert_eq!(resume(Some(10), Some((10, 10))), Ok(Some(10)));
        assert_eq!(resume(None, Some((10, 10))), Ok(Some(10)), "also where the group has lost its offsets");
        assert_eq!(resume(Some(8), Some((8, 10))), Ok(Some(10)), "and where the last commit of the offset is missing");
        assert_eq!(resume(Some(9), Some((8, 10))), Ok(Some(10)));
    }

    #[test]
    fn a_group_and_a_state_that_do_not_fit_are_refused() {
        assert_eq!(resume(Some(10), None), Err(Mismatch::Empty { partition: 3, committed: 10 }));
        let behind = Mismatch::Behind { partition: 3, committed: 11, next_offset: 10 };
        assert_eq!(resume(Some(11), Some((10, 10))), Err(behind));
        let set_back = Mismatch::SetBack { partition: 3, committed: 7, next_offset: 10 };
        assert_eq!(resume(Some(7), Some((8, 10))), Err(set_back));
    }
}
