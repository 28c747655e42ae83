//! What the simulated workers do with their messages: count them by user, and tell of each message and of each window.
//!
//! It judges as it goes: each batch must begin exactly behind what the state has counted, and the state must be what a fold of
//! all messages before makes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use loginscope_kafka::{Error, Record};
use loginscope_login::{Logins, Schema, Slot, Value};
use loginscope_state::{
    Catalog, Definition, Dimension, ListingShape, Measure, NotGrafted, Partition, Period, Reader, Span, TakeEntries,
};

use super::batch::{Batch, BatchMessage};
use super::model::Model;
use super::world::{Input, with};
use crate::pipeline::batch::PartitionState;
use crate::pipeline::delivery::Delivery;
use crate::pipeline::worker::{Judged, Shared, Work};
use crate::telemetry::Telemetry;

/// How many sets of plugins there are.
pub(super) const CATALOGS: usize = 4;

/// The plugin whose count is computed from the beginning of the topic, wherever the group has begun and whenever the plugin came.
const BACKFILLED: &str = "first";

/// The plugin that all of them have.
const PLUGIN: &str = "counts";

fn count(name: &str, by: &str, span: Span) -> Definition {
    let by = vec![Dimension { field: by.to_owned(), limit: Some(100) }];
    Definition { name: name.to_owned(), measure: Measure::Count, by, buckets: None, filter: Vec::new(), span }
}

/// More different users than these are estimated. There are some more, so few that the estimate is right.
const EXACT_DISTINCT: u64 = 2;

/// How many different users there are.
fn users() -> Definition {
    let measure = Measure::Distinct(vec!["user_id".to_owned()]);
    Definition { measure, by: Vec::new(), ..count("users", "user_id", Span::Total) }
}

/// A set of plugins.
pub(super) fn catalog(number: usize) -> &'static Arc<Catalog> {
    static CATALOGS_MADE: OnceLock<Vec<Arc<Catalog>>> = OnceLock::new();
    let make = || {
        let counts = vec![count("all", "user_id", Span::Total), count("window", "user_id", Span::Window), users()];
        let always = (PLUGIN.to_owned(), counts);
        let more = |name: &str, span| (name.to_owned(), vec![count("more", "user_id", span)]);
        let all = [
            vec![always.clone()],
            vec![more(BACKFILLED, Span::Total), always.clone()],
            vec![more(BACKFILLED, Span::Total), always.clone(), more("last", Span::Window)],
            vec![always, more("last", Span::Window)],
        ];
        let catalog = |plugins: &Vec<_>| {
            let catalog = Catalog::new(plugins, &Schema::default()).unwrap();
            Arc::new(catalog.with_exact_distinct(EXACT_DISTINCT).with_backfilled(|plugin, _| plugin == BACKFILLED))
        };
        all.iter().map(catalog).collect()
    };
    &CATALOGS_MADE.get_or_init(make)[number]
}

/// Logins by user.
pub(super) type Counts = BTreeMap<String, i64>;

/// What the messages of an input in this range come to.
pub(super) fn fold(input: &Input, from: usize, to: usize) -> Counts {
    let mut counts = Counts::new();
    for message in &input.messages[from..to] {
        *counts.entry(message.user.clone()).or_default() += 1;
    }
    counts
}

/// What an aggregate of a partition has.
pub(super) fn counts(state: &Partition, name: &str) -> Counts {
    counts_of(state, PLUGIN, name)
}

fn counts_of(state: &Partition, plugin: &str, name: &str) -> Counts {
    let mut taken = Taken::default();
    Reader::new(state, plugin, []).entries(name, Period::Current, &mut taken).unwrap();
    taken.counts
}

/// Takes the entries of a count by user.
#[derive(Default)]
struct Taken {
    user: String,
    counts: Counts,
}

impl TakeEntries for Taken {
    fn begin(&mut self, _: ListingShape) {}

    fn entry(&mut self, _: Option<i64>) {}

    fn key(&mut self, value: Value<'_>) {
        let Value::Text(user) = value else { panic!("{value:?} is no user") };
        self.user = user.to_owned();
    }

    fn value(&mut self, value: Value<'_>) {
        let Value::Integer(count) = value else { panic!("{value:?} is no count") };
        self.counts.insert(std::mem::take(&mut self.user), count);
    }
}

