//! The clients of the simulation.

use std::io;
use std::time::{Duration, Instant};

use loginscope_kafka::Error;

use super::batch::{Batch, Commit};
use super::consumer::Consumer;
use super::group::Membership;
use super::producer::Idempotent;
use super::reader::Reader;
use super::transactional::Transactional;
use super::world::{self, Job, with};
use crate::pipeline::clients::{Clients, Turn};

/// The model of Kafka in the place of Kafka.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model;

impl Clients for Model {
    /// The worker whose clients they are.
    type Settings = usize;
    type Batch = Batch;
    type Membership = Membership;
    type Commit = Commit;
    type Consumer = Consumer;
    type Producer = Idempotent;
    type Transactional = Transactional;
    type Reader = Reader;

    fn producer(worker: &usize) -> Result<Idempotent, Error> {
        Ok(Idempotent::new(*worker))
    }

    fn reader(worker: &usize, topic: &str, partitions: &[i32], _: Duration) -> Result<Reader, Error> {
        Reader::open(*worker, topic, partitions)
    }

    fn now() -> Instant {
        world::now()
    }

    fn sleep(_: Duration) {
        // Where somebody waits, others have time.
        with(|world| world.pass(1, 300));
        for _ in 0..3 {
            super::scheduler::let_others_act();
        }
    }

    fn in_background(_: &str, turn: impl FnMut() -> Turn + Send + 'static) -> io::Result<()> {
        with(|world| {
            let worker = *world.running.last().expect("a worker begins it");
            let is_slow = world.settings.has_slow_jobs && world.chance.one_in(2);
            world.jobs.push(Job { worker, turn: Box::new(turn), waits: false, is_slow });
        });
        Ok(())
    }
}
