//! One fill per key in the whole cluster: who fetches, who waits, and for what.

use super::*;
use crate::support::{Ending, Gate, Response};
use tokio::task::JoinHandle;

/// So many nodes, connected to one Redis.
pub(super) async fn nodes<const N: usize>(redis: &RedisServer, origin: &Origin) -> [Proxy; N] {
    nodes_of(|| redis.below_memory(origin)).await
}

/// So many nodes that are set up like this.
pub(super) async fn nodes_of<const N: usize>(builder: impl Fn() -> Builder) -> [Proxy; N] {
    let mut nodes = Vec::new();
    for _ in 0..N {
        nodes.push(connected(builder()).await);
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!("as many as were asked for"))
}

/// So many clients of each node ask for a path, all at once.
pub(super) fn crowd(nodes: &[Proxy], path: &str, clients: usize) -> Vec<JoinHandle<Response>> {
    (0..clients).flat_map(|_| nodes.iter().map(|node| node.get(path).spawn())).collect()
}

/// Requests of all nodes that wait for a fill.
async fn waiting(nodes: &[Proxy]) -> f64 {
    let mut waiting = 0.0;
    for node in nodes {
        waiting += node.metrics().await.sum("tidegate_fill_waiters", "");
    }
    waiting
}

/// Waits until so many requests of all nodes wait for a fill.
pub(super) async fn wait_for_waiting(nodes: &[Proxy], clients: usize) {
    let what = format!("{clients} requests that wait");
    eventually(&what, async || (waiting(nodes).await >= clients as f64).then_some(())).await;
}

/// Waits until everybody was answered with this.
pub(super) async fn all_get(clients: Vec<JoinHandle<Response>>, body: &str) {
    for client in clients {
        let response = client.await.unwrap();
        assert_eq!((response.status, response.ending), (200, Ending::Clean), "{response:?}");
        assert!(response.text() == body, "{} bytes of {}", response.body.len(), body.len());
    }
}

/// What became of leases on this node, so far.
pub(super) async fn leases(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum("tidegate_leases_total", &format!("result=\"{result}\""))
}

#[tokio::test]
async fn three_hundred_clients_of_three_nodes_cost_one_origin_request() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    let body = "0123456789".repeat(2000);
    origin.on("/a", Reply::fresh(&body).after(&gate));
    let nodes: [Proxy; 3] = nodes(&redis, &origin).await;
    let clients = crowd(&nodes, "/a", 100);
    wait_for_waiting(&nodes, 299).await;
    gate.open();
    all_get(clients, &body).await;
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn fifty_keys_of_many_clients_cost_fifty_origin_requests() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    let paths: Vec<String> = (0..50).map(|n| format!("/{n}")).collect();
    for path in &paths {
        origin.on(path, Reply::fresh(path).after(&gate));
    }
    let nodes: [Proxy; 3] = nodes(&redis, &origin).await;
    let crowds: Vec<_> = paths.iter().map(|path| (path, crowd(&nodes, path, 7))).collect();
    wait_for_waiting(&nodes, 50 * 20).await;
    gate.open();
    for (path, clients) in crowds {
        all_get(clients, path).await;
        assert_eq!(origin.count(path), 1, "{path}");
    }
}

#[tokio::test]
async fn who_asks_another_node_right_after_an_answer_does_not_reach_the_origin() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    // What was answered is on its way to Redis, and may be there before whoever waits for that has begun to.
    for path in (0..100).map(|n| format!("/{n}")) {
        origin.on(&path, Reply::fresh(&path));
        assert_eq!(one.get(&path).await.text(), path);
        assert_eq!(other.get(&path).await.text(), path);
        assert_eq!(origin.count(&path), 1);
    }
}

#[tokio::test]
async fn who_waited_for_another_node_was_collapsed_and_who_comes_later_hits() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on("/a", Reply::fresh("a").after(&gate));
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let follower = other.get("/a").spawn();
    other.wait_for_waiters(1).await;
    gate.open();
    assert!(leader.await.unwrap().cache_status().stored);
    let status = follower.await.unwrap().cache_status();
    assert!(status.collapsed && status.fwd() == "uri-miss", "{status:?}");
    assert_eq!(status.detail.as_deref(), Some("redis"));
    assert!(other.get("/a").await.is_hit());
    assert_eq!((leases(&one, "taken").await, leases(&other, "held").await), (1.0, 1.0));
}

