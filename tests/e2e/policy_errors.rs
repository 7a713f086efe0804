//! A failing policy is a decision, with its reason; it is never a 500.

use crate::support::{Gate, Origin, Proxy, Reply, Response};

/// Asks twice under this policy; the answers are always the origin's.
async fn twice(policy: &str) -> (Origin, Proxy, Response) {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("fine"));
    let proxy = Proxy::with_policy(&origin, policy).await;
    proxy.get("/a").await;
    let second = proxy.get("/a").await;
    assert_eq!((second.status, second.text().as_str()), (200, "fine"), "under {policy}");
    (origin, proxy, second)
}

const BROKEN: &str = "return {
    request = function(req)
        return { key = { req.headers.missing.field } }
    end,
}";

#[tokio::test]
async fn an_error_in_the_request_hook_keeps_the_cache_out() {
    let (origin, _proxy, response) = twice(BROKEN).await;
    assert_eq!(response.cache_status().fwd(), "bypass");
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn the_reason_is_in_cache_status() {
    let (_origin, _proxy, response) = twice(BROKEN).await;
    assert!(response.cache_status().detail().contains("policy"), "{:?}", response.cache_status());
}

#[tokio::test]
async fn the_log_names_file_and_line() {
    let (_origin, proxy, _) = twice(BROKEN).await;
    proxy.wait_for_log("main.lua:3").await;
}

#[tokio::test]
async fn the_metric_and_the_policy_list_count_it() {
    let (_origin, proxy, _) = twice(BROKEN).await;
    proxy.wait_for_metric("tidegate_policy_errors_total", "bucket=\"main\"", 2.0).await;
    let state = proxy.wait_for_policy("main", "two counted errors", |state| state["errors"] == 2).await;
    assert!(state["calls"].as_u64() >= Some(2));
}

#[tokio::test]
async fn with_on_error_defaults_the_rfc_decides() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("fine"));
    let builder = Proxy::builder(&origin).policy("main.lua", BROKEN);
    let proxy = builder.set("policies.on_error", "defaults").start().await;
    proxy.get("/a").await;
    assert!(proxy.get("/a").await.is_hit());
    proxy.wait_for_metric("tidegate_policy_errors_total", "bucket=\"main\"", 2.0).await;
}

#[tokio::test]
async fn an_error_in_the_response_hook_stores_nothing() {
    let (origin, _proxy, response) = twice("return { response = function() error('broken') end }").await;
    assert!(!response.cache_status().stored);
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn an_error_in_the_deliver_hook_still_delivers() {
    twice("return { deliver = function() error('broken') end }").await;
}

#[tokio::test]
async fn an_error_in_the_hit_hook_still_answers() {
    twice("return { hit = function() error('broken') end }").await;
}

#[tokio::test]
async fn decisions_that_make_no_sense_are_errors() {
    for hook in [
        "request = function() return { kee = { 'a' } } end",
        "request = function() return { bypass = 7 } end",
        "request = function() return 'cache it' end",
        "response = function() return { tll = '1h' } end",
        "response = function() return { ttl = -1 } end",
        "response = function() return { ttl = 'soon' } end",
        "response = function() return { ttl = 60, override = { 'everything' } } end",
    ] {
        let (origin, proxy, response) = twice(&format!("return {{ {hook} }}")).await;
        assert!(!response.is_hit(), "{hook}");
        assert_eq!(origin.count("/a"), 2, "{hook}");
        proxy.wait_for_metric("tidegate_policy_errors_total", "bucket=\"main\"", 2.0).await;
    }
}

#[tokio::test]
async fn endless_policies_are_stopped_and_the_next_request_is_served() {
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function deeper() return 1 + deeper() end return deeper()",
        "local t = {} while true do t[#t + 1] = string.rep('x', 100000) end",
    ] {
        let policy = format!("return {{ request = function(req) if req.path == '/bad' then {body} end end }}");
        let origin = Origin::start().await;
        origin.otherwise(|_| Reply::fresh("fine"));
        let builder = Proxy::builder(&origin).policy("main.lua", &policy);
        let proxy = builder.set("policies.limits", "{ time: 50ms, memory: 16MiB }").start().await;
        let bad = proxy.get("/bad").await;
        assert_eq!((bad.status, bad.cache_status().fwd()), (200, "bypass"), "{body}");
        proxy.get("/good").await;
        assert!(proxy.get("/good").await.is_hit(), "{body}");
    }
}

#[tokio::test]
async fn what_could_reach_outside_does_not_exist() {
    for name in ["os", "io", "print", "loadstring", "getfenv", "collectgarbage", "math.random"] {
        let policy = format!("return {{ request = function() if {name} ~= nil then error('exists') end end }}");
        let (_origin, _proxy, response) = twice(&policy).await;
        assert!(response.is_hit(), "{name} can be reached");
    }
}

#[tokio::test]
async fn a_failing_policy_of_one_bucket_leaves_the_others_alone() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("fine"));
    let proxy = Proxy::builder(&origin)
        .policy("bad.lua", BROKEN)
        .policy("good.lua", "return {}")
        .bucket("bad", "{ match: { hosts: [bad.test] }, origin: main, policy: bad.lua }")
        .bucket("good", "{ match: { hosts: [good.test] }, origin: main, policy: good.lua }")
        .start()
        .await;
    for host in ["bad.test", "good.test"] {
        proxy.get("/a").host(host).await;
    }
    assert!(!proxy.get("/a").host("bad.test").await.is_hit());
    assert!(proxy.get("/a").host("good.test").await.is_hit());
}

/// What the thread's last call read is not what this request's policy read.
#[tokio::test]
async fn after_an_error_a_request_is_not_told_what_another_ones_policy_read() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("a").after(&gate));
    origin.on("/b", Reply::fresh("b"));
    let fails = "return { request = function(req) return { key = { req.headers.missing.field } } end }";
    let reads = "return { response = function(req) return { ttl = req.headers.theirs and 1 or 2 } end }";
    let proxy = Proxy::builder(&origin)
        .set("server.threads", "1")
        .set("admin.token", "secret")
        .policy("fails.lua", fails)
        .policy("reads.lua", reads)
        .bucket("fails", "{ match: { hosts: [fails.test] }, origin: main, policy: fails.lua, on_error: defaults }")
        .bucket("reads", "{ match: { hosts: [reads.test] }, origin: main, policy: reads.lua }")
        .start()
        .await;
    let mine = proxy.get("/a").host("fails.test").header("tidegate-debug", "secret").spawn();
    origin.wait_for_requests("/a", 1).await;
    proxy.get("/b").host("reads.test").await;
    gate.open();
    let told: serde_json::Value = serde_json::from_str(&mine.await.unwrap().header("tidegate-debug").unwrap()).unwrap();
    assert_eq!(told["inputs"], serde_json::json!(["req.headers.missing"]));
}
