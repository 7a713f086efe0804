//! A Redis Cluster, and a master with a replica that Sentinels watch.

use super::*;
use ::redis::cmd;

/// A node that keeps responses in this cluster alone.
async fn of_cluster(origin: &Origin, cluster: &RedisCluster) -> Proxy {
    let builder = Proxy::builder(origin).without("cache.memory").set("cache.memory.capacity", "0");
    let builder = builder.set("cache.redis.url", &cluster.urls()).set("cache.redis.cluster", "true");
    connected(builder.set("cache.redis.timeout", "250ms")).await
}

#[tokio::test]
async fn entries_are_spread_over_a_cluster_and_found_by_all_nodes() {
    let (origin, cluster) = (Origin::start().await, RedisCluster::start().await);
    let long = noise(3 << 20, 1);
    let body = long.clone();
    origin.otherwise(move |seen| if seen.target == "/long" { lasting(&body) } else { lasting(&seen.target) });
    let (first, second) = (of_cluster(&origin, &cluster).await, of_cluster(&origin, &cluster).await);
    for number in 0..60 {
        assert_eq!(first.get(&format!("/{number}")).await.status, 200);
    }
    assert_eq!(first.get("/long").await.status, 200);
    wait_for_writes(&first, "stored", 61.0).await;
    let spread: Vec<usize> = cluster.masters.iter().map(|master| master.entries().len()).collect();
    assert!(spread.iter().all(|entries| *entries > 5) && spread.iter().sum::<usize>() == 61, "{spread:?}");
    for number in 0..60 {
        let path = format!("/{number}");
        let response = second.get(&path).await;
        assert!(response.is_hit() && response.text() == path, "{path}");
    }
    let response = second.get("/long").await;
    assert!(response.is_hit() && response.body == long);
    assert_eq!(second.call("PUT", "/7").body("x").await.status, 200);
    assert!(!first.get("/7").await.is_hit());
}

#[tokio::test]
async fn while_one_master_is_gone_the_others_serve_their_keys() {
    others_serve(RedisServer::kill, async |master| master.run().await).await;
}

#[tokio::test]
async fn while_one_master_stands_still_the_others_serve_their_keys() {
    others_serve(RedisServer::pause, async |master| master.resume()).await;
}

/// Stops one of three masters in one way or another, and starts it again. It is none that has the log of purges: without that, nobody
/// can say what of the others' keys was purged.
async fn others_serve(stop: impl Fn(&RedisServer), start: impl AsyncFn(&RedisServer)) {
    let (origin, cluster) = (Origin::start().await, RedisCluster::start().await);
    origin.otherwise(|seen| lasting(&seen.target));
    let (first, second) = (of_cluster(&origin, &cluster).await, of_cluster(&origin, &cluster).await);
    for number in 0..60 {
        assert_eq!(first.get(&format!("/{number}")).await.status, 200);
    }
    wait_for_writes(&first, "stored", 60.0).await;
    let expected = 60 - cluster.masters[0].entries().len();
    stop(&cluster.masters[0]);
    // What is there stays there: nothing is stored anew meanwhile.
    let hits = async || {
        let mut hits = 0;
        for number in 0..60 {
            let path = format!("/{number}");
            let response = second.get(&path).await;
            assert_eq!((response.status, response.text()), (200, path));
            hits += usize::from(response.is_hit());
        }
        hits
    };
    eventually("the keys of the other masters", async || (hits().await == expected).then_some(())).await;
    start(&cluster.masters[0]).await;
    eventually("all to be stored again", async || (hits().await == 60).then_some(())).await;
}

#[tokio::test]
async fn after_a_failover_nodes_share_through_the_new_master() {
    let origin = Origin::start().await;
    let master = RedisServer::start().await;
    let of_master = ["--replicaof", "127.0.0.1", &master.port().to_string()];
    let replica = RedisServer::with(&of_master).await;
    let sentinel = RedisServer::sentinel(&master).await;
    eventually("the replica to be known", async || {
        let replicas: Vec<::redis::Value> = sentinel.say("SENTINEL REPLICAS mymaster");
        let info: String = replica.say("INFO replication");
        (replicas.len() == 1 && info.contains("master_link_status:up")).then_some(())
    })
    .await;
    origin.otherwise(|seen| lasting(&seen.target));
    let node = || {
        let builder = Proxy::builder(&origin).without("cache.memory").set("cache.memory.capacity", "0");
        let builder = builder.set("cache.redis.url", &sentinel.url());
        builder.set("cache.redis.sentinel.master", "mymaster").set("cache.redis.timeout", "250ms")
    };
    let (first, second) = (connected(node()).await, connected(node()).await);
    store(&first, "/a").await;
    assert!(second.get("/a").await.is_hit());
    eventually("the replica to have it", async || (replica.entries().len() == 1).then_some(())).await;
    master.kill();
    assert_eq!(first.get("/b").await.status, 200);
    eventually("a new master", async || {
        let role: ::redis::Value = replica.ask(&cmd("ROLE"));
        format!("{role:?}").contains("master").then_some(())
    })
    .await;
    for proxy in [&first, &second] {
        wait_for_state(proxy, "ok").await;
    }
    // What the replica had is there still, and what comes now is shared.
    eventually("an old hit", async || second.get("/a").await.is_hit().then_some(())).await;
    let before = writes(&first, "stored").await;
    assert_eq!(first.get("/c").await.status, 200);
    wait_for_writes(&first, "stored", before + 1.0).await;
    assert!(second.get("/c").await.is_hit());
    assert_eq!(origin.count("/c"), 1);
}
