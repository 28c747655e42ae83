//! What the micro-benchmarks in `benches/` share: logins as the generator makes them, on their way through the default
//! plugins that the host carries inside.
//!
//! The program that measures whole processes on a real Kafka is in `main.rs`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use loginscope::generator::{Generator, Made, Options};
use loginscope::pipeline::batch::{OutputLimits, PartitionState};
use loginscope::pipeline::plugins::{DEFAULTS, PluginSet, PluginSource};
use loginscope::pipeline::{Chain, Message, Output, Pipeline, TotalsBoard};
use loginscope_login::Logins;
use loginscope_login::decode::{Decoder, InputFormat, Layouts};
use loginscope_state::Partition;

/// How many different users make the logins, in every benchmark that doesn't vary it.
pub const USERS: u64 = 200_000;

/// What all randomness comes from.
pub const SEED: u64 = 1;

/// Accepted logins in a window.
pub const WINDOW: u32 = 100;

/// The generator of all benchmarks: the same logins each time.
pub fn generator() -> Result<Generator> {
    Generator::new(Options { users: USERS, seed: SEED, ..Options::default() }).context("there are no such users")
}

/// The values of the first logins of the generator.
pub fn payloads(count: usize) -> Result<Vec<Vec<u8>>> {
    let (mut generator, mut made) = (generator()?, Made::default());
    let mut next = || {
        generator.make(&mut made);
        made.value.clone()
    };
    Ok((0..count).map(|_| next()).collect())
}

/// Payloads as messages of a partition, from this offset on.
pub fn messages(first_offset: i64, payloads: &[Vec<u8>]) -> Vec<Message<'_>> {
    (first_offset..)
        .zip(payloads)
        .map(|(offset, payload)| Message { offset, payload: Some(payload), timestamp_ms: None, header_bytes: 0 })
        .collect()
}

/// The default plugins.
pub fn chain() -> Result<Arc<Chain>> {
    let sources = DEFAULTS.iter().map(|(name, bytes)| PluginSource::Inside { name, bytes }).collect();
    Ok(Arc::new(PluginSet::new(sources, std::collections::BTreeMap::new(), InputFormat::default())?.load()?))
}

/// A partition in which nothing has happened yet.
pub fn partition(chain: &Chain) -> PartitionState {
    PartitionState {
        topic: "user-login".into(),
        number: 0,
        state: Box::new(Partition::new(Arc::clone(&chain.catalog), WINDOW)),
    }
}

/// A pipeline through this chain.
pub fn pipeline(chain: &Arc<Chain>) -> Result<Pipeline> {
    Ok(Pipeline::new(Arc::clone(chain), OutputLimits { value_bytes: 1 << 20, record_bytes: 1 << 20 })?)
}

/// Payloads as the columns that plugins are given. The generator's logins are all well-formed.
pub fn decoded(chain: &Chain, payloads: &[Vec<u8>]) -> Result<(Logins, Layouts)> {
    let mut decoder = Decoder::new(&chain.format, &chain.schema, &chain.set_names)?;
    let (mut logins, mut layouts) = (Logins::new(&chain.schema), Layouts::default());
    for (offset, payload) in (0..).zip(payloads) {
        let outcome = decoder.decode(Some(payload), offset, None, &mut logins, &mut layouts);
        outcome.map_err(|rejection| anyhow::anyhow!("a login was rejected: {}", rejection.reason))?;
    }
    Ok((logins, layouts))
}

/// How many bytes a login is larger in the output topics than in the input, insights included: the mean of the first
/// `count` logins.
pub fn added_bytes(count: usize) -> Result<usize> {
    let chain = chain()?;
    let (mut partition, mut output) = (partition(&chain), Output::default());
    let payloads = payloads(count)?;
    pipeline(&chain)?.process(&mut partition, &messages(0, &payloads), &TotalsBoard::default(), &mut output);
    let insights: usize = output.insights.iter().map(|insight| insight.key.len() + insight.value.len()).sum();
    let before: usize = payloads.iter().map(Vec::len).sum();
    Ok((output.values.len() + insights).saturating_sub(before) / count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_login_of_the_benchmarks_is_accepted() {
        let chain = chain().unwrap();
        let (mut partition, mut output) = (partition(&chain), Output::default());
        let payloads = payloads(1_000).unwrap();
        let messages = messages(0, &payloads);
        pipeline(&chain).unwrap().process(&mut partition, &messages, &TotalsBoard::default(), &mut output);
        assert_eq!((output.processed.len(), output.insights.len()), (1_000, 10));
        assert!(output.failures.is_empty(), "{:?}", output.failures);
    }

    #[test]
    fn logins_grow_by_what_is_found_out_about_them() {
        let added = added_bytes(1_000).unwrap();
        // The seven fields of `enrich-logins` alone.
        let least = r#""login_time":"2023-09-12T00:45:51Z","login_hour":"2023-09-12T00:00:00Z","ip_version":4"#.len();
        assert!((least..1_000).contains(&added), "{added}");
    }
}
