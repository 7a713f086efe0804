//! Purging: what each kind of purge makes a miss, what it leaves alone, and what becomes of what is under way.

use crate::support::*;
use std::time::{Duration, Instant};

/// Stores `path` by asking for it, and says so.
async fn store(proxy: &Proxy, path: &str) {
    assert_eq!(proxy.get(path).await.status, 200);
    assert!(proxy.get(path).await.is_hit(), "{path} is not stored");
}

#[track_caller]
fn assert_purged(answer: &call::Response) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert!(told["id"].is_string(), "{told}");
    assert_eq!(told["applied"].as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(told["missing"], serde_json::json!([]), "{told}");
}

/// An origin whose every page is fresh for a minute and has the tags of its path's last part.
async fn tagged() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.otherwise(|seen| {
        let tag = seen.path().rsplit('/').next().unwrap_or_default().to_owned();
        Reply::fresh(&seen.target).header("surrogate-key", &format!("page {tag}")).header("cache-tag", "x,y , z")
    });
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

#[tokio::test]
async fn each_kind_of_purge_makes_a_miss_of_what_it_names_and_of_nothing_else() {
    let (_origin, proxy) = tagged().await;
    for (body, purged) in [
        (r#"{"urls": "http://test.example/img/a"}"#, vec!["/img/a"]),
        (r#"{"urls": ["test.example/img/a", "TEST.example:80/b?x=%7E#f"]}"#, vec!["/img/a", "/b?x=~"]),
        (r#"{"tags": "a"}"#, vec!["/img/a", "/a"]),
        (r#"{"tags": ["c"], "urls": "http://test.example/a"}"#, vec!["/a", "/img/c"]),
        (r#"{"tags": "z"}"#, vec!["/img/a", "/a", "/b?x=~", "/img/c"]),
        (r#"{"prefix": "test.example/img/"}"#, vec!["/img/a", "/img/c"]),
        (r#"{"prefix": ["http://test.example/b"]}"#, vec!["/b?x=~"]),
        (r#"{"prefix": "test.example"}"#, vec!["/img/a", "/a", "/b?x=~", "/img/c"]),
        (r#"{"bucket": "main"}"#, vec!["/img/a", "/a", "/b?x=~", "/img/c"]),
        (r#"{"all": true}"#, vec!["/img/a", "/a", "/b?x=~", "/img/c"]),
        (r#"{"urls": "https://test.example/a"}"#, vec![]),
        (r#"{"urls": "test.example/b"}"#, vec![]),
        (r#"{"tags": "pag"}"#, vec![]),
        (r#"{"prefix": "est.example/"}"#, vec![]),
    ] {
        for path in ["/img/a", "/a", "/b?x=~", "/img/c"] {
            store(&proxy, path).await;
        }
        assert_purged(&proxy.purge(body).await);
        for path in ["/img/a", "/a", "/b?x=~", "/img/c"] {
            let response = proxy.get(path).await;
            assert_eq!(response.is_hit(), !purged.contains(&path), "{path} after {body}");
            assert_eq!(response.text(), path);
        }
    }
}

#[tokio::test]
async fn the_policys_tags_count_as_well() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a").header("surrogate-key", "theirs"));
    let proxy =
        Proxy::with_policy(&origin, "return { response = function(req, res) return { tags = { 'ours' } } end }").await;
    for tag in ["ours", "theirs"] {
        store(&proxy, "/a").await;
        assert_purged(&proxy.purge(&format!("{{\"tags\": \"{tag}\"}}")).await);
        assert!(!proxy.get("/a").await.is_hit(), "{tag}");
    }
}

#[tokio::test]
async fn tags_of_the_origin_do_not_reach_clients_unless_the_bucket_says_so() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a").header("surrogate-key", "one").header("cache-tag", "two"));
    for (keep, told) in [("false", None), ("true", Some("one"))] {
        let proxy = Proxy::builder(&origin).set("buckets.main.keep_tag_headers", keep).start().await;
        for _ in 0..2 {
            let response = proxy.get("/a").await;
            assert_eq!(response.header("surrogate-key").as_deref(), told);
            assert_eq!(response.header("cache-tag").is_some(), told.is_some());
        }
        assert_purged(&proxy.purge(r#"{"tags": "two"}"#).await);
        assert!(!proxy.get("/a").await.is_hit());
    }
}

#[tokio::test]
async fn a_url_purges_entries_under_whatever_key_a_policy_chose() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let policy = "return { request = function(req) return { key = { 'the only one' } } end }";
    let proxy = Proxy::with_policy(&origin, policy).await;
    store(&proxy, "/a?w=1").await;
    assert_purged(&proxy.purge(r#"{"urls": "test.example/a?w=2"}"#).await);
    assert!(proxy.get("/a?w=1").await.is_hit());
    assert_purged(&proxy.purge(r#"{"urls": "test.example/a?w=1"}"#).await);
    assert!(!proxy.get("/a?w=1").await.is_hit());
}

#[tokio::test]
async fn any_host_of_a_bucket_purges_what_its_hosts_share() {
    let origin = Origin::start().await;
    origin.on("/x/a", Reply::fresh("a"));
    let proxy = Proxy::builder(&origin).set("buckets.main.host_in_key", "false").start().await;
    for body in [r#"{"urls": "other.example/x/a"}"#, r#"{"prefix": "other.example/x"}"#] {
        store(&proxy, "/x/a").await;
        assert_purged(&proxy.purge(body).await);
        assert!(!proxy.get("/x/a").await.is_hit(), "{body}");
    }
}

#[tokio::test]
async fn every_variant_of_a_url_is_purged() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| Reply::fresh(seen.header("x-lang").unwrap_or_default()).header("vary", "x-lang"));
    let proxy = Proxy::plain(&origin).await;
    for lang in ["en", "de", "fr"] {
        proxy.get("/a").header("x-lang", lang).await;
        assert!(proxy.get("/a").header("x-lang", lang).await.is_hit());
    }
    assert_purged(&proxy.purge(r#"{"urls": "http://test.example/a"}"#).await);
    for lang in ["de", "fr", "en"] {
        let response = proxy.get("/a").header("x-lang", lang).await;
        assert!(!response.is_hit() && response.text() == lang, "{lang}");
    }
    assert!(proxy.get("/a").header("x-lang", "de").await.is_hit());
}

#[tokio::test]
async fn stored_parts_are_purged_and_not_combined_with_new_ones() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let range = seen.header("range").unwrap_or_default();
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap_or(("0", "9"));
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        Reply::status(206)
            .header("cache-control", "max-age=60")
            .header("etag", "\"1\"")
            .header("content-range", &format!("bytes {first}-{last}/10"))
            .piece(&"0123456789"[first..=last])
    });
    let proxy = Proxy::plain(&origin).await;
    let part = |range: &str| proxy.get("/a").header("range", range);
    part("bytes=0-3").await;
    assert!(part("bytes=1-2").await.is_hit());
    assert_purged(&proxy.purge(r#"{"urls": "test.example/a"}"#).await);
    assert!(!part("bytes=4-9").await.is_hit());
    assert!(!part("bytes=1-2").await.is_hit(), "the old part came back with the new one");
}

#[tokio::test]
async fn after_a_soft_purge_the_stale_entry_is_served_while_it_is_fetched_again() {
    let origin = Origin::start().await;
    origin.on_each("/a", [Reply::fresh("old"), Reply::fresh("new")]);
    let proxy = Proxy::plain(&origin).await;
    store(&proxy, "/a").await;
    assert_purged(&proxy.purge(r#"{"urls": "test.example/a", "soft": true}"#).await);
    let stale = proxy.get("/a").await;
    assert_eq!(stale.text(), "old");
    assert!(stale.cache_status().hit && stale.cache_status().ttl.is_some_and(|ttl| ttl <= 0), "{:?}", stale.headers);
    eventually("the new one", async || (proxy.get("/a").await.text() == "new").then_some(())).await;
    assert_eq!(origin.count("/a"), 2);
    assert!(proxy.get("/a").await.cache_status().ttl.is_some_and(|ttl| ttl > 0));
}

#[tokio::test]
async fn a_soft_purge_is_over_when_the_origin_confirms_what_is_stored() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a").etag("\"1\""));
    let proxy = Proxy::plain(&origin).await;
    store(&proxy, "/a").await;
    assert_purged(&proxy.purge(r#"{"all": true, "soft": true}"#).await);
    assert_eq!(proxy.get("/a").await.text(), "a");
    eventually("the entry to be fresh", async || {
        proxy.get("/a").await.cache_status().ttl.is_some_and(|ttl| ttl > 0).then_some(())
    })
    .await;
    assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"1\""));
}

#[tokio::test]
async fn what_must_be_revalidated_is_not_served_after_a_soft_purge() {
    let origin = Origin::start().await;
    let reply = |body| Reply::ok(body).header("cache-control", "max-age=60, must-revalidate");
    origin.on_each("/a", [reply("old"), reply("new")]);
    let proxy = Proxy::plain(&origin).await;
    store(&proxy, "/a").await;
    assert_purged(&proxy.purge(r#"{"tags": [], "all": true, "soft": true}"#).await);
    assert_eq!(proxy.get("/a").await.text(), "new");
}

#[tokio::test]
async fn after_a_soft_purge_the_stale_entry_stands_in_for_an_origin_that_fails_and_after_a_hard_one_not() {
    for (soft, status) in [(true, 200), (false, 502)] {
        let origin = Origin::start().await;
        origin.on_each("/a", [Reply::fresh("old"), Reply::hang_up()]);
        let proxy = Proxy::plain(&origin).await;
        store(&proxy, "/a").await;
        assert_purged(&proxy.purge(&format!("{{\"all\": true, \"soft\": {soft}}}")).await);
        for _ in 0..3 {
            assert_eq!(proxy.get("/a").await.status, status, "soft: {soft}");
        }
    }
}

#[tokio::test]
async fn a_fill_that_is_purged_serves_who_follows_it_and_is_not_stored() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [Reply::fresh("old ").hold(&gate).piece("end").chunked(), Reply::fresh("new")]);
    let proxy = Proxy::plain(&origin).await;
    let mut leader = proxy.get("/a").open().await;
    leader.read_until("old ").await;
    let mut follower = proxy.get("/a").open().await;
    follower.read_until("old ").await;
    assert_purged(&proxy.purge(r#"{"urls": "test.example/a"}"#).await);
    // Who comes after the purge gets what the origin has now.
    assert_eq!(proxy.get("/a").await.text(), "new");
    gate.open();
    assert_eq!((leader.rest().await.text(), follower.rest().await.text()), ("old end".into(), "old end".into()));
    let after = proxy.get("/a").await;
    assert_eq!((after.text().as_str(), after.is_hit(), origin.count("/a")), ("new", true, 2));
}

#[tokio::test]
async fn who_waited_for_a_fill_before_it_was_purged_is_served_by_it() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [Reply::fresh("old").after(&gate), Reply::fresh("new")]);
    let proxy = Proxy::plain(&origin).await;
    let leader = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let waiter = proxy.get("/a").spawn();
    proxy.wait_for_waiters(1).await;
    assert_purged(&proxy.purge(r#"{"tags": "unknown", "urls": "test.example/a"}"#).await);
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "old");
    assert_eq!(waiter.await.unwrap().text(), "old");
    let after = proxy.get("/a").await;
    assert_eq!((after.text().as_str(), after.is_hit(), origin.count("/a")), ("new", false, 2));
}

#[tokio::test]
async fn a_304_for_what_was_purged_meanwhile_does_not_bring_it_back() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let reply = |body: &str| Reply::ok(body).header("cache-control", "max-age=60, no-cache").etag("\"1\"");
    origin.on_each("/a", [reply("old"), reply("old").after(&gate), reply("new").header("x-third", "1")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let asking = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", 2).await;
    assert_purged(&proxy.purge(r#"{"urls": "test.example/a"}"#).await);
    gate.open();
    assert_eq!(asking.await.unwrap().status, 200);
    let after = proxy.get("/a").await;
    assert_eq!((after.text().as_str(), origin.last("/a").header("if-none-match")), ("new", None));
}

#[tokio::test]
async fn what_cannot_be_meant_is_a_400_and_purges_nothing() {
    let (_origin, proxy) = tagged().await;
    store(&proxy, "/a").await;
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"soft": true}"#,
        r#"{"all": false}"#,
        r#"{"url": "test.example/a"}"#,
        r#"{"all": true, "every": 1}"#,
        r#"{"all": "yes"}"#,
        r#"{"tags": {"a": 1}}"#,
        r#"{"urls": "/a"}"#,
        r#"{"bucket": "no-such"}"#,
        r#"{"all": true, "wait": "later"}"#,
    ] {
        let refused = proxy.purge(body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"));
        assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{body}");
    }
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let (_origin, proxy) = tagged().await;
    let call = proxy.purge("").header("x-ignored", "1");
    drop(call);
    let large = format!("{{\"tags\": \"{}\"}}", "x".repeat(17 << 20));
    let refused = proxy.purge(&large).attempt().await;
    // The connection may be gone before all of it is sent.
    assert!(refused.is_err() || refused.is_ok_and(|refused| refused.status == 413));
    assert_purged(&proxy.purge(r#"{"all": true}"#).await);
}

#[tokio::test]
async fn a_purge_needs_the_token_and_the_method_post() {
    let (_origin, proxy) = tagged().await;
    store(&proxy, "/a").await;
    let refused = proxy.admin("/v1/purge").await;
    assert_eq!(refused.status, 401);
    assert_eq!(proxy.admin("/v1/purge").token(proxy::TOKEN).await.status, 405);
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn what_is_not_stored_can_be_purged() {
    let (_origin, proxy) = tagged().await;
    for body in
        [r#"{"urls": "nobody.example/x"}"#, r#"{"tags": "none"}"#, r#"{"prefix": "nobody.example", "wait": "local"}"#]
    {
        assert_purged(&proxy.purge(body).await);
    }
}

#[tokio::test]
async fn purges_are_counted_and_logged() {
    let (_origin, proxy) = tagged().await;
    let told = proxy.purge(r#"{"urls": ["a.example", "b.example"], "tags": "t", "all": true}"#).await.json();
    for (kind, count) in [("url", 2.0), ("tag", 1.0), ("all", 1.0), ("prefix", 0.0)] {
        assert_eq!(proxy.metrics().await.sum("tidegate_purges_total", &format!("kind=\"{kind}\"")), count, "{kind}");
    }
    proxy.wait_for_log(told["id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn the_name_of_the_node_can_be_chosen() {
    let origin = Origin::start().await;
    let proxy = Proxy::builder(&origin).set("server.node", "cache-7").start().await;
    assert_eq!(proxy.purge(r#"{"all": true}"#).await.json()["applied"], serde_json::json!(["cache-7"]));
}

#[tokio::test]
async fn ten_thousand_tags_of_one_entry_are_all_known() {
    let origin = Origin::start().await;
    let policy = "return { response = function(req, res)
        local tags = table.create(10000)
        for i = 1, 10000 do tags[i] = 'tag-' .. i end
        return { ttl = '1h', tags = tags }
    end }";
    origin.on("/a", Reply::ok("a"));
    let proxy = Proxy::with_policy(&origin, policy).await;
    for tag in [1, 5000, 10_000] {
        store(&proxy, "/a").await;
        assert_purged(&proxy.purge(&format!("{{\"tags\": \"tag-{tag}\"}}")).await);
        assert!(!proxy.get("/a").await.is_hit(), "{tag}");
    }
    store(&proxy, "/a").await;
    assert_purged(&proxy.purge(r#"{"tags": "tag-10001"}"#).await);
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_hundred_thousand_purges_keep_what_they_do_not_name() {
    let (_origin, proxy) = tagged().await;
    store(&proxy, "/a").await;
    let began = Instant::now();
    for thousand in 0..120 {
        // Nothing was folded yet.
        if thousand <= 110 {
            assert!(proxy.get("/a").await.is_hit(), "{thousand}");
        }
        let urls: Vec<String> = (0..1000).map(|n| format!("\"test.example/none/{thousand}/{n}\"")).collect();
        assert_purged(&proxy.purge(&format!("{{\"urls\": [{}]}}", urls.join(","))).await);
    }
    // Far more than it takes, and far less than a search of what is stored would.
    assert!(began.elapsed() < Duration::from_secs(60));
    proxy.wait_for_log("too many purges").await;
    store(&proxy, "/b").await;
    assert_purged(&proxy.purge(r#"{"urls": "test.example/none/0/0"}"#).await);
    assert!(proxy.get("/b").await.is_hit());
    assert_purged(&proxy.purge(r#"{"urls": "test.example/b"}"#).await);
    assert!(!proxy.get("/b").await.is_hit());
}

#[tokio::test]
async fn the_method_purge_is_for_configured_networks() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let from_here = ("[\"127.0.0.0/8\"]", 200);
    for (networks, status) in [("[\"10.0.0.0/8\"]", 405), from_here] {
        let proxy = Proxy::builder(&origin).set("server.purge_from", networks).start().await;
        store(&proxy, "/a").await;
        let asked = origin.count("/a");
        let answer = proxy.call("PURGE", "/a").await;
        assert_eq!(answer.status, status, "{networks}");
        assert_eq!(origin.count("/a"), asked, "it went to the origin");
        if status == 200 {
            assert_purged(&answer);
        }
        assert_eq!(proxy.get("/a").await.is_hit(), status != 200);
    }
}

#[tokio::test]
async fn where_nobody_may_purge_by_a_method_it_is_a_method_like_any_other() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::ok("the origin's own"));
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.call("PURGE", "/a").await.text(), "the origin's own");
    let reads = Proxy::builder(&origin).set("buckets.main.methods", "[GET, HEAD]").start().await;
    assert_eq!(reads.call("PURGE", "/a").await.status, 405);
}

#[tokio::test]
async fn a_trusted_proxy_does_not_lend_its_right_to_purge() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let proxy = Proxy::builder(&origin)
        .set("server.purge_from", "[\"127.0.0.0/8\"]")
        .set("server.trusted_proxies", "[\"127.0.0.0/8\"]")
        .start()
        .await;
    store(&proxy, "/a").await;
    assert_eq!(proxy.call("PURGE", "/a").header("x-forwarded-for", "192.0.2.1").await.status, 405);
    assert!(proxy.get("/a").await.is_hit());
}
