//! Bytes on their way: first ones early, large ones past the cache, broken ones never as whole.

use crate::support::{Ending, Gate, Origin, Proxy, Reply};

/// A proxy that keeps objects up to 64 KiB.
async fn small_objects(origin: &Origin) -> Proxy {
    Proxy::builder(origin).set("cache.memory.max_object", "64KiB").start().await
}

/// A body with a pattern, so that a lost or doubled piece shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i / 7 % 251) as u8).collect()
}

#[tokio::test]
async fn the_first_byte_arrives_before_the_origin_has_finished() {
    let origin = Origin::start().await;
    for chunked in [false, true] {
        let gate = Gate::closed();
        let reply = Reply::fresh("first ").hold(&gate).piece("second");
        origin.on("/a", if chunked { reply.chunked() } else { reply });
        let proxy = Proxy::plain(&origin).await;
        let mut exchange = proxy.get("/a").open().await;
        exchange.read_until("first ").await;
        gate.open();
        let whole = exchange.rest().await;
        assert_eq!((whole.text().as_str(), whole.ending), ("first second", Ending::Clean));
        assert_eq!(proxy.get("/a").await.text(), "first second");
    }
}

#[tokio::test]
async fn an_uncacheable_response_streams_too() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let reply = Reply::ok("first ").hold(&gate).piece("second").header("cache-control", "no-store");
    origin.on("/a", reply.chunked());
    let proxy = Proxy::plain(&origin).await;
    let mut exchange = proxy.get("/a").open().await;
    exchange.read_until("first ").await;
    gate.open();
    assert_eq!(exchange.rest().await.text(), "first second");
}

#[tokio::test]
async fn a_chunked_response_is_stored_and_served_whole() {
    let origin = Origin::start().await;
    let body = pattern(50_000);
    let reply = body.chunks(1000).fold(Reply::fresh("").chunked(), |reply, piece| reply.piece(piece));
    origin.on("/a", reply);
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.get("/a").await.body, body);
    let hit = proxy.get("/a").await;
    assert!(hit.is_hit() && hit.body == body && hit.ending == Ending::Clean);
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_arrives_whole() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh(pattern(50_000)).until_close());
    let proxy = Proxy::plain(&origin).await;
    for _ in 0..2 {
        assert_eq!(proxy.get("/a").await.body, pattern(50_000));
    }
}

#[tokio::test]
async fn an_object_too_large_to_keep_passes_untouched_and_is_not_stored() {
    let origin = Origin::start().await;
    let body = pattern(300_000);
    origin.on("/length", Reply::fresh(&body));
    let chunks = body.chunks(10_000).fold(Reply::fresh("").chunked(), |reply, piece| reply.piece(piece));
    origin.on("/chunked", chunks);
    let proxy = small_objects(&origin).await;
    for path in ["/length", "/chunked"] {
        for n in 1..=2 {
            let response = proxy.get(path).await;
            assert!(response.body == body && response.ending == Ending::Clean, "{path}");
            assert_eq!((response.is_hit(), origin.count(path)), (false, n), "{path}");
        }
    }
    assert!(!proxy.get("/length").await.cache_status().stored);
}

#[tokio::test]
async fn a_large_object_still_arrives_whole_at_those_who_joined_its_fill() {
    let origin = Origin::start().await;
    let (body, gate) = (pattern(300_000), Gate::closed());
    let (start, end) = body.split_at(30_000);
    origin.on("/a", Reply::fresh(start).hold(&gate).piece(end).chunked());
    let proxy = small_objects(&origin).await;
    let leader = proxy.get("/a").open().await;
    let followers: Vec<_> = (0..3).map(|_| proxy.get("/a").spawn()).collect();
    gate.open();
    assert!(leader.rest().await.body == body);
    for follower in followers {
        let response = follower.await.unwrap();
        // A follower of an entry that outgrew its tier may be refused or cut, but never told that a part is everything.
        if response.status == 200 {
            assert_eq!(response.ending == Ending::Clean, response.body == body);
        }
    }
}

#[tokio::test]
async fn a_truncated_fill_never_ends_cleanly_for_anyone_and_is_not_stored() {
    for chunked in [false, true] {
        let origin = Origin::start().await;
        let gate = Gate::closed();
        let reply = Reply::fresh("some ").hold(&gate).piece("of it").cut();
        origin.on("/a", if chunked { reply.chunked() } else { reply.claim_length(1000) });
        let proxy = Proxy::plain(&origin).await;
        let mut readers = Vec::new();
        for _ in 0..3 {
            let mut exchange = proxy.get("/a").open().await;
            exchange.read_until("some ").await;
            readers.push(exchange);
        }
        assert_eq!(origin.count("/a"), 1, "followers read from the leader's fill");
        gate.open();
        for (n, reader) in readers.into_iter().enumerate() {
            assert_eq!(reader.rest().await.ending, Ending::Cut, "reader {n}, chunked: {chunked}");
        }
        origin.on("/a", Reply::fresh("all of it"));
        let after = proxy.get("/a").await;
        assert_eq!((after.text().as_str(), after.is_hit()), ("all of it", false));
    }
}

