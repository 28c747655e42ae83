use std::time::Duration;

use loginscope_kafka::{ClientSettings, EmbeddedBroker, Error, MessageLimit, Topics, topics::check_name};

use crate::support::{PATIENCE, broker_with, write_numbers};

#[test]
fn a_broker_that_is_not_there_is_one_sentence_with_its_address() {
    let error = Topics::connect(&ClientSettings::new("127.0.0.1:1"), Duration::from_millis(500)).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let sentence = error.to_string();
    assert!(sentence.contains("127.0.0.1:1") && sentence.contains("refused") && !sentence.contains('\n'), "{sentence}");
}

#[test]
fn looking_at_a_topic_tells_its_partitions_and_creates_nothing() {
    let broker = broker_with("there", 3);
    let topics = Topics::connect(&broker.settings(), PATIENCE).unwrap();
    assert_eq!(topics.partitions("there"), Ok(Some(3)));
    assert_eq!(topics.partitions("not-there"), Ok(None));
    assert_eq!(topics.partitions("not-there"), Ok(None), "the first look created nothing");
}

#[test]
fn watermarks_tell_where_a_partition_begins_and_ends() {
    let broker = broker_with("there", 2);
    write_numbers(&broker, "there", 1, 0..5);
    let topics = Topics::connect(&broker.settings(), PATIENCE).unwrap();
    assert_eq!(topics.watermarks("there", 0), Ok((0, 0)));
    assert_eq!(topics.watermarks("there", 1), Ok((0, 5)));
    assert!(matches!(topics.watermarks("a b", 0), Err(Error::TopicName { .. })));
}

#[test]
fn limits_that_cannot_be_read_are_unknown_with_the_reason() {
    let broker = broker_with("there", 1);
    let topics = Topics::connect(&broker.settings(), Duration::from_millis(500)).unwrap();
    let limits = topics.message_limits(&["there"]).unwrap();
    assert!(matches!(limits.as_slice(), [MessageLimit::Unknown(reason)] if !reason.is_empty()), "{limits:?}");
}

#[test]
fn a_name_that_no_topic_can_have_is_refused() {
    for name in ["", ".", "..", "a b", "a/b", "ä", "a\0b", &"x".repeat(250)] {
        assert!(matches!(check_name(name), Err(Error::TopicName { .. })), "{name:?}");
    }
    check_name("a.b_c-D9").unwrap();
    assert!(EmbeddedBroker::start().unwrap().create_topic("a b", 1).is_err());
}

#[test]
fn a_topic_is_not_created_twice() {
    let broker = broker_with("once", 1);
    assert!(matches!(broker.create_topic("once", 1), Err(Error::Failed { .. })));
}
