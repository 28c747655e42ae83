//! The plugins in their order, checked against each other, with everything that follows from what they declare: the
//! schema of the columns, what the state keeps, which fields are spliced into the output.
//!
//! A chain is immutable. A hot-swap makes a new one from the old one: the schema only grows (slots keep their
//! meaning), the aggregates that stay keep what they have counted, and what only the old one declares is counted on, so that the old one
//! can come back and find it complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loginscope_login::decode::{FormatError, InputFormat};
use loginscope_login::{FieldType, Schema, Slot};
use loginscope_state::{Catalog, CatalogError, Definition, HistoryPlan, Partition};
use loginscope_wasm::{Plugin, Role};

use super::convert;
use super::policy::{OnFailure, Policies};

/// Why plugins can't work together.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Two plugins have the same name.
    #[error("two plugins are named {0}; settings, aggregates and insights are told apart by the plugin's name")]
    SameName(String),
    /// A field has two types.
    #[error("plugin {plugin} wants field {field} as {wanted}, but it is {known} by {by}")]
    FieldType {
        /// The plugin at fault.
        plugin: String,
        /// The field.
        field: String,
        /// The type that the plugin wants.
        wanted: &'static str,
        /// The type that the field has.
        known: &'static str,
        /// Who gave it that type.
        by: String,
    },
    /// An aggregate can't be kept.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The fields of the input can't be mapped like that.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// A plugin in the role of a validator.
pub struct ChainValidator {
    /// The plugin, by its place in [`Chain::plugins`].
    pub plugin: usize,
    /// The further fields it reads.
    pub reads: Vec<Slot>,
}

/// A plugin in the role of an enricher.
pub struct ChainEnricher {
    /// The plugin, by its place in [`Chain::plugins`].
    pub plugin: usize,
    /// The further fields it reads.
    pub reads: Vec<Slot>,
    /// What it wants to know of each login's past.
    pub history: HistoryPlan,
    /// The fields it sets, in its order.
    pub sets: Vec<SetField>,
}

/// A field that an enricher sets.
#[derive(Clone, Copy)]
pub struct SetField {
    /// Its place in [`Chain::set_names`].
    pub name: usize,
    /// Its column.
    pub slot: Slot,
}

/// Some aggregates, by plugin and name.
pub type Aggregates = BTreeSet<(String, String)>;

/// Which aggregates of the chain before are counted on, beside those that are declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those that its plugins declare.
    Declared,
    /// All that it counted.
    All,
}

/// The plugins in their order, and what follows from it.
pub struct Chain {
    /// The plugins.
    pub plugins: Vec<Plugin>,
    /// Those that validate, in order.
    pub validators: Vec<ChainValidator>,
    /// Those that enrich, in order.
    pub enrichers: Vec<ChainEnricher>,
    /// Those that make insights, in order, by their place in `plugins`.
    pub generators: Vec<usize>,
    /// The columns of a batch.
    pub schema: Schema,
    /// The aggregates that are kept.
    pub catalog: Arc<Catalog>,
    /// What the plugins declare of them, by plugin.
    declared: Vec<(String, Vec<Definition>)>,
    /// All of them, by plugin.
    counted: Vec<(String, Vec<Definition>)>,
    /// The names of all fields that enrichers set, each once, in the order of the first one that sets it.
    pub set_names: Vec<String>,
    /// Whether several enrichers set the same field.
    pub names_set_twice: bool,
    /// Whether logins have to go one by one, because an enricher asks for a history that its own fields, or those of a
    /// later enricher, go into.
    pub one_by_one: bool,
    /// How messages are read.
    pub format: InputFormat,
    /// What operators have decided about plugins, also about such as may come.
    policies: Policies,
}

impl Chain {
    /// The first chain, of these plugins, which counts so many different values of a key exactly.
    pub fn new(
        plugins: Vec<Plugin>,
        format: InputFormat,
        exact_distinct: u64,
        policies: Policies,
    ) -> Result<Self, ChainError> {
        Self::build(plugins, format, exact_distinct, policies, None)
    }

    /// The chain of these plugins that takes over from this one.
    ///
    /// # Errors
    /// Also where an aggregate that this one's plugins declare is declared otherwise.
    pub fn next(&self, plugins: Vec<Plugin>, keep: Keep) -> Result<Self, ChainError> {
        let (format, policies) = (self.format.clone(), self.policies.clone());
        Self::build(plugins, format, self.catalog.exact_distinct(), policies, Some((self, keep)))
    }

