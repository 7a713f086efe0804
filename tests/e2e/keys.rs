//! What makes two requests the same request.

use crate::support::{Origin, Proxy, Reply};

/// An origin whose every answer is fresh and says which host and target it was asked for.
async fn echo() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|seen| Reply::fresh(format!("{} {}", seen.header("host").unwrap_or_default(), seen.target)));
    origin
}

/// Asks for both targets and says whether the second was answered with the entry of the first.
async fn shared(proxy: &Proxy, one: &str, two: &str) -> bool {
    let first = proxy.get(one).await;
    assert!(!first.is_hit(), "{one} was cached before");
    let second = proxy.get(two).await;
    assert_eq!(second.is_hit(), second.body == first.body);
    second.is_hit()
}

#[tokio::test]
async fn the_query_is_part_of_the_key() {
    let origin = echo().await;
    let proxy = Proxy::plain(&origin).await;
    assert!(!shared(&proxy, "/a?x=1", "/a?x=2").await);
    assert!(proxy.get("/a?x=1").await.is_hit());
    assert!(!proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn without_a_policy_the_uri_counts_as_sent() {
    let origin = echo().await;
    let proxy = Proxy::plain(&origin).await;
    assert!(!shared(&proxy, "/a?x=1&y=2", "/a?y=2&x=1").await);
    assert!(!shared(&proxy, "/b/%7Eme", "/b/~me").await);
    assert_eq!(origin.last("/b/%7Eme").target, "/b/%7Eme");
}

#[tokio::test]
async fn a_policy_key_replaces_the_uri() {
    let origin = echo().await;
    let policy = "return { request = function(req) return { key = { req.path } } end }";
    let proxy = Proxy::with_policy(&origin, policy).await;
    assert!(shared(&proxy, "/a?utm=1", "/a?utm=2").await);
    assert!(!proxy.get("/b?utm=1").await.is_hit());
}

#[tokio::test]
async fn a_policy_picks_the_query_fields_that_count() {
    let origin = echo().await;
    let policy = r#"return { request = function(req) return { key = { req.path, req.query:only("w", "h") } } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    assert!(shared(&proxy, "/a?w=1&h=2&session=x", "/a?w=1&h=2&session=y").await);
    assert!(!proxy.get("/a?w=2&h=2&session=x").await.is_hit());
}

#[tokio::test]
async fn the_origin_is_asked_for_the_whole_uri_whatever_the_key_is() {
    let origin = echo().await;
    let policy = "return { request = function(req) return { key = { req.path } } end }";
    let proxy = Proxy::with_policy(&origin, policy).await;
    proxy.get("/a?utm=1").await;
    assert_eq!(origin.last("/a").target, "/a?utm=1");
}

#[tokio::test]
async fn borders_between_key_parts_count() {
    let origin = echo().await;
    let policy = r#"return { request = function(req)
        if req.path == "/one" then return { key = { "a", "bc" } } end
        return { key = { "ab", "c" } }
    end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    assert!(!shared(&proxy, "/one", "/two").await);
    assert!(proxy.get("/three").await.is_hit());
}

#[tokio::test]
async fn the_host_is_part_of_the_key_even_under_a_policy() {
    let origin = echo().await;
    let policy = r#"return { request = function(req) return { key = { "constant" } } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    proxy.get("/a").host("one.test").await;
    assert!(!proxy.get("/a").host("two.test").await.is_hit());
    assert!(proxy.get("/a").host("one.test").await.is_hit());
}

#[tokio::test]
async fn the_case_of_a_host_does_not_count() {
    let origin = echo().await;
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").host("one.test").await;
    assert!(proxy.get("/a").host("ONE.test").await.is_hit());
}

#[tokio::test]
async fn an_operator_can_let_hosts_share_entries() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).set("buckets.main.host_in_key", "false").start().await;
    proxy.get("/a").host("one.test").await;
    let other = proxy.get("/a").host("two.test").await;
    assert!(other.is_hit());
    assert_eq!(other.text(), "one.test /a");
}

#[tokio::test]
async fn the_bucket_is_part_of_the_key() {
    let origin = echo().await;
    let bucket =
        |host: &str| format!("{{ match: {{ hosts: [{host}] }}, origin: main, policy: same.lua, host_in_key: false }}");
    let proxy = Proxy::builder(&origin)
        .policy("same.lua", r#"return { request = function(req) return { key = { "constant" } } end }"#)
        .bucket("one", &bucket("one.test"))
        .bucket("two", &bucket("two.test"))
        .start()
        .await;
    proxy.get("/a").host("one.test").await;
    assert!(!proxy.get("/a").host("two.test").await.is_hit());
    assert!(proxy.get("/b").host("one.test").await.is_hit());
}

#[tokio::test]
async fn the_most_exact_host_wins_then_the_longest_path() {
    let origin = echo().await;
    let rule = |hosts: &str, path: &str, name: &str| {
        format!("{{ match: {{ hosts: [{hosts}], path: {path} }}, origin: main, policy: {name}.lua }}")
    };
    let mut builder = Proxy::builder(&origin);
    for (name, hosts, path) in [
        ("any", "\"*\"", "/"),
        ("suffix", "\"*.shop.test\"", "/"),
        ("exact", "img.shop.test", "/"),
        ("deep", "img.shop.test", "/big/"),
    ] {
        let policy =
            format!("return {{ deliver = function() return {{ headers = {{ [\"x-by\"] = \"{name}\" }} }} end }}");
        builder = builder.bucket(name, &rule(hosts, path, name)).policy(&format!("{name}.lua"), &policy);
    }
    let proxy = builder.start().await;
    for (host, target, expected) in [
        ("else.test", "/big/a", "any"),
        ("www.shop.test", "/big/a", "suffix"),
        ("img.shop.test", "/a", "exact"),
        ("img.shop.test", "/big/a", "deep"),
    ] {
        let by = proxy.get(target).host(host).await.header("x-by");
        assert_eq!(by.as_deref(), Some(expected), "{host}{target}");
    }
}
