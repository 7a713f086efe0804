//! The policies that are shipped do what their headers say: decided by the real binary, without a network, and a few of
//! them tried on a running daemon.

#[expect(dead_code, unused_imports, reason = "what other tests need of it as well")]
mod support;

#[path = "shipped_policies/apis.rs"]
mod apis;
#[path = "shipped_policies/sites.rs"]
mod sites;
#[path = "shipped_policies/table.rs"]
mod table;

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::cli::run;
use support::{Origin, Proxy, Reply};
use tempfile::TempDir;

/// Every shipped policy, in a bucket for the host that its header tries it with.
const POLICIES: [&str; 7] = ["static", "images", "api", "api_authenticated", "video", "cms", "showcase"];

const BUCKETS: &str = "\
buckets:
  static: { match: { hosts: [localhost] }, origin: main, policy: static.lua }
  api: { match: { hosts: [localhost], path: /api/ }, origin: main, policy: api.lua }
  images: { match: { hosts: [img.example.com] }, origin: main, policy: images.lua }
  api_authenticated: { match: { hosts: [api.example.com] }, origin: main, policy: api_authenticated.lua }
  video: { match: { hosts: [video.example.com] }, origin: main, policy: video.lua }
  cms: { match: { hosts: [www.example.com] }, origin: main, policy: cms.lua }
  showcase: { match: { hosts: [shop.example.com] }, origin: main, policy: showcase.lua }
";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn policies() -> PathBuf {
    repository().join("policies")
}

/// A folder with a configuration that uses all of them, under the names that headers use.
fn folder() -> TempDir {
    folder_with("memory: { capacity: 64MiB, max_object: 8MiB }")
}

/// The same, with these tiers.
fn folder_with(tiers: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "policies: {{ dir: {:?}, limits: {{ time: 500ms, memory: 16MiB }} }}\n\
         cache: {{ {tiers} }}\n\
         origins: {{ main: {{ http: {{ servers: [\"127.0.0.1:9\"] }} }} }}\n{BUCKETS}",
        policies(),
    );
    fs::create_dir(dir.path().join("config")).unwrap();
    for file in ["tidegate.yaml", "config/tidegate.yaml"] {
        fs::write(dir.path().join(file), &text).unwrap();
    }
    dir
}

#[test]
fn they_check() {
    let output = run(&["check", "-c", "tidegate.yaml"], folder().path());
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn the_quickstart_checks_with_them() {
    let output = run(&["check", "-c", "config/tidegate.yaml"], repository());
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn every_policy_in_the_folder_is_tested_here() {
    let mut names: Vec<String> = fs::read_dir(policies())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".lua").map(str::to_owned))
        .filter(|name| !name.ends_with("_test"))
        .collect();
    names.sort_unstable();
    let mut known = POLICIES.to_vec();
    known.sort_unstable();
    assert_eq!(names, known);
}

/// The comment that a policy begins with, without its dashes.
fn header_of(policy: &str) -> String {
    let text = fs::read_to_string(policies().join(policy).with_extension("lua")).unwrap();
    let lines = text.lines().take_while(|line| line.starts_with("--"));
    lines.map(|line| line.trim_start_matches('-').trim()).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_header_says_what_a_reader_asks_first() {
    for policy in POLICIES {
        let header = header_of(policy);
        for topic in ["Key ", "Bypass ", "Respects ", "Change first: ", "Try: "] {
            assert!(header.contains(&format!("\n{topic}")), "{policy}.lua does not say {topic:?}");
        }
    }
}

#[test]
fn the_command_in_each_header_works() {
    let binary = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().unwrap();
    for policy in POLICIES {
        let header = header_of(policy);
        let (_, command) = header.split_once("\nTry: ").unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("{command} --format json")])
            .env("PATH", format!("{}:/usr/bin:/bin", binary.display()))
            .current_dir(folder().path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{policy}.lua: {output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&told["bucket"], &told["error"]), (&json!(policy), &Value::Null), "{command}");
    }
}

/// The blocks of Lua in the guide.
fn lua_in_the_guide() -> Vec<String> {
    let guide = fs::read_to_string(repository().join("docs/policies.md")).unwrap();
    let blocks = guide.split("```lua\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// A configuration whose only policy is this text, checked.
fn check(policy: &str) -> support::cli::Output {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    fs::write(dir.path().join("policies/it.lua"), policy).unwrap();
    let text = "origins: { main: { http: { servers: [\"127.0.0.1:9\"] } } }\n\
                buckets: { main: { match: { hosts: [\"*\"] }, origin: main, policy: it.lua } }\n";
    fs::write(dir.path().join("tidegate.yaml"), text).unwrap();
    run(&["check", "-c", "tidegate.yaml"], dir.path())
}

#[test]
fn the_policies_in_the_guide_check() {
    let policies: Vec<String> = lua_in_the_guide().into_iter().filter(|block| block.contains("return {")).collect();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        let output = check(&policy);
        assert_eq!(output.code, 0, "{output:?} in\n{policy}");
    }
}

#[test]
fn the_library_gives_what_the_guide_says() {
    let examples: Vec<String> = lua_in_the_guide()
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| line.split_once("-->"))
        .map(|(expression, value)| format!("assert({} == {}, [[{expression}]])\n", expression.trim(), value.trim()))
        .collect();
    for function in tidegate::policy::declare::LIBRARY {
        let call = format!("tidegate.{}(", function.name);
        assert!(examples.iter().any(|example| example.contains(&call)), "the guide has no example of {call}");
    }
    let output = check(&(examples.concat() + "return {}\n"));
    assert_eq!(output.code, 0, "{output:?}");
}

