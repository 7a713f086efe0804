//! What is stored, and what is not: RFC 9111 section 3.

mod fields;

use crate::support::{Origin, Proxy, Reply, Response};

const MODIFIED: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

async fn pair() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

/// The answers to two requests for `path`, one after the other, without fields of their own.
async fn twice(proxy: &Proxy, path: &str) -> (Response, Response) {
    (proxy.get(path).await, proxy.get(path).await)
}

/// 200 with this `Cache-Control` and a field `x-kept`.
fn controlled(value: &str) -> Reply {
    Reply::ok("a").header("x-kept", "yes").header("cache-control", value)
}

/// Asserts for each value of `Cache-Control` whether a response with it is stored.
async fn assert_stored(values: &[&str], stored: bool) {
    let (origin, proxy) = pair().await;
    for (n, value) in values.iter().enumerate() {
        let path = format!("/{n}");
        origin.on(&path, controlled(value));
        let (first, second) = twice(&proxy, &path).await;
        assert_eq!((first.status, first.text().as_str()), (200, "a"), "cache-control: {value}");
        assert_eq!(second.is_hit(), stored, "cache-control: {value}: {:?}", second.cache_status());
        assert_eq!(origin.count(&path), if stored { 1 } else { 2 }, "cache-control: {value}");
    }
}

// RFC 9111 section 3: "the response status code is final", and one of the reasons for storing it is present.
#[tokio::test]
async fn any_final_status_with_explicit_freshness_is_stored() {
    let (origin, proxy) = pair().await;
    for status in
        [200, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 404, 405, 410, 414, 451, 499, 500, 501, 503, 599]
    {
        let path = format!("/{status}");
        let body = if status == 204 { "" } else { "a" };
        let reply = Reply::status(status).piece(body).header("cache-control", "max-age=3600").header("x-kept", "yes");
        origin.on(&path, reply);
        let (first, second) = twice(&proxy, &path).await;
        for answer in [&first, &second] {
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
            assert_eq!(answer.header("x-kept").as_deref(), Some("yes"), "{status}");
        }
        assert!(second.is_hit(), "{status}: {:?}", second.cache_status());
        assert_eq!(origin.count(&path), 1, "{status}");
    }
}

// RFC 9111 section 3: a response that is not final is no answer; RFC 9110 section 15.2
#[tokio::test]
async fn an_interim_response_is_not_what_is_stored() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("a").header("x-kept", "yes").informational(103, "x-early: yes"));
    let (_, hit) = twice(&proxy, "/a").await;
    assert!(hit.is_hit());
    assert_eq!((hit.status, hit.text().as_str()), (200, "a"));
    assert_eq!((hit.header("x-kept").as_deref(), hit.header("x-early")), (Some("yes"), None));
}

// RFC 9110 section 15: a client must understand the class of a status, not each status; a cache is no obstacle.
#[tokio::test]
async fn a_status_of_no_class_passes_through_unharmed() {
    let (origin, proxy) = pair().await;
    for (path, control) in [("/plain", "no-store"), ("/fresh", "max-age=3600")] {
        origin.on(path, Reply::status(999).piece("odd").header("cache-control", control).header("x-kept", "yes"));
        for round in 0..2 {
            let answer = proxy.get(path).await;
            assert_eq!((answer.status, answer.text().as_str()), (999, "odd"), "{path}, round {round}");
            assert_eq!(answer.header("x-kept").as_deref(), Some("yes"), "{path}, round {round}");
        }
    }
}

// RFC 9111 section 3: "Expires", "max-age", "s-maxage"
#[tokio::test]
async fn each_kind_of_explicit_freshness_is_a_reason_to_store() {
    let (origin, proxy) = pair().await;
    // A status that permits no guess.
    let created = Reply::status(201).piece("a");
    for (n, (name, value)) in [
        ("cache-control", "max-age=3600"),
        ("cache-control", "s-maxage=3600"),
        ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("cdn-cache-control", "max-age=3600"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, created.clone().header(name, value));
        assert!(twice(&proxy, &path).await.1.is_hit(), "{name}: {value}");
    }
}

