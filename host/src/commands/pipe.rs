//! `loginscope pipe`: logins from standard input, one a line, to standard output, without Kafka.
//!
//! Standard input is partition 0 of a topic without record timestamps: the line's number, from 0, is the offset. Lines
//! end with LF alone; an empty one is a message, too, and so is a last one without LF.
//!
//! A signal ends it between two lines: what has been judged is written and the state saved, and what came of an unfinished
//! line is left to the next run. So does a plugin that fails on a line, where its policy is to stop: nobody could mend it meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine as _;
use loginscope_state::Partition;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::signals::Signals;
use crate::cli::Exit;
use crate::config::{ConfigError, PipelineConfig};
use crate::pipeline::batch::OutputLimits;
use crate::pipeline::batch::PartitionState;
use crate::pipeline::plugins::PluginSet;
use crate::pipeline::{Chain, Message, Output, Pipeline, Rejected, TotalsBoard};

/// How much is read at a time, in bytes. Lines that are there are judged at once, so that a slow source sees its
/// answers; a fast one is judged some thousand lines at a time.
const READ_BYTES: usize = 1 << 20;

/// How often it looks for a signal while nothing comes.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// The files of a run beside standard input and output.
pub struct Files {
    /// Where insights go; nowhere if not given.
    pub insights: Option<PathBuf>,
    /// Where rejected lines go; counted on standard error if not given, or where logins went on without a plugin.
    pub rejected: Option<PathBuf>,
    /// The folder in which the state is kept from run to run.
    pub state: Option<PathBuf>,
}

/// Pipes standard input to standard output.
pub fn run(config: &PipelineConfig, files: &Files) -> Result<Exit> {
    let signals = Signals::listen()?;
    let chain = Arc::new(PluginSet::from_config(config)?.load_at_start()?);
    let limits = OutputLimits { value_bytes: config.max_message_bytes as usize, record_bytes: usize::MAX };
    let stored = files.state.as_deref().map(StateFile::open).transpose()?;
    let (next_offset, state) = match stored.as_ref().and_then(|file| file.content.as_deref()) {
        Some(content) => restore(content, &chain, config.insight_every)?,
        None => (0, Partition::new(Arc::clone(&chain.catalog), config.insight_every)),
    };
    let mut pipe = Pipe {
        pipeline: Pipeline::new(Arc::clone(&chain), limits)?.without_breakers(),
        partition: PartitionState {
            topic: config.input_topic.as_str().into(),
            number: 0,
            has_siblings: false,
            state: Box::new(state),
        },
        totals: TotalsBoard::default(),
        next_offset,
        output: Output::default(),
        sinks: Sinks::open(files)?,
        stopped: None,
    };
    let exit = pipe.read_to_end(io::stdin().lock(), &signals)?;
    pipe.sinks.finish();
    if let Some(file) = stored {
        file.save(pipe.next_offset, &pipe.partition.state)?;
    }
    pipe.stopped.map_or(Ok(exit), |reason| Err(anyhow::anyhow!(reason)))
}

struct Pipe {
    pipeline: Pipeline,
    partition: PartitionState,
    totals: TotalsBoard,
    next_offset: i64,
    output: Output,
    sinks: Sinks,
    /// Why it was stopped before the line at `next_offset`.
    stopped: Option<String>,
}

impl Pipe {
    /// Judges all lines, or those until a signal comes.
    fn read_to_end(&mut self, mut input: impl Read + AsFd, signals: &Signals) -> Result<Exit> {
        let mut buffer: Vec<u8> = Vec::new();
        while self.stopped.is_none() {
            if let Some(exit) = signals.received() {
                return Ok(exit);
            }
            let Some(start) = read_more(&mut input, &mut buffer).context("cannot read standard input")? else {
                continue;
            };
            if start == buffer.len() {
                break;
            }
            // Only what was just read can hold the end of a line.
            let fresh = buffer.get(start..).unwrap_or_default();
            if let Some(last) = fresh.iter().rposition(|byte| *byte == b'\n') {
                let complete = start + last;
                self.judge(buffer.get(..complete).unwrap_or_default())?;
                buffer.drain(..=complete);
            }
        }
        if !buffer.is_empty() && self.stopped.is_none() {
            self.judge(&buffer)?;
        }
        Ok(Exit::Done)
    }

