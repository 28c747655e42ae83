//! What is noticed of instances that come and go: by the logins of partitions that stay where they are, and by those of partitions
//! that move.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::arrivals::{Arrival, Watch};
use crate::cluster::{Cluster, PARTITIONS};
use crate::contender::{Contender, LOGINSCOPE, Scene};
use crate::input::Logins;
use crate::load::{self, Load, Schedule};
use crate::process::Running;
use crate::results::Findings;
use crate::table::{grouped, render};
use crate::{Bench, Stop};

/// How many logins are counted before, by how many users.
const BEFORE: Logins = Logins { count: 600_000, users: 200_000, zipf: false };

/// After how long the group goes on without an instance that was killed (`session.timeout.ms`).
const SESSION: Duration = Duration::from_secs(10);

/// How long a transaction of an instance that was killed may stay open: its timeout, until brokers look for such ones.
const OPEN_TRANSACTION: Duration = Duration::from_secs(20);

/// How long what was due takes at most to come out, once nothing happens any more.
const SETTLED: Duration = Duration::from_secs(1);

/// Something that happens to the group, and what is to be seen of it.
#[derive(Clone, Debug)]
struct Event {
    name: &'static str,
    from: Instant,
    to: Instant,
    /// The partitions that move.
    moving: BTreeSet<i32>,
}

/// The longest that a login took, of those that were due after an event, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
struct Worst {
    event: &'static str,
    /// Of partitions that stay.
    staying: Option<f64>,
    /// Of partitions that move.
    moving: Option<f64>,
    moved: usize,
}

/// Measures loginscope at both guarantees, at each pace.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Findings> {
    let mut cluster = Cluster::start(&[])?;
    let mut tables = Vec::new();
    for rate in bench.options.rates() {
        let mut rows = Vec::new();
        for exactly_once in [true, false] {
            let contender = Contender { program: LOGINSCOPE, exactly_once, workers: 1 };
            eprintln!("{rate} logins/s: {}", contender.name());
            let worst = run(bench, &mut cluster, contender, *rate)?;
            for line in rows_of(contender, &worst) {
                eprintln!("{}", line.join("  "));
                rows.push(line);
            }
        }
        let head =
            ["", "partitions that stay: worst ms", "above quiet times", "partitions that move", "their worst ms"];
        tables.push((format!("{} logins a second:", grouped((*rate).into())), render(&head, &rows)));
    }
    Ok(Findings {
        title: "Rebalances",
        figures: "Each figure is the longest that any login took after the event, in milliseconds; the first row of each guarantee is \
                  that of quiet times before, in which nothing happens."
            .to_owned(),
        tables,
        notes: notes(bench.options.seconds()),
    })
}

fn run(bench: &Bench<'_>, cluster: &mut Cluster, contender: Contender, rate: u32) -> Result<Vec<Worst>> {
    let run = rate.to_string();
    let scene = contender.scene(&run, &format!("user-login-{}-{run}", contender.exactly_once));
    cluster.create(scene.to_create().chain([&scene.input]), PARTITIONS, &[])?;
    let worst = events(bench, cluster, contender, &scene, rate)?;
    cluster.delete(scene.to_delete().chain([&scene.input]))?;
    Ok(worst)
}

/// Lets a first instance serve all partitions, and others come and go beside it.
fn events(bench: &Bench<'_>, cluster: &Cluster, contender: Contender, scene: &Scene, rate: u32) -> Result<Vec<Worst>> {
    let Bench { options, programs, stop } = *bench;
    let (brokers, settings) = (cluster.brokers(), cluster.settings());
    let start = |name: &str| {
        let mut command = contender.command(programs, &brokers, scene);
        command.env("LOGINSCOPE_KAFKA_SESSION_TIMEOUT_MS", SESSION.as_millis().to_string());
        Running::start(command, format!("{}, {name}", contender.name()))
    };
    let time = Duration::from_secs(options.seconds());
    BEFORE.write(&programs.loginscope, &brokers, &scene.input, stop)?;
    let pool = load::pool(BEFORE.lines(&programs.loginscope)?)?;
    let mut first = start("the first instance")?;
    let observer = cluster.observer(&scene.group, &scene.input, PARTITIONS)?;
    observer.wait_for(BEFORE.count, &mut first, stop)?;
    let watch = Watch::start(&settings, scene.output())?;
    let load = Load::start(&settings, &scene.input, rate, &pool)?;
    watch.wait_for(1, &mut first, stop)?;
    stop.pass(time / 2)?;
    let mut events = vec![happened("nothing happens", time, stop)?];
    for is_killed in [false, true] {
        let another = start("another instance")?;
        let mut joined = happened("another instance joins", time, stop)?;
        joined.moving = assigned(&another.log());
        if joined.moving.is_empty() || joined.moving.len() == usize::from(PARTITIONS) {
            bail!("another instance got partitions {:?}, not some of them:\n{}", joined.moving, another.last_words());
        }
        let moving = joined.moving.clone();
        events.push(joined);
        let gone = if is_killed {
            another.kill()?;
            happened("it is killed", SESSION + OPEN_TRANSACTION + time, stop)?
        } else {
            let stopping = std::thread::spawn(move || another.stop());
            let gone = happened("it leaves", time, stop)?;
            stopping.join().map_err(|_| anyhow!("stopping an instance panicked"))??;
            gone
        };
        events.push(Event { moving, ..gone });
    }
    let schedule = load.schedule;
    let sent = load.end()?;
    watch.wait_for(sent, &mut first, stop)?;
    first.stop()?;
    let arrivals = watch.end()?;
    Ok(events.iter().map(|event| worst(event, &arrivals, schedule)).collect())
}

