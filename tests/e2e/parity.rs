//! `dry-run` is worth something only if it decides as the daemon does: generated requests and responses go through both.

use crate::support::cli::run;
use crate::support::proxy::TOKEN;
use crate::support::{Call, Origin, Proxy, Reply};
use fastrand::Rng;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;

/// How many requests are compared.
const CASES: usize = 500;

/// How many at once: each one also starts a process.
const AT_ONCE: usize = 6;

/// Larger bodies are not kept, so that some of them are not.
const MAX_OBJECT: usize = 4096;

const SHIPPED: [&str; 7] = ["static", "images", "api", "api_authenticated", "cms", "video", "showcase"];

/// Policies that use what the shipped ones don't, or fail.
const OWN: [(&str, &str); 6] = [
    (
        "curious",
        r#"return {
          normalize = { ["accept-encoding"] = tidegate.encodings("br", "gzip") },
          request = function(req)
            if req.cookies.session then return { bypass = "a \"session\" of ü" } end
            return { key = { req.path, req.query:sorted(), req.headers["x-shard"] or "", req.client_ip } }
          end,
          response = function(req, res)
            local seen = res.headers["connection"] or res.headers["transfer-encoding"] or res.headers["x-hop"]
            if seen then return { store = false, reason = "hop-by-hop" } end
            return {
              ttl = res.headers.date and "1h30m" or nil,
              vary = { "accept-encoding", "X-Shard" },
              tags = { req.host, "é" },
              stale_while_revalidate = 2.5,
              override = req.query.force and { "set-cookie", "authorization", "private", "no-store", "no-cache" } or nil,
            }
          end,
          deliver = function(req, res, cache) return { headers = { ["x-cache"] = cache.status .. req.scheme } } end,
        }"#,
    ),
    ("elsewhere", "return { response = function() return { ttl = 60, tiers = { 'disk' } } end }"),
    ("fails_early", "return {\n request = function(req)\n return { key = { req.headers.missing.field } }\n end }"),
    ("fails_late", "return { response = function(req, res)\n if res.status >= 300 then error('broken') end\n end }"),
    ("makes_no_sense", "return { response = function(req, res)\n return { tll = req.query.w and 1 }\n end }"),
    ("does_not_compile", "return { request = function(req) return { kee = { 'a' } }"),
];

/// Buckets: name, settings besides match and origin.
const BUCKETS: [(&str, &str); 11] = [
    ("plain", ""),
    ("strict", "heuristic: false, stale_on_disconnect: 0, client_refetch: false"),
    ("shared", "host_in_key: false"),
    ("readonly", "methods: [GET, HEAD]"),
    ("curious", "policy: curious.lua"),
    ("elsewhere", "policy: elsewhere.lua"),
    ("early", "policy: fails_early.lua"),
    ("early_defaults", "policy: fails_early.lua, on_error: defaults"),
    ("late", "policy: fails_late.lua"),
    ("late_defaults", "policy: fails_late.lua, on_error: defaults"),
    ("senseless", "policy: makes_no_sense.lua"),
];

const PATHS: [&str; 24] = [
    "/",
    "/index.html",
    "/css/site.css",
    "/_next/static/app.0a1b2c3d4e.js",
    "/albums/summer/cat.webp",
    "/api/catalogue/1",
    "/api/users/7",
    "/products/7",
    "/cart/items",
    "/wp-admin/options.php",
    "/legacy/prices.json",
    "/v/live/stream.m3u8",
    "/v/live/seg-1.ts",
    "/a%20b/%2e%2e/c",
    "/a/../b/./c",
    "/a//b/",
    "/semi;colon,comma=x",
    "/quote'(paren)*!$&+",
    "/~user/:8080@host",
    "/%C3%A9%ff%00",
    "/%zz%",
    "/é/ü",
    "/{curly}\"double\"",
    "/a|b^c`d",
];

const QUERIES: [&str; 16] = [
    "",
    "w=320&h=200",
    "w=321",
    "fmt=webp&q=75&w=640",
    "utm_source=x&b=2&a=1",
    "q=Caf%C3%A9+x&page=3&size=12",
    "a=1&a=2&a",
    "=x&&y=",
    "preview=true",
    "force=1",
    "session=1&w=1",
    "x=%00%zz",
    "é=ü",
    "a[]=1&b={2}",
    "a=b?c/d",
    "page=9999999999999999999999",
];

