//! Asking the origin whether a stored response still holds, and telling clients that theirs does: RFC 9111 section 4.3, RFC
//! 9110 section 13.

use crate::support::{Ending, Origin, Proxy, Reply};

const OLD: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
const NEW: &str = "Thu, 02 Jan 2020 00:00:00 GMT";

/// A response that is stored and was too old to be reused when it came.
fn stale(body: &str) -> Reply {
    Reply::ok(body).header("cache-control", "max-age=60").header("age", "100")
}

fn not_modified() -> Reply {
    Reply::status(304).header("cache-control", "max-age=60")
}

async fn fresh_entry(reply: Reply) -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.on("/a", reply);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    (origin, proxy)
}

// RFC 9111 section 4.3.2, RFC 9110 section 13.1.2
#[tokio::test]
async fn if_none_match_is_answered_from_the_store_by_weak_comparison() {
    let cases = [
        ("\"v1\"", "\"v1\"", 304),
        ("\"v1\"", "W/\"v1\"", 304),
        ("W/\"v1\"", "\"v1\"", 304),
        ("W/\"v1\"", "W/\"v1\"", 304),
        ("\"v1\"", "\"v2\"", 200),
        ("\"v1\"", "\"V1\"", 200),
        ("\"v1\"", "\"v0\", W/\"v1\" , \"v2\"", 304),
        ("\"v1\"", "\"v0\", \"v2\"", 200),
        ("\"a,b\"", "\"a,b\"", 304),
        ("\"a,b\"", "\"a\", \"b\"", 200),
        ("\"v1\"", "*", 304),
        ("", "*", 304),
        ("", "\"v1\"", 200),
        ("\"v1\"", "", 200),
    ];
    for (tag, condition, status) in cases {
        let reply = Reply::fresh("body");
        let reply = if tag.is_empty() { reply } else { reply.header("etag", tag) };
        let (origin, proxy) = fresh_entry(reply).await;
        let answer = proxy.get("/a").header("if-none-match", condition).await;
        assert_eq!(answer.status, status, "{tag:?} asked with {condition:?}");
        assert!(answer.is_hit() && origin.count("/a") == 1, "{tag:?} asked with {condition:?}");
        assert_eq!(answer.text(), if status == 304 { "" } else { "body" }, "{tag:?} asked with {condition:?}");
    }
}

// RFC 9110 section 13.1.2: a list may come in several lines
#[tokio::test]
async fn if_none_match_counts_over_all_its_lines() {
    let (_origin, proxy) = fresh_entry(Reply::fresh("body").header("etag", "\"v1\"")).await;
    let answer = proxy.get("/a").header("if-none-match", "\"v0\"").header("if-none-match", "\"v1\"").await;
    assert_eq!(answer.status, 304);
}

// RFC 9111 section 4.3.2, RFC 9110 section 13.1.3
#[tokio::test]
async fn if_modified_since_is_answered_from_the_store() {
    let cases = [
        (NEW, OLD, 304),
        (OLD, OLD, 304),
        (OLD, NEW, 200),
        ("Thursday, 02-Jan-20 00:00:00 GMT", OLD, 304),
        ("Thu Jan  2 00:00:00 2020", OLD, 304),
        ("yesterday", OLD, 200),
        ("2020-01-02T00:00:00Z", OLD, 200),
        ("", OLD, 200),
    ];
    for (condition, modified, status) in cases {
        let (origin, proxy) = fresh_entry(Reply::fresh("body").header("last-modified", modified)).await;
        let answer = proxy.get("/a").header("if-modified-since", condition).await;
        assert_eq!((answer.status, origin.count("/a")), (status, 1), "modified {modified}, asked with {condition:?}");
    }
}

