//! A Kafka that asks who one is and allows no more than it must. What is allowed here is what the README lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use loginscope::generator::Options;
use loginscope_kafka::{MessageLimit, Topics};
use loginscope_tests::instance::wait_until;
use loginscope_tests::kafka::{MUTUAL_TLS, PASSWORD, SASL, Scene, cluster, logins, new_user};
use xtask::kafka::{Kafka, Operation, Resource};

/// A right that somebody may have.
type Right<'a> = (Operation, Resource<'a>);

/// A user of the listener with passwords.
struct User {
    name: String,
    config: PathBuf,
}

impl User {
    /// A user who may do this and nothing else.
    fn new(kafka: &mut Kafka, folder: &Path, rights: &[Right<'_>]) -> Self {
        let name = new_user();
        for (operation, resource) in rights {
            kafka.allow(&format!("User:{name}"), *operation, *resource).unwrap();
        }
        let user = Self { config: folder.join(format!("{name}.toml")), name };
        user.configure(kafka, folder, PASSWORD, "");
        user
    }

    fn configure(&self, kafka: &Kafka, folder: &Path, password: &str, more: &str) {
        let secret = folder.join(format!("{}.password", self.name));
        fs::write(&secret, format!("{password}\n")).unwrap();
        let (secret, authority) = (text(&secret), text(&kafka.certificates().unwrap().authority()));
        let text = format!(
            "[kafka]\nsecurity.protocol = \"SASL_SSL\"\nsasl.mechanism = \"SCRAM-SHA-512\"\nsasl.username = \"{}\"\n\
             sasl.password_file = {secret:?}\nssl.ca.location = {authority:?}\n{more}",
            self.name
        );
        fs::write(&self.config, text).unwrap();
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// What `loginscope run` is allowed to do where all topics exist.
fn rights_to_run(scene: &Scene) -> Vec<Right<'_>> {
    let mut rights = rights_to_run_at_least_once(scene);
    rights.push((Operation::Write, Resource::TransactionalIdPrefix(&scene.group)));
    rights
}

fn rights_to_run_at_least_once(scene: &Scene) -> Vec<Right<'_>> {
    vec![
        (Operation::Read, Resource::Topic(&scene.input)),
        (Operation::Read, Resource::Group(&scene.group)),
        (Operation::Write, Resource::Topic(&scene.processed)),
        (Operation::Write, Resource::Topic(&scene.insights)),
        (Operation::Write, Resource::Topic(&scene.rejected)),
        (Operation::DescribeConfigs, Resource::Topic(&scene.processed)),
        (Operation::DescribeConfigs, Resource::Topic(&scene.insights)),
        (Operation::DescribeConfigs, Resource::Topic(&scene.rejected)),
        (Operation::Read, Resource::Topic(&scene.changelog)),
        (Operation::Write, Resource::Topic(&scene.changelog)),
        (Operation::DescribeConfigs, Resource::Topic(&scene.changelog)),
        (Operation::Read, Resource::Topic(&scene.plugins)),
        (Operation::Write, Resource::Topic(&scene.plugins)),
        (Operation::DescribeConfigs, Resource::Topic(&scene.plugins)),
    ]
}

/// Runs a command to its end.
fn loginscope(arguments: &[&str]) -> Output {
    let output = Command::new(loginscope_tests::binary()).args(arguments).output().unwrap();
    assert!(!said(&output).contains(PASSWORD));
    output
}

/// What a command wrote to standard error.
fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The codecs of the batches in a topic's only partition: the low three bits of their attributes. Markers of transactions have none.
fn codecs(kafka: &Kafka, topic: &str) -> Vec<u8> {
    const ZSTD_OR_OTHER: u8 = 7;
    const IS_MARKER: u8 = 1 << 5;
    let log = kafka.log(1).with_file_name("data").join(format!("{topic}-0/00000000000000000000.log"));
    let bytes = fs::read(log).unwrap();
    let mut codecs = Vec::new();
    let mut rest = bytes.as_slice();
    // base offset, batch length, leader epoch, magic, checksum, attributes
    while let Some((length, attributes)) = rest.get(8..12).zip(rest.get(22)) {
        if attributes & IS_MARKER == 0 {
            codecs.push(attributes & ZSTD_OR_OTHER);
        }
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        rest = rest.get(12 + length..).unwrap_or_default();
    }
    codecs
}

#[test]
fn with_no_more_than_the_rights_in_the_readme_everything_works_compressed_and_encrypted() {
    const ZSTD: u8 = 4;
    let mut kafka = cluster();
    let folder = tempfile::tempdir().unwrap();
    let brokers = kafka.addresses(SASL).unwrap();
    let scene = Scene::new(&mut kafka, "secured", 1);
    let compressed = "compression.type = \"zstd\"\n";

    let writer = User::new(&mut kafka, folder.path(), &[(Operation::Write, Resource::Topic(&scene.input))]);
    writer.configure(&kafka, folder.path(), PASSWORD, compressed);
    let output = loginscope(&[
        "generate",
        "--brokers",
        &brokers,
        "--config",
        writer.config(),
        "--topic",
        &scene.input,
        "--count",
        "1000",
        "--malformed",
        "0.1",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(codecs(&kafka, &scene.input).iter().all(|codec| *codec == ZSTD));

    let mut rights = rights_to_run(&scene);
    let outputs = [&scene.processed, &scene.insights, &scene.rejected, &scene.changelog];
    rights.extend(outputs.iter().map(|topic| (Operation::Create, Resource::Topic(topic))));
    rights.push((Operation::Create, Resource::Topic(&scene.plugins)));
    let runner = User::new(&mut kafka, folder.path(), &rights);
    runner.configure(&kafka, folder.path(), PASSWORD, compressed);
    let mut instance = scene.run_at(&brokers, &["--workers", "1", "--config", runner.config()]);
    instance.line_with("partition assigned");
    let ended = || scene.all(&scene.processed).len() + scene.all(&scene.rejected).len();
    wait_until("all logins", || instance.log().clone(), || (ended() == 1000).then_some(()));
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    assert!(!instance.log().contains("WARN") && !instance.log().contains(PASSWORD), "{}", instance.log());
    assert!(!scene.all(&scene.insights).is_empty() && !scene.all(&scene.rejected).is_empty());
    assert!(codecs(&kafka, &scene.processed).iter().all(|codec| *codec == ZSTD));
    let topics = Topics::connect(&scene.settings, Duration::from_secs(30)).unwrap();
    let limits = topics.message_limits(&outputs.map(String::as_str)).unwrap();
    assert_eq!(limits, vec![MessageLimit::Known((1 << 20) + (64 << 10)); 4], "as large as promised");

    let reader = User::new(&mut kafka, folder.path(), &[(Operation::Read, Resource::Topic(&scene.processed))]);
    let output = loginscope(&[
        "tail",
        &scene.processed,
        "--brokers",
        &brokers,
        "--config",
        reader.config(),
        "-n",
        "7",
        "--json",
    ]);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count(), 7);
    look_with_check(&mut kafka, folder.path(), &scene);
}

/// `check` sees everything with the right to read the input and to look at the outputs.
fn look_with_check(kafka: &mut Kafka, folder: &Path, scene: &Scene) {
    let brokers = kafka.addresses(SASL).unwrap();
    let mut rights = vec![(Operation::Read, Resource::Topic(&scene.input))];
    for topic in [&scene.processed, &scene.insights, &scene.rejected] {
        rights.push((Operation::Describe, Resource::Topic(topic)));
        rights.push((Operation::DescribeConfigs, Resource::Topic(topic)));
    }
    let user = User::new(kafka, folder, &rights);
    let (processed, insights, rejected) = (&scene.processed, &scene.insights, &scene.rejected);
    let topics = format!(
        "processed_topic = {processed:?}\ninsights_topic = {insights:?}\nrejected_topic = {rejected:?}\n{}",
        fs::read_to_string(&user.config).unwrap()
    );
    fs::write(&user.config, topics).unwrap();
    let output =
        loginscope(&["check", "--brokers", &brokers, "--config", user.config(), "--input-topic", &scene.input]);
    let report = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(report.contains("not_json") && report.contains("1114112"), "{report}");
}

#[test]
fn without_one_of_its_rights_a_run_ends_with_one_sentence_that_names_it() {
    let mut kafka = cluster();
    let folder = tempfile::tempdir().unwrap();
    let brokers = kafka.addresses(SASL).unwrap();
    let mut scene = Scene::new(&mut kafka, "rights", 1);
    scene.write(&logins(300, Options { malformed: 0.1, ..Options::default() }));
    scene.create_topics(&mut kafka);
    let all = rights_to_run(&scene);
    let is_needed = |(operation, resource): &&Right<'_>| {
        *operation != Operation::DescribeConfigs && !matches!(resource, Resource::TransactionalIdPrefix(_))
    };
    for missing in all.iter().filter(is_needed) {
        let (Resource::Topic(resource) | Resource::Group(resource)) = missing.1 else { panic!("{missing:?}") };
        // Without any right on it, and with that to see that it is there.
        for instead in [None, Some((Operation::Describe, missing.1))] {
            let others = all.iter().copied().filter(|right| right != missing);
            let user = User::new(&mut kafka, folder.path(), &others.chain(instead).collect::<Vec<_>>());
            println!("without {missing:?}, but with {instead:?}");
            let mut instance = scene.run_at(&brokers, &["--config", user.config()]);
            assert_eq!(instance.ended().code(), Some(1), "{missing:?} {}", instance.log());
            let log = instance.log();
            let words = log.lines().last().unwrap();
            let right = match missing.1 {
                // Of these, it has the other right, which includes that.
                Resource::Topic(topic) if instead.is_none() && topic != scene.changelog && topic != scene.plugins => {
                    "the right Describe on the topic, which Read and Write include".to_owned()
                }
                _ => format!("the right {:?} on the", missing.0),
            };
            assert!(words.starts_with("loginscope: not allowed to "), "{words}");
            assert!(words.contains(&format!("{resource:?}")) && words.contains(&right), "{missing:?} {words}");
            assert!(log.lines().count() < 20, "a flood: {log}");
        }
    }
}

#[test]
fn exactly_once_takes_the_right_to_write_with_ids_that_begin_with_the_group() {
    let mut kafka = cluster();
    let folder = tempfile::tempdir().unwrap();
    let brokers = kafka.addresses(SASL).unwrap();
    let mut scene = Scene::new(&mut kafka, "rights-once", 1);
    scene.write(&logins(300, Options { malformed: 0.1, ..Options::default() }));
    scene.create_topics(&mut kafka);
    let ids = format!("{}-", scene.group);
    let without = rights_to_run_at_least_once(&scene);
    let with = [&without[..], &[(Operation::Write, Resource::TransactionalIdPrefix(&ids))]].concat();

    let user = User::new(&mut kafka, folder.path(), &without);
    let mut instance = scene.run_at(&brokers, &["--config", user.config()]);
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    let words = instance.log().lines().last().unwrap().to_owned();
    assert!(words.starts_with("loginscope: not allowed to use the transactional id"), "{words}");
    assert!(words.contains("the right Write on the transactional id"), "{words}");

    let user = User::new(&mut kafka, folder.path(), &with);
    let mut instance = scene.run_at(&brokers, &["--config", user.config()]);
    let mut outputs = scene.outputs();
    outputs.wait_for(scene.written());
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.assert_complete(scene.written());
    assert!(outputs.repeated().is_empty());
}

#[test]
fn without_the_right_to_read_their_settings_topics_are_taken_to_take_1_mib() {
    let mut kafka = cluster();
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(&mut kafka, "no-settings", 1);
    scene.write(&logins(100, Options::default()));
    scene.create_topics(&mut kafka);
    let rights: Vec<_> =
        rights_to_run(&scene).into_iter().filter(|(operation, _)| *operation != Operation::DescribeConfigs).collect();
    let user = User::new(&mut kafka, folder.path(), &rights);
    let mut instance = scene.run_at(&kafka.addresses(SASL).unwrap(), &["--config", user.config()]);
    let mut outputs = scene.outputs();
    outputs.wait_for(scene.written());
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    assert_eq!(instance.lines_with("1 MiB is assumed"), 4);
}

#[test]
fn without_the_right_to_create_topics_those_that_are_missing_are_named() {
    let mut kafka = cluster();
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(&mut kafka, "no-create", 1);
    let user = User::new(&mut kafka, folder.path(), &rights_to_run(&scene));
    let brokers = kafka.addresses(SASL).unwrap();
    let mut instance = scene.run_at(&brokers, &["--config", user.config()]);
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    let words = instance.log().lines().last().unwrap().to_owned();
    assert!(words.contains(&format!("not allowed to create the topic {:?}", scene.processed)), "{words}");
    assert!(words.contains("the right Create on the"), "{words}");

    user.configure(&kafka, folder.path(), PASSWORD, "");
    let text = fs::read_to_string(&user.config).unwrap();
    fs::write(&user.config, format!("create_topics = false\n{text}")).unwrap();
    let mut instance = scene.run_at(&brokers, &["--config", user.config()]);
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    let words = instance.log().lines().last().unwrap().to_owned();
    assert!(words.contains(&scene.processed) && words.contains("create_topics is false"), "{words}");
}

#[test]
fn a_wrong_password_is_one_sentence_from_every_command_and_shows_nowhere() {
    const WRONG: &str = "wrongDonkeyBatteryStaple";
    let mut kafka = cluster();
    let folder = tempfile::tempdir().unwrap();
    let brokers = kafka.addresses(SASL).unwrap();
    let user = User::new(&mut kafka, folder.path(), &[]);
    user.configure(&kafka, folder.path(), WRONG, "");
    for command in [&["run", "--listen", "off"][..], &["check"], &["tail", "processed"], &["generate", "--count", "9"]]
    {
        let output = loginscope(&[command, &["--brokers", &brokers, "--config", user.config()]].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?} {said}");
        let words = said.lines().last().unwrap();
        assert!(words.starts_with("loginscope: the Kafka brokers refuse the credentials: "), "{command:?} {words}");
        assert!(!said.contains(WRONG) && said.lines().count() < 8, "{command:?} {said}");
    }
}

#[test]
fn other_commands_name_the_right_that_they_lack() {
    let mut kafka = cluster();
    let folder = tempfile::tempdir().unwrap();
    let brokers = kafka.addresses(SASL).unwrap();
    let mut scene = Scene::new(&mut kafka, "other-commands", 1);
    scene.write(&logins(10, Options::default()));
    let topic = &scene.input;
    let see = (Operation::Describe, Resource::Topic(topic));
    for (command, rights, right) in [
        (&["tail", topic.as_str()][..], &[][..], "Describe on the topic"),
        (&["tail", topic], &[see], "Read on the topic"),
        (&["check", "--input-topic", topic], &[], "Describe on the topic"),
        (&["generate", "--count", "9", "--topic", topic], &[], "Write on"),
        (&["generate", "--count", "9", "--topic", topic], &[see], "Write on"),
    ] {
        let user = User::new(&mut kafka, folder.path(), rights);
        let output = loginscope(&[command, &["--brokers", &brokers, "--config", user.config()]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?} {}", said(&output));
        let words = said(&output).lines().last().unwrap().to_owned();
        assert!(words.starts_with("loginscope: not allowed to ") && words.contains(right), "{command:?} {words}");
        // Who may write to no topic at all may have no producer: that is about none of them.
        let names_it = words.contains(&format!("{topic:?}")) || words.contains("Write on a topic");
        assert!(names_it && said(&output).lines().count() < 5, "{command:?} {words}");
    }
}

#[test]
fn a_certificate_says_who_one_is_from_files_and_within_the_configuration() {
    let mut kafka = cluster();
    let folder = tempfile::tempdir().unwrap();
    let brokers = kafka.addresses(MUTUAL_TLS).unwrap();
    let mut scene = Scene::new(&mut kafka, "mutual-tls", 1);
    scene.create_topics(&mut kafka);
    for (operation, resource) in rights_to_run(&scene) {
        kafka.allow("User:CN=client", operation, resource).unwrap();
    }
    let certificates = kafka.certificates().unwrap();
    let (authority, certificate, key) =
        (text(&certificates.authority()), text(&certificates.client_certificate()), text(&certificates.client_key()));
    let file = folder.path().join("loginscope.toml");
    for text in [
        format!(
            "ssl.ca.location = {authority:?}\nssl.certificate.location = {certificate:?}\nssl.key.location = {key:?}\n"
        ),
        format!(
            "ssl.ca.pem_file = {authority:?}\nssl.certificate.pem_file = {certificate:?}\nssl.key.pem_file = {key:?}\n"
        ),
    ] {
        fs::write(&file, format!("[kafka]\nsecurity.protocol = \"ssl\"\n{text}")).unwrap();
        scene.write(&logins(100, Options::default()));
        let mut instance = scene.run_at(&brokers, &["--config", file.to_str().unwrap()]);
        let mut outputs = scene.outputs();
        outputs.wait_for(scene.written());
        assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
        assert!(!instance.log().contains("WARN"), "{}", instance.log());
    }

    fs::write(&file, format!("[kafka]\nsecurity.protocol = \"ssl\"\nssl.ca.location = {authority:?}\n")).unwrap();
    let mut instance = scene.run_at(&brokers, &["--config", file.to_str().unwrap()]);
    assert_eq!(instance.ended().code(), Some(1), "{}", instance.log());
    assert!(instance.log().lines().last().unwrap().contains("ssl"), "{}", instance.log());
}
