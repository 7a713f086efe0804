//! `Cache-Status`: RFC 9211, a list of RFC 9651.

use super::pair;
use crate::support::{Gate, Origin, Proxy, Reply, Response};

/// A member of a list: its name, and its parameters with their values as they stand; a bare one is `?1`.
type Member = (String, Vec<(String, String)>);

/// Reads a list of RFC 9651 section 4.2.1 as strictly as that section says, as far as RFC 9211 needs it.
fn list(text: &str) -> Option<Vec<Member>> {
    let mut rest = text.trim_matches(' ');
    let mut members = Vec::new();
    while !rest.is_empty() {
        let name = item(&mut rest)?;
        if !name.starts_with(|c: char| c == '"' || c.is_ascii_alphabetic() || c == '*') {
            return None;
        }
        let mut parameters = Vec::new();
        while let Some(after) = rest.strip_prefix(';') {
            rest = after.trim_start_matches(' ');
            let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c)));
            let (key, after) = rest.split_at(end.unwrap_or(rest.len()));
            if !key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') {
                return None;
            }
            rest = after;
            let value = match rest.strip_prefix('=') {
                Some(after) => {
                    rest = after;
                    item(&mut rest)?
                }
                None => "?1".to_owned(),
            };
            parameters.push((key.to_owned(), value));
        }
        members.push((name, parameters));
        rest = rest.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches([' ', '\t']),
            None if rest.is_empty() => return Some(members),
            None => return None,
        }
        if rest.is_empty() {
            return None;
        }
    }
    Some(members)
}

fn item(rest: &mut &str) -> Option<String> {
    let end = if let Some(inside) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = inside.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        })?;
        if !inside.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return None;
        }
        end.0 + 2
    } else {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/?".contains(c));
        rest.find(ends).unwrap_or(rest.len())
    };
    let (item, after) = rest.split_at(end);
    *rest = after;
    (!item.is_empty()).then(|| item.to_owned())
}

/// Our member, which must be the last one, after everything that RFC 9211 says of each was seen to hold.
fn ours(response: &Response) -> Vec<(String, String)> {
    let field = response.header("cache-status").unwrap_or_default();
    let members = list(&field).unwrap_or_else(|| panic!("no list of RFC 9651: {field}"));
    let (name, parameters) = members.last().cloned().unwrap_or_else(|| panic!("nothing in {field:?}"));
    assert_eq!(name, "tidegate", "{field}");
    let get = |key: &str| parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    for (key, _) in &parameters {
        assert_eq!(parameters.iter().filter(|(other, _)| other == key).count(), 1, "{key} twice in {field}");
    }
    for flag in ["hit", "stored", "collapsed"] {
        assert!(get(flag).is_none_or(|value| value == "?1" || value == "?0"), "{flag} in {field}");
    }
    if let Some(fwd) = get("fwd") {
        let registered = ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"];
        assert!(registered.contains(&fwd), "{field}");
        assert_eq!(get("hit"), None, "section 2.2: hit excludes fwd; {field}");
    } else {
        assert_eq!((get("fwd-status"), get("stored"), get("collapsed")), (None, None, None), "{field}");
    }
    let number = |key| get(key).is_none_or(|value: &str| value.parse::<i64>().is_ok());
    assert!(number("ttl") && number("fwd-status"), "{field}");
    let named =
        |key| get(key).is_none_or(|value: &str| value.starts_with(|c: char| c == '"' || c.is_ascii_alphabetic()));
    assert!(named("key") && named("detail"), "{field}");
    parameters
}