// RFC 9111 section 4.3.2: "a cache SHOULD use the response's Date field value"
#[tokio::test]
async fn if_modified_since_is_compared_with_the_date_where_last_modified_is_missing() {
    for (condition, status) in [(NEW, 304), (OLD, 200)] {
        let date = "Wed, 01 Jan 2020 12:00:00 GMT";
        let reply = Reply::ok("body").header("date", date).header("cache-control", "max-age=4000000000");
        let (_origin, proxy) = fresh_entry(reply).await;
        assert_eq!(proxy.get("/a").header("if-modified-since", condition).await.status, status, "{condition}");
    }
}

// RFC 9110 section 13.1.3: "A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match"
#[tokio::test]
async fn if_none_match_outranks_if_modified_since() {
    let (_origin, proxy) =
        fresh_entry(Reply::fresh("body").header("etag", "\"v1\"").header("last-modified", OLD)).await;
    let ask = |tag: &str, date: &str| proxy.get("/a").header("if-none-match", tag).header("if-modified-since", date);
    assert_eq!(ask("\"v2\"", NEW).await.status, 200);
    assert_eq!(ask("\"v1\"", "Tue, 01 Jan 2019 00:00:00 GMT").await.status, 304);
}

// RFC 9110 section 13.2.1: conditions are for what would be a success
#[tokio::test]
async fn conditions_are_ignored_where_the_stored_response_is_no_success() {
    let reply = Reply::status(404).piece("none").header("cache-control", "max-age=60").header("etag", "\"v1\"");
    let (_origin, proxy) = fresh_entry(reply).await;
    assert_eq!(proxy.get("/a").header("if-none-match", "\"v1\"").await.status, 404);
}

// RFC 9110 section 13.1.1: a cache may leave `If-Match` to the origin, and does not fail it
#[tokio::test]
async fn if_match_does_not_keep_a_stored_response_back() {
    let (origin, proxy) = fresh_entry(Reply::fresh("body").header("etag", "\"v1\"")).await;
    let answer = proxy.get("/a").header("if-match", "\"v2\"").await;
    assert_eq!((answer.status, answer.text().as_str(), origin.count("/a")), (200, "body", 1));
}

// RFC 9110 section 15.4.5
#[tokio::test]
async fn a_304_has_the_fields_that_it_must_have_and_none_about_the_content() {
    let reply = Reply::ok("body")
        .header("cache-control", "max-age=4000000000")
        .header("etag", "\"v1\"")
        .header("last-modified", OLD)
        .header("date", NEW)
        .header("expires", NEW)
        .header("vary", "accept-encoding")
        .header("content-location", "/b")
        .header("content-type", "text/plain")
        .header("content-language", "en")
        .header("access-control-allow-origin", "*");
    let (_origin, proxy) = fresh_entry(reply).await;
    let answer = proxy.get("/a").header("if-none-match", "\"v1\"").await;
    assert_eq!((answer.status, answer.ending, answer.body.len()), (304, Ending::Clean, 0));
    let must = ["cache-control", "content-location", "date", "etag", "expires", "vary", "age"];
    for name in must.into_iter().chain(["access-control-allow-origin", "cache-status", "via"]) {
        assert!(answer.header(name).is_some(), "{name} is missing");
    }
    for name in ["content-type", "content-length", "content-language", "transfer-encoding", "last-modified"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("date").as_deref(), Some(NEW));
}

// RFC 9110 section 13.2.1, RFC 9111 section 4.3.2
#[tokio::test]
async fn a_head_is_answered_304_like_a_get() {
    let (_origin, proxy) = fresh_entry(Reply::fresh("body").header("etag", "\"v1\"")).await;
    assert_eq!(proxy.call("HEAD", "/a").header("if-none-match", "\"v1\"").await.status, 304);
}

