//! The plugins of a group as those see them who run several instances: deployed once, they serve everywhere, also after restarts.

use std::fs;
use std::path::PathBuf;

use loginscope::control::group::memory::Memory;
use loginscope::control::group::records::{Key, PluginList, ProposalRecord, ProposalState, to_bytes};
use loginscope::control::group::topic::PluginsTopic;
use loginscope_kafka::OwnedRecord;
use loginscope_tests::control::{Control, TOKEN};
use loginscope_tests::guests::misbehave;
use loginscope_tests::instance::{Ended, Instance, PATIENCE, wait_until};
use loginscope_tests::kafka::{Message, Scene, cluster};
use loginscope_wasm::Digest;
use serde_json::json;
use tempfile::TempDir;

use super::{configuration, plugin_files, well_formed};

const GENERATION: &str = "loginscope_plugin_generation";

/// A folder with copies of the plugins that are inside, and a guest.
struct Files {
    folder: TempDir,
    paths: Vec<PathBuf>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = |file: PathBuf| {
            let copy = folder.path().join(file.file_name().unwrap());
            fs::copy(&file, &copy).unwrap();
            copy
        };
        let paths = plugin_files().into_iter().map(copy).collect();
        fs::write(folder.path().join("misbehave.wasm"), misbehave()).unwrap();
        Self { folder, paths }
    }

    fn guest(&self) -> String {
        self.folder.path().join("misbehave.wasm").to_str().unwrap().to_owned()
    }

    /// The configuration with this text.
    fn configuration(&self, name: &str, text: &str) -> String {
        let file = self.folder.path().join(name);
        fs::write(&file, format!("control_token = \"{TOKEN}\"\nworkers = 1\n{text}")).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn start(&self, scene: &Scene, name: &str, config: &str) -> Instance {
        let mut arguments = vec!["--config", config, "--instance", name];
        for path in &self.paths {
            arguments.extend(["--plugin", path.to_str().unwrap()]);
        }
        scene.run(&arguments)
    }
}

fn done(instance: &mut Instance, arguments: &[&str]) -> String {
    Control::when_ready(instance).done(arguments)
}

fn names(instance: &mut Instance) -> (u64, Vec<String>) {
    Control::when_ready(instance).names()
}

const THREE: [&str; 3] = ["validate-logins", "enrich-logins", "summarize-logins"];
const FOUR: [&str; 4] = ["validate-logins", "enrich-logins", "summarize-logins", "misbehave"];

fn end(mut instance: Instance) {
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
}

#[test]
fn what_is_deployed_on_one_serves_on_all_and_after_restarts_until_a_path_changes() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "plugins-of-two", 2);
    let files = Files::new();
    let config = files.configuration("loginscope.toml", "");
    scene.write(&well_formed(500, 1));
    let mut one = files.start(&scene, "one", &config);
    one.metric_reaches("loginscope_logins_processed_total", 500);
    let is_of_instance = |record: &OwnedRecord| {
        ["instance/", "place/"].iter().any(|key| record.key.as_ref().unwrap().starts_with(key.as_bytes()))
    };
    assert!(scene.all(&scene.plugins).iter().all(is_of_instance), "nothing was agreed on");
    let mut two = files.start(&scene, "two", &config);
    two.line_with("partition assigned");
    assert_eq!(names(&mut two), (1, THREE.map(str::to_owned).to_vec()));

    done(&mut one, &["deploy", &files.guest()]);
    two.metric_reaches(GENERATION, 2);
    for instance in [&mut one, &mut two] {
        assert_eq!(names(instance), (2, FOUR.map(str::to_owned).to_vec()));
    }
    end(one);
    end(two);
    let mut one = files.start(&scene, "one", &config);
    let line = one.line_with("(deployment by ");
    assert!(line.contains("plugin misbehave@0.1.0 is sha256:"), "{line}");
    assert!(line.ends_with(", generation 2)"), "{line}");
    assert_eq!(names(&mut one), (2, FOUR.map(str::to_owned).to_vec()));
    assert!(done(&mut one, &["history"]).contains("the start"), "what was before the restart is told as well");

    // Back to what the first instance was started with, which this one never was.
    done(&mut one, &["rollback", "--to", "1"]);
    assert_eq!(names(&mut one), (3, THREE.map(str::to_owned).to_vec()));
    end(one);
    // Another plugin in the place of one that was there then.
    fs::copy(files.guest(), &files.paths[2]).unwrap();
    let mut one = files.start(&scene, "one", &config);
    one.line_with("summarize_logins.wasm, which changed since)");
    let without = ["validate-logins", "enrich-logins", "misbehave"].map(str::to_owned).to_vec();
    assert_eq!(names(&mut one), (4, without.clone()));
    end(one);
    let mut one = files.start(&scene, "one", &config);
    assert_eq!(names(&mut one), (4, without));
    end(one);
    // Whoever goes by its paths alone.
    let config = files.configuration("paths.toml", "plugins_from = \"paths\"\n");
    let mut one = files.start(&scene, "one", &config);
    one.line_with("misbehave@0.1.0 is sha256:");
    assert_eq!(names(&mut one).0, 1);
    end(one);
}

