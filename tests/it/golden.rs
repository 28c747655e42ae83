//! Golden files: `loginscope pipe` on inputs with known answers, byte for byte.
//!
//! The answers were not made by this program: they come from a model of the data contract that was written independently of
//! it. `LOGINSCOPE_PLUGINS_DIR` names a folder with components to take instead of the ones that the host carries inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("input.jsonl").exists())
        .collect();
    cases.sort();
    cases
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// Rejected lines without their reasons, which are free text; each must be a printable sentence of at most 256 bytes.
fn without_reasons(mut rejected: Vec<Value>) -> Vec<Value> {
    for line in &mut rejected {
        if let Some(Value::String(reason)) = line.as_object_mut().and_then(|members| members.shift_remove("reason")) {
            assert!(!reason.is_empty() && reason.len() <= 256, "{reason:?}");
            assert!(!reason.contains(char::is_control), "{reason:?}");
        }
    }
    rejected
}

fn same_lines(name: &str, what: &str, actual: &[Value], expected: &[Value]) {
    for (number, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert_eq!(actual.to_string(), expected.to_string(), "{name}: {what} line {number}");
    }
    assert_eq!(actual.len(), expected.len(), "{name}: number of {what} lines");
}

fn check(case: &Path, plugins: Option<&Path>) {
    let name = case.file_name().unwrap().to_string_lossy().into_owned();
    let folder = tempfile::tempdir().unwrap();
    let (insights, rejected) = (folder.path().join("insights"), folder.path().join("rejected"));
    let mut command = Command::new(loginscope_tests::binary());
    command.arg("pipe").arg("--insights").arg(&insights).arg("--rejected").arg(&rejected);
    if case.join("loginscope.toml").exists() {
        command.arg("--config").arg(case.join("loginscope.toml"));
    }
    for plugin in ["validate_logins.wasm", "enrich_logins.wasm", "summarize_logins.wasm"] {
        command.args(
            plugins.map(|plugins| plugins.join(plugin)).iter().flat_map(|path| ["--plugin".as_ref(), path.as_os_str()]),
        );
    }
    let output =
        command.stdin(fs::File::open(case.join("input.jsonl")).unwrap()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{name}: {}", output.status);
    let processed = fs::read(case.join("processed.jsonl")).unwrap();
    if output.stdout != processed {
        let (actual, expected) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&processed));
        for (number, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
            assert_eq!(actual, expected, "{name}: processed line {number}");
        }
        panic!("{name}: {} processed lines, not {}", actual.lines().count(), expected.lines().count());
    }
    let expected = without_reasons(lines(&case.join("rejected.jsonl")));
    same_lines(&name, "rejected", &without_reasons(lines(&rejected)), &expected);
    same_lines(&name, "insights", &lines(&insights), &lines(&case.join("insights.jsonl")));
}

#[test]
fn golden_the_default_plugins_give_the_known_answers() {
    let cases = cases();
    assert!(cases.len() >= 8, "golden files are missing");
    let plugins = std::env::var_os("LOGINSCOPE_PLUGINS_DIR").map(PathBuf::from);
    for case in cases {
        check(&case, plugins.as_deref());
    }
}
