//! Fills that come to nothing, or to nothing that is shared: nobody waits for them longer than need be.

use super::lease::{all_get, crowd, leases, nodes, nodes_of, wait_for_waiting};
use super::lease_stale::wait_until_stale;
use super::*;
use crate::support::Gate;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Two seconds are promised; a debug build on a busy machine may need a little more.
const TAKEN_OVER: Duration = Duration::from_millis(2500);

fn signal(proxy: &Proxy, signal: Signal) {
    kill(Pid::from_raw(proxy.pid() as i32), signal).expect("a signal to the daemon");
}

#[tokio::test]
async fn a_fill_whose_node_is_killed_is_taken_over_by_one_other_node() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("one ").hold(&gate).piece("two"), Reply::fresh("one two")]);
    let [holder, two, three]: [Proxy; 3] = nodes(&redis, &origin).await;
    let mut leader = holder.get("/a").open().await;
    leader.read_until("one ").await;
    let others = [two, three];
    let clients = crowd(&others, "/a", 10);
    wait_for_waiting(&others, 20).await;
    let killed = Instant::now();
    signal(&holder, Signal::SIGKILL);
    origin.wait_for_requests("/a", 2).await;
    let took = origin.last("/a").at.duration_since(killed);
    println!("taken over {took:?} after its node was killed");
    assert!(took < TAKEN_OVER, "{took:?}");
    all_get(clients, "one two").await;
    assert_eq!(origin.count("/a"), 2);
    assert_eq!(leases(&others[0], "takeover").await + leases(&others[1], "takeover").await, 1.0);
}

#[tokio::test]
async fn a_node_that_is_killed_before_the_origin_has_answered_is_taken_over_from() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("a").after(&gate), Reply::fresh("a")]);
    let [holder, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    let leader = holder.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let client = other.get("/a").spawn();
    other.wait_for_waiters(1).await;
    let killed = Instant::now();
    leader.abort();
    signal(&holder, Signal::SIGKILL);
    all_get(vec![client], "a").await;
    let took = killed.elapsed();
    println!("taken over {took:?} after its node was killed");
    assert!(took < TAKEN_OVER, "{took:?}");
}

#[tokio::test]
async fn what_a_node_brings_that_stood_still_does_not_replace_what_is_newer() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [lasting("old").after(&gate), lasting("new")]);
    let [holder, two, three]: [Proxy; 3] = nodes(&redis, &origin).await;
    let leader = holder.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let client = two.get("/a").spawn();
    two.wait_for_waiters(1).await;
    let stopped = Instant::now();
    signal(&holder, Signal::SIGSTOP);
    all_get(vec![client], "new").await;
    let took = stopped.elapsed();
    println!("taken over {took:?} after its node was stopped");
    assert!(took < TAKEN_OVER, "{took:?}");
    wait_for_writes(&two, "stored", 1.0).await;
    signal(&holder, Signal::SIGCONT);
    gate.open();
    all_get(vec![leader], "old").await;
    wait_for_writes(&holder, "outdated", 1.0).await;
    assert_eq!(three.get("/a").await.text(), "new");
    let of_holder = async || (holder.get("/a").await.text() == "new").then_some(());
    eventually("the newer one on the node that stood still", of_holder).await;
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn a_crowd_on_three_nodes_costs_a_failing_origin_few_requests() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::status(500).after(&gate), Reply::status(500)]);
    let [one, two, three]: [Proxy; 3] = nodes(&redis, &origin).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let others = [two, three];
    let clients = crowd(&others, "/a", 10);
    wait_for_waiting(&others, 20).await;
    gate.open();
    assert_eq!(leader.await.unwrap().status, 500);
    let mut refused = 0;
    for client in clients {
        let response = client.await.unwrap();
        refused += usize::from(response.status == 503);
        assert!(matches!(response.status, 500 | 503), "{response:?}");
    }
    // Three, unless a node does not hear of a failure because none of its own wait at that moment: each one knows of the first.
    let asked = origin.count("/a");
    assert!((3..=5).contains(&asked), "{asked} requests");
    assert_eq!(refused, 21 - asked);
}

