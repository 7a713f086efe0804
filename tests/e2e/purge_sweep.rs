//! The room of what was purged comes back although nobody asks for it.

use crate::support::*;

fn lasting(seen: &origin::Seen) -> Reply {
    let tag = seen.path().rsplit('/').next().unwrap_or_default().to_owned();
    let reply = Reply::ok("x".repeat(5000)).header("cache-control", "max-age=3600").header("surrogate-key", &tag);
    if seen.path().starts_with("/vary") { reply.header("vary", "x-lang") } else { reply }
}

async fn items(proxy: &Proxy, tier: &str) -> f64 {
    proxy.metrics().await.sum("tidegate_tier_items", &format!("tier=\"{tier}\""))
}

async fn fill(proxy: &Proxy) {
    for path in ["/img/a", "/img/b", "/a", "/b"] {
        assert_eq!(proxy.get(path).await.status, 200);
    }
    for lang in ["en", "de", "fr"] {
        assert_eq!(proxy.get("/vary/v").header("x-lang", lang).await.status, 200);
    }
}

#[tokio::test]
async fn what_was_purged_by_more_than_its_url_goes_from_memory_and_disk_by_itself() {
    let origin = Origin::start().await;
    origin.otherwise(lasting);
    let proxy = Proxy::builder(&origin)
        .set("cache.disk.path", "@DIR@/disk")
        .set("cache.disk.capacity", "64MiB")
        .set("cache.disk.min_free", "0")
        .start()
        .await;
    for (body, left) in [
        (r#"{"tags": "a"}"#, 5.0),
        (r#"{"tags": "v"}"#, 4.0),
        (r#"{"prefix": "test.example/img"}"#, 5.0),
        (r#"{"bucket": "main"}"#, 0.0),
        (r#"{"all": true}"#, 0.0),
    ] {
        fill(&proxy).await;
        proxy.wait_for_metric("tidegate_tier_items", "tier=\"disk\"", 7.0).await;
        assert_eq!(proxy.purge(body).await.status, 200);
        for tier in ["disk", "memory"] {
            proxy.wait_for_metric("tidegate_tier_items", &format!("tier=\"{tier}\""), left).await;
        }
    }
    let removed = proxy.metrics().await.sum("tidegate_purge_sweep_removed_total", "tier=\"disk\"");
    assert_eq!(removed, 2.0 + 3.0 + 2.0 + 7.0 + 7.0);
}

#[tokio::test]
async fn what_a_policy_keeps_under_a_key_of_its_own_goes_when_its_url_was_purged() {
    let origin = Origin::start().await;
    origin.otherwise(lasting);
    let policy = "return { request = function(req) return { key = { 'x', req.path } } end }";
    let proxy = Proxy::builder(&origin).policy("main.lua", policy).start().await;
    fill(&proxy).await;
    proxy.wait_for_metric("tidegate_tier_items", "tier=\"memory\"", 7.0).await;
    assert_eq!(proxy.purge(r#"{"urls": "http://test.example/a"}"#).await.status, 200);
    proxy.wait_for_metric("tidegate_tier_items", "tier=\"memory\"", 6.0).await;
}

#[tokio::test]
async fn what_a_process_did_not_come_to_the_next_one_does() {
    let origin = Origin::start().await;
    origin.otherwise(lasting);
    let mut proxy = Proxy::builder(&origin)
        .without("cache.memory")
        .set("cache.memory.capacity", "0")
        .set("cache.disk.path", "@DIR@/disk")
        .set("cache.disk.capacity", "64MiB")
        .set("cache.disk.min_free", "0")
        .start()
        .await;
    fill(&proxy).await;
    proxy.wait_for_metric("tidegate_tier_items", "tier=\"disk\"", 7.0).await;
    assert_eq!(proxy.purge(r#"{"tags": ["a", "v"]}"#).await.status, 200);
    proxy.restart().await;
    proxy.wait_for_metric("tidegate_tier_items", "tier=\"disk\"", 2.0).await;
}

#[tokio::test]
async fn what_is_only_stale_stays() {
    let origin = Origin::start().await;
    origin.otherwise(lasting);
    let proxy = Proxy::plain(&origin).await;
    fill(&proxy).await;
    assert_eq!(proxy.purge(r#"{"all": true, "soft": true}"#).await.status, 200);
    assert_eq!(proxy.purge(r#"{"tags": "a"}"#).await.status, 200);
    proxy.wait_for_metric("tidegate_tier_items", "tier=\"memory\"", 5.0).await;
    proxy.wait_for_metric("tidegate_purge_sweep_checked_total", "tier=\"memory\"", 7.0).await;
    assert_eq!(items(&proxy, "memory").await, 5.0);
}
