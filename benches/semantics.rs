//! What the rules of HTTP caching cost on each hit. Every function that runs on a hit should stay well below 100 ns.

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate::policy::decision::Overrides;
use tidegate::semantics::cache_control::{CacheControl, ResponseControl};
use tidegate::semantics::conditional::not_modified;
use tidegate::semantics::fields::remove_hop_by_hop;
use tidegate::semantics::freshness::{Freshness, FreshnessInput};
use tidegate::semantics::range::requested;
use tidegate::semantics::request::RequestDirectives;
use tidegate::semantics::reuse::may_reuse;
use tidegate::semantics::storable::{StoreInput, storable};
use tidegate::semantics::target::Target;
use tidegate::semantics::vary::{VaryFields, append_selecting, variance};

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// What a browser sends.
fn request() -> HeaderMap {
    headers(&[
        ("host", "img.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"),
        ("accept-language", "en-GB,en;q=0.8,de;q=0.5,fr;q=0.3"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://www.example.com/gallery"),
        ("cookie", "session=0123456789abcdef"),
        ("sec-fetch-dest", "image"),
    ])
}

fn response() -> HeaderMap {
    headers(&[
        ("content-type", "image/webp"),
        ("content-length", "1024"),
        ("cache-control", "public, max-age=3600, stale-while-revalidate=60"),
        ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("last-modified", "Wed, 01 Oct 2025 00:00:00 GMT"),
        ("etag", "\"0123456789abcdef\""),
        ("server", "origin"),
    ])
}

fn with(mut headers: HeaderMap, name: HeaderName, value: &'static str) -> HeaderMap {
    headers.insert(name, HeaderValue::from_static(value));
    headers
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_660)
}

fn freshness(response: &HeaderMap, control: &ResponseControl) -> Freshness {
    Freshness::of(&FreshnessInput {
        status: StatusCode::OK,
        headers: response,
        control,
        request_time: now(),
        response_time: now(),
        heuristic: true,
    })
}

fn on_each_hit(c: &mut Criterion) {
    let mut group = c.benchmark_group("hit");
    let plain = request();
    let refetch = with(request(), header::CACHE_CONTROL, "max-age=0");
    group.bench_function("RequestDirectives, none", |b| b.iter(|| RequestDirectives::of(black_box(&plain))));
    group.bench_function("RequestDirectives, max-age", |b| b.iter(|| RequestDirectives::of(black_box(&refetch))));

    let stored = response();
    let varied = with(response(), header::VARY, "Accept-Encoding");
    let both = with(response(), header::VARY, "Accept-Encoding, Accept-Language");
    let custom = with(response(), header::VARY, "X-Tenant");
    group.bench_function("VaryFields, none", |b| b.iter(|| VaryFields::of(black_box(&stored))));
    group.bench_function("VaryFields, one", |b| b.iter(|| VaryFields::of(black_box(&varied))));
    for (name, response) in [("none", &stored), ("accept-encoding", &varied), ("both", &both), ("custom", &custom)] {
        let vary = VaryFields::of(response);
        group.bench_function(format!("variance, {name}"), |b| {
            b.iter(|| variance(black_box(&vary), &[], |name, out| append_selecting(black_box(&plain), name, out)));
        });
    }

    let control = ResponseControl::of(&stored, Overrides::default());
    let fresh = freshness(&stored, &control);
    let directives = RequestDirectives::of(&plain);
    group.bench_function("may_reuse", |b| {
        b.iter(|| may_reuse(black_box(&fresh), black_box(&directives), true, black_box(now())));
    });

    let tagged = with(request(), header::IF_NONE_MATCH, "\"0123456789abcdef\"");
    let dated = with(request(), header::IF_MODIFIED_SINCE, "Wed, 01 Oct 2025 00:00:00 GMT");
    for (name, request) in [("none", &plain), ("etag", &tagged), ("date", &dated)] {
        group.bench_function(format!("not_modified, {name}"), |b| {
            b.iter(|| not_modified(&Method::GET, black_box(request), StatusCode::OK, black_box(&stored), now()));
        });
    }

    let part = with(request(), header::RANGE, "bytes=0-99");
    for (name, request) in [("none", &plain), ("one part", &part)] {
        group.bench_function(format!("requested, {name}"), |b| {
            b.iter(|| requested(&Method::GET, black_box(request), StatusCode::OK, black_box(&stored), 1024, now()));
        });
    }
    group.finish();
}

fn on_each_fill(c: &mut Criterion) {
    let mut group = c.benchmark_group("fill");
    let (request, response) = (request(), response());
    group.bench_function("CacheControl", |b| {
        b.iter(|| CacheControl::of(black_box(&response), &header::CACHE_CONTROL));
    });
    let control = ResponseControl::of(&response, Overrides::default());
    group.bench_function("Freshness", |b| b.iter(|| freshness(black_box(&response), black_box(&control))));
    let fresh = freshness(&response, &control);
    let target = Target { scheme: "http", authority: "img.example.com", path_and_query: "/a.webp?w=100" };
    group.bench_function("storable", |b| {
        b.iter(|| {
            storable(&StoreInput {
                method: &Method::GET,
                target,
                request: black_box(&request),
                status: StatusCode::OK,
                response: black_box(&response),
                control: &control,
                freshness: &fresh,
            })
        });
    });
    group.bench_function("remove_hop_by_hop", |b| {
        b.iter_batched_ref(|| request.clone(), remove_hop_by_hop, criterion::BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, on_each_hit, on_each_fill);
criterion_main!(benches);
