//! Where a plugin says what it needs, and gets a typed key for each thing.

use crate::aggregate::Measure;
use crate::contract::{self, Declaration, FieldType, HistoryRequest, Ranking, Span, TableField, TypedField};
use crate::login::own;
use crate::{Aggregate, Field, FieldValue, Json, LookUp, OutputField, Past, Settable, Total, Windowed};

/// What a plugin needs and gives. A plugin with several roles declares for all of them at once.
#[derive(Debug)]
pub struct Declare {
    table: Vec<TableField>,
    reads: Vec<TypedField>,
    aggregates: Vec<contract::Aggregate>,
    history: Vec<HistoryRequest>,
    sets: Vec<TypedField>,
}

impl Default for Declare {
    fn default() -> Self {
        Self {
            table: own::ALL.to_vec(),
            reads: Vec::new(),
            aggregates: Vec::new(),
            history: Vec::new(),
            sets: Vec::new(),
        }
    }
}

impl Declare {
    /// Reads only these fields of the login's own table, which makes every login a little cheaper. Without it, all of them
    /// are there; with it, those that aren't said are missing in every login.
    pub fn reads_only(&mut self, fields: impl IntoIterator<Item = TableField>) {
        self.table.clear();
        for field in fields {
            if !self.table.contains(&field) {
                self.table.push(field);
            }
        }
    }

    /// Reads a further field of the login: one of the input, where a dotted path (`geo.country`) leads into objects, or
    /// one that an earlier enricher sets. Its type is one of `str`, `i64`, `f64`, `bool` and [`Json`](crate::Json).
    pub fn reads<T: FieldValue + ?Sized>(&mut self, name: impl Into<String>) -> Field<T> {
        Field::new(add_field(&mut self.reads, name.into(), T::TYPE))
    }

    /// Sets a field of the login. Fields are added to the login in the order in which they are declared. Only enrichers
    /// can.
    pub fn sets<T: Settable + ?Sized>(&mut self, name: impl Into<String>) -> OutputField<T> {
        OutputField::new(add_field(&mut self.sets, name.into(), T::TYPE))
    }

    /// Sets a field of the login to any JSON value, with [`Fields::set_json`](crate::Fields::set_json).
    pub fn sets_json(&mut self, name: impl Into<String>) -> OutputField<Json> {
        OutputField::new(add_field(&mut self.sets, name.into(), FieldType::Json))
    }

    /// Has an aggregate kept over all accepted logins since the beginning. Its name is unique in the plugin: 1 to 64
    /// lower-case letters, digits, hyphens and underscores. What it counted is kept under that name when the plugin is
    /// replaced, so another definition needs another name.
    pub fn total<M>(&mut self, name: impl Into<String>, aggregate: Aggregate<M>) -> Total<M> {
        Total::new(self.add_aggregate(name.into(), aggregate, Span::Total))
    }

    /// Has an aggregate kept over the logins of the current window, with those of the previous window beside them.
    pub fn window<M>(&mut self, name: impl Into<String>, aggregate: Aggregate<M>) -> Windowed<M> {
        Windowed::new(self.add_aggregate(name.into(), aggregate, Span::Window))
    }

    /// Has an aggregate looked up for each login, as it was just before that login. Only enrichers can.
    ///
    /// Prefer aggregates over fields of the input and of earlier enrichers. One over a field that this or a later enricher
    /// sets is as right, but slower: logins then have to go through the enrichers one by one, not in batches.
    pub fn history<T: FieldValue + ?Sized>(&mut self, look_up: LookUp<T>) -> Past<T> {
        let aggregate = self.name_of(look_up.aggregate);
        self.history.push(HistoryRequest { aggregate, look_up: look_up.what, over: look_up.over });
        Past::new(self.history.len() - 1)
    }

    fn add_aggregate<M>(&mut self, name: String, aggregate: Aggregate<M>, span: Span) -> usize {
        let measure = match aggregate.measure {
            Measure::Count => contract::Measure::Count,
            Measure::Distinct(fields) => contract::Measure::Distinct(fields),
            Measure::Latest(fields) => contract::Measure::Latest(fields),
            Measure::Top { size, rank_by } => {
                let rank_by = rank_by.into_iter().map(|rank| self.name_of(rank.0)).collect();
                contract::Measure::Top(Ranking { rank_by, size })
            }
        };
        let Aggregate { by, buckets, filter, .. } = aggregate;
        self.aggregates.push(contract::Aggregate { name, measure, by, buckets, filter, span });
        self.aggregates.len() - 1
    }

    fn name_of(&self, aggregate: usize) -> String {
        self.aggregates.get(aggregate).map(|aggregate| aggregate.name.clone()).unwrap_or_default()
    }

    /// The names of the aggregates, by the index in their keys.
    pub(crate) fn aggregate_names(&self) -> impl Iterator<Item = &str> {
        self.aggregates.iter().map(|aggregate| aggregate.name.as_str())
    }

    /// The fields of the login's own table that it reads.
    pub(crate) fn table(&self) -> &[TableField] {
        &self.table
    }

    /// How many further fields it reads.
    pub(crate) fn further_fields(&self) -> usize {
        self.reads.len()
    }

    /// The types of the fields it sets, by the index in their keys.
    pub(crate) fn set_types(&self) -> impl Iterator<Item = FieldType> {
        self.sets.iter().map(|field| field.type_)
    }

    /// The types of the columns of a batch: of the login's own table, further fields, and the history of each login.
    pub(crate) fn batch_types(&self) -> Vec<FieldType> {
        let table = self.table.iter().map(|field| own::field_type(*field));
        let further = self.reads.iter().map(|field| field.type_);
        let history = self.history.iter().map(|request| match &request.look_up {
            contract::LookUp::Value => FieldType::Integer,
            contract::LookUp::Contains => FieldType::Boolean,
            contract::LookUp::Latest(field) => field.type_,
        });
        table.chain(further).chain(history).collect()
    }

    /// What an enricher declares: everything.
    pub(crate) fn for_enricher(&self) -> Declaration {
        Declaration {
            table: self.table.clone(),
            reads: self.reads.clone(),
            aggregates: self.aggregates.clone(),
            history: self.history.clone(),
            sets: self.sets.clone(),
        }
    }

    /// What an insight generator declares. It reads no login, but its aggregates take their fields' types from `reads`.
    pub(crate) fn for_insight_generator(&self) -> Declaration {
        Declaration { table: Vec::new(), history: Vec::new(), sets: Vec::new(), ..self.for_enricher() }
    }

    /// What a validator declares.
    pub(crate) fn for_validator(&self) -> Declaration {
        Declaration { table: self.table.clone(), aggregates: Vec::new(), ..self.for_insight_generator() }
    }
}

/// The place of this field in the list, to which it is added where it isn't there yet. The same field with another type
/// is another entry, and the host's to refuse.
fn add_field(fields: &mut Vec<TypedField>, name: String, type_: FieldType) -> usize {
    let known = fields.iter().position(|field| field.name == name && field.type_ == type_);
    known.unwrap_or_else(|| {
        fields.push(TypedField { name, type_ });
        fields.len() - 1
    })
}
