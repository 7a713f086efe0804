//! Ten thousand tags, a hundred thousand purges, and a Redis Cluster.

use super::purge::{node, nodes, purge, store, tagged, wait_for_nodes};
use crate::support::process::MIB;
use crate::support::*;
use serde_json::json;

#[tokio::test]
async fn each_of_ten_thousand_tags_of_an_entry_purges_it_on_every_node() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let tags: Vec<String> = (1..=10_000).map(|n| format!("tag-{n}")).collect();
    origin.on("/a", Reply::fresh("a").header("surrogate-key", &tags.join(" ")));
    let [a, b] = nodes::<2>(&origin, &redis).await;
    for tag in [1, 5000, 10_000] {
        store(&b, "/a").await;
        let body = format!("{{\"tags\": \"tag-{tag}\"}}");
        assert_eq!(purge(&a, &body).await, (200, json!(["a", "b"]), json!([])));
        assert!(!b.get("/a").await.is_hit(), "{tag}");
    }
    store(&b, "/a").await;
    assert_eq!(purge(&a, r#"{"tags": "tag-10001"}"#).await.0, 200);
    assert!(b.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_hundred_thousand_purges_of_two_nodes_keep_what_they_do_not_name() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let on_disk = |name| {
        let builder = node(&origin, &redis, name).set("cache.disk.path", "@DIR@/disk").set("cache.disk.min_free", "0");
        builder.set("cache.disk.capacity", "64MiB")
    };
    let (a, mut b) = (on_disk("a").start().await, on_disk("b").start().await);
    wait_for_nodes(&a, 2).await;
    for node in [&a, &b] {
        store(node, "/a").await;
        store(node, "/b").await;
    }
    let before = b.memory();
    for thousand in 0..100 {
        let urls: Vec<String> = (0..1000).map(|n| format!("\"test.example/none/{thousand}/{n}\"")).collect();
        let issuer = if thousand % 2 == 0 { &a } else { &b };
        assert_eq!(purge(issuer, &format!("{{\"urls\": [{}]}}", urls.join(","))).await.0, 200);
    }
    for node in [&a, &b] {
        assert!(node.get("/a").await.is_hit());
    }
    assert_eq!(purge(&a, r#"{"urls": "test.example/a"}"#).await.0, 200);
    assert!(!b.get("/a").await.is_hit());
    // 64 bytes for each in two indexes, what the journal is written from, and what a debug build adds.
    let (memory, journal) = (b.memory() - before, std::fs::metadata(b.path("disk/purges")).unwrap().len());
    assert!(memory < 100 * MIB, "{} MiB", memory / MIB);
    assert!(journal < 12 * MIB, "{journal} bytes");
    let stream: u64 = redis.say("MEMORY USAGE tidegate:{log}purges");
    assert!(stream < 10 * MIB, "{stream} bytes");
    b.kill();
    b.start_again().await;
    assert!(b.get("/b").await.is_hit());
    assert!(!b.get("/none").await.is_hit());
}

#[tokio::test]
async fn three_masters_of_a_redis_cluster_keep_the_log_as_one_server_does() {
    let (origin, redis) = (tagged().await, RedisCluster::start().await);
    let member = |name: &str| {
        let builder = node(&origin, &redis.masters[0], name).set("cache.redis.cluster", "true");
        builder.set("cache.redis.url", &redis.urls()).set("cache.redis.max_object", "1MiB")
    };
    let (a, b) = (member("a").start().await, member("b").start().await);
    for node in [&a, &b] {
        wait_for_nodes(node, 2).await;
    }
    for (n, body) in
        [r#"{"tags": "x1"}"#, r#"{"prefix": "test.example/x2"}"#, r#"{"all": true}"#].into_iter().enumerate()
    {
        let path = format!("/x{}", n + 1);
        for node in [&a, &b] {
            assert_eq!(node.get(&path).await.status, 200);
            store(node, &path).await;
        }
        let asked = origin.count(&path);
        assert_eq!(purge(&a, body).await, (200, json!(["a", "b"]), json!([])));
        for node in [&b, &a] {
            assert_eq!(node.get(&path).await.status, 200);
        }
        assert!(origin.count(&path) > asked, "{body}");
        let told = b.get(&path).await;
        assert!(told.is_hit());
    }
    // The master that holds the log goes: a purge is in force here, and told when it is back.
    let holder = redis.masters.iter().find(|master| !master.keys("tidegate:{log}purges").is_empty()).unwrap();
    for node in [&a, &b] {
        store(node, "/y").await;
    }
    holder.pause();
    assert_eq!(purge(&a, r#"{"tags": "y"}"#).await, (202, json!(["a"]), json!(["b"])));
    holder.resume();
    eventually("the other node to be told", async || (!b.get("/y").await.is_hit()).then_some(())).await;
}