// RFC 9111 section 3, "a status code that is defined as heuristically cacheable"; RFC 9110 section 15.1
#[tokio::test]
async fn a_status_that_permits_no_guess_is_not_stored_without_freshness() {
    let (origin, proxy) = pair().await;
    for status in [201, 202, 299, 302, 303, 307, 400, 403, 451, 499, 500, 502, 503, 504, 599] {
        let path = format!("/{status}");
        origin.on(&path, Reply::status(status).piece("a").etag("\"v\"").header("last-modified", MODIFIED));
        let (first, second) = twice(&proxy, &path).await;
        assert!(!first.cache_status().stored && !second.is_hit(), "{status}: {:?}", second.cache_status());
        assert!(origin.last(&path).header("if-none-match").is_none(), "{status} was kept to be validated");
    }
}

// RFC 9111 section 3, "a status code that is defined as heuristically cacheable"
#[tokio::test]
async fn a_status_that_permits_a_guess_is_stored_without_freshness() {
    let (origin, proxy) = pair().await;
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        let path = format!("/{status}");
        let body = if status == 204 { "" } else { "a" };
        origin.on(&path, Reply::status(status).piece(body).header("last-modified", MODIFIED));
        assert!(twice(&proxy, &path).await.1.is_hit(), "{status}");
    }
}

// RFC 9111 section 3: "a public response directive" is a reason, whatever the status is.
#[tokio::test]
async fn public_is_a_reason_to_store_any_final_status() {
    let (origin, proxy) = pair().await;
    for status in [201, 202, 299, 302, 303, 307, 400, 403, 451, 499, 599] {
        let path = format!("/{status}");
        origin.on(&path, Reply::status(status).piece("a").header("cache-control", "public").etag("\"v\""));
        let (first, second) = twice(&proxy, &path).await;
        assert!(first.cache_status().stored, "{status}: {:?}", first.cache_status());
        // Nothing says how long it is fresh, so that it is validated before use.
        assert_eq!(origin.last(&path).header("if-none-match").as_deref(), Some("\"v\""), "{status}");
        assert_eq!((second.status, second.text().as_str()), (status, "a"));
    }
}

// RFC 9111 section 3: nothing requires to store; what can neither be fresh nor be validated is of no use.
#[tokio::test]
async fn a_response_that_could_never_be_used_is_not_stored() {
    assert_stored(&["public", "max-age=0", "no-cache", "max-age=3600, no-cache", "x"], false).await;
}

// RFC 9111 section 5.2.2.3
#[tokio::test]
async fn must_understand_sets_no_store_aside_for_a_status_that_is_understood() {
    let (origin, proxy) = pair().await;
    for status in [200, 204, 301, 302, 404, 410, 451, 500, 503] {
        for (n, control) in ["max-age=3600, no-store, must-understand", "Must-Understand, No-Store, s-maxage=3600"]
            .into_iter()
            .enumerate()
        {
            let path = format!("/{status}/{n}");
            origin.on(&path, Reply::status(status).header("cache-control", control));
            assert!(twice(&proxy, &path).await.1.is_hit(), "{status} with {control}");
        }
    }
}

// RFC 9111 section 5.2.2.3
#[tokio::test]
async fn must_understand_forbids_to_store_a_status_that_is_not_understood() {
    let (origin, proxy) = pair().await;
    for status in [299, 399, 499, 599] {
        for (n, control) in
            ["max-age=3600, must-understand", "max-age=3600, no-store, must-understand, public"].into_iter().enumerate()
        {
            let path = format!("/{status}/{n}");
            origin.on(&path, Reply::status(status).piece("a").header("cache-control", control));
            let (first, second) = twice(&proxy, &path).await;
            assert_eq!((first.status, second.status), (status, status));
            assert!(!second.is_hit(), "{status} with {control}");
        }
    }
}

// RFC 9111 section 5.2.2.5; section 5.2: names are case-insensitive, and an argument that is not defined changes nothing
#[tokio::test]
async fn no_store_is_not_stored_however_it_is_spelled() {
    let spellings = [
        "no-store",
        "NO-STORE",
        "No-Store",
        "max-age=3600, no-store",
        "no-store, max-age=3600",
        "max-age=3600,no-store",
        "max-age=3600 ,\tno-store\t",
        ",, max-age=3600,, no-store,,",
        "public, s-maxage=3600, no-store",
        "max-age=3600, no-store=1",
        "max-age=3600, no-store=\"x\"",
        "max-age=3600, no-store no-cache",
        "max-age=3600, ext=\"open, no-store",
        "max-age=3600, ext=\"a\\\"b\", no-store",
    ];
    assert_stored(&spellings, false).await;
}

