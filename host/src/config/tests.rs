use std::ffi::OsString;
use std::path::PathBuf;

use super::*;
use crate::cli;

mod mistakes;

/// What a configuration is made from: arguments after `loginscope`, environment variables, and the file's text.
#[derive(Default)]
struct Given<'a> {
    arguments: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    file: Option<&'a str>,
}

impl Given<'_> {
    /// Loads what `load` loads. Every error has the folder of the file cut out, which differs from run to run.
    fn load<T>(&self, load: impl FnOnce(&Sources<'_>) -> Result<T, ConfigError>) -> Result<T, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plugin.wasm"), "not looked at here").unwrap();
        std::fs::write(folder.path().join("secret"), "hunter2\n").unwrap();
        std::fs::write(folder.path().join("token"), "0123456789abcdef\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let here = format!("{}/", folder.path().display());
        let in_folder = |text: &str| text.replace("./", &here);
        let mut arguments: Vec<String> = self.arguments.iter().map(|argument| in_folder(argument)).collect();
        if let Some(text) = self.file {
            let path = folder.path().join("loginscope.toml");
            std::fs::write(&path, text).unwrap();
            arguments.extend(["--config".to_owned(), path.display().to_string()]);
        }
        let variables =
            self.variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(in_folder(value))));
        let words = std::iter::once("loginscope".to_owned()).chain(arguments);
        let matches = cli::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
        let (_, flags) = matches.subcommand().unwrap();
        let loaded = Sources::new(flags, Environment::of(variables)).and_then(|sources| load(&sources));
        loaded.map_err(|error| error.to_string().replace(&here, ""))
    }

    fn config(&self) -> Result<Config, String> {
        self.load(Config::load)
    }
}

fn run<'a>(arguments: &'a [&'a str]) -> Result<Config, String> {
    let arguments: Vec<&str> = ["run"].iter().chain(arguments).copied().collect();
    Given { arguments: &arguments, variables: &[("BOOTSTRAP_SERVERS", "k:9092")], ..Given::default() }.config()
}

fn variable(name: &str, value: &str) -> Result<Config, String> {
    let variables = [("BOOTSTRAP_SERVERS", "k:9092"), (name, value)];
    Given { arguments: &["run"], variables: &variables, ..Given::default() }.config()
}

fn file(text: &str) -> Result<Config, String> {
    let variables = [("BOOTSTRAP_SERVERS", "k:9092")];
    Given { arguments: &["run"], variables: &variables, file: Some(text) }.config()
}

