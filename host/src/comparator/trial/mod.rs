//! Plugins that differ from those that serve, tried on what the workers make of live logins.
//!
//! What the serving plugins say, the workers have just found out, so only what differs is run: a validator on the logins that came to the
//! one that it replaces; an enricher on those that went on and with the same past, and one behind it that reads what has become another
//! value; an insight generator on the windows that the workers complete. Where a plugin wants to know of a past that the workers don't keep,
//! the same logins are counted here, from nothing, and both the old and the new one are told of that: what differs is the plugin then, and
//! not the past. Two things aren't followed: what those behind a validator would make of a login that only the new one lets
//! through, and insights of generators that don't differ themselves.
//!
//! - `verdicts`: validators. `enrichers`: enrichers, with `bisect` where one fails. `windows`: insight generators.
//! - `past`: what is counted here, and the generators that look at it.

mod bisect;
mod enrichers;
mod past;
mod verdicts;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use loginscope_login::decode::{Decoder, Layouts};
use loginscope_login::{Logins, Rejection, Slot};
use loginscope_wasm::{Plugin, Role, TableField};

use super::Setting;
use super::outcome::{Login, Outcome};
use super::report::{Place, Report, Tolerance, Use};
use crate::pipeline::chain::is_alike;
use crate::pipeline::judged::{JudgedBatch, Wanted};
use crate::pipeline::recent::RecentBatch;
use crate::pipeline::{Chain, ChainError, Rejected, Stage};
use enrichers::Enrichers;
use past::Past;
use verdicts::Verdicts;
use windows::Windows;

/// A chain that differs from the one that serves, in some plugins.
pub struct Trial {
    old: Arc<Chain>,
    new: Arc<Chain>,
    tolerance: Tolerance,
    wanted: Arc<Wanted>,
    decoding: Option<Decoding>,
    verdicts: Verdicts,
    enrichers: Enrichers,
    windows: Windows,
    past: Option<Past>,
    report: Report,
}

/// A batch at hand.
struct Judging<'a> {
    batch: &'a JudgedBatch,
    logins: &'a Logins,
    /// The decoded logins that were rejected, by row.
    rejected: BTreeMap<u32, &'a Rejected>,
    /// The rows that validators judge differently: rejected, or let through.
    changed: BTreeMap<u32, Option<Rejected>>,
}

impl Trial {
    /// Nothing has been tried yet.
    ///
    /// # Errors
    /// A chain whose plugins don't fit together.
    pub fn new(
        old: &Arc<Chain>,
        new: &Arc<Chain>,
        setting: &Setting,
        tolerance: Tolerance,
    ) -> Result<Self, ChainError> {
        let (verdicts, windows) = (Verdicts::new(old, new), Windows::new(old, new));
        let past = Past::new(old, new, setting)?;
        let mut enrichers = new.enrichers.iter().filter_map(|enricher| new.plugins.get(enricher.plugin));
        let wanted = wanted(old, new, past.is_some() || enrichers.any(|plugin| is_tried(old, plugin)));
        let enrichers = Enrichers::new(old, new, &wanted.slots, past.is_some());
        let decoding = wanted.messages.then(|| Decoding::new(new)).transpose()?;
        let (old, new, report) = (Arc::clone(old), Arc::clone(new), Report::default());
        let wanted = Arc::new(wanted);
        Ok(Self { old, new, tolerance, wanted, decoding, verdicts, enrichers, windows, past, report })
    }

    /// What is to be known of the batches.
    pub fn wanted(&self) -> &Arc<Wanted> {
        &self.wanted
    }

    /// Tries the plugins on a batch. One that fails is asked no more about it when it is certain that it fails too often.
    pub fn compare(&mut self, mut batch: JudgedBatch) {
        self.report.messages += batch.messages as u64;
        self.count_old(&batch);
        self.windows.look(&self.wanted, &mut batch, &mut self.report, &self.tolerance);
        self.compare_logins(&batch);
    }

    fn compare_logins(&mut self, batch: &JudgedBatch) {
        let decoded = self.decoding.as_mut().zip(batch.recent.as_ref());
        let logins = decoded.map_or(&batch.logins, |(decoding, messages)| decoding.decode(messages));
        let rejected = batch.output.rejected.iter().filter_map(|(message, rejected)| {
            let row = batch.row_messages.binary_search(message).ok()?;
            Some((row as u32, rejected))
        });
        let mut judging = Judging { batch, logins, rejected: rejected.collect(), changed: BTreeMap::new() };
        self.verdicts.judge(&self.new, &mut judging, &mut self.report, &self.tolerance);
        for (row, new) in &judging.changed {
            let old = judging.outcome(&self.old, *row, judging.rejected.get(row).copied());
            let new = judging.outcome(&self.new, *row, new.as_ref());
            self.report.judged(judging.place(*row), &old, &new);
        }
        self.past.iter_mut().for_each(Past::begin);
        let (enrichers, report, tolerance) = (&mut self.enrichers, &mut self.report, &self.tolerance);
        for segment in &batch.segments {
            if report.failure(tolerance).is_some() {
                return;
            }
            if !enrichers.concerns(segment) {
                continue;
            }
            match &mut self.past {
                None => enrichers.compare(&judging, segment, None, report, tolerance),
                Some(past) => past.pieces(batch, segment, report, |state, piece, report| {
                    enrichers.compare(&judging, piece, Some(state), report, tolerance);
                }),
            }
        }
    }

