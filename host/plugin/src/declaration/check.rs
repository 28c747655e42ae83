//! The checks on a declaration that need nothing but the declaration: names, counts, ranges, nothing twice.

use loginscope_login::Schema;
use loginscope_login::rejection::printable;

use super::{Aggregate, Declaration, LookUp, Measure, Retention, TimeBuckets, TypedField};
use crate::contract::Role;

/// How many fields, aggregates or history requests there may be, each.
const MAX_ITEMS: usize = 64;

/// How many dimensions, conditions, or fields of a measure there may be, each.
const MAX_PARTS: usize = 16;

/// How many values a condition may compare with.
const MAX_VALUES: usize = 1000;

/// The longest name of a field, in bytes.
const MAX_FIELD_BYTES: usize = 256;

/// How many time buckets can be kept.
const MAX_BUCKETS: u64 = 10_000;

/// How many keys a ranking can keep.
const MAX_RANKING: u32 = 1_000;

/// Checks what a role declares; says in a sentence what the contract doesn't allow.
pub(crate) fn check(role: Role, declaration: &Declaration) -> Result<(), String> {
    let Declaration { table: own, reads, aggregates, history, sets } = declaration;
    at_most("fields to read", reads.len(), MAX_ITEMS)?;
    at_most("aggregates", aggregates.len(), MAX_ITEMS)?;
    at_most("history requests", history.len(), MAX_ITEMS)?;
    at_most("fields to set", sets.len(), MAX_ITEMS)?;
    if role != Role::Enricher && !(history.is_empty() && sets.is_empty()) {
        return Err("only an enricher may ask for history or set fields".to_owned());
    }

    if repeated(own).is_some() {
        return Err("it reads a field of the login's own table twice".to_owned());
    }
    let names = |fields: &[TypedField]| fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
    unique("it reads field", &names(reads))?;
    unique("it sets field", &names(sets))?;
    let table = Schema::default();
    let latest = history.iter().filter_map(|request| match &request.look_up {
        LookUp::Latest(field) => Some(field),
        LookUp::Value | LookUp::Contains => None,
    });
    reads.iter().chain(sets).chain(latest).try_for_each(|field| check_typed_field(&table, field))?;
    if let Some(field) = sets.iter().find(|field| field.name.contains('.')) {
        return Err(format!(
            "it sets field {}, and the name of a field that is set can't have a dot",
            shown(&field.name)
        ));
    }

    unique("it has aggregate", &aggregates.iter().map(|aggregate| aggregate.name.clone()).collect::<Vec<_>>())?;
    for aggregate in aggregates {
        check_aggregate(aggregate).map_err(|what| format!("aggregate {}: {what}", shown(&aggregate.name)))?;
    }
    match history.iter().find(|request| request.over == Some(0)) {
        Some(request) => Err(format!("the history of aggregate {} over no time", shown(&request.aggregate))),
        None => Ok(()),
    }
}

fn check_typed_field(table: &Schema, field: &TypedField) -> Result<(), String> {
    check_field_name(&field.name)?;
    match table.slot(&field.name).and_then(|slot| table.field(slot)) {
        Some(own) if own.field_type != field.field_type => {
            Err(format!("field {} has another type in the login's own table", field.name))
        }
        _ => Ok(()),
    }
}

fn check_field_name(name: &str) -> Result<(), String> {
    if name.len() > MAX_FIELD_BYTES || name.chars().any(char::is_control) || name.split('.').any(str::is_empty) {
        return Err(format!("{} isn't the name of a field", shown(name)));
    }
    Ok(())
}

fn check_aggregate(aggregate: &Aggregate) -> Result<(), String> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if aggregate.name.is_empty() || aggregate.name.len() > 64 || !aggregate.name.bytes().all(is_letter) {
        return Err("its name isn't 1 to 64 lower-case letters, digits, hyphens and underscores".to_owned());
    }
    check_measure(aggregate)?;
    let dimensions: Vec<_> = aggregate.by.iter().map(|dimension| dimension.field.clone()).collect();
    check_fields("dimensions", &dimensions)?;
    if aggregate.by.iter().any(|dimension| dimension.limit == Some(0)) {
        return Err("a dimension's limit is at least 1".to_owned());
    }
    aggregate.buckets.iter().try_for_each(check_buckets)?;
    at_most("conditions", aggregate.filter.len(), MAX_PARTS)?;
    for condition in &aggregate.filter {
        check_field_name(&condition.field)?;
        at_most("values of a condition", condition.any_of.len(), MAX_VALUES)?;
        if condition.any_of.is_empty() {
            return Err(format!("the condition on field {} has no values", condition.field));
        }
    }
    Ok(())
}

