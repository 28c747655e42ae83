//! The state of a group as its changelog tells it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use loginscope_kafka::Topics;
use loginscope_state::{Catalog, Writer};

use super::TIMEOUT;
use crate::application::StateTopics;
use crate::config::Config;
use crate::pipeline::changelog::{Home, Janitor, SnapshotSizes};
use crate::pipeline::clients::Librdkafka;
use crate::pipeline::restore::{Found, Source, read_all};
use crate::pipeline::totals::TotalsBoard;

/// When it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// As it is, also where a rebuild of it has begun.
    Anytime,
    /// Not where a rebuild has begun and isn't finished.
    Finished,
}

/// These aggregates, where what isn't in a changelog isn't there: whoever only looks at a state, or takes something out of it, adds nothing to
/// it. A plugin that is to compute what it lacks would take an empty aggregate for one that has counted.
pub(super) fn as_it_is(catalog: &Catalog) -> Arc<Catalog> {
    Arc::new(catalog.clone().with_backfilled(|_, _| true))
}

/// The partitions, and for each what is found of it, or why that makes no state. `turned` is called often meanwhile.
///
/// # Errors
/// Where there is no changelog, or it can't be read, and those of `turned`.
pub(super) fn read(
    config: &Config,
    catalog: &Arc<Catalog>,
    when: Read,
    turned: &mut dyn FnMut() -> Result<()>,
) -> Result<BTreeMap<i32, Result<Found>>> {
    let topics = Topics::connect(&config.kafka, TIMEOUT)?;
    let StateTopics { changelog, totals, .. } = config.kept_state()?;
    let count = topics.partitions(changelog)?;
    let count = count
        .with_context(|| format!("there is no changelog {changelog}: the group {} keeps no state", config.group))?;
    let says_of_rebuild = when == Read::Finished && topics.partitions(totals)?.is_some();
    let (janitor, _nobody_serves) = Janitor::new();
    let home = Home {
        changelog: changelog.as_str().into(),
        totals: says_of_rebuild.then(|| totals.as_str().into()),
        // Nothing is written by it.
        writer: Writer { id: 0, max_bytes: 0 },
        janitor,
        snapshots: SnapshotSizes::default(),
    };
    let source = Source::<Librdkafka> {
        kafka: config.kafka.clone(),
        home,
        partitions: count,
        claims: false,
        patience: 0,
        totals: TotalsBoard::default(),
    };
    read_all(source, &(0..count).collect::<Vec<i32>>(), Arc::clone(catalog), turned)
}
