//! What a valid login is, field by field. The order of the fields is the caller's.

use loginscope_plugin::time::Rfc3339;
use loginscope_plugin::{Rejection, address, quoted};

/// The longest user id, in bytes.
const MAX_USER_ID_BYTES: usize = 128;

/// The longest optional field, in bytes.
const MAX_FIELD_BYTES: usize = 256;

/// The earliest timestamp: 2000-01-01.
const EARLIEST: i64 = 946_684_800;

/// The latest timestamp where nothing else limits it: the end of the year 9999.
const LATEST: i64 = 253_402_300_799;

/// How far a timestamp may be ahead of its record, in seconds.
const MAX_AHEAD: i64 = 86_400;

/// The timestamp of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamp<'a> {
    /// There is none.
    Missing,
    /// There is one, but it is no time.
    Malformed(&'a str),
    /// Seconds since the epoch.
    Seconds(i64),
}

/// Whether the user id is there and usable.
///
/// # Errors
/// `missing_user_id`, `invalid_user_id`.
#[inline]
pub fn user_id(user_id: Option<&str>) -> Result<(), Rejection> {
    match user_id {
        Some(id) if !id.is_empty() && id.len() <= MAX_USER_ID_BYTES && !has_control_character(id) => Ok(()),
        _ => Err(bad_user_id(user_id)),
    }
}

#[cold]
fn bad_user_id(user_id: Option<&str>) -> Rejection {
    let Some(user_id) = user_id else {
        return Rejection::new("missing_user_id", "user_id is missing");
    };
    let fault = if user_id.is_empty() {
        "is empty".to_owned()
    } else if user_id.len() > MAX_USER_ID_BYTES {
        format!("has {} bytes, more than {MAX_USER_ID_BYTES}", user_id.len())
    } else {
        "contains a control character".to_owned()
    };
    Rejection::new("invalid_user_id", format!("user_id {} {fault}", quoted(user_id)))
}

/// Whether the timestamp is there, a time, and no earlier than 2000 nor later than the record's own timestamp
/// allows.
///
/// # Errors
/// `missing_timestamp`, `invalid_timestamp`, `timestamp_out_of_range`.
#[inline]
pub fn timestamp(timestamp: Timestamp<'_>, record_timestamp_ms: Option<i64>) -> Result<(), Rejection> {
    // For whole seconds the same as a comparison with the record's full seconds, without a division.
    let is_too_late =
        |seconds| seconds > LATEST || record_timestamp_ms.is_some_and(|ms| ms < (seconds - MAX_AHEAD) * 1000);
    match timestamp {
        Timestamp::Seconds(seconds) if seconds >= EARLIEST && !is_too_late(seconds) => Ok(()),
        _ => Err(bad_timestamp(timestamp, record_timestamp_ms)),
    }
}

#[cold]
fn bad_timestamp(timestamp: Timestamp<'_>, record_timestamp_ms: Option<i64>) -> Rejection {
    let seconds = match timestamp {
        Timestamp::Seconds(seconds) => seconds,
        Timestamp::Missing => return Rejection::new("missing_timestamp", "timestamp is missing"),
        Timestamp::Malformed(text) => {
            let reason = format!("timestamp {} is not a time in the format of this topic", quoted(text));
            return Rejection::new("invalid_timestamp", reason);
        }
    };
    if seconds < EARLIEST {
        let reason = format!("timestamp {} is before 2000-01-01T00:00:00Z", shown(seconds));
        return Rejection::new("timestamp_out_of_range", reason);
    }
    let latest = record_timestamp_ms.map_or(LATEST, |ms| LATEST.min(ms.div_euclid(1000).saturating_add(MAX_AHEAD)));
    let limit = if latest == LATEST { "the end of the year 9999" } else { "a day after its record" };
    let reason = format!("timestamp {} is after {}, {limit}", shown(seconds), shown(latest));
    Rejection::new("timestamp_out_of_range", reason)
}

/// Whether the address is there and a plain IPv4 or IPv6 address: no port, no zone, no leading zeros.
///
/// # Errors
/// `missing_ip`, `invalid_ip`.
#[inline]
pub fn ip(ip: Option<&str>) -> Result<(), Rejection> {
    match ip.and_then(address::parse) {
        Some(_) => Ok(()),
        None => Err(bad_ip(ip)),
    }
}

#[cold]
fn bad_ip(ip: Option<&str>) -> Rejection {
    match ip {
        None => Rejection::new("missing_ip", "ip is missing"),
        Some(ip) => Rejection::new("invalid_ip", format!("ip {} is not an IPv4 or IPv6 address", quoted(ip))),
    }
}

/// Whether an optional field is short enough.
///
/// # Errors
/// `field_too_long`.
#[inline]
pub fn length(field: &str, value: Option<&str>) -> Result<(), Rejection> {
    match value {
        Some(value) if value.len() > MAX_FIELD_BYTES => Err(too_long(field, value)),
        _ => Ok(()),
    }
}

#[cold]
fn too_long(field: &str, value: &str) -> Rejection {
    let reason = format!("{field} {} has {} bytes, more than {MAX_FIELD_BYTES}", quoted(value), value.len());
    Rejection::new("field_too_long", reason)
}

/// Whether the outcome, where it is said, is one of the two.
///
/// # Errors
/// `invalid_outcome`.
#[inline]
pub fn outcome(outcome: Option<&str>) -> Result<(), Rejection> {
    match outcome {
        None | Some("success" | "failure") => Ok(()),
        Some(other) => Err(bad_outcome(other)),
    }
}

#[cold]
fn bad_outcome(outcome: &str) -> Rejection {
    let reason = format!("outcome {} is neither \"success\" nor \"failure\"", quoted(outcome));
    Rejection::new("invalid_outcome", reason)
}

/// A timestamp for a person: the number, and the time it stands for where that has four digits of a year.
fn shown(seconds: i64) -> String {
    Rfc3339::from_epoch_seconds(seconds).map_or_else(|| seconds.to_string(), |time| format!("{seconds} ({time})"))
}

/// Whether the text has a character of Unicode's category Cc.
fn has_control_character(text: &str) -> bool {
    // Nearly every user id is printable ASCII, and eight bytes at a time show that: the last eight may overlap those before.
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let plain = words.iter().all(|word| is_printable_ascii(*word))
        && (rest.is_empty() || text.as_bytes().last_chunk().is_some_and(|word| is_printable_ascii(*word)));
    !plain && text.chars().any(char::is_control)
}

/// Whether all eight bytes are from 0x20 to 0x7E. May say no to printable ASCII, never yes to anything else.
fn is_printable_ascii(bytes: [u8; 8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(bytes);
    // A byte's top bit is set if it isn't ASCII, or 0x7F plus one, or below 0x20 and so borrows.
    (word | word.wrapping_add(EACH) | word.wrapping_sub(0x20 * EACH)) & (0x80 * EACH) == 0
}
