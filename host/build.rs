//! Builds the three default plugins, which the host carries inside, and lays their bytes where `include_bytes!` finds them.
//!
//! The plugins are a workspace of their own, so that this is a cargo inside cargo: in a target directory of its own (the
//! outer one is locked), and without what the outer one has set for itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The target that plugins are built for: it has no imports, so there is nothing to deny.
const TARGET: &str = "wasm32-unknown-unknown";

/// The default plugins in their order: package and file name.
const PLUGINS: [(&str, &str); 3] = [
    ("validate-logins", "validate_logins.wasm"),
    ("enrich-logins", "enrich_logins.wasm"),
    ("summarize-logins", "summarize_logins.wasm"),
];

fn main() {
    if let Err(reason) = build() {
        println!("cargo::error={reason}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest.parent().ok_or("the host's folder has no parent")?;
    for path in ["plugins/Cargo.toml", "plugins/Cargo.lock", "sdk/Cargo.toml", "sdk/src", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for (package, _) in PLUGINS {
        println!("cargo::rerun-if-changed={}", root.join("plugins").join(package).display());
    }
    let built = compile(root)?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    for (_, file) in PLUGINS {
        let from = built.join(file);
        fs::copy(&from, out.join(file)).map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    }
    Ok(())
}

/// Compiles the plugins and answers the folder that holds them.
fn compile(root: &Path) -> Result<PathBuf, String> {
    let plugins = root.join("plugins");
    let target = plugins.join("target");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"]).arg(&target);
    for (package, _) in PLUGINS {
        cargo.args(["--package", package]);
    }
    // Flags, wrappers (clippy is one) and the target directory of the outer cargo are not for this one.
    for (name, _) in env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO") || shown.starts_with("RUSTC") || shown.starts_with("RUSTFLAGS") {
            let keep = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_CAINFO", "RUSTC_BOOTSTRAP"];
            if !keep.contains(&shown.as_ref())
                && !shown.starts_with("CARGO_REGISTR")
                && !shown.starts_with("CARGO_SOURCE")
            {
                cargo.env_remove(&name);
            }
        }
    }
    let output = cargo.current_dir(&plugins).output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        return Ok(target.join(TARGET).join("release"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("can't find crate for `core`") || said.contains("target may not be installed") {
        return Err(format!("the target {TARGET} is not installed; bring it with: rustup target add {TARGET}"));
    }
    Err(format!("the default plugins do not build: {}", said.replace('\n', " | ")))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
