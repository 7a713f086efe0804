//! What nodes share through Redis, with the real binary and a real server.

mod answers;
mod lease;
mod lease_ends;
mod lease_stale;
mod purge;
mod purge_away;
mod purge_limits;
mod purge_shared;
mod purge_trouble;
mod scripts;
mod secure;
mod tier;
mod topologies;
mod trouble;
mod values;

use crate::support::proxy::Builder;
use crate::support::{Origin, Proxy, RedisCluster, RedisServer, Reply, eventually};
use serde_json::Value;

/// What `/v1/stats` says of the Redis tier.
async fn told(proxy: &Proxy) -> Value {
    proxy.stats().await["tiers"]["redis"].clone()
}

/// Waits until the Redis tier says that it is so.
async fn wait_for_state(proxy: &Proxy, state: &str) {
    let what = format!("the Redis tier to be {state}");
    eventually(&what, async || (told(proxy).await["state"] == state).then_some(())).await;
}

/// Starts a daemon and waits until it is connected to Redis.
async fn connected(builder: Builder) -> Proxy {
    let proxy = builder.start().await;
    wait_for_state(&proxy, "ok").await;
    proxy
}

/// The entries that were to be written and came to this end, so far.
async fn writes(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum("tidegate_tier_writes_total", &format!("result=\"{result}\",tier=\"redis\""))
}

/// Waits until so many writes came to this end.
async fn wait_for_writes(proxy: &Proxy, result: &str, count: f64) {
    let what = format!("{count} writes that are {result}");
    eventually(&what, async || (writes(proxy, result).await >= count).then_some(())).await;
}

/// Lookups of the Redis tier with this result, so far.
async fn lookups(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum("tidegate_tier_lookups_total", &format!("result=\"{result}\",tier=\"redis\""))
}

/// Failures of the Redis tier of this kind, so far.
async fn errors(proxy: &Proxy, kind: &str) -> f64 {
    proxy.metrics().await.sum("tidegate_tier_errors_total", &format!("kind=\"{kind}\",tier=\"redis\""))
}

/// Asks for a path, and waits until what came is in Redis.
async fn store(proxy: &Proxy, path: &str) {
    let before = writes(proxy, "stored").await;
    assert_eq!(proxy.get(path).await.status, 200);
    wait_for_writes(proxy, "stored", before + 1.0).await;
}

/// Bytes of which no two pieces are alike.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// A response that is fresh for an hour.
fn lasting(body: impl AsRef<[u8]>) -> Reply {
    Reply::ok(body).header("cache-control", "max-age=3600")
}
