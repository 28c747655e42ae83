//! Proposing and committing, from the side of the one who wants it.
//!
//! Invariant: whatever happens, an error other than [`Refusal::Unknown`] means that nothing has changed, for anybody.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ballot::{self, Refusal, Step, Turn};
use super::fold::Proposal;
use super::records::{GenerationRecord, Key, PluginList, ProposalRecord, ProposalState, to_bytes};
use super::topic::{Components, TopicWriter};
use super::{Group, Inner};
use crate::application::random;

/// Why a proposal was dropped that came after another one.
const GAVE_WAY: &str = "another one came first";

/// How long cleaning up may take. What is left is done next time.
const CLEAN_UP: Duration = Duration::from_secs(5);

impl Group {
    /// Has all instances agree on these plugins and commits them, as the generation behind `base` (0: the first one). They count as
    /// verified here. `components` holds those that the group doesn't keep yet. Answers the number of the new generation, which each
    /// instance takes over by itself, this one as well.
    ///
    /// # Errors
    /// Why there is none. See [`Refusal`].
    pub fn propose(&self, base: u64, list: &PluginList, components: &Components) -> Result<u64, Refusal> {
        let _under_way = UnderWay::begin(&self.inner);
        loop {
            if let Some(number) = self.inner.wait_for_others(base, list)? {
                return Ok(number);
            }
            if let Some(number) = self.inner.propose(base, list, components)? {
                return Ok(number);
            }
        }
    }

    /// Commits these plugins without asking anybody, as the generation behind `base`. They are some that served before, or
    /// serve: it is for going back, and for remembering what leaves them as they are.
    ///
    /// # Errors
    /// As [`Group::propose`].
    pub fn commit(&self, base: u64, list: &PluginList, components: &Components) -> Result<u64, Refusal> {
        let _under_way = UnderWay::begin(&self.inner);
        let inner = &*self.inner;
        let mut writer = inner.writer()?;
        inner.write_components(&mut writer, list, components)?;
        let number = inner.commit(&mut writer, base, list, None)?;
        inner.clean_up(&mut writer, Vec::new());
        Ok(number)
    }

    /// Comes after those that had the name of this instance, which no other one has: they were killed. What they have proposed is dropped,
    /// and nobody waits for their votes.
    ///
    /// # Errors
    /// It can't be written.
    pub fn succeed(&self) -> Result<(), Refusal> {
        let inner = &*self.inner;
        let left = inner.lock().fold.left_by(&inner.name);
        if left.instances.is_empty() {
            return Ok(());
        }
        let mut writer = inner.writer()?;
        for (id, base, proposer) in left.proposals {
            let reason = format!("{} was killed before it was decided", inner.name);
            let record = ProposalRecord { base, proposer, state: ProposalState::Dropped(reason) };
            inner.write(&mut writer, &Key::Proposal(id), &record)?;
        }
        Inner::delete(&mut writer, left.votes.into_iter().chain(left.instances.into_iter().map(Key::Instance)));
        Ok(())
    }
}

/// Counts what is under way, so that an instance that ends waits until it has taken it back.
struct UnderWay<'a>(&'a Inner);

