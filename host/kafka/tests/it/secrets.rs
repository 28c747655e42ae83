use std::time::Duration;

use loginscope_kafka::{Producer, ProducerOptions, Record};

use crate::support::{broker_with, log_of, never};

const SECRET: &str = "correct-horse-battery";

#[test]
fn no_secret_shows_in_the_log_of_librdkafka_whatever_it_tells() {
    let broker = broker_with("t", 1);
    let log = log_of(|| {
        // The secret stands where librdkafka does repeat it: the client's name is in many of its lines.
        let settings = broker
            .settings()
            .with("debug", "all")
            .with("client.id", format!("worker-{SECRET}"))
            .with("sasl.username", "somebody")
            .with("sasl.password", SECRET);
        let mut producer = Producer::new(&settings, ProducerOptions::default()).unwrap();
        producer.send(&Record { topic: "t", payload: Some(b"x"), ..Record::default() }, &never).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    });
    assert!(log.contains("librdkafka") && log.contains("[hidden]"), "{log}");
    assert!(!log.contains(SECRET));
}
