//! What changed from one window to the next. Whether something is a change is decided in whole numbers, so that no
//! rounding moves a threshold.

use std::cmp::Ordering;

use loginscope_plugin::WindowFacts;
use serde::Serialize;

use crate::counts::NamedCount;
use crate::ratio::rounded;

/// A share of the window that moved by one in so many is a change: 0.05.
const SHARE_STEPS: u128 = 20;

/// So many active users more or fewer are a change.
const USERS_STEP: u64 = 10;

/// What a window counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowCounts<'a> {
    /// How many logins it has.
    pub logins: u64,
    /// The seconds from the earliest to the latest login time, at least 1.
    pub seconds: u64,
    /// The logins by device type, sorted by name.
    pub device_types: &'a [NamedCount<'a>],
    /// How many different users there are.
    pub unique_users: u64,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Development<'a> {
    /// The share of a device type in the logins of the window.
    DeviceShare {
        /// The device type.
        device_type: &'a str,
        /// Its share now.
        share: f64,
        /// Its share before.
        previous: f64,
    },
    /// The logins a minute.
    LoginRate {
        /// How many now.
        logins_per_minute: f64,
        /// How many before.
        previous: f64,
    },
    /// The different users.
    ActiveUsers {
        /// How many now.
        unique_users: u64,
        /// How many before.
        previous: u64,
    },
}

impl WindowCounts<'_> {
    /// The counts of a window as far as its facts tell them.
    pub fn of(facts: &WindowFacts) -> Self {
        let seconds = match (facts.earliest_login_time, facts.latest_login_time) {
            (Some(earliest), Some(latest)) => latest.abs_diff(earliest).max(1),
            _ => 1,
        };
        Self { logins: u64::from(facts.logins), seconds, ..Self::default() }
    }

    /// The logins a minute, to 4 decimals.
    pub fn logins_per_minute(&self) -> f64 {
        rounded(self.logins * 60, self.seconds)
    }
}

/// All changes from `previous` to `current`: device shares by name, then the login rate, then the active users.
pub fn developments<'a>(current: &WindowCounts<'a>, previous: &WindowCounts<'a>) -> Vec<Development<'a>> {
    let mut developments: Vec<_> = device_shares(current, previous).collect();
    developments.extend(login_rate(current, previous));
    developments.extend(active_users(current, previous));
    developments
}

fn device_shares<'a>(current: &WindowCounts<'a>, previous: &WindowCounts<'a>) -> impl Iterator<Item = Development<'a>> {
    both(current.device_types, previous.device_types).filter_map(|(device_type, now, before)| {
        // |now / logins - before / earlier logins| >= 1 / steps
        let moved = product(now, previous.logins).abs_diff(product(before, current.logins));
        (moved * SHARE_STEPS >= product(current.logins, previous.logins)).then(|| Development::DeviceShare {
            device_type,
            share: now as f64 / current.logins as f64,
            previous: before as f64 / previous.logins as f64,
        })
    })
}

