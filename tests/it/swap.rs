//! A new plugin on probation is rolled back by itself, and nothing is lost by that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use loginscope::application::{Application, Settings, TopicLimits, TopicNames};
use loginscope::comparator::Setting;
use loginscope::comparator::report::Tolerance;
use loginscope::control::swap::{Request, Swapper};
use loginscope::pipeline::Chain;
use loginscope::pipeline::batch::OutputLimits;
use loginscope::pipeline::chain::Aggregates;
use loginscope::pipeline::delivery::Guarantee;
use loginscope::pipeline::plugins::DEFAULTS;
use loginscope::pipeline::policy::{OnFailure, Policies};
use loginscope::pipeline::serving::Serving;
use loginscope::pipeline::serving::history::Cause;
use loginscope::telemetry::Telemetry;
use loginscope_kafka::{EmbeddedBroker, Producer, ProducerOptions, Read, ReadFrom, Reader, Record, StartPosition};
use loginscope_tests::guests::misbehave;
use loginscope_tests::in_process::{plugin_set, policy};
use loginscope_tests::instance::{PATIENCE, wait_until};
use loginscope_wasm::Plugin;
use serde_json::{Value, json};

/// The default plugins and the guest with these settings.
fn chain(guest: Value) -> Chain {
    chain_with(guest, &Policies::new())
}

/// The same with policies.
fn chain_with(guest: Value, policies: &Policies) -> Chain {
    let plugins: Vec<&'static [u8]> = DEFAULTS.iter().map(|(_, bytes)| *bytes).chain([misbehave()]).collect();
    plugin_set(&plugins, BTreeMap::from([("misbehave".to_owned(), guest)]))
        .with_policies(policies.clone())
        .load()
        .unwrap()
}

/// An application on a broker of its own, with a swapper that tolerates any time.
struct Running {
    broker: EmbeddedBroker,
    producer: Producer,
    application: Application,
    telemetry: Arc<Telemetry>,
    serving: Arc<Serving>,
    swapper: Swapper,
    written: u64,
}

impl Running {
    fn start(chain: Chain) -> Self {
        let broker = EmbeddedBroker::start().unwrap();
        let topics = TopicNames {
            input: "user-login".to_owned(),
            processed: "processed-logins".to_owned(),
            insights: "login-insights".to_owned(),
            rejected: "rejected-logins".to_owned(),
        };
        for topic in [&topics.input, &topics.processed, &topics.insights, &topics.rejected] {
            broker.create_topic(topic, 1).unwrap();
        }
        let settings = Settings {
            kafka: broker.settings(),
            topics,
            group: "swap".to_owned(),
            instance: None,
            state_topics: None,
            start: StartPosition::Earliest,
            workers: 1,
            insight_every: 100,
            max_message_bytes: 1 << 20,
            source_headers: false,
            plugins_header: false,
            guarantee: Guarantee::AtLeastOnce,
            commit_interval: Duration::from_millis(100),
            drain_timeout: PATIENCE,
            limits: TopicLimits::for_messages(1 << 20),
            partitions: 1,
        };
        let (serving, telemetry) = (Arc::new(Serving::new(chain)), Arc::new(Telemetry::default()));
        let application = Application::start(&settings, &serving, Arc::clone(&telemetry)).unwrap();
        let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: usize::MAX };
        let swapper = Swapper {
            serving: Arc::clone(&serving),
            telemetry: Arc::clone(&telemetry),
            setting: Setting { topic: "user-login".into(), insight_every: 100, limits },
            tolerance: Tolerance { max_slowdown: f64::MAX, ..Tolerance::default() },
            probation: Duration::from_hours(1),
            turn: Mutex::default(),
            consent: RwLock::default(),
            tried: Mutex::default(),
        };
        let producer = Producer::new(&broker.settings(), ProducerOptions::default()).unwrap();
        Self { broker, producer, application, telemetry, serving, swapper, written: 0 }
    }

    /// Swaps, and waits until the worker has gone over: it may be waiting for messages meanwhile, and would judge those as before.
    fn swap(&self, new: &Chain) {
        self.swap_to(|_| Ok(new.plugins.clone()));
    }

    fn swap_to(&self, change: impl Fn(&[Plugin]) -> anyhow::Result<Vec<Plugin>>) {
        let swapped = self.swapper.swap(&Request::new("a test", "nobody"), change).unwrap();
        self.serving.board.wait_for(swapped.generation, || true).expect("the worker has ended");
    }

    /// Writes logins of these users.
    fn write<'u>(&mut self, users: impl IntoIterator<Item = &'u str>) {
        for user in users {
            let login = json!({ "user_id": user, "timestamp": 1_694_479_551, "ip": "198.51.100.7" }).to_string();
            let record = Record { topic: "user-login", payload: Some(login.as_bytes()), ..Record::default() };
            self.producer.send(&record, &|| false).unwrap();
            self.written += 1;
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    /// Writes logins of these users and waits until all were judged.
    fn judge<'u>(&mut self, users: impl IntoIterator<Item = &'u str>) {
        self.write(users);
        wait_until(
            "all logins to be judged",
            || format!("{:?}", self.telemetry.counts()),
            || (self.telemetry.messages() >= self.written).then_some(()),
        );
    }

    /// Ends it. Answers what was accepted, in its order.
    fn end(self) -> Vec<Value> {
        self.application.stop(PATIENCE).unwrap();
        let settings = self.broker.settings();
        let mut reader = Reader::open(&settings, "processed-logins", &ReadFrom::Beginning, PATIENCE).unwrap();
        let mut processed = Vec::new();
        loop {
            match reader.poll(10_000, Duration::from_millis(20)).unwrap() {
                Read::Batch(batch) => {
                    let values =
                        batch.iter().map(|message| serde_json::from_slice(message.payload().unwrap()).unwrap());
                    processed.extend(values);
                }
                Read::End => return processed,
                Read::Nothing => {}
            }
        }
    }
}

