//! `loginscope demo`: everything in one process: a broker, a generator, the pipeline, and a live view.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use loginscope_kafka::{ClientSettings, EmbeddedBroker, Producer, ProducerOptions, StartPosition};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use serde_json::Value;

use super::generate::{self, Pace};
use super::signals::Signals;
use crate::application::{Application, Settings, StateTopics, TopicLimits, TopicNames, prepare_topics};
use crate::cli::Exit;
use crate::comparator::report::Tolerance;
use crate::config::PipelineConfig;
use crate::control::deploy::Deployer;
use crate::control::status;
use crate::control::swap::Swapper;
use crate::control::watch::Watched;
use crate::generator::{Generator, Options};
use crate::log;
use crate::pipeline::delivery::Guarantee;
use crate::pipeline::plugins::PluginSet;
use crate::pipeline::serving::Serving;
use crate::telemetry::{Counts, Telemetry};
use crate::view::{self, Picture};

/// The consumer group.
const GROUP: &str = "loginscope";

/// Partitions of the input topic.
const PARTITIONS: i32 = 2;

/// The embedded broker keeps 5 MiB of a partition and drops older messages without a word, so the generator waits when so many
/// of one partition are still to be read.
const MOST_LAG: u64 = 10_000;

/// How long new plugins are on probation.
const PROBATION: Duration = Duration::from_mins(1);

/// How often the view is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// What the demo is asked to do.
pub struct Demo {
    /// The plugins and how they are used.
    pub pipeline: PipelineConfig,
    /// A real Kafka to use in place of the embedded broker.
    pub kafka: Option<ClientSettings>,
    /// The topics.
    pub topics: TopicNames,
    /// Ends by itself after so long.
    pub time: Option<Duration>,
    /// What the generator does. It ends the demo when its count is reached.
    pub pace: Pace,
    /// What logins it makes.
    pub logins: Options,
}

/// Runs the demo until its end, Ctrl-C or `q`.
pub fn run(demo: &Demo) -> Result<Exit> {
    let telemetry = Arc::new(Telemetry::default());
    let plugins = PluginSet::from_config(&demo.pipeline)?;
    let chain = plugins.load_at_start()?;
    let labels: Vec<String> = chain.plugins.iter().map(|plugin| plugin.label().to_owned()).collect();
    let topics = demo.topics.clone();
    let broker = if demo.kafka.is_none() { Some(start_broker(&topics)?) } else { None };
    let kafka = match (&demo.kafka, &broker) {
        (Some(kafka), _) => kafka.clone(),
        (None, Some(broker)) => broker.settings(),
        (None, None) => anyhow::bail!("there is no broker"),
    };
    // The embedded broker has no transactions for consumer groups, and forgets everything in the end.
    let (partitions, limits, guarantee, state_topics) = if demo.kafka.is_some() {
        let state_topics = StateTopics::of_group(GROUP);
        let max_message_bytes = demo.pipeline.max_message_bytes;
        let (partitions, limits) = prepare_topics(&kafka, &topics, Some(&state_topics), max_message_bytes, true)?;
        (partitions, limits, Guarantee::ExactlyOnce, Some(state_topics))
    } else {
        (PARTITIONS, TopicLimits::for_messages(demo.pipeline.max_message_bytes), Guarantee::AtLeastOnce, None)
    };
    let serving = Arc::new(Serving::new(chain));
    let swapper = Swapper::new(&serving, &telemetry, &demo.pipeline, Tolerance::default(), PROBATION);
    let deployer = Arc::new(Deployer { plugins: Arc::new(plugins), swapper });
    let _watcher = Watched::new(&deployer, None).follow()?;
    let application = Application::start(
        &Settings {
            kafka: kafka.clone(),
            topics: topics.clone(),
            group: GROUP.to_owned(),
            instance: None,
            state_topics,
            start: StartPosition::Earliest,
            workers: 1,
            insight_every: demo.pipeline.insight_every,
            max_message_bytes: demo.pipeline.max_message_bytes,
            source_headers: false,
            plugins_header: false,
            commit_interval: Duration::from_millis(100),
            guarantee,
            drain_timeout: Duration::from_secs(10),
            limits,
            partitions,
        },
        &serving,
        Arc::clone(&telemetry),
    )?;
    let feeder = Feeder::start(demo, kafka.clone(), topics.input, Arc::clone(&telemetry))?;
    let picture = Picture {
        headline: format!("loginscope demo · kcat -C -b {} -t {}", kafka.brokers, topics.insights),
        plugins: labels,
        generation: 1,
        ..Picture::default()
    };
    let mut show = Show { picture, telemetry: Arc::clone(&telemetry), last: (Instant::now(), Counts::default()) };
    let finished = || feeder.is_done(&telemetry) || demo.time.is_some_and(|time| feeder.begin.elapsed() >= time);
    let exit = if std::io::stdout().is_terminal() {
        show.on_terminal(&application, &serving, &finished)
    } else {
        show.as_lines(&application, &finished)
    };
    feeder.stop();
    application.stop(Duration::from_secs(10))?;
    let counts = telemetry.counts();
    println!("{} accepted, {} rejected, {} insights", counts.processed, counts.rejected_total(), counts.insights);
    exit
}

fn start_broker(topics: &TopicNames) -> Result<EmbeddedBroker> {
    let broker = EmbeddedBroker::start()?;
    for topic in [&topics.input, &topics.processed, &topics.insights, &topics.rejected] {
        broker.create_topic(topic, PARTITIONS)?;
    }
    Ok(broker)
}

