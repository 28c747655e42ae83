//! What a check found, as text. Pure: it looks at nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::control::status::advice;

/// What the topics are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Accepted logins.
    Processed,
    /// Insights.
    Insights,
    /// Rejected messages.
    Rejected,
    /// The state of the group.
    Changelog,
}

/// Whether a topic is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It doesn't exist.
    Missing,
    /// It may not be looked at.
    Hidden,
    /// It exists.
    There {
        /// How many partitions it has.
        partitions: i32,
        /// `max.message.bytes`, where it could be read.
        limit: Option<u32>,
    },
}

/// A topic that would be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputTopic {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) presence: Presence,
}

/// One of the messages rejected with a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Example {
    pub(super) reason: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What became of the sample.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    pub(super) messages: u64,
    pub(super) insights: u64,
    accepted: u64,
    keyed_by_user: u64,
    without_key: u64,
    /// How many were rejected with each code, and one of them.
    rejected: BTreeMap<String, (u64, Example)>,
    /// How often each plugin failed, and how the first time.
    failures: BTreeMap<String, (u64, String)>,
    /// The first partition in which each user was seen.
    users: BTreeMap<String, i32>,
    users_in_several_partitions: BTreeSet<String>,
}

impl Verdicts {
    /// A login was accepted.
    pub(super) fn accepted(&mut self, partition: i32, key: Option<&[u8]>, user: Option<&str>) {
        self.accepted += 1;
        self.without_key += u64::from(key.is_none());
        let Some(user) = user else { return };
        self.keyed_by_user += u64::from(key == Some(user.as_bytes()));
        match self.users.get(user) {
            None => {
                self.users.insert(user.to_owned(), partition);
            }
            Some(first) if *first != partition => {
                self.users_in_several_partitions.insert(user.to_owned());
            }
            Some(_) => {}
        }
    }

    /// A message was rejected.
    pub(super) fn rejected(&mut self, code: &str, example: impl FnOnce() -> Example) {
        match self.rejected.get_mut(code) {
            Some((count, _)) => *count += 1,
            None => {
                self.rejected.insert(code.to_owned(), (1, example()));
            }
        }
    }

    /// A call of a plugin failed.
    pub(super) fn failed(&mut self, plugin: &str, reason: &str) {
        self.failures.entry(plugin.to_owned()).or_insert_with(|| (0, reason.to_owned())).0 += 1;
    }

    fn rejected_total(&self) -> u64 {
        self.rejected.values().map(|(count, _)| count).sum()
    }

    /// The codes, the most frequent first.
    fn codes(&self) -> Vec<(&str, u64, &Example)> {
        let mut codes: Vec<_> =
            self.rejected.iter().map(|(code, (count, example))| (code.as_str(), *count, example)).collect();
        codes.sort_by_key(|(code, count, _)| (std::cmp::Reverse(*count), *code));
        codes
    }
}

/// Everything that was found.
pub(super) struct Findings {
    pub(super) input: String,
    pub(super) partitions: i32,
    pub(super) plugins: Vec<String>,
    pub(super) insight_every: u32,
    pub(super) verdicts: Verdicts,
    pub(super) creates_topics: bool,
    /// What an output topic should take, in bytes a record.
    pub(super) needed_bytes: u32,
    pub(super) output_topics: Vec<OutputTopic>,
    /// What could not be looked at, each in a sentence.
    pub(super) not_seen: Vec<String>,
}

/// The report, each line ended.
pub(super) fn report(findings: &Findings) -> String {
    let mut lines = vec![
        format!("topic     {}, {}", findings.input, several(findings.partitions.into(), "partition")),
        format!("plugins   {}", findings.plugins.join(", ")),
    ];
    let verdicts = &findings.verdicts;
    if verdicts.messages == 0 {
        lines.push("sample    there are no messages in this topic".to_owned());
    } else {
        lines.push(format!(
            "sample    the newest {}, judged as if nothing had come before",
            several(verdicts.messages as i64, "message")
        ));
        lines.extend(verdict_lines(verdicts, findings.insight_every));
        lines.extend(key_lines(verdicts, findings.partitions));
    }
    lines.extend(findings.output_topics.iter().map(|topic| topic_line(topic, findings)));
    lines.extend(findings.not_seen.iter().map(|what| format!("not seen  {what}")));
    let mut report = String::new();
    for line in lines {
        let _ = writeln!(report, "{line}");
    }
    report
}

