//! The world of one seed: time, chance, faults, brokers, and who is alive.
//!
//! There is one a thread, so that clients are no more than numbers and can be moved about as the real ones can.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::consumer::ConsumerModel;
use super::coordinator::TransactionalId;
use super::group::Group;
use super::log::Log;
use super::producer::ProducerModel;
use crate::pipeline::changelog::Request;
use crate::pipeline::clients::Turn;

/// Numbers that a seed decides about.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(super) fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most + 1 - least)
    }

    pub(super) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// What a seed decides once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) exactly_once: bool,
    pub(super) workers: usize,
    /// How often faults are: each occurs that many times in a thousand, times its own weight.
    pub(super) harshness: usize,
    pub(super) starts_at_latest: bool,
    pub(super) changes_windows: bool,
    pub(super) changes_plugins: bool,
    /// Whether partitions have to wait for a plugin now and then.
    pub(super) stops: bool,
    /// Whether two workers belong to one process.
    pub(super) shares_process: bool,
    /// What is done in the background takes long.
    pub(super) has_slow_jobs: bool,
    pub(super) commit_interval: Duration,
    pub(super) transaction_timeout: Duration,
    pub(super) max_bytes: usize,
    pub(super) slice_bytes: usize,
    pub(super) least_tail_bytes: u64,
}

/// A message of the input.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) offset: i64,
    pub(super) user: String,
}

/// A partition of the input.
#[derive(Default)]
pub(super) struct Input {
    pub(super) messages: Vec<Login>,
    /// How many of them are there by now.
    pub(super) arrived: usize,
    /// The offset that the group begins at; it can change until the group has committed one.
    pub(super) start: i64,
    /// Whether the group has begun.
    pub(super) has_begun: bool,
    /// The member that has taken messages of it since it came.
    pub(super) taker: Option<u64>,
}

impl Input {
    /// How many messages are before this offset.
    pub(super) fn before(&self, offset: i64) -> usize {
        self.messages.partition_point(|message| message.offset < offset)
    }

    /// The offset behind the last one that is there.
    pub(super) fn end(&self) -> i64 {
        self.messages[..self.arrived].last().map_or(0, |last| last.offset + 1)
    }
}

/// A turn of a job.
pub(super) type BackgroundTurn = Box<dyn FnMut() -> Turn + Send>;

/// A job in the background of a worker.
pub(super) struct Job {
    pub(super) worker: usize,
    pub(super) turn: BackgroundTurn,
    /// Until its worker has heard what the group has become, which is long before a wait is over.
    pub(super) waits: bool,
    /// Others overtake it.
    pub(super) is_slow: bool,
}

/// What is known of a worker beside itself.
pub(super) struct Life {
    pub(super) process: usize,
    pub(super) is_dead: bool,
    /// Its error is one that was to end it.
    pub(super) may_fail: bool,
    pub(super) paused_until: Duration,
}

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) settings: Settings,
    /// Nothing goes wrong any more.
    pub(super) is_calm: bool,
    pub(super) now: Duration,
    pub(super) inputs: Vec<Input>,
    /// The changelog's partitions, the totals, and the outputs.
    pub(super) logs: Vec<Log>,
    pub(super) ids: BTreeMap<u64, TransactionalId>,
    pub(super) next_transaction: usize,
    pub(super) group: Group,
    pub(super) consumers: Vec<ConsumerModel>,
    pub(super) producers: Vec<ProducerModel>,
    pub(super) jobs: Vec<Job>,
    pub(super) requests: Vec<Receiver<Request>>,
    pub(super) lives: Vec<Life>,
    /// The workers whose calls are under way, the innermost last.
    pub(super) running: Vec<usize>,
    pub(super) trace: Option<Vec<String>>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    static BASE: Instant = Instant::now();
}

/// Makes a world this thread's.
pub(super) fn enter(world: World) {
    WORLD.with_borrow_mut(|current| *current = Some(world));
}

/// Takes the world out.
pub(super) fn leave() -> Option<World> {
    WORLD.with_borrow_mut(Option::take)
}

/// Does something with the world.
pub(super) fn with<R>(act: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| act(world.as_mut().expect("there is a world")))
}

/// The time of the world.
pub(super) fn now() -> Instant {
    let passed = WORLD.with_borrow(|world| world.as_ref().map_or(Duration::ZERO, |world| world.now));
    BASE.with(|base| *base + passed)
}

/// A worker ended without a word.
pub(super) struct Crash;

/// Begins a call of a worker's client: others may come first, and the worker may end here.
///
/// # Errors
/// Where the worker is dead already, and is being dropped.
pub(super) fn call(worker: usize, what: &str) -> Result<(), Crash> {
    if with(|world| world.lives[worker].is_dead) {
        return die(worker);
    }
    super::scheduler::let_others_act();
    if with(|world| world.crashes(worker, what)) { die(worker) } else { Ok(()) }
}

fn die(worker: usize) -> Result<(), Crash> {
    let is_running = with(|world| world.running.contains(&worker));
    if std::thread::panicking() || !is_running {
        return Err(Crash);
    }
    std::panic::resume_unwind(Box::new(Crash))
}

impl World {
    /// Whether something goes wrong: so many times in a thousand, in a seed of middling harshness.
    pub(super) fn fault(&mut self, per_mille: usize) -> bool {
        let harshness = self.settings.harshness;
        !self.is_calm && self.chance.below(100_000) < per_mille * harshness
    }

    /// Ends all workers of a process, now and then.
    fn crashes(&mut self, worker: usize, what: &str) -> bool {
        if !self.lives[worker].is_dead && self.fault(3) {
            self.say(|| format!("crash of {worker} at {what}"));
            self.kill(worker);
        }
        self.lives[worker].is_dead
    }

    /// Ends all workers of a process.
    pub(super) fn kill(&mut self, worker: usize) {
        let process = self.lives[worker].process;
        for worker in 0..self.lives.len() {
            if self.lives[worker].process == process {
                self.lives[worker].is_dead = true;
            }
        }
        self.silence_the_dead();
    }

    /// Nothing of those that are dead is on its way any more.
    pub(super) fn silence_the_dead(&mut self) {
        let lives = &self.lives;
        for producer in self.producers.iter_mut().filter(|producer| lives[producer.worker].is_dead) {
            producer.queue.clear();
        }
        for consumer in self.consumers.iter_mut().filter(|consumer| lives[consumer.worker].is_dead) {
            consumer.commits.clear();
        }
    }

    /// Time passes.
    pub(super) fn pass(&mut self, least_ms: usize, most_ms: usize) {
        let passed = self.chance.between(least_ms, most_ms);
        self.now += Duration::from_millis(passed as u64);
    }

    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        let (now, running) = (self.now, &self.running);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>8.3} {running:?} {}", now.as_secs_f64(), what()));
        }
    }

    /// The number of a log, by its topic.
    pub(super) fn log_of(&self, topic: &str, partition: i32) -> usize {
        match topic {
            "changelog" => partition as usize,
            "totals" => self.inputs.len(),
            _ => self.inputs.len() + 1,
        }
    }
}
