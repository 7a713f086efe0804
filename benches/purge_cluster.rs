//! How long `POST /v1/purge` takes that waits for all of three nodes: real daemons and a real `redis-server`, purged one after another,
//! with memory alone and with disks, to which each node writes a purge before it says that it has it.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the end-to-end tests; each uses a part of it")]
mod support;

use std::time::{Duration, Instant};
use support::{Origin, Proxy, RedisServer, Reply, eventually};

const PURGES: usize = 1000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for (what, disk) in [("memory", false), ("memory and disk", true)] {
            measure(what, disk).await;
        }
    });
}

async fn measure(what: &str, disk: bool) {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|_| Reply::fresh("x"));
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let mut builder = Proxy::builder(&origin).set("server.node", name).set("cache.redis.url", &redis.url());
        if disk {
            builder = builder.set("cache.disk.path", "@DIR@/disk").set("cache.disk.capacity", "64MiB");
            builder = builder.set("cache.disk.min_free", "0");
        }
        nodes.push(builder.start().await);
    }
    for node in &nodes {
        eventually("three nodes", async || {
            (node.stats().await["nodes"].as_array().map(Vec::len) == Some(3)).then_some(())
        })
        .await;
    }
    let mut times = Vec::with_capacity(PURGES);
    let mut late = 0;
    for n in 0..PURGES {
        let node = &nodes[n % nodes.len()];
        let began = Instant::now();
        let answer = node.purge(&format!("{{\"tags\": \"{n}\"}}")).await;
        times.push(began.elapsed());
        late += usize::from(answer.status != 200);
    }
    times.sort_unstable();
    let at = |part: f64| -> Duration { times[((PURGES - 1) as f64 * part) as usize] };
    let (half, most, all) = (at(0.5), at(0.99), at(1.0));
    println!("{what}: {PURGES} purges of three nodes, p50 {half:?}, p99 {most:?}, longest {all:?}, {late} not by all");
}
