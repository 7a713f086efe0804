//! What a change makes invalid: RFC 9111 section 4.4.

use crate::support::{Call, Origin, Proxy, Reply};

/// Methods that change something, or may: PUT, DELETE, POST and PATCH by definition, the others because nobody knows.
const UNSAFE: [&str; 8] = ["POST", "PUT", "DELETE", "PATCH", "MKCOL", "PURGE", "M-SEARCH", "UNKNOWN"];

/// Methods that are safe by definition (RFC 9110 section 9.2.1 and the registry of methods).
const SAFE: [&str; 6] = ["OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"];

const SUCCESS: [u16; 10] = [200, 201, 202, 204, 299, 301, 302, 303, 307, 308];

/// An origin that answers `GET` and `HEAD` with something fresh, and other methods with `changed`.
async fn answering(changed: impl Fn() -> Reply + Send + Sync + 'static) -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.otherwise(move |seen| match seen.method.as_str() {
        "GET" | "HEAD" => Reply::fresh("a"),
        _ => changed(),
    });
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

/// An origin that answers with the status that a request names, and names `/b` and `/c` itself; without one, with something
/// fresh.
async fn obeying() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.otherwise(|seen| match seen.header("x-status").and_then(|status| status.parse().ok()) {
        Some(status) => Reply::status(status).header("location", "/b").header("content-location", "/c"),
        None => Reply::fresh("a"),
    });
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

async fn store(proxy: &Proxy, path: &str) {
    proxy.get(path).await;
    assert!(is_stored(proxy, path).await, "{path} was not stored");
}

/// Whether something stored answers, without changing that.
async fn is_stored(proxy: &Proxy, path: &str) -> bool {
    let answer = proxy.get(path).header("cache-control", "only-if-cached").await;
    assert!(matches!(answer.status, 200 | 504), "{path}: {}", answer.status);
    answer.status == 200
}

/// A request of that method, which waits for no answer that the method has none of.
fn change(proxy: &Proxy, method: &str, path: &str) -> Call {
    let call = proxy.call(method, path);
    // A trace has no content (RFC 9110 section 9.3.8).
    if method == "TRACE" { call } else { call.body("change") }
}

// RFC 9111 section 4.4: "A cache MUST invalidate the target URI [...] when it receives a non-error status code in response to an
// unsafe request method (including methods whose safety is unknown)."
#[tokio::test]
async fn an_unsafe_or_unknown_method_that_succeeds_invalidates_its_target() {
    let (origin, proxy) = answering(|| Reply::ok("done")).await;
    for method in UNSAFE {
        let path = format!("/{method}?x=1");
        store(&proxy, &path).await;
        assert_eq!(change(&proxy, method, &path).await.text(), "done", "{method}");
        assert!(!is_stored(&proxy, &path).await, "{method}");
        assert!(!proxy.get(&path).await.is_hit(), "{method}");
        assert_eq!(origin.count(&format!("/{method}")), 3, "{method}");
    }
}

// RFC 9111 section 4.4: "a "non-error response" is one with a 2xx (Successful) or 3xx (Redirection) status code"
#[tokio::test]
async fn any_success_or_redirection_invalidates() {
    let (_origin, proxy) = obeying().await;
    for status in SUCCESS {
        store(&proxy, "/a").await;
        assert_eq!(change(&proxy, "POST", "/a").header("x-status", &status.to_string()).await.status, status);
        assert!(!is_stored(&proxy, "/a").await, "{status}");
    }
}

// RFC 9111 section 4.4: a change that failed has changed nothing
#[tokio::test]
async fn an_error_invalidates_nothing() {
    let (_origin, proxy) = obeying().await;
    for path in ["/a", "/b", "/c"] {
        store(&proxy, path).await;
    }
    for status in [400, 401, 403, 404, 405, 409, 412, 422, 499, 500, 502, 503, 504, 599] {
        for method in ["POST", "PUT", "DELETE", "UNKNOWN"] {
            let call = change(&proxy, method, "/a").header("x-status", &status.to_string());
            assert_eq!(call.await.status, status, "{method}");
        }
        for path in ["/a", "/b", "/c"] {
            assert!(is_stored(&proxy, path).await, "{path} after {status}");
        }
    }
}

