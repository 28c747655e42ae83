//! What `bindgen!` makes of the plugin contract (`wit/`).
//!
//! One world with all roles is bound, so that the types are shared; a component that exports only some of the roles is
//! looked at role by role through their own `GuestIndices`. What the host hands over borrows (`…Param`), what a
//! plugin returns is owned (`…Result`, where a type goes both ways).

#![allow(missing_docs, unreachable_pub, unused_imports, clippy::pedantic, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "every-role",
    ownership: Borrowing { duplicate_if_necessary: true },
});
