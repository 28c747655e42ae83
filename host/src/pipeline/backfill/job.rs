//! Counting the history of one partition, on a thread.
//!
//! Invariant: all messages before the position are counted, and none at or behind it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use loginscope_kafka::{Batch, Error, HistoryReader};
use loginscope_state::{Names, Partition};

use super::board::Backfilled;
use super::permits::Permit;
use super::{CLOSE, Source, TIMEOUT};
use crate::pipeline::batch::{Message, PartitionState};
use crate::pipeline::chain::{Aggregates, Chain};
use crate::pipeline::outputs::{added_bytes, carried_bytes};
use crate::pipeline::processing::bounded;
use crate::pipeline::recount::Recount;

/// How long one wait for messages takes.
const POLL: Duration = Duration::from_millis(100);

/// How long to wait before a broker that doesn't answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The most messages that are taken at once.
const MAX_MESSAGES: usize = 4096;

/// The most messages that are counted at once: then it is looked whether they are wanted still, and others have their turn.
const AT_ONCE: usize = 256;

/// How often it is told how far it is.
const SAY_AFTER: Duration = Duration::from_secs(10);

/// What is to be counted.
pub(super) struct Task {
    /// The partition.
    pub(super) number: i32,
    /// The plugins that count, with what they keep.
    pub(super) chain: Arc<Chain>,
    /// What of that is wanted.
    pub(super) wanted: Aggregates,
    /// The values that keep their names in the partition.
    pub(super) names: Names,
    /// Called when it is done.
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

/// A partition that has counted its history, and what came of that.
pub(super) type Counted = (Partition, Backfilled);

/// A thread that counts. When this is dropped, it ends.
pub(super) struct Job {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Up to where it is to count for now.
    target: i64,
    /// Whether that is all.
    is_last: bool,
    position: i64,
    is_unwanted: bool,
    result: Option<Result<Counted>>,
}

/// What a thread is to do.
enum Next {
    CountUpTo(i64),
    FinishAt(i64),
    BeginAnew,
    End,
}

/// What came of counting.
enum Outcome {
    Counted(Box<Counted>),
    /// More was counted than is wanted: it is to be done again.
    TooMuch,
    Unwanted,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it may begin; nothing where it is wanted no more. For partitions that are held, nobody waits who only follows.
    fn permit<'s>(&self, source: &'s Source) -> Option<Permit<'s>> {
        loop {
            let State { is_unwanted, is_last, .. } = *self.lock();
            if is_unwanted {
                return None;
            }
            let permits = if is_last { &source.held } else { &source.following };
            if let Some(permit) = permits.take_within(POLL) {
                return Some(permit);
            }
        }
    }

    /// Whether little is left for whoever is at this position.
    fn is_close(&self, position: i64) -> bool {
        self.lock().target.saturating_sub(position) <= CLOSE
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until there is something to do for whoever is at this position, and has counted messages before `counted_to` only.
    fn next(&self, position: i64, counted_to: i64) -> Next {
        let mut state = self.lock();
        loop {
            state.position = position.min(state.target);
            if state.is_unwanted {
                return Next::End;
            }
            if position < state.target {
                return Next::CountUpTo(state.target);
            }
            if state.is_last {
                // It may have followed logins that were taken back, and are judged anew by other plugins.
                let is_too_much = counted_to > state.target;
                return if is_too_much { Next::BeginAnew } else { Next::FinishAt(state.target) };
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Job {
    /// Starts a thread that counts up to this offset, and waits there.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(source: Arc<Source>, task: Task, target: i64) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.change(|state| state.target = target);
        let of_thread = Arc::clone(&shared);
        let run = move || {
            let counting = std::panic::AssertUnwindSafe(|| count(&source, &task, &of_thread));
            let counted = std::panic::catch_unwind(counting).unwrap_or_else(|_| Err(anyhow!("it panicked")));
            let what = || format!("cannot count the history of partition {} of {}", task.number, source.topic);
            of_thread.change(|state| state.result = counted.with_context(what).transpose());
            (task.wake)();
        };
        let thread = std::thread::Builder::new().name("backfill".to_owned());
        thread.spawn(run).context("cannot start a thread that counts a partition's history")?;
        Ok(Self { shared })
    }

    /// All messages before this offset are counted.
    ///
    /// # Errors
    /// They can't be.
    pub(super) fn position(&self) -> Result<i64> {
        let mut state = self.shared.lock();
        state.result.take_if(|result| result.is_err()).transpose()?;
        Ok(state.position)
    }

    /// It may count up to this offset.
    pub(super) fn count_up_to(&self, target: i64) {
        self.shared.change(|state| state.target = state.target.max(target));
    }

    /// It is to count up to exactly this offset, and then it is done.
    pub(super) fn end_at(&self, until: i64) {
        self.shared.change(|state| (state.target, state.is_last) = (until, true));
    }

    /// What was counted, if it is done.
    ///
    /// # Errors
    /// It can't be counted.
    pub(super) fn counted(&self) -> Result<Option<Counted>> {
        self.shared.lock().result.take().transpose()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.shared.change(|state| state.is_unwanted = true);
    }
}

/// Counts until that is done; nothing where it is wanted no more.
fn count(source: &Source, task: &Task, shared: &Shared) -> Result<Option<Counted>> {
    while let Some(permit) = shared.permit(source) {
        match Counting::begin(source, task)?.run(shared, permit) {
            // What was deleted before it was read is no part of the history any more.
            Err(error) if matches!(error.downcast_ref(), Some(Error::Deleted { .. })) => {
                tracing::info!(partition = task.number, "counting the history anew: {error:#}");
            }
            Err(error) if error.downcast_ref().is_some_and(Error::may_pass) => {
                tracing::warn!(partition = task.number, "the history can't be read just now; trying again: {error:#}");
                std::thread::sleep(PAUSE);
            }
            Ok(Outcome::TooMuch) => {
                tracing::info!(partition = task.number, "counting the history anew: logins in it were taken back");
            }
            Ok(Outcome::Counted(counted)) => return Ok(Some(*counted)),
            Ok(Outcome::Unwanted) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A history that is being counted.
struct Counting<'a> {
    source: &'a Source,
    task: &'a Task,
    recount: Recount,
    state: PartitionState,
    added_bytes: usize,
    /// The offset behind the last message that is counted.
    counted_to: i64,
    messages: u64,
    begun: Instant,
    said: Instant,
}

impl<'a> Counting<'a> {
    fn begin(source: &'a Source, task: &'a Task) -> Result<Self> {
        // Nobody looks at its windows.
        let mut state = Partition::new(Arc::clone(&task.chain.catalog), u32::MAX);
        state.give_the_same_names(&task.names);
        let now = Instant::now();
        Ok(Self {
            source,
            task,
            recount: Recount::new(Arc::clone(&task.chain), source.limits)?.without_stops(),
            state: PartitionState {
                topic: Arc::clone(&source.topic),
                number: task.number,
                has_siblings: source.partitions > 1,
                state: Box::new(state),
            },
            added_bytes: added_bytes(&task.chain, source.source_headers, source.plugins_header),
            counted_to: 0,
            messages: 0,
            begun: now,
            said: now,
        })
    }

    fn run(mut self, shared: &Shared, permit: Permit<'_>) -> Result<Outcome> {
        let mut permit = Some(permit);
        let Source { kafka, topic, partitions, .. } = self.source;
        let mut reader = HistoryReader::open(kafka, topic, self.task.number, partitions.unsigned_abs(), TIMEOUT)?;
        // What is at hand, and how many messages of it are counted.
        let mut at_hand: Option<(Batch, usize)> = None;
        loop {
            let next = at_hand.as_ref().and_then(|(batch, counted)| Some(batch.get(*counted)?.offset()));
            let position = next.unwrap_or(reader.position());
            permit.take_if(|_| shared.is_close(position));
            let target = match shared.next(position, self.counted_to) {
                Next::CountUpTo(target) => target,
                Next::FinishAt(until) => return Ok(Outcome::Counted(Box::new(self.finish(reader.begin(), until)))),
                Next::BeginAnew => return Ok(Outcome::TooMuch),
                Next::End => return Ok(Outcome::Unwanted),
            };
            match &mut at_hand {
                Some((batch, counted)) if next.is_some() => *counted += self.count(batch, *counted, target),
                _ => at_hand = reader.poll(MAX_MESSAGES, POLL)?.map(|batch| (batch, 0)),
            }
            self.say_progress(position, target);
        }
    }

    /// Counts some messages of a batch from this place on and before this offset. Answers how many.
    fn count(&mut self, batch: &Batch, from: usize, target: i64) -> usize {
        let added_bytes = self.added_bytes;
        let messages = batch.iter().skip(from).take_while(|message| message.offset() < target);
        let messages = messages.take(AT_ONCE).map(|message| Message {
            offset: message.offset(),
            payload: message.payload(),
            key: message.key(),
            timestamp_ms: message.timestamp(),
            header_bytes: carried_bytes(message) + added_bytes,
        });
        let messages: Vec<Message<'_>> = messages.collect();
        let some = bounded(&messages, AT_ONCE);
        let _turn = self.source.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.recount.count(&mut self.state, some);
        self.counted_to = some.last().map_or(self.counted_to, |last| last.offset + 1);
        self.messages += some.len() as u64;
        some.len()
    }

    fn finish(self, begin: i64, until: i64) -> Counted {
        let told = Backfilled {
            generation: 0,
            aggregates: self.task.wanted.clone(),
            from: begin.min(until),
            until,
            messages: self.messages,
            logins: self.recount.logins,
            failures: self.recount.failures,
            took: self.begun.elapsed(),
        };
        (*self.state.state, told)
    }

    fn say_progress(&mut self, position: i64, target: i64) {
        if self.said.elapsed() < SAY_AFTER {
            return;
        }
        self.said = Instant::now();
        let (partition, messages) = (self.task.number, self.messages);
        let rate = messages as f64 / self.begun.elapsed().as_secs_f64();
        let left = target.saturating_sub(position) as f64 / rate.max(1.0);
        tracing::info!(
            partition,
            "backfill: {messages} messages counted, {rate:.0}/s, at offset {position} of {target}, about {left:.0} s left"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_has_counted_what_was_taken_back_is_never_handed_out() {
        let shared = Arc::new(Shared::default());
        let job = Job { shared: Arc::clone(&shared) };
        job.count_up_to(1000);
        assert!(matches!(shared.next(600, 600), Next::CountUpTo(1000)));
        // While it counts the rest of them, they are taken back, and what is done again ends before.
        job.end_at(700);
        assert_eq!(job.position().unwrap(), 600);
        assert!(matches!(shared.next(1000, 1000), Next::BeginAnew));
        assert!(matches!(shared.next(0, 0), Next::CountUpTo(700)));
        assert!(matches!(shared.next(700, 700), Next::FinishAt(700)));
        // Offsets without messages are no messages.
        assert!(matches!(shared.next(1000, 700), Next::FinishAt(700)));
        drop(job);
        assert!(matches!(shared.next(0, 0), Next::End));
    }
}
