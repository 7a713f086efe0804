//! The admin listener: who may ask, and the shapes that tools read.

use crate::support::proxy::TOKEN;
use crate::support::{Origin, Proxy, Reply};
use serde_json::Value;

#[track_caller]
fn assert_fields(value: &Value, fields: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("not an object: {value}"));
    for field in fields {
        assert!(object.contains_key(*field), "no {field} in {value}");
    }
}

async fn with_traffic() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("12345"));
    let policy = r#"return { request = function(req)
        if req.headers.cookie then return { bypass = "cookie" } end
    end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    for _ in 0..3 {
        proxy.get("/a").await;
    }
    proxy.get("/a").header("cookie", "id=1").await;
    proxy.wait_for_metric("tidegate_requests_total", "", 4.0).await;
    (origin, proxy)
}

#[tokio::test]
async fn health_and_metrics_need_no_token() {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    for target in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(proxy.admin(target).await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn everything_under_v1_needs_the_token() {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    for target in ["/v1/stats", "/v1/policies"] {
        let refused = proxy.admin(target).await;
        assert_eq!(refused.status, 401, "{target}");
        assert!(refused.header("www-authenticate").is_some_and(|v| v.starts_with("Bearer")));
        assert_eq!(proxy.admin(target).token("wrong").await.status, 401, "{target}");
        assert_eq!(proxy.admin(target).token(TOKEN).await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn without_a_configured_token_only_health_and_metrics_answer() {
    let origin = Origin::start().await;
    let proxy = Proxy::builder(&origin).without("admin.token").start().await;
    for call in [proxy.admin("/v1/stats"), proxy.admin("/v1/stats").token(""), proxy.admin("/v1/policies").token("x")] {
        let status = call.await.status;
        assert_eq!(status, 401);
    }
    assert_eq!(proxy.admin("/livez").await.status, 200);
    assert_eq!(proxy.admin("/metrics").await.status, 200);
}

#[tokio::test]
async fn the_token_may_come_from_the_environment() {
    let origin = Origin::start().await;
    let builder = Proxy::builder(&origin).set("admin.token", "${TEST_SECRET}").env("TEST_SECRET", "from-env");
    let proxy = builder.start().await;
    assert_eq!(proxy.admin("/v1/stats").token("from-env").await.status, 200);
    assert_eq!(proxy.admin("/v1/stats").token("${TEST_SECRET}").await.status, 401);
}

#[tokio::test]
async fn an_unknown_admin_path_is_a_404() {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.admin("/v1/nothing").token(TOKEN).await.status, 404);
}

#[tokio::test]
async fn the_admin_paths_mean_nothing_on_the_public_listener() {
    let origin = Origin::start().await;
    origin.on("/v1/stats", Reply::ok("the origin's own"));
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.get("/v1/stats").await.text(), "the origin's own");
}

#[tokio::test]
async fn stats_have_their_shape_and_count() {
    let (_origin, proxy) = with_traffic().await;
    let stats = proxy.stats().await;
    assert_fields(&stats, &["uptime", "requests", "buckets", "tiers", "nodes"]);
    assert!(stats["uptime"].is_number() && stats["nodes"].is_array());
    assert_eq!(stats["requests"], 4);
    let bucket = &stats["buckets"]["main"];
    assert_fields(bucket, &["requests", "hits", "stale", "misses", "bypasses", "errors", "bytes"]);
    for (field, count) in [("requests", 4), ("hits", 2), ("misses", 1), ("bypasses", 1), ("stale", 0), ("errors", 0)] {
        assert_eq!(bucket[field], count, "{field}");
    }
    assert!(bucket["bytes"].as_u64() >= Some(20), "{bucket}");
}

#[tokio::test]
async fn stats_describe_the_memory_tier() {
    let (_origin, proxy) = with_traffic().await;
    let memory = &proxy.stats().await["tiers"]["memory"];
    assert_fields(memory, &["state", "items", "bytes", "capacity", "hits", "misses", "promotions", "evictions"]);
    assert_eq!(memory["capacity"], 64 << 20);
    assert_eq!((&memory["hits"], &memory["evictions"]), (&2.into(), &0.into()));
}

#[tokio::test]
async fn policies_have_their_shape() {
    let (_origin, proxy) = with_traffic().await;
    let policies = proxy.policies().await;
    let [policy] = policies.as_array().unwrap().as_slice() else { panic!("one policy, not {policies}") };
    assert_fields(policy, &["bucket", "file", "version", "loaded_at", "error", "calls", "errors"]);
    assert_eq!((&policy["bucket"], &policy["file"]), (&"main".into(), &"policies/main.lua".into()));
    assert!(policy["error"].is_null());
    assert!(policy["calls"].as_u64() >= Some(4), "{policy}");
    assert_eq!(policy["errors"], 0);
}

#[tokio::test]
async fn the_core_metrics_exist_and_count() {
    let (_origin, proxy) = with_traffic().await;
    for (name, label, count) in [
        ("tidegate_requests_total", "bucket=\"main\"", 4.0),
        ("tidegate_requests_total", "outcome=\"hit\"", 2.0),
        ("tidegate_requests_total", "outcome=\"miss\"", 1.0),
        ("tidegate_requests_total", "outcome=\"bypass\"", 1.0),
        ("tidegate_origin_requests_total", "origin=\"main\"", 2.0),
        ("tidegate_tier_lookups_total", "result=\"hit\"", 2.0),
        ("tidegate_request_seconds_count", "", 4.0),
        ("tidegate_fill_waiters", "", 0.0),
    ] {
        proxy.wait_for_metric(name, label, count).await;
    }
    let metrics = proxy.metrics().await;
    for name in ["tidegate_policy_seconds", "tidegate_tier_bytes", "tidegate_tier_items", "tidegate_fill_waiters"] {
        assert!(metrics.has(name), "{name}");
    }
}

#[tokio::test]
async fn metrics_are_in_the_text_format_with_help_and_type() {
    let (_origin, proxy) = with_traffic().await;
    let response = proxy.admin("/metrics").await;
    assert!(response.header("content-type").is_some_and(|v| v.starts_with("text/plain")));
    for line in ["# HELP tidegate_requests_total ", "# TYPE tidegate_requests_total counter"] {
        assert!(response.text().contains(line), "{line}");
    }
}

#[tokio::test]
async fn clients_cannot_grow_the_metrics() {
    let origin = Origin::start().await;
    origin.otherwise(|_| Reply::fresh("a"));
    let proxy = Proxy::plain(&origin).await;
    let ask = async |n: u32| {
        let call = proxy.get(&format!("/path-{n}")).host(&format!("host-{n}.test"));
        call.header("user-agent", &format!("agent-{n}")).await;
    };
    ask(0).await;
    proxy.wait_for_metric("tidegate_requests_total", "", 1.0).await;
    let before = proxy.metrics().await.0.lines().count();
    for n in 1..20 {
        ask(n).await;
    }
    proxy.wait_for_metric("tidegate_requests_total", "", 20.0).await;
    assert_eq!(proxy.metrics().await.0.lines().count(), before);
}
