//! How long it takes from the moment a login is due until a consumer of the output has it, with logins that come at a pace.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use crate::Bench;
use crate::arrivals::{Arrival, Watch};
use crate::cluster::{Cluster, PARTITIONS};
use crate::contender::{Contender, LOGINSCOPE, PLAIN, Scene};
use crate::input::{Logins, USERS};
use crate::load::{self, Load, Pool, Schedule};
use crate::process::Running;
use crate::results::Findings;
use crate::statistics::{Summary, shown};
use crate::table::{grouped, render};

/// How long logins come before it is measured, after the first has come out.
const WARM_UP: Duration = Duration::from_secs(5);

/// How many different logins are sent, again and again.
const POOL: u64 = 200_000;

/// What a run came to, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Latencies {
    median: f64,
    p99: f64,
    p999: f64,
    most: f64,
}

impl Latencies {
    /// Those of the logins that were due in this time.
    fn of(arrivals: &[Arrival], schedule: Schedule, from: Instant, to: Instant) -> Result<Self> {
        // Microseconds up to ten minutes, to three digits.
        let mut histogram = Histogram::<u64>::new_with_max(600_000_000, 3)?;
        for arrival in arrivals {
            let due = schedule.due(arrival.number);
            if (from..to).contains(&due) {
                let latency = arrival.at.saturating_duration_since(due);
                histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
        }
        if histogram.is_empty() {
            anyhow::bail!("no login was due while it was measured");
        }
        let milliseconds = |microseconds: u64| microseconds as f64 / 1e3;
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        Ok(Self { median: at(0.5), p99: at(0.99), p999: at(0.999), most: milliseconds(histogram.max()) })
    }
}

/// The contenders: for each guarantee the plain loop, then loginscope.
fn contenders() -> Vec<Contender> {
    let both = |exactly_once| [PLAIN, LOGINSCOPE].map(|program| Contender { program, exactly_once, workers: 1 });
    [both(false), both(true)].concat()
}

/// Measures all contenders at each pace, in turns.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Findings> {
    let Bench { options, programs, .. } = *bench;
    let pool = load::pool(Logins::usual(POOL).lines(&programs.loginscope)?)?;
    let mut cluster = Cluster::start(&[])?;
    let contenders = contenders();
    let mut tables = Vec::new();
    for rate in options.rates() {
        let mut rounds = Vec::new();
        for round in 1..=options.rounds() {
            let mut measured = Vec::new();
            for contender in &contenders {
                let name = contender.name();
                let latencies = run(bench, &mut cluster, *contender, *rate, &format!("{rate}-{round}"), &pool)
                    .with_context(|| format!("{name}, round {round}"))?;
                let Latencies { median, p99, p999, most } = latencies;
                eprintln!(
                    "{rate} logins/s, round {round} of {}: {name}: p50 {median:.1} ms, p99 {p99:.1}, p99.9 {p999:.1}, most {most:.1}",
                    options.rounds()
                );
                measured.push(latencies);
            }
            rounds.push(measured);
        }
        tables
            .push((format!("{} logins a second, milliseconds:", grouped((*rate).into())), table(&contenders, &rounds)));
    }
    Ok(findings(options.rounds(), options.seconds(), tables))
}

/// One run of a contender, with topics of its own.
fn run(
    bench: &Bench<'_>,
    cluster: &mut Cluster,
    contender: Contender,
    rate: u32,
    run: &str,
    pool: &Pool,
) -> Result<Latencies> {
    let scene = contender.scene(run, &format!("user-login-{}-{run}", contender.name().replace([' ', ','], "-")));
    cluster.create(scene.to_create().chain([&scene.input]), PARTITIONS, &[])?;
    let latencies = paced(bench, cluster, contender, &scene, rate, pool)?;
    cluster.delete(scene.to_delete().chain([&scene.input]))?;
    Ok(latencies)
}

fn paced(
    bench: &Bench<'_>,
    cluster: &Cluster,
    contender: Contender,
    scene: &Scene,
    rate: u32,
    pool: &Pool,
) -> Result<Latencies> {
    let Bench { options, programs, stop } = *bench;
    let mut running = Running::start(contender.command(programs, &cluster.brokers(), scene), contender.name())?;
    let watch = Watch::start(&cluster.settings(), scene.output())?;
    let load = Load::start(&cluster.settings(), &scene.input, rate, pool)?;
    watch.wait_for(1, &mut running, stop)?;
    stop.pass(WARM_UP)?;
    let from = Instant::now();
    stop.pass(Duration::from_secs(options.seconds()))?;
    let to = Instant::now();
    let schedule = load.schedule;
    let sent = load.end()?;
    watch.wait_for(sent, &mut running, stop)?;
    running.stop()?;
    Latencies::of(&watch.end()?, schedule, from, to)
}