#[test]
fn where_one_instance_refuses_a_plugin_no_other_one_has_it() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "plugins-refused", 2);
    let files = Files::new();
    let config = files.configuration("loginscope.toml", "");
    let pinned = format!("[policy.misbehave]\ndigest = \"{}\"\n", Digest::of(b"another"));
    let pinned = files.configuration("pinned.toml", &pinned);
    scene.write(&well_formed(500, 2));
    let mut one = files.start(&scene, "one", &config);
    let mut two = files.start(&scene, "two", &pinned);
    two.line_with("partition assigned");
    let Ended { code, log, .. } = Control::when_ready(&mut one).plugin(&["deploy", &files.guest()]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("two refused it: ") && log.contains("misbehave"), "{log}");
    for instance in [&mut one, &mut two] {
        assert_eq!(names(instance).1, THREE.map(str::to_owned).to_vec());
    }
    end(one);
    end(two);
}

#[test]
fn a_plugin_that_one_instance_rolls_back_in_its_probation_serves_nowhere() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "plugins-rolled-back", 2);
    let files = Files::new();
    let config = files.configuration("loginscope.toml", "");
    let settings = files.folder.path().join("settings.json");
    fs::write(&settings, r#"{"how": "trap", "when_user": "poison", "role": "enricher"}"#).unwrap();
    scene.write(&well_formed(500, 4));
    let mut one = files.start(&scene, "one", &config);
    let mut two = files.start(&scene, "two", &config);
    two.line_with("partition assigned");
    done(&mut one, &["deploy", &files.guest(), "--settings", settings.to_str().unwrap()]);
    two.metric_reaches(GENERATION, 2);

    let login = json!({ "user_id": "poison", "timestamp": 1_694_479_551, "ip": "198.51.100.7" }).to_string();
    let poison = Message { key: Some("poison".to_owned()), value: login.into_bytes(), ..Message::default() };
    // A worker that waits for messages may judge the first ones with the plugins before.
    wait_until("a roll-back", String::new, || {
        scene.write(std::slice::from_ref(&poison));
        (two.metric(GENERATION) >= 3).then_some(())
    });
    for instance in [&mut one, &mut two] {
        instance.metric_reaches(GENERATION, 3);
        assert_eq!(names(instance), (3, THREE.map(str::to_owned).to_vec()));
        assert!(done(instance, &["history"]).contains("rolled back: misbehave@0.1.0 has failed"));
        let Ended { log, .. } = Control::when_ready(instance).plugin(&["rollback", "--to", "2"]);
        assert!(log.contains("generation 2 failed on its probation"), "{log}");
    }
    let mut outputs = scene.outputs();
    outputs.wait_for(scene.written());
    end(one);
    end(two);
}

