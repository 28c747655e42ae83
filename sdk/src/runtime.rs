//! Between the contract and the plugin: what the export macros call. A call takes a whole batch and gives each login of it
//! to the plugin. Works the same natively, for tests and benchmarks.

use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::rc::Rc;

use crate::columns::Columns;
use crate::contract::{Batch, Declaration, Description, Enrichment, FieldType, Insight, Rejection, Window};
use crate::login::own;
use crate::window::{self, Aggregates, Source};
use crate::{Declare, Enricher, Fields, History, InsightGenerator, Login, Plugin, Settings, Validator};

/// A plugin with its settings, and what it declared.
pub struct Instance<P> {
    plugin: P,
    declared: Declare,
    aggregate_names: Rc<[String]>,
    /// The types of a batch's columns.
    batch_types: Vec<FieldType>,
    /// What the enricher says about a batch; kept for its memory.
    fields: RefCell<Fields>,
}

// Not derived: a plugin need not be `Debug` to be tested.
impl<P> Debug for Instance<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Instance").field("declared", &self.declared).finish_non_exhaustive()
    }
}

/// Who a plugin is. `name` and `version` are those of its crate.
pub fn description<P: Plugin>(name: &str, version: &str) -> Description {
    Description { name: P::NAME.unwrap_or(name).to_owned(), version: P::VERSION.unwrap_or(version).to_owned() }
}

impl<P: Plugin> Instance<P> {
    /// A plugin with these settings, a JSON object.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the settings.
    pub fn new(settings: &str) -> Result<Self, String> {
        let mut declared = Declare::default();
        let plugin = P::new(P::Settings::read(settings)?, &mut declared)?;
        let aggregate_names = declared.aggregate_names().map(str::to_owned).collect();
        let fields = RefCell::new(Fields::of_types(declared.set_types()));
        let batch_types = declared.batch_types();
        Ok(Self { plugin, declared, aggregate_names, batch_types, fields })
    }

    /// The columns of a batch and its first login.
    fn first_login(&self, batch: Batch) -> (Rc<Columns>, Login) {
        let rows = batch.rows as usize;
        let columns = Rc::new(Columns::of_batch(batch.fields, rows, self.declared.table(), &self.batch_types));
        let login = Login::first_of(Rc::clone(&columns), batch.malformed_timestamps, rows);
        (columns, login)
    }

    /// The plugin.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    /// What the plugin declares.
    pub(crate) fn declared(&self) -> &Declare {
        &self.declared
    }
}

impl<P: Validator> Instance<P> {
    /// What it declares as a validator.
    pub fn validator_declaration(&self) -> Declaration {
        self.declared.for_validator()
    }

    /// Judges a batch.
    pub fn validate(&self, logins: Batch) -> Vec<Rejection> {
        let (_, mut login) = self.first_login(logins);
        let mut rejections = Vec::new();
        for row in 0..login.rows() {
            login.go_to(row);
            if let Err(rejection) = self.plugin.validate(&login) {
                rejections.push(rejection.of_row(row));
            }
        }
        rejections
    }
}

impl<P: Enricher> Instance<P> {
    /// What it declares as an enricher.
    pub fn enricher_declaration(&self) -> Declaration {
        self.declared.for_enricher()
    }

    /// Enriches a batch.
    pub fn enrich(&self, logins: Batch) -> Enrichment {
        let (columns, mut login) = self.first_login(logins);
        let mut history = History::first_of(columns, own::COUNT + self.declared.further_fields());
        let fields = &mut *self.fields.borrow_mut();
        fields.make_room(login.rows());
        for row in 0..login.rows() {
            login.go_to(row);
            history.go_to(row);
            self.plugin.enrich(&login, &history, fields);
            fields.finish_login();
        }
        fields.take_enrichment()
    }
}

impl<P: InsightGenerator> Instance<P> {
    /// What it declares as an insight generator.
    pub fn insight_generator_declaration(&self) -> Declaration {
        self.declared.for_insight_generator()
    }

    /// Makes the insights of a window.
    pub(crate) fn generate_from(&self, window: Window, source: Rc<dyn Source>) -> Vec<Insight> {
        let aggregates = Aggregates { source, names: Rc::clone(&self.aggregate_names) };
        let (window, totals) = window::views(window, aggregates);
        self.plugin.generate(&window, &totals)
    }

    /// Makes the insights of a window from the host's aggregates. Natively there is no host.
    #[cfg(target_arch = "wasm32")]
    pub fn generate(&self, window: Window) -> Vec<Insight> {
        self.generate_from(window, Rc::new(host::HostAggregates))
    }
}

#[cfg(target_arch = "wasm32")]
mod host {
    use crate::Summary;
    use crate::bindings::insight_generator::loginscope::plugin::aggregates;
    use crate::contract::{Listing, Period};
    use crate::window::Source;

    /// The aggregates as the host has them.
    pub(super) struct HostAggregates;

    impl Source for HostAggregates {
        fn summarize(&self, aggregate: &str, period: Period) -> Result<Summary, String> {
            aggregates::summarize(aggregate, period)
        }

        fn entries(&self, aggregate: &str, period: Period) -> Result<Listing, String> {
            aggregates::entries(aggregate, period)
        }
    }
}

/// Where the instance of a role lives in the plugin's memory.
#[derive(Debug)]
pub struct Slot<P>(RefCell<Option<Instance<P>>>);

impl<P: Plugin> Slot<P> {
    /// A slot without an instance.
    pub const fn empty() -> Self {
        Self(RefCell::new(None))
    }

    /// Puts an instance with these settings into the slot.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the settings.
    pub fn configure(
        &self,
        settings: &str,
        declaration: impl FnOnce(&Instance<P>) -> Declaration,
    ) -> Result<Declaration, String> {
        let instance = Instance::new(settings)?;
        let declaration = declaration(&instance);
        *self.0.borrow_mut() = Some(instance);
        Ok(declaration)
    }

    /// Calls the instance.
    ///
    /// # Panics
    /// Where there is none, because the host has not called `configure`.
    pub fn call<R>(&self, call: impl FnOnce(&Instance<P>) -> R) -> R {
        #[expect(
            clippy::expect_used,
            reason = "a host that skips configure breaks the contract; there is no answer then"
        )]
        call(self.0.borrow().as_ref().expect("the host must call configure first"))
    }
}

/// Has panics logged, with their place, before they trap.
pub fn log_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        match panic.location() {
            Some(place) => crate::log::error(format_args!("panicked at {place}: {message}")),
            None => crate::log::error(format_args!("panicked: {message}")),
        }
    }));
}
