//! The Redis tier: what one node stores, the others find.

use super::*;
use crate::support::{Gate, Response};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Two nodes that keep responses in Redis alone.
async fn nodes(origin: &Origin, redis: &RedisServer) -> (Proxy, Proxy) {
    (connected(redis.alone(origin)).await, connected(redis.alone(origin)).await)
}

fn from_redis(response: &Response) -> bool {
    response.is_hit() && response.cache_status().detail() == "redis"
}

#[tokio::test]
async fn what_one_node_has_fetched_another_one_serves() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", lasting("a").header("x-thing", "1"));
    let (first, second) = nodes(&origin, &redis).await;
    store(&first, "/a").await;
    let response = second.get("/a").await;
    assert!(from_redis(&response), "{response:?}");
    assert_eq!((response.text(), response.header("x-thing")), ("a".to_owned(), Some("1".to_owned())));
    assert_eq!((origin.count("/a"), lookups(&second, "hit").await), (1, 1.0));
}

#[tokio::test]
async fn what_is_on_its_way_to_redis_is_found_at_once() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|seen| lasting(&seen.target));
    let proxy = connected(redis.alone(&origin)).await;
    for number in 0..50 {
        let path = format!("/{number}");
        assert_eq!(proxy.get(&path).await.status, 200);
        assert!(proxy.get(&path).await.is_hit(), "{path}");
    }
}

#[tokio::test]
async fn redis_lets_an_entry_go_when_it_cannot_be_used_any_more() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let control = "max-age=60, stale-while-revalidate=10, stale-if-error=40";
    origin.on("/stale", Reply::ok("a").header("cache-control", control));
    origin.on("/fresh", Reply::ok("a").header("cache-control", "s-maxage=60"));
    let proxy = connected(redis.alone(&origin)).await;
    for (path, most) in [("/stale", 100_000), ("/fresh", 60_000)] {
        redis.say::<()>("FLUSHALL");
        store(&proxy, path).await;
        let entries = redis.wait_for_entries(1).await;
        let left: i64 = redis.ask(::redis::cmd("PTTL").arg(&entries[0]));
        assert!(left <= most && left > most - 20_000, "{path}: {left}");
    }
}

#[tokio::test]
async fn what_can_be_of_no_use_later_is_not_sent() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", Reply::ok("a").header("cache-control", "max-age=0, must-revalidate"));
    origin.on("/b", lasting("b"));
    let proxy = connected(redis.alone(&origin)).await;
    assert_eq!(proxy.get("/a").await.status, 200);
    store(&proxy, "/b").await;
    assert_eq!(redis.entries().len(), 1);
}

#[tokio::test]
async fn a_hit_from_redis_answers_heads_ranges_and_conditions() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", lasting("0123456789").header("etag", "\"v1\""));
    let (first, second) = nodes(&origin, &redis).await;
    store(&first, "/a").await;
    let head = second.call("HEAD", "/a").await;
    assert_eq!((head.status, head.header("content-length"), head.is_hit()), (200, Some("10".to_owned()), true));
    let part = second.get("/a").header("range", "bytes=2-4").await;
    assert_eq!((part.status, part.text(), part.is_hit()), (206, "234".to_owned(), true));
    let same = second.get("/a").header("if-none-match", "\"v1\"").await;
    assert_eq!((same.status, same.is_hit()), (304, true));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn variants_are_shared_and_told_apart() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on_fn("/a", |seen| {
        lasting(seen.header("accept-language").unwrap_or_default()).header("vary", "accept-language")
    });
    let (first, second) = nodes(&origin, &redis).await;
    for language in ["en", "fr", "de"] {
        let before = writes(&first, "stored").await;
        assert_eq!(first.get("/a").header("accept-language", language).await.text(), language);
        wait_for_writes(&first, "stored", before + 1.0).await;
    }
    for language in ["en", "fr", "de"] {
        let response = second.get("/a").header("accept-language", language).await;
        assert!(from_redis(&response) && response.text() == language, "{response:?}");
    }
    assert!(!second.get("/a").header("accept-language", "it").await.is_hit());
    assert_eq!(origin.count("/a"), 4);
}

#[tokio::test]
async fn variants_of_a_response_that_was_removed_go_with_it() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on_fn("/a", |seen| match seen.method.as_str() {
        "GET" => lasting(seen.header("accept-language").unwrap_or_default()).header("vary", "accept-language"),
        _ => Reply::ok("done"),
    });
    let (first, second) = nodes(&origin, &redis).await;
    for language in ["en", "fr"] {
        let before = writes(&first, "stored").await;
        first.get("/a").header("accept-language", language).await;
        wait_for_writes(&first, "stored", before + 1.0).await;
    }
    assert_eq!(second.call("PUT", "/a").body("x").await.status, 200);
    for language in ["en", "fr"] {
        assert!(!first.get("/a").header("accept-language", language).await.is_hit(), "{language}");
    }
}

