//! The machine and the versions of what ran on it.

use std::path::Path;
use std::process::Command;

use xtask::kafka::KAFKA_VERSION;
use xtask::project;

/// What figures depend on beside the programs, as the items of a list. What can't be found out is left out.
pub(crate) fn describe() -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let processor = read("/proc/cpuinfo").and_then(|text| value_of(&text, "model name"));
    let memory = read("/proc/meminfo").and_then(|text| value_of(&text, "MemTotal"));
    let memory = memory.and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok()).map(|kilobytes| kilobytes >> 20);
    let load = read("/proc/loadavg").and_then(|text| Some(text.split(' ').next()?.to_owned()));
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let mut revision = Command::new("git");
    revision.current_dir(project::root()).args(["describe", "--always", "--dirty"]);
    let loginscope = match said_by(&mut revision) {
        Some(revision) => format!("loginscope {}, revision {revision}", env!("CARGO_PKG_VERSION")),
        None => format!("loginscope {}", env!("CARGO_PKG_VERSION")),
    };
    [
        Some(format!("{cores} cores, {}", processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()))),
        memory.map(|gibibytes| format!("{gibibytes} GiB of memory")),
        read("/proc/sys/kernel/osrelease").map(|release| format!("Linux {}", release.trim())),
        load.map(|load| format!("load of the machine just before: {load}")),
        Some(loginscope),
        said_by(Command::new("rustc").arg("-V")),
        Some(format!("Apache Kafka {KAFKA_VERSION}, librdkafka {librdkafka}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The first line that a program says; `None` where it isn't there or fails.
fn said_by(command: &mut Command) -> Option<String> {
    let said = project::output_of(command).ok()?;
    said.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The value in the first line `name : value`.
fn value_of(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_name_counts() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.4: GHz\nprocessor\t: 1\nmodel name\t: Other\n";
        assert_eq!(value_of(text, "model name").as_deref(), Some("Some CPU @ 2.4: GHz"));
        assert_eq!(value_of(text, "model"), None);
    }

    #[test]
    fn a_program_that_is_not_there_says_nothing() {
        assert_eq!(said_by(&mut Command::new("no-such-program-anywhere")), None);
        assert_eq!(said_by(Command::new("sh").args(["-c", "echo; echo later"])), None);
        assert_eq!(said_by(Command::new("sh").args(["-c", "echo one; echo two"])).as_deref(), Some("one"));
    }
}