// RFC 9111 section 4.3.1: both validators are sent; those of the client are not
#[tokio::test]
async fn the_origin_is_asked_with_the_validators_of_what_is_stored() {
    let origin = Origin::start().await;
    origin.on_each("/a", [stale("old").header("etag", "W/\"v1\"").header("last-modified", OLD), Reply::fresh("new")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    proxy.get("/a").header("if-none-match", "\"mine\"").header("if-modified-since", NEW).await;
    let asked = origin.last("/a");
    assert_eq!(asked.header("if-none-match").as_deref(), Some("W/\"v1\""));
    assert_eq!(asked.header("if-modified-since").as_deref(), Some(OLD));
}

// RFC 9111 section 4.3.1: a tag that is not spelled as the grammar says goes back as it came
#[tokio::test]
async fn a_tag_without_quotes_is_sent_back_as_it_came() {
    let origin = Origin::start().await;
    origin.on_each("/a", [stale("old").header("etag", "v1"), not_modified()]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.text(), "old");
    assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("v1"));
}

// RFC 9111 section 4.3.1
#[tokio::test]
async fn the_first_request_for_something_goes_to_the_origin_without_the_clients_conditions() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("body").header("etag", "\"v1\""));
    let proxy = Proxy::plain(&origin).await;
    let answer = proxy.get("/a").header("if-none-match", "\"v1\"").await;
    assert_eq!(origin.last("/a").header("if-none-match"), None);
    assert_eq!((answer.status, answer.text().as_str()), (304, ""));
    assert_eq!(proxy.get("/a").await.text(), "body");
}

// RFC 9111 section 5.2.2.4
#[tokio::test]
async fn a_response_with_no_cache_is_stored_and_validated_for_each_request() {
    let origin = Origin::start().await;
    let reply = || Reply::ok("body").header("cache-control", "no-cache, max-age=600").header("etag", "\"v1\"");
    let same = || Reply::status(304).header("cache-control", "no-cache, max-age=600").header("etag", "\"v1\"");
    origin.on_each("/a", [reply(), same()]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    for n in 2..=4 {
        let answer = proxy.get("/a").await;
        assert_eq!((answer.status, answer.text().as_str(), origin.count("/a")), (200, "body", n));
        assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"v1\""));
    }
}

