//! What plugins cost: `cargo run --release -p loginscope-wasm --example cost -- A.wasm B.wasm …`
//!
//! For each file: its size, how long it takes to load, to configure and to start an instance, and the time a login
//! costs in a call over 100 and over 2,000 logins, in the roles of validator and enricher. Times are the medians of many
//! runs.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for a person to read")]

use std::time::{Duration, Instant};

use loginscope_login::{Column, Logins, Schema, Slot, Value};
use loginscope_wasm::{Engine, Instance, Limits, LookUp, Role};

fn main() {
    let engine = Engine::new().unwrap();
    for file in std::env::args().skip(1) {
        let bytes = std::fs::read(&file).unwrap();
        let load = median(10, || engine.load(&bytes, &file).unwrap());
        let component = engine.load(&bytes, &file).unwrap();
        let limits = Limits::default();
        let configure = median(100, || component.configure("{}", &limits).unwrap());
        let plugin = component.configure("{}", &limits).unwrap();
        println!("{}: {} KiB, loaded in {load:.1?}, configured in {configure:.1?}", plugin.label(), bytes.len() / 1024);
        for rows in [1, 100, 2_000] {
            let logins = logins(rows);
            if plugin.declaration(Role::Validator).is_some() {
                let first = median(100, || plugin.instance().validate(&logins, &[]).unwrap());
                let mut instance = plugin.instance();
                let again = median(runs(rows), || instance.validate(&logins, &[]).unwrap());
                report("validate", rows, first, again);
            }
            if let Some(declaration) = plugin.declaration(Role::Enricher) {
                let history: Vec<_> = declaration.history.iter().map(|request| past(&request.look_up, rows)).collect();
                let enrich = |instance: &mut Instance| instance.enrich(&logins, &[], &history).unwrap();
                let first = median(100, || enrich(&mut plugin.instance()));
                let mut instance = plugin.instance();
                let again = median(runs(rows), || enrich(&mut instance));
                report("enrich", rows, first, again);
            }
        }
    }
}

fn runs(rows: usize) -> usize {
    400_000 / rows.max(20)
}

fn report(call: &str, rows: usize, first: Duration, again: Duration) {
    let each = again.as_secs_f64() * 1e9 / rows as f64;
    println!(
        "  {call} {rows:>5} logins: {again:>9.1?}, {each:>7.1} ns a login; on an instance not yet started {first:.1?}"
    );
}

/// How long the work takes, as the median of so many runs.
fn median<T>(runs: usize, mut work: impl FnMut() -> T) -> Duration {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(work());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.get(runs / 2).copied().unwrap_or_default()
}

/// Logins as the generator makes them.
fn logins(rows: usize) -> Logins {
    let mut logins = Logins::new(&Schema::default());
    for row in 0..rows {
        let user = format!("{row:08x}-063a-43a7-b91b-7ca1a833afae");
        let ip = format!("199.{}.{}.135", row % 251, row % 13);
        let device = format!("593-47-{row:04}");
        for (slot, column) in logins.columns_mut().iter_mut().enumerate() {
            column.push(match Slot(slot) {
                Slot::USER_ID => Value::Text(&user),
                Slot::TIMESTAMP => Value::Integer(1_694_479_551 + row as i64),
                Slot::IP => Value::Text(&ip),
                Slot::DEVICE_TYPE if row % 10 == 0 => Value::Missing,
                Slot::DEVICE_TYPE => Value::Text(if row % 2 == 0 { "android" } else { "iOS" }),
                Slot::DEVICE_ID => Value::Text(&device),
                Slot::LOCALE => Value::Text("RU"),
                Slot::APP_VERSION => Value::Text("2.3.0"),
                _ => Value::Missing,
            });
        }
        logins.record_timestamps.push(Some(1_694_479_551_000 + row as i64));
        logins.offsets.push(row as i64);
    }
    logins
}

/// A history of every login.
fn past(look_up: &LookUp, rows: usize) -> Column {
    let value = match look_up {
        LookUp::Contains => Value::Boolean(true),
        LookUp::Value | LookUp::Latest(_) => Value::Integer(41),
    };
    let mut column = Column::empty(match look_up {
        LookUp::Contains => loginscope_login::FieldType::Boolean,
        LookUp::Value | LookUp::Latest(_) => loginscope_login::FieldType::Integer,
    });
    for _ in 0..rows {
        column.push(value);
    }
    column
}
