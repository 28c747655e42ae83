//! Every mistake, with the exact sentence that tells it.

use super::{Config, Given, file, run, variable};

#[test]
fn each_mistake_is_told_in_one_exact_sentence() {
    let topic_rule = "only letters, digits, dots, underscores and hyphens are allowed";
    let cases: Vec<(Result<Config, String>, String)> = vec![
        // Flags and variables.
        (run(&["--workers", "0"]), "--workers: \"0\" can't be used; allowed is a whole number from 1 to 256".into()),
        (
            run(&["--memory-limit", "4"]),
            "--memory-limit: \"4\" can't be used; allowed is a number of bytes, at least 16.0 MiB, such as 4GiB".into(),
        ),
        (run(&["--workers", "-1"]), "--workers: \"-1\" can't be used; allowed is a whole number from 1 to 256".into()),
        (
            variable("LOGINSCOPE_WORKERS", "many"),
            "LOGINSCOPE_WORKERS: \"many\" can't be used; allowed is a whole number from 1 to 256".into(),
        ),
        (
            run(&["--insight-every", "0"]),
            "--insight-every: \"0\" can't be used; allowed is a whole number from 1 to 4294967295".into(),
        ),
        (
            variable("LOGINSCOPE_WATCH", "yes"),
            "LOGINSCOPE_WATCH: \"yes\" can't be used; allowed is true, false, 1 or 0".into(),
        ),
        (
            run(&["--source-headers=on"]),
            "--source-headers: \"on\" can't be used; allowed is true, false, 1 or 0".into(),
        ),
        (
            run(&["--from", "yesterday"]),
            "--from: \"yesterday\" can't be used; allowed is earliest, latest, or a time ago such as 90s, 30m, 2h or 7d".into(),
        ),
        (
            run(&["--listen", "localhost:9464"]),
            "--listen: \"localhost:9464\" can't be used; allowed is an IP address with a port, such as 127.0.0.1:9464, or \"off\"".into(),
        ),
        (
            run(&["--listen", "0.0.0.0:9464"]),
            "--listen: from there, others than this machine reach the control port, so it takes a control_token_file (or \
             control_token); without one, allowed is an address such as 127.0.0.1:9464"
                .into(),
        ),
        (
            run(&["--control-token", "hunter2"]),
            "--control-token: the token can't be used; allowed are at least 16 visible ASCII characters, such as what \
             \"openssl rand -hex 32\" makes"
                .into(),
        ),
        (
            run(&["--control-token", "0123456789abcdef", "--control-token-file", "./secret"]),
            "--control-token-file: --control-token gives a token already; allowed is one of them".into(),
        ),
        (
            run(&["--commit-interval", "100"]),
            "--commit-interval: \"100\" can't be used; allowed is a time from 1ms to 5s, such as 100ms".into(),
        ),
        (
            run(&["--drain-timeout", "0s"]),
            "--drain-timeout: \"0s\" can't be used; allowed is a time from 1ms to 1h, such as 30s".into(),
        ),
        (
            run(&["--timestamp-format", "iso8601"]),
            "--timestamp-format: \"iso8601\" can't be used; allowed is epoch_seconds, epoch_milliseconds or rfc3339".into(),
        ),
        (
            run(&["--delivery", "exactly_once", "--commit-interval", "6s"]),
            "--commit-interval: \"6s\" can't be used; allowed is a time from 1ms to 5s, such as 100ms".into(),
        ),
        (
            file("[policy.a]\non_failure = \"panic\""),
            "loginscope.toml line 2: policy.a.on_failure: \"panic\" can't be used; allowed is reject, bypass or stop".into(),
        ),
        (
            file("[policy.a]\ndigest = \"abc\""),
            "loginscope.toml line 2: policy.a.digest: \"abc\" can't be used; allowed is sha256: and 64 hexadecimal digits"
                .into(),
        ),
        (
            file("[policy.a]\nmemory = 1"),
            "loginscope.toml line 2: policy.a.memory: there is no such key; allowed are on_failure, digest, cpu_ms_per_batch, \
             cpu_us_per_login, memory_mib, output_mib"
                .into(),
        ),
        (
            file("[swap]\nmax_change = 1"),
            "loginscope.toml line 2: swap.max_change: there is no such key; allowed are max_changed_share, max_slowdown, max_failures, probation"
                .into(),
        ),
        (
            file("[swap]\nmax_changed_share = 1.5"),
            "loginscope.toml line 2: swap.max_changed_share: 1.5 can't be used; allowed is a number from 0 to 1".into(),
        ),
        (
            file("commit_interval = \"3s\"\n[kafka]\ntransaction.timeout.ms = 4000"),
            "loginscope.toml line 1: commit_interval: \"3s\" can't be used; allowed is a time from 1ms to 2s, such as 100ms".into(),
        ),
        (
            variable("LOGINSCOPE_DELIVERY", "maybe"),
            "LOGINSCOPE_DELIVERY: \"maybe\" can't be used; allowed is at_least_once or exactly_once".into(),
        ),
        (run(&["--group", ""]), "--group: \"\" can't be used; allowed is a name".into()),
        (
            run(&["--group", "logins/eu"]),
            "group: its internal topics can't be named after it, so changelog_topic must be given: \"loginscope-logins/eu-changelog\" \
             can't be the name of a Kafka topic: only letters, digits, dots, underscores and hyphens are allowed".into(),
        ),
        (
            run(&["--changelog-topic", "user-login"]),
            "--changelog-topic: \"user-login\" is another topic already; each topic needs a name of its own".into(),
        ),
        (
            run(&["--state-in", "disk"]),
            "--state-in: \"disk\" can't be used; allowed is changelog or memory".into(),
        ),
        (
            file("plugins_from = \"files\""),
            "loginscope.toml line 1: plugins_from: \"files\" can't be used; allowed is topic or paths".into(),
        ),
        (
            file("plugins_topic = \"processed-logins\""),
            "loginscope.toml line 1: plugins_topic: \"processed-logins\" is another topic already; each topic needs a name of its own".into(),
        ),
        (
            file("state_in = \"memory\"\ntotals_topic = \"a\""),
            "loginscope.toml line 2: totals_topic: it has no use with state_in = \"memory\"; allowed is one of them".into(),
        ),
        (
            run(&["--field", "user_id"]),
            "--field: \"user_id\" can't be used; allowed is a field and its path, such as user_id=details.userId".into(),
        ),
        (
            run(&["--field", "user_id=a", "--field", "user_id=b"]),
            "--field: field user_id is given twice; allowed is one path for each field".into(),
        ),
        // Kafka.
        (
            Given { arguments: &["run"], ..Given::default() }.config(),
            "brokers: nothing is given; allowed is --brokers HOST:PORT, LOGINSCOPE_BROKERS, or brokers in the configuration file".into(),
        ),
        (
            run(&["--brokers", "localhost:kafka"]),
            "--brokers: \"localhost:kafka\" can't be used; allowed is HOST:PORT, with commas between several".into(),
        ),
        (
            variable("BOOTSTRAP_SERVERS", "a:1,,b:2"),
            "BOOTSTRAP_SERVERS: \"a:1,,b:2\" can't be used; allowed is HOST:PORT, with commas between several".into(),
        ),
        // Topics.
        (
            variable("KAFKA_TOPIC", "user login"),
            format!("KAFKA_TOPIC: \"user login\" can't be the name of a Kafka topic: {topic_rule}"),
        ),
        (
            file("input_topic = \"a\"\nrejected_topic = \"a/b\""),
            format!("loginscope.toml line 2: rejected_topic: \"a/b\" can't be the name of a Kafka topic: {topic_rule}"),
        ),
        (
            run(&["--processed-topic", "user-login"]),
            "--processed-topic: \"user-login\" is also input_topic; each topic needs a name of its own".into(),
        ),
        (
            file("insights_topic = \"x\"\nrejected_topic = \"x\""),
            "loginscope.toml line 2: rejected_topic: \"x\" is also loginscope.toml line 1: insights_topic; each topic needs a name of its own".into(),
        ),
        (
            variable("KAFKA_TOPIC", "rejected-logins"),
            "KAFKA_TOPIC: \"rejected-logins\" is also rejected_topic; each topic needs a name of its own".into(),
        ),
        // Plugins.
        (
            run(&["--plugin", "./nowhere.wasm"]),
            "--plugin: cannot read nowhere.wasm: No such file or directory (os error 2)".into(),
        ),
        (run(&["--plugin", "./"]), "--plugin:  is no file; allowed is a plugin's file".into()),
        (
            file("\nplugins = [\"plugin.wasm\", \"nowhere.wasm\"]"),
            "loginscope.toml line 2: plugins: cannot read nowhere.wasm: No such file or directory (os error 2)".into(),
        ),
        (
            file("plugins = [1]"),
            "loginscope.toml line 1: plugins: a list can't be used; allowed is the path of a file, or a list of them".into(),
        ),
        // The file.
        (
            Given { arguments: &["run", "--config", "./nowhere.toml"], ..Given::default() }.config(),
            "--config: cannot read nowhere.toml: No such file or directory (os error 2)".into(),
        ),
        (
            file("workers = 1\nworkers = 2"),
            "loginscope.toml line 2: it is no TOML: duplicate key".into(),
        ),
        (
            file("workrs = 4"),
            "loginscope.toml line 1: workrs: there is no such key; allowed are brokers, input_topic, processed_topic, insights_topic, \
             rejected_topic, plugins, compile_cache, insight_every, exact_distinct, max_message_bytes, group, instance, state_in, changelog_topic, totals_topic, plugins_topic, \
             plugins_from, from, workers, \
             memory_limit, delivery, watch, listen, control_token, control_token_file, create_topics, source_headers, plugins_header, commit_interval, drain_timeout, status_interval, the sections \
             [input], [input.fields], [swap] and [kafka], [policy.NAME] for the plugin NAME, and one for its settings under its name".into(),
        ),
        (
            file("[input]\n\ntimestamp = \"rfc3339\""),
            "loginscope.toml line 3: input.timestamp: there is no such key; allowed are timestamp_format and fields".into(),
        ),
        (
            file("input = 1"),
            "loginscope.toml line 1: input: it is a section; allowed is [input] with its keys below".into(),
        ),
        (
            file("[input.fields]\nuser = \"details.userId\""),
            "loginscope.toml line 2: input.fields.user: there is no field \"user\"; allowed are user_id, timestamp, ip, device_type, \
             device_id, locale, app_version, outcome".into(),
        ),
        (
            file("[input.fields]\nuser_id = \"a..b\""),
            "loginscope.toml line 2: input.fields.user_id: the path \"a..b\" of field user_id has an empty part: a path is names with a \
             dot between each two".into(),
        ),
        (
            file("[input.fields]\nuser_id = 1"),
            "loginscope.toml line 2: input.fields.user_id: 1 can't be used; allowed is the path to the field, such as \"details.userId\"".into(),
        ),
        (
            run(&["--field", "user_id=ip.user"]),
            "--field: field user_id can't be read from \"ip.user\": that is inside of field ip, read from \"ip\"".into(),
        ),
        (
            file("workers = \"4\""),
            "loginscope.toml line 1: workers: \"4\" can't be used; allowed is a whole number from 1 to 256".into(),
        ),
        (
            file("# many\nworkers = 257"),
            "loginscope.toml line 2: workers: 257 can't be used; allowed is a whole number from 1 to 256".into(),
        ),
        (
            file("watch = \"true\""),
            "loginscope.toml line 1: watch: \"true\" can't be used; allowed is true or false".into(),
        ),
        (
            file("commit_interval = 100"),
            "loginscope.toml line 1: commit_interval: 100 can't be used; allowed is a time from 1ms to 5s, such as 100ms".into(),
        ),
        (file("[group]\nname = \"a\""), "loginscope.toml line 1: group: a section can't be used; allowed is a name".into()),
        (
            file("delivery = \"exactly once\""),
            "loginscope.toml line 1: delivery: \"exactly once\" can't be used; allowed is at_least_once or exactly_once".into(),
        ),
        // Properties of Kafka clients.
        (
            file("[kafka]\nbootstrap.severs = \"x\""),
            "loginscope.toml line 2: kafka.bootstrap.severs: librdkafka has no property \"bootstrap.severs\"".into(),
        ),
        (
            file("[kafka]\nsecurity.protocol = \"tls\""),
            "loginscope.toml line 2: kafka.security.protocol: \"tls\" can't be used: Invalid value \"tls\" for configuration property \"security.protocol\"".into(),
        ),
        (
            variable("LOGINSCOPE_KAFKA_SESSION_TIMEOUT_MS", "soon"),
            "LOGINSCOPE_KAFKA_SESSION_TIMEOUT_MS: \"soon\" can't be used: Invalid value for configuration property \"session.timeout.ms\"".into(),
        ),
        (
            file("[kafka]\nacks = 1"),
            "loginscope.toml line 2: kafka.acks: \"1\" can't be used; only one of all, -1 is allowed, since a message counts as written \
             when all in-sync replicas have it".into(),
        ),
        (
            Given {
                arguments: &["run"],
                file: Some("brokers = \"a:1\"\n[kafka]\n\"bootstrap.servers\" = \"b:1\""),
                ..Given::default()
            }
            .config(),
            "loginscope.toml line 3: kafka.bootstrap.servers: the brokers are given by the key brokers, too; allowed is one of them"
                .into(),
        ),
        (
            file("[kafka]\nsession.timeout.ms = 0"),
            "loginscope.toml line 2: kafka.session.timeout.ms: \"0\" can't be used: Configuration property \"session.timeout.ms\" value 0 \
             is outside allowed range 1..3600000".into(),
        ),
        (
            file("[kafka]\nsasl.password = [\"hunter2\"]"),
            "loginscope.toml line 2: kafka.sasl.password: the value can't be used; allowed is a text, a number, true or false".into(),
        ),
        (
            file("[kafka]\nsasl.password_file = \"nowhere\""),
            "loginscope.toml line 2: kafka.sasl.password_file: cannot read nowhere: No such file or directory (os error 2)".into(),
        ),
        (
            file("[kafka]\nsasl.password_file = \"empty\""),
            "loginscope.toml line 2: kafka.sasl.password_file: empty is empty; allowed is a file that holds the value".into(),
        ),
        (
            variable("LOGINSCOPE_KAFKA_SASL_PASSWORD_FILE", "./nowhere"),
            "LOGINSCOPE_KAFKA_SASL_PASSWORD_FILE: cannot read nowhere: No such file or directory (os error 2)".into(),
        ),
        (
            file("[kafka]\nsasl.password = \"hunter2\"\nsasl.password_file = \"secret\""),
            "loginscope.toml line 3: kafka.sasl.password_file: sasl.password is given by loginscope.toml line 2: kafka.sasl.password \
             already; allowed is one of them".into(),
        ),
    ];
    for (config, sentence) in cases {
        let error = config.map(drop).unwrap_err();
        assert_eq!(error, sentence);
        assert!(!error.contains("hunter2"), "{error}");
    }
}
