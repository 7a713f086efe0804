//! Policy files change while traffic flows.

use crate::support::proxy::Builder;
use crate::support::{Origin, Proxy, Reply, eventually};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A policy that signs each response, so that a test sees which one is in force.
fn signing(name: &str) -> String {
    format!("return {{ deliver = function() return {{ headers = {{ [\"x-policy\"] = \"{name}\" }} }} end }}")
}

async fn signed_by(proxy: &Proxy) -> Option<String> {
    let response = proxy.get("/a").await;
    assert_eq!(response.status, 200);
    response.header("x-policy")
}

async fn wait_for_signature(proxy: &Proxy, name: &str) {
    let what = format!("a response signed by {name}");
    eventually(&what, async || (signed_by(proxy).await.as_deref() == Some(name)).then_some(())).await;
}

/// An origin for `/a` and a daemon in the making, with a policy signed "one".
async fn start(prepare: impl FnOnce(Builder) -> Builder) -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let proxy = prepare(Proxy::builder(&origin)).start().await;
    (origin, proxy)
}

async fn start_signed() -> (Origin, Proxy) {
    let (origin, proxy) = start(|builder| builder.policy("main.lua", &signing("one"))).await;
    assert_eq!(signed_by(&proxy).await.as_deref(), Some("one"));
    (origin, proxy)
}

#[tokio::test]
async fn a_file_changed_in_place_takes_effect_with_a_new_version() {
    let (_origin, proxy) = start_signed().await;
    let before = proxy.policies().await[0]["version"].clone();
    proxy.write_policy("main.lua", &signing("two"));
    wait_for_signature(&proxy, "two").await;
    let after = proxy.wait_for_policy("main", "a new version", |state| state["version"] != before).await;
    assert!(after["error"].is_null());
}

#[tokio::test]
async fn a_file_replaced_by_rename_takes_effect() {
    let (_origin, proxy) = start_signed().await;
    for name in ["two", "three"] {
        proxy.write_policy(".main.lua.swp", &signing(name));
        fs::rename(proxy.policy_path(".main.lua.swp"), proxy.policy_path("main.lua")).unwrap();
        wait_for_signature(&proxy, name).await;
    }
}

#[tokio::test]
async fn a_file_that_goes_away_keeps_its_last_good_version_until_another_takes_its_name() {
    let (_origin, proxy) = start_signed().await;
    fs::rename(proxy.policy_path("main.lua"), proxy.policy_path("main.lua.old")).unwrap();
    proxy.wait_for_policy("main", "an error for the missing file", |state| !state["error"].is_null()).await;
    assert_eq!(signed_by(&proxy).await.as_deref(), Some("one"));
    proxy.write_policy("other.lua", &signing("two"));
    fs::rename(proxy.policy_path("other.lua"), proxy.policy_path("main.lua")).unwrap();
    wait_for_signature(&proxy, "two").await;
}

#[tokio::test]
async fn a_new_file_takes_effect_when_a_new_bucket_names_it() {
    let (_origin, proxy) = start_signed().await;
    proxy.write_policy("late.lua", &signing("late"));
    let bucket = "{ match: { hosts: [late.test] }, origin: main, policy: late.lua }";
    proxy.edit_config("buckets:\n", &format!("buckets:\n  late: {bucket}\n"));
    eventually("a response of the new bucket", async || {
        let response = proxy.get("/a").host("late.test").await;
        (response.header("x-policy").as_deref() == Some("late")).then_some(())
    })
    .await;
    assert_eq!(signed_by(&proxy).await.as_deref(), Some("one"));
}

