//! `HEAD`: RFC 9110 section 9.3.2, RFC 9111 sections 4 and 4.3.5.

use super::pair;
use crate::support::{Gate, Origin, Proxy, Reply};

// RFC 9111 section 4: a stored GET answers a HEAD; RFC 9110 section 9.3.2: the fields are those of the GET
#[tokio::test]
async fn a_stored_get_answers_a_head_with_its_length_and_fields() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("0123456789").etag("\"v\"").header("x-a", "1"));
    origin.on("/chunked", Reply::fresh("0123456789").chunked());
    let got = proxy.get("/a").await;
    proxy.get("/chunked").await;
    let mut connection = proxy.connect().await;
    let head = connection.call(proxy.call("HEAD", "/a")).await;
    assert!(head.is_hit() && head.body.is_empty(), "{head:?}");
    for name in ["content-length", "etag", "x-a", "cache-control", "date"] {
        assert_eq!(head.header(name), got.header(name), "{name}");
    }
    assert_eq!(head.header("content-length").as_deref(), Some("10"));
    let head = connection.call(proxy.call("HEAD", "/chunked")).await;
    assert!(head.is_hit() && head.header("content-length").is_none_or(|length| length == "10"), "{head:?}");
    assert_eq!(connection.call(proxy.get("/a")).await.text(), "0123456789");
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_head_that_finds_nothing_fetches_with_get_and_stores_it() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("0123456789"));
    let mut connection = proxy.connect().await;
    let head = connection.call(proxy.call("HEAD", "/a")).await;
    assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("10")));
    assert_eq!(origin.last("/a").method, "GET");
    let got = connection.call(proxy.get("/a")).await;
    assert!(got.is_hit() && got.text() == "0123456789", "{got:?}");
}

#[tokio::test]
async fn the_answer_to_a_head_of_an_uncacheable_key_is_not_stored_for_get() {
    let (origin, proxy) = pair().await;
    origin.on_each("/a", [Reply::ok("body").header("cache-control", "no-store"), Reply::fresh("body")]);
    proxy.get("/a").await;
    let head = proxy.call("HEAD", "/a").await;
    assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("4")));
    assert_eq!(origin.last("/a").method, "HEAD", "the key is known not to be worth a GET");
    let got = proxy.get("/a").await;
    assert_eq!((got.text().as_str(), got.is_hit()), ("body", false), "{got:?}");
    assert!(proxy.get("/a").await.is_hit());
}

/// A stale entry of `/a` that says `max-age=0`, a `GET` that holds its lock and does not end, and a daemon in which others
/// wait for it only shortly, so that a `HEAD` reaches the origin as it is.
async fn while_a_get_hangs(head: Reply) -> (Origin, Proxy, Gate, tokio::task::JoinHandle<crate::support::Response>) {
    let origin = Origin::start().await;
    let proxy = Proxy::builder(&origin).set("cache.lock.wait", "100ms").start().await;
    let gate = Gate::closed();
    let held = Reply::hang_up().after(&gate);
    let stored = std::sync::atomic::AtomicBool::new(false);
    origin.on_fn("/a", move |seen| {
        if seen.method == "HEAD" {
            head.clone()
        } else if stored.swap(true, std::sync::atomic::Ordering::Relaxed) {
            held.clone()
        } else {
            Reply::ok("0123456789").header("cache-control", "max-age=0, stale-if-error=600").header("etag", "\"v\"")
        }
    });
    proxy.get("/a").await;
    let hanging = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", 2).await;
    (origin, proxy, gate, hanging)
}

// RFC 9111 section 4.3.5: "the cache SHOULD update the stored response"
#[tokio::test]
async fn a_head_that_shows_the_stored_response_unchanged_renews_it() {
    for confirmed in [
        Reply::fresh("0123456789").header("etag", "\"v\"").header("x-new", "1"),
        Reply::status(200).header("cache-control", "max-age=60").header("x-new", "1").claim_length(10),
    ] {
        let (origin, proxy, gate, hanging) = while_a_get_hangs(confirmed).await;
        assert_eq!(proxy.call("HEAD", "/a").await.status, 200);
        assert_eq!(origin.last("/a").method, "HEAD");
        let renewed = proxy.get("/a").await;
        assert!(renewed.is_hit() && renewed.text() == "0123456789", "{renewed:?}");
        assert_eq!(renewed.header("x-new").as_deref(), Some("1"));
        assert_eq!(renewed.header("content-length").as_deref(), Some("10"));
        gate.open();
        let _ = hanging.await;
    }
}

// RFC 9111 section 4.3.5: otherwise "the cache SHOULD consider the stored response to be stale"
#[tokio::test]
async fn a_head_that_shows_another_response_outdates_the_stored_one() {
    for changed in [
        Reply::fresh("0123456789").header("etag", "\"w\""),
        Reply::fresh("012345678").header("etag", "\"v\""),
        Reply::fresh("0123456789").header("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT"),
        Reply::ok("0123456789").header("cache-control", "no-store").header("etag", "\"v\""),
    ] {
        let (_origin, proxy, gate, hanging) = while_a_get_hangs(changed).await;
        assert_eq!(proxy.call("HEAD", "/a").await.status, 200);
        gate.open();
        let _ = hanging.await;
        // Nothing is left that could stand in.
        assert_eq!(proxy.get("/a").await.status, 502);
    }
}

#[tokio::test]
async fn a_head_that_is_no_200_says_nothing_about_the_stored_response() {
    for unrelated in [Reply::status(404), Reply::status(500), Reply::status(302).header("location", "/b")] {
        let (_origin, proxy, gate, hanging) = while_a_get_hangs(unrelated).await;
        let status = proxy.call("HEAD", "/a").await.status;
        assert!(status >= 300, "{status}");
        gate.open();
        let _ = hanging.await;
        let stale = proxy.get("/a").await;
        assert_eq!((stale.text().as_str(), stale.cache_status().detail()), ("0123456789", "disconnected"));
    }
}

// RFC 9111 section 3.5, and section 5.2.1.5: what one client is and wants is no news about what all share
#[tokio::test]
async fn a_head_of_one_user_leaves_the_stored_response_alone() {
    for (name, value) in [("authorization", "Bearer secret"), ("cache-control", "no-store")] {
        let answer = Reply::fresh("0123456789").header("etag", "\"v\"").header("x-new", "1");
        let (_origin, proxy, gate, hanging) = while_a_get_hangs(answer).await;
        assert_eq!(proxy.call("HEAD", "/a").header(name, value).await.status, 200);
        gate.open();
        let _ = hanging.await;
        let stale = proxy.get("/a").await;
        assert_eq!((stale.text().as_str(), stale.header("x-new")), ("0123456789", None), "{name}: {stale:?}");
        assert_eq!(stale.cache_status().detail(), "disconnected");
    }
}
