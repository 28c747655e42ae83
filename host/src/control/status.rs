//! A line every few seconds for people, and a warning when most logins are rejected.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::telemetry::{Counts, Telemetry};

/// With fewer messages than this since the last line, nothing is concluded from how many were rejected.
const ENOUGH_MESSAGES: u64 = 20;

/// How many rejection codes and partitions a line shows.
const SHOWN: usize = 3;

/// Writes a status line every `interval`, until the task is dropped.
pub async fn report(telemetry: Arc<Telemetry>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.tick().await;
    let mut before = (Instant::now(), telemetry.counts());
    loop {
        ticks.tick().await;
        let now = (Instant::now(), telemetry.counts());
        tracing::info!("{}", line(&before.1, &now.1, now.0 - before.0));
        if let Some(warning) = mostly_rejected(&before.1, &now.1) {
            tracing::warn!("{warning}");
        }
        before = now;
    }
}

/// One line: rate, totals, lag, the top rejection codes, and how far each window is.
pub fn line(before: &Counts, now: &Counts, elapsed: Duration) -> String {
    let rate = (now.messages() - before.messages()) as f64 / elapsed.as_secs_f64().max(0.001);
    let mut line = format!(
        "{rate:.0} logins/s, {} accepted, {} rejected, {} insights, lag {}",
        now.processed,
        now.rejected_total(),
        now.insights,
        now.lag()
    );
    if !now.rejected.is_empty() {
        let codes: Vec<String> = top_codes(now).iter().map(|(code, count)| format!("{code} {count}")).collect();
        let _ = write!(line, "; rejected: {}", codes.join(", "));
    }
    if !now.partitions.is_empty() {
        let shown = now.partitions.iter().take(SHOWN);
        let windows: Vec<String> = shown
            .map(|(partition, progress)| {
                format!("{partition}: {} in window {}", progress.window_logins, progress.window)
            })
            .collect();
        let more = if now.partitions.len() > SHOWN { ", …" } else { "" };
        let _ = write!(line, "; partitions {}{more}", windows.join(", "));
    }
    line
}

fn top_codes(counts: &Counts) -> Vec<(&str, u64)> {
    let mut codes: Vec<(&str, u64)> = counts.rejected.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    codes.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
    codes.truncate(SHOWN);
    codes
}

/// A warning with advice where most of the messages since the last look were rejected.
pub fn mostly_rejected(before: &Counts, now: &Counts) -> Option<String> {
    let messages = now.messages() - before.messages();
    let rejected = now.rejected_total() - before.rejected_total();
    if messages < ENOUGH_MESSAGES || rejected * 2 <= messages {
        return None;
    }
    let since = |code: &str| now.rejected.get(code).unwrap_or(&0) - before.rejected.get(code).unwrap_or(&0);
    let top = now.rejected.keys().max_by_key(|code| since(code))?;
    let advice = advice(top).map_or_else(String::new, |advice| format!(": {advice}"));
    Some(format!("{rejected} of the last {messages} messages were rejected, most of them with {top}{advice}"))
}

/// Which setting may be wrong where logins are rejected with this code.
pub fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "not_json" => "is this topic JSON? Avro or Protobuf has to be converted first",
        "not_an_object" => "each message has to be one JSON object",
        "missing_user_id" | "missing_timestamp" | "missing_ip" => {
            "if the field has another name in this topic, map it under [input.fields]"
        }
        "wrong_type" | "duplicate_field" => "if another field is meant, map it under [input.fields]",
        "invalid_timestamp" => "if these times are milliseconds or RFC 3339, set timestamp_format under [input]",
        "timestamp_out_of_range" => {
            "if these times are milliseconds, set timestamp_format = \"epoch_milliseconds\" under [input]"
        }
        "too_large" | "enriched_too_large" => "a larger message is taken with max_message_bytes",
        "plugin_failed" => "a plugin fails: its name is in the header loginscope-plugin, and the log says why",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Progress;

    fn counts(processed: u64, rejected: &[(&str, u64)]) -> Counts {
        let rejected = rejected.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect();
        Counts { processed, rejected, ..Counts::default() }
    }

    #[test]
    fn a_line_tells_rate_totals_lag_codes_and_windows() {
        let before = counts(100, &[]);
        let mut now = counts(1100, &[("invalid_ip", 3), ("not_json", 7)]);
        now.insights = 11;
        now.partitions.insert(0, Progress { window: 12, window_logins: 42, lag: 5 });
        assert_eq!(
            line(&before, &now, Duration::from_secs(2)),
            "505 logins/s, 1100 accepted, 10 rejected, 11 insights, lag 5; rejected: not_json 7, invalid_ip 3; \
             partitions 0: 42 in window 12"
        );
    }

    #[test]
    fn when_most_logins_are_rejected_the_setting_is_named() {
        let warning = mostly_rejected(&counts(0, &[]), &counts(10, &[("timestamp_out_of_range", 90)])).unwrap();
        assert!(warning.contains("90 of the last 100"), "{warning}");
        assert!(warning.contains("timestamp_format"), "{warning}");
        assert_eq!(mostly_rejected(&counts(0, &[]), &counts(90, &[("not_json", 10)])), None);
        assert_eq!(mostly_rejected(&counts(0, &[]), &counts(0, &[("not_json", 3)])), None);
    }
}
