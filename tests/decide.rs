//! The decision core as tables: what goes in, what comes out. No daemon, no network.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidegate::config::{Bucket, Config, PolicyLimits};
use tidegate::decide::{
    self, Facts, HitVerdict, NotStored, Request, RequestAction, RequestVerdict, Response, ResponseAction, Storing,
    Target, Tiers,
};
use tidegate::outcome::{BypassReason, ForwardReason, StaleReason};
use tidegate::policy::decision::{TierName, TierSet};
use tidegate::policy::view::EntryView;
use tidegate::policy::{Policy, PolicySet};
use tidegate::purge::{Position, Shared};
use tidegate::semantics::freshness::Freshness;
use tidegate::semantics::reuse::StaleLimits;
use tidegate::semantics::storable::NotStorable;

/// A bucket with these settings besides match and origin.
fn bucket(settings: &str) -> Arc<Bucket> {
    config("", settings).buckets[0].clone()
}

/// The tiers of a configuration with these under `cache`.
fn tiers(cache: &str) -> Tiers {
    Tiers::of(&config(cache, "origin: web").cache)
}

fn config(cache: &str, settings: &str) -> Config {
    let text = format!(
        "cache: {{ {cache} }}\norigins:\n  web: {{ http: {{ servers: [\"a:1\"] }} }}\n  s3: {{ s3: {{ endpoint: \"http://a:1\", bucket: b, \
         credentials: anonymous }} }}\nbuckets:\n  main: {{ match: {{ hosts: [\"*\"] }}, {settings} }}\n"
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    let config = Config::parse(&text, &dir.path().join("t.yaml"), &|_| None).unwrap_or_else(|e| panic!("{e:#?}"));
    config.config
}

fn web(settings: &str) -> Arc<Bucket> {
    bucket(&format!("origin: web{}{settings}", if settings.is_empty() { "" } else { ", " }))
}

/// A policy that must load.
fn policy(text: &str) -> Arc<Policy> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.lua"), text).unwrap();
    let limits = PolicyLimits { time: Duration::from_secs(2), memory: 16 << 20 };
    let (set, errors) = PolicySet::load(dir.path(), &["p.lua"], &limits);
    assert_eq!(errors, []);
    set.get("p.lua").unwrap().clone()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    map
}

/// A request, owned.
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    target: Target,
    upgrade: bool,
    has_body: bool,
}

fn get(fields: &[(&str, &str)]) -> Asked {
    Asked {
        method: Method::GET,
        uri: "/a?b=1".parse().unwrap(),
        headers: headers(fields),
        target: Target { scheme: "http", host: "h".to_owned(), authority: "h".to_owned() },
        upgrade: false,
        has_body: false,
    }
}

impl Asked {
    fn view(&self) -> Request<'_> {
        Request {
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
            target: &self.target,
            client_ip: Ipv4Addr::LOCALHOST.into(),
            now: now(),
            upgrade: self.upgrade,
            has_body: self.has_body,
        }
    }

    fn decide(&self, bucket: &Bucket, policy: Option<&Policy>) -> RequestVerdict {
        decide::request(bucket, policy, &self.view())
    }
}

fn bypassed(verdict: &RequestVerdict) -> Option<String> {
    match &verdict.action {
        RequestAction::Bypass(reason) => Some(reason.as_str().into_owned()),
        RequestAction::Lookup(_) => None,
    }
}

fn key(verdict: &RequestVerdict) -> Vec<String> {
    match &verdict.action {
        RequestAction::Lookup(key) => key.to_strings(),
        RequestAction::Bypass(reason) => panic!("bypassed: {reason:?}"),
    }
}

/// What becomes of a response to a plain GET.
fn respond(
    bucket: &Bucket,
    policy: Option<&Policy>,
    status: u16,
    fields: &[(&str, &str)],
) -> Result<Box<Storing>, NotStored> {
    respond_to(&get(&[]), bucket, policy, status, fields)
}

