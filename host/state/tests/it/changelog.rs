//! Whoever sees only the records of a changelog knows at every commit what the partition knows, and counts on alike:
//! any declarations, any cut into batches and commits, any rollback, any abort, any restart, any swap of plugins, and a
//! snapshot that is written meanwhile.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::properties::{definitions, exact_distinct, login, requests};
use crate::support::listed::listed;
use crate::support::{Login, batch, schema};
use loginscope_state::{
    Catalog, CommitHead, Definition, Follower, HistoryRequest, Partition, Period, Reader, Replica, SnapshotCursor,
    Writer,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Some logins are accepted; before that, some history is asked for, of these or of others.
    Accept {
        logins: Vec<Login>,
        asked: usize,
        forgotten: bool,
    },
    /// History is asked for, and nothing comes of it.
    Ask {
        logins: Vec<Login>,
        asked: usize,
    },
    Reject(u64),
    Savepoint,
    Release,
    Rollback,
    Swap(Vec<bool>),
    InsightEvery(u32),
    /// A commit, and slices of a snapshot with it.
    Commit {
        slices: usize,
        bytes: usize,
    },
    /// The same, but it is aborted when all is written.
    Abort {
        slices: usize,
        bytes: usize,
    },
    /// The process ends, and another one goes on from the changelog, with these plugins.
    Restart(Vec<bool>),
    /// A new snapshot begins, whether or not the one before is complete.
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let logins = || prop::collection::vec(login(), 1..7);
    let plugins = || prop::collection::vec(prop::bool::weighted(0.7), 3);
    let slices = || (0..4_usize, 0..300_usize);
    prop_oneof![
        16 => (logins(), 0..20_usize, prop::bool::weighted(0.1))
            .prop_map(|(logins, asked, forgotten)| Step::Accept { logins, asked, forgotten }),
        1 => (logins(), 0..20_usize).prop_map(|(logins, asked)| Step::Ask { logins, asked }),
        1 => (0..3_u64).prop_map(Step::Reject),
        3 => Just(Step::Savepoint),
        1 => Just(Step::Release),
        2 => Just(Step::Rollback),
        1 => plugins().prop_map(Step::Swap),
        1 => (1..8_u32).prop_map(Step::InsightEvery),
        8 => slices().prop_map(|(slices, bytes)| Step::Commit { slices, bytes }),
        2 => slices().prop_map(|(slices, bytes)| Step::Abort { slices, bytes }),
        1 => plugins().prop_map(Step::Restart),
        1 => Just(Step::Snapshot),
    ]
}

/// A partition, and all that was ever made of its changelog.
struct Run {
    all_plugins: Vec<(String, Vec<Definition>)>,
    exact_distinct: u64,
    partition: Partition,
    /// One that reads from the first record on, and one from the begin of every snapshot.
    replicas: Vec<Replica>,
    /// The same, by messages.
    followers: Vec<Follower>,
    snapshot: Option<SnapshotCursor>,
    records: Vec<Vec<u8>>,
    next_offset: i64,
}

/// What is asked of this many look-ups, and answered.
fn ask(partition: &mut Partition, plugins: &[(String, Vec<Definition>)], logins: &[Login], asked: usize) -> String {
    let mut answers = Vec::new();
    for (plugin, definitions) in plugins {
        let requests: Vec<HistoryRequest> = requests(definitions).into_iter().skip(asked % 3).take(asked).collect();
        if let Ok(plan) = partition.catalog().plan_history(plugin, &requests) {
            answers.push(partition.history(&plan, &batch(logins)));
        }
    }
    format!("{answers:?}")
}

/// Everything that can be read, rankings included.
fn read(partition: &Partition, plugins: &[(String, Vec<Definition>)]) -> String {
    let mut all = format!("{:?} {:?}", partition.window_progress(), partition.completed_window());
    for (plugin, definitions) in plugins {
        let reader = Reader::new(partition, plugin, []);
        for definition in definitions {
            for period in [Period::Current, Period::Previous] {
                let name = &definition.name;
                let entries = listed(&reader, name, period).ok();
                write!(all, "{entries:?}{:?}", reader.summarize(name, period).ok()).unwrap();
            }
        }
    }
    all
}

