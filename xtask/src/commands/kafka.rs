//! `cargo xtask kafka …`: a Kafka that stays until it is stopped, in `target/kafka/development`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use xtask::kafka::{KAFKA_VERSION, Kafka, Options};
use xtask::project;

/// A real Apache Kafka on this machine, listening on loopback only.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Arguments {
    /// Start it, if it doesn't run yet, and print its address
    Start {
        /// Forget the data of earlier times
        #[arg(long)]
        fresh: bool,
        /// How many brokers
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
        brokers: u8,
        /// A property of the brokers' configuration
        #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
        properties: Vec<(String, String)>,
    },
    /// Stop it; its data stays
    Stop,
    /// Print its address if it runs; exit with 1 if it doesn't
    Status,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments {
        Arguments::Start { fresh, brokers, properties } => start(fresh, usize::from(brokers), &properties),
        Arguments::Stop => stop(),
        Arguments::Status => status(),
    }
}

fn folder() -> PathBuf {
    project::target().join("kafka/development")
}

fn start(fresh: bool, brokers: usize, properties: &[(String, String)]) -> Result<ExitCode> {
    if let Some(mut kafka) = Kafka::find(&folder())? {
        if kafka.is_running() && !fresh {
            eprintln!("Kafka runs already");
            println!("{}", kafka.bootstrap());
            return Ok(ExitCode::SUCCESS);
        }
        kafka.stop();
    }
    if fresh && folder().exists() {
        std::fs::remove_dir_all(folder()).with_context(|| format!("cannot remove {}", folder().display()))?;
    }
    let options = Options::default().directory(folder()).brokers(brokers);
    let options = properties.iter().fold(options, |options, (name, value)| options.property(name, value));
    let kafka = Kafka::start(options)?;
    eprintln!("Kafka {KAFKA_VERSION} runs; logs and data are in {}", folder().display());
    println!("{}", kafka.bootstrap());
    kafka.detach()?;
    Ok(ExitCode::SUCCESS)
}

fn stop() -> Result<ExitCode> {
    match Kafka::find(&folder())? {
        Some(mut kafka) => {
            kafka.stop();
            eprintln!("Kafka is stopped");
        }
        None => eprintln!("Kafka doesn't run"),
    }
    Ok(ExitCode::SUCCESS)
}

fn status() -> Result<ExitCode> {
    let Some(kafka) = Kafka::find(&folder())? else {
        eprintln!("Kafka doesn't run");
        return Ok(ExitCode::FAILURE);
    };
    println!("{}", kafka.bootstrap());
    Ok(ExitCode::SUCCESS)
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_may_have_an_equals_sign_in_its_value() {
        assert_eq!(property("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(property("a.b").is_err());
    }
}
