//! `state rebuild`: the state of a group counted anew from the logins themselves, at home where their users' logins go now.
//!
//! Totals and windows are told apart. Totals are those of the users that are at home in a partition; where partitions were added, most of
//! what is kept of a user moves. A window is made of the logins in its own partition, whoever's they are, so the windows are those of the
//! former state where that can be read, or else are counted apart, and go on where the group stopped.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use loginscope_kafka::Topics;
use loginscope_state::{Partition, RestoreError, Restored, Term};

use super::fold::{Counted, Fold, Source};
use super::homes::Homes;
use super::look::show;
use super::rewrite::{NewState, NotDeleted, Rewrite, connect, write};
use super::sole::SoleMember;
use super::stored;
use crate::application::{TopicLimits, prepare_state_topics, topic_limits};
use crate::cli::Exit;
use crate::config::Config;
use crate::pipeline::Chain;
use crate::pipeline::plugins::PluginSet;
use crate::pipeline::restore::Found;

/// Where logins are counted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginsFrom {
    /// The input, up to where the group has come.
    #[default]
    Input,
    /// The topic of accepted logins, all of it.
    Processed,
}

/// What is to be rebuilt, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuild {
    /// Where logins are counted from.
    pub from: LoginsFrom,
    /// Whether nothing is to be written.
    pub dry_run: bool,
}

/// Where the windows of a partition come from.
enum Windows {
    /// From its former state.
    Former(Box<Partition>),
    /// It has none yet: the group has read nothing of it.
    New,
    /// From its own logins, all of which are there.
    Counted,
    /// From nowhere: they go on with a number that none of them has had.
    Skipped,
}

/// What is known of a partition before logins are counted.
struct Plan {
    /// The input offset to go on from.
    next_offset: i64,
    windows: Windows,
    /// The highest term in its changelog.
    term: Term,
    /// Whether its changelog is damaged.
    is_damaged: bool,
}

/// What is there of the former state of a partition.
#[derive(Default)]
struct Former {
    restored: Option<Restored>,
    /// The highest term in its changelog.
    term: Term,
    /// Whether its changelog is damaged, so that nothing is known from there.
    is_damaged: bool,
}

/// Rebuilds the state.
pub(super) fn run(config: &Config, rebuild: Rebuild) -> Result<Exit> {
    let chain = Arc::new(PluginSet::from_config(&config.pipeline)?.load_at_start()?);
    let state_topics = config.kept_state()?;
    let (topics, partitions) = connect(config)?;
    let mut member = SoleMember::join(config, &topics, partitions)?;
    let former = topics.partitions(&state_topics.changelog)?;
    let homes = Homes::of(&config.kafka, &topics, &config.topics.input, partitions, former)?;
    if homes == Homes::Unknown {
        tracing::warn!(
            "the keys of {} don't say which partition a user's logins go to, so each login is counted where it is",
            config.topics.input
        );
    }
    let limits = topic_limits(&topics, &config.kafka, &config.topics, former.map(|_| state_topics))?;
    let job = Job { config, from: rebuild.from, chain, topics: &topics, partitions, homes, limits };
    let plans = job.plan(former.is_some(), &mut member)?;
    let was_damaged = plans.values().any(|plan| plan.is_damaged);
    let states = job.count(plans, &mut member).context("nothing was changed")?;
    let written = write(states, limits, member.membership()?.generation())?;
    let mut not_deleted = NotDeleted::default();
    if !rebuild.dry_run {
        let missing = config.create_topics.then_some(config.pipeline.max_message_bytes);
        prepare_state_topics(&topics, state_topics, partitions, missing)?;
        let mut rewrite =
            Rewrite { config, state_topics, topics: &topics, member: &mut member, input_partitions: partitions };
        not_deleted = rewrite.run(&written)?;
        not_deleted.warn();
    }
    let mut output = std::io::stdout().lock();
    let shown: BTreeMap<i32, Restored> =
        written.into_iter().map(|(number, written)| (number, written.restored)).collect();
    show(&shown, &mut output)?;
    if rebuild.dry_run {
        writeln!(output, "nothing was written")?;
    }
    output.flush()?;
    if was_damaged && let Some(error) = not_deleted.first_of_changelog() {
        bail!(
            "the new state is written, but old records of the changelog could not be deleted, and runs can't read the damaged ones \
             among them: {error}; when that is put right, do this again"
        );
    }
    Ok(Exit::Done)
}

