//! Aggregates that new plugins bring and that are to count the past as well: a partition that lacks one computes it from its history.
//!
//! One rule: *a partition whose state lacks an aggregate that its generation backfills computes it before its first login under that
//! generation.* It is looked at whenever a partition and plugins meet: at a swap, after a restore, after a rebalance. So it holds after a
//! crash at any moment, and for an instance that comes later.
//!
//! The input is read from its earliest message on, up to exactly the message before that login, through the new plugins, with a state
//! of its own; of that, the partition takes what it lacks ([`Partition::graft`]). Most of that happens while the plugins before go on
//! judging logins: a worker goes over when it is close behind. A partition for which that was not so is held meanwhile.
//!
//! - [`History`]: the histories that a worker has counted, each on a thread of its own (`job`).
//! - `permits`: how many of them are begun at a time.
//! - [`board`]: who of a process is how far, for whoever has asked for it.

pub mod board;
mod job;
mod permits;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use loginscope_kafka::{ClientSettings, Topics};
use loginscope_state::{Names, Partition};

use self::board::{Backfilled, Board};
use self::job::{Job, Task};
pub use self::permits::Permits;
use super::batch::OutputLimits;
use super::chain::{Aggregates, Chain};
use super::serving::Generation;
use crate::telemetry::Telemetry;

/// A history that is so many offsets behind is close: they take a fraction of a second.
const CLOSE: i64 = 10_000;

/// How many histories may be far behind at a time, and be counted.
pub const FAR_BEHIND: usize = 2;

/// How long a broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Where histories come from, and how they are counted: the same for all workers of a process.
pub struct Source {
    /// How to reach Kafka.
    pub kafka: ClientSettings,
    /// The input topic.
    pub topic: Arc<str>,
    /// How many partitions it has.
    pub partitions: i32,
    /// How large outputs may get: a login is rejected where its own would be larger.
    pub limits: OutputLimits,
    /// Whether processed logins tell where they came from.
    pub source_headers: bool,
    /// Whether processed logins tell which plugins they went through.
    pub plugins_header: bool,
    /// Whoever is far behind has one, with logins that go on meanwhile.
    pub following: Permits,
    /// Whoever is far behind has one, for a partition that is held.
    pub held: Permits,
    /// Whoever counts has it, so that workers have most of the time.
    pub turn: Mutex<()>,
    /// Who is how far.
    pub board: Arc<Board>,
    /// What happens is told here.
    pub telemetry: Arc<Telemetry>,
}

impl Source {
    /// How many offsets there are to read of all partitions.
    ///
    /// # Errors
    /// The topic can't be looked at.
    pub fn offsets(&self) -> Result<u64> {
        let topics = Topics::connect(&self.kafka, TIMEOUT)?;
        let offsets = (0..self.partitions).map(|partition| {
            let (begin, end) = topics.watermarks(&self.topic, partition)?;
            Ok(end.abs_diff(begin))
        });
        offsets.sum()
    }
}

/// The histories that a worker has counted.
pub struct History {
    source: Arc<Source>,
    worker: usize,
    /// Wakes the worker.
    wake: Arc<dyn Fn() + Send + Sync>,
    /// By partition.
    followed: BTreeMap<i32, Followed>,
}

/// A history that is being counted.
struct Followed {
    generation: Arc<Generation>,
    job: Job,
    /// Up to where it was to come when that was last found reached.
    target: i64,
    /// How far that was then.
    left: i64,
    is_close: bool,
}

impl History {
    /// The histories of a worker that begins with this generation. `wake` is called when one is counted.
    pub fn new(source: Arc<Source>, worker: usize, generation: &Generation, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        source.board.went_over(worker, generation.number);
        Self { source, worker, wake, followed: BTreeMap::new() }
    }

