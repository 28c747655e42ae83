//! How a simulated worker is put together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use loginscope_state::Writer;

use super::consumer::Consumer;
use super::counting::{CATALOGS, Counting};
use super::model::Model;
use super::producer::Idempotent;
use super::transactional::Transactional;
use super::world::{self, Life, Settings, World, with};
use crate::pipeline::changelog::{Home, Janitor, SnapshotSizes};
use crate::pipeline::commit::Committer;
use crate::pipeline::delivery::Delivery;
use crate::pipeline::lacking::Lacking;
use crate::pipeline::restore::{Restorer, Source};
use crate::pipeline::stops::Stops;
use crate::pipeline::totals::TotalsBoard;
use crate::pipeline::transaction::Transactions;
use crate::pipeline::worker::{Durable, Shared, Worker};
use crate::telemetry::Telemetry;

/// What production runs, but for its plugins.
pub(super) type Simulated = Worker<Model, Counting>;

/// Puts a worker together whose producer has this id, and whose process has these totals. Answers its number, too.
pub(super) fn start(place: usize, id: u64, totals: &TotalsBoard) -> (usize, Simulated) {
    let number = with(|world| world.bear(place));
    let settings = with(|world| world.settings);
    let (janitor, requests) = Janitor::new();
    with(|world| world.requests.push(requests));
    let writer = Writer { id: number as u64, max_bytes: settings.max_bytes };
    let snapshots = SnapshotSizes { slice_bytes: settings.slice_bytes, least_tail_bytes: settings.least_tail_bytes };
    let home = Home { changelog: "changelog".into(), totals: Some("totals".into()), writer, janitor, snapshots };
    let claims = !settings.exactly_once;
    let (partitions, totals_board) = (i32::MAX, totals.clone());
    let source = Source { kafka: number, home: home.clone(), partitions, claims, patience: 1, totals: totals_board };
    let (catalog, insight_every) = with(World::choose_plugins);
    let worker = Worker {
        number,
        shared: Arc::new(shared(insight_every, totals)),
        consumer: Consumer::join(number),
        delivery: delivery(number, id, &settings, totals),
        durable: Some(Durable { restorer: Restorer::new(source, Arc::new(|| ())), home }),
        work: Counting::new(number, catalog),
        partitions: BTreeMap::new(),
        stops: Stops::default(),
        lacking: Lacking::default(),
        last_progress: world::now(),
    };
    (number, worker)
}

fn delivery(number: usize, id: u64, settings: &Settings, totals: &TotalsBoard) -> Delivery<Model> {
    if settings.exactly_once {
        let make = move || Ok(Transactional::new(number, id));
        let (topic, interval) = ("in".to_owned(), settings.commit_interval);
        let transactions = Transactions::new(Box::new(make), topic, interval, totals.clone()).unwrap();
        return Delivery::ExactlyOnce(Box::new(transactions));
    }
    let producer = Box::new(Idempotent::new(number));
    let committer = Box::new(Committer::new(settings.commit_interval, totals.clone()));
    Delivery::AtLeastOnce { producer, committer }
}

fn shared(insight_every: u32, totals: &TotalsBoard) -> Shared {
    Shared {
        telemetry: Arc::new(Telemetry::default()),
        totals: totals.clone(),
        stop: AtomicBool::new(false),
        give_up: AtomicBool::new(false),
        topic: "in".into(),
        insight_every,
        several_partitions: true,
        drain_timeout: Duration::from_secs(20),
    }
}

impl World {
    /// A worker's number. It is in the same process as the one at the first place if the seed says so.
    fn bear(&mut self, place: usize) -> usize {
        let number = self.lives.len();
        let shares = self.settings.shares_process && place == 1;
        let alive = self.lives.iter().rev().find(|life| shares && !life.is_dead);
        let process = alive.map_or(number, |life| life.process);
        self.lives.push(Life { process, is_dead: false, may_fail: false, paused_until: Duration::ZERO });
        self.say(|| format!("worker {number} starts at place {place} in process {process}"));
        number
    }

    fn choose_plugins(&mut self) -> (usize, u32) {
        let catalog = if self.settings.changes_plugins { self.chance.below(CATALOGS) } else { 0 };
        let insight_every = if self.settings.changes_windows { self.chance.between(2, 4) } else { 3 };
        (catalog, insight_every as u32)
    }
}
