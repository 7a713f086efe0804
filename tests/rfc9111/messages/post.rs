//! Responses to `POST`: RFC 9110 sections 9.3.3 and 8.7, RFC 9111 section 3.

use super::pair;
use crate::support::{Ending, Gate, Origin, Proxy, Reply, Response};

/// What RFC 9110 section 9.3.3 asks for: explicit freshness and the target in `Content-Location`.
fn answers_get(body: &str) -> Reply {
    Reply::fresh(body).header("content-location", "/a")
}

/// Answers a `POST` to `/a` so, and other methods with `got`.
fn on_post(origin: &Origin, reply: Reply) {
    origin.on_fn("/a", move |seen| if seen.method == "POST" { reply.clone() } else { Reply::fresh("got") });
}

async fn post(proxy: &Proxy) -> Response {
    proxy.call("POST", "/a").body("question").await
}

// RFC 9110 section 9.3.3: "A cached POST response can be reused to satisfy a later GET or HEAD request"
#[tokio::test]
async fn a_post_with_freshness_and_its_target_as_content_location_answers_later_gets() {
    let (origin, proxy) = pair().await;
    on_post(&origin, answers_get("posted").header("x-a", "1").header("connection", "x-hop").header("x-hop", "1"));
    let posted = post(&proxy).await;
    assert_eq!((posted.status, posted.text().as_str()), (200, "posted"));
    let status = posted.cache_status();
    assert_eq!((status.fwd(), status.fwd_status, status.stored), ("method", Some(200), true));
    let got = proxy.get("/a").await;
    assert!(got.is_hit() && got.text() == "posted" && got.header("age").is_some(), "{got:?}");
    assert_eq!((got.header("x-a").as_deref(), got.header("x-hop")), (Some("1"), None));
    let head = proxy.call("HEAD", "/a").await;
    assert!(head.is_hit() && head.header("content-length").as_deref() == Some("6"), "{head:?}");
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_chunked_an_empty_and_a_long_answer_to_a_post_are_stored_whole() {
    let (origin, proxy) = pair().await;
    let long = "x".repeat(400_000);
    for (n, (reply, body)) in [
        (Reply::fresh("one").piece("two").chunked(), "onetwo"),
        (Reply::fresh(""), ""),
        (Reply::fresh("").chunked(), ""),
        (Reply::fresh(&long), long.as_str()),
        (Reply::fresh(&long).until_close(), long.as_str()),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, reply.header("content-location", &path));
        let posted = proxy.call("POST", &path).body("question").await;
        assert!(posted.cache_status().stored && posted.text() == body, "{n}");
        let got = proxy.get(&path).await;
        assert!(got.is_hit() && got.text() == body && got.ending == Ending::Clean, "{n}: {:?}", got.headers);
    }
}

// RFC 9111 section 2: "a cache MUST write through requests with methods that are unsafe"
#[tokio::test]
async fn a_stored_answer_never_answers_a_post() {
    let (origin, proxy) = pair().await;
    on_post(&origin, answers_get("posted"));
    for n in 1..=3 {
        assert!(!post(&proxy).await.is_hit());
        assert_eq!(origin.count("/a"), n);
    }
}

// RFC 9111 section 4.4, and after it the new response
#[tokio::test]
async fn a_post_first_invalidates_what_was_stored_and_then_takes_its_place() {
    let (origin, proxy) = pair().await;
    on_post(&origin, answers_get("posted"));
    assert_eq!(proxy.get("/a").await.text(), "got");
    post(&proxy).await;
    assert_eq!(proxy.get("/a").await.text(), "posted");
    on_post(&origin, Reply::ok("plain"));
    assert!(!post(&proxy).await.cache_status().stored);
    let got = proxy.get("/a").await;
    assert_eq!((got.text().as_str(), got.is_hit()), ("got", false), "the stored POST was made invalid by the next one");
}