#[tokio::test]
async fn after_a_failure_one_of_those_who_wait_tries_and_all_have_its_answer() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::hang_up().after(&gate), Reply::fresh("a")]);
    let [one, two, three]: [Proxy; 3] =
        nodes_of(|| redis.below_memory(&origin).set("origins.main.http.retries", "0")).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let others = [two, three];
    let clients = crowd(&others, "/a", 10);
    wait_for_waiting(&others, 20).await;
    gate.open();
    assert_eq!(leader.await.unwrap().status, 502);
    all_get(clients, "a").await;
    assert_eq!(origin.count("/a"), 2);
}

/// Two nodes whose Redis keeps nothing that is longer than a kibibyte; what the first one fetches is longer, and does not end.
async fn too_large(frame: fn(Reply) -> Reply) {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (head, end) = (Gate::closed(), Gate::closed());
    let (long, rest) = ("x".repeat(4096), "y".repeat(10));
    let whole = || Reply::fresh(&long);
    origin.on_each("/a", [frame(whole().after(&head).hold(&end).piece(&rest)), frame(whole().piece(&rest))]);
    let [one, two, three]: [Proxy; 3] =
        nodes_of(|| redis.below_memory(&origin).set("cache.redis.max_object", "1KiB")).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let others = [two, three];
    let clients = crowd(&others, "/a", 5);
    wait_for_waiting(&others, 10).await;
    head.open();
    // The first fill has not ended, and each node fetches once.
    all_get(clients, &(long.clone() + &rest)).await;
    assert_eq!(origin.count("/a"), 3);
    end.open();
    all_get(vec![leader], &(long + &rest)).await;
}

#[tokio::test]
async fn what_says_that_it_is_too_large_for_redis_is_not_waited_for() {
    too_large(|reply| reply).await;
}

#[tokio::test]
async fn what_turns_out_to_be_too_large_for_redis_is_not_waited_for() {
    too_large(Reply::chunked).await;
}

#[tokio::test]
async fn what_a_policy_keeps_out_of_redis_is_not_waited_for() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("a").after(&gate), Reply::fresh("a")]);
    let policy = "return { response = function() return { tiers = { \"memory\" } } end }";
    let nodes: [Proxy; 3] = nodes_of(|| redis.below_memory(&origin).policy("main.lua", policy)).await;
    let clients = crowd(&nodes, "/a", 5);
    wait_for_waiting(&nodes, 14).await;
    gate.open();
    all_get(clients, "a").await;
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn who_has_waited_long_enough_for_another_node_fetches_itself() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("a").after(&gate), Reply::fresh("a")]);
    let builder = || redis.below_memory(&origin).set("cache.lock.wait", "1s");
    let [one, other]: [Proxy; 2] = nodes_of(builder).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let response = other.get("/a").await;
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
    assert_eq!(response.cache_status().detail.as_deref(), Some("lock-timeout"));
    assert_eq!(origin.count("/a"), 2);
    gate.open();
    all_get(vec![leader], "a").await;
}

#[tokio::test]
async fn when_redis_goes_away_those_who_wait_fetch_once_for_each_node() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("a").after(&gate), Reply::fresh("a")]);
    let [one, two, three]: [Proxy; 3] = nodes(&redis, &origin).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let others = [two, three];
    let clients = crowd(&others, "/a", 10);
    wait_for_waiting(&others, 20).await;
    redis.kill();
    all_get(clients, "a").await;
    assert_eq!(origin.count("/a"), 3);
    gate.open();
    all_get(vec![leader], "a").await;
}

#[tokio::test]
async fn when_redis_hangs_those_who_wait_fetch_soon() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("a").after(&gate), Reply::fresh("a")]);
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let client = other.get("/a").spawn();
    other.wait_for_waiters(1).await;
    let paused = Instant::now();
    redis.pause();
    all_get(vec![client], "a").await;
    let took = paused.elapsed();
    println!("fetched {took:?} after Redis hung");
    assert!(took < Duration::from_secs(4), "{took:?}");
    redis.resume();
    gate.open();
    all_get(vec![leader], "a").await;
}

