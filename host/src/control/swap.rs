//! A new chain takes over, if what it would change is within what is tolerated. All ways to change plugins lead here: a file that
//! changes, a deployment, a roll-back.
//!
//! It is tried first on a sample of the messages that were taken last, beside the one that serves, with nothing going out, and, if
//! that is asked for, on live ones as well. What differs is told in any case. Anything wrong leaves the old one serving. For a while after,
//! the workers look whether it stays within that ([`Probation`]).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use chrono::Utc;
use loginscope_wasm::Plugin;

use super::group;
use super::membership::Membership;
use crate::comparator::report::{Report, Tolerance};
use crate::comparator::trial::Trial;
use crate::comparator::{Comparator, Setting};
use crate::config::PipelineConfig;
use crate::pipeline::Chain;
use crate::pipeline::batch::OutputLimits;
use crate::pipeline::chain::{Aggregates, Keep, are_alike, is_alike};
use crate::pipeline::plugins::Settings;
use crate::pipeline::recent::RecentBatch;
use crate::pipeline::serving::history::{Cause, Event, Standing};
use crate::pipeline::serving::{Generation, Probation, Serving};
use crate::telemetry::Telemetry;

/// How many messages are compared at once: a plugin that loops takes its time for each.
const AT_ONCE: usize = 200;

/// How often a swap is begun anew because others took over meanwhile: as many as may want something of a group at the same time.
const ATTEMPTS: usize = 10;

/// How many chains are kept that were tried and may be agreed on.
const TRIED: usize = 4;

/// How often it is looked whether the same plugins serve while live messages are waited for.
const SHADOW_LOOK: Duration = Duration::from_secs(1);

/// How long live messages are waited for, all in all.
const SHADOW_PATIENCE: Duration = Duration::from_mins(10);

/// Swaps chains, one at a time.
pub struct Swapper {
    /// What serves.
    pub serving: Arc<Serving>,
    /// What happens is told here.
    pub telemetry: Arc<Telemetry>,
    /// What new chains and old ones have in common.
    pub setting: Setting,
    /// What may differ.
    pub tolerance: Tolerance,
    /// How long it is looked whether a chain that has taken over stays within that.
    pub probation: Duration,
    /// Held by the swap that is under way: others that are asked for here wait. What the group agrees on doesn't.
    pub turn: Mutex<()>,
    /// Who has to agree first.
    pub consent: RwLock<Consent>,
    /// What the group was told that it can be used here, until something is decided.
    pub tried: Mutex<Vec<Tried>>,
}

/// Who has to agree to a swap.
#[derive(Clone, Default)]
pub enum Consent {
    /// Nobody: this process is alone with its plugins.
    #[default]
    Alone,
    /// The group, which isn't known yet.
    Starting,
    /// The group.
    Group(Arc<Membership>),
}

/// A chain that was tried.
pub struct Tried {
    /// What serves meanwhile.
    before: Arc<Generation>,
    chain: Arc<Chain>,
    /// The aggregates that are backfilled, as the group has them. The chain may have others from the one before it, which are computed already.
    backfilled: Aggregates,
    report: Report,
}

/// Live messages that new plugins are tried on.
#[derive(Clone, Copy)]
struct Shadowing {
    messages: u64,
    /// When it is given up, however often it was begun anew by then.
    until: Instant,
}

/// What is computed from partitions' histories.
#[derive(Clone, Copy)]
enum Backfill<'a> {
    Nothing,
    /// The aggregates that are new.
    New,
    /// Those that the group has agreed on.
    These(&'a Aggregates),
}

/// How a swap is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What leads to it.
    pub cause: Cause,
    /// Whether it ends when it is known what would change.
    pub dry_run: bool,
    /// On how many live messages the new plugins are tried beside those that serve, after the sample of recent ones.
    pub shadow: u64,
    /// The settings that the configuration has by now, where it has others.
    pub settings: Option<Settings>,
    /// Whether partitions compute new aggregates from their history; else these begin empty.
    pub backfill: bool,
}

impl Request {
    /// To be carried out if what is recent raises no doubt.
    pub fn new(what: impl Into<String>, by: impl Into<String>) -> Self {
        Self {
            cause: Cause { what: what.into(), by: by.into() },
            dry_run: false,
            shadow: 0,
            settings: None,
            backfill: false,
        }
    }
}

/// What came of a swap.
#[derive(Debug)]
pub struct Swapped {
    /// How it ended.
    pub end: End,
    /// The number of the generation that serves.
    pub generation: u64,
    /// The plugins as `name@version`, with commas.
    pub labels: String,
    /// What the new plugins change, as far as it was tried.
    pub report: Report,
    /// The new aggregates that partitions compute from their history.
    pub backfills: Aggregates,
}

