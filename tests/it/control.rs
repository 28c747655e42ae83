//! The control port of the binary, and `loginscope plugin`, on the embedded broker.

use std::fs;
use std::path::PathBuf;

use loginscope_kafka::EmbeddedBroker;
use loginscope_tests::control::{Control, TOKEN};
use loginscope_tests::guests::misbehave;
use loginscope_tests::instance::{Ended, Instance, run_to_its_end, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

const SWAPPED: &str = "loginscope_plugin_swaps_total{outcome=\"done\"}";

/// A loginscope that runs, with a broker and a folder of its own.
struct Running {
    broker: EmbeddedBroker,
    folder: TempDir,
    instance: Instance,
    written: u64,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, arguments)
    }

    fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let broker = EmbeddedBroker::start().unwrap();
        for topic in ["user-login", "processed-logins", "login-insights", "rejected-logins"] {
            broker.create_topic(topic, 2).unwrap();
        }
        let brokers = broker.bootstrap_servers();
        let always = ["run", "--brokers", brokers, "--delivery", "at_least_once", "--state-in", "memory"];
        let listen = ["--listen", "127.0.0.1:0", "--workers", "2"];
        let instance = Instance::start(always.iter().chain(&listen).chain(arguments));
        Self { broker, folder, instance, written: 0 }
    }

    /// Writes so many logins and waits until they were judged.
    fn judge(&mut self, logins: u64) {
        self.generate(&["--count", &logins.to_string()]);
        self.written += logins;
        self.instance.metric_reaches("loginscope_logins_processed_total", self.written);
    }

    fn generate(&self, arguments: &[&str]) -> Ended {
        let always = ["generate", "--brokers", self.broker.bootstrap_servers()];
        run_to_its_end(always.iter().chain(arguments))
    }

    fn control(&mut self) -> Control {
        Control::of(&mut self.instance)
    }

    fn plugin(&mut self, arguments: &[&str]) -> Ended {
        self.control().plugin(arguments)
    }

    fn done(&mut self, arguments: &[&str]) -> String {
        self.control().done(arguments)
    }

    fn plugins(&mut self) -> Value {
        serde_json::from_str(&self.done(&["list", "--json"])).unwrap()
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn settings(&self, settings: &Value) -> String {
        self.file("settings.json", settings.to_string().as_bytes()).display().to_string()
    }
}

fn names(plugins: &Value) -> Vec<&str> {
    plugins["plugins"].as_array().unwrap().iter().map(|plugin| plugin["name"].as_str().unwrap()).collect()
}

