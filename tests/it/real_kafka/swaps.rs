//! Swap after swap while logins flow, to versions good and bad in every way: no login is lost or doubled, windows stay exact, and what is
//! refused never has a say.
//!
//! `LOGINSCOPE_SWAPS` and `LOGINSCOPE_SWAP_RATE` (logins a second) make it longer and faster than in the ordinary tests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use loginscope_kafka::OwnedRecord;
use loginscope_tests::control::Control;
use loginscope_tests::fold::Fold;
use loginscope_tests::guests::misbehave;
use loginscope_tests::instance::wait_until;
use loginscope_tests::kafka::{Scene, cluster, header};
use serde_json::{Value, json};

use super::{configuration, is_summary, well_formed};

const CONFIGURATION: &str = "
source_headers = true
plugins_header = true
workers = 2
control_token = \"correct-horse-battery-staple\"
[swap]
probation = \"20s\"
";

/// A number that is given from outside.
fn given(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// What is to become of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Serves,
    IsRefused,
    IsRolledBack,
}

/// A version of a plugin.
struct Version {
    what: &'static str,
    component: Vec<u8>,
    settings: Value,
    fate: Fate,
}

/// Those that don't serve for long add a field that no other one does: by that they would be seen.
fn versions() -> Vec<Version> {
    let guest = |what, settings, fate| Version { what, component: misbehave().to_vec(), settings, fate };
    let bytes = |what, component| Version { what, component, settings: json!({}), fate: Fate::IsRefused };
    let bad = |how: &str| json!({ "how": how, "role": "enricher", "history": true });
    let mut corrupt = misbehave().to_vec();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 200].fill(0xff);
    let foreign = b"\0asm\x0d\0\x01\0";
    vec![
        guest("a good one", json!({}), Fate::Serves),
        guest("a slower one", bad("slow"), Fate::IsRefused),
        guest("one that differs", json!({ "echo_table": true }), Fate::Serves),
        guest("one that traps when loaded", bad("trap_in_configure"), Fate::IsRefused),
        guest(
            "one that traps after many logins",
            json!({ "how": "trap", "role": "enricher", "after": 10_000 }),
            Fate::IsRolledBack,
        ),
        guest("an endless loop", bad("loop"), Fate::IsRefused),
        guest("one that hoards memory", bad("hoard"), Fate::IsRefused),
        bytes("one of another world", foreign.to_vec()),
        bytes("a corrupt one", corrupt),
        bytes("one that was cut off", misbehave()[..middle].to_vec()),
        guest("another good one", json!({ "role": "enricher" }), Fate::Serves),
    ]
}

/// Deploys a version, and sees what becomes of it.
fn swap(control: &Control, version: &Version) {
    let before = control.generation();
    let answer = control.deploy(&version.component, &version.settings);
    let (end, what) = (answer["end"].as_str(), version.what);
    match version.fate {
        Fate::Serves => {
            assert!(matches!(end, Some("serving" | "unchanged")), "{what}: {answer}");
        }
        Fate::IsRefused => {
            assert!(answer["error"].is_string(), "{what}: {answer}");
            assert_eq!(control.generation(), before, "{what}");
        }
        Fate::IsRolledBack => {
            assert_eq!(end, Some("serving"), "{what}: {answer}");
            let about = || control.plugins().to_string();
            wait_until(&format!("{what} to be rolled back"), about, || {
                (control.generation() == before + 2).then_some(())
            });
            assert!(control.plugins()["what"].as_str().unwrap().starts_with("rolled back: "));
        }
    }
}

