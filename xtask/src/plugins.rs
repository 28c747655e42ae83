//! Plugin sources become components.
//!
//! A folder of plugins is a cargo workspace (or a single package) of which every package lies in a folder of its own
//! name; `validate-logins` becomes `validate_logins.wasm`. Two ways of building lead to the same: plain cargo, which makes
//! a core module that is wrapped here, and `cargo component`, which wraps it itself under the same file name. So what lies
//! on disk is told by its bytes, never by its name or its maker; and each way has a target folder of its own, so that
//! neither passes off the other's result as its own. All folders of plugins share it, as they share most dependencies.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use wit_component::ComponentEncoder;

use crate::project;

/// The target plugins are built for: it has no imports at all, so there is nothing to deny.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The release of `cargo component` this project is tested with.
pub const CARGO_COMPONENT_VERSION: &str = "0.21.1";

/// Which program builds the plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    /// `cargo build --release`; the core module is made a component here.
    Cargo,
    /// `cargo component build --release`.
    CargoComponent,
}

/// A component that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: usize,
    /// Whether this build changed it.
    pub changed: bool,
}

/// The folder of the default plugins' sources.
pub fn default_sources() -> PathBuf {
    project::root().join("plugins")
}

/// The folder the default plugins' components go to.
pub fn default_output() -> PathBuf {
    project::target().join("plugins")
}

/// Builds all plugins in `sources` and writes their components to `output`, leaving files alone that would not change.
///
/// # Errors
/// If the WASM target is missing and can't be added, if a build fails, or if a package doesn't give the file it should.
pub fn build(sources: &Path, output: &Path, builder: Builder) -> Result<Vec<Component>> {
    let names = packages(sources)?;
    ensure_wasm_target()?;
    let target = target_folder(builder);
    let mut command = match builder {
        Builder::Cargo => project::cargo(sources),
        Builder::CargoComponent => cargo_component(sources)?,
    };
    command.args(["build", "--release", "--target", WASM_TARGET]).env("CARGO_TARGET_DIR", &target);
    project::run(&mut command)?;
    let built = target.join(WASM_TARGET).join("release");
    names.iter().map(|name| collect(name, &built, output)).collect()
}

/// Makes sure that the toolchain in use can build for [`WASM_TARGET`], through rustup if need be.
pub fn ensure_wasm_target() -> Result<()> {
    let folder = project::output_of(Command::new("rustc").args(["--print", "target-libdir", "--target", WASM_TARGET]))?;
    if Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    eprintln!("adding the target {WASM_TARGET}");
    project::run(Command::new("rustup").args(["target", "add", WASM_TARGET])).with_context(|| {
        format!(
            "the Rust target {WASM_TARGET} is missing and could not be added: install rustup (https://rustup.rs) and run \
             `rustup target add {WASM_TARGET}`, or install your distribution's package of that target"
        )
    })
}

/// Turns a core module into a component; a component is returned as it is.
///
/// # Errors
/// If the bytes are neither, or the module doesn't carry the plugin contract's types.
pub fn componentize(wasm: Vec<u8>) -> Result<Vec<u8>> {
    match wasm.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(wasm),
        Some(b"\0asm\x01\0\0\0") => {
            ComponentEncoder::default().validate(true).module(&wasm)?.encode().context("the module is no plugin")
        }
        _ => bail!("neither a WebAssembly module nor a component"),
    }
}

/// The names of the packages in a folder of plugins, sorted: its subfolders with a manifest, or itself.
fn packages(sources: &Path) -> Result<Vec<String>> {
    let manifest = sources.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    if text.lines().any(|line| line.trim() == "[package]") {
        let folder = sources.canonicalize()?;
        return Ok(folder.file_name().map(|name| name.to_string_lossy().into_owned()).into_iter().collect());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(sources)? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        bail!("no plugin in {}", sources.display());
    }
    Ok(names)
}

/// Reads what was built for one package, makes it a component and writes it to its place.
fn collect(package: &str, built: &Path, output: &Path) -> Result<Component> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let source = built.join(&file);
    let wasm = std::fs::read(&source).with_context(|| {
        format!("{} wasn't built: is the library of `{package}` a cdylib of the folder's name?", source.display())
    })?;
    let component = componentize(wasm).with_context(|| source.display().to_string())?;
    let path = output.join(file);
    let changed = project::write_if_changed(&path, &component)?;
    Ok(Component { path, bytes: component.len(), changed })
}

/// Where cargo puts what it builds of plugins.
pub fn target_folder(builder: Builder) -> PathBuf {
    let folder = default_sources().join("target");
    match builder {
        Builder::Cargo => folder,
        Builder::CargoComponent => folder.join("cargo-component"),
    }
}

/// `cargo component`, if it is installed in the tested release.
fn cargo_component(sources: &Path) -> Result<Command> {
    let install = format!("install it with `cargo install --locked cargo-component@{CARGO_COMPONENT_VERSION}`");
    let said = project::output_of(project::cargo(sources).args(["component", "--version"]));
    let version = said.with_context(|| format!("`cargo component` doesn't work: {install}"))?;
    if version.split_whitespace().nth(1) != Some(CARGO_COMPONENT_VERSION) {
        eprintln!("warning: {} is not the tested release {CARGO_COMPONENT_VERSION}", version.trim());
    }
    let mut command = project::cargo(sources);
    command.arg("component");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest core module and the smallest component.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_component_stays_as_it_is() {
        assert_eq!(componentize(COMPONENT.to_vec()).unwrap(), COMPONENT);
    }

    #[test]
    fn a_core_module_becomes_a_component() {
        let component = componentize(MODULE.to_vec()).unwrap();
        assert_eq!(component.get(..8).unwrap(), COMPONENT);
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x02\0\0\0", b"#!/bin/sh\n"] {
            assert!(componentize(bytes.to_vec()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn packages_are_the_folders_with_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |path: &str, text: &str| project::write_if_changed(&folder.path().join(path), text.as_bytes()).unwrap();
        write("Cargo.toml", "[workspace]\n");
        write("b-plugin/Cargo.toml", "[package]\n");
        write("a-plugin/Cargo.toml", "[package]\n");
        write("target/CACHEDIR.TAG", "");
        assert_eq!(packages(folder.path()).unwrap(), ["a-plugin", "b-plugin"]);
        assert_eq!(packages(&folder.path().join("a-plugin")).unwrap(), ["a-plugin"]);
    }

    #[test]
    fn a_folder_without_plugins_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(packages(folder.path()).unwrap_err().to_string().contains("cannot read"));
        project::write_if_changed(&folder.path().join("Cargo.toml"), b"[workspace]\n").unwrap();
        assert!(packages(folder.path()).unwrap_err().to_string().contains("no plugin in"));
    }

    #[test]
    fn a_package_that_gave_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = collect("my-plugin", folder.path(), &folder.path().join("out")).unwrap_err();
        assert!(error.to_string().contains("`my-plugin`"), "{error}");
    }
}
