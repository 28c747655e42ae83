//! An idempotent producer that says how far its messages are acknowledged.
//!
//! # Epochs
//!
//! Every message belongs to the epoch that is open when it is sent. [`Producer::close_epoch`] ends it and begins the next;
//! [`Producer::acknowledged`] answers the newest closed epoch whose messages, and those of all earlier ones, the brokers have. So a
//! worker closes an epoch with every batch, remembers the input offsets beside it, and commits them when the epoch is
//! acknowledged, while later messages are already on their way.
//!
//! # Invariants
//!
//! - A message that fails is never part of an acknowledged epoch, and its failure is the answer to every later call.
//! - Memory is bounded by `queue.buffering.max.kbytes` and `.messages`: [`Producer::send`] waits when they are reached.
//! - Delivery reports are served on the caller's thread, inside the calls: there is no other thread and no lock to wait for.

mod epochs;
mod sending;

use std::time::{Duration, Instant};

pub use self::epochs::Epoch;
use self::epochs::Ledger;
pub(crate) use self::sending::{NotSent, Sending};
use crate::error::Error;
use crate::native::Header;
use crate::settings::ClientSettings;

/// What a producer needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerOptions {
    /// The largest message that it takes, key and headers included, in bytes (`message.max.bytes`).
    pub max_message_bytes: u32,
}

impl Default for ProducerOptions {
    /// 1 MiB and 64 KiB for key and headers.
    fn default() -> Self {
        Self { max_message_bytes: (1 << 20) + (1 << 16) }
    }
}

/// A message to send. It is copied when sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; `None`: by the key's murmur2, as Java clients do it, or any one where there is no key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` for a null value (a tombstone).
    pub payload: Option<&'a [u8]>,
    /// The timestamp in epoch milliseconds; `None`: now.
    pub timestamp: Option<i64>,
    /// The headers, in order. A name that isn't UTF-8 is sent with replacement characters, as Java clients would read it.
    pub headers: &'a [Header<'a>],
}

/// A producer of one worker.
pub struct Producer {
    sending: Sending,
    ledger: Ledger,
}

impl Producer {
    /// Makes a producer. No broker is needed yet.
    ///
    /// # Errors
    /// The errors of properties.
    pub fn new(settings: &ClientSettings, options: ProducerOptions) -> Result<Self, Error> {
        // However long the brokers are away, a message waits for them. That shows in the log, and in the lag.
        let sending = Sending::new(settings, options, &[("message.timeout.ms", "0")], &[])?;
        Ok(Self { sending, ledger: Ledger::default() })
    }

    /// Sends a message as part of the open epoch. Where the queue is full, it waits until there is room, or until `stop` is true.
    ///
    /// # Errors
    /// [`Error::Delivery`] for this message if it can't be queued (too large, no such partition): it is not sent, and the producer
    /// goes on. [`Error::Stopped`]: the same. Any other error, and the failure of an earlier message, is final.
    pub fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        match self.sending.send(record, self.ledger.open_epoch(), stop) {
            Ok(()) => {
                self.ledger.count_sent();
                Ok(())
            }
            Err(NotSent::Stopped) => Err(Error::Stopped),
            Err(NotSent::Refused { error, .. } | NotSent::Failed(error)) => Err(error),
        }
    }

    /// Ends the open epoch and begins the next. Answers the epoch that all messages sent so far belong to, or to earlier ones.
    pub fn close_epoch(&mut self) -> Epoch {
        self.ledger.close()
    }

    /// The newest epoch that is acknowledged together with all earlier ones, without waiting. It serves delivery reports, so call it
    /// with every batch.
    ///
    /// # Errors
    /// The first delivery that failed, ever since; or what made the producer unusable.
    pub fn acknowledged(&mut self) -> Result<Epoch, Error> {
        self.sending.serve();
        self.sending.failure().map_or(Ok(()), Err)?;
        Ok(self.ledger.advance(self.sending.counts()))
    }

    /// Closes the open epoch and waits until everything sent is acknowledged.
    ///
    /// # Errors
    /// As [`Producer::acknowledged`], and [`Error::TimedOut`].
    pub fn flush(&mut self, timeout: Duration) -> Result<Epoch, Error> {
        let wanted = self.close_epoch();
        let until = Instant::now() + timeout;
        loop {
            let acknowledged = self.acknowledged()?;
            if acknowledged >= wanted {
                return Ok(acknowledged);
            }
            if Instant::now() >= until {
                return Err(Error::TimedOut { what: self.sending.missing(), waited: timeout });
            }
            self.sending.wait();
        }
    }

    /// How many messages were sent whose delivery has not been reported yet.
    pub fn in_flight(&self) -> usize {
        self.sending.in_flight()
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
