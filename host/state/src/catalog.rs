//! All aggregates that all plugins declare, checked and resolved against the fields that logins have.
//!
//! The catalog holds no logins and is shared by all partitions. Which aggregates share storage is each partition's
//! own matter (`layout`): it depends on when they began to be kept there.

use loginscope_login::Schema;

use crate::aggregate::{Definition, Measure, Span};
use crate::compile::{Compiled, check_name, check_ranking, compile};

/// Why declarations or look-ups are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// Two plugins have the same name.
    #[error("there are two plugins named `{plugin}`")]
    PluginTwice {
        /// The plugins' name.
        plugin: String,
    },
    /// An aggregate breaks a rule of the contract.
    #[error("the aggregate `{aggregate}` of the plugin `{plugin}` is refused: {reason}")]
    Aggregate {
        /// The plugin's name.
        plugin: String,
        /// The aggregate's name.
        aggregate: String,
        /// Why.
        reason: String,
    },
    /// An aggregate is declared otherwise than before.
    #[error("the plugin `{plugin}` now defines its aggregate `{aggregate}` otherwise than before: give it a new name")]
    Changed {
        /// The plugin's name.
        plugin: String,
        /// The aggregate's name.
        aggregate: String,
    },
    /// A history request doesn't fit its aggregate.
    #[error("the plugin `{plugin}` can't look up `{aggregate}`: {reason}")]
    History {
        /// The plugin's name.
        plugin: String,
        /// The aggregate's name.
        aggregate: String,
        /// Why.
        reason: String,
    },
}

/// An aggregate of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Aggregate {
    pub(crate) plugin: String,
    pub(crate) definition: Definition,
    pub(crate) content: Content,
    /// Whether a partition that doesn't keep it goes on without, until it is [grafted](crate::graft).
    pub(crate) is_backfilled: bool,
}

/// What an aggregate is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// Values that are kept.
    Values(Compiled),
    /// A ranking of the keys of these aggregates of the catalog, by their place in it.
    Ranking { rank_by: Vec<usize>, size: usize },
}

/// All aggregates of all plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// Rankings stand behind the aggregates that they rank by.
    pub(crate) aggregates: Vec<Aggregate>,
    pub(crate) schema: Schema,
    /// How many different values of a key are counted exactly.
    pub(crate) exact_distinct: u64,
}

impl Catalog {
    /// How many different values of a key are counted exactly where nothing else is said.
    pub const EXACT_DISTINCT: u64 = 65_536;

    /// Checks what these plugins declare, each by its name, against the fields of a schema, and compiles it.
    ///
    /// # Errors
    /// A sentence that names the plugin and the aggregate where a rule of the contract is broken.
    pub fn new(plugins: &[(String, Vec<Definition>)], schema: &Schema) -> Result<Self, CatalogError> {
        let exact_distinct = Self::EXACT_DISTINCT;
        let mut catalog = Self { aggregates: Vec::new(), schema: schema.clone(), exact_distinct };
        for (index, (plugin, definitions)) in plugins.iter().enumerate() {
            if plugins.iter().take(index).any(|(earlier, _)| earlier == plugin) {
                return Err(CatalogError::PluginTwice { plugin: plugin.clone() });
            }
            let (rankings, values): (Vec<_>, Vec<_>) =
                definitions.iter().partition(|definition| matches!(definition.measure, Measure::Top(_)));
            for definition in values.into_iter().chain(rankings) {
                let content = catalog.check(plugin, definition).map_err(|reason| CatalogError::Aggregate {
                    plugin: plugin.clone(),
                    aggregate: definition.name.clone(),
                    reason,
                })?;
                let (plugin, definition) = (plugin.clone(), definition.clone());
                let aggregate = Aggregate { plugin, definition, content, is_backfilled: false };
                catalog.aggregates.push(aggregate);
            }
        }
        Ok(catalog)
    }