fn check_measure(aggregate: &Aggregate) -> Result<(), String> {
    match &aggregate.measure {
        Measure::Count => Ok(()),
        Measure::Distinct(fields) | Measure::Latest(fields) => {
            if fields.is_empty() {
                return Err("it names no field to measure".to_owned());
            }
            check_fields("measured fields", fields)
        }
        Measure::Top(ranking) => {
            if !aggregate.by.is_empty() || aggregate.buckets.is_some() || !aggregate.filter.is_empty() {
                return Err("a ranking has no dimensions, time buckets or filter of its own".to_owned());
            }
            if ranking.rank_by.is_empty() || ranking.size == 0 || ranking.size > MAX_RANKING {
                return Err(format!("a ranking is by at least one aggregate and keeps 1 to {MAX_RANKING} keys"));
            }
            at_most("aggregates to rank by", ranking.rank_by.len(), MAX_PARTS)?;
            unique("it ranks by", &ranking.rank_by)
        }
    }
}

fn check_buckets(buckets: &TimeBuckets) -> Result<(), String> {
    if buckets.seconds == 0 {
        return Err("a time bucket is at least one second long".to_owned());
    }
    let kept = match buckets.keep {
        Retention::Latest(kept) => u64::from(kept),
        Retention::Seconds(seconds) => seconds.div_ceil(buckets.seconds),
    };
    if kept == 0 || kept > MAX_BUCKETS {
        return Err(format!("it keeps {kept} time buckets, and 1 to {MAX_BUCKETS} are possible"));
    }
    Ok(())
}

fn check_fields(what: &str, fields: &[String]) -> Result<(), String> {
    at_most(what, fields.len(), MAX_PARTS)?;
    unique(&format!("its {what} have"), fields)?;
    fields.iter().try_for_each(|field| check_field_name(field))
}

fn at_most(what: &str, count: usize, allowed: usize) -> Result<(), String> {
    if count > allowed { Err(format!("{count} {what}, and at most {allowed} are possible")) } else { Ok(()) }
}

fn unique(what: &str, names: &[String]) -> Result<(), String> {
    repeated(names).map_or(Ok(()), |name| Err(format!("{what} {} twice", shown(name))))
}

/// The first that stands there for the second time. At most some dozens are compared.
fn repeated<T: PartialEq>(all: &[T]) -> Option<&T> {
    all.iter()
        .enumerate()
        .find(|(index, one)| all.iter().take(*index).any(|earlier| earlier == *one))
        .map(|(_, one)| one)
}

/// A name as it may stand in a message.
fn shown(name: &str) -> String {
    format!("\"{}\"", printable(name, 100))
}

#[cfg(test)]
mod tests {
    use loginscope_login::{FieldType, Slot};

    use super::*;
    use crate::declaration::{Condition, Dimension, HistoryRequest, LookUp, Ranking, Span, TableField};

    fn count(name: &str) -> Aggregate {
        Aggregate {
            name: name.to_owned(),
            measure: Measure::Count,
            by: Vec::new(),
            buckets: None,
            filter: Vec::new(),
            span: Span::Total,
        }
    }

    fn field(name: &str, field_type: FieldType) -> TypedField {
        TypedField { name: name.to_owned(), field_type }
    }

    fn refusal(role: Role, declaration: &Declaration) -> String {
        check(role, declaration).unwrap_err()
    }

    fn aggregate_refusal(aggregate: Aggregate) -> String {
        refusal(Role::Enricher, &Declaration { aggregates: vec![aggregate], ..Declaration::default() })
    }