/// The way Kubernetes updates a ConfigMap: `main.lua -> ..data/main.lua`, `..data -> ..1`, and `..data` is swapped.
#[tokio::test]
async fn a_swapped_symlink_takes_effect() {
    fn generation(dir: &Path, number: u32, name: &str) {
        let folder = dir.join(format!("..{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("main.lua"), signing(name)).unwrap();
        symlink(format!("..{number}"), dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    }
    let (_origin, proxy) = start(|builder| {
        let file = builder.policy_path("main.lua");
        generation(file.parent().unwrap(), 1, "one");
        symlink("..data/main.lua", file).unwrap();
        builder.set("buckets.main.policy", "main.lua")
    })
    .await;
    assert_eq!(signed_by(&proxy).await.as_deref(), Some("one"));
    for (number, name) in [(2, "two"), (3, "three")] {
        generation(&proxy.path("policies"), number, name);
        fs::remove_dir_all(proxy.policy_path(&format!("..{}", number - 1))).unwrap();
        wait_for_signature(&proxy, name).await;
    }
}

#[tokio::test]
async fn a_wrong_configuration_keeps_the_one_in_force() {
    let (_origin, proxy) = start_signed().await;
    proxy.edit_config("buckets:\n", "bukets:\n");
    proxy.wait_for_log("bukets").await;
    assert_eq!(signed_by(&proxy).await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_required_file_that_changes_reloads_those_who_require_it() {
    let (_origin, proxy) = start(|builder| {
        fs::write(builder.policy_path("names.lua"), "return { mine = \"one\" }").unwrap();
        builder.policy(
            "main.lua",
            "local names = require(\"names\")
            return { deliver = function() return { headers = { [\"x-policy\"] = names.mine } } end }",
        )
    })
    .await;
    assert_eq!(signed_by(&proxy).await.as_deref(), Some("one"));
    proxy.write_policy("names.lua", "return { mine = \"two\" }");
    wait_for_signature(&proxy, "two").await;
}

#[tokio::test]
async fn a_broken_edit_keeps_the_last_good_version_and_says_so_until_it_is_mended() {
    let (_origin, proxy) = start_signed().await;
    proxy.write_policy("main.lua", "return {\n  deliver = function( oops\n}");
    let state = proxy.wait_for_policy("main", "an error of the broken file", |state| !state["error"].is_null()).await;
    assert!(state["error"].to_string().contains("main.lua"), "{state}");
    proxy.wait_for_log("main.lua:").await;
    assert_eq!(signed_by(&proxy).await.as_deref(), Some("one"));
    proxy.write_policy("main.lua", &signing("two"));
    wait_for_signature(&proxy, "two").await;
    proxy.wait_for_policy("main", "no error of the mended file", |state| state["error"].is_null()).await;
}

#[tokio::test]
async fn a_file_that_returns_no_policy_is_a_broken_edit_too() {
    let (_origin, proxy) = start_signed().await;
    for text in ["return 7", "return { reqeust = function() end }", "error('at load')", "while true do end"] {
        proxy.write_policy("main.lua", text);
        proxy.wait_for_policy("main", text, |state| !state["error"].is_null()).await;
        assert_eq!(signed_by(&proxy).await.as_deref(), Some("one"), "{text}");
        proxy.write_policy("main.lua", &signing("one"));
        proxy.wait_for_policy("main", "the mended file", |state| state["error"].is_null()).await;
    }
}

#[tokio::test]
async fn reloads_are_counted() {
    let (_origin, proxy) = start_signed().await;
    let before = proxy.metrics().await.sum("tidegate_policy_reloads_total", "");
    proxy.write_policy("main.lua", &signing("two"));
    let reloads = async || proxy.metrics().await.sum("tidegate_policy_reloads_total", "");
    eventually("a counted reload", async || (reloads().await > before).then_some(())).await;
}

#[tokio::test]
async fn a_changed_key_rule_never_serves_the_old_keys_entry() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| Reply::fresh(&seen.target));
    let by_path = "return { request = function(req) return { key = { req.path } } end }";
    let proxy = Proxy::with_policy(&origin, by_path).await;
    proxy.get("/a?n=1").await;
    assert_eq!(proxy.get("/a?n=2").await.text(), "/a?n=1");
    proxy.write_policy("main.lua", "return { request = function(req) return { key = { req.path, req.query.n } } end }");
    let what = "the new key rule";
    eventually(what, async || (proxy.get("/a?n=2").await.text() == "/a?n=2").then_some(())).await;
    assert_eq!(proxy.get("/a?n=3").await.text(), "/a?n=3");
}

#[tokio::test]
async fn no_request_fails_while_a_policy_is_reloaded_a_hundred_times() {
    let (_origin, proxy) = start_signed().await;
    let done = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (call, done) = (proxy.get("/a"), done.clone());
            tokio::spawn(async move {
                let mut served = 0;
                while !done.load(Ordering::Relaxed) {
                    let response = call.clone().await;
                    assert_eq!((response.status, response.text().as_str()), (200, "a"));
                    assert!(response.header("x-policy").is_some(), "no policy was in force");
                    served += 1;
                }
                served
            })
        })
        .collect();
    for n in 0..100 {
        let name = format!("v{n}");
        proxy.write_policy("main.lua", &signing(&name));
        wait_for_signature(&proxy, &name).await;
    }
    done.store(true, Ordering::Relaxed);
    for client in load {
        assert!(client.await.unwrap() > 0);
    }
}
