//! Idempotent producers.

use std::collections::VecDeque;
use std::time::Duration;

use loginscope_kafka::{Error, Record};

use super::log::Fate;
use super::world::{World, call, with};
use crate::pipeline::clients::EpochProducer;

/// What has been sent and not been acknowledged. librdkafka goes on with it by itself.
pub(super) struct ProducerModel {
    pub(super) worker: usize,
    pub(super) queue: VecDeque<Sent>,
    has_failed: bool,
}

pub(super) struct Sent {
    epoch: u64,
    log: usize,
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    /// The broker has it, and its answer is missing.
    is_there: bool,
}

/// An idempotent producer.
pub(super) struct Idempotent {
    number: usize,
    worker: usize,
    open: u64,
    has_sent: bool,
}

impl Idempotent {
    pub(super) fn new(worker: usize) -> Self {
        let number = with(|world| {
            world.producers.push(ProducerModel { worker, queue: VecDeque::new(), has_failed: false });
            world.producers.len() - 1
        });
        Self { number, worker, open: 1, has_sent: false }
    }

    fn newest(&self, world: &World) -> Result<u64, Error> {
        let producer = &world.producers[self.number];
        if producer.has_failed {
            let (topic, reason) = ("out".to_owned(), "simulated".to_owned());
            return Err(Error::Delivery { topic, partition: None, bytes: 1, reason });
        }
        let oldest = producer.queue.iter().map(|sent| sent.epoch).min();
        Ok(oldest.unwrap_or(self.open).min(self.open) - 1)
    }
}

impl EpochProducer for Idempotent {
    type Epoch = u64;

    fn send(&mut self, record: &Record<'_>, _: &dyn Fn() -> bool) -> Result<(), Error> {
        call(self.worker, "send").map_err(|_| Error::Stopped)?;
        with(|world| {
            self.newest(world)?;
            let log = world.log_of(record.topic, record.partition.unwrap_or(0));
            let (key, payload) = (record.key.map(<[u8]>::to_vec), record.payload.unwrap_or_default().to_vec());
            let sent = Sent { epoch: self.open, log, key, payload, is_there: false };
            world.producers[self.number].queue.push_back(sent);
            self.has_sent = true;
            Ok(())
        })
    }

    fn close_epoch(&mut self) -> u64 {
        if self.has_sent {
            self.open += 1;
            self.has_sent = false;
        }
        self.open - 1
    }

    fn acknowledged(&mut self) -> Result<u64, Error> {
        call(self.worker, "acknowledged").map_err(|_| Error::Stopped)?;
        with(|world| {
            for _ in 0..world.chance.below(6) {
                world.deliver(self.number);
            }
            self.newest(world)
        })
    }

    fn flush(&mut self, timeout: Duration) -> Result<u64, Error> {
        let wanted = self.close_epoch();
        call(self.worker, "flush").map_err(|_| Error::Stopped)?;
        let flushed = with(|world| {
            world.pass(1, 50);
            let is_slow = world.fault(20);
            while world.chance.below(8) > 0 || !is_slow {
                if !world.deliver(self.number) {
                    break;
                }
            }
            self.newest(world)
        })?;
        call(self.worker, "flushed").map_err(|_| Error::Stopped)?;
        if flushed >= wanted {
            return Ok(flushed);
        }
        with(|world| world.now += timeout.min(Duration::from_secs(1)));
        Err(Error::TimedOut { what: "flushing".to_owned(), waited: timeout })
    }
}

impl World {
    /// A message of this producer is written, or acknowledged. Answers whether there was one.
    pub(super) fn deliver(&mut self, producer: usize) -> bool {
        let queue = &self.producers[producer].queue;
        if queue.is_empty() || self.producers[producer].has_failed {
            return false;
        }
        // Those of one log come in order.
        let chosen = self.chance.below(queue.len());
        let log = queue[chosen].log;
        let first = queue.iter().position(|sent| sent.log == log).unwrap_or(0);
        if self.fault_of_delivery(producer) {
            return true;
        }
        let next_unwritten = self.producers[producer].queue.iter_mut().find(|sent| sent.log == log && !sent.is_there);
        if let Some(sent) = next_unwritten {
            sent.is_there = true;
            let (key, payload) = (sent.key.take(), std::mem::take(&mut sent.payload));
            self.logs[log].append(key, payload, Fate::Committed);
        }
        if self.chance.below(4) > 0 || self.is_calm {
            let is_there = self.producers[producer].queue.get(first).is_some_and(|sent| sent.is_there);
            if is_there {
                self.producers[producer].queue.remove(first);
            }
        }
        true
    }

    /// A delivery fails for good, which ends the worker.
    fn fault_of_delivery(&mut self, producer: usize) -> bool {
        let fails = self.fault(1) && self.chance.one_in(4);
        if fails {
            let worker = self.producers[producer].worker;
            self.say(|| format!("a delivery of {worker} fails for good"));
            self.producers[producer].has_failed = true;
            self.producers[producer].queue.clear();
            self.lives[worker].may_fail = true;
        }
        fails
    }
}
