//! A plugin that fails too often is left alone for a while: finding each login at fault takes several calls, and each failure a new
//! instance.
//!
//! Only plugins without which logins may go on have a breaker that ever opens: a login is *rejected* as `plugin_failed` only where the
//! plugin has failed on that very login, and one that is to wait for its plugin waits with a back-off of its own.
//!
//! Pure: what time it is comes in as an argument.

use std::time::{Duration, Instant};

/// With fewer logins than this, nothing is concluded from how many failed.
const ENOUGH_LOGINS: u64 = 100;

/// Of more logins than this, the earlier ones count half.
const MOST_LOGINS: u64 = 400;

/// How long a plugin is left alone at first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time that a plugin is left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a plugin may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Everything.
    All,
    /// About one login, to see whether it still fails.
    Once,
    /// Nothing.
    Nothing,
}

/// The breakers of one plugin: what it does well in one role says nothing of the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breakers {
    /// For what it is asked as a validator.
    pub(crate) validator: Breaker,
    /// For what it is asked as an enricher.
    pub(crate) enricher: Breaker,
}

impl Breakers {
    /// Such that never open.
    pub(crate) fn fixed() -> Self {
        let breaker = || Breaker { is_fixed: true, ..Breaker::default() };
        Self { validator: breaker(), enricher: breaker() }
    }

    /// Whether the plugin is left alone in one of its roles.
    pub(crate) fn is_one_open(&self) -> bool {
        self.validator.is_open() || self.enricher.is_open()
    }
}

/// The breaker of one plugin in one role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    /// The logins that the plugin was asked about lately.
    logins: u64,
    /// Those of them on which it failed.
    failed: u64,
    /// When it is to be asked again, while it is left alone.
    open_until: Option<Instant>,
    /// How long it was left alone the last time; none if it has done well since then.
    last_pause: Option<Duration>,
    /// Whether it never opens.
    is_fixed: bool,
}

impl Breaker {
    /// Whether the plugin is left alone.
    pub(crate) fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// What the plugin may be asked now.
    pub(crate) fn asked(&self, now: Instant) -> Asked {
        match self.open_until {
            None => Asked::All,
            Some(until) if now >= until => Asked::Once,
            Some(_) => Asked::Nothing,
        }
    }

    /// The plugin has not failed on so many logins.
    pub(crate) fn passed(&mut self, logins: usize) {
        self.open_until = None;
        self.count(logins as u64, 0);
        if self.logins >= ENOUGH_LOGINS && self.failed * 2 < self.logins {
            self.last_pause = None;
        }
    }

    /// The plugin has failed on a login.
    pub(crate) fn failed(&mut self, now: Instant) {
        if self.is_fixed {
            return;
        }
        self.count(1, 1);
        let is_too_often = self.logins >= ENOUGH_LOGINS && self.failed * 2 >= self.logins;
        if self.is_open() || is_too_often {
            let pause = self.last_pause.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
            *self = Self { open_until: Some(now + pause), last_pause: Some(pause), ..Self::default() };
        }
    }

    fn count(&mut self, logins: u64, failed: u64) {
        self.logins += logins;
        self.failed += failed;
        if self.logins > MOST_LOGINS {
            self.logins = (self.logins / 2).min(MOST_LOGINS / 2);
            self.failed = (self.failed / 2).min(self.logins);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A breaker that has just opened, and when.
    fn open() -> (Breaker, Instant) {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        (0..ENOUGH_LOGINS).for_each(|_| breaker.failed(now));
        assert!(breaker.is_open());
        (breaker, now)
    }

    #[test]
    fn it_opens_where_half_of_enough_logins_fail_and_not_before() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..ENOUGH_LOGINS - 1 {
            breaker.failed(now);
            assert_eq!(breaker.asked(now), Asked::All);
        }
        breaker.failed(now);
        assert_eq!(breaker.asked(now), Asked::Nothing);
    }

    #[test]
    fn it_stays_closed_where_fewer_than_half_fail_however_long_that_goes_on() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10_000 {
            breaker.passed(2);
            breaker.failed(now);
            assert!(!breaker.is_open());
        }
    }

    #[test]
    fn what_was_long_ago_does_not_keep_it_closed() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.passed(1_000_000);
        let needed = (1..1000).find(|_| {
            breaker.failed(now);
            breaker.is_open()
        });
        assert!(needed.unwrap() <= MOST_LOGINS, "{needed:?}");
    }

    #[test]
    fn each_probe_that_fails_doubles_the_pause_up_to_the_longest() {
        let (mut breaker, mut now) = open();
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let pause = Duration::from_secs(pause);
            assert_eq!(breaker.asked(now + pause.mul_f64(0.99)), Asked::Nothing);
            now += pause;
            assert_eq!(breaker.asked(now), Asked::Once);
            breaker.failed(now);
        }
    }

    #[test]
    fn a_probe_that_succeeds_closes_it_and_only_who_does_well_then_begins_with_a_short_pause() {
        let (mut breaker, now) = open();
        breaker.passed(1);
        assert_eq!(breaker.asked(now), Asked::All);
        (0..ENOUGH_LOGINS).for_each(|_| breaker.failed(now));
        assert_eq!(breaker.asked(now + FIRST_PAUSE), Asked::Nothing, "it has opened again at once");
        breaker.passed(1);
        breaker.passed(ENOUGH_LOGINS as usize);
        while !breaker.is_open() {
            breaker.failed(now);
        }
        assert_eq!(breaker.asked(now + FIRST_PAUSE), Asked::Once);
    }
}