// RFC 9111 section 5.2; RFC 9110 section 5.3: lines of one field are one list
#[tokio::test]
async fn a_directive_counts_in_whichever_line_it_stands() {
    let (origin, proxy) = pair().await;
    for (n, forbids) in ["no-store", "private"].into_iter().enumerate() {
        for (m, lines) in [["max-age=3600", forbids], [forbids, "max-age=3600"]].into_iter().enumerate() {
            let path = format!("/{n}/{m}");
            origin.on(&path, Reply::ok("a").header("cache-control", lines[0]).header("cache-control", lines[1]));
            assert!(!twice(&proxy, &path).await.1.is_hit(), "{lines:?}");
        }
    }
}

// RFC 9111 section 5.2: a quoted string is one argument, whatever stands in it
#[tokio::test]
async fn a_name_within_a_quoted_string_is_no_directive() {
    let values = [
        "max-age=3600, ext=\"no-store\"",
        "max-age=3600, ext=\"a, no-store, b\"",
        "ext=\"private, \\\" no-cache\", max-age=3600",
        "max-age=3600, no-store-ever",
        "max-age=3600, x-private",
    ];
    assert_stored(&values, true).await;
}

// RFC 9111 section 5.2.2.7
#[tokio::test]
async fn private_is_not_stored_however_it_is_spelled() {
    let spellings = [
        "private",
        "PRIVATE",
        "private, max-age=3600",
        "s-maxage=3600, private",
        "public, private, max-age=3600",
        "max-age=3600, private=\"\"",
        "max-age=3600, private=",
        "max-age=3600, private=\"no field, at all\"",
        "max-age=3600, private=\"x-kept\", private",
    ];
    assert_stored(&spellings, false).await;
}

/// Asserts for values of `Cache-Control` whether the answer to a request with `Authorization` is shared.
async fn assert_shared(values: &[&str], shared: bool) {
    let (origin, proxy) = pair().await;
    for (n, value) in values.iter().enumerate() {
        let path = format!("/{n}");
        origin.on(&path, controlled(value));
        proxy.get(&path).header("authorization", "Basic eDp5").await;
        assert_eq!(proxy.get(&path).await.is_hit(), shared, "cache-control: {value}");
    }
}

// RFC 9111 section 3.5
#[tokio::test]
async fn an_answer_to_authorization_is_shared_where_the_response_allows_it() {
    assert_shared(&["max-age=3600, public", "s-maxage=3600", "max-age=3600, must-revalidate"], true).await;
}

// RFC 9111 section 3.5
#[tokio::test]
async fn an_answer_to_authorization_is_not_shared_otherwise() {
    let values = [
        "max-age=3600",
        "max-age=3600, proxy-revalidate",
        "max-age=3600, immutable",
        "max-age=3600, stale-if-error=60",
        "max-age=3600, ext=\"public\"",
        "max-age=3600, public, private",
    ];
    assert_shared(&values, false).await;
}

// RFC 9111 section 3.5 is about answers to requests with the field; another answer may be used for such a request.
#[tokio::test]
async fn an_answer_to_anybody_is_also_for_a_request_with_authorization() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("a"));
    proxy.get("/a").await;
    assert!(proxy.get("/a").header("authorization", "Basic eDp5").await.is_hit());
}

// RFC 9111 section 5.2.1.5
#[tokio::test]
async fn the_answer_to_a_request_with_no_store_is_not_stored() {
    let (origin, proxy) = pair().await;
    origin.otherwise(|_| Reply::fresh("a"));
    for (n, value) in ["no-store", "No-Store", "max-age=9, no-store", "no-store=x"].iter().enumerate() {
        let path = format!("/{n}");
        let first = proxy.get(&path).header("cache-control", value).await;
        assert!(!first.cache_status().stored, "{value}");
        assert!(!proxy.get(&path).await.is_hit(), "{value}");
        // The wish was that one client's.
        assert!(proxy.get(&path).await.is_hit(), "{value}");
    }
}