/// How a swap ended that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The new plugins serve.
    Serving,
    /// They are those that serve.
    Unchanged,
    /// They would serve, but for a dry run.
    Tried,
}

/// Why new plugins don't serve. The old ones do.
#[derive(Debug)]
pub struct Refusal {
    /// Why, in a sentence.
    pub reason: String,
    /// What they would change, where it came to that.
    pub report: Option<Box<Report>>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self { reason: format!("{error:#}"), report: None }
    }
}

impl Swapper {
    /// Swaps what serves a pipeline like this.
    pub fn new(
        serving: &Arc<Serving>,
        telemetry: &Arc<Telemetry>,
        config: &PipelineConfig,
        tolerance: Tolerance,
        probation: Duration,
    ) -> Self {
        // What the output topic takes is the same to both.
        let limits = OutputLimits { value_bytes: config.max_message_bytes as usize, record_bytes: usize::MAX };
        let setting =
            Setting { topic: config.input_topic.as_str().into(), insight_every: config.insight_every, limits };
        serving.recent.want();
        let (serving, telemetry) = (Arc::clone(serving), Arc::clone(telemetry));
        let (turn, consent, tried) = (Mutex::default(), RwLock::default(), Mutex::default());
        Self { serving, telemetry, setting, tolerance, probation, turn, consent, tried }
    }

    /// Who has to agree to swaps from now on.
    pub fn ask(&self, consent: Consent) {
        *self.consent.write().unwrap_or_else(PoisonError::into_inner) = consent;
    }

