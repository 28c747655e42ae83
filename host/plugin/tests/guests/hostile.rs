//! Guests that trap, loop, hoard and lie: each call fails as it should, and the next one is served.

use loginscope_wasm::{Failure, Instance, Limits};

use crate::support::{breach, enrich, instance, integers, limits, logins_of, misbehave, plugin, short_limits, trap};
use crate::windows::{Nothing, window};

/// A plugin that misbehaves in one role when it sees `evil`.
fn evil(how: &str, role: &str) -> Instance {
    plugin(&format!(r#"{{"how":"{how}","role":"{role}","when_user":"evil"}}"#)).instance()
}

/// All three roles' answers of an instance that misbehaves like this, each on an instance of its own.
fn all_roles(how: &str) -> [Result<(), Failure>; 3] {
    all_roles_under(&limits(), how)
}

fn all_roles_under(limits: &Limits, how: &str) -> [Result<(), Failure>; 3] {
    let logins = logins_of(&["ann", "bob"]);
    let plugin = misbehave().configure(&format!(r#"{{"how":"{how}"}}"#), limits).unwrap();
    [
        plugin.instance().validate(&logins, &[]).map(drop),
        enrich(&mut plugin.instance(), &logins).map(drop),
        plugin.instance().generate(&window(), Box::new(Nothing)).0.map(drop),
    ]
}

#[test]
fn a_trap_fails_the_call_in_every_role() {
    for answer in all_roles("trap") {
        assert_eq!(trap(answer), "wasm `unreachable` instruction executed");
    }
}

#[test]
fn a_panics_message_is_told() {
    for answer in all_roles("panic") {
        let message = trap(answer);
        assert!(message.contains("this login is too much for me"), "{message}");
    }
}

#[test]
fn an_endless_loop_runs_out_of_time_in_every_role() {
    for answer in all_roles_under(&short_limits(), "loop") {
        assert!(matches!(answer, Err(Failure::OutOfTime { .. })), "{answer:?}");
    }
}

#[test]
fn a_memory_hoard_runs_out_of_memory_in_every_role() {
    for answer in all_roles("hoard") {
        assert_eq!(answer, Err(Failure::OutOfMemory { given: limits().memory_bytes }));
    }
}

#[test]
fn deep_recursion_traps_in_every_role() {
    for answer in all_roles("recurse") {
        // A guest's own stack lies in its memory and may end before the host's does.
        let message = trap(answer);
        assert!(message.contains("call stack exhausted") || message.contains("out of bounds"), "{message}");
    }
}

#[test]
fn ten_million_insights_are_more_than_there_is_memory_for() {
    for answer in all_roles("many_insights") {
        assert!(matches!(answer, Err(Failure::OutOfMemory { .. })), "{answer:?}");
    }
}

#[test]
fn a_hundred_thousand_insights_break_the_contract() {
    for answer in all_roles("too_many_insights") {
        breach(answer);
    }
}

#[test]
fn a_huge_text_breaks_the_contract() {
    for answer in all_roles("huge_text") {
        breach(answer);
    }
}

#[test]
fn more_than_the_host_copies_breaks_the_contract() {
    let limits = Limits { output_bytes: 1 << 20, ..limits() };
    let mut instance = misbehave().configure(r#"{"how":"huge_text"}"#, &limits).unwrap().instance();
    let what = breach(instance.validate(&logins_of(&["ann"]), &[]));
    assert_eq!(what, "it handed over more than 1048576 bytes in one call");
}

#[test]
fn invalid_utf8_breaks_the_contract_in_every_role() {
    for answer in all_roles("lie_utf8") {
        let what = breach(answer);
        assert!(what.contains("utf-8"), "{what}");
    }
}

#[test]
fn a_text_outside_of_memory_breaks_the_contract_in_every_role() {
    for answer in all_roles("lie_pointer") {
        let what = breach(answer);
        assert!(what.contains("out of bounds"), "{what}");
    }
}

#[test]
fn codes_kinds_reasons_and_data_out_of_form_break_the_contract() {
    for how in ["lie_code", "lie_reason"] {
        for answer in all_roles(how) {
            breach(answer);
        }
    }
}

#[test]
fn rows_that_are_not_there_or_do_not_ascend_break_the_contract() {
    let logins = logins_of(&["ann", "bob"]);
    for how in ["lie_row", "lie_order"] {
        breach(instance(how).validate(&logins, &[]));
        breach(enrich(&mut instance(how), &logins));
    }
}

#[test]
fn lies_in_columns_break_the_contract() {
    for (how, told) in [
        ("lie_ends", "ends before it begins"),
        ("lie_length", "1 entries are left for it, and it needs 2"),
        ("lie_rest", "1 entries and 0 bytes of text belong to none"),
        ("lie_type", "0 entries are left for it, and it needs 2"),
        ("lie_count", "3 entries and 0 bytes of text belong to none"),
        ("lie_missing", "beyond the 2 rows"),
        ("lie_number", "isn't finite"),
    ] {
        let what = breach(enrich(&mut instance(how), &logins_of(&["ann", "bob"])));
        assert!(what.contains(told), "{how}: {what}");
        // Alone, a login is judged no better.
        breach(enrich(&mut instance(how), &logins_of(&["ann"])));
    }
}

#[test]
fn after_a_failure_the_next_call_runs_on_a_fresh_instance() {
    let mut instance = evil("trap", "validator");
    assert!(instance.is_fresh());
    assert!(instance.validate(&logins_of(&["ann"]), &[]).is_ok());
    assert!(!instance.is_fresh());
    assert!(instance.validate(&logins_of(&["ann", "evil"]), &[]).is_err());
    assert!(instance.is_fresh());
    let rejections = instance.validate(&logins_of(&["ann", "reject-me"]), &[]).unwrap();
    assert_eq!(
        rejections.iter().map(|(row, it)| (*row, it.code.as_ref())).collect::<Vec<_>>(),
        [(1, "rejected_by_guest")]
    );
    assert!(!instance.is_fresh());
}

#[test]
fn a_breach_of_the_contract_throws_the_instance_away_too() {
    let mut instance = evil("lie_code", "enricher");
    assert!(enrich(&mut instance, &logins_of(&["ann"])).is_ok());
    breach(enrich(&mut instance, &logins_of(&["evil"])));
    assert!(instance.is_fresh());
    assert_eq!(integers(&enrich(&mut instance, &logins_of(&["ann"])).unwrap().fields[0]), [3]);
}

#[test]
fn one_role_may_fail_and_the_others_still_serve() {
    let mut instance = evil("trap", "enricher");
    let logins = logins_of(&["evil"]);
    assert_eq!(instance.validate(&logins, &[]), Ok(Vec::new()));
    trap(enrich(&mut instance, &logins));
    assert_eq!(instance.validate(&logins, &[]), Ok(Vec::new()));
}

#[test]
fn a_leak_ends_in_a_failure_that_a_fresh_instance_does_not_repeat() {
    let mut instance = instance("leak");
    let logins = logins_of(&["ann"]);
    let served = (0..1000).take_while(|_| instance.validate(&logins, &[]).is_ok()).count();
    assert!((10..70).contains(&served), "{served}");
    assert!(instance.is_fresh());
    assert_eq!(instance.validate(&logins, &[]), Ok(Vec::new()));
}

#[test]
fn a_chatterer_is_served_and_its_answer_counts() {
    let mut instance = instance("chatter");
    assert_eq!(integers(&enrich(&mut instance, &logins_of(&["ann"])).unwrap().fields[0]), [3]);
}

#[test]
fn a_plugin_with_time_left_goes_on_over_many_ticks() {
    let spacious = Limits { memory_bytes: 1 << 30, ..limits() };
    let mut instance = misbehave().configure(r#"{"how":"hoard"}"#, &spacious).unwrap().instance();
    // A gigabyte takes far longer than a tick, and ends for want of memory, not of time.
    assert_eq!(instance.validate(&logins_of(&["ann"]), &[]), Err(Failure::OutOfMemory { given: 1 << 30 }));
}

#[test]
fn a_role_that_is_not_there_is_no_panic() {
    let written = crate::written::Guest::default().plugin();
    breach(enrich(&mut written.instance(), &logins_of(&["ann"])));
}