    /// The same, with so many different values of a key being counted exactly. When there are more, a sketch of a fixed size
    /// (16 KiB) takes their place, and how many there are is an estimate, with a standard error of 0.8 %. What is an estimate
    /// already stays one.
    #[must_use]
    pub fn with_exact_distinct(self, exact_distinct: u64) -> Self {
        Self { exact_distinct, ..self }
    }

    /// How many different values of a key are counted exactly.
    pub fn exact_distinct(&self) -> u64 {
        self.exact_distinct
    }

    /// The same, where these aggregates, by plugin and name, never start empty in a partition that has logins already: it lacks them
    /// until they are [grafted](crate::graft). That goes for aggregates of span [`Span::Total`] that are no rankings; a ranking is
    /// lacking as long as one that it ranks by is.
    #[must_use]
    pub fn with_backfilled(mut self, is_backfilled: impl Fn(&str, &str) -> bool) -> Self {
        for aggregate in &mut self.aggregates {
            aggregate.is_backfilled =
                aggregate.can_be_backfilled() && is_backfilled(&aggregate.plugin, &aggregate.definition.name);
        }
        self
    }

    /// The aggregates that never start empty, by plugin and name.
    pub fn backfilled(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aggregates.iter().filter(|aggregate| aggregate.is_backfilled).map(Aggregate::names)
    }

    /// The aggregates that could be backfilled and that the other catalog doesn't have, by plugin and name.
    pub fn new_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let is_new = |aggregate: &&Aggregate| {
            aggregate.can_be_backfilled() && before.find(&aggregate.plugin, &aggregate.definition.name).is_none()
        };
        self.aggregates.iter().filter(is_new).map(Aggregate::names)
    }

    /// What takes this catalog's place when plugins are swapped. Partitions that adopt it keep what they have of the
    /// aggregates that stay; new ones start empty, and what is gone is dropped. `schema` has all fields of this
    /// catalog's at the same slots, and may have more.
    ///
    /// # Errors
    /// As [`Catalog::new`]; and an aggregate that stays must have the same definition.
    pub fn evolve(&self, plugins: &[(String, Vec<Definition>)], schema: &Schema) -> Result<Self, CatalogError> {
        let next = Self::new(plugins, schema)?.with_exact_distinct(self.exact_distinct);
        for aggregate in &next.aggregates {
            let (plugin, name) = (&aggregate.plugin, &aggregate.definition.name);
            if self.find(plugin, name).is_some_and(|(_, before)| before.definition != aggregate.definition) {
                return Err(CatalogError::Changed { plugin: plugin.clone(), aggregate: name.clone() });
            }
        }
        Ok(next)
    }

    fn check(&self, plugin: &str, definition: &Definition) -> Result<Content, String> {
        check_name(&definition.name)?;
        if self.find(plugin, &definition.name).is_some() {
            return Err("the plugin declares two of this name".into());
        }
        let Measure::Top(ranking) = &definition.measure else {
            return compile(definition, &self.schema).map(Content::Values);
        };
        check_ranking(definition, ranking, |name| self.find(plugin, name)?.1.values())?;
        let rank_by = ranking.rank_by.iter().filter_map(|name| Some(self.find(plugin, name)?.0)).collect();
        Ok(Content::Ranking { rank_by, size: ranking.size as usize })
    }

    /// A plugin's aggregate, and its place in the catalog.
    pub(crate) fn find(&self, plugin: &str, name: &str) -> Option<(usize, &Aggregate)> {
        let is_it = |aggregate: &Aggregate| aggregate.plugin == plugin && aggregate.definition.name == name;
        self.aggregates.iter().enumerate().find(|(_, aggregate)| is_it(aggregate))
    }
}

impl Aggregate {
    fn can_be_backfilled(&self) -> bool {
        self.values().is_some() && self.definition.span == Span::Total
    }

    fn names(&self) -> (&str, &str) {
        (&self.plugin, &self.definition.name)
    }

    /// What it keeps; `None` for a ranking.
    pub(crate) fn values(&self) -> Option<&Compiled> {
        match &self.content {
            Content::Values(compiled) => Some(compiled),
            Content::Ranking { .. } => None,
        }
    }
}
