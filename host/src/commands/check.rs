//! `loginscope check`: what would happen to a topic. It reads the newest messages and takes them through the pipeline in memory;
//! it joins no group, and neither writes nor creates anything.

mod report;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use loginscope_kafka::read::last_records;
use loginscope_kafka::{Error, MessageLimit, OwnedRecord, Topics};
use loginscope_state::Partition;

use crate::application::TopicLimits;
use crate::cli::Exit;
use crate::config::Config;
use crate::pipeline::batch::{OutputLimits, PartitionState};
use crate::pipeline::plugins::PluginSet;
use crate::pipeline::{Chain, Message, Output, Pipeline, TotalsBoard};
use report::{Example, Findings, OutputTopic, Presence, Verdicts};

/// How long brokers may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long reading the sample may take.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// How many messages are judged at a time.
const MAX_BATCH: usize = 4096;

/// What is assumed where a topic's limit can't be read, in bytes: as `run` does.
const ASSUMED_LIMIT: u32 = 1 << 20;

/// What a header takes beside name and value, in bytes.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// Looks at the topics, judges the newest `sample` messages of the input, and says what it found.
pub fn run(config: &Config, sample: usize) -> Result<Exit> {
    let chain = Arc::new(PluginSet::from_config(&config.pipeline)?.load_at_start()?);
    let topics = Topics::connect(&config.kafka, TIMEOUT)?;
    let input = &config.topics.input;
    let Some(partitions) = topics.partitions(input)? else {
        bail!("the topic {input} does not exist, so there is nothing to check");
    };
    let mut not_seen = Vec::new();
    let output_topics = look_at_outputs(config, &topics, &mut not_seen)?;
    let records = last_records(&config.kafka, input, sample, READ_TIMEOUT)?;
    let verdicts = judge(config, &chain, &output_topics, records)?;
    not_seen.push(format!(
        "whether it is allowed to write to these topics and to join the group {}: this shows only when it is done",
        config.group
    ));
    let findings = Findings {
        input: input.clone(),
        partitions,
        plugins: chain.plugins.iter().map(|plugin| plugin.label().to_owned()).collect(),
        insight_every: config.pipeline.insight_every,
        verdicts,
        creates_topics: config.create_topics,
        needed_bytes: TopicLimits::for_messages(config.pipeline.max_message_bytes).processed,
        output_topics,
        not_seen,
    };
    let mut output = std::io::stdout().lock();
    output.write_all(report::report(&findings).as_bytes())?;
    output.flush()?;
    Ok(Exit::Done)
}

/// Whether the output topics exist, and what they take.
fn look_at_outputs(config: &Config, topics: &Topics, not_seen: &mut Vec<String>) -> Result<Vec<OutputTopic>> {
    let mut names = vec![
        (report::Role::Processed, &config.topics.processed),
        (report::Role::Insights, &config.topics.insights),
        (report::Role::Rejected, &config.topics.rejected),
    ];
    names.extend(config.state_topics.as_ref().map(|topics| (report::Role::Changelog, &topics.changelog)));
    let mut found = Vec::new();
    for (role, name) in names {
        let presence = match topics.partitions(name) {
            Ok(None) => Presence::Missing,
            Ok(Some(partitions)) => Presence::There { partitions, limit: None },
            Err(error @ Error::NotAuthorized { .. }) => {
                not_seen.push(format!("the topic {name}: {error}"));
                Presence::Hidden
            }
            Err(error) => return Err(error.into()),
        };
        found.push(OutputTopic { role, name: name.clone(), presence });
    }
    let there: Vec<&str> = found
        .iter()
        .filter(|topic| matches!(topic.presence, Presence::There { .. }))
        .map(|topic| topic.name.as_str())
        .collect();
    let limits = if there.is_empty() { Vec::new() } else { topics.message_limits(&there)? };
    let names: Vec<String> = there.into_iter().map(str::to_owned).collect();
    for (name, answer) in names.iter().zip(limits) {
        match answer {
            MessageLimit::Unknown(reason) => not_seen.push(format!("max.message.bytes of {name}: {reason}")),
            MessageLimit::Known(bytes) => {
                for topic in found.iter_mut().filter(|topic| topic.name == *name) {
                    if let Presence::There { limit, .. } = &mut topic.presence {
                        *limit = Some(bytes);
                    }
                }
            }
        }
    }
    Ok(found)
}

