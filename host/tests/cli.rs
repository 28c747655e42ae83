//! The binary as its users see it: what it says, and with which exit status it ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use loginscope::pipeline::plugins::DEFAULTS;
use loginscope_kafka::EmbeddedBroker;
use loginscope_kafka::read::last_records;
use rustix::process::{Pid, Signal, kill_process};

/// A configuration and plugins in a folder of their own, which is the current one.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let component = |name: &str, text: &str| {
            fs::write(folder.path().join(name), wat::parse_str(text).unwrap()).unwrap();
        };
        fs::write(folder.path().join("text.wasm"), "no plugin").unwrap();
        component("other-world.wasm", r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#);
        component("other-module.wasm", r#"(module (func (export "main")))"#);
        component(
            "other-version.wasm",
            r#"(component (instance $i) (export "loginscope:plugin/validator@0.9.0" (instance $i)))"#,
        );
        component("wasi.wasm", r#"(component (import "wasi:cli/environment@0.2.3" (instance)))"#);
        Self(folder)
    }

    fn with(self, name: &str, text: &str) -> Self {
        fs::write(self.0.path().join(name), text).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loginscope"));
        let configured =
            |name: &str| name.starts_with("LOGINSCOPE_") || name == "BOOTSTRAP_SERVERS" || name == "KAFKA_TOPIC";
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(configured)) {
            command.env_remove(name);
        }
        // Not the one of whoever runs the tests.
        command.env("LOGINSCOPE_COMPILE_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/compile-cache"));
        command.current_dir(self.0.path()).args(arguments).stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
        command
    }

    /// What the command says when it is refused: one line, with exit status 2 and nothing on standard output.
    fn refusal(&self, arguments: &[&str]) -> String {
        refusal(&mut self.command(arguments))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim_end().strip_prefix("loginscope: ").unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

const LOGIN: &[u8] = br#"{"user_id":"ann","timestamp":1694479551,"ip":"1.2.3.4"}"#;

#[test]
fn a_plugin_that_cannot_be_used_is_refused_in_one_sentence_that_says_where_it_was_named() {
    let folder = Folder::new();
    for (plugin, sentence) in [
        ("nowhere.wasm", "--plugin: cannot read nowhere.wasm: No such file or directory (os error 2)"),
        (
            "text.wasm",
            "--plugin: plugin text.wasm can't be used: it is neither a WebAssembly component nor a WebAssembly module",
        ),
        (
            "other-world.wasm",
            "--plugin: plugin other-world.wasm can't be used: it has none of the roles validator, enricher and insight-generator: \
             it exports wasi:cli/run@0.2.0",
        ),
        (
            "other-module.wasm",
            "--plugin: plugin other-module.wasm can't be used: it has none of the roles validator, enricher and insight-generator: \
             it exports nothing",
        ),
        (
            "other-version.wasm",
            "--plugin: plugin other-version.wasm can't be used: it is built against version 0.9.0 of the plugin contract, and this \
             host speaks 0.1.0",
        ),
        (
            "wasi.wasm",
            "--plugin: plugin wasi.wasm can't be used: it imports wasi:cli/environment@0.2.3, so it was built for a WASI target; \
             plugins have no access to the system: build it for wasm32-unknown-unknown",
        ),
    ] {
        assert_eq!(folder.refusal(&["pipe", "--plugin", plugin]), sentence);
    }
    let mut by_variable = folder.command(&["pipe"]);
    assert_eq!(
        refusal(by_variable.env("LOGINSCOPE_PLUGIN", "text.wasm")),
        "LOGINSCOPE_PLUGIN: plugin text.wasm can't be used: it is neither a WebAssembly component nor a WebAssembly module"
    );
    let folder = folder.with("loginscope.toml", "\nplugins = [\"text.wasm\"]\n");
    assert_eq!(
        folder.refusal(&["pipe", "--config", "loginscope.toml"]),
        "loginscope.toml line 2: plugins: plugin text.wasm can't be used: it is neither a WebAssembly component nor a WebAssembly \
         module"
    );
}

#[test]
fn settings_that_a_plugin_refuses_and_settings_for_no_plugin_are_told_with_their_line() {
    let folder = Folder::new()
        .with("bad.toml", "[validate-logins]\nmode = \"strict\"\n")
        .with("none.toml", "workers = 1\n[inptu]\ntimestamp_format = \"rfc3339\"\n");
    let said = folder.refusal(&["pipe", "--config", "bad.toml"]);
    let begin = "bad.toml line 1: [validate-logins]: plugin validate-logins@0.1.0 can't be used: its validator refuses the settings: ";
    assert!(said.starts_with(begin) && said.contains("mode"), "{said}");
    assert_eq!(
        folder.refusal(&["pipe", "--config", "none.toml"]),
        "none.toml line 2: [inptu]: there is no plugin inptu, so it can't have settings; the plugins are validate-logins, enrich-logins, \
         summarize-logins"
    );
}

#[test]
fn a_plugin_of_other_bytes_than_those_that_are_pinned_is_refused_at_the_start() {
    let digest = loginscope_wasm::Digest::of(DEFAULTS[0].1);
    let other = loginscope_wasm::Digest::of(b"other");
    let pin = |digest| format!("[policy.validate-logins]\ndigest = \"{digest}\"\n");
    let folder = Folder::new().with("right.toml", &pin(digest)).with("wrong.toml", &pin(other));
    let right = folder.command(&["pipe", "--config", "right.toml"]).output().unwrap();
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
    for command in [&["pipe"][..], &["check", "--brokers", "127.0.0.1:1"], &["run", "--brokers", "127.0.0.1:1"]] {
        assert_eq!(
            folder.refusal(&[command, &["--config", "wrong.toml"]].concat()),
            format!(
                "plugin validate-logins@0.1.0 can't be used: its digest is {digest}, and the configuration pins {other}"
            )
        );
    }
}

#[test]
fn a_policy_for_a_plugin_that_is_not_there_yet_is_warned_of() {
    let folder = Folder::new().with("policy.toml", "[policy.to-come]\nmemory_mib = 7\n");
    let output = folder.command(&["pipe", "--config", "policy.toml"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let warning =
        "there is no plugin to-come by now, so [policy.to-come] has no effect; the plugins are validate-logins, ";
    assert_eq!(said.lines().filter(|line| line.contains(warning)).count(), 1, "{said}");
}

/// What `pipe` says that keeps compiled plugins there.
fn said_with_cache(folder: &Folder, cache: &Path) -> String {
    let mut command = folder.command(&["pipe"]);
    let output = command.env("LOGINSCOPE_COMPILE_CACHE", cache).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("0 logins accepted"), "{said}");
    said
}

#[test]
fn compiled_plugins_are_kept_and_what_is_damaged_is_compiled_anew() {
    let folder = Folder::new();
    let cache = folder.path().join("cache");
    assert_eq!(said_with_cache(&folder, &cache).lines().count(), 1);
    let mut files: Vec<_> = fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "the plugins inside are kept as well");
    let whole = fs::read(&files[0]).unwrap();
    // Machine code in the middle of it is other machine code now.
    let mut forged = whole.clone();
    let middle = forged.len() / 2;
    forged[middle] ^= 0xff;
    fs::write(&files[0], forged).unwrap();
    let said = said_with_cache(&folder, &cache);
    assert!(said.contains("isn't used and is removed, for it is damaged; the plugin is compiled"), "{said}");
    assert_eq!(fs::read(&files[0]).unwrap(), whole, "it has been compiled to the same code");
    assert_eq!(said_with_cache(&folder, &cache).lines().count(), 1);
}

#[test]
fn a_cache_that_others_can_write_to_is_warned_of_and_not_used() {
    let folder = Folder::new();
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let said = said_with_cache(&folder, &cache);
    assert!(said.contains("isn't used, for others than its owner may write to it"), "{said}");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
}

#[test]
fn without_a_home_nothing_is_kept_and_nothing_is_said_of_it() {
    let folder = Folder::new();
    for home in [None, Some("/dev/null/nowhere")] {
        let mut command = folder.command(&["pipe"]);
        command.env_remove("LOGINSCOPE_COMPILE_CACHE").env_remove("XDG_CACHE_HOME").env_remove("HOME");
        command.envs(home.map(|home| ("HOME", home)));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(said, "loginscope: 0 logins accepted, 0 rejected, 0 insights\n");
    }
}

#[test]
fn properties_that_librdkafka_refuses_are_a_bad_configuration_wherever_they_show() {
    let folder = Folder::new()
        .with("alone.toml", "[kafka]\nsession.timeout.ms = \"soon\"\n")
        .with("together.toml", "[kafka]\nssl.ca.location = \"nowhere\"\nsecurity.protocol = \"SSL\"\n");
    for command in ["run", "check", "generate", "tail"] {
        assert_eq!(
            folder.refusal(&[command, "--brokers", "127.0.0.1:1", "--config", "alone.toml"]),
            "alone.toml line 2: kafka.session.timeout.ms: \"soon\" can't be used: Invalid value for configuration property \
             \"session.timeout.ms\""
        );
    }
    let said = folder.refusal(&["tail", "--brokers", "127.0.0.1:1", "--config", "together.toml"]);
    assert!(said.contains("ssl.ca.location"), "{said}");
}

#[test]
fn no_command_needs_more_than_the_originals_variables_to_find_kafka_and_topic() {
    let folder = Folder::new();
    for command in ["run", "check", "generate", "tail", "demo"] {
        let told = |brokers: &str, topic: &str| {
            refusal(folder.command(&[command]).env("BOOTSTRAP_SERVERS", brokers).env("KAFKA_TOPIC", topic))
        };
        assert_eq!(
            told("kafka:nine", "logins"),
            "BOOTSTRAP_SERVERS: \"kafka:nine\" can't be used; allowed is HOST:PORT, with commas between several"
        );
        assert_eq!(
            told("kafka:9092", "user login"),
            "KAFKA_TOPIC: \"user login\" can't be the name of a Kafka topic: only letters, digits, dots, underscores and hyphens are \
             allowed"
        );
    }
    let mut pipe = folder.command(&["pipe", "--insights", "insights", "--insight-every", "1"]);
    pipe.env("BOOTSTRAP_SERVERS", "not looked at").env("KAFKA_TOPIC", "logins");
    assert!(with_input(pipe, LOGIN).status.success());
    let insight: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("insights")).unwrap()).unwrap();
    assert_eq!(insight["window"]["topic"], "logins");
}

