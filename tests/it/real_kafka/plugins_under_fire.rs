//! Instances are killed in the middle of swaps, also the one that proposes: in the end all have the same plugins, and no login is lost or comes
//! twice.
//!
//! `LOGINSCOPE_KILLS` makes it longer than in the ordinary tests.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use loginscope_kafka::OwnedRecord;
use loginscope_tests::control::Control;
use loginscope_tests::fold::Fold;
use loginscope_tests::guests::misbehave;
use loginscope_tests::instance::{Instance, wait_until};
use loginscope_tests::kafka::{Scene, cluster};
use serde_json::{Value, json};

use super::{configuration, is_summary, numbers, well_formed};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// A killed instance holds others up no longer than the brokers must allow, and nothing is refused for taking its time on a busy machine.
const CONFIGURATION: &str = "
source_headers = true
workers = 1
control_token = \"correct-horse-battery-staple\"
[swap]
probation = \"0s\"
max_slowdown = 1000000
[kafka]
session.timeout.ms = 6000
transaction.timeout.ms = 3000
";

/// How many logins come each 20 ms.
const SLICE: usize = 20;

struct Fleet {
    /// What each is started with, but for its name.
    arguments: Vec<String>,
    instances: Vec<Instance>,
}

impl Fleet {
    fn new(arguments: Vec<String>) -> Self {
        let instances = NAMES.iter().map(|name| start(&arguments, name)).collect();
        Self { arguments, instances }
    }

    fn controls(&mut self) -> Vec<Control> {
        self.instances.iter_mut().map(Control::when_ready).collect()
    }

    /// Deploys this through one of them, kills one so long after, and starts that again. Answers what came of the deployment.
    fn kill_while_deploying(
        &mut self,
        settings: &Value,
        proposer: usize,
        victim: usize,
        after: Duration,
    ) -> Option<Value> {
        let control = self.controls().swap_remove(proposer);
        std::thread::scope(|scope| {
            let deployed = scope.spawn(move || control.try_deploy(misbehave(), settings));
            // Somewhere in the middle of whatever they do then: waiting is what the test is about.
            std::thread::sleep(after);
            assert_eq!(self.instances[victim].ended_by("KILL"), None);
            self.instances[victim] = start(&self.arguments, NAMES[victim]);
            deployed.join().unwrap()
        })
    }
}

fn start(arguments: &[String], name: &str) -> Instance {
    Instance::start(arguments.iter().map(String::as_str).chain(["--instance", name]))
}

/// Settings that tell a version from all others, and mean nothing.
fn version(number: u64) -> Value {
    json!({ "how": "well", "after": number })
}

#[test]
fn instances_that_are_killed_while_plugins_change_come_to_the_same_ones_and_lose_no_login() {
    let kills = std::env::var("LOGINSCOPE_KILLS").map_or(8, |text| text.parse().expect("a number"));
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "plugins-under-fire", 4);
    let (_folder, config) = configuration(CONFIGURATION);
    let mut arguments = scene.to_run();
    arguments.extend(["--config".to_owned(), config]);
    let fleet = Mutex::new(Fleet::new(arguments));
    let last = version(kills as u64);
    let (load, mut outcomes) = (well_formed(5000, 23), Vec::new());
    fleet.lock().unwrap().controls();
    let mut outputs = scene.outputs();
    std::thread::scope(|threads| {
        let killing = threads.spawn(|| {
            let mut fleet = fleet.lock().unwrap();
            for (number, random) in numbers().take(kills).enumerate() {
                let (proposer, victim) = (random % 3, (random >> 8) % 3);
                let after = Duration::from_millis((random >> 16) % 1500);
                let settings = version(number as u64);
                let outcome = fleet.kill_while_deploying(&settings, proposer as usize, victim as usize, after);
                let ended = outcome.as_ref().map(|answer| answer["end"].as_str().unwrap_or("refused").to_owned());
                outcomes.push((proposer == victim, after, ended));
            }
            let answer = fleet.controls()[0].deploy(misbehave(), &last);
            assert_eq!(answer["end"], "serving", "{answer}");
        });
        let (began, mut slices) = (Instant::now(), 0);
        while !killing.is_finished() {
            let first = slices as usize * SLICE % (load.len() - SLICE);
            scene.write(&load[first..first + SLICE]);
            slices += 1;
            std::thread::sleep((Duration::from_millis(20) * slices).saturating_sub(began.elapsed()));
        }
        killing.join().unwrap();
    });
    let mut fleet = fleet.into_inner().unwrap();
    let controls = fleet.controls();
    let about = || controls.iter().map(|control| control.plugins().to_string()).collect::<Vec<_>>().join("\n");
    wait_until("all to have the same plugins", about, || {
        let plugins: Vec<Value> = controls.iter().map(Control::plugins).collect();
        let is_last =
            |one: &Value| one["plugins"][3]["settings"] == last && one["generation"] == plugins[0]["generation"];
        plugins.iter().all(is_last).then_some(())
    });
    outputs.wait_for(scene.written());
    for mut instance in fleet.instances {
        assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    }
    outputs.arrived();
    outputs.assert_complete(scene.written());
    assert!(outputs.repeated().is_empty(), "{} logins came more than once", outputs.repeated().len());
    let summaries: Vec<OwnedRecord> = scene.all(&scene.insights).into_iter().filter(is_summary).collect();
    Fold::new(&outputs.processed.records).check(&summaries, 100);
    println!(
        "{} logins once each, {} windows exact; killed the proposer, after, what came of it: {outcomes:?}",
        scene.written(),
        summaries.len()
    );
}
