//! Fields that an intermediary writes: `Age`, `Via`, `Date`, and the surrogate fields.

use super::pair;
use crate::support::{Reply, Response, eventually};
use std::time::Duration;

fn date(ago: u64) -> String {
    httpdate::fmt_http_date(tidegate::clock::now() - Duration::from_secs(ago))
}

fn age(response: &Response) -> Option<u64> {
    let ages = response.headers.all("age");
    assert!(ages.len() <= 1, "{ages:?}");
    ages.first().map(|age| age.parse().expect("section 5.1: Age = delta-seconds"))
}

// RFC 9111 section 4: "When a stored response is used to satisfy a request without validation, a cache MUST generate an Age"
#[tokio::test]
async fn a_stored_response_has_an_age_in_every_form() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("0123456789").etag("\"v\"").header("age", "7"));
    origin.on("/stale", Reply::ok("old").header("cache-control", "max-age=0, stale-while-revalidate=60"));
    proxy.get("/a").await;
    proxy.get("/stale").await;
    for call in [
        proxy.get("/a"),
        proxy.call("HEAD", "/a"),
        proxy.get("/a").header("if-none-match", "\"v\""),
        proxy.get("/a").header("range", "bytes=0-1"),
    ] {
        let response = call.await;
        assert!(response.is_hit() && age(&response).is_some_and(|age| (7..20).contains(&age)), "{response:?}");
    }
    let stale = proxy.get("/stale").await;
    assert!(stale.is_hit() && age(&stale).is_some(), "{stale:?}");
}

#[tokio::test]
async fn a_forwarded_response_keeps_the_age_that_it_came_with_and_gets_none_otherwise() {
    let (origin, proxy) = pair().await;
    origin.on("/none", Reply::fresh("body"));
    origin.on("/old", Reply::fresh("body").header("age", "30"));
    origin.on("/pass", Reply::ok("body").header("cache-control", "no-store"));
    assert_eq!(age(&proxy.get("/none").await), None);
    assert_eq!(age(&proxy.get("/old").await), Some(30));
    assert_eq!(age(&proxy.get("/pass").await), None);
    assert_eq!(age(&proxy.call("POST", "/none").await), None);
    assert_eq!(age(&proxy.get("/missing").await), None);
}

// RFC 9111 section 4.2.3: the apparent age counts where the Date says more
#[tokio::test]
async fn the_age_counts_from_the_origins_date() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body").header("date", &date(20)));
    proxy.get("/a").await;
    let stored = proxy.get("/a").await;
    assert!(age(&stored).is_some_and(|age| (20..40).contains(&age)), "{stored:?}");
}

// RFC 9110 section 7.6.3: "An HTTP-to-HTTP gateway MUST send an appropriate Via header field in each inbound request"
#[tokio::test]
async fn via_is_added_to_requests_with_the_version_that_they_came_in() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body"));
    proxy.get("/a").await;
    assert_eq!(origin.last("/a").header("via").as_deref(), Some("1.1 tidegate"));
    proxy.get("/a").version("HTTP/1.0").header("via", "1.0 a (x)").header("Via", "HTTP/2 b:80, 1.1 c").await;
    assert_eq!(origin.last("/a").headers.all("via"), ["1.0 a (x), HTTP/2 b:80, 1.1 c, 1.0 tidegate"]);
    proxy.call("POST", "/a").body("x").await;
    assert_eq!(origin.last("/a").header("via").as_deref(), Some("1.1 tidegate"));
}

#[tokio::test]
async fn via_is_added_to_responses_once_and_after_those_before() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body").header("via", "1.0 a").header("Via", "1.1 b"));
    origin.on("/pass", Reply::ok("body").header("cache-control", "no-store"));
    for _ in 0..2 {
        assert_eq!(proxy.get("/a").await.headers.all("via"), ["1.0 a, 1.1 b, 1.1 tidegate"]);
        assert_eq!(proxy.get("/pass").await.headers.all("via"), ["1.1 tidegate"]);
    }
}

// RFC 9110 section 6.6.1: "A recipient with a clock that receives a response message without a Date header field MUST record
// the time it was received and append a corresponding Date"
#[tokio::test]
async fn a_response_without_a_date_gets_the_time_at_which_it_came_and_keeps_it() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body"));
    origin.on("/pass", Reply::ok("body").header("cache-control", "no-store"));
    let first = proxy.get("/a").await.header("date").expect("a Date");
    assert!(httpdate::parse_http_date(&first).is_ok(), "{first}");
    assert!(proxy.get("/pass").await.header("date").is_some());
    eventually("the clock to tick", async || (date(0) != first).then_some(())).await;
    assert_eq!(proxy.get("/a").await.headers.all("date"), [first]);
}

