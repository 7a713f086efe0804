//! What was purged is in Redis as well: nobody serves it from there, whoever stored it and whenever whoever looks was started.

use super::purge::{applied, node, purge, tagged, wait_for_nodes};
use super::{lasting, store, wait_for_state};
use crate::support::*;
use serde_json::json;

/// A node that keeps everything in Redis.
async fn sharing(builder: proxy::Builder) -> Proxy {
    let builder =
        builder.set("cache.redis.max_object", "1MiB").without("cache.memory").set("cache.memory.capacity", "0");
    let node = builder.start().await;
    wait_for_state(&node, "ok").await;
    node
}

#[tokio::test]
async fn a_node_that_starts_afterwards_does_not_serve_what_was_purged() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let a = sharing(node(&origin, &redis, "a")).await;
    for path in ["/hard", "/soft", "/kept"] {
        store(&a, path).await;
    }
    assert_eq!(purge(&a, r#"{"tags": "hard"}"#).await.0, 200);
    assert_eq!(purge(&a, r#"{"tags": "soft", "soft": true}"#).await.0, 200);
    let b = sharing(node(&origin, &redis, "b")).await;
    assert!(!b.get("/hard").await.is_hit());
    let soft = b.get("/soft").await.cache_status();
    assert!(soft.hit && soft.ttl.is_some_and(|ttl| ttl <= 0), "{soft:?}");
    assert!(b.get("/kept").await.is_hit());
    assert_eq!(origin.count("/kept"), 1);
}

#[tokio::test]
async fn what_is_fetched_after_a_purge_is_shared() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let (a, b) = (sharing(node(&origin, &redis, "a")).await, sharing(node(&origin, &redis, "b")).await);
    wait_for_nodes(&a, 2).await;
    for (issuer, other) in [(&a, &b), (&b, &a), (&a, &b)] {
        store(issuer, "/a").await;
        assert!(other.get("/a").await.is_hit());
        assert_eq!(purge(issuer, r#"{"tags": "a"}"#).await, (200, applied(issuer, &a), json!([])));
        let asked = origin.count("/a");
        store(other, "/a").await;
        assert!(issuer.get("/a").await.is_hit() && other.get("/a").await.is_hit());
        assert_eq!(origin.count("/a"), asked + 1);
        assert_eq!(purge(other, r#"{"prefix": "test.example/"}"#).await.0, 200);
    }
}

#[tokio::test]
async fn what_one_fetched_before_another_purged_it_is_nobodys_hit() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let gate = Gate::closed();
    origin.on_each("/a", [lasting("old").after(&gate), lasting("new")]);
    let (a, b) = (sharing(node(&origin, &redis, "a")).await, sharing(node(&origin, &redis, "b")).await);
    wait_for_nodes(&a, 2).await;
    let filling = b.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    assert_eq!(purge(&a, r#"{"urls": "test.example/a"}"#).await.0, 200);
    gate.open();
    assert_eq!(filling.await.unwrap().text(), "old");
    for node in [&a, &b, &sharing(self::node(&origin, &redis, "c")).await] {
        assert_eq!(node.get("/a").await.text(), "new");
    }
}

#[tokio::test]
async fn clocks_that_differ_change_nothing_for_what_is_shared() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let page = || Reply::ok("a").header("cache-control", "max-age=36000").header("surrogate-key", "a");
    origin.on("/a", page());
    let fast = sharing(node(&origin, &redis, "a").clock_shift(1800)).await;
    let slow = sharing(node(&origin, &redis, "b").clock_shift(-1800)).await;
    wait_for_nodes(&fast, 2).await;
    for (issuer, other) in [(&fast, &slow), (&slow, &fast)] {
        store(other, "/a").await;
        assert!(issuer.get("/a").await.is_hit());
        let asked = origin.count("/a");
        assert_eq!(purge(issuer, r#"{"tags": "a"}"#).await.0, 200);
        store(other, "/a").await;
        assert_eq!(origin.count("/a"), asked + 1, "what was purged stays purged");
        assert!(other.get("/a").await.is_hit() && issuer.get("/a").await.is_hit(), "what came after does not");
        assert_eq!(purge(other, r#"{"tags": "a"}"#).await.0, 200);
    }
}

#[tokio::test]
async fn a_node_that_was_cut_off_takes_nothing_from_redis_that_it_cannot_judge() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let (a, b) = (sharing(node(&origin, &redis, "a")).await, sharing(node(&origin, &redis, "b")).await);
    wait_for_nodes(&a, 2).await;
    for round in 0..5 {
        store(&a, "/a").await;
        assert!(b.get("/a").await.is_hit(), "round {round}");
        // Whatever was on its way to them is lost.
        for kind in ["normal", "pubsub"] {
            redis.say::<i64>(&format!("CLIENT KILL TYPE {kind}"));
        }
        eventually("a purge that all have", async || (purge(&a, r#"{"tags": "a"}"#).await.0 == 200).then_some(()))
            .await;
        assert!(!b.get("/a").await.is_hit(), "round {round}");
        eventually("all to be connected", async || (purge(&a, r#"{"tags": "a"}"#).await.2 == json!([])).then_some(()))
            .await;
        wait_for_nodes(&a, 2).await;
        wait_for_state(&b, "ok").await;
    }
}

#[tokio::test]
async fn another_log_makes_everything_in_redis_unknown() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let (a, b) = (sharing(node(&origin, &redis, "a")).await, sharing(node(&origin, &redis, "b")).await);
    store(&a, "/a").await;
    assert!(b.get("/a").await.is_hit());
    let epoch: String = redis.say("HGET tidegate:{log}head epoch");
    redis.say::<i64>("DEL tidegate:{log}purges tidegate:{log}head");
    eventually("another log", async || {
        let now: Option<String> = redis.say("HGET tidegate:{log}head epoch");
        (now? != epoch).then_some(())
    })
    .await;
    let c = sharing(node(&origin, &redis, "c")).await;
    let asked = origin.count("/a");
    assert_eq!(c.get("/a").await.status, 200);
    assert_eq!(origin.count("/a"), asked + 1);
    eventually("it to be shared again", async || {
        (a.get("/a").await.is_hit() && b.get("/a").await.is_hit()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_fetched_right_after_the_answer_is_kept() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let a = sharing(node(&origin, &redis, "a")).await;
    for round in 0..30 {
        assert_eq!(purge(&a, r#"{"tags": "a"}"#).await.0, 200);
        assert!(!a.get("/a").await.is_hit());
        assert!(a.get("/a").await.is_hit(), "round {round}");
    }
}

#[tokio::test]
async fn a_purge_of_many_urls_asks_nothing_of_redis_for_each() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let (a, b) = (sharing(node(&origin, &redis, "a")).await, sharing(node(&origin, &redis, "b")).await);
    wait_for_nodes(&a, 2).await;
    store(&b, "/1").await;
    store(&a, "/kept").await;
    let commands = async || a.metrics().await.sum("tidegate_redis_commands_total", "");
    let before = commands().await;
    let urls: Vec<String> = (0..5000).map(|n| format!("\"test.example/{n}\"")).collect();
    assert_eq!(purge(&a, &format!("{{\"urls\": [{}]}}", urls.join(","))).await.0, 200);
    // Whatever was to be sent behind the answer is sent before this.
    store(&a, "/after").await;
    let asked = commands().await - before;
    assert!(asked < 100.0, "{asked} commands");
    let asked = origin.count("/1");
    for node in [&a, &b] {
        assert_eq!(node.get("/1").await.status, 200);
        assert!(node.get("/kept").await.is_hit() && node.get("/after").await.is_hit());
    }
    assert_eq!(origin.count("/1"), asked + 1, "it is purged all the same, and shared again");
}
