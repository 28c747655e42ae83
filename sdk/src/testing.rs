//! Made-up logins, histories and windows, to test a plugin natively as the host would call it.
//!
//! ```
//! use loginscope_plugin::prelude::*;
//! use loginscope_plugin::testing::Tested;
//!
//! struct Doubler { visits: Past<i64>, doubled: OutputField<i64> }
//!
//! impl Plugin for Doubler {
//!     type Settings = NoSettings;
//!     fn new(_: NoSettings, declare: &mut Declare) -> Result<Self, String> {
//!         let visits = declare.total("visits", Aggregate::count().by("user_id"));
//!         Ok(Self { visits: declare.history(visits.value()), doubled: declare.sets("doubled") })
//!     }
//! }
//! impl Enricher for Doubler {
//!     fn enrich(&self, _: &Login, history: &History, fields: &mut Fields) {
//!         if let Some(visits) = history.get(self.visits) {
//!             fields.set(self.doubled, 2 * visits);
//!         }
//!     }
//! }
//!
//! let plugin = Tested::<Doubler>::new("{}").unwrap();
//! let fields = plugin.enrich(&Login::builder().build(), &History::builder().with(plugin.visits, 21).build());
//! assert_eq!(fields.get(plugin.doubled), Some(42));
//! assert!(Tested::<Doubler>::new(r#"{"speed": 3}"#).is_err());
//! ```

mod entries;

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::ops::Deref;
use std::rc::Rc;

use crate::columns::Columns;
use crate::contract::{self, Description, FieldType, Listing, MalformedTimestamp, Period};
use crate::login::own;
use crate::runtime::{self, Instance};
use crate::window::Source;
use crate::written::{Written, pack};
use crate::{
    Enricher, Field, FieldValue, Fields, History, Insight, InsightGenerator, Login, Past, Plugin, Rejection, Summary,
    Total, Validator, WindowFacts, Windowed,
};
pub use entries::{MadeUpEntry, bucket_entry, entries, entry};

/// A plugin under test. It dereferences to the plugin, so that its keys are at hand.
pub struct Tested<P>(Instance<P>);

impl<P> Debug for Tested<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, formatter)
    }
}

impl<P: Plugin> Tested<P> {
    /// The plugin with these settings, a JSON object, read as the host has them read.
    ///
    /// # Errors
    /// The sentence that the user would see.
    pub fn new(settings: &str) -> Result<Self, String> {
        Instance::new(settings).map(Self)
    }
}

impl<P: Plugin> Deref for Tested<P> {
    type Target = P;

    fn deref(&self) -> &P {
        self.0.plugin()
    }
}

impl<P: Validator> Tested<P> {
    /// The verdict on a login.
    ///
    /// # Errors
    /// Why it isn't accepted.
    pub fn validate(&self, login: &Login) -> Result<(), Rejection> {
        self.0.plugin().validate(login)
    }
}

impl<P: Enricher> Tested<P> {
    /// What the plugin says about a login.
    pub fn enrich(&self, login: &Login, history: &History) -> Fields {
        let mut fields = Fields::of_types(self.0.declared().set_types());
        self.0.plugin().enrich(login, history, &mut fields);
        fields
    }
}

impl<P: InsightGenerator> Tested<P> {
    /// The insights of a window.
    pub fn generate(&self, window: WindowBuilder) -> Vec<Insight> {
        let WindowBuilder { window, readings } = window;
        let names = self.0.declared().aggregate_names().map(str::to_owned).collect();
        self.0.generate_from(window, Rc::new(MadeUp { names, readings }))
    }
}

/// Who the plugin says it is, in a crate of this name and version.
pub fn description<P: Plugin>(crate_name: &str, crate_version: &str) -> Description {
    runtime::description::<P>(crate_name, crate_version)
}

impl Login {
    /// A login to be made up field by field; what isn't said is missing.
    pub fn builder() -> LoginBuilder {
        let mut fields = vec![Written::empty(FieldType::Text); own::COUNT];
        for integer in [own::TIMESTAMP, own::RECORD_TIMESTAMP] {
            if let Some(column) = fields.get_mut(integer) {
                *column = Written::empty(FieldType::Integer);
            }
        }
        LoginBuilder { fields, malformed_timestamps: Vec::new() }
    }
}

/// A login in the making.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoginBuilder {
    /// A column for each field, of one row at most.
    fields: Vec<Written>,
    malformed_timestamps: Vec<MalformedTimestamp>,
}

