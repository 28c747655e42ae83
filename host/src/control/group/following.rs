//! The three threads of an instance: one reads the topic and answers at once, one takes over what is committed, and one verifies what is
//! proposed, which may take a while.

use std::time::{Duration, Instant};

use super::duty::Say;
use super::fold::{Generation, Proposal};
use super::records::{Key, Presence, Vote, to_bytes};
use super::topic::read_if_any;
use super::{Host, Inner};

/// How long one wait for records takes at most.
const POLL: Duration = Duration::from_millis(100);

/// Reads the topic, and says what is to be said about what is in it, until it is over.
pub(super) fn read(inner: &Inner, mut reader: loginscope_kafka::Reader) {
    while inner.is_wanted() {
        let mut failure = None;
        let mut shared = None;
        let read = read_if_any(&mut reader, POLL, |entry| {
            let shared = shared.get_or_insert_with(|| inner.lock());
            let offset = entry.offset;
            if let Err(error) = shared.apply(entry) {
                failure.get_or_insert_with(|| format!("the topic {:?}, offset {offset}: {error}", inner.topic.name()));
            }
        });
        drop(shared);
        inner.changed.notify_all();
        let failure = read.err().map(|error| error.to_string()).or(failure);
        if let Some(failure) = failure {
            return inner.fail(failure);
        }
        say_what_is_due(inner);
        if let Err(error) = inner.check_voice() {
            return inner.fail(error.to_string());
        }
    }
}

fn say_what_is_due(inner: &Inner) {
    let due = || {
        let mut shared = inner.lock();
        let shared = &mut *shared;
        let say = shared.own.say(&shared.fold)?;
        Some((say, shared.own.id.clone()))
    };
    while let Some((say, instance)) = due() {
        let (key, value) = match say {
            Say::Running => (Key::Instance(instance), to_bytes(&Presence { name: inner.name.clone() })),
            Say::Present(proposal) => (Key::Vote { proposal, instance }, to_bytes(&Vote::Present)),
        };
        tell(inner, &key, value);
        inner.changed.notify_all();
    }
}

/// Writes something that others wait for. Where that fails, they go on without.
fn tell(inner: &Inner, key: &Key, value: Result<Vec<u8>, super::records::BadValue>) {
    let written = value.map_err(anyhow::Error::from).and_then(|value| inner.say(key, Some(&value)));
    if let Err(error) = written {
        tracing::warn!("the others of the group could not be told: {error:#}");
    }
}

/// Takes over what is committed, until it is over.
pub(super) fn adopt_all(inner: &Inner, host: &dyn Host) {
    while let Some(generation) = inner.next(|shared| shared.own.to_adopt(&shared.fold).cloned()) {
        adopt(inner, host, &generation);
    }
}

/// Verifies what is proposed, until it is over.
pub(super) fn verify_all(inner: &Inner, host: &dyn Host) {
    while let Some(proposal) = inner.next(|shared| shared.own.to_verify(&shared.fold)) {
        verify(inner, host, &proposal);
    }
}

fn adopt(inner: &Inner, host: &dyn Host, generation: &Generation) {
    let number = generation.number;
    // What is at hand need not be read.
    let components = match inner.components(&generation.list, |digest| host.has(digest)) {
        Ok(components) => components,
        // Workers wait for brokers, and so does this.
        Err(error) => {
            tracing::warn!("generation {number} of the group's plugins can't be read yet: {error:#}");
            return pause(inner);
        }
    };
    match host.adopt(generation, &components) {
        Ok(()) => inner.lock().own.adopted = number,
        // A later one that this instance can use puts it right.
        Err(_) if inner.lock().fold.number() > number => return,
        Err(reason) => return wait_for_another(inner, number, &reason),
    }
    inner.changed.notify_all();
}

/// A second, or less where this ends.
fn pause(inner: &Inner) {
    let until = Instant::now() + Duration::from_secs(1);
    while inner.is_wanted() && Instant::now() < until {
        drop(inner.wait(inner.lock()));
    }
}

/// Nothing is adopted any more.
fn wait_for_another(inner: &Inner, number: u64, reason: &str) {
    inner.fail(format!("generation {number} of the group's plugins can't serve here: {reason}"));
    let mut shared = inner.lock();
    while inner.is_wanted() && shared.fold.number() == number {
        shared = inner.wait(shared);
    }
}

fn verify(inner: &Inner, host: &dyn Host, proposal: &Proposal) {
    let components = inner.components(&proposal.list, |digest| host.has(digest));
    let components = components.map_err(|error| format!("its components can't be read: {error:#}"));
    let verified = components.and_then(|components| host.verify(proposal, &components));
    let vote = verified.map_or_else(Vote::Refused, |()| Vote::Ready);
    let instance = inner.lock().own.id.clone();
    tell(inner, &Key::Vote { proposal: proposal.id.clone(), instance }, to_bytes(&vote));
}