impl<'a> UnderWay<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.proposing.fetch_add(1, Ordering::Relaxed);
        Self(inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.proposing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A proposal of this instance that is in the log.
struct Proposed {
    id: String,
    base: u64,
    proposer: String,
    /// What it has brought of components.
    upload: String,
}

/// What the others say to a proposal.
enum Answer {
    /// All agree. Those are gone.
    Agreed { gone: Vec<String> },
    /// Another proposal is to be decided first.
    GiveWay,
}

impl Inner {
    fn writer(&self) -> Result<TopicWriter, Refusal> {
        self.topic.writer().map_err(|error| not_written(&error))
    }

    /// Proposes. None: another proposal came first, and this one was taken back.
    fn propose(&self, base: u64, list: &PluginList, components: &Components) -> Result<Option<u64>, Refusal> {
        let mut writer = self.writer()?;
        let upload = self.write_components(&mut writer, list, components)?;
        let proposed = Proposed { id: new_id(), base, proposer: self.lock().own.id.clone(), upload };
        let state = ProposalState::Open(list.clone());
        self.write(&mut writer, &Key::Proposal(proposed.id.clone()), &proposed.record(state))?;
        match self.wait_for_votes(&proposed.id) {
            Ok(Answer::Agreed { gone }) => {
                let number = self.commit(&mut writer, base, list, Some(&proposed.id));
                match &number {
                    Ok(_) => self.clean_up(&mut writer, gone),
                    Err(refusal @ Refusal::NotWritten(_)) => {
                        self.take_back(&mut writer, &proposed, &refusal.to_string());
                    }
                    // It may count, or others go on without.
                    Err(_) => {}
                }
                number.map(Some)
            }
            Ok(Answer::GiveWay) => {
                self.take_back(&mut writer, &proposed, GAVE_WAY);
                Ok(None)
            }
            Err(refusal) => {
                self.take_back(&mut writer, &proposed, &refusal.to_string());
                Err(refusal)
            }
        }
    }

    /// Drops what this instance has proposed, and deletes what it has brought: nobody else goes by that. Where it can't be dropped, others do
    /// so after its lifetime.
    fn take_back(&self, writer: &mut TopicWriter, proposed: &Proposed, reason: &str) {
        let record = proposed.record(ProposalState::Dropped(reason.to_owned()));
        if self.write(writer, &Key::Proposal(proposed.id.clone()), &record).is_ok() {
            let pieces = self.lock().fold.pieces_of(&proposed.upload);
            Self::delete(writer, pieces);
        }
    }

    /// Waits until nothing else is to be decided. Where that is the same, it is what counts: answers the number of its generation.
    fn wait_for_others(&self, base: u64, list: &PluginList) -> Result<Option<u64>, Refusal> {
        let (mut has_waited_for_same, mut is_told) = (false, false);
        loop {
            match self.turn(base, list, has_waited_for_same)? {
                Turn::Mine => return Ok(None),
                Turn::Agreed(number) => return Ok(Some(number)),
                Turn::Wait(open) => {
                    if !is_told {
                        let name = self.lock().fold.name_of(&open.proposer).to_owned();
                        tracing::info!("waiting until it is decided what {name} has proposed: {}", open.list.what);
                        is_told = true;
                    }
                    has_waited_for_same |= open.list.is_same(list);
                    drop(self.wait(self.lock()));
                }
                Turn::Drop(open) => self.drop_stale(&open)?,
            }
        }
    }

    fn turn(&self, base: u64, list: &PluginList, has_waited_for_same: bool) -> Result<Turn, Refusal> {
        if !self.is_wanted() {
            return Err(Refusal::Ending);
        }
        let shared = self.lock();
        if let Some(failure) = &shared.failure {
            return Err(Refusal::NotWritten(failure.clone()));
        }
        let open_for = shared.open_since.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        ballot::turn(&shared.fold, base, list, has_waited_for_same, open_for, &self.patience)
    }

    fn drop_stale(&self, open: &Proposal) -> Result<(), Refusal> {
        let name = self.lock().fold.name_of(&open.proposer).to_owned();
        let reason = format!("{name} did not come to an end with it within {} s", self.patience.lifetime.as_secs());
        let (base, proposer) = (open.base, open.proposer.clone());
        let record = ProposalRecord { base, proposer, state: ProposalState::Dropped(reason) };
        self.write(&mut self.writer()?, &Key::Proposal(open.id.clone()), &record)?;
        let begun = Instant::now();
        let mut shared = self.lock();
        while shared.fold.open().is_some_and(|other| other.id == open.id) {
            if !self.is_wanted() {
                return Err(Refusal::Ending);
            }
            if begun.elapsed() >= self.patience.brokers {
                return Err(Refusal::NotWritten("the brokers don't answer".to_owned()));
            }
            shared = self.wait(shared);
        }
        Ok(())
    }

    /// Writes those components that aren't kept yet. Answers by which word they can be told from others of the same bytes.
    fn write_components(
        &self,
        writer: &mut TopicWriter,
        list: &PluginList,
        components: &Components,
    ) -> Result<String, Refusal> {
        let upload = new_id();
        let mut written = std::collections::BTreeSet::new();
        for plugin in &list.plugins {
            if self.lock().fold.keeps(plugin.digest) || !written.insert(plugin.digest) {
                continue;
            }
            let bytes = components.get(&plugin.digest).ok_or_else(|| Refusal::Missing(plugin.label()))?;
            writer.write_component(&upload, bytes, self.patience.brokers).map_err(|error| not_written(&error))?;
        }
        writer.flush(self.patience.brokers).map_err(|error| not_written(&error))?;
        Ok(upload)
    }

    /// Writes a record and waits until the brokers have it.
    fn write<T: serde::Serialize>(&self, writer: &mut TopicWriter, key: &Key, record: &T) -> Result<(), Refusal> {
        let value = to_bytes(record).map_err(|error| not_written(&error))?;
        writer.write(key, Some(&value), self.patience.brokers).map_err(|error| not_written(&error))?;
        writer.flush(self.patience.brokers).map(drop).map_err(|error| not_written(&error))
    }

    /// Waits until all agree.
    fn wait_for_votes(&self, id: &str) -> Result<Answer, Refusal> {
        let written = Instant::now();
        let mut read = None;
        let mut shared = self.lock();
        loop {
            if !self.is_wanted() {
                return Err(Refusal::Ending);
            }
            let is_read = shared.fold.proposal_of(id).is_some() || shared.fold.dropped(id).is_some();
            let since = match (read, is_read) {
                (Some(read), _) => Instant::now().duration_since(read),
                (None, true) => {
                    read = Some(Instant::now());
                    Duration::ZERO
                }
                (None, false) if written.elapsed() < self.patience.brokers && shared.failure.is_none() => {
                    shared = self.wait(shared);
                    continue;
                }
                (None, false) => return Err(Refusal::NotWritten("the brokers don't answer".to_owned())),
            };
            match ballot::next(&shared.fold, id, since, &self.patience) {
                Step::Commit { gone } => return Ok(Answer::Agreed { gone }),
                Step::GiveWay => return Ok(Answer::GiveWay),
                Step::Drop(refusal) => return Err(refusal),
                Step::Wait => shared = self.wait(shared),
            }
        }
    }

    /// Writes a generation and waits until it is known whether it is the first of its number.
    fn commit(
        &self,
        writer: &mut TopicWriter,
        base: u64,
        list: &PluginList,
        proposal: Option<&str>,
    ) -> Result<u64, Refusal> {
        let (number, write) = (base + 1, new_id());
        let record = GenerationRecord { list: list.clone(), proposal: proposal.map(str::to_owned) };
        let value = to_bytes(&record).map_err(|error| not_written(&error))?;
        let key = Key::Generation { number, write: write.clone() };
        writer.write(&key, Some(&value), self.patience.brokers).map_err(|error| not_written(&error))?;
        writer.flush(self.patience.brokers).map_err(|error| Refusal::Unknown(error.to_string()))?;
        let begun = Instant::now();
        let mut shared = self.lock();
        loop {
            if let Some(committed) = shared.fold.history().find(|it| it.number == number) {
                let is_own = committed.write == write;
                return if is_own { Ok(number) } else { Err(Refusal::Overtaken { number: shared.fold.number() }) };
            }
            if let Some(reason) = proposal.and_then(|id| shared.fold.dropped(id)) {
                return Err(Refusal::Dropped(reason.to_owned()));
            }
            if shared.fold.number() > number {
                return Err(Refusal::Overtaken { number: shared.fold.number() });
            }
            if begun.elapsed() >= self.patience.brokers || !self.is_wanted() {
                return Err(Refusal::Unknown("what was written can't be read yet".to_owned()));
            }
            shared = self.wait(shared);
        }
    }

    /// Deletes what nobody needs any more, and instances that are gone.
    fn clean_up(&self, writer: &mut TopicWriter, gone: Vec<String>) {
        let garbage = self.lock().fold.garbage();
        Self::delete(writer, gone.into_iter().map(Key::Instance).chain(garbage));
    }

    /// Deletes as much as can be deleted soon.
    fn delete(writer: &mut TopicWriter, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if writer.write(&key, None, CLEAN_UP).is_err() {
                return;
            }
        }
        writer.flush(CLEAN_UP).ok();
    }
}

impl Proposed {
    fn record(&self, state: ProposalState) -> ProposalRecord {
        ProposalRecord { base: self.base, proposer: self.proposer.clone(), state }
    }
}

/// An id that nobody else has.
fn new_id() -> String {
    format!("{:016x}", random())
}

fn not_written(error: &impl ToString) -> Refusal {
    Refusal::NotWritten(error.to_string())
}
