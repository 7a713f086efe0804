//! Which fields are stored with a response: RFC 9111 sections 3.1, 5.2.2.4, 5.2.2.7 and 7.3.

use super::{MODIFIED, controlled, pair, twice};
use crate::support::{Gate, Reply};

/// What a hit has of `x-kept` and `x-secret`, when the origin said this.
async fn kept_and_secret(control: &str) -> (Option<String>, Option<String>) {
    let (origin, proxy) = pair().await;
    origin.on("/a", controlled(control).header("x-secret", "one").header("x-secret", "two"));
    let (first, second) = twice(&proxy, "/a").await;
    // Whoever the fields were sent to has them.
    assert_eq!(first.header("x-secret").as_deref(), Some("one, two"), "{control}");
    assert!(second.is_hit(), "{control}: {:?}", second.cache_status());
    (second.header("x-kept"), second.header("x-secret"))
}

// RFC 9111 section 5.2.2.7: "a shared cache MUST NOT store the listed header fields [...] but MAY store the remainder of the
// response message"
#[tokio::test]
async fn a_field_that_private_names_is_not_stored_and_the_rest_is() {
    for control in [
        "max-age=3600, private=\"x-secret\"",
        "max-age=3600, private=x-secret",
        "max-age=3600, Private=\"X-Secret\"",
        "max-age=3600, private=\"x-other, x-secret\"",
        "max-age=3600, private=\" x-secret ,\"",
        "private=\"x-other\", max-age=3600, private=\"x-secret\"",
    ] {
        assert_eq!(kept_and_secret(control).await, (Some("yes".to_owned()), None), "{control}");
    }
}

// RFC 9111 section 5.2.2.4: the response may be used "if the listed header fields are excluded from the subsequent response"
#[tokio::test]
async fn a_field_that_no_cache_names_is_not_reused_and_the_rest_is() {
    for control in ["max-age=3600, no-cache=\"x-secret\"", "max-age=3600, NO-CACHE=\"X-SECRET, x-other\""] {
        assert_eq!(kept_and_secret(control).await, (Some("yes".to_owned()), None), "{control}");
    }
}

// RFC 9111 section 5.2.2.7, for those who are answered by a response that is still on its way
#[tokio::test]
async fn a_field_that_private_names_is_for_the_client_whose_request_brought_it() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    let reply = Reply::ok("").header("cache-control", "max-age=3600, private=\"x-secret\"").header("x-secret", "one");
    origin.on("/a", reply.piece("begun").hold(&gate).piece("done").claim_length(9));
    let first = proxy.get("/a").open().await;
    let follower = proxy.get("/a").open().await;
    gate.open();
    let (first, follower) = (first.rest().await, follower.rest().await);
    assert_eq!((first.text().as_str(), follower.text().as_str()), ("begundone", "begundone"));
    assert_eq!(origin.count("/a"), 1);
    assert_eq!(first.header("x-secret").as_deref(), Some("one"));
    assert_eq!(follower.header("x-secret"), None);
}

// RFC 9111 sections 3.2 and 5.2.2.7
#[tokio::test]
async fn a_field_of_a_304_that_private_names_is_not_stored_either() {
    let (origin, proxy) = pair().await;
    let stale = Reply::ok("a").etag("\"v\"").header("age", "100");
    let fresh = Reply::ok("a").etag("\"v\"").header("cache-control", "max-age=3600, private=\"x-secret\"");
    origin.on_each("/a", [stale.header("cache-control", "max-age=60"), fresh.header("x-secret", "one")]);
    let (_, validated) = twice(&proxy, "/a").await;
    assert_eq!(validated.header("x-secret").as_deref(), Some("one"));
    let hit = proxy.get("/a").await;
    assert!(hit.is_hit() && hit.header("x-secret").is_none());
}

// RFC 9111 sections 5.2.2.4 and 5.2.2.7 allow to take the qualified form for the unqualified one. Without these fields, what
// is left would mean something else.
#[tokio::test]
async fn a_response_is_not_stored_without_the_fields_that_say_what_it_is() {
    let (origin, proxy) = pair().await;
    for directive in ["private", "no-cache"] {
        for field in ["vary", "content-encoding", "content-type", "cache-control", "expires", "date", "age"] {
            let path = format!("/{directive}/{field}");
            let reply = Reply::ok("a").header("vary", "x-user").header("content-encoding", "gzip");
            origin.on(&path, reply.header("cache-control", &format!("max-age=3600, {directive}=\"{field}\"")));
            assert!(!twice(&proxy, &path).await.1.is_hit(), "{directive}=\"{field}\"");
        }
    }
}