/// All names of two lists that are sorted by name, with the logins of the one and the other.
fn both<'a>(
    mut current: &'a [NamedCount<'a>],
    mut previous: &'a [NamedCount<'a>],
) -> impl Iterator<Item = (&'a str, u64, u64)> {
    std::iter::from_fn(move || {
        let order = match (current.first(), previous.first()) {
            (Some(now), Some(before)) => now.name.cmp(before.name),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let now = if order.is_le() { current.split_off_first() } else { None };
        let before = if order.is_ge() { previous.split_off_first() } else { None };
        let name = now.or(before)?.name;
        let logins = |count: Option<&NamedCount<'_>>| count.map_or(0, |count| count.logins);
        Some((name, logins(now), logins(before)))
    })
}

fn login_rate<'a>(current: &WindowCounts<'a>, previous: &WindowCounts<'a>) -> Option<Development<'a>> {
    // The two rates, both times the product of the two lengths.
    let rates = (product(current.logins, previous.seconds), product(previous.logins, current.seconds));
    let (smaller, larger) = (rates.0.min(rates.1), rates.0.max(rates.1));
    (larger * 2 >= smaller * 3).then(|| Development::LoginRate {
        logins_per_minute: current.logins_per_minute(),
        previous: previous.logins_per_minute(),
    })
}

fn active_users<'a>(current: &WindowCounts<'a>, previous: &WindowCounts<'a>) -> Option<Development<'a>> {
    (current.unique_users.abs_diff(previous.unique_users) >= USERS_STEP)
        .then_some(Development::ActiveUsers { unique_users: current.unique_users, previous: previous.unique_users })
}

fn product(one: u64, other: u64) -> u128 {
    u128::from(one) * u128::from(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<const N: usize>(
        logins: u64,
        seconds: u64,
        users: u64,
        device_types: [(&'static str, u64); N],
    ) -> WindowCounts<'static> {
        let mut device_types = device_types.map(|(name, logins)| NamedCount { hour: 0, name, logins }).to_vec();
        device_types.sort_by_key(|count| count.name);
        WindowCounts { logins, seconds, device_types: device_types.leak(), unique_users: users }
    }

    fn share(device_type: &str, share: f64, previous: f64) -> Development<'_> {
        Development::DeviceShare { device_type, share, previous }
    }

    #[test]
    fn a_share_that_moves_by_exactly_a_twentieth_is_a_development() {
        // 0.44 - 0.39 is less than 0.05 in floating point.
        let now = window(100, 60, 50, [("android", 44), ("ios", 52), ("unknown", 4)]);
        let before = window(100, 60, 50, [("android", 39), ("ios", 56), ("unknown", 5)]);
        assert_eq!(developments(&now, &before), [share("android", 0.44, 0.39)]);
        assert_eq!(developments(&before, &now), [share("android", 0.39, 0.44)]);
    }

    #[test]
    fn shares_of_windows_of_different_lengths_are_compared_as_shares() {
        let now = window(30, 30, 20, [("android", 15), ("ios", 15)]);
        let before = window(100, 100, 20, [("android", 54), ("ios", 45), ("tv", 1)]);
        assert_eq!(developments(&now, &before), [share("ios", 0.5, 0.45)]);
    }

    #[test]
    fn a_device_type_that_comes_or_goes_had_or_has_no_share() {
        let now = window(100, 60, 50, [("tv", 5), ("Watch", 91), ("car", 4)]);
        let before = window(100, 60, 50, [("android", 9), ("Watch", 91)]);
        assert_eq!(developments(&now, &before), [share("android", 0.0, 0.09), share("tv", 0.05, 0.0)]);
    }

    #[test]
    fn developments_are_sorted_by_kind_and_device_types_by_their_bytes() {
        let now = window(100, 60, 60, [("b", 50), ("Z", 50)]);
        let before = window(100, 30, 50, [("é", 50), ("a", 50)]);
        let expected = [
            share("Z", 0.5, 0.0),
            share("a", 0.0, 0.5),
            share("b", 0.5, 0.0),
            share("é", 0.0, 0.5),
            Development::LoginRate { logins_per_minute: 100.0, previous: 200.0 },
            Development::ActiveUsers { unique_users: 60, previous: 50 },
        ];
        assert_eq!(developments(&now, &before), expected);
    }

    #[test]
    fn a_login_rate_half_as_large_again_is_a_development_both_ways() {
        let rate = |logins: u64, seconds: u64, before: u64, before_seconds: u64| {
            let now = window(logins, seconds, 50, []);
            developments(&now, &window(before, before_seconds, 50, [])).len()
        };
        assert_eq!(rate(100, 60, 100, 90), 1);
        assert_eq!(rate(100, 90, 100, 60), 1);
        assert_eq!(rate(100, 60, 100, 89), 0);
        assert_eq!(rate(100, 89, 100, 60), 0);
        assert_eq!(rate(150, 60, 100, 60), 1);
        // One second in 1.5: the rounded rates would be told apart only by their last decimals.
        assert_eq!(rate(100, 2_000_001, 100, 3_000_001), 0);
        assert_eq!(rate(100, 2_000_001, 100, 3_000_002), 1);
    }

    #[test]
    fn ten_users_more_or_fewer_are_a_development() {
        let users = |now, before| developments(&window(100, 60, now, []), &window(100, 60, before, [])).len();
        assert_eq!((users(63, 73), users(73, 63), users(63, 72), users(72, 63)), (1, 1, 0, 0));
    }

    #[test]
    fn logins_of_one_second_count_as_one_second() {
        let mut facts = loginscope_plugin::testing::facts(100, 1_694_479_551, 1_694_479_551);
        assert_eq!(WindowCounts::of(&facts).logins_per_minute().to_string(), "6000");
        facts.latest_login_time = Some(1_694_479_551 + 71);
        assert_eq!(WindowCounts::of(&facts).logins_per_minute().to_string(), "84.507");
    }
}