impl Run {
    fn new(all_plugins: Vec<(String, Vec<Definition>)>, exact_distinct: u64) -> Self {
        let catalog = Catalog::new(&all_plugins[..1], schema()).unwrap().with_exact_distinct(exact_distinct);
        let mut run = Self {
            partition: Partition::new(Arc::new(catalog), 5),
            all_plugins,
            exact_distinct,
            replicas: Vec::new(),
            followers: Vec::new(),
            snapshot: None,
            records: Vec::new(),
            next_offset: 0,
        };
        run.partition.begin_interval();
        run.begin_snapshot();
        run
    }

    fn begin_snapshot(&mut self) {
        self.snapshot = Some(SnapshotCursor::default());
        self.replicas.push(Replica::default());
        self.followers.push(Follower::default());
    }

    fn numbered(&mut self, logins: &[Login]) -> Vec<Login> {
        let logins = logins.iter().take(self.partition.room()).map(|login| {
            self.next_offset += 2;
            Login { offset: self.next_offset, ..login.clone() }
        });
        logins.collect()
    }

    fn catalog(&self, which: &[bool]) -> Arc<Catalog> {
        let plugins = self.all_plugins.iter().zip(which).filter(|(_, present)| **present);
        let plugins: Vec<_> = plugins.map(|(plugin, _)| plugin.clone()).collect();
        Arc::new(Catalog::new(&plugins, schema()).unwrap().with_exact_distinct(self.exact_distinct))
    }

    /// What a commit writes, and where its snapshot goes on.
    fn write(&mut self, slices: usize, bytes: usize) -> (Vec<Vec<u8>>, Option<SnapshotCursor>) {
        let mut records: Vec<Vec<u8>> = self.partition.delta().into_iter().collect();
        let mut snapshot = self.snapshot;
        for _ in 0..slices {
            if let Some(cursor) = snapshot {
                let slice = self.partition.slice(&cursor, bytes).unwrap();
                records.push(slice.record);
                snapshot = slice.next;
            }
        }
        (records, snapshot)
    }

    fn commit(&mut self, slices: usize, bytes: usize) {
        let (records, snapshot) = self.write(slices, bytes);
        self.snapshot = snapshot;
        self.partition.end_interval().unwrap();
        for record in &records {
            for replica in &mut self.replicas {
                replica.apply(record).unwrap();
            }
        }
        let writer = Writer { id: 7, max_bytes: bytes };
        for message in writer.commit(&CommitHead { next_offset: self.next_offset, ..CommitHead::default() }, &records) {
            self.followers.iter_mut().for_each(|follower| follower.read(0, &message).unwrap());
        }
        self.records.extend(records);
        self.check();
        self.partition.begin_interval();
    }

