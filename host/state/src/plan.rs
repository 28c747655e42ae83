//! Look-ups of the past, checked against the aggregates that they name.

use loginscope_login::{FieldType, Slot};

use crate::aggregate::{HistoryRequest, LookUp, Measure, Span};
use crate::catalog::{Catalog, CatalogError};
use crate::compile::{Compiled, Kept};
use crate::question::Ask;

/// The look-ups of one plugin, ready to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPlan {
    pub(crate) plugin: String,
    pub(crate) requests: Vec<PlannedRequest>,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedRequest {
    pub(crate) aggregate: String,
    pub(crate) ask: Ask,
    /// Over how many buckets.
    pub(crate) over: Option<u64>,
}

impl HistoryPlan {
    /// The types of the columns that [`Partition::history`](crate::Partition::history) gives.
    pub fn field_types(&self) -> Vec<FieldType> {
        self.requests.iter().map(|request| request.ask.field_type()).collect()
    }

    /// The slots of all fields that the aggregates depend on, ascending: those of their keys, values and filters,
    /// and the login time if they have buckets.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether nothing is looked up.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

impl Catalog {
    /// Checks the look-ups of a plugin.
    ///
    /// # Errors
    /// A sentence that names the plugin and the aggregate where a look-up doesn't fit.
    pub fn plan_history(&self, plugin: &str, requests: &[HistoryRequest]) -> Result<HistoryPlan, CatalogError> {
        let mut plan = HistoryPlan { plugin: plugin.to_owned(), requests: Vec::new(), slots: Vec::new() };
        for request in requests {
            let (compiled, planned) = self.plan(plugin, request).map_err(|reason| CatalogError::History {
                plugin: plugin.to_owned(),
                aggregate: request.aggregate.clone(),
                reason,
            })?;
            plan.slots.extend(compiled.slots());
            plan.requests.push(planned);
        }
        plan.slots.sort_unstable();
        plan.slots.dedup();
        Ok(plan)
    }

    fn plan(&self, plugin: &str, request: &HistoryRequest) -> Result<(&Compiled, PlannedRequest), String> {
        let (_, aggregate) = self.find(plugin, &request.aggregate).ok_or("it has declared no such aggregate")?;
        let compiled = aggregate.values().ok_or("it is a ranking")?;
        if compiled.span != Span::Total {
            return Err("its span is the window".into());
        }
        let ask = match (&request.look_up, &compiled.kept, &aggregate.definition.measure) {
            (LookUp::Value, Kept::Count | Kept::Distinct(_), _) => Ask::Value,
            (LookUp::Contains, Kept::Distinct(_), _) => Ask::Contains,
            (LookUp::Latest(name), Kept::Latest(slots), Measure::Latest(names)) => {
                let place = names.iter().position(|kept| kept == name);
                let place = place.ok_or_else(|| format!("it keeps no latest `{name}`"))?;
                let field = slots.get(place).and_then(|slot| self.schema.field(*slot));
                Ask::Latest { field: place, field_type: field.map_or(FieldType::Text, |field| field.field_type) }
            }
            (LookUp::Value, ..) => return Err("it keeps latest values, not a number".into()),
            (LookUp::Contains, ..) => return Err("it keeps no different values".into()),
            (LookUp::Latest(_), ..) => return Err("it keeps no latest values".into()),
        };
        let over = match (request.over, compiled.buckets) {
            (None, _) => None,
            (Some(0), _) => return Err("it must be over at least one second".into()),
            (Some(_), None) => return Err("it has no time buckets to look back over".into()),
            (Some(seconds), Some(buckets)) => Some(seconds.div_ceil(buckets.seconds)),
        };
        Ok((compiled, PlannedRequest { aggregate: request.aggregate.clone(), ask, over }))
    }
}
