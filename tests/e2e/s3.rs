//! A real S3 server behind the daemon: its keys, its signatures, and what never reaches it.

use crate::support::proxy::Builder;
use crate::support::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use crate::support::{Origin, Proxy, Reply, eventually};

/// A server with a bucket `media`, and in it `a.txt`.
async fn bucket() -> S3Server {
    let server = S3Server::start(&["media", "other"]).await;
    server.put("media", "a.txt", "0123456789");
    server.put("other", "x", "of another bucket");
    server
}

/// A daemon in front of `media`, with these credentials.
fn front(server: &S3Server, credentials: &str) -> Builder {
    Proxy::builder_with(&[
        ("origins.main.s3.endpoint", &format!("\"{}\"", server.endpoint())),
        ("origins.main.s3.bucket", "media"),
        ("origins.main.s3.credentials", credentials),
    ])
}

fn keys(secret: &str) -> String {
    format!("{{ access_key_id: {ACCESS_KEY}, secret_access_key: {secret} }}")
}

async fn with_bucket() -> (S3Server, Proxy) {
    let server = bucket().await;
    let proxy = front(&server, &keys(SECRET_KEY)).start().await;
    (server, proxy)
}

/// The same in front of a scripted origin, to see what is sent to a bucket.
async fn with_scripted_bucket() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.otherwise(|_| Reply::fresh("an object"));
    let proxy = Proxy::builder_with(&[
        ("origins.main.s3.endpoint", &format!("\"http://{}\"", origin.addr())),
        ("origins.main.s3.bucket", "media"),
        ("origins.main.s3.credentials", &keys(SECRET_KEY)),
    ]);
    (origin, proxy.start().await)
}

#[tokio::test]
async fn the_second_request_is_a_hit_that_the_bucket_does_not_see() {
    let (server, proxy) = with_bucket().await;
    let miss = proxy.get("/a.txt").await;
    assert_eq!((miss.status, miss.text().as_str(), miss.is_hit()), (200, "0123456789", false));
    let seen = server.requests();
    let hit = proxy.get("/a.txt").await;
    assert_eq!((hit.status, hit.text().as_str(), hit.is_hit()), (200, "0123456789", true));
    assert_eq!(server.requests(), seen);
}

#[tokio::test]
async fn every_kind_of_key_is_found_and_then_a_hit() {
    let (server, proxy) = with_bucket().await;
    for (key, target) in [
        ("a b.txt", "/a%20b.txt"),
        ("a+b.txt", "/a+b.txt"),
        ("c+d.txt", "/c%2Bd.txt"),
        ("folder/x", "/folder%2Fx"),
        ("100%", "/100%25"),
        ("%2F", "/%252F"),
        ("~user/~tilde", "/~user/%7Etilde"),
        ("photo (1)!'*.jpg", "/photo%20(1)!'*.jpg"),
        ("caf\u{e9}/\u{6d77}/\u{1f319}.svg", "/caf%C3%A9/%e6%b5%b7/%F0%9F%8C%99.svg"),
        ("na\u{ef}ve", "/na\u{ef}ve"),
        ("a..b/...c", "/a..b/...c"),
        ("semi;colon,comma=equals&and", "/semi;colon,comma=equals&and"),
    ] {
        server.put("media", key, key);
        for hit in [false, true] {
            let response = proxy.get(target).await;
            assert_eq!((response.status, response.text().as_str(), response.is_hit()), (200, key, hit), "{target}");
        }
    }
}

#[tokio::test]
async fn a_query_is_signed_and_part_of_the_key() {
    let (server, proxy) = with_bucket().await;
    for target in ["/a.txt?w=1", "/a.txt?w=2", "/a.txt?b=2&a=1&a=0", "/a.txt?q=a+b%20c%2Bd", "/a.txt?flag"] {
        for hit in [false, true] {
            let response = proxy.get(target).await;
            assert_eq!((response.status, response.is_hit()), (200, hit), "{target}: {}", response.text());
        }
    }
    assert_eq!(server.requests(), 5);
}

#[tokio::test]
async fn virtual_host_style_names_the_bucket_in_the_host() {
    // No resolver knows names of a test; `127.1`, a bucket and a host, is an address to the system's.
    let server = S3Server::start_with_domain(&["127"], "1").await;
    server.put("127", "a b.txt", "virtual");
    let proxy = front(&server, &keys(SECRET_KEY))
        .set("origins.main.s3.endpoint", &format!("\"http://1:{}\"", server.addr().port()))
        .set("origins.main.s3.bucket", "\"127\"")
        .set("origins.main.s3.style", "virtual_host")
        .start()
        .await;
    let response = proxy.get("/a%20b.txt?w=1").await;
    assert_eq!((response.status, response.text().as_str()), (200, "virtual"));
    assert!(proxy.get("/a%20b.txt?w=1").await.is_hit());
}