    /// Judges lines that are divided by LF.
    fn judge(&mut self, lines: &[u8]) -> Result<()> {
        let messages: Vec<Message<'_>> = (self.next_offset..)
            .zip(lines.split(|byte| *byte == b'\n'))
            .map(|(offset, line)| Message { offset, payload: Some(line), ..Message::default() })
            .collect();
        self.output.clear();
        self.pipeline.process(&mut self.partition, &messages, &self.totals, Instant::now(), &mut self.output);
        let stopped = self.output.stopped.as_ref();
        self.next_offset += stopped.map_or(messages.len(), |stopped| stopped.message) as i64;
        self.stopped = stopped.map(|stopped| {
            format!(
                "{} fails on the line at offset {}, and its policy is on_failure = \"stop\": {}; all before that is done, and nothing \
                 of it or behind it",
                self.pipeline.plugin_label(stopped.plugin),
                self.next_offset,
                stopped.reason
            )
        });
        self.sinks.write(&self.pipeline, &messages, &self.output)
    }
}

/// Appends what there is to read, and answers where it begins in the buffer: at its end if the input has ended. `None` if
/// nothing has come yet.
fn read_more(input: &mut (impl Read + AsFd), buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(SIGNAL_INTERVAL.subsec_nanos()) };
    match poll(&mut [PollFd::new(&*input, PollFlags::IN)], Some(&wait)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let start = buffer.len();
    buffer.resize(start + READ_BYTES, 0);
    let read = input.read(buffer.get_mut(start..).unwrap_or_default());
    buffer.truncate(start + read.as_ref().map_or(0, |read| *read));
    match read {
        Ok(_) => Ok(Some(start)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where everything goes.
struct Sinks {
    processed: BufWriter<io::StdoutLock<'static>>,
    insights: Option<BufWriter<File>>,
    rejected: Option<BufWriter<File>>,
    processed_count: u64,
    insight_count: u64,
    rejected_count: BTreeMap<String, u64>,
    /// By plugin, how many logins went on without it.
    bypassed_count: BTreeMap<String, u64>,
}

impl Sinks {
    fn open(files: &Files) -> Result<Self> {
        let create = |path: &PathBuf| {
            File::create(path).map(BufWriter::new).with_context(|| format!("cannot write to {}", path.display()))
        };
        let insights = files.insights.as_ref().map(create).transpose()?;
        let rejected = files.rejected.as_ref().map(create).transpose()?;
        refuse_same_file(insights.as_ref(), rejected.as_ref())?;
        Ok(Self {
            processed: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            insights,
            rejected,
            processed_count: 0,
            insight_count: 0,
            rejected_count: BTreeMap::new(),
            bypassed_count: BTreeMap::new(),
        })
    }

    fn write(&mut self, pipeline: &Pipeline, messages: &[Message<'_>], output: &Output) -> Result<()> {
        for (_, value, _) in output.processed_logins() {
            self.processed.write_all(value)?;
            self.processed.write_all(b"\n")?;
        }
        self.processed.flush()?;
        self.processed_count += output.processed.len() as u64;
        self.insight_count += output.insights.len() as u64;
        if let Some(file) = &mut self.insights {
            for insight in &output.insights {
                writeln!(file, "{}", insight.value).context("cannot write insights")?;
            }
            file.flush().context("cannot write insights")?;
        }
        for (message, rejected) in &output.rejected {
            *self.rejected_count.entry(rejected.rejection.code.to_string()).or_default() += 1;
            if let (Some(file), Some(message)) = (&mut self.rejected, messages.get(*message)) {
                write_rejected(file, pipeline, message, rejected).context("cannot write rejected logins")?;
            }
        }
        if let Some(file) = &mut self.rejected {
            file.flush().context("cannot write rejected logins")?;
        }
        for (_, plugin) in &output.bypassed {
            *self.bypassed_count.entry(pipeline.plugin_label(*plugin).into_owned()).or_default() += 1;
        }
        for failure in &output.failures {
            tracing::warn!(plugin = %pipeline.plugin_label(failure.plugin), "plugin call failed: {}", failure.reason);
        }
        Ok(())
    }

    fn finish(&self) {
        if self.rejected.is_none() || !self.bypassed_count.is_empty() {
            let bypassed: Vec<String> =
                self.bypassed_count.iter().map(|(plugin, count)| format!(", {count} without {plugin}")).collect();
            let bypassed = bypassed.concat();
            let rejected: u64 = self.rejected_count.values().sum();
            let codes: Vec<String> =
                self.rejected_count.iter().map(|(code, count)| format!("{code} {count}")).collect();
            let codes = if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
            eprintln!(
                "loginscope: {} logins accepted, {rejected} rejected{codes}, {} insights{bypassed}",
                self.processed_count, self.insight_count
            );
        }
    }
}

/// Two outputs in one file would write over each other.
fn refuse_same_file(insights: Option<&BufWriter<File>>, rejected: Option<&BufWriter<File>>) -> Result<()> {
    let regular = |metadata: io::Result<std::fs::Metadata>| {
        metadata.ok().filter(std::fs::Metadata::is_file).map(|file| (file.dev(), file.ino()))
    };
    let file = |writer: Option<&BufWriter<File>>| writer.and_then(|writer| regular(writer.get_ref().metadata()));
    let outputs = [
        ("standard output", regular(std::fs::metadata("/dev/stdout"))),
        ("--insights", file(insights)),
        ("--rejected", file(rejected)),
    ];
    for (place, (name, output)) in outputs.iter().enumerate() {
        let twin = outputs.iter().take(place).find(|(_, earlier)| output.is_some() && earlier == output);
        if let Some((earlier, _)) = twin {
            let reason = format!("{name}: the file is also that of {earlier}; allowed is a file of its own");
            return Err(ConfigError(reason).into());
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct RejectedLine<'a> {
    code: &'a str,
    reason: &'a str,
    stage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<&'a str>,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
}

fn write_rejected(
    file: &mut impl Write,
    pipeline: &Pipeline,
    message: &Message<'_>,
    rejected: &Rejected,
) -> io::Result<()> {
    let payload = message.payload.unwrap_or_default();
    let raw = std::str::from_utf8(payload).ok();
    let plugin = rejected.plugin.map(|plugin| pipeline.plugin_label(plugin));
    let line = RejectedLine {
        code: &rejected.rejection.code,
        reason: &rejected.rejection.reason,
        stage: rejected.stage.as_str(),
        plugin: plugin.as_deref(),
        offset: message.offset,
        raw,
        raw_base64: raw.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(payload)),
    };
    serde_json::to_writer(&mut *file, &line)?;
    file.write_all(b"\n")
}

/// The state of a run, kept for the next one: the next offset (8 bytes, little endian), then the partition's state.
struct StateFile {
    path: PathBuf,
    content: Option<Vec<u8>>,
}

impl StateFile {
    fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
        let path = folder.join("pipe.state");
        let content = match std::fs::read(&path) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self { path, content })
    }

    /// Saves the state so that, whatever happens, either the old or the new one is there.
    fn save(&self, next_offset: i64, state: &Partition) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let temporary = self.path.with_extension("state.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(&next_offset.to_le_bytes())?;
            file.write_all(&state.to_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| format!("cannot save the state to {}", self.path.display()))
    }
}

fn restore(content: &[u8], chain: &Chain, insight_every: u32) -> Result<(i64, Partition)> {
    let (offset, state) = content.split_first_chunk::<8>().context("the state file is cut off")?;
    let mut state = Partition::from_bytes(state, Arc::clone(&chain.catalog))
        .context("the state file cannot be used with these plugins and settings")?;
    state.set_insight_every(insight_every);
    Ok((i64::from_le_bytes(*offset), state))
}
