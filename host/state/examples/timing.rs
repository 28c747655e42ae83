//! What a login costs and how many bytes a user takes, with the aggregates that the default plugins declare:
//! `cargo run --release -p loginscope-state --example timing 200000` for so many users.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use loginscope_login::{Column, Logins, Schema, Slot, Value};
use loginscope_state::{
    Catalog, Definition, Dimension, HistoryPlan, HistoryRequest, LookUp, Measure, Partition, Ranking, Retention, Span,
    TimeBuckets,
};

const WINDOW: u32 = 100;
const TIMED_LOGINS: usize = 1_000_000;

fn aggregate(name: &str, measure: Measure, by: &[(&str, Option<u32>)], span: Span) -> Definition {
    let by = by.iter().map(|(field, limit)| Dimension { field: (*field).to_owned(), limit: *limit }).collect();
    Definition { name: name.to_owned(), measure, by, buckets: None, filter: Vec::new(), span }
}

fn declarations() -> Vec<(String, Vec<Definition>)> {
    let distinct = |field: &str| Measure::Distinct(vec![field.to_owned()]);
    let by_user: &[(&str, Option<u32>)] = &[("user_id", None)];
    let by_device: &[(&str, Option<u32>)] = &[("device_type", Some(100))];
    let of_users = || {
        vec![
            aggregate("logins", Measure::Count, by_user, Span::Total),
            aggregate("addresses", distinct("ip"), by_user, Span::Total),
        ]
    };
    let mut summarizer = of_users();
    let rank_by = vec!["addresses".to_owned(), "logins".to_owned()];
    let hours = TimeBuckets { seconds: 3600, keep: Retention::Latest(24) };
    summarizer.extend([
        aggregate("by-device", Measure::Count, by_device, Span::Total),
        Definition { buckets: Some(hours), ..aggregate("by-hour", Measure::Count, by_device, Span::Total) },
        aggregate("most", Measure::Top(Ranking { rank_by, size: 10 }), &[], Span::Total),
        aggregate("window-devices", Measure::Count, by_device, Span::Window),
        aggregate("window-users", distinct("user_id"), &[], Span::Window),
        aggregate("window-addresses", distinct("ip"), &[], Span::Window),
    ]);
    vec![("enricher".to_owned(), of_users()), ("summarizer".to_owned(), summarizer)]
}

fn plan(catalog: &Catalog) -> Option<HistoryPlan> {
    let request = |aggregate: &str, look_up| HistoryRequest { aggregate: aggregate.to_owned(), look_up, over: None };
    let requests =
        [request("logins", LookUp::Value), request("addresses", LookUp::Value), request("addresses", LookUp::Contains)];
    catalog.plan_history("enricher", &requests).ok()
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// Makes the batch hold a window's logins of these users. Each comes from one of 8 addresses of its own.
fn fill(logins: &mut Logins, users: impl Iterator<Item = u64>, numbers: &mut Numbers, offset: &mut i64) {
    logins.clear();
    for user in users {
        let id = Numbers(user).next();
        let user_id = format!("{:08x}-063a-43a7-b91b-{:012x}", id >> 32, user);
        let address = (id as u32).wrapping_add(numbers.next() as u32 % 8).to_be_bytes();
        let ip = std::net::Ipv4Addr::from(address).to_string();
        let device = ["android", "ios", "unknown", "web"].get(numbers.next() as usize % 4).copied();
        for (slot, column) in logins.columns_mut().iter_mut().enumerate() {
            column.push(match Slot(slot) {
                Slot::USER_ID => Value::Text(&user_id),
                Slot::TIMESTAMP => Value::Integer(1_694_479_551 + *offset / 50),
                Slot::IP => Value::Text(&ip),
                Slot::DEVICE_TYPE => device.map_or(Value::Missing, Value::Text),
                _ => Value::Missing,
            });
        }
        logins.record_timestamps.push(None);
        logins.offsets.push(*offset);
        *offset += 1;
    }
}

/// The way of a batch through a partition, as a worker goes it.
fn accept(partition: &mut Partition, plan: &HistoryPlan, logins: &Logins) -> Vec<Column> {
    partition.savepoint();
    let history = partition.history(plan, logins);
    partition.observe(logins);
    partition.release();
    if partition.completed_window().is_some() {
        partition.begin_next_window();
    }
    history
}

/// How long this process has had a processor, in nanoseconds: other programs don't disturb that.
fn busy() -> u64 {
    let times = std::fs::read_to_string("/proc/self/schedstat").ok();
    times.and_then(|times| times.split(' ').next()?.parse().ok()).unwrap_or_default()
}

/// The memory that is in use, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

fn main() {
    let schema = Schema::default();
    let Ok(catalog) = Catalog::new(&declarations(), &schema).map(Arc::new) else { return };
    let Some(plan) = plan(&catalog) else { return };
    println!(
        "{:>9} {:>12} {:>14} {:>12} {:>12}",
        "users", "ns a login", "slowest batch", "bytes a user", "saved bytes"
    );
    let users = std::env::args().nth(1).and_then(|users| users.parse().ok());
    for users in users.map_or(vec![1_000, 200_000, 1_000_000_u64], |users| vec![users]) {
        let mut numbers = Numbers(users);
        let mut offset = 0;
        let mut batch = Logins::new(&schema);
        let before = resident();
        let mut partition = Partition::new(Arc::clone(&catalog), WINDOW);
        let mut slowest = 0;
        // Every user logs in three times.
        for start in (0..3 * users).step_by(WINDOW as usize) {
            let some = (start..start + u64::from(WINDOW)).map(|number| number % users);
            fill(&mut batch, some, &mut numbers, &mut offset);
            let begin = Instant::now();
            black_box(accept(&mut partition, &plan, &batch));
            slowest = slowest.max(begin.elapsed().as_micros());
        }
        let bytes = resident().saturating_sub(before);
        let (mut nanoseconds, mut quietest) = (0, u64::MAX);
        let mut batches: Vec<Logins> = (0..500).map(|_| Logins::new(&schema)).collect();
        for _ in 0..TIMED_LOGINS / (WINDOW as usize * batches.len()) {
            for batch in &mut batches {
                let some: Vec<u64> = (0..WINDOW).map(|_| numbers.next() % users).collect();
                fill(batch, some.into_iter(), &mut numbers, &mut offset);
            }
            let begin = busy();
            for batch in &batches {
                black_box(accept(&mut partition, &plan, batch));
            }
            let round = busy() - begin;
            nanoseconds += round;
            quietest = quietest.min(round);
        }
        println!(
            "{users:>9} {:>12.1} {:>12.1} {:>11} µs {:>12.1} {:>12.1}",
            nanoseconds as f64 / TIMED_LOGINS as f64,
            quietest as f64 / (WINDOW as usize * batches.len()) as f64,
            slowest,
            bytes as f64 / users as f64,
            partition.to_bytes().len() as f64 / users as f64,
        );
    }
}
