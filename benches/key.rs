//! What a cache key costs: parts framed, and hashed once.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use tidegate::key::{KeyParts, PrimaryKey};

const BUCKET: &str = "media";
const HOST: &str = "img.example.com";

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("key");
    group.bench_function("of the URI", |b| {
        b.iter(|| {
            PrimaryKey::from_uri(BUCKET, black_box(HOST), "https", black_box("/albums/summer/cat.webp?w=320&q=75"))
        });
    });
    group.bench_function("3 parts of a policy, framed", |b| b.iter(parts));
    let framed = parts();
    group.bench_function("of 3 parts of a policy", |b| {
        b.iter(|| PrimaryKey::from_parts(BUCKET, black_box(HOST), black_box(&framed)));
    });
    for length in [64, 1024, 16 * 1024] {
        let uri = format!("/{}", "a".repeat(length));
        group.bench_function(format!("of a URI of {length} bytes"), |b| {
            b.iter(|| PrimaryKey::from_uri(BUCKET, HOST, "https", black_box(&uri)));
        });
    }
    let framed = PrimaryKey::from_uri(BUCKET, HOST, "https", "/albums/summer/cat.webp?w=320&q=75").into_bytes();
    group.bench_function("its hash alone", |b| b.iter(|| xxhash_rust::xxh3::xxh3_128(black_box(&framed))));
    group.finish();
}

fn parts() -> KeyParts {
    let mut parts = KeyParts::with_capacity(64);
    for part in ["/albums/summer/cat.webp", "q=75&w=320", "webp"] {
        parts.push(black_box(part).as_bytes());
    }
    parts
}

criterion_group!(benches, keys);
criterion_main!(benches);
