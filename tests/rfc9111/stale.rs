//! Stale responses, when the origin fails and otherwise: RFC 9111 section 4.2.4, RFC 5861.

use crate::support::{Gate, Origin, Proxy, Reply, Response, eventually};

/// A response that can be validated and was `age` seconds old when it came.
fn aged(age: u64, control: &str) -> Reply {
    Reply::ok("stored").header("cache-control", control).header("age", &age.to_string()).header("etag", "\"v1\"")
}

/// Stores the first reply and asks for it again when the origin answers with the second.
async fn then(stored: Reply, next: Reply) -> (Origin, Proxy, Response) {
    let (origin, proxy) = stored_then(stored, next).await;
    let answer = proxy.get("/a").await;
    (origin, proxy, answer)
}

async fn stored_then(stored: Reply, next: Reply) -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.on_each("/a", [stored, next]);
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.get("/a").await.text(), "stored");
    (origin, proxy)
}

fn broken(status: u16) -> Reply {
    Reply::status(status).piece("broken")
}

// RFC 9111 section 4.2.4
#[tokio::test]
async fn a_stale_response_stands_in_when_the_origin_hangs_up() {
    let (_origin, _proxy, answer) = then(aged(100, "max-age=60"), Reply::hang_up()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "stored"));
    assert!(answer.header("age").unwrap().parse::<u64>().unwrap() >= 100);
    let status = answer.cache_status();
    // Not a hit: the request was forwarded, in vain (RFC 9211 section 2.1).
    assert!(
        !status.hit && status.fwd() == "stale" && status.ttl.unwrap() <= -40,
        "{:?}",
        answer.header("cache-status")
    );
}

// RFC 9111 section 4.2.4
#[tokio::test]
async fn a_stale_response_stands_in_when_the_origin_speaks_garbage() {
    let (_origin, _proxy, answer) = then(aged(100, "max-age=60"), Reply::garbage("not HTTP\r\n\r\n")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "stored"));
}

// RFC 9111 section 4.2.4
#[tokio::test]
async fn a_stale_response_stands_in_when_the_origin_is_silent() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [aged(100, "max-age=60"), Reply::fresh("late").after(&gate)]);
    let proxy = Proxy::builder(&origin).set("origins.main.http.read_timeout", "200ms").start().await;
    proxy.get("/a").await;
    let answer = proxy.get("/a").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "stored"));
}

// RFC 9111 sections 4.2.4, 5.2.2.2, 5.2.2.4, 5.2.2.8 and 5.2.2.10
#[tokio::test]
async fn what_the_origin_forbids_to_serve_stale_is_never_served_stale() {
    let forbidding = [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "max-age=60, no-cache",
        "s-maxage=60",
        "max-age=60, must-revalidate, stale-if-error=600, stale-while-revalidate=600",
        "max-age=60, proxy-revalidate, stale-if-error=600",
        "max-age=60, no-cache, stale-if-error=600",
    ];
    for control in forbidding {
        let (_origin, proxy, answer) = then(aged(100, control), Reply::hang_up()).await;
        assert_eq!(answer.status, 502, "{control}");
        assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"), "{control}");
        assert_eq!(answer.header("age"), None, "{control}");
        drop(proxy);
        let (_origin, _proxy, answer) = then(aged(100, control), broken(503)).await;
        assert_eq!((answer.status, answer.text().as_str()), (503, "broken"), "{control}");
    }
}

// RFC 9111 section 5.2.2.2: "The generated response SHOULD have a 504 (Gateway Timeout) status code unless another error
// status code is more applicable"
#[tokio::test]
async fn an_origin_that_is_silent_about_what_must_be_revalidated_is_a_504() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [aged(100, "max-age=60, must-revalidate"), Reply::fresh("late").after(&gate)]);
    let proxy = Proxy::builder(&origin).set("origins.main.http.read_timeout", "200ms").start().await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.status, 504);
}

// RFC 9111 section 4.2.4: fresh responses do not need the origin at all
#[tokio::test]
async fn must_revalidate_does_not_keep_a_fresh_response_back() {
    let (origin, _proxy, answer) = then(aged(0, "max-age=60, must-revalidate"), Reply::hang_up()).await;
    assert!(answer.is_hit() && origin.count("/a") == 1);
}

