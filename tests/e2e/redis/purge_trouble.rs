//! Purges while Redis is gone, slow, or has lost what it knew.

use super::purge::{node, nodes, purge, store, tagged, wait_for_nodes};
use crate::support::*;
use serde_json::json;

#[tokio::test]
async fn without_redis_a_purge_is_in_force_here_and_reaches_the_others_when_it_is_back() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    for node in [&a, &b] {
        store(node, "/a").await;
        store(node, "/b").await;
    }
    redis.kill();
    let answer = a.purge(r#"{"tags": "a"}"#).await;
    let told = answer.json();
    assert_eq!((answer.status, &told["applied"], &told["missing"]), (202, &json!(["a"]), &json!(["b"])), "{told}");
    assert_eq!(told["pending"], json!(true));
    assert_eq!(a.metrics().await.sum("tidegate_purges_untold", ""), 1.0);
    assert!(!a.get("/a").await.is_hit() && a.get("/b").await.is_hit());
    assert!(b.get("/a").await.is_hit(), "nobody could tell it");
    redis.run().await;
    eventually("the other node to be told", async || (!b.get("/a").await.is_hit()).then_some(())).await;
    assert!(b.get("/a").await.is_hit() && b.get("/b").await.is_hit());
    // It was in force here, and what came since is good.
    assert!(a.get("/a").await.is_hit());
    assert_eq!(a.metrics().await.sum("tidegate_purges_untold", ""), 0.0);
}

#[tokio::test]
async fn what_could_not_be_told_before_a_crash_is_told_after_it() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let with_disk = node(&origin, &redis, "a").set("cache.disk.path", "@DIR@/disk").set("cache.disk.min_free", "0");
    let mut a = with_disk.set("cache.disk.capacity", "64MiB").start().await;
    let b = node(&origin, &redis, "b").start().await;
    wait_for_nodes(&a, 2).await;
    store(&b, "/a").await;
    redis.kill();
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await.0, 202);
    a.kill();
    a.start_again().await;
    assert!(b.get("/a").await.is_hit());
    redis.run().await;
    eventually("the other node to be told", async || (!b.get("/a").await.is_hit()).then_some(())).await;
}

#[tokio::test]
async fn a_redis_that_hangs_does_not_hold_up_a_purge_and_carries_it_out_once() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let impatient = |name| node(&origin, &redis, name).set("cache.redis.timeout", "100ms");
    let (a, b) = (impatient("a").start().await, impatient("b").start().await);
    wait_for_nodes(&a, 2).await;
    store(&b, "/a").await;
    redis.pause();
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await, (202, json!(["a"]), json!(["b"])));
    redis.resume();
    eventually("the other node to be told", async || (!b.get("/a").await.is_hit()).then_some(())).await;
    eventually("nothing to be left", async || {
        (a.metrics().await.sum("tidegate_purges_untold", "") == 0.0).then_some(())
    })
    .await;
    assert_eq!(redis.say::<usize>("XLEN tidegate:{log}purges"), 1);
}