#[tokio::test]
async fn a_long_body_is_sent_in_pieces_and_comes_back_as_it_was() {
    let (origin, redis, body) = (Origin::start().await, RedisServer::start().await, noise(8 << 20, 1));
    origin.on("/chunked", lasting(&body).chunked());
    origin.on("/length", lasting(&body));
    let (first, second) = nodes(&origin, &redis).await;
    for path in ["/chunked", "/length"] {
        store(&first, path).await;
        let response = second.get(path).await;
        assert!(from_redis(&response) && response.body == body, "{path}: {} bytes", response.body.len());
        assert_eq!(origin.count(path), 1);
    }
    let fields: i64 = redis.ask(::redis::cmd("HLEN").arg(&redis.entries()[0]));
    assert_eq!((fields, redis.keys("*t:*").len()), (2 + 32, 0));
}

#[tokio::test]
async fn bodies_of_every_length_around_a_piece_come_back_as_they_were() {
    const PIECE: usize = 256 << 10;
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let lengths = [0, 1, PIECE - 1, PIECE, PIECE + 1, 4 * PIECE, 4 * PIECE + 1];
    origin.otherwise(|seen| lasting(noise(seen.target.trim_start_matches('/').parse().unwrap(), 7)));
    let (first, second) = nodes(&origin, &redis).await;
    for length in lengths {
        let path = format!("/{length}");
        store(&first, &path).await;
        let response = second.get(&path).await;
        assert!(response.is_hit() && response.body == noise(length, 7), "{length}");
    }
}

#[tokio::test]
async fn what_is_longer_than_max_object_is_not_sent() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/fits", lasting(noise(64 << 10, 1)).chunked());
    origin.on("/large", lasting(noise((64 << 10) + 1, 1)).chunked());
    let proxy = connected(redis.below_memory(&origin).set("cache.redis.max_object", "64KiB")).await;
    assert_eq!(proxy.get("/large").await.status, 200);
    assert!(proxy.get("/large").await.is_hit(), "memory keeps it");
    store(&proxy, "/fits").await;
    assert_eq!(redis.entries().len(), 1);
}

#[tokio::test]
async fn what_is_too_large_for_memory_reaches_redis_all_the_same() {
    let (origin, redis, body) = (Origin::start().await, RedisServer::start().await, noise(3 << 20, 1));
    let disk = tempfile::tempdir().unwrap();
    origin.on("/length", lasting(&body));
    origin.on("/chunked", lasting(&body).chunked());
    let with_disk = redis
        .below_memory(&origin)
        .set("cache.disk.path", &disk.path().join("disk").display().to_string())
        .set("cache.disk.capacity", "64MiB")
        .set("cache.disk.max_object", "16MiB")
        .set("cache.disk.min_free", "0");
    let first = connected(with_disk).await;
    let second = connected(redis.below_memory(&origin)).await;
    for path in ["/length", "/chunked"] {
        store(&first, path).await;
        let again = first.get(path).await;
        assert!(again.is_hit() && again.cache_status().detail() == "disk", "{again:?}");
        let response = second.get(path).await;
        assert!(from_redis(&response) && response.body == body, "{path}");
        assert_eq!(origin.count(path), 1);
    }
}

#[tokio::test]
async fn nodes_with_another_prefix_have_a_cache_of_their_own() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", lasting("a"));
    let first = connected(redis.alone(&origin).set("cache.redis.prefix", "\"one:\"")).await;
    let second = connected(redis.alone(&origin).set("cache.redis.prefix", "\"two:\"")).await;
    store(&first, "/a").await;
    assert!(!second.get("/a").await.is_hit());
    redis.wait_for_entries(2).await;
    assert_eq!((redis.keys("one:e:*").len(), redis.keys("two:e:*").len()), (1, 1));
}

#[tokio::test]
async fn the_first_hit_in_redis_brings_an_entry_to_memory() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", lasting("a"));
    let first = connected(redis.alone(&origin)).await;
    store(&first, "/a").await;
    let second = connected(redis.below_memory(&origin)).await;
    assert!(from_redis(&second.get("/a").await));
    let again = second.get("/a").await;
    assert_eq!((again.is_hit(), again.cache_status().detail()), (true, "memory"));
    assert_eq!(lookups(&second, "hit").await, 1.0);
    second.wait_for_metric("tidegate_tier_promotions_total", "tier=\"memory\"", 1.0).await;
}