fn respond_to(
    asked: &Asked,
    bucket: &Bucket,
    policy: Option<&Policy>,
    status: u16,
    fields: &[(&str, &str)],
) -> Result<Box<Storing>, NotStored> {
    respond_in(&tiers(MEMORY), asked, bucket, policy, status, fields)
}

const MEMORY: &str = "memory: { capacity: 64MiB, max_object: 1000B }";
const NO_MEMORY: &str = "memory: { capacity: 0 }";
const DISK: &str = "disk: { path: nowhere, capacity: 1GiB, max_object: 5000B }";

fn respond_in(
    tiers: &Tiers,
    asked: &Asked,
    bucket: &Bucket,
    policy: Option<&Policy>,
    status: u16,
    fields: &[(&str, &str)],
) -> Result<Box<Storing>, NotStored> {
    let verdict = asked.decide(bucket, policy);
    let headers = headers(fields);
    let seen = Position::BEGINNING;
    let response = Response {
        status,
        headers: &headers,
        request_time: now(),
        response_time: now(),
        tiers,
        seen,
        shared: Shared::default(),
        asked: 0,
    };
    match decide::response(bucket, policy, &verdict, &asked.view(), &response).action {
        ResponseAction::Store(storing) => Ok(storing),
        ResponseAction::Pass(reason) => Err(reason),
    }
}

// === before lookup ===

#[test]
fn http_keeps_the_cache_out_of_what_is_no_plain_read() {
    let plain = web("");
    let with = |method: &str, upgrade, has_body| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        bypassed(&Asked { method, upgrade, has_body, ..get(&[]) }.decide(&plain, None))
    };
    for method in ["GET", "HEAD"] {
        assert_eq!(with(method, false, false), None, "{method}");
        assert_eq!(with(method, true, false).as_deref(), Some("upgrade"), "{method}");
        assert_eq!(with(method, false, true).as_deref(), Some("request-body"), "{method}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE", "get"] {
        assert_eq!(with(method, false, false).as_deref(), Some("method"), "{method}");
    }
}

#[test]
fn a_bucket_lets_through_what_it_says_and_objects_are_only_read() {
    let table = [
        ("origin: web", "POST", true),
        ("origin: s3", "GET", true),
        ("origin: s3", "HEAD", true),
        ("origin: s3", "PUT", false),
        ("origin: s3, methods: [GET, PUT]", "PUT", true),
        ("origin: web, methods: [GET]", "HEAD", false),
    ];
    for (settings, method, through) in table {
        assert_eq!(decide::lets_through(&bucket(settings), &method.parse().unwrap()), through, "{settings}, {method}");
    }
}

#[test]
fn the_key_is_the_uri_as_sent_unless_the_policy_says_otherwise() {
    let (plain, shared) = (web(""), web("host_in_key: false"));
    assert_eq!(key(&get(&[]).decide(&plain, None)), ["main", "h", "http", "/a?b=1"]);
    assert_eq!(key(&get(&[]).decide(&shared, None)), ["main", "", "http", "/a?b=1"]);
    let policy = policy("return { request = function(req) return { key = { req.path, 7 } } end }");
    assert_eq!(key(&get(&[]).decide(&plain, Some(&policy))), ["main", "h", "/a", "7"]);
    assert_eq!(key(&get(&[]).decide(&shared, Some(&policy))), ["main", "", "/a", "7"]);
}

#[test]
fn the_policys_word_for_a_bypass_is_kept_and_http_comes_first() {
    let policy = policy("return { request = function() return { bypass = \"my own\" } end }");
    assert_eq!(bypassed(&get(&[]).decide(&web(""), Some(&policy))).as_deref(), Some("my own"));
    let post = Asked { method: Method::POST, ..get(&[]) };
    assert_eq!(bypassed(&post.decide(&web(""), Some(&policy))).as_deref(), Some("method"));
}