#[tokio::test]
async fn an_uncacheable_answer_lets_all_nodes_go_side_by_side() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (first, others) = (Gate::closed(), Gate::closed());
    let private = || Reply::ok("private").header("cache-control", "no-store");
    origin.on_each("/a", [private().after(&first), private().after(&others)]);
    let [one, two, three]: [Proxy; 3] = nodes(&redis, &origin).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let nodes = [two, three];
    let mut clients = crowd(&nodes, "/a", 4);
    wait_for_waiting(&nodes, 8).await;
    first.open();
    // All of them are there before one of them is answered.
    origin.wait_for_requests("/a", 9).await;
    others.open();
    clients.push(leader);
    all_get(clients, "private").await;
}

#[tokio::test]
async fn a_long_fill_is_waited_for_as_long_as_it_gets_on() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on("/a", Reply::fresh("one ").hold(&gate).piece("two"));
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let followers = crowd(std::slice::from_ref(&other), "/a", 5);
    other.wait_for_waiters(5).await;
    // A lease that is not renewed lasts for three of these.
    let renewed = async || one.metrics().await.sum("tidegate_redis_commands_total", "command=\"renew\",result=\"ok\"");
    eventually("a lease that is renewed", async || (renewed().await >= 8.0).then_some(())).await;
    other.wait_for_waiters(5).await;
    gate.open();
    all_get(vec![leader], "one two").await;
    all_get(followers, "one two").await;
    assert_eq!(origin.count("/a"), 1);
    let asked = other.metrics().await.sum("tidegate_redis_commands_total", "command=\"lookup\"");
    assert!(asked <= 6.0, "{asked} questions in four seconds");
}

#[tokio::test]
async fn variants_are_fetched_once_each() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    let held = gate.clone();
    origin.on_fn("/a", move |seen| {
        let language = seen.header("accept-language").unwrap_or_default();
        let reply = Reply::fresh(&language).header("vary", "accept-language");
        if language == "en" { reply } else { reply.after(&held) }
    });
    let nodes: [Proxy; 3] = nodes(&redis, &origin).await;
    let ask = |node: &Proxy, language: &str| node.get("/a").header("accept-language", language);
    // Lookups of a variant begin with what is stored under the key.
    for node in &nodes {
        assert_eq!(ask(node, "en").await.text(), "en");
    }
    let clients = |language| nodes.iter().flat_map(move |node| [(); 5].map(|()| ask(node, language).spawn()));
    let (french, german): (Vec<_>, Vec<_>) = (clients("fr").collect(), clients("de").collect());
    wait_for_waiting(&nodes, 28).await;
    gate.open();
    all_get(french, "fr").await;
    all_get(german, "de").await;
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn where_nodes_are_not_to_wait_for_each_other_each_one_fetches() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on("/a", Reply::fresh("a").after(&gate));
    let builder = || redis.below_memory(&origin).set("cache.lock.cluster", "false");
    let nodes: [Proxy; 3] = nodes_of(builder).await;
    let clients = crowd(&nodes, "/a", 5);
    origin.wait_for_requests("/a", 3).await;
    wait_for_waiting(&nodes, 12).await;
    gate.open();
    all_get(clients, "a").await;
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn whether_nodes_wait_for_each_other_can_change_while_they_run() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on("/a", Reply::fresh("a").after(&gate));
    let builder = || redis.below_memory(&origin).set("cache.lock.cluster", "true");
    let [one, other]: [Proxy; 2] = nodes_of(builder).await;
    let first = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    other.edit_config("cluster: true", "cluster: false");
    other.wait_for_log("the configuration is applied").await;
    let second = other.get("/a").spawn();
    origin.wait_for_requests("/a", 2).await;
    gate.open();
    all_get(vec![first, second], "a").await;
}
