//! One fetch for each part, changes meanwhile, policies, and a real object store.

use super::*;
use crate::support::s3::{ACCESS_KEY, S3Server, SECRET_KEY};

#[tokio::test]
async fn clients_with_different_ranges_do_not_wait_for_each_other() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| match seen.header("range").as_deref() {
            Some("bytes=0-4") => part(0, 4).header("etag", TAG).after(&gate),
            range => by_the_book(range.map(str::to_owned), seen.header("if-range"), TAG),
        }
    });
    let proxy = Proxy::plain(&origin).await;
    let slow = range(&proxy, "bytes=0-4").spawn();
    origin.wait_for_requests("/a", 1).await;
    assert_part(&range(&proxy, "bytes=5-6").await, "bytes 5-6/10", "56");
    assert_whole(&proxy.get("/a").await);
    gate.open();
    assert_part(&slow.await.unwrap(), "bytes 0-4/10", "01234");
    // The part that came late did not take the place of the whole.
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_fill_of_a_part_is_not_followed_by_who_wants_something_else() {
    if !keeps_parts() {
        return;
    }
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| match seen.header("range").as_deref() {
            Some("bytes=0-4") => Reply::status(206)
                .piece("01")
                .hold(&gate)
                .piece("234")
                .header("content-range", "bytes 0-4/10")
                .header("cache-control", "max-age=60")
                .header("etag", TAG),
            range => by_the_book(range.map(str::to_owned), seen.header("if-range"), TAG),
        }
    });
    let proxy = Proxy::plain(&origin).await;
    let mut leader = range(&proxy, "bytes=0-4").open().await;
    leader.read_until("01").await;
    let mut follower = range(&proxy, "bytes=0-4").open().await;
    follower.read_until("01").await;
    assert_eq!(follower.status, 206);
    assert_part(&range(&proxy, "bytes=3-6").await, "bytes 3-6/10", "3456");
    assert_whole(&proxy.get("/a").await);
    gate.open();
    for one in [leader, follower] {
        assert_part(&one.rest().await, "bytes 0-4/10", "01234");
    }
}

#[tokio::test]
async fn clients_with_the_same_range_share_one_request() {
    if !keeps_parts() {
        return;
    }
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |_| part(2, 4).header("etag", TAG).after(&gate)
    });
    let proxy = Proxy::plain(&origin).await;
    let all: Vec<_> = (0..10).map(|_| range(&proxy, "bytes=2-4").spawn()).collect();
    origin.wait_for_requests("/a", 1).await;
    proxy.wait_for_waiters(9).await;
    gate.open();
    for one in all {
        assert_part(&one.await.unwrap(), "bytes 2-4/10", "234");
    }
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn too_many_clients_with_the_same_range_are_turned_away() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| {
            let (first, last) = asked(&seen.header("range").unwrap());
            part(first, last).header("etag", TAG).after(&gate)
        }
    });
    let proxy = Proxy::builder(&origin).set("cache.lock.max_waiters", "1").start().await;
    let first = range(&proxy, "bytes=2-4").spawn();
    origin.wait_for_requests("/a", 1).await;
    let second = range(&proxy, "bytes=2-4").spawn();
    proxy.wait_for_waiters(1).await;
    assert_eq!(range(&proxy, "bytes=2-4").await.status, 503);
    // Who wants something else is not one of them.
    let other = range(&proxy, "bytes=5-6").spawn();
    origin.wait_for_requests("/a", 2).await;
    gate.open();
    for one in [first, second] {
        assert_part(&one.await.unwrap(), "bytes 2-4/10", "234");
    }
    assert_part(&other.await.unwrap(), "bytes 5-6/10", "56");
}

#[tokio::test]
async fn clients_who_complete_the_same_whole_share_one_request() {
    if !keeps_parts() {
        return;
    }
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| {
            let reply = by_the_book(seen.header("range"), seen.header("if-range"), TAG);
            if seen.header("if-range").is_some() { reply.after(&gate) } else { reply }
        }
    });
    let proxy = Proxy::plain(&origin).await;
    range(&proxy, "bytes=0-4").await;
    let all: Vec<_> = (0..10).map(|_| proxy.get("/a").spawn()).collect();
    origin.wait_for_requests("/a", 2).await;
    proxy.wait_for_waiters(9).await;
    gate.open();
    for one in all {
        assert_whole(&one.await.unwrap());
    }
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn different_parts_of_a_stale_whole_are_one_question() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| {
            let reply = Reply::ok(BODY).header("cache-control", "max-age=0").etag(TAG);
            if seen.header("if-none-match").is_some() { reply.after(&gate) } else { reply }
        }
    });
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let first = range(&proxy, "bytes=0-1").spawn();
    origin.wait_for_requests("/a", 2).await;
    let second = range(&proxy, "bytes=2-3").spawn();
    proxy.wait_for_waiters(1).await;
    gate.open();
    assert_part(&first.await.unwrap(), "bytes 0-1/10", "01");
    assert_part(&second.await.unwrap(), "bytes 2-3/10", "23");
    assert!(origin.requests("/a").iter().all(|seen| seen.header("range").is_none()));
}

