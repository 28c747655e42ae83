//! What a host sees of a plugin in each of its roles.

mod packed;

use loginscope_plugin::contract::{Batch, FieldType, LookUp, Measure, Retention, Span, TypedField};
use loginscope_plugin::prelude::*;
use loginscope_plugin::runtime::Instance;
use loginscope_plugin::testing::{self, Tested, WindowBuilder, entry, facts};
use packed::Column;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Limits {
    failures: i64,
}

/// A plugin with all roles: spraying, seen from one login, from one address and from a whole window.
struct Spraying {
    limits: Limits,
    country: Field<str>,
    failures: Past<i64>,
    device_is_known: Past<bool>,
    last_country: Past<str>,
    suspicious: OutputField<bool>,
    detail: OutputField<Json>,
    score: OutputField<f64>,
    window_failures: Windowed<Count>,
    all_failures: Total<Count>,
    worst: Total<Top>,
}

impl Plugin for Spraying {
    type Settings = Limits;
    const NAME: Option<&'static str> = Some("spraying");

    fn new(limits: Limits, declare: &mut Declare) -> Result<Self, String> {
        if limits.failures < 0 {
            return Err(format!("failures is {}, but must not be negative", limits.failures));
        }
        let failed = || Aggregate::count().only("outcome", ["failure"]);
        let recent = declare.total("recent", failed().by("ip").buckets(60, Keep::Seconds(3600)));
        let devices =
            declare.total("devices", Aggregate::distinct(["device_id"]).by("user_id").except("locale", ["XX"]));
        let last = declare.total("last", Aggregate::latest(["country", "timestamp"]).by("user_id"));
        let by_ip = declare.total("by-ip", failed().by("ip"));
        let users_by_ip = declare.total("users-by-ip", Aggregate::distinct(["user_id"]).by("ip"));
        Ok(Self {
            limits,
            country: declare.reads("geo.country"),
            failures: declare.history(recent.value().over(300)),
            device_is_known: declare.history(devices.contains()),
            last_country: declare.history(last.latest("country")),
            suspicious: declare.sets("suspicious"),
            detail: declare.sets_json("detail"),
            score: declare.sets("score"),
            window_failures: declare.window("window-failures", failed().by_first(5, "locale")),
            all_failures: declare.total("all-failures", failed()),
            worst: declare.total("worst", Aggregate::top(3, [users_by_ip.rank(), by_ip.rank()])),
        })
    }
}

impl Validator for Spraying {
    fn validate(&self, login: &Login) -> Result<(), Rejection> {
        match login.get(self.country) {
            Some("XX") => Err(Rejection::new("no_such_country", "geo.country \"XX\" is no country")),
            _ => Ok(()),
        }
    }
}

impl Enricher for Spraying {
    fn enrich(&self, login: &Login, history: &History, fields: &mut Fields) {
        let Some(failures) = history.get(self.failures) else { return };
        let moved = history.get(self.last_country).is_some_and(|last| Some(last) != login.get(self.country));
        fields.set(self.suspicious, failures > self.limits.failures || moved);
        fields.set(self.score, failures as f64 / 0.0);
        if history.get(self.device_is_known) == Some(false) {
            fields.insight(Insight::new("new_device", Severity::Medium, &json!({ "device": login.device_id() })));
            fields.insight(Insight::new("second", Severity::Low, &json!({})));
        }
        if failures > 100 {
            fields.reject(Rejection::new("spraying", "too much"));
            fields.reject(Rejection::new("spraying_again", "still too much"));
        }
        fields.set_json(self.detail, &history.get(self.last_country).map(|last| json!({ "last": last })));
    }
}

