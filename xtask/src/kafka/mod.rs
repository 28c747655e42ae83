//! A real Apache Kafka on this machine: in `KRaft` mode, on loopback only, from the jars on Maven Central.
//!
//! ```no_run
//! use xtask::kafka::{Kafka, Options};
//!
//! let mut kafka = Kafka::start(Options::default())?;
//! kafka.create_topic("user-login", 4, &[])?;
//! println!("{}", kafka.bootstrap());
//! kafka.restart()?; // on the same ports, with the same data
//! # anyhow::Ok(())
//! ```
//!
//! A Kafka that is dropped is gone, its processes and (unless [`Options::directory`] says where) its data; it also goes
//! when the program that started it ends in any other way. [`Kafka::detach`] lets it stay. It serves tests and
//! development: one machine, no security by the plain door, small heaps.

mod broker;
mod certificates;
mod java;
mod options;
mod ports;
mod protocol;
mod rights;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use self::broker::Broker;
pub use self::certificates::Certificates;
pub use self::java::{Java, KAFKA_VERSION};
pub use self::options::{Listener, Options, PLAIN, Security};
pub use self::ports::free_ports;
pub use self::rights::{Operation, Resource};
use crate::project;

/// How long brokers may take to be ready, on a busy machine.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// How long brokers may take to end by themselves. Of several that end together the last ones find no majority any more
/// and would wait in vain.
const ENDED_WITHIN: Duration = Duration::from_secs(15);

const PAUSE: Duration = Duration::from_millis(50);

/// A running Kafka of one or more brokers.
#[derive(Debug)]
pub struct Kafka {
    folder: PathBuf,
    options: Options,
    java: Java,
    /// A row for each broker: its ports for the controller, for the plain listener and for each other one.
    ports: Vec<Vec<u16>>,
    certificates: Option<Certificates>,
    brokers: Vec<Broker>,
    temporary: Option<tempfile::TempDir>,
}

/// Whether all that a Kafka needs of this machine is there: Java, the jars (fetched now if need be), `openssl`.
///
/// # Errors
/// One sentence that says what is missing and how to install it.
pub fn prepare() -> Result<()> {
    Java::prepare()?;
    certificates::can_be_made()
}

impl Kafka {
    /// Starts a Kafka and waits until all its brokers are ready. Data in the folder from an earlier one is kept.
    pub fn start(options: Options) -> Result<Self> {
        let java = Java::prepare()?;
        let (folder, temporary) = match &options.directory {
            Some(folder) => (std::path::absolute(folder)?, None),
            None => temporary_folder().map(|temporary| (temporary.path().to_owned(), Some(temporary)))?,
        };
        let certificates = options.needs_certificates().then(|| Certificates::make(folder.join("tls"))).transpose()?;
        let brokers = (1..=options.brokers).map(|number| Broker::new(broker_folder(&folder, number))).collect();
        let ports = Vec::new();
        let mut kafka = Self { folder, options, java, ports, certificates, brokers, temporary };
        kafka.start_on_free_ports()?;
        Ok(kafka)
    }

    /// The Kafka that an earlier program [left running](Self::detach) in a folder, or `None` if none of its brokers runs.
    pub fn find(folder: &Path) -> Result<Option<Self>> {
        let folder = std::path::absolute(folder)?;
        let ports = ports::read(&folder);
        let mut brokers: Vec<_> = (1..=ports.len()).map(|number| Broker::new(broker_folder(&folder, number))).collect();
        brokers.iter_mut().for_each(Broker::find);
        if !brokers.iter_mut().any(Broker::is_running) {
            return Ok(None);
        }
        let options = Options::default().brokers(brokers.len()).directory(&folder);
        let java = Java::prepare()?;
        Ok(Some(Self { folder, options, java, ports, certificates: None, brokers, temporary: None }))
    }

    /// Addresses of the plain listener, as clients take them: `HOST:PORT`, separated by commas.
    pub fn bootstrap(&self) -> String {
        self.addresses_in_column(1).join(",")
    }

    /// Addresses of the listener of that name, or an error if there is none.
    pub fn addresses(&self, listener: &str) -> Result<String> {
        if listener == PLAIN {
            return Ok(self.bootstrap());
        }
        let place = self.options.listeners.iter().position(|candidate| candidate.name() == listener);
        let place = place.ok_or_else(|| anyhow!("there is no listener {listener}"))?;
        Ok(self.addresses_in_column(2 + place).join(","))
    }