#[test]
fn a_failing_policy_means_what_on_error_says() {
    let policy = policy(
        "return { normalize = { accept = tidegate.types('a/b') }, request = function(req) error('broken') end }",
    );
    let verdict = get(&[]).decide(&web(""), Some(&policy));
    assert_eq!(bypassed(&verdict).as_deref(), Some("policy-error:runtime"));
    assert!(verdict.error.is_some());
    let verdict = get(&[]).decide(&web("on_error: defaults"), Some(&policy));
    assert_eq!(key(&verdict), ["main", "h", "http", "/a?b=1"]);
    assert!(verdict.error.is_some() && verdict.normalized.is_empty());
}

#[test]
fn only_if_cached_is_seen() {
    assert!(decide::wants_stored_only(&headers(&[("cache-control", "max-age=5, only-if-cached")])));
    assert!(!decide::wants_stored_only(&headers(&[("cache-control", "max-age=5")])));
}

// === on a stored entry ===

/// An entry of this age and so much freshness left, in seconds.
fn judge(bucket: &Bucket, policy: Option<&Policy>, fields: &[(&str, &str)], age: i64, ttl: i64) -> HitVerdict {
    judge_with(bucket, policy, fields, &aged(age, ttl))
}

fn aged(age: i64, ttl: i64) -> Freshness {
    let seconds = |seconds: i64| Duration::from_secs(seconds.try_into().unwrap());
    Freshness::of_max_age(seconds(age + ttl), get(&[]).view().now - seconds(age))
}

fn judge_with(bucket: &Bucket, policy: Option<&Policy>, fields: &[(&str, &str)], freshness: &Freshness) -> HitVerdict {
    let asked = get(fields);
    let verdict = asked.decide(bucket, None);
    let none = HeaderMap::new();
    let now = asked.view().now;
    let entry = EntryView {
        status: 200,
        headers: &none,
        age: freshness.age(now).as_secs_f64(),
        ttl: freshness.ttl(now).as_secs_f64() - freshness.staleness(now).as_secs_f64(),
        stale: !freshness.is_fresh(now),
        tags: &[],
        tier: "memory",
        hits: 0,
        size: 1,
    };
    let limits = StaleLimits { on_disconnect: bucket.stale_on_disconnect };
    let facts = Facts { limits, ..Facts::of(*freshness) };
    decide::hit(bucket, policy, &verdict, &asked.view(), &entry, &facts).verdict
}

const STALE: HitVerdict = HitVerdict::Revalidate(ForwardReason::Stale);
const TOLERATED: HitVerdict = HitVerdict::ServeStale(StaleReason::MaxStale);
const ASKED: HitVerdict = HitVerdict::Revalidate(ForwardReason::Request);

#[test]
fn a_client_may_ask_for_less_or_more_than_what_is_fresh() {
    let table = [
        ("", 10, 50, HitVerdict::Serve),
        ("", 70, -10, STALE),
        ("no-cache", 10, 50, ASKED),
        // The origin was asked after the client had: that is what the client wants.
        ("no-cache", 0, 50, HitVerdict::Serve),
        ("no-store", 10, 50, HitVerdict::Serve),
        ("max-age=0", 10, 50, ASKED),
        ("max-age=0", 0, 50, HitVerdict::Serve),
        ("max-age=9", 10, 50, ASKED),
        ("max-age=10", 10, 50, HitVerdict::Serve),
        ("max-age=9, max-stale", 10, 50, ASKED),
        ("min-fresh=50", 10, 50, HitVerdict::Serve),
        ("min-fresh=51", 10, 50, ASKED),
        ("max-stale", 70, -10, TOLERATED),
        ("max-stale=10", 70, -10, TOLERATED),
        ("max-stale=9", 70, -10, STALE),
        ("no-cache, max-stale", 70, -10, ASKED),
        ("max-stale", 10, 50, HitVerdict::Serve),
        ("only-if-cached", 10, 50, HitVerdict::Serve),
        ("only-if-cached", 70, -10, HitVerdict::GatewayTimeout),
        ("only-if-cached, max-stale", 70, -10, TOLERATED),
    ];
    for (asked, age, ttl, verdict) in table {
        assert_eq!(judge(&web(""), None, &[("cache-control", asked)], age, ttl), verdict, "{asked}, {age}, {ttl}");
    }
    assert_eq!(judge(&web(""), None, &[("pragma", "no-cache")], 10, 50), ASKED);
}

