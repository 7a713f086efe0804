//! Entries past their freshness: asked about again, served meanwhile, served instead of an error, or not served.

use crate::support::{Gate, Origin, Proxy, Reply, Response, eventually};

fn for_a_second(body: &str) -> Reply {
    Reply::ok(body).header("cache-control", "max-age=1")
}

/// Asks until the answer is no longer a fresh hit.
async fn once_stale(proxy: &Proxy) -> Response {
    eventually("a stale entry", async || {
        let response = proxy.get("/a").await;
        let status = response.cache_status();
        (!status.hit || status.ttl.is_some_and(|left| left < 0)).then_some(response)
    })
    .await
}

/// Asks until the origin was asked a second time, and returns the answer that came with it.
async fn once_asked_again(origin: &Origin, proxy: &Proxy) -> Response {
    eventually("a second request at the origin", async || {
        let response = proxy.get("/a").await;
        (origin.count("/a") >= 2).then_some(response)
    })
    .await
}

#[tokio::test]
async fn a_stale_entry_is_revalidated_with_its_etag() {
    let origin = Origin::start().await;
    origin.on("/a", for_a_second("body").etag("\"v1\""));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let response = once_stale(&proxy).await;
    let status = response.cache_status();
    assert_eq!((response.status, response.text().as_str()), (200, "body"));
    assert_eq!((status.fwd(), status.fwd_status), ("stale", Some(304)));
    assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"v1\""));
}

#[tokio::test]
async fn a_stale_entry_that_changed_is_replaced() {
    let origin = Origin::start().await;
    origin.on_each("/a", [for_a_second("old").etag("\"v1\""), Reply::fresh("new").etag("\"v2\"")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let response = once_stale(&proxy).await;
    assert_eq!((response.text().as_str(), response.cache_status().fwd_status), ("new", Some(200)));
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_response_with_no_cache_is_never_served_without_asking() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::ok("body").header("cache-control", "no-cache").etag("\"v1\""));
    let proxy = Proxy::plain(&origin).await;
    for n in 1..=3 {
        assert_eq!(proxy.get("/a").await.text(), "body");
        assert_eq!(origin.count("/a"), n);
    }
}

#[tokio::test]
async fn stale_while_revalidate_serves_the_old_body_while_the_new_one_is_fetched() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [Reply::ok("old"), Reply::ok("new").after(&gate)]);
    let policy = r#"return { response = function() return { ttl = "1s", stale_while_revalidate = "1h" } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    proxy.get("/a").await;
    // The gate is closed: nobody could answer these but the stale entry.
    assert_eq!(once_asked_again(&origin, &proxy).await.text(), "old");
    assert_eq!(proxy.get("/a").await.text(), "old");
    gate.open();
    eventually("the new body", async || (proxy.get("/a").await.text() == "new").then_some(())).await;
}

#[tokio::test]
async fn stale_while_revalidate_of_the_origin_counts_too() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let old = Reply::ok("old").header("cache-control", "max-age=1, stale-while-revalidate=3600");
    origin.on_each("/a", [old, Reply::fresh("new").after(&gate)]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_eq!(once_asked_again(&origin, &proxy).await.text(), "old");
    gate.open();
    eventually("the new body", async || (proxy.get("/a").await.text() == "new").then_some(())).await;
}

#[tokio::test]
async fn stale_if_error_serves_the_old_body_instead_of_an_error() {
    let origin = Origin::start().await;
    origin.on_each("/a", [Reply::ok("good"), Reply::status(500).piece("bad")]);
    let policy = r#"return { response = function(req, res)
        if res.status == 200 then return { ttl = "1s", stale_if_error = "1h" } end
    end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    proxy.get("/a").await;
    let response = once_asked_again(&origin, &proxy).await;
    assert_eq!((response.status, response.text().as_str()), (200, "good"));
}

#[tokio::test]
async fn without_stale_if_error_an_error_status_passes() {
    let origin = Origin::start().await;
    origin.on_each("/a", [for_a_second("good"), Reply::status(500).piece("bad")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_eq!(once_asked_again(&origin, &proxy).await.status, 500);
}

#[tokio::test]
async fn a_dropped_connection_is_covered_by_the_stale_entry() {
    let origin = Origin::start().await;
    origin.on_each("/a", [for_a_second("good"), Reply::hang_up()]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let response = once_asked_again(&origin, &proxy).await;
    assert_eq!((response.status, response.text().as_str()), (200, "good"));
}

#[tokio::test]
async fn must_revalidate_forbids_stale_even_then() {
    for directive in ["must-revalidate", "proxy-revalidate", "s-maxage=1"] {
        let origin = Origin::start().await;
        let strict = Reply::ok("good").header("cache-control", &format!("max-age=1, {directive}"));
        origin.on_each("/a", [strict, Reply::hang_up()]);
        let proxy = Proxy::plain(&origin).await;
        proxy.get("/a").await;
        assert_eq!(once_asked_again(&origin, &proxy).await.status, 502, "{directive}");
    }
}

#[tokio::test]
async fn an_operator_can_turn_stale_on_disconnect_off() {
    let origin = Origin::start().await;
    origin.on_each("/a", [for_a_second("good"), Reply::hang_up()]);
    let proxy = Proxy::builder(&origin).set("buckets.main.stale_on_disconnect", "0s").start().await;
    proxy.get("/a").await;
    assert_eq!(once_asked_again(&origin, &proxy).await.status, 502);
}

#[tokio::test]
async fn the_hit_hook_can_ask_for_revalidation() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("body").etag("\"v1\""));
    let policy = "return { hit = function(req, entry) return { revalidate = true } end }";
    let proxy = Proxy::with_policy(&origin, policy).await;
    proxy.get("/a").await;
    let response = proxy.get("/a").await;
    assert_eq!((response.status, response.text().as_str()), (200, "body"));
    assert_eq!(response.cache_status().fwd_status, Some(304));
    assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"v1\""));
}

#[tokio::test]
async fn the_hit_hook_can_set_an_entry_aside() {
    let origin = Origin::start().await;
    origin.on_each("/a", [Reply::fresh("old").etag("\"v1\""), Reply::fresh("new").etag("\"v2\"")]);
    let policy = r#"return { hit = function(req, entry)
        if req.headers["x-fetch"] then return { miss = true } end
    end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.text(), "old");
    assert_eq!(proxy.get("/a").header("x-fetch", "1").await.text(), "new");
    let after = proxy.get("/a").await;
    assert_eq!((after.text().as_str(), after.is_hit()), ("new", true));
}

#[tokio::test]
async fn an_error_that_a_stale_answer_hides_is_counted() {
    let origin = Origin::start().await;
    let stored = Reply::ok("old").header("cache-control", "max-age=60, stale-if-error=600").header("age", "100");
    origin.on_each("/a", [stored, Reply::status(503)]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.text(), "old");
    assert_eq!(proxy.metrics().await.sum("tidegate_origin_requests_total", "status=\"503\""), 1.0);
}
