//! Reading the changelog of partitions, turn by turn.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use loginscope_kafka::{Assigned, ChangelogRead, Error, Record};
use loginscope_state::{Catalog, Follower, RestoreError, Term};

use super::super::clients::{Clients, EpochProducer as _, LogReader as _, MessageBatch as _, Turn};
use super::super::elsewhere::{CatchUp, MAX_MESSAGES, OPEN_TIMEOUT, POLL};
use super::{Found, Source};

/// How often it is told how far a long restore is.
const SAY_AFTER: Duration = Duration::from_secs(2);

/// A job on its thread.
pub(super) struct Restore<K: Clients> {
    source: Source<K>,
    /// The partitions that aren't there yet.
    open: BTreeMap<i32, Open>,
    catalog: Arc<Catalog>,
    report: Box<dyn Fn(i32, Result<Found>) + Send>,
    begun: Instant,
    stage: Stage<K>,
}

/// A partition that isn't there yet.
pub(super) struct Open {
    assigned: Assigned,
    follower: Follower,
    /// The term that it is to be claimed for, where it is.
    claim: Option<Term>,
    is_claimed: bool,
    /// How often it was found claimed by somebody else.
    waits: u32,
    is_wanted: Arc<AtomicBool>,
}

impl Open {
    pub(super) fn new(assigned: Assigned, claim: Option<Term>, is_wanted: Arc<AtomicBool>) -> Self {
        Self { assigned, follower: Follower::default(), claim, is_claimed: false, waits: 0, is_wanted }
    }
}

/// How far a job is.
enum Stage<K: Clients> {
    /// What is known elsewhere is read first.
    Elsewhere(CatchUp<K>),
    /// Partitions are to be claimed that are to be and aren't yet.
    Claim,
    /// The claims are to be acknowledged.
    Claiming(K::Producer),
    /// Where the changelog begins and ends is to be asked.
    Ends,
    /// The changelog is read.
    Reading(Reading<K>),
}

/// Partitions that are read to their ends.
struct Reading<K: Clients> {
    reader: K::Reader,
    partitions: Vec<i32>,
    /// How many haven't been yet.
    unread: usize,
    /// When it was told how far that is.
    said: Instant,
}

impl<K: Clients> Restore<K> {
    pub(super) fn new(
        source: Source<K>,
        open: BTreeMap<i32, Open>,
        catalog: Arc<Catalog>,
        report: Box<dyn Fn(i32, Result<Found>) + Send>,
    ) -> Self {
        let stage = if source.home.totals.is_some() { Stage::Elsewhere(CatchUp::default()) } else { Stage::Claim };
        Self { source, open, catalog, report, begun: K::now(), stage }
    }

