use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loginscope_kafka::{Assigned, ClientSettings, Consumer, ConsumerOptions, Error, Polled, Record, StartPosition};

use crate::support::{
    PATIENCE, broker_with, join, never, next, next_assigned, next_batch, numbers, producer, read, write_numbers,
};

fn options(start: StartPosition) -> ConsumerOptions {
    ConsumerOptions { start, ..ConsumerOptions::new("in", "group") }
}

#[test]
fn a_batch_holds_messages_of_one_partition_in_order_and_no_more_than_asked_for() {
    let broker = broker_with("in", 3);
    for partition in 0..3 {
        write_numbers(&broker, "in", partition, 0..100);
    }
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    next_assigned(&mut consumer);
    let mut next_offsets = [0; 3];
    while next_offsets != [100; 3] {
        let Polled::Batch(batch) = consumer.poll(30, PATIENCE).unwrap() else { panic!("messages were expected") };
        assert!((1..=30).contains(&batch.len()));
        let expected = &mut next_offsets[batch.partition() as usize];
        for message in batch.iter() {
            assert_eq!(message.offset(), *expected);
            assert_eq!(message.payload().unwrap(), expected.to_string().as_bytes());
            *expected += 1;
        }
        assert_eq!(batch.next_offset(), *expected);
    }
}

#[test]
fn a_batch_outlives_polls_and_its_consumer_and_can_go_to_another_thread() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    let batch = next_batch(&mut consumer);
    let first = batch.get(0).unwrap().payload().unwrap().to_vec();
    assert!(matches!(consumer.poll(10, Duration::ZERO), Ok(Polled::Batch(_) | Polled::Nothing)));
    consumer.close();
    let moved = std::thread::spawn(move || batch.get(0).unwrap().payload().unwrap().to_vec()).join().unwrap();
    assert_eq!(moved, first);
}

#[test]
fn a_group_resumes_at_what_it_committed() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut first = join(&broker, ConsumerOptions::new("in", "group"));
    assert_eq!(next_assigned(&mut first), [Assigned { partition: 0, committed: None, next_offset: None }]);
    assert_eq!(read(&mut first, 10).len(), 10);
    first.commit(&[(0, 4)]).unwrap();
    assert_eq!(first.progress()[0].committed, Some(4));
    first.close();

    let mut second = join(&broker, ConsumerOptions::new("in", "group"));
    assert_eq!(next_assigned(&mut second), [Assigned { partition: 0, committed: Some(4), next_offset: Some(4) }]);
    assert_eq!(numbers(&read(&mut second, 6)), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn an_asynchronous_commit_shows_in_the_progress_and_is_resumed_at() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut first = join(&broker, ConsumerOptions::new("in", "group"));
    read(&mut first, 10);
    let commit = first.commit_async(&[(0, 7)]).unwrap();
    while first.progress()[0].committed != Some(7) {
        assert!(matches!(first.poll(0, Duration::from_millis(10)), Ok(Polled::Nothing)));
    }
    assert_eq!(commit.outcome(), Some(Ok(())));
    first.close();
    let mut second = join(&broker, ConsumerOptions::new("in", "group"));
    assert_eq!(next_assigned(&mut second)[0].next_offset, Some(7));
}

#[test]
fn each_commit_tells_its_own_outcome() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    read(&mut consumer, 10);
    broker.refuse_commits(1).unwrap();
    let (refused, taken) = (consumer.commit_async(&[(0, 3)]).unwrap(), consumer.commit_async(&[(0, 5)]).unwrap());
    while taken.outcome().is_none() {
        assert!(matches!(consumer.poll(0, Duration::from_millis(10)), Ok(Polled::Nothing)));
    }
    assert!(matches!(refused.outcome(), Some(Err(Error::Commit { group, .. })) if group == "group"));
    assert_eq!(taken.outcome(), Some(Ok(())));
    assert_eq!(consumer.progress()[0].committed, Some(5));
    broker.refuse_commits(1).unwrap();
    assert!(matches!(consumer.commit(&[(0, 6)]), Err(Error::Commit { .. })));
    assert_eq!(consumer.commit_async(&[]).unwrap().outcome(), Some(Ok(())), "nothing to commit is committed");
}

#[test]
fn nothing_is_committed_by_itself() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    for _ in 0..2 {
        let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
        assert_eq!(numbers(&read(&mut consumer, 10)), (0..10).collect::<Vec<_>>());
        consumer.close();
    }
}

#[test]
fn a_new_group_that_starts_at_the_latest_skips_what_was_there_and_nothing_after_a_move() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut first = join(&broker, options(StartPosition::Latest));
    assert_eq!(next_assigned(&mut first), [Assigned { partition: 0, committed: None, next_offset: Some(10) }]);
    assert!(matches!(first.poll(10, Duration::ZERO).unwrap(), Polled::Nothing));
    first.close();
    // These come while no member is there. The position was taken once and is not taken again.
    write_numbers(&broker, "in", 0, 10..12);
    let mut second = join(&broker, options(StartPosition::Latest));
    assert_eq!(numbers(&read(&mut second, 2)), [10, 11]);
}

