//! What `cargo xtask bench` is asked for. It is read before anything is built, and again by the program that measures.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::project;

/// Something that is measured, with a file of results of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// How many logins a second, and what each costs
    Throughput,
    /// How soon the state is back after a restart, and how much memory it takes
    Restore,
    /// How long it takes from a login to its output
    Latency,
    /// What is noticed of instances that come and go
    Rebalance,
    /// What swaps of plugins cost
    Swap,
}

impl Part {
    /// Its name, on the command line and of its file.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What is measured and how much, and where the results go.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// What is measured [default: all of it]
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,

    /// How many logins each run takes (throughput) [default: 2000000, or 500000 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10_000..))]
    logins: Option<u64>,

    /// How often each contender runs (throughput, latency) [default: 3, or 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// The numbers of workers with which loginscope and the plain loop run (throughput)
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u8).range(1..))]
    workers: Vec<u8>,

    /// How many users there are (restore) [default: 1000000,5000000, or 100000 with --quick]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1_000..))]
    users: Vec<u64>,

    /// How many partitions their state is spread over (restore)
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 4], value_parser = clap::value_parser!(u16).range(1..))]
    partitions: Vec<u16>,

    /// How many swaps in a row (swap) [default: 1000, or 100 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..))]
    swaps: Option<u32>,

    /// How many logins a second come (latency, rebalance, swap)
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [5_000], value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Vec<u32>,

    /// For how many seconds, after warming up (latency), or after each event (rebalance) [default: 30, or 8 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,

    /// Less of everything, for a first look; writes no file unless a folder is named
    #[arg(long)]
    quick: bool,

    /// The folder where the results are written, a file for each part [default: bench/results]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl Options {
    /// What is measured, each part once.
    pub fn parts(&self) -> Vec<Part> {
        let is_asked_for = |part: &Part| self.parts.is_empty() || self.parts.contains(part);
        Part::value_variants().iter().copied().filter(is_asked_for).collect()
    }

    /// How many logins each run takes.
    pub fn logins(&self) -> u64 {
        self.logins.unwrap_or(if self.quick { 500_000 } else { 2_000_000 })
    }

    /// How often each contender runs.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 3 })
    }

    /// The numbers of workers with which loginscope and the plain loop run.
    pub fn workers(&self) -> &[u8] {
        &self.workers
    }

    /// How many users there are whose state is restored.
    pub fn users(&self) -> &[u64] {
        match self.users.as_slice() {
            [] if self.quick => &[100_000],
            [] => &[1_000_000, 5_000_000],
            users => users,
        }
    }

    /// How many partitions the state that is restored is spread over.
    pub fn partitions(&self) -> &[u16] {
        &self.partitions
    }

    /// How many logins a second come.
    pub fn rates(&self) -> &[u32] {
        &self.rate
    }

    /// How many swaps there are in a row.
    pub fn swaps(&self) -> u32 {
        self.swaps.unwrap_or(if self.quick { 100 } else { 1000 })
    }

    /// For how many seconds logins come at a pace.
    pub fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(if self.quick { 8 } else { 30 })
    }

    /// The file for the results of a part; none where a quick look shall leave those of a full run alone.
    pub fn output(&self, part: Part) -> Option<PathBuf> {
        let usual = || (!self.quick).then(|| project::root().join("bench/results"));
        Some(self.output.clone().or_else(usual)?.join(part.name()).with_extension("md"))
    }

    /// The same as words of a command line, as far as these parts are concerned.
    pub fn words(&self, parts: &[Part]) -> Vec<String> {
        use Part::{Latency, Rebalance, Restore, Swap, Throughput};
        let mut words: Vec<String> = parts.iter().map(|part| part.name()).collect();
        let mut option = |of: &[Part], name: &str, value: String| {
            if of.iter().any(|part| parts.contains(part)) {
                words.extend([format!("--{name}"), value]);
            }
        };
        option(&[Throughput], "logins", self.logins().to_string());
        option(&[Throughput, Latency], "rounds", self.rounds().to_string());
        option(&[Throughput], "workers", with_commas(&self.workers));
        option(&[Restore], "users", with_commas(self.users()));
        option(&[Restore], "partitions", with_commas(&self.partitions));
        option(&[Swap], "swaps", self.swaps().to_string());
        option(&[Latency, Rebalance, Swap], "rate", with_commas(&self.rate));
        option(&[Latency, Rebalance], "seconds", self.seconds().to_string());
        words.extend(self.quick.then(|| "--quick".to_owned()));
        if let Some(output) = self.output.as_deref().map(Path::to_string_lossy) {
            words.extend(["--output".to_owned(), output.into_owned()]);
        }
        words
    }
}

fn with_commas(numbers: &[impl Display]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parsed<'w>(words: impl IntoIterator<Item = &'w str>) -> Options {
        Command::parse_from(std::iter::once("bench").chain(words)).options
    }

    #[test]
    fn the_words_ask_for_the_same_again() {
        for text in [
            "",
            "--quick",
            "throughput --workers 1",
            "latency throughput --logins 70000 --rounds 5 --workers 2,4 --output a",
            "restore --users 5000,7000 --partitions 3 --quick",
            "rebalance --rate 100,1000 --seconds 3",
            "swap --swaps 20 --rate 7",
        ] {
            let first = parsed(text.split_whitespace());
            let words = first.words(&first.parts());
            let again = parsed(words.iter().map(String::as_str));
            assert_eq!(again.words(Part::value_variants()), first.words(Part::value_variants()), "{text}");
            assert_eq!((again.parts(), again.output(Part::Latency)), (first.parts(), first.output(Part::Latency)));
        }
    }

    #[test]
    fn a_part_is_told_with_what_concerns_it() {
        let options = parsed(["--users", "5000", "--rate", "100"]);
        assert_eq!(options.words(&[Part::Rebalance]).join(" "), "rebalance --rate 100 --seconds 30");
        assert_eq!(options.words(&[Part::Restore]).join(" "), "restore --users 5000 --partitions 1,4");
    }

    #[test]
    fn without_a_part_all_are_measured_and_none_twice() {
        assert_eq!(parsed([]).parts(), Part::value_variants());
        assert_eq!(parsed(["rebalance", "restore", "rebalance"]).parts(), [Part::Restore, Part::Rebalance]);
    }

    #[test]
    fn a_quick_look_leaves_the_results_of_a_full_run_alone() {
        assert_eq!(parsed(["--quick"]).output(Part::Latency), None);
        assert_eq!(parsed(["--quick", "--output", "there"]).output(Part::Latency), Some("there/latency.md".into()));
        assert!(parsed([]).output(Part::Throughput).unwrap().ends_with("bench/results/throughput.md"));
    }
}
