//! Restoring partitions that were assigned from their changelog, in the background, while others go on.
//!
//! Invariants:
//! - A partition resumes where its state says. The group's offset must fit that; where it doesn't, somebody has changed one of the
//!   two by hand, and nothing is guessed.
//! - What a former owner that is still alive writes counts for nothing from the moment on up to which the changelog is read.
//!   Transactions see to that; without them, the partition is claimed before it is read.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use loginscope_kafka::{
    Assigned, ChangelogRead, ChangelogReader, ClientSettings, Error, Producer, ProducerOptions, Record, Waker,
};
use loginscope_state::{Catalog, CommitHead, Follower, Restored, Term};

use super::changelog::Home;
use super::elsewhere;
use super::totals::TotalsBoard;

/// How long a request for the changelog's begin and end may take before it is made again.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one wait for messages takes at most.
const POLL: Duration = Duration::from_millis(100);

/// The most messages taken at once.
const MAX_MESSAGES: usize = 1000;

/// How long it is waited for the group to say that a partition is somebody else's.
const TAKEN_TIMEOUT: Duration = Duration::from_mins(1);

/// How often it is told how far a long restore is.
const SAY_AFTER: Duration = Duration::from_secs(2);

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

/// What a worker's partitions are restored from, and by whom.
#[derive(Clone)]
pub struct Source {
    /// How to reach Kafka.
    pub kafka: ClientSettings,
    /// Where the state is, and who writes it from then on.
    pub home: Home,
    /// How many partitions the changelog has.
    pub partitions: i32,
    /// Whether partitions are claimed first.
    pub claims: bool,
    /// The totals of partitions elsewhere are put here.
    pub totals: TotalsBoard,
}

/// Restores the partitions of a worker.
pub struct Restorer {
    source: Source,
    waker: Waker,
    /// By partition.
    jobs: BTreeMap<i32, Job>,
    next_job: u64,
    results: Receiver<(u64, i32, Result<Found>)>,
    report: Sender<(u64, i32, Result<Found>)>,
}

struct Job {
    number: u64,
    /// How many partitions of the job are still wanted.
    wanted: Arc<AtomicUsize>,
}

impl Restorer {
    /// Restores from this source; `waker` wakes the worker when a partition is there.
    pub fn new(source: Source, waker: Waker) -> Self {
        let (report, results) = mpsc::channel();
        Self { source, waker, jobs: BTreeMap::new(), next_job: 0, results, report }
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
        let wanted = Arc::new(AtomicUsize::new(assigned.len()));
        for partition in assigned {
            self.jobs.insert(partition.partition, Job { number, wanted: Arc::clone(&wanted) });
        }
        let claim = self.source.claims.then(|| Term::default().at(generation.unsigned_abs()));
        let open = assigned.iter().map(|assigned| {
            (assigned.partition, Open { assigned: *assigned, follower: Follower::default(), claim, is_claimed: false })
        });
        let restore = Restore { source: self.source.clone(), open: open.collect(), catalog, wanted };
        let (report, waker) = (self.report.clone(), self.waker.clone());
        let report = move |partition, found| {
            // The worker may be gone.
            report.send((number, partition, found)).ok();
            waker.wake();
        };
        std::thread::Builder::new()
            .name("restore".to_owned())
            .spawn(move || restore.run(&report))
            .context("cannot start a thread that restores partitions")?;
        Ok(())
    }

