//! Instances that crash, pause and are late at any step, on a log in memory that is compacted at times. A seed decides what happens.
//!
//! They run the code that instances run, but for threads and Kafka: the fold, the ballot, the duties.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use loginscope_wasm::Digest;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::ballot::{self, Patience, Step};
use super::duty::{Own, Say};
use super::fold::{Fold, REMEMBERED};
use super::memory::Memory;
use super::records::{
    GenerationRecord, Key, Origin, Piece, PluginEntry, PluginList, Presence, ProposalRecord, ProposalState, Vote,
    to_bytes,
};

const PATIENCE: Patience = Patience {
    roll_call: Duration::from_secs(20),
    vote: Duration::from_mins(1),
    lifetime: Duration::from_secs(150),
    brokers: Duration::from_secs(30),
};

/// What nobody's plugins are like.
const NOTHING: u64 = 100;

#[derive(Clone)]
struct Logged {
    offset: i64,
    at: u64,
    key: Key,
    value: Option<Vec<u8>>,
}

/// What a node that proposes is at.
enum Proposing {
    Nothing,
    Voting { id: String, base: u64, list: Box<PluginList>, upload: String, read_at: Option<u64> },
    Committing { base: u64 },
}

struct Node {
    own: Own,
    fold: Fold,
    next: i64,
    outbox: VecDeque<(Key, Option<Vec<u8>>)>,
    proposing: Proposing,
    open_since: Option<(String, u64)>,
    /// It can't use plugins of a version with this remainder.
    dislikes: u64,
    /// What it has begun to verify.
    verifying: Option<(String, Vote)>,
    /// It could not take over what was committed.
    has_failed: bool,
    /// Its process is stopped until then.
    paused_until: u64,
}