// RFC 9111 section 4.4: the origin that was never reached has changed nothing that a cache could know of
#[tokio::test]
async fn a_change_without_an_answer_invalidates_nothing() {
    let (_origin, proxy) = answering(Reply::hang_up).await;
    store(&proxy, "/a").await;
    assert_eq!(change(&proxy, "POST", "/a").await.status, 502);
    assert!(is_stored(&proxy, "/a").await);
}

// RFC 9110 section 9.2.1: safe methods change nothing
#[tokio::test]
async fn a_safe_method_invalidates_nothing() {
    let reply = || Reply::ok("").header("location", "/b").header("content-location", "/c");
    let (origin, proxy) = answering(reply).await;
    for path in ["/a", "/b", "/c"] {
        store(&proxy, path).await;
    }
    for method in SAFE {
        assert_eq!(change(&proxy, method, "/a").await.status, 200, "{method}");
        assert_eq!(origin.last("/a").method, method);
        for path in ["/a", "/b", "/c"] {
            assert!(is_stored(&proxy, path).await, "{path} after {method}");
        }
    }
}

// RFC 9110 sections 9.2.1 and 9.3.2: the same holds for GET and HEAD, whose answers may name places, too
#[tokio::test]
async fn get_and_head_invalidate_nothing() {
    let origin = Origin::start().await;
    origin.otherwise(|seen| match seen.path() {
        "/uncached" => Reply::ok("").header("cache-control", "no-store").header("content-location", "/a"),
        _ => Reply::fresh("a"),
    });
    let proxy = Proxy::plain(&origin).await;
    store(&proxy, "/a").await;
    for method in ["GET", "HEAD"] {
        proxy.call(method, "/uncached").await;
        proxy.call(method, "/a").await;
        assert!(is_stored(&proxy, "/a").await, "{method}");
    }
    assert_eq!(origin.count("/a"), 1);
}

/// Asserts for values of this field in the answer to a change of `/dir/a` whether they invalidate a path.
async fn assert_named(field: &'static str, rows: &[(&str, &str)], invalid: bool) {
    let origin = Origin::start().await;
    origin.otherwise(move |seen| match seen.header("x-say") {
        Some(value) => Reply::status(201).header(field, &value),
        None => Reply::fresh("a"),
    });
    let proxy = Proxy::plain(&origin).await;
    for (value, path) in rows {
        store(&proxy, path).await;
        let done = change(&proxy, "POST", "/dir/a?q").header("x-say", value).await;
        assert_eq!((done.status, done.header(field).as_deref()), (201, Some(*value)));
        assert_eq!(!is_stored(&proxy, path).await, invalid, "{path} after {field}: {value}");
    }
}

// RFC 9111 section 4.4: "A cache MAY invalidate other URIs [...] In particular, the URI(s) in the Location and Content-Location
// response header fields (if present) are candidates"; RFC 9110 sections 8.7 and 10.2.2: they are references
#[tokio::test]
async fn location_and_content_location_on_the_same_host_are_invalid_as_well() {
    for field in ["location", "content-location"] {
        let rows = [
            ("/b", "/b"),
            ("/b?x=1", "/b?x=1"),
            ("b", "/dir/b"),
            ("../b", "/b"),
            ("./b/../c", "/dir/c"),
            ("/b#part", "/b"),
            ("?x=1", "/dir/a?x=1"),
            ("//test.example/b", "/b"),
            ("http://test.example/b", "/b"),
            ("HTTP://TEST.EXAMPLE/b", "/b"),
            ("http://test.example:80/b", "/b"),
            ("http://test.example", "/"),
        ];
        assert_named(field, &rows, true).await;
    }
}

// RFC 9111 section 4.4: "A cache MUST NOT trigger an invalidation under these conditions if the origin [...] of the URI to be
// invalidated differs from that of the target URI"
#[tokio::test]
async fn location_and_content_location_on_another_host_stay_valid() {
    for field in ["location", "content-location"] {
        let rows = [
            "http://other.example/b",
            "//other.example/b",
            "http://test.example.other/b",
            "http://sub.test.example/b",
            "http://test.example:8080/b",
            "http://test.example@other.example/b",
            "ftp://test.example/b",
            "urn:x:/b",
            "/c",
            "b",
        ];
        assert_named(field, &rows.map(|value| (value, "/b")), false).await;
    }
}

