//! What `cargo xtask bench` is asked for. It is read before anything is built, and again by the program that measures.

use std::path::{Path, PathBuf};

use crate::project;

/// How much is measured, and where the results go.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// How many logins each run takes [default: 2000000, or 500000 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10_000..))]
    logins: Option<u64>,

    /// How often each contender runs [default: 3, or 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// The numbers of workers with which loginscope and the plain loop run
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u8).range(1..))]
    workers: Vec<u8>,

    /// Fewer logins and rounds, for a first look; writes no file unless one is named
    #[arg(long)]
    quick: bool,

    /// Where the results are written [default: bench/RESULTS.md]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Options {
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

    /// The file for the results; none where a quick look shall leave those of a full run alone.
    pub fn output(&self) -> Option<PathBuf> {
        let usual = || (!self.quick).then(|| project::root().join("bench/RESULTS.md"));
        self.output.clone().or_else(usual)
    }

    /// The same as words of a command line.
    pub fn words(&self) -> Vec<String> {
        let workers: Vec<String> = self.workers.iter().map(u8::to_string).collect();
        let mut words = vec!["--logins".to_owned(), self.logins().to_string()];
        words.extend(["--rounds".to_owned(), self.rounds().to_string()]);
        words.extend(["--workers".to_owned(), workers.join(",")]);
        words.extend(self.quick.then(|| "--quick".to_owned()));
        if let Some(output) = self.output.as_deref().map(Path::to_string_lossy) {
            words.extend(["--output".to_owned(), output.into_owned()]);
        }
        words
    }
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
        for text in ["", "--quick", "--workers 1", "--logins 70000 --rounds 5 --workers 2,4 --output a.md"] {
            let first = parsed(text.split_whitespace());
            let words = first.words();
            let again = parsed(words.iter().map(String::as_str));
            assert_eq!(
                (again.logins(), again.rounds(), again.workers()),
                (first.logins(), first.rounds(), first.workers())
            );
            assert_eq!((again.output(), again.words()), (first.output(), words), "{text}");
        }
    }

    #[test]
    fn a_quick_look_leaves_the_results_of_a_full_run_alone() {
        assert_eq!(parsed(["--quick"]).output(), None);
        assert_eq!(parsed(["--quick", "--output", "there.md"]).output(), Some(PathBuf::from("there.md")));
        assert!(parsed([]).output().unwrap().ends_with("bench/RESULTS.md"));
    }
}