#[test]
fn a_secret_never_shows_whatever_goes_wrong() {
    let folder = Folder::new().with("secret", "hunter2secret\n").with(
        "loginscope.toml",
        "[kafka]\nsecurity.protocol = \"SASL_PLAINTEXT\"\nsasl.mechanism = \"PLAIN\"\nsasl.username = \"somebody\"\n",
    );
    let arguments = ["generate", "--brokers", "127.0.0.1:1", "--config", "loginscope.toml", "--count", "1"];
    for (name, value) in [
        ("LOGINSCOPE_KAFKA_SASL_PASSWORD_FILE", "secret"),
        ("LOGINSCOPE_KAFKA_SSL_KEY_PEM", "hunter2secret"),
        ("LOGINSCOPE_KAFKA_SASL_PASWORD", "hunter2secret"),
    ] {
        let mut command = folder.command(&arguments);
        command.env(name, value).env("LOGINSCOPE_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT_");
        let said = refusal(&mut command);
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_status_2_and_names_the_flag() {
    let folder = Folder::new();
    for (arguments, named) in [
        (&["run", "--wokers", "4"][..], "--wokers"),
        (&["run", "--workers"], "--workers"),
        (&["walk"], "walk"),
        (&["pipe", "--brokers", "k:1"], "--brokers"),
        (&["run", "--workers", "1", "--workers", "2"], "--workers"),
    ] {
        let output = folder.command(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.lines().next().is_some_and(|line| line.contains(named)), "{said}");
    }
}

#[test]
fn each_line_that_is_generated_is_one_message_and_the_same_seed_makes_the_same_bytes() {
    let folder = Folder::new();
    let generated = |seed: &str| {
        let count = ["generate", "--stdout", "--count", "2000", "--malformed", "0.5", "--seed", seed];
        let output = folder.command(&count).output().unwrap();
        assert!(output.status.success());
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let once = generated("7");
    assert_eq!(once.split(|byte| *byte == b'\n').count(), 2001);
    assert_eq!(once, generated("7"));
    assert_ne!(once, generated("8"));
    let mut by_variables = folder.command(&["generate"]);
    by_variables
        .env("LOGINSCOPE_STDOUT", "true")
        .env("LOGINSCOPE_COUNT", "2000")
        .env("LOGINSCOPE_MALFORMED", "0.5")
        .env("LOGINSCOPE_SEED", "7")
        .env("BOOTSTRAP_SERVERS", "kafka:9092");
    assert_eq!(by_variables.output().unwrap().stdout, once);
}

#[test]
fn pipe_takes_every_generated_message_and_counts_each_malformed_one_as_rejected() {
    let folder = Folder::new();
    let logins = folder.command(&["generate", "--stdout", "--count", "500", "--malformed", "1"]).output().unwrap();
    let output = with_input(folder.command(&["pipe"]), &logins.stdout);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{said}");
    assert!(said.contains("0 logins accepted, 500 rejected"), "{said}");
}

/// Gives these whole lines and the begin of another one to a pipe that keeps its state, ends it by a signal once all lines
/// have been judged, and answers what was written, what was said, and the exit status.
fn signalled_pipe(folder: &Folder, lines: &[u8], begin: &[u8], signal: Signal) -> (Vec<u8>, String, Option<i32>) {
    let mut command = folder.command(&["pipe", "--state", "state"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines).unwrap();
    input.write_all(begin).unwrap();
    input.flush().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut written = Vec::new();
    for _ in lines.split(|byte| *byte == b'\n').skip(1) {
        output.read_until(b'\n', &mut written).unwrap();
    }
    kill_process(Pid::from_child(&child), signal).unwrap();
    output.read_to_end(&mut written).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (written, said, child.wait().unwrap().code())
}

#[test]
fn a_signal_ends_pipe_between_two_lines_and_the_next_run_goes_on_from_there() {
    let logins = Folder::new().command(&["generate", "--stdout", "--count", "500"]).output().unwrap().stdout;
    let whole = with_input(Folder::new().command(&["pipe"]), &logins).stdout;
    let line_end = |line: usize| {
        let ends = logins.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        ends.map(|(place, _)| place + 1).nth(line - 1).unwrap()
    };
    for (signal, status) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let folder = Folder::new();
        let (first, rest) = logins.split_at(line_end(321));
        let (mut written, said, code) = signalled_pipe(&folder, first, &rest[..40], signal);
        assert_eq!(code, Some(status), "{said}");
        assert!(said.contains("321 logins accepted, 0 rejected, 3 insights"), "{said}");
        written.extend(with_input(folder.command(&["pipe", "--state", "state"]), rest).stdout);
        assert!(written == whole, "the same as without a signal");
    }
}

#[test]
fn a_pipe_with_a_limit_estimates_beyond_it_and_goes_on_with_its_estimates_from_its_state() {
    let folder = Folder::new();
    // The sketch can't tell 10.0.0.184 and 10.0.0.197 from each other.
    let runs = [(&[1, 2, 3, 3, 197][..], &[1, 2, 3, 3, 4][..]), (&[184, 2, 9, 9], &[4, 4, 5, 5])];
    for (addresses, unique_ips) in runs {
        let line = |last| format!("{{\"user_id\":\"ann\",\"timestamp\":1694479551,\"ip\":\"10.0.0.{last}\"}}\n");
        let logins: String = addresses.iter().map(line).collect();
        let command = folder.command(&["pipe", "--state", "state", "--exact-distinct", "3"]);
        let output = with_input(command, logins.as_bytes());
        let processed = String::from_utf8(output.stdout).unwrap();
        let numbers = processed.lines().map(|line| {
            let login: serde_json::Value = serde_json::from_str(line).unwrap();
            login["user_unique_ips"].as_u64().unwrap()
        });
        assert_eq!(numbers.collect::<Vec<u64>>(), unique_ips);
    }
}

#[test]
fn pipe_refuses_one_file_for_two_outputs() {
    let folder = Folder::new();
    assert_eq!(
        folder.refusal(&["pipe", "--insights", "out", "--rejected", "./out"]),
        "--rejected: the file is also that of --insights; allowed is a file of its own"
    );
}

#[test]
fn every_generated_message_reaches_its_topic_keyed_by_its_user_and_those_without_a_value_have_none() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("logins", 2).unwrap();
    let settings = broker.settings();
    let folder = Folder::new();
    let mut command = folder.command(&["generate", "--count", "1000", "--malformed", "0.5"]);
    command.env("BOOTSTRAP_SERVERS", &settings.brokers).env("KAFKA_TOPIC", "logins");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with("loginscope: 1000 logins sent to logins\n"), "{said}");
    let records = last_records(&settings, "logins", 1000, Duration::from_mins(1)).unwrap();
    assert_eq!(records.len(), 1000);
    assert!(records.iter().all(|record| record.key.as_ref().is_some_and(|key| key.len() == 36)), "a key is a UUID");
    assert!(records.iter().any(|record| record.payload.is_none()), "a kind of malformed message has no value");
    assert!(records.iter().any(|record| record.payload.as_deref() == Some(b"")), "another has an empty one");
}

#[test]
fn state_refuses_what_it_does_not_do_and_says_what_rebuilding_is() {
    let folder = Folder::new();
    let refusal = |arguments: &[&str]| folder.refusal(&[&["state", "--brokers", "localhost:1"], arguments].concat());
    assert!(
        refusal(&["peek"]).starts_with("state: \"peek\" can't be done; allowed are show, user USER, export, rebuild")
    );
    assert!(refusal(&["rebuild", "0", "--from-beginning"]).contains("nothing behind them"));
    assert_eq!(refusal(&["forget"]), "state forget: it takes the user_id");
    let required = refusal(&["rebuild"]);
    assert!(
        required.starts_with("state rebuild: it takes --from-beginning: all logins are counted again"),
        "{required}"
    );
    let source = refusal(&["rebuild", "--from-beginning", "--source", "rejected"]);
    assert_eq!(source, "--source: \"rejected\" can't be used; allowed is input or processed");
}
