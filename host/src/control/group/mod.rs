//! The durable memory of which plugins a consumer group runs, and how its instances agree on others.
//!
//! A topic with one partition holds the plugins' bytes, the generations so far, and what is being proposed. Its order is what all agree
//! on: each instance [folds](fold) it into the same state. `docs/hot-swap.md` has the whole of it.
//!
//! A generation is data here: names, versions, digests, settings, bytes. This room doesn't know what loads and verifies it
//! ([`Host`]), nor who asks for it.
//!
//! - [`records`]: what is in the topic. [`topic`]: the topic in Kafka.
//! - [`fold`], [`ballot`], [`duty`]: what the records mean, what a proposer does, what everybody else does; pure.
//! - [`start`], [`memory`]: which plugins serve at the start, and what of files and settings is a change; pure.
//! - `proposing`: proposing and committing, from the proposer's side. `following`: the threads.

pub mod ballot;
pub mod duty;
pub mod fold;
mod following;
pub mod memory;
mod proposing;
pub mod records;
#[cfg(test)]
mod simulation;
pub mod start;
pub mod topic;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use loginscope_kafka::{ClientSettings, Reader};
use loginscope_wasm::Digest;

use self::ballot::Patience;
use self::duty::Own;
use self::fold::{Fold, Generation, Proposal};
use self::records::{BadValue, Configured, Key, PluginList, to_bytes};
use self::topic::{Components, Entry, PluginsTopic, TopicWriter};
use crate::application::random;

/// How long the brokers may take to hear that an instance ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often components are looked for that are being deleted at one place and stand at another one.
const READS: usize = 3;

/// What an instance does about its own plugins. It is called from two threads of the group's: one verifies, the other one takes over.
/// Taking over must wait for nothing.
pub trait Host: Send + Sync {
    /// Whether a component is at hand, so that it need not be read.
    fn has(&self, digest: Digest) -> bool;

    /// Loads and verifies what is proposed, without having it serve. `components` are those that it has not at hand.
    ///
    /// # Errors
    /// Why not, in a sentence.
    fn verify(&self, proposal: &Proposal, components: &Components) -> Result<(), String>;

    /// Has a generation serve that was committed. It may have been verified before or not.
    ///
    /// # Errors
    /// It can't serve. The instance can't stay in the group then.
    fn adopt(&self, generation: &Generation, components: &Components) -> Result<(), String>;
}

/// An instance's part in the agreement of its group.
pub struct Group {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Inner {
    topic: PluginsTopic,
    /// What people know this instance by.
    name: String,
    patience: Patience,
    shared: Mutex<Shared>,
    changed: Condvar,
    stop: AtomicBool,
    /// Says that it runs, and votes.
    voice: Mutex<Option<TopicWriter>>,
    /// How many proposals of this instance are under way.
    proposing: AtomicUsize,
}

/// What the threads share.
struct Shared {
    fold: Fold,
    own: Own,
    /// The open proposal, and since when it is known to be open.
    open_since: Option<(String, Instant)>,
    /// Why the instance can't follow its group any more.
    failure: Option<String>,
}

impl Group {
    /// Reads the topic, which must exist, to its end. `name` is what people know this instance by.
    ///
    /// # Errors
    /// The topic can't be read, or a later version has written what this one doesn't know.
    pub fn join(kafka: &ClientSettings, topic: &str, name: &str, patience: Patience) -> Result<Self> {
        let topic = PluginsTopic::open(kafka, topic, patience.brokers)?;
        let mut reader = topic.reader(None, patience.brokers)?;
        let own = Own { id: format!("{:016x}", random()), ..Own::default() };
        let mut shared = Shared { fold: Fold::default(), own, open_since: None, failure: None };
        let mut applied = Ok(());
        while !topic::read(&mut reader, topic.name(), patience.brokers, |entry| {
            let applying = shared.apply(entry);
            applied = std::mem::replace(&mut applied, Ok(())).and(applying);
        })? {}
        applied.with_context(|| format!("the topic {:?}", topic.name()))?;
        let group = Self {
            inner: Arc::new(Inner {
                topic,
                name: name.to_owned(),
                patience,
                shared: Mutex::new(shared),
                changed: Condvar::new(),
                stop: AtomicBool::new(false),
                voice: Mutex::new(None),
                proposing: AtomicUsize::new(0),
            }),
            threads: Mutex::new(Vec::new()),
        };
        group.read_on(reader)?;
        Ok(group)
    }

