//! The same result, whatever the batching, and whatever fails in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use loginscope::generator::{Generator, Made, Options};
use loginscope::pipeline::Chain;
use loginscope::pipeline::plugins::DEFAULTS;
use loginscope_tests::guests::misbehave;
use loginscope_tests::in_process::{InProcess, Result, plugin_set};

/// The batch sizes that are compared with each other.
const SIZES: [usize; 4] = [1, 7, 100, 5000];

fn messages(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let options = Options { users: 40, malformed: 0.05, outcome: 0.5, seed, ..Options::default() };
    let mut generator = Generator::new(options).unwrap();
    let mut made = Made::default();
    (0..count)
        .map(|_| {
            generator.make(&mut made);
            made.value.clone()
        })
        .collect()
}

fn result(chain: &Arc<Chain>, messages: &[Vec<u8>], size: usize) -> Result {
    let mut result = Result::default();
    InProcess::new(chain, 100).run(messages, size, &mut result);
    result
}

fn same_whatever_the_batching(chain: &Arc<Chain>, messages: &[Vec<u8>]) -> Result {
    let one_by_one = result(chain, messages, SIZES[0]);
    assert_eq!(one_by_one.processed.len() + one_by_one.rejected.len(), messages.len(), "no message is lost");
    for size in &SIZES[1..] {
        let batched = result(chain, messages, *size);
        assert_eq!(batched.processed, one_by_one.processed, "processed logins in batches of {size}");
        assert_eq!(batched.rejected, one_by_one.rejected, "rejected logins in batches of {size}");
        assert_eq!(batched.insights, one_by_one.insights, "insights in batches of {size}");
    }
    one_by_one
}

fn defaults() -> Vec<&'static [u8]> {
    DEFAULTS.iter().map(|(_, bytes)| *bytes).collect()
}

#[test]
fn the_default_plugins_give_the_same_result_whatever_the_batching() {
    let chain = Arc::new(plugin_set(&defaults(), BTreeMap::new()).load().unwrap());
    let result = same_whatever_the_batching(&chain, &messages(1, 6000));
    assert_eq!(result.insights.len(), result.processed.len() / 100);
}

/// The default plugins with one that misbehaves at one user's logins before the last of them.
fn with_a_misbehaving_plugin(how: &str, user: Option<&str>) -> Arc<Chain> {
    let misbehaving: &'static [u8] = misbehave();
    let mut plugins = defaults();
    plugins.insert(2, misbehaving);
    let mut settings = serde_json::json!({ "how": how });
    if let Some(user) = user {
        settings["when_user"] = user.into();
    }
    let name = loginscope_wasm::Engine::new().unwrap().load(misbehaving, "misbehave").unwrap().name().to_owned();
    Arc::new(plugin_set(&plugins, BTreeMap::from([(name, settings)])).load().unwrap())
}

#[test]
fn a_trapping_plugin_loses_no_login_and_rejects_only_those_at_fault() {
    let messages = messages(2, 1500);
    let busiest = busiest_user(&messages);
    let chain = with_a_misbehaving_plugin("trap", Some(&busiest));
    let result = same_whatever_the_batching(&chain, &messages);
    let failed: Vec<i64> =
        result.rejected.iter().filter(|rejected| rejected.1 == "plugin_failed").map(|rejected| rejected.0).collect();
    assert!(!failed.is_empty());
    for offset in failed {
        let message = String::from_utf8_lossy(&messages[usize::try_from(offset).unwrap()]).into_owned();
        assert!(message.contains(&busiest), "{message}");
    }
    assert!(result.processed.iter().all(|(_, value)| !value.contains(&format!("\"user_id\":\"{busiest}\""))));
}

#[test]
fn a_plugin_that_leaks_memory_rejects_nobody() {
    let messages = messages(3, 1500);
    let chain = with_a_misbehaving_plugin("leak", None);
    let result = same_whatever_the_batching(&chain, &messages);
    assert!(result.rejected.iter().all(|rejected| rejected.1 != "plugin_failed"));
}

fn busiest_user(messages: &[Vec<u8>]) -> String {
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for message in messages {
        if let Ok(login) = serde_json::from_slice::<serde_json::Value>(message)
            && let Some(user) = login.get("user_id").and_then(serde_json::Value::as_str)
        {
            *users.entry(user.to_owned()).or_default() += 1;
        }
    }
    users.into_iter().max_by_key(|(_, count)| *count).unwrap().0
}
