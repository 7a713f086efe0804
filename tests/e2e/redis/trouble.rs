//! A Redis that dies, hangs, forgets or is full: requests do not notice, and it is used again once it works.

use super::*;
use crate::support::Ending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Clients that ask for one path after the other until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn on(proxy: &Proxy) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let addr = proxy.addr();
        let client = |number: usize| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                let mut random = fastrand::Rng::with_seed(number as u64);
                while !stop.load(Ordering::Relaxed) {
                    let path = format!("/{}", random.u32(..200));
                    let response = crate::support::Call::new(addr, "GET", &path).attempt().await;
                    let good = response.as_ref().is_ok_and(|response| {
                        response.status == 200 && response.ending == Ending::Clean && response.text() == path
                    });
                    if !good {
                        failed.push(format!("{path}: {response:?}"));
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        };
        let clients = (0..8).map(client).collect();
        Load { stop, answered, clients }
    }

    /// Waits until so many more were answered.
    async fn go_on(&self, more: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        let what = format!("{more} more answers");
        eventually(&what, async || (self.answered.load(Ordering::Relaxed) >= goal).then_some(())).await;
    }

    /// Ends it; every request had its answer.
    async fn went_well(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert_eq!(client.await.unwrap(), Vec::<String>::new());
        }
    }
}

/// A node under load that asks a Redis it waits 50 ms for.
async fn under_load(origin: &Origin, redis: &RedisServer) -> (Proxy, Load) {
    origin.otherwise(|seen| lasting(&seen.target));
    let proxy = connected(redis.alone(origin).set("cache.redis.timeout", "50ms")).await;
    let load = Load::on(&proxy);
    load.go_on(200).await;
    (proxy, load)
}

/// Waits until the node finds something in Redis again.
async fn is_used_again(proxy: &Proxy) {
    wait_for_state(proxy, "ok").await;
    let before = lookups(proxy, "hit").await;
    eventually("a hit in Redis", async || {
        proxy.get("/again").await;
        (lookups(proxy, "hit").await > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn redis_is_killed_and_started_again_under_load() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (proxy, load) = under_load(&origin, &redis).await;
    redis.kill();
    wait_for_state(&proxy, "unavailable").await;
    load.go_on(200).await;
    redis.run().await;
    is_used_again(&proxy).await;
    load.go_on(200).await;
    load.went_well().await;
}

#[tokio::test]
async fn redis_stands_still_and_goes_on_under_load() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (proxy, load) = under_load(&origin, &redis).await;
    redis.pause();
    wait_for_state(&proxy, "unavailable").await;
    load.go_on(200).await;
    redis.resume();
    is_used_again(&proxy).await;
    load.go_on(200).await;
    load.went_well().await;
}

#[tokio::test]
async fn everything_in_redis_is_lost_under_load() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (proxy, load) = under_load(&origin, &redis).await;
    for forget in ["FLUSHALL", "SCRIPT FLUSH", "FLUSHDB"] {
        redis.say::<()>(forget);
        load.go_on(200).await;
    }
    is_used_again(&proxy).await;
    load.went_well().await;
}

#[tokio::test]
async fn redis_makes_everybody_wait_under_load() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (proxy, load) = under_load(&origin, &redis).await;
    redis.say::<()>("CLIENT PAUSE 700 ALL");
    load.go_on(200).await;
    is_used_again(&proxy).await;
    load.went_well().await;
}

#[tokio::test]
async fn redis_has_no_memory_left_under_load() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    let (proxy, load) = under_load(&origin, &redis).await;
    redis.say::<()>("CONFIG SET maxmemory-policy noeviction");
    redis.say::<()>("CONFIG SET maxmemory 1");
    // Everything has to be stored anew, and cannot be.
    redis.say::<()>("FLUSHALL");
    wait_for_writes(&proxy, "failed", 20.0).await;
    load.go_on(200).await;
    assert!(errors(&proxy, "full").await >= 20.0);
    assert_eq!(told(&proxy).await["state"], "ok", "it is left alone by nobody");
    redis.say::<()>("CONFIG SET maxmemory 0");
    is_used_again(&proxy).await;
    load.went_well().await;
    let complaints = proxy.log().matches("could not be stored").count();
    assert!(complaints < 60, "{complaints} lines for each failure of its own");
}

