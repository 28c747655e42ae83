//! What the state costs a login with the default plugins' aggregates, by the number of users: the history before each
//! login of a window, then counting it. The memory a user takes is printed beside.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use loginscope::pipeline::Chain;
use loginscope_login::{Column, Logins, Slot, Value};
use loginscope_state::{HistoryPlan, Partition};

use crate::source::WINDOW;

/// How many windows are gone through in turns: so many that their users don't all stay in the processor's caches.
const WINDOWS: usize = 4_000;

pub(crate) fn bench(criterion: &mut Criterion, chain: &Chain) {
    let plan = &chain.enrichers.first().unwrap().history;
    let partitions: Vec<_> = [1_000, 200_000, 1_000_000].into_iter().map(|users| filled(chain, plan, users)).collect();
    let mut group = criterion.benchmark_group("state");
    group.throughput(Throughput::Elements(u64::from(WINDOW)));
    for (mut source, mut partition) in partitions {
        let windows: Vec<Logins> = (0..WINDOWS).map(|_| source.window(chain, None)).collect();
        let mut turn = windows.iter().cycle();
        group.bench_function(BenchmarkId::new("history and observe, users", source.users), |bencher| {
            bencher.iter(|| accept(&mut partition, plan, turn.next().unwrap()));
        });
    }
    group.finish();
}

/// A partition in which every user has logged in three times, and a source of more logins.
fn filled(chain: &Chain, plan: &HistoryPlan, users: u64) -> (Source, Partition) {
    let mut source = Source { numbers: Numbers(users), users, offset: 0 };
    let mut partition = Partition::new(Arc::clone(&chain.catalog), WINDOW);
    let mut half_full = 0;
    for first in (0..users).step_by(WINDOW as usize) {
        if first == users / 2 {
            half_full = resident_bytes();
        }
        for _ in 0..3 {
            let logins = source.window(chain, Some(first));
            black_box(accept(&mut partition, plan, &logins));
        }
    }
    // What the first half takes may be memory that the process had anyway, and so may be all that few users take.
    if users >= 1_000_000 {
        let resident = resident_bytes().saturating_sub(half_full) as f64 / (users / 2) as f64;
        let saved = partition.to_bytes().len() as f64 / users as f64;
        println!("each of {users} users takes {resident:.0} bytes in memory, {saved:.0} saved");
    }
    (source, partition)
}

/// The way of a window's logins through a partition, as a worker goes it.
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

/// Makes logins of so many users, all equally busy, which is the hardest on memory. Each comes from one of 8 addresses of
/// its own.
struct Source {
    numbers: Numbers,
    users: u64,
    offset: i64,
}

impl Source {
    /// A window's logins: of the users from `first` on, or of any.
    fn window(&mut self, chain: &Chain, first: Option<u64>) -> Logins {
        let mut logins = Logins::new(&chain.schema);
        for place in 0..u64::from(WINDOW) {
            let user = first.map_or_else(|| self.numbers.next(), |first| first + place) % self.users;
            self.push(&mut logins, user);
        }
        logins
    }

    fn push(&mut self, logins: &mut Logins, user: u64) {
        let id = Numbers(user).next();
        let user_id = format!("{:08x}-063a-43a7-b91b-{user:012x}", id >> 32);
        let address = (id as u32).wrapping_add(self.numbers.next() as u32 % 8).to_be_bytes();
        let ip = Ipv4Addr::from(address).to_string();
        let device = ["android", "ios", "unknown", "web"].get(self.numbers.next() as usize % 4).copied();
        for (slot, column) in logins.columns_mut().iter_mut().enumerate() {
            column.push(match Slot(slot) {
                Slot::USER_ID => Value::Text(&user_id),
                Slot::TIMESTAMP => Value::Integer(1_694_479_551 + self.offset / 50),
                Slot::IP => Value::Text(&ip),
                Slot::DEVICE_TYPE => device.map_or(Value::Missing, Value::Text),
                _ => Value::Missing,
            });
        }
        logins.record_timestamps.push(None);
        logins.offsets.push(self.offset);
        self.offset += 1;
    }
}

/// The memory that is in use.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}