// RFC 9111 section 3: "the request method is understood by the cache"
#[tokio::test]
async fn answers_to_other_methods_than_get_do_not_answer_a_get() {
    let (origin, proxy) = pair().await;
    origin.otherwise(|seen| Reply::fresh(&seen.method));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "UNKNOWN"] {
        let path = format!("/{method}");
        assert_eq!(proxy.call(method, &path).await.text(), method);
        assert_eq!(proxy.get(&path).await.text(), "GET", "after {method}");
    }
}

// RFC 9111 section 4.3.5 and RFC 9110 section 9.3.2: a HEAD asks for what a GET would bring, and is answered from what one brought.
#[tokio::test]
async fn a_stored_get_answers_a_head() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("four").header("x-kept", "yes"));
    proxy.get("/a").await;
    let head = proxy.call("HEAD", "/a").await;
    assert!(head.is_hit() && head.body.is_empty());
    assert_eq!((head.header("content-length").as_deref(), head.header("x-kept").as_deref()), (Some("4"), Some("yes")));
    assert_eq!(origin.count("/a"), 1);
}

// RFC 9111 section 3: what a HEAD leaves behind must not pass for what a GET would bring.
#[tokio::test]
async fn a_head_never_leaves_an_empty_body_for_a_get() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("four"));
    for _ in 0..2 {
        assert!(proxy.call("HEAD", "/a").await.body.is_empty());
        assert_eq!(proxy.get("/a").await.text(), "four");
    }
}

// RFC 9111 section 2: the cache key has the method, or stands for GET alone
#[tokio::test]
async fn a_stored_get_does_not_answer_other_methods() {
    let (origin, proxy) = pair().await;
    origin.otherwise(|seen| Reply::fresh(&seen.method));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "UNKNOWN"] {
        let path = format!("/{method}");
        proxy.get(&path).await;
        assert_eq!(proxy.call(method, &path).await.text(), method);
    }
}

// RFC 9110 section 7.6.1: fields for every recipient cannot be taken away by Connection.
#[tokio::test]
async fn connection_cannot_name_away_what_caching_depends_on() {
    let (origin, proxy) = pair().await;
    let reply = Reply::ok("a").header("connection", "cache-control, set-cookie, vary, age");
    origin.on("/a", reply.header("cache-control", "no-store, max-age=3600"));
    assert!(!twice(&proxy, "/a").await.1.is_hit());
}

// RFC 9111 section 5.2.3: "A cache MUST ignore unrecognized cache directives."
#[tokio::test]
async fn directives_that_nobody_knows_neither_help_nor_hinder() {
    assert_stored(
        &["max-age=3600, foo", "foo=bar, max-age=3600", "foo=\"a b\", max-age=3600, community=\"UCI\""],
        true,
    )
    .await;
    assert_stored(&["foo", "s-max-age=3600", "maxage=3600", "max_age=3600", "x-max-age=3600"], false).await;
}

// RFC 9111 section 5.4: Pragma in a response was never defined.
#[tokio::test]
async fn pragma_in_a_response_means_nothing() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("a").header("pragma", "no-cache"));
    let (_, hit) = twice(&proxy, "/a").await;
    assert!(hit.is_hit());
    assert_eq!(hit.header("pragma").as_deref(), Some("no-cache"));
}

// RFC 9111 section 5.2: directives pass through a proxy, whether it stores the message or not.
#[tokio::test]
async fn directives_of_a_response_reach_the_client_as_they_were_sent() {
    let (origin, proxy) = pair().await;
    for (n, control) in ["max-age=3600, s-maxage=1, foo=\"bar\"", "no-store", "private, MAX-AGE=5"].iter().enumerate() {
        let path = format!("/{n}");
        origin.on(&path, Reply::ok("a").header("cache-control", control));
        let (first, second) = twice(&proxy, &path).await;
        for answer in [first, second] {
            assert_eq!(answer.header("cache-control").as_deref(), Some(*control));
        }
    }
}