/// Every key that is in the file, with a value by flag, variable and file each.
#[test]
fn every_key_can_be_given_as_flag_as_variable_and_in_the_file() {
    for (key, as_text, in_file) in [
        ("brokers", "a:1", "\"a:1\""),
        ("input-topic", "a", "\"a\""),
        ("processed-topic", "a", "\"a\""),
        ("insights-topic", "a", "\"a\""),
        ("rejected-topic", "a", "\"a\""),
        ("plugin", "./plugin.wasm", "[\"plugin.wasm\"]"),
        ("compile-cache", "/var/cache/a", "\"/var/cache/a\""),
        ("insight-every", "7", "7"),
        ("exact-distinct", "7", "7"),
        ("max-message-bytes", "7", "7"),
        ("timestamp-format", "rfc3339", "\"rfc3339\""),
        ("field", "user_id=a.b", "a.b"),
        ("group", "a", "\"a\""),
        ("instance", "a", "\"a\""),
        ("state-in", "memory", "\"memory\""),
        ("changelog-topic", "a", "\"a\""),
        ("totals-topic", "a", "\"a\""),
        ("plugins-topic", "a", "\"a\""),
        ("plugins-from", "paths", "\"paths\""),
        ("from", "2h", "\"2h\""),
        ("workers", "7", "7"),
        ("memory-limit", "7GiB", "\"7GiB\""),
        ("delivery", "at_least_once", "\"at_least_once\""),
        ("watch", "true", "true"),
        ("max-changed-share", "0.25", "0.25"),
        ("max-slowdown", "2", "2"),
        ("max-failures", "7", "7"),
        ("probation", "7s", "\"7s\""),
        ("listen", "off", "\"off\""),
        ("control-token", "0123456789abcdef", "\"0123456789abcdef\""),
        ("control-token-file", "./token", "\"token\""),
        ("create-topics", "false", "false"),
        ("source-headers", "true", "true"),
        ("plugins-header", "true", "true"),
        ("commit-interval", "7ms", "\"7ms\""),
        ("drain-timeout", "7s", "\"7s\""),
        ("status-interval", "7m", "\"7m\""),
    ] {
        let found = keys::in_file().find(|found| found.flag == key).unwrap();
        let variables = [("BOOTSTRAP_SERVERS", "k:9092"), (&*found.variable(), as_text)];
        let line = match found.in_file().unwrap().as_str() {
            name if name.starts_with("swap.") => format!("[swap]\n{} = {in_file}", &name["swap.".len()..]),
            "input.timestamp_format" => format!("[input]\ntimestamp_format = {in_file}"),
            "input.fields" => format!("[input.fields]\nuser_id = \"{in_file}\""),
            name => format!("{name} = {in_file}"),
        };
        let shown = |config: Result<Config, String>| {
            // The plugin lies in another folder each time, and where it was named differs.
            let mut config = config.unwrap_or_else(|error| panic!("{key}: {error}"));
            config.pipeline.plugins_named = None;
            config.file = None;
            config.pipeline.plugins.iter_mut().for_each(|path| *path = PathBuf::from(path.file_name().unwrap()));
            format!("{config:#?}")
        };
        let other = |name: &str| if key == "brokers" { Vec::new() } else { vec![name.to_owned(), "k:9092".to_owned()] };
        let flag = format!("--{key}={as_text}");
        let mut arguments = vec!["run".to_owned(), flag];
        arguments.extend(other("--brokers"));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let by_flag = shown(Given { arguments: &arguments, ..Given::default() }.config());
        let by_variable = shown(Given { arguments: &["run"], variables: &variables, file: None }.config());
        let variables = if key == "brokers" { &variables[..0] } else { &variables[..1] };
        let by_file = shown(Given { arguments: &["run"], variables, file: Some(&line) }.config());
        assert_eq!(by_flag, by_variable, "{key}");
        assert_eq!(by_flag, by_file, "{key}");
        let by_default = shown(run(&[]));
        assert!(by_flag != by_default, "{key} has no effect");
    }
    assert_eq!(keys::in_file().count(), 37, "a key is missing above");
}

#[test]
fn a_flag_wins_over_its_variable_that_over_the_originals_that_over_the_file_that_over_the_default() {
    let mut given = Given {
        arguments: &["run", "--input-topic", "flag", "--brokers", "flag:1"],
        variables: &[
            ("LOGINSCOPE_INPUT_TOPIC", "variable"),
            ("KAFKA_TOPIC", "original"),
            ("LOGINSCOPE_BROKERS", "variable:1"),
            ("BOOTSTRAP_SERVERS", "original:1"),
        ],
        file: Some("input_topic = \"file\"\nbrokers = \"file:1\""),
    };
    let expect = |given: &Given<'_>, source: &str| {
        let config = given.config().unwrap();
        assert_eq!((config.topics.input, config.kafka.brokers), (source.to_owned(), format!("{source}:1")));
    };
    expect(&given, "flag");
    given.arguments = &["run"];
    expect(&given, "variable");
    given.variables = &given.variables[1..];
    given.variables = &[("KAFKA_TOPIC", "original"), ("BOOTSTRAP_SERVERS", "original:1")];
    expect(&given, "original");
    given.variables = &[("KAFKA_TOPIC", ""), ("BOOTSTRAP_SERVERS", ""), ("LOGINSCOPE_BROKERS", "")];
    expect(&given, "file");
    given.file = None;
    given.arguments = &["run", "--bootstrap-server", "other:1"];
    let config = given.config().unwrap();
    assert_eq!((&*config.topics.input, &*config.kafka.brokers), ("user-login", "other:1"));
}

#[test]
fn a_switch_is_read_in_all_its_forms() {
    for (arguments, watch) in
        [(&["--watch"][..], true), (&["--watch=true"], true), (&["--watch=false"], false), (&[], false)]
    {
        assert_eq!(run(arguments).unwrap().watch, watch, "{arguments:?}");
    }
    for (value, watch) in [("true", true), ("TRUE", true), ("1", true), ("0", false), ("false", false), ("", false)] {
        assert_eq!(variable("LOGINSCOPE_WATCH", value).unwrap().watch, watch, "{value:?}");
    }
    assert!(!run(&["--create-topics=0"]).unwrap().create_topics);
    let given = Given {
        arguments: &["run", "--watch=false", "--brokers", "k"],
        variables: &[("LOGINSCOPE_WATCH", "1")],
        file: Some("watch = true"),
    };
    assert!(!given.config().unwrap().watch, "the flag turns off what others turn on");
}