#[test]
fn a_plugin_that_fails_on_probation_is_rolled_back_and_nothing_of_its_batch_goes_out() {
    let mut running = Running::start(chain(json!({})));
    let ordinary: Vec<String> = (0..250).map(|number| format!("user-{}", number % 10)).collect();
    let ordinary = || ordinary.iter().map(String::as_str);
    running.judge(ordinary());
    let bad = chain(json!({ "how": "trap", "when_user": "poison", "role": "enricher" }));
    running.swap(&bad);
    assert_eq!(running.serving.load().number, 2);
    running.judge(ordinary().chain(["poison"]).chain(ordinary()));
    let counts = running.telemetry.counts();
    assert_eq!((counts.processed, counts.rejected_total(), counts.insights), (751, 0, 14), "{counts:?}");
    assert_eq!(counts.plugin_failures, 0, "what was thrown away isn't told");
    assert_eq!(running.serving.load().number, 3);
    assert!(running.serving.load().probation.is_none(), "what had served before isn't on probation");
    let refused = |to| running.swapper.roll_back(to, "somebody").unwrap_err().to_string();
    assert_eq!(refused(None), "there is no earlier generation to go back to", "least of all the one that failed");
    assert_eq!(refused(Some(2)), "generation 2 failed on its probation: deploy it to have it tried again");

    let processed = running.end();
    let mut logins: BTreeMap<&str, u64> = BTreeMap::new();
    for login in &processed {
        let user = login["user_id"].as_str().unwrap();
        let count = logins.entry(user).or_default();
        *count += 1;
        assert_eq!(login["user_logins"], json!(*count), "{login}");
    }
    assert_eq!((logins["poison"], logins["user-3"]), (1, 75));
}

#[test]
fn what_only_the_old_plugin_counts_is_complete_when_it_comes_back() {
    // The guest counts the logins of users only where it is told to.
    let mut running = Running::start(chain(json!({ "history": true })));
    running.judge(["a", "a", "b"]);
    running.swap(&chain(json!({ "how": "trap", "when_user": "poison" })));
    running.judge(["a", "b", "b"]);
    running.judge(["poison", "a", "b"]);
    running.judge(["a"]);
    let processed = running.end();
    let told: Vec<(&str, Option<u64>)> = processed
        .iter()
        .map(|login| (login["user_id"].as_str().unwrap(), login["guest_user_logins"].as_u64()))
        .collect();
    let expected = [
        ("a", Some(0)),
        ("a", Some(1)),
        ("b", Some(0)),
        ("a", None),
        ("b", None),
        ("b", None),
        ("poison", Some(0)),
        ("a", Some(3)),
        ("b", Some(3)),
        ("a", Some(4)),
    ];
    assert_eq!(told, expected);
}