struct World {
    chance: StdRng,
    now: u64,
    ids: u64,
    log: Vec<Logged>,
    end: i64,
    nodes: Vec<Node>,
    /// Which write made each generation, and who said that it is another one.
    generations: BTreeMap<u64, String>,
    /// All records ever, for judging.
    whole: Vec<Logged>,
    clean_before: i64,
    /// Everybody can use everything from now on.
    is_over: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let chance = StdRng::seed_from_u64(seed);
        let mut world = Self {
            chance,
            now: 0,
            ids: 0,
            log: Vec::new(),
            end: 0,
            nodes: Vec::new(),
            generations: BTreeMap::new(),
            whole: Vec::new(),
            clean_before: 0,
            is_over: false,
        };
        let nodes = world.chance.random_range(1..=4);
        for _ in 0..nodes {
            let node = world.new_node();
            world.nodes.push(node);
        }
        world
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("{:04}", self.ids)
    }

    /// An instance that has read the log to its end.
    fn new_node(&mut self) -> Node {
        let mut node = Node {
            own: Own { id: self.id(), takes_part: true, ..Own::default() },
            fold: Fold::default(),
            next: 0,
            outbox: VecDeque::new(),
            proposing: Proposing::Nothing,
            open_since: None,
            dislikes: if self.is_over { NOTHING } else { self.chance.random_range(0..8) },
            verifying: None,
            has_failed: false,
            paused_until: 0,
        };
        while self.read(&mut node) {}
        node.own.adopted = node.fold.number();
        node.has_failed = node.fold.committed().is_some_and(|committed| !node.likes(&committed.list));
        node
    }

    /// Reads one record.
    fn read(&mut self, node: &mut Node) -> bool {
        let place = self.log.partition_point(|logged| logged.offset < node.next);
        let Some(logged) = self.log.get(place).cloned() else { return false };
        node.next = logged.offset + 1;
        if logged.key == Key::Instance(node.own.id.clone()) && logged.value.is_none() {
            node.own.announced = false;
        }
        node.fold.apply(logged.offset, logged.at as i64, logged.key, logged.value.as_deref()).unwrap();
        let open = node.fold.open().map(|open| open.id.clone());
        if open.as_ref() != node.open_since.as_ref().map(|(id, _)| id) {
            node.open_since = open.map(|id| (id, self.now));
        }
        if let Some(committed) = node.fold.committed() {
            let known = self.generations.entry(committed.number).or_insert_with(|| committed.write.clone());
            assert_eq!(*known, committed.write, "two see different generations {}", committed.number);
        }
        true
    }

    fn append(&mut self, key: Key, value: Option<Vec<u8>>) {
        let logged = Logged { offset: self.end, at: self.now, key, value };
        self.end += 1;
        self.whole.push(logged.clone());
        self.log.push(logged);
    }

    /// Something that is on its way arrives, sometimes twice.
    fn deliver(&mut self, place: usize) {
        let Some((key, value)) = self.nodes[place].outbox.pop_front() else { return };
        if self.chance.random_bool(0.05) {
            self.append(key.clone(), value.clone());
        }
        self.append(key, value);
    }

    /// Keeps the last record of each key before some offset, and no deletions that all have read and that were kept once.
    fn compact(&mut self) {
        let until = self.chance.random_range(0..=self.end);
        let read_by_all = self.nodes.iter().map(|node| node.next).min().unwrap_or(0);
        let mut last = BTreeMap::new();
        for logged in self.log.iter().filter(|logged| logged.offset < until) {
            last.insert(logged.key.clone(), logged.offset);
        }
        let clean_before = self.clean_before.min(read_by_all);
        self.log.retain(|logged| {
            logged.offset >= until
                || (last[&logged.key] == logged.offset && (logged.value.is_some() || logged.offset >= clean_before))
        });
        self.clean_before = self.clean_before.max(until);
    }

    fn act(&mut self, place: usize) {
        if self.nodes[place].paused_until > self.now {
            return;
        }
        let mut node = self.nodes.remove(place);
        match self.chance.random_range(0..1000) {
            0..450 => drop(self.read(&mut node)),
            450..600 => self.do_duties(&mut node),
            600..640 => self.propose(&mut node),
            640..650 => self.roll_back(&mut node),
            650..847 => self.step(&mut node),
            847..850 => self.leave(&mut node),
            850..853 => node.paused_until = self.now + self.chance.random_range(0..300),
            853..860 => node = self.new_node(),
            _ => {}
        }
        self.nodes.insert(place, node);
        if self.chance.random_bool(0.4) {
            self.deliver(place);
        }
    }

    /// An instance ends properly, and another one starts. What it has written before arrives first.
    fn leave(&mut self, node: &mut Node) {
        for (key, value) in std::mem::take(&mut node.outbox) {
            self.append(key, value);
        }
        let instance = node.own.id.clone();
        if let Some(proposal) = node.own.owes_a_vote(&node.fold) {
            self.append(Key::Vote { proposal, instance: instance.clone() }, None);
        }
        self.append(Key::Instance(instance), None);
        *node = self.new_node();
    }

    fn do_duties(&mut self, node: &mut Node) {
        if node.has_failed {
            // Its process ends, and another one starts.
            *node = self.new_node();
            return;
        }
        let instance = node.own.id.clone();
        match node.own.say(&node.fold) {
            Some(Say::Running) => node.send(Key::Instance(instance.clone()), &Presence { name: instance.clone() }),
            Some(Say::Present(proposal)) => {
                node.send(Key::Vote { proposal, instance: instance.clone() }, &Vote::Present);
            }
            None => {}
        }
        if let Some((proposal, vote)) = node.verifying.take_if(|_| self.chance.random_bool(0.5)) {
            node.send(Key::Vote { proposal, instance }, &vote);
        }
        if node.verifying.is_some() {
            return;
        }
        if let Some(generation) = node.own.to_adopt(&node.fold).cloned() {
            if !node.likes(&generation.list) {
                node.has_failed = true;
                return;
            }
            let is_stored = |plugin: &PluginEntry| node.fold.stored(plugin.digest).is_some();
            let is_remembered = generation.number + REMEMBERED > self.generations.len() as u64;
            assert!(!is_remembered || generation.list.plugins.iter().all(is_stored), "what is to serve can be read");
            node.own.adopted = generation.number;
        }
        if let Some(proposal) = node.own.to_verify(&node.fold) {
            let vote = if node.likes(&proposal.list) { Vote::Ready } else { Vote::Refused("no".to_owned()) };
            node.verifying = Some((proposal.id, vote));
        }
    }

    fn list(&mut self) -> PluginList {
        let version = self.chance.random_range(0..30);
        let plugin = PluginEntry {
            name: "a".to_owned(),
            version: version.to_string(),
            digest: Digest::of(version.to_string().as_bytes()),
            settings: json!({}),
            origin: Origin::Upload,
            backfilled: Vec::new(),
        };
        PluginList { plugins: vec![plugin], memory: Memory::default(), by: String::new(), what: String::new() }
    }

    fn write_components(&mut self, node: &mut Node, list: &PluginList) -> String {
        let upload = self.id();
        for plugin in &list.plugins {
            if node.fold.keeps(plugin.digest) {
                continue;
            }
            for piece in 0..2 {
                let piece = Piece { digest: plugin.digest, upload: upload.clone(), piece, pieces: 2 };
                node.outbox.push_back((Key::Piece(piece), Some(vec![0])));
            }
        }
        upload
    }

    fn propose(&mut self, node: &mut Node) {
        if !matches!(node.proposing, Proposing::Nothing) || node.has_failed || node.own.adopted != node.fold.number() {
            return;
        }
        if let Some(open) = node.fold.open() {
            let since = node.open_since.as_ref().map_or(self.now, |(_, since)| *since);
            if Duration::from_secs(self.now - since) >= PATIENCE.lifetime {
                let state = ProposalState::Dropped("stale".to_owned());
                let record = ProposalRecord { base: open.base, proposer: open.proposer.clone(), state };
                let key = Key::Proposal(open.id.clone());
                node.send(key, &record);
            }
            return;
        }
        let list = self.list();
        if !node.likes(&list) {
            return;
        }
        let upload = self.write_components(node, &list);
        let (id, base) = (self.id(), node.fold.number());
        let state = ProposalState::Open(list.clone());
        node.send(Key::Proposal(id.clone()), &ProposalRecord { base, proposer: node.own.id.clone(), state });
        node.proposing = Proposing::Voting { id, base, list: Box::new(list), upload, read_at: None };
    }

    /// Goes back by itself, without asking.
    fn roll_back(&mut self, node: &mut Node) {
        let before = node.fold.history().rev().nth(1).cloned();
        let (Some(before), Proposing::Nothing) = (before, &node.proposing) else { return };
        if node.own.adopted != node.fold.number() || node.has_failed {
            return;
        }
        self.write_components(node, &before.list);
        let base = node.fold.number();
        let key = Key::Generation { number: base + 1, write: self.id() };
        node.send(key, &GenerationRecord { list: before.list, proposal: None });
        node.proposing = Proposing::Committing { base };
    }

    /// A proposer goes on, with all read that is in the log.
    fn step(&mut self, node: &mut Node) {
        while !matches!(node.proposing, Proposing::Nothing) && self.read(node) {}
        match &mut node.proposing {
            Proposing::Nothing => {}
            Proposing::Committing { base } => {
                if node.fold.number() > *base {
                    node.proposing = Proposing::Nothing;
                    let garbage = node.fold.garbage();
                    node.outbox.extend(garbage.into_iter().map(|key| (key, None)));
                }
            }
            Proposing::Voting { id, base, list, upload, read_at } => {
                let is_read = node.fold.proposal_of(id).is_some() || node.fold.dropped(id).is_some();
                if !is_read && node.fold.number() == *base {
                    return;
                }
                let since = Duration::from_secs(self.now - *read_at.get_or_insert(self.now));
                let (id, base, list, upload) = (id.clone(), *base, PluginList::clone(list), upload.clone());
                match ballot::next(&node.fold, &id, since, &PATIENCE) {
                    Step::Wait => {}
                    step @ (Step::Drop(_) | Step::GiveWay) => {
                        let state = ProposalState::Dropped(format!("{step:?}"));
                        node.send(Key::Proposal(id), &ProposalRecord { base, proposer: node.own.id.clone(), state });
                        node.outbox.extend(node.fold.pieces_of(&upload).into_iter().map(|key| (key, None)));
                        node.proposing = Proposing::Nothing;
                    }
                    Step::Commit { gone } => {
                        let key = Key::Generation { number: base + 1, write: self.id() };
                        node.send(key, &GenerationRecord { list, proposal: Some(id) });
                        node.outbox.extend(gone.into_iter().map(|id| (Key::Instance(id), None)));
                        node.proposing = Proposing::Committing { base };
                    }
                }
            }
        }
    }

    /// Nothing fails any more, and everything comes to its end. Whatever was left open, somebody can propose something then.
    fn settle(&mut self) {
        self.is_over = true;
        for node in &mut self.nodes {
            node.dislikes = NOTHING;
        }
        let before = self.generations.len();
        let mut left = 3000;
        while left > 0 {
            self.now += 1;
            left -= 1;
            if self.generations.len() > before {
                left = left.min(200);
            } else {
                let mut first = self.nodes.remove(0);
                self.propose(&mut first);
                self.nodes.insert(0, first);
            }
            for place in 0..self.nodes.len() {
                let mut node = self.nodes.remove(place);
                while self.read(&mut node) {}
                self.do_duties(&mut node);
                self.step(&mut node);
                self.nodes.insert(place, node);
                while !self.nodes[place].outbox.is_empty() {
                    self.deliver(place);
                }
            }
        }
        assert!(self.generations.len() > before, "what was left open is in nobody's way");
    }

    fn judge(&mut self) -> u64 {
        let newcomer = self.new_node().fold;
        let mut whole = Fold::default();
        for logged in &self.whole {
            whole.apply(logged.offset, logged.at as i64, logged.key.clone(), logged.value.as_deref()).unwrap();
        }
        assert_eq!(newcomer.number(), whole.number());
        assert_eq!(
            newcomer.committed().map(|committed| &committed.write),
            whole.committed().map(|committed| &committed.write),
            "whoever reads what compaction has left comes to the same"
        );
        for node in self.nodes.iter().filter(|node| !node.has_failed) {
            assert_eq!(node.fold.number(), whole.number());
            assert_eq!(node.own.adopted, whole.number(), "all that live serve the same");
        }
        if let Some(committed) = newcomer.committed() {
            let is_stored = |plugin: &PluginEntry| newcomer.stored(plugin.digest).is_some();
            assert!(committed.list.plugins.iter().all(is_stored), "what serves can be read");
        }
        for generation in newcomer.history() {
            let is_stored = |plugin: &PluginEntry| newcomer.stored(plugin.digest).is_some();
            assert!(generation.list.plugins.iter().all(is_stored), "what served can be read: {}", generation.number);
        }
        self.judge_votes();
        whole.number()
    }

    /// Whoever ran before a proposal and answered in time had accepted what was committed.
    fn judge_votes(&self) {
        let mut fold = Fold::default();
        let mut proposed: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
        let mut in_time: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for logged in &self.whole {
            match &logged.key {
                Key::Proposal(id) => {
                    let there = fold.instances().keys().cloned().collect();
                    proposed.entry(id.clone()).or_insert((logged.at, there));
                }
                Key::Vote { proposal, instance } if logged.value.is_some() => {
                    let (at, there) = &proposed[proposal];
                    if there.contains(instance) && logged.at - at < PATIENCE.roll_call.as_secs() {
                        in_time.entry(proposal.clone()).or_default().insert(instance.clone());
                    }
                }
                // It took back what it had said, or everything is over.
                Key::Vote { proposal, instance } => {
                    in_time.entry(proposal.clone()).or_default().remove(instance);
                }
                _ => {}
            }
            let before = fold.clone();
            fold.apply(logged.offset, logged.at as i64, logged.key.clone(), logged.value.as_deref()).unwrap();
            let (true, Some(value)) = (fold.number() > before.number(), &logged.value) else { continue };
            let record: GenerationRecord = super::records::from_bytes(value).unwrap();
            let Some(id) = record.proposal else { continue };
            let votes = &before.proposal_of(&id).expect("what is committed was not dropped").votes;
            for instance in in_time.get(&id).into_iter().flatten() {
                assert_eq!(votes.get(instance), Some(&Vote::Ready), "{instance} was not asked");
            }
        }
    }
}

impl Node {
    fn likes(&self, list: &PluginList) -> bool {
        list.plugins.iter().all(|plugin| plugin.version.parse::<u64>().unwrap() % 8 != self.dislikes)
    }

    fn send<T: serde::Serialize>(&mut self, key: Key, value: &T) {
        self.outbox.push_back((key, Some(to_bytes(value).unwrap())));
    }
}

fn simulate(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let steps = world.chance.random_range(100..4000);
    for _ in 0..steps {
        world.now += u64::from(world.chance.random_bool(0.5));
        let place = world.chance.random_range(0..world.nodes.len());
        world.act(place);
        if world.chance.random_bool(0.01) {
            world.compact();
        }
    }
    world.settle();
    world.compact();
    world.judge()
}

#[test]
fn whatever_fails_all_instances_come_to_the_same_generation_which_all_who_answered_have_accepted() {
    let mut most = 0;
    for seed in 0..1000 {
        let number = std::panic::catch_unwind(|| simulate(seed));
        let number = number.unwrap_or_else(|_| panic!("seed {seed}"));
        most = most.max(number);
    }
    assert!(most > 15, "histories are cut short: {most}");
}