#[test]
fn with_client_refetch_off_no_client_reaches_the_origin() {
    let deaf = web("client_refetch: false");
    for asked in ["no-cache", "max-age=0", "min-fresh=1000"] {
        assert_eq!(judge(&deaf, None, &[("cache-control", asked)], 10, 50), HitVerdict::Serve, "{asked}");
    }
    assert_eq!(judge(&deaf, None, &[("cache-control", "max-stale")], 70, -1), TOLERATED);
}

#[test]
fn must_revalidate_outranks_max_stale() {
    let strict = Freshness { must_revalidate: true, ..aged(70, -1) };
    assert_eq!(judge_with(&web(""), None, &[("cache-control", "max-stale")], &strict), STALE);
}

#[test]
fn what_is_stale_is_served_while_it_is_revalidated_unless_the_client_wants_it_fresh() {
    let window = Freshness { stale_while_revalidate: Some(Duration::from_secs(5)), ..aged(70, -1) };
    let behind = HitVerdict::ServeStale(StaleReason::WhileRevalidate);
    assert_eq!(judge_with(&web(""), None, &[], &window), behind);
    assert_eq!(judge_with(&web(""), None, &[("cache-control", "max-age=100")], &window), STALE);
}

#[test]
fn the_policy_comes_before_the_client() {
    let table = [
        ("return nil", HitVerdict::Serve),
        ("return { revalidate = true }", HitVerdict::Revalidate(ForwardReason::Stale)),
        ("return { miss = true }", HitVerdict::Miss),
        ("error('broken')", HitVerdict::Miss),
    ];
    for (body, verdict) in table {
        let policy = policy(&format!("return {{ hit = function(req, entry) {body} end }}"));
        assert_eq!(judge(&web(""), Some(&policy), &[], 10, 50), verdict, "{body}");
    }
    let broken = policy("return { hit = function() error('broken') end }");
    assert_eq!(judge(&web("on_error: defaults"), Some(&broken), &[], 10, 50), HitVerdict::Serve);
    let silent = policy("return { hit = function() end }");
    assert_eq!(judge(&web(""), Some(&silent), &[("cache-control", "no-cache")], 10, 50), ASKED);
}

// === when the origin answered ===

#[test]
fn the_ttl_is_the_policys_before_the_origins() {
    let policy = policy("return { response = function() return { ttl = 7 } end }");
    let cc = [("cache-control", "max-age=60")];
    let told = |policy: Option<&Policy>, fields: &[(&str, &str)]| {
        respond(&web(""), policy, 200, fields)
            .map(|storing| (fresh_for(&storing).as_secs(), storing.facts.freshness.source.as_str()))
    };
    assert_eq!(told(None, &cc), Ok((60, "max-age")));
    assert_eq!(told(Some(&policy), &cc), Ok((7, "policy")));
    assert_eq!(told(Some(&policy), &[]), Ok((7, "policy")));
    assert_eq!(told(None, &[("cache-control", "max-age=60, s-maxage=5")]), Ok((5, "s-maxage")));
    assert_eq!(told(None, &[("cache-control", "max-age=60"), ("age", "20")]), Ok((40, "max-age")));
}

#[test]
fn each_reason_for_not_storing_has_its_name() {
    let say = |body: &str| Some(policy(&format!("return {{ response = function(req, res) {body} end }}")));
    let fresh = ("cache-control", "max-age=60");
    let table: [(_, u16, &[_], &str); 13] = [
        (None, 200, &[("cache-control", "no-store")], "no-store"),
        (None, 200, &[("cache-control", "private, max-age=60")], "private"),
        (None, 200, &[fresh, ("vary", "*")], "vary-star"),
        (None, 206, &[fresh], "partial"),
        (None, 403, &[], "no-freshness"),
        (None, 200, &[], "not-reusable"),
        (None, 503, &[], "server-error"),
        (None, 200, &[fresh, ("content-length", "1001")], "too-large"),
        (say("return { store = false, reason = 'mine' }"), 200, &[fresh], "mine"),
        (say("return { ttl = 60, tiers = { 'disk' } }"), 200, &[], "no-tier"),
        (say("return { ttl = 60 }"), 200, &[("set-cookie", "a=b")], "set-cookie"),
        (say("return { ttl = 60 }"), 200, &[("cache-control", "no-store")], "no-store"),
        (say("error('broken')"), 200, &[fresh], "policy-error:runtime"),
    ];
    for (policy, status, fields, reason) in table {
        let passed = respond(&web(""), policy.as_deref(), status, fields).map(|_| ()).unwrap_err();
        assert_eq!(passed.to_string(), reason, "{status} {fields:?}");
    }
}

