//! Purging in a cluster: what is purged on one node is purged on all of them, when the answer says so.

use crate::support::*;
use serde_json::{Value, json};

/// Nodes in front of one origin, by name.
pub async fn nodes<const N: usize>(origin: &Origin, redis: &RedisServer) -> [Proxy; N] {
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"].into_iter().take(N) {
        nodes.push(node(origin, redis, name).start().await);
    }
    let nodes: [Proxy; N] = nodes.try_into().unwrap_or_else(|_| panic!("there are not so many names"));
    for node in &nodes {
        wait_for_nodes(node, N).await;
    }
    nodes
}

pub fn node(origin: &Origin, redis: &RedisServer, name: &str) -> proxy::Builder {
    Proxy::builder(origin)
        .set("server.node", name)
        .set("cache.redis.url", &redis.url())
        .set("cache.redis.timeout", "1s")
        // What one has fetched is not to be another's hit: each holds its own copy of what is purged.
        .set("cache.redis.max_object", "0")
        .set("cache.lock.cluster", "false")
}

/// Waits until a node has heard of so many.
pub async fn wait_for_nodes(node: &Proxy, n: usize) {
    eventually(&format!("{n} nodes"), async || (node.stats().await["nodes"].as_array()?.len() == n).then_some(()))
        .await;
}

/// Stores `path` on a node by asking for it.
pub async fn store(node: &Proxy, path: &str) {
    assert_eq!(node.get(path).await.status, 200);
    assert!(node.get(path).await.is_hit(), "{path} is not stored");
}

/// Purges, and says what the answer says: the status, who has it, who is missing.
pub async fn purge(node: &Proxy, body: &str) -> (u16, Value, Value) {
    let answer = node.purge(body).await;
    let told = answer.json();
    (answer.status, told["applied"].clone(), told["missing"].clone())
}

/// Both nodes, the one that was asked first.
pub fn applied(issuer: &Proxy, a: &Proxy) -> Value {
    if issuer.pid() == a.pid() { json!(["a", "b"]) } else { json!(["b", "a"]) }
}

/// An origin whose pages are fresh for a minute and have the last part of their path as a tag.
pub async fn tagged() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|seen| {
        let tag = seen.path().rsplit('/').next().unwrap_or_default().to_owned();
        Reply::fresh(&seen.target).header("surrogate-key", &format!("page {tag}"))
    });
    origin
}

