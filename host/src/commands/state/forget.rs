//! `state forget`: a person is taken out of all aggregates, and out of what the topics of the state have of them.
//!
//! The state is written anew as a whole, and what was before is deleted, whether or not there was something to forget: a former command
//! may not have come to the deletion.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Result, bail};

use super::rewrite::{NewState, Rewrite, connect, write};
use super::sole::SoleMember;
use super::stored;
use crate::application::{prepare_state_topics, topic_limits};
use crate::cli::Exit;
use crate::config::Config;
use crate::pipeline::plugins::PluginSet;

/// Forgets a user.
pub(super) fn run(config: &Config, user: &str) -> Result<Exit> {
    let chain = PluginSet::from_config(&config.pipeline)?.load_at_start()?;
    let state_topics = config.kept_state()?;
    let (topics, partitions) = connect(config)?;
    if topics.partitions(&state_topics.changelog)?.is_none() {
        bail!("there is no changelog {}: the group {} keeps no state", state_topics.changelog, config.group);
    }
    let mut member = SoleMember::join(config, &topics, partitions)?;
    let missing = config.create_topics.then_some(config.pipeline.max_message_bytes);
    prepare_state_topics(&topics, state_topics, partitions, missing)?;
    let (mut forgotten, mut states) = (BTreeMap::<(String, String), u64>::new(), BTreeMap::new());
    let catalog = stored::as_it_is(&chain.catalog);
    let stored = stored::read(config, &catalog, stored::Read::Finished, &mut || member.check())?;
    for (number, found) in stored {
        let found = found?;
        let Some(restored) = found.restored else { continue };
        let mut state = restored.partition;
        for one in state.forget(user) {
            *forgotten.entry((one.plugin, one.aggregate)).or_default() += one.entries;
        }
        states.insert(number, NewState { state, next_offset: restored.head.next_offset, term: found.term });
        member.check()?;
    }
    if states.is_empty() {
        bail!("the changelog {} holds no state yet", state_topics.changelog);
    }
    let limits = topic_limits(&topics, &config.kafka, &config.topics, Some(state_topics))?;
    let generation = member.membership()?.generation();
    let written = write(states, limits, generation)?;
    let mut rewrite =
        Rewrite { config, state_topics, topics: &topics, member: &mut member, input_partitions: partitions };
    let not_deleted = rewrite.run(&written)?;
    let mut output = std::io::stdout().lock();
    if forgotten.is_empty() {
        writeln!(output, "nothing is kept of the user {user:?}")?;
    }
    for ((plugin, aggregate), entries) in forgotten {
        writeln!(output, "{plugin}   {aggregate}: {entries} removed")?;
    }
    writeln!(
        output,
        "sums that don't name the user stay as they are, and sets that were given up for an estimate keep the user's share in it, which \
         names nobody; the topics {}, {}, {} and {} stay, too, and may still hold the user (rejected records have the bytes of the input)",
        config.topics.input, config.topics.processed, config.topics.rejected, config.topics.insights
    )?;
    if let Some(error) = not_deleted.first() {
        bail!("the user is in the state no more, but in old records that could not be deleted: {error}");
    }
    Ok(Exit::Done)
}