#[test]
fn plugins_are_deployed_removed_and_rolled_back_through_the_control_port() {
    let mut running = Running::start(&["--control-token", TOKEN, "--max-slowdown", "1000000"]);
    running.judge(1000);
    let defaults = ["validate-logins", "enrich-logins", "summarize-logins"];
    let first = running.plugins();
    assert_eq!((names(&first), &first["generation"]), (defaults.to_vec(), &json!(1)));

    let file = running.file("guest.wasm", misbehave()).display().to_string();
    let output = running.done(&["deploy", &file, "--dry-run"]);
    assert!(output.contains("nothing was changed: generation 1 goes on serving; it would be "), "{output}");
    assert_eq!(running.plugins()["generation"], json!(1));

    // How many messages are in the sample depends on how they came.
    wait_until("a sample of recent messages", String::new, || {
        running.judge(500);
        let output = running.done(&["deploy", &file, "--dry-run"]);
        output.split_once(" messages compared").filter(|(count, _)| count.parse::<u64>().unwrap() >= 100).map(drop)
    });
    let output = running.done(&["deploy", &file]);
    let compared = output.split_once(' ').unwrap().0;
    let expected = format!(
        "{compared} messages compared: 0 judged differently, {compared} with other fields\n  {compared} with another \
         guest_user_bytes\n"
    );
    assert!(output.starts_with(&expected) && compared.parse::<u64>().unwrap() >= 100, "{output}");
    assert!(output.contains("generation 2 serves: validate-logins@0.1.0, "), "{output}");
    assert!(running.done(&["deploy", &file]).contains("nothing to change: generation 2 "));
    let second = running.plugins();
    assert_eq!(names(&second).last(), Some(&"misbehave"));
    assert_eq!(second["plugins"][3]["source"], json!("deployed"));
    assert!(second["plugins"][3]["digest"].as_str().unwrap().starts_with("sha256:"), "{second}");

    let bad = running.settings(&json!({ "how": "trap", "role": "enricher" }));
    let Ended { code, output, log } = running.plugin(&["deploy", &file, "--settings", &bad]);
    assert_eq!(code, Some(1), "{output}{log}");
    assert!(log.contains("misbehave@0.1.0 fails on ") && output.contains(" messages compared: "), "{output}{log}");
    let Ended { code, log, .. } = running.plugin(&["remove", "no-such-plugin"]);
    assert!(
        code == Some(1) && log.contains("there is no plugin no-such-plugin; the plugins are validate-logins,"),
        "{log}"
    );

    running.done(&["remove", "misbehave"]);
    assert_eq!(names(&running.plugins()), defaults);
    assert!(running.done(&["rollback"]).contains("generation 4 serves: "));
    let fourth = running.plugins();
    assert_eq!((names(&fourth).len(), &fourth["generation"]), (4, &json!(4)));
    // What was rolled back isn't where a roll-back leads to.
    assert!(running.done(&["rollback"]).contains("generation 5 serves: "));
    assert_eq!(names(&running.plugins()), defaults);
    let Ended { code, log, .. } = running.plugin(&["rollback", "--to", "9"]);
    assert!(code == Some(1) && log.contains("generation 9 can't be gone back to"), "{log}");

    let history = running.done(&["history"]);
    for (what, came) in [
        ("the start by loginscope", "generation 1: validate-logins"),
        ("deployment by ", "generation 2: "),
        ("deployment by ", "refused: misbehave@0.1.0 fails on "),
        ("removal of no-such-plugin by ", "refused: there is no plugin no-such-plugin"),
        ("roll-back to generation 1 by ", "generation 5: "),
    ] {
        let lines: Vec<&str> = history.lines().collect();
        let is_there = lines.windows(2).any(|two| two[0].contains(what) && two[1].contains(came));
        assert!(is_there, "{what} {came}\n{history}");
    }
    running.judge(1000);
}

#[test]
fn a_plugin_is_tried_on_live_logins_before_it_serves() {
    let mut running = Running::start(&["--control-token", TOKEN, "--max-slowdown", "1000000"]);
    running.judge(100);
    let file = running.file("guest.wasm", misbehave()).display().to_string();
    let brokers = running.broker.bootstrap_servers().to_owned();
    let mut load = Instance::start(["generate", "--brokers", &brokers, "--rate", "2000"]);
    let output = running.done(&["deploy", &file, "--shadow", "3000"]);
    let compared: u64 = output.split(' ').next().unwrap().parse().unwrap();
    assert!(compared >= 3000, "{output}");
    assert!(output.contains("generation 2 serves: "), "{output}");
    load.signal("TERM");
    load.ended();
}