#[tokio::test]
async fn a_redis_that_lets_keys_go_is_counted() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|_| lasting(noise(100 << 10, 1)));
    let proxy = connected(redis.alone(&origin)).await;
    eventually("the first look", async || (told(&proxy).await["bytes"] != 0).then_some(())).await;
    redis.say::<()>("CONFIG SET maxmemory-policy allkeys-lru");
    redis.say::<()>("CONFIG SET maxmemory 4mb");
    for number in 0..100 {
        assert_eq!(proxy.get(&format!("/{number}")).await.status, 200);
    }
    let evictions = async || {
        let evictions = proxy.metrics().await.sum("tidegate_tier_evictions_total", "cause=\"size\",tier=\"redis\"");
        (evictions >= 10.0).then_some(())
    };
    eventually("evictions", evictions).await;
}

#[tokio::test]
async fn a_request_waits_no_longer_than_it_may_and_is_told_why_there_was_no_hit() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|seen| lasting(&seen.target));
    let proxy = connected(redis.alone(&origin).set("cache.redis.timeout", "50ms")).await;
    store(&proxy, "/a").await;
    redis.pause();
    let began = Instant::now();
    let response = proxy.get("/a").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((response.status, response.cache_status().detail()), (200, "redis-unavailable"));
    wait_for_state(&proxy, "unavailable").await;
    // Nobody asks any more.
    let began = Instant::now();
    for number in 0..50 {
        let response = proxy.get(&format!("/{number}")).await;
        assert_eq!(response.cache_status().detail(), "redis-unavailable");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(lookups(&proxy, "miss").await, 1.0, "what is not known is no miss");
    assert!(lookups(&proxy, "unavailable").await >= 51.0);
    redis.resume();
    is_used_again(&proxy).await;
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_daemon_starts_without_redis_says_so_and_uses_it_when_it_appears() {
    let (origin, redis) = (Origin::start().await, RedisServer::stopped(&[]));
    origin.otherwise(|seen| lasting(&seen.target));
    let proxy = redis.alone(&origin).start().await;
    let line = proxy.wait_for_log("cache.redis.url").await;
    assert!(line.contains(&redis.url()) && line.contains("it is tried again until it can"), "{line}");
    assert_eq!(told(&proxy).await["state"], "unavailable");
    assert_eq!(proxy.metrics().await.sum("tidegate_tier_up", "tier=\"redis\""), 0.0);
    assert_eq!(proxy.get("/a").await.cache_status().detail(), "redis-unavailable");
    redis.run().await;
    is_used_again(&proxy).await;
    assert_eq!(proxy.metrics().await.sum("tidegate_tier_up", "tier=\"redis\""), 1.0);
    assert_eq!(proxy.log().matches("it is tried again until it can").count(), 1);
}

#[tokio::test]
async fn what_was_forgotten_while_redis_was_away_is_not_found_when_it_is_back() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|seen| lasting(&seen.target));
    let proxy = connected(redis.alone(&origin).set("cache.redis.timeout", "50ms")).await;
    let other = connected(redis.alone(&origin)).await;
    store(&proxy, "/a").await;
    redis.pause();
    let began = Instant::now();
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    wait_for_state(&proxy, "unavailable").await;
    redis.resume();
    wait_for_state(&proxy, "ok").await;
    redis.wait_for_entries(0).await;
    wait_for_state(&other, "ok").await;
    assert!(!other.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_server_that_has_become_a_replica_is_left_for_the_next_address() {
    let (origin, first, second) = (Origin::start().await, RedisServer::start().await, RedisServer::start().await);
    origin.otherwise(|seen| lasting(&seen.target));
    let urls = format!("[\"{}\", \"{}\"]", first.url(), second.url());
    let proxy = connected(first.alone(&origin).set("cache.redis.url", &urls)).await;
    store(&proxy, "/a").await;
    first.say::<::redis::Value>(&format!("REPLICAOF 127.0.0.1 {}", second.port()));
    eventually("what comes to be stored at the other one", async || {
        assert_eq!(proxy.get(&format!("/{}", fastrand::u64(..))).await.status, 200);
        (!second.entries().is_empty()).then_some(())
    })
    .await;
    let path = format!("/{}", fastrand::u64(..));
    store(&proxy, &path).await;
    assert!(proxy.get(&path).await.is_hit());
}
