//! Everything that can happen to instances and brokers, at random moments and all mixed up, while logins flow; and in the end,
//! whatever it was, each login is there once, and windows and totals are right.
//!
//! `cargo xtask soak --minutes N` goes on for that long. What happens depends on the seed alone (`--seed N`), when it happens on the
//! machine as well.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use loginscope_kafka::OwnedRecord;
use loginscope_tests::fold::Fold;
use loginscope_tests::instance::Instance;
use loginscope_tests::kafka::{Message, Outputs, Scene, cluster, id, quick};
use xtask::kafka::Kafka;

use super::{configuration, id_of_insight, last_of_each, well_formed};

/// Whoever dies is noticed within a second or two, so that much can happen in a minute.
const CONFIGURATION: &str = "
source_headers = true
workers = 2
[kafka]
session.timeout.ms = 1500
heartbeat.interval.ms = 300
transaction.timeout.ms = 2000
";

/// The most instances at a time.
const INSTANCES: usize = 3;

/// Longer than a session: who is held still for so long is a zombie afterwards.
const HELD: Duration = Duration::from_secs(3);

/// Numbers that differ from one another like random ones, and follow from a seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below this one.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// An instance, and until when it is held still.
struct Member {
    instance: Instance,
    held_until: Option<Instant>,
}

impl Member {
    /// Whether it would end in an orderly way.
    fn is_listening(&self) -> bool {
        self.held_until.is_none() && self.instance.lines_with("health and metrics at") > 0
    }
}

/// How often what happened.
#[derive(Debug, Default)]
struct Events {
    kills: u32,
    stops: u32,
    starts: u32,
    holds: u32,
    broker_kills: u32,
    /// Instances that found no broker when they started, and said so.
    in_vain: u32,
}

struct Soak<'k> {
    kafka: &'k mut Kafka,
    brokers: usize,
    scene: Scene,
    config: String,
    members: Vec<Member>,
    dice: Dice,
    load: Vec<Message>,
    events: Events,
    promise: Promise,
}

impl<'k> Soak<'k> {
    fn new(kafka: &'k mut Kafka, brokers: usize, name: &str, config: &str, seed: u64) -> Self {
        let scene = Scene::new(kafka, name, 4);
        let (load, dice) = (well_formed(20_000, seed), Dice::new(seed));
        let (members, events, promise) = (Vec::new(), Events::default(), Promise::ExactlyOnce);
        Self { kafka, brokers, scene, config: config.to_owned(), members, dice, load, events, promise }
    }

    fn start(&mut self) {
        let instance = self.scene.run(&["--config", &self.config]);
        self.members.push(Member { instance, held_until: None });
        self.events.starts += 1;
    }

    fn write(&mut self) {
        let count = 200 + self.dice.below(1500) as usize;
        let first = self.dice.below((self.load.len() - count) as u64) as usize;
        self.scene.write(&self.load[first..first + count]);
    }

    /// Lets those go on whose time is over. One that has ended by itself is at fault, unless brokers were away when it started.
    fn look_after(&mut self) {
        let (may_start_in_vain, before) = (self.events.broker_kills > 0, self.members.len());
        self.members.retain_mut(|member| {
            if member.held_until.is_some_and(|until| Instant::now() >= until) {
                member.instance.signal("CONT");
                member.held_until = None;
            }
            let ended = member.instance.has_ended();
            let is_new = member.instance.lines_with("partition assigned") == 0;
            assert!(
                ended.is_none() || may_start_in_vain && is_new,
                "an instance ended by itself, {ended:?}\n{}",
                member.instance.log()
            );
            ended.is_none()
        });
        self.events.in_vain += (before - self.members.len()) as u32;
        if self.members.is_empty() {
            self.start();
        }
    }

    fn any_member(&mut self) -> Option<usize> {
        (!self.members.is_empty()).then(|| self.dice.below(self.members.len() as u64) as usize)
    }

    /// Something happens.
    fn strike(&mut self) {
        let what = self.dice.below(100);
        match (what, self.any_member()) {
            (0..60, Some(one)) => {
                let mut killed = self.members.swap_remove(one);
                killed.instance.signal("KILL");
                killed.instance.ended();
                self.events.kills += 1;
            }
            (60..70, Some(one)) if self.members[one].held_until.is_none() => {
                self.members[one].instance.signal("STOP");
                self.members[one].held_until = Some(Instant::now() + HELD);
                self.events.holds += 1;
            }
            // One that has just been started doesn't listen to signals yet.
            (70..78, Some(one)) if self.members[one].is_listening() => {
                let mut stopped = self.members.swap_remove(one);
                assert_eq!(stopped.instance.ended_by("TERM"), Some(0), "{}", stopped.instance.log());
                self.events.stops += 1;
            }
            (78..80, _) => {
                let broker = 1 + self.dice.below(self.brokers as u64) as usize;
                self.kafka.kill_broker(broker).unwrap();
                std::thread::sleep(Duration::from_millis(self.dice.below(2000)));
                self.kafka.start_broker(broker).unwrap();
                self.events.broker_kills += 1;
            }
            _ => {}
        }
        while self.members.is_empty() || self.members.len() < INSTANCES && self.dice.below(2) == 0 {
            self.start();
        }
    }