// RFC 9110 section 15.6.3: a gateway tells its client, whose connection has done nothing wrong
#[tokio::test]
async fn after_an_error_of_the_gateway_the_clients_connection_goes_on() {
    let origin = Origin::start().await;
    origin.on("/broken", Reply::hang_up());
    origin.on("/fine", Reply::fresh("fine"));
    let proxy = Proxy::plain(&origin).await;
    let mut connection = proxy.connect().await;
    for _ in 0..2 {
        assert_eq!(connection.call(proxy.get("/broken")).await.status, 502);
        assert_eq!(connection.call(proxy.get("/fine")).await.text(), "fine");
    }
}

// RFC 9112 section 9.3
#[tokio::test]
async fn after_a_stale_answer_the_clients_connection_goes_on() {
    let (origin, proxy) = stored_then(aged(100, "max-age=60"), Reply::hang_up()).await;
    origin.on("/fine", Reply::fresh("fine"));
    let mut connection = proxy.connect().await;
    for _ in 0..2 {
        assert_eq!(connection.call(proxy.get("/a")).await.text(), "stored");
        assert_eq!(connection.call(proxy.get("/fine")).await.text(), "fine");
    }
}

// RFC 5861 section 4
#[tokio::test]
async fn stale_if_error_covers_the_server_errors_that_it_names() {
    let covered = [(500, true), (502, true), (503, true), (504, true), (501, false), (404, false), (429, false)];
    for (status, covers) in covered {
        let (_origin, _proxy, answer) = then(aged(100, "max-age=60, stale-if-error=600"), broken(status)).await;
        let expected = if covers { (200, "stored") } else { (status, "broken") };
        assert_eq!((answer.status, answer.text().as_str()), expected, "{status}");
    }
}

// RFC 9111 section 4.2.4: without the origin's word, an error status is the origin's answer
#[tokio::test]
async fn a_server_error_is_the_answer_where_the_origin_did_not_say_stale_if_error() {
    let (_origin, _proxy, answer) = then(aged(100, "max-age=60"), broken(503)).await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "broken"));
}

// RFC 5861 section 4: "indicates ... for [this many] seconds after"
#[tokio::test]
async fn stale_if_error_ends() {
    for next in [broken(503), Reply::hang_up()] {
        let (_origin, _proxy, answer) = then(aged(100, "max-age=60, stale-if-error=30"), next).await;
        assert!(answer.status >= 500, "{}", answer.status);
    }
}

// RFC 5861 section 4: with s-maxage it is the one way to serve stale
#[tokio::test]
async fn stale_if_error_holds_beside_s_maxage() {
    for next in [broken(503), Reply::hang_up()] {
        let (_origin, _proxy, answer) = then(aged(100, "s-maxage=60, stale-if-error=600"), next).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "stored"));
    }
}

// RFC 5861 section 4: the directive may stand in a request
#[tokio::test]
async fn a_client_can_allow_a_stale_response_on_errors() {
    let (_origin, proxy) = stored_then(aged(100, "max-age=60"), broken(503)).await;
    let ask = |control: &str| proxy.get("/a").header("cache-control", control);
    assert_eq!(ask("stale-if-error=600").await.text(), "stored");
    assert_eq!(ask("stale-if-error=30").await.text(), "broken");
}

// RFC 5861 section 4: it cannot undo what the origin forbids
#[tokio::test]
async fn a_client_cannot_allow_what_the_origin_forbids() {
    for control in ["max-age=60, must-revalidate", "s-maxage=60", "no-cache"] {
        let (_origin, proxy) = stored_then(aged(100, control), broken(503)).await;
        let answer = proxy.get("/a").header("cache-control", "stale-if-error=600").await;
        assert_eq!(answer.text(), "broken", "{control}");
    }
}

// RFC 9111 section 5.2.1.2
#[tokio::test]
async fn max_stale_of_a_client_is_served_without_asking() {
    let (origin, proxy) = stored_then(aged(100, "max-age=60"), Reply::fresh("new")).await;
    let answer = proxy.get("/a").header("cache-control", "max-stale=600").await;
    assert_eq!((answer.text().as_str(), origin.count("/a")), ("stored", 1));
    assert!(answer.cache_status().hit);
    assert_eq!(proxy.get("/a").header("cache-control", "max-stale=10").await.text(), "new");
}

