//! Logins that come at an exact pace, each with its number as its first member, `{"number":17,"user_id":…`: whoever reads it at the
//! other end knows when it was due. Members that loginscope doesn't know are carried through where they are.
//!
//! Invariant: what is late is late. A login is due at its time whether or not the sender comes to it, so a stall anywhere between
//! here and the reader counts for all logins that were due meanwhile (and isn't left out, as it would be if each waited for the one
//! before).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use loginscope_kafka::{ClientSettings, Producer, ProducerOptions, Record};

/// What stands before a login's number.
const MARK: &str = "{\"number\":";

/// How long the last logins may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// Logins to be sent again and again: a key for each, and its text.
pub(crate) type Pool = Arc<Vec<(String, String)>>;

/// The pool of these logins, which are made by `loginscope generate`.
pub(crate) fn pool(lines: Vec<String>) -> Result<Pool> {
    let with_key = |line: String| {
        let key =
            line.strip_prefix("{\"user_id\":\"").and_then(|rest| rest.split_once('"')).map(|(key, _)| key.to_owned());
        Some((key?, line))
    };
    let pool: Option<Vec<_>> = lines.into_iter().map(with_key).collect();
    pool.map(Arc::new).filter(|pool| !pool.is_empty()).context("the logins don't begin with a user_id")
}

/// When each login is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    begin: Instant,
    rate: u32,
}

impl Schedule {
    /// So many a second, from now on.
    pub(crate) fn from_now(rate: u32) -> Self {
        Self { begin: Instant::now(), rate }
    }

    /// When the login of this number, from 0, is due.
    pub(crate) fn due(&self, number: u64) -> Instant {
        self.begin + Duration::from_nanos(number * 1_000_000_000 / u64::from(self.rate))
    }
}

/// Logins on their way, until it is told to end.
pub(crate) struct Load {
    pub(crate) schedule: Schedule,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Load {
    /// Sends logins of the pool, so many a second.
    pub(crate) fn start(settings: &ClientSettings, topic: &str, rate: u32, pool: &Pool) -> Result<Self> {
        let mut sender = Sender::new(settings, topic, pool)?;
        let schedule = Schedule::from_now(rate);
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let send = move || {
            while !is_over.load(Ordering::Relaxed) {
                let early = schedule.due(sender.sent).saturating_duration_since(Instant::now());
                if early.is_zero() {
                    sender.send()?;
                } else {
                    sender.producer.acknowledged()?;
                    std::thread::sleep(early);
                }
            }
            sender.finish()
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(send)?;
        Ok(Self { schedule, stop, thread })
    }

    /// Ends it when all that was sent is acknowledged. Answers how many logins were sent.
    pub(crate) fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the sender panicked"))?.context("sending logins")
    }
}

/// Sends the first so many logins of the pool, as fast as they go.
pub(crate) fn send_at_once(settings: &ClientSettings, topic: &str, count: u64, pool: &Pool) -> Result<()> {
    let mut sender = Sender::new(settings, topic, pool)?;
    while sender.sent < count {
        sender.send()?;
    }
    sender.finish().map(drop)
}

/// Sends one login after the other.
struct Sender {
    producer: Producer,
    topic: String,
    pool: Pool,
    sent: u64,
    payload: Vec<u8>,
}

impl Sender {
    fn new(settings: &ClientSettings, topic: &str, pool: &Pool) -> Result<Self> {
        // What is due is sent, rather than kept for company.
        let producer = Producer::new(&settings.clone().with("linger.ms", "0"), ProducerOptions::default())?;
        Ok(Self { producer, topic: topic.to_owned(), pool: Arc::clone(pool), sent: 0, payload: Vec::new() })
    }

    fn send(&mut self) -> Result<()> {
        let place = usize::try_from(self.sent).unwrap_or(0) % self.pool.len().max(1);
        let (key, login) = self.pool.get(place).context("there are no logins")?;
        number_into(&mut self.payload, self.sent, login);
        let record =
            Record { topic: &self.topic, key: Some(key.as_bytes()), payload: Some(&self.payload), ..Record::default() };
        self.producer.send(&record, &|| false)?;
        self.sent += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        self.producer.flush(FLUSH_TIMEOUT)?;
        Ok(self.sent)
    }
}

/// Writes the login with its number.
fn number_into(payload: &mut Vec<u8>, number: u64, login: &str) {
    payload.clear();
    payload.extend_from_slice(format!("{MARK}{number},").as_bytes());
    payload.extend_from_slice(login.strip_prefix('{').unwrap_or(login).as_bytes());
}

/// The number of a login; `None` where it has none.
pub(crate) fn number_of(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(MARK.as_bytes())?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: &str = "{\"user_id\":\"42-a\",\"ip\":\"1.2.3.4\"}";

    #[test]
    fn a_number_is_found_again_and_the_rest_of_the_login_is_untouched() {
        let mut payload = b"of the one before".to_vec();
        number_into(&mut payload, 1_204, LOGIN);
        assert_eq!(payload, b"{\"number\":1204,\"user_id\":\"42-a\",\"ip\":\"1.2.3.4\"}");
        assert_eq!(number_of(&payload), Some(1_204));
    }

    #[test]
    fn what_has_no_number_has_none() {
        for payload in
            ["", LOGIN, "{\"number\":", "{\"number\":12", "{\"number\":\"12\",", "{\"number\":99999999999999999999,"]
        {
            assert_eq!(number_of(payload.as_bytes()), None, "{payload}");
        }
    }

    #[test]
    fn logins_are_keyed_by_their_user() {
        let pool = pool(vec![LOGIN.to_owned()]).unwrap();
        assert_eq!(*pool, [("42-a".to_owned(), LOGIN.to_owned())]);
        assert!(super::pool(vec!["{\"ip\":1}".to_owned()]).is_err());
        assert!(super::pool(Vec::new()).is_err());
    }

    #[test]
    fn logins_are_due_at_equal_distances() {
        let schedule = Schedule::from_now(3);
        let after = |number| schedule.due(number) - schedule.begin;
        assert_eq!(after(0), Duration::ZERO);
        assert_eq!(after(1), Duration::from_nanos(333_333_333));
        // No error adds up.
        assert_eq!(after(3_000_000_000), Duration::from_secs(1_000_000_000));
    }
}