fn verdict_lines(verdicts: &Verdicts, insight_every: u32) -> Vec<String> {
    let rejected = verdicts.rejected_total();
    let mut lines = vec![
        format!("accepted  {}", counted(verdicts.accepted, verdicts.messages)),
        format!("rejected  {}", counted(rejected, verdicts.messages)),
    ];
    let codes = verdicts.codes();
    for (code, count, example) in &codes {
        lines.push(format!(
            "          {code} {}, such as {}/{}: {}",
            counted(*count, verdicts.messages),
            example.partition,
            example.offset,
            example.reason
        ));
    }
    if let Some((code, advice)) = codes.first().and_then(|(code, _, _)| Some((code, advice(code)?))) {
        lines.push(format!("advice    {code}: {advice}"));
    }
    for (plugin, (count, reason)) in &verdicts.failures {
        lines.push(format!("failed    {plugin}, {}, the first: {reason}", several(*count as i64, "call")));
    }
    lines.push(format!(
        "insights  {} from this sample, with windows of {} of a partition",
        verdicts.insights,
        several(insight_every.into(), "accepted login")
    ));
    lines
}

fn key_lines(verdicts: &Verdicts, partitions: i32) -> Vec<String> {
    if verdicts.accepted == 0 {
        return vec!["keys      no login was accepted, so nothing can be said about keys".to_owned()];
    }
    let mut share =
        format!("keys      {} of the accepted have user_id as key", counted(verdicts.keyed_by_user, verdicts.accepted));
    if verdicts.without_key > 0 {
        let _ = write!(share, ", {} have none", verdicts.without_key);
    }
    let spread = verdicts.users_in_several_partitions.len() as u64;
    let meaning = if partitions == 1 {
        "with one partition, nothing depends on it".to_owned()
    } else if spread > 0 {
        format!(
            "{} of the users have logins in several partitions: what is counted per user is then counted in each of them \
             apart, and the order of a user's logins is not kept; let the producer use user_id as key",
            counted(spread, verdicts.users.len() as u64)
        )
    } else if verdicts.keyed_by_user == verdicts.accepted {
        format!("all logins of a user are in one of the {partitions} partitions, as they should be")
    } else {
        format!(
            "no user of this sample has logins in several of the {partitions} partitions, but only user_id as key makes sure \
             of it"
        )
    };
    vec![share, format!("          {meaning}")]
}

fn topic_line(topic: &OutputTopic, findings: &Findings) -> String {
    if topic.role == Role::Changelog {
        return format!("state     {} {}", topic.name, changelog(&topic.presence, findings));
    }
    let needed = findings.needed_bytes;
    let what = match &topic.presence {
        Presence::Hidden => "may not be looked at".to_owned(),
        Presence::Missing if findings.creates_topics => format!(
            "does not exist; a run creates it with {} and room for records of {needed} bytes",
            several(findings.partitions.into(), "partition")
        ),
        Presence::Missing => "does not exist, and create_topics is false: a run would not start".to_owned(),
        Presence::There { partitions, limit } => {
            let limit = match limit {
                None => format!("how large its records may be is not known ({needed} bytes are needed)"),
                Some(bytes) if *bytes >= needed => format!("takes records of {bytes} bytes, {needed} are needed"),
                Some(bytes) => format!(
                    "takes records of {bytes} bytes only, {needed} are needed: {}; set its max.message.bytes to {needed}",
                    consequence(topic.role)
                ),
            };
            format!("exists with {}, {limit}", several((*partitions).into(), "partition"))
        }
    };
    format!("output    {} {what}", topic.name)
}

/// How a changelog is. Its records fit whatever it takes.
fn changelog(presence: &Presence, findings: &Findings) -> String {
    match presence {
        Presence::Hidden => "may not be looked at".to_owned(),
        Presence::Missing if findings.creates_topics => {
            format!("does not exist; a run creates it with {}", several(findings.partitions.into(), "partition"))
        }
        Presence::Missing => "does not exist, and create_topics is false: a run would not start".to_owned(),
        Presence::There { partitions, .. } => {
            let partitions_there = several((*partitions).into(), "partition");
            if *partitions < findings.partitions {
                format!(
                    "exists with {partitions_there}, fewer than the input: a run would not start before `loginscope state rebuild --from-beginning`; use another group"
                )
            } else {
                format!("exists with {partitions_there}")
            }
        }
    }
}

fn consequence(role: Role) -> &'static str {
    match role {
        Role::Processed => "larger logins are rejected as enriched_too_large",
        Role::Insights => "a larger insight cannot be written, which stops a run",
        Role::Rejected => "larger values are cut",
        Role::Changelog => "it is written in smaller parts",
    }
}

/// A count and its share of a total.
fn counted(count: u64, total: u64) -> String {
    let percent = count as f64 * 100.0 / total.max(1) as f64;
    // Neither all nor nothing is said where it isn't so.
    let percent = match count {
        _ if count == total => "100".to_owned(),
        0 => "0".to_owned(),
        _ => format!("{:.1}", percent.clamp(0.1, 99.9)),
    };
    format!("{count} ({percent} %)")
}