/// Asserts that a partition has counted exactly the messages before this place.
pub(super) fn judge(state: &Partition, input: &Input, place: usize) {
    let first = input.before(input.start);
    let last = (place > first).then(|| input.messages[place - 1].offset);
    assert_eq!(state.last_accepted_offset(), last, "what the state has counted ends where it goes on");
    let all = fold(input, first, place);
    assert_eq!(counts(state, "all"), all, "the state is a fold of all messages before");
    let users = Reader::new(state, PLUGIN, []).summarize("users", Period::Current).unwrap();
    let expected = (all.len() as u64, all.len() as u64 > EXACT_DISTINCT);
    assert_eq!((users.sum, users.approximate), expected, "also where it is estimated");
    let logins = state.window_progress().logins as usize;
    assert_eq!(counts(state, "window"), fold(input, place - logins, place), "and so is the window");
    let is_backfilled = state.catalog().backfilled().next().is_some();
    if is_backfilled && state.lacking().next().is_none() {
        assert_eq!(counts_of(state, BACKFILLED, "more"), fold(input, 0, place), "a backfill begins with the topic");
    }
}

/// The work of a simulated worker.
pub(super) struct Counting {
    worker: usize,
    pub(super) catalog: usize,
    /// The set of plugins that is to serve.
    pub(super) wanted: usize,
    logins: Logins,
    /// Up to where the history of partitions is to be counted.
    histories: BTreeMap<i32, i64>,
    /// Whether the plugins at hand were taken out of service.
    is_out: bool,
}

impl Counting {
    pub(super) fn new(worker: usize, catalog: usize) -> Self {
        let (logins, histories) = (Logins::new(&Schema::default()), BTreeMap::new());
        Self { worker, catalog, wanted: catalog, logins, histories, is_out: false }
    }

    /// A partition that has counted all messages before this offset, under the names of another one.
    fn history(&mut self, number: i32, state: &Partition, until: i64) -> Partition {
        let mut history = Partition::new(Arc::clone(catalog(self.catalog)), u32::MAX);
        history.give_the_same_names(&state.names());
        let messages = with(|world| {
            let input = &world.inputs[number as usize];
            input.messages[..input.before(until)].to_vec()
        });
        for message in messages {
            self.observe(&mut history, message.offset, &message.user);
        }
        history
    }

    /// Counts messages, and takes that back: the plugins at hand do badly, and others are to serve.
    fn do_badly(&mut self, state: &mut Partition, messages: &[BatchMessage]) {
        state.savepoint();
        for message in messages {
            state.begin_next_window();
            self.observe(state, message.offset, std::str::from_utf8(&message.payload).unwrap());
        }
        state.rollback();
        self.wanted = (self.catalog + 1) % CATALOGS;
        self.is_out = true;
    }

    fn observe(&mut self, state: &mut Partition, offset: i64, user: &str) {
        self.logins.clear();
        for (slot, column) in self.logins.columns_mut().iter_mut().enumerate() {
            column.push(match slot {
                slot if slot == Slot::USER_ID.0 => Value::Text(user),
                slot if slot == Slot::TIMESTAMP.0 => Value::Integer(offset),
                _ => Value::Missing,
            });
        }
        self.logins.record_timestamps.push(None);
        self.logins.offsets.push(offset);
        state.observe(&self.logins);
    }
}

/// Closes a window that is complete, and tells of it.
fn close_window(partition: &mut PartitionState, delivery: &mut Delivery<Model>, shared: &Shared) -> Result<(), Error> {
    let Some(window) = partition.state.completed_window() else { return Ok(()) };
    let facts = window.facts;
    let mut text = format!(
        "w {} {} {} {} {} ",
        partition.number, window.number, facts.logins, facts.first_offset, facts.last_offset
    );
    for (user, count) in counts(&partition.state, "window") {
        write!(text, "{user}={count},").unwrap();
    }
    for (other, totals) in shared.totals.others(partition.number) {
        write!(text, " {other}:{}", totals.last_accepted_offset.unwrap_or(-1)).unwrap();
    }
    send(delivery, &text)?;
    partition.state.begin_next_window();
    Ok(())
}

fn send(delivery: &mut Delivery<Model>, text: &str) -> Result<(), Error> {
    delivery.send(&Record { topic: "out", payload: Some(text.as_bytes()), ..Record::default() }, &|| false)
}

impl Work<Model> for Counting {
    fn catalog(&self) -> &Arc<Catalog> {
        catalog(self.catalog)
    }

