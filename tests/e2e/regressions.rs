//! What went wrong once, and must not again.

use crate::support::{Ending, Gate, Origin, Proxy, Reply, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than the kernel holds for a client that does not read.
const LARGE: usize = 16 * 1024 * 1024;

async fn keeps_large_objects(origin: &Origin) -> Proxy {
    let builder = Proxy::builder(origin).set("cache.memory", "{ capacity: 128MiB, max_object: 32MiB }");
    builder.set("cache.lock", "{ max_waiters: 1 }").start().await
}

/// Sends bytes as they are and reads until the daemon closes.
async fn raw(proxy: &Proxy, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy.listen()).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    within("the daemon to close the connection", stream.read_to_end(&mut answer)).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits until `/a` is stored and no longer fresh, without asking the daemon about it.
async fn once_stale(proxy: &Proxy) {
    eventually("a stale entry", async || {
        let status = proxy.get("/a").header("cache-control", "only-if-cached, max-stale=0").await.cache_status();
        (!status.hit || status.ttl.is_some_and(|left| left < 0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks_and_sees_the_end() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("whole").chunked());
    let proxy = Proxy::plain(&origin).await;
    for how in ["miss", "hit"] {
        let answer = raw(&proxy, "GET /a HTTP/1.0\r\nHost: test.example\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nwhole"), "{how}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{how}: {answer}");
    }
}

/// RFC 9112 section 6.1: a request with both lengths may be an attempt to smuggle another one behind it.
#[tokio::test]
async fn a_request_with_two_kinds_of_length_is_the_last_of_its_connection() {
    let origin = Origin::start().await;
    origin.otherwise(|_| Reply::ok("a"));
    let proxy = Proxy::plain(&origin).await;
    let both = "POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = raw(&proxy, both).await;
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_leader_that_stops_reading_does_not_hold_up_those_who_follow() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh(vec![b'x'; LARGE]));
    let proxy = keeps_large_objects(&origin).await;
    let leader = proxy.get("/a").open().await;
    let follower = proxy.get("/a").await;
    assert_eq!((follower.body.len(), follower.ending), (LARGE, Ending::Clean));
    assert_eq!(leader.rest().await.body.len(), LARGE);
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_304_about_a_fill_under_way_does_not_change_the_entry_that_it_replaces() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let old = Reply::ok("AAAAAAAA").etag("\"A\"").header("cache-control", "no-cache");
    let new = || Reply::ok("BBBB").etag("\"B\"").header("cache-control", "no-cache");
    let broken = new().claim_length(8).hold(&gate).cut();
    origin.on_each("/a", [old, broken, new(), new()]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let leader = proxy.get("/a").open().await;
    let follower = proxy.get("/a").open().await;
    assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"B\""));
    gate.open();
    assert_eq!((leader.rest().await.ending, follower.rest().await.ending), (Ending::Cut, Ending::Cut));
    let next = proxy.get("/a").await;
    assert_eq!((next.header("etag").as_deref(), next.text().as_str()), (Some("\"B\""), "BBBB"));
}

#[tokio::test]
async fn clients_that_are_served_stale_do_not_count_as_waiting() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let stale = || Reply::ok(vec![b'x'; LARGE]).header("cache-control", "max-age=1, stale-while-revalidate=600");
    origin.on_each("/a", [stale(), Reply::fresh("new").after(&gate)]);
    let proxy = keeps_large_objects(&origin).await;
    proxy.get("/a").await;
    once_stale(&proxy).await;
    // One begins the fetch, the other one holds the only place in the queue for as long as it does not read.
    proxy.get("/a").open().await.hang_up();
    origin.wait_for_requests("/a", 2).await;
    let slow = proxy.get("/a").open().await;
    let before = proxy.metrics().await.sum("tidegate_tier_lookups_total", "");
    for _ in 0..20 {
        assert!(proxy.get("/a").open().await.headers.get("cache-status").is_some_and(|status| status.contains("hit")));
    }
    let lookups = proxy.metrics().await.sum("tidegate_tier_lookups_total", "") - before;
    assert!(lookups <= 21.0, "{lookups} lookups for 20 requests");
    gate.open();
    eventually("the new response", async || (proxy.get("/a").await.text() == "new").then_some(())).await;
    assert_eq!((slow.status, origin.count("/a")), (200, 2));
}

