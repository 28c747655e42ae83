//! What can be loaded and configured, and what is refused with which sentence.

use loginscope_wasm::{Failure, LoadError, Problem, Role, componentize};
use proptest::prelude::*;

use crate::guests;
use crate::support::{engine, limits, logins_of, misbehave, plugin, short_limits};
use crate::written::Guest;

fn problem(answer: Result<loginscope_wasm::Component, LoadError>) -> Problem {
    answer.unwrap_err().problem
}

fn refusal(settings: &str) -> Problem {
    misbehave().configure(settings, &short_limits()).unwrap_err().problem
}

#[test]
fn a_core_module_and_its_component_are_the_same_plugin() {
    let module = guests::misbehave();
    let component = componentize(module, "misbehave.wasm").unwrap();
    assert_ne!(component.as_ref(), module);
    let loaded = engine().load(&component, "misbehave.wasm").unwrap();
    for it in [misbehave(), &loaded] {
        assert_eq!((it.name(), it.version(), it.label()), ("misbehave", "0.1.0", "misbehave@0.1.0"));
        assert_eq!(it.roles(), Role::ALL);
    }
}

#[test]
fn a_plugin_has_a_declaration_for_the_roles_it_has() {
    let plugin = Guest::default().plugin();
    assert_eq!(plugin.roles(), [Role::Validator]);
    assert!(plugin.declaration(Role::Validator).is_some());
    assert!(plugin.declaration(Role::Enricher).is_none());
    assert_eq!(plugin.instance().validate(&logins_of(&["ann"]), &[]), Ok(Vec::new()));
}

#[test]
fn what_is_no_webassembly_is_refused() {
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh", b"\0asm\x07\0\0\0", b"(module)"] {
        assert_eq!(problem(engine().load(bytes, "x")), Problem::NotWebAssembly);
    }
}

#[test]
fn a_core_module_of_garbage_is_refused() {
    let garbage = [b"\0asm\x01\0\0\0".as_slice(), &[0x42; 100]].concat();
    assert!(matches!(problem(engine().load(&garbage, "x")), Problem::NotComponentized { .. }));
}

#[test]
fn a_core_module_of_something_else_is_refused() {
    let module = wat::parse_str("(module (func (export \"main\")))").unwrap();
    let error = engine().load(&module, "other.wasm").unwrap_err();
    assert!(error.to_string().starts_with("plugin other.wasm can't be used: it"), "{error}");
}

#[test]
fn a_truncated_component_is_refused() {
    let component = componentize(guests::misbehave(), "x").unwrap();
    for length in [9, 100, component.len() / 2, component.len() - 1] {
        let problem = problem(engine().load(&component[..length], "x"));
        assert!(matches!(problem, Problem::NotCompiled { .. } | Problem::NoRole { .. }), "{length}: {problem}");
    }
}

#[test]
fn a_component_of_another_world_is_refused() {
    let component = wat::parse_str("(component)").unwrap();
    let problem = problem(engine().load(&component, "x"));
    assert_eq!(problem, Problem::NoRole { exports: "nothing".to_owned() });
    assert!(problem.to_string().contains("validator, enricher and insight-generator"));
}

#[test]
fn another_version_of_the_contract_is_refused_and_named() {
    let component = wat::parse_str(
        r#"(component (instance $nothing) (export "loginscope:plugin/validator@0.9.0" (instance $nothing)))"#,
    );
    let problem = problem(engine().load(&component.unwrap(), "x"));
    assert_eq!(problem, Problem::OtherContract { version: "0.9.0".to_owned() });
    assert!(problem.to_string().contains("0.9.0") && problem.to_string().contains("speaks 0.1.0"));
}

#[test]
fn a_role_without_its_functions_is_refused() {
    let component = wat::parse_str(
        r#"(component (instance $nothing) (export "loginscope:plugin/validator@0.1.0" (instance $nothing)))"#,
    );
    let problem = problem(engine().load(&component.unwrap(), "x"));
    assert!(matches!(&problem, Problem::Misfit { reason } if reason.contains("describe")), "{problem}");
}

#[test]
fn a_role_whose_functions_have_other_types_is_refused() {
    let component = wat::parse_str(
        r#"(component
          (core module $m (func (export "f")))
          (core instance $i (instantiate $m))
          (func $f (canon lift (core func $i "f")))
          (instance $role (export "describe" (func $f)) (export "configure" (func $f)) (export "validate" (func $f)))
          (export "loginscope:plugin/validator@0.1.0" (instance $role)))"#,
    );
    let problem = problem(engine().load(&component.unwrap(), "x"));
    assert!(matches!(&problem, Problem::Failed(Failure::BrokeContract { .. })), "{problem}");
}

#[test]
fn a_component_that_imports_wasi_is_told_the_right_target() {
    let component = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.3" (instance)))"#).unwrap();
    let problem = problem(engine().load(&component, "x"));
    assert_eq!(problem, Problem::WasiImport { import: "wasi:cli/environment@0.2.3".to_owned() });
    assert!(problem.to_string().contains("wasm32-unknown-unknown"));
}