    /// Has counted what a partition would lack under a generation, up to this offset, and on as that grows. Answers whether it is close
    /// behind, or as close as it gets: where what is left shrinks by less than half from one time to the next, logins come about as
    /// fast as they are counted.
    ///
    /// # Errors
    /// It can't be counted.
    pub fn follow(
        &mut self,
        number: i32,
        state: &Partition,
        generation: &Arc<Generation>,
        target: i64,
    ) -> Result<bool> {
        if !self.counts_for(number, generation) {
            self.begin(number, generation, generation.chain.lacked_by(state), state.names(), target)?;
        }
        let Some(followed) = self.followed.get_mut(&number) else { return Ok(true) };
        if followed.job.position()? >= followed.target {
            let left = target - followed.target;
            followed.is_close |= left <= CLOSE || left > followed.left / 2;
            (followed.left, followed.target) = (left, target);
            followed.job.count_up_to(target);
        }
        Ok(followed.is_close)
    }

    /// Has counted what a partition lacks under a generation, up to exactly this offset.
    ///
    /// # Errors
    /// It can't be counted.
    pub fn end(&mut self, number: i32, state: &Partition, generation: &Arc<Generation>, until: i64) -> Result<()> {
        if !self.counts_for(number, generation) {
            self.begin(number, generation, lacking(state, &generation.chain), state.names(), until)?;
        }
        if let Some(followed) = self.followed.get(&number) {
            followed.job.end_at(until);
        }
        Ok(())
    }

    fn counts_for(&self, number: i32, generation: &Arc<Generation>) -> bool {
        self.followed.get(&number).is_some_and(|followed| Arc::ptr_eq(&followed.generation, generation))
    }

    fn begin(
        &mut self,
        number: i32,
        generation: &Arc<Generation>,
        wanted: Aggregates,
        names: Names,
        target: i64,
    ) -> Result<()> {
        self.source.telemetry.backfill_begins(number, generation.number, &wanted, target);
        let chain = generation.chain.for_history(&wanted).context("the plugins can't count a history")?;
        let task = Task { number, chain: Arc::new(chain), wanted, names, wake: Arc::clone(&self.wake) };
        let job = Job::start(Arc::clone(&self.source), task, target)?;
        self.source.board.begins(number, generation.number);
        let generation = Arc::clone(generation);
        self.followed.insert(number, Followed { generation, job, target, left: i64::MAX, is_close: false });
        Ok(())
    }

    /// What was counted of a partition, if that is done.
    ///
    /// # Errors
    /// It can't be counted.
    pub fn take(&mut self, number: i32) -> Result<Option<(Partition, Backfilled)>> {
        let Some(followed) = self.followed.get(&number) else { return Ok(None) };
        let Some((partition, told)) = followed.job.counted()? else { return Ok(None) };
        let generation = followed.generation.number;
        self.followed.remove(&number);
        Ok(Some((partition, Backfilled { generation, ..told })))
    }

    /// Whether there are histories that are being counted.
    pub fn is_counting(&self) -> bool {
        !self.followed.is_empty()
    }

    /// A partition has what it lacked.
    pub fn grafted(&self, number: i32, backfilled: Backfilled) {
        self.source.telemetry.backfilled(number, &backfilled);
        self.source.board.done(number, backfilled);
    }

    /// The histories of these partitions are wanted no more.
    pub fn forget(&mut self, is_meant: impl Fn(i32) -> bool) {
        for number in self.followed.extract_if(.., |number, _| is_meant(*number)).map(|(number, _)| number) {
            self.source.board.forget(number);
        }
    }

    /// The worker has gone over to this generation.
    pub fn went_over(&self, generation: u64) {
        self.source.board.went_over(self.worker, generation);
    }
}

impl Drop for History {
    fn drop(&mut self) {
        // First, so that nobody takes what is forgotten for done.
        self.source.board.ended(self.worker);
        self.forget(|_| true);
    }
}

/// What a partition lacks that the plugins of a chain ask for.
pub fn lacking(state: &Partition, chain: &Chain) -> Aggregates {
    let asked_for = chain.backfilled();
    let lacking = state.lacking().map(|(plugin, name)| (plugin.to_owned(), name.to_owned()));
    lacking.filter(|name| asked_for.contains(name)).collect()
}
