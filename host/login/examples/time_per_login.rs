//! How long a login takes to decode and to encode, in nanoseconds: `cargo run --release --example time_per_login`.
//!
//! The logins are as the original generator makes them, 184 bytes each, with the seven fields set that the default
//! enricher sets. The best of many rounds is shown, and the median.

use std::hint::black_box;
use std::time::Instant;

use loginscope_login::decode::{Decoder, FormatError, InputFormat, Layouts};
use loginscope_login::encode::Encoder;
use loginscope_login::{FieldType, Logins, Rejection, Schema, Value};

const LOGINS: usize = 2_000;
const ROUNDS: usize = 1_000;

fn messages() -> Vec<Vec<u8>> {
    (0..LOGINS)
        .map(|number| {
            format!(
                r#"{{"user_id":"424cdd21-063a-43a7-b91b-7ca1a8{number:06}","app_version":"2.3.0","device_type":"android","ip":"199.172.111.135","locale":"RU","device_id":"593-47-5928","timestamp":"{}"}}"#,
                1_694_479_551 + number
            )
            .into_bytes()
        })
        .collect()
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("a login was rejected: {0:?}")]
    Rejected(Rejection),
}

/// The best and the median of the rounds, in nanoseconds a login.
fn shown(mut rounds: Vec<f64>) -> String {
    rounds.sort_by(f64::total_cmp);
    let (best, median) =
        (rounds.first().copied().unwrap_or_default(), rounds.get(ROUNDS / 2).copied().unwrap_or_default());
    format!("best {best:.0} ns, median {median:.0} ns a login")
}

fn main() -> Result<(), Failure> {
    let set_names: Vec<String> =
        ["device_type", "login_time", "login_hour", "ip_version", "ip_scope", "user_logins", "user_unique_ips"]
            .map(str::to_owned)
            .into();
    let mut schema = Schema::default();
    for (name, field_type) in [
        ("login_time", FieldType::Text),
        ("login_hour", FieldType::Text),
        ("ip_version", FieldType::Integer),
        ("ip_scope", FieldType::Text),
        ("user_logins", FieldType::Integer),
        ("user_unique_ips", FieldType::Integer),
    ] {
        // The names are new to the schema, so that no type can differ.
        let _ = schema.add(name, field_type);
    }
    let messages = messages();
    let mut decoder = Decoder::new(&InputFormat::default(), &schema, &set_names)?;
    let encoder = Encoder::new(&set_names);
    let (mut logins, mut layouts, mut out) = (Logins::new(&schema), Layouts::default(), Vec::new());
    let (mut decoding, mut encoding) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        logins.clear();
        layouts.clear();
        out.clear();
        let start = Instant::now();
        for (offset, message) in messages.iter().enumerate() {
            decoder
                .decode(Some(black_box(message)), offset as i64, Some(0), &mut logins, &mut layouts)
                .map_err(Failure::Rejected)?;
        }
        decoding.push(start.elapsed().as_nanos() as f64 / LOGINS as f64);
        let start = Instant::now();
        for (row, message) in messages.iter().enumerate() {
            let values = [
                Value::Text("android"),
                Value::Text("2023-09-12T00:45:51Z"),
                Value::Text("2023-09-12T00:00:00Z"),
                Value::Integer(4),
                Value::Text("public"),
                Value::Integer(row as i64),
                Value::Integer(17),
            ];
            if let Some(layout) = layouts.get(row) {
                encoder.encode(message, layout, black_box(&values).iter().copied().enumerate(), &mut out);
            }
        }
        encoding.push(start.elapsed().as_nanos() as f64 / LOGINS as f64);
        black_box(&out);
    }
    println!("{} bytes in, {} bytes out a login", messages.first().map_or(0, Vec::len), out.len() / LOGINS);
    println!("decode: {}", shown(decoding));
    println!("encode: {}", shown(encoding));
    Ok(())
}
