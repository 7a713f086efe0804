//! What goes out on the wire beside the body.

use crate::support::proxy::TOKEN;
use crate::support::{Origin, Proxy, Reply, Response};

async fn fresh_origin() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|_| Reply::fresh("a"));
    origin
}

fn cache_status(response: &Response) -> String {
    response.header("cache-status").expect("Cache-Status on every response")
}

#[tokio::test]
async fn cache_status_of_a_stored_miss() {
    let origin = fresh_origin().await;
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(cache_status(&proxy.get("/a").await), "tidegate; fwd=uri-miss; fwd-status=200; stored");
}

#[tokio::test]
async fn cache_status_of_a_hit_in_memory() {
    let origin = fresh_origin().await;
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let hit = proxy.get("/a").await;
    let ttl = hit.cache_status().ttl.expect("a ttl");
    assert!((50..=60).contains(&ttl), "{ttl}");
    assert_eq!(cache_status(&hit), format!("tidegate; hit; ttl={ttl}; detail=\"memory\""));
}

#[tokio::test]
async fn cache_status_of_a_bypass() {
    let origin = fresh_origin().await;
    let policy = r#"return { request = function() return { bypass = "authorized" } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    assert_eq!(cache_status(&proxy.get("/a").await), "tidegate; fwd=bypass; fwd-status=200; detail=\"authorized\"");
}

#[tokio::test]
async fn a_reason_with_quotes_stays_a_valid_field() {
    let origin = fresh_origin().await;
    let policy = r#"return { request = function() return { bypass = 'a "b", c\\d; é' } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    let field = cache_status(&proxy.get("/a").await);
    let inside = field.split_once("detail=\"").unwrap().1.strip_suffix('"').unwrap();
    let bare = inside.replace("\\\\", "").replace("\\\"", "");
    assert!(field.is_ascii() && !bare.contains(['"', '\\']), "{field}");
}

/// RFC 9211 section 2: each cache appends itself to the list.
#[tokio::test]
async fn the_origins_cache_status_comes_first() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a").header("cache-status", "inner; hit"));
    let proxy = Proxy::plain(&origin).await;
    let field = cache_status(&proxy.get("/a").await);
    assert!(field.starts_with("inner; hit, tidegate; fwd=uri-miss"), "{field}");
}

#[tokio::test]
async fn age_is_on_a_hit_and_not_on_a_miss() {
    let origin = fresh_origin().await;
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.get("/a").await.header("age"), None);
    let age = proxy.get("/a").await.header("age").expect("Age on a hit");
    assert!(age.parse::<u32>().is_ok_and(|age| age < 10), "{age}");
}

#[tokio::test]
async fn via_is_added_in_both_directions() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a").header("via", "1.1 inner"));
    let proxy = Proxy::plain(&origin).await;
    for _ in 0..2 {
        let via = proxy.get("/a").header("via", "1.0 outer").await.header("via").expect("Via");
        assert!(via.starts_with("1.1 inner, 1.1 ") && via.contains("tidegate"), "{via}");
    }
    let asked = origin.last("/a").header("via").expect("Via at the origin");
    assert!(asked.starts_with("1.0 outer, 1.1 ") && asked.contains("tidegate"), "{asked}");
}

#[tokio::test]
async fn a_response_without_a_date_gets_one() {
    let origin = fresh_origin().await;
    let proxy = Proxy::plain(&origin).await;
    for _ in 0..2 {
        let date = proxy.get("/a").await.header("date").expect("Date");
        assert!(httpdate::parse_http_date(&date).is_ok(), "{date}");
    }
}

#[tokio::test]
async fn the_origins_date_is_kept() {
    let origin = Origin::start().await;
    let date = httpdate::fmt_http_date(tidegate::clock::now() - std::time::Duration::from_secs(100));
    origin.on("/a", Reply::ok("a").header("cache-control", "max-age=3600").header("date", &date));
    let proxy = Proxy::plain(&origin).await;
    for _ in 0..2 {
        assert_eq!(proxy.get("/a").await.headers.all("date"), [date.as_str()]);
    }
}