// RFC 9111 section 4.4: nor are entries of the named host touched from another one
#[tokio::test]
async fn no_host_can_invalidate_what_is_stored_of_another() {
    let reply = || Reply::status(201).header("location", "http://victim.example/a").header("content-location", "/a");
    let (_origin, proxy) = answering(reply).await;
    let stored = async || proxy.get("/a").host("victim.example").await.is_hit();
    stored().await;
    assert!(stored().await);
    for path in ["/a", "/b"] {
        assert_eq!(proxy.call("POST", path).host("attacker.example").body("x").await.status, 201);
        assert!(stored().await, "after a POST to {path} of another host");
    }
}

// RFC 9111 section 4.4: "the target URI" has a query
#[tokio::test]
async fn only_what_was_named_is_invalid() {
    let (_origin, proxy) = answering(|| Reply::status(201).header("location", "/new?x=1")).await;
    let others = ["/a?x=2", "/a/", "/a/b", "/A", "/b", "/new", "/new?x=2", "/"];
    for path in ["/a", "/new?x=1"].iter().chain(&others) {
        store(&proxy, path).await;
    }
    change(&proxy, "POST", "/a").await;
    for path in ["/a", "/new?x=1"] {
        assert!(!is_stored(&proxy, path).await, "{path}");
    }
    for path in others {
        assert!(is_stored(&proxy, path).await, "{path}");
    }
}

// RFC 9111 section 4.4: "remove all stored responses whose target URI matches the given URI"
#[tokio::test]
async fn all_variants_of_the_target_are_invalid() {
    let origin = Origin::start().await;
    origin.otherwise(|seen| match seen.method.as_str() {
        "GET" => Reply::fresh(seen.header("accept-language").unwrap_or_default()).header("vary", "accept-language"),
        _ => Reply::status(204).header("location", "/b"),
    });
    let proxy = Proxy::plain(&origin).await;
    let languages = [None, Some("de"), Some("en"), Some("fr")];
    let ask = async |path: &str, language: Option<&str>| {
        let call = language.into_iter().fold(proxy.get(path), |call, l| call.header("accept-language", l));
        call.await.is_hit()
    };
    for path in ["/a", "/b"] {
        for language in languages {
            assert!(!ask(path, language).await && ask(path, language).await, "{path}, {language:?}");
        }
    }
    assert_eq!(proxy.call("PUT", "/a").header("accept-language", "de").body("x").await.status, 204);
    for path in ["/a", "/b"] {
        for language in languages {
            assert!(!ask(path, language).await, "{path}, {language:?}");
        }
    }
}

// RFC 9111 section 4.4: a response to the method need not be storable to invalidate
#[tokio::test]
async fn what_the_answer_says_of_caching_is_no_matter() {
    for control in ["no-store", "max-age=3600", "private"] {
        let (_origin, proxy) = answering(move || Reply::ok("done").header("cache-control", control)).await;
        store(&proxy, "/a").await;
        change(&proxy, "POST", "/a").await;
        assert!(!is_stored(&proxy, "/a").await, "{control}");
        assert_eq!(proxy.get("/a").await.text(), "a", "{control}");
    }
}

// RFC 9111 section 4.4: after the change, the new response is as good as any
#[tokio::test]
async fn what_is_fetched_after_a_change_is_stored_again() {
    let (origin, proxy) = answering(|| Reply::status(204)).await;
    store(&proxy, "/a").await;
    change(&proxy, "DELETE", "/a").await;
    store(&proxy, "/a").await;
    assert_eq!(origin.count("/a"), 3);
}

// RFC 9111 section 5.2.1: directives of a request are about what is stored, not about what it changes.
#[tokio::test]
async fn directives_of_the_request_do_not_hide_a_change() {
    let (_origin, proxy) = answering(|| Reply::ok("done")).await;
    for control in ["no-store", "only-if-cached", "max-stale"] {
        store(&proxy, "/a").await;
        assert_eq!(change(&proxy, "POST", "/a").header("cache-control", control).await.text(), "done", "{control}");
        assert!(!is_stored(&proxy, "/a").await, "{control}");
    }
}

// RFC 9110 section 9.2.1: a stored response is one of the target whoever asks; a change by one client is one for all.
#[tokio::test]
async fn a_change_with_authorization_is_one_for_everybody() {
    let (_origin, proxy) = answering(|| Reply::ok("done")).await;
    store(&proxy, "/a").await;
    change(&proxy, "POST", "/a").header("authorization", "Basic eDp5").header("cookie", "a=1").await;
    assert!(!is_stored(&proxy, "/a").await);
}
