//! What decoding costs: `cargo bench --bench unpack`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rsecho::unpack::{Layout, Value};

/// 24 bytes: what a telemetry record may look like.
const RECORD: &str = "! I 4s Q 2h f";

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("unpack/compile");
    for format in [RECORD, "<65535h"] {
        group.bench_with_input(BenchmarkId::from_parameter(format), format, |b, format| {
            b.iter(|| Layout::compile(black_box(format)));
        });
    }
    group.finish();
}

fn one(c: &mut Criterion) {
    let layout = Layout::compile(RECORD).unwrap();
    let data = [7; 24];
    let values: Vec<Value> = layout.decode(&data).unwrap().collect();
    let mut group = c.benchmark_group("unpack/one");
    group.throughput(Throughput::Elements(1));
    group.bench_function("check", |b| b.iter(|| layout.check(black_box(&data))));
    group.bench_function("decode", |b| {
        b.iter(|| {
            for value in layout.decode(black_box(&data)).unwrap() {
                black_box(value);
            }
        });
    });
    let mut out = Vec::with_capacity(24);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            layout.encode_into(black_box(&values), &mut out)
        });
    });
    group.finish();
}

fn many(c: &mut Criterion) {
    let mut group = c.benchmark_group("unpack/many");
    // The first stays on one thread, the second does not.
    for records in [10_000, 1_000_000] {
        let data: Vec<u8> = (0..records * 24).map(|i| i as u8).collect();
        group.throughput(Throughput::Bytes(data.len() as u64));
        for format in [RECORD, "! 24B", "! 24s"] {
            let layout = Layout::compile(format).unwrap();
            group.bench_with_input(BenchmarkId::new(format, records), &data, |b, data| {
                b.iter(|| layout.decode_columns(black_box(data)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, compile, one, many);
criterion_main!(benches);
