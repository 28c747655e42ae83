//! From what plugins declare to what the state keeps.
//!
//! The plugin and state crates don't know each other; the records of the contract are mirrored in both, and this is the
//! one place where they meet.

use loginscope_login::Value;
use loginscope_state as state;
use loginscope_wasm as wasm;

/// The aggregates of a declaration, as the state wants them.
pub(super) fn definitions(declaration: &wasm::Declaration) -> Vec<state::Definition> {
    declaration.aggregates.iter().map(definition).collect()
}

fn definition(aggregate: &wasm::Aggregate) -> state::Definition {
    state::Definition {
        name: aggregate.name.clone(),
        measure: measure(&aggregate.measure),
        by: aggregate
            .by
            .iter()
            .map(|dimension| state::Dimension { field: dimension.field.clone(), limit: dimension.limit })
            .collect(),
        buckets: aggregate.buckets.as_ref().map(buckets),
        filter: aggregate.filter.iter().map(condition).collect(),
        span: match aggregate.span {
            wasm::Span::Total => state::Span::Total,
            wasm::Span::Window => state::Span::Window,
        },
    }
}

fn measure(measure: &wasm::Measure) -> state::Measure {
    match measure {
        wasm::Measure::Count => state::Measure::Count,
        wasm::Measure::Distinct(fields) => state::Measure::Distinct(fields.clone()),
        wasm::Measure::Latest(fields) => state::Measure::Latest(fields.clone()),
        wasm::Measure::Top(ranking) => {
            state::Measure::Top(state::Ranking { rank_by: ranking.rank_by.clone(), size: ranking.size })
        }
    }
}

fn buckets(buckets: &wasm::TimeBuckets) -> state::TimeBuckets {
    state::TimeBuckets {
        seconds: buckets.seconds,
        keep: match buckets.keep {
            wasm::Retention::Latest(buckets) => state::Retention::Latest(buckets),
            wasm::Retention::Seconds(seconds) => state::Retention::Seconds(seconds),
        },
    }
}

fn condition(condition: &wasm::Condition) -> state::Condition {
    state::Condition { field: condition.field.clone(), any_of: condition.any_of.clone(), negated: condition.negated }
}

/// The history requests of a declaration, as the state wants them.
pub(super) fn requests(declaration: &wasm::Declaration) -> Vec<state::HistoryRequest> {
    declaration
        .history
        .iter()
        .map(|request| state::HistoryRequest {
            aggregate: request.aggregate.clone(),
            look_up: match &request.look_up {
                wasm::LookUp::Value => state::LookUp::Value,
                wasm::LookUp::Contains => state::LookUp::Contains,
                wasm::LookUp::Latest(field) => state::LookUp::Latest(field.name.clone()),
            },
            over: request.over,
        })
        .collect()
}

/// The fields whose latest values a declaration looks up.
pub(super) fn latest_fields(declaration: &wasm::Declaration) -> impl Iterator<Item = &wasm::TypedField> {
    declaration.history.iter().filter_map(|request| match &request.look_up {
        wasm::LookUp::Latest(field) => Some(field),
        wasm::LookUp::Value | wasm::LookUp::Contains => None,
    })
}

/// The period that a plugin asks about.
pub(super) fn period(period: wasm::Period) -> state::Period {
    match period {
        wasm::Period::Current => state::Period::Current,
        wasm::Period::Previous => state::Period::Previous,
    }
}

/// The entries of an aggregate on their way from the state to the plugin that reads them.
#[derive(Default)]
pub(super) struct Listed(pub(super) wasm::Listing);

impl state::TakeEntries for Listed {
    fn begin(&mut self, shape: state::ListingShape) {
        let state::ListingShape { rows, has_buckets, dimensions, values } = shape;
        self.0 = wasm::Listing::new(wasm::ListingShape { rows, has_buckets, dimensions, values });
    }

    fn entry(&mut self, bucket: Option<i64>) {
        self.0.begin_entry(bucket);
    }

    fn key(&mut self, value: Value<'_>) {
        self.value(value);
    }

    fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) | Value::Json(text) => self.0.push_text(text),
            Value::Integer(integer) => self.0.push_integer(integer),
            Value::Number(number) => self.0.push_number(number),
            Value::Boolean(boolean) => self.0.push_boolean(boolean),
            // An entry has all of its values.
            Value::Missing => {}
        }
    }
}

/// The fields that an aggregate depends on.
pub(super) fn fields(definition: &state::Definition) -> impl Iterator<Item = &str> {
    let measured: &[String] = match &definition.measure {
        state::Measure::Distinct(fields) | state::Measure::Latest(fields) => fields,
        state::Measure::Count | state::Measure::Top(_) => &[],
    };
    let dimensions = definition.by.iter().map(|dimension| &dimension.field);
    dimensions.chain(measured).chain(definition.filter.iter().map(|condition| &condition.field)).map(String::as_str)
}