    fn is_outdated(&mut self) -> bool {
        self.catalog != self.wanted
    }

    fn take_over(&mut self) -> anyhow::Result<()> {
        let goes_on = catalog(self.wanted).backfilled().next().is_some();
        let is_in_vain = goes_on && !self.histories.is_empty() && !self.is_out;
        assert!(!is_in_vain, "what is counted for partitions that are held is counted anew");
        (self.catalog, self.is_out) = (self.wanted, false);
        Ok(())
    }

    fn went_over(&mut self, is_held: impl Fn(i32) -> bool) {
        self.histories.retain(|number, _| is_held(*number));
    }

    fn would_lack(&self, state: &Partition) -> bool {
        !state.would_lack(catalog(self.wanted)).is_empty()
    }

    fn lacks(&self, state: &Partition) -> bool {
        state.lacking().next().is_some()
    }

    fn would_still_lack(&self, state: &Partition) -> bool {
        self.lacks(state) && self.would_lack(state)
    }

    fn follow_history(
        &mut self,
        number: i32,
        _state: &Partition,
        _target: i64,
        _telemetry: &Telemetry,
    ) -> anyhow::Result<bool> {
        if with(|world| world.fault(20)) {
            with(|world| world.say(|| format!("the history of partition {number} can't be counted")));
            self.wanted = self.catalog;
            return Ok(false);
        }
        Ok(with(|world| world.is_calm || world.chance.one_in(3)))
    }

    fn end_history(&mut self, number: i32, state: &Partition, until: i64) -> anyhow::Result<()> {
        with(|world| world.say(|| format!("partition {number} lacks its history up to {until}")));
        assert!(self.lacks(state));
        self.histories.insert(number, until);
        Ok(())
    }

    fn graft_history(&mut self, number: i32, state: &mut Partition) -> anyhow::Result<Result<bool, NotGrafted>> {
        let Some(until) = self.histories.get(&number).copied() else { return Ok(Ok(false)) };
        if with(|world| !world.is_calm && world.chance.below(3) > 0) {
            return Ok(Ok(false));
        }
        let history = self.history(number, state, until);
        state.graft(history).unwrap();
        self.histories.remove(&number);
        with(|world| world.say(|| format!("partition {number} has its history up to {until}")));
        Ok(Ok(true))
    }

    fn forget_histories(&mut self, partitions: &[i32]) {
        self.histories.retain(|number, _| !partitions.contains(number));
    }

    fn tell_usage(&self, _worker: usize, _telemetry: &Telemetry, _is_serving: bool) {}

    fn process(
        &mut self,
        batch: &Batch,
        range: Range<usize>,
        partition: &mut PartitionState,
        delivery: &mut Delivery<Model>,
        shared: &Shared,
    ) -> Result<Judged, Error> {
        let from = range.start;
        let messages = &batch.messages[range];
        let (gives_up_at, stops_at) = with(|world| {
            let (first, last) = (messages[0].offset, messages.last().map(|last| last.offset));
            world.say(|| format!("partition {}: {first}..={last:?}", batch.partition));
            world.inputs[batch.partition as usize].taker = world.member_of(self.worker);
            let input = &world.inputs[batch.partition as usize];
            // One that the group has gone on without may have begun elsewhere, in vain.
            if !world.settings.starts_at_latest || world.is_member(self.worker) {
                judge(&partition.state, input, input.before(first));
            }
            let gives_up = world.settings.changes_plugins && world.chance.one_in(8);
            let stops = world.settings.stops && !world.is_calm && world.chance.one_in(6);
            let mut place = |is_so: bool| is_so.then(|| world.chance.below(messages.len()));
            (place(gives_up), place(stops))
        });
        close_window(partition, delivery, shared)?;
        for (place, message) in messages.iter().enumerate() {
            if gives_up_at == Some(place) {
                self.do_badly(&mut partition.state, &messages[place..]);
                return Ok(Judged::UpTo(from + place));
            }
            if stops_at == Some(place) {
                with(|world| world.say(|| format!("partition {} stops at {}", batch.partition, message.offset)));
                return Ok(Judged::Stopped { at: from + place, reason: "it is simulated".to_owned() });
            }
            let user = std::str::from_utf8(&message.payload).unwrap();
            self.observe(&mut partition.state, message.offset, user);
            send(delivery, &format!("m {} {}", batch.partition, message.offset))?;
            close_window(partition, delivery, shared)?;
        }
        Ok(Judged::All)
    }
}
