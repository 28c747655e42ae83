//! What the workers make of the batches that they take now, for plugins that are tried beside those that serve.
//!
//! Invariants: while nobody follows, it costs a worker the look at a flag. Nothing is copied before there is room for it, and whoever
//! follows doesn't hold a worker up: what he has no room for passes him by, a whole batch at a time. He isn't woken by the workers, which would
//! cost them more than to hand a batch over.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::batch::Message;
use super::chain::Chain;
use super::judged::{JudgedBatch, Wanted};

/// So many bytes of messages whoever follows may be behind; a batch that is larger goes when he isn't behind at all.
const MOST_BYTES_BEHIND: usize = 8 << 20;

/// So much a message takes beside its bytes.
const BYTES_BESIDE: usize = 64;

/// How often whoever follows looks for batches when there are none.
const PAUSE: Duration = Duration::from_millis(10);

/// What the workers take now, for whoever follows.
#[derive(Default)]
pub struct Live {
    is_followed: AtomicBool,
    follower: Mutex<Option<Follower>>,
}

struct Follower {
    wanted: Arc<Wanted>,
    batches: Sender<HandedOver>,
    bytes_behind: Arc<AtomicUsize>,
}

/// A batch that was handed over. Its room is free again when it is dropped.
pub struct HandedOver {
    /// The batch.
    pub batch: JudgedBatch,
    _room: Room,
}

/// Room for a batch.
struct Room {
    bytes: usize,
    bytes_behind: Arc<AtomicUsize>,
}

/// Room for a batch that is about to be judged.
pub struct Place {
    /// What of it is wanted.
    pub wanted: Arc<Wanted>,
    batches: Sender<HandedOver>,
    room: Room,
}

/// The batches, for whoever follows.
pub struct Following<'l> {
    batches: Receiver<HandedOver>,
    live: &'l Live,
    wanted: Arc<Wanted>,
}

impl Live {
    /// Follows the batches that a chain judges from now on, until what is answered is dropped. There is one follower at a time: the last
    /// one.
    pub fn follow(&self, wanted: &Arc<Wanted>) -> Following<'_> {
        let (sender, batches) = channel();
        let follower = Follower { wanted: Arc::clone(wanted), batches: sender, bytes_behind: Arc::default() };
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
        self.is_followed.store(true, Ordering::Release);
        Following { batches, live: self, wanted: Arc::clone(wanted) }
    }

    /// Room for what a chain is about to make of these messages, if somebody follows that and isn't too far behind.
    pub fn place(&self, chain: &Arc<Chain>, messages: &[Message<'_>]) -> Option<Place> {
        if !self.is_followed.load(Ordering::Acquire) {
            return None;
        }
        let follower = self.follower.try_lock().ok()?;
        let Follower { wanted, batches, bytes_behind } = follower.as_ref()?;
        if !Arc::ptr_eq(&wanted.chain, chain) {
            return None;
        }
        let size = |message: &Message<'_>| message.payload.map_or(0, <[u8]>::len) + BYTES_BESIDE;
        let bytes = messages.iter().map(size).sum();
        let room = Room::of(bytes, bytes_behind)?;
        Some(Place { wanted: Arc::clone(wanted), batches: batches.clone(), room })
    }

    /// Hands a batch over that a place was kept for.
    pub fn hand_over(&self, place: Place, batch: JudgedBatch) {
        let Place { batches, room, .. } = place;
        // Whoever followed may be gone by now.
        batches.send(HandedOver { batch, _room: room }).ok();
    }

    /// Whoever wanted this follows no longer.
    fn leave(&self, wanted: &Arc<Wanted>) {
        let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may follow by now.
        if follower.as_ref().is_some_and(|follower| Arc::ptr_eq(&follower.wanted, wanted)) {
            *follower = None;
            self.is_followed.store(false, Ordering::Release);
        }
    }
}

