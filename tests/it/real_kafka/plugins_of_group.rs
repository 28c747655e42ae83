//! What instances of a group are promised about the plugins that they agree on, each seen from inside: what it is asked, and what it is
//! told to take over.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loginscope::control::group::ballot::{Patience, Refusal};
use loginscope::control::group::fold::{Generation, Proposal, REMEMBERED};
use loginscope::control::group::memory::Memory;
use loginscope::control::group::records::{
    Key, Origin, PluginEntry, PluginList, ProposalRecord, ProposalState, to_bytes,
};
use loginscope::control::group::topic::{Components, PluginsTopic};
use loginscope::control::group::{Group, Host};
use loginscope_kafka::{ClientSettings, OwnedRecord};
use loginscope_tests::instance::{PATIENCE, wait_until};
use loginscope_tests::kafka::{Scene, cluster};
use loginscope_wasm::Digest;
use xtask::kafka::Kafka;

/// Nobody dies in most tests, so that nobody is waited for.
const CALM: Patience = Patience { roll_call: PATIENCE, vote: PATIENCE, lifetime: PATIENCE, brokers: PATIENCE };

/// An instance whose plugins are nothing but names.
struct Instance {
    group: Group,
    fake: Arc<Fake>,
}

#[derive(Default)]
struct Fake {
    refuses: Option<&'static str>,
    /// Says that it verifies, and waits until it may go on.
    gate: Option<Mutex<(Sender<()>, Receiver<()>)>>,
    adopted: Mutex<Vec<u64>>,
}

impl Fake {
    fn adopted(&self) -> Vec<u64> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Host for Fake {
    fn has(&self, _: Digest) -> bool {
        false
    }

    fn verify(&self, proposal: &Proposal, components: &Components) -> Result<(), String> {
        assert!(proposal.list.plugins.iter().all(|plugin| components.contains_key(&plugin.digest)));
        if let Some(gate) = &self.gate {
            let gate = gate.lock().unwrap();
            gate.0.send(()).unwrap();
            gate.1.recv_timeout(PATIENCE).unwrap();
        }
        self.refuses.map_or(Ok(()), |reason| Err(reason.to_owned()))
    }

    fn adopt(&self, generation: &Generation, components: &Components) -> Result<(), String> {
        assert!(generation.list.plugins.iter().all(|plugin| components.contains_key(&plugin.digest)));
        self.adopted.lock().unwrap().push(generation.number);
        Ok(())
    }
}

impl Instance {
    fn join(settings: &ClientSettings, topic: &str, name: &str, patience: Patience, fake: Fake) -> Self {
        let group = Group::join(settings, topic, name, patience).expect("a group");
        let fake = Arc::new(fake);
        let adopted = group.committed().map_or(0, |committed| committed.number);
        group.follow(Arc::clone(&fake) as Arc<dyn Host>, adopted).expect("threads");
        Self { group, fake }
    }

    fn number(&self) -> u64 {
        self.group.committed().map_or(0, |committed| committed.number)
    }

    fn wait_for(&self, number: u64) {
        wait_until(&format!("generation {number}"), String::new, || {
            (self.fake.adopted().last() == Some(&number)).then_some(())
        });
    }
}

fn wait_for(number: u64, instances: &[&Instance]) {
    for instance in instances {
        instance.wait_for(number);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.group.leave();
    }
}

fn topic(kafka: &mut Kafka, name: &str, settings: &[(&str, &str)]) -> ClientSettings {
    let compact = [("cleanup.policy", "compact")];
    kafka.create_topic(name, 1, &[&compact, settings].concat()).expect("a topic");
    ClientSettings::new(kafka.bootstrap())
}

/// A list of one plugin with these bytes.
fn list(bytes: &[u8]) -> (PluginList, Components) {
    let digest = Digest::of(bytes);
    let plugin = PluginEntry {
        name: "a".to_owned(),
        version: "0.1.0".to_owned(),
        digest,
        settings: serde_json::json!({}),
        origin: Origin::Upload,
        backfilled: Vec::new(),
    };
    let (by, what) = ("a test".to_owned(), "deployment".to_owned());
    let list = PluginList { plugins: vec![plugin], memory: Memory::default(), by, what };
    (list, BTreeMap::from([(digest, bytes.into())]))
}

/// Bytes that nothing makes smaller.
fn mebibytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count << 17).flat_map(|_| next()).collect()
}

