//! Whatever is done to a partition, it says what a model says that keeps all logins and works everything out anew:
//! any declarations, any cut into batches, any rollback, any restart, any swap of plugins.

use std::sync::Arc;

use crate::support::listed::listed;
use crate::support::model::Model;
use crate::support::{Login, answer, batch, schema};
use loginscope_state::{
    Catalog, Condition, Definition, Dimension, HistoryRequest, LookUp, Measure, Partition, Period, Ranking, Reader,
    Retention, Scalar, Span, TimeBuckets,
};
use proptest::prelude::*;

const FIELDS: [&str; 8] = ["user_id", "ip", "device_type", "outcome", "level", "score", "vip", "geo"];

fn value(field: usize, number: u8) -> Option<Scalar> {
    let text = |text: &str| Some(Scalar::Text(text.to_owned()));
    if number == 7 {
        return None;
    }
    match FIELDS[field] {
        "user_id" => text(
            [
                "ada",
                "bob",
                "424cdd21-063a-43a7-b91b-7ca1a833afae",
                "a rather long user id of more than 23 bytes",
                "other",
            ][usize::from(number % 5)],
        ),
        "ip" => text(
            ["1.2.3.4", "::ffff:1.2.3.4", "1.2.3.5", "2001:db8::1", "2001:DB8:0::1", "no", "10.0.0.9"]
                [usize::from(number)],
        ),
        "device_type" => text(["ios", "android", "web", "other"][usize::from(number % 4)]),
        "outcome" => text(["success", "failure"][usize::from(number % 2)]),
        "level" => Some(Scalar::Integer(i64::from(number % 3) - 1)),
        "score" => Some(Scalar::Number([0.5, -0.0, 0.0][usize::from(number % 3)])),
        "vip" => Some(Scalar::Boolean(number.is_multiple_of(2))),
        _ => text(["[1]", "{\"a\":1}"][usize::from(number % 2)]),
    }
}

pub(crate) fn login() -> impl Strategy<Value = Login> {
    (prop::collection::vec(0..8_u8, FIELDS.len()), prop::option::weighted(0.9, 0..60_i64)).prop_map(
        |(numbers, time)| {
            let mut login = Login::new(0);
            for (field, number) in numbers.into_iter().enumerate() {
                if let Some(value) = value(field, number) {
                    login = login.with(FIELDS[field], value);
                }
            }
            time.map_or(login.clone(), |time| login.time(time - 20))
        },
    )
}

fn fields() -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(FIELDS.to_vec(), 1..=2)
        .prop_map(|fields| fields.iter().map(ToString::to_string).collect())
}

fn condition() -> impl Strategy<Value = Condition> {
    let values = prop_oneof![
        Just(("outcome", vec!["failure"])),
        Just(("ip", vec!["1.2.3.4", "2001:db8::1"])),
        Just(("level", vec!["1", "-1"])),
        Just(("vip", vec!["true"])),
        Just(("score", vec!["0.5"])),
    ];
    (values, any::<bool>()).prop_map(|((field, any_of), negated)| Condition {
        field: field.to_owned(),
        any_of: any_of.iter().map(ToString::to_string).collect(),
        negated,
    })
}

fn definition() -> impl Strategy<Value = Definition> {
    let measure = prop_oneof![
        3 => Just(Measure::Count),
        3 => fields().prop_map(Measure::Distinct),
        2 => fields().prop_map(Measure::Latest),
    ];
    // Few enough, so that aggregates often share a table.
    let by = prop_oneof![
        Just(vec![]),
        Just(vec![("user_id", None)]),
        Just(vec![("device_type", Some(2))]),
        Just(vec![("ip", None)]),
        Just(vec![("user_id", Some(2)), ("device_type", Some(2))]),
        Just(vec![("level", Some(1)), ("vip", None)]),
    ];
    let buckets = prop_oneof![
        3 => Just(None),
        1 => (1..4_u32).prop_map(|kept| Some(TimeBuckets { seconds: 10, keep: Retention::Latest(kept) })),
        1 => (1..40_u64).prop_map(|kept| Some(TimeBuckets { seconds: 10, keep: Retention::Seconds(kept) })),
    ];
    let span = prop_oneof![2 => Just(Span::Total), 1 => Just(Span::Window)];
    (measure, by, buckets, prop::collection::vec(condition(), 0..2), span).prop_map(
        |(measure, by, buckets, filter, span)| {
            let by = by.into_iter().map(|(field, limit)| Dimension { field: field.to_owned(), limit }).collect();
            Definition { name: String::new(), measure, by, buckets, filter, span }
        },
    )
}