#[test]
fn a_length_at_the_limit_is_kept_and_an_unknown_one_is_tried() {
    for length in ["1000", "0", "many", "18446744073709551616"] {
        let fields = [("cache-control", "max-age=60"), ("content-length", length)];
        assert!(respond(&web(""), None, 200, &fields).is_ok(), "{length}");
    }
    assert!(respond(&web(""), None, 200, &[("cache-control", "max-age=60")]).is_ok());
}

// RFC 9111 section 3.3
#[test]
fn a_part_is_kept_as_its_whole_would_be() {
    let say = |body: &str| Some(policy(&format!("return {{ response = function(req, res) {body} end }}")));
    let fresh = ("cache-control", "max-age=60");
    let part = ("content-range", "bytes 2-4/10");
    let only_200 = "if res.status ~= 200 or res.content_length ~= 10 then return { store = false, reason = 'no' } end";
    let table: [(_, &str, u16, &[_], Result<(), &str>); 12] = [
        (None, "bytes=2-4", 206, &[fresh, part], Ok(())),
        (None, "bytes=2-4", 206, &[fresh, part, ("content-length", "3")], Ok(())),
        (None, "bytes=2-4", 206, &[fresh, part, ("content-length", "4")], Err("partial")),
        (None, "bytes=2-4", 206, &[fresh, ("content-range", "bytes 2-4/*")], Err("partial")),
        (None, "bytes=2-4", 206, &[fresh, ("content-range", "bytes 2-4/1001")], Err("too-large")),
        (None, "bytes=2-4", 206, &[("cache-control", "no-store"), part], Err("no-store")),
        // It could be asked about only as a whole.
        (None, "bytes=2-4", 206, &[("cache-control", "no-cache"), ("etag", "\"1\""), part], Err("partial")),
        (None, "bytes=2-4", 416, &[fresh, ("content-range", "bytes */10")], Err("partial")),
        (None, "", 206, &[fresh, part], Err("partial")),
        (None, "", 416, &[fresh], Ok(())),
        (say(only_200), "bytes=2-4", 206, &[fresh, part, ("content-length", "3")], Ok(())),
        (
            say("if res.headers['content-range'] then return { store = false, reason = 'part' } end"),
            "bytes=2-4",
            206,
            &[fresh, part],
            Err("part"),
        ),
    ];
    for (policy, range, status, fields, expected) in table {
        let asked = if range.is_empty() { get(&[]) } else { get(&[("range", range)]) };
        let decided = respond_to(&asked, &web(""), policy.as_deref(), status, fields);
        let told = decided.as_ref().map(|_| ()).map_err(|reason| reason.to_string());
        assert_eq!(told, expected.map_err(str::to_owned), "{range} {status} {fields:?}");
        assert_eq!(decided.is_ok_and(|storing| storing.part.is_some()), expected.is_ok() && status == 206);
    }
}

/// Where a response of that length is written under a policy that names these tiers, or why it is not.
fn places(cache: &str, named: &str, range: &str, fields: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
    let says = if named.is_empty() { String::new() } else { format!(", tiers = {{ {named} }}") };
    let policy = policy(&format!("return {{ response = function() return {{ ttl = 60{says} }} end }}"));
    let (asked, status) = if range.is_empty() { (get(&[]), 200) } else { (get(&[("range", range)]), 206) };
    let decided = respond_in(&tiers(cache), &asked, &web(""), Some(&policy), status, fields);
    decided.map(|s| s.write_to.iter().map(TierName::as_str).collect()).map_err(|reason| reason.to_string())
}

