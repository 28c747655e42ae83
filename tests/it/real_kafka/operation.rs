//! What the one who runs it sees: warnings, metrics, exit status, plugins swapped under load.

use std::fs;
use std::path::Path;

use loginscope_tests::guests;
use loginscope_tests::instance::{Instance, wait_until};
use loginscope_tests::kafka::{Scene, cluster, quick};
use xtask::kafka::Kafka;

use super::{plugin_files, well_formed};

#[test]
fn an_unkeyed_topic_with_several_partitions_is_warned_of_once_and_counted() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "unkeyed", 4);
    let mut messages = well_formed(2000, 11);
    for (partition, message) in (0..4).cycle().zip(&mut messages) {
        message.partition = Some(partition);
        // Every fourth is keyed as it should be.
        message.key = message.key.take().filter(|_| partition == 0);
    }
    let (keyed, unkeyed) = messages.into_iter().partition::<Vec<_>, _>(|message| message.key.is_some());
    scene.write(&unkeyed);
    let mut instance = scene.run_with_partitions(&["--workers", "2"]);
    let mut outputs = scene.outputs();
    outputs.wait_for(1500);
    // What comes now is known to be partial by what the other partitions have committed.
    scene.write(&keyed);
    outputs.wait_for(2000);
    instance.metric_reaches("loginscope_logins_processed_total", 2000);
    assert_eq!(instance.metric("loginscope_unkeyed_logins_total"), 1500);
    instance.line_with("is not keyed by user_id");
    assert!(instance.get("/readyz").ends_with("ready\n"));
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    assert_eq!(instance.lines_with("is not keyed by user_id"), 1);
    assert!(
        partial(&scene).iter().all(|is_partial| *is_partial),
        "what is told per user is partial, and insights say so"
    );
    assert!(!instance.log().contains('\u{1b}'), "a log that goes to no terminal has no colours");
}

#[test]
fn how_near_each_plugin_comes_to_its_limits_is_in_the_metrics_of_its_worker() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "usage", 1);
    scene.write(&well_formed(500, 15));
    let mut instance = scene.run(&["--workers", "1"]);
    for plugin in ["validate-logins", "enrich-logins", "summarize-logins"] {
        let metric = |name: &str| format!("loginscope_plugin_{name}{{plugin=\"{plugin}\",worker=\"0\"}}");
        instance.metric_reaches(&metric("memory_bytes"), 1 << 16);
        assert_eq!(instance.metric(&metric("memory_limit_bytes")), 64 << 20, "{plugin}");
        assert_eq!(instance.metric(&metric("answer_limit_bytes")), 64 << 20, "{plugin}");
        let share = format!("{} 0.", metric("call_cpu_seconds"));
        let limit = format!("{} 0.", metric("call_cpu_limit_seconds"));
        let told = instance.get("/metrics");
        let has = |begin: &str| told.lines().any(|line| line.starts_with(begin));
        assert!(has(&share) && has(&limit), "{told}");
        instance.line_with(&format!("plugin {plugin}@0.1.0 is sha256:"));
    }
    assert!(instance.metric("loginscope_plugin_answer_bytes{plugin=\"enrich-logins\",worker=\"0\"}") > 0);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
}

#[test]
fn a_keyed_topic_is_not_warned_of() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "keyed", 4);
    scene.write(&well_formed(500, 12));
    let mut instance = scene.run_with_partitions(&["--workers", "2"]);
    instance.metric_reaches("loginscope_logins_processed_total", 500);
    assert_eq!(instance.metric("loginscope_unkeyed_logins_total"), 0);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    assert_eq!(instance.lines_with("is not keyed by user_id"), 0);
    assert!(partial(&scene).iter().all(|is_partial| !is_partial));
}

/// Of each insight, whether it says that it is partial. There are some.
fn partial(scene: &Scene) -> Vec<bool> {
    let insights = scene.all(&scene.insights);
    assert!(!insights.is_empty());
    let is_partial = |value: &[u8]| {
        let insight: serde_json::Value = serde_json::from_slice(value).unwrap();
        insight.get("partial").is_some_and(|partial| *partial == true)
    };
    insights.iter().map(|record| is_partial(record.payload.as_ref().unwrap())).collect()
}

#[test]
fn a_process_that_takes_more_memory_than_it_may_ends_with_what_to_do_and_loses_nothing() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "memory", 1);
    scene.write(&well_formed(500, 13));
    let mut small = scene.run(&["--memory-limit", "16MiB"]);
    assert_eq!(small.ended().code(), Some(1), "{}", small.log());
    let words = small.log().lines().last().unwrap().to_owned();
    assert!(words.starts_with("loginscope: the process takes "), "{words}");
    assert!(words.contains("its limit is 16.0 MiB: start more instances"), "{words}");
    let mut outputs = scene.outputs();
    let mut instance = scene.run_with_partitions(&["--memory-limit", "64GiB"]);
    outputs.wait_for(scene.written());
    assert_eq!(instance.metric("loginscope_memory_limit_bytes"), 64 << 30);
    assert!(instance.metric("loginscope_memory_bytes") > 16 << 20);
    let has_keys = |line: &str| line.starts_with("loginscope_state_keys{") && !line.ends_with(" 0");
    wait_until("the keys of the state", String::new, || {
        instance.get("/metrics").lines().find(|line| has_keys(line)).map(drop)
    });
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(scene.written());
    assert_eq!(outputs.repeated(), [0_u64; 0]);
}