    /// The files a client needs for TLS, if a listener speaks it.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The log of a broker, numbered from 1.
    pub fn log(&self, broker: usize) -> PathBuf {
        broker_folder(&self.folder, broker).join("kafka.log")
    }

    /// Whether all brokers run.
    pub fn is_running(&mut self) -> bool {
        self.brokers.iter_mut().all(Broker::is_running)
    }

    /// Stops all brokers in an orderly way, within seconds; what is left then is killed.
    pub fn stop(&mut self) {
        self.brokers.iter_mut().for_each(Broker::terminate);
        let deadline = Instant::now() + ENDED_WITHIN;
        for broker in &mut self.brokers {
            broker.wait_or_kill(deadline);
        }
    }

    /// Ends all brokers at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.brokers.iter_mut().for_each(Broker::kill);
    }

    /// Stops what runs, then starts all brokers on the same ports with the same data, and waits until they are ready.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.spawn_all()?;
        self.wait_until_ready()
    }

    /// Stops one broker, numbered from 1, in an orderly way. Its leaderships have gone to others when it ends.
    pub fn stop_broker(&mut self, number: usize) -> Result<()> {
        let broker = self.broker(number)?;
        broker.terminate();
        broker.wait_or_kill(Instant::now() + ENDED_WITHIN);
        Ok(())
    }

    /// Ends one broker, numbered from 1, as `kill -9` does.
    pub fn kill_broker(&mut self, number: usize) -> Result<()> {
        self.broker(number)?.kill();
        Ok(())
    }

    /// Starts a broker that was stopped or killed, and waits until all are ready.
    pub fn start_broker(&mut self, number: usize) -> Result<()> {
        let (java, options) = (self.java.clone(), self.options.clone());
        let broker = self.broker(number)?;
        if broker.is_running() {
            bail!("broker {number} runs already");
        }
        broker.spawn(&java, &options)?;
        self.wait_until_ready()
    }

    /// Creates a topic and waits until every running broker knows a leader for each partition.
    ///
    /// # Errors
    /// If it exists, or the broker refuses name or configuration.
    pub fn create_topic(&mut self, name: &str, partitions: u16, configs: &[(&str, &str)]) -> Result<()> {
        protocol::create_topic(&self.any_address()?, name, i32::from(partitions), configs)?;
        let what = format!("topic {name}");
        self.wait_for_every_running(&what, |address| {
            protocol::metadata(address, Some(name)).is_ok_and(|known| known.led_partitions == usize::from(partitions))
        })
    }

    /// Gives a topic more partitions, so that it has so many.
    ///
    /// # Errors
    /// If there is no such topic, or it has as many already.
    pub fn add_partitions(&mut self, topic: &str, partitions: u16) -> Result<()> {
        protocol::add_partitions(&self.any_address()?, topic, i32::from(partitions))?;
        self.wait_for_every_running(&format!("new partitions of {topic}"), |address| {
            protocol::metadata(address, Some(topic)).is_ok_and(|known| known.led_partitions == usize::from(partitions))
        })
    }

    /// Deletes a topic and waits until no running broker knows it any more.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn delete_topic(&mut self, topic: &str) -> Result<()> {
        protocol::delete_topic(&self.any_address()?, topic)?;
        self.wait_for_every_running(&format!("deleting {topic}"), |address| {
            protocol::metadata(address, Some(topic)).is_ok_and(|known| known.led_partitions == 0)
        })
    }

    /// Gives a principal (`User:alice`, `User:CN=client`) a right. It has effect where [`Options::authorizer`] was chosen.
    pub fn allow(&mut self, principal: &str, operation: Operation, resource: Resource<'_>) -> Result<()> {
        let acl = rights::acl(principal, operation, resource);
        protocol::create_acl(&self.any_address()?, acl)
    }

    /// Lets the brokers run on after this program; [`Self::find`] finds them again.
    ///
    /// # Errors
    /// If their data lies in a temporary folder, which goes with this program.
    pub fn detach(mut self) -> Result<()> {
        if self.temporary.is_some() {
            bail!("a Kafka without a directory of its own cannot stay");
        }
        self.brokers.drain(..).for_each(Broker::detach);
        Ok(())
    }

    /// Starts on the ports of last time if they are free, else on others. Between finding a port free and a broker's
    /// taking it somebody else may come: then it is tried anew.
    fn start_on_free_ports(&mut self) -> Result<()> {
        const ATTEMPTS: usize = 3;
        for attempt in 1..=ATTEMPTS {
            self.ports = ports::choose(&self.folder, &self.options)?;
            self.configure()?;
            self.spawn_all()?;
            let Err(error) = self.wait_until_ready() else { break };
            self.kill();
            if attempt == ATTEMPTS || !self.brokers.iter().any(Broker::found_its_port_taken) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn configure(&mut self) -> Result<()> {
        for (number, broker) in self.brokers.iter().enumerate() {
            let data = broker.data().to_string_lossy().into_owned();
            let certificates = self.certificates.as_ref();
            broker.configure(&options::server_properties(&self.options, number, &self.ports, &data, certificates))?;
        }
        let formatters = self.brokers.iter().filter_map(|broker| broker.formatter(&self.java, &self.options));
        broker::format_all(formatters.collect())
    }

    fn spawn_all(&mut self) -> Result<()> {
        self.brokers.iter_mut().try_for_each(|broker| broker.spawn(&self.java, &self.options))
    }

    /// A broker is ready when it answers and knows a controller and all brokers that run.
    fn wait_until_ready(&mut self) -> Result<()> {
        let running = self.brokers.iter().filter(|broker| !broker.is_down()).count();
        self.wait_for_every_running("the start", |address| {
            protocol::metadata(address, None).is_ok_and(|known| known.has_controller && known.brokers >= running)
        })
    }

    fn wait_for_every_running(&mut self, what: &str, is_done: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let addresses = self.addresses_in_column(1);
        for (broker, address) in self.brokers.iter_mut().zip(addresses) {
            if broker.is_down() {
                continue;
            }
            while !is_done(&address) {
                broker.check_alive()?;
                if Instant::now() > deadline {
                    bail!(
                        "Kafka isn't done with {what} after {READY_WITHIN:?}; its log closes with\n{}",
                        broker.last_words()
                    );
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn broker(&mut self, number: usize) -> Result<&mut Broker> {
        let count = self.brokers.len();
        let place = number.checked_sub(1).and_then(|place| self.brokers.get_mut(place));
        place.with_context(|| format!("there is no broker {number}, only 1 to {count}"))
    }

    /// The plain address of a broker that runs.
    fn any_address(&mut self) -> Result<String> {
        let addresses = self.addresses_in_column(1);
        let mut both = self.brokers.iter_mut().zip(addresses);
        both.find_map(|(broker, address)| broker.is_running().then_some(address)).context("no broker runs")
    }

    fn addresses_in_column(&self, column: usize) -> Vec<String> {
        self.ports.iter().filter_map(|row| row.get(column)).map(|port| options::loopback(*port)).collect()
    }
}

impl Drop for Kafka {
    /// A test that fails leaves the logs to be read. The brokers end by themselves, before their folder goes.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(temporary) = self.temporary.take()
        {
            eprintln!("Kafka's logs and data stay in {}", temporary.keep().display());
        }
    }
}

fn broker_folder(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("broker-{number}"))
}

/// A new folder below `target/kafka`. Those of programs that were killed are removed first.
fn temporary_folder() -> Result<tempfile::TempDir> {
    let parent = project::target().join("kafka");
    std::fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    for entry in std::fs::read_dir(&parent)?.flatten() {
        if owner_is_gone(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("run-{}-", std::process::id());
    Ok(tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent)?)
}

/// Whether a folder's name is that of a temporary one whose program runs no more.
fn owner_is_gone(name: &str) -> bool {
    let owner = name.strip_prefix("run-").and_then(|rest| rest.split_once('-')).and_then(|(pid, _)| pid.parse().ok());
    let owner = owner.and_then(rustix::process::Pid::from_raw);
    owner.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_folders_of_ended_programs_are_removed() {
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        assert!(owner_is_gone(&format!("run-{}-AbC", ended.id())));
        assert!(!owner_is_gone(&format!("run-{}-AbC", std::process::id())));
        for name in ["development", "libs-4.1.0", "run-x-y", "run-1"] {
            assert!(!owner_is_gone(name), "{name}");
        }
    }

    #[test]
    fn where_nothing_runs_nothing_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Kafka::find(folder.path()).unwrap().is_none());
        std::fs::write(folder.path().join("ports"), "1 2").unwrap();
        assert!(Kafka::find(folder.path()).unwrap().is_none());
    }
}
