//! How soon a restarted process takes logins again, and how much memory the state of its users takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::statvfs;
use xtask::project;

use crate::Bench;
use crate::arrivals::Watch;
use crate::cluster::{Cluster, Observer};
use crate::contender::{Contender, LOGINSCOPE, Scene};
use crate::input::Logins;
use crate::load::{self, Pool};
use crate::process::Running;
use crate::results::Findings;
use crate::table::{grouped, render};

/// How many users have "next to no" state: what a process takes with them it takes with none.
const FEW: u64 = 1_000;

/// How many logins there are for each user.
const LOGINS_A_USER: u64 = 3;

/// How many of so many users have to be drawn from, that so many logins as there are bring each of those one: `(1 - exp(-x)) / x` is
/// 1/3 for x = 2.8214, and 3 / 2.8214 of them are there to be drawn.
const DRAWN_FROM: f64 = 1.0633;

/// How many logins come after the restart, so that each partition has some.
const AFTER: u64 = 200;

/// How long a process rests before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// How many bytes a login of the input takes on disk at most.
const LOGIN_BYTES: u64 = 300;

/// How many bytes the changelog of a user takes on disk at most: two snapshots, and what came between them.
const CHANGELOG_BYTES: u64 = 1_500;

/// How many bytes everything else takes on disk.
const OTHER_BYTES: u64 = 1 << 30;

/// Outputs aren't looked at here, so brokers needn't keep them.
const KEEP_LITTLE: [(&str, &str); 2] = [("retention.bytes", "67108864"), ("segment.bytes", "16777216")];

/// How a process was ended before it was restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Term,
    Kill,
}

/// What a restart came to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Restart {
    end: End,
    /// From the start of the process until its first login could be read.
    first: Duration,
    /// The same for the last of the logins, over all partitions.
    last: Duration,
    state: Restored,
    resident_bytes: u64,
    peak_bytes: u64,
}

/// What the log says of a restore, over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Restored {
    partitions: usize,
    /// The longest that one took.
    longest: Duration,
    snapshot_bytes: u64,
    tail_bytes: u64,
}

impl Restored {
    fn of(log: &str) -> Self {
        let mut all = Self::default();
        for line in log.lines().filter(|line| line.contains("state restored in ")) {
            let number = |name: &str| line.split(name).nth(1)?.split_whitespace().next()?.parse::<u64>().ok();
            let took =
                line.split("state restored in ").nth(1).and_then(|rest| duration(rest.split_whitespace().next()?));
            all.partitions += 1;
            all.longest = all.longest.max(took.unwrap_or_default());
            all.snapshot_bytes += number("snapshot_bytes=").unwrap_or_default();
            all.tail_bytes += number("tail_bytes=").unwrap_or_default();
        }
        all
    }
}

/// A duration as `{:?}` writes it, below a minute.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit() && character != '.')?);
    let seconds = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// Measures each number of users in each number of partitions.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Findings> {
    let Bench { options, programs, .. } = *bench;
    let most = options.users().iter().max().copied().unwrap_or(FEW);
    check_room(most)?;
    let pool = load::pool(Logins { count: AFTER, users: FEW, zipf: false }.lines(&programs.loginscope)?)?;
    let mut cluster = Cluster::start(&[("log.retention.check.interval.ms", "2000")])?;
    let mut rows = Vec::new();
    for partitions in options.partitions() {
        let without = run(bench, &mut cluster, FEW, *partitions, &pool)?;
        let empty = without.first().map_or(0, |restart| restart.resident_bytes);
        for users in options.users() {
            for restart in run(bench, &mut cluster, *users, *partitions, &pool)? {
                let row = row(*users, *partitions, &restart, empty);
                eprintln!("{}", row.join("  "));
                rows.push(row);
            }
        }
        eprintln!("{partitions} partitions with {FEW} users: {} MiB", empty >> 20);
    }
    let head = [
        "",
        "first login after s",
        "last after s",
        "restore s",
        "snapshots MB",
        "tails MB",
        "RSS MiB",
        "peak MiB",
        "bytes a user",
    ];
    Ok(Findings {
        title: "Restore",
        figures: "Each row is one restart.".to_owned(),
        tables: vec![(String::new(), render(&head, &rows))],
        notes: notes(),
    })
}