/// A member that went without a word would be waited for until its session runs out, longer than this test waits for anything.
#[test]
fn workers_without_a_partition_leave_the_group_too_so_that_a_restart_goes_on_at_once() {
    let mut kafka = cluster();
    let scene = Scene::new(&mut kafka, "idle-workers", 1);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("loginscope.toml");
    fs::write(&config, "[kafka]\nsession.timeout.ms = 250000\n").unwrap();
    for _ in 0..3 {
        let mut instance = scene.run_with_partitions(&["--workers", "3", "--config", config.to_str().unwrap()]);
        assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    }
}

/// As a single broker is that nobody has set up for that.
#[test]
fn where_brokers_can_have_no_transactions_it_says_what_they_lack() {
    let _alone = cluster();
    let mut kafka = Kafka::start(quick().property("transaction.state.log.replication.factor", "3")).unwrap();
    let scene = Scene::new(&mut kafka, "no-transactions", 1);
    let mut instance = scene.run(&[]);
    instance.line_with("transaction.state.log.replication.factor");
    // Nothing was begun, so there is nothing to drain.
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
}

/// The last thing it says is one sentence on one line.
fn last_words(instance: &Instance) -> String {
    let log = instance.log();
    assert_eq!(log.lines().filter(|line| line.starts_with("loginscope: ")).count(), 1, "{log}");
    log.lines().last().unwrap().to_owned()
}

#[test]
fn without_a_broker_it_ends_with_status_1_and_names_the_address() {
    let port = xtask::kafka::free_ports(1).unwrap()[0];
    let brokers = format!("127.0.0.1:{port}");
    let mut instance = Instance::start(["run", "--brokers", &brokers, "--listen", "127.0.0.1:0"]);
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    let words = last_words(&instance);
    assert!(words.starts_with("loginscope: ") && words.contains(&brokers), "{words}");
}

#[test]
fn a_configuration_that_cannot_be_used_ends_it_with_status_2_and_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("loginscope.toml");
    for (text, expected) in [
        ("workers = 0\n", ["workers", "1 to 256"]),
        ("insigth_every = 5\n", ["insigth_every", "insight_every"]),
        ("commit_interval = \"soon\"\n", ["commit_interval", "100ms"]),
        ("[kafka]\n\"no.such.property\" = 1\n", ["no.such.property", "kafka"]),
        ("[no-such-plugin]\nanswer = 42\n", ["no-such-plugin", "validate-logins"]),
    ] {
        fs::write(&config, text).unwrap();
        let mut instance = Instance::start(["run", "--brokers", "127.0.0.1:1", "--config", config.to_str().unwrap()]);
        assert_eq!(instance.ended().code(), Some(2), "{text}{}", instance.log());
        let words = last_words(&instance);
        assert!(expected.iter().all(|part| words.to_lowercase().contains(part)), "{text}{words}");
    }
}

/// Puts a file in another's place at once, as a careful build does.
fn replace(file: &Path, content: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn plugins_are_swapped_under_load_and_a_bad_one_is_refused_without_losing_a_login() {
    const SWAPS: &str = "loginscope_plugin_swaps_total";
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "watch", 4);
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["--watch".to_owned(), "--workers".to_owned(), "2".to_owned()];
    let mut copies = Vec::new();
    for file in plugin_files() {
        let copy = folder.path().join(file.file_name().unwrap());
        fs::copy(&file, &copy)
            .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask plugins` builds it", file.display()));
        arguments.extend(["--plugin".to_owned(), copy.to_str().unwrap().to_owned()]);
        copies.push(copy);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut instance = scene.run_with_partitions(&arguments);
    let mut outputs = scene.outputs();
    let load = well_formed(500, 13);
    let mut write_until = |what: &str, metric: &str, instance: &mut Instance| {
        wait_until(what, String::new, || {
            scene.write(&load);
            (instance.metric(metric) >= 1).then_some(())
        });
        scene.write(&load);
        scene.written()
    };

    let good = fs::read(&copies[0]).unwrap();
    replace(&copies[0], &good[..good.len() / 2]);
    let refused = format!("{SWAPS}{{outcome=\"refused\"}}");
    let done = format!("{SWAPS}{{outcome=\"done\"}}");
    let written = write_until("half a plugin to be refused", &refused, &mut instance);
    outputs.wait_for(written);
    assert_eq!(instance.metric(&done), 0);
    assert!(outputs.rejected.records.is_empty());

    // In the validator's place comes another plugin, which also adds a field of its own.
    replace(&copies[0], guests::misbehave());
    let written = write_until("another plugin to be swapped in", &done, &mut instance);
    outputs.wait_for(written);
    instance.line_with("plugins swapped: misbehave@0.1.0");
    assert_eq!(instance.metric("loginscope_plugin_generation"), 2);
    assert_eq!(instance.metric(&refused), 1);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(written);
    assert_eq!(outputs.repeated(), [0_u64; 0]);

    let by_the_new_one = |record: &&loginscope_kafka::OwnedRecord| {
        String::from_utf8_lossy(record.payload.as_ref().unwrap()).contains("\"guest_user_bytes\"")
    };
    let taken = outputs.processed.records.iter().filter(by_the_new_one).count();
    assert!(taken > 0 && taken < outputs.processed.records.len(), "{taken} of {}", outputs.processed.records.len());
}
