//! What an operator decides about a plugin, whoever wrote it.

use std::collections::BTreeMap;

use loginscope_wasm::{Digest, Limits};

/// What an operator decides about a plugin: the section `[policy.NAME]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// What becomes of a login on which it fails.
    pub on_failure: OnFailure,
    /// The only bytes that it may have; any, if not given.
    pub digest: Option<Digest>,
    /// What it may use.
    pub limits: Limits,
}

/// What becomes of a login on which a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It is rejected, as `plugin_failed`.
    #[default]
    Reject,
    /// It goes on as if the plugin weren't there, and says so in a header.
    Bypass,
    /// It waits, and its partition with it, until the plugin succeeds.
    Stop,
}

/// The policies of plugins, by their names.
pub type Policies = BTreeMap<String, Policy>;
