//! What must be so when all has been healed and everything was done.

use std::collections::BTreeMap;

use loginscope_kafka::Assigned;
use loginscope_state::Follower;

use super::counting::{Counts, catalog, fold, judge};
use super::scheduler;
use super::world::{Input, World, with};
use crate::pipeline::restore::resume_at;

/// A window as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    number: u64,
    logins: usize,
    first: i64,
    last: i64,
    counts: Counts,
}

/// What was told of a partition.
#[derive(Default)]
struct Told {
    /// How often of each message.
    messages: BTreeMap<i64, usize>,
    windows: Vec<Window>,
    /// What each window knew of other partitions.
    others: Vec<BTreeMap<i32, i64>>,
}

/// Whether nothing is left to be done.
pub(super) fn is_at_rest() -> bool {
    let is_read = with(|world| {
        let is_read = |(partition, input): (i32, &Input)| {
            let place = input.messages.len();
            let is_taken = input.taker.is_some_and(|taker| world.group.members.contains_key(&taker));
            if is_taken && world.group.committed.get(&partition) != Some(&input.end()) {
                return false;
            }
            let mut members = world.group.members.values().map(|consumer| &world.consumers[*consumer]);
            members.any(|consumer| !world.lives[consumer.worker].is_dead && consumer.is_at(partition, place))
        };
        world.ids.values().all(|id| id.current.is_none()) && (0..).zip(&world.inputs).all(is_read)
    });
    let partitions = with(|world| world.inputs.len());
    is_read
        && scheduler::look(|slots| {
            let mut workers = slots.iter().filter_map(|slot| slot.worker.as_ref());
            let owned: usize = workers.clone().map(|worker| worker.partitions.len()).sum();
            owned == partitions && workers.all(|worker| worker.delivery.is_idle() && worker.lacking.held().is_empty())
        })
}

/// Judges the end of a seed.
pub(super) fn judge_end() {
    scheduler::look(|slots| {
        for (number, partition) in slots.iter().filter_map(|slot| slot.worker.as_ref()).flat_map(|w| &w.partitions) {
            with(|world| {
                let input = &world.inputs[*number as usize];
                judge(&partition.state, input, input.messages.len());
                judge_changelog(world, *number, &partition.state.to_bytes());
            });
        }
    });
    with(|world| {
        let told = told(world);
        for (partition, input) in (0..).zip(&world.inputs) {
            judge_told(world, partition, input, told.get(&partition).unwrap_or(&Told::default()));
        }
    });
}

/// Asserts that the changelog tells what its owner knows.
fn judge_changelog(world: &World, number: i32, state: &[u8]) {
    let log = &world.logs[number as usize];
    let mut follower = Follower::default();
    for (offset, entry) in log.committed() {
        follower.read(offset, &entry.payload).unwrap();
    }
    let owner = scheduler_catalog(number);
    if let Some(restored) = follower.finish(std::sync::Arc::clone(catalog(owner))).unwrap() {
        let input = &world.inputs[number as usize];
        judge(&restored.partition, input, input.before(restored.head.next_offset));
        let settings = world.settings;
        let is_same = restored.partition.to_bytes() == state || settings.changes_plugins || settings.changes_windows;
        assert!(restored.head.next_offset != input.end() || is_same, "what is restored is what there was");
        let committed = world.group.committed.get(&number).copied();
        let assigned = Assigned { partition: number, committed, next_offset: None };
        resume_at(&assigned, Some(&restored.head)).expect("whoever comes next can go on");
    }
}

/// Whether a changelog has a commit.
pub(super) fn has_state(world: &World, number: i32) -> bool {
    let mut follower = Follower::default();
    for (offset, entry) in world.logs[number as usize].committed() {
        follower.read(offset, &entry.payload).unwrap();
    }
    follower.finish(std::sync::Arc::clone(catalog(0))).is_ok_and(|restored| restored.is_some())
}

/// The set of plugins of whoever has a partition.
fn scheduler_catalog(number: i32) -> usize {
    let has = |slot: &&scheduler::Slot| slot.worker.as_ref().is_some_and(|w| w.partitions.contains_key(&number));
    scheduler::look(|slots| slots.iter().find(has).and_then(|slot| slot.worker.as_ref()).map_or(0, |w| w.work.catalog))
}

fn told(world: &World) -> BTreeMap<i32, Told> {
    let mut all: BTreeMap<i32, Told> = BTreeMap::new();
    for (_, entry) in world.logs[world.log_of("out", 0)].committed() {
        let text = std::str::from_utf8(&entry.payload).unwrap();
        let mut words = text.split(' ');
        let kind = words.next();
        let mut number = || words.next().unwrap().parse::<i64>().unwrap();
        let told = all.entry(number() as i32).or_default();
        if kind == Some("m") {
            *told.messages.entry(number()).or_default() += 1;
            continue;
        }
        let (window, logins, first, last) = (number() as u64, number() as usize, number(), number());
        let pair = |(left, right): (&str, &str)| (left.to_owned(), right.parse().unwrap());
        let counts =
            words.next().unwrap().split_terminator(',').map(|word| pair(word.split_once('=').unwrap())).collect();
        let others =
            words.map(|word| pair(word.split_once(':').unwrap())).map(|(p, offset)| (p.parse().unwrap(), offset));
        told.others.push(others.collect());
        told.windows.push(Window { number: window, logins, first, last, counts });
    }
    all
}

fn judge_told(world: &World, partition: i32, input: &Input, told: &Told) {
    let exactly = world.settings.exactly_once;
    let first = input.before(input.start);
    for message in &input.messages[first..] {
        let times = told.messages.get(&message.offset).copied().unwrap_or(0);
        let is_right = if exactly { times == 1 } else { times >= 1 };
        assert!(is_right, "message {} of partition {partition} shows {times} times", message.offset);
    }
    if exactly {
        let all = told.messages.len();
        assert_eq!(
            all,
            input.messages.len() - first,
            "what is before the start of partition {partition} was not asked for"
        );
    }
    let mut next = first;
    let mut windows = told.windows.clone();
    if !exactly {
        // A group that has committed nothing may begin later the next time.
        windows.retain(|window| window.first >= input.start);
        windows.sort_by_key(|window| window.number);
        windows.dedup();
    }
    for (number, window) in (1..).zip(&windows) {
        assert_eq!(window.number, number, "windows of partition {partition} come one after the other");
        assert_eq!(
            input.before(window.first),
            next,
            "window {number} of partition {partition} begins where the last ended"
        );
        let end = next + window.logins;
        assert_eq!(input.messages[end - 1].offset, window.last, "window {number} ends with its last login");
        assert_eq!(window.counts, fold(input, next, end), "window {number} of partition {partition} has its logins");
        next = end;
    }
    assert!(input.messages.len() - next < 4, "no window of partition {partition} is missing");
    if exactly {
        judge_others(partition, &told.others);
    }
}

/// What is known of others never goes back.
fn judge_others(partition: i32, others: &[BTreeMap<i32, i64>]) {
    let mut known = BTreeMap::new();
    for (window, others) in (1..).zip(others) {
        for (other, before) in &known {
            let now = others.get(other).copied().unwrap_or(-1);
            assert!(now >= *before, "window {window} of partition {partition} knows {now} of {other}, after {before}");
        }
        known.extend(others.iter().map(|(other, offset)| (*other, *offset)));
    }
}