#[tokio::test]
async fn with_promote_after_3_the_third_hit_does() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", lasting("a"));
    let first = connected(redis.alone(&origin)).await;
    store(&first, "/a").await;
    let second = connected(redis.below_memory(&origin).set("cache.redis.promote_after", "3")).await;
    for _ in 0..3 {
        assert!(from_redis(&second.get("/a").await));
    }
    assert_eq!(second.get("/a").await.cache_status().detail(), "memory");
    let third = connected(redis.below_memory(&origin).set("cache.redis.promote_after", "0")).await;
    for _ in 0..5 {
        assert!(from_redis(&third.get("/a").await));
    }
}

#[tokio::test]
async fn what_is_too_large_for_memory_is_brought_to_the_disk() {
    let (origin, redis, body) = (Origin::start().await, RedisServer::start().await, noise(2 << 20, 1));
    let disk = tempfile::tempdir().unwrap();
    origin.on("/a", lasting(&body));
    let first = connected(redis.alone(&origin)).await;
    store(&first, "/a").await;
    let with_disk = redis
        .below_memory(&origin)
        .set("cache.disk.path", &disk.path().join("disk").display().to_string())
        .set("cache.disk.capacity", "64MiB")
        .set("cache.disk.min_free", "0");
    let second = connected(with_disk).await;
    assert!(from_redis(&second.get("/a").await));
    let again = second.get("/a").await;
    assert_eq!((again.cache_status().detail(), again.body == body), ("disk", true));
    second.wait_for_metric("tidegate_tier_promotions_total", "tier=\"disk\"", 1.0).await;
}

#[tokio::test]
async fn a_policy_chooses_whether_redis_keeps_a_response() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|_| Reply::ok("a"));
    let policy = "return { response = function(req)
        return { ttl = 3600, tiers = { req.path == '/here' and 'memory' or 'redis' } } end }";
    let proxy = connected(redis.below_memory(&origin).policy("main.lua", policy)).await;
    assert_eq!(proxy.get("/here").await.status, 200);
    store(&proxy, "/shared").await;
    assert_eq!(redis.entries().len(), 1);
    for (path, tier) in [("/here", "memory"), ("/shared", "redis"), ("/shared", "redis")] {
        let response = proxy.get(path).await;
        assert_eq!((response.is_hit(), response.cache_status().detail()), (true, tier), "{path}");
    }
}

#[tokio::test]
async fn an_unsafe_request_removes_what_all_nodes_find() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", lasting("a"));
    let (first, second) = nodes(&origin, &redis).await;
    store(&first, "/a").await;
    assert!(second.get("/a").await.is_hit());
    assert_eq!(second.call("PUT", "/a").body("new").await.status, 200);
    // Who has the answer can rely on it.
    assert_eq!(redis.entries().len(), 0);
    assert!(!first.get("/a").await.is_hit());
}

#[tokio::test]
async fn what_the_origin_confirms_is_fresh_for_all_nodes() {
    let (origin, redis, body) = (Origin::start().await, RedisServer::start().await, noise(2 << 20, 1));
    let reply = |number: &str| Reply::ok(&body).etag("\"v1\"").header("x-number", number);
    let first_answer = reply("1").header("cache-control", "max-age=0");
    origin.on_each("/a", [first_answer, reply("2").header("cache-control", "max-age=3600")]);
    let (first, second) = nodes(&origin, &redis).await;
    store(&first, "/a").await;
    let sent = |redis: &RedisServer| -> u64 {
        let info: String = redis.say("INFO");
        let line = info.lines().find_map(|line| line.strip_prefix("total_net_input_bytes:")).unwrap();
        line.trim().parse().unwrap()
    };
    let before = sent(&redis);
    store(&second, "/a").await;
    assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"v1\""));
    assert!(sent(&redis) - before < 1 << 20, "the body is there already");
    let response = first.get("/a").await;
    assert!(from_redis(&response) && response.body == body);
    assert_eq!((response.header("x-number"), origin.count("/a")), (Some("2".to_owned()), 2));
}

