//! Any component is an error or a plugin that can be configured, or refuses that: no crash, no hang, no unbounded memory. Begin with a
//! corpus of components (`wasm-tools component new` of plugins and `tests/guests`), as hardly anything else gets far.
//!
//! Core modules are left out: what makes components of them is known to panic on some. The loader takes that for an error, but here every
//! panic is an end.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use loginscope_wasm::{Engine, Limits};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().expect("an engine"));

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return;
    }
    if let Ok(component) = ENGINE.load(bytes, "fuzz") {
        let limits = Limits { load_cpu: Duration::from_millis(50), ..Limits::default() };
        component.configure("{}", &limits).ok();
    }
});
