//! A changelog as the tests of commits have it: of partitions without aggregates, in a topic `changelog`.

use std::sync::Arc;
use std::time::Duration;

use loginscope_kafka::EmbeddedBroker;
use loginscope_kafka::read::last_records;
use loginscope_login::Schema;
use loginscope_state::{Catalog, Follower, Restored, Writer};

use super::{Home, Janitor, SnapshotSizes};

/// Of no aggregate.
pub(crate) fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::new(&[], &Schema::default()).unwrap())
}

/// Where the state is kept, in messages of at most so many bytes; totals are told only if there is a topic for them.
pub(crate) fn home(janitor: Janitor, totals: Option<&str>, max_bytes: usize) -> Home {
    Home {
        changelog: "changelog".into(),
        totals: totals.map(Into::into),
        writer: Writer { id: 1, max_bytes },
        janitor,
        snapshots: SnapshotSizes::default(),
    }
}

/// What the changelog on this broker tells. It shows aborted messages, too, which do no harm where nothing is counted by key.
pub(crate) fn restored(broker: &EmbeddedBroker, timeout: Duration) -> Restored {
    let mut follower = Follower::default();
    for record in last_records(&broker.settings(), "changelog", 1000, timeout).unwrap() {
        follower.read(record.offset, record.payload.as_ref().unwrap()).unwrap();
    }
    follower.finish(catalog()).unwrap().unwrap()
}