#[tokio::test]
async fn a_range_of_what_nobody_has_makes_the_whole_come_next_time() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on_fn("/a", |seen| match seen.header("range") {
        Some(_) => Reply::status(206)
            .piece("234")
            .header("content-range", "bytes 2-4/10")
            .header("cache-control", "max-age=3600")
            .header("etag", "\"v1\""),
        None => lasting("0123456789").header("etag", "\"v1\""),
    });
    let (first, second) = nodes(&origin, &redis).await;
    for _ in 0..2 {
        let part = first.get("/a").header("range", "bytes=2-4").await;
        assert_eq!((part.status, part.text()), (206, "234".to_owned()));
    }
    redis.wait_for_entries(1).await;
    let part = second.get("/a").header("range", "bytes=5-6").await;
    assert!(from_redis(&part) && part.text() == "56", "{part:?}");
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn what_came_after_a_change_had_begun_is_not_undone_by_what_came_before() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [lasting("ol").hold(&gate).piece("d").chunked(), Reply::ok("done"), lasting("new")]);
    let (first, second) = nodes(&origin, &redis).await;
    let mut slow = first.get("/a").open().await;
    slow.read_until("ol").await;
    assert_eq!(first.call("PUT", "/a").body("x").await.status, 200);
    gate.open();
    assert_eq!(slow.rest().await.text(), "old");
    assert_eq!(first.get("/a").await.text(), "new");
    redis.wait_for_entries(1).await;
    assert_eq!(second.get("/a").await.text(), "new");
}

#[tokio::test]
async fn limits_change_without_a_restart() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|_| lasting(noise(10 << 10, 1)));
    let proxy = connected(redis.below_memory(&origin).set("cache.redis.max_object", "1KiB")).await;
    assert_eq!(proxy.get("/a").await.status, 200);
    proxy.edit_config("max_object: 1KiB", "max_object: 1MiB");
    kill(Pid::from_raw(proxy.pid() as i32), Signal::SIGHUP).unwrap();
    let mut number = 0;
    eventually("an entry in Redis", async || {
        number += 1;
        proxy.get(&format!("/{number}")).await;
        (!redis.entries().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_process_that_ends_sends_what_is_on_its_way() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|_| lasting(noise(100 << 10, 1)));
    let proxy = connected(redis.alone(&origin)).await;
    for number in 0..20 {
        assert_eq!(proxy.get(&format!("/{number}")).await.status, 200);
    }
    kill(Pid::from_raw(proxy.pid() as i32), Signal::SIGTERM).unwrap();
    redis.wait_for_entries(20).await;
}

#[tokio::test]
async fn stats_tell_how_full_redis_is() {
    let (origin, redis) = (Origin::start().await, RedisServer::with(&["--maxmemory", "64mb"]).await);
    origin.on("/a", lasting("a"));
    let proxy = connected(redis.alone(&origin)).await;
    let capacity = async || (told(&proxy).await["capacity"] == 64 << 20).then_some(());
    eventually("the capacity", capacity).await;
    assert!(told(&proxy).await["bytes"].as_u64().unwrap() > 100_000);
    store(&proxy, "/a").await;
    // Beside what the node keeps there of itself and of purges.
    eventually("the entry to be counted", async || (told(&proxy).await["items"] == 3).then_some(())).await;
}

#[tokio::test]
async fn dry_run_tells_of_redis_as_of_the_other_tiers() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let proxy = connected(redis.below_memory(&origin)).await;
    let dry_run = |length: &str| {
        let length = format!("content-length: {length}");
        let response =
            ["--status", "200", "--response-header", "cache-control: max-age=9", "--response-header", &length];
        let args = [&["dry-run", "-c", "tidegate.yaml", "--format", "json"], &response[..], &["http://a/"]].concat();
        let told = crate::support::cli::run(&args, &proxy.path("")).json();
        told["response"]["tiers"].clone()
    };
    assert_eq!(dry_run("10"), serde_json::json!(["memory", "redis"]));
    assert_eq!(dry_run("2000000"), serde_json::json!(["redis"]));
}

#[tokio::test]
async fn with_max_object_0_nodes_agree_through_redis_and_keep_nothing_there() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", lasting("a"));
    let first = connected(redis.alone(&origin)).await;
    store(&first, "/a").await;
    let second = connected(redis.below_memory(&origin).set("cache.redis.max_object", "0")).await;
    assert!(!second.get("/a").await.is_hit());
    assert_eq!(second.get("/a").await.cache_status().detail(), "memory");
    assert_eq!((lookups(&second, "hit").await, lookups(&second, "miss").await), (0.0, 0.0));
    assert_eq!(second.get("/b").await.status, 404);
    assert_eq!(second.metrics().await.sum("tidegate_tier_up", "tier=\"redis\""), 1.0);
    assert_eq!(redis.entries().len(), 1);
}
