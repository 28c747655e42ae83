//! What is asked for.

use std::path::PathBuf;

use clap::Parser;

/// Measures loginscope and the programs it is compared with, on a real Kafka, and writes bench/RESULTS.md.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
pub(crate) struct Arguments {
    /// How many logins each run takes [default: 2000000, or 500000 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10_000..))]
    logins: Option<u64>,

    /// How often each contender runs [default: 3, or 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// The numbers of workers with which loginscope runs
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) workers: Vec<u8>,

    /// Fewer logins and rounds, for a first look; writes no file unless one is given
    #[arg(long)]
    quick: bool,

    /// Where the results are written [default: bench/RESULTS.md]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn logins(&self) -> u64 {
        self.logins.unwrap_or(if self.quick { 500_000 } else { 2_000_000 })
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 3 })
    }

    /// The file for the results; none where a quick look shall leave those of a full run alone.
    pub(crate) fn output(&self) -> Option<PathBuf> {
        let usual = || (!self.quick).then(|| xtask::project::root().join("bench/RESULTS.md"));
        self.output.clone().or_else(usual)
    }

    /// The command that measures the same again.
    pub(crate) fn command(&self) -> String {
        let workers: Vec<String> = self.workers.iter().map(u8::to_string).collect();
        let (logins, rounds) = (self.logins(), self.rounds());
        format!("cargo xtask bench --logins {logins} --rounds {rounds} --workers {}", workers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Arguments {
        Arguments::parse_from(std::iter::once("bench").chain(words.split_whitespace()))
    }

    #[test]
    fn the_command_shown_measures_the_same_again() {
        for words in ["", "--quick", "--workers 1", "--logins 70000 --rounds 5 --workers 2,4"] {
            let first = parsed(words);
            let command = first.command();
            let again = parsed(command.strip_prefix("cargo xtask bench").unwrap());
            assert_eq!((again.logins(), again.rounds()), (first.logins(), first.rounds()), "{words}");
            assert_eq!(again.workers, first.workers, "{words}");
        }
    }

    #[test]
    fn a_quick_look_leaves_the_results_of_a_full_run_alone() {
        assert_eq!(parsed("--quick").output(), None);
        assert_eq!(parsed("--quick --output there.md").output(), Some(PathBuf::from("there.md")));
        assert!(parsed("").output().unwrap().ends_with("bench/RESULTS.md"));
    }
}