    /// Has changed plugins take over: `change` makes them of those that serve. Waits for swaps that are under way.
    ///
    /// # Errors
    /// They are refused. The text says why.
    pub fn swap(
        &self,
        request: &Request,
        change: impl Fn(&[Plugin]) -> Result<Vec<Plugin>>,
    ) -> Result<Swapped, Refusal> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.verified(request, change).map_err(|refusal| {
            if request.dry_run {
                return refusal;
            }
            Refusal { report: refusal.report, ..self.refuse(request.cause.clone(), refusal.reason) }
        })
    }

    /// Tells that something was asked for that can't be done.
    pub fn refuse(&self, cause: Cause, reason: String) -> Refusal {
        self.telemetry.swap_refused(&cause, &reason);
        self.serving.history.add(Event::refused(cause, reason.clone()));
        Refusal { reason, report: None }
    }

    /// Has the plugins of an earlier generation serve again, at once and without trying them: they did before. Without a number,
    /// those that served before the present ones and were not rolled back themselves. It doesn't wait for swaps that are under way: whoever
    /// wants it can't wait.
    ///
    /// # Errors
    /// There is no such generation any more, or it failed, or the group can't be told.
    pub fn roll_back(&self, to: Option<u64>, by: &str) -> Result<Swapped, Refusal> {
        let group = self.group()?;
        for _ in 0..ATTEMPTS {
            let before = self.caught_up(group.as_deref())?;
            let (to, plugins) = self.earlier(&before, to, group.as_deref())?;
            let chain = Arc::new(before.chain.next(plugins, Keep::All).map_err(anyhow::Error::from)?);
            let cause = Cause::roll_back(to, by);
            let Some(number) = next_number(&before, group.as_deref(), |group| group.commit(&before, &chain, &cause))?
            else {
                continue;
            };
            let next = Generation { number, chain: Arc::clone(&chain), since: Utc::now(), cause, probation: None };
            // What the group has committed, the thread that follows it may have taken over already.
            let is_first = self.serving.replace_by(&before, next);
            if is_first {
                self.telemetry.swapped(number, &chain);
            }
            if is_first || self.serving.load().number == number {
                let (end, labels) = (End::Serving, chain.labels());
                let (report, backfills) = (Report::default(), Aggregates::new());
                return Ok(Swapped { end, generation: number, labels, report, backfills });
            }
        }
        Err(changing().into())
    }

    /// The generation that is gone back to, and its plugins.
    fn earlier(&self, before: &Generation, to: Option<u64>, group: Option<&Membership>) -> Result<(u64, Vec<Plugin>)> {
        let mut earlier = self.serving.history.generations();
        earlier.retain(|(number, ..)| *number < before.number && to.is_none_or(|to| to == *number));
        for (number, plugins, standing) in earlier {
            match standing {
                Standing::Failed if to.is_some() => {
                    bail!("generation {number} failed on its probation: deploy it to have it tried again")
                }
                Standing::Failed | Standing::LeftBehind if to.is_none() => continue,
                Standing::Good | Standing::LeftBehind | Standing::Failed => {}
            }
            let plugins = match group.filter(|_| plugins.is_empty()) {
                Some(group) => group.plugins_of(number)?.unwrap_or_default(),
                None => plugins,
            };
            let is_one = !plugins.is_empty() && (to.is_some() || !are_alike(&plugins, &before.chain.plugins));
            if is_one {
                return Ok((number, plugins));
            }
        }
        Err(match to {
            Some(to) => anyhow::anyhow!("generation {to} can't be gone back to"),
            None => anyhow::anyhow!("there is no earlier generation to go back to"),
        })
    }

    /// Whether a generation can be gone back to that isn't at hand any more.
    pub fn remembers(&self, number: u64) -> bool {
        self.group().is_ok_and(|group| group.is_some_and(|group| group.remembers(number)))
    }

    /// The group that has to agree, if there is one.
    fn group(&self) -> Result<Option<Arc<Membership>>> {
        match &*self.consent.read().unwrap_or_else(PoisonError::into_inner) {
            Consent::Alone => Ok(None),
            Consent::Starting => bail!("this instance is about to start: try again when it is ready"),
            Consent::Group(group) => Ok(Some(Arc::clone(group))),
        }
    }

    /// What serves, which is what the group has agreed on.
    fn caught_up(&self, group: Option<&Membership>) -> Result<Arc<Generation>> {
        if let Some(group) = group {
            group.catch_up(self)?;
        }
        Ok(Arc::clone(&self.serving.load()))
    }

    fn verified(
        &self,
        request: &Request,
        change: impl Fn(&[Plugin]) -> Result<Vec<Plugin>>,
    ) -> Result<Swapped, Refusal> {
        let group = self.group()?;
        let until = Instant::now() + SHADOW_PATIENCE;
        let live = (request.shadow > 0).then_some(Shadowing { messages: request.shadow, until });
        for _ in 0..ATTEMPTS {
            let before = self.caught_up(group.as_deref())?;
            let plugins = change(&before.chain.plugins)?;
            let swapped =
                |end, generation, labels, report, backfills| Swapped { end, generation, labels, report, backfills };
            if are_alike(&plugins, &before.chain.plugins) {
                let Some(number) = self.remembered(&before, request, group.as_deref())? else { continue };
                let (labels, none) = (before.chain.labels(), Aggregates::new());
                return Ok(swapped(End::Unchanged, number, labels, Report::default(), none));
            }
            let backfill = if request.backfill { Backfill::New } else { Backfill::Nothing };
            let tried = self.try_out(&before, plugins, backfill, live);
            // What it was to be held against may have been taken out of service meanwhile.
            if tried.is_err() && !Arc::ptr_eq(&self.serving.load(), &before) {
                continue;
            }
            let tried = tried?;
            let (chain, report) = (Arc::clone(&tried.chain), tried.report.clone());
            let backfills = if request.backfill { chain.new_since(&before.chain) } else { Aggregates::new() };
            if request.dry_run {
                return Ok(swapped(End::Tried, before.number, chain.labels(), report, backfills));
            }
            // What was rolled back here meanwhile isn't to be agreed on again.
            if !Arc::ptr_eq(&self.serving.load(), &before) {
                continue;
            }
            let Some(group) = &group else {
                let (number, cause) = (before.number + 1, request.cause.clone());
                let probation = self.probation(before.proven(), &chain, &report)?;
                let next = Generation { number, chain: Arc::clone(&chain), since: Utc::now(), cause, probation };
                // It may have been rolled back meanwhile, and then it is another one that is to be changed.
                if self.serving.replace_by(&before, next) {
                    self.telemetry.swapped(number, &chain);
                    return Ok(swapped(End::Serving, number, chain.labels(), report, backfills));
                }
                continue;
            };
            // Whichever thread takes it over finds it, also where it shows only later that the group has agreed.
            self.keep(tried);
            let Some(number) = next_number(&before, Some(group), |group| group.agree(&before, &chain, request))? else {
                continue;
            };
            group.catch_up(self)?;
            if self.has_served(number, &chain) {
                return Ok(swapped(End::Serving, number, chain.labels(), report, backfills));
            }
        }
        Err(changing().into())
    }

    /// What is asked for serves already; that it was, the group is to remember. Answers the number of the generation that serves then. None
    /// where the group has gone on to others meanwhile.
    fn remembered(
        &self,
        before: &Generation,
        request: &Request,
        group: Option<&Membership>,
    ) -> Result<Option<u64>, Refusal> {
        let Some(group) = group.filter(|_| !request.dry_run) else { return Ok(Some(before.number)) };
        let number = next_number(before, Some(group), |group| group.is_unchanged_by(before, request))?;
        group.catch_up(self)?;
        Ok(number)
    }

    fn keep(&self, tried: Tried) {
        let mut all = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(tried);
        let too_many = all.len().saturating_sub(TRIED);
        all.drain(..too_many);
    }

    /// Whether this generation serves with this chain's plugins, or has served.
    fn has_served(&self, number: u64, chain: &Chain) -> bool {
        let served = self.serving.history.generations();
        served.iter().any(|(other, plugins, _)| *other == number && are_alike(plugins, &chain.plugins))
    }

    /// The plugins that need not be loaded: those that serve, and those that were tried.
    pub fn at_hand(&self) -> Vec<Plugin> {
        let mut plugins = self.serving.load().chain.plugins.clone();
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        plugins.extend(tried.iter().flat_map(|tried| tried.chain.plugins.iter().cloned()));
        plugins
    }

    /// The plugins that failed where this generation was rolled back to by itself.
    pub fn rolled_back(&self, to: &Generation) -> Vec<Plugin> {
        let earlier = self.serving.history.generations().into_iter().find(|(number, ..)| *number + 1 == to.number);
        let mut plugins = earlier.map(|(_, plugins, _)| plugins).unwrap_or_default();
        plugins.retain(|plugin| to.chain.plugins.iter().all(|other| !is_alike(plugin, other)));
        plugins
    }

    /// Tries plugins beside those that serve.
    ///
    /// # Errors
    /// They don't fit together, or change more than is tolerated.
    fn try_out(
        &self,
        before: &Arc<Generation>,
        plugins: Vec<Plugin>,
        backfill: Backfill<'_>,
        live: Option<Shadowing>,
    ) -> Result<Tried, Refusal> {
        let keep = if before.probation().is_none() { Keep::Declared } else { Keep::All };
        let chain = before.chain.next(plugins, keep).map_err(anyhow::Error::from)?;
        let wanted = match backfill {
            Backfill::Nothing => Aggregates::new(),
            Backfill::New => chain.new_since(&before.chain),
            Backfill::These(aggregates) => aggregates.clone(),
        };
        let chain = Arc::new(chain.backfilling(&wanted));
        let backfilled = if matches!(backfill, Backfill::These(_)) { wanted } else { chain.backfilled() };
        let report = self.compare(before, &chain, live)?;
        self.telemetry.compared(&report);
        match report.refusal(&self.tolerance) {
            Some(reason) => Err(Refusal { reason, report: Some(Box::new(report)) }),
            None => Ok(Tried { before: Arc::clone(before), chain, backfilled, report }),
        }
    }

    /// Tries plugins that another instance of the group proposes.
    ///
    /// # Errors
    /// Why they can't serve here.
    pub fn try_proposed(&self, plugins: Vec<Plugin>, backfilled: &Aggregates) -> Result<(), Refusal> {
        let before = Arc::clone(&self.serving.load());
        if !are_alike(&plugins, &before.chain.plugins) {
            let tried = self.try_out(&before, plugins, Backfill::These(backfilled), None)?;
            self.keep(tried);
        }
        Ok(())
    }

    /// Has the plugins of a generation that the group has committed serve, if no later one does. It waits for no swap that is under way:
    /// that is made anew of what serves then. Those that were tried here are on probation.
    ///
    /// # Errors
    /// They can't serve here.
    pub fn take_over(
        &self,
        number: u64,
        (plugins, backfilled): (&[Plugin], &Aggregates),
        cause: &Cause,
        was_proposed: bool,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let before = Arc::clone(&self.serving.load());
            // What serves here may have been put together for another record, which backfills less.
            let is_same = are_alike(plugins, &before.chain.plugins) && backfilled.is_subset(&before.chain.backfilled());
            if before.number > number || is_same && before.number == number {
                return Ok(());
            }
            let (chain, probation) = if is_same {
                // It is only another number: what is new has to prove itself all the same.
                (Arc::clone(&before.chain), before.probation.clone())
            } else if let Some((chain, report)) = self.tried_on(&before, plugins, backfilled).filter(|_| was_proposed) {
                let probation = self.probation(before.proven(), &chain, &report)?;
                (chain, probation)
            } else {
                (Arc::new(before.chain.next(plugins.to_vec(), Keep::All)?.backfilling(backfilled)), None)
            };
            let (cause, next) = (cause.clone(), Arc::clone(&chain));
            if self.serving.replace_by(&before, Generation { number, chain: next, since: Utc::now(), cause, probation })
            {
                // Whatever was tried, it was tried beside what doesn't serve any more.
                self.tried
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .retain(|tried| !Arc::ptr_eq(&tried.before, &before));
                self.telemetry.swapped(number, &chain);
                return Ok(());
            }
        }
        Err(changing())
    }

    /// The chain of these plugins that was tried beside this generation, and what came of it.
    fn tried_on(
        &self,
        before: &Arc<Generation>,
        plugins: &[Plugin],
        backfilled: &Aggregates,
    ) -> Option<(Arc<Chain>, Report)> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |tried: &&Tried| {
            Arc::ptr_eq(&tried.before, before)
                && are_alike(&tried.chain.plugins, plugins)
                && tried.backfilled == *backfilled
        };
        let Tried { chain, report, .. } = tried.iter().find(is_it)?;
        Some((Arc::clone(chain), report.clone()))
    }

    /// What the chain may do while it is new.
    fn probation(&self, proven: &Chain, chain: &Chain, report: &Report) -> Result<Option<Arc<Probation>>> {
        if self.probation.is_zero() {
            return Ok(None);
        }
        let is_new = |plugin: &Plugin| proven.plugins.iter().all(|known| !known.is_same(plugin));
        let new = chain.plugins.iter().enumerate().filter(|(_, plugin)| is_new(plugin));
        let allowed = new.map(|(place, plugin)| report.allowed(place, plugin.name(), &self.tolerance));
        let fallback = Arc::new(chain.next(proven.plugins.clone(), Keep::All)?);
        Ok(Some(Arc::new(Probation::new(fallback, self.probation, allowed))))
    }

    /// Takes the messages that came last through both chains, and then tries the new one on so many of those that come now, until it is
    /// certain that it fails too often.
    fn compare(&self, before: &Arc<Generation>, chain: &Arc<Chain>, live: Option<Shadowing>) -> Result<Report> {
        // What has not proved itself yet is no ground to stand on.
        let mut comparator = Comparator::new(before.proven(), chain, &self.setting)?.within(self.tolerance);
        for batch in self.serving.recent.batches() {
            if !tolerates(&mut comparator, &batch) {
                return Ok(comparator.report());
            }
        }
        let recent = comparator.report();
        let Some(live) = live.filter(|_| recent.refusal(&self.tolerance).is_none()) else { return Ok(recent) };
        // Recent messages may come again among the live ones, where they would count twice.
        Ok(self.shadow(before, chain, live)?.with_insights_of(&recent))
    }

    /// Tries a chain on so many live messages, beside the one that serves.
    fn shadow(
        &self,
        before: &Arc<Generation>,
        chain: &Arc<Chain>,
        Shadowing { messages, until }: Shadowing,
    ) -> Result<Report> {
        let mut trial = Trial::new(&before.chain, chain, &self.setting, self.tolerance)?;
        let live = self.serving.live.follow(trial.wanted());
        while trial.report().messages < messages && trial.failure().is_none() {
            // Where trying takes longer than logins take to come, there is always one.
            if Instant::now() >= until {
                let seen = trial.report().messages;
                bail!(
                    "only {seen} of {messages} messages to shadow came, and were compared, within {SHADOW_PATIENCE:?}"
                );
            }
            // What other plugins make of messages isn't handed over.
            if !Arc::ptr_eq(&self.serving.load(), before) {
                return Err(changing());
            }
            if let Some(handed_over) = live.next_before(until.min(Instant::now() + SHADOW_LOOK)) {
                trial.compare(handed_over.batch);
            }
        }
        Ok(trial.report().clone())
    }
}

/// Compares a batch. Answers whether the new chain hasn't failed too often by now.
fn tolerates(comparator: &mut Comparator, batch: &RecentBatch) -> bool {
    batch.messages().chunks(AT_ONCE).all(|some| {
        comparator.compare(batch.partition, some);
        comparator.failure().is_none()
    })
}

/// The number of the generation that follows: the next one, or the one that the group has agreed on. None where the group has gone on to
/// others meanwhile.
fn next_number(
    before: &Generation,
    group: Option<&Membership>,
    agree: impl FnOnce(&Membership) -> Result<u64, group::ballot::Refusal>,
) -> Result<Option<u64>> {
    match group.map(agree) {
        None => Ok(Some(before.number + 1)),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(group::ballot::Refusal::Overtaken { .. })) => Ok(None),
        Some(Err(refusal)) => Err(refusal.into()),
    }
}

fn changing() -> anyhow::Error {
    anyhow::anyhow!("the plugins that serve went on changing meanwhile")
}
