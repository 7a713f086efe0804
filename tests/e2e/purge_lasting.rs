//! Purges and what outlives the process: nothing that was purged comes back with a restart, however the process ended.

use crate::support::*;
use std::fs;

fn on_disk(origin: &Origin) -> proxy::Builder {
    Proxy::builder(origin)
        .without("cache.memory")
        .set("cache.memory", "{ capacity: 1MiB, max_object: 64KiB }")
        .set("cache.disk.path", "@DIR@/disk")
        .set("cache.disk.capacity", "64MiB")
        .set("cache.disk.min_free", "0")
}

fn lasting(body: &str) -> Reply {
    Reply::ok(body).header("cache-control", "max-age=3600").header("surrogate-key", "page")
}

/// Stores `path`, and waits until it is on disk.
async fn store(proxy: &Proxy, path: &str) {
    let written = proxy.metrics().await.sum("tidegate_tier_writes_total", "result=\"stored\"");
    assert_eq!(proxy.get(path).await.status, 200);
    proxy.wait_for_metric("tidegate_tier_writes_total", "result=\"stored\"", written + 1.0).await;
}

#[tokio::test]
async fn a_purge_is_not_undone_by_a_crash_right_after_its_answer() {
    for body in [
        r#"{"urls": "test.example/a"}"#,
        r#"{"tags": "page"}"#,
        r#"{"prefix": "test.example/"}"#,
        r#"{"bucket": "main"}"#,
        r#"{"all": true}"#,
    ] {
        let origin = Origin::start().await;
        origin.on_each("/a", [lasting("old"), lasting("new")]);
        let mut proxy = on_disk(&origin).start().await;
        store(&proxy, "/a").await;
        assert_eq!(proxy.purge(body).await.status, 200);
        proxy.restart().await;
        assert_eq!(proxy.get("/a").await.text(), "new", "{body}");
        assert!(proxy.get("/a").await.is_hit());
    }
}