/// The tiers, or the reason.
type Expected = Result<&'static [&'static str], &'static str>;

#[test]
fn a_response_is_written_to_the_tiers_that_are_on_and_named_and_large_enough() {
    let (both, disk) = (format!("{MEMORY}, {DISK}"), format!("{NO_MEMORY}, {DISK}"));
    let table: [(&str, &str, &str, Expected); 16] = [
        (&both, "", "1000", Ok(&["memory", "disk"])),
        (&both, "", "1001", Ok(&["disk"])),
        (&both, "", "5000", Ok(&["disk"])),
        (&both, "", "5001", Err("too-large")),
        (&both, "'disk'", "1", Ok(&["disk"])),
        (&both, "'disk', 'memory'", "1", Ok(&["memory", "disk"])),
        (&both, "'memory'", "1001", Err("too-large")),
        (&both, "'redis'", "1", Err("no-tier")),
        (&both, "'redis', 'disk'", "1", Ok(&["disk"])),
        (&disk, "", "1", Ok(&["disk"])),
        (&disk, "'memory'", "1", Err("no-tier")),
        (MEMORY, "'disk'", "1", Err("no-tier")),
        (MEMORY, "'memory', 'disk'", "1", Ok(&["memory"])),
        (MEMORY, "'memory', 'disk'", "1001", Err("too-large")),
        (NO_MEMORY, "", "1", Err("no-tier")),
        (NO_MEMORY, "", "999999", Err("no-tier")),
    ];
    for (cache, named, length, expected) in table {
        let seen = places(cache, named, "", &[("content-length", length)]);
        assert_eq!(seen, expected.map(<[_]>::to_vec).map_err(str::to_owned), "{cache} {named} {length}");
    }
    assert_eq!(places(&both, "", "", &[]), Ok(vec!["memory", "disk"]));
}

#[test]
fn a_part_is_kept_where_it_fits_but_only_of_what_some_tier_would_keep_whole() {
    let (both, disk) = (format!("{MEMORY}, {DISK}"), format!("{NO_MEMORY}, {DISK}"));
    let table: [(&str, &str, &str, Expected); 10] = [
        (&both, "", "0-9/1000", Ok(&["memory", "disk"])),
        // The whole is for the disk, and its parts are short.
        (&both, "", "0-9/5000", Ok(&["memory", "disk"])),
        (&both, "", "0-999/5000", Ok(&["memory", "disk"])),
        (&both, "", "0-1000/5000", Ok(&["disk"])),
        (&both, "", "0-9/5001", Err("too-large")),
        (&both, "'memory'", "0-9/1001", Err("too-large")),
        (&both, "'disk'", "0-9/1000", Ok(&["disk"])),
        (&disk, "", "0-9/1000", Ok(&["disk"])),
        (MEMORY, "", "0-9/1000", Ok(&["memory"])),
        (MEMORY, "'disk'", "0-9/1000", Err("no-tier")),
    ];
    for (cache, named, part, expected) in table {
        let range = format!("bytes={}", part.split_once('/').unwrap().0);
        let seen = places(cache, named, &range, &[("content-range", &format!("bytes {part}"))]);
        assert_eq!(seen, expected.map(<[_]>::to_vec).map_err(str::to_owned), "{cache} {named} {part}");
    }
}

#[test]
fn an_entry_remembers_every_tier_that_its_policy_names_whichever_are_on() {
    let says = |tiers: &str| policy(&format!("return {{ response = function() return {{ ttl = 60{tiers} }} end }}"));
    for (named, remembered) in [
        ("", TierSet::ALL),
        (", tiers = { 'memory', 'redis' }", TierSet::NONE.with(TierName::Memory).with(TierName::Redis)),
    ] {
        let storing = respond(&web(""), Some(&says(named)), 200, &[]).unwrap();
        assert_eq!((storing.facts.tiers, storing.write_to), (remembered, TierSet::NONE.with(TierName::Memory)));
    }
}