    fn check(&self) {
        let expected = self.partition.to_bytes();
        for replica in self.replicas.iter().filter(|replica| replica.is_complete()) {
            let restored = replica.clone().into_partition(Arc::clone(self.partition.catalog())).unwrap();
            assert!(restored.to_bytes() == expected);
            assert_eq!(read(&restored, &self.all_plugins), read(&self.partition, &self.all_plugins));
        }
        let complete = self.replicas.iter().map(Replica::is_complete);
        for (follower, is_complete) in self.followers.iter().zip(complete) {
            let restored = follower.clone().finish(Arc::clone(self.partition.catalog()));
            assert_eq!(restored.is_ok(), is_complete);
            if let Ok(restored) = restored {
                let restored = restored.unwrap();
                assert!(restored.partition.to_bytes() == expected);
                assert_eq!(restored.head.next_offset, self.next_offset);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Accept { logins, asked, forgotten } => {
                let others = if forgotten { self.numbered(&logins) } else { Vec::new() };
                if !others.is_empty() {
                    ask(&mut self.partition, &self.all_plugins, &others, asked);
                }
                let logins = self.numbered(&logins);
                ask(&mut self.partition, &self.all_plugins, &logins, asked);
                self.partition.observe(&batch(&logins));
                self.partition.begin_next_window();
            }
            Step::Ask { logins, asked } => {
                let logins = self.numbered(&logins);
                ask(&mut self.partition, &self.all_plugins, &logins, asked);
            }
            Step::Reject(how_many) => self.partition.count_rejected(how_many),
            Step::Savepoint => self.partition.savepoint(),
            Step::Release => self.partition.release(),
            Step::Rollback => self.partition.rollback(),
            Step::Swap(which) => {
                let catalog = self.catalog(&which);
                self.partition.adopt(catalog);
            }
            Step::InsightEvery(insight_every) => {
                self.partition.set_insight_every(insight_every);
                self.partition.begin_next_window();
            }
            Step::Commit { slices, bytes } => self.commit(slices, bytes),
            Step::Abort { slices, bytes } => {
                self.write(slices, bytes);
                self.partition.abort_interval();
            }
            Step::Restart(which) => {
                if let Some(replica) = self.replicas.iter().find(|replica| replica.is_complete()) {
                    self.partition = replica.clone().into_partition(self.catalog(&which)).unwrap();
                    self.partition.begin_interval();
                    self.begin_snapshot();
                }
            }
            Step::Snapshot => self.begin_snapshot(),
        }
    }

    /// Completes the last snapshot, and lets all go on with the same logins.
    fn finish(mut self, logins: &[Login], asked: usize) {
        while self.snapshot.is_some() {
            self.commit(1, 0);
        }
        self.commit(0, 0);
        let logins = self.numbered(logins);
        for replica in std::mem::take(&mut self.replicas) {
            let catalog = Arc::clone(self.partition.catalog());
            assert!(replica.is_complete() || self.records.is_empty());
            let mut restored = replica.into_partition(catalog).unwrap();
            restored.begin_interval();
            self.partition.begin_interval();
            assert_eq!(restored.room(), self.partition.room());
            let mut answers = Vec::new();
            for partition in [&mut restored, &mut self.partition] {
                answers.push(ask(partition, &self.all_plugins, &logins, asked));
                partition.observe(&batch(&logins));
                partition.begin_next_window();
            }
            assert_eq!(answers[0], answers[1]);
            assert_eq!(read(&restored, &self.all_plugins), read(&self.partition, &self.all_plugins));
            assert!(restored.to_bytes() == self.partition.to_bytes());
            let before = self.partition.delta();
            self.partition.abort_interval();
            assert!(before.is_some());
        }
    }
}

fn named(plugins: Vec<Vec<Definition>>) -> Vec<(String, Vec<Definition>)> {
    let named = plugins.into_iter().enumerate();
    named.map(|(number, definitions)| (format!("plugin-{number}"), definitions)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn who_sees_only_the_changelog_knows_the_same_and_counts_on_alike(
        plugins in prop::collection::vec(definitions(), 3),
        steps in prop::collection::vec(step(), 1..60),
        logins in prop::collection::vec(login(), 2..7),
        asked in 0..20_usize,
        exact_distinct in exact_distinct(),
    ) {
        let mut run = Run::new(named(plugins), exact_distinct);
        for step in steps {
            run.step(step);
        }
        run.finish(&logins, asked);
    }

    #[test]
    fn whatever_bytes_are_read_nothing_panics(
        plugins in prop::collection::vec(definitions(), 1),
        logins in prop::collection::vec(login(), 1..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        noise in prop::collection::vec(any::<u8>(), 0..60),
        which in any::<prop::sample::Index>(),
        exact_distinct in exact_distinct(),
    ) {
        let mut run = Run::new(named(plugins), exact_distinct);
        for login in logins {
            run.step(Step::Accept { logins: vec![login], asked: 0, forgotten: false });
            run.commit(1, 60);
        }
        let catalog = run.catalog(&[true]);
        let which = which.index(run.records.len());
        let mut damaged = run.records[which].clone();
        for (at, change) in changes {
            let at = at.index(damaged.len());
            damaged[at] ^= change;
        }
        if let Some(cut) = cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        let is_same = damaged == run.records[which];
        // As it is, it is refused; and where even the checksum is right, it is read without harm.
        for (record, must_fail) in [(damaged.clone(), !is_same), (sealed(damaged), false), (sealed(noise), false)] {
            let mut replica = Replica::default();
            for earlier in &run.records[..which] {
                replica.apply(earlier).unwrap();
            }
            let outcome = replica.apply(&record);
            prop_assert!(outcome.is_err() || !must_fail);
            for later in &run.records[which..] {
                let _ = replica.apply(later);
            }
            let _ = replica.into_partition(Arc::clone(&catalog));
        }
    }
}

/// A record with the checksum that its bytes have.
fn sealed(mut record: Vec<u8>) -> Vec<u8> {
    if record.len() >= 8 {
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&record[2..4]);
        checksum.update(&record[8..]);
        record[4..8].copy_from_slice(&checksum.finalize().to_le_bytes());
    }
    record
}
