//! Timestamps: from what the input says to epoch seconds.

use crate::json::integer;

/// How the input writes timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Seconds since 1970, as an integer or a string that holds one.
    #[default]
    EpochSeconds,
    /// Milliseconds since 1970, as an integer or a string that holds one; floored to seconds.
    EpochMilliseconds,
    /// A string by RFC 3339, with capital `T` and `Z` or an offset. A fraction of a second is dropped. A leap second
    /// (second 60) is allowed at the end of a month in UTC, where alone there may be one, and counts as the
    /// second before it.
    Rfc3339,
}

/// A timestamp as written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Written<'a> {
    /// A number.
    Number(&'a str),
    /// What a string says.
    Text(&'a str),
}

impl<'a> Written<'a> {
    /// The text of the number, or that of the string.
    pub(super) fn text(self) -> &'a str {
        match self {
            Self::Number(text) | Self::Text(text) => text,
        }
    }
}

impl TimestampFormat {
    /// The timestamp in epoch seconds; `None` where it is none in this format.
    pub(super) fn seconds(self, written: Written<'_>) -> Option<i64> {
        match (self, written) {
            (Self::EpochSeconds, _) => integer(written.text()),
            (Self::EpochMilliseconds, _) => Some(integer(written.text())?.div_euclid(1000)),
            (Self::Rfc3339, Written::Text(text)) => rfc3339(text),
            (Self::Rfc3339, Written::Number(_)) => None,
        }
    }
}

const DAY_SECONDS: i64 = 86_400;

/// The epoch seconds of a date and time by RFC 3339.
fn rfc3339(text: &str) -> Option<i64> {
    let (date_time, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = date_time else {
        return None;
    };
    let year = two_digits(*y1, *y2, 99)? * 100 + two_digits(*y3, *y4, 99)?;
    let month = two_digits(*o1, *o2, 12).filter(|month| *month > 0)?;
    let day = two_digits(*d1, *d2, days_in_month(year, month)).filter(|day| *day > 0)?;
    let (hour, minute, second) = (two_digits(*h1, *h2, 23)?, two_digits(*n1, *n2, 59)?, two_digits(*s1, *s2, 60)?);
    let days = days_since_epoch(year, month, day);
    let utc = days * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset_seconds(after_fraction(rest)?)?;
    if second == 60 {
        // A leap second ends the last day of a month. With its offset, it is written as one of that day or the next one.
        let month_begins =
            [days_since_epoch(year, month, 1), days_since_epoch(year, month, days_in_month(year, month)) + 1];
        let ends_month = utc.rem_euclid(DAY_SECONDS) == 0 && month_begins.contains(&utc.div_euclid(DAY_SECONDS));
        return ends_month.then_some(utc - 1);
    }
    Some(utc)
}

/// What follows the fraction of a second, where there is one.
fn after_fraction(rest: &[u8]) -> Option<&[u8]> {
    let [b'.', fraction @ ..] = rest else { return Some(rest) };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { None } else { fraction.get(digits..) }
}

/// How far the local time is ahead of UTC.
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match zone {
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = two_digits(*h1, *h2, 23)? * 3600 + two_digits(*m1, *m2, 59)? * 60;
            Some(if *sign == b'+' { seconds } else { -seconds })
        }
        _ => None,
    }
}

