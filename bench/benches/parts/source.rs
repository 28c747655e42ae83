//! Logins as the generator makes them, on their way through the default plugins that the host carries inside.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use loginscope::generator::{Generator, Made, Options};
use loginscope::pipeline::batch::{OutputLimits, PartitionState};
use loginscope::pipeline::plugins::{DEFAULTS, PluginSet, PluginSource};
use loginscope::pipeline::{Chain, Message, Pipeline};
use loginscope_login::Logins;
use loginscope_login::decode::{Decoder, InputFormat, Layouts};
use loginscope_state::Partition;
use loginscope_tests::guests::misbehave;
use loginscope_tests::in_process::plugin_set;

/// How many different users make the logins, in every benchmark that doesn't vary it.
const USERS: u64 = 200_000;

/// Accepted logins in a window.
pub(crate) const WINDOW: u32 = 100;

/// The values of the first logins of the generator.
pub(crate) fn payloads(count: usize) -> Result<Vec<Vec<u8>>> {
    let options = Options { users: USERS, seed: 1, ..Options::default() };
    let (mut generator, mut made) = (Generator::new(options).context("there are no such users")?, Made::default());
    let mut next = || {
        generator.make(&mut made);
        made.value.clone()
    };
    Ok((0..count).map(|_| next()).collect())
}

/// Payloads as messages of a partition, from this offset on.
pub(crate) fn messages(first_offset: i64, payloads: &[Vec<u8>]) -> Vec<Message<'_>> {
    (first_offset..)
        .zip(payloads)
        .map(|(offset, payload)| Message { offset, payload: Some(payload), ..Message::default() })
        .collect()
}

/// The default plugins.
pub(crate) fn chain() -> Result<Arc<Chain>> {
    let sources = DEFAULTS.iter().map(|(name, bytes)| PluginSource::Inside { name, bytes }).collect();
    Ok(Arc::new(PluginSet::new(sources, std::collections::BTreeMap::new(), InputFormat::default())?.load()?))
}

/// The default plugins, and behind them an enricher that traps on each login of this user.
pub(crate) fn chain_with_a_trap(user: &str) -> Result<Arc<Chain>> {
    let mut plugins: Vec<&'static [u8]> = DEFAULTS.iter().map(|(_, bytes)| *bytes).collect();
    plugins.push(misbehave());
    let settings = serde_json::json!({ "how": "trap", "role": "enricher", "when_user": user });
    Ok(Arc::new(plugin_set(&plugins, [("misbehave".to_owned(), settings)].into()).load()?))
}

/// A partition in which nothing has happened yet.
pub(crate) fn partition(chain: &Chain) -> PartitionState {
    PartitionState {
        topic: "user-login".into(),
        number: 0,
        has_siblings: false,
        state: Box::new(Partition::new(Arc::clone(&chain.catalog), WINDOW)),
    }
}

/// A pipeline through this chain.
pub(crate) fn pipeline(chain: &Arc<Chain>) -> Result<Pipeline> {
    Ok(Pipeline::new(Arc::clone(chain), OutputLimits { value_bytes: 1 << 20, record_bytes: 1 << 20 })?)
}

/// Payloads as the columns that plugins are given. The generator's logins are all well-formed.
pub(crate) fn decoded(chain: &Chain, payloads: &[Vec<u8>]) -> Result<(Logins, Layouts)> {
    let mut decoder = Decoder::new(&chain.format, &chain.schema, &chain.set_names)?;
    let (mut logins, mut layouts) = (Logins::new(&chain.schema), Layouts::default());
    for (offset, payload) in (0..).zip(payloads) {
        let outcome = decoder.decode(Some(payload), offset, None, &mut logins, &mut layouts);
        outcome.map_err(|rejection| anyhow::anyhow!("a login was rejected: {}", rejection.reason))?;
    }
    Ok((logins, layouts))
}