#[test]
fn several_plugins_come_by_flags_by_a_variable_or_by_the_file() {
    let names = |config: Result<Config, String>| config.unwrap().pipeline.plugins.len();
    assert_eq!(names(run(&["--plugin", "./plugin.wasm", "--plugin", "./plugin.wasm"])), 2);
    assert_eq!(names(variable("LOGINSCOPE_PLUGIN", "./plugin.wasm,./plugin.wasm")), 2);
    assert_eq!(names(file("plugins = [\"plugin.wasm\", \"plugin.wasm\"]")), 2);
    assert_eq!(names(file("plugins = []")), 0);
    assert_eq!(names(variable("LOGINSCOPE_PLUGIN", "")), 0);
}

#[test]
fn the_compile_cache_is_where_caches_are_unless_another_place_is_named_or_none() {
    let folder = |variables: &[(&str, &str)], file| {
        let config = Given { arguments: &["pipe"], variables, file }.load(PipelineConfig::load);
        config.unwrap().compile_cache.map(|folder| (folder.path.display().to_string(), folder.is_named))
    };
    let at = |path: &str, is_named| Some((path.to_owned(), is_named));
    let home = ("HOME", "/home/ann");
    assert_eq!(folder(&[home], None), at("/home/ann/.cache/loginscope", false));
    assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "/cache")], None), at("/cache/loginscope", false));
    assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "cache")], None), at("/home/ann/.cache/loginscope", false));
    for without in [&[][..], &[("HOME", "")], &[("HOME", "ann")]] {
        assert_eq!(folder(without, None), None);
    }
    assert_eq!(folder(&[home, ("LOGINSCOPE_COMPILE_CACHE", "off")], None), None);
    assert_eq!(folder(&[home], Some("compile_cache = \"off\"")), None);
    assert_eq!(folder(&[home, ("LOGINSCOPE_COMPILE_CACHE", "/named")], None), at("/named", true));
    let wrong = Given { arguments: &["pipe"], variables: &[], file: Some("compile_cache = true") };
    let error = wrong.load(PipelineConfig::load).unwrap_err();
    assert_eq!(error, "loginscope.toml line 1: compile_cache: true can't be used; allowed is a folder, or \"off\"");
}

#[test]
fn each_limit_of_a_policy_is_that_of_its_plugin_alone() {
    let text = "[policy.a]\ncpu_ms_per_batch = 7\ncpu_us_per_login = 8\nmemory_mib = 9\noutput_mib = 10\n[policy.b]\n";
    let policies = file(text).unwrap().pipeline.policies;
    let limits = loginscope_wasm::Limits {
        base_cpu: Duration::from_millis(7),
        cpu_per_row: Duration::from_micros(8),
        memory_bytes: 9 << 20,
        output_bytes: 10 << 20,
        ..loginscope_wasm::Limits::default()
    };
    assert_eq!(policies["a"].limits, limits);
    assert!(!policies.contains_key("b"), "nothing is decided about it");
}

#[test]
fn a_secret_comes_from_a_file_or_a_variable_and_never_shows() {
    let password = |given: &Given<'_>| {
        let config = given.config().unwrap();
        let shown = format!("{config:?} {config:#?}");
        assert!(!shown.contains("hunter2") && shown.contains("[hidden]"), "{shown}");
        config.kafka.properties["sasl.password"].clone()
    };
    let kafka = ("BOOTSTRAP_SERVERS", "k:9092");
    let only_kafka = [kafka];
    let by_file = |text, variables| Given { arguments: &["run"], variables, file: Some(text) };
    assert_eq!(password(&by_file("[kafka]\nsasl.password_file = \"secret\"", &only_kafka)), "hunter2");
    assert_eq!(password(&by_file("[kafka]\n\"sasl.password\" = \"hunter2\"", &only_kafka)), "hunter2");
    let variables = [kafka, ("LOGINSCOPE_KAFKA_SASL_PASSWORD_FILE", "./secret")];
    assert_eq!(password(&by_file("", &variables)), "hunter2");
    let variables = [kafka, ("LOGINSCOPE_KAFKA_SASL_PASSWORD", "hunter2!")];
    let wins = by_file("[kafka]\nsasl.password = \"of the file\"", &variables);
    assert_eq!(password(&wins), "hunter2!", "the environment wins over the file");
}

