//! Benchmarks of single parts. Each says how long a call takes, and as `thrpt` how many logins that is a second.
//!
//! They are one program, as linking takes longer than measuring; `cargo bench -p loginscope-bench -- FILTER` runs some.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark without its data can only end")]

mod login;
mod pipeline;
mod plugins;
mod poison;
mod source;
mod state;
mod trial;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args();
    let chain = source::chain().unwrap();
    // First, as it tells how much memory users take: others leave memory behind that would be used again.
    state::bench(&mut criterion, &chain);
    login::bench(&mut criterion, &chain);
    plugins::bench(&mut criterion, &chain);
    pipeline::bench(&mut criterion, &chain);
    poison::bench(&mut criterion);
    trial::bench(&mut criterion, &chain);
    criterion.final_summary();
}