/// Some aggregates, and rankings of those that can be ranked.
pub(crate) fn definitions() -> impl Strategy<Value = Vec<Definition>> {
    (prop::collection::vec(definition(), 1..6), 1..4_u32).prop_map(|(mut all, size)| {
        for (number, definition) in all.iter_mut().enumerate() {
            definition.name = format!("a{number}");
        }
        let can_rank = |one: &&Definition| one.buckets.is_none() && !matches!(one.measure, Measure::Latest(_));
        let mut rankings: Vec<Definition> = Vec::new();
        for first in all.iter().filter(can_rank) {
            let alike = |other: &&Definition| can_rank(other) && other.by == first.by && other.span == first.span;
            let mut rank_by: Vec<String> = all.iter().filter(alike).map(|other| other.name.clone()).collect();
            rank_by.retain(|name| *name != first.name);
            rank_by.insert(0, first.name.clone());
            rankings.push(Definition {
                name: format!("top-{}", first.name),
                measure: Measure::Top(Ranking { rank_by, size }),
                by: Vec::new(),
                buckets: None,
                filter: Vec::new(),
                span: first.span,
            });
        }
        all.extend(rankings);
        all
    })
}

/// Everything that an enricher could ask about these aggregates.
pub(crate) fn requests(definitions: &[Definition]) -> Vec<HistoryRequest> {
    let mut requests = Vec::new();
    for definition in definitions.iter().filter(|definition| definition.span == Span::Total) {
        let look_ups = match &definition.measure {
            Measure::Count => vec![LookUp::Value],
            Measure::Distinct(_) => vec![LookUp::Value, LookUp::Contains],
            Measure::Latest(fields) => fields.iter().cloned().map(LookUp::Latest).collect(),
            Measure::Top(_) => continue,
        };
        for look_up in look_ups {
            let overs: &[Option<u64>] = if definition.buckets.is_some() { &[None, Some(1), Some(15)] } else { &[None] };
            requests.extend(overs.iter().map(|over| HistoryRequest {
                aggregate: definition.name.clone(),
                look_up: look_up.clone(),
                over: *over,
            }));
        }
    }
    requests
}

/// How many different values of a key are counted exactly: more than there ever are, or few.
///
/// The values above are such that no two of them, nor any two pairs, fall into the same register of a sketch: so even an
/// estimate is right here.
pub(crate) fn exact_distinct() -> impl Strategy<Value = u64> {
    prop_oneof![Just(Catalog::EXACT_DISTINCT), 0..4_u64]
}

#[derive(Clone, Debug)]
enum Step {
    /// Some logins are accepted; before that, the history of some of the requests is asked for, twice.
    Accept {
        logins: Vec<Login>,
        asked: (usize, usize),
    },
    /// The same, but the attempt fails: before or after it is observed.
    Fail {
        logins: Vec<Login>,
        asked: (usize, usize),
        observed: bool,
    },
    /// History is asked for logins that are then not heard of again; other ones are accepted.
    Forget {
        logins: Vec<Login>,
        asked: (usize, usize),
        others: Vec<Login>,
    },
    Reject(u64),
    Savepoint,
    Release,
    Rollback,
    Restart,
    /// Plugins come and go.
    Swap(Vec<bool>),
}

fn step() -> impl Strategy<Value = Step> {
    let logins = || prop::collection::vec(login(), 1..7);
    let asked = || (0..20_usize, 0..20_usize);
    prop_oneof![
        8 => (logins(), asked()).prop_map(|(logins, asked)| Step::Accept { logins, asked }),
        2 => (logins(), asked(), any::<bool>()).prop_map(|(logins, asked, observed)| Step::Fail { logins, asked, observed }),
        1 => (logins(), asked(), logins()).prop_map(|(logins, asked, others)| Step::Forget { logins, asked, others }),
        1 => (0..3_u64).prop_map(Step::Reject),
        2 => Just(Step::Savepoint),
        1 => Just(Step::Release),
        1 => Just(Step::Rollback),
        1 => Just(Step::Restart),
        1 => prop::collection::vec(any::<bool>(), 3).prop_map(Step::Swap),
    ]
}

const INSIGHT_EVERY: u32 = 5;

/// A partition and the model of it.
struct Pair {
    all_plugins: Vec<(String, Vec<Definition>)>,
    partition: Partition,
    model: Model,
    savepoints: Vec<Model>,
    next_offset: i64,
}

impl Pair {
    fn new(all_plugins: Vec<(String, Vec<Definition>)>, exact_distinct: u64) -> Self {
        let first = all_plugins[..1].to_vec();
        let catalog = Catalog::new(&first, schema()).unwrap().with_exact_distinct(exact_distinct);
        Self {
            partition: Partition::new(Arc::new(catalog), INSIGHT_EVERY),
            model: Model::new(&first).with_exact_distinct(exact_distinct),
            all_plugins,
            savepoints: Vec::new(),
            next_offset: 0,
        }
    }

    fn numbered(&mut self, logins: &[Login]) -> Vec<Login> {
        let logins = logins.iter().take(self.partition.room()).map(|login| {
            self.next_offset += 2;
            Login { offset: self.next_offset, ..login.clone() }
        });
        logins.collect()
    }

