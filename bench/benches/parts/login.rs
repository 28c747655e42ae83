//! Native decoding and encoding.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use loginscope::pipeline::Chain;
use loginscope_login::Value;
use loginscope_login::decode::Decoder;
use loginscope_login::encode::Encoder;

use crate::source::{decoded, payloads};

const LOGINS: usize = 2_000;

pub(crate) fn bench(criterion: &mut Criterion, chain: &Chain) {
    let payloads = payloads(LOGINS).unwrap();
    let (mut logins, mut layouts) = decoded(chain, &payloads).unwrap();
    let mut group = criterion.benchmark_group("login");
    group.throughput(Throughput::Elements(LOGINS as u64));

    let encoder = Encoder::new(&chain.set_names);
    let mut out = Vec::new();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            for (row, payload) in payloads.iter().enumerate() {
                let values = [
                    Value::Text("android"),
                    Value::Text("2023-09-12T00:45:51Z"),
                    Value::Text("2023-09-12T00:00:00Z"),
                    Value::Integer(4),
                    Value::Text("public"),
                    Value::Integer(row as i64),
                    Value::Integer(17),
                ];
                let layout = layouts.get(row).unwrap();
                encoder.encode(payload, layout, black_box(values).into_iter().enumerate(), &mut out);
            }
            black_box(out.len())
        });
    });

    let mut decoder = Decoder::new(&chain.format, &chain.schema, &chain.set_names).unwrap();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            logins.clear();
            layouts.clear();
            for (offset, payload) in (0..).zip(&payloads) {
                decoder.decode(Some(black_box(payload)), offset, None, &mut logins, &mut layouts).unwrap();
            }
            black_box(logins.rows())
        });
    });
    group.finish();
}