#[test]
fn components_of_some_mebibytes_survive_compaction_and_those_that_nobody_needs_go() {
    let mut kafka = cluster();
    let name = "plugins-compaction";
    let quickly = [
        ("segment.bytes", "1048576"),
        ("segment.ms", "1000"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
    ];
    let settings = topic(&mut kafka, name, &quickly);
    let instance = Instance::join(&settings, name, "one", CALM, Fake::default());
    let count = REMEMBERED + 3;
    for number in 1..=count {
        let (list, components) = list(&mebibytes(3, number));
        assert_eq!(instance.group.propose(number - 1, &list, &components), Ok(number));
    }
    let gone = format!("component/{}", Digest::of(&mebibytes(3, 1)));
    let scene = Scene::new(&mut kafka, "plugins-compaction-reader", 1);
    wait_until("compaction", String::new, || {
        let records = scene.all(name);
        let is_of_it = |record: &&OwnedRecord| record.key.as_ref().unwrap().starts_with(gone.as_bytes());
        // That it was deleted may stay for longer.
        records.iter().filter(is_of_it).all(|record| record.payload.is_none()).then_some(())
    });
    let newcomer = Instance::join(&settings, name, "two", CALM, Fake::default());
    let history = newcomer.group.history();
    let numbers: Vec<u64> = history.iter().map(|generation| generation.number).collect();
    assert_eq!(numbers, (count - REMEMBERED + 1..=count).rev().collect::<Vec<_>>());
    for generation in history {
        let bytes = mebibytes(3, generation.number);
        let components = newcomer.group.components(&generation.list).unwrap();
        assert_eq!(components.get(&Digest::of(&bytes)).map(|component| component[..] == bytes), Some(true));
    }
    // One that isn't kept any more is written anew.
    let (first, components) = list(&mebibytes(3, 1));
    assert_eq!(newcomer.group.propose(count, &first, &Components::new()), Err(Refusal::Missing("a@0.1.0".to_owned())));
    assert_eq!(newcomer.group.propose(count, &first, &components), Ok(count + 1));
    instance.wait_for(count + 1);
}

#[test]
fn three_instances_go_over_together_and_where_one_refuses_all_stay() {
    let mut kafka = cluster();
    let name = "plugins-together";
    let settings = topic(&mut kafka, name, &[]);
    let join = |who, fake| Instance::join(&settings, name, who, CALM, fake);
    let (one, two) = (join("one", Fake::default()), join("two", Fake::default()));
    let (first, components) = list(b"first");
    assert_eq!(one.group.propose(0, &first, &components), Ok(1));
    let three = join("three", Fake { refuses: Some("it has no taste"), ..Fake::default() });
    wait_for(1, &[&one, &two]);
    assert_eq!(three.number(), 1);

    let (second, components) = list(b"second");
    let refused = two.group.propose(1, &second, &components).unwrap_err();
    assert_eq!(refused.to_string(), "three refused it: it has no taste");
    assert!([&one, &two, &three].iter().all(|instance| instance.number() == 1));
    let overtaken = two.group.propose(0, &second, &components);
    assert_eq!(overtaken, Err(Refusal::Overtaken { number: 1 }), "what it was made of doesn't serve any more");

    drop(three);
    assert_eq!(two.group.propose(1, &second, &components), Ok(2), "whoever has left is not asked");
    wait_for(2, &[&one, &two]);
    // Back without asking, at the same time: the first counts, and both know.
    let results = std::thread::scope(|scope| {
        let threads = [&one, &two].map(|it| scope.spawn(|| it.group.commit(2, &first, &Components::new())));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(results.iter().filter(|result| **result == Ok(3)).count(), 1, "{results:?}");
    wait_for(3, &[&one, &two]);
    assert_eq!(one.group.history(), two.group.history());
}

#[test]
fn an_instance_that_joins_during_a_vote_follows_the_decision() {
    let mut kafka = cluster();
    let name = "plugins-joining";
    let settings = topic(&mut kafka, name, &[]);
    let ((says, verifies), (go_on, waits)) = (mpsc::channel(), mpsc::channel());
    let gate = Some(Mutex::new((says, waits)));
    let one = Instance::join(&settings, name, "one", CALM, Fake::default());
    let two = Instance::join(&settings, name, "two", CALM, Fake { gate, ..Fake::default() });
    know_each_other(&settings, name, 2);
    let (first, components) = list(b"first");
    let late = std::thread::scope(|scope| {
        let proposed = scope.spawn(|| one.group.propose(0, &first, &components));
        verifies.recv_timeout(PATIENCE).expect("it is asked");
        let late = Instance::join(&settings, name, "late", CALM, Fake::default());
        assert_eq!(late.number(), 0);
        go_on.send(()).unwrap();
        assert_eq!(proposed.join().unwrap(), Ok(1));
        late
    });
    wait_for(1, &[&one, &two, &late]);
}

/// Waits until so many instances have said that they run: nobody else is asked.
fn know_each_other(settings: &ClientSettings, topic: &str, count: usize) {
    wait_until("all to know each other", String::new, || {
        let keys = |record: &OwnedRecord| record.key.as_ref().is_some_and(|key| key.starts_with(b"instance/"));
        (records(settings, topic).iter().filter(|record| keys(record)).count() >= count).then_some(())
    });
}

/// All records of a topic.
fn records(settings: &ClientSettings, topic: &str) -> Vec<OwnedRecord> {
    loginscope_kafka::read::last_records(settings, topic, 1000, PATIENCE).expect("a topic that can be read")
}

/// What an instance of this name leaves that has said that it runs, proposed something, and been killed.
fn propose_and_be_killed(settings: &ClientSettings, topic: &str, name: &str) {
    let mut killed = PluginsTopic::open(settings, topic, PATIENCE).unwrap().writer().unwrap();
    let presence = to_bytes(&serde_json::json!({ "name": name })).unwrap();
    killed.write(&Key::Instance("dead".to_owned()), Some(&presence), PATIENCE).unwrap();
    let (never, components) = list(b"never");
    killed.write_component("upload", &components[&never.plugins[0].digest], PATIENCE).unwrap();
    let record = ProposalRecord { base: 0, proposer: "dead".to_owned(), state: ProposalState::Open(never) };
    killed.write(&Key::Proposal("x".to_owned()), Some(&to_bytes(&record).unwrap()), PATIENCE).unwrap();
    killed.flush(PATIENCE).unwrap();
}

#[test]
fn an_instance_that_was_killed_is_not_waited_for_long_and_one_that_proposed_changes_nothing() {
    let mut kafka = cluster();
    let name = "plugins-killed";
    let settings = topic(&mut kafka, name, &[]);
    let second = Duration::from_secs(1);
    let patience = Patience { roll_call: 2 * second, lifetime: 3 * second, ..CALM };
    propose_and_be_killed(&settings, name, "the late one");

    let one = Instance::join(&settings, name, "one", patience, Fake::default());
    let two = Instance::join(&settings, name, "two", patience, Fake::default());
    let (first, components) = list(b"first");
    assert_eq!(one.group.propose(0, &first, &components), Ok(1));
    wait_for(1, &[&one, &two]);
    assert_eq!(two.fake.adopted(), [1]);
    let (second, components) = list(b"second");
    assert_eq!(two.group.propose(1, &second, &components), Ok(2));
    assert!(one.group.history()[0].was_proposed);
    wait_for(2, &[&one, &two]);
    let gone = records(&settings, name);
    let gone = gone.iter().rfind(|record| record.key.as_deref() == Some(b"instance/dead"));
    assert_eq!(gone.map(|record| record.payload.is_none()), Some(true));
}

#[test]
fn brokers_that_go_away_during_a_vote_leave_it_done_or_not_done_for_all() {
    let mut kafka = cluster();
    let name = "plugins-outage";
    let settings = topic(&mut kafka, name, &[]);
    let ((says, verifies), (go_on, waits)) = (mpsc::channel(), mpsc::channel());
    let gate = Some(Mutex::new((says, waits)));
    let one = Instance::join(&settings, name, "one", CALM, Fake::default());
    let two = Instance::join(&settings, name, "two", CALM, Fake { gate, ..Fake::default() });
    let (first, components) = list(b"first");
    let result = std::thread::scope(|scope| {
        let proposed = scope.spawn(|| one.group.propose(0, &first, &components));
        verifies.recv_timeout(PATIENCE).expect("it is asked");
        kafka.kill();
        go_on.send(()).unwrap();
        kafka.restart().unwrap();
        proposed.join().unwrap()
    });
    assert_eq!(result, Ok(1), "there is time enough for it to be done after");
    wait_for(1, &[&one, &two]);
    assert_eq!(one.group.history(), two.group.history());
}

/// An instance that says when it verifies something, and goes on when it may: `(its host, what it says, how it may go on)`.
fn gated() -> (Fake, Receiver<()>, Sender<()>) {
    let ((says, verifies), (go_on, waits)) = (mpsc::channel(), mpsc::channel());
    (Fake { gate: Some(Mutex::new((says, waits))), ..Fake::default() }, verifies, go_on)
}

/// Proposes until nobody is faster. Nothing else may come of it.
fn propose(instance: &Instance, what: &[u8]) -> u64 {
    let (list, components) = list(what);
    loop {
        match instance.group.propose(instance.number(), &list, &components) {
            Ok(number) => return number,
            Err(Refusal::Overtaken { number }) => instance.wait_for(number),
            Err(refusal) => panic!("{refusal}"),
        }
    }
}

#[test]
fn what_is_proposed_at_the_same_time_waits_for_its_turn_and_is_refused_to_nobody() {
    let mut kafka = cluster();
    let name = "plugins-at-once";
    let settings = topic(&mut kafka, name, &[]);
    let instances = ["one", "two", "three"].map(|who| Instance::join(&settings, name, who, CALM, Fake::default()));
    for round in 0..5_u64 {
        let before = instances[0].number();
        let different = round % 2 == 0;
        let barrier = std::sync::Barrier::new(instances.len());
        let mut numbers = std::thread::scope(|scope| {
            let propose = |place: usize, instance| {
                let what = format!("{round} {}", if different { place } else { 0 });
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    propose(instance, what.as_bytes())
                })
            };
            let threads: Vec<_> = instances.iter().enumerate().map(|(place, it)| propose(place, it)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        numbers.sort_unstable();
        if different {
            assert_eq!(numbers, (before + 1..=before + 3).collect::<Vec<_>>());
        }
        let last = numbers[2];
        wait_for(last, &instances.each_ref());
    }
}

/// Others would wait for its vote for two minutes.
#[test]
fn whoever_ends_while_it_verifies_is_not_waited_for() {
    let mut kafka = cluster();
    let name = "plugins-farewell";
    let settings = topic(&mut kafka, name, &[]);
    let (fake, verifies, go_on) = gated();
    let one =
        Instance::join(&settings, name, "one", Patience { vote: Duration::from_hours(1), ..CALM }, Fake::default());
    let two = Instance::join(&settings, name, "two", CALM, fake);
    know_each_other(&settings, name, 2);
    let (first, components) = list(b"first");
    std::thread::scope(|scope| {
        let proposed = scope.spawn(|| one.group.propose(0, &first, &components));
        verifies.recv_timeout(PATIENCE).expect("it is asked");
        two.group.leave();
        assert_eq!(proposed.join().unwrap(), Ok(1));
        go_on.send(()).unwrap();
    });
    one.wait_for(1);
}

#[test]
fn what_is_agreed_on_serves_at_once_also_where_something_else_is_being_verified() {
    let mut kafka = cluster();
    let name = "plugins-meanwhile";
    let settings = topic(&mut kafka, name, &[]);
    let (fake, verifies, go_on) = gated();
    let one = Instance::join(&settings, name, "one", CALM, Fake::default());
    let (first, components) = list(b"first");
    assert_eq!(one.group.propose(0, &first, &components), Ok(1));
    let two = Instance::join(&settings, name, "two", CALM, fake);
    know_each_other(&settings, name, 2);
    let (second, new) = list(b"second");
    std::thread::scope(|scope| {
        let proposed = scope.spawn(|| one.group.propose(1, &second, &new));
        verifies.recv_timeout(PATIENCE).expect("it is asked");
        // Nobody is asked to go back.
        assert_eq!(one.group.commit(1, &first, &components), Ok(2));
        two.wait_for(2);
        assert_eq!(proposed.join().unwrap(), Err(Refusal::Overtaken { number: 2 }));
        go_on.send(()).unwrap();
    });
}

#[test]
fn what_a_refused_proposal_has_brought_is_deleted() {
    let mut kafka = cluster();
    let name = "plugins-leftovers";
    let settings = topic(&mut kafka, name, &[]);
    let one = Instance::join(&settings, name, "one", CALM, Fake::default());
    let (first, components) = list(b"first");
    assert_eq!(one.group.propose(0, &first, &components), Ok(1));
    let two = Instance::join(&settings, name, "two", CALM, Fake { refuses: Some("no"), ..Fake::default() });
    know_each_other(&settings, name, 2);
    let (second, new) = list(&mebibytes(2, 7));
    assert_eq!(one.group.propose(1, &second, &new).unwrap_err().to_string(), "two refused it: no");
    let mut left = BTreeMap::new();
    for record in records(&settings, name) {
        left.insert(record.key.unwrap(), record.payload.is_some());
    }
    let stands = |digest: Digest| {
        let of_component = format!("component/{digest}/");
        left.iter().any(|(key, is_there)| *is_there && key.starts_with(of_component.as_bytes()))
    };
    assert!(stands(first.plugins[0].digest) && !stands(second.plugins[0].digest));
    drop(two);
}

/// Otherwise its proposal would be in the way for two minutes, and it would be waited for as long.
#[test]
fn an_instance_that_was_killed_is_succeeded_by_the_one_of_its_name() {
    let mut kafka = cluster();
    let name = "plugins-succession";
    let settings = topic(&mut kafka, name, &[]);
    let patience = Patience { roll_call: Duration::from_hours(1), lifetime: Duration::from_hours(1), ..CALM };
    propose_and_be_killed(&settings, name, "one");
    let one = Instance::join(&settings, name, "one", patience, Fake::default());
    one.group.succeed().unwrap();
    let (first, components) = list(b"first");
    assert_eq!(one.group.propose(0, &first, &components), Ok(1));
}
