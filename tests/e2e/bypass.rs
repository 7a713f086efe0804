//! Requests that the cache keeps out of.

use crate::support::{Origin, Proxy, Reply};

const BYPASS_LOGGED_IN: &str = r#"return { request = function(req)
    if req.headers.authorization then return { bypass = "authorized" } end
    return { key = { req.path } }
end }"#;

#[tokio::test]
async fn a_policy_bypass_says_its_reason_and_reaches_the_origin_each_time() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("mine"));
    let proxy = Proxy::with_policy(&origin, BYPASS_LOGGED_IN).await;
    for n in 1..=3 {
        let response = proxy.get("/a").header("Authorization", "Basic eDp5").await;
        let status = response.cache_status();
        assert_eq!((status.fwd(), status.detail()), ("bypass", "authorized"));
        assert_eq!((response.status, response.text().as_str(), status.stored), (200, "mine", false));
        assert_eq!(origin.count("/a"), n);
    }
}

#[tokio::test]
async fn a_bypass_neither_fills_nor_uses_the_entry() {
    let origin = Origin::start().await;
    origin.on_each("/a", [Reply::fresh("mine"), Reply::fresh("everyone's"), Reply::fresh("mine again")]);
    let proxy = Proxy::with_policy(&origin, BYPASS_LOGGED_IN).await;
    let mine = || proxy.get("/a").header("authorization", "Basic eDp5");
    assert_eq!(mine().await.text(), "mine");
    assert_eq!(proxy.get("/a").await.text(), "everyone's");
    assert_eq!(mine().await.text(), "mine again");
    let hit = proxy.get("/a").await;
    assert!(hit.is_hit());
    assert_eq!(hit.text(), "everyone's");
}

#[tokio::test]
async fn a_post_goes_through_with_its_body_each_time() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| Reply::fresh(&seen.body));
    let proxy = Proxy::plain(&origin).await;
    for body in ["one", "two"] {
        let response = proxy.call("POST", "/a").body(body).await;
        assert_eq!(response.text(), body);
        assert_eq!(response.cache_status().fwd(), "method");
    }
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn a_chunked_post_body_arrives_whole() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::ok("thanks"));
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.call("POST", "/a").chunked_body("in chunks").await.status, 200);
    assert_eq!(origin.last("/a").body, b"in chunks");
}

#[tokio::test]
async fn other_methods_are_never_answered_from_a_stored_get() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| Reply::fresh(&seen.method));
    let proxy = Proxy::plain(&origin).await;
    for method in ["OPTIONS", "PUT", "PATCH", "DELETE"] {
        assert_eq!(proxy.get("/a").await.text(), "GET");
        let response = proxy.call(method, "/a").body("x").await;
        assert_eq!((response.text().as_str(), response.is_hit()), (method, false));
    }
}

#[tokio::test]
async fn an_answered_options_is_not_stored() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| Reply::fresh(&seen.method));
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.call("OPTIONS", "/a").await.text(), "OPTIONS");
    assert_eq!(proxy.get("/a").await.text(), "GET");
}

/// RFC 9111 section 4.4.
#[tokio::test]
async fn a_successful_unsafe_method_invalidates_what_is_stored_for_its_uri() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| Reply::fresh(&seen.method));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(proxy.call("POST", "/a").body("x").await.status, 200);
    assert!(!proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_failed_unsafe_method_leaves_the_entry_alone() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| if seen.method == "GET" { Reply::fresh("kept") } else { Reply::status(500) });
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_eq!(proxy.call("POST", "/a").body("x").await.status, 500);
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_hit_with_a_request_body_leaves_the_connection_in_step() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    origin.on("/b", Reply::fresh("b"));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let mut kept = proxy.connect().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: test.example\r\n\r\n";
    assert_eq!(kept.call(proxy.get("/a").body(smuggled)).await.text(), "a");
    // Either the next answer is to the next request, or the connection was closed; never an answer to the body.
    if let Ok(next) = kept.attempt(proxy.get("/b")).await {
        assert_eq!(next.text(), "b");
    }
    assert_eq!(origin.count("/smuggled"), 0);
}

#[tokio::test]
async fn a_client_may_ask_past_the_cache() {
    let origin = Origin::start().await;
    origin.on_each("/a", [Reply::fresh("old"), Reply::fresh("new")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let fresh = proxy.get("/a").header("cache-control", "no-cache").await;
    assert_eq!((fresh.text().as_str(), fresh.cache_status().fwd()), ("new", "request"));
    let after = proxy.get("/a").await;
    assert_eq!((after.text().as_str(), after.is_hit()), ("new", true));
}

#[tokio::test]
async fn an_operator_can_deny_clients_the_way_past_the_cache() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let proxy = Proxy::builder(&origin).set("buckets.main.client_refetch", "false").start().await;
    proxy.get("/a").await;
    assert!(proxy.get("/a").header("cache-control", "no-cache").await.is_hit());
    assert_eq!(origin.count("/a"), 1);
}