    fn read_on(&self, reader: Reader) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        self.start_thread("group-reader", move || following::read(&inner, reader))
    }

    /// Takes part from now on: `host` verifies what others propose, and takes over what is committed. `adopted` is the generation that
    /// serves already, 0 for none.
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn follow(&self, host: Arc<dyn Host>, adopted: u64) -> Result<()> {
        {
            let mut shared = self.inner.lock();
            (shared.own.takes_part, shared.own.adopted) = (true, adopted);
        }
        self.inner.changed.notify_all();
        let (inner, adopting) = (Arc::clone(&self.inner), Arc::clone(&host));
        self.start_thread("group-plugins", move || following::adopt_all(&inner, &*adopting))?;
        let inner = Arc::clone(&self.inner);
        self.start_thread("group-votes", move || following::verify_all(&inner, &*host))
    }

    fn start_thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(work).context("cannot start a thread")?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        Ok(())
    }

    /// The newest generation; none where nothing was ever deployed.
    pub fn committed(&self) -> Option<Generation> {
        self.inner.lock().fold.committed().cloned()
    }

    /// The generations that are remembered, newest first.
    pub fn history(&self) -> Vec<Generation> {
        self.inner.lock().fold.history().rev().cloned().collect()
    }

    /// The components of these plugins that the group keeps.
    ///
    /// # Errors
    /// The topic can't be read.
    pub fn components(&self, list: &PluginList) -> Result<Components> {
        self.inner.components(list, |_| false)
    }

    /// What instances were last configured with, at each place where one has run; and the one of this place, if there is one.
    pub fn places(&self, own: &Digest) -> (Vec<Configured>, Option<Configured>) {
        let shared = self.inner.lock();
        let places = shared.fold.places();
        (
            places.values().map(|(_, configured)| configured.clone()).collect(),
            places.get(own).map(|(_, last)| last.clone()),
        )
    }

    /// Says what an instance of this place is configured with, as far as that has been taken into account.
    ///
    /// # Errors
    /// It can't be written.
    pub fn say_configured(&self, place: Digest, configured: &Configured) -> Result<()> {
        self.inner.say(&Key::Place(place), Some(&to_bytes(configured)?))
    }

    /// Waits until something has changed, or a moment. Answers whether this instance is in the group yet.
    pub fn wait(&self) -> bool {
        drop(self.inner.wait(self.inner.lock()));
        self.inner.is_wanted()
    }

    /// Why this instance can't follow its group any more, if that is so.
    pub fn failure(&self) -> Option<String> {
        self.inner.lock().failure.clone()
    }

    /// Ends what the threads do, and says that this instance runs no more, so that nobody waits for it. What it has proposed, it takes
    /// back.
    pub fn leave(&self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        self.inner.changed.notify_all();
        // One may be verifying something.
        let until = Instant::now() + FAREWELL;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let is_busy = || self.inner.proposing.load(Ordering::Relaxed) > 0;
        while (is_busy() || threads.iter().any(|thread| !thread.is_finished())) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Err(error) = self.inner.say_farewell() {
            tracing::warn!("the others of the group could not be told that this instance ends: {error:#}");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        self.inner.changed.notify_all();
    }
}

