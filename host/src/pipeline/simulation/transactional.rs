//! Transactional producers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use loginscope_kafka::{Error, FencedBy, Record, TransactionError};

use super::coordinator::Transaction;
use super::group::Membership;
use super::log::Fate;
use super::world::{World, call, with};
use crate::pipeline::clients::TransactionProducer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Ready,
    Open,
    Committing,
    Aborting,
}

/// A transactional producer.
pub(super) struct Transactional {
    worker: usize,
    id: u64,
    epoch: u32,
    state: State,
    queue: Vec<(usize, Option<Vec<u8>>, Vec<u8>)>,
    /// A message was not delivered.
    has_failed: bool,
    /// The transaction at the coordinator, once something of it is there.
    open: Option<usize>,
    /// Why it can't be used any more.
    end: Option<TransactionError>,
}

impl Transactional {
    pub(super) fn new(worker: usize, id: u64) -> Self {
        Self { worker, id, epoch: 0, state: State::New, queue: Vec::new(), has_failed: false, open: None, end: None }
    }

    fn call(&self, what: &str) -> Result<(), TransactionError> {
        call(self.worker, what).map_err(|_| TransactionError::Stopped)?;
        self.end.clone().map_or(Ok(()), Err)
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        match self.state {
            State::Open => Ok(()),
            State::Committing => Err(doubtful()),
            State::Aborting => Err(abortable("abort it first")),
            State::New | State::Ready => {
                assert_ne!(self.state, State::New, "init comes first");
                self.state = State::Open;
                Ok(())
            }
        }
    }

    fn fail_if_failed(&self) -> Result<(), TransactionError> {
        let (topic, reason) = ("out".to_owned(), "simulated".to_owned());
        let error = Error::Delivery { topic, partition: None, bytes: 1, reason };
        if self.has_failed { Err(TransactionError::Abortable(error)) } else { Ok(()) }
    }

    /// Sends what is queued. Answers whether all of it is there.
    fn deliver(&mut self, world: &mut World, most: usize) -> Result<bool, TransactionError> {
        for _ in 0..most.min(self.queue.len()) {
            if world.fault(1) {
                world.say(|| format!("a message of id {} is not delivered", self.id));
                self.has_failed = true;
                self.queue.remove(0);
                self.fail_if_failed()?;
            }
            let Some(transaction) = self.transaction(world)? else { return Ok(false) };
            let (log, key, payload) = self.queue.remove(0);
            transaction.logs.insert(log);
            let fate = Fate::Open(transaction.number);
            world.logs[log].append(key, payload, fate);
        }
        Ok(self.queue.is_empty())
    }

    /// The broker's side of this producer's transaction; nothing while the last one is ending.
    fn transaction<'w>(&mut self, world: &'w mut World) -> Result<Option<&'w mut Transaction>, TransactionError> {
        let (now, number) = (world.now, world.next_transaction);
        let id = world.ids.entry(self.id).or_default();
        if id.epoch != self.epoch {
            return Err(self.fenced("another epoch"));
        }
        if id.current.is_none() {
            world.next_transaction += 1;
            let logs = BTreeSet::new();
            id.current = Some(Transaction { number, began: now, logs, offsets: BTreeMap::new(), is_committed: None });
        }
        let current = id.current.as_mut().filter(|transaction| transaction.is_committed.is_none());
        self.open = current.as_ref().map(|transaction| transaction.number);
        Ok(current)
    }

    fn fenced(&mut self, reason: &str) -> TransactionError {
        let error = TransactionError::Fenced { by: FencedBy::Producer, reason: reason.to_owned() };
        self.end = Some(error.clone());
        error
    }

    /// Ends the transaction at the coordinator.
    fn end(&mut self, world: &mut World, commit: bool) -> Result<(), TransactionError> {
        let id = world.ids.entry(self.id).or_default();
        if id.epoch != self.epoch {
            return Err(self.fenced("another epoch"));
        }
        let open = self.open;
        if let Some(transaction) = id.current.as_mut().filter(|transaction| Some(transaction.number) == open) {
            let is_committed = *transaction.is_committed.get_or_insert(commit);
            assert_eq!(is_committed, commit, "a transaction ends one way");
        }
        world.say(|| format!("id {} ends its transaction: commit {commit}", self.id));
        Ok(())
    }

    fn commit_now(&mut self, world: &mut World) -> Result<(), TransactionError> {
        if self.state == State::Open {
            self.fail_if_failed()?;
            if world.fault(20) || !self.deliver(world, usize::MAX)? {
                return Err(retriable("messages are missing"));
            }
            if world.fault(10) {
                return Err(abortable("simulated"));
            }
        }
        if world.fault(10) {
            self.state = State::Committing;
            return Err(doubtful());
        }
        if world.fault(3) {
            return Err(self.fenced("simulated before the commit"));
        }
        self.end(world, true)?;
        if world.fault(20) {
            self.state = State::Committing;
            return Err(doubtful());
        }
        if world.fault(5) {
            return Err(self.fenced("simulated behind the commit"));
        }
        self.state = State::Ready;
        self.open = None;
        Ok(())
    }

    fn send_offsets_now(
        &mut self,
        world: &mut World,
        offsets: &[(i32, i64)],
        group: &Membership,
    ) -> Result<(), TransactionError> {
        if world.fault(20) {
            return Err(retriable("simulated"));
        }
        if world.fault(5) {
            return Err(abortable("simulated"));
        }
        let generation = world.group.generation;
        let is_member = world.group.members.contains_key(&group.member);
        let Some(transaction) = self.transaction(world)? else { return Err(retriable("the last one is ending")) };
        if !is_member {
            return Err(TransactionError::Fenced { by: FencedBy::Group, reason: "no member".to_owned() });
        }
        if group.generation != generation {
            let (group, reason) = ("group".to_owned(), "another generation".to_owned());
            return Err(TransactionError::Abortable(Error::Commit { group, reason }));
        }
        transaction.offsets.extend(offsets.iter().copied());
        world.say(|| format!("id {} adds offsets {offsets:?}", self.id));
        if world.fault(5) {
            return Err(retriable("simulated, though done"));
        }
        Ok(())
    }
}

