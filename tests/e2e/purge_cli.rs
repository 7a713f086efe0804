//! The commands that talk to a running daemon, run as people run them.

use crate::support::cli::run;
use crate::support::proxy::TOKEN;
use crate::support::*;
use std::path::Path;

/// Runs a command beside the test's own runtime, on which the origin answers.
async fn tidegate(args: &[&str]) -> cli::Output {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let ran = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&args, Path::new("/"))
    });
    ran.await.unwrap()
}

async fn with_a_page() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a").header("cache-tag", "t"));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert!(proxy.get("/a").await.is_hit());
    (origin, proxy)
}

#[tokio::test]
async fn purge_takes_each_kind() {
    for what in [
        &["--url", "http://test.example/a"][..],
        &["--url", "none.example/x", "--tag", "t"],
        &["--prefix", "test.example/"],
        &["--bucket", "main", "--wait", "cluster"],
        &["--all", "--wait", "local"],
    ] {
        let (_origin, proxy) = with_a_page().await;
        let url = proxy.admin_url();
        let output = tidegate(&[&["purge", "--admin", &url, "--token", TOKEN], what].concat()).await;
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stdout.starts_with("purged on "), "{output:?}");
        assert!(!proxy.get("/a").await.is_hit(), "{what:?}");
    }
}

#[tokio::test]
async fn the_configuration_says_where_the_daemon_is_and_its_token() {
    let (_origin, proxy) = with_a_page().await;
    let file = proxy.path("tidegate.yaml").display().to_string();
    let output = tidegate(&["purge", "-c", &file, "--all", "--soft", "--format", "json"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let told = output.json();
    assert!(told["id"].is_string() && told["applied"].as_array().is_some_and(|nodes| nodes.len() == 1), "{told}");
    assert_eq!(told["missing"], serde_json::json!([]));
}

#[tokio::test]
async fn stats_and_policies_are_printed_for_people_and_for_machines() {
    let (_origin, proxy) = with_a_page().await;
    let file = proxy.path("tidegate.yaml").display().to_string();
    let text = tidegate(&["stats", "-c", &file]).await;
    assert_eq!(text.code, 0, "{text:?}");
    assert!(text.stdout.contains("main") && text.stdout.contains("memory"), "{text:?}");
    let told = tidegate(&["stats", "-c", &file, "--format", "json"]).await.json();
    assert!(told["buckets"]["main"]["requests"].is_number(), "{told}");
    let none = tidegate(&["policies", "-c", &file]).await;
    assert_eq!((none.code, none.stdout.as_str()), (0, "no bucket has a policy\n"));
    assert_eq!(tidegate(&["policies", "-c", &file, "--format", "json"]).await.json(), serde_json::json!([]));
}

#[tokio::test]
async fn what_the_daemon_refuses_is_told_and_ends_with_1() {
    let (_origin, proxy) = with_a_page().await;
    let url = proxy.admin_url();
    for (args, told) in [
        (&["purge", "--admin", &url, "--all"][..], "token"),
        (&["purge", "--admin", &url, "--token", "wrong", "--all"], "token"),
        (&["purge", "--admin", &url, "--token", TOKEN, "--bucket", "mian"], "no bucket `mian`"),
        (&["purge", "--admin", &url, "--token", TOKEN, "--url", "/a"], "host"),
        (&["stats", "--admin", "http://127.0.0.1:1"], "no daemon"),
    ] {
        let output = tidegate(args).await;
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{args:?}: {output:?}");
        assert!(output.stderr.contains(told) && output.stderr.lines().count() == 1, "{args:?}: {output:?}");
    }
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn wrong_use_ends_with_2() {
    for args in [
        &["purge"][..],
        &["purge", "--soft"],
        &["purge", "--all", "--wait", "ever"],
        &["purge", "--all", "--admin", "https://x"],
        &["purge", "--all", "-c", "nowhere.yaml"],
        &["stats", "extra"],
    ] {
        let output = tidegate(args).await;
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}