/// The generator's thread.
struct Feeder {
    begin: Instant,
    stop: Arc<AtomicBool>,
    sent: Arc<std::sync::atomic::AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Feeder {
    fn start(demo: &Demo, kafka: ClientSettings, topic: String, telemetry: Arc<Telemetry>) -> Result<Self> {
        let mut generator = Generator::new(demo.logins).context("the generator's options don't go together")?;
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (pace, stopped, counter, done) = (demo.pace, Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&ended));
        let feed = move || -> Result<()> {
            let mut producer = Producer::new(&kafka, ProducerOptions::default())?;
            let stopped = || stopped.load(Ordering::Relaxed);
            generate::drive(&mut generator, pace, &stopped, &mut |made, end_of_slice| {
                generate::send(&mut producer, &topic, made, &stopped)?;
                let sent = counter.fetch_add(1, Ordering::Relaxed) + 1;
                while end_of_slice && sent.saturating_sub(telemetry.messages()) > MOST_LAG && !stopped() {
                    std::thread::sleep(Duration::from_millis(2));
                    producer.acknowledged()?;
                }
                Ok(())
            })?;
            producer.flush(Duration::from_secs(10))?;
            done.store(true, Ordering::Relaxed);
            Ok(())
        };
        let thread = std::thread::Builder::new()
            .name("generator".to_owned())
            .spawn(feed)
            .context("cannot start the generator's thread")?;
        Ok(Self { begin: Instant::now(), stop, sent, ended, thread })
    }

    /// Whether everything that was sent has been judged.
    fn is_done(&self, telemetry: &Telemetry) -> bool {
        self.ended.load(Ordering::Relaxed) && telemetry.messages() >= self.sent.load(Ordering::Relaxed)
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the generator failed: {error:#}"),
            Err(_) => tracing::error!("the generator panicked"),
        }
    }
}

/// What is shown, and where the numbers come from.
struct Show {
    picture: Picture,
    telemetry: Arc<Telemetry>,
    last: (Instant, Counts),
}

impl Show {
    /// Brings the picture up to date; once a second, the rate.
    fn refresh(&mut self) {
        let counts = self.telemetry.counts();
        let elapsed = self.last.0.elapsed();
        self.picture.accepted = counts.processed;
        self.picture.rejected = counts.rejected.clone();
        self.picture.insights = counts.insights;
        self.picture.lag = counts.lag();
        if let Some(insight) = self.telemetry.latest_insight() {
            self.picture.insight = serde_json::from_str::<Value>(&insight.value).ok();
        }
        if elapsed >= Duration::from_secs(1) {
            let new = counts.messages() - self.last.1.messages();
            self.picture.push_rate((new as f64 / elapsed.as_secs_f64()).round() as u64);
            self.last = (Instant::now(), counts);
        }
    }

    fn on_terminal(
        &mut self,
        application: &Application,
        serving: &Serving,
        finished: &dyn Fn() -> bool,
    ) -> Result<Exit> {
        let signals = Signals::listen()?;
        let _held = log::Hold::new();
        let mut terminal = ratatui::try_init().context("cannot take the terminal over")?;
        let ended = loop {
            self.refresh();
            let generation = serving.load();
            self.picture.generation = generation.number;
            self.picture.plugins = generation.chain.plugins.iter().map(|plugin| plugin.label().to_owned()).collect();
            if let Err(error) = terminal.draw(|frame| view::draw(frame, &self.picture)) {
                break Err(error.into());
            }
            match key_pressed() {
                Ok(None) => {}
                Ok(Some(exit)) => break Ok(exit),
                Err(error) => break Err(error),
            }
            if let Some(exit) = signals.received() {
                break Ok(exit);
            }
            if let Some(error) = application.failure(Duration::ZERO) {
                break Err(error);
            }
            if finished() {
                break Ok(Exit::Done);
            }
        };
        ratatui::restore();
        ended
    }

    fn as_lines(&mut self, application: &Application, finished: &dyn Fn() -> bool) -> Result<Exit> {
        println!("{}", self.picture.headline);
        let signals = Signals::listen()?;
        let mut shown = String::new();
        let mut last_line = (Instant::now(), Counts::default());
        loop {
            std::thread::sleep(FRAME);
            if let Some(insight) = self.telemetry.latest_insight().filter(|insight| insight.value != shown) {
                println!("{}", insight.value);
                shown = insight.value;
            }
            if last_line.0.elapsed() >= Duration::from_secs(1) {
                let counts = self.telemetry.counts();
                println!("{}", status::line(&last_line.1, &counts, last_line.0.elapsed()));
                last_line = (Instant::now(), counts);
            }
            if let Some(exit) = signals.received() {
                return Ok(exit);
            }
            if let Some(error) = application.failure(Duration::ZERO) {
                return Err(error);
            }
            if finished() {
                return Ok(Exit::Done);
            }
        }
    }
}

/// Waits one frame for a key that ends the demo.
fn key_pressed() -> Result<Option<Exit>> {
    if !event::poll(FRAME).context("cannot read the keyboard")? {
        return Ok(None);
    }
    Ok(match event::read().context("cannot read the keyboard")? {
        Event::Key(key) if key.code == KeyCode::Char('q') || key.code == KeyCode::Esc => Some(Exit::Done),
        Event::Key(key) if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) => {
            Some(Exit::Interrupted)
        }
        _ => None,
    })
}