impl InsightGenerator for Spraying {
    fn generate(&self, window: &Window, totals: &Totals) -> Vec<Insight> {
        let before: i64 = window.previous().map_or(0, |previous| {
            assert_eq!(previous.facts().logins, 40);
            previous.entries(self.window_failures).iter().map(|entry| entry.number(0)).sum()
        });
        let worst = totals.entries(self.worst);
        let worst: Vec<_> = worst.iter().map(|it| (it.key_text(0), it.number(0), it.number(1))).collect();
        let data = json!({
            "window": window.number(), "locales": window.summary(self.window_failures).keys, "before": before,
            "total": totals.summary(self.all_failures).sum, "worst": worst,
        });
        vec![Insight::new("spraying", Severity::High, &data)]
    }
}

loginscope_plugin::export_validator!(Spraying);
loginscope_plugin::export_enricher!(Spraying);
loginscope_plugin::export_insight_generator!(Spraying);

fn text(values: &[&str]) -> Column {
    Column::Text(values.iter().map(|value| Some((*value).to_owned())).collect())
}

fn logins(countries: &[&str]) -> Batch {
    logins_with(countries, &[])
}

/// Logins with their history.
fn logins_with(countries: &[&str], history: &[Column]) -> Batch {
    let rows = countries.len();
    let (texts, none) = (text(&vec!["x"; rows]), Column::Integer(vec![None; rows]));
    let own = std::array::from_fn(|place| if [1, 2].contains(&place) { none.clone() } else { texts.clone() });
    let more = std::iter::once(text(countries)).chain(history.iter().cloned());
    packed::batch(rows, own, more.collect(), &[])
}

fn history<const N: usize>(failures: [i64; N], known: [bool; N], last: [&str; N]) -> [Column; 3] {
    [Column::Integer(failures.map(Some).to_vec()), Column::Boolean(known.map(Some).to_vec()), text(&last)]
}

#[test]
fn a_plugin_is_named_after_its_crate_unless_it_says_otherwise() {
    let description = testing::description::<Spraying>("the-crate", "1.2.3");
    assert_eq!((description.name.as_str(), description.version.as_str()), ("spraying", "1.2.3"));
}

#[test]
fn every_role_declares_what_is_its_own() {
    let instance = Instance::<Spraying>::new("{}").unwrap();
    let (validator, generator) = (instance.validator_declaration(), instance.insight_generator_declaration());
    let enricher = instance.enricher_declaration();
    for declaration in [&validator, &enricher, &generator] {
        assert_eq!(declaration.reads.len(), 1);
    }
    assert!(validator.aggregates.is_empty() && validator.history.is_empty() && validator.sets.is_empty());
    assert!(generator.history.is_empty() && generator.sets.is_empty());
    assert_eq!(generator.aggregates, enricher.aggregates);
    assert_eq!((enricher.history.len(), enricher.sets.len()), (3, 3));
}

#[test]
fn a_declaration_says_in_the_words_of_the_contract_what_the_author_said() {
    let declaration = Instance::<Spraying>::new("{}").unwrap().enricher_declaration();
    let aggregate = |name: &str| declaration.aggregates.iter().find(|it| it.name == name).unwrap();

    let recent = aggregate("recent");
    assert!(matches!(recent.measure, Measure::Count) && recent.span == Span::Total);
    assert_eq!((recent.by[0].field.as_str(), recent.by[0].limit), ("ip", None));
    let buckets = recent.buckets.unwrap();
    assert!(buckets.seconds == 60 && matches!(buckets.keep, Retention::Seconds(3600)));
    assert_eq!((recent.filter[0].field.as_str(), recent.filter[0].negated), ("outcome", false));
    assert_eq!(recent.filter[0].any_of, ["failure"]);

    let devices = aggregate("devices");
    assert!(matches!(&devices.measure, Measure::Distinct(fields) if fields == &["device_id"]));
    assert!(devices.filter[0].negated);
    assert!(matches!(&aggregate("last").measure, Measure::Latest(fields) if fields == &["country", "timestamp"]));
    assert_eq!(aggregate("window-failures").span, Span::Window);
    assert_eq!(aggregate("window-failures").by[0].limit, Some(5));
    let Measure::Top(ranking) = &aggregate("worst").measure else { panic!("a ranking") };
    assert_eq!((ranking.rank_by.as_slice(), ranking.size), (&["users-by-ip".to_owned(), "by-ip".to_owned()][..], 3));

    let [failures, known, last] = declaration.history.as_slice() else { panic!("three look-ups") };
    assert!(failures.aggregate == "recent" && failures.over == Some(300) && failures.look_up == LookUp::Value);
    assert!(known.aggregate == "devices" && known.over.is_none() && known.look_up == LookUp::Contains);
    assert_eq!(last.look_up, LookUp::Latest(TypedField { name: "country".to_owned(), type_: FieldType::Text }));
    let sets: Vec<_> = declaration.sets.iter().map(|field| (field.name.as_str(), field.type_)).collect();
    assert_eq!(sets, [("suspicious", FieldType::Boolean), ("detail", FieldType::Json), ("score", FieldType::Number)]);
}