#[test]
fn properties_may_stand_with_quotes_or_without_and_be_of_any_plain_type() {
    let config =
        file("[kafka]\nsession.timeout.ms = 45000\n\"socket.keepalive.enable\" = true\nfetch.max.bytes = \"2000000\"")
            .unwrap();
    let shown: Vec<String> = config.kafka.properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(shown, ["fetch.max.bytes=2000000", "session.timeout.ms=45000", "socket.keepalive.enable=true"]);
}

const FOR_RUN: &str = "
brokers = \"kafka-1:9093,kafka-2:9093\"
workers = 4
[input]
timestamp_format = \"rfc3339\"
[input.fields]
user_id = \"details.userId\"
[kafka]
security.protocol = \"SASL_SSL\"
sasl.password_file = \"on-another-machine\"
[validate-logins]
";

#[test]
fn a_command_without_kafka_reads_a_file_for_run_without_complaint() {
    let given = Given { arguments: &["pipe"], file: Some(FOR_RUN), ..Given::default() };
    let config = given.load(PipelineConfig::load).unwrap();
    assert_eq!(config.format.timestamp_format, TimestampFormat::Rfc3339);
    let given = Given { arguments: &["generate", "--stdout", "--count", "1"], file: Some(FOR_RUN), ..Given::default() };
    given.load(logins::generate).unwrap();
}

#[test]
fn the_demo_uses_a_kafka_only_if_a_flag_or_the_environment_names_one() {
    let brokers = |given: Given<'_>| given.load(kafka_settings_but_for_file).unwrap().map(|kafka| kafka.brokers);
    let file = Some("brokers = \"file:1\"");
    assert_eq!(brokers(Given { arguments: &["demo"], file, ..Given::default() }), None);
    assert_eq!(
        brokers(Given { arguments: &["demo", "--brokers", "flag:1"], file, ..Given::default() }),
        Some("flag:1".into())
    );
    let variables = &[("BOOTSTRAP_SERVERS", "variable:1")];
    assert_eq!(brokers(Given { arguments: &["demo"], variables, file }), Some("variable:1".into()));
}

#[test]
fn the_generators_options_are_checked_like_all_others() {
    let told = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["generate", "--stdout"].iter().chain(arguments).copied().collect();
        Given { arguments: &arguments, ..Given::default() }.load(logins::generate).map(drop).unwrap_err()
    };
    let share = "allowed is a number from 0 to 1";
    assert_eq!(told(&["--malformed", "2"]), format!("--malformed: \"2\" can't be used; {share}"));
    assert_eq!(told(&["--outcome", "NaN"]), format!("--outcome: \"NaN\" can't be used; {share}"));
    assert_eq!(told(&["--zipf", "-1"]), "--zipf: \"-1\" can't be used; allowed is a number from 0 to 100");
    assert_eq!(told(&["--rate", "inf"]), "--rate: \"inf\" can't be used; allowed is a number from 0 to 1000000000");
    assert_eq!(
        told(&["--users", "0"]),
        "--users: \"0\" can't be used; allowed is a whole number from 1 to 1000000000000"
    );
    assert_eq!(
        told(&["--start", "yesterday"]),
        "--start: \"yesterday\" can't be used; allowed is \"now\", or epoch seconds from 946684800 to 253402300799"
    );
    assert_eq!(told(&["--brokers", "k:1"]), "--brokers: --stdout is given, too; allowed is one of them");
}

#[test]
fn every_flag_has_a_variable_of_its_own_that_the_help_shows() {
    let mut command = cli::command();
    command.build();
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let help = subcommand.clone().render_long_help().to_string();
        for flag in subcommand.get_arguments().filter_map(|argument| argument.get_long()).filter(|flag| *flag != "help")
        {
            let variable = format!("LOGINSCOPE_{}", flag.replace('-', "_").to_uppercase());
            assert!(help.contains(&variable), "{} --{flag}", subcommand.get_name());
        }
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{}: {longest:?}", subcommand.get_name());
    }
}

#[test]
fn the_readme_has_every_key_of_the_file_with_flag_and_default() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    for key in keys::in_file() {
        let name = key.in_file().unwrap();
        let last = name.rsplit('.').next().unwrap();
        let flag = format!("`--{}", key.flag);
        let row = readme.lines().find(|line| line.starts_with(&format!("| {flag}")));
        let row = row.unwrap_or_else(|| panic!("there is no row for {flag}"));
        assert!(row.contains(last), "{flag}: {row}");
        assert!(key.default.is_none_or(|default| row.contains(default)), "{flag}: {row}");
    }
}