/// Two files that are changed one after the other, the first of them badly.
#[test]
fn what_was_swapped_in_before_is_on_probation_still_when_something_else_is() {
    let mut running = Running::start(chain(json!({})));
    running.judge(["a", "b"]);
    running.swap(&chain(json!({ "how": "trap", "when_user": "poison", "role": "enricher" })));
    running.judge(["a"]);
    // The last of the others goes; the guest stays as it is.
    let without_summaries = |plugins: &[Plugin]| Ok(vec![plugins[0].clone(), plugins[1].clone(), plugins[3].clone()]);
    running.swap_to(without_summaries);
    assert_eq!(running.serving.load().number, 3);
    running.judge(["b"]);
    running.judge(["poison", "a"]);
    assert_eq!(running.serving.load().number, 4);
    assert_eq!(running.telemetry.counts().rejected_total(), 0);
    let told: Vec<Value> = running.end().iter().map(|login| login["user_logins"].clone()).collect();
    assert_eq!(told, [1, 1, 2, 2, 1, 3]);
}

/// The group has seen a file that holds what serves already.
#[test]
fn what_is_on_probation_stays_so_when_the_same_plugins_get_another_number() {
    let mut running = Running::start(chain(json!({})));
    running.judge(["a"]);
    running.swap(&chain(json!({ "how": "trap", "when_user": "poison", "role": "enricher" })));
    running.judge(["a"]);
    let plugins = running.serving.load().chain.plugins.clone();
    let cause = Cause::of_the_same("a file has changed", "nobody");
    running.swapper.take_over(3, (&plugins, &Aggregates::new()), &cause, false).unwrap();
    assert_eq!(running.serving.load().number, 3);
    running.judge(["poison", "a"]);
    assert_eq!(running.serving.load().number, 4, "it was rolled back");
    assert_eq!(running.telemetry.counts().rejected_total(), 0);
    let refused = running.swapper.roll_back(Some(2), "nobody").unwrap_err().reason;
    assert_eq!(refused, "generation 2 failed on its probation: deploy it to have it tried again");
    running.end();
}

#[test]
fn the_same_plugins_take_over_again_where_they_are_to_compute_more() {
    let running = Running::start(chain(json!({ "history": true })));
    let (serving, plugins) = (&running.serving, running.serving.load().chain.plugins.clone());
    let cause = Cause { what: "a test".to_owned(), by: "nobody".to_owned() };
    let take_over = |number, computed: &Aggregates| {
        running.swapper.take_over(number, (&plugins, computed), &cause, false).unwrap();
        Arc::clone(&serving.load())
    };
    let first = Arc::clone(&serving.load().chain);
    assert!(Arc::ptr_eq(&take_over(2, &Aggregates::new()).chain, &first));
    let computed = Aggregates::from([("misbehave".to_owned(), "guest-user-logins".to_owned())]);
    let third = take_over(3, &computed);
    assert_eq!((third.number, third.chain.backfilled()), (3, computed.clone()));
    assert!(Arc::ptr_eq(&take_over(3, &computed), &third), "once is enough");
    running.end();
}

#[test]
fn a_stopped_partition_goes_on_as_soon_as_other_plugins_serve_and_nothing_is_lost_or_doubled() {
    let bad = json!({ "how": "trap", "when_user": "poison", "role": "enricher" });
    let mut running = Running::start(chain_with(bad, &policy("misbehave", OnFailure::Stop)));
    let users: Vec<String> = (0..250).map(|number| format!("user-{}", number % 10)).collect();
    running.judge(users.iter().map(String::as_str));
    running.write(["poison"].into_iter().chain(users.iter().map(String::as_str)));
    let telemetry = Arc::clone(&running.telemetry);
    let why = wait_until(
        "the partition to be stopped",
        || format!("{:?}", telemetry.counts()),
        || telemetry.what_is_stopped(),
    );
    assert!(why.contains("partition 0 is stopped at offset 250: misbehave@0.1.0 fails on it: "), "{why}");
    let before = telemetry.counts();
    assert_eq!((before.processed, before.rejected_total()), (250, 0));
    wait_until("further tries", String::new, || {
        (telemetry.counts().plugin_failures > before.plugin_failures + 2).then_some(())
    });
    assert_eq!(telemetry.counts().processed, 250, "nothing of it or behind it goes out");
    running.swap(&chain(json!({})));
    running.judge([]);
    assert_eq!(telemetry.what_is_stopped(), None);
    let processed = running.end();
    let order: Vec<&str> = processed.iter().map(|login| login["user_id"].as_str().unwrap()).collect();
    let expected: Vec<&str> =
        users.iter().map(String::as_str).chain(["poison"]).chain(users.iter().map(String::as_str)).collect();
    assert_eq!(order, expected);
}
