//! The sections `[policy.NAME]`: what an operator decides about a plugin.

use std::time::Duration;

use super::ConfigError;
use super::file::ConfigFile;
use super::said::Said;
use super::sources::Sources;
use crate::pipeline::policy::{OnFailure, Policies, Policy};

/// The most that a plugin may be given of a size, in MiB: what 32-bit memories can have.
const MOST_MIB: u64 = 4096;

/// The longest time that a call may be given, in milliseconds.
const MOST_MILLISECONDS: u64 = 60_000;

/// What may be decided.
pub(super) const KEYS: [&str; 6] =
    ["on_failure", "digest", "cpu_ms_per_batch", "cpu_us_per_login", "memory_mib", "output_mib"];

/// The policies of plugins. Whether there are such plugins is known when they are loaded.
pub(super) fn policies(sources: &Sources<'_>) -> Result<Policies, ConfigError> {
    let mut policies = Policies::new();
    for (name, key, said) in sources.file().into_iter().flat_map(ConfigFile::policies) {
        read(policies.entry(name.to_owned()).or_default(), key, &said)?;
    }
    Ok(policies)
}

fn read(policy: &mut Policy, key: &str, said: &Said) -> Result<(), ConfigError> {
    let mebibytes = || Ok((said.number(1..=MOST_MIB)? as usize) << 20);
    match key {
        "on_failure" => policy.on_failure = said.parsed("reject, bypass or stop", on_failure)?,
        "digest" => {
            policy.digest = Some(said.parsed("sha256: and 64 hexadecimal digits", |text| text.parse().ok())?);
        }
        "cpu_ms_per_batch" => {
            policy.limits.base_cpu = Duration::from_millis(said.number(1..=MOST_MILLISECONDS)?);
        }
        "cpu_us_per_login" => {
            policy.limits.cpu_per_row = Duration::from_micros(said.number(1..=MOST_MILLISECONDS * 1000)?);
        }
        "memory_mib" => policy.limits.memory_bytes = mebibytes()?,
        "output_mib" => policy.limits.output_bytes = mebibytes()?,
        // The file has let no other through.
        _ => {}
    }
    Ok(())
}

fn on_failure(text: &str) -> Option<OnFailure> {
    match text {
        "reject" => Some(OnFailure::Reject),
        "bypass" => Some(OnFailure::Bypass),
        "stop" => Some(OnFailure::Stop),
        _ => None,
    }
}
