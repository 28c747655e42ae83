//! `cargo xtask test`: every test there is, and one closing line that counts them.
//!
//! The tests of the root workspace get the paths of what they need from outside through the environment:
//! `LOGINSCOPE_BIN` (the host's program, of the dev profile), `LOGINSCOPE_PLUGINS_DIR` (the folder of the default plugins'
//! components; the caller's is kept) and `LOGINSCOPE_TEST_KAFKA` (`1`, or `0` with `--no-kafka`). Tests that need a real
//! Kafka stand in a module `real_kafka`, start it themselves, and are run unless `--no-kafka` is given, which names
//! those that it leaves out.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use xtask::plugins::{self, Builder};
use xtask::{kafka, project};

/// The module of tests that need a real Kafka.
const REAL_KAFKA: &str = "real_kafka::";

/// Runs all tests.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the tests that need a real Kafka (and so Java and Maven)
    #[arg(long)]
    no_kafka: bool,

    /// Run only tests whose name contains this
    filter: Option<String>,
}

/// What came of some tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !arguments.no_kafka {
        kafka::prepare().context("the tests on a real Kafka can't run (--no-kafka leaves them out)")?;
    }
    let mut rows = Vec::new();
    let outcome = run_all(arguments, &mut rows);
    if let Err(error) = &outcome {
        eprintln!("error: {error:#}");
        rows.push(("preparations".to_owned(), Tally { failed: 1, ..Tally::default() }));
    }
    println!();
    for (name, tally) in &rows {
        let Tally { passed, failed, ignored } = tally;
        println!("{passed:>6} passed {failed:>4} failed {ignored:>4} ignored   {name}");
    }
    if let Ok(left_out) = outcome
        && !left_out.is_empty()
    {
        println!("left out, for they need a real Kafka ({}):", left_out.len());
        for test in left_out {
            println!("  {test}");
        }
    }
    let total = rows.iter().fold(Tally::default(), |total, (_, tally)| total.plus(*tally));
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all tests, adds a row for each run, and returns the names of those left out.
fn run_all(arguments: &Arguments, rows: &mut Vec<(String, Tally)>) -> Result<Vec<String>> {
    let target = project::cargo_target();
    build(&target)?;
    let mut root = workspace(&["test", "--no-fail-fast"], &target);
    root.args(&arguments.filter);
    if arguments.no_kafka {
        root.args(["--", "--skip", REAL_KAFKA]);
    }
    tell_paths(&mut root, &target);
    root.env("LOGINSCOPE_TEST_KAFKA", if arguments.no_kafka { "0" } else { "1" });
    rows.push(("root workspace".to_owned(), run_tests(root)?));

    let triple = host_triple()?;
    for folder in other_workspaces()? {
        if folder != plugins::default_sources() {
            plugins::build(&folder, &project::target().join("examples"), Builder::Cargo)?;
        }
        let mut command = project::cargo(&folder);
        command.args(["test", "--workspace", "--no-fail-fast", "--target", &triple]).args(&arguments.filter);
        command.env("CARGO_TARGET_DIR", plugins::target_folder(Builder::Cargo));
        let name = folder.strip_prefix(project::root()).unwrap_or(&folder).display().to_string();
        rows.push((name, run_tests(command)?));
    }
    if arguments.no_kafka { tests_on_kafka(&target) } else { Ok(Vec::new()) }
}

/// Builds all that the tests of the root workspace consist of, in one go: building the host by itself would compile some of
/// its dependencies a second time, with other features.
pub(super) fn build(target: &Path) -> Result<()> {
    plugins::build(&plugins::default_sources(), &plugins::default_output(), Builder::Cargo)?;
    project::run(&mut workspace(&["build", "--bins", "--tests", "--examples"], target))
}