#[test]
fn a_new_group_starts_at_the_first_message_of_a_time() {
    let broker = broker_with("in", 2);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let mut sender = producer(&broker);
    for (hours_ago, value) in [(5, "0"), (4, "1"), (1, "2"), (0, "3")] {
        let record = Record {
            topic: "in",
            partition: Some(0),
            payload: Some(value.as_bytes()),
            timestamp: Some(now - hours_ago * 3_600_000),
            ..Record::default()
        };
        sender.send(&record, &never).unwrap();
        sender.flush(PATIENCE).unwrap();
    }
    let mut consumer = join(&broker, options("2h".parse().unwrap()));
    let assigned = next_assigned(&mut consumer);
    assert_eq!(assigned.len(), 2, "the empty partition too");
    assert!(assigned.iter().all(|partition| partition.next_offset.is_some()));
}

#[test]
fn an_old_group_keeps_its_place_whatever_the_start_position_says() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut first = join(&broker, options(StartPosition::Earliest));
    next_assigned(&mut first);
    first.commit(&[(0, 3)]).unwrap();
    first.close();
    let mut second = join(&broker, options(StartPosition::Latest));
    assert_eq!(next_assigned(&mut second)[0].next_offset, Some(3));
}

#[test]
fn the_lag_is_known_without_asking() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    next_assigned(&mut consumer);
    let Polled::Batch(batch) = consumer.poll(4, PATIENCE).unwrap() else { panic!("messages were expected") };
    let progress = consumer.progress()[0];
    assert_eq!((progress.next_offset, progress.high_watermark), (Some(batch.next_offset()), Some(10)));
    assert_eq!(progress.lag(), Some(10 - batch.len() as u64));
}

#[test]
fn paused_partitions_bring_nothing_and_lose_nothing() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    next_assigned(&mut consumer);
    let Polled::Batch(batch) = consumer.poll(3, PATIENCE).unwrap() else { panic!("messages were expected") };
    let got = batch.len();
    drop(batch);
    consumer.pause(&[0]).unwrap();
    assert!(matches!(consumer.poll(100, Duration::from_millis(300)).unwrap(), Polled::Nothing));
    consumer.resume(&[0]).unwrap();
    let rest = read(&mut consumer, 10 - got);
    assert_eq!(numbers(&rest), (got as u32..10).collect::<Vec<_>>());
}

#[test]
fn a_poll_for_no_messages_serves_the_group_and_leaves_the_messages() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..5);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    loop {
        match consumer.poll(0, Duration::from_millis(100)).unwrap() {
            Polled::Nothing => {}
            Polled::Assigned(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(consumer.poll(0, Duration::from_millis(300)).unwrap(), Polled::Nothing));
    assert_eq!(numbers(&read(&mut consumer, 5)), [0, 1, 2, 3, 4]);
}

#[test]
fn a_waiting_poll_can_be_woken() {
    let broker = broker_with("in", 1);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    next_assigned(&mut consumer);
    let waker = consumer.waker();
    let handle = std::thread::spawn(move || waker.wake());
    assert!(matches!(consumer.poll(1, Duration::from_hours(1)).unwrap(), Polled::Nothing));
    handle.join().unwrap();
}

#[test]
fn a_topic_that_does_not_come_is_an_error_with_its_name() {
    let broker = broker_with("other", 1);
    let mut consumer = join(
        &broker,
        ConsumerOptions { missing_topic_patience: Duration::ZERO, ..ConsumerOptions::new("in", "group") },
    );
    let error = loop {
        match consumer.poll(1, Duration::from_millis(100)) {
            Ok(Polled::Nothing) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::UnknownTopic { topic: "in".to_owned() });
}

#[test]
fn a_consumer_waits_for_a_broker_that_is_not_there_yet() {
    let settings = ClientSettings::new("127.0.0.1:1");
    let mut consumer = Consumer::join(&settings, ConsumerOptions::new("in", "group")).unwrap();
    assert!(matches!(consumer.poll(1, Duration::from_millis(200)).unwrap(), Polled::Nothing));
}

#[test]
fn a_broker_that_goes_and_comes_back_interrupts_only() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..3);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    assert_eq!(numbers(&read(&mut consumer, 3)), [0, 1, 2]);
    broker.go_down().unwrap();
    assert!(matches!(consumer.poll(1, Duration::from_millis(200)).unwrap(), Polled::Nothing));
    broker.come_back().unwrap();
    write_numbers(&broker, "in", 0, 3..5);
    assert_eq!(numbers(&read(&mut consumer, 2)), [3, 4]);
}

#[test]
fn positions_to_start_at_are_read_as_written() {
    let seconds = |seconds| Ok(StartPosition::Ago(Duration::from_secs(seconds)));
    assert_eq!("earliest".parse(), Ok(StartPosition::Earliest));
    assert_eq!("latest".parse(), Ok(StartPosition::Latest));
    assert_eq!("90s".parse(), seconds(90));
    assert_eq!("15m".parse(), seconds(900));
    assert_eq!("2h".parse(), seconds(7200));
    assert_eq!("7d".parse(), seconds(604_800));
    for wrong in ["", "h", "2", "-2h", "2 h", "2w", "1.5h", "+2h", "99999999999999999999d", "ä"] {
        assert!(wrong.parse::<StartPosition>().is_err_and(|sentence| sentence.contains("latest")), "{wrong:?}");
    }
}

#[test]
fn a_group_is_left_by_dropping_a_consumer_in_the_middle_of_a_rebalance() {
    let broker = broker_with("in", 2);
    let mut first = join(&broker, ConsumerOptions::new("in", "group"));
    next_assigned(&mut first);
    // The assignment was announced and never answered.
    drop(first);
    let mut second = join(&broker, ConsumerOptions::new("in", "group"));
    assert!(matches!(next(&mut second), Polled::Assigned(assigned) if assigned.len() == 2));
}