    /// Goes on until it is enough, then lets everything settle, and judges.
    fn run(mut self, is_enough: impl Fn(&Events) -> bool) {
        self.start();
        self.members[0].instance.line_with("partition assigned");
        let mut outputs = self.scene.outputs();
        while !is_enough(&self.events) {
            self.write();
            self.look_after();
            self.strike();
            // At any moment of whatever they do then: waiting is what this is about.
            std::thread::sleep(Duration::from_millis(self.dice.below(700)));
        }
        let held = self.members.iter().filter_map(|member| member.held_until).max();
        std::thread::sleep(held.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now())));
        self.look_after();
        outputs.wait_for(self.scene.written());
        for member in &mut self.members {
            member.instance.line_with("health and metrics at");
            assert_eq!(member.instance.ended_by("TERM"), Some(0), "{}", member.instance.log());
        }
        let windows = judge(&self.scene, &mut outputs, self.promise);
        println!("{} logins {:?}, {windows} windows exact; {:?}", self.scene.written(), self.promise, self.events);
    }
}

/// How often a login may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    ExactlyOnce,
    AtLeastOnce,
}

/// Each login came as often as promised, and windows and totals are right. Answers how many windows there are.
fn judge(scene: &Scene, outputs: &mut Outputs, promise: Promise) -> usize {
    outputs.arrived();
    outputs.assert_complete(scene.written());
    let (mut processed, mut insights) = (outputs.processed.records.clone(), scene.all(&scene.insights));
    match promise {
        Promise::ExactlyOnce => {
            assert!(outputs.repeated().is_empty(), "{} logins came more than once", outputs.repeated().len());
        }
        Promise::AtLeastOnce => {
            processed = firsts(
                processed,
                |record| id(record).to_string(),
                |first, again| {
                    assert_eq!(first.payload, again.payload, "a login that comes again is the same");
                },
            );
            // Of windows that came again, the first are judged, and here the last.
            let mut latest = last_of_each(insights.clone(), id_of_insight);
            latest.sort_by_key(window_number);
            Fold::new(&processed).check(&latest, 100);
            insights = firsts(insights, id_of_insight, |_, _| {});
            insights.sort_by_key(window_number);
        }
    }
    Fold::new(&processed).check(&insights, 100);
    insights.len()
}

fn insight(record: &OwnedRecord) -> serde_json::Value {
    serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap()
}

fn window_number(record: &OwnedRecord) -> u64 {
    insight(record)["window"]["number"].as_u64().unwrap()
}

/// The first record of each name; each later one is shown beside it.
fn firsts(
    records: Vec<OwnedRecord>,
    name: impl Fn(&OwnedRecord) -> String,
    again: impl Fn(&OwnedRecord, &OwnedRecord),
) -> Vec<OwnedRecord> {
    let mut places = HashMap::new();
    let mut firsts: Vec<OwnedRecord> = Vec::new();
    for record in records {
        match places.entry(name(&record)) {
            Entry::Occupied(place) => again(&firsts[*place.get()], &record),
            Entry::Vacant(place) => {
                place.insert(firsts.len());
                firsts.push(record);
            }
        }
    }
    firsts
}

/// A number that `cargo xtask soak` gives.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_hundred_kills_and_all_else_leave_each_login_once_and_every_window_exact() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(CONFIGURATION);
    let seed = given("LOGINSCOPE_SOAK_SEED").unwrap_or(1);
    let soak = Soak::new(&mut kafka, 1, "soak", &config, seed);
    let begun = Instant::now();
    match given("LOGINSCOPE_SOAK_MINUTES").map(|minutes| Duration::from_secs(60 * minutes)) {
        Some(time) => soak.run(|_| begun.elapsed() >= time),
        None => soak.run(|events| events.kills >= 100),
    }
}

#[test]
fn a_cluster_that_loses_one_broker_of_three_goes_on_and_leaves_each_login_once() {
    let _alone = cluster();
    let mut kafka = Kafka::start(quick().brokers(3)).unwrap();
    let (_folder, config) = configuration(CONFIGURATION);
    Soak::new(&mut kafka, 3, "soak-three", &config, 2).run(|events| events.broker_kills >= 2 && events.kills >= 10);
}

#[test]
fn at_least_once_repeats_the_same_and_counts_it_once() {
    let mut kafka = cluster();
    let (_folder, config) = configuration(&format!("delivery = \"at_least_once\"{CONFIGURATION}"));
    let soak = Soak::new(&mut kafka, 1, "soak-at-least-once", &config, 3);
    Soak { promise: Promise::AtLeastOnce, ..soak }.run(|events| events.kills >= 30);
}