/// Tells tests where the things are that they need.
pub(super) fn tell_paths(tests: &mut Command, target: &Path) {
    tests.env("LOGINSCOPE_BIN", target.join("debug/loginscope"));
    if std::env::var_os("LOGINSCOPE_PLUGINS_DIR").is_none() {
        tests.env("LOGINSCOPE_PLUGINS_DIR", plugins::default_output());
    }
}

/// A cargo command for the whole root workspace.
pub(super) fn workspace(arguments: &[&str], target: &Path) -> Command {
    let mut command = project::cargo(&project::root());
    command.args(arguments).args(["--workspace", "--target-dir"]).arg(target);
    command
}

/// The workspaces of the default plugins and of the examples: their logic is tested natively.
fn other_workspaces() -> Result<Vec<PathBuf>> {
    let root = project::root();
    let mut folders = vec![root.join("plugins")];
    let examples = root.join("examples");
    if examples.is_dir() {
        let entries: Result<Vec<_>, _> = std::fs::read_dir(&examples)?.collect();
        folders.extend(entries?.into_iter().map(|entry| entry.path()));
    }
    folders.retain(|folder| folder.join("Cargo.toml").is_file());
    folders.sort();
    Ok(folders)
}

/// Runs tests, passes on what they say, and counts. A run that fails without a failed test (a crash, or code that doesn't
/// compile) counts as one.
fn run_tests(mut command: Command) -> Result<Tally> {
    println!("\n== {}", project::shown(&command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo cannot be started")?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally = tally.plus(result_line(&line).unwrap_or_default());
        }
    }
    if !child.wait()?.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

/// The counts in a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
fn result_line(line: &str) -> Option<Tally> {
    let counts = line.trim_start().strip_prefix("test result:")?;
    let count = |what: &str| {
        let part = counts.split(';').find_map(|part| part.trim_end().strip_suffix(what))?;
        part.split_whitespace().last()?.parse().ok()
    };
    Some(Tally { passed: count(" passed")?, failed: count(" failed")?, ignored: count(" ignored")? })
}

/// The names of the tests that need a real Kafka.
fn tests_on_kafka(target: &Path) -> Result<Vec<String>> {
    let mut list = workspace(&["test", "--quiet"], target);
    list.args(["--lib", "--bins", "--tests", "--", "--list", REAL_KAFKA]);
    let said = project::output_of(&mut list)?;
    Ok(said.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// The triple of the machine, as rustc names it.
fn host_triple() -> Result<String> {
    let said = project::output_of(Command::new("rustc").arg("-vV"))?;
    let triple = said.lines().find_map(|line| line.strip_prefix("host: "));
    triple.map(str::to_owned).context("`rustc -vV` names no host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.01s";
        assert_eq!(result_line(line), Some(Tally { passed: 12, failed: 0, ignored: 3 }));
        let coloured = "test result: \u{1b}[31mFAILED\u{1b}(B\u{1b}[m. 1 passed; 2 failed; 0 ignored; 0 measured";
        assert_eq!(result_line(coloured), Some(Tally { passed: 1, failed: 2, ignored: 0 }));
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in
            ["", "test result:", "test a::b ... ok", "12 passed; 0 failed", "test result: ok. x passed; 0 failed"]
        {
            assert_eq!(result_line(line), None, "{line}");
        }
    }

    #[test]
    fn a_run_that_crashes_counts_as_a_failure() {
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            run_tests(command).unwrap()
        };
        assert_eq!(script("exit 101"), Tally { failed: 1, ..Tally::default() });
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored";
        assert_eq!(script(&format!("echo '{line}'; exit 101")), Tally { passed: 1, failed: 2, ignored: 0 });
        let line = "test result: ok. 4 passed; 0 failed; 0 ignored";
        assert_eq!(script(&format!("echo '{line}'; echo '{line}'")), Tally { passed: 8, failed: 0, ignored: 0 });
    }

    #[test]
    fn the_host_has_a_triple() {
        assert!(host_triple().unwrap().contains('-'));
    }
}
