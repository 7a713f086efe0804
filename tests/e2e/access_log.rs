//! The access log: one JSON object a line.

use crate::support::{Origin, Proxy, Reply, eventually};
use serde_json::Value;

const POLICY: &str = r#"return { request = function(req)
    if req.headers["x-skip"] then return { bypass = "skipped" } end
    return { key = { req.path } }
end }"#;

const FIELDS: [&str; 22] = [
    "time",
    "id",
    "bucket",
    "client",
    "method",
    "scheme",
    "host",
    "path",
    "query",
    "status",
    "bytes",
    "outcome",
    "reason",
    "tier",
    "ttl",
    "age",
    "key",
    "policy",
    "version",
    "origin_micros",
    "total_micros",
    "inputs",
];

async fn start() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("12345"));
    let builder = Proxy::builder(&origin).policy("main.lua", POLICY);
    (origin, builder.set("log.access", "\"@DIR@/access.log\"").start().await)
}

/// The lines of the log once there are `n`.
async fn lines(proxy: &Proxy, n: usize) -> Vec<Value> {
    eventually(&format!("{n} lines in the access log"), async || {
        let text = std::fs::read_to_string(proxy.path("access.log")).ok()?;
        let whole = text.rsplit_once('\n')?.0;
        let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (lines.len() >= n).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn each_request_is_one_object_with_every_field() {
    let (_origin, proxy) = start().await;
    for _ in 0..2 {
        proxy.get("/a?x=1").await;
    }
    proxy.get("/a").header("x-skip", "1").await;
    let lines = lines(&proxy, 3).await;
    assert_eq!(lines.len(), 3);
    for line in &lines {
        for field in FIELDS {
            assert!(line.get(field).is_some(), "no {field} in {line}");
        }
    }
}

#[tokio::test]
async fn a_line_says_what_was_asked_and_answered() {
    let (_origin, proxy) = start().await;
    let response = proxy.get("/a?x=1").host("shop.test").await;
    let line = &lines(&proxy, 1).await[0];
    for (field, value) in [
        ("id", Value::from(response.header("x-request-id").unwrap())),
        ("bucket", "main".into()),
        ("client", "127.0.0.1".into()),
        ("method", "GET".into()),
        ("scheme", "http".into()),
        ("host", "shop.test".into()),
        ("path", "/a".into()),
        ("query", "x=1".into()),
        ("status", 200.into()),
        ("bytes", 5.into()),
        ("policy", "main.lua".into()),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(line["total_micros"].as_u64() >= line["origin_micros"].as_u64());
}

#[tokio::test]
async fn a_line_says_how_it_came_out() {
    let (_origin, proxy) = start().await;
    for _ in 0..2 {
        proxy.get("/a").await;
    }
    proxy.get("/a").header("x-skip", "1").await;
    let mut lines = lines(&proxy, 3).await;
    // A line is written after its response has left, perhaps after the line of the next request.
    lines.sort_by(|a, b| a["time"].as_f64().unwrap().total_cmp(&b["time"].as_f64().unwrap()));
    assert_eq!(lines.iter().map(|line| &line["outcome"]).collect::<Vec<_>>(), ["miss", "hit", "bypass"]);
    assert_eq!((&lines[1]["tier"], &lines[2]["reason"]), (&"memory".into(), &"skipped".into()));
    assert!(lines[1]["ttl"].as_f64().is_some_and(|ttl| (50.0..=60.0).contains(&ttl)), "{}", lines[1]);
    assert_eq!(lines[0]["key"], lines[1]["key"]);
}

#[tokio::test]
async fn inputs_are_the_fields_that_the_policy_read() {
    let (_origin, proxy) = start().await;
    proxy.get("/a").header("x-skip", "because").header("x-unread", "secret").await;
    let inputs = lines(&proxy, 1).await[0]["inputs"].to_string();
    assert!(inputs.contains("x-skip") && inputs.contains("because"), "{inputs}");
    assert!(!inputs.contains("x-unread") && !inputs.contains("secret"), "{inputs}");
}

#[tokio::test]
async fn what_a_client_sends_cannot_break_a_line() {
    let (_origin, proxy) = start().await;
    proxy.get("/a?%22%0a={}").header("x-skip", "\"}\\").await;
    proxy.get("/a").await;
    assert_eq!(lines(&proxy, 2).await.len(), 2);
}

#[tokio::test]
async fn the_access_log_can_go_to_standard_output() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let proxy = Proxy::builder(&origin).set("log.access", "stdout").start().await;
    let id = proxy.get("/a").await.header("x-request-id").unwrap();
    let line = proxy.wait_for_log(&id).await;
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["path"], "/a");
}
