//! What was measured, for the terminal and for `bench/RESULTS.md`.

use std::fmt::Write as _;

use xtask::bench::Options;

use crate::cluster::PARTITIONS;
use crate::contender::Contender;
use crate::input::USERS;
use crate::race::Measurement;
use crate::statistics::Summary;
use crate::table::{grouped, render};

/// All that was measured.
pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) machine: Vec<String>,
    /// By how many bytes loginscope makes a login longer.
    pub(crate) extra_bytes: u64,
    /// The contenders; the first is the one that all are held against.
    pub(crate) contenders: Vec<Contender>,
    /// For each round the measurements, in the contenders' order.
    pub(crate) rounds: Vec<Vec<Measurement>>,
}

const HEAD: [&str; 6] = ["", "logins/s", "× first", "client CPU µs a login", "× first", "peak MiB"];

impl Report<'_> {
    /// The figures: medians over the rounds, with the least and the most in brackets.
    pub(crate) fn table(&self) -> String {
        let row = |(place, contender): (usize, &Contender)| {
            let mut cells = vec![contender.name()];
            for (measure, digits) in
                [(Measurement::logins_per_second as fn(&Measurement) -> f64, 0), (Measurement::cpu_microseconds, 2)]
            {
                cells.push(shown(self.summary(place, measure), digits));
                cells.push(shown(self.ratios(place, measure), 2));
            }
            cells.push(shown(self.summary(place, |measured| (measured.peak_bytes >> 20) as f64), 0));
            cells
        };
        render(&HEAD, &self.contenders.iter().enumerate().map(row).collect::<Vec<_>>())
    }

    /// The whole of `bench/RESULTS.md`.
    pub(crate) fn document(&self) -> String {
        let machine = self.machine.iter().fold(String::new(), |mut list, item| {
            let _ = writeln!(list, "- {item}");
            list
        });
        let (logins, rounds) = (grouped(self.options.logins()), self.rounds.len());
        format!(
            "# Results\n\n\
             Written by `cargo xtask bench {command}`. Figures are medians of {rounds} rounds, with the least and the most in brackets; ratios \
             are those to the first row, taken within each round, as the machine may be faster in one than in another.\n\n\
             {table}\n\
             - **The job**: {logins} logins by {users} users (Zipf's law, exponent 1), as `loginscope generate` makes them, in \
             {PARTITIONS} partitions keyed by user; at least once unless it says otherwise, offsets committed every 100 ms. \
             Client and broker share the machine.\n\
             - **plain loop** (`bench/peers/consume-produce`): loginscope's own clients, and nothing but them: it writes what it reads. \
             With +{extra} bytes it writes so many more with each message, as loginscope does on average, insights included.\n\
             - **loginscope**: `loginscope run` with its three default plugins: each login is validated, enriched and counted by \
             user, address, device type and hour, with an insight every 100.\n\
             - **When the clock runs**: from the first commit of the consumer group that is seen to the last one before the input \
             has run out, looked at every 10 ms. So neither starting nor ending counts. The CPU time is that of the \
             client's process in that time, in user and kernel mode; the peak of memory that of its whole life. Every run starts with a \
             new group and new topics, and counts only if all messages are in its outputs.\n\n\
             ## Machine\n\n\
             {machine}",
            command = self.options.words().join(" "),
            table = self.table(),
            users = grouped(USERS),
            extra = self.extra_bytes,
        )
    }

    fn summary(&self, place: usize, measure: impl Fn(&Measurement) -> f64) -> Option<Summary> {
        Summary::of(self.rounds.iter().filter_map(|round| round.get(place)).map(measure))
    }

    fn ratios(&self, place: usize, measure: impl Fn(&Measurement) -> f64) -> Option<Summary> {
        let both = |round: &Vec<Measurement>| Some((measure(round.get(place)?), measure(round.first()?)));
        Summary::of_ratios(self.rounds.iter().filter_map(both))
    }
}

/// `median (least–most)`.
fn shown(summary: Option<Summary>, digits: usize) -> String {
    let number = |value: f64| match digits {
        0 => grouped(value.round() as u64),
        _ => format!("{value:.digits$}"),
    };
    summary.map_or_else(String::new, |it| format!("{} ({}–{})", number(it.median), number(it.least), number(it.most)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use super::*;
    use crate::{Arguments, contender};

    fn measured(milliseconds: u64, cpu: u64) -> Measurement {
        Measurement {
            logins: 1_000_000,
            time: Duration::from_millis(milliseconds),
            cpu: Duration::from_millis(cpu),
            peak_bytes: 64 << 20,
        }
    }

    fn report(options: &Options) -> Report<'_> {
        Report {
            options,
            machine: vec!["2 cores".to_owned()],
            extra_bytes: 155,
            contenders: contender::all(155, &[1]),
            rounds: vec![
                vec![measured(1_000, 1_000), measured(1_250, 1_200), measured(2_000, 3_000)],
                // A round in which the machine was half as fast.
                vec![measured(2_000, 2_000), measured(2_500, 2_400), measured(4_000, 6_000)],
            ],
        }
    }

    #[test]
    fn ratios_are_those_of_the_rounds() {
        let options = Arguments::parse_from(["bench"]).options;
        let table = report(&options).table();
        let row = table.lines().find(|line| line.contains("loginscope, 1 worker")).unwrap();
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(
            cells[1..],
            ["375,000 (250,000–500,000)", "0.50 (0.50–0.50)", "4.50 (3.00–6.00)", "3.00 (3.00–3.00)", "64 (64–64)"]
        );
    }

    #[test]
    fn the_document_says_how_and_where_it_was_measured() {
        let options = Arguments::parse_from(["bench", "--logins", "3000000"]).options;
        let report = report(&options);
        let document = report.document();
        for part in [&report.table(), "3,000,000 logins by 200,000 users", "With +155 bytes", "- 2 cores"] {
            assert!(document.contains(part), "{part}\n{document}");
        }
        assert!(document.contains("`cargo xtask bench --logins 3000000 --rounds 3 --workers 1,2`"), "{document}");
    }
}
