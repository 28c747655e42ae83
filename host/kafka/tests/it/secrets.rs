use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loginscope_kafka::{Producer, ProducerOptions, Record};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{broker_with, never};

const SECRET: &str = "correct-horse-battery";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn no_secret_shows_in_the_log_of_librdkafka_whatever_it_tells() {
    let broker = broker_with("t", 1);
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
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
    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("librdkafka") && log.contains("[hidden]"), "{log}");
    assert!(!log.contains(SECRET));
}
