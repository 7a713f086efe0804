//! What a client asks of the caches on its way: RFC 9111 sections 5.2.1 and 5.4.

use crate::support::{Call, Origin, Proxy, Reply, Response};

async fn pair() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

/// Stores a response of this age, in seconds, under this `Cache-Control`; the origin's next answers have another body.
async fn store(origin: &Origin, proxy: &Proxy, path: &str, age: u64, control: &str) {
    let reply = |body: &str| Reply::ok(body).header("cache-control", control).header("etag", "\"v\"");
    origin.on_each(path, [reply("stored").header("age", &age.to_string()), reply("new")]);
    let first = proxy.get(path).await;
    assert!(first.cache_status().stored, "{control} with age {age}: {:?}", first.cache_status());
}

fn asking(proxy: &Proxy, path: &str, control: &str) -> Call {
    proxy.get(path).header("cache-control", control)
}

/// Asserts for each `Cache-Control` of a request whether a response of that age under `stored` answers it.
async fn assert_answered(age: u64, stored: &str, wishes: &[(&str, bool)]) {
    let (origin, proxy) = pair().await;
    for (n, (wish, answered)) in wishes.iter().enumerate() {
        let path = format!("/{n}");
        store(&origin, &proxy, &path, age, stored).await;
        let answer = asking(&proxy, &path, wish).await;
        let expected = if *answered { "stored" } else { "new" };
        assert_eq!(
            answer.text(),
            expected,
            "{wish}, stored under {stored} with age {age}: {:?}",
            answer.cache_status()
        );
        assert_eq!(origin.count(&path), if *answered { 1 } else { 2 }, "{wish}, stored under {stored} with age {age}");
    }
}

// RFC 9111 section 5.2.1.4: no-cache "indicates that the client prefers stored response not be used [...] without successful
// validation"; section 5.2: names are case-insensitive
#[tokio::test]
async fn no_cache_goes_to_the_origin_however_it_is_spelled() {
    let wishes =
        ["no-cache", "NO-CACHE", "No-Cache", " no-cache ", "foo, no-cache", "max-age=3600,no-cache", "no-cache=x"];
    assert_answered(30, "max-age=3600", &wishes.map(|wish| (wish, false))).await;
}

// RFC 9111 section 5.2.1.4: what came back may be used by the next
#[tokio::test]
async fn the_answer_to_no_cache_replaces_what_was_stored() {
    let (origin, proxy) = pair().await;
    store(&origin, &proxy, "/a", 30, "max-age=3600").await;
    assert_eq!(asking(&proxy, "/a", "no-cache").await.text(), "new");
    let hit = proxy.get("/a").await;
    assert_eq!((hit.text().as_str(), hit.is_hit()), ("new", true));
}

// RFC 9111 section 5.2.1.4: a stored response may be used after a successful validation
#[tokio::test]
async fn no_cache_is_content_with_a_validated_response() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("stored").etag("\"v\""));
    proxy.get("/a").await;
    let answer = asking(&proxy, "/a", "no-cache").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "stored"));
    assert_eq!(origin.last("/a").header("if-none-match").as_deref(), Some("\"v\""));
}

// RFC 9111 section 5.2.1.1
#[tokio::test]
async fn max_age_takes_no_response_that_is_older() {
    let wishes = [
        ("max-age=0", false),
        ("max-age=1", false),
        ("max-age=10", false),
        ("MAX-AGE=10", false),
        ("max-age=\"10\"", false),
        ("max-age=200", true),
        ("Max-Age=200", true),
        ("max-age=\"200\"", true),
        ("max-age=2147483648", true),
        ("max-age=99999999999", true),
        ("foo, max-age=10", false),
        ("max-age=10, max-age=200", false),
    ];
    assert_answered(100, "max-age=3600", &wishes).await;
}

// RFC 9111 section 5.2.1.1: a response of this very moment is not older than zero seconds by any clock, and yet "max-age=0" is
// how browsers ask for the origin's word.
#[tokio::test]
async fn max_age_0_goes_to_the_origin() {
    assert_answered(0, "max-age=3600", &[("max-age=0", false)]).await;
}