macro_rules! text_setters {
    ($($(#[$doc:meta])* $name:ident at $column:ident)*) => {
        $(
            $(#[$doc])*
            pub fn $name(mut self, text: &str) -> Self {
                put::<str>(&mut self.fields, own::$column, text);
                self
            }
        )*
    };
}

impl LoginBuilder {
    text_setters! {
        /// Who logs in.
        user_id at USER_ID
        /// The address it comes from.
        ip at IP
        /// The kind of device.
        device_type at DEVICE_TYPE
        /// The device.
        device_id at DEVICE_ID
        /// The locale.
        locale at LOCALE
        /// The version of the app.
        app_version at APP_VERSION
        /// `success` or `failure`.
        outcome at OUTCOME
    }

    /// When, in epoch seconds.
    pub fn timestamp(mut self, seconds: i64) -> Self {
        put::<i64>(&mut self.fields, own::TIMESTAMP, seconds);
        self
    }

    /// A timestamp that is not a time.
    pub fn malformed_timestamp(mut self, text: &str) -> Self {
        self.malformed_timestamps = vec![MalformedTimestamp { row: 0, text: text.to_owned() }];
        self
    }

    /// The record's own timestamp, in epoch milliseconds.
    pub fn record_timestamp_ms(mut self, milliseconds: i64) -> Self {
        put::<i64>(&mut self.fields, own::RECORD_TIMESTAMP, milliseconds);
        self
    }

    /// A further field that the plugin reads.
    pub fn with<T: FieldValue + ?Sized>(mut self, field: Field<T>, value: T::Value<'_>) -> Self {
        put::<T>(&mut self.fields, own::COUNT + field.index(), value);
        self
    }

    /// The login.
    pub fn build(mut self) -> Login {
        let types = types(&self.fields);
        let columns = Columns::of_batch(pack(&mut self.fields, 1), 1, &own::ALL, &types);
        Login::first_of(Rc::new(columns), self.malformed_timestamps, 1)
    }
}

fn types(columns: &[Written]) -> Vec<FieldType> {
    columns.iter().map(Written::field_type).collect()
}

/// Gives the column at a place, which is added where it isn't there yet, a value in its first row.
fn put<T: FieldValue + ?Sized>(columns: &mut Vec<Written>, place: usize, value: T::Value<'_>) {
    if columns.len() <= place {
        columns.resize(place + 1, Written::empty(FieldType::Text));
    }
    if let Some(column) = columns.get_mut(place) {
        *column = Written::empty(T::TYPE);
        T::put(column, 0, value);
    }
}

impl History {
    /// A history to be made up look-up by look-up; what isn't said is missing.
    pub fn builder() -> HistoryBuilder {
        HistoryBuilder::default()
    }
}

/// A history in the making.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HistoryBuilder {
    columns: Vec<Written>,
}

impl HistoryBuilder {
    /// The answer to a look-up.
    pub fn with<T: FieldValue + ?Sized>(mut self, look_up: Past<T>, value: T::Value<'_>) -> Self {
        put::<T>(&mut self.columns, look_up.index(), value);
        self
    }

    /// The history.
    pub fn build(mut self) -> History {
        let types = types(&self.columns);
        History::first_of(Rc::new(Columns::new(pack(&mut self.columns, 1), 1, &types)), 0)
    }
}

/// A window in the making, with all that its aggregates and the totals say.
#[derive(Clone, Debug)]
#[must_use]
pub struct WindowBuilder {
    window: contract::Window,
    readings: Readings,
}

/// What aggregates say, by the index in their keys, and whether it is about the previous window.
type Readings = BTreeMap<(usize, bool), (Summary, Listing)>;

impl WindowBuilder {
    /// The first window of partition 0 of the topic `user-login`.
    pub fn new(facts: WindowFacts) -> Self {
        let window =
            contract::Window { topic: "user-login".to_owned(), partition: 0, number: 1, facts, previous: None };
        Self { window, readings: Readings::new() }
    }

    /// It comes after a window with these facts.
    pub fn after(mut self, previous: WindowFacts) -> Self {
        self.window.number += 1;
        self.window.previous = Some(previous);
        self
    }

    /// What an aggregate says about the window.
    pub fn window<M>(self, aggregate: Windowed<M>, entries: Vec<MadeUpEntry<'_>>) -> Self {
        self.reading(aggregate.index(), false, entries)
    }

    /// What an aggregate says about the window before.
    pub fn previous<M>(self, aggregate: Windowed<M>, entries: Vec<MadeUpEntry<'_>>) -> Self {
        self.reading(aggregate.index(), true, entries)
    }

    /// What an aggregate says about all logins.
    pub fn total<M>(self, aggregate: Total<M>, entries: Vec<MadeUpEntry<'_>>) -> Self {
        self.reading(aggregate.index(), false, entries)
    }

    fn reading(mut self, aggregate: usize, previous: bool, entries: Vec<MadeUpEntry<'_>>) -> Self {
        let first = |entry: &MadeUpEntry<'_>| entry.values.first().and_then(|value| value.as_i64()).unwrap_or_default();
        let sum = entries.iter().map(|entry| first(entry) as u64).sum();
        let summary = Summary { keys: entries.len() as u64, sum, approximate: false };
        self.readings.insert((aggregate, previous), (summary, entries::listing(entries)));
        self
    }
}

/// The facts of a window of so many logins, none rejected, whose offsets begin at 0.
pub fn facts(logins: u32, earliest_login_time: i64, latest_login_time: i64) -> WindowFacts {
    WindowFacts {
        logins,
        rejected: 0,
        first_offset: 0,
        last_offset: i64::from(logins) - 1,
        earliest_login_time: Some(earliest_login_time),
        latest_login_time: Some(latest_login_time),
    }
}

/// Aggregates as the test says.
struct MadeUp {
    names: Vec<String>,
    readings: Readings,
}

impl MadeUp {
    fn reading(&self, aggregate: &str, period: Period) -> Result<Option<&(Summary, Listing)>, String> {
        let index = self.names.iter().position(|name| name == aggregate);
        let index = index.ok_or_else(|| format!("there is no aggregate {aggregate}"))?;
        Ok(self.readings.get(&(index, period == Period::Previous)))
    }
}

impl Source for MadeUp {
    fn summarize(&self, aggregate: &str, period: Period) -> Result<Summary, String> {
        let nothing = Summary { keys: 0, sum: 0, approximate: false };
        Ok(self.reading(aggregate, period)?.map_or(nothing, |(summary, _)| *summary))
    }

    fn entries(&self, aggregate: &str, period: Period) -> Result<Listing, String> {
        Ok(self.reading(aggregate, period)?.map_or_else(|| entries::listing([]), |(_, listing)| listing.clone()))
    }
}