/// The number that two digits make, where it is at most `largest`.
fn two_digits(tens: u8, ones: u8, largest: i64) -> Option<i64> {
    let digit = |byte: u8| char::from(byte).to_digit(10).map(i64::from);
    Some(digit(tens)? * 10 + digit(ones)?).filter(|number| *number <= largest)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end, and months of a regular pattern: 153 days in five.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_year = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_to_epoch = 719_468;
    days_before_year + (153 * month + 2) / 5 + day - 1 - days_to_epoch
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chrono_seconds(text: &str) -> Option<i64> {
        chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp())
    }

    #[test]
    fn rfc_3339_is_read_to_the_second() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2023-09-12T00:45:51Z", 1_694_479_551),
            ("2023-09-12T02:45:51.999999999999+02:00", 1_694_479_551),
            ("2023-09-11T19:15:51-05:30", 1_694_479_551),
            ("1969-12-31T23:59:59.9Z", -1),
            ("2000-02-29T00:00:00-00:00", 951_782_400),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(rfc3339(text), Some(expected), "{text}");
            assert_eq!(chrono_seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_rfc_3339_is_refused() {
        for text in [
            "",
            "2023-09-12",
            "2023-09-12T00:45:51",
            "2023-09-12t00:45:51Z",
            "2023-09-12T00:45:51z",
            "2023-09-12 00:45:51Z",
            "2023-09-12T00:45Z",
            "2023-9-12T00:45:51Z",
            "2023-09-12T00:45:51.Z",
            "2023-09-12T00:45:51,5Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2023-04-31T00:00:00Z",
            "2023-00-10T00:00:00Z",
            "2023-13-10T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T00:60:00Z",
            "2023-01-01T00:00:61Z",
            "2023-01-01T00:00:00+24:00",
            "2023-01-01T00:00:00+00:60",
            "2023-01-01T00:00:00+0000",
            "2023-01-01T00:00:00+00",
            "2023-01-01T00:00:00−01:00",
            " 2023-01-01T00:00:00Z",
            "2023-01-01T00:00:00Z ",
            "+2023-01-01T00:00:00Z",
            "12023-01-01T00:00:00Z",
            "2023-01-01T00:00:0٣Z",
            "1694479551",
            "2023-01-01T00:00:00ZZ",
            "20230101T000000Z",
            "2023-W01-1T00:00:00Z",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_allowed_only_at_the_end_of_a_month_in_utc() {
        for (text, before) in [
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("2016-12-31T18:59:60.75-05:00", "2016-12-31T23:59:59Z"),
            ("2017-01-01T05:29:60+05:30", "2016-12-31T23:59:59Z"),
            ("2016-02-29T23:59:60Z", "2016-02-29T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(text), chrono_seconds(before), "{text}");
            assert_eq!(rfc3339(text), chrono_seconds(text), "{text}");
        }
        for text in
            ["2016-12-30T23:59:60Z", "2016-12-31T22:59:60Z", "2016-12-31T23:59:60+01:00", "2016-02-28T23:59:60Z"]
        {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn milliseconds_are_floored() {
        for (milliseconds, seconds) in
            [("1694479551999", 1_694_479_551), ("-1", -1), ("-1000", -1), ("-1001", -2), ("0", 0)]
        {
            for written in [Written::Number(milliseconds), Written::Text(milliseconds)] {
                assert_eq!(TimestampFormat::EpochMilliseconds.seconds(written), Some(seconds));
            }
        }
    }

    #[test]
    fn a_number_is_no_rfc_3339_timestamp() {
        assert_eq!(TimestampFormat::Rfc3339.seconds(Written::Number("1694479551")), None);
    }

    proptest! {
        #[test]
        fn every_real_time_is_read_as_chrono_reads_it(
            seconds in -62_135_596_800_i64..=253_402_300_799 - DAY_SECONDS,
            offset_minutes in -1439_i32..1440,
            fraction in "(\\.[0-9]{1,12})?",
        ) {
            let zone = chrono::FixedOffset::east_opt(offset_minutes * 60).unwrap();
            let local = chrono::DateTime::from_timestamp(seconds + DAY_SECONDS, 0).unwrap().with_timezone(&zone);
            let text = format!("{}{fraction}{}", local.format("%Y-%m-%dT%H:%M:%S"), local.format("%:z"));
            prop_assume!(text.starts_with(|first: char| first.is_ascii_digit()));
            prop_assert_eq!(rfc3339(&text), Some(local.timestamp()), "{}", text);
        }

        #[test]
        fn what_chrono_refuses_is_refused(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-5][0-9](\\.[0-9]{0,3})?(Z|[+-][0-2][0-9]:[0-6][0-9])") {
            prop_assert_eq!(rfc3339(&text), chrono_seconds(&text), "{}", text);
        }
    }
}