// RFC 9111 section 4.2.1 encourages to take a broken time for the shortest
#[tokio::test]
async fn a_max_age_that_is_no_number_takes_nothing_stored() {
    assert_answered(100, "max-age=3600", &[("max-age=x", false), ("max-age", false), ("max-age=-1", false)]).await;
}

// RFC 9111 section 5.2.1.1: "Unless the max-stale request directive is also present, the client does not wish to receive a
// stale response."
#[tokio::test]
async fn max_age_does_not_make_a_stale_response_fresh() {
    assert_answered(100, "max-age=60", &[("max-age=3600", false), ("max-age=99999999999", false)]).await;
}

// RFC 9111 section 5.2.1.3
#[tokio::test]
async fn min_fresh_takes_no_response_that_is_stale_sooner() {
    let wishes = [
        ("min-fresh=0", true),
        ("min-fresh=10", true),
        ("Min-Fresh=\"400\"", true),
        ("min-fresh=501", false),
        ("MIN-FRESH=3600", false),
        ("min-fresh=99999999999", false),
        ("min-fresh=10, max-age=50", false),
        ("min-fresh=600, max-age=3600", false),
        ("min-fresh=10, max-age=3600", true),
    ];
    assert_answered(100, "max-age=600", &wishes).await;
}

// RFC 9111 section 5.2.1.2: "If no value is assigned to max-stale, then the client will accept a stale response of any age."
#[tokio::test]
async fn max_stale_without_a_value_takes_a_stale_response_of_any_age() {
    assert_answered(100, "max-age=60", &[("max-stale", true), ("MAX-STALE", true), ("foo, max-stale", true)]).await;
    assert_answered(99_999_999, "max-age=60", &[("max-stale", true)]).await;
}

// RFC 9111 section 5.2.1.2
#[tokio::test]
async fn max_stale_takes_a_response_that_is_stale_for_no_longer() {
    let wishes = [
        ("max-stale=500", true),
        ("Max-Stale=\"500\"", true),
        ("max-stale=99999999999", true),
        ("max-stale=39", false),
        ("max-stale=1", false),
        ("max-stale=0", false),
    ];
    assert_answered(100, "max-age=60", &wishes).await;
}

// RFC 9111 section 5.2.1.2: a wish that cannot be read permits nothing
#[tokio::test]
async fn a_max_stale_that_is_no_number_permits_nothing() {
    let wishes = ["max-stale=x", "max-stale=-1", "max-stale=", "max-stale=500.0", "max-stale =500"];
    assert_answered(100, "max-age=60", &wishes.map(|wish| (wish, false))).await;
}

// RFC 9111 section 4.2.4: "A cache MUST NOT generate a stale response if it is prohibited by an explicit in-protocol directive
// (e.g., by a no-cache response directive, a must-revalidate response directive, or an applicable s-maxage or proxy-revalidate
// response directive"
#[tokio::test]
async fn max_stale_permits_nothing_that_the_origin_forbids() {
    for stored in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "max-age=60, Must-Revalidate",
        "max-age=60, no-cache",
        "s-maxage=60",
        "max-age=3600, s-maxage=60",
    ] {
        assert_answered(100, stored, &[("max-stale", false), ("max-stale=500", false)]).await;
    }
}

// RFC 9111 section 5.2.1.2 is about stale responses; a fresh one needs no permission.
#[tokio::test]
async fn max_stale_says_nothing_about_a_fresh_response() {
    assert_answered(100, "max-age=3600", &[("max-stale", true), ("max-stale=0", true), ("max-stale=x", true)]).await;
    assert_answered(100, "max-age=3600, must-revalidate", &[("max-stale", true)]).await;
}

// RFC 9111 section 5.2.1.1: max-stale permits that a response is stale, max-age says how old it may be
#[tokio::test]
async fn max_stale_and_max_age_hold_together() {
    let wishes = [
        ("max-age=500, max-stale", true),
        ("max-age=500, max-stale=500", true),
        ("max-age=500, max-stale=1", false),
        ("max-age=90, max-stale", false),
    ];
    assert_answered(100, "max-age=60", &wishes).await;
}

async fn only_if_cached(proxy: &Proxy, path: &str, more: &str) -> Response {
    asking(proxy, path, &format!("only-if-cached{more}")).await
}

