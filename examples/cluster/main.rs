//! How several nodes that share a Redis behave together: `cluster [CLIENTS]`, a thousand unless told otherwise.
//!
//! Starts a `redis-server` and three nodes of the daemon that was built with this program, and prints
//!
//! * how often the origin is asked when all clients want the same cold key at once, spread over the nodes;
//! * how long a purge takes until every node has applied it;
//! * how long others wait for a node that was killed while it fetched what they want;
//! * how many requests fail while Redis is killed and started again.
//!
//! `TIDEGATE_BIN` names another daemon. Everything listens on 127.0.0.1, and is gone at the end.

mod client;
mod origin;
mod servers;

use anyhow::{Context, Result, bail, ensure};
use client::Client;
use origin::Origin;
use servers::{Node, Places, Redis};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;

/// Clients unless told otherwise.
const CLIENTS: usize = 1000;

const NODES: usize = 3;

/// Cold keys, one after another.
const KEYS: usize = 20;

const PURGES: usize = 500;

/// Nodes that are killed, one after another.
const KILLS: usize = 10;

/// While Redis comes and goes.
const LOAD: Duration = Duration::from_secs(12);
const LOADERS: usize = 32;
const REDIS_IS_AWAY: Duration = Duration::from_secs(2);

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let clients = match std::env::args().nth(1) {
        Some(text) => text.parse().with_context(|| format!("`{text}` is no number of clients"))?,
        None => CLIENTS,
    };
    ensure!(clients > 0, "without clients there is nothing to measure");
    let home = tempfile::Builder::new().prefix("tidegate-cluster-").tempdir()?;
    let places = Places::new(home.path())?;
    let origin = Origin::start().await?;
    let mut redis = Redis::start(&places)?;
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(Node::start(&places, &format!("node-{number}"), &redis, &origin)?);
    }
    for node in &nodes {
        node.until_ready().await?;
        node.until_it_knows(NODES).await?;
    }

    println!("| what | figure |");
    println!("|---|---|");
    crowd(&nodes, &origin, clients).await?;
    purges(&nodes).await?;
    takeover(&places, &nodes, &redis, &origin).await?;
    restart_redis(&nodes, &mut redis, &origin).await?;
    Ok(())
}

/// All clients want one cold key at once; then another one.
async fn crowd(nodes: &[Node], origin: &Origin, clients: usize) -> Result<()> {
    let before = origin.requests();
    let mut times = Vec::with_capacity(clients * KEYS);
    let mut most = 0;
    let mut connected = Vec::with_capacity(clients);
    for number in 0..clients {
        let Some(node) = nodes.get(number % nodes.len()) else { bail!("there are no nodes") };
        connected.push(Client::connect(node.listen()).await?);
    }
    for key in 0..KEYS {
        let path: Arc<str> = format!("/crowd/{key}").into();
        let start = Arc::new(Barrier::new(clients));
        let asking: Vec<_> = connected
            .drain(..)
            .map(|mut client| {
                let (path, start) = (path.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    let began = Instant::now();
                    let answer = client.get(&path).await?;
                    ensure!(answer.status == 200, "{path}: {}", answer.status);
                    ensure!(answer.body == origin::body_of(&path), "{path}: a wrong body");
                    anyhow::Ok((client, began.elapsed()))
                })
            })
            .collect();
        for asked in asking {
            let (client, took) = asked.await??;
            times.push(took);
            connected.push(client);
        }
        most = most.max(origin.requests_for(&path));
    }
    let requests = origin.requests() - before;
    println!("| {clients} clients at once over {NODES} nodes, {KEYS} cold keys: requests to the origin | {requests} |");
    println!("| the same: most for one key | {most} |");
    report("the same: time of an answer (the origin takes 100 ms)", &mut times);
    Ok(())
}