// RFC 9111 section 7.3: Set-Cookie does not inhibit caching
#[tokio::test]
async fn a_response_with_a_cookie_and_stated_freshness_is_stored_with_the_cookie() {
    let (origin, proxy) = pair().await;
    for (n, (name, value)) in [
        ("cache-control", "max-age=3600"),
        ("cache-control", "public, s-maxage=3600"),
        ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("cdn-cache-control", "max-age=3600"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        let reply = Reply::ok("a").header("set-cookie", "a=1").header("set-cookie", "b=2; Path=/");
        origin.on(&path, reply.header(name, value));
        let (_, hit) = twice(&proxy, &path).await;
        assert!(hit.is_hit(), "{name}: {value}");
        assert_eq!(hit.headers.all("set-cookie"), ["a=1", "b=2; Path=/"], "{name}: {value}");
    }
}

// RFC 9111 sections 5.2.2.4, 5.2.2.7 and 7.3
#[tokio::test]
async fn a_cookie_that_private_or_no_cache_names_is_not_stored() {
    let (origin, proxy) = pair().await;
    for (n, directive) in
        ["private=\"set-cookie\"", "no-cache=\"Set-Cookie\"", "no-cache=set-cookie"].iter().enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, Reply::fresh("a").header("set-cookie", "a=1").header("cache-control", directive));
        let (first, hit) = twice(&proxy, &path).await;
        assert_eq!(first.header("set-cookie").as_deref(), Some("a=1"), "{directive}");
        assert!(hit.is_hit(), "{directive}: {:?}", hit.cache_status());
        assert_eq!(hit.header("set-cookie"), None, "{directive}");
    }
}

// Stricter than RFC 9111 section 7.3, which would let a guess hand one client's cookie to another.
#[tokio::test]
async fn a_response_with_a_cookie_is_not_stored_on_a_guess() {
    let (origin, proxy) = pair().await;
    for (n, (name, value)) in
        [("last-modified", MODIFIED), ("etag", "\"v\""), ("cache-control", "max-age=0"), ("cache-control", "public")]
            .into_iter()
            .enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, Reply::ok("a").header("set-cookie", "a=1").header(name, value));
        let (first, second) = twice(&proxy, &path).await;
        assert!(!first.cache_status().stored && !second.is_hit(), "{name}: {value}");
    }
}

// RFC 9111 section 3.1: "Caches MUST include all received response header fields -- including unrecognized ones"
#[tokio::test]
async fn every_field_is_stored_known_or_not_and_each_line_of_it() {
    let (origin, proxy) = pair().await;
    let reply = Reply::fresh("a").header("x-one", "1").header("X-One", "2").header("content-language", "de");
    origin.on("/a", reply.header("x-empty", "").header("link", "</x>; rel=\"a, b\"").header("x-bytes", "caf\u{e9}"));
    let (first, hit) = twice(&proxy, "/a").await;
    assert!(hit.is_hit());
    for name in ["x-one", "content-language", "x-empty", "link", "x-bytes"] {
        assert_eq!(hit.headers.all(name), first.headers.all(name), "{name}");
        assert!(hit.header(name).is_some(), "{name}");
    }
    assert_eq!(hit.headers.all("x-one"), ["1", "2"]);
}

// RFC 9111 section 3.1: fields of the connection, and those that Connection names, are not stored.
#[tokio::test]
async fn fields_of_one_connection_are_not_stored() {
    let (origin, proxy) = pair().await;
    let fields =
        [("keep-alive", "timeout=9"), ("x-hop", "1"), ("proxy-authenticate", "Basic"), ("proxy-connection", "close")];
    let reply = Reply::fresh("a").header("connection", "keep-alive, X-Hop");
    origin.on("/a", fields.iter().fold(reply, |reply, (name, value)| reply.header(name, value)));
    let (_, hit) = twice(&proxy, "/a").await;
    assert!(hit.is_hit());
    for (name, _) in fields {
        assert_eq!(hit.header(name), None, "{name}");
    }
}
