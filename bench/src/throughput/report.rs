//! What the races came to, and how contenders compare.

use super::race::Measurement;
use crate::cluster::PARTITIONS;
use crate::contender::{Contender, LOGINSCOPE, PLAIN, Program};
use crate::input::USERS;
use crate::results::Findings;
use crate::statistics::{Summary, shown};
use crate::table::{grouped, render};

/// All that was measured.
pub(super) struct Report {
    /// How many logins each run took.
    pub(super) logins: u64,
    /// By how many bytes loginscope makes a login longer.
    pub(super) extra_bytes: u64,
    pub(super) contenders: Vec<Contender>,
    /// For each round the measurements, in the contenders' order.
    pub(super) rounds: Vec<Vec<Measurement>>,
}

/// Two contenders that differ in one thing, and what that thing is.
struct Comparison {
    what: String,
    of: Contender,
    to: Contender,
}

impl Report {
    /// The figures, and how they came about.
    pub(super) fn findings(&self) -> Findings {
        Findings {
            title: "Throughput",
            figures: format!(
                "Figures are medians of {} rounds, with the least and the most in brackets; ratios are taken within each round, as \
                 the machine may be faster in one than in another.",
                self.rounds.len()
            ),
            tables: vec![
                (String::new(), self.figures()),
                ("What costs how much, as ratios:".to_owned(), self.ratios()),
            ],
            notes: self.notes(),
        }
    }

    fn figures(&self) -> String {
        let row = |(place, contender): (usize, &Contender)| {
            let summary = |measure: fn(&Measurement) -> f64| Summary::of(self.measured(place).map(measure));
            vec![
                contender.name(),
                shown(summary(Measurement::logins_per_second), 0),
                shown(summary(Measurement::cpu_microseconds), 2),
                shown(summary(|measured| (measured.peak_bytes >> 20) as f64), 0),
            ]
        };
        let rows: Vec<_> = self.contenders.iter().enumerate().map(row).collect();
        render(&["", "logins/s", "client CPU µs a login", "peak MiB"], &rows)
    }

    fn ratios(&self) -> String {
        let place = |wanted: Contender| self.contenders.iter().position(|contender| *contender == wanted);
        let row = |comparison: &Comparison| {
            let (of, to) = (place(comparison.of)?, place(comparison.to)?);
            let ratio = |measure: fn(&Measurement) -> f64| {
                let pairs = self.measured(of).map(measure).zip(self.measured(to).map(measure));
                shown(Summary::of_ratios(pairs), 2)
            };
            let (speed, cost) = (ratio(Measurement::logins_per_second), ratio(Measurement::cpu_microseconds));
            Some(vec![comparison.what.clone(), speed, cost])
        };
        let rows: Vec<_> = self.comparisons().iter().filter_map(row).collect();
        render(&["", "× logins/s", "× client CPU a login"], &rows)
    }

    /// The comparisons whose contenders both may be there.
    fn comparisons(&self) -> Vec<Comparison> {
        let in_memory = Program::Loginscope { in_memory: true };
        let longer = Program::PlainLoop { extra_bytes: self.extra_bytes };
        let mut all = Vec::new();
        for of in &self.contenders {
            let mut compare =
                |other: &str, to| all.push(Comparison { what: format!("{} : {other}", of.name()), of: *of, to });
            if of.exactly_once && !matches!(of.program, Program::PlainLoop { extra_bytes: 1.. }) {
                compare("at least once", Contender { exactly_once: false, ..*of });
            }
            if of.program == LOGINSCOPE {
                compare("in memory", Contender { program: in_memory, ..*of });
            }
            if matches!(of.program, Program::Loginscope { .. }) {
                compare("plain loop", Contender { program: PLAIN, ..*of });
                compare(&format!("plain loop, +{} bytes", self.extra_bytes), Contender { program: longer, ..*of });
            }
        }
        all
    }

