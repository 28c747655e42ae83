//! Plugins whose bytes were damaged, by chance or on purpose: each is an error or a plugin that is served, and never a crash.
//!
//! Where bytes are changed blindly, hardly anything passes validation, and what comes behind it sees nothing. So most mutations know how
//! a binary is made: they change instructions, constants and data, or move whole sections, and leave lengths as they are. The seed
//! is fixed; `fuzz/fuzz_targets/load.rs` goes further.

use std::collections::BTreeMap;
use std::ops::Range;

use loginscope_wasm::{Problem, componentize};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use wasmparser::{Parser, Payload};

use crate::support::{engine, logins_of, short_limits};
use crate::windows::{Nothing, window};
use crate::written::Guest;

/// How many mutants are loaded.
const MUTANTS: usize = 4_000;

/// A valid plugin, and where what is in it.
struct Original {
    bytes: Vec<u8>,
    /// The sections one by one, behind the header.
    sections: Vec<Range<usize>>,
    /// Function bodies and data segments.
    content: Vec<Range<usize>>,
}

impl Original {
    fn new(bytes: Vec<u8>) -> Self {
        let mut content = Vec::new();
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.unwrap() {
                Payload::CodeSectionEntry(function) => content.push(function.range()),
                Payload::DataSection(data) => content.push(data.range()),
                _ => {}
            }
        }
        let mut sections = Vec::new();
        let mut start = 8;
        while start < bytes.len() {
            let (mut length, mut at) = (0, start + 1);
            for shift in (0..).step_by(7) {
                let byte = bytes[at];
                length |= usize::from(byte & 0x7f) << shift;
                at += 1;
                if byte < 0x80 {
                    break;
                }
            }
            sections.push(start..at + length);
            start = at + length;
        }
        Self { bytes, sections, content }
    }

    fn mutant(&self, others: &[Self], chance: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        match chance.random_range(0..8) {
            0 => {
                let at = chance.random_range(0..bytes.len());
                bytes[at] ^= 1 << chance.random_range(0..8);
            }
            1 => bytes.truncate(chance.random_range(0..bytes.len())),
            2 => {
                // What is another one's at the same place, or some of it somewhere else.
                let other = &others.choose(chance).unwrap().bytes;
                let length = chance.random_range(1..64);
                let (from, to) = (chance.random_range(0..other.len() - 64), chance.random_range(0..bytes.len() - 64));
                bytes[to..to + length].copy_from_slice(&other[from..from + length]);
            }
            3 => return self.rearranged(others, chance),
            _ => {
                for _ in 0..chance.random_range(1..3) {
                    let place = self.content.choose(chance).unwrap().clone();
                    let at = chance.random_range(place);
                    bytes[at] = match chance.random_range(0..3) {
                        0 => chance.random(),
                        1 => bytes[at].wrapping_add(1),
                        _ => bytes[at].wrapping_sub(1),
                    };
                }
            }
        }
        bytes
    }

    /// The sections in another order, with one left out, one twice, or one of another plugin among them.
    fn rearranged(&self, others: &[Self], chance: &mut ChaCha8Rng) -> Vec<u8> {
        let section = |of: &Self, range: &Range<usize>| of.bytes[range.clone()].to_vec();
        let mut sections: Vec<Vec<u8>> = self.sections.iter().map(|range| section(self, range)).collect();
        let (one, another) = (chance.random_range(0..sections.len()), chance.random_range(0..sections.len()));
        match chance.random_range(0..4) {
            0 => sections.swap(one, another),
            1 => drop(sections.remove(one)),
            2 => sections.insert(one, sections[another].clone()),
            _ => {
                let other = others.choose(chance).unwrap();
                sections[one] = section(other, other.sections.choose(chance).unwrap());
            }
        }
        [&self.bytes[..8], &sections.concat()].concat()
    }
}

/// Loads a mutant and, where that goes well, has it serve. Says how far it came.
fn serve(bytes: &[u8]) -> &'static str {
    let component = match engine().load(bytes, "mutant") {
        Ok(component) => component,
        Err(error) => return at_fault(&error.problem),
    };
    let Ok(plugin) = component.configure("{}", &short_limits()) else { return "not configured" };
    let mut instance = plugin.instance();
    let validated = instance.validate(&logins_of(&["ann", "bob"]), &[]);
    let generated = instance.generate(&window(), Box::new(Nothing)).0;
    if validated.is_ok() && generated.is_ok() { "served" } else { "failed in service" }
}

fn at_fault(problem: &Problem) -> &'static str {
    match problem {
        Problem::NotWebAssembly | Problem::NotComponentized { .. } => "no component",
        Problem::NotCompiled { reason } if reason.contains("panicked") => "made a library panic",
        Problem::NotCompiled { .. } => "not compiled",
        Problem::Failed(_) => "failed while it started",
        _ => "breaks the contract",
    }
}

#[test]
fn a_mutant_is_an_error_or_a_plugin_and_never_a_crash() {
    let both = "export loginscope:plugin/validator@0.1.0; export loginscope:plugin/insight-generator@0.1.0;";
    let guests = [
        Guest { world: both, ..Guest::default() },
        Guest { world: both, validate: "(drop (memory.grow (i32.const 1)))", ..Guest::default() },
        Guest { world: both, start: "(if (i32.const 0) (then unreachable))", ..Guest::default() },
    ];
    let modules = guests.iter().map(Guest::module);
    let components = guests.iter().map(|guest| componentize(&guest.module(), "guest").unwrap().into_owned());
    let originals: Vec<Original> = modules.chain(components).map(Original::new).collect();
    for original in &originals {
        assert_eq!(serve(&original.bytes), "served");
    }
    let mut chance = ChaCha8Rng::seed_from_u64(7);
    let mut fates = BTreeMap::<&str, usize>::new();
    for _ in 0..MUTANTS {
        let mutant = originals.choose(&mut chance).unwrap().mutant(&originals, &mut chance);
        *fates.entry(serve(&mutant)).or_default() += 1;
    }
    assert!(!fates.contains_key("made a library panic"), "{fates:?}");
    // Enough of them come to each place where something can go wrong.
    for fate in [
        "no component",
        "not compiled",
        "breaks the contract",
        "failed while it started",
        "not configured",
        "failed in service",
        "served",
    ] {
        assert!(fates.get(fate).is_some_and(|count| *count >= MUTANTS / 200), "{fate}: {fates:?}");
    }
}