#[tokio::test]
async fn the_answer_to_a_post_is_not_stored_without_what_the_standard_asks_for() {
    let (origin, proxy) = pair().await;
    let at = |reply: Reply| reply.header("content-location", "/a");
    let modified = ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT");
    for (why, reply) in [
        ("no Content-Location", Reply::fresh("posted")),
        ("another target", Reply::fresh("posted").header("content-location", "/b")),
        ("another query", Reply::fresh("posted").header("content-location", "/a?b")),
        ("another host", Reply::fresh("posted").header("content-location", "http://other.example/a")),
        ("two of them", at(answers_get("posted"))),
        ("heuristic freshness", at(Reply::ok("posted")).header(modified.0, modified.1)),
        ("no freshness left", at(Reply::ok("posted").header("cache-control", "max-age=0")).etag("\"v\"")),
        ("public alone", at(Reply::ok("posted").header("cache-control", "public"))),
        ("no-store", at(Reply::ok("posted").header("cache-control", "no-store, max-age=60"))),
        ("private", at(Reply::ok("posted").header("cache-control", "private, max-age=60"))),
        ("no-cache", at(Reply::ok("posted").header("cache-control", "no-cache, max-age=60")).etag("\"v\"")),
        ("Vary: *", answers_get("posted").header("vary", "*")),
        ("another status", at(Reply::status(201).piece("posted").header("cache-control", "max-age=60"))),
        ("an error", at(Reply::status(404).piece("posted").header("cache-control", "max-age=60"))),
        ("a part", at(Reply::status(206).piece("posted").header("cache-control", "max-age=60"))),
        ("a nominated Content-Location", answers_get("posted").header("connection", "content-location")),
    ] {
        on_post(&origin, reply);
        assert!(!post(&proxy).await.cache_status().stored, "{why}");
        let got = proxy.get("/a").await;
        assert_ne!(got.text(), "posted", "{why}: {got:?}");
    }
}

#[tokio::test]
async fn other_methods_are_not_stored_whatever_they_say() {
    let (origin, proxy) = pair().await;
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
        let path = format!("/{method}");
        let reply = Reply::fresh("answer").header("content-location", &path);
        origin.on(&path, reply);
        assert!(!proxy.call(method, &path).await.cache_status().stored, "{method}");
        assert!(!proxy.get(&path).await.is_hit(), "{method}");
    }
}

// RFC 9111 sections 3.5 and 5.2.1.5
#[tokio::test]
async fn what_the_request_says_counts_for_a_post_too() {
    let (origin, proxy) = pair().await;
    on_post(&origin, answers_get("posted"));
    for call in [proxy.call("POST", "/a").token("secret"), proxy.call("POST", "/a").header("cache-control", "no-store")]
    {
        assert!(!call.body("question").await.cache_status().stored);
        assert_eq!(proxy.get("/a").await.text(), "got");
    }
    let shared = Reply::ok("posted").header("cache-control", "s-maxage=60").header("content-location", "/a");
    on_post(&origin, shared);
    assert!(proxy.call("POST", "/a").token("secret").body("question").await.cache_status().stored);
    assert_eq!(proxy.get("/a").await.text(), "posted");
}

// RFC 9111 section 4.1
#[tokio::test]
async fn the_stored_answer_to_a_post_varies_as_it_says() {
    let (origin, proxy) = pair().await;
    on_post(&origin, answers_get("posted").header("vary", "x-who"));
    assert!(proxy.call("POST", "/a").header("x-who", "one").body("question").await.cache_status().stored);
    assert_eq!(proxy.get("/a").header("x-who", "one").await.text(), "posted");
    assert_eq!(proxy.get("/a").header("x-who", "two").await.text(), "got");
}

// RFC 9111 section 3.3: an incomplete response is none
#[tokio::test]
async fn an_answer_to_a_post_that_breaks_off_is_not_stored() {
    let (origin, proxy) = pair().await;
    for reply in [answers_get("posted").claim_length(20).cut(), answers_get("posted").chunked().cut()] {
        on_post(&origin, reply);
        let broken = post(&proxy).await;
        assert!(broken.status == 502 || broken.ending == Ending::Cut, "{broken:?}");
        assert_eq!(proxy.get("/a").await.text(), "got");
    }
}

