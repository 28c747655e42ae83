//! The plugin contract's names and versions: which roles there are, what a plugin may import, which versions are spoken.
//!
//! A released version never changes. A new one gets its own bindings, its own linker in [`crate::engine`] and its own
//! entry points in `guests`; everything else speaks the newest only.

use crate::load_error::Problem;

/// The package of the contract.
const PACKAGE: &str = "loginscope:plugin/";

/// The interfaces that a plugin may import.
const IMPORTS: [&str; 3] = ["types", "log", "aggregates"];

/// A released version of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractVersion {
    /// 0.1.0
    V0_1_0,
}

impl ContractVersion {
    /// All released versions, oldest first.
    pub const RELEASED: [Self; 1] = [Self::V0_1_0];

    /// The version as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        Self::RELEASED
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| Problem::OtherContract { version: text.to_owned() })
    }
}

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It judges logins.
    Validator,
    /// It adds fields to logins.
    Enricher,
    /// It makes insights.
    InsightGenerator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Validator, Self::Enricher, Self::InsightGenerator];

    /// The name of its interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Enricher => "enricher",
            Self::InsightGenerator => "insight-generator",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An interface of the contract and its version, where the name is one.
fn interface(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

/// Refuses whatever a plugin wants to import beyond the contract.
pub(crate) fn check_imports<'a>(imports: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
    for import in imports {
        match interface(import) {
            Some((interface, version)) if IMPORTS.contains(&interface) => {
                ContractVersion::parse(version)?;
            }
            _ if import.starts_with("wasi:") => return Err(Problem::WasiImport { import: import.to_owned() }),
            _ => return Err(Problem::ForeignImport { import: import.to_owned() }),
        }
    }
    Ok(())
}

/// The roles that a component exports, and the version of the contract it speaks.
pub(crate) fn roles<'a>(exports: impl Iterator<Item = &'a str>) -> Result<(ContractVersion, Vec<Role>), Problem> {
    let mut found = Vec::new();
    let mut contract = None;
    let mut exported = Vec::new();
    for export in exports {
        exported.push(export);
        let Some((interface, version)) = interface(export) else { continue };
        let Some(role) = Role::ALL.into_iter().find(|role| role.as_str() == interface) else { continue };
        let version = ContractVersion::parse(version)?;
        if contract.is_some_and(|contract| contract != version) {
            return Err(Problem::MixedContracts);
        }
        contract = Some(version);
        found.push(role);
    }
    found.sort_unstable();
    let Some(contract) = contract else {
        let exports = if exported.is_empty() { "nothing".to_owned() } else { exported.join(", ") };
        return Err(Problem::NoRole { exports });
    };
    Ok((contract, found))
}

/// Whether the text is 1 to 64 characters long, begins with a lower-case letter, and has only lower-case letters, digits
/// and the one further character.
pub(crate) fn is_identifier(text: &str, further: u8) -> bool {
    text.len() <= 64
        && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == further)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_contract_may_be_imported() {
        assert!(check_imports(["loginscope:plugin/types@0.1.0", "loginscope:plugin/log@0.1.0"].into_iter()).is_ok());
        let refused = |import: &'static str| check_imports([import].into_iter()).unwrap_err();
        assert!(matches!(refused("wasi:cli/environment@0.2.3"), Problem::WasiImport { .. }));
        assert!(matches!(refused("loginscope:plugin/log@0.2.0"), Problem::OtherContract { .. }));
        assert!(matches!(refused("loginscope:plugin/secrets@0.1.0"), Problem::ForeignImport { .. }));
        assert!(matches!(refused("env"), Problem::ForeignImport { .. }));
    }

    #[test]
    fn the_roles_come_from_the_exports() {
        let exports = ["other:thing/x@1.0.0", "loginscope:plugin/enricher@0.1.0", "loginscope:plugin/validator@0.1.0"];
        let (contract, roles) = roles(exports.into_iter()).unwrap();
        assert_eq!((contract, roles), (ContractVersion::V0_1_0, vec![Role::Validator, Role::Enricher]));
    }

    #[test]
    fn a_component_without_a_role_is_refused() {
        assert!(matches!(roles(["wasi:cli/run@0.2.0"].into_iter()), Err(Problem::NoRole { .. })));
        assert!(matches!(roles(["loginscope:plugin/enricher@0.3.0"].into_iter()), Err(Problem::OtherContract { .. })));
    }

    #[test]
    fn identifiers_are_short_and_lower_case() {
        assert!(is_identifier("a", b'_') && is_identifier("missing_ip4", b'_') && is_identifier(&"x".repeat(64), b'_'));
        for text in ["", "_a", "4a", "A", "a-b", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_identifier(text, b'_'), "{text}");
        }
    }
}
