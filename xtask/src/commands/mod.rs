//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod kafka;
pub(crate) mod plugins;
pub(crate) mod proptest;
pub(crate) mod soak;
pub(crate) mod test;

use std::path::PathBuf;

use anyhow::Result;
use xtask::project;

/// Builds the host's program and says where it is.
pub(crate) fn build_host(release: bool) -> Result<PathBuf> {
    let mut command = project::cargo(&project::root());
    command.args(["build", "--package", "loginscope"]);
    let profile = if release { "release" } else { "debug" };
    if release {
        command.arg("--release");
    }
    let target = project::cargo_target();
    project::run(command.arg("--target-dir").arg(&target))?;
    Ok(target.join(profile).join("loginscope"))
}