#[test]
fn a_bypassed_request_stores_nothing_and_says_why() {
    let post = Asked { method: Method::POST, ..get(&[]) };
    let passed = respond_to(&post, &web(""), None, 200, &[("cache-control", "max-age=60")]).map(|_| ());
    assert_eq!(passed, Err(NotStored::Bypassed(BypassReason::Method)));
}

#[test]
fn a_failing_response_hook_stores_by_rfc_only_where_on_error_says_so() {
    let broken = policy("return { response = function() error('broken') end }");
    let stored = respond(&web("on_error: defaults"), Some(&broken), 200, &[("cache-control", "max-age=60")]);
    assert_eq!(stored.unwrap().facts.freshness.source.as_str(), "max-age");
}

#[test]
fn authorization_keeps_a_response_out_unless_somebody_says_otherwise() {
    let asked = get(&[("authorization", "Bearer x")]);
    let table = [
        ("max-age=60", Err(NotStored::Rule(NotStorable::Authorization))),
        ("public, max-age=60", Ok(())),
        ("s-maxage=60", Ok(())),
        ("must-revalidate, max-age=60", Ok(())),
    ];
    for (control, verdict) in table {
        let stored = respond_to(&asked, &web(""), None, 200, &[("cache-control", control)]).map(|_| ());
        assert_eq!(stored, verdict, "{control}");
    }
    let policy = policy("return { response = function() return { ttl = 60, override = { 'authorization' } } end }");
    assert!(respond_to(&asked, &web(""), Some(&policy), 200, &[]).is_ok());
}

#[test]
fn stale_windows_are_given_in_words_and_must_revalidate_closes_them() {
    let policy =
        policy("return { response = function() return { stale_while_revalidate = 7, stale_if_error = 8 } end }");
    let hour = 3600;
    // Cache-Control, policy or none, stale-while-revalidate, stale-if-error, when disconnected
    let table = [
        ("max-age=60", None, (0, 0, hour)),
        ("max-age=60, stale-while-revalidate=5, stale-if-error=6", None, (5, 6, 6)),
        ("max-age=60, stale-while-revalidate=5", Some(&policy), (7, 8, 8)),
        ("max-age=60, must-revalidate, stale-if-error=6", None, (0, 0, 0)),
        ("max-age=60, must-revalidate", Some(&policy), (0, 0, 0)),
        ("max-age=60, proxy-revalidate", Some(&policy), (0, 0, 0)),
        ("s-maxage=60, stale-if-error=6", None, (0, 6, 6)),
        ("s-maxage=60", None, (0, 0, 0)),
    ];
    for (control, policy, windows) in table {
        let policy = policy.map(AsRef::as_ref);
        let storing = respond(&web(""), policy, 200, &[("cache-control", control)]).unwrap();
        let freshness = &storing.facts.freshness;
        let end = |failure| {
            let serves = |after| {
                let now = freshness.fresh_until() + Duration::from_secs(after);
                decide::serves_for(&get(&[]).view(), &storing.facts, failure, now).is_some()
            };
            (0..=hour).find(|after| !serves(*after))
        };
        let seen = (freshness.window_while_revalidate().as_secs(), end(Some(StatusCode::BAD_GATEWAY)), end(None));
        assert_eq!(seen, (windows.0, Some(windows.1), Some(windows.2)), "{control}");
    }
    let off = respond(&web("stale_on_disconnect: 0"), None, 200, &[("cache-control", "max-age=60")]).unwrap();
    assert_eq!(off.facts.limits.on_disconnect, Duration::ZERO);
}

#[test]
fn what_no_cache_allows_to_store_is_never_fresh() {
    let fields = [("cache-control", "no-cache, max-age=60"), ("etag", "\"1\"")];
    let storing = respond(&web(""), None, 200, &fields).unwrap();
    assert_eq!(fresh_for(&storing), Duration::ZERO);
    let later = storing.facts.freshness.response_time;
    assert_eq!(decide::serves_for(&get(&[]).view(), &storing.facts, None, later), None);
}