/// Whether there is room on the disk.
fn check_room(users: u64) -> Result<()> {
    let folder = project::target();
    let disk = statvfs(&folder).with_context(|| format!("cannot tell how much room is at {}", folder.display()))?;
    let (free, needed) = (disk.f_bavail * disk.f_frsize, needed_bytes(users));
    eprintln!("{} GB of disk are free, at most {} GB needed", grouped(free >> 30), grouped(needed >> 30));
    ensure!(
        free > needed,
        "{} needs {needed} bytes of room for {users} users, and has {free}; fewer (--users) need less",
        folder.display()
    );
    Ok(())
}

fn needed_bytes(users: u64) -> u64 {
    users * (LOGINS_A_USER * LOGIN_BYTES + CHANGELOG_BYTES) + OTHER_BYTES
}

/// Has the logins of so many users counted, and restarts the process after either end.
fn run(bench: &Bench<'_>, cluster: &mut Cluster, users: u64, partitions: u16, pool: &Pool) -> Result<Vec<Restart>> {
    let Bench { programs, stop, .. } = *bench;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = u8::try_from(cores.min(partitions.into()))?;
    let contender = Contender { program: LOGINSCOPE, exactly_once: true, workers };
    let mut scene = contender.scene(&format!("{users}-{partitions}"), &format!("user-login-{users}-{partitions}"));
    // What instances tell each other is not needed where there is one partition.
    scene.internal.retain(|topic| partitions > 1 || !topic.ends_with("-totals"));
    cluster.create([&scene.input], partitions, &[])?;
    cluster.create(scene.to_create(), partitions, &KEEP_LITTLE)?;
    let logins = Logins { count: users * LOGINS_A_USER, users: (users as f64 * DRAWN_FROM) as u64, zipf: false };
    eprintln!("{} users in {partitions} partitions: {} logins", grouped(users), grouped(logins.count));
    logins.write(&programs.loginscope, &cluster.brokers(), &scene.input, stop)?;
    let place = Place { bench, cluster, contender, scene: &scene, pool };
    let observer = cluster.observer(&scene.group, &scene.input, partitions)?;
    let mut running = place.start()?;
    observer.wait_for(logins.count, &mut running, stop)?;
    let mut restarts = Vec::new();
    let mut taken = logins.count;
    for end in [End::Term, End::Kill] {
        taken += AFTER;
        let restart;
        (running, restart) = place.restart(running, end, &observer, taken, partitions)?;
        restarts.push(restart);
    }
    running.stop()?;
    cluster.delete(scene.to_delete().chain([&scene.input]))?;
    Ok(restarts)
}

/// Where a process is restarted.
struct Place<'a> {
    bench: &'a Bench<'a>,
    cluster: &'a Cluster,
    contender: Contender,
    scene: &'a Scene,
    pool: &'a Pool,
}

impl Place<'_> {
    fn start(&self) -> Result<Running> {
        let mut command = self.contender.command(self.bench.programs, &self.cluster.brokers(), self.scene);
        // With a name of its own, it gets its partitions back although the group doesn't know yet that it was killed.
        command.args(["--instance", "bench"]);
        Running::start(command, self.contender.name())
    }

    /// Ends the process, and starts it again when there are some more logins, so many in all.
    fn restart(
        &self,
        running: Running,
        end: End,
        observer: &Observer,
        logins: u64,
        partitions: u16,
    ) -> Result<(Running, Restart)> {
        match end {
            End::Term => running.stop()?,
            End::Kill => running.kill()?,
        }
        let stop = self.bench.stop;
        let watch = Watch::start(&self.cluster.settings(), self.scene.output())?;
        load::send_at_once(&self.cluster.settings(), &self.scene.input, AFTER, self.pool)?;
        let began = Instant::now();
        let mut running = self.start()?;
        watch.wait_for(AFTER, &mut running, stop)?;
        observer.wait_for(logins, &mut running, stop)?;
        stop.pass(REST)?;
        let (resident_bytes, peak_bytes) = (running.resident_bytes()?, running.peak_bytes()?);
        let arrivals = watch.end()?;
        let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else { bail!("no login came out") };
        let state = Restored::of(&running.log());
        ensure!(state.partitions == usize::from(partitions), "not all was restored:\n{}", running.last_words());
        let after = |at: Instant| at.saturating_duration_since(began);
        let (first, last) = (after(first.at), after(last.at));
        Ok((running, Restart { end, first, last, state, resident_bytes, peak_bytes }))
    }
}

