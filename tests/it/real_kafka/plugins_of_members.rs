//! Processes of a group without workers: what becomes of their plugins when the group, a swap and a roll-back meet.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use loginscope::comparator::Setting;
use loginscope::comparator::report::Tolerance;
use loginscope::control::deploy::Deployer;
use loginscope::control::group::records::{GenerationRecord, Key, to_bytes};
use loginscope::control::group::topic::PluginsTopic;
use loginscope::control::membership::{Identity, Membership};
use loginscope::control::swap::{Consent, Request, Swapped, Swapper};
use loginscope::pipeline::batch::OutputLimits;
use loginscope::pipeline::plugins::{DEFAULTS, PluginSet, PluginSource};
use loginscope::pipeline::serving::Serving;
use loginscope::telemetry::Telemetry;
use loginscope_kafka::ClientSettings;
use loginscope_login::decode::InputFormat;
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
        Self::with(kafka, topic, name, plugin_set(&defaults, BTreeMap::new()))
    }

    /// One that has started with these plugins.
    fn with(kafka: &ClientSettings, topic: &str, name: &str, plugins: PluginSet) -> Self {
        let plugins = Arc::new(plugins);
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

    fn follow(self) -> Self {
        self.group.follow(&self.deployer).unwrap();
        self
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
    let [one, two] = ["one", "two"].map(|name| Member::start(&settings, "members-turn", name).follow());
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
    assert_eq!(one.serving().take_out(&bad, &probation.fallback, "it trapped"), Some(3));
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

/// The other one has brought the new file to the group before it comes here, where nothing is to be done about it.
#[test]
fn a_watched_file_that_changes_to_what_serves_already_is_known_to_have_changed() {
    let mut kafka = cluster();
    let settings = topic(&mut kafka, "members-files");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(format!("{name}.wasm"));
    let (old, new) = (misbehave().to_vec(), [misbehave(), b"\0\x05\x04test"].concat());
    let member = |name: &str| {
        let source = PluginSource::File(file(name));
        let plugins = PluginSet::new(vec![source], BTreeMap::new(), InputFormat::default()).unwrap();
        Member::with(&settings, "members-files", name, plugins).follow()
    };
    let change = |member: &Member, path: &Path, content: &[u8]| {
        fs::write(path, content).unwrap();
        member.deployer.file_changed(path, None).unwrap().generation
    };
    fs::write(file("one"), &old).unwrap();
    fs::write(file("two"), &old).unwrap();
    let (one, two) = (member("one"), member("two"));
    assert_eq!(change(&one, &file("one"), &new), 2);
    assert_eq!(change(&two, &file("two"), &new), 2, "it serves already");
    assert_eq!(change(&two, &file("two"), &old), 3);
    drop(two);
    fs::write(file("two"), &new).unwrap();
    let two = member("two");
    let serving = Arc::clone(&two.serving().load());
    assert_eq!((serving.number, serving.chain.plugins[0].component().digest()), (4, Digest::of(&new)));
}