fn several(count: i64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(partitions: i32, verdicts: Verdicts) -> Findings {
        Findings {
            input: "user-login".to_owned(),
            partitions,
            plugins: vec!["validate-logins@0.1.0".to_owned()],
            insight_every: 100,
            verdicts,
            creates_topics: true,
            needed_bytes: 1000,
            output_topics: Vec::new(),
            not_seen: Vec::new(),
        }
    }

    fn example(offset: i64) -> Example {
        Example { reason: "ip is missing".to_owned(), partition: 1, offset }
    }

    fn outputs(presence: Presence) -> Vec<OutputTopic> {
        vec![OutputTopic { role: Role::Processed, name: "processed-logins".to_owned(), presence }]
    }

    #[test]
    fn verdicts_are_told_by_code_with_the_most_frequent_first_and_advice_for_it() {
        let mut verdicts = Verdicts { messages: 4, insights: 2, ..Verdicts::default() };
        verdicts.accepted(0, Some(b"u1"), Some("u1"));
        verdicts.rejected("a_code", || example(5));
        verdicts.rejected("missing_ip", || example(6));
        verdicts.rejected("missing_ip", || example(7));
        let report = report(&findings(1, verdicts));
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(lines[0], "topic     user-login, 1 partition");
        assert_eq!(lines[3], "accepted  1 (25.0 %)");
        assert_eq!(lines[4], "rejected  3 (75.0 %)");
        assert_eq!(lines[5], "          missing_ip 2 (50.0 %), such as 1/6: ip is missing");
        assert!(lines[6].starts_with("          a_code 1 (25.0 %), such as 1/5"), "{report}");
        assert!(lines[7].starts_with("advice    missing_ip: ") && lines[7].contains("[input.fields]"), "{report}");
        assert!(report.contains("insights  2 from this sample"), "{report}");
    }

    #[test]
    fn users_in_several_partitions_are_named_a_problem() {
        let mut verdicts = Verdicts { messages: 3, ..Verdicts::default() };
        verdicts.accepted(0, None, Some("u1"));
        verdicts.accepted(1, Some(b"u1"), Some("u1"));
        verdicts.accepted(1, Some(b"other"), Some("u2"));
        let report = report(&findings(2, verdicts));
        assert!(report.contains("keys      1 (33.3 %) of the accepted have user_id as key, 1 have none"), "{report}");
        assert!(report.contains("1 (50.0 %) of the users have logins in several partitions"), "{report}");
    }

    #[test]
    fn with_one_partition_keys_do_not_matter() {
        let mut verdicts = Verdicts { messages: 1, ..Verdicts::default() };
        verdicts.accepted(0, None, Some("u1"));
        assert!(report(&findings(1, verdicts)).contains("with one partition, nothing depends on it"));
    }

    #[test]
    fn an_empty_topic_is_no_failure() {
        let report = report(&findings(3, Verdicts::default()));
        assert!(report.contains("there are no messages in this topic"), "{report}");
        assert!(!report.contains('%'), "{report}");
    }

    #[test]
    fn an_output_topic_that_takes_too_little_is_told_with_what_follows() {
        let too_small = Presence::There { partitions: 2, limit: Some(999) };
        let report = report(&Findings { output_topics: outputs(too_small), ..findings(2, Verdicts::default()) });
        assert!(report.contains("takes records of 999 bytes only, 1000 are needed"), "{report}");
        assert!(report.contains("enriched_too_large"), "{report}");
    }

    #[test]
    fn a_missing_output_topic_is_created_or_stops_the_run() {
        let created = Findings { output_topics: outputs(Presence::Missing), ..findings(2, Verdicts::default()) };
        assert!(report(&created).contains("a run creates it with 2 partitions"));
        let refused = Findings { creates_topics: false, ..created };
        assert!(report(&refused).contains("a run would not start"));
    }

    #[test]
    fn a_changelog_takes_records_of_any_size_but_needs_the_partitions_of_the_input() {
        let changelog = |presence| {
            let output_topics = vec![OutputTopic { role: Role::Changelog, name: "log".to_owned(), presence }];
            report(&Findings { output_topics, ..findings(2, Verdicts::default()) })
        };
        assert!(
            changelog(Presence::Missing).contains("state     log does not exist; a run creates it with 2 partitions")
        );
        let there = |partitions| changelog(Presence::There { partitions, limit: Some(9) });
        assert!(there(2).contains("state     log exists with 2 partitions\n"), "{}", there(2));
        assert!(there(1).contains("fewer than the input: a run would not start"));
    }

    #[test]
    fn a_share_says_all_or_nothing_only_where_it_is_so() {
        assert_eq!(counted(99_999, 100_000), "99999 (99.9 %)");
        assert_eq!(counted(1, 100_000), "1 (0.1 %)");
        assert_eq!(counted(0, 5), "0 (0 %)");
        assert_eq!(counted(5, 5), "5 (100 %)");
    }
}
