//! Stale entries: all nodes together ask the origin once.

use super::lease::{all_get, crowd, nodes, nodes_of, wait_for_waiting};
use super::*;
use crate::support::Gate;

/// Stale from the beginning, and asked about with its tag.
fn stale(allows: &str) -> Reply {
    short("61", allows)
}

/// So old that it is stale after a minute less that.
fn short(age: &str, allows: &str) -> Reply {
    Reply::ok("body").header("cache-control", &format!("max-age=60{allows}")).header("age", age).etag("\"v1\"")
}

/// The origin asks for patience with the second answer, which is that it has not changed.
fn once_stale(origin: &Origin, allows: &str, gate: &Gate) {
    let confirmed = Reply::fresh("body").etag("\"v1\"").after(gate);
    origin.on_each("/a", [stale(allows), confirmed]);
}

/// Every node has the stale entry in memory.
async fn all_have_it(origin: &Origin, nodes: &[Proxy], redis: &RedisServer) {
    assert_eq!(nodes[0].get("/a").await.text(), "body");
    redis.wait_for_entries(1).await;
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_stale_entry_is_revalidated_once_by_all_nodes() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    let confirmed = Reply::fresh("body").etag("\"v1\"").after(&gate);
    origin.on_each("/a", [short("58", ""), confirmed]);
    let nodes: [Proxy; 3] = nodes(&redis, &origin).await;
    all_have_it(&origin, &nodes, &redis).await;
    wait_until_stale(&nodes[0], "/a").await;
    let clients = crowd(&nodes, "/a", 5);
    wait_for_waiting(&nodes, 14).await;
    gate.open();
    all_get(clients, "body").await;
    assert_eq!(origin.count("/a"), 2);
    assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"v1\""));
    for node in &nodes {
        assert!(node.get("/a").await.is_hit());
    }
}

/// Waits until what is stored is not fresh any more, and locks nothing.
pub(super) async fn wait_until_stale(proxy: &Proxy, path: &str) {
    let is_stale = async || {
        let response = proxy.get(path).header("cache-control", "only-if-cached, max-stale=600").await;
        response.cache_status().ttl.is_some_and(|left| left < 0).then_some(())
    };
    eventually("a stale entry", is_stale).await;
}

#[tokio::test]
async fn what_is_stale_at_once_is_fetched_by_all_nodes_side_by_side() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (first, others) = (Gate::closed(), Gate::closed());
    origin.on_each("/a", [stale("").after(&first), stale("").after(&others)]);
    let [one, two, three]: [Proxy; 3] = nodes(&redis, &origin).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let rest = [two, three];
    let clients = crowd(&rest, "/a", 1);
    wait_for_waiting(&rest, 2).await;
    first.open();
    all_get(vec![leader], "body").await;
    // Both at a time: neither has an answer.
    origin.wait_for_requests("/a", 3).await;
    others.open();
    all_get(clients, "body").await;
}

#[tokio::test]
async fn who_wants_a_fresh_variant_does_not_have_redis_asked_for_the_first_one() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let first = short("61", "").header("vary", "accept-language");
    origin.on_each("/a", [first, lasting("fr").header("vary", "accept-language")]);
    let node = connected(redis.below_memory(&origin)).await;
    store(&node, "/a").await;
    let french = async || node.get("/a").header("accept-language", "fr").await;
    assert_eq!(french().await.text(), "fr");
    wait_for_writes(&node, "stored", 2.0).await;
    let asked = async || lookups(&node, "hit").await + lookups(&node, "miss").await;
    let before = asked().await;
    for _ in 0..3 {
        let response = french().await;
        assert!(response.is_hit() && response.text() == "fr", "{response:?}");
    }
    assert_eq!(asked().await, before);
}

async fn all_serve_what_is_stale(builder: fn(&RedisServer, &Origin) -> Builder) {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    once_stale(&origin, ", stale-while-revalidate=600", &gate);
    let nodes: [Proxy; 3] = nodes_of(|| builder(&redis, &origin)).await;
    all_have_it(&origin, &nodes, &redis).await;
    for _ in 0..3 {
        for node in &nodes {
            let response = node.get("/a").await;
            assert_eq!(response.cache_status().detail.as_deref(), Some("stale-while-revalidate"), "{response:?}");
        }
    }
    origin.wait_for_requests("/a", 2).await;
    gate.open();
    for node in &nodes {
        eventually("a fresh entry on every node", async || {
            let status = node.get("/a").await.cache_status();
            (status.hit && status.ttl.is_some_and(|left| left > 0)).then_some(())
        })
        .await;
    }
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn while_one_node_revalidates_the_others_serve_what_is_stale() {
    all_serve_what_is_stale(RedisServer::below_memory).await;
}

#[tokio::test]
async fn while_one_node_revalidates_all_serve_what_is_stale_in_redis_alone() {
    all_serve_what_is_stale(RedisServer::alone).await;
}

#[tokio::test]
async fn a_client_that_insists_does_not_keep_others_from_what_redis_has() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("old"), Reply::fresh("new").after(&gate)]);
    let node = connected(redis.alone(&origin)).await;
    store(&node, "/a").await;
    let insists = node.get("/a").header("cache-control", "no-cache").spawn();
    origin.wait_for_requests("/a", 2).await;
    let response = node.get("/a").await;
    assert!(response.is_hit() && response.text() == "old", "{response:?}");
    gate.open();
    all_get(vec![insists], "new").await;
}

#[tokio::test]
async fn what_is_stale_here_is_not_asked_about_if_another_node_has_newer() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on_each("/a", [stale(", stale-while-revalidate=600"), Reply::fresh("new")]);
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    assert_eq!(one.get("/a").await.text(), "body");
    redis.wait_for_entries(1).await;
    // A client that insists has the other node fetch it.
    assert_eq!(other.get("/a").header("cache-control", "no-cache").await.text(), "new");
    wait_for_writes(&other, "stored", 1.0).await;
    let response = one.get("/a").await;
    assert!(response.is_hit() && response.text() == "new", "{response:?}");
    assert_eq!(response.cache_status().detail.as_deref(), Some("redis"));
    // Nothing older is left here.
    let response = one.get("/a").await;
    assert_eq!((response.text().as_str(), response.cache_status().detail.as_deref()), ("new", Some("memory")));
    assert_eq!(origin.count("/a"), 2);
}
