//! Logins as the original generator makes them: the same fields, both forms of timestamps, `android`, `iOS` or no device type,
//! US states as locales, and some device ids that look like social security numbers.
//!
//! Pure and deterministic: the same options give the same bytes. Users come by Zipf's law, so that a few are busy and most
//! are not; each has a home state, a device and a small pool of addresses, with now and then one that it never had.

mod malformed;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

pub use malformed::{ALL as ALL_MALFORMED, Malformed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};

/// The states that locales name.
const STATES: [&str; 50] = [
    "AL", "AK", "AZ", "AR", "CA", "CO", "CT", "DE", "FL", "GA", "HI", "ID", "IL", "IN", "IA", "KS", "KY", "LA", "ME",
    "MD", "MA", "MI", "MN", "MS", "MO", "MT", "NE", "NV", "NH", "NJ", "NM", "NY", "NC", "ND", "OH", "OK", "OR", "PA",
    "RI", "SC", "SD", "TN", "TX", "UT", "VT", "VA", "WA", "WV", "WI", "WY",
];

/// The versions of the app, the usual one first.
const APP_VERSIONS: [&str; 4] = ["2.3.0", "2.2.1", "2.1.0", "1.9.4"];

/// How many addresses a user has at most.
const ADDRESSES_A_USER: u64 = 5;

/// What kind of logins to make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How many different users there are, at least 1.
    pub users: u64,
    /// The exponent of Zipf's law, 0 for users that are all equally busy.
    pub zipf: f64,
    /// What all randomness comes from.
    pub seed: u64,
    /// The share of malformed messages, 0 to 1.
    pub malformed: f64,
    /// The share of logins that say whether they succeeded, 0 to 1. A tenth of them failed.
    pub outcome: f64,
    /// The time of the first login, in epoch seconds.
    pub start: i64,
    /// How many logins there are in a second of their own time.
    pub logins_per_second: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            users: 10_000,
            zipf: 1.0,
            seed: 0,
            malformed: 0.0,
            outcome: 0.0,
            start: 1_694_479_551,
            logins_per_second: 1_000.0,
        }
    }
}

/// Makes logins, one after the other.
pub struct Generator {
    options: Options,
    random: ChaCha8Rng,
    users: Zipf<f64>,
    made: u64,
}

/// A message: key and value. Both are reused from login to login.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The id of the user who it is about, also where the message itself doesn't say it.
    pub key: String,
    /// The value. It never holds a line feed.
    pub value: Vec<u8>,
    /// Whether it is a message without a value, which isn't the same as an empty one.
    pub is_tombstone: bool,
    /// Its number, from 1.
    pub number: u64,
    /// How it is malformed, if it is.
    pub malformed: Option<&'static Malformed>,
}

impl Made {
    /// The value, if there is one.
    pub fn payload(&self) -> Option<&[u8]> {
        (!self.is_tombstone).then_some(&self.value)
    }
}

impl Generator {
    /// A generator. A number of users below 1 counts as 1, and a Zipf exponent below 0 as 0.
    pub fn new(options: Options) -> Option<Self> {
        let users = Zipf::new(options.users.max(1) as f64, options.zipf.max(0.0)).ok()?;
        Some(Self { options, random: ChaCha8Rng::seed_from_u64(options.seed), users, made: 0 })
    }

    /// Makes the next message.
    pub fn make(&mut self, made: &mut Made) {
        made.key.clear();
        made.value.clear();
        made.is_tombstone = false;
        made.malformed = None;
        let user = self.users.sample(&mut self.random) as u64;
        let time = self.options.start + (self.made as f64 / self.options.logins_per_second.max(0.001)) as i64;
        self.made += 1;
        made.number = self.made;
        let malformed = self.options.malformed > 0.0 && self.random.random_bool(self.options.malformed.clamp(0.0, 1.0));
        write_uuid(&mut made.key, self.trait_of(user, 0), self.trait_of(user, 1));
        let login = self.login(user, &made.key, time);
        if malformed {
            let kind = self.random.random_range(0..malformed::ALL.len());
            made.malformed = malformed::ALL.get(kind);
        }
        match made.malformed.map(|malformed| malformed.spoil(&login)) {
            None => made.value.extend_from_slice(login.as_bytes()),
            Some(None) => made.is_tombstone = true,
            Some(Some(value)) => made.value = value,
        }
    }

    fn login(&mut self, user: u64, user_id: &str, time: i64) -> String {
        let random = &mut self.random;
        let mut login = String::with_capacity(256);
        let version =
            APP_VERSIONS.get(if random.random_bool(0.9) { 0 } else { random.random_range(0..4) }).unwrap_or(&"2.3.0");
        let _ = write!(login, "{{\"user_id\":\"{user_id}\",\"app_version\":\"{version}\"");
        match random.random_range(0..100) {
            0..55 => login.push_str(",\"device_type\":\"android\""),
            55..97 => login.push_str(",\"device_type\":\"iOS\""),
            _ => {}
        }
        let new_address = random.random_bool(0.01);
        let which = if new_address { random.random() } else { random.random_range(0..ADDRESSES_A_USER).pow(2) / 4 };
        let (state_drawn, as_text) = (random.random_bool(0.05), random.random_bool(0.5));
        let drawn: u64 = random.random();
        let outcome = (self.options.outcome > 0.0 && random.random_bool(self.options.outcome.clamp(0.0, 1.0)))
            .then(|| if random.random_bool(0.1) { "failure" } else { "success" });
        let address = self.trait_of(user, 100 + which);
        let octet = |shift: u32| address >> shift & 0xff;
        let _ = write!(login, ",\"ip\":\"{}.{}.{}.{}\"", 1 + octet(0) % 223, octet(8), octet(16), octet(24));
        let state = if state_drawn { drawn } else { self.trait_of(user, 2) };
        let _ = write!(login, ",\"locale\":\"{}\"", STATES.get((state % 50) as usize).unwrap_or(&"CA"));
        self.write_device(&mut login, user);
        if as_text {
            let _ = write!(login, ",\"timestamp\":\"{time}\"");
        } else {
            let _ = write!(login, ",\"timestamp\":{time}");
        }
        if let Some(outcome) = outcome {
            let _ = write!(login, ",\"outcome\":\"{outcome}\"");
        }
        login.push('}');
        login
    }

    fn write_device(&self, login: &mut String, user: u64) {
        let device = self.trait_of(user, 3);
        login.push_str(",\"device_id\":\"");
        if device.is_multiple_of(4) {
            let _ = write!(login, "{:03}-{:02}-{:04}", device >> 8 & 0x3ff, device >> 20 & 0x3f, device >> 32 & 0x1fff);
        } else {
            write_uuid(login, device, self.trait_of(user, 4));
        }
        login.push('"');
    }

    /// A number that is always the same for this user and purpose.
    fn trait_of(&self, user: u64, purpose: u64) -> u64 {
        let mut mixed =
            self.options.seed ^ user.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03);
        // The finalizer of SplitMix64 (Steele, Lea and Flood, 2014), twice.
        for _ in 0..2 {
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
        }
        mixed
    }
}

/// Writes a version 4 UUID made of these bits.
fn write_uuid(text: &mut String, high: u64, low: u64) {
    let _ = write!(
        text,
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        (low >> 48 & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    );
}