    /// Some of its plugins alone, without what others make of logins.
    pub fn only(&self, plugins: Vec<Plugin>) -> Result<Self, ChainError> {
        Self::build(plugins, self.format.clone(), self.catalog.exact_distinct(), self.policies.clone(), None)
    }

    /// The aggregates of some of its plugins, over its own columns.
    pub fn catalog_of(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Catalog, CatalogError> {
        let wanted = self.counted.iter().filter(|(plugin, _)| is_wanted(plugin)).cloned();
        let catalog = Catalog::new(&wanted.collect::<Vec<_>>(), &self.schema)?;
        Ok(catalog.with_exact_distinct(self.catalog.exact_distinct()))
    }

    /// The aggregates that a plugin declares.
    pub fn declared(&self, plugin: &str) -> &[Definition] {
        self.declared.iter().find(|(name, _)| name == plugin).map(|(_, definitions)| &**definitions).unwrap_or_default()
    }

    /// The columns that the aggregates of some of its plugins are about, those that don't go by a field aside.
    pub fn slots_counted(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Slot> {
        let wanted = self.counted.iter().filter(|(plugin, _)| is_wanted(plugin));
        let fields = wanted.flat_map(|(_, definitions)| definitions).flat_map(convert::fields);
        fields.filter_map(|field| self.schema.slot(field)).collect()
    }

    fn build(
        plugins: Vec<Plugin>,
        format: InputFormat,
        exact_distinct: u64,
        policies: Policies,
        previous: Option<(&Self, Keep)>,
    ) -> Result<Self, ChainError> {
        refuse_same_names(&plugins)?;
        let schema = Fields::collect(&plugins, previous.map(|(chain, _)| chain.schema.clone()))?;
        let declared = definitions(&plugins);
        let mut counted = declared.clone();
        let catalog = match previous {
            Some((previous, keep)) => {
                let before = if keep == Keep::All { &previous.counted } else { &previous.declared };
                add_missing(&mut counted, before);
                // What nobody declares any more binds nobody.
                Catalog::new(&previous.declared, &schema)?.evolve(&counted, &schema)?
            }
            None => Catalog::new(&declared, &schema)?,
        };
        let is_backfilled = |plugin: &str, name: &str| {
            previous.is_some_and(|(previous, _)| previous.catalog.backfilled().any(|it| it == (plugin, name)))
        };
        let catalog = Arc::new(catalog.with_exact_distinct(exact_distinct).with_backfilled(is_backfilled));
        let set_names = set_names(&plugins);
        let mut chain = Self {
            validators: Vec::new(),
            enrichers: Vec::new(),
            generators: Vec::new(),
            names_set_twice: false,
            one_by_one: false,
            plugins,
            schema,
            catalog,
            declared,
            counted,
            set_names,
            format,
            policies,
        };
        chain.assign_roles()?;
        chain.names_set_twice =
            chain.enrichers.iter().map(|enricher| enricher.sets.len()).sum::<usize>() > chain.set_names.len();
        chain.one_by_one = chain.history_depends_on_later_fields();
        Ok(chain)
    }

    /// The same, where partitions compute these aggregates as well from their history if they lack them.
    #[must_use]
    pub fn backfilling(mut self, more: &Aggregates) -> Self {
        let mut all = names(self.catalog.backfilled());
        all.extend(more.iter().cloned());
        let is_backfilled = |plugin: &str, name: &str| all.contains(&(plugin.to_owned(), name.to_owned()));
        self.catalog = Arc::new(Catalog::clone(&self.catalog).with_backfilled(is_backfilled));
        self
    }

    /// The aggregates that the plugins declare and that partitions compute from their history if they lack them.
    pub fn backfilled(&self) -> Aggregates {
        names(self.catalog.backfilled().filter(|(plugin, name)| self.declares(plugin, name)))
    }

    /// The aggregates that the plugins declare, that the chain before doesn't count, and that could be computed from the history.
    pub fn new_since(&self, before: &Self) -> Aggregates {
        let new = self.catalog.new_since(&before.catalog);
        names(new.filter(|(plugin, name)| self.declares(plugin, name)))
    }

    /// What a partition would lack that the plugins ask for: it has to be there before they are handed a login.
    pub fn lacked_by(&self, partition: &Partition) -> Aggregates {
        let lacking = partition.would_lack(&self.catalog).into_iter();
        names(lacking.filter(|(plugin, name)| self.declares(plugin, name)))
    }

    fn declares(&self, plugin: &str, name: &str) -> bool {
        let of_plugin = self.declared.iter().filter(|(other, _)| other == plugin);
        of_plugin.flat_map(|(_, definitions)| definitions).any(|definition| definition.name == name)
    }

    /// The chain that counts these aggregates anew: validators and enrichers judge as they do here, and there are no insights. Kept
    /// are these aggregates and those that enrichers ask for.
    ///
    /// # Errors
    /// None where this chain was put together from the same plugins.
    pub fn for_history(&self, wanted: &Aggregates) -> Result<Self, ChainError> {
        let looked_up = |plugin: &str, name: &str| {
            let plugin = self.plugins.iter().find(|it| it.name() == plugin);
            let declaration = plugin.and_then(|plugin| plugin.declaration(Role::Enricher));
            declaration.is_some_and(|it| it.history.iter().any(|request| request.aggregate == name))
        };
        let is_wanted = |plugin: &str, name: &str| {
            looked_up(plugin, name) || wanted.contains(&(plugin.to_owned(), name.to_owned()))
        };
        let kept = self.declared.iter().map(|(plugin, definitions)| {
            let kept = definitions.iter().filter(|definition| is_wanted(plugin, &definition.name));
            (plugin.clone(), kept.cloned().collect::<Vec<Definition>>())
        });
        let kept: Vec<(String, Vec<Definition>)> = kept.collect();
        let catalog = Catalog::new(&kept, &self.schema)?.with_exact_distinct(self.catalog.exact_distinct());
        let mut chain = Self {
            plugins: self.plugins.clone(),
            validators: Vec::new(),
            enrichers: Vec::new(),
            generators: Vec::new(),
            schema: self.schema.clone(),
            catalog: Arc::new(catalog),
            declared: kept.clone(),
            counted: kept,
            set_names: self.set_names.clone(),
            names_set_twice: self.names_set_twice,
            one_by_one: self.one_by_one,
            format: self.format.clone(),
            policies: self.policies.clone(),
        };
        chain.assign_roles()?;
        chain.generators.clear();
        Ok(chain)
    }

    /// The plugins as `name@version`, with commas.
    pub fn labels(&self) -> String {
        self.plugins.iter().map(Plugin::label).collect::<Vec<_>>().join(", ")
    }

    /// What becomes of a login on which this plugin fails: it is decided for the plugin's name, whatever its version.
    pub fn on_failure(&self, plugin: usize) -> OnFailure {
        let policy = self.plugins.get(plugin).and_then(|plugin| self.policies.get(plugin.name()));
        policy.map_or_else(OnFailure::default, |policy| policy.on_failure)
    }

    /// The plugins without which a login may go on.
    pub fn bypassable(&self) -> impl Iterator<Item = &Plugin> {
        let plugins = self.plugins.iter().enumerate();
        plugins.filter(|(place, _)| self.on_failure(*place) == OnFailure::Bypass).map(|(_, plugin)| plugin)
    }

    fn assign_roles(&mut self) -> Result<(), ChainError> {
        for (index, plugin) in self.plugins.iter().enumerate() {
            let slots = |fields: &[loginscope_wasm::TypedField]| -> Vec<Slot> {
                fields.iter().filter_map(|field| self.schema.slot(&field.name)).collect()
            };
            if let Some(declaration) = plugin.declaration(Role::Validator) {
                self.validators.push(ChainValidator { plugin: index, reads: slots(&declaration.reads) });
            }
            if let Some(declaration) = plugin.declaration(Role::Enricher) {
                let sets = declaration.sets.iter().filter_map(|field| {
                    Some(SetField {
                        name: self.set_names.iter().position(|name| *name == field.name)?,
                        slot: self.schema.slot(&field.name)?,
                    })
                });
                self.enrichers.push(ChainEnricher {
                    plugin: index,
                    reads: slots(&declaration.reads),
                    history: self.catalog.plan_history(plugin.name(), &convert::requests(declaration))?,
                    sets: sets.collect(),
                });
            }
            if plugin.declaration(Role::InsightGenerator).is_some() {
                self.generators.push(index);
            }
        }
        Ok(())
    }

    /// Whether an enricher's history counts by a field that only it or a later enricher sets: then what the earlier logins
    /// of a batch have counted isn't known before they have gone all the way.
    fn history_depends_on_later_fields(&self) -> bool {
        self.enrichers.iter().enumerate().any(|(index, enricher)| {
            let set_from_here =
                self.enrichers.iter().skip(index).flat_map(|later| later.sets.iter().map(|set| set.slot));
            let needed = enricher.history.slots();
            set_from_here.into_iter().any(|slot| needed.contains(&slot))
        })
    }
}

fn names<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Aggregates {
    all.map(|(plugin, name)| (plugin.to_owned(), name.to_owned())).collect()
}

/// Whether both are the same bytes with the same settings, however those are written.
pub fn is_alike(one: &Plugin, other: &Plugin) -> bool {
    let settings = |plugin: &Plugin| serde_json::from_str::<serde_json::Value>(plugin.settings()).unwrap_or_default();
    one.is_same(other) || one.component().digest() == other.component().digest() && settings(one) == settings(other)
}

/// Whether these are alike, one by one.
pub fn are_alike(some: &[Plugin], others: &[Plugin]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| is_alike(one, other))
}

fn refuse_same_names(plugins: &[Plugin]) -> Result<(), ChainError> {
    for (index, plugin) in plugins.iter().enumerate() {
        if plugins.iter().take(index).any(|earlier| earlier.name() == plugin.name()) {
            return Err(ChainError::SameName(plugin.name().to_owned()));
        }
    }
    Ok(())
}

/// The aggregates of all roles of each plugin.
fn definitions(plugins: &[Plugin]) -> Vec<(String, Vec<Definition>)> {
    plugins
        .iter()
        .map(|plugin| {
            let mut all: Vec<Definition> = Vec::new();
            for declaration in Role::ALL.iter().filter_map(|role| plugin.declaration(*role)) {
                for definition in convert::definitions(declaration) {
                    // Two roles of a plugin may share an aggregate; a differing twin is the catalog's to refuse.
                    if !all.contains(&definition) {
                        all.push(definition);
                    }
                }
            }
            (plugin.name().to_owned(), all)
        })
        .collect()
}

/// Adds what was counted before and has no other meaning now.
fn add_missing(counted: &mut Vec<(String, Vec<Definition>)>, before: &[(String, Vec<Definition>)]) {
    for (plugin, definitions) in before {
        match counted.iter_mut().find(|(name, _)| name == plugin) {
            Some((_, known)) => {
                let is_gone = |definition: &&Definition| known.iter().all(|known| known.name != definition.name);
                let gone: Vec<Definition> = definitions.iter().filter(is_gone).cloned().collect();
                known.extend(gone);
            }
            None => counted.push((plugin.clone(), definitions.clone())),
        }
    }
}

fn set_names(plugins: &[Plugin]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for field in plugins.iter().filter_map(|plugin| plugin.declaration(Role::Enricher)).flat_map(|it| &it.sets) {
        if !names.contains(&field.name) {
            names.push(field.name.clone());
        }
    }
    names
}

/// Collects the fields that plugins set, read and keep aggregates by, each with its one type.
struct Fields {
    schema: Schema,
    /// Who gave a field its type.
    owners: BTreeMap<String, String>,
}

impl Fields {
    fn collect(plugins: &[Plugin], schema: Option<Schema>) -> Result<Schema, ChainError> {
        let mut fields = Self { schema: schema.unwrap_or_default(), owners: BTreeMap::new() };
        for plugin in plugins {
            for declaration in Role::ALL.iter().filter_map(|role| plugin.declaration(*role)) {
                let looked_up = convert::latest_fields(declaration);
                for field in declaration.sets.iter().chain(&declaration.reads).chain(looked_up) {
                    fields.add(plugin.name(), &field.name, field.field_type)?;
                }
            }
        }
        for (_, definitions) in definitions(plugins) {
            for name in definitions.iter().flat_map(convert::fields) {
                // A field that nobody has given a type is a text.
                if fields.schema.slot(name).is_none() {
                    fields.add("", name, FieldType::Text)?;
                }
            }
        }
        Ok(fields.schema)
    }

    fn add(&mut self, plugin: &str, field: &str, wanted: FieldType) -> Result<(), ChainError> {
        self.schema.add(field, wanted).map_err(|known| ChainError::FieldType {
            plugin: plugin.to_owned(),
            field: field.to_owned(),
            wanted: type_name(wanted),
            known: type_name(known),
            by: self.owners.get(field).map_or_else(|| "the login's table".to_owned(), |by| format!("plugin {by}")),
        })?;
        self.owners.entry(field.to_owned()).or_insert_with(|| plugin.to_owned());
        Ok(())
    }
}

fn type_name(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Text => "a text",
        FieldType::Integer => "an integer",
        FieldType::Number => "a number",
        FieldType::Boolean => "a boolean",
        FieldType::Json => "JSON",
    }
}
