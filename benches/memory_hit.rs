//! What the store costs a hit, through the framework's own interface: look it up, read the body. Beside it what a request
//! pays to tell variants apart, and what a fill pays to be kept.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::cache::key::CacheKey;
use pingora::cache::trace::Span;
use pingora::cache::{CacheMeta, Storage};
use pingora::http::ResponseHeader;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tidegate::config::Cache;
use tidegate::decide::{Facts, NotStored, variance};
use tidegate::key::PrimaryKey;
use tidegate::lock::Uncacheable;
use tidegate::semantics::freshness::Freshness;
use tidegate::store::Store;
use tidegate::store::entry::{Entry, EntryId, StoredHead, metadata};
use tidegate::store::memory::MemoryTier;

const BODY: usize = 1024;

/// What an origin of pictures sends.
const FIELDS: [(&str, &str); 9] = [
    ("content-type", "image/webp"),
    ("content-length", "1024"),
    ("cache-control", "public, max-age=3600"),
    ("etag", "\"0123456789abcdef\""),
    ("last-modified", "Wed, 01 Oct 2025 00:00:00 GMT"),
    ("date", "Sat, 01 Nov 2025 00:00:00 GMT"),
    ("vary", "accept-encoding, accept"),
    ("access-control-allow-origin", "*"),
    ("server", "nginx"),
];

fn store() -> &'static Store {
    let uncacheable = Box::leak(Box::new(Uncacheable::new(NotStored::is_passing)));
    Box::leak(Box::new(Store::new(&Cache::default(), None, None, uncacheable)))
}

fn key(n: u64) -> CacheKey {
    let key = PrimaryKey::from_uri("media", "img.example.com", "https", &format!("/albums/summer/{n}.webp"));
    let mut cache_key = CacheKey::new(key.as_bytes(), "");
    cache_key.set_primary_bin_override(key.hash().to_be_bytes());
    cache_key
}

fn meta() -> CacheMeta {
    let mut head = ResponseHeader::build_no_case(200, Some(FIELDS.len())).expect("a head");
    for (name, value) in FIELDS {
        head.append_header(name, value).expect("a field");
    }
    let (now, facts) = (tidegate::clock::now(), facts());
    let mut meta = metadata(head, now, &facts);
    meta.extensions_mut().insert(facts);
    meta
}

fn facts() -> Arc<Facts> {
    Arc::new(Facts::of(Freshness::of_max_age(Duration::from_secs(3600), tidegate::clock::now())))
}

/// Everything in memory answers at once; a runtime would measure itself.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("an answer without waiting")
}

fn fill(store: &'static Store, key: &CacheKey, meta: &CacheMeta, body: Bytes) {
    let span = Span::inactive().handle();
    let mut writer = at_once(store.get_miss_handler(key, meta, &span)).expect("a writer");
    at_once(writer.write_body(body, true)).expect("a piece");
    at_once(writer.finish()).expect("an end");
}

fn hits(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory");
    let (store, span, meta) = (store(), Span::inactive().handle(), meta());
    let body = Bytes::from(vec![b'x'; BODY]);
    for n in 0..1000 {
        fill(store, &key(n), &meta, body.clone());
    }
    let (stored, missing) = (key(500), key(5000));
    group.bench_function("look up and read 1 KB", |b| {
        b.iter(|| {
            let (meta, mut hit) = at_once(store.lookup(black_box(&stored), &span)).expect("a tier").expect("a hit");
            let body = at_once(hit.read_body()).expect("a body");
            let end = at_once(hit.read_body()).expect("an end");
            (meta, body, end)
        });
    });
    group.bench_function("look up what is not there", |b| {
        b.iter(|| at_once(store.lookup(black_box(&missing), &span)).expect("a tier").is_none());
    });
    group.bench_function("fill and keep 1 KB", |b| {
        let mut n = 0;
        b.iter_batched(
            || {
                n = (n + 1) % 10_000;
                key(n)
            },
            |key| fill(store, &key, &meta, body.clone()),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("insert an entry of 1 KB", |b| {
        let tier = MemoryTier::new(256 * 1024 * 1024, Box::new(|_, _| ()));
        let head = Arc::new(StoredHead::of(&meta));
        let facts = facts();
        let mut n = 0u128;
        b.iter(|| {
            n = (n + 1) % 10_000;
            let key = n.to_be_bytes();
            let entry = Entry::new(key.as_slice().into(), head.clone(), body.clone(), Arc::clone(&facts));
            tier.insert(
                EntryId { primary: n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), variant: None },
                Arc::new(entry),
            );
        });
    });
    group.finish();
}

fn variants(c: &mut Criterion) {
    let mut group = c.benchmark_group("variance");
    let stored = headers(&FIELDS);
    let plain = headers(&[("etag", "\"1\"")]);
    let request = headers(&[
        ("host", "img.example.com"),
        ("accept", "image/avif,image/webp,image/*,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("user-agent", "Mozilla/5.0"),
    ]);
    let reduced = [(HeaderName::from_static("accept-encoding"), Some(HeaderValue::from_static("br")))];
    group.bench_function("of a response without Vary", |b| b.iter(|| variance(black_box(&plain), &request, &[])));
    group.bench_function("of 2 fields", |b| b.iter(|| variance(black_box(&stored), black_box(&request), &[])));
    group.bench_function("of 2 fields, one reduced", |b| {
        b.iter(|| variance(black_box(&stored), black_box(&request), &reduced));
    });
    group.finish();
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

criterion_group!(benches, hits, variants);
criterion_main!(benches);
