//! Nodes that were away while something was purged: stopped, killed, cut off, or away for longer than the log goes back.

use super::purge::{node, nodes, purge, store, tagged, wait_for_nodes};
use crate::support::*;
use serde_json::json;
use std::time::Duration;

/// A node with a disk alone.
fn on_disk(origin: &Origin, redis: &RedisServer, name: &str) -> proxy::Builder {
    node(origin, redis, name)
        .without("cache.memory")
        .set("cache.memory.capacity", "0")
        .set("cache.disk.path", "@DIR@/disk")
        .set("cache.disk.capacity", "64MiB")
        .set("cache.disk.min_free", "0")
}

async fn lasting() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|seen| {
        let tag = seen.path().rsplit('/').next().unwrap_or_default().to_owned();
        Reply::ok(&seen.target).header("cache-control", "max-age=3600").header("surrogate-key", &tag)
    });
    origin
}

/// Stores `path`, and waits until it is on disk.
async fn write(proxy: &Proxy, path: &str) {
    let written = proxy.metrics().await.sum("tidegate_tier_writes_total", "result=\"stored\",tier=\"disk\"");
    assert_eq!(proxy.get(path).await.status, 200);
    proxy.wait_for_metric("tidegate_tier_writes_total", "result=\"stored\",tier=\"disk\"", written + 1.0).await;
}

#[tokio::test]
async fn a_node_that_stands_still_is_named_and_serves_nothing_that_was_purged_when_it_goes_on() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b, c] = nodes::<3>(&origin, &redis).await;
    for path in ["/a", "/b"] {
        store(&c, path).await;
    }
    // A connection that is open, and a request that is sent while nobody reads it.
    c.stop();
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await, (202, json!(["a", "b"]), json!(["c"])));
    let asked = c.get("/a").spawn();
    assert!(purge(&b, r#"{"tags": "none"}"#).await.2 == json!(["c"]));
    c.go_on();
    assert!(!asked.await.unwrap().is_hit(), "it was asked for after it was purged");
    assert!(c.get("/b").await.is_hit());
    eventually("all nodes to answer again", async || {
        (purge(&a, r#"{"tags": "none"}"#).await == (200, json!(["a", "b", "c"]), json!([]))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_stood_still_for_long_reads_before_it_serves_although_nobody_waits_for_it() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    store(&b, "/a").await;
    b.stop();
    wait_for_nodes(&a, 1).await;
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await, (200, json!(["a"]), json!([])));
    let asked = b.get("/a").spawn();
    // Until it is in the queue of the one that stands still.
    tokio::task::yield_now().await;
    b.go_on();
    assert!(!asked.await.unwrap().is_hit());
    assert!(b.log().contains("this process was stopped"), "{}", b.log());
}

#[tokio::test]
async fn without_redis_a_node_that_stood_still_serves_what_it_has() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [b] = nodes::<1>(&origin, &redis).await;
    store(&b, "/a").await;
    b.stop();
    redis.kill();
    // For as long as it takes to be a pause.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    b.go_on();
    assert!(b.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_node_that_was_killed_serves_nothing_that_was_purged_meanwhile() {
    let (origin, redis) = (lasting().await, RedisServer::start().await);
    let a = on_disk(&origin, &redis, "a").start().await;
    let mut b = on_disk(&origin, &redis, "b").start().await;
    wait_for_nodes(&a, 2).await;
    for path in ["/hard", "/soft", "/kept", "/before"] {
        write(&b, path).await;
    }
    assert_eq!(purge(&a, r#"{"tags": "before"}"#).await.0, 200);
    write(&b, "/before").await;
    b.kill();
    assert_eq!(purge(&a, r#"{"tags": "hard"}"#).await.2, json!(["b"]));
    assert_eq!(purge(&a, r#"{"urls": "test.example/soft", "soft": true}"#).await.0, 202);
    let asked = origin.count("/soft");
    b.start_again().await;
    assert!(!b.get("/hard").await.is_hit());
    let soft = b.get("/soft").await.cache_status();
    assert!(soft.hit && soft.ttl.is_some_and(|ttl| ttl <= 0), "{soft:?}");
    eventually("it to be fetched again", async || (origin.count("/soft") > asked).then_some(())).await;
    for path in ["/kept", "/before"] {
        assert!(b.get(path).await.is_hit(), "{path}");
    }
    // And once more, with nothing to read.
    b.kill();
    b.start_again().await;
    assert!(b.get("/hard").await.is_hit() && b.get("/kept").await.is_hit());
}

#[tokio::test]
async fn a_node_that_was_away_for_longer_than_the_log_goes_back_forgets_everything() {
    let (origin, redis) = (lasting().await, RedisServer::start().await);
    let a = node(&origin, &redis, "a").start().await;
    let mut b = on_disk(&origin, &redis, "b").start().await;
    let stopped = node(&origin, &redis, "c").start().await;
    wait_for_nodes(&a, 3).await;
    write(&b, "/kept").await;
    store(&stopped, "/kept").await;
    b.kill();
    stopped.stop();
    let all = |n: usize| {
        let urls: Vec<String> = (0..50_000).map(|url| format!("\"h/{n}/{url}\"")).collect();
        format!("{{\"wait\": \"local\", \"urls\": [{}]}}", urls.join(","))
    };
    for n in 0..6 {
        assert_eq!(purge(&a, &all(n)).await.0, 200);
    }
    eventually("all of it to be told", async || {
        (a.metrics().await.sum("tidegate_purges_untold", "") == 0.0).then_some(())
    })
    .await;
    assert_eq!(purge(&a, r#"{"tags": "none"}"#).await.1, json!(["a"]));
    let records: usize = redis.say("XLEN tidegate:{log}purges");
    assert!(records < 260, "{records} records of a thousand");
    b.start_again().await;
    stopped.go_on();
    for away in [&b, &stopped] {
        assert!(!away.get("/kept").await.is_hit());
        assert!(away.get("/kept").await.is_hit());
    }
    b.wait_for_log("does not reach back").await;
    stopped.wait_for_log("was away for longer").await;
}

#[tokio::test]
async fn a_disk_from_a_time_without_redis_is_compared_with_all_that_is_known() {
    let (origin, redis) = (lasting().await, RedisServer::start().await);
    let a = node(&origin, &redis, "a").start().await;
    let mut b = on_disk(&origin, &redis, "b").without("cache.redis").without("cache.lock.cluster").start().await;
    write(&b, "/a").await;
    write(&b, "/b").await;
    b.kill();
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await.0, 200);
    b.edit_config(
        "  disk:\n",
        &format!("  redis: {{ url: \"{}\", max_object: 0, timeout: 1s }}\n  disk:\n", redis.url()),
    );
    b.start_again().await;
    assert!(!b.get("/a").await.is_hit());
    assert!(b.get("/b").await.is_hit());
}
