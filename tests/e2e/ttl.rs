//! Whether a response is stored and for how long: the origin's word, the policy's word, and which of them wins.

use crate::support::{Origin, Proxy, Reply, Response};

const TTL: &str = r#"return { response = function() return { ttl = "1h" } end }"#;

/// Stores `reply` under this policy (none if empty) and returns the answer to a second request.
async fn second(reply: Reply, policy: &str) -> Response {
    let origin = Origin::start().await;
    origin.on("/a", reply);
    let proxy = match policy {
        "" => Proxy::plain(&origin).await,
        text => Proxy::with_policy(&origin, text).await,
    };
    assert!(!proxy.get("/a").await.is_hit());
    let second = proxy.get("/a").await;
    assert_eq!(origin.count("/a"), if second.is_hit() { 1 } else { 2 });
    second
}

/// The freshness left of a hit, give or take the seconds that the test took.
#[track_caller]
fn assert_hit_for(response: &Response, seconds: i64) {
    let status = response.cache_status();
    let left = status.ttl.unwrap_or_else(|| panic!("no ttl in {status:?}"));
    assert!(status.hit && (seconds - 10..=seconds).contains(&left), "{left} seconds left, not about {seconds}");
}

#[tokio::test]
async fn the_origins_max_age_decides_without_a_policy() {
    assert_hit_for(&second(Reply::ok("a").header("cache-control", "max-age=60"), "").await, 60);
}

#[tokio::test]
async fn s_maxage_is_for_shared_caches() {
    assert_hit_for(&second(Reply::ok("a").header("cache-control", "max-age=5, s-maxage=600"), "").await, 600);
}

#[tokio::test]
async fn age_at_arrival_is_taken_off() {
    let reply = Reply::ok("a").header("cache-control", "max-age=600").header("age", "200");
    let hit = second(reply, "").await;
    assert_hit_for(&hit, 400);
    let age: i64 = hit.header("age").unwrap().parse().unwrap();
    assert!((200..=210).contains(&age));
}

#[tokio::test]
async fn a_policy_ttl_holds_for_an_origin_that_says_nothing() {
    assert_hit_for(&second(Reply::ok("a"), TTL).await, 3600);
}

#[tokio::test]
async fn a_policy_ttl_wins_over_max_age() {
    assert_hit_for(&second(Reply::ok("a").header("cache-control", "max-age=60"), TTL).await, 3600);
}

#[tokio::test]
async fn a_ttl_is_seconds_or_text_with_units() {
    for (ttl, seconds) in [("90", 90), ("\"90s\"", 90), ("\"1h30m\"", 5400), ("\"2d\"", 172_800)] {
        let policy = format!("return {{ response = function() return {{ ttl = {ttl} }} end }}");
        assert_hit_for(&second(Reply::ok("a"), &policy).await, seconds);
    }
}

#[tokio::test]
async fn a_policy_sees_the_status() {
    let policy = r#"return { response = function(req, res)
        if res.status == 404 then return { ttl = "30s" } end
        return { ttl = "1h" }
    end }"#;
    let missing = second(Reply::status(404).piece("gone"), policy).await;
    assert_eq!(missing.status, 404);
    assert_hit_for(&missing, 30);
}

#[tokio::test]
async fn a_policy_that_returns_nothing_leaves_it_to_the_origin() {
    let policy = "return { response = function() end }";
    assert_hit_for(&second(Reply::fresh("a"), policy).await, 60);
    assert!(!second(Reply::ok("a").header("cache-control", "no-store"), policy).await.is_hit());
}

#[tokio::test]
async fn a_policy_can_decline_and_say_why() {
    let policy = r#"return { response = function() return { store = false, reason = "too personal" } end }"#;
    let response = second(Reply::fresh("a"), policy).await;
    assert!(!response.cache_status().stored);
    assert!(response.cache_status().detail().contains("too personal"), "{:?}", response.cache_status());
}

