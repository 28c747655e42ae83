//! `cargo xtask …`: what this repository needs done beside building it.

mod commands;

use std::process::ExitCode;

use clap::Parser;

use commands::{bench, demo, kafka, plugins, proptest, soak, test};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "What this repository needs done beside building it")]
enum Command {
    /// Build and start the demo
    #[command(verbatim_doc_comment)]
    Demo(demo::Arguments),
    /// Run all tests, those on a real Kafka included
    Test(test::Arguments),
    /// Kill, hold and restart instances and brokers at random moments for so long, and judge what came of it
    Soak(soak::Arguments),
    /// Measure loginscope on a real Kafka, beside the programs it is compared with
    Bench(bench::Arguments),
    /// Build the default plugins into target/plugins/
    Plugins(plugins::Arguments),
    /// Start and stop a real Kafka
    #[command(subcommand)]
    Kafka(kafka::Arguments),
    /// Run the property tests of decoding and encoding with many cases
    Proptest(proptest::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Plugins(arguments) => plugins::run(arguments),
        Command::Kafka(arguments) => kafka::run(arguments),
        Command::Proptest(arguments) => proptest::run(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