    /// What the old plugins took and did for a batch.
    fn count_old(&mut self, batch: &JudgedBatch) {
        for (place, meter) in &batch.measured {
            let Some(plugin) = self.old.plugins.get(*place) else { continue };
            let used = used(&mut self.report.old, plugin);
            used.logins.add(meter.logins);
            used.windows.add(meter.windows);
            let failures = || batch.output.failures.iter().filter(|failure| failure.plugin == *place);
            // A login that went on without it isn't one that it failed on, where it was left alone.
            used.failed_logins += batch.output.failed_logins(*place).min(failures().count() as u64);
            used.failed_windows += batch.output.failed_windows(*place);
            failures().for_each(|failure| used.failed(&failure.reason));
        }
    }

    /// What has been found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Which plugin has failed more often by now than is tolerated, in a sentence.
    pub fn failure(&self) -> Option<String> {
        self.report.failure(&self.tolerance)
    }
}

impl<'a> Judging<'a> {
    fn place(&self, row: u32) -> Place {
        let offset = self.logins.offsets.get(row as usize).copied().unwrap_or_default();
        Place { partition: self.batch.partition, offset }
    }

    /// What became of a row by a chain: rejected, or accepted with what is at hand of its columns.
    fn outcome<'o>(&self, chain: &'o Chain, row: u32, rejected: Option<&'o Rejected>) -> Outcome<'o>
    where
        'a: 'o,
    {
        match rejected {
            None => Outcome::Accepted(Login::Row(&chain.schema, self.logins, row as usize)),
            Some(rejected) => {
                let plugin = rejected.plugin.and_then(|plugin| chain.plugins.get(plugin));
                Outcome::Rejected { rejected, plugin: plugin.map(Plugin::name) }
            }
        }
    }
}

/// Whether a plugin of another chain is none of this one's.
fn is_tried(old: &Chain, plugin: &Plugin) -> bool {
    old.plugins.iter().all(|known| !is_alike(known, plugin))
}

/// The plugin that another one takes the place of, or is the same as: the one of its name.
fn predecessor(old: &Chain, plugin: &Plugin) -> Option<usize> {
    old.plugins.iter().position(|known| known.name() == plugin.name())
}

/// What a plugin of this chain says of a login, or that it fails on it.
fn rejected(rejection: Rejection, stage: Stage, plugin: usize) -> Rejected {
    Rejected { rejection, stage, plugin: Some(plugin) }
}

fn used<'u>(uses: &'u mut BTreeMap<String, Use>, plugin: &Plugin) -> &'u mut Use {
    if !uses.contains_key(plugin.name()) {
        uses.insert(plugin.name().to_owned(), Use { version: plugin.version().to_owned(), ..Use::default() });
    }
    uses.entry(plugin.name().to_owned()).or_default()
}

/// On how many logins a plugin may fail until it is certain that it is too many.
fn failures_allowed(report: &Report, plugin: &Plugin, tolerance: &Tolerance) -> u64 {
    let before = report.old.get(plugin.name()).map_or(0, |used| used.failed_logins);
    let failed = report.new.get(plugin.name()).map_or(0, |used| used.failed_logins);
    (tolerance.max_failures + before).saturating_sub(failed)
}

/// What is to be known of batches to try the plugins of a new chain on them that differ.
fn wanted(old: &Arc<Chain>, new: &Chain, segments: bool) -> Wanted {
    let tried: Vec<&Plugin> = new.plugins.iter().filter(|plugin| is_tried(old, plugin)).collect();
    let is_wanted = |name: &str| tried.iter().any(|plugin| plugin.name() == name);
    let mut read: Vec<Slot> = vec![Slot::USER_ID, Slot::TIMESTAMP];
    let mut set = Vec::new();
    for plugin in &new.plugins {
        // Those behind an enricher are run as well where it has set something else.
        for declaration in Role::ALL.iter().filter_map(|role| plugin.declaration(*role)) {
            if is_tried(old, plugin) || segments {
                read.extend(declaration.table.iter().filter_map(|field| match field {
                    TableField::Login(slot) => Some(*slot),
                    TableField::RecordTimestamp => None,
                }));
                read.extend(declaration.reads.iter().filter_map(|field| new.schema.slot(&field.name)));
            }
            set.extend(declaration.sets.iter().filter_map(|field| new.schema.slot(&field.name)));
        }
    }
    if segments {
        read.extend(new.slots_counted(is_wanted));
    }
    // A field that is set here and read nowhere else needn't be in the input.
    let known = old.schema.fields().len();
    let messages = read.iter().any(|slot| slot.0 >= known && !set.contains(slot));
    let mut slots = read;
    slots.extend(set.iter().filter(|_| segments));
    slots.sort_unstable();
    slots.dedup();
    let measured = tried.iter().filter_map(|plugin| predecessor(old, plugin)).collect();
    let windows = windows::wanted(old, new);
    Wanted { chain: Arc::clone(old), slots, measured, segments, windows, messages }
}

/// Reads the fields of messages that the workers don't read.
struct Decoding {
    decoder: Decoder,
    logins: Logins,
    layouts: Layouts,
}

impl Decoding {
    fn new(chain: &Chain) -> Result<Self, ChainError> {
        let decoder = Decoder::new(&chain.format, &chain.schema, &chain.set_names)?;
        Ok(Self { decoder, logins: Logins::new(&chain.schema), layouts: Layouts::default() })
    }

    /// The logins of messages, which are the same rows as the workers have: whether a message is one doesn't go by further fields.
    fn decode(&mut self, messages: &RecentBatch) -> &Logins {
        let Self { decoder, logins, layouts } = self;
        logins.clear();
        layouts.clear();
        for message in messages.messages() {
            decoder.decode(message.payload, message.offset, message.timestamp_ms, logins, layouts).ok();
        }
        logins
    }
}