#[tokio::test]
async fn a_restart_keeps_what_was_not_purged_and_what_came_after_a_purge() {
    let origin = Origin::start().await;
    origin.otherwise(|seen| lasting(&seen.target));
    let mut proxy = on_disk(&origin).start().await;
    store(&proxy, "/a").await;
    store(&proxy, "/b").await;
    assert_eq!(proxy.purge(r#"{"urls": "test.example/b"}"#).await.status, 200);
    store(&proxy, "/b").await;
    for _ in 0..3 {
        proxy.restart().await;
        for path in ["/a", "/b"] {
            assert!(proxy.get(path).await.is_hit(), "{path}");
        }
    }
}

#[tokio::test]
async fn after_a_restart_a_soft_purge_is_still_one() {
    let origin = Origin::start().await;
    origin.on_each("/a", [lasting("old"), lasting("new")]);
    let mut proxy = on_disk(&origin).start().await;
    store(&proxy, "/a").await;
    assert_eq!(proxy.purge(r#"{"tags": "page", "soft": true}"#).await.status, 200);
    proxy.restart().await;
    let stale = proxy.get("/a").await;
    assert_eq!((stale.text().as_str(), stale.cache_status().hit), ("old", true));
    eventually("the new one", async || (proxy.get("/a").await.text() == "new").then_some(())).await;
}

#[tokio::test]
async fn a_torn_log_keeps_the_purges_before_the_tear() {
    let origin = Origin::start().await;
    origin.otherwise(|seen| lasting(&seen.target));
    let mut proxy = on_disk(&origin).start().await;
    store(&proxy, "/a").await;
    store(&proxy, "/b").await;
    assert_eq!(proxy.purge(r#"{"urls": "test.example/a"}"#).await.status, 200);
    let log = proxy.path("disk/purges");
    let mut bytes = fs::read(&log).unwrap();
    bytes.extend_from_within(18..30);
    fs::write(&log, bytes).unwrap();
    proxy.restart().await;
    assert!(!proxy.get("/a").await.is_hit());
    assert!(proxy.get("/b").await.is_hit());
}

#[tokio::test]
async fn a_log_that_is_gone_or_damaged_means_that_everything_was_purged() {
    for damage in [None, Some("no log of purges")] {
        let origin = Origin::start().await;
        origin.otherwise(|seen| lasting(&seen.target));
        let mut proxy = on_disk(&origin).start().await;
        store(&proxy, "/a").await;
        let log = proxy.path("disk/purges");
        match damage {
            None => fs::remove_file(&log).unwrap(),
            Some(text) => fs::write(&log, text).unwrap(),
        }
        proxy.restart().await;
        assert!(!proxy.get("/a").await.is_hit(), "{damage:?}");
        assert!(proxy.get("/a").await.is_hit());
    }
}

#[tokio::test]
async fn a_purge_that_cannot_be_written_down_says_so_and_is_in_force() {
    let origin = Origin::start().await;
    origin.on_each("/a", [lasting("old"), lasting("new")]);
    let proxy = on_disk(&origin).start().await;
    assert_eq!(proxy.get("/a").await.text(), "old");
    // The directory is gone, and something else is in its way.
    fs::rename(proxy.path("disk"), proxy.path("elsewhere")).unwrap();
    fs::write(proxy.path("disk"), "").unwrap();
    eventually("the directory to be missed", async || {
        let up = proxy.stats().await["tiers"]["disk"]["state"] == "unavailable";
        up.then_some(())
    })
    .await;
    let answer = proxy.purge(r#"{"urls": "test.example/a"}"#).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("purge again")));
    assert_eq!(proxy.get("/a").await.text(), "new");
    // Once it is back, the purge is known there as well.
    fs::remove_file(proxy.path("disk")).unwrap();
    fs::rename(proxy.path("elsewhere"), proxy.path("disk")).unwrap();
    eventually("the directory to be back", async || {
        (proxy.purge(r#"{"tags": "other"}"#).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn dead_files_are_removed_when_they_are_found() {
    let origin = Origin::start().await;
    origin.on_each("/a", [lasting("old"), Reply::ok("new").header("cache-control", "no-store")]);
    let proxy = on_disk(&origin).start().await;
    store(&proxy, "/a").await;
    proxy.wait_for_metric("tidegate_tier_items", "tier=\"disk\"", 1.0).await;
    assert_eq!(proxy.purge(r#"{"tags": "page"}"#).await.status, 200);
    assert_eq!(proxy.get("/a").await.text(), "new");
    proxy.wait_for_metric("tidegate_tier_items", "tier=\"disk\"", 0.0).await;
}

#[tokio::test]
async fn files_of_urls_that_can_be_named_are_removed_at_once() {
    let origin = Origin::start().await;
    origin.on("/a", lasting("a"));
    let proxy = on_disk(&origin).start().await;
    store(&proxy, "/a").await;
    assert_eq!(proxy.purge(r#"{"urls": "http://test.example/a"}"#).await.status, 200);
    proxy.wait_for_metric("tidegate_tier_items", "tier=\"disk\"", 0.0).await;
}

/// Ends with the test.
struct Successor(std::process::Child);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_daemon_that_takes_over_knows_what_was_purged_and_purges_at_once() {
    let origin = Origin::start().await;
    origin.on_each("/a", [lasting("old"), lasting("new")]);
    let proxy = on_disk(&origin).start().await;
    store(&proxy, "/a").await;
    assert_eq!(proxy.purge(r#"{"tags": "page", "wait": "local"}"#).await.status, 200);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["serve", "--upgrade", "-c"]).arg(proxy.path("tidegate.yaml"));
    let quiet = std::process::Stdio::null;
    let successor = Successor(command.stdout(quiet()).stderr(quiet()).spawn().unwrap());
    let serves = successor.0.id().to_string();
    let named = || fs::read_to_string(proxy.path("tidegate.pid")).unwrap_or_default().trim().to_owned();
    eventually("the new process to serve", async || (named() == serves).then_some(())).await;
    eventually("the old process to leave", async || proxy.log().contains("leaving").then_some(())).await;
    // Whether its directory is open yet or not.
    let answer = proxy.purge(r#"{"urls": "test.example/b"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(proxy.get("/a").await.text(), "new");
}
