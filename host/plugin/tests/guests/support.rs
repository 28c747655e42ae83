//! What the tests of this binary share.

use std::sync::OnceLock;
use std::time::Duration;

use loginscope_login::{Column, Logins, Schema, Slot, Value};
use loginscope_wasm::{Component, Engine, Enrichment, Failure, Instance, Limits, Plugin};

use crate::guests;

/// The one engine of all tests.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap())
}

/// The compiled guest `misbehave`.
pub(crate) fn misbehave() -> &'static Component {
    static GUEST: OnceLock<Component> = OnceLock::new();
    GUEST.get_or_init(|| engine().load(guests::misbehave(), "misbehave.wasm").unwrap())
}

/// Limits with so much time that even the busiest machine doesn't run out of it.
pub(crate) fn limits() -> Limits {
    let ample = Duration::from_mins(1);
    Limits { base_cpu: ample, generate_cpu: ample, load_cpu: ample, ..Limits::default() }
}

/// Limits with so little time that an endless loop ends soon.
pub(crate) fn short_limits() -> Limits {
    let short = Duration::from_millis(20);
    Limits { base_cpu: short, generate_cpu: short, load_cpu: Duration::from_millis(200), ..Limits::default() }
}

/// The guest with these settings.
pub(crate) fn plugin(settings: &str) -> Plugin {
    misbehave().configure(settings, &limits()).unwrap()
}

/// An instance of the guest that misbehaves like this in every call.
pub(crate) fn instance(how: &str) -> Instance {
    plugin(&format!(r#"{{"how":"{how}"}}"#)).instance()
}

/// Logins of these users, with nothing else in them.
pub(crate) fn logins_of(users: &[&str]) -> Logins {
    logins_with(&Schema::default(), users)
}

/// Logins of these users, with all other fields missing.
pub(crate) fn logins_with(schema: &Schema, users: &[&str]) -> Logins {
    let mut logins = Logins::new(schema);
    for (row, user) in users.iter().enumerate() {
        for (slot, column) in logins.columns_mut().iter_mut().enumerate() {
            column.push(if Slot(slot) == Slot::USER_ID { Value::Text(user) } else { Value::Missing });
        }
        logins.record_timestamps.push(None);
        logins.offsets.push(row as i64);
    }
    logins
}

/// Calls the enricher with nothing further to read and no history.
pub(crate) fn enrich(instance: &mut Instance, logins: &Logins) -> Result<Enrichment, Failure> {
    instance.enrich(logins, &[], &[])
}

/// The integers of a column.
pub(crate) fn integers(column: &Column) -> Vec<i64> {
    match column {
        Column::Integer(column) => column.values.clone(),
        other => panic!("{other:?} isn't a column of integers"),
    }
}

/// What the plugin broke of the contract.
pub(crate) fn breach<T: std::fmt::Debug>(answer: Result<T, Failure>) -> String {
    match answer {
        Err(Failure::BrokeContract { what }) => what,
        other => panic!("{other:?} isn't a breach of the contract"),
    }
}

/// The message of a trap.
pub(crate) fn trap<T: std::fmt::Debug>(answer: Result<T, Failure>) -> String {
    match answer {
        Err(Failure::Trapped { message }) => message,
        other => panic!("{other:?} isn't a trap"),
    }
}