    /// Goes on, by no more than one request.
    pub(super) fn turn(&mut self) -> Turn {
        let turned = std::panic::catch_unwind(AssertUnwindSafe(|| self.go_on()));
        let error = match turned.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))) {
            Ok(turn) => return turn,
            Err(error) => error,
        };
        // One partition that can't be restored ends the run.
        if let Some(partition) = self.open.keys().next() {
            let numbers: Vec<String> = self.open.keys().map(i32::to_string).collect();
            let what = format!("cannot restore partition {} from {}", numbers.join(", "), self.source.home.changelog);
            // Of a right that is missing, Kafka's client has said all already.
            let is_said = matches!(error.downcast_ref(), Some(Error::NotAuthorized { .. }));
            (self.report)(*partition, Err(if is_said { error } else { error.context(what) }));
        }
        Turn::Done
    }

    fn go_on(&mut self) -> Result<Turn> {
        self.open.retain(|_, open| open.is_wanted.load(Ordering::Relaxed));
        if self.open.is_empty() {
            return Ok(Turn::Done);
        }
        match &mut self.stage {
            Stage::Elsewhere(catch_up) => {
                let Source { kafka, home, totals, .. } = &self.source;
                let turn = catch_up.turn(kafka, home.totals.as_deref().unwrap_or_default(), totals)?;
                if turn == Turn::Done {
                    self.stage = Stage::Claim;
                    return Ok(Turn::Next);
                }
                Ok(turn)
            }
            Stage::Claim => self.claim(),
            Stage::Claiming(producer) => {
                match producer.flush(POLL) {
                    Ok(_) => {
                        self.open.values_mut().for_each(|open| open.is_claimed = true);
                        self.stage = Stage::Ends;
                    }
                    Err(Error::TimedOut { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(Turn::Next)
            }
            Stage::Ends => self.ask_for_ends(),
            Stage::Reading(_) => match self.read() {
                // A snapshot was completed meanwhile, and what is before it was deleted: all is in what is there now.
                Err(error) if matches!(error.downcast_ref(), Some(Error::Deleted { .. })) => {
                    tracing::debug!("reading the changelog anew: {error:#}");
                    self.begin_anew();
                    Ok(Turn::Next)
                }
                read => read,
            },
        }
    }

    fn is_wanted(&self) -> bool {
        self.open.values().any(|open| open.is_wanted.load(Ordering::Relaxed))
    }

    /// Begins with the partitions that aren't there yet.
    fn begin_anew(&mut self) {
        self.open.values_mut().for_each(|open| open.follower = Follower::default());
        self.stage = Stage::Claim;
    }

    /// Claims the partitions that are to be claimed.
    fn claim(&mut self) -> Result<Turn> {
        let claims = self.open.iter_mut().filter(|(_, open)| !open.is_claimed);
        let claims: Vec<(i32, Term)> = claims.filter_map(|(partition, open)| Some((*partition, open.claim?))).collect();
        if claims.is_empty() {
            self.stage = Stage::Ends;
            return Ok(Turn::Next);
        }
        let mut producer = K::producer(&self.source.kafka)?;
        for (partition, term) in &claims {
            let message = self.source.home.writer.claim(*term);
            let record = Record {
                topic: &self.source.home.changelog,
                partition: Some(*partition),
                payload: Some(&message),
                ..Record::default()
            };
            producer.send(&record, &|| !self.is_wanted())?;
        }
        self.stage = Stage::Claiming(producer);
        Ok(Turn::Next)
    }

    /// Begins to read. A broker that doesn't answer is waited for.
    fn ask_for_ends(&mut self) -> Result<Turn> {
        let partitions: Vec<i32> = self.open.keys().copied().collect();
        match K::reader(&self.source.kafka, &self.source.home.changelog, &partitions, OPEN_TIMEOUT) {
            Ok(reader) => {
                let unread = partitions.len();
                self.stage = Stage::Reading(Reading { reader, partitions, unread, said: self.begun });
                Ok(Turn::Next)
            }
            Err(error) if error.may_pass() => {
                tracing::warn!("the changelog can't be read yet; trying again: {error}");
                Ok(Turn::After(POLL))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read(&mut self) -> Result<Turn> {
        let Stage::Reading(reading) = &mut self.stage else { return Ok(Turn::Next) };
        if reading.unread == 0 {
            self.begin_anew();
            return Ok(Turn::Next);
        }
        let mut turn = Turn::Next;
        match reading.reader.poll(MAX_MESSAGES, POLL)? {
            ChangelogRead::Batch(batch) => {
                if let Some(open) = self.open.get_mut(&batch.partition()) {
                    let mut read = batch.messages();
                    let read = read.try_for_each(|it| open.follower.read(it.offset, it.payload.unwrap_or_default()));
                    if let Err(error) = read {
                        self.open.remove(&batch.partition());
                        self.damaged(batch.partition(), error);
                    }
                }
            }
            ChangelogRead::End(partition) => {
                reading.unread -= 1;
                turn = self.finish(partition)?;
            }
            ChangelogRead::Nothing => {}
        }
        if let Stage::Reading(reading) = &mut self.stage
            && K::since(reading.said) >= SAY_AFTER
        {
            reading.said = K::now();
            say_progress(&reading.partitions, reading.reader.progress(), K::since(self.begun));
        }
        Ok(turn)
    }

    /// What is there of a partition makes no state. The others may be whole.
    fn damaged(&self, partition: i32, error: RestoreError) {
        let what = format!("cannot restore partition {partition} from {}", self.source.home.changelog);
        (self.report)(partition, Err(anyhow::Error::from(error).context(what)));
    }

    /// A partition is read to its end.
    fn finish(&mut self, partition: i32) -> Result<Turn> {
        let Some(mut open) = self.open.remove(&partition) else { return Ok(Turn::Next) };
        let term = open.follower.term();
        let is_taken =
            open.claim.is_some_and(|claim| claim != term || open.follower.owner() != Some(self.source.home.writer.id));
        if !is_taken {
            let restored = open.follower.finish(Arc::clone(&self.catalog));
            let took = K::since(self.begun);
            match restored {
                Ok(restored) => {
                    (self.report)(partition, Ok(Found { assigned: open.assigned, restored, term, took }));
                }
                Err(error) => self.damaged(partition, error),
            }
            return Ok(Turn::Next);
        }
        let claim = open.claim.unwrap_or_default();
        let mut turn = Turn::Next;
        if claim.generation >= term.generation {
            // The group has been made anew before.
            open.claim = Some(term.at(claim.generation));
        } else if open.waits < self.source.patience {
            // The group has gone on, it seems, and the worker will hear that.
            if open.waits == 0 {
                tracing::info!(
                    partition,
                    ?claim,
                    ?term,
                    "somebody else has claimed a partition; waiting for the group's word"
                );
            }
            open.waits += 1;
            turn = Turn::After(POLL);
        } else if open.assigned.committed.is_none() {
            // It hasn't: a group without offsets has been made anew, and its generations begin anew.
            open.claim = Some(term.at(claim.generation));
        } else {
            bail!(
                "partition {partition} was written by a member of generation {} of the group, and this one is of {}: if the \
                 group was deleted, delete this topic, too, or use another group",
                term.generation,
                claim.generation
            );
        }
        open.is_claimed = false;
        self.open.insert(partition, open);
        Ok(turn)
    }
}

fn say_progress(partitions: &[i32], (read, all): (u64, u64), time: Duration) {
    let rate = read as f64 / time.as_secs_f64();
    let left = (all.saturating_sub(read)) as f64 / rate.max(1.0);
    tracing::info!(
        ?partitions,
        "restoring: {read} of {all} records of the changelog, {rate:.0}/s, about {left:.0} s left"
    );
}
