use loginscope_kafka::{ClientSettings, Consumer, ConsumerOptions, Error, Producer, ProducerOptions, Topics};
use std::time::Duration;

use crate::support::log_of;

const SECRET: &str = "correct-horse-battery";

fn refusal(property: &str, value: &str) -> String {
    let settings = ClientSettings::new("localhost:9092").with(property, value);
    let error = settings.check().unwrap_err();
    assert!(matches!(&error, Error::Property { property: named, .. } if named == property), "{error}");
    assert!(error.is_configuration());
    error.to_string()
}

#[test]
fn a_property_that_would_break_a_guarantee_is_refused_with_the_reason() {
    for (property, value) in [
        ("enable.auto.commit", "true"),
        ("enable.auto.offset.store", "true"),
        ("enable.idempotence", "false"),
        ("acks", "1"),
        ("request.required.acks", "0"),
        ("partitioner", "consistent_random"),
        ("isolation.level", "read_uncommitted"),
        ("auto.offset.reset", "latest"),
        ("group.id", "mine"),
        ("transactional.id", "mine"),
        ("bootstrap.servers", "elsewhere:9092"),
    ] {
        let sentence = refusal(property, value);
        assert!(sentence.contains(property) && sentence.contains("since"), "{sentence}");
    }
}

#[test]
fn a_guarding_property_may_be_set_to_what_it_is_anyway() {
    let settings = ClientSettings::new("localhost:9092")
        .with("enable.auto.commit", "false")
        .with("acks", "all")
        .with("enable.idempotence", "true")
        .with("partitioner", "murmur2_random")
        .with("auto.offset.reset", "error");
    settings.check().unwrap();
    settings.with("auto.offset.reset", "earliest").check().unwrap();
}

#[test]
fn an_unknown_property_and_a_bad_value_are_named() {
    assert!(refusal("bootstrap.severs", "x").contains("bootstrap.severs"));
    assert!(refusal("session.timeout.ms", "soon").contains("session.timeout.ms"));
    assert!(refusal("security.protocol", "tls").contains("security.protocol"));
}

#[test]
fn properties_that_do_not_go_together_are_one_sentence() {
    let settings =
        ClientSettings::new("localhost:9092").with("session.timeout.ms", "60000").with("max.poll.interval.ms", "30000");
    let error = Consumer::join(&settings, ConsumerOptions::new("t", "g")).unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("max.poll.interval.ms"), "{error}");
}

#[test]
fn the_properties_of_one_role_do_not_disturb_another() {
    let settings = ClientSettings::new("localhost:9092")
        .with("fetch.max.bytes", "2000000")
        .with("compression.type", "zstd")
        .with("linger.ms", "1");
    settings.check().unwrap();
    Consumer::join(&settings, ConsumerOptions::new("t", "g")).unwrap();
    Producer::new(&settings, ProducerOptions::default()).unwrap();
}

#[test]
fn the_newer_group_protocol_can_be_chosen() {
    let settings = ClientSettings::new("localhost:9092").with("group.protocol", "consumer");
    Consumer::join(&settings, ConsumerOptions::new("t", "g")).unwrap();
}

#[test]
fn no_secret_shows_in_settings_or_errors() {
    let settings = ClientSettings::new("127.0.0.1:1")
        .with("security.protocol", "SASL_PLAINTEXT")
        .with("sasl.mechanism", "SCRAM-SHA-512")
        .with("sasl.username", "somebody")
        .with("sasl.password", SECRET)
        .with("ssl.key.password", SECRET);
    assert!(!format!("{settings:?}").contains(SECRET));
    assert!(format!("{settings:?}").contains("somebody"));
    let error = Topics::connect(&settings, Duration::from_millis(300)).unwrap_err();
    assert!(!error.to_string().contains(SECRET) && !format!("{error:?}").contains(SECRET), "{error:?}");

    for property in ["ssl.key.pem", "ssl.certificate.pem", "sasl.oauthbearer.config"] {
        let settings = ClientSettings::new("localhost:9092").with(property, SECRET);
        let outcome = settings.check().and_then(|()| Producer::new(&settings, ProducerOptions::default()).map(drop));
        if property != "ssl.certificate.pem" {
            assert!(!format!("{settings:?}").contains(SECRET), "{property}");
            assert!(!format!("{outcome:?}").contains(SECRET), "{property}: {outcome:?}");
        }
    }
}

#[test]
fn tls_sasl_and_zstd_are_compiled_in() {
    let secured = ClientSettings::new("localhost:9093")
        .with("security.protocol", "SASL_SSL")
        .with("sasl.mechanism", "SCRAM-SHA-512")
        .with("sasl.username", "somebody")
        .with("sasl.password", SECRET)
        .with("compression.type", "zstd");
    secured.check().unwrap();
    Producer::new(&secured, ProducerOptions::default()).unwrap();
}

#[test]
fn certificates_of_brokers_are_checked_by_the_authorities_of_the_system() {
    let log = log_of(|| {
        let settings = ClientSettings::new("127.0.0.1:1").with("security.protocol", "ssl").with("debug", "security");
        assert!(matches!(Topics::connect(&settings, Duration::from_millis(200)), Err(Error::Unreachable { .. })));
    });
    assert!(log.contains("Setting default CA certificate location for kafka to"), "{log}");
}