    /// Asks for some of the requests of every plugin, and compares the answers with the model's.
    fn ask(&mut self, logins: &[Login], asked: (usize, usize)) {
        for (plugin, definitions) in self.model.plugins.clone() {
            let all = requests(&definitions);
            for some in [asked.0, asked.1] {
                let requests: Vec<HistoryRequest> = all.iter().skip(some % 5).take(some).cloned().collect();
                let plan = self.partition.catalog().plan_history(&plugin, &requests).unwrap();
                let columns = self.partition.history(&plan, &batch(logins));
                let types: Vec<_> = columns.iter().map(loginscope_login::Column::field_type).collect();
                assert_eq!(types, plan.field_types());
                let mut model = self.model.clone();
                for (row, login) in logins.iter().enumerate() {
                    for (request, column) in requests.iter().zip(&columns) {
                        let expected = model.history(&plugin, request, login);
                        assert_eq!(answer(column, row), expected, "{plugin} {request:?} in row {row}");
                    }
                    model.logins.push(login.clone());
                }
            }
        }
    }

    fn accept(&mut self, logins: &[Login]) {
        self.partition.observe(&batch(logins));
        self.model.logins.extend_from_slice(logins);
    }

    fn end_window(&mut self) {
        if let Some(window) = self.partition.completed_window() {
            let current = self.model.windows.len() - 1;
            assert_eq!(window.number, current as u64 + 1);
            assert_eq!(window.facts, self.model.facts(current));
            assert_eq!(window.previous, current.checked_sub(1).map(|previous| self.model.facts(previous)));
            self.check();
            self.partition.begin_next_window();
            self.model.windows.push(self.model.logins.len());
            self.model.rejected.push(0);
        }
    }

    fn check(&self) {
        let model = &self.model;
        assert_eq!(self.partition.last_accepted_offset(), model.logins.last().map(|login| login.offset));
        for (plugin, definitions) in &model.plugins {
            let reader = Reader::new(&self.partition, plugin, []);
            for definition in definitions {
                for period in [Period::Current, Period::Previous] {
                    if period == Period::Previous && definition.span == Span::Total {
                        continue;
                    }
                    let expected = model.entries(plugin, &definition.name, period);
                    let what = format!("{plugin} {period:?} {definition:?}");
                    if definition.span == Span::Window || definition.by.iter().all(|by| by.limit.is_some()) {
                        assert_eq!(listed(&reader, &definition.name, period).unwrap(), expected, "{what}");
                    }
                    if matches!(definition.measure, Measure::Top(_)) {
                        continue;
                    }
                    let summary = reader.summarize(&definition.name, period).unwrap();
                    let sum = expected.iter().map(|entry| match (&definition.measure, &entry.values[0]) {
                        (Measure::Count | Measure::Distinct(_), Scalar::Integer(value)) => *value as u64,
                        _ => 0,
                    });
                    assert_eq!((summary.keys, summary.sum), (expected.len() as u64, sum.sum::<u64>()), "{what}");
                    assert_eq!(summary.approximate, model.is_estimated(definition, &expected), "{what}");
                }
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Accept { logins, asked } => {
                let logins = self.numbered(&logins);
                self.ask(&logins, asked);
                self.accept(&logins);
                self.end_window();
            }
            Step::Fail { logins, asked, observed } => {
                self.step(Step::Savepoint);
                let logins = self.numbered(&logins);
                self.ask(&logins, asked);
                if observed {
                    self.accept(&logins);
                    self.end_window();
                }
                self.step(Step::Rollback);
            }
            Step::Forget { logins, asked, others } => {
                let logins = self.numbered(&logins);
                self.ask(&logins, asked);
                let others = self.numbered(&others);
                self.accept(&others);
                self.end_window();
            }
            Step::Reject(how_many) => {
                self.partition.count_rejected(how_many);
                *self.model.rejected.last_mut().unwrap() += how_many;
            }
            Step::Savepoint => {
                self.partition.savepoint();
                self.savepoints.push(self.model.clone());
            }
            Step::Release => {
                self.partition.release();
                self.savepoints.pop();
            }
            Step::Rollback => {
                self.partition.rollback();
                if let Some(before) = self.savepoints.pop() {
                    self.model.roll_back_to(&before);
                }
                self.check();
            }
            Step::Restart => {
                if self.savepoints.is_empty() {
                    let catalog = Arc::clone(self.partition.catalog());
                    let bytes = self.partition.to_bytes();
                    self.partition = Partition::from_bytes(&bytes, catalog).unwrap();
                    self.check();
                }
            }
            Step::Swap(which) => {
                let present = self.all_plugins.iter().zip(which).filter(|(_, present)| *present);
                let plugins: Vec<_> = present.map(|(plugin, _)| plugin.clone()).collect();
                let catalog = self.partition.catalog().evolve(&plugins, schema()).unwrap();
                self.partition.adopt(Arc::new(catalog));
                self.model.adopt(&plugins);
                self.check();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_partition_says_what_all_its_logins_say(
        plugins in prop::collection::vec(definitions(), 3),
        steps in prop::collection::vec(step(), 1..25),
        exact_distinct in exact_distinct(),
    ) {
        let named = plugins.into_iter().enumerate().map(|(number, definitions)| (format!("plugin-{number}"), definitions));
        let mut pair = Pair::new(named.collect(), exact_distinct);
        for step in steps {
            pair.step(step);
        }
        pair.check();
    }
}
