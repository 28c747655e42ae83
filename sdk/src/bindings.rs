//! What `wit-bindgen` makes of the plugin contract (`wit/`): one module a role, so that a component exports just the
//! roles it has. The roles share the types of the first.

/// The world of a validator, and the types that every role shares.
pub mod validator {
    wit_bindgen::generate!({
        path: "wit",
        world: "validator-plugin",
        pub_export_macro: true,
        export_macro_name: "export_validator_world",
        default_bindings_module: "loginscope_plugin::bindings::validator",
        additional_derives: [PartialEq],
    });
}

/// The world of an enricher.
pub mod enricher {
    wit_bindgen::generate!({
        path: "wit",
        world: "enricher-plugin",
        pub_export_macro: true,
        export_macro_name: "export_enricher_world",
        default_bindings_module: "loginscope_plugin::bindings::enricher",
        additional_derives: [PartialEq],
        with: {
            "loginscope:plugin/types@0.1.0": crate::bindings::validator::loginscope::plugin::types,
            "loginscope:plugin/log@0.1.0": crate::bindings::validator::loginscope::plugin::log,
        },
    });
}

/// The world of an insight generator.
pub mod insight_generator {
    wit_bindgen::generate!({
        path: "wit",
        world: "insight-generator-plugin",
        pub_export_macro: true,
        export_macro_name: "export_insight_generator_world",
        default_bindings_module: "loginscope_plugin::bindings::insight_generator",
        additional_derives: [PartialEq],
        with: {
            "loginscope:plugin/types@0.1.0": crate::bindings::validator::loginscope::plugin::types,
            "loginscope:plugin/log@0.1.0": crate::bindings::validator::loginscope::plugin::log,
        },
    });
}