    /// These partitions are no longer wanted.
    pub fn cancel(&mut self, partitions: &[i32]) {
        for job in partitions.iter().filter_map(|partition| self.jobs.remove(partition)) {
            job.wanted.fetch_sub(1, Ordering::Relaxed);
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

impl Drop for Restorer {
    fn drop(&mut self) {
        let partitions: Vec<i32> = self.jobs.keys().copied().collect();
        self.cancel(&partitions);
    }
}

/// A job on its thread.
struct Restore {
    source: Source,
    /// The partitions that aren't there yet.
    open: BTreeMap<i32, Open>,
    catalog: Arc<Catalog>,
    wanted: Arc<AtomicUsize>,
}

/// A partition that isn't there yet.
struct Open {
    assigned: Assigned,
    follower: Follower,
    /// The term that it is to be claimed for, where it is.
    claim: Option<Term>,
    is_claimed: bool,
}

type Report<'a> = &'a dyn Fn(i32, Result<Found>);

impl Restore {
    fn run(mut self, report: Report<'_>) {
        let restored = std::panic::catch_unwind(AssertUnwindSafe(|| self.restore(report)));
        let restored = restored.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
        // One partition that can't be restored ends the run.
        if let (Err(error), Some(partition)) = (restored, self.open.keys().next()) {
            let numbers: Vec<String> = self.open.keys().map(i32::to_string).collect();
            let what = format!("cannot restore partition {} from {}", numbers.join(", "), self.source.home.changelog);
            // Of a right that is missing, Kafka's client has said all already.
            let is_said = matches!(error.downcast_ref(), Some(Error::NotAuthorized { .. }));
            report(*partition, Err(if is_said { error } else { error.context(what) }));
        }
    }

    fn restore(&mut self, report: Report<'_>) -> Result<()> {
        let begun = Instant::now();
        if let Some(topic) = &self.source.home.totals {
            elsewhere::catch_up(&self.source.kafka, topic, &self.source.totals, &|| self.is_wanted())?;
        }
        while !self.open.is_empty() && self.is_wanted() {
            self.claim()?;
            match self.read(begun, report) {
                Ok(()) => {}
                // A snapshot was completed meanwhile, and what is before it was deleted: all is in what is there now.
                Err(error) if matches!(error.downcast_ref(), Some(Error::Deleted { .. })) => {
                    tracing::debug!("reading the changelog anew: {error:#}");
                }
                Err(error) => return Err(error),
            }
            self.open.values_mut().for_each(|open| open.follower = Follower::default());
        }
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Claims the partitions that are to be claimed.
    fn claim(&mut self) -> Result<()> {
        let claims = self.open.iter_mut().filter(|(_, open)| !open.is_claimed);
        let claims: Vec<(i32, Term)> = claims.filter_map(|(partition, open)| Some((*partition, open.claim?))).collect();
        if claims.is_empty() {
            return Ok(());
        }
        let mut producer = Producer::new(&self.source.kafka, ProducerOptions::default())?;
        for (partition, term) in &claims {
            let message = self.source.home.writer.claim(*term);
            let record = Record {
                topic: &self.source.home.changelog,
                partition: Some(*partition),
                payload: Some(&message),
                ..Record::default()
            };
            producer.send(&record, &|| !self.is_wanted())?;
        }
        while self.is_wanted() {
            match producer.flush(POLL) {
                Ok(_) => break,
                Err(Error::TimedOut { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.open.values_mut().for_each(|open| open.is_claimed = true);
        Ok(())
    }

    fn read(&mut self, begun: Instant, report: Report<'_>) -> Result<()> {
        let partitions: Vec<i32> = self.open.keys().copied().collect();
        let Some(mut reader) = self.open_reader(&partitions)? else { return Ok(()) };
        let (mut said, mut unread) = (begun, partitions.len());
        while unread > 0 && self.is_wanted() {
            match reader.poll(MAX_MESSAGES, POLL)? {
                ChangelogRead::Batch(batch) => {
                    let Some(open) = self.open.get_mut(&batch.partition()) else { continue };
                    for message in batch.iter() {
                        open.follower.read(message.offset(), message.payload().unwrap_or_default())?;
                    }
                }
                ChangelogRead::End(partition) => {
                    unread -= 1;
                    self.finish(partition, begun, report)?;
                }
                ChangelogRead::Nothing => {}
            }
            if said.elapsed() >= SAY_AFTER {
                said = Instant::now();
                say_progress(&partitions, reader.progress(), begun.elapsed());
            }
        }
        Ok(())
    }

    /// A partition is read to its end.
    fn finish(&mut self, partition: i32, begun: Instant, report: Report<'_>) -> Result<()> {
        let Some(mut open) = self.open.remove(&partition) else { return Ok(()) };
        let term = open.follower.term();
        let is_taken =
            open.claim.is_some_and(|claim| claim != term || open.follower.owner() != Some(self.source.home.writer.id));
        if !is_taken {
            let restored = open.follower.finish(Arc::clone(&self.catalog));
            let restored = restored.with_context(|| format!("partition {partition}"))?;
            report(partition, Ok(Found { assigned: open.assigned, restored, term, took: begun.elapsed() }));
            return Ok(());
        }
        // A group without offsets has been made anew, and its generations begin anew. Otherwise the group has gone on, which the
        // worker will hear.
        open.claim =
            open.claim.map(|claim| if open.assigned.committed.is_none() { term.at(claim.generation) } else { claim });
        if open.assigned.committed.is_some() {
            if begun.elapsed() >= TAKEN_TIMEOUT {
                bail!(
                    "partition {partition} was written by a member of generation {} of the group, and this one is of {}: if the \
                     group was deleted, delete this topic, too, or use another group",
                    term.generation,
                    open.claim.unwrap_or_default().generation
                );
            }
            std::thread::sleep(POLL);
        }
        open.is_claimed = false;
        self.open.insert(partition, open);
        Ok(())
    }

    /// Begins to read. A broker that doesn't answer is waited for; nothing where nobody wants it any more.
    fn open_reader(&self, partitions: &[i32]) -> Result<Option<ChangelogReader>> {
        while self.is_wanted() {
            match ChangelogReader::open(&self.source.kafka, &self.source.home.changelog, partitions, OPEN_TIMEOUT) {
                Ok(reader) => return Ok(Some(reader)),
                Err(error @ (Error::Failed { .. } | Error::Unreachable { .. } | Error::TimedOut { .. })) => {
                    tracing::warn!("the changelog can't be read yet; trying again: {error}");
                    std::thread::sleep(POLL);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

fn say_progress(partitions: &[i32], (read, all): (u64, u64), time: Duration) {
    let rate = read as f64 / time.as_secs_f64();
    let left = (all.saturating_sub(read)) as f64 / rate.max(1.0);
    tracing::info!(
        ?partitions,
        "restoring: {read} of {all} records of the changelog, {rate:.0}/s, about {left:.0} s left"
    );
}

/// The input has got more partitions than its changelog has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "partitions were added to the input topic: its changelog {changelog} has only {partitions}. Users whose logins go to other \
     partitions now have their state in the old ones, where it can't follow them; start with another --group to count all \
     logins again, from the earliest one that there is"
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
         deleted?), so windows and totals would silently begin anew: delete the group's offsets, too, to count all logins \
         again, or use another group"
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
         (kafka-consumer-groups.sh --reset-offsets --to-offset {next_offset})"
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
         are counted already and would count twice: set it to {next_offset}, or use another group to process them again"
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
