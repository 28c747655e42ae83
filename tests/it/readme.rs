//! What the README shows is what there is.

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_plugin_in_the_readme_is_the_example_that_is_built_and_tested() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let example = fs::read_to_string(root().join("examples/new-device/src/lib.rs")).unwrap();
    let (plugin, _) = example.split_once("#[cfg(test)]").unwrap();
    let (_, shown) = readme.split_once("```rust\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert_eq!(shown.trim(), plugin.trim());
}