/// The other one doesn't answer meanwhile, so that the proposal is open when whoever made it is killed.
#[test]
fn a_proposer_that_is_killed_leaves_the_others_as_they_were() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "plugins-proposer-killed", 2);
    let files = Files::new();
    let config = files.configuration("loginscope.toml", "[kafka]\nsession.timeout.ms = 30000\n");
    scene.write(&well_formed(500, 3));
    let mut one = files.start(&scene, "one", &config);
    let mut two = files.start(&scene, "two", &config);
    two.line_with("partition assigned");
    done(&mut one, &["deploy", &files.guest()]);
    two.metric_reaches(GENERATION, 2);
    two.signal("STOP");
    let control = Control::of(&mut one);
    let removing = std::thread::spawn(move || control.plugin(&["remove", "misbehave"]));
    let before = 3;
    wait_until("a proposal", String::new, || {
        let proposals = scene.all(&scene.plugins);
        let proposed = proposals.iter().filter(|it| it.key.as_ref().unwrap().starts_with(b"proposal/"));
        (proposed.filter(|it| it.payload.is_some()).count() >= before).then_some(())
    });
    one.signal("KILL");
    one.ended();
    assert_eq!(removing.join().unwrap().code, Some(1));
    two.signal("CONT");
    assert_eq!(names(&mut two), (2, FOUR.map(str::to_owned).to_vec()));
    // The proposal is out of the way after its time.
    done(&mut two, &["remove", "misbehave"]);
    assert_eq!(names(&mut two), (3, THREE.map(str::to_owned).to_vec()));
    end(two);
}

/// The same plugin in other bytes: with a section more, which means nothing.
fn rebuilt(component: &[u8]) -> Vec<u8> {
    [component, b"\0\x05\x04test"].concat()
}

fn digests(instance: &mut Instance) -> (u64, Vec<String>) {
    let plugins = Control::when_ready(instance).plugins();
    let digest = |plugin: &serde_json::Value| plugin["digest"].as_str().unwrap().to_owned();
    let digests = plugins["plugins"].as_array().unwrap().iter().map(digest).collect();
    (plugins["generation"].as_u64().unwrap(), digests)
}

#[test]
fn a_rolling_update_of_the_files_ends_with_the_new_ones_and_goes_back_only_where_they_are_put_back() {
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "plugins-rolling", 2);
    let (of_one, of_two) = (Files::new(), Files::new());
    let config = of_one.configuration("loginscope.toml", "");
    scene.write(&well_formed(500, 5));
    let mut one = of_one.start(&scene, "one", &config);
    let mut two = of_two.start(&scene, "two", &config);
    done(&mut two, &["deploy", &of_two.guest()]);
    one.metric_reaches(GENERATION, 2);

    let old = fs::read(&of_one.paths[1]).unwrap();
    let new = rebuilt(&old);
    end(one);
    fs::write(&of_one.paths[1], &new).unwrap();
    let mut one = of_one.start(&scene, "one", &config);
    one.line_with("enrich_logins.wasm, which changed since)");
    let updated = digests(&mut one);
    assert_eq!((updated.0, &updated.1[1]), (3, &Digest::of(&new).to_string()));
    // The other one still has the old file. Something is deployed, and it restarts.
    done(&mut two, &["remove", "misbehave"]);
    end(two);
    let mut two = of_two.start(&scene, "two", &config);
    two.line_with("which is older than what the group has");
    assert_eq!(names(&mut two), (4, THREE.map(str::to_owned).to_vec()));
    assert_eq!(digests(&mut two).1[1], updated.1[1]);
    end(two);
    fs::write(&of_two.paths[1], &new).unwrap();
    let mut two = of_two.start(&scene, "two", &config);
    assert_eq!(digests(&mut two).0, 4, "it has been so before");
    // Put back on one, it serves on both, though the other one still has the new file when it restarts.
    end(one);
    fs::write(&of_one.paths[1], &old).unwrap();
    let mut one = of_one.start(&scene, "one", &config);
    let back = digests(&mut one);
    assert_eq!((back.0, &back.1[1]), (5, &Digest::of(&old).to_string()));
    end(two);
    let mut two = of_two.start(&scene, "two", &config);
    assert_eq!(digests(&mut two), back);
    end(one);
    end(two);
}