#[tokio::test]
async fn every_response_has_a_request_id_of_its_own() {
    let origin = fresh_origin().await;
    let proxy = Proxy::plain(&origin).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let response = proxy.get("/a").await;
        assert_eq!(response.headers.all("x-request-id").len(), 1);
        ids.extend(response.header("x-request-id"));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn an_unknown_host_is_a_404_that_explains_itself() {
    let origin = fresh_origin().await;
    let bucket = "{ match: { hosts: [known.test] }, origin: main }";
    let proxy = Proxy::builder(&origin).bucket("known", bucket).start().await;
    let response = proxy.get("/a").host("unknown.test").await;
    assert_eq!(response.status, 404);
    assert_eq!(response.header("content-type").as_deref(), Some("application/problem+json"));
    assert_eq!(response.json()["status"], 404);
    assert!(response.json()["title"].is_string());
    assert_eq!(origin.count("/a"), 0);
    assert_eq!(proxy.get("/a").host("known.test:8080").await.status, 200);
}

#[tokio::test]
async fn too_much_of_anything_is_refused_with_its_own_status() {
    let origin = fresh_origin().await;
    let limits = "{ header_bytes: 4KiB, uri_bytes: 1KiB, body_bytes: 2KiB }";
    let proxy = Proxy::builder(&origin).set("server.limits", limits).start().await;
    let long = |n: usize| "x".repeat(n);
    for (call, status) in [
        (proxy.call("POST", "/a").body(long(3000)), 413),
        (proxy.call("POST", "/a").chunked_body(long(3000)), 413),
        (proxy.get(&format!("/{}", long(2000))), 414),
        (proxy.get("/a").header("x-long", &long(5000)), 431),
        (proxy.call("POST", "/a").body(long(1000)), 200),
    ] {
        assert_eq!(call.await.status, status);
    }
}

#[tokio::test]
async fn hop_by_hop_fields_stop_here() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a").header("connection", "x-inner").header("x-inner", "1").header("x-kept", "1"));
    let proxy = Proxy::plain(&origin).await;
    for _ in 0..2 {
        let call = proxy.get("/a").header("connection", "x-outer, keep-alive").header("x-outer", "1");
        let response = call.header("keep-alive", "timeout=5").header("te", "trailers").header("x-kept", "1").await;
        assert_eq!((response.header("x-inner"), response.header("x-kept").as_deref()), (None, Some("1")));
    }
    let seen = origin.last("/a");
    for name in ["x-outer", "keep-alive", "te"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-kept").as_deref(), Some("1"));
}

#[tokio::test]
async fn the_origin_learns_the_client_and_the_host() {
    let origin = fresh_origin().await;
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").host("shop.test").header("x-forwarded-for", "9.9.9.9").await;
    let seen = origin.last("/a");
    assert_eq!(seen.header("host").as_deref(), Some("shop.test"));
    // What the client claims may stand before it, but the address that we saw is the last word.
    let path = seen.header("x-forwarded-for").unwrap_or_default();
    assert!(path.ends_with("127.0.0.1"), "{path}");
}

#[tokio::test]
async fn a_1xx_before_the_response_does_no_harm() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a").informational(103, "link: </s.css>; rel=preload"));
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.get("/a").await.text(), "a");
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let origin = Origin::start().await;
    origin.otherwise(|_| Reply::ok("a").header("cache-control", "no-store"));
    let proxy = Proxy::builder(&origin).set("server.threads", "1").start().await;
    let mut kept = proxy.connect().await;
    for _ in 0..3 {
        assert_eq!(kept.call(proxy.get("/a")).await.text(), "a");
    }
    let seen = origin.requests("/a");
    assert!(seen.iter().all(|request| request.connection == seen[0].connection));
}

#[tokio::test]
async fn the_debug_field_explains_with_the_right_token_and_is_never_forwarded() {
    let origin = fresh_origin().await;
    let proxy =
        Proxy::with_policy(&origin, "return { request = function(req) return { key = { req.path } } end }").await;
    for (token, explained) in [(TOKEN, true), ("wrong", false)] {
        let response = proxy.get(&format!("/{token}")).header("tidegate-debug", token).await;
        let explanation = response.header("tidegate-debug");
        assert_eq!(explanation.is_some(), explained, "{token}");
        assert_eq!(origin.last(&format!("/{token}")).header("tidegate-debug"), None);
        if let Some(text) = explanation {
            let json: serde_json::Value = serde_json::from_str(&text).expect("the explain shape");
            assert_eq!(json["bucket"], "main");
            assert_eq!(json["policy"]["file"], "policies/main.lua");
            assert_eq!(json["request"]["outcome"], "lookup");
        }
    }
    assert_eq!(proxy.get("/plain").await.header("tidegate-debug"), None);
}
