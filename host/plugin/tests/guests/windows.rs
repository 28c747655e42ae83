//! Insights of a window, and the aggregates that a plugin reads for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loginscope_wasm::{AggregateReader, Listing, ListingShape, Period, Severity, Summary, Window, WindowFacts};

use crate::support::{instance, misbehave, plugin, short_limits};

/// A reader without aggregates.
pub(crate) struct Nothing;

impl AggregateReader for Nothing {
    fn summarize(&self, aggregate: &str, _period: Period) -> Result<Summary, String> {
        Err(format!("there is no aggregate {aggregate}"))
    }

    fn entries(&self, aggregate: &str, _period: Period) -> Result<Listing, String> {
        Err(format!("there is no aggregate {aggregate}"))
    }
}

/// A reader that counts its questions.
struct Something {
    questions: Arc<AtomicUsize>,
}

impl AggregateReader for Something {
    fn summarize(&self, aggregate: &str, period: Period) -> Result<Summary, String> {
        assert_eq!((aggregate, period), ("logins", Period::Current));
        self.questions.fetch_add(1, Ordering::Relaxed);
        Ok(Summary { keys: 2, sum: 7, approximate: true })
    }

    fn entries(&self, aggregate: &str, period: Period) -> Result<Listing, String> {
        assert_eq!((aggregate, period), ("logins", Period::Previous));
        self.questions.fetch_add(1, Ordering::Relaxed);
        let mut listing = Listing::new(ListingShape { rows: 1, has_buckets: true, dimensions: 3, values: 2 });
        listing.begin_entry(Some(3600));
        listing.push_text("Zoë");
        listing.push_text("ios");
        listing.push_boolean(true);
        listing.push_integer(-7);
        listing.push_number(0.5);
        Ok(listing)
    }
}

/// The third window of a partition.
pub(crate) fn window() -> Window {
    let facts = WindowFacts {
        logins: 100,
        rejected: 3,
        first_offset: 420,
        last_offset: 522,
        earliest_login_time: Some(1_694_479_551),
        latest_login_time: None,
    };
    Window {
        topic: "user-login".to_owned(),
        partition: 2,
        number: 3,
        facts,
        previous: Some(WindowFacts { logins: 99, ..facts }),
    }
}

#[test]
fn a_window_crosses_and_its_insight_comes_back() {
    let (insights, _) = instance("well").generate(&window(), Box::new(Nothing));
    let insights = insights.unwrap();
    assert_eq!(insights.len(), 1);
    assert_eq!((insights[0].kind.as_str(), insights[0].severity), ("guest_window", Severity::Info));
    assert_eq!(insights[0].data, r#"{"logins":100,"number":3,"previous_logins":99,"topic":"user-login"}"#);
}

#[test]
fn aggregates_are_read_and_the_reader_comes_back() {
    let questions = Arc::new(AtomicUsize::new(0));
    let mut instance = plugin(r#"{"read_aggregate":"logins"}"#).instance();
    let (insights, reader) = instance.generate(&window(), Box::new(Something { questions: Arc::clone(&questions) }));
    let data = insights.unwrap().remove(0).data;
    assert!(data.contains(r#""read":[2,7,true]"#), "{data}");
    // One row with a bucket, three dimensions and two values.
    let entries = r#""entries":{"cells":[3600,"Zoë","ios",true,-7,0.5],"shape":[1,true,3,2]}"#;
    assert!(data.contains(entries), "{data}");
    assert_eq!(reader.questions.load(Ordering::Relaxed), 2);
    assert!(Arc::ptr_eq(&reader.questions, &questions));
}

#[test]
fn a_refused_question_reaches_the_plugin_as_a_sentence() {
    let mut instance = plugin(r#"{"read_aggregate":"logins"}"#).instance();
    let (insights, _) = instance.generate(&window(), Box::new(Nothing));
    assert!(insights.unwrap()[0].data.contains("there is no aggregate logins"));
}

#[test]
fn the_reader_comes_back_after_a_failure_too() {
    for how in ["trap", "loop", "hoard", "lie_reason", "lie_pointer"] {
        let questions = Arc::new(AtomicUsize::new(0));
        let plugin = misbehave().configure(&format!(r#"{{"how":"{how}"}}"#), &short_limits()).unwrap();
        let mut instance = plugin.instance();
        let (answer, reader) = instance.generate(&window(), Box::new(Something { questions: Arc::clone(&questions) }));
        assert!(answer.is_err(), "{how}");
        assert!(Arc::ptr_eq(&reader.questions, &questions));
    }
}