#[test]
fn nothing_is_told_or_changed_without_the_token() {
    let mut running = Running::start(&["--control-token", TOKEN]);
    let control = running.control();
    let ask = |method, path, token, body: &str| control.ask(method, path, token, body).unwrap();
    for token in ["", "correct-horse-battery-stapl", "correct-horse-battery-staple0"] {
        for (method, path) in [
            ("GET", "/v1/plugins"),
            ("GET", "/v1/history"),
            ("GET", "/v1/openapi.json"),
            ("POST", "/v1/plugins"),
            ("DELETE", "/v1/plugins/validate-logins"),
            ("POST", "/v1/rollback"),
        ] {
            let (status, body) = ask(method, path, token, "{}");
            assert_eq!(status, 401, "{method} {path} {token}: {body}");
        }
    }
    assert_eq!(ask("GET", "/healthz", "", "").0, 200);
    assert_eq!(ask("GET", "/metrics", "", "").0, 200);

    let (status, body) = ask("GET", "/v1/openapi.json", TOKEN, "");
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&body).unwrap();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/v1/history", "/v1/plugins", "/v1/plugins/{name}", "/v1/rollback"]);
    for (body, expected, sentence) in [
        ("{", 400, "EOF"),
        ("{}", 422, "missing field `component`"),
        (r#"{"component": "?"}"#, 400, "component is no base64"),
        (r#"{"component": "AAAA"}"#, 422, "it is neither a WebAssembly component nor a WebAssembly module"),
        (r#"{"component": "", "settings": 1}"#, 422, "invalid type"),
        (r#"{"component": "", "setings": {}}"#, 422, "unknown field `setings`"),
    ] {
        let (status, answer) = ask("POST", "/v1/plugins", TOKEN, body);
        assert_eq!(status, expected, "{body}: {answer}");
        let error = serde_json::from_str::<Value>(&answer).unwrap()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(sentence), "{body}: {error}");
    }
    let (status, answer_text) = ask("DELETE", "/v1/plugins/enrich-logins?dry_run=perhaps", TOKEN, "");
    assert_eq!(status, 400, "{answer_text}");
    assert!(serde_json::from_str::<Value>(&answer_text).unwrap()["error"].as_str().unwrap().contains("dry_run"));
    let huge = format!("{{\"component\": \"{}\"}}", "A".repeat(100 << 20));
    // It is refused before it was sent, so the client may see no more than the end of the connection.
    let refused = control.ask("POST", "/v1/plugins", TOKEN, &huge);
    assert!(matches!(refused, Ok((413, _)) | Err(ureq::Error::Io(_))), "{refused:?}");
    let Ended { code, log, .. } = run_to_its_end(["plugin", "list", "--control", control.url()]);
    assert!(code == Some(1) && log.contains("this takes the control token"), "{log}");
    assert!(!running.instance.log().contains(TOKEN));
}

#[test]
fn without_a_token_plugins_are_told_but_for_their_settings_and_not_changed() {
    let mut running = Running::start(&[]);
    let control = running.control();
    let Ended { code, output, .. } = run_to_its_end(["plugin", "--json", "--control", control.url()]);
    assert_eq!(code, Some(0));
    let plugins: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((names(&plugins).len(), plugins["plugins"][0].get("settings")), (3, None));
    let Ended { code, log, .. } = run_to_its_end(["plugin", "remove", "enrich-logins", "--control", control.url()]);
    assert!(code == Some(1) && log.contains("changes take a token, and none is configured"), "{log}");
}

#[test]
fn settings_that_change_in_the_configuration_are_swapped_like_code() {
    let folder = tempfile::tempdir().unwrap();
    let (guest, config) = (folder.path().join("guest.wasm"), folder.path().join("loginscope.toml"));
    fs::write(&guest, misbehave()).unwrap();
    fs::write(&config, "watch = true\nplugins = [\"guest.wasm\"]\n").unwrap();
    let path = config.display().to_string();
    let mut running = Running::start_in(folder, &["--config", &path, "--control-token", TOKEN]);
    running.judge(100);
    let write = |settings: &str| {
        let new = config.with_extension("new");
        fs::write(&new, format!("watch = true\nplugins = [\"guest.wasm\"]\n[misbehave]\n{settings}\n")).unwrap();
        fs::rename(&new, &config).unwrap();
    };
    write("history = true");
    running.instance.metric_reaches(SWAPPED, 1);
    assert_eq!(running.plugins()["plugins"][0]["settings"], json!({ "history": true }));
    write("how = \"no such way\"");
    running
        .instance
        .line_with("plugins not swapped, those before go on serving: plugin misbehave@0.1.0 can't be used: its ");
    write("history = ");
    running.instance.line_with("it is no TOML");
    write("history = false");
    running.instance.metric_reaches(SWAPPED, 2);
    assert_eq!(running.plugins()["generation"], json!(3));
    let about = || String::new();
    wait_until("the settings to be those of the file", about, || {
        (running.plugins()["plugins"][0]["settings"] == json!({ "history": false })).then_some(())
    });
}