impl Room {
    fn of(bytes: usize, bytes_behind: &Arc<AtomicUsize>) -> Option<Self> {
        let fits = |behind: usize| (behind == 0 || behind + bytes <= MOST_BYTES_BEHIND).then_some(behind + bytes);
        bytes_behind.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Self { bytes, bytes_behind: Arc::clone(bytes_behind) })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.bytes_behind.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Following<'_> {
    /// The next batch, if one comes before then.
    pub fn next_before(&self, deadline: Instant) -> Option<HandedOver> {
        loop {
            if let Ok(batch) = self.batches.try_recv() {
                return Some(batch);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(PAUSE.min(left));
        }
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.live.leave(&self.wanted);
    }
}

#[cfg(test)]
mod tests {
    use loginscope_login::decode::InputFormat;

    use super::*;
    use crate::pipeline::Pipeline;
    use crate::pipeline::batch::{Output, OutputLimits};

    fn chain() -> Arc<Chain> {
        Arc::new(Chain::new(Vec::new(), InputFormat::default(), 1, std::collections::BTreeMap::new()).unwrap())
    }

    fn wanted(chain: &Arc<Chain>) -> Arc<Wanted> {
        let chain = Arc::clone(chain);
        Arc::new(Wanted {
            chain,
            slots: Vec::new(),
            measured: Vec::new(),
            segments: false,
            windows: Vec::new(),
            messages: false,
        })
    }

    /// A worker's part, with messages of so many bytes in all. Answers whether there was room.
    fn judge(live: &Live, chain: &Arc<Chain>, bytes: usize) -> bool {
        let payload = vec![0; bytes];
        let messages = [Message { payload: Some(&payload), ..Message::default() }];
        let Some(place) = live.place(chain, &messages) else { return false };
        let limits = OutputLimits { value_bytes: 1, record_bytes: 1 };
        let mut pipeline = Pipeline::new(Arc::clone(chain), limits).unwrap();
        pipeline.record(Some(&place.wanted));
        let batch = pipeline.take_judged(0, &messages, &Output::default()).unwrap();
        live.hand_over(place, batch);
        true
    }

    #[test]
    fn a_follower_gets_whole_batches_of_his_chain_while_there_is_room() {
        let (live, chain) = (Live::default(), chain());
        assert!(!judge(&live, &chain, 1), "nobody follows");
        let following = live.follow(&wanted(&chain));
        assert!(!judge(&live, &self::chain(), 1), "another chain");
        assert!(judge(&live, &chain, 2 * MOST_BYTES_BEHIND), "there is nothing yet");
        assert!(!judge(&live, &chain, 1));
        let now = Instant::now();
        drop(following.next_before(now).unwrap());
        assert!(following.next_before(now).is_none());
        for _ in 0..7 {
            assert!(judge(&live, &chain, MOST_BYTES_BEHIND / 8));
        }
        assert!(!judge(&live, &chain, MOST_BYTES_BEHIND / 8), "what else messages take counts");
        // What was kept for a batch of which nothing came is free again.
        drop(following.next_before(now).unwrap());
        let payload = vec![0; MOST_BYTES_BEHIND / 8];
        drop(live.place(&chain, &[Message { payload: Some(&payload), ..Message::default() }]).unwrap());
        assert!(judge(&live, &chain, MOST_BYTES_BEHIND / 8));
        drop(following);
        assert!(!live.is_followed.load(Ordering::Relaxed), "it costs nothing when nobody follows any more");
    }

    #[test]
    fn the_last_who_follows_takes_the_place_of_the_one_before() {
        let (live, chain) = (Live::default(), chain());
        let first = live.follow(&wanted(&chain));
        let second = live.follow(&wanted(&chain));
        assert!(judge(&live, &chain, 1));
        let now = Instant::now();
        assert!(first.next_before(now).is_none() && second.next_before(now).is_some());
        drop(first);
        assert!(judge(&live, &chain, 1), "the one that is gone wasn't followed any more");
    }
}