#[tokio::test]
async fn an_answer_to_a_post_whose_client_leaves_is_not_stored_in_part() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    on_post(&origin, answers_get("posted").hold(&gate).piece("rest").chunked());
    let mut exchange = proxy.call("POST", "/a").body("question").open().await;
    exchange.read_until("posted").await;
    exchange.hang_up();
    gate.open();
    let got = proxy.get("/a").await.text();
    assert!(got == "got" || got == "postedrest", "{got}");
}

#[tokio::test]
async fn an_answer_to_a_post_that_was_overtaken_by_a_change_is_not_stored() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    on_post(&origin, answers_get("posted").hold(&gate).piece("rest").chunked());
    let mut exchange = proxy.call("POST", "/a").body("question").open().await;
    exchange.read_until("posted").await;
    proxy.call("DELETE", "/a").await;
    gate.open();
    assert_eq!(exchange.rest().await.ending, Ending::Clean);
    let got = proxy.get("/a").await;
    assert_eq!((got.text().as_str(), got.is_hit()), ("got", false), "{got:?}");
}

#[tokio::test]
async fn an_answer_to_a_post_does_not_replace_what_a_get_fetched_meanwhile() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    on_post(&origin, answers_get("posted").hold(&gate).piece("rest").chunked());
    let mut exchange = proxy.call("POST", "/a").body("question").open().await;
    exchange.read_until("posted").await;
    assert_eq!(proxy.get("/a").await.text(), "got", "nobody waits for the answer to a POST");
    gate.open();
    assert_eq!(exchange.rest().await.ending, Ending::Clean);
    assert_eq!(proxy.get("/a").await.text(), "got");
}

#[tokio::test]
async fn an_answer_to_a_post_that_is_too_large_passes_and_is_not_stored() {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    // More than any tier of these tests keeps.
    let large = "x".repeat((1 << 20) + 1);
    on_post(&origin, answers_get(&large));
    let sized = post(&proxy).await;
    assert_eq!((sized.text().len(), sized.cache_status().stored), (large.len(), false));
    on_post(&origin, answers_get(&large).chunked());
    assert_eq!(post(&proxy).await.text().len(), large.len());
    assert_eq!(proxy.get("/a").await.text(), "got");
}

// The key is the policy's for a GET, as for everything that is looked up.
#[tokio::test]
async fn a_policy_decides_about_the_answer_to_a_post_as_about_that_to_a_get() {
    let origin = Origin::start().await;
    let policy = "return {
        request = function(req)
            if req.query.bypass then return { bypass = 'asked' } end
            return { key = { req.path, req.headers['x-key'] or '' } }
        end,
        response = function(req, res)
            if req.method ~= 'GET' then error('asked about ' .. req.method) end
            if res.headers['x-decline'] then return { store = false, reason = 'declined' } end
            if res.headers['x-ttl'] then return { ttl = '1h' } end
        end }";
    let proxy = Proxy::with_policy(&origin, policy).await;
    on_post(&origin, answers_get("posted"));
    assert!(proxy.call("POST", "/a").header("x-key", "k").body("question").await.cache_status().stored);
    assert_eq!(proxy.get("/a").header("x-key", "k").await.text(), "posted");
    assert_eq!(proxy.get("/a").header("x-key", "other").await.text(), "got");
    on_post(&origin, answers_get("posted").header("x-decline", "1"));
    assert!(!post(&proxy).await.cache_status().stored);
    // A policy's ttl does not say that the body is the target's.
    on_post(&origin, answers_get("posted").header("x-ttl", "1"));
    assert!(!post(&proxy).await.cache_status().stored);
    origin.on("/a", Reply::fresh("posted").header("content-location", "/a?bypass=1"));
    assert!(!proxy.call("POST", "/a?bypass=1").body("question").await.cache_status().stored);
}

#[tokio::test]
async fn the_explanation_of_a_post_says_that_its_answer_is_stored() {
    let (origin, proxy) = pair().await;
    on_post(&origin, answers_get("posted"));
    let told = proxy.call("POST", "/a").header("tidegate-debug", crate::support::proxy::TOKEN).body("question").await;
    let told: serde_json::Value = serde_json::from_str(&told.header("tidegate-debug").expect("told")).expect("JSON");
    assert_eq!(
        (told["request"]["outcome"].as_str(), told["response"]["outcome"].as_str()),
        (Some("bypass"), Some("store"))
    );
}