/// Purges of one tag each, one after another, with the answer of every node waited for.
async fn purges(nodes: &[Node]) -> Result<()> {
    let Some(node) = nodes.first() else { bail!("there are no nodes") };
    let mut admin = Client::connect(node.admin()).await?;
    let mut times = Vec::with_capacity(PURGES);
    for number in 0..PURGES {
        let body = format!("{{\"tags\": \"t{number}\", \"wait\": \"cluster\"}}");
        let began = Instant::now();
        let answer = admin.post("/v1/purge", &body).await?;
        times.push(began.elapsed());
        ensure!(answer.status == 200, "a purge was answered {}: {}", answer.status, answer.text());
    }
    report(&format!("{PURGES} purges that wait for {NODES} nodes"), &mut times);
    Ok(())
}

/// A node is killed while it fetches what clients of the others want.
async fn takeover(places: &Places, nodes: &[Node], redis: &Redis, origin: &Origin) -> Result<()> {
    let mut until_asked = Vec::with_capacity(KILLS);
    for number in 0..KILLS {
        let path = format!("/held/{number}");
        let victim = Node::start(places, &format!("victim-{number}"), redis, origin)?;
        victim.until_ready().await?;
        let mut first = Client::connect(victim.listen()).await?;
        let lost = {
            let path = path.clone();
            tokio::spawn(async move { first.get(&path).await.map(|_| ()) })
        };
        origin.until_asked(&path, 1).await?;
        let mut waiting = Vec::new();
        for node in nodes {
            let mut client = Client::connect(node.listen()).await?;
            let path = path.clone();
            waiting.push(tokio::spawn(async move { client.get(&path).await }));
        }
        for node in nodes {
            node.until_somebody_waits().await?;
        }
        let killed = Instant::now();
        victim.kill()?;
        origin.until_asked(&path, 2).await?;
        until_asked.push(killed.elapsed());
        origin.let_go(&path);
        for answer in waiting {
            let answer = answer.await??;
            ensure!(answer.status == 200 && answer.body == origin::body_of(&path), "{path}: {}", answer.status);
        }
        let _ = lost.await?;
        ensure!(origin.requests_for(&path) == 2, "{path} was fetched {} times", origin.requests_for(&path));
    }
    report(&format!("{KILLS} nodes killed while they fetch: until another one does"), &mut until_asked);
    Ok(())
}

/// Hits and misses of many clients, while Redis is killed and comes back empty.
async fn restart_redis(nodes: &[Node], redis: &mut Redis, origin: &Origin) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let failed = Arc::new(AtomicU64::new(0));
    let before = origin.requests();
    let mut loading = Vec::new();
    for number in 0..LOADERS {
        let Some(node) = nodes.get(number % nodes.len()) else { bail!("there are no nodes") };
        let (address, stop, failed) = (node.listen().to_owned(), stop.clone(), failed.clone());
        loading.push(tokio::spawn(async move {
            let mut client = Client::connect(&address).await?;
            let mut random = fastrand::Rng::with_seed(number as u64);
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // Skewed: some are asked for often, many once.
                let path = format!("/load/{}", (random.f64().powi(4) * 50_000.0) as u64);
                let began = Instant::now();
                let good = matches!(
                    client.get(&path).await,
                    Ok(answer) if answer.status == 200 && answer.body == origin::body_of(&path)
                );
                times.push(began.elapsed());
                if !good {
                    failed.fetch_add(1, Ordering::Relaxed);
                    client = Client::connect(&address).await?;
                }
            }
            anyhow::Ok(times)
        }));
    }
    tokio::time::sleep(LOAD / 3).await;
    redis.kill()?;
    tokio::time::sleep(REDIS_IS_AWAY).await;
    redis.start_again()?;
    tokio::time::sleep(LOAD - LOAD / 3 - REDIS_IS_AWAY).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for one in loading {
        times.extend(one.await??);
    }
    let (requests, failed) = (times.len(), failed.load(Ordering::Relaxed));
    println!(
        "| Redis killed, and empty again {} s later: requests, {} of them to the origin | {requests} |",
        REDIS_IS_AWAY.as_secs(),
        origin.requests() - before
    );
    println!("| the same: requests that failed | {failed} |");
    report("the same: time of an answer", &mut times);
    Ok(())
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len().saturating_sub(1)) * percent / 100).copied().unwrap_or_default();
    let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    println!("| {what}: p50, p99, most | {}, {}, {} |", shown(at(50)), shown(at(99)), shown(at(100)));
}