#[test]
fn a_core_module_that_imports_wasi_is_told_the_right_target() {
    let module =
        wat::parse_str(r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#).unwrap();
    assert!(matches!(problem(engine().load(&module, "x")), Problem::WasiImport { .. }));
}

#[test]
fn any_other_import_is_refused() {
    let component = wat::parse_str(r#"(component (import "test:guest/secrets" (instance)))"#).unwrap();
    let problem = problem(engine().load(&component, "x"));
    assert_eq!(problem, Problem::ForeignImport { import: "test:guest/secrets".to_owned() });
}

#[test]
fn a_function_that_the_contract_lacks_is_refused() {
    let component = wat::parse_str(
        r#"(component
          (import "loginscope:plugin/log@0.1.0" (instance (export "erase" (func))))
          (instance $nothing) (export "loginscope:plugin/validator@0.1.0" (instance $nothing)))"#,
    );
    let problem = problem(engine().load(&component.unwrap(), "x"));
    assert!(matches!(&problem, Problem::Misfit { reason } if reason.contains("log")), "{problem}");
}

#[test]
fn two_roles_with_different_names_are_refused() {
    let world = "export loginscope:plugin/validator@0.1.0; export loginscope:plugin/insight-generator@0.1.0;";
    let agreeing = Guest { world, ..Guest::default() };
    assert_eq!(agreeing.load().unwrap().roles(), [Role::Validator, Role::InsightGenerator]);
    let differing = Guest { second_name: "wat-other", ..agreeing };
    let problem = problem(differing.load());
    assert_eq!(
        problem,
        Problem::TwoNames { first: "wat-guest@0.1.0".to_owned(), second: "wat-other@0.1.0".to_owned() }
    );
}

#[test]
fn a_name_that_is_none_is_refused() {
    let problem = problem(Guest { name: "Wat Guest", ..Guest::default() }.load());
    assert_eq!(problem, Problem::BadName { name: "Wat Guest".to_owned() });
}

#[test]
fn a_loop_at_the_start_or_while_describing_runs_out_of_time() {
    const LOOP: &str = "(loop $again (br $again))";
    for guest in [Guest { start: LOOP, ..Guest::default() }, Guest { describe: LOOP, ..Guest::default() }] {
        let problem = problem(guest.load());
        assert!(matches!(problem, Problem::Failed(Failure::OutOfTime { .. })), "{problem}");
    }
}

#[test]
fn a_trap_at_the_start_or_while_describing_is_refused() {
    for guest in
        [Guest { start: "unreachable", ..Guest::default() }, Guest { describe: "unreachable", ..Guest::default() }]
    {
        let problem = problem(guest.load());
        assert!(matches!(problem, Problem::Failed(Failure::Trapped { .. })), "{problem}");
    }
}

#[test]
fn a_table_grows_as_far_as_it_may() {
    let grow = |elements: u32| {
        let validate: &'static str = Box::leak(
            format!(
                "(if (i32.eq (table.grow $table (ref.null func) (i32.const {elements})) (i32.const -1)) (then unreachable))"
            )
            .into_boxed_str(),
        );
        Guest { validate, ..Guest::default() }.plugin().instance().validate(&logins_of(&["ann"]), &[])
    };
    assert_eq!(grow(1_000), Ok(Vec::new()));
    assert!(matches!(grow(10_000_000), Err(Failure::OutOfMemory { .. })));
}

#[test]
fn a_stack_that_lies_outside_of_memory_overflows_without_harm() {
    // A function that calls itself with nothing on its own stack: only the host's stack grows.
    const RECURSE: &str = "(call $start)";
    let problem = problem(Guest { start: RECURSE, ..Guest::default() }.load());
    assert_eq!(problem, Problem::Failed(Failure::Trapped { message: "call stack exhausted".to_owned() }));
}

#[test]
fn settings_are_refused_with_the_plugins_own_sentence() {
    for settings in [r#"{"how":"no_such_way"}"#, r#"{"unknown":1}"#, "{"] {
        assert!(matches!(refusal(settings), Problem::Settings { role: Role::Validator, .. }), "{settings}");
    }
    let error = misbehave().configure(r#"{"unknown":1}"#, &limits()).unwrap_err().to_string();
    assert!(error.starts_with("plugin misbehave@0.1.0 can't be used: its validator refuses the settings:"), "{error}");
    assert!(error.contains("unknown"), "{error}");
}

#[test]
fn a_plugin_that_fails_while_it_is_configured_is_refused() {
    for role in ["validator", "enricher", "insight-generator"] {
        let how = |how: &str| refusal(&format!(r#"{{"how":"{how}","role":"{role}"}}"#));
        assert!(matches!(how("loop_in_configure"), Problem::Failed(Failure::OutOfTime { .. })), "{role}");
        assert!(matches!(how("trap_in_configure"), Problem::Failed(Failure::Trapped { .. })), "{role}");
        assert!(matches!(how("lie_declaration"), Problem::Declaration { .. }), "{role}");
    }
}

#[test]
fn plugins_and_engines_go_from_thread_to_thread() {
    let plugin = plugin("{}");
    let mut instance = plugin.instance();
    assert!(instance.validate(&logins_of(&["ann"]), &[]).is_ok());
    let judged = std::thread::spawn(move || instance.validate(&logins_of(&["reject"]), &[])).join().unwrap();
    assert_eq!(judged.unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_component_is_an_error_and_no_panic(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>()) {
        static COMPONENT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let whole = COMPONENT.get_or_init(|| componentize(&Guest::default().module(), "x").unwrap().into_owned());
        let mut damaged = whole.clone();
        let at = at.index(damaged.len());
        damaged[at] ^= with;
        damaged.truncate(cut.index(damaged.len()) + 1);
        // It may still load, where nothing that matters was hit.
        let _ = engine().load(&damaged, "damaged.wasm");
        let mut module = Guest::default().module();
        let at = at % module.len();
        module[at] ^= with;
        let _ = engine().load(&module, "damaged.wasm");
    }
}