#[tokio::test]
async fn the_origins_date_stays_on_forwarded_and_stored_responses() {
    let (origin, proxy) = pair().await;
    let then = date(30);
    origin.on("/a", Reply::fresh("body").header("date", &then));
    origin.on("/pass", Reply::ok("body").header("cache-control", "no-store").header("date", &then));
    for path in ["/a", "/a", "/pass"] {
        assert_eq!(proxy.get(path).await.headers.all("date"), [then.as_str()], "{path}");
    }
    assert_eq!(proxy.call("HEAD", "/a").await.headers.all("date"), [then.as_str()]);
    assert_eq!(proxy.call("POST", "/a").await.headers.all("date"), [then.as_str()]);
}

// Edge Architecture (W3C note) sections 2.1 and 2.2
#[tokio::test]
async fn surrogate_control_is_obeyed_and_kept_from_clients() {
    let (origin, proxy) = pair().await;
    let reply = Reply::ok("body").header("surrogate-control", "max-age=60").header("cache-control", "no-store");
    origin.on("/a", reply.etag("\"v\""));
    origin.on("/no", Reply::fresh("body").header("surrogate-control", "no-store"));
    for hit in [false, true] {
        let response = proxy.get("/a").await;
        assert_eq!((response.is_hit(), response.header("surrogate-control")), (hit, None), "{response:?}");
        assert_eq!(response.header("cache-control").as_deref(), Some("no-store"));
        let refused = proxy.get("/no").await;
        assert_eq!((refused.is_hit(), refused.header("surrogate-control")), (false, None), "{refused:?}");
    }
    // Still known to the store after a 304 without it.
    let asked = proxy.get("/a").header("cache-control", "no-cache").await;
    assert_eq!((asked.cache_status().fwd_status, asked.header("surrogate-control")), (Some(304), None));
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(proxy.call("POST", "/a").await.header("surrogate-control"), None);
}

#[tokio::test]
async fn the_origin_is_told_what_this_surrogate_can_do_and_not_what_a_client_claims() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body"));
    proxy.get("/a").header("surrogate-capability", "evil=\"ESI/1.0\"").await;
    assert_eq!(origin.last("/a").headers.all("surrogate-capability"), ["tidegate=\"Surrogate/1.0\""]);
}

// RFC 9213 section 3.1: CDN-Cache-Control "MAY be forwarded"; caches of other CDNs on the way need it
#[tokio::test]
async fn cdn_cache_control_is_obeyed_and_forwarded() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body").header("cdn-cache-control", "max-age=60").header("cache-control", "no-store"));
    for hit in [false, true] {
        let response = proxy.get("/a").await;
        assert_eq!((response.is_hit(), response.header("cdn-cache-control").as_deref()), (hit, Some("max-age=60")));
    }
}

// RFC 7239 section 1 speaks of this field, too: each hop appends to what came before, on however many lines
#[tokio::test]
async fn the_hops_before_us_stay_in_x_forwarded_for() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body"));
    proxy.get("/a").header("x-forwarded-for", "1.1.1.1").header("X-Forwarded-For", "2.2.2.2").await;
    assert_eq!(origin.last("/a").headers.all("x-forwarded-for"), ["1.1.1.1, 2.2.2.2, 127.0.0.1"]);
}

// RFC 9110 section 7.6.2: at zero "the intermediary MUST NOT forward the message", else it "MUST generate an updated"
// field, for OPTIONS and TRACE
#[tokio::test]
async fn max_forwards_counts_down_and_ends_here_at_zero() {
    let (origin, proxy) = pair().await;
    origin.otherwise(|_| Reply::ok("from the origin"));
    for method in ["OPTIONS", "TRACE"] {
        let path = format!("/{method}");
        assert_eq!(proxy.call(method, &path).header("max-forwards", "7").await.status, 200);
        assert_eq!(origin.last(&path).headers.all("max-forwards"), ["6"]);
        let mut connection = proxy.connect().await;
        let ended = connection.call(proxy.call(method, &path).header("max-forwards", "0")).await;
        assert_eq!((ended.status, origin.count(&path)), (405, 1), "{method}: {ended:?}");
        assert!(ended.header("allow").is_some_and(|allowed| allowed.starts_with("GET, HEAD")), "{ended:?}");
        assert_eq!(connection.call(proxy.call(method, &path).header("max-forwards", "x")).await.status, 200);
    }
    proxy.get("/other").header("max-forwards", "0").await;
    assert_eq!(origin.last("/other").header("max-forwards").as_deref(), Some("0"), "ignored for other methods");
}