/// How long a response is fresh from its arrival on.
fn fresh_for(storing: &Storing) -> Duration {
    storing.facts.freshness.ttl(storing.facts.freshness.response_time)
}

#[test]
fn heuristic_freshness_can_be_turned_off() {
    let fields = [("date", "Fri, 15 Jan 2027 08:00:00 GMT"), ("last-modified", "Tue, 05 Jan 2027 08:00:00 GMT")];
    let storing = respond(&web(""), None, 200, &fields).unwrap();
    assert_eq!(storing.facts.freshness.source.as_str(), "heuristic");
    let off = respond(&web("heuristic: false"), None, 200, &fields).map(|storing| fresh_for(&storing));
    assert!(!matches!(off, Ok(ttl) if ttl > Duration::ZERO), "{off:?}");
}

#[test]
fn fields_that_must_not_be_kept_are_named() {
    let named = [("cache-control", "private=\"x-user\", max-age=60"), ("x-user", "me")];
    assert_eq!(respond(&web(""), None, 200, &named).unwrap().strip, ["x-user"]);
    let none = [("cache-control", "max-age=60"), ("x-user", "me")];
    assert!(respond(&web(""), None, 200, &none).unwrap().strip.is_empty());
}

#[test]
fn what_the_policy_varies_on_joins_the_vary_of_the_response() {
    let policy = policy("return { response = function() return { ttl = 60, vary = { 'accept', 'cookie' } } end }");
    let table = [
        (None, Some("accept, cookie")),
        (Some("Accept-Encoding"), Some("Accept-Encoding, accept, cookie")),
        (Some("Cookie"), Some("Cookie, accept")),
        (Some("COOKIE, Accept"), None),
    ];
    for (vary, joined) in table {
        let fields: Vec<_> = vary.map(|vary| ("vary", vary)).into_iter().collect();
        let storing = respond(&web(""), Some(&policy), 200, &fields).unwrap();
        let seen = storing.vary_for(&headers(&fields));
        assert_eq!(seen.as_ref().map(|value| value.to_str().unwrap()), joined, "{vary:?}");
    }
}

// === afterwards ===

#[test]
fn an_unsafe_request_that_succeeds_outdates_what_a_get_would_have_found() {
    let post = Asked { method: Method::POST, ..get(&[]) };
    let by_path = policy("return { request = function(req) return { key = { req.path } } end }");
    let keys = |policy: Option<&Policy>, status, fields: &[(&str, &str)]| {
        let outdated = decide::outdated(&web(""), policy, &post.view(), status, &headers(fields));
        outdated.iter().map(|key| key.to_strings()[2..].join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(keys(None, StatusCode::OK, &[]), ["http /a?b=1"]);
    assert_eq!(keys(Some(&by_path), StatusCode::CREATED, &[]), ["/a"]);
    assert_eq!(keys(None, StatusCode::CREATED, &[("location", "/new")]), ["http /a?b=1", "http /new"]);
    assert_eq!(keys(None, StatusCode::CREATED, &[("location", "http://elsewhere/new")]), ["http /a?b=1"]);
    assert_eq!(keys(None, StatusCode::INTERNAL_SERVER_ERROR, &[]), [""; 0]);
}

#[test]
fn variants_are_told_apart_by_what_a_field_was_reduced_to() {
    let stored = headers(&[("vary", "accept-encoding")]);
    let of = |value: &str, normalized: &decide::NormalizedFields| {
        decide::variance(&stored, &headers(&[("accept-encoding", value)]), normalized)
    };
    let name = HeaderName::from_static("accept-encoding");
    let reduced = [(name.clone(), Some(HeaderValue::from_static("br")))];
    let absent = [(name, None)];
    assert_eq!(decide::variance(&headers(&[]), &headers(&[]), &[]), None);
    assert_ne!(of("gzip", &[]), of("br", &[]));
    assert_eq!(of("gzip", &reduced), of("deflate, br", &reduced));
    assert_eq!(of("br", &absent), decide::variance(&stored, &headers(&[]), &[]));
}
