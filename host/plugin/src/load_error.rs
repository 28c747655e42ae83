//! Why a plugin can't be loaded.

use crate::contract::{ContractVersion, Role};
use crate::digest::Digest;
use crate::failure::Failure;

/// Why a plugin can't be loaded; shown, it is one sentence that names the plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} can't be used: {problem}")]
pub struct LoadError {
    /// Where the plugin comes from, or its name and version where they are known.
    pub plugin: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a plugin that can't be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bytes are no WebAssembly.
    #[error("it is neither a WebAssembly component nor a WebAssembly module")]
    NotWebAssembly,
    /// There are too many bytes.
    #[error("it has {bytes} bytes, and {allowed} are allowed")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        allowed: usize,
    },
    /// Its bytes are others than those that are pinned.
    #[error("its digest is {digest}, and the configuration pins {pinned}")]
    OtherDigest {
        /// The digest that it has.
        digest: Digest,
        /// The one that it must have.
        pinned: Digest,
    },
    /// The core module can't be turned into a component.
    #[error("it is a WebAssembly module that can't be made a component ({reason}); is it built with the plugin SDK?")]
    NotComponentized {
        /// Why not.
        reason: String,
    },
    /// The component can't be compiled.
    #[error("it can't be compiled: {reason}")]
    NotCompiled {
        /// Why not.
        reason: String,
    },
    /// Compiling it would keep the machine busy for too long.
    #[error("compiling it would take too long: {what}")]
    TooComplex {
        /// What makes it so.
        what: &'static str,
    },
    /// It wants something of WASI.
    #[error(
        "it imports {import}, so it was built for a WASI target; plugins have no access to the system: build it for \
         wasm32-unknown-unknown"
    )]
    WasiImport {
        /// What it imports.
        import: String,
    },
    /// It wants something that the host doesn't have.
    #[error("it imports {import}, which a plugin may not: only the contract's types, log and aggregates are there")]
    ForeignImport {
        /// What it imports.
        import: String,
    },
    /// It speaks another version of the contract.
    #[error("it is built against version {version} of the plugin contract, and this host speaks {}", spoken())]
    OtherContract {
        /// Which one it speaks.
        version: String,
    },
    /// Its roles speak different versions of the contract.
    #[error("its roles are built against different versions of the plugin contract")]
    MixedContracts,
    /// It exports no role.
    #[error("it has none of the roles validator, enricher and insight-generator: it exports {exports}")]
    NoRole {
        /// What it exports.
        exports: String,
    },
    /// Its roles or imports don't have the contract's functions.
    #[error("it doesn't fit the plugin contract: {reason}")]
    Misfit {
        /// What doesn't fit.
        reason: String,
    },
    /// It failed while it was started.
    #[error("while it started, {0}")]
    Failed(#[from] Failure),
    /// Its roles don't agree on who it is.
    #[error("its roles say that they are different plugins, {first} and {second}")]
    TwoNames {
        /// Name and version that the first role says.
        first: String,
        /// Name and version that another role says.
        second: String,
    },
    /// Its name is none.
    #[error("its name {name:?} isn't 1 to 64 lower-case letters, digits and hyphens, beginning with a letter")]
    BadName {
        /// What it says its name is.
        name: String,
    },
    /// Its version is none.
    #[error("its version {version:?} isn't a semantic version such as 1.0.0")]
    BadVersion {
        /// What it says its version is.
        version: String,
    },
    /// It refuses its settings.
    #[error("its {role} refuses the settings: {reason}")]
    Settings {
        /// The role that refuses.
        role: Role,
        /// What it says.
        reason: String,
    },
    /// It declares something that the contract doesn't allow.
    #[error("its {role} declares what the contract doesn't allow: {what}")]
    Declaration {
        /// The role that declares.
        role: Role,
        /// What is wrong.
        what: String,
    },
}

/// The versions of the contract that this host speaks, for a message.
fn spoken() -> String {
    ContractVersion::RELEASED.map(ContractVersion::as_str).join(", ")
}
