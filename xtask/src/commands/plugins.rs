//! `cargo xtask plugins`: the default plugins as components.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use xtask::plugins::{self, Builder};

/// Builds the default plugins into `target/plugins/`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Build with `cargo component` in place of plain cargo
    #[arg(long)]
    component: bool,

    /// Where the components go, in place of `target/plugins`
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let builder = if arguments.component { Builder::CargoComponent } else { Builder::Cargo };
    let output = arguments.out.unwrap_or_else(plugins::default_output);
    for component in plugins::build(&plugins::default_sources(), &output, builder)? {
        let note = if component.changed { "" } else { ", unchanged" };
        println!("{} ({} KiB{note})", component.path.display(), component.bytes.div_ceil(1024));
    }
    Ok(ExitCode::SUCCESS)
}