const REQUEST_FIELDS: [(&str, &str); 32] = [
    ("accept", "image/avif,image/webp,*/*;q=0.8"),
    ("accept", "application/json"),
    ("Accept", ""),
    ("accept-encoding", "gzip, deflate, br"),
    ("Accept-Encoding", "br;q=0, gzip;q=0.5"),
    ("accept-encoding", "*"),
    ("accept-language", "fr-CH, fr;q=0.9, en;q=0.8"),
    ("accept-language", "xx"),
    ("cookie", "theme=dark; session=abc"),
    ("Cookie", "wordpress_logged_in_1=x"),
    ("cookie", "cart=1;theme=light"),
    ("cookie", "_ga=1; é=ü"),
    ("cookie", "=;;a"),
    ("authorization", "Bearer abc"),
    ("Authorization", "Basic eDp5"),
    ("x-api-key", "k"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "max-age=0, min-fresh=5"),
    ("pragma", "no-cache"),
    ("user-agent", "Mozilla/5.0 (iPhone) Mobile"),
    ("user-agent", "curl/8"),
    ("x-no-cache", "1"),
    ("x-shard", "a"),
    ("x-shard", " b , c "),
    ("if-none-match", "\"v1\""),
    ("if-modified-since", "Wed, 01 Oct 2025 00:00:00 GMT"),
    ("range", "bytes=0-1"),
    ("x-forwarded-host", "other.plain.test"),
    ("x-forwarded-for", "9.9.9.9"),
    ("x-latin", "é"),
    ("upgrade", "websocket"),
];

const CACHE_CONTROLS: [&str; 24] = [
    "max-age=60",
    "public, max-age=3600",
    "s-maxage=30, max-age=10",
    "max-age=0",
    "no-store",
    "no-store, max-age=60",
    "private",
    "private, max-age=60",
    "private=\"x-user\", max-age=60",
    "no-cache",
    "no-cache=\"set-cookie\", max-age=60",
    "must-revalidate, max-age=60",
    "proxy-revalidate, max-age=60",
    "must-understand, no-store, max-age=60",
    "max-age=abc",
    "max-age=60, max-age=10",
    "max-age=\"60\"",
    "max-age=99999999999999999999",
    "max-age=5, stale-while-revalidate=30",
    "max-age=5, stale-if-error=60",
    "immutable, max-age=31536000",
    "MAX-AGE=7,,PUBLIC",
    "public",
    "=,\"",
];

const RESPONSE_FIELDS: [(&str, &str); 27] = [
    ("set-cookie", "id=1; Path=/"),
    ("vary", "accept-encoding"),
    ("Vary", "Accept, Cookie"),
    ("vary", "*"),
    ("vary", ""),
    ("vary", "accept-language,,X-Shard"),
    ("expires", "0"),
    ("expires", "Wed, 01 Oct 2025 00:00:00 GMT"),
    ("expires", "SOON"),
    ("age", "10"),
    ("age", "-1"),
    ("etag", "\"v1\""),
    ("last-modified", "Wed, 01 Oct 2025 00:00:00 GMT"),
    ("date", "Wed, 01 Oct 2025 00:00:00 GMT"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "image/webp"),
    ("content-language", "fr"),
    ("pragma", "no-cache"),
    ("surrogate-control", "max-age=10"),
    ("surrogate-control", "no-store"),
    ("cdn-cache-control", "max-age=20"),
    ("cdn-cache-control", "no-store"),
    ("tidegate-cache-control", "max-age=25"),
    ("surrogate-key", "one two"),
    ("cache-tag", "a,b"),
    ("x-user", "ü"),
    ("location", "/elsewhere"),
];

const STATUSES: [u16; 22] =
    [200, 200, 200, 200, 200, 200, 200, 200, 200, 203, 204, 206, 300, 301, 302, 308, 403, 404, 410, 500, 503, 599];

