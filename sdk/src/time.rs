//! Times as texts: RFC 3339 in UTC, for the years 0 to 9999. Nothing is allocated.

use std::fmt::{self, Display};

const SECONDS_A_DAY: i64 = 86_400;
const SECONDS_AN_HOUR: i64 = 3_600;

/// The first second of the year 0 and the last of the year 9999.
const EPOCH_SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// The first day of the year 0, counted from 1970-01-01.
const FIRST_DAY: i32 = -719_528;

/// A time as RFC 3339 has it, such as `2023-09-12T00:45:51Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339 {
    text: [u8; 20],
}

impl Rfc3339 {
    /// The time so many seconds after 1970-01-01T00:00:00Z; none outside the years 0 to 9999.
    pub fn from_epoch_seconds(seconds: i64) -> Option<Self> {
        if !EPOCH_SECONDS.contains(&seconds) {
            return None;
        }
        // A day has 128 times 675 seconds. Counted in 128 seconds, these years fit 32 bits, which WebAssembly divides by a
        // constant much faster than 64.
        let since_year_0 = (seconds - EPOCH_SECONDS.start()) as u64;
        let days = (since_year_0 >> 7) as u32 / 675;
        let second = (since_year_0 - u64::from(days) * SECONDS_A_DAY as u64) as u32;
        let (year, month, day) = date(days as i32 + FIRST_DAY);
        let [y1, y2] = digits(year / 100);
        let [y3, y4] = digits(year % 100);
        let [m1, m2] = digits(month);
        let [d1, d2] = digits(day);
        let [h1, h2] = digits(second / 3600);
        let [n1, n2] = digits(second / 60 % 60);
        let [s1, s2] = digits(second % 60);
        let text = [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'Z'];
        Some(Self { text })
    }

    /// The beginning of its hour.
    #[must_use]
    pub fn full_hour(self) -> Self {
        let [y1, y2, y3, y4, _, m1, m2, _, d1, d2, _, h1, h2, ..] = self.text;
        let text = [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', b'0', b'0', b':', b'0', b'0', b'Z'];
        Self { text }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.text).unwrap_or_default()
    }
}

impl Display for Rfc3339 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The texts of one time at a time, for many times that are mostly of the same second, and nearly all of the same hour.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// The second that `time` says.
    second: i64,
    /// Empty where there is none.
    time: String,
    /// The first second of its hour.
    hour_begin: i64,
    /// What that says.
    hour: String,
}

impl Recent {
    /// This time as RFC 3339 has it; none outside the years 0 to 9999.
    #[inline]
    pub(crate) fn time(&mut self, seconds: i64) -> Option<&str> {
        self.go_to(seconds);
        // That it has 20 bytes is worth knowing for whoever copies it.
        self.time.get(..20)
    }

    /// The beginning of this time's hour; none outside the years 0 to 9999.
    #[inline]
    pub(crate) fn hour(&mut self, seconds: i64) -> Option<&str> {
        self.go_to(seconds);
        self.hour.get(..20)
    }

    #[inline]
    fn go_to(&mut self, seconds: i64) {
        if self.second != seconds || self.time.is_empty() {
            self.write(seconds);
        }
    }

    #[inline(never)]
    fn write(&mut self, seconds: i64) {
        self.second = seconds;
        if self.hour.is_empty() || !(0..SECONDS_AN_HOUR).contains(&seconds.saturating_sub(self.hour_begin)) {
            self.hour.clear();
            if let Some(time) = Rfc3339::from_epoch_seconds(seconds) {
                self.hour_begin = seconds - seconds.rem_euclid(SECONDS_AN_HOUR);
                self.hour.push_str(time.full_hour().as_str());
            }
        }
        self.time.clear();
        // `2023-09-12T00:`
        if let Some(until_minutes) = self.hour.get(..14) {
            let second = (seconds - self.hour_begin) as u32;
            let [m1, m2] = digits(second / 60);
            let [s1, s2] = digits(second % 60);
            self.time.push_str(until_minutes);
            self.time.extend([m1, m2, b':', s1, s2, b'Z'].map(char::from));
        }
    }
}