#[test]
fn settings_may_be_for_a_plugin_that_only_the_group_has() {
    let mut kafka = cluster();
    let scene = Scene::new(&mut kafka, "plugins-settings", 1);
    let files = Files::new();
    let without = files.configuration("without.toml", "");
    let with = files.configuration("with.toml", "[misbehave]\nhistory = true\n");
    let mut one = files.start(&scene, "one", &with);
    assert_eq!(one.ended().code(), Some(2), "{}", one.log());
    assert!(one.log().contains("there is no plugin misbehave, so it can't have settings"), "{}", one.log());
    let mut one = files.start(&scene, "one", &without);
    done(&mut one, &["deploy", &files.guest()]);
    end(one);
    let mut one = files.start(&scene, "one", &with);
    let plugins = Control::when_ready(&mut one).plugins();
    assert_eq!((&plugins["generation"], &plugins["plugins"][3]["settings"]), (&json!(3), &json!({ "history": true })));
    // Also where it has gone.
    done(&mut one, &["remove", "misbehave"]);
    end(one);
    let mut one = files.start(&scene, "one", &with);
    assert_eq!(names(&mut one), (4, THREE.map(str::to_owned).to_vec()));
    end(one);
}

#[test]
fn a_topic_that_would_lose_plugins_is_not_taken_and_one_that_is_missing_is_named() {
    let mut kafka = cluster();
    let scene = Scene::new(&mut kafka, "plugins-topic", 1);
    kafka.create_topic(&scene.plugins, 1, &[("cleanup.policy", "delete")]).unwrap();
    let mut instance = scene.run(&[]);
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    let sentence =
        format!("the topic {} has cleanup.policy=delete, by which plugins that serve would be deleted", scene.plugins);
    assert!(instance.log().contains(&sentence) && instance.log().contains("kafka-configs.sh"), "{}", instance.log());
    drop(instance);
    kafka.delete_topic(&scene.plugins).unwrap();
    let (_folder, config) = configuration("create_topics = false\n");
    let mut instance = scene.run(&["--config", &config]);
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    let sentence = format!("kafka-topics.sh --create --topic {} --partitions 1", scene.plugins);
    assert!(instance.log().contains(&sentence) && instance.log().contains("plugins_from"), "{}", instance.log());
}

/// It waits for a proposal of which nothing more comes.
#[test]
fn a_start_that_waits_for_others_ends_by_a_signal() {
    let mut kafka = cluster();
    let scene = Scene::new(&mut kafka, "plugins-start-signal", 1);
    let files = Files::new();
    let config = files.configuration("loginscope.toml", "");
    let mut one = files.start(&scene, "one", &config);
    done(&mut one, &["deploy", &files.guest()]);
    end(one);
    let topic = PluginsTopic::open(&scene.settings, &scene.plugins, PATIENCE).unwrap();
    let mut killed = topic.writer().unwrap();
    let list = PluginList {
        plugins: Vec::new(),
        memory: Memory::default(),
        by: "ann".to_owned(),
        what: "something".to_owned(),
    };
    let record = ProposalRecord { base: 2, proposer: "dead".to_owned(), state: ProposalState::Open(list) };
    let open = to_bytes(&record).unwrap();
    killed.write(&Key::Proposal("x".to_owned()), Some(&open), PATIENCE).unwrap();
    killed.flush(PATIENCE).unwrap();
    fs::write(&files.paths[1], rebuilt(&fs::read(&files.paths[1]).unwrap())).unwrap();
    let mut one = files.start(&scene, "one", &config);
    one.line_with("waiting until it is decided what dead has proposed: something");
    end(one);
    let records = scene.all(&scene.plugins);
    let newest = records.iter().rfind(|record| record.key.as_deref() == Some(b"proposal/x")).unwrap();
    assert_eq!(newest.payload.as_deref(), Some(&open[..]), "its time was not over");
}