/// Something that happens now, and is watched for this time. Some more time passes afterwards, so that what was due until then has come
/// out before the next thing happens.
fn happened(name: &'static str, time: Duration, stop: &Stop) -> Result<Event> {
    let from = Instant::now();
    stop.pass(time)?;
    let to = Instant::now();
    stop.pass(SETTLED)?;
    Ok(Event { name, from, to, moving: BTreeSet::new() })
}

/// The longest that a login took that was due in the time of an event.
fn worst(event: &Event, arrivals: &[Arrival], schedule: Schedule) -> Worst {
    let (mut staying, mut moving) = (None, None);
    for arrival in arrivals {
        let due = schedule.due(arrival.number);
        if (event.from..event.to).contains(&due) {
            let milliseconds = arrival.at.saturating_duration_since(due).as_secs_f64() * 1e3;
            let worst = if event.moving.contains(&arrival.partition) { &mut moving } else { &mut staying };
            *worst = Some(f64::max(milliseconds, worst.unwrap_or_default()));
        }
    }
    Worst { event: event.name, staying, moving, moved: event.moving.len() }
}

/// The partitions that an instance has had, by its log.
fn assigned(log: &str) -> BTreeSet<i32> {
    let partition_of = |line: &str| line.split("partition=").nth(1)?.split_whitespace().next()?.parse().ok();
    log.lines().filter(|line| line.contains("partition assigned")).filter_map(partition_of).collect()
}

fn rows_of(contender: Contender, worst: &[Worst]) -> Vec<Vec<String>> {
    let quiet = worst.first().and_then(|quiet| quiet.staying);
    let shown = |milliseconds: Option<f64>| milliseconds.map_or_else(String::new, |it| format!("{it:.0}"));
    let row = |(place, worst): (usize, &Worst)| {
        let above = worst.staying.zip(quiet).filter(|_| place > 0).map(|(worst, quiet)| worst - quiet);
        let guarantee = if contender.exactly_once { "exactly once" } else { "at least once" };
        vec![
            format!("{guarantee}: {}", worst.event),
            shown(worst.staying),
            shown(above),
            if place > 0 { worst.moved.to_string() } else { String::new() },
            shown(worst.moving),
        ]
    };
    worst.iter().enumerate().map(row).collect()
}

fn notes(seconds: u64) -> Vec<String> {
    vec![
        format!(
            "**The job**: {logins} logins by {users} users, in {PARTITIONS} partitions keyed by user, are counted before. Then logins of the \
             same users come at a pace. One instance (`loginscope run`, one worker, default plugins) serves all partitions; another one \
             joins and leaves after SIGTERM, and then one joins and is killed with SIGKILL. After each event it is watched for {seconds} \
             seconds, after the last one for {longer} more.",
            logins = grouped(BEFORE.count),
            users = grouped(BEFORE.users),
            longer = (SESSION + OPEN_TRANSACTION).as_secs(),
        ),
        "**What is measured**: as in [latency](latency.md), from the moment a login is due until a consumer of the output that reads \
         committed records has it. A login is due at its time whatever became of those before it, so the worst one tells how long a \
         partition stood still."
            .to_owned(),
        format!(
            "**Killed**: the group goes on without an instance after `session.timeout.ms`, {session} seconds here; readers of committed \
             records, and whoever takes over, wait for its open transaction until brokers abort it: after `transaction.timeout.ms` \
             (10 s), of which they look for every 10 s.",
            session = SESSION.as_secs(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_login_of_an_event_is_told_for_partitions_that_move_and_for_those_that_stay() {
        let schedule = Schedule::from_now(1_000);
        let arrival = |number: u64, partition: i32, late: u64| Arrival {
            number,
            partition,
            at: schedule.due(number) + Duration::from_millis(late),
        };
        let arrivals =
            [arrival(9, 0, 900), arrival(10, 0, 5), arrival(11, 1, 300), arrival(12, 0, 7), arrival(20, 1, 900)];
        let event =
            Event { name: "it leaves", from: schedule.due(10), to: schedule.due(20), moving: BTreeSet::from([1]) };
        let found = worst(&event, &arrivals, schedule);
        assert_eq!(found, Worst { event: "it leaves", staying: Some(7.0), moving: Some(300.0), moved: 1 });
        let contender = Contender { program: LOGINSCOPE, exactly_once: true, workers: 1 };
        let quiet = Worst { event: "nothing happens", staying: Some(4.0), moving: None, moved: 0 };
        let rows = rows_of(contender, &[quiet, found]);
        assert_eq!(rows[0], ["exactly once: nothing happens", "4", "", "", ""]);
        assert_eq!(rows[1], ["exactly once: it leaves", "7", "3", "1", "300"]);
    }

    #[test]
    fn the_log_tells_which_partitions_an_instance_got() {
        let log = "2026-01-01T00:00:00Z  INFO partition assigned worker=0 partition=3\n\
                   2026-01-01T00:00:00Z  INFO state restored in 3.1ms partition=2 next_offset=7\n\
                   2026-01-01T00:00:01Z  INFO partition assigned worker=0 partition=1\n";
        assert_eq!(assigned(log), BTreeSet::from([1, 3]));
    }
}