fn row(users: u64, partitions: u16, restart: &Restart, empty_bytes: u64) -> Vec<String> {
    let Restart { end, first, last, state, resident_bytes, peak_bytes } = restart;
    let end = match end {
        End::Term => "SIGTERM",
        End::Kill => "SIGKILL",
    };
    let partitions = if partitions == 1 { "1 partition".to_owned() } else { format!("{partitions} partitions") };
    let seconds = |time: &Duration| format!("{:.2}", time.as_secs_f64());
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    vec![
        format!("{} users, {partitions}, {end}", grouped(users)),
        seconds(first),
        seconds(last),
        seconds(&state.longest),
        megabytes(state.snapshot_bytes),
        megabytes(state.tail_bytes),
        (resident_bytes >> 20).to_string(),
        (peak_bytes >> 20).to_string(),
        format!("{:.0}", resident_bytes.saturating_sub(empty_bytes) as f64 / users as f64),
    ]
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "**The job**: {LOGINS_A_USER} logins for each user, all equally busy, are taken by `loginscope run` with its three default plugins, \
             exactly once, with as many workers as there are cores and partitions. Then the process is ended, once with SIGTERM and once \
             with SIGKILL, {AFTER} more logins are written, and it is started again. It has a name of its own (`--instance`); without \
             one, a group goes on after a SIGKILL when `session.timeout.ms` is over."
        ),
        "**first login, last**: from the start of the process until a consumer of the output that reads committed records has the first, \
         and the last, of those logins; joining the group and the first commit count. **restore**: what the log says of that, from \
         opening the changelog of a partition to its state, the longest of all partitions."
            .to_owned(),
        "**snapshots, tails**: what the changelogs hold that is read, in millions of bytes: the last snapshots, and what was written since."
            .to_owned(),
        format!(
            "**bytes a user**: what the restarted process has resident beyond one with the state of {FEW} users, for each user: with \
             all that is kept of them, addresses included. The peak is that of its life, restoring included."
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_what_was_restored() {
        let log = "2026-01-01T00:00:00Z  INFO partition assigned worker=0 partition=0\n\
            2026-01-01T00:00:00Z  INFO state restored in 812.3ms partition=0 next_offset=7 window=1 snapshot_bytes=100 tail_bytes=10\n\
            2026-01-01T00:00:00Z  INFO state restored in 1.2s partition=1 next_offset=7 window=1 snapshot_bytes=200 tail_bytes=30\n";
        let expected =
            Restored { partitions: 2, longest: Duration::from_millis(1_200), snapshot_bytes: 300, tail_bytes: 40 };
        assert_eq!(Restored::of(log), expected);
        assert_eq!(Restored::of(""), Restored::default());
    }

    #[test]
    fn durations_are_read_as_they_are_logged() {
        for nanoseconds in [0, 999, 950_000, 12_300_000, 1_200_000_000, 59_900_000_000] {
            let time = Duration::from_nanos(nanoseconds);
            let read = duration(&format!("{time:.1?}")).unwrap();
            assert!(read.abs_diff(time) <= time / 20, "{time:?} {read:?}");
        }
        for text in ["", "s", "12", "12 parsecs", "1.2.3s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn enough_users_are_drawn_from_that_as_many_occur_as_are_asked_for() {
        let drawn_from = 1_000_000.0 * DRAWN_FROM;
        let occur = drawn_from * (1.0 - (-(LOGINS_A_USER as f64) * 1_000_000.0 / drawn_from).exp());
        assert!((occur / 1_000_000.0 - 1.0).abs() < 0.001, "{occur}");
    }

    #[test]
    fn a_user_takes_what_comes_on_top_of_an_empty_process() {
        let second = Duration::from_secs(1);
        let state = Restored { partitions: 4, longest: second, snapshot_bytes: 5_000_000, tail_bytes: 0 };
        let (end, peak_bytes) = (End::Kill, 400 << 20);
        let restart = Restart { end, first: second, last: 2 * second, state, resident_bytes: 150_000_000, peak_bytes };
        let row = row(1_000_000, 4, &restart, 50_000_000);
        let expected =
            ["1,000,000 users, 4 partitions, SIGKILL", "1.00", "2.00", "1.00", "5.0", "0.0", "143", "400", "100"];
        assert_eq!(row, expected);
    }
}
