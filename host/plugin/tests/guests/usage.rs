//! How near a guest came to its limits, and that each limit that an operator sets is one.

use std::time::Duration;

use loginscope_wasm::{Failure, Instance, Limits, Usage};

use crate::support::{breach, enrich, limits, logins_of, misbehave};
use crate::windows::{Nothing, window};
use crate::written::Guest;

/// An instance under these limits, with these settings.
fn under(limits: &Limits, settings: &str) -> Instance {
    misbehave().configure(settings, limits).unwrap().instance()
}

#[test]
fn the_memory_of_an_instance_is_told_and_what_its_limit_refuses_is_not() {
    const PAGE: usize = 64 << 10;
    let mut instance =
        Guest { validate: "(drop (memory.grow (i32.const 10)))", ..Guest::default() }.plugin().instance();
    assert_eq!(*instance.usage(), Usage::default(), "nothing has been started");
    for pages in [26, 36] {
        assert!(instance.validate(&logins_of(&["ann"]), &[]).is_ok());
        assert_eq!(instance.usage().memory_bytes, pages * PAGE);
    }
    for memory_bytes in [4 << 20, 8 << 20] {
        let mut instance = under(&Limits { memory_bytes, ..limits() }, r#"{"how":"hoard"}"#);
        let answer = instance.validate(&logins_of(&["ann"]), &[]);
        assert_eq!(answer, Err(Failure::OutOfMemory { given: memory_bytes }));
        let most = instance.usage().memory_bytes;
        assert!((memory_bytes / 2..=memory_bytes).contains(&most), "{most} of {memory_bytes}");
    }
}

#[test]
fn an_answer_of_the_size_that_is_told_is_just_allowed() {
    // So many that the answer is larger than what the guest hands over when it is configured.
    let logins = logins_of(&["reject-me", "refuse-me", "remark-me", "ann"].repeat(100));
    let validate = |instance: &mut Instance| instance.validate(&logins, &[]).map(drop);
    let enrich = |instance: &mut Instance| enrich(instance, &logins).map(drop);
    for call in [&validate as &dyn Fn(&mut Instance) -> Result<(), Failure>, &enrich] {
        let mut instance = under(&limits(), "{}");
        call(&mut instance).unwrap();
        let just = instance.usage().answer_bytes;
        let limited = |output_bytes| call(&mut under(&Limits { output_bytes, ..limits() }, "{}"));
        assert_eq!(limited(just), Ok(()));
        let what = breach(limited(just - 1));
        assert_eq!(what, format!("it handed over more than {} bytes in one call", just - 1));
    }
    let mut instance = under(&limits(), "{}");
    let data = instance.generate(&window(), Box::new(Nothing)).0.unwrap().remove(0).data;
    assert!(instance.usage().answer_bytes > data.len());
}

#[test]
fn a_call_that_takes_all_of_its_time_is_told_whichever_call_it_is() {
    let base_cpu = Duration::from_millis(30);
    let limits = Limits { base_cpu, cpu_per_row: Duration::from_millis(1), ..limits() };
    for calls_before in [0, 1, 5] {
        let mut instance = under(&limits, r#"{"how":"loop","role":"validator","when_user":"evil"}"#);
        for _ in 0..calls_before {
            assert!(instance.validate(&logins_of(&["ann"]), &[]).is_ok());
        }
        let given = Duration::from_millis(32);
        let answer = instance.validate(&logins_of(&["ann", "evil"]), &[]);
        assert_eq!(answer, Err(Failure::OutOfTime { given }));
        let told = |instance: &Instance| (instance.usage().call_cpu, instance.usage().call_cpu_limit);
        let usage @ (call_cpu, call_cpu_limit) = told(&instance);
        assert_eq!(call_cpu_limit, given, "the time for a call and that for its two logins");
        assert!(call_cpu >= given, "{call_cpu:?}");
        assert!(instance.validate(&logins_of(&["ann"]), &[]).is_ok());
        assert_eq!(told(&instance), usage, "another instance has taken its place, and what was is remembered");
    }
}

#[test]
fn the_time_of_short_calls_is_told_as_well() {
    let mut instance = under(&limits(), "{}");
    assert!(instance.validate(&logins_of(&["ann"]), &[]).is_ok());
    let usage = instance.usage();
    assert!(Duration::ZERO < usage.call_cpu && usage.call_cpu < usage.call_cpu_limit, "{usage:?}");
}