/// The two decimal digits of a number below 100.
fn digits(number: u32) -> [u8; 2] {
    [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar carried on in both directions.
///
/// The calendar repeats itself every 400 years. Years are taken to begin in March, so that the leap day is their last day
/// and the months before it have the same lengths in every year.
fn date(days_since_1970: i32) -> (u32, u32, u32) {
    const DAYS_IN_400_YEARS: i32 = 146_097;
    const DAYS_IN_100_YEARS: u32 = 36_524;
    const DAYS_IN_4_YEARS: u32 = 1_461;
    /// From 0000-03-01 to 1970-01-01.
    const MARCH_OF_YEAR_0: i32 = 719_468;

    let days = days_since_1970 + MARCH_OF_YEAR_0;
    let day_of_cycle = days.rem_euclid(DAYS_IN_400_YEARS) as u32;
    // The last day of the cycle, and of each of its 4-year groups, is a leap day: it belongs to the year that it ends.
    let century = (day_of_cycle / DAYS_IN_100_YEARS).min(3);
    let day_of_century = day_of_cycle - century * DAYS_IN_100_YEARS;
    let group = day_of_century / DAYS_IN_4_YEARS;
    let day_of_group = day_of_century - group * DAYS_IN_4_YEARS;
    let year_of_group = (day_of_group / 365).min(3);
    let day_of_year = day_of_group - year_of_group * 365;

    // From March on, months come in groups of 153 days: 31, 30, 31, 30, 31.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, year_later) = if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    let year =
        days.div_euclid(DAYS_IN_400_YEARS) * 400 + (century * 100 + group * 4 + year_of_group + year_later) as i32;
    (year as u32, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: i64) -> Option<String> {
        Rfc3339::from_epoch_seconds(seconds).map(|time| time.to_string())
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (1_694_479_551, "2023-09-12T00:45:51Z"),
            (946_684_800, "2000-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (-62_167_219_200, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(text(seconds).as_deref(), Some(expected));
        }
    }

    #[test]
    fn every_day_of_ten_thousand_years_follows_the_one_before() {
        let is_leap = |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut day = -719_528;
        for year in 0..10_000 {
            let february = if is_leap(year) { 29 } else { 28 };
            for (month, days) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
                for day_of_month in 1..=days {
                    assert_eq!(date(day), (year, month, day_of_month));
                    day += 1;
                }
            }
        }
        assert_eq!(i64::from(day) * SECONDS_A_DAY - 1, *EPOCH_SECONDS.end());
    }

    #[test]
    fn hour_by_hour_the_same_is_written() {
        let mut recent = Recent::default();
        let mut written = |seconds: i64| {
            let full_hour = Rfc3339::from_epoch_seconds(seconds).map(|time| time.full_hour().to_string());
            assert_eq!(recent.hour(seconds).map(str::to_owned), full_hour);
            recent.time(seconds).map(str::to_owned)
        };
        let (first, last) = (*EPOCH_SECONDS.start(), *EPOCH_SECONDS.end());
        for begin in [first, -7_200, -3_600, 0, 3_600, 951_782_400, 951_868_800, 1_694_479_551, last - 3_700] {
            for seconds in begin - 3_600..begin + 3_700 {
                assert_eq!(written(seconds), text(seconds));
            }
        }
        for seconds in [0, i64::MIN, i64::MAX, i64::MIN + 1, 5, first - 1, first, last, last + 1, 3_599, 3_600, 0] {
            assert_eq!(written(seconds), text(seconds));
        }
    }

    #[test]
    fn times_outside_four_digit_years_have_no_text() {
        for seconds in [-62_167_219_201, 253_402_300_800, i64::MIN, i64::MAX] {
            assert_eq!(text(seconds), None);
        }
    }

    #[test]
    fn a_full_hour_ends_in_zeros_before_and_after_1970() {
        let hour = |seconds| Rfc3339::from_epoch_seconds(seconds).unwrap().full_hour().to_string();
        assert_eq!(hour(1_694_479_551), "2023-09-12T00:00:00Z");
        assert_eq!(hour(-1), "1969-12-31T23:00:00Z");
    }
}