/// What the topic of accepted logins takes, or would take once it was created.
fn processed_limit(config: &Config, topics: &[OutputTopic]) -> u32 {
    let processed = topics.iter().find(|topic| topic.role == report::Role::Processed);
    match processed.map(|topic| &topic.presence) {
        Some(Presence::There { limit: Some(bytes), .. }) => *bytes,
        Some(Presence::There { limit: None, .. } | Presence::Hidden) => ASSUMED_LIMIT,
        Some(Presence::Missing) | None => TopicLimits::for_messages(config.pipeline.max_message_bytes).processed,
    }
}

/// Takes the records through the pipeline, each partition's in their order and from a state that knows nothing.
fn judge(config: &Config, chain: &Arc<Chain>, topics: &[OutputTopic], records: Vec<OwnedRecord>) -> Result<Verdicts> {
    let limits = OutputLimits {
        value_bytes: config.pipeline.max_message_bytes as usize,
        record_bytes: processed_limit(config, topics) as usize,
    };
    let mut pipeline = Pipeline::new(Arc::clone(chain), limits)?.without_stops().without_breakers();
    let totals = TotalsBoard::default();
    let mut by_partition: BTreeMap<i32, Vec<OwnedRecord>> = BTreeMap::new();
    for record in records {
        by_partition.entry(record.partition).or_default().push(record);
    }
    let mut verdicts = Verdicts::default();
    let mut output = Output::default();
    for (number, mut records) in by_partition {
        records.sort_by_key(|record| record.offset);
        let mut partition = PartitionState {
            topic: config.pipeline.input_topic.as_str().into(),
            number,
            has_siblings: false,
            state: Box::new(Partition::new(Arc::clone(&chain.catalog), config.pipeline.insight_every)),
        };
        for batch in records.chunks(MAX_BATCH) {
            let messages: Vec<Message<'_>> = batch.iter().map(message).collect();
            output.clear();
            pipeline.process(&mut partition, &messages, &totals, Instant::now(), &mut output);
            count(&mut verdicts, &pipeline, batch, &output);
        }
    }
    Ok(verdicts)
}

/// The message that a record is to the pipeline. All its headers count, also the few that would not be carried over.
fn message(record: &OwnedRecord) -> Message<'_> {
    let header = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| {
        name.len() + value.as_ref().map_or(0, Vec::len) + HEADER_OVERHEAD_BYTES
    };
    Message {
        offset: record.offset,
        payload: record.payload.as_deref(),
        timestamp_ms: record.timestamp,
        key: record.key.as_deref(),
        header_bytes: record.headers.iter().map(header).sum(),
    }
}

fn count(verdicts: &mut Verdicts, pipeline: &Pipeline, batch: &[OwnedRecord], output: &Output) {
    verdicts.messages += batch.len() as u64;
    verdicts.insights += output.insights.len() as u64;
    for (place, _, user) in output.processed_logins() {
        let Some(record) = batch.get(place) else { continue };
        verdicts.accepted(record.partition, record.key.as_deref(), user);
    }
    for (place, rejected) in &output.rejected {
        let Some(record) = batch.get(*place) else { continue };
        verdicts.rejected(&rejected.rejection.code, || Example {
            reason: rejected.rejection.reason.clone(),
            partition: record.partition,
            offset: record.offset,
        });
    }
    for failure in &output.failures {
        verdicts.failed(&pipeline.plugin_label(failure.plugin), &failure.reason);
    }
}
