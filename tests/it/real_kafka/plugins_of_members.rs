//! Processes of a group without workers: what becomes of their plugins when the group, a swap and a roll-back meet.

use std::sync::Arc;

use loginscope::comparator::Setting;
use loginscope::comparator::report::Tolerance;
use loginscope::control::deploy::Deployer;
use loginscope::control::group::records::{GenerationRecord, Key, to_bytes};
use loginscope::control::group::topic::PluginsTopic;
use loginscope::control::membership::{Identity, Membership};
use loginscope::control::swap::{Consent, Request, Swapped, Swapper};
use loginscope::pipeline::batch::OutputLimits;
use loginscope::pipeline::plugins::DEFAULTS;
use loginscope::pipeline::serving::Serving;
use loginscope::telemetry::Telemetry;
use loginscope_kafka::ClientSettings;
use loginscope_tests::guests::misbehave;
use loginscope_tests::in_process::plugin_set;
use loginscope_tests::instance::{PATIENCE, wait_until};
use loginscope_tests::kafka::cluster;
use loginscope_wasm::Digest;
use xtask::kafka::Kafka;

/// A process that has the default plugins inside.
struct Member {
    deployer: Arc<Deployer>,
    group: Arc<Membership>,
}

impl Member {
    /// One that has started, and does not follow the group yet.
    fn start(kafka: &ClientSettings, topic: &str, name: &str) -> Self {
        let defaults: Vec<&'static [u8]> = DEFAULTS.iter().map(|(_, bytes)| *bytes).collect();
        let plugins = Arc::new(plugin_set(&defaults, std::collections::BTreeMap::new()));
        let serving = Arc::new(Serving::new(plugins.load().unwrap()));
        let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: usize::MAX };
        let swapper = Swapper {
            serving: Arc::clone(&serving),
            telemetry: Arc::new(Telemetry::default()),
            setting: Setting { topic: "user-login".into(), insight_every: 100, limits },
            tolerance: Tolerance { max_slowdown: f64::MAX, ..Tolerance::default() },
            probation: std::time::Duration::from_hours(1),
            turn: std::sync::Mutex::default(),
            consent: std::sync::RwLock::default(),
            tried: std::sync::Mutex::default(),
        };
        let identity = Identity { name: name.to_owned(), is_own: true, place: Digest::of(name.as_bytes()) };
        let chain = Arc::clone(&serving.load().chain);
        let group = Arc::new(Membership::join(kafka, topic, identity, &plugins, &chain).unwrap());
        group.start(&serving).unwrap();
        swapper.ask(Consent::Group(Arc::clone(&group)));
        Self { deployer: Arc::new(Deployer { plugins, swapper }), group }
    }

    fn following(kafka: &ClientSettings, topic: &str, name: &str) -> Self {
        let member = Self::start(kafka, topic, name);
        member.group.follow(&member.deployer).unwrap();
        member
    }

    fn deploy(&self, settings: &str) -> Swapped {
        self.deployer.deploy(misbehave(), Some(settings), &Request::new("deployment", "ann")).unwrap()
    }

    fn serving(&self) -> &Serving {
        &self.deployer.swapper.serving
    }

    fn wait_for(&self, number: u64) {
        wait_until(&format!("generation {number}"), String::new, || {
            (self.serving().load().number >= number).then_some(())
        });
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.leave();
    }
}

fn topic(kafka: &mut Kafka, name: &str) -> ClientSettings {
    kafka.create_topic(name, 1, &[("cleanup.policy", "compact")]).unwrap();
    ClientSettings::new(kafka.bootstrap())
}

/// A swap that is tried on live messages takes up to ten minutes.
#[test]
fn while_a_swap_takes_its_time_what_the_group_agrees_on_is_voted_on_and_serves_on_probation() {
    let mut kafka = cluster();
    let settings = topic(&mut kafka, "members-turn");
    let one = Member::following(&settings, "members-turn", "one");
    let two = Member::following(&settings, "members-turn", "two");
    let turn = one.deployer.swapper.turn.lock().unwrap();
    assert_eq!(two.deploy("{}").generation, 2);
    one.wait_for(2);
    drop(turn);
    for member in [&one, &two] {
        assert_eq!(member.serving().load().chain.plugins.len(), 4);
        assert!(member.serving().load().probation().is_some(), "it is on probation everywhere");
    }
    assert_eq!(one.deploy("{\"history\": true}").generation, 3, "and is what others are made of");
    two.wait_for(3);
}

#[test]
fn a_roll_back_is_not_lost_where_others_agree_on_something_at_the_same_time() {
    let mut kafka = cluster();
    let settings = topic(&mut kafka, "members-roll-back");
    let one = Member::start(&settings, "members-roll-back", "one");
    assert_eq!(one.deploy("{}").generation, 2);
    let bad = Arc::clone(&one.serving().load());
    let probation = bad.probation.as_ref().expect("it is new");
    assert_eq!(one.serving().take_out(&bad, probation, "it trapped"), Some(3));
    // Others have agreed on a generation 3 of their own, with what failed here.
    let group = loginscope::control::group::Group::join(
        &settings,
        "members-roll-back",
        "others",
        loginscope::control::group::ballot::Patience::default(),
    );
    let record = GenerationRecord { list: group.unwrap().committed().unwrap().list, proposal: None };
    let mut writer = PluginsTopic::open(&settings, "members-roll-back", PATIENCE).unwrap().writer().unwrap();
    let key = Key::Generation { number: 3, write: "others".to_owned() };
    writer.write(&key, Some(&to_bytes(&record).unwrap()), PATIENCE).unwrap();
    writer.flush(PATIENCE).unwrap();

    wait_until("the group to know of the roll-back", String::new, || {
        one.group.catch_up(&one.deployer.swapper).unwrap();
        assert_eq!(one.serving().load().chain.plugins.len(), 3, "what failed here does not serve again");
        (one.serving().load().number == 4).then_some(())
    });
    let two = Member::start(&settings, "members-roll-back", "two");
    assert_eq!((two.serving().load().number, two.serving().load().chain.plugins.len()), (4, 3));
    // Deployed again on purpose, it serves.
    assert_eq!(one.deploy("{}").generation, 5);
    assert_eq!(one.serving().load().chain.plugins.len(), 4);
}
