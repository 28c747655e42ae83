//! Misbehaving in ways that end a call, or cost.

use std::hint::black_box;

use crate::loginscope::plugin::log;
use crate::settings::How;

/// How much is leaked with each call, in bytes.
const LEAK: usize = 1 << 20;

/// How many turns a slow call takes: some milliseconds.
const SLOW: u64 = 20_000_000;

/// Does what it is told to, where that isn't a lie.
pub fn misbehave(how: &How) {
    match how {
        How::Trap => trap(),
        How::Panic => panic!("this login is too much for me"),
        How::Loop => run_forever(),
        How::Hoard => hoard(),
        How::Recurse => {
            black_box(recurse(1));
        }
        How::Leak => leak(),
        How::Slow => (0..SLOW).for_each(|turn| {
            black_box(turn);
        }),
        How::Chatter => (0..10_000).for_each(|number| log::write(log::Level::Warn, &format!("message {number}\n"))),
        _ => {}
    }
}

pub fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

pub fn run_forever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn hoard() {
    loop {
        leak();
    }
}

fn leak() {
    black_box(vec![1_u8; LEAK].leak());
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 8]);
    recurse(depth + 1) + frame[3]
}
