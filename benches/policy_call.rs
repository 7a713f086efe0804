//! What a policy call costs. The budget for `request` is 1.5 µs.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate::config::PolicyLimits;
use tidegate::policy::view::{RequestView, ResponseView};
use tidegate::policy::{Policy, PolicySet, call_request, call_response, normalize};

/// Keeps authorised requests out, and keys on path, one parameter and the image format.
const POLICY: &str = r#"
return {
  request = function(req)
    if req.headers.authorization then return { bypass = "authorized" } end
    local accept = req.headers.accept or ""
    local format = string.find(accept, "webp", 1, true) and "webp" or "plain"
    return { key = { req.path, req.query.v or "", format } }
  end,

  response = function(req, res)
    if res.status == 404 then return { ttl = "30s" } end
    if res.content_type == "text/html" then return { ttl = 60 } end
    return { ttl = "1h", stale_while_revalidate = "10m", vary = { "accept-encoding" }, tags = { "media" } }
  end,

  normalize = {
    ["accept-encoding"] = tidegate.encodings("br", "gzip"),
    ["accept-language"] = tidegate.languages("en", "fr", "de"),
  },
}
"#;

/// What a browser sends.
const HEADERS: [(&str, &str); 12] = [
    ("host", "img.example.com"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    ),
    ("accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"),
    ("accept-language", "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://www.example.com/album/17"),
    ("connection", "keep-alive"),
    ("cookie", "session=0123456789abcdef; theme=dark"),
    ("sec-fetch-dest", "image"),
    ("sec-fetch-mode", "no-cors"),
    ("sec-fetch-site", "same-site"),
    ("x-forwarded-for", "192.0.2.1"),
];

fn policy(source: &str) -> Arc<Policy> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bench.lua"), source).expect("a file");
    let limits = PolicyLimits { time: Duration::from_millis(5), memory: 16 << 20 };
    let (set, errors) = PolicySet::load(folder.path(), &["bench.lua"], &limits);
    assert!(errors.is_empty(), "{errors:?}");
    Arc::clone(set.get("bench.lua").expect("the policy"))
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

fn calls(c: &mut Criterion) {
    let policy = policy(POLICY);
    let nothing = self::policy("return {}");
    let sent = headers(&HEADERS);
    let answered = headers(&[("content-type", "image/webp"), ("content-length", "1024"), ("etag", "\"1\"")]);
    let req = RequestView {
        method: "GET",
        scheme: "https",
        host: "img.example.com",
        path: "/album/17/photo-0042.jpg",
        query: "w=640&h=480&v=3",
        headers: &sent,
        normalized: &[],
        client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        bucket: "media",
        now: 1_700_000_000.0,
    };
    let res = ResponseView { status: 200, headers: &answered };

    c.bench_function("request", |b| b.iter(|| call_request(black_box(&policy), black_box(&req)).expect("a decision")));
    c.bench_function("response", |b| {
        b.iter(|| call_response(black_box(&policy), black_box(&req), black_box(&res)).expect("a decision"));
    });
    c.bench_function("no hook", |b| {
        b.iter(|| call_request(black_box(&nothing), black_box(&req)).expect("a decision"));
    });
    c.bench_function("normalize, native", |b| {
        b.iter(|| normalize(black_box(&policy), black_box(&sent)).expect("fields"));
    });
}

criterion_group!(benches, calls);
criterion_main!(benches);