// RFC 9111 sections 5.2.2.2, 5.2.2.8 and 5.2.2.10
#[tokio::test]
async fn max_stale_of_a_client_does_not_outrank_the_origin() {
    for control in
        ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60", "max-age=60, no-cache"]
    {
        let (_origin, proxy) = stored_then(aged(100, control), Reply::fresh("new")).await;
        assert_eq!(proxy.get("/a").header("cache-control", "max-stale").await.text(), "new", "{control}");
    }
}

// RFC 5861 section 3
#[tokio::test]
async fn while_it_is_revalidated_a_stale_response_is_served_and_the_origin_asked_once() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let stored = aged(100, "max-age=60, stale-while-revalidate=600");
    origin.on_each("/a", [stored, Reply::fresh("new").after(&gate)]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    for _ in 0..20 {
        let answer = proxy.get("/a").await;
        assert_eq!((answer.text().as_str(), answer.cache_status().hit), ("stored", true));
    }
    origin.wait_for_requests("/a", 2).await;
    gate.open();
    eventually("the new response", async || (proxy.get("/a").await.text() == "new").then_some(())).await;
    assert_eq!(origin.count("/a"), 2);
}

// RFC 5861 section 3: the request behind is an ordinary validation
#[tokio::test]
async fn the_revalidation_behind_is_conditional_and_a_304_freshens() {
    let origin = Origin::start().await;
    let confirmed = Reply::status(304).header("cache-control", "max-age=60").header("etag", "\"v1\"");
    origin.on_each("/a", [aged(100, "max-age=60, stale-while-revalidate=600"), confirmed]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let fresh = eventually("a fresh hit", async || {
        let answer = proxy.get("/a").await;
        answer.cache_status().ttl.is_some_and(|left| left > 0).then_some(answer)
    });
    assert_eq!(fresh.await.text(), "stored");
    assert_eq!((origin.count("/a"), origin.last("/a").header("if-none-match").as_deref()), (2, Some("\"v1\"")));
}

// RFC 5861 section 3: "after ... the cache MUST NOT"
#[tokio::test]
async fn after_the_window_of_stale_while_revalidate_the_client_waits_for_the_origin() {
    let (_origin, _proxy, answer) = then(aged(100, "max-age=60, stale-while-revalidate=30"), Reply::fresh("new")).await;
    assert_eq!((answer.text().as_str(), answer.cache_status().fwd()), ("new", "stale"));
}

// RFC 9111 section 5.2.1.1: a client that names an age does not wish for a stale response
#[tokio::test]
async fn a_client_that_wants_a_fresh_response_is_not_served_while_it_is_revalidated() {
    let stored = aged(100, "max-age=60, stale-while-revalidate=600");
    let (_origin, proxy) = stored_then(stored, Reply::fresh("new")).await;
    assert_eq!(proxy.get("/a").header("cache-control", "max-age=1000").await.text(), "new");
}

// RFC 5861 section 3: an origin that fails behind leaves what is stored as it was
#[tokio::test]
async fn a_revalidation_behind_that_fails_leaves_the_stored_response() {
    let origin = Origin::start().await;
    let stored = aged(100, "max-age=60, stale-while-revalidate=600");
    origin.on_each("/a", [stored, broken(500), Reply::hang_up(), Reply::fresh("new")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    eventually("the new response", async || {
        let answer = proxy.get("/a").await;
        assert_eq!(answer.status, 200);
        (answer.text() == "new").then_some(())
    })
    .await;
    assert_eq!(origin.count("/a"), 4);
}

// RFC 9111 section 4.2.4: a client's wish for validation is a preference that a dead origin cannot meet
#[tokio::test]
async fn a_fresh_response_that_a_client_wanted_validated_is_served_when_the_origin_hangs_up() {
    let (_origin, proxy) = stored_then(aged(0, "max-age=60"), Reply::hang_up()).await;
    assert_eq!(proxy.get("/a").header("cache-control", "no-cache").await.text(), "stored");
}

// RFC 9111 section 4.2.4: an operator may be stricter than the standard
#[tokio::test]
async fn a_bucket_can_forbid_stale_responses_when_the_origin_hangs_up() {
    let origin = Origin::start().await;
    origin.on_each("/a", [aged(100, "max-age=60"), Reply::hang_up()]);
    let proxy = Proxy::builder(&origin).set("buckets.main.stale_on_disconnect", "0s").start().await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.status, 502);
}
