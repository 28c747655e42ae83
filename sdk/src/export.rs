//! The macros that make a plugin's type a role of its component.

/// Exports a type as a validator. Natively it only checks that the type is one.
#[macro_export]
macro_rules! export_validator {
    ($plugin:ty) => {
        $crate::__export_role! {
            $plugin, Validator, validator, export_validator_world, validator_declaration,
            fn validate(logins: $crate::contract::Batch) -> ::std::vec::Vec<$crate::contract::Rejection>
        }
    };
}

/// Exports a type as an enricher. Natively it only checks that the type is one.
#[macro_export]
macro_rules! export_enricher {
    ($plugin:ty) => {
        $crate::__export_role! {
            $plugin, Enricher, enricher, export_enricher_world, enricher_declaration,
            fn enrich(logins: $crate::contract::Batch) -> $crate::contract::Enrichment
        }
    };
}

/// Exports a type as an insight generator. Natively it only checks that the type is one.
#[macro_export]
macro_rules! export_insight_generator {
    ($plugin:ty) => {
        $crate::__export_role! {
            $plugin, InsightGenerator, insight_generator, export_insight_generator_world,
            insight_generator_declaration,
            fn generate(window: $crate::contract::Window) -> ::std::vec::Vec<$crate::contract::Insight>
        }
    };
}

/// One role: the three functions of its interface, around the slot for its instance.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_role {
    (
        $plugin:ty, $trait:ident, $role:ident, $export:ident, $declaration:ident,
        fn $call:ident($($argument:ident: $type:ty),*) -> $result:ty
    ) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: $crate::runtime::Slot<$plugin> = const { $crate::runtime::Slot::empty() };
            }

            struct Role;

            impl $crate::bindings::$role::exports::loginscope::plugin::$role::Guest for Role {
                fn describe() -> $crate::contract::Description {
                    $crate::runtime::description::<$plugin>(
                        ::std::env!("CARGO_PKG_NAME"),
                        ::std::env!("CARGO_PKG_VERSION"),
                    )
                }

                fn configure(
                    settings: ::std::string::String,
                ) -> ::std::result::Result<$crate::contract::Declaration, ::std::string::String> {
                    $crate::runtime::log_panics();
                    INSTANCE.with(|slot| slot.configure(&settings, |instance| instance.$declaration()))
                }

                fn $call($($argument: $type),*) -> $result {
                    INSTANCE.with(|slot| slot.call(|instance| instance.$call($($argument),*)))
                }
            }

            $crate::bindings::$role::$export!(Role);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn has_role<P: $crate::$trait>() {}
            has_role::<$plugin>();
        };
    };
}