#[tokio::test]
async fn a_purge_lets_those_go_who_wait_for_what_is_dead_when_it_ends() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("one ").hold(&gate).piece("two"), Reply::fresh("new")]);
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    let mut leader = one.get("/a").open().await;
    leader.read_until("one ").await;
    let client = other.get("/a").spawn();
    other.wait_for_waiters(1).await;
    assert!(one.purge(r#"{"all": true, "wait": "local"}"#).await.status < 300);
    all_get(vec![client], "new").await;
    gate.open();
    assert_eq!(leader.rest().await.text(), "one two");
}

#[tokio::test]
async fn a_lease_that_nobody_needs_after_all_is_given_back() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let short = Reply::ok("old").header("cache-control", "max-age=60").header("age", "58").etag("\"v1\"");
    origin.on_each("/a", [short, Reply::fresh("new")]);
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    store(&one, "/a").await;
    wait_until_stale(&one, "/a").await;
    // It asks for a lease, and then does with what is stale.
    let response = one.get("/a").header("cache-control", "max-stale=600").await;
    assert_eq!((response.text().as_str(), origin.count("/a")), ("old", 1));
    let began = Instant::now();
    assert_eq!(other.get("/a").await.text(), "new");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1400), "{took:?}: before it would have lapsed");
    // One for what was stored at first.
    assert_eq!((leases(&one, "taken").await, origin.count("/a")), (2.0, 2));
}

#[tokio::test]
async fn a_lease_that_was_granted_too_late_is_given_back() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/a", Reply::fresh("a"));
    origin.on("/b", Reply::fresh("b"));
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    // Redis knows the scripts from then on.
    store(&one, "/b").await;
    redis.pause();
    assert_eq!(one.get("/a").await.text(), "a");
    redis.resume();
    let granted = async || (leases(&one, "taken").await == 2.0).then_some(());
    eventually("a lease for a question that nobody waits for any more", granted).await;
    let began = Instant::now();
    assert_eq!(other.get("/a").await.text(), "a");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1000), "{took:?}: before it would have lapsed");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_along_what_other_nodes_wait_for() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (head, rest) = (Gate::closed(), Gate::closed());
    origin.on("/a", Reply::fresh("one ").after(&head).hold(&rest).piece("two"));
    origin.on("/b", Reply::fresh("one ").hold(&rest).piece("two"));
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    let before_the_head = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let mut midway = one.get("/b").open().await;
    midway.read_until("one ").await;
    let clients = vec![other.get("/a").spawn(), other.get("/b").spawn()];
    other.wait_for_waiters(2).await;
    before_the_head.abort();
    assert!(before_the_head.await.unwrap_err().is_cancelled());
    midway.hang_up();
    head.open();
    rest.open();
    all_get(clients, "one two").await;
    assert_eq!((origin.count("/a"), origin.count("/b")), (1, 1));
}

#[tokio::test]
async fn a_change_lets_those_go_who_wait_for_what_was_asked_for_before() {
    let (origin, redis, gate) = (Origin::start().await, RedisServer::start().await, Gate::closed());
    origin.on_each("/a", [Reply::fresh("old").after(&gate), Reply::fresh("new")]);
    let [one, other]: [Proxy; 2] = nodes(&redis, &origin).await;
    let leader = one.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let client = other.get("/a").spawn();
    other.wait_for_waiters(1).await;
    // An unsafe request makes invalid what is stored, and what is on its way.
    assert_eq!(one.call("POST", "/a").body("x").await.text(), "new");
    all_get(vec![client], "new").await;
    gate.open();
    all_get(vec![leader], "old").await;
    let of_one = async || (one.get("/a").await.text() == "new").then_some(());
    eventually("the newer one where the older one was fetched", of_one).await;
}
