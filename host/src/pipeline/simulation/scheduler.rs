//! Who acts when: workers, their jobs in the background, and what goes on among the brokers, one small step at a time.
//!
//! Others may act whenever a worker calls one of its clients. What a worker does then is done before the one that it interrupts goes
//! on, so that one can be overtaken at any call by everything that others do.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use loginscope_kafka::Error;

use super::counting::CATALOGS;
use super::start::{self, Simulated};
use super::world::{Crash, World, with};
use crate::pipeline::clients::Turn;
use crate::pipeline::elsewhere;
use crate::pipeline::totals::TotalsBoard;

/// A place for a worker. After its end there is another one.
pub(super) struct Slot {
    pub(super) worker: Option<Simulated>,
    /// Its number among all that there ever were.
    number: usize,
    /// Its producer's id, and its totals.
    id: u64,
    totals: TotalsBoard,
    followed: i64,
}

thread_local! {
    static SLOTS: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// Takes all workers out.
pub(super) fn take_all() -> Vec<Slot> {
    SLOTS.take()
}

/// Looks at all workers that aren't running.
pub(super) fn look<R>(at: impl FnOnce(&[Slot]) -> R) -> R {
    SLOTS.with_borrow(|slots| at(slots))
}

/// Makes places, each with a worker.
pub(super) fn begin(workers: usize) {
    for place in 0..workers {
        let slot = Slot { worker: None, number: 0, id: place as u64, totals: TotalsBoard::default(), followed: 0 };
        SLOTS.with_borrow_mut(|slots| slots.push(slot));
        start(place);
    }
}

/// Starts a worker. A producer's id may stay the same over restarts, and is taken over then; else its last transaction is left to its
/// timeout.
fn start(place: usize) {
    let keeps_id = with(|world| world.chance.one_in(2));
    let shares = with(|world| world.settings.shares_process);
    let (id, totals) = SLOTS.with_borrow(|slots| {
        let totals = if shares { slots[0].totals.clone() } else { TotalsBoard::default() };
        (if keeps_id { slots[place].id } else { slots[place].id + 1000 }, totals)
    });
    let (number, worker) = start::start(place, id, &totals);
    SLOTS.with_borrow_mut(|slots| slots[place] = Slot { worker: Some(worker), number, id, totals, followed: 0 });
}

/// In the middle of something, now and then others act.
pub(super) fn let_others_act() {
    let acts = with(|world| !world.is_calm && world.running.len() < 3 && world.chance.one_in(12));
    if acts {
        step();
    }
}

/// Something happens.
pub(super) fn step() {
    let kind = with(|world| {
        world.pass(0, 3);
        world.chance.below(10)
    });
    match kind {
        0..=3 => step_worker(),
        4..=5 => step_job(),
        6 => follow_totals(),
        _ => drop(with(World::go_on)),
    }
}

fn step_worker() {
    let place = SLOTS.with_borrow(|slots| with(|world| world.chance.below(slots.len())));
    let number = SLOTS.with_borrow(|slots| slots[place].number);
    if with(|world| world.running.contains(&number)) {
        return;
    }
    let Some(mut worker) = SLOTS.with_borrow_mut(|slots| slots[place].worker.take()) else {
        if with(|world| world.is_calm || world.chance.one_in(4)) {
            start(place);
        }
        return;
    };
    let goes_on = match with(|world| world.before_turn(&mut worker, number)) {
        Before::Pause => true,
        Before::Turn => run(&mut worker, number, false),
        Before::Stop => run(&mut worker, number, true),
    };
    if goes_on {
        SLOTS.with_borrow_mut(|slots| slots[place].worker = Some(worker));
        return;
    }
    // Dropped, it leaves as it would; from then on its clients are of no use.
    drop(worker);
    let jobs: Vec<_> = with(|world| world.jobs.extract_if(.., |job| job.worker == number).collect());
    drop(jobs);
    with(|world| {
        world.lives[number].is_dead = true;
        world.silence_the_dead();
    });
}

/// What a worker does next.
enum Before {
    Pause,
    Turn,
    Stop,
}

impl World {
    /// What happens to a worker before its turn.
    fn before_turn(&mut self, worker: &mut Simulated, number: usize) -> Before {
        if self.lives[number].paused_until > self.now && !self.is_calm {
            return Before::Pause;
        }
        if self.fault(4) {
            let pause = self.chance.between(100, 20_000);
            self.lives[number].paused_until = self.now + Duration::from_millis(pause as u64);
            self.say(|| format!("{number} pauses for {pause} ms"));
            return Before::Pause;
        }
        if self.settings.changes_plugins && self.fault(8) {
            worker.work.wanted = self.chance.below(CATALOGS);
        }
        if self.fault(2) { Before::Stop } else { Before::Turn }
    }
}

/// A turn of a worker, or its end. Answers whether it goes on.
fn run(worker: &mut Simulated, number: usize, stops: bool) -> bool {
    with(|world| world.running.push(number));
    let turn = AssertUnwindSafe(|| if stops { worker.drain() } else { worker.turn() });
    let outcome = std::panic::catch_unwind(turn);
    with(|world| world.running.pop());
    match outcome {
        Ok(_) if with(|world| world.lives[number].is_dead) => false,
        Ok(Ok(())) => !stops,
        Ok(Err(error)) => {
            let may_fail = with(|world| {
                world.say(|| format!("{number} ends: {error:#}"));
                world.lives[number].may_fail
            });
            let is_late = matches!(
                error.downcast_ref(),
                Some(Error::TimedOut { .. } | Error::Commit { .. } | Error::CommitFenced { .. })
            );
            assert!(may_fail || stops && is_late, "worker {number} ends: {error:#}");
            false
        }
        Err(panic) if panic.is::<Crash>() => false,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn step_job() {
    let job = with(|world| {
        let chosen = world.chance.below(world.jobs.len());
        let is_slow = !world.is_calm && world.jobs.get(chosen).is_some_and(|job| job.is_slow);
        if is_slow && !world.chance.one_in(20) {
            return None;
        }
        let may = world.jobs.get(chosen).is_some_and(|job| !job.waits || world.lives[job.worker].is_dead);
        may.then(|| world.jobs.swap_remove(chosen))
    });
    let Some(mut job) = job else { return };
    if with(|world| world.lives[job.worker].is_dead) {
        return;
    }
    let turn = (job.turn)();
    if turn != Turn::Done {
        job.waits = matches!(turn, Turn::After(_));
        with(|world| world.jobs.push(job));
    }
}

/// A process hears what others have counted.
fn follow_totals() {
    SLOTS.with_borrow_mut(|slots| {
        let place = with(|world| world.chance.below(slots.len()));
        let slot = &mut slots[place];
        let reader = super::reader::committed_from("totals", slot.followed);
        slot.followed = reader.1;
        elsewhere::take(&reader.0, &slot.totals);
    });
}
