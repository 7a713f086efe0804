//! Memory and disk together: where a response goes, and when it moves.

use super::*;
use crate::support::{Ending, Gate};

const KIB: usize = 1024;

/// Keeps everything in these tiers alone.
fn only(tiers: &str) -> String {
    format!("return {{ response = function() return {{ ttl = 3600, tiers = {{ {tiers} }} }} end }}")
}

async fn items(proxy: &Proxy, tier: &str) -> f64 {
    proxy.metrics().await.sum("tidegate_tier_items", &format!("tier=\"{tier}\""))
}

#[tokio::test]
async fn what_a_policy_keeps_on_disk_alone_is_served_from_there() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", Reply::ok("a"));
    let proxy = disk.below_memory(&origin).policy("main.lua", &only("'disk'")).start().await;
    store(&proxy, "/a").await;
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!((hits(&proxy).await, items(&proxy, "memory").await, items(&proxy, "disk").await), (1, 0.0, 1.0));
}

#[tokio::test]
async fn what_a_policy_keeps_in_memory_alone_never_reaches_the_disk() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", Reply::ok("a"));
    let proxy = disk.below_memory(&origin).policy("main.lua", &only("'memory'")).start().await;
    assert_eq!(proxy.get("/a").await.status, 200);
    assert!(proxy.get("/a").await.is_hit());
    stop(proxy).await;
    assert!(disk.files().is_empty());
}

#[tokio::test]
async fn after_so_many_hits_an_entry_is_copied_to_memory() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting("a"));
    let proxy = disk.below_memory(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let proxy = disk.below_memory(&origin).set("cache.disk.promote_after", "3").start().await;
    // Hits are counted for what is known.
    wait_for_state(&proxy, "ok").await;
    for _ in 0..2 {
        assert!(proxy.get("/a").await.is_hit());
    }
    assert_eq!((hits(&proxy).await, items(&proxy, "memory").await), (2, 0.0));
    assert!(proxy.get("/a").await.is_hit());
    proxy.wait_for_metric("tidegate_tier_promotions_total", "tier=\"memory\"", 1.0).await;
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!((hits(&proxy).await, items(&proxy, "memory").await), (3, 1.0));
}

#[tokio::test]
async fn with_promote_after_0_nothing_is_copied_to_memory() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting("a"));
    let proxy = disk.below_memory(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let proxy = disk.below_memory(&origin).start().await;
    for _ in 0..20 {
        assert!(proxy.get("/a").await.is_hit());
    }
    assert_eq!((hits(&proxy).await, items(&proxy, "memory").await), (20, 0.0));
}

#[tokio::test]
async fn a_change_forgets_the_copy_in_memory_and_the_file() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting("a"));
    let proxy = disk.below_memory(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let proxy = disk.below_memory(&origin).set("cache.disk.promote_after", "1").start().await;
    // Hits are counted for what is known.
    wait_for_state(&proxy, "ok").await;
    assert!(proxy.get("/a").await.is_hit());
    proxy.wait_for_metric("tidegate_tier_promotions_total", "tier=\"memory\"", 1.0).await;
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 200);
    assert!(!proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn write_behind_writes_what_memory_lets_go() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.otherwise(|_| lasting(noise(60 * KIB, 1)));
    let proxy = disk.below_memory(&origin).set("cache.disk.write", "behind").start().await;
    assert_eq!(proxy.get("/0").await.status, 200);
    assert!(proxy.get("/0").await.is_hit());
    assert!(disk.files().is_empty());
    // Memory has room for 17 of them.
    for number in 1..60 {
        assert_eq!(proxy.get(&format!("/{number}")).await.status, 200);
    }
    wait_for_writes(&proxy, "stored", 30.0).await;
    let mut found = 0;
    for number in 0..60 {
        found += u32::from(proxy.get(&format!("/{number}")).await.is_hit());
    }
    assert_eq!(found, 60);
    assert!(hits(&proxy).await >= 30);
}