// RFC 9111 section 4.4
#[tokio::test]
async fn a_part_that_a_change_overtook_is_served_and_not_stored() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| match seen.method.as_str() {
            "POST" => Reply::ok("changed"),
            _ => Reply::status(206)
                .piece("2")
                .hold(&gate)
                .piece("34")
                .header("content-range", "bytes 2-4/10")
                .header("cache-control", "max-age=60"),
        }
    });
    let proxy = Proxy::plain(&origin).await;
    let mut reading = range(&proxy, "bytes=2-4").open().await;
    reading.read_until("2").await;
    assert_eq!(proxy.call("POST", "/a").body("x").await.status, 200);
    gate.open();
    assert_part(&reading.rest().await, "bytes 2-4/10", "234");
    assert!(!range(&proxy, "bytes=2-4").await.is_hit());
}

// RFC 9111 section 3.3: a part is kept as its whole would be. What a policy says of a 200, its variants above all, holds.
#[tokio::test]
async fn a_policy_decides_about_a_part_as_about_its_whole() {
    if !keeps_parts() {
        return;
    }
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| match seen.header("range") {
        Some(range) => {
            let (first, last) = asked(&range);
            let reply = Reply::status(206).piece(&BODY[first..=last]).header("etag", TAG);
            reply.header("content-range", &format!("bytes {first}-{last}/10"))
        }
        None => Reply::ok(BODY).header("etag", TAG),
    });
    let policy = r#"return {
        response = function(req, res)
            if res.status == 200 and res.content_length == 10 then
                return { ttl = if res.headers["content-range"] then 60 else 600, vary = "x-kind" }
            end
            return { store = false }
        end,
        deliver = function(req, res, cache) return { headers = { ["x-seen"] = tostring(res.status) } } end,
    }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    let ask = |kind: &'static str, asked: &'static str| range(&proxy, asked).header("x-kind", kind);
    for (kind, asked, hit) in [("a", "bytes=2-4", false), ("b", "bytes=2-4", false), ("a", "bytes=3-4", true)] {
        let response = ask(kind, asked).await;
        assert_eq!((response.status, response.is_hit()), (206, hit), "{kind} {asked}");
        assert_eq!(response.header("x-seen").as_deref(), Some("206"));
    }
    assert!((55..=60).contains(&ask("b", "bytes=4-4").await.cache_status().ttl.unwrap()));
    assert_whole(&proxy.get("/a").header("x-kind", "a").await);
    let hit = proxy.get("/a").header("x-kind", "a").await;
    assert!((595..=600).contains(&hit.cache_status().ttl.unwrap()), "{:?}", hit.cache_status());
}

#[tokio::test]
async fn a_policy_that_keeps_the_whole_out_keeps_its_parts_out() {
    let origin = origin().await;
    let policy = r#"return { response = function() return { store = false, reason = "too personal" } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    for n in 1..3 {
        let response = range(&proxy, "bytes=2-4").await;
        assert_part(&response, "bytes 2-4/10", "234");
        assert_eq!((response.cache_status().detail(), origin.count("/a")), ("too personal", n));
    }
}

// A real object store.
#[tokio::test]
async fn a_bucket_is_asked_for_a_part_and_then_for_the_rest() {
    if !keeps_parts() {
        return;
    }
    let server = S3Server::start(&["media"]).await;
    server.put("media", "a", BODY);
    let keys = format!("{{ access_key_id: {ACCESS_KEY}, secret_access_key: {SECRET_KEY} }}");
    let endpoint = format!("\"{}\"", server.endpoint());
    let origin = [
        ("origins.main.s3.endpoint", endpoint.as_str()),
        ("origins.main.s3.bucket", "media"),
        ("origins.main.s3.credentials", keys.as_str()),
    ];
    let proxy = Proxy::builder_with(&origin).start().await;
    let first = range(&proxy, "bytes=2-4").await;
    assert_part(&first, "bytes 2-4/10", "234");
    assert_eq!(first.cache_status().fwd_status, Some(206));
    assert!(range(&proxy, "bytes=3-4").await.is_hit());
    assert_eq!(server.requests(), 1);
    let whole = proxy.get("/a").await;
    assert_whole(&whole);
    assert_eq!(whole.cache_status().fwd(), "partial");
    assert!(proxy.get("/a").await.is_hit());
    assert_part(&range(&proxy, "bytes=-2").await, "bytes 8-9/10", "89");
}