/// A daemon with one bucket under a shipped policy.
async fn daemon(origin: &Origin, policy: &str) -> Proxy {
    let builder = Proxy::builder(origin).set("policies.dir", &format!("{:?}", policies()));
    builder.set("buckets.main.policy", policy).start().await
}

#[tokio::test]
async fn static_lua_tells_browsers_what_they_may_keep() {
    let origin = Origin::start().await;
    let proxy = daemon(&origin, "static.lua").await;
    for (path, says) in [
        ("/app.3f2a9c1b.js", "public, max-age=31536000, immutable"),
        ("/logo.svg", "public, max-age=300"),
        ("/index.html", "no-cache"),
    ] {
        origin.on(path, Reply::ok("x"));
        proxy.get(path).await;
        let response = proxy.get(path).await;
        assert!(response.is_hit(), "{path}");
        assert_eq!(response.header("cache-control").as_deref(), Some(says), "{path}");
    }
    origin.on("/stated.html", Reply::fresh("x"));
    assert_eq!(proxy.get("/stated.html").await.header("cache-control").as_deref(), Some("max-age=60"));
}

#[tokio::test]
async fn images_lua_answers_odd_sizes_from_the_next_step_and_keeps_none_of_its_own() {
    let origin = Origin::start().await;
    origin.on_fn("/1.jpg", |request| {
        let (_, size) = request.target.split_once("w=").unwrap();
        Reply::ok(size).header("content-type", "image/jpeg")
    });
    let proxy = daemon(&origin, "images.lua").await;
    assert_eq!(proxy.get("/1.jpg?w=641").await.text(), "641");
    assert_eq!(proxy.get("/1.jpg?w=768").await.text(), "768");
    let odd = proxy.get("/1.jpg?w=641").await;
    assert_eq!((odd.is_hit(), odd.text().as_str()), (true, "768"));
}

#[tokio::test]
async fn api_authenticated_lua_serves_a_listed_endpoint_to_another_token() {
    let origin = Origin::start().await;
    origin.on("/api/catalogue/1", Reply::fresh("all"));
    origin.on("/api/me", Reply::fresh("me"));
    let proxy = daemon(&origin, "api_authenticated.lua").await;
    for path in ["/api/catalogue/1", "/api/me"] {
        proxy.get(path).token("one").await;
        proxy.get(path).token("two").await;
    }
    assert_eq!((origin.count("/api/catalogue/1"), origin.count("/api/me")), (1, 2));
}

#[tokio::test]
async fn cms_lua_keeps_visitors_cookies_from_the_origin_and_sends_those_of_members() {
    let origin = Origin::start().await;
    origin.on("/", Reply::ok("home").header("content-type", "text/html"));
    let proxy = daemon(&origin, "cms.lua").await;
    proxy.get("/").header("cookie", "_ga=1").await;
    assert!(proxy.get("/").header("cookie", "_ga=2").await.is_hit());
    let member = proxy.get("/").header("cookie", "_ga=3; SESSx=1").await;
    assert_eq!(member.cache_status().fwd(), "bypass");
    let sent: Vec<_> = origin.requests("/").iter().map(|request| request.header("cookie")).collect();
    assert_eq!(sent, [None, Some("_ga=3; SESSx=1".to_owned())]);
}

#[tokio::test]
async fn showcase_lua_has_the_last_touch() {
    let origin = Origin::start().await;
    origin.on("/about", Reply::fresh("x").header("x-powered-by", "steam"));
    let proxy = daemon(&origin, "showcase.lua").await;
    assert_eq!(proxy.get("/about").await.header("x-cache").as_deref(), Some("miss, uri-miss"));
    let response = proxy.get("/about").await;
    assert_eq!(response.header("x-cache").as_deref(), Some("hit"));
    assert_eq!((response.header("x-bucket").as_deref(), response.header("x-powered-by")), (Some("main"), None));
}

#[tokio::test]
async fn showcase_lua_can_call_a_hit_a_miss() {
    let origin = Origin::start().await;
    origin.on("/about", Reply::fresh("x").header("x-app-version", "broken"));
    let proxy = daemon(&origin, "showcase.lua").await;
    proxy.get("/about").await;
    assert!(!proxy.get("/about").await.is_hit());
    assert_eq!(origin.count("/about"), 2);
}