#[test]
fn a_field_read_twice_is_declared_once() {
    struct Twice;
    impl Plugin for Twice {
        type Settings = NoSettings;
        fn new(_: NoSettings, declare: &mut Declare) -> Result<Self, String> {
            let (_first, _second): (Field<i64>, Field<i64>) = (declare.reads("x"), declare.reads("x"));
            Ok(Self)
        }
    }
    impl Validator for Twice {
        fn validate(&self, _: &Login) -> Result<(), Rejection> {
            Ok(())
        }
    }
    assert_eq!(Instance::<Twice>::new("{}").unwrap().validator_declaration().reads.len(), 1);
}

#[test]
fn settings_that_the_plugin_itself_refuses_are_refused_with_its_sentence() {
    assert_eq!(
        Instance::<Spraying>::new(r#"{"failures":-1}"#).unwrap_err(),
        "failures is -1, but must not be negative"
    );
}

#[test]
fn rejections_of_a_batch_carry_their_rows_in_order() {
    let instance = Instance::<Spraying>::new("{}").unwrap();
    let rejections = instance.validate(logins(&["NL", "XX", "DE", "XX"]));
    assert_eq!(rejections.iter().map(|rejection| rejection.row).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(rejections[0].code, "no_such_country");
    assert!(instance.validate(logins(&[])).is_empty());
}

#[test]
fn what_an_enricher_says_of_a_login_stays_with_its_row() {
    let instance = Instance::<Spraying>::new(r#"{"failures":3}"#).unwrap();
    let enrichment = instance
        .enrich(logins_with(&["NL", "NL", "DE"], &history([3, 101, 0], [true, false, true], ["NL", "NL", "NL"])));
    let insights: Vec<_> = enrichment.insights.iter().map(|it| (it.row, it.insight.kind.as_str())).collect();
    assert_eq!(insights, [(1, "new_device"), (1, "second")]);
    assert_eq!(enrichment.insights[0].insight.data, r#"{"device":"x"}"#);
    let rejections: Vec<_> = enrichment.rejections.iter().map(|it| (it.row, it.code.as_str())).collect();
    assert_eq!(rejections, [(1, "spraying")], "only the first rejection of a login counts");
    let fields = packed::unpack(&enrichment.fields, 3, &[FieldType::Boolean, FieldType::Json, FieldType::Number]);
    assert_eq!(fields[0], Column::Boolean([false, true, true].map(Some).to_vec()));
    let last = || Some(r#"{"last":"NL"}"#.to_owned());
    assert_eq!(fields[1], Column::Json(vec![last(), last(), last()]));
    assert_eq!(fields[2], Column::Number(vec![None; 3]), "neither infinity nor NaN leaves a plugin");
}

#[test]
fn a_field_set_to_json_null_is_not_set() {
    let plugin = Tested::<Spraying>::new("{}").unwrap();
    let known = History::builder().with(plugin.failures, 0).with(plugin.device_is_known, true);
    let fields = plugin.enrich(&Login::builder().with(plugin.country, "NL").build(), &known.clone().build());
    assert_eq!(fields.get(plugin.detail), None);
    assert_eq!(fields.get(plugin.suspicious), Some(false));
    let moved = plugin.enrich(&Login::builder().build(), &known.with(plugin.last_country, "NL").build());
    assert_eq!(moved.get(plugin.suspicious), Some(true));
    assert_eq!(moved.insights().count(), 0);
    assert_eq!(moved.rejection(), None);
}

#[test]
fn only_the_fields_that_were_asked_for_are_there_and_the_others_missing() {
    struct Frugal {
        further: Field<i64>,
        seen: OutputField<str>,
    }
    impl Plugin for Frugal {
        type Settings = NoSettings;
        fn new(_: NoSettings, declare: &mut Declare) -> Result<Self, String> {
            declare.reads_only([TableField::Outcome, TableField::Timestamp, TableField::Outcome]);
            Ok(Self { further: declare.reads("level"), seen: declare.sets("seen") })
        }
    }
    impl Enricher for Frugal {
        fn enrich(&self, login: &Login, _: &History, fields: &mut Fields) {
            let seen = (login.outcome(), login.timestamp(), login.user_id(), login.ip(), login.get(self.further));
            fields.set(self.seen, &format!("{seen:?}"));
        }
    }
    let instance = Instance::<Frugal>::new("{}").unwrap();
    assert_eq!(instance.enricher_declaration().table, [TableField::Outcome, TableField::Timestamp]);
    let integer = |values: [i64; 2]| Column::Integer(values.map(Some).to_vec());
    let columns = [text(&["success", "failure"]), integer([7, 8]), integer([1, 2])];
    let fields = packed::pack(&columns);
    let enrichment = instance.enrich(Batch { rows: 2, fields, malformed_timestamps: Vec::new() });
    let expected =
        [r#"(Some("success"), Some(7), None, None, Some(1))"#, r#"(Some("failure"), Some(8), None, None, Some(2))"#];
    assert_eq!(packed::unpack(&enrichment.fields, 2, &[FieldType::Text]), [text(&expected)]);
    // Nothing is left of one batch in the next.
    let one = [text(&["success"]), integer([7, 8]), integer([1, 2])].map(|column| match column {
        Column::Integer(values) => Column::Integer(values[..1].to_vec()),
        column => column,
    });
    let fields = packed::pack(&one);
    let enrichment = instance.enrich(Batch { rows: 1, fields, malformed_timestamps: Vec::new() });
    assert_eq!(packed::unpack(&enrichment.fields, 1, &[FieldType::Text]), [text(&expected[..1])]);
}

#[test]
fn a_generator_reads_the_window_the_one_before_and_the_totals() {
    let plugin = Tested::<Spraying>::new("{}").unwrap();
    let window = WindowBuilder::new(facts(50, 0, 10))
        .after(facts(40, 0, 10))
        .window(plugin.window_failures, vec![entry(["NL"], [3]), entry(["other"], [4])])
        .previous(plugin.window_failures, vec![entry(["NL"], [5]), entry(["DE"], [6])])
        .total(plugin.all_failures, vec![entry([], [99])])
        .total(plugin.worst, vec![entry(["10.0.0.1"], [7, 8])]);
    let insights = plugin.generate(window);
    assert_eq!(insights.len(), 1);
    let data: serde_json::Value = serde_json::from_str(&insights[0].data).unwrap();
    let expected = json!({ "window": 2, "locales": 2, "before": 11, "total": 99, "worst": [["10.0.0.1", 7, 8]] });
    assert_eq!(data, expected);
}

#[test]
#[should_panic(expected = "the data of an insight is a JSON object, not [1]")]
fn the_data_of_an_insight_must_be_an_object() {
    let _ = Insight::new("list", Severity::Info, &[1]);
}
