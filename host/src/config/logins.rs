//! What the generator is asked for.

use std::time::Duration;

use super::key::Key;
use super::said::{Origin, Said};
use super::sources::Sources;
use super::{ConfigError, config_error, keys};
use crate::commands::generate::{Generate, Pace, Target};
use crate::generator::Options;

/// As many logins a second as anyone will ask for.
const HIGHEST_RATE: f64 = 1e9;

/// As many logins as anyone will ask for.
const HIGHEST_COUNT: u64 = 1_000_000_000_000_000;

/// How many logins there are in a second of their own time where they go to Kafka as fast as they can: more than any machine
/// makes, so that their time is never ahead of the clock.
const UNPACED_LOGINS_PER_SECOND: f64 = 10_000_000.0;

/// The times that a login may have: from the year 2000 to 9999.
const TIMES: std::ops::RangeInclusive<i64> = 946_684_800..=253_402_300_799;

/// What `generate` is asked for.
pub fn generate(sources: &Sources<'_>) -> Result<Generate, ConfigError> {
    let stdout = sources.value(&keys::STDOUT, Said::truth)?;
    let pace = pace(sources, &keys::RATE)?;
    let start = sources.optional(&keys::START, start)?;
    if !stdout {
        let target = Target::Kafka {
            settings: super::kafka_settings(sources)?,
            topic: super::topic(sources, &keys::INPUT_TOPIC)?.0,
        };
        let logins = options(sources, start.unwrap_or_else(now), pace.rate.unwrap_or(UNPACED_LOGINS_PER_SECOND))?;
        return Ok(Generate { target, pace, logins });
    }
    if let Some(Said { origin: Origin::Flag(brokers), .. }) = sources.get(&keys::BROKERS) {
        return config_error(format!("--{brokers}: --stdout is given, too; allowed is one of them"));
    }
    let usual = Options::default();
    let logins = options(sources, start.unwrap_or(usual.start), pace.rate.unwrap_or(usual.logins_per_second))?;
    Ok(Generate { target: Target::Stdout, pace, logins })
}

/// The logins of the demo: they begin now.
pub fn of_demo(sources: &Sources<'_>, rate: &Key, malformed: &Key) -> Result<(Pace, Options), ConfigError> {
    let pace = pace(sources, rate)?;
    let mut logins = options(sources, now(), pace.rate.unwrap_or(UNPACED_LOGINS_PER_SECOND))?;
    logins.malformed = sources.value(malformed, share)?;
    Ok((pace, logins))
}

fn pace(sources: &Sources<'_>, rate: &Key) -> Result<Pace, ConfigError> {
    let rate = sources.optional(rate, |said| said.fraction(0.0..=HIGHEST_RATE))?;
    Ok(Pace {
        count: sources.optional(&keys::COUNT, |said| said.number(0..=HIGHEST_COUNT))?,
        rate: rate.filter(|rate| *rate > 0.0),
    })
}

fn options(sources: &Sources<'_>, start: i64, logins_per_second: f64) -> Result<Options, ConfigError> {
    Ok(Options {
        users: sources.value(&keys::USERS, |said| said.number(1..=1_000_000_000_000))?,
        zipf: sources.value(&keys::ZIPF, |said| said.fraction(0.0..=100.0))?,
        seed: sources.value(&keys::SEED, |said| said.number(0..=u64::MAX))?,
        malformed: sources.value(&keys::MALFORMED, share)?,
        outcome: sources.value(&keys::OUTCOME, share)?,
        start,
        logins_per_second,
    })
}

fn share(said: &Said) -> Result<f64, ConfigError> {
    said.fraction(0.0..=1.0)
}

fn start(said: &Said) -> Result<i64, ConfigError> {
    let allowed = format!("\"now\", or epoch seconds from {} to {}", TIMES.start(), TIMES.end());
    said.parsed(&allowed, |text| match text {
        "now" => Some(now()),
        seconds => seconds.parse().ok().filter(|seconds| TIMES.contains(seconds)),
    })
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// How long the demo goes on.
pub fn time(sources: &Sources<'_>) -> Result<Option<Duration>, ConfigError> {
    let range = Duration::from_millis(1)..=Duration::from_hours(24 * 365);
    sources.optional(&keys::FOR, |said| said.duration(range, "30s"))
}