#[track_caller]
fn assert_gateway_timeout(answer: &Response) {
    assert_eq!(answer.status, 504, "{:?}", answer.cache_status());
    assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], 504, "{problem}");
    assert!(problem["title"].is_string(), "{problem}");
}

// RFC 9111 section 5.2.1.7: "or a 504 (Gateway Timeout) status code"
#[tokio::test]
async fn only_if_cached_is_a_504_where_nothing_is_stored() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("new"));
    for more in ["", ", max-age=3600", ", max-stale", ", foo"] {
        assert_gateway_timeout(&only_if_cached(&proxy, "/a", more).await);
    }
    assert_gateway_timeout(&asking(&proxy, "/a", "Only-If-Cached").await);
    assert_eq!(origin.count("/a"), 0);
}

// RFC 9111 section 5.2.1.7: "respond with either a stored response consistent with the other constraints of the request"
#[tokio::test]
async fn only_if_cached_is_answered_from_the_store() {
    let wishes = ["only-if-cached", "ONLY-IF-CACHED", "only-if-cached, max-age=3600", "max-stale, only-if-cached"];
    assert_answered(100, "max-age=3600", &wishes.map(|wish| (wish, true))).await;
    assert_answered(100, "max-age=60", &[("only-if-cached, max-stale", true), ("only-if-cached, max-stale=500", true)])
        .await;
}

// RFC 9111 section 5.2.1.7: "consistent with the other constraints of the request"
#[tokio::test]
async fn only_if_cached_is_a_504_where_what_is_stored_will_not_do() {
    let (origin, proxy) = pair().await;
    for (n, (age, stored, more)) in [
        (100, "max-age=60", ""),
        (100, "max-age=60", ", max-stale=1"),
        (100, "max-age=60, must-revalidate", ", max-stale"),
        (100, "max-age=3600", ", max-age=10"),
        (100, "max-age=3600", ", min-fresh=3600"),
        (100, "max-age=3600", ", no-cache"),
        (100, "max-age=3600, no-cache", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        store(&origin, &proxy, &path, age, stored).await;
        let answer = only_if_cached(&proxy, &path, more).await;
        assert_eq!(answer.status, 504, "only-if-cached{more}, stored under {stored} with age {age}");
        assert_gateway_timeout(&answer);
        assert_eq!(origin.count(&path), 1, "only-if-cached{more}, stored under {stored} with age {age}");
    }
}

// RFC 9111 section 5.2.1.7: the 504 is the cache's own word and must not replace what it has.
#[tokio::test]
async fn a_504_for_only_if_cached_is_not_stored() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("new"));
    assert_eq!(only_if_cached(&proxy, "/a", "").await.status, 504);
    assert_eq!(proxy.get("/a").await.text(), "new");
    assert_eq!(only_if_cached(&proxy, "/a", "").await.text(), "new");
}

// RFC 9111 section 5.2.1.5: no-store is about storing; what is stored already may be used.
#[tokio::test]
async fn no_store_takes_a_stored_response() {
    assert_answered(100, "max-age=3600", &[("no-store", true)]).await;
}

// RFC 9111 section 5.2.1.5: "MUST NOT store any part of either this request or any response to it"
#[tokio::test]
async fn the_answer_to_no_store_does_not_replace_what_was_stored() {
    let (origin, proxy) = pair().await;
    store(&origin, &proxy, "/a", 30, "max-age=3600").await;
    let answer = asking(&proxy, "/a", "no-store, no-cache").await;
    assert_eq!((answer.text().as_str(), answer.cache_status().stored), ("new", false));
    // Whether the older response is kept is open.
    let after = proxy.get("/a").await;
    assert!(after.text() == "stored" || !after.is_hit(), "the answer was stored: {:?}", after.cache_status());
}