    /// The measurements of the contender at this place, one a round.
    fn measured(&self, place: usize) -> impl Iterator<Item = &Measurement> {
        self.rounds.iter().filter_map(move |round| round.get(place))
    }

    fn notes(&self) -> Vec<String> {
        let (logins, users, extra) = (grouped(self.logins), grouped(USERS), self.extra_bytes);
        vec![
            format!(
                "**The job**: {logins} logins by {users} users (Zipf's law, exponent 1), as `loginscope generate` makes them, in \
                 {PARTITIONS} partitions keyed by user; offsets or transactions are committed every 100 ms. Client and broker share \
                 the machine."
            ),
            format!(
                "**plain loop** (`bench/peers/consume-produce`): loginscope's own clients, and nothing but them: it writes what it \
                 reads. With +{extra} bytes it writes so many more with each message, as loginscope does on average, insights included."
            ),
            "**loginscope**: `loginscope run` with its three default plugins: each login is validated, enriched and counted by \
             user, address, device type and hour, with an insight every 100. In memory (`--state-in memory`), it does the same \
             without writing its state."
                .to_owned(),
            "**When the clock runs**: from the first commit of the consumer group that is seen to the last one before the input \
             has run out, looked at every 10 ms. So neither starting nor ending counts. The CPU time is that of the \
             client's process in that time, in user and kernel mode; the peak of memory that of its whole life. Every run starts \
             with a new group and new topics, and counts only if all messages are in its outputs."
                .to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::contenders;
    use super::*;

    fn measured(milliseconds: u64, cpu: u64) -> Measurement {
        Measurement {
            logins: 1_000_000,
            time: Duration::from_millis(milliseconds),
            cpu: Duration::from_millis(cpu),
            peak_bytes: 64 << 20,
        }
    }

    /// At least once a plain loop, a longer one, loginscope in memory and loginscope; then the same exactly once, half as fast.
    fn report() -> Report {
        let round = |slow: u64| {
            let least = [(1_000, 1_000), (1_250, 1_200), (1_600, 2_000), (2_000, 3_000)];
            let all = least.into_iter().chain(least.map(|(time, cpu)| (2 * time, cpu)));
            all.map(|(time, cpu)| measured(slow * time, slow * cpu)).collect()
        };
        // In the second round the machine was half as fast.
        Report {
            logins: 3_000_000,
            extra_bytes: 155,
            contenders: contenders(155, &[1]),
            rounds: vec![round(1), round(2)],
        }
    }

    fn row(table: &str, name: &str) -> Vec<String> {
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let mut rows = table.lines().map(cells);
        rows.find(|cells: &Vec<String>| cells[0] == name).unwrap_or_else(|| panic!("no {name} in\n{table}"))
    }

    #[test]
    fn figures_are_medians_and_ratios_are_those_of_the_rounds() {
        let report = report();
        let figures = row(&report.figures(), "loginscope, at least once, 1 worker");
        assert_eq!(figures[1..], ["375,000 (250,000–500,000)", "4.50 (3.00–6.00)", "64 (64–64)"]);
        let ratios = report.ratios();
        for (what, speed, cost) in [
            ("loginscope, exactly once, 1 worker : at least once", "0.50", "1.00"),
            ("plain loop, exactly once, 1 worker : at least once", "0.50", "1.00"),
            ("loginscope, at least once, 1 worker : in memory", "0.80", "1.50"),
            ("loginscope, exactly once, 1 worker : plain loop", "0.50", "3.00"),
            ("loginscope in memory, at least once, 1 worker : plain loop, +155 bytes", "0.78", "1.67"),
        ] {
            let expected = [speed, cost].map(|ratio| format!("{ratio} ({ratio}–{ratio})"));
            assert_eq!(row(&ratios, what)[1..], expected, "{what}");
        }
    }

    #[test]
    fn the_notes_say_what_the_job_was() {
        let notes = report().notes().join("\n");
        assert!(notes.contains("3,000,000 logins by 200,000 users") && notes.contains("With +155 bytes"), "{notes}");
    }
}