fn value(response: &Response, key: &str) -> Option<String> {
    ours(response).into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn values<const N: usize>(response: &Response, keys: [&str; N]) -> [Option<String>; N] {
    keys.map(|key| value(response, key))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

// RFC 9211 sections 2.1 to 2.6
#[tokio::test]
async fn a_miss_says_why_what_came_and_that_it_is_stored() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body"));
    let miss = proxy.get("/a").await;
    let keys = ["fwd", "fwd-status", "stored", "hit", "ttl"];
    assert_eq!(values(&miss, keys), [some("uri-miss"), some("200"), some("?1"), None, None]);
    let hit = proxy.get("/a").await;
    assert_eq!(values(&hit, ["hit", "fwd", "stored"]), [some("?1"), None, None]);
    let ttl: i64 = value(&hit, "ttl").unwrap().parse().unwrap();
    assert!((1..=60).contains(&ttl), "{ttl}");
    assert_eq!(proxy.call("HEAD", "/a").await.header("cache-status"), hit.header("cache-status"));
}

#[tokio::test]
async fn each_reason_to_go_forward_has_its_registered_name() {
    let origin = Origin::start().await;
    origin.on("/vary", Reply::fresh("body").header("vary", "x-a"));
    origin.on("/a", Reply::fresh("body").etag("\"v\""));
    origin.on("/stale", Reply::ok("body").header("cache-control", "max-age=0").etag("\"v\""));
    let policy = "return {
        request = function(req) if req.path == '/bypass' then return { bypass = 'say \"no\" \\\\ ü' } end end,
        hit = function(req, entry) if req.query.miss then return { miss = true } end end }";
    let proxy = Proxy::with_policy(&origin, policy).await;
    proxy.get("/vary").header("x-a", "1").await;
    assert_eq!(value(&proxy.get("/vary").header("x-a", "2").await, "fwd"), some("vary-miss"));
    proxy.get("/a").await;
    let asked = proxy.get("/a").header("cache-control", "no-cache").await;
    assert_eq!(values(&asked, ["fwd", "fwd-status"]), [some("request"), some("304")]);
    proxy.get("/a?miss=1").await;
    assert_eq!(value(&proxy.get("/a?miss=1").await, "fwd"), some("miss"));
    proxy.get("/stale").await;
    let stale = proxy.get("/stale").await;
    assert_eq!(values(&stale, ["fwd", "fwd-status"]), [some("stale"), some("304")]);
    let bypassed = proxy.get("/bypass").await;
    assert_eq!(values(&bypassed, ["fwd", "fwd-status"]), [some("bypass"), some("404")]);
    let detail = value(&bypassed, "detail").unwrap();
    assert!(detail.starts_with("\"say \\\"no\\\" \\\\ ?"), "{detail}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response = proxy.call(method, "/a").await;
        assert_eq!(values(&response, ["fwd", "fwd-status", "stored"]), [some("method"), some("200"), None], "{method}");
    }
}

// RFC 9211 section 2.3: fwd-status is the status of the next hop where it is not that of the response
#[tokio::test]
async fn what_the_origin_said_is_told_where_the_client_gets_something_else() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("0123456789").etag("\"v\""));
    let unchanged = proxy.get("/a?1").header("if-none-match", "\"v\"").await;
    assert_eq!((unchanged.status, value(&unchanged, "fwd-status")), (304, some("200")));
    let part = proxy.get("/a?2").header("range", "bytes=0-1").await;
    assert_eq!((part.status, value(&part, "fwd-status")), (206, some("200")));
    let old = Reply::ok("old").header("cache-control", "max-age=0, stale-if-error=60");
    origin.on_each("/stale", [old, Reply::status(500), Reply::hang_up()]);
    proxy.get("/stale").await;
    let keys = ["hit", "fwd", "fwd-status"];
    let failed = proxy.get("/stale").await;
    assert_eq!(values(&failed, keys), [None, some("stale"), some("500")]);
    // Section 2.4: negative once it is stale
    assert!(value(&failed, "ttl").unwrap().parse::<i64>().unwrap() <= 0);
    assert_eq!(values(&proxy.get("/stale").await, keys), [None, some("stale"), None]);
}