#[test]
fn swap_after_swap_loses_nothing_and_what_is_refused_has_no_say() {
    let (swaps, rate) = (given("LOGINSCOPE_SWAPS", 22), given("LOGINSCOPE_SWAP_RATE", 4000));
    let mut kafka = cluster();
    let mut scene = Scene::new(&mut kafka, "swaps", 4);
    let (_folder, config) = configuration(CONFIGURATION);
    let mut instance = scene.run_with_partitions(&["--config", &config]);
    let control = Control::of(&mut instance);
    let mut outputs = scene.outputs();
    let load = well_formed(5000, 17);
    scene.write(&load);
    outputs.wait_for(5000);

    let (versions, mut fates) = (versions(), BTreeMap::new());
    // What a version may take goes by what one before it took that has proved itself.
    swap(&control, &versions[0]);
    // It begins with the first login.
    scene.write(&load[..100]);
    wait_until(
        "the end of its probation",
        || control.plugins().to_string(),
        || (control.plugins()["probation_seconds"] == 0.0).then_some(()),
    );
    std::thread::scope(|threads| {
        let swapping = threads.spawn(|| {
            for version in versions.iter().cycle().take(swaps as usize) {
                let began = Instant::now();
                swap(&control, version);
                println!("{:>6} ms: {}", began.elapsed().as_millis(), version.what);
                *fates.entry(version.fate).or_insert(0_u64) += 1;
            }
        });
        // A paced load, in slices of 20 ms.
        let (began, mut slices) = (Instant::now(), 0);
        while !swapping.is_finished() {
            let slice = (rate / 50) as usize;
            let first = slices as usize * slice % (load.len() - slice);
            scene.write(&load[first..first + slice]);
            slices += 1;
            if slices % 50 == 0 {
                outputs.arrived();
            }
            std::thread::sleep((Duration::from_millis(20) * slices).saturating_sub(began.elapsed()));
        }
        swapping.join().unwrap();
    });
    outputs.wait_for(scene.written());
    let metrics = instance.get("/metrics");
    assert_eq!(instance.metric("loginscope_plugin_failures_total{plugin=\"misbehave@0.1.0\"}"), 0);
    assert_eq!(instance.ended_by("TERM"), Some(0), "{}", instance.log());
    outputs.arrived();
    outputs.assert_complete(scene.written());
    assert!(outputs.repeated().is_empty(), "{} logins came more than once", outputs.repeated().len());
    assert!(outputs.rejected.records.is_empty(), "{} were rejected", outputs.rejected.records.len());
    let is_marked = |record: &&OwnedRecord| {
        String::from_utf8_lossy(record.payload.as_ref().unwrap()).contains("\"guest_user_logins\"")
    };
    assert_eq!(outputs.processed.records.iter().filter(is_marked).count(), 0, "what was refused had a say");
    assert_eq!(
        went_back(&outputs.processed.records),
        0,
        "logins were judged by a generation before that of earlier ones"
    );
    let summaries: Vec<OwnedRecord> = scene.all(&scene.insights).into_iter().filter(is_summary).collect();
    Fold::new(&outputs.processed.records).check(&summaries, 100);
    let pauses = metrics.lines().filter(|line| line.starts_with("loginscope_plugin_swap_pause_seconds"));
    println!(
        "{} logins once each, {} windows exact; {fates:?}\n{}",
        scene.written(),
        summaries.len(),
        pauses.collect::<Vec<_>>().join("\n")
    );
}

/// How many logins say that they went through plugins of an earlier generation than a login before them in their partition.
fn went_back(processed: &[OwnedRecord]) -> usize {
    let number = |record: &OwnedRecord, name: &str| -> i64 { header(record, name).unwrap().parse().unwrap() };
    let generation = |record: &OwnedRecord| -> u64 {
        let plugins = header(record, "loginscope-plugins").unwrap();
        let (generation, plugins) = plugins.strip_prefix("generation=").unwrap().split_once("; ").unwrap();
        assert!(plugins.starts_with("validate-logins@0.1.0, enrich-logins@0.1.0, summarize-logins@0.1.0"), "{plugins}");
        generation.parse().unwrap()
    };
    let place = |record: &OwnedRecord| {
        (number(record, "loginscope-source-partition"), number(record, "loginscope-source-offset"))
    };
    let mut judged: Vec<_> = processed.iter().map(|record| (place(record), generation(record))).collect();
    judged.sort_unstable();
    let is_back = |two: &&[((i64, i64), u64)]| two[0].0.0 == two[1].0.0 && two[0].1 > two[1].1;
    judged.windows(2).filter(is_back).count()
}