#[tokio::test]
async fn write_behind_loses_what_was_in_memory_alone_with_a_crash() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting("a"));
    let proxy = disk.below_memory(&origin).set("cache.disk.write", "behind").start().await;
    assert_eq!(proxy.get("/a").await.status, 200);
    crash(proxy);
    assert!(disk.files().is_empty());
}

#[tokio::test]
async fn what_is_too_large_for_memory_is_kept_on_disk() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(200 * KIB, 1));
    origin.on("/length", lasting(&body));
    origin.on("/chunked", lasting(&body).chunked());
    let proxy = disk.below_memory(&origin).start().await;
    for path in ["/length", "/chunked"] {
        store(&proxy, path).await;
        let response = proxy.get(path).await;
        assert!(response.is_hit() && response.body == body, "{path}");
    }
    assert_eq!((items(&proxy, "memory").await, items(&proxy, "disk").await), (0.0, 2.0));
}

#[tokio::test]
async fn what_is_too_large_for_both_is_passed_on_whole() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(2 << 20, 1));
    origin.on("/length", lasting(&body));
    origin.on("/chunked", lasting(&body).chunked());
    let proxy = disk.below_memory(&origin).set("cache.disk.max_object", "1MiB").start().await;
    for path in ["/length", "/chunked"] {
        for _ in 0..2 {
            let response = proxy.get(path).await;
            assert!(!response.is_hit() && response.body == body && response.ending == Ending::Clean, "{path}");
        }
    }
    stop(proxy).await;
    assert!(disk.files().is_empty());
}

#[tokio::test]
async fn who_comes_while_a_large_response_is_written_gets_all_of_it() {
    let (origin, disk, gate) = (Origin::start().await, Disk::new(), Gate::closed());
    let body = noise(8 << 20, 1);
    let (first, second) = body.split_at(6 << 20);
    origin.on("/a", lasting(first).hold(&gate).piece(second).chunked());
    let proxy = disk.below_memory(&origin).start().await;
    let leader = proxy.get("/a").spawn();
    // Most of what has come is in the file, and not in memory any more.
    let written = || {
        let files = std::fs::read_dir(disk.path().join("tmp")).unwrap();
        files.map(|file| file.unwrap().metadata().map_or(0, |found| found.len())).max().unwrap_or(0)
    };
    eventually("5 MiB in a file", async || (written() > 5 << 20).then_some(())).await;
    let late: Vec<_> = (0..4).map(|_| proxy.get("/a").spawn()).collect();
    proxy.wait_for_waiters(4).await;
    gate.open();
    for client in late.into_iter().chain([leader]) {
        let response = client.await.unwrap();
        assert!(response.ending == Ending::Clean && response.body == body, "{} bytes", response.body.len());
    }
    assert_eq!(origin.count("/a"), 1);
    let response = proxy.get("/a").await;
    assert!(response.is_hit() && response.body == body);
}

#[tokio::test]
async fn who_has_read_a_large_response_to_its_end_finds_it_stored() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let body = noise(3 << 20, 1);
    let sent = body.clone();
    origin.otherwise(move |_| lasting(&sent).chunked());
    let proxy = disk.below_memory(&origin).start().await;
    for number in 0..5 {
        let path = format!("/{number}");
        assert!(proxy.get(&path).await.body == body);
        let again = proxy.get(&path).await;
        assert!(again.is_hit() && again.body == body, "{path}");
    }
}

#[tokio::test]
async fn a_large_response_that_breaks_off_leaves_nothing() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting(noise(2 << 20, 1)).chunked().cut());
    let proxy = disk.below_memory(&origin).start().await;
    assert_eq!(proxy.get("/a").await.ending, Ending::Cut);
    let tmp = || std::fs::read_dir(disk.path().join("tmp")).unwrap().count();
    eventually("tmp to be empty", async || (tmp() == 0).then_some(())).await;
    assert!(disk.files().is_empty() && !proxy.get("/a").await.is_hit());
}