fn table(contenders: &[Contender], rounds: &[Vec<Latencies>]) -> String {
    let row = |(place, contender): (usize, &Contender)| {
        let measured = |place: usize| rounds.iter().filter_map(move |round| round.get(place));
        let plain = Contender { program: PLAIN, ..*contender };
        let plain = contenders.iter().position(|contender| *contender == plain).unwrap_or(place);
        let mut cells = vec![contender.name()];
        let figures: [fn(&Latencies) -> f64; 4] = [|it| it.median, |it| it.p99, |it| it.p999, |it| it.most];
        for figure in figures {
            cells.push(shown(Summary::of(measured(place).map(figure)), 1));
        }
        let pairs = measured(place).zip(measured(plain)).map(|(own, plain)| (own.p99, plain.p99));
        cells.push(shown(Summary::of_ratios(pairs), 2));
        cells
    };
    let rows: Vec<_> = contenders.iter().enumerate().map(row).collect();
    render(&["", "p50", "p99", "p99.9", "most", "p99 × plain loop"], &rows)
}

fn findings(rounds: u32, seconds: u64, tables: Vec<(String, String)>) -> Findings {
    let users = grouped(USERS);
    Findings {
        title: "Latency",
        figures: format!(
            "Figures are medians of {rounds} rounds, with the least and the most in brackets; ratios are those to the plain loop at the \
             same guarantee, taken within each round."
        ),
        tables,
        notes: vec![
            format!(
                "**What is measured**: from the moment a login is due to be sent until a consumer of the output topic has it, which reads \
                 committed records and doesn't wait for more of them. A login is due at its time whatever became of those before it, so \
                 no stall is left out. Sender and consumer are threads of one process (one clock), with `linger.ms` 0 and \
                 `fetch.min.bytes` 1, the same for all contenders; all of it shares the machine with the broker."
            ),
            format!(
                "**The job**: logins by {users} users (Zipf's law, exponent 1) in {PARTITIONS} partitions keyed by user, by one worker, for \
                 {seconds} seconds after {WARM_UP:?} of warming up. Every run starts with a new group and new topics, and counts only if \
                 all logins come out."
            ),
            "**plain loop** (`bench/peers/consume-produce`): loginscope's own clients, and nothing but them: it writes what it reads. \
             Both commit every 100 ms; exactly once, nothing can be read before that."
                .to_owned(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_a_login_was_due_and_only_in_the_time_that_is_measured() {
        let schedule = Schedule::from_now(1_000);
        let arrival = |number: u64, late: u64| Arrival {
            number,
            partition: 0,
            at: schedule.due(number) + Duration::from_millis(late),
        };
        // The first is of the warm-up, the last came after the end.
        let mut arrivals = vec![arrival(0, 5_000), arrival(1_101, 7_000)];
        arrivals.extend((1..=1_000).map(|number| arrival(number, if number == 500 { 80 } else { 4 })));
        let latencies = Latencies::of(&arrivals, schedule, schedule.due(1), schedule.due(1_001)).unwrap();
        let is_about = |value: f64, expected: f64| (value - expected).abs() < expected / 500.0;
        assert!(is_about(latencies.median, 4.0) && is_about(latencies.p99, 4.0), "{latencies:?}");
        assert!(is_about(latencies.p999, 4.0) && is_about(latencies.most, 80.0), "{latencies:?}");
        assert!(Latencies::of(&arrivals, schedule, schedule.due(2_000), schedule.due(3_000)).is_err());
    }

    #[test]
    fn loginscope_is_held_against_the_plain_loop_at_the_same_guarantee() {
        let latencies = |p99| Latencies { median: 1.0, p99, p999: 9.0, most: 9.0 };
        let rounds = [vec![latencies(4.0), latencies(8.0), latencies(100.0), latencies(120.0)]];
        let table = table(&contenders(), &rounds);
        let last = |name: &str| {
            let row = table.lines().find(|line| line.contains(name)).unwrap();
            row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap().trim().to_owned()
        };
        assert_eq!(last("loginscope, at least once"), "2.00 (2.00–2.00)");
        assert_eq!(last("loginscope, exactly once"), "1.20 (1.20–1.20)");
        assert_eq!(last("plain loop, exactly once"), "1.00 (1.00–1.00)");
    }
}
