//! Commits, restores and rebalances against a model of Kafka in memory, in which everything goes wrong that can.
//!
//! What runs here is what runs in production: [`Worker`](super::worker::Worker) with `Transactions` or `Committer`, and restores turn
//! by turn. In the place of brokers, threads and the clock there is a `world`; in the place of plugins, `counting`. A seed
//! decides about everything: who acts next (`scheduler`), in the middle of which call, and what fails there. When a seed has
//! come to its middle, nothing fails any more; then everything must be done and right (`judging`). Much is judged as it goes:
//! whenever a worker takes messages, its state has to be what a fold of all messages before makes.
//!
//! A seed that fails is told with what happened in it, and can be done again:
//!
//! ```text
//! LOGINSCOPE_SEED=17 cargo test -p loginscope --lib simulation
//! LOGINSCOPE_SEEDS=100000 cargo test -p loginscope --lib simulation
//! ```

mod batch;
mod brokers;
mod consumer;
mod coordinator;
mod counting;
mod group;
mod judging;
mod log;
mod membership;
mod model;
mod producer;
mod reader;
mod scheduler;
mod start;
mod transactional;
mod world;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use self::group::Group;
use self::log::Log;
use self::world::{Chance, Input, Login, Settings, World, with};

/// How many seeds there are by default.
const SEEDS: u64 = 5000;

/// How many steps everything may take when nothing fails any more.
const PATIENCE: usize = 30_000;

fn settings(chance: &mut Chance, exactly_once: bool) -> Settings {
    let milliseconds = |number: usize| Duration::from_millis(number as u64);
    Settings {
        exactly_once,
        workers: chance.between(1, 3),
        harshness: [10, 100, 100, 200, 200, 400][chance.below(6)],
        // At least once, a group may have begun before it has committed an offset, and begin later the next time.
        starts_at_latest: chance.one_in(4) && exactly_once,
        changes_windows: exactly_once && chance.one_in(3),
        changes_plugins: chance.one_in(2),
        stops: chance.one_in(2),
        shares_process: chance.one_in(3),
        has_slow_jobs: chance.one_in(3),
        commit_interval: milliseconds(chance.between(1, 100)),
        transaction_timeout: milliseconds([2_000, 10_000][chance.below(2)]),
        max_bytes: [100, 200, 10_000][chance.below(3)],
        slice_bytes: [1, 100, 1000][chance.below(3)],
        least_tail_bytes: [0, 200, 1_000_000][chance.below(3)],
    }
}

fn inputs(chance: &mut Chance) -> Vec<Input> {
    let partitions = chance.between(1, 3);
    let input = |chance: &mut Chance| {
        let mut offset = 0;
        let login = |_| {
            offset += 1 + if chance.one_in(5) { chance.below(3) as i64 } else { 0 };
            Login { offset, user: ["ann", "bob", "cem", "dee"][chance.below(4)].to_owned() }
        };
        let messages = (0..25).map(login).collect();
        Input { messages, ..Input::default() }
    };
    (0..partitions).map(|_| input(chance)).collect()
}

fn world(seed: u64, exactly_once: bool, traced: bool) -> World {
    let mut chance = Chance::new(seed);
    let settings = settings(&mut chance, exactly_once);
    let inputs = inputs(&mut chance);
    let logs = (0..inputs.len() + 2).map(|_| Log::default()).collect();
    World {
        chance,
        settings,
        is_calm: false,
        now: Duration::ZERO,
        inputs,
        logs,
        ids: BTreeMap::new(),
        next_transaction: 0,
        group: Group::default(),
        consumers: Vec::new(),
        producers: Vec::new(),
        jobs: Vec::new(),
        requests: Vec::new(),
        lives: Vec::new(),
        running: Vec::new(),
        trace: traced.then(Vec::new),
    }
}

fn run(seed: u64, exactly_once: bool, traced: bool) {
    world::enter(world(seed, exactly_once, traced));
    scheduler::begin(with(|world| world.settings.workers));
    let steps = with(|world| world.chance.between(100, 800));
    (0..steps).for_each(|_| scheduler::step());
    with(|world| {
        world.is_calm = true;
        world.inputs.iter_mut().for_each(|input| input.arrived = input.messages.len());
        world.say(|| "from now on nothing fails".to_owned());
    });
    let comes_to_rest = (0..PATIENCE).any(|step| {
        scheduler::step();
        step % 20 == 0 && judging::is_at_rest()
    });
    assert!(comes_to_rest, "it doesn't come to an end");
    judging::judge_end();
}

/// Does a seed. Answers whether all was right.
fn is_right(seed: u64, exactly_once: bool, traced: bool) -> bool {
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run(seed, exactly_once, traced)));
    // What is dropped has nobody to talk to.
    with(|world| {
        world.lives.iter_mut().for_each(|life| life.is_dead = true);
        world.running.clear();
    });
    drop(scheduler::take_all());
    let jobs = with(|world| std::mem::take(&mut world.jobs));
    drop(jobs);
    let trace = world::leave().and_then(|world| world.trace);
    trace.iter().flatten().for_each(|line| println!("{line}"));
    outcome.is_ok()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn simulate(exactly_once: bool) {
    if let Some(seed) = number("LOGINSCOPE_SEED") {
        assert!(is_right(seed, exactly_once, true), "seed {seed} is not right");
        return;
    }
    for seed in 0..number("LOGINSCOPE_SEEDS").unwrap_or(SEEDS) {
        if !is_right(seed, exactly_once, false) {
            is_right(seed, exactly_once, true);
            panic!("seed {seed} is not right: LOGINSCOPE_SEED={seed} does it again");
        }
    }
}

#[test]
fn exactly_once_holds_whatever_fails_and_whenever() {
    simulate(true);
}

#[test]
fn at_least_once_loses_nothing_and_counts_once_whatever_fails_and_whenever() {
    simulate(false);
}