// RFC 9211 section 2.6
#[tokio::test]
async fn a_request_that_another_one_answered_is_collapsed() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("body").after(&gate));
    let first = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let second = proxy.get("/a").spawn();
    proxy.wait_for_waiters(1).await;
    gate.open();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(values(&first, ["fwd", "collapsed"]), [some("uri-miss"), None]);
    assert_eq!(values(&second, ["fwd", "collapsed", "hit"]), [some("uri-miss"), some("?1"), None]);
}

// RFC 9211 sections 2.2 and 2.6: fwd says why it would have gone forward
#[tokio::test]
async fn a_collapsed_request_says_what_it_had_found() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    let old = Reply::ok("old").header("cache-control", "max-age=0").etag("\"v\"");
    origin.on_each("/stale", [old, Reply::fresh("new").etag("\"w\"").after(&gate)]);
    let held = gate.clone();
    origin.on_fn("/vary", move |seen| {
        let reply = Reply::fresh("body").header("vary", "x-who");
        if seen.header("x-who").is_some() { reply.after(&held) } else { reply }
    });
    proxy.get("/stale").await;
    proxy.get("/vary").await;
    let calls = [("/stale", "stale"), ("/vary", "vary-miss")];
    let mut leaders = Vec::new();
    for (path, _) in calls {
        leaders.push(proxy.get(path).header("x-who", "one").spawn());
        origin.wait_for_requests(path, 2).await;
    }
    let followers = calls.map(|(path, _)| proxy.get(path).header("x-who", "one").spawn());
    proxy.wait_for_waiters(2).await;
    gate.open();
    for (follower, (_, reason)) in followers.into_iter().zip(calls) {
        let response = follower.await.unwrap();
        assert_eq!(values(&response, ["fwd", "collapsed"]), [some(reason), some("?1")], "{response:?}");
    }
    for leader in leaders {
        assert_eq!(leader.await.unwrap().status, 200);
    }
}

// RFC 9211 section 2: "The first member represents the cache closest to the origin server"
#[tokio::test]
async fn members_of_caches_nearer_to_the_origin_stay_in_front_over_several_lines() {
    let (origin, proxy) = pair().await;
    let reply = Reply::fresh("body").header("cache-status", "one; hit; ttl=5, two; fwd=miss");
    origin.on("/a", reply.header("Cache-Status", "\"three, four\"; detail=\"a;b\""));
    origin.on("/b", Reply::ok("body").header("cache-status", "one; hit").header("cache-control", "no-store"));
    for path in ["/a", "/a", "/b"] {
        let response = proxy.get(path).await;
        ours(&response);
        let members = list(&response.header("cache-status").unwrap()).unwrap();
        let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
        let all = ["one", "two", "\"three, four\"", "tidegate"];
        assert_eq!(names, if path == "/a" { &all[..] } else { &["one", "tidegate"] });
    }
}

// RFC 9651 section 4.2: a field that fails to parse is ignored whole
#[tokio::test]
async fn an_invalid_cache_status_of_the_origin_does_not_make_ours_unreadable() {
    let (origin, proxy) = pair().await;
    for (n, theirs) in
        ["HIT from here", "hit,", ",hit", "a; detail=\"open", "1; hit", "(a b)", "a;;b", "", "caf\u{e9}; hit"]
            .into_iter()
            .enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, Reply::fresh("body").header("cache-status", theirs).header("cache-status", "good; hit"));
        for key in ["fwd", "hit"] {
            let response = proxy.get(&path).await;
            assert!(value(&response, key).is_some(), "{theirs:?}: {response:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_our_own_says_so_in_a_readable_way() {
    let (origin, proxy) = pair().await;
    origin.on("/gone", Reply::hang_up());
    let gone = proxy.get("/gone").await;
    assert_eq!((gone.status, value(&gone, "hit")), (502, None));
    assert_eq!(value(&gone, "detail"), some("\"origin-unreachable\""));
    let only = proxy.get("/only").header("cache-control", "only-if-cached").await;
    assert_eq!((only.status, values(&only, ["hit", "fwd"])), (504, [None, None]));
}
