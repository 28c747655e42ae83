//! The plugins that misbehave, built once for all tests.
//!
//! There is one, `misbehave`, with all three roles. Its settings say what it does:
//!
//! | setting | meaning |
//! |---|---|
//! | `how` | how to misbehave; see below |
//! | `when_user` | only in a batch that holds a login of this user, and there at that very login; without it, in every call |
//! | `after` | only when an instance has been handed so many logins |
//! | `role` | only in this role: `validator`, `enricher` or `insight-generator`; without it, in all that can |
//! | `echo` | `[{"name": "geo.country", "type": "text"}, …]`: the enricher reads these fields and sets them again as `echo_geo_country` … |
//! | `echo_table` | the enricher sets the columns of the login's own table again, as `table_user_id` … |
//! | `history` | the enricher asks how often it has seen the login's user and sets that as `guest_user_logins` |
//! | `read_aggregate` | the insight generator reads this aggregate and tells what it saw |
//!
//! When it behaves, the validator rejects users whose id begins with `reject` (code `rejected_by_guest`); the enricher sets
//! `guest_user_bytes` (the length of the user id), refuses users that begin with `refuse` (code `refused_by_guest`) and tells
//! of those that begin with `remark` (insight `guest_remark`); the insight generator makes one insight `guest_window`.
//!
//! | `how` | what it does |
//! |---|---|
//! | `well` | behaves; the default |
//! | `trap`, `panic` | traps without a word; panics, saying `this login is too much for me` |
//! | `loop`, `recurse` | runs forever; calls itself without end |
//! | `hoard`, `leak` | takes memory until there is none; answers right, but keeps a MiB more with each call |
//! | `slow` | answers right, but takes some milliseconds for each call |
//! | `chatter` | answers right, but writes 10,000 messages to the log first |
//! | `loop_in_configure`, `trap_in_configure`, `lie_declaration` | while it is configured: runs forever; traps; declares what the contract doesn't allow |
//! | `lie_row`, `lie_order` | names a row that isn't there; rows that don't ascend |
//! | `lie_code`, `lie_reason` | a code or kind that is none; a reason of two lines, data that is no JSON object |
//! | `lie_ends`, `lie_length`, `lie_rest`, `lie_type`, `lie_count`, `lie_missing`, `lie_number` | columns (the enricher's): ends that run backwards; a row too few; an entry too many; another type; a column too many; missing rows that aren't there; NaN |
//! | `lie_utf8`, `lie_pointer` | a text that isn't UTF-8; one that lies outside of memory |
//! | `many_insights`, `too_many_insights` | ten million insights (a validator: rejections), more than there is memory for; a hundred thousand, more than the host takes |
//! | `huge_text` | one insight (a validator: one reason) of 8 MiB |

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The bytes of the guest `misbehave`, a core module. Built by the first test of a process that asks; cargo sees to it that it
/// is built anew only where it has changed.
///
/// # Panics
/// It can't be built: the message is cargo's.
pub fn misbehave() -> &'static [u8] {
    static GUEST: OnceLock<Vec<u8>> = OnceLock::new();
    GUEST.get_or_init(|| build("misbehave"))
}

#[expect(clippy::expect_used, reason = "a test without its guest can only fail")]
fn build(package: &str) -> Vec<u8> {
    let root = workspace();
    let target = root.join("target/guests");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--locked", "--target", "wasm32-unknown-unknown", "--package", package])
        .current_dir(root.join("tests/guests"))
        .arg("--target-dir")
        .arg(&target)
        // What is meant for the host's build isn't meant for this one.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the guest {package} can't be built:\n{said}");
    let file = target.join(format!("wasm32-unknown-unknown/release/{package}.wasm"));
    std::fs::read(&file).expect("cargo has built the guest")
}

/// The workspace's root, above the package whose tests run.
#[expect(clippy::expect_used, reason = "a test outside of the workspace can only fail")]
fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().find(|folder| folder.join("tests/guests/Cargo.toml").is_file());
    root.expect("the package is in the workspace").to_owned()
}