#[tokio::test]
async fn what_the_origin_forbids_wins_over_a_policy_ttl() {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("cache-control", "private"),
        ("cache-control", "no-store, max-age=60"),
        ("set-cookie", "id=1"),
    ] {
        let response = second(Reply::ok("a").header(name, value), TTL).await;
        assert!(!response.is_hit(), "{name}: {value} was served from the cache");
        assert!(!response.cache_status().stored, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_policy_sets_a_rule_aside_by_its_name() {
    for (rule, name, value) in [
        ("no-store", "cache-control", "no-store"),
        ("private", "cache-control", "private"),
        ("no-cache", "cache-control", "no-cache"),
        ("set-cookie", "set-cookie", "id=1"),
    ] {
        let policy =
            format!("return {{ response = function() return {{ ttl = 3600, override = {{ \"{rule}\" }} }} end }}");
        let response = second(Reply::ok("a").header(name, value), &policy).await;
        assert_hit_for(&response, 3600);
    }
}

#[tokio::test]
async fn one_override_is_not_another() {
    let policy = r#"return { response = function() return { ttl = "1h", override = { "private" } } end }"#;
    assert!(!second(Reply::ok("a").header("set-cookie", "id=1"), policy).await.is_hit());
    assert!(!second(Reply::ok("a").header("cache-control", "private, no-store"), policy).await.is_hit());
}

#[tokio::test]
async fn a_request_with_authorization_is_not_shared_unless_the_policy_says_so() {
    for (overrides, stored) in [("", false), (", override = { \"authorization\" }", true)] {
        let origin = Origin::start().await;
        origin.on("/a", Reply::ok("a"));
        let policy = format!("return {{ response = function() return {{ ttl = 60{overrides} }} end }}");
        let proxy = Proxy::with_policy(&origin, &policy).await;
        proxy.get("/a").header("authorization", "Basic eDp5").await;
        assert_eq!(proxy.get("/a").await.is_hit(), stored, "with {overrides:?}");
    }
}

/// RFC 9111 section 3.5.
#[tokio::test]
async fn an_origin_may_allow_sharing_despite_authorization() {
    let origin = Origin::start().await;
    origin.on("/plain", Reply::fresh("a"));
    origin.on("/public", Reply::ok("a").header("cache-control", "public, max-age=60"));
    let proxy = Proxy::plain(&origin).await;
    for (path, stored) in [("/plain", false), ("/public", true)] {
        proxy.get(path).header("authorization", "Basic eDp5").await;
        assert_eq!(proxy.get(path).await.is_hit(), stored, "{path}");
    }
}

#[tokio::test]
async fn a_fresh_response_with_a_cookie_is_stored_with_it_when_no_policy_says_otherwise() {
    let hit = second(Reply::fresh("a").header("set-cookie", "id=1"), "").await;
    assert_hit_for(&hit, 60);
    assert_eq!(hit.header("set-cookie").as_deref(), Some("id=1"));
}

#[tokio::test]
async fn heuristic_freshness_is_on_and_can_be_turned_off() {
    for (heuristic, stored) in [("true", true), ("false", false)] {
        let origin = Origin::start().await;
        origin.on("/a", Reply::ok("a").header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"));
        let proxy = Proxy::builder(&origin).set("buckets.main.heuristic", heuristic).start().await;
        proxy.get("/a").await;
        assert_eq!(proxy.get("/a").await.is_hit(), stored, "heuristic: {heuristic}");
    }
}

#[tokio::test]
async fn the_stored_head_keeps_every_field_of_the_representation() {
    let fields = [
        ("content-type", "text/css"),
        ("content-encoding", "br"),
        ("content-language", "de"),
        ("etag", "\"v1\""),
        ("cache-control", "max-age=60"),
        ("x-any", "kept"),
    ];
    let reply = fields.iter().fold(Reply::ok("a"), |reply, (name, value)| reply.header(name, value));
    let hit = second(reply, "").await;
    for (name, value) in fields {
        assert_eq!(hit.header(name).as_deref(), Some(value), "{name}");
    }
}