// RFC 9111 section 5.4 calls it deprecated, since Cache-Control is everywhere; where there is none, it means what it meant to
// HTTP/1.0.
#[tokio::test]
async fn pragma_no_cache_counts_where_there_is_no_cache_control() {
    let (origin, proxy) = pair().await;
    for (n, (pragma, control, answered)) in [
        ("no-cache", None, false),
        ("No-Cache", None, false),
        ("foo, no-cache", None, false),
        ("foo=\"bar\", no-cache", None, false),
        ("foo", None, true),
        ("no-store", None, true),
        ("foo=\"no-cache\"", None, true),
        ("no-cache", Some("max-age=3600"), true),
        ("no-cache", Some("foo"), true),
        ("no-cache", Some("no-cache"), false),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        store(&origin, &proxy, &path, 30, "max-age=3600").await;
        let call = proxy.get(&path).header("pragma", pragma);
        let call = control.into_iter().fold(call, |call, control| call.header("cache-control", control));
        let expected = if answered { "stored" } else { "new" };
        assert_eq!(call.await.text(), expected, "pragma: {pragma}, cache-control: {control:?}");
    }
}

// RFC 9111 section 5.2.3: "A cache MUST ignore unrecognized cache directives."
#[tokio::test]
async fn directives_that_mean_nothing_in_a_request_are_ignored() {
    let wishes = [
        "foo",
        "foo=\"no-cache\"",
        "foo=\"a, no-cache\"",
        "s-maxage=0",
        "must-revalidate",
        "private",
        "",
        ",",
        "no-caches",
    ];
    assert_answered(30, "max-age=3600", &wishes.map(|wish| (wish, true))).await;
}

// RFC 9110 section 5.3: lines of one field are one list
#[tokio::test]
async fn a_directive_counts_in_whichever_line_it_stands() {
    let (origin, proxy) = pair().await;
    for (n, lines) in [["foo", "no-cache"], ["no-cache", "foo"], ["max-age=10", "foo"]].iter().enumerate() {
        let path = format!("/{n}");
        store(&origin, &proxy, &path, 30, "max-age=3600").await;
        let call = proxy.get(&path).header("cache-control", lines[0]).header("cache-control", lines[1]);
        assert_eq!(call.await.text(), "new", "{lines:?}");
    }
}

// RFC 9111 section 5.2: "A proxy [...] MUST pass cache directives through in forwarded messages"
#[tokio::test]
async fn directives_of_a_request_reach_the_origin_as_they_were_sent() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("a").header("cache-control", "no-store"));
    for control in ["no-cache", "max-age=0, foo=\"bar\"", "No-Store", "max-stale, no-transform"] {
        asking(&proxy, "/a", control).header("pragma", "no-cache").await;
        let seen = origin.last("/a");
        assert_eq!(seen.header("cache-control").as_deref(), Some(control));
        assert_eq!(seen.header("pragma").as_deref(), Some("no-cache"));
    }
}

// RFC 9111 section 5.2.1: the directives are wishes ("prefers", "does not wish"); section 5.2.1.4 alone would have a
// cache obey. `client_refetch: false` is for origins that clients must not be able to reach at will.
#[tokio::test]
async fn a_bucket_can_ignore_wishes_that_lead_to_the_origin() {
    let origin = Origin::start().await;
    let proxy = Proxy::builder(&origin).set("buckets.main.client_refetch", "false").start().await;
    for (n, (name, value)) in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "max-age=10"),
        ("cache-control", "min-fresh=99999"),
        ("pragma", "no-cache"),
        ("cache-control", "only-if-cached, no-cache"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        store(&origin, &proxy, &path, 30, "max-age=3600").await;
        assert_eq!(proxy.get(&path).header(name, value).await.text(), "stored", "{name}: {value}");
        assert_eq!(origin.count(&path), 1, "{name}: {value}");
    }
}

// RFC 9111 section 5.2.1: wishes that spare the origin, or the store, are another matter
#[tokio::test]
async fn a_bucket_that_ignores_such_wishes_heeds_the_others() {
    let origin = Origin::start().await;
    let proxy = Proxy::builder(&origin).set("buckets.main.client_refetch", "false").start().await;
    store(&origin, &proxy, "/stale", 100, "max-age=60").await;
    assert_eq!(asking(&proxy, "/stale", "max-stale").await.text(), "stored");
    assert_eq!(asking(&proxy, "/stale", "max-age=3600").await.text(), "new");
    origin.on("/a", Reply::fresh("new"));
    assert_gateway_timeout(&only_if_cached(&proxy, "/a", "").await);
    assert!(!asking(&proxy, "/a", "no-store").await.cache_status().stored);
    assert!(!proxy.get("/a").await.is_hit());
}
