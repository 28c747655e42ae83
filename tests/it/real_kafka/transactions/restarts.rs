//! Brokers that come and go amid transactions.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use loginscope_kafka::{
    Batch, ClientSettings, Consumer, ConsumerOptions, Error, FencedBy, Polled, Record, TransactionError,
    TransactionalProducer,
};
use loginscope_tests::instance::PATIENCE;
use loginscope_tests::kafka::{Message, Scene, cluster};

use super::{CALL, again, assert_fenced, committed, membership, producer, scene, send};

/// The least that a worker has to do: it copies the input, a transaction for every batch.
struct Copier {
    settings: ClientSettings,
    options: ConsumerOptions,
    output: String,
}

impl Copier {
    fn new(scene: &Scene) -> Self {
        let options = ConsumerOptions::new(&scene.input, &scene.group);
        Self { settings: scene.settings.clone(), options, output: scene.processed.clone() }
    }

    /// Copies until the offsets of the group add up to the goal, once there is one; answers what went wrong meanwhile.
    fn run(&self, goal: &OnceLock<i64>) -> Vec<TransactionError> {
        let (mut next_offsets, mut errors) = (BTreeMap::new(), Vec::new());
        let until = Instant::now() + PATIENCE;
        let is_done = |next_offsets: &BTreeMap<i32, i64>| goal.get() == Some(&next_offsets.values().sum());
        while !is_done(&next_offsets) {
            let mut consumer = Consumer::join(&self.settings, self.options.clone()).unwrap();
            let mut producer = producer(&self.settings, &self.options.group);
            while !is_done(&next_offsets) {
                assert!(Instant::now() < until, "copied {next_offsets:?} of {goal:?}: {errors:?}");
                match consumer.poll(20, Duration::from_millis(20)).unwrap() {
                    Polled::Assigned(assigned) => {
                        next_offsets.extend(assigned.iter().map(|one| (one.partition, one.next_offset.unwrap_or(0))));
                    }
                    Polled::Batch(batch) => match self.copy(&mut consumer, &mut producer, &batch, &mut errors) {
                        Ok(()) => drop(next_offsets.insert(batch.partition(), batch.next_offset())),
                        Err(error) => {
                            errors.push(error);
                            break;
                        }
                    },
                    Polled::Revoked(_) | Polled::Lost(_) | Polled::Nothing => {}
                }
            }
        }
        errors
    }

    /// Copies a batch, if need be several times; answers why everything must be made anew, consumer and producer.
    fn copy(
        &self,
        consumer: &mut Consumer,
        producer: &mut TransactionalProducer,
        batch: &Batch,
        errors: &mut Vec<TransactionError>,
    ) -> Result<(), TransactionError> {
        loop {
            match self.transact(consumer, producer, batch) {
                Err(error @ TransactionError::Abortable(_)) => {
                    errors.push(error);
                    again(|| producer.abort(CALL))?;
                }
                outcome => return outcome,
            }
        }
    }

    fn transact(
        &self,
        consumer: &Consumer,
        producer: &mut TransactionalProducer,
        batch: &Batch,
    ) -> Result<(), TransactionError> {
        for message in batch.iter() {
            producer
                .send(&Record { topic: &self.output, payload: message.payload(), ..Record::default() }, &|| false)?;
        }
        let offsets = [(batch.partition(), batch.next_offset())];
        again(|| producer.send_offsets(&self.options.topic, &offsets, &membership(consumer), CALL))?;
        again(|| producer.commit(CALL))
    }
}

#[test]
fn a_broker_that_restarts_amid_transactions_loses_and_doubles_nothing() {
    let mut kafka = cluster();
    let mut scene = scene(&mut kafka, "restarts", 2);
    let write = |scene: &mut Scene| {
        let first = scene.written();
        let message = |number: u64| Message {
            partition: Some(i32::from(number % 2 == 1)),
            value: number.to_string().into_bytes(),
            ..Message::default()
        };
        scene.write(&(first..first + 4_000).map(message).collect::<Vec<_>>());
    };
    let copier = Copier::new(&scene);
    let goal = OnceLock::new();
    let errors = std::thread::scope(|scope| {
        let errors = scope.spawn(|| copier.run(&goal));
        write(&mut scene);
        kafka.restart().unwrap();
        write(&mut scene);
        kafka.kill();
        kafka.restart().unwrap();
        write(&mut scene);
        goal.set(i64::try_from(scene.written()).unwrap()).unwrap();
        errors.join().expect("the copier ends")
    });
    println!("{} transactions failed: {errors:?}", errors.len());
    let mut arrived: Vec<u64> =
        committed(&scene, &scene.processed).iter().map(|value| value.parse().unwrap()).collect();
    arrived.sort_unstable();
    assert_eq!(arrived.len() as u64, scene.written());
    assert!(arrived.into_iter().eq(0..scene.written()));
}

#[test]
fn messages_that_wait_for_a_broker_for_too_long_make_their_transaction_abortable() {
    let mut kafka = cluster();
    let scene = scene(&mut kafka, "away", 1);
    let settings = scene.settings.clone().with("transaction.timeout.ms", "2000");
    let mut producer = producer(&settings, "away");
    send(&mut producer, &scene.processed, "before").unwrap();
    kafka.stop();
    let error = send(&mut producer, &scene.processed, "meanwhile").unwrap_err();
    assert!(matches!(&error, TransactionError::Abortable(Error::Delivery { .. })), "{error}");
    kafka.restart().unwrap();
    // The broker may have ended the transaction by itself.
    match again(|| producer.abort(CALL)) {
        Ok(()) => {}
        outcome => {
            assert_fenced(&outcome, FencedBy::Producer);
            producer = self::producer(&settings, "away");
        }
    }
    loop {
        match send(&mut producer, &scene.processed, "again").and_then(|()| again(|| producer.commit(CALL))) {
            Err(TransactionError::Abortable(_)) => again(|| producer.abort(CALL)).unwrap(),
            outcome => break outcome.unwrap(),
        }
    }
    assert_eq!(committed(&scene, &scene.processed), ["again"]);
}