impl TransactionProducer for Transactional {
    type Membership = Membership;

    fn init(&mut self, _: Duration) -> Result<(), TransactionError> {
        self.call("init")?;
        if self.state != State::New {
            return Ok(());
        }
        with(|world| {
            world.pass(1, 50);
            if world.fault(20) {
                return Err(retriable("simulated"));
            }
            let id = world.ids.entry(self.id).or_default();
            if let Some(transaction) = &mut id.current {
                if transaction.is_committed.is_none() {
                    transaction.is_committed = Some(false);
                    id.epoch += 1;
                }
                return Err(retriable("the last transaction is ending"));
            }
            id.epoch += 1;
            self.epoch = id.epoch;
            self.state = State::Ready;
            world.say(|| format!("id {} is taken over", self.id));
            Ok(())
        })
    }

    fn send(&mut self, record: &Record<'_>, _: &dyn Fn() -> bool) -> Result<(), TransactionError> {
        self.call("send")?;
        self.begin()?;
        self.fail_if_failed()?;
        with(|world| {
            let log = world.log_of(record.topic, record.partition.unwrap_or(0));
            let payload = record.payload.unwrap_or_default().to_vec();
            self.queue.push((log, record.key.map(<[u8]>::to_vec), payload));
            let most = world.chance.below(4);
            self.deliver(world, most).map(drop)
        })
    }

    fn send_offsets(
        &mut self,
        _: &str,
        offsets: &[(i32, i64)],
        group: &Membership,
        _: Duration,
    ) -> Result<(), TransactionError> {
        self.call("send offsets")?;
        if offsets.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let sent = with(|world| self.send_offsets_now(world, offsets, group));
        call(self.worker, "offsets are sent").map_err(|_| TransactionError::Stopped)?;
        sent
    }

    fn commit(&mut self, _: Duration) -> Result<(), TransactionError> {
        self.call("commit")?;
        match self.state {
            State::New | State::Ready => return Ok(()),
            State::Aborting => return Err(abortable("abort it first")),
            State::Open | State::Committing => {}
        }
        let committed = with(|world| {
            world.pass(1, 20);
            self.commit_now(world)
        });
        if let Err(error) = &committed {
            with(|world| world.say(|| format!("commit of id {}: {error}", self.id)));
        }
        call(self.worker, "committed").map_err(|_| TransactionError::Stopped)?;
        committed
    }

    fn abort(&mut self, _: Duration) -> Result<(), TransactionError> {
        self.call("abort")?;
        match self.state {
            State::New | State::Ready => return Ok(()),
            State::Committing => return Err(doubtful()),
            State::Open | State::Aborting => self.state = State::Aborting,
        }
        with(|world| {
            world.pass(1, 20);
            if world.fault(20) {
                return Err(retriable("simulated"));
            }
            if world.fault(3) {
                return Err(self.fenced("simulated before the abort"));
            }
            self.end(world, false)?;
            self.queue.clear();
            self.has_failed = false;
            self.open = None;
            if world.fault(5) {
                return Err(retriable("simulated, though done"));
            }
            self.state = State::Ready;
            Ok(())
        })
    }

    fn is_open(&self) -> bool {
        !matches!(self.state, State::New | State::Ready)
    }
}

fn retriable(reason: &str) -> TransactionError {
    TransactionError::Retriable { what: "it".to_owned(), reason: reason.to_owned() }
}

fn abortable(reason: &str) -> TransactionError {
    TransactionError::Abortable(Error::Failed { what: "it".to_owned(), reason: reason.to_owned() })
}

fn doubtful() -> TransactionError {
    TransactionError::Doubtful { reason: "simulated".to_owned() }
}
