//! Where the repository's things are, and how other programs are run for it.
//!
//! What this package makes itself always lies in the checkout's own `target`, wherever cargo puts its builds: those paths
//! are promises to people and scripts. A program that is missing or fails becomes one sentence that names it.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

/// The root of the checkout.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// The checkout's `target` folder: what this package makes goes there, even if cargo builds elsewhere.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Where cargo puts what it builds for the root workspace: the folder above that of the profile, in which this program
/// lies. The checkout's `target` if this program was started from an unusual place.
pub fn cargo_target() -> PathBuf {
    let own = std::env::current_exe().ok();
    let profile = own.as_deref().and_then(Path::parent).filter(|folder| folder.join(".fingerprint").is_dir());
    profile.and_then(Path::parent).map_or_else(target, Path::to_path_buf)
}

/// The cargo that runs this program, ready for arguments, in `folder`. It builds for the folder's own target, whatever
/// the environment of the caller says.
pub fn cargo(folder: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(folder).env_remove("CARGO_BUILD_TARGET").stdin(Stdio::null());
    command
}

/// Runs a command to its end, its output going where ours goes.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{}` ended with {status}", shown(command))
}

/// Runs a command to its end and returns what it wrote to standard output. If it fails, the error carries what it said.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = finished(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end and returns all it wrote; an exit status other than 0 is an error with what it said.
pub fn finished(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    bail!("`{}` ended with {}:\n{}", shown(command), output.status, String::from_utf8_lossy(&said).trim_end())
}

/// A command as a person would type it, without its environment.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Writes a file whole or not at all, and only if its content differs, so that what depends on its time stays quiet.
/// Says whether it was written.
pub fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|present| present == content) {
        return Ok(false);
    }
    let folder = path.parent().ok_or_else(|| anyhow!("{} lies in no folder", path.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
    std::io::Write::write_all(&mut file, content).with_context(|| format!("cannot write {}", path.display()))?;
    allow_everyone_to_read(file.as_file())?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Temporary files are made for their owner alone; what is built here is for anyone.
fn allow_everyone_to_read(file: &std::fs::File) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.set_permissions(std::fs::Permissions::from_mode(0o644))?)
}

fn not_started(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    if error.kind() == ErrorKind::NotFound {
        return anyhow!("`{program}` isn't installed or isn't in the PATH");
    }
    anyhow!("`{program}` cannot be started: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-anywhere")).unwrap_err();
        assert!(error.to_string().contains("`no-such-program-anywhere` isn't installed"), "{error}");
    }

    #[test]
    fn what_a_failed_command_said_is_in_the_error() {
        let error =
            output_of(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("out") && error.contains("err") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn an_unchanged_file_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        assert!(write_if_changed(&path, b"one").unwrap());
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), written);
        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "no temporary file stays");
    }
}