/// One request, and what the origin answers to it.
#[derive(Debug)]
struct Case {
    method: &'static str,
    host: String,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: Option<bool>,
    status: u16,
    response: Vec<(&'static str, String)>,
    length: usize,
    chunked: bool,
}

impl Case {
    fn random(rng: &mut Rng, number: usize) -> Self {
        let buckets: Vec<&str> = BUCKETS.iter().map(|(name, _)| *name).chain(SHIPPED).chain(["broken"]).collect();
        // Every host is another one, so that no case meets what another one stored.
        let mut host = format!("c{number}.{}.test", rng.choice(&buckets).unwrap());
        if rng.u8(..12) == 0 {
            host = format!("{}:8080", host.to_uppercase());
        }
        let mut target = (*rng.choice(PATHS.iter()).unwrap()).to_owned();
        let query = rng.choice(QUERIES.iter()).unwrap();
        if !query.is_empty() {
            let _ = write!(target, "?{query}");
        }
        if host.contains("shared") {
            let _ = write!(target, "{}case={number}", if query.is_empty() { '?' } else { '&' });
        }
        let method = if rng.u8(..4) > 0 {
            "GET"
        } else {
            rng.choice(["HEAD", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"]).unwrap()
        };
        let body = (!matches!(method, "GET" | "HEAD") || rng.u8(..20) == 0).then(|| rng.bool());
        let mut fields: Vec<_> = some(rng, &REQUEST_FIELDS);
        if fields.iter().any(|(name, _)| *name == "upgrade") {
            fields.push(("connection", "upgrade".to_owned()));
        }
        let mut response = some(rng, &RESPONSE_FIELDS);
        if rng.u8(..4) > 0 {
            response.push(("cache-control", (*rng.choice(CACHE_CONTROLS.iter()).unwrap()).to_owned()));
        }
        if rng.u8(..5) == 0 {
            let in_an_hour = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
            response.push(("expires", httpdate::fmt_http_date(in_an_hour)));
        }
        if rng.u8(..6) == 0 {
            response.extend([("connection", "x-hop".to_owned()), ("x-hop", "1".to_owned())]);
        }
        let length = if rng.u8(..8) == 0 { MAX_OBJECT + 1 } else { rng.usize(..64) };
        let status = *rng.choice(STATUSES.iter()).unwrap();
        let length = if status == 204 { 0 } else { length };
        // Parts are made of other cases by another generator, so that those stay as they are without them.
        let mut parts = Rng::with_seed(number as u64);
        let status = if status >= 300 && parts.bool() { 206 } else { status };
        if status == 206 && length > 1 && parts.u8(..6) > 0 {
            // One that says where it belongs, most often to who asked for it.
            response.push(("content-range", format!("bytes 0-{}/{}", length - 1, length + parts.usize(..64))));
            if parts.u8(..4) > 0 && fields.iter().all(|(name, _)| *name != "range") {
                fields.push(("range", "bytes=0-1".to_owned()));
            }
        }
        let chunked = status != 204 && rng.u8(..4) == 0;
        Case { method, host, target, fields, body, status, response, length, chunked }
    }

    fn call(&self, proxy: &Proxy) -> Call {
        let mut call = proxy.call(self.method, &self.target).host(&self.host).header("Tidegate-Debug", TOKEN);
        for (name, value) in &self.fields {
            call = call.header(name, value);
        }
        match self.body {
            Some(true) => call.chunked_body("body"),
            Some(false) => call.body("body"),
            None => call,
        }
    }

    fn reply(&self) -> Reply {
        let mut reply = Reply::status(self.status).piece("x".repeat(self.length));
        for (name, value) in &self.response {
            reply = reply.header(name, value);
        }
        if self.chunked { reply.chunked() } else { reply }
    }

    /// `dry-run` of the same request and response: what it prints, or what it complains about.
    fn dry_run(&self, config: &Path) -> Result<Value, String> {
        let url = format!("http://{}{}", self.host, self.target);
        let mut args = ["dry-run", "--format", "json", "-X", self.method, "-c"].map(str::to_owned).to_vec();
        args.push("tidegate.yaml".to_owned());
        let mut fields = self.fields.clone();
        match self.body {
            Some(true) => fields.push(("transfer-encoding", "chunked".to_owned())),
            Some(false) => fields.push(("content-length", "4".to_owned())),
            None => {}
        }
        args.extend(fields.iter().flat_map(|(name, value)| ["-H".to_owned(), format!("{name}: {value}")]));
        args.extend(["--status".to_owned(), self.status.to_string()]);
        let mut response = self.response.clone();
        match self.chunked {
            true => response.push(("transfer-encoding", "chunked".to_owned())),
            false if self.status != 204 => response.push(("content-length", self.length.to_string())),
            false => {}
        }
        let told = |(name, value): &(&str, String)| ["--response-header".to_owned(), format!("{name}: {value}")];
        args.extend(response.iter().flat_map(told));
        args.push(url);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = run(&args, config.parent().unwrap());
        if output.code == 0 { Ok(output.json()) } else { Err(output.stderr) }
    }
}

/// A few of these fields.
fn some(rng: &mut Rng, fields: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let many = rng.usize(..6);
    let chosen = rng.choose_multiple(fields, many);
    chosen.into_iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

async fn start(origin: &Origin) -> Proxy {
    let memory = format!("{{ capacity: 64MiB, max_object: {MAX_OBJECT}B }}");
    let mut builder = Proxy::builder(origin).set("cache.memory", &memory);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    copy(&shipped, &builder.policy_path(""));
    for (name, text) in OWN {
        fs::write(builder.policy_path(&format!("{name}.lua")), text).unwrap();
    }
    let own = BUCKETS.map(|(name, settings)| (name, settings.to_owned()));
    let shipped = SHIPPED.map(|name| (name, format!("policy: {name}.lua")));
    let broken = [("broken", "policy: does_not_compile.lua".to_owned())];
    for (name, settings) in own.into_iter().chain(shipped).chain(broken) {
        let yaml = format!("{{ match: {{ hosts: ['*.{name}.test'] }}, origin: main, {settings} }}");
        builder = builder.bucket(name, &yaml);
    }
    builder.start().await
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { assert!(fs::copy(&path, &target).is_ok()) }
    }
}

/// Sends the request to the daemon and to `dry-run`: what was decided, and what they differ in.
async fn compare(case: Arc<Case>, proxy: &Proxy, config: PathBuf) -> (&'static str, Vec<String>) {
    let began = Instant::now();
    let answer = case.call(proxy).await;
    let told = tokio::task::spawn_blocking({
        let case = case.clone();
        move || case.dry_run(&config)
    });
    let told = told.await.unwrap();
    let passed = began.elapsed().as_secs_f64();
    let (mut told, mut debug) = match (told, answer.header("tidegate-debug")) {
        (Ok(told), Some(debug)) => (told, serde_json::from_str::<Value>(&debug).unwrap_or_default()),
        // What dry-run refuses, the daemon answers by itself.
        (Err(_), None) if (400..500).contains(&answer.status) => return ("refused", Vec::new()),
        (told, debug) => return ("lost", vec![format!("{} {told:?} / {debug:?}", answer.status)]),
    };
    let mut found = Vec::new();
    let expected = cache_status_of(&told);
    let status = answer.cache_status();
    let seen = (status.fwd().to_owned(), status.detail().to_owned(), status.stored);
    // Under `on_error: defaults` a failure is the word about a response that was decided without the policy.
    let failed = !told["error"].is_null() && seen.1.starts_with("policy-error:");
    let same = seen.0 == expected.0 && seen.2 == expected.2 && (failed || seen.1 == expected.1);
    if !same {
        found.push(format!("Cache-Status: {expected:?} / {:?}", answer.header("cache-status")));
    }
    let ttls = [&told, &debug].map(|json| json["response"]["ttl"].as_f64());
    if let [Some(a), Some(b)] = ttls {
        if (a - b).abs() > 1.0 + passed {
            found.push(format!("ttl: {a} / {b}"));
        }
        debug["response"]["ttl"] = a.into();
    }
    let inputs = [&told, &debug].map(|json| set_of(&json["inputs"]));
    if inputs[0] != inputs[1] {
        found.push(format!("inputs: {:?} / {:?}", inputs[0], inputs[1]));
    }
    for json in [&mut told, &mut debug] {
        let json = json.as_object_mut().unwrap();
        json.remove("inputs");
        json.remove("micros");
    }
    if told != debug {
        found.push(format!("{told} / {debug}"));
    }
    // Only the end of a chunked body tells whether it was too large to keep.
    let kept = seen.2 && case.length <= MAX_OBJECT;
    if kept && ttls[0].is_some_and(|ttl| ttl > 60.0) {
        found.extend(differences_of_hit(&case, proxy, &told).await);
    }
    let decided = match (told["request"]["outcome"].as_str(), told["response"]["outcome"].as_str()) {
        _ if !told["error"].is_null() => "failed",
        (Some("bypass"), _) => "bypassed",
        (_, Some("store")) if case.status == 206 => "stored in part",
        (_, Some("store")) => "stored",
        _ => "passed",
    };
    (decided, found)
}

/// The same request again, which is now answered from memory.
async fn differences_of_hit(case: &Case, proxy: &Proxy, told: &Value) -> Vec<String> {
    let answer = case.call(proxy).await;
    let refetches = case.fields.iter().any(|(name, _)| matches!(*name, "cache-control" | "pragma"));
    let debug = answer.header("tidegate-debug").unwrap_or_default();
    let debug = serde_json::from_str::<Value>(&debug).unwrap_or_default();
    let mut found = Vec::new();
    if !refetches && (!answer.is_hit() || !debug["response"].is_null()) {
        found.push(format!("no hit: {:?} / {debug}", answer.header("cache-status")));
    }
    for field in ["outcome", "reason", "key"] {
        if told["request"][field] != debug["request"][field] {
            found.push(format!("{field} of the hit: {told} / {debug}"));
        }
    }
    found
}

/// `fwd`, `detail` and `stored` that follow from what dry-run says.
fn cache_status_of(told: &Value) -> (String, String, bool) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (request, response) = (&told["request"], &told["response"]);
    let reason = |reason: &Value| {
        let printable = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
        text(reason).replace('"', "\\\"").chars().map(printable).collect::<String>()
    };
    match (request["outcome"].as_str(), request["reason"].as_str()) {
        (Some("bypass"), Some("method")) => ("method".to_owned(), String::new(), false),
        (Some("bypass"), _) => ("bypass".to_owned(), reason(&request["reason"]), false),
        _ if response["outcome"] == "store" => ("uri-miss".to_owned(), String::new(), true),
        _ => ("uri-miss".to_owned(), reason(&response["reason"]), false),
    }
}

fn set_of(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dry_run_and_the_daemon_decide_alike_on_generated_requests() {
    let mut rng = Rng::with_seed(0x71de_6a7e);
    let cases: Arc<Vec<Arc<Case>>> = Arc::new((0..CASES).map(|n| Arc::new(Case::random(&mut rng, n))).collect());
    let origin = Origin::start().await;
    let replies = cases.clone();
    origin.otherwise(move |seen| {
        let host = seen.header("host").unwrap_or_default();
        let number = host[1..].split('.').next().and_then(|number| number.parse::<usize>().ok());
        number.and_then(|number| replies.get(number)).map_or_else(|| Reply::status(500), |case| case.reply())
    });
    let proxy = Arc::new(start(&origin).await);
    let mut running = JoinSet::new();
    let mut reports = Vec::new();
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut waiting = cases.iter().cloned();
    loop {
        while running.len() < AT_ONCE {
            let Some(case) = waiting.next() else { break };
            let (proxy, config) = (proxy.clone(), proxy.path("tidegate.yaml"));
            running.spawn(async move {
                let (decided, found) = compare(case.clone(), &proxy, config).await;
                (case, decided, found)
            });
        }
        let Some(done) = running.join_next().await else { break };
        let (case, decided, found) = done.unwrap();
        *met.entry(decided).or_insert(0) += 1;
        if !found.is_empty() {
            reports.push(format!("{case:?}\n  {}", found.join("\n  ")));
        }
    }
    for (decided, least) in
        [("stored", 60), ("stored in part", 5), ("passed", 60), ("bypassed", 60), ("failed", 40), ("refused", 1)]
    {
        assert!(met.get(decided).is_some_and(|n| *n >= least), "too few of {decided:?} are compared: {met:?}");
    }
    assert!(reports.is_empty(), "{} of {CASES} differ, dry-run / daemon:\n{}", reports.len(), reports.join("\n"));
}