    #[test]
    fn what_the_contract_allows_is_allowed() {
        let declaration = Declaration {
            table: vec![TableField::RecordTimestamp, TableField::Login(Slot::IP)],
            reads: vec![field("geo.country", FieldType::Text), field("timestamp", FieldType::Integer)],
            aggregates: vec![
                Aggregate {
                    by: vec![Dimension { field: "user_id".to_owned(), limit: None }],
                    buckets: Some(TimeBuckets { seconds: 60, keep: Retention::Seconds(3600) }),
                    filter: vec![Condition {
                        field: "outcome".to_owned(),
                        any_of: vec!["failure".to_owned()],
                        negated: false,
                    }],
                    ..count("failures-per_minute")
                },
                Aggregate {
                    measure: Measure::Top(Ranking { rank_by: vec!["x".to_owned()], size: 1000 }),
                    ..count("top")
                },
            ],
            history: vec![HistoryRequest {
                aggregate: "failures-per_minute".to_owned(),
                look_up: LookUp::Value,
                over: Some(300),
            }],
            sets: vec![field("device_type", FieldType::Text), field("risk", FieldType::Number)],
        };
        assert_eq!(check(Role::Enricher, &declaration), Ok(()));
    }

    #[test]
    fn only_enrichers_set_fields_or_ask_for_history() {
        let sets = Declaration { sets: vec![field("risk", FieldType::Number)], ..Declaration::default() };
        for role in [Role::Validator, Role::InsightGenerator] {
            assert!(refusal(role, &sets).contains("only an enricher"));
        }
    }

    #[test]
    fn a_field_of_the_table_is_read_once_and_its_latest_value_has_its_type() {
        let twice = vec![TableField::Login(Slot::IP), TableField::RecordTimestamp, TableField::Login(Slot::IP)];
        let refused = refusal(Role::Validator, &Declaration { table: twice, ..Declaration::default() });
        assert_eq!(refused, "it reads a field of the login's own table twice");
        let latest = HistoryRequest {
            aggregate: "last".to_owned(),
            look_up: LookUp::Latest(field("ip", FieldType::Integer)),
            over: None,
        };
        let refused = refusal(Role::Enricher, &Declaration { history: vec![latest], ..Declaration::default() });
        assert_eq!(refused, "field ip has another type in the login's own table");
    }

    #[test]
    fn fields_of_the_table_keep_their_type() {
        let sets = Declaration { sets: vec![field("timestamp", FieldType::Text)], ..Declaration::default() };
        assert!(refusal(Role::Enricher, &sets).contains("another type"));
    }

    #[test]
    fn no_field_is_named_twice_or_badly() {
        for names in [&["a", "a"][..], &[""], &["a..b"], &["a\n"], &["a.b"]] {
            let sets = names.iter().map(|name| field(name, FieldType::Text)).collect();
            refusal(Role::Enricher, &Declaration { sets, ..Declaration::default() });
        }
    }

    #[test]
    fn aggregates_out_of_range_are_refused() {
        let top = |rank_by: &[&str], size| {
            Measure::Top(Ranking { rank_by: rank_by.iter().map(ToString::to_string).collect(), size })
        };
        let by = |field: &str, limit| vec![Dimension { field: field.to_owned(), limit }];
        let buckets = |seconds, keep| Some(TimeBuckets { seconds, keep });
        for aggregate in [
            count("Total"),
            count(""),
            Aggregate { measure: Measure::Distinct(Vec::new()), ..count("a") },
            Aggregate { measure: Measure::Latest(vec!["x".to_owned(), "x".to_owned()]), ..count("a") },
            Aggregate { measure: top(&[], 10), ..count("a") },
            Aggregate { measure: top(&["x"], 0), ..count("a") },
            Aggregate { measure: top(&["x"], 1001), ..count("a") },
            Aggregate { measure: top(&["x"], 10), by: by("user_id", None), ..count("a") },
            Aggregate { by: by("user_id", Some(0)), ..count("a") },
            Aggregate { by: by("", None), ..count("a") },
            Aggregate { buckets: buckets(0, Retention::Latest(1)), ..count("a") },
            Aggregate { buckets: buckets(60, Retention::Latest(10_001)), ..count("a") },
            Aggregate { buckets: buckets(1, Retention::Seconds(10_001)), ..count("a") },
            Aggregate { buckets: buckets(60, Retention::Seconds(0)), ..count("a") },
            Aggregate {
                filter: vec![Condition { field: "outcome".to_owned(), any_of: Vec::new(), negated: false }],
                ..count("a")
            },
        ] {
            aggregate_refusal(aggregate);
        }
        let twice = Declaration { aggregates: vec![count("a"), count("a")], ..Declaration::default() };
        assert!(refusal(Role::Validator, &twice).contains("twice"));
    }
}