// RFC 9111 section 4.3.3: a 200 replaces what is stored
#[tokio::test]
async fn a_full_answer_to_a_validation_replaces_what_is_stored() {
    let origin = Origin::start().await;
    origin.on_each("/a", [stale("old").header("etag", "\"v1\""), Reply::fresh("new").header("etag", "\"v2\"")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let replaced = proxy.get("/a").await;
    assert_eq!((replaced.text().as_str(), replaced.cache_status().fwd_status), ("new", Some(200)));
    let next = proxy.get("/a").await;
    assert!(next.is_hit() && next.text() == "new");
}

// RFC 9111 sections 3.2 and 4.3.4
#[tokio::test]
async fn a_304_freshens_what_is_stored_and_replaces_its_fields() {
    let origin = Origin::start().await;
    let first = stale("body")
        .header("etag", "\"v1\"")
        .header("x-kept", "1")
        .header("x-changed", "1")
        .header("set-cookie", "a=1")
        .header("content-type", "text/plain")
        .header("content-encoding", "identity")
        .header("content-md5", "one");
    let second = not_modified()
        .header("etag", "\"v1\"")
        .header("x-changed", "2")
        .header("x-added", "2")
        .header("set-cookie", "a=2")
        .header("content-type", "text/plain; charset=utf-8")
        .header("content-encoding", "gzip")
        .header("content-md5", "two")
        .header("connection", "x-hop")
        .header("x-hop", "2");
    origin.on_each("/a", [first, second]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let validated = proxy.get("/a").await;
    let later = proxy.get("/a").await;
    assert_eq!((validated.cache_status().fwd_status, later.is_hit(), origin.count("/a")), (Some(304), true, 2));
    for (answer, which) in [(validated, "the validated answer"), (later, "the next hit")] {
        let expected = [
            ("x-kept", Some("1")),
            ("x-changed", Some("2")),
            ("x-added", Some("2")),
            ("set-cookie", Some("a=2")),
            ("content-type", Some("text/plain; charset=utf-8")),
            ("content-md5", Some("two")),
            ("etag", Some("\"v1\"")),
            // About the stored bytes, of which a 304 brings none.
            ("content-encoding", Some("identity")),
            ("content-length", Some("4")),
            ("x-hop", None),
        ];
        for (name, value) in expected {
            assert_eq!(answer.header(name).as_deref(), value, "{name} of {which}");
        }
        assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "{which}");
    }
}

// RFC 9111 section 4.2.3: the age begins anew with the 304
#[tokio::test]
async fn a_validated_response_is_as_old_as_its_304() {
    for (age, expected) in [(None, 0), (Some("30"), 30)] {
        let origin = Origin::start().await;
        let confirmed = not_modified().header("etag", "\"v1\"");
        let confirmed = if let Some(age) = age { confirmed.header("age", age) } else { confirmed };
        origin.on_each("/a", [stale("body").header("etag", "\"v1\""), confirmed]);
        let proxy = Proxy::plain(&origin).await;
        proxy.get("/a").await;
        proxy.get("/a").await;
        let next = proxy.get("/a").await;
        let seen: u64 = next.header("age").unwrap().parse().unwrap();
        assert!(next.is_hit() && (expected..expected + 10).contains(&seen), "{age:?}: {seen}");
    }
}

// RFC 9111 section 4.3.4: no validator in the 304, one stored response
#[tokio::test]
async fn a_304_without_validators_is_about_what_was_asked() {
    let origin = Origin::start().await;
    origin.on_each("/a", [stale("body").header("etag", "\"v1\""), not_modified()]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.text(), "body");
    assert!(proxy.get("/a").await.is_hit());
}

// RFC 9111 section 4.3.4: "the cache MUST NOT use the new response to update any stored responses"
#[tokio::test]
async fn after_a_304_with_another_strong_tag_the_response_is_fetched_anew() {
    let origin = Origin::start().await;
    let other = not_modified().header("etag", "\"z\"").header("x-foreign", "1");
    origin.on_each("/a", [stale("old").header("etag", "\"a\""), other, Reply::fresh("new").header("etag", "\"z\"")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let answer = proxy.get("/a").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-foreign")), (200, "new", None));
    assert_eq!((origin.count("/a"), origin.last("/a").header("if-none-match")), (3, None));
    assert_eq!(proxy.get("/a").await.text(), "new");
}

// RFC 9110 section 13.1: a client's own conditions hold for what is fetched after such a 304 as well
#[tokio::test]
async fn after_a_304_with_another_strong_tag_the_clients_own_condition_is_asked() {
    let origin = Origin::start().await;
    let other = not_modified().header("etag", "\"z\"");
    origin.on_each("/a", [stale("old").header("etag", "\"a\""), other, Reply::fresh("new").etag("\"z\"")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let answer = proxy.get("/a").header("if-none-match", "\"z\"").await;
    assert_eq!((answer.status, answer.text().as_str()), (304, ""));
}

// RFC 9111 section 4.3.3: the origin's 304 answers the client only if the client's condition holds as well
#[tokio::test]
async fn a_client_without_the_stored_response_gets_it_whole_after_a_304() {
    let origin = Origin::start().await;
    origin.on_each("/a", [stale("body").header("etag", "\"v1\""), not_modified().header("etag", "\"v1\"")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let answer = proxy.get("/a").header("if-none-match", "\"v0\"").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
}

// RFC 9111 section 4.3.3
#[tokio::test]
async fn a_client_with_the_stored_response_gets_a_304_after_a_304() {
    let origin = Origin::start().await;
    origin.on_each("/a", [stale("body").header("etag", "\"v1\""), not_modified().header("etag", "\"v1\"")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let answer = proxy.get("/a").header("if-none-match", "\"v1\"").await;
    assert_eq!((answer.status, answer.text().as_str()), (304, ""));
}

// RFC 9111 sections 3.2 and 5.2.2.5: what the 304 adds may forbid to keep it
#[tokio::test]
async fn a_304_that_forbids_storing_is_served_once_and_not_kept() {
    for control in ["no-store", "private"] {
        let origin = Origin::start().await;
        let forbids = Reply::status(304).header("cache-control", control).header("etag", "\"v1\"");
        origin.on_each("/a", [stale("old").header("etag", "\"v1\""), forbids, Reply::fresh("new")]);
        let proxy = Proxy::plain(&origin).await;
        proxy.get("/a").await;
        assert_eq!(proxy.get("/a").await.text(), "old", "{control}");
        assert_eq!(proxy.get("/a").await.text(), "new", "{control}");
        assert_eq!(origin.last("/a").header("if-none-match"), None, "{control}");
    }
}

// RFC 9111 section 4.3.3: a 5xx is forwarded, and what is stored stays
#[tokio::test]
async fn a_server_error_during_validation_is_forwarded_and_the_stored_response_stays() {
    for status in [500, 501, 502, 503, 504, 599] {
        let origin = Origin::start().await;
        let broken = Reply::status(status).piece("broken");
        origin.on_each("/a", [stale("body").header("etag", "\"v1\""), broken, not_modified()]);
        let proxy = Proxy::plain(&origin).await;
        proxy.get("/a").await;
        let answer = proxy.get("/a").await;
        assert_eq!((answer.status, answer.text().as_str()), (status, "broken"));
        let later = proxy.get("/a").await;
        assert_eq!((later.status, later.text().as_str()), (200, "body"), "after {status}");
        assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"v1\""), "after {status}");
    }
}

// RFC 9111 section 4.3.3: another final answer is for the client
#[tokio::test]
async fn a_404_during_validation_is_forwarded() {
    let origin = Origin::start().await;
    let gone = Reply::status(404).piece("gone").header("cache-control", "max-age=60");
    origin.on_each("/a", [stale("body").header("etag", "\"v1\""), gone]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.status, 404);
    let next = proxy.get("/a").await;
    assert!(next.status == 404 && next.is_hit());
}

// RFC 9111 section 5.2.1.4
#[tokio::test]
async fn a_client_can_have_a_fresh_response_validated() {
    let origin = Origin::start().await;
    let first = Reply::fresh("body").header("etag", "\"v1\"");
    origin.on_each("/a", [first, not_modified().header("etag", "\"v1\"").header("x-asked", "again")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let answer = proxy.get("/a").header("cache-control", "no-cache").await;
    assert_eq!((answer.text().as_str(), answer.header("x-asked").as_deref()), ("body", Some("again")));
    assert_eq!((answer.cache_status().fwd(), answer.cache_status().fwd_status), ("request", Some(304)));
    assert_eq!(proxy.get("/a").await.header("x-asked").as_deref(), Some("again"));
}

// RFC 9111 section 4.1: the variant that is validated is the one that was asked for
#[tokio::test]
async fn each_variant_is_validated_with_its_own_tag() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let language = seen.header("accept-language").unwrap_or_default();
        let tag = format!("\"{language}\"");
        match seen.header("if-none-match") {
            Some(known) if known == tag => not_modified().header("etag", &tag).header("vary", "accept-language"),
            _ => stale(&language).header("etag", &tag).header("vary", "accept-language"),
        }
    });
    let proxy = Proxy::plain(&origin).await;
    for round in 1..=2 {
        for language in ["de", "fr"] {
            let answer = proxy.get("/a").header("accept-language", language).await;
            assert_eq!(answer.text(), language, "round {round}");
            let expected = if round == 1 { 200 } else { 304 };
            assert_eq!(answer.cache_status().fwd_status, Some(expected), "{language}, round {round}");
        }
    }
}