#[tokio::test]
async fn what_one_node_purges_is_purged_on_all_when_it_answers() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let nodes = nodes::<3>(&origin, &redis).await;
    for (body, purged) in [
        (r#"{"urls": "http://test.example/img/a"}"#, vec!["/img/a"]),
        (r#"{"tags": "a"}"#, vec!["/img/a"]),
        (r#"{"prefix": "test.example/img/"}"#, vec!["/img/a", "/img/c"]),
        (r#"{"bucket": "main"}"#, vec!["/img/a", "/b", "/img/c"]),
        (r#"{"all": true}"#, vec!["/img/a", "/b", "/img/c"]),
    ] {
        for path in ["/img/a", "/b", "/img/c"] {
            for node in &nodes {
                store(node, path).await;
            }
        }
        assert_eq!(purge(&nodes[0], body).await, (200, json!(["a", "b", "c"]), json!([])));
        for path in ["/img/a", "/b", "/img/c"] {
            for node in &nodes {
                assert_eq!(node.get(path).await.is_hit(), !purged.contains(&path), "{path} after {body}");
            }
        }
    }
}

#[tokio::test]
async fn a_soft_purge_makes_stale_what_every_node_holds() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on_fn("/a", |seen| Reply::fresh(seen.header("x-who").unwrap_or_default()).header("surrogate-key", "t"));
    let nodes = nodes::<2>(&origin, &redis).await;
    for node in &nodes {
        store(node, "/a").await;
    }
    assert_eq!(purge(&nodes[0], r#"{"tags": "t", "soft": true}"#).await, (200, json!(["a", "b"]), json!([])));
    let asked = origin.count("/a");
    for node in &nodes {
        let stale = node.get("/a").await.cache_status();
        assert!(stale.hit && stale.ttl.is_some_and(|ttl| ttl <= 0), "{stale:?}");
    }
    for node in &nodes {
        eventually("a fresh one", async || {
            node.get("/a").await.cache_status().ttl.is_some_and(|ttl| ttl > 0).then_some(())
        })
        .await;
    }
    assert_eq!(origin.count("/a"), asked + 2);
}

#[tokio::test]
async fn variants_and_parts_of_other_nodes_are_purged() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on_fn("/vary", |seen| Reply::fresh(seen.header("x-lang").unwrap_or_default()).header("vary", "x-lang"));
    origin.on_fn("/part", |seen| {
        let range = seen.header("range").unwrap_or_default();
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap_or(("0", "9"));
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let part = Reply::status(206).header("cache-control", "max-age=60").header("etag", "\"1\"");
        part.header("content-range", &format!("bytes {first}-{last}/10")).piece(&"0123456789"[first..=last])
    });
    let [a, b] = nodes::<2>(&origin, &redis).await;
    for lang in ["en", "de"] {
        b.get("/vary").header("x-lang", lang).await;
        assert!(b.get("/vary").header("x-lang", lang).await.is_hit());
    }
    b.get("/part").header("range", "bytes=0-3").await;
    assert!(b.get("/part").header("range", "bytes=1-2").await.is_hit());
    let body = r#"{"urls": ["test.example/vary", "test.example/part"]}"#;
    assert_eq!(purge(&a, body).await, (200, json!(["a", "b"]), json!([])));
    for lang in ["de", "en"] {
        assert!(!b.get("/vary").header("x-lang", lang).await.is_hit(), "{lang}");
    }
    assert!(!b.get("/part").header("range", "bytes=1-2").await.is_hit());
}

#[tokio::test]
async fn a_fill_of_another_node_that_began_before_a_purge_is_not_kept() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let gate = Gate::closed();
    origin.on_each("/a", [Reply::fresh("old").after(&gate), Reply::fresh("new")]);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    let filling = b.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    assert_eq!(purge(&a, r#"{"urls": "test.example/a"}"#).await.0, 200);
    gate.open();
    assert_eq!(filling.await.unwrap().text(), "old");
    assert_eq!(b.get("/a").await.text(), "new");
}

#[tokio::test]
async fn whoever_does_not_wait_is_answered_by_this_node_alone() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    store(&b, "/a").await;
    let told = a.purge(r#"{"tags": "a", "wait": "local"}"#).await.json();
    assert_eq!((&told["applied"], &told["missing"]), (&json!(["a"]), &json!([])), "{told}");
    assert!(told.get("pending").is_some_and(Value::is_null), "nobody knows yet: {told}");
    eventually("the other node to have it", async || (!b.get("/a").await.is_hit()).then_some(())).await;
    assert!(b.get("/a").await.is_hit());
}

#[tokio::test]
async fn what_is_purged_twice_or_fetched_between_is_right() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    for (issuer, other) in [(&a, &b), (&b, &a), (&a, &b)] {
        for node in [&a, &b] {
            store(node, "/a").await;
        }
        assert_eq!(purge(issuer, r#"{"tags": "a"}"#).await, (200, applied(issuer, &a), json!([])));
        for node in [issuer, other] {
            assert!(!node.get("/a").await.is_hit());
            assert!(node.get("/a").await.is_hit());
        }
    }
}

#[tokio::test]
async fn statistics_name_the_nodes_that_live() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, mut b] = nodes::<2>(&origin, &redis).await;
    let id = a.purge(r#"{"tags": "a"}"#).await.json()["id"].clone();
    let told = a.stats().await["nodes"].clone();
    let list = told.as_array().unwrap();
    let names: Vec<&str> = list.iter().filter_map(|node| node["name"].as_str()).collect();
    assert_eq!(names, ["a", "b"], "{told}");
    assert_eq!((list[0]["self"].clone(), list[1]["self"].clone()), (json!(true), json!(false)));
    assert!(list.iter().all(|node| node["applied"] == id), "{told}, {id}");
    assert!(list.iter().all(|node| node["seen_seconds_ago"].as_f64().is_some_and(|ago| ago < 5.0)), "{told}");
    assert!(list[0]["instance"].is_string() && list[0]["instance"] != list[1]["instance"], "{told}");
    assert_eq!(a.metrics().await.sum("tidegate_cluster_nodes", ""), 2.0);
    b.kill();
    wait_for_nodes(&a, 1).await;
    let alone = Proxy::plain(&origin).await;
    assert_eq!(alone.stats().await["nodes"], json!([]));
}

#[tokio::test]
async fn a_node_that_ends_orderly_is_not_waited_for() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(b.pid() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    b.wait_for_log("leaving").await;
    wait_for_nodes(&a, 1).await;
    assert_eq!(redis.say::<usize>("HLEN tidegate:{log}nodes"), 1);
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await, (200, json!(["a"]), json!([])));
}

#[tokio::test]
async fn clocks_that_differ_change_nothing() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let fast = node(&origin, &redis, "a").clock_shift(3600).start().await;
    let slow = node(&origin, &redis, "b").clock_shift(-3600).start().await;
    wait_for_nodes(&fast, 2).await;
    wait_for_nodes(&slow, 2).await;
    for issuer in [&fast, &slow, &fast] {
        for node in [&fast, &slow] {
            store(node, "/a").await;
            store(node, "/b").await;
        }
        assert_eq!(purge(issuer, r#"{"tags": "a"}"#).await, (200, applied(issuer, &fast), json!([])));
        for node in [&fast, &slow] {
            assert!(!node.get("/a").await.is_hit(), "what was purged stays purged");
            assert!(node.get("/a").await.is_hit(), "what came after is not purged");
            assert!(node.get("/b").await.is_hit(), "nor is what was not named");
        }
    }
}