#[tokio::test]
async fn an_origin_that_stalls_before_its_head_is_a_504() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("late").after(&gate));
    let proxy = Proxy::builder(&origin).set("origins.main.http.read_timeout", "300ms").start().await;
    let response = proxy.get("/a").await;
    assert_eq!(response.status, 504);
    assert_eq!(response.header("content-type").as_deref(), Some("application/problem+json"));
}

#[tokio::test]
async fn an_origin_that_stalls_midway_is_cut_and_does_not_poison_its_key() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [Reply::fresh("some ").hold(&gate).piece("more"), Reply::fresh("all of it")]);
    let proxy = Proxy::builder(&origin).set("origins.main.http.read_timeout", "300ms").start().await;
    assert_eq!(proxy.get("/a").await.ending, Ending::Cut);
    assert_eq!(proxy.get("/a").await.text(), "all of it");
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn an_origin_that_stalls_midway_keeps_followers_waiting_no_longer_than_its_own_request() {
    let (origin, never) = (Origin::start().await, Gate::closed());
    origin.on("/a", Reply::fresh("some ").hold(&never).piece("more").chunked());
    let proxy = Proxy::builder(&origin).set("origins.main.http.read_timeout", "2s").start().await;
    let mut leader = proxy.get("/a").open().await;
    leader.read_until("some ").await;
    let follower = proxy.get("/a").open().await;
    assert_eq!((follower.rest().await.ending, leader.rest().await.ending), (Ending::Cut, Ending::Cut));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn an_origin_that_hangs_up_or_babbles_is_a_502_with_a_request_id() {
    let origin = Origin::start().await;
    origin.on("/nothing", Reply::hang_up());
    origin.on("/garbage", Reply::garbage("this is not HTTP\r\n\r\n"));
    let proxy = Proxy::plain(&origin).await;
    for path in ["/nothing", "/garbage"] {
        let response = proxy.get(path).await;
        assert_eq!(response.status, 502, "{path}");
        assert_eq!(response.header("content-type").as_deref(), Some("application/problem+json"));
        assert_eq!(response.json()["status"], 502);
        let id = response.header("x-request-id").expect("a request id");
        assert!(response.text().contains(&id));
        proxy.wait_for_log(&id).await;
    }
}

#[tokio::test]
async fn head_is_served_from_a_stored_get() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("12345"));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let head = proxy.call("HEAD", "/a").await;
    assert_eq!((head.status, head.is_hit(), head.body.len()), (200, true, 0));
    assert_eq!(head.header("content-length").as_deref(), Some("5"));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_head_that_came_first_never_stands_for_a_get() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("12345"));
    let proxy = Proxy::plain(&origin).await;
    let head = proxy.call("HEAD", "/a").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(proxy.get("/a").await.text(), "12345");
}

#[tokio::test]
async fn ranges_are_cut_from_the_stored_entry() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("0123456789").etag("\"v1\""));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    for (range, content_range, body) in
        [("bytes=2-4", "bytes 2-4/10", "234"), ("bytes=7-", "bytes 7-9/10", "789"), ("bytes=-2", "bytes 8-9/10", "89")]
    {
        let part = proxy.get("/a").header("range", range).await;
        assert_eq!((part.status, part.text().as_str(), part.is_hit()), (206, body, true), "{range}");
        assert_eq!(part.header("content-range").as_deref(), Some(content_range));
    }
    let beyond = proxy.get("/a").header("range", "bytes=10-").await;
    assert_eq!((beyond.status, beyond.header("content-range").as_deref()), (416, Some("bytes */10")));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_range_that_came_first_does_not_store_a_part_as_the_whole() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| match seen.header("range") {
        Some(_) => Reply::status(206)
            .piece("234")
            .header("content-range", "bytes 2-4/10")
            .header("cache-control", "max-age=60"),
        None => Reply::fresh("0123456789"),
    });
    let proxy = Proxy::plain(&origin).await;
    let part = proxy.get("/a").header("range", "bytes=2-4").await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    let whole = proxy.get("/a").await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
}

#[tokio::test]
async fn conditionals_are_answered_from_the_stored_entry() {
    let origin = Origin::start().await;
    let modified = "Mon, 01 Jan 2024 00:00:00 GMT";
    origin.on("/a", Reply::fresh("body").etag("\"v1\"").header("last-modified", modified));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    for (name, value, status) in [
        ("if-none-match", "\"v1\"", 304),
        ("if-none-match", "\"v0\", W/\"v1\"", 304),
        ("if-none-match", "\"v2\"", 200),
        ("if-modified-since", modified, 304),
    ] {
        let response = proxy.get("/a").header(name, value).await;
        assert_eq!((response.status, response.is_hit()), (status, true), "{name}: {value}");
        assert_eq!(response.header("etag").as_deref(), Some("\"v1\""));
    }
    assert_eq!(origin.count("/a"), 1);
}