#[tokio::test]
async fn a_redis_that_takes_nothing_purges_nothing_less_here() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let shared = |name| node(&origin, &redis, name).set("cache.redis.max_object", "1MiB");
    let shared = |name| shared(name).without("cache.memory").set("cache.memory.capacity", "0");
    let a = shared("a").start().await;
    wait_for_nodes(&a, 1).await;
    assert_eq!(a.get("/a").await.status, 200);
    redis.wait_for_entries(1).await;
    assert!(a.get("/a").await.is_hit());
    redis.say::<String>("CONFIG SET maxmemory 1");
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await.0, 202);
    assert!(!a.get("/a").await.is_hit(), "what is in Redis is purged as well");
    redis.say::<String>("CONFIG SET maxmemory 0");
    eventually("the purge to be told", async || (redis.say::<usize>("XLEN tidegate:{log}purges") == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn a_log_that_is_lost_begins_anew_with_what_was_purged_lately() {
    for lost in [
        "restart",
        "FLUSHALL",
        "DEL tidegate:{log}purges",
        "DEL tidegate:{log}head",
        "XTRIM tidegate:{log}purges MAXLEN 0",
        "SET tidegate:{log}purges foreign",
        "SET tidegate:{log}head foreign",
        "HSET tidegate:{log}head last foreign",
        "HSET tidegate:{log}head epoch foreign",
    ] {
        let (origin, redis) = (tagged().await, RedisServer::start().await);
        let [a, b] = nodes::<2>(&origin, &redis).await;
        assert_eq!(purge(&a, r#"{"tags": "a"}"#).await.0, 200);
        let epoch: String = redis.say("HGET tidegate:{log}head epoch");
        if lost == "restart" {
            redis.kill();
            redis.run().await;
        } else {
            redis.say::<::redis::Value>(lost);
        }
        // It goes on as before: nobody is left out of an answer.
        eventually("a purge to be in force everywhere", async || {
            assert_eq!(b.get("/b").await.status, 200);
            let (status, applied, missing) = purge(&a, r#"{"tags": "b"}"#).await;
            assert!(
                status != 200 || (&applied, &missing) == (&json!(["a", "b"]), &json!([])),
                "{applied} after {lost}"
            );
            (status == 200).then_some(())
        })
        .await;
        assert!(!b.get("/b").await.is_hit(), "after {lost}");
        let now: String = redis.say("HGET tidegate:{log}head epoch");
        assert!(now != epoch && now.parse::<u64>().is_ok(), "{now} after {lost}");
        eventually("what was purged lately to be there", async || {
            (redis.say::<usize>("XLEN tidegate:{log}purges") >= 2).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn who_lives_is_waited_for_whatever_becomes_of_the_list_of_nodes_and_of_the_clock_of_redis() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    let shift = |by: i64| {
        let script = "for i, said in ipairs(redis.call('HVALS', KEYS[1])) do \
            local at, rest = string.match(said, '^(%d+)( .*)$') \
            redis.call('HSET', KEYS[1], redis.call('HKEYS', KEYS[1])[i], string.format('%.0f', at + ARGV[1]) .. rest) end";
        redis.ask::<()>(::redis::cmd("EVAL").arg(script).arg(1).arg("tidegate:{log}nodes").arg(by));
    };
    for what in ["lost", "foreign", "as after an outage, or a step of the clock", "as after a step of the clock back"] {
        store(&b, "/a").await;
        match what {
            "lost" => redis.say::<()>("DEL tidegate:{log}nodes"),
            "foreign" => redis.say::<()>("SET tidegate:{log}nodes foreign"),
            "as after an outage, or a step of the clock" => shift(-6000),
            _ => shift(3_600_000),
        }
        assert_eq!(purge(&a, r#"{"tags": "a"}"#).await, (200, json!(["a", "b"]), json!([])), "{what}");
        assert!(!b.get("/a").await.is_hit(), "{what}");
    }
    let mut b = b;
    b.kill();
    shift(3_600_000);
    wait_for_nodes(&a, 1).await;
}

#[tokio::test]
async fn a_node_that_starts_with_a_redis_that_knows_nobody_waits_for_the_others_too() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a] = nodes::<1>(&origin, &redis).await;
    store(&a, "/a").await;
    redis.say::<()>("FLUSHALL");
    let b = node(&origin, &redis, "b").start().await;
    assert_eq!(purge(&b, r#"{"tags": "a"}"#).await, (200, json!(["b", "a"]), json!([])));
    assert!(!a.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_log_that_is_lost_purges_nothing_twice() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let nodes = nodes::<3>(&origin, &redis).await;
    assert_eq!(purge(&nodes[0], r#"{"tags": "page"}"#).await.0, 200);
    for node in &nodes {
        store(node, "/a").await;
    }
    redis.say::<()>("FLUSHALL");
    eventually("what was purged lately to be there", async || {
        (redis.say::<usize>("XLEN tidegate:{log}purges") > 0).then_some(())
    })
    .await;
    assert_eq!(purge(&nodes[1], r#"{"tags": "other"}"#).await, (200, json!(["b", "a", "c"]), json!([])));
    for node in &nodes {
        assert!(node.get("/a").await.is_hit(), "it was stored after all that was purged");
    }
    assert_eq!(redis.say::<usize>("XLEN tidegate:{log}purges"), 2, "each once, by one node");
}

#[tokio::test]
async fn what_a_node_that_ended_has_purged_is_told_to_another_log_by_the_others() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [mut a, b] = nodes::<2>(&origin, &redis).await;
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await.0, 200);
    a.kill();
    redis.say::<()>("FLUSHALL");
    eventually("it to be there", async || (redis.say::<usize>("XLEN tidegate:{log}purges") == 1).then_some(())).await;
    drop(b);
}

#[tokio::test]
async fn a_log_whose_end_was_lost_and_replaced_is_another_one() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, _b] = nodes::<2>(&origin, &redis).await;
    for tag in ["a", "b"] {
        assert_eq!(purge(&a, &format!("{{\"tags\": \"{tag}\"}}")).await.0, 200);
    }
    let epoch: String = redis.say("HGET tidegate:{log}head epoch");
    // As a replica that takes over without the last record, and that somebody has told another one.
    let script = "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] \
        redis.call('XDEL', KEYS[1], last[1]) \
        local id = string.format('%.0f-0', string.match(last[1], '^%d+') + 1) \
        redis.call('XADD', KEYS[1], id, unpack(last[2])) \
        return redis.call('HSET', KEYS[2], 'last', id)";
    let keys = ["tidegate:{log}purges", "tidegate:{log}head"];
    redis.ask::<i64>(::redis::cmd("EVAL").arg(script).arg(2).arg(&keys));
    eventually("another log, with what was lost", async || {
        let now: Option<String> = redis.say("HGET tidegate:{log}head epoch");
        (now? != epoch && redis.say::<usize>("XLEN tidegate:{log}purges") == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_log_that_was_cut_before_it_was_read_purges_everything() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    for node in [&a, &b] {
        store(node, "/a").await;
    }
    let script = "local fields = { 't', '', 'r', string.rep('x', 16), 's', '0', 'n', 'other' } \
        redis.call('DEL', KEYS[1]) \
        redis.call('XADD', KEYS[1], '9-0', unpack(fields)) \
        return redis.call('HSET', KEYS[2], 'epoch', '77', 'last', '9-0', 'dropped', '5-0', 'count', 1, 'weight', 1)";
    let keys = ["tidegate:{log}purges", "tidegate:{log}head"];
    redis.ask::<i64>(::redis::cmd("EVAL").arg(script).arg(2).arg(&keys));
    for node in [&a, &b] {
        eventually("everything to be purged", async || (!node.get("/a").await.is_hit()).then_some(())).await;
        node.wait_for_log("was away for longer").await;
    }
}

#[tokio::test]
async fn a_disk_whose_log_was_lost_meanwhile_serves_nothing() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let with_disk = node(&origin, &redis, "b").set("cache.disk.path", "@DIR@/disk").set("cache.disk.min_free", "0");
    let mut b = with_disk.set("cache.disk.capacity", "64MiB").start().await;
    wait_for_nodes(&b, 1).await;
    assert_eq!(b.get("/a").await.status, 200);
    b.wait_for_metric("tidegate_tier_writes_total", "result=\"stored\",tier=\"disk\"", 1.0).await;
    b.kill();
    redis.say::<String>("FLUSHALL");
    b.start_again().await;
    assert!(!b.get("/a").await.is_hit(), "nobody knows what was purged");
    assert!(b.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_node_that_starts_without_redis_serves_its_disk_and_catches_up_when_there_is_one() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let builder = node(&origin, &redis, "b").set("cache.disk.path", "@DIR@/disk").set("cache.disk.min_free", "0");
    let mut b = builder.set("cache.disk.capacity", "64MiB").start().await;
    let a = node(&origin, &redis, "a").start().await;
    wait_for_nodes(&a, 2).await;
    for path in ["/a", "/b"] {
        assert_eq!(b.get(path).await.status, 200);
    }
    b.wait_for_metric("tidegate_tier_writes_total", "result=\"stored\",tier=\"disk\"", 2.0).await;
    b.kill();
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await.0, 202);
    // It can be connected to, and says nothing.
    redis.pause();
    b.start_again().await;
    assert!(b.get("/a").await.is_hit() && b.get("/b").await.is_hit(), "nobody can tell it yet");
    redis.resume();
    eventually("it to catch up", async || (!b.get("/a").await.is_hit()).then_some(())).await;
    assert!(b.get("/a").await.is_hit() && b.get("/b").await.is_hit());
}

#[tokio::test]
async fn a_log_that_knows_less_than_a_node_is_another_one() {
    let (origin, redis) = (tagged().await, RedisServer::start().await);
    let [a, b] = nodes::<2>(&origin, &redis).await;
    assert_eq!(purge(&a, r#"{"tags": "a"}"#).await.0, 200);
    let epoch: String = redis.say("HGET tidegate:{log}head epoch");
    // As a replica that takes over without the last record.
    redis.say::<::redis::Value>("EVAL redis.call('XTRIM',KEYS[1],'MAXLEN',0);redis.call('HSET',KEYS[2],'last','0-0','count',0,'weight',0) 2 tidegate:{log}purges tidegate:{log}head");
    eventually("another log, with what was lost", async || {
        let now: Option<String> = redis.say("HGET tidegate:{log}head epoch");
        (now? != epoch && redis.say::<usize>("XLEN tidegate:{log}purges") == 1).then_some(())
    })
    .await;
    store(&b, "/b").await;
    eventually("a purge to be in force everywhere", async || {
        (purge(&a, r#"{"tags": "b"}"#).await.0 == 200).then_some(())
    })
    .await;
    assert!(!b.get("/b").await.is_hit());
}