#[tokio::test]
async fn credentials_may_come_from_the_environment() {
    let server = bucket().await;
    let builder = front(&server, "env");
    let builder = builder.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let proxy = builder.start().await;
    assert_eq!(proxy.get("/a.txt").await.status, 200);
}

#[tokio::test]
async fn a_rotated_credentials_file_is_picked_up_by_a_running_daemon() {
    let server = bucket().await;
    let profile =
        |secret: &str| format!("[images]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n");
    let builder = front(&server, "{ profile: images, file: credentials }").file("credentials", &profile("outdated"));
    let proxy = builder.start().await;
    assert_eq!(proxy.get("/a.txt").await.status, 403);
    std::fs::write(proxy.path("credentials"), profile(SECRET_KEY)).unwrap();
    eventually("the rotated keys", async || (proxy.get("/a.txt").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn an_anonymous_request_carries_no_signature() {
    let origin = Origin::start().await;
    origin.on("/media/a.txt", Reply::fresh("public"));
    let proxy = Proxy::builder_with(&[
        ("origins.main.s3.endpoint", &format!("\"http://{}\"", origin.addr())),
        ("origins.main.s3.bucket", "media"),
        ("origins.main.s3.credentials", "anonymous"),
    ]);
    let proxy = proxy.start().await;
    assert_eq!(proxy.get("/a.txt").header("authorization", "Bearer mine").await.text(), "public");
    let seen = origin.last("/media/a.txt");
    assert!(seen.headers.0.iter().all(|(name, _)| !name.eq_ignore_ascii_case("authorization")), "{seen:?}");
    assert!(seen.headers.0.iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with("x-amz-")), "{seen:?}");
}

#[tokio::test]
async fn the_buckets_refusal_of_a_wrong_secret_is_passed_on_and_not_stored() {
    let server = bucket().await;
    for (credentials, code) in [(keys("wrong"), "SignatureDoesNotMatch"), ("anonymous".to_owned(), "AccessDenied")] {
        let proxy = front(&server, &credentials).start().await;
        for _ in 0..2 {
            let seen = server.requests();
            let refused = proxy.get("/a.txt").await;
            assert_eq!((refused.status, refused.is_hit()), (403, false));
            assert!(refused.text().contains(code), "{}", refused.text());
            assert!(!refused.cache_status().stored);
            assert_eq!(server.requests(), seen + 1);
        }
    }
}

#[tokio::test]
async fn missing_credentials_are_a_502_and_the_log_says_what_to_set() {
    let server = bucket().await;
    // Set to nothing, so that an environment with keys of its own does not help.
    let builder = front(&server, "env").env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    let proxy = builder.start().await;
    let response = proxy.get("/a.txt").await;
    assert_eq!(response.status, 502);
    assert_eq!(response.header("content-type").as_deref(), Some("application/problem+json"));
    assert_eq!(response.json()["reason"], "credentials");
    assert!(response.text().contains("credentials"));
    let line = proxy.wait_for_log(&response.header("x-request-id").unwrap()).await;
    assert!(line.contains("AWS_ACCESS_KEY_ID"), "{line}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_missing_key_is_the_buckets_404_with_its_words() {
    let (_server, proxy) = with_bucket().await;
    let missing = proxy.get("/none.txt").await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("<Code>NoSuchKey</Code>"), "{}", missing.text());
}

#[tokio::test]
async fn head_is_served_before_and_after_a_get() {
    let (server, proxy) = with_bucket().await;
    for seen in [1, 1] {
        let head = proxy.call("HEAD", "/a.txt").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length").as_deref(), Some("10"));
        let get = proxy.get("/a.txt").await;
        assert_eq!((get.status, get.text().as_str()), (200, "0123456789"));
        assert!(server.requests() <= seen + 1);
    }
}

#[tokio::test]
async fn ranges_and_conditions_are_answered_from_the_stored_object() {
    let (server, proxy) = with_bucket().await;
    let whole = proxy.get("/a.txt").await;
    let tag = whole.header("etag").expect("the bucket's ETag");
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let seen = server.requests();

    let part = proxy.get("/a.txt").header("range", "bytes=2-4").await;
    assert_eq!((part.status, part.text().as_str(), part.is_hit()), (206, "234", true));
    assert_eq!(part.header("content-range").as_deref(), Some("bytes 2-4/10"));

    let same = proxy.get("/a.txt").header("if-none-match", &tag).await;
    assert_eq!((same.status, same.body.len(), same.is_hit()), (304, 0, true));
    assert_eq!(same.header("etag"), Some(tag));
    assert_eq!(server.requests(), seen);
}

#[tokio::test]
async fn a_range_that_came_first_is_answered_and_never_stored_as_the_whole() {
    let (_server, proxy) = with_bucket().await;
    let part = proxy.get("/a.txt").header("range", "bytes=2-4").await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    let whole = proxy.get("/a.txt").await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
}

#[tokio::test]
async fn only_get_and_head_are_let_through() {
    let (server, proxy) = with_bucket().await;
    for method in ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"] {
        let refused = proxy.call(method, "/a.txt").body("new").await;
        assert_eq!(refused.status, 405, "{method}");
        assert_eq!(refused.header("allow").as_deref(), Some("GET, HEAD"));
        assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"));
    }
    assert_eq!(server.requests(), 0);
    assert_eq!(std::fs::read_to_string(server.file("media", "a.txt")).unwrap(), "0123456789");
}

#[tokio::test]
async fn methods_that_are_configured_write_and_forget_what_was_stored() {
    let server = bucket().await;
    let builder = front(&server, &keys(SECRET_KEY)).set("buckets.main.methods", "[GET, HEAD, PUT, DELETE]");
    let proxy = builder.start().await;
    assert_eq!(proxy.get("/a.txt").await.text(), "0123456789");
    let written = proxy.call("PUT", "/a.txt").body("changed").await;
    assert_eq!(written.status, 200, "{}", written.text());
    assert_eq!(std::fs::read_to_string(server.file("media", "a.txt")).unwrap(), "changed");
    assert_eq!(proxy.get("/a.txt").await.text(), "changed");
    assert_eq!(proxy.call("POST", "/a.txt").body("x").await.header("allow").as_deref(), Some("GET, HEAD, PUT, DELETE"));
}

#[tokio::test]
async fn listings_and_sub_resources_are_refused_with_an_explanation() {
    let (server, proxy) = with_bucket().await;
    for target in
        ["/", "//", "/?list-type=2", "/?prefix=a", "/a.txt?acl", "/a.txt?%61CL", "/a.txt?versionId=1", "/?uploads"]
    {
        let refused = proxy.get(target).await;
        assert_eq!(refused.status, 403, "{target}");
        assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"), "{target}");
        assert_eq!(refused.json()["reason"], "forbidden", "{target}");
        assert_eq!(refused.header("cache-control").as_deref(), Some("no-store"), "{target}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn no_path_leads_out_of_the_bucket() {
    let (server, proxy) = with_bucket().await;
    for target in ["/../other/x", "/%2e%2e/other/x", "/..%2Fother%2Fx", "/a/../../other/x", "/./a.txt", "/a%00b", "/%"]
    {
        let refused = proxy.get(target).await;
        assert_eq!(refused.status, 400, "{target}: {}", refused.text());
        assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"), "{target}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn the_clients_own_authority_never_reaches_the_bucket() {
    let (origin, proxy) = with_scripted_bucket().await;
    let call = proxy.get("/a.txt?X-Amz-Signature=00&v=1").header("authorization", "Bearer of-the-client");
    let call = call.header("x-amz-security-token", "of-the-client").header("x-amz-acl", "public-read");
    let call = call.header("cookie", "session=of-the-client").header("proxy-authorization", "Basic of-the-client");
    assert_eq!(call.header("x-kept", "yes").await.status, 200);
    let seen = origin.last("/media/a.txt");
    assert_eq!(seen.target, "/media/a.txt?v=1");
    assert!(!format!("{seen:?}").contains("of-the-client"), "{seen:?}");
    assert_eq!(seen.header("x-amz-acl"), None);
    assert_eq!(seen.headers.all("authorization").len(), 1);
    assert!(seen.header("authorization").is_some_and(|v| v.starts_with("AWS4-HMAC-SHA256 ")), "{seen:?}");
    assert_eq!(seen.headers.all("host"), [origin.addr().to_string().as_str()]);
}

#[tokio::test]
async fn a_changed_object_is_revalidated_with_the_buckets_own_tag() {
    let (origin, proxy) = with_scripted_bucket().await;
    origin.on("/media/b", Reply::ok("b").etag("\"v1\"").header("cache-control", "no-cache"));
    assert_eq!(proxy.get("/b").await.text(), "b");
    let again = proxy.get("/b").await;
    assert_eq!((again.status, again.text().as_str()), (200, "b"));
    assert_eq!(origin.last("/media/b").header("if-none-match").as_deref(), Some("\"v1\""));
    assert!(origin.last("/media/b").header("authorization").is_some());
}