#[tokio::test]
async fn what_is_fetched_behind_a_client_ignores_its_only_if_cached() {
    let origin = Origin::start().await;
    let reply = |body: &str| Reply::ok(body).header("cache-control", "max-age=1, stale-while-revalidate=600");
    origin.on_each("/a", [reply("old"), Reply::fresh("new")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let cached = || proxy.get("/a").header("cache-control", "only-if-cached");
    eventually("the new response", async || (cached().await.text() == "new").then_some(())).await;
}

/// `curl --http2` offers `h2c` with each request.
#[tokio::test]
async fn an_offer_of_h2c_does_not_keep_the_cache_out() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let proxy = Proxy::plain(&origin).await;
    let offer = || {
        let call = proxy.get("/a").header("connection", "Upgrade, HTTP2-Settings").header("upgrade", "h2c");
        call.header("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA")
    };
    offer().await;
    assert!(offer().await.is_hit());
    assert_eq!(origin.last("/a").header("upgrade"), None);
}

#[tokio::test]
async fn a_client_cannot_tell_the_origin_another_host() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").header("x-forwarded-host", "evil.example").header("forwarded", "host=evil.example").await;
    let seen = origin.last("/a");
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("test.example"));
    assert_eq!(seen.header("forwarded"), None);
}

/// RFC 9110 sections 14.2 and 13.1.5.
#[tokio::test]
async fn a_head_and_a_weak_tag_get_no_range() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("0123456789").header("etag", "W/\"1\""));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let head = proxy.call("HEAD", "/a").header("range", "bytes=0-3").await;
    assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("10")));
    let weak = proxy.get("/a").header("range", "bytes=0-3").header("if-range", "W/\"1\"").await;
    assert_eq!((weak.status, weak.text().as_str()), (200, "0123456789"));
    assert_eq!(proxy.get("/a").header("range", "bytes=2-3").await.text(), "23");
}

#[tokio::test]
async fn a_key_of_which_clients_want_parts_only_is_stored_once_it_can_be() {
    let origin = Origin::start().await;
    let missing = Gate::closed();
    let waiting = missing.clone();
    origin.on_fn("/a", move |seen| match (waiting.is_open(), seen.header("range")) {
        (false, _) => Reply::status(404).header("cache-control", "no-store"),
        (true, None) => Reply::fresh("0123456789"),
        (true, Some(_)) => {
            Reply::status(206).piece("01").header("content-range", "bytes 0-1/10").header("cache-control", "max-age=60")
        }
    });
    let proxy = Proxy::plain(&origin).await;
    let part = || proxy.get("/a").header("range", "bytes=0-1");
    assert_eq!(part().await.status, 404);
    missing.open();
    for _ in 0..2 {
        let response = part().await;
        assert_eq!((response.status, response.text().as_str()), (206, "01"));
    }
    assert!(part().await.is_hit());
}

/// RFC 9111 section 4.4: what was asked for before the change may be what was before it.
#[tokio::test]
async fn a_fill_that_a_change_overtook_is_served_and_not_stored() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let changed = std::sync::atomic::AtomicBool::new(false);
    let slow = Reply::fresh("old ").hold(&gate).piece("body");
    origin.on_fn("/a", move |seen| match seen.method.as_str() {
        "POST" => {
            changed.store(true, std::sync::atomic::Ordering::Relaxed);
            Reply::ok("done")
        }
        _ if changed.load(std::sync::atomic::Ordering::Relaxed) => Reply::fresh("new body"),
        _ => slow.clone(),
    });
    let proxy = Proxy::plain(&origin).await;
    let mut before = proxy.get("/a").open().await;
    before.read_until("old ").await;
    proxy.call("POST", "/a").body("change").await;
    assert_eq!(proxy.get("/a").await.text(), "new body");
    gate.open();
    assert_eq!(before.rest().await.text(), "old body");
    assert_eq!(proxy.get("/a").await.text(), "new body");
}