impl Shared {
    fn apply(&mut self, entry: Entry<'_>) -> Result<(), BadValue> {
        if matches!((&entry.key, entry.value), (Key::Instance(id), None) if *id == self.own.id) {
            // Others took it for gone.
            self.own.announced = false;
        }
        self.fold.apply(entry.offset, entry.timestamp, entry.key, entry.value)?;
        let open = self.fold.open().map(|open| &open.id);
        if open != self.open_since.as_ref().map(|(id, _)| id) {
            self.open_since = open.map(|id| (id.clone(), Instant::now()));
        }
        Ok(())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed, or a moment.
    fn wait<'a>(&self, shared: MutexGuard<'a, Shared>) -> MutexGuard<'a, Shared> {
        const MOMENT: Duration = Duration::from_millis(100);
        self.changed.wait_timeout(shared, MOMENT).unwrap_or_else(PoisonError::into_inner).0
    }

    fn is_wanted(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn fail(&self, reason: String) {
        tracing::error!("this instance can't follow its group any more: {reason}");
        self.lock().failure.get_or_insert(reason);
        self.changed.notify_all();
    }

    /// Waits until there is something to do. None: it is over.
    fn next<T>(&self, mut task: impl FnMut(&mut Shared) -> Option<T>) -> Option<T> {
        let mut shared = self.lock();
        while self.is_wanted() {
            if let Some(task) = task(&mut shared) {
                return Some(task);
            }
            shared = self.wait(shared);
        }
        None
    }

    /// Reads the components of these plugins but for those that are at hand.
    fn components(&self, list: &PluginList, is_at_hand: impl Fn(Digest) -> bool) -> Result<Components> {
        let wanted = list.plugins.iter().map(|plugin| plugin.digest).filter(|digest| !is_at_hand(*digest));
        let wanted: BTreeSet<Digest> = wanted.collect();
        let mut components = Components::new();
        for _ in 0..READS {
            let stored = {
                let shared = self.lock();
                wanted.iter().filter_map(|digest| Some((*digest, shared.fold.stored(*digest)?))).collect()
            };
            components = self.topic.fetch(&stored, self.patience.brokers)?;
            if wanted.iter().all(|digest| components.contains_key(digest)) {
                break;
            }
            // It was being deleted, and stands elsewhere as well.
            drop(self.wait(self.lock()));
        }
        Ok(components)
    }

    /// That this instance votes no more, and runs no more.
    fn say_farewell(&self) -> Result<()> {
        let (id, owed) = {
            let mut shared = self.lock();
            let was_there = std::mem::take(&mut shared.own.announced);
            let owed = shared.own.owes_a_vote(&shared.fold);
            shared.own.takes_part = false;
            if !was_there {
                return Ok(());
            }
            (shared.own.id.clone(), owed)
        };
        if let Some(proposal) = owed {
            self.say(&Key::Vote { proposal, instance: id.clone() }, None)?;
        }
        self.say(&Key::Instance(id), None)?;
        self.flush_voice(FAREWELL)
    }

    /// Writes what this instance says of itself.
    fn say(&self, key: &Key, value: Option<&[u8]>) -> Result<()> {
        let mut voice = self.voice.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match &mut *voice {
            Some(writer) => writer,
            none => none.insert(self.topic.writer()?),
        };
        let written = writer.check().and_then(|()| writer.write(key, value, self.patience.brokers));
        if written.is_err() {
            // What has failed once is of no more use.
            *voice = None;
        }
        Ok(written?)
    }

    /// Whether what this instance says of itself can be written at all. What only takes its time is waited for.
    fn check_voice(&self) -> Result<(), loginscope_kafka::Error> {
        let mut voice = self.voice.lock().unwrap_or_else(PoisonError::into_inner);
        match voice.as_mut().map_or(Ok(()), TopicWriter::check) {
            Err(error) if !error.may_pass() => Err(error),
            Err(_) => {
                // What has failed once is of no more use.
                *voice = None;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn flush_voice(&self, patience: Duration) -> Result<()> {
        let mut voice = self.voice.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = &mut *voice else { return Ok(()) };
        writer.flush(patience).map(drop).map_err(Into::into)
    }
}