/// Counts logins anew.
struct Job<'a> {
    config: &'a Config,
    from: LoginsFrom,
    chain: Arc<Chain>,
    topics: &'a Topics,
    /// How many the input has.
    partitions: i32,
    homes: Homes,
    limits: TopicLimits,
}

impl Job<'_> {
    /// Finds out how far the group has come in each partition, and what is there of its windows.
    fn plan(&self, has_changelog: bool, member: &mut SoleMember) -> Result<BTreeMap<i32, Plan>> {
        let Config { group, topics, .. } = self.config;
        let mut stored = BTreeMap::new();
        if has_changelog {
            let (catalog, when) = (&self.chain.catalog, stored::Read::Anytime);
            stored = stored::read(self.config, catalog, when, &mut || member.check())?;
        }
        let mut plans = BTreeMap::new();
        let mut has_come_anywhere = false;
        for number in 0..self.partitions {
            let (begin, _) = self.topics.watermarks(&topics.input, number)?;
            let former = stored.remove(&number).map_or(Ok(Former::default()), former)?;
            let Former { restored: former, term, is_damaged } = former;
            let position = former.as_ref().map(|former| former.head.next_offset).or(member.committed(number));
            if is_damaged && position.is_none() {
                bail!(
                    "how far the group {group} has come in partition {number} of {input} isn't known: its changelog is damaged, and \
                     the group has no offset; set one (kafka-consumer-groups.sh --reset-offsets --group {group} --topic \
                     {input}:{number} --to-offset OFFSET --execute) and do this again, or use another group to process all logins \
                     again",
                    input = topics.input
                );
            }
            has_come_anywhere |= position.is_some();
            let is_from_input = self.from == LoginsFrom::Input;
            if begin > 0 && is_from_input && position.is_some() {
                tracing::warn!(
                    "partition {number} of {} begins with offset {begin}: what was before is not counted",
                    topics.input
                );
            }
            let windows = match (former, position) {
                (Some(former), _) => Windows::Former(Box::new(former.partition)),
                (None, None) => Windows::New,
                (None, Some(_)) if begin == 0 && is_from_input => Windows::Counted,
                (None, Some(_)) => Windows::Skipped,
            };
            plans.insert(number, Plan { next_offset: position.unwrap_or(begin), windows, term, is_damaged });
        }
        if !has_come_anywhere {
            bail!("the group {group} has read nothing of {} yet, so there is nothing to rebuild", topics.input);
        }
        Ok(plans)
    }

    /// Counts all partitions, each according to its plan.
    fn count(&self, plans: BTreeMap<i32, Plan>, member: &mut SoleMember) -> Result<BTreeMap<i32, NewState>> {
        let (mut totals, counted) = self.count_totals(&plans, member)?;
        self.tell(counted);
        let mut own = self.count_windows(&plans, counted, member)?;
        let mut states = BTreeMap::new();
        for (number, Plan { next_offset, windows, term, .. }) in plans {
            let Some(mut state) = totals.remove(&number) else { continue };
            match windows {
                Windows::Former(former) => state.take_windows_of(*former),
                Windows::New => state.take_windows_of(state.emptied()),
                Windows::Counted => {
                    // Where nobody has moved, they are there already.
                    if let Some(own) = own.remove(&number) {
                        state.take_windows_of(own);
                    }
                }
                Windows::Skipped => {
                    // However long its windows were, each had at least one login.
                    let number_of_window = next_offset.unsigned_abs().saturating_add(1);
                    state.skip_to_window(number_of_window, next_offset.checked_sub(1));
                    tracing::warn!(
                        "how many windows partition {number} had is not known: it goes on with window {number_of_window}, and the \
                         logins of the one that was interrupted are in none"
                    );
                }
            }
            states.insert(number, NewState { state, next_offset, term });
        }
        Ok(states)
    }

    /// Counts every login at home.
    fn count_totals(
        &self,
        plans: &BTreeMap<i32, Plan>,
        member: &mut SoleMember,
    ) -> Result<(BTreeMap<i32, Partition>, Counted)> {
        let states = plans.iter().map(|(number, plan)| (*number, self.empty(&plan.windows))).collect();
        let source = match self.from {
            LoginsFrom::Input => Source {
                topic: &self.config.topics.input,
                until: plans.iter().map(|(number, plan)| (*number, plan.next_offset)).collect(),
                homes: self.homes,
                has_siblings: plans.len() > 1,
                looks_ahead: self.homes != Homes::Unknown,
            },
            LoginsFrom::Processed => self.processed(plans.len())?,
        };
        self.fold(&source, states, member)
    }

    /// The topic of accepted logins: to where it ends.
    fn processed(&self, partitions: usize) -> Result<Source<'_>> {
        let topic = &self.config.topics.processed;
        if self.homes == Homes::Unknown && partitions > 1 {
            bail!(
                "{topic} doesn't say which partition of {} a login came from; use --source input",
                self.config.topics.input
            );
        }
        let Some(count) = self.topics.partitions(topic)? else { bail!("the topic {topic} does not exist") };
        let until = (0..count).map(|number| (number, i64::MAX)).collect();
        let homes = Homes::ByKey(i32::try_from(partitions).unwrap_or(i32::MAX));
        Ok(Source { topic, until, homes, has_siblings: partitions > 1, looks_ahead: false })
    }

    /// Counts the own logins of those partitions whose windows come from there, if they aren't the ones that were counted already.
    fn count_windows(
        &self,
        plans: &BTreeMap<i32, Plan>,
        counted: Counted,
        member: &mut SoleMember,
    ) -> Result<BTreeMap<i32, Partition>> {
        let plans = plans.iter().filter(|(_, plan)| matches!(plan.windows, Windows::Counted));
        let until: BTreeMap<i32, i64> = plans.map(|(number, plan)| (*number, plan.next_offset)).collect();
        if counted.moved == 0 || until.is_empty() {
            return Ok(BTreeMap::new());
        }
        tracing::info!("counting the windows, too, as users have moved");
        let states = until.keys().map(|number| (*number, self.empty(&Windows::Counted))).collect();
        let (topic, homes) = (&self.config.topics.input, Homes::Unknown);
        let source = Source { topic, until, homes, has_siblings: true, looks_ahead: false };
        Ok(self.fold(&source, states, member)?.0)
    }

    fn fold(
        &self,
        source: &Source<'_>,
        states: BTreeMap<i32, Partition>,
        member: &mut SoleMember,
    ) -> Result<(BTreeMap<i32, Partition>, Counted)> {
        Fold::new(self.config, &self.chain, self.limits.processed, source, states)?.run(member)
    }

    /// A partition without logins that fits the windows that it will get.
    fn empty(&self, windows: &Windows) -> Partition {
        match windows {
            Windows::Former(former) => former.emptied(),
            Windows::New | Windows::Counted | Windows::Skipped => {
                Partition::new(Arc::clone(&self.chain.catalog), self.config.pipeline.insight_every)
            }
        }
    }

    fn tell(&self, counted: Counted) {
        let Counted { messages, moved, ahead_elsewhere, failures } = counted;
        tracing::info!(
            "{messages} messages counted anew, {moved} of them in the partition that their users have moved to"
        );
        if failures > 0 {
            tracing::warn!("plugins failed {failures} times; the logins at fault count as rejected");
        }
        if ahead_elsewhere > 0 {
            tracing::warn!(
                "{ahead_elsewhere} messages of {} are still to be read and stand in a partition that their users have moved away \
                 from: they will be counted there, without those users' past",
                self.config.topics.input
            );
        }
    }
}

/// What is there of the former state, and the highest term in its changelog.
fn former(found: Result<Found>) -> Result<Former> {
    match found {
        Ok(found) => Ok(Former { restored: found.restored, term: found.term, is_damaged: false }),
        // It is whole, but for another version.
        Err(error) if matches!(error.downcast_ref(), Some(RestoreError::Record { .. })) => Err(error),
        Err(error) => {
            tracing::warn!("the former state is not used: {error:#}");
            // What is written from here on is not to be taken for something older, however old that was.
            Ok(Former { restored: None, term: Term { era: u32::MAX >> 1, generation: 0 }, is_damaged: true })
        }
    }
}
