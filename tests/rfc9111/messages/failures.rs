//! Origins that fail, and the client's connection meanwhile: RFC 9110 sections 15.6.3 and 15.6.5, RFC 9112 section 9.3.

use super::pair;
use crate::support::{Ending, Gate, Origin, Port, Proxy, Reply, Response};

/// Says that the connection stays, as far as the response tells.
fn stays(response: &Response) -> bool {
    response.header("connection").is_none_or(|options| !options.to_ascii_lowercase().contains("close"))
}

// RFC 9112 section 9.3: a connection persists unless one side said `close`
#[tokio::test]
async fn an_origin_that_hangs_up_is_a_502_and_the_clients_connection_stays() {
    let (origin, proxy) = pair().await;
    origin.on("/gone", Reply::hang_up());
    origin.on("/bad", Reply::garbage("HTTQ/1.1 200 OK\r\n\r\n"));
    origin.on("/a", Reply::fresh("body"));
    let mut connection = proxy.connect().await;
    for (method, path) in [("GET", "/gone"), ("HEAD", "/gone"), ("POST", "/gone"), ("GET", "/bad"), ("GET", "/gone")] {
        let failed = connection.call(proxy.call(method, path)).await;
        assert_eq!((failed.status, stays(&failed), failed.ending), (502, true, Ending::Clean), "{method} {path}");
        let next = connection.call(proxy.get("/a")).await;
        assert_eq!((next.status, next.text().as_str()), (200, "body"), "after {method} {path}");
    }
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_a_502_and_the_clients_connection_stays() {
    let nobody = Port::reserve();
    let servers = format!("[\"{}\"]", nobody.addr());
    let proxy = Proxy::builder_with(&[("origins.main.http.servers", servers.as_str())]).start().await;
    let mut connection = proxy.connect().await;
    for method in ["GET", "HEAD", "POST", "GET"] {
        let failed = connection.call(proxy.call(method, "/a")).await;
        assert_eq!((failed.status, stays(&failed)), (502, true), "{method}");
    }
}

#[tokio::test]
async fn an_origin_that_is_silent_is_a_504_and_the_clients_connection_stays() {
    let origin = Origin::start().await;
    let proxy = Proxy::builder(&origin).set("origins.main.http.read_timeout", "200ms").start().await;
    let gate = Gate::closed();
    origin.on("/slow", Reply::ok("late").after(&gate));
    origin.on("/a", Reply::fresh("body"));
    let mut connection = proxy.connect().await;
    for method in ["GET", "POST"] {
        let failed = connection.call(proxy.call(method, "/slow")).await;
        assert_eq!((failed.status, stays(&failed)), (504, true), "{method}");
        assert_eq!(connection.call(proxy.get("/a")).await.text(), "body");
    }
    gate.open();
}

#[tokio::test]
async fn the_connection_stays_after_something_stale_stood_in() {
    let (origin, proxy) = pair().await;
    let old = Reply::ok("old").header("cache-control", "max-age=0, stale-if-error=600").etag("\"v\"");
    let long = "x".repeat(300_000);
    let large = Reply::ok(&long).header("cache-control", "max-age=0, stale-if-error=600");
    origin.on_each("/old", [old, Reply::hang_up()]);
    origin.on_each("/large", [large.chunked(), Reply::hang_up()]);
    let error = Reply::status(503).piece(&long);
    origin.on_each("/error", [Reply::ok("old").header("cache-control", "max-age=0, stale-if-error=600"), error]);
    let mut connection = proxy.connect().await;
    for path in ["/old", "/large", "/error"] {
        connection.call(proxy.get(path)).await;
    }
    for n in 0..3 {
        for call in [
            proxy.get("/old"),
            proxy.call("HEAD", "/old"),
            proxy.get("/old").header("if-none-match", "\"v\""),
            proxy.get("/old").header("range", "bytes=0-1"),
            proxy.get("/large"),
        ] {
            let stale = connection.attempt(call).await.unwrap_or_else(|error| panic!("round {n}: {error}"));
            assert!(matches!(stale.status, 200 | 206 | 304) && stays(&stale), "{stale:?}");
            assert_eq!((stale.cache_status().detail(), stale.ending), ("disconnected", Ending::Clean));
            let stale = connection.call(proxy.get("/error")).await;
            assert_eq!((stale.text().as_str(), stays(&stale)), ("old", true));
            assert_eq!(stale.cache_status().detail(), "stale-if-error");
        }
    }
}

#[tokio::test]
async fn the_connection_stays_after_responses_without_a_body() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body").etag("\"v\""));
    origin.on("/pass", Reply::ok("body").header("cache-control", "no-store").etag("\"v\""));
    origin.on("/none", Reply::status(204).header("cache-control", "max-age=60"));
    let mut connection = proxy.connect().await;
    for path in ["/a", "/pass", "/none", "/a", "/pass", "/none"] {
        connection.call(proxy.get(path).header("if-none-match", "\"v\"")).await;
        connection.call(proxy.call("HEAD", path)).await;
        let whole = connection.call(proxy.get(path)).await;
        assert_eq!(whole.text(), if path == "/none" { "" } else { "body" });
    }
}

// RFC 9112 section 9.3: what the client sent behind its request must not be taken for another one
#[tokio::test]
async fn the_rest_of_a_request_body_is_no_request_after_a_failure() {
    let (origin, proxy) = pair().await;
    origin.on("/gone", Reply::hang_up());
    origin.on("/smuggled", Reply::ok("body"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = format!("[\"{}\"]", listener.local_addr().unwrap());
    let deaf = Proxy::builder_with(&[("origins.main.http.servers", servers.as_str())]).start().await;
    tokio::spawn(async move {
        // Hangs up as soon as the header has come, and does not wait for the body.
        while let Ok((stream, _)) = listener.accept().await {
            crate::support::wire::Wire::new(stream).head().await;
        }
    });
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for proxy in [&proxy, &deaf] {
        let mut connection = proxy.connect().await;
        let head = format!("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", inner.len());
        connection.send(head).await;
        connection.send(inner).await;
        let failed = connection.answer().await.expect("an answer");
        assert_eq!(failed.status, 502);
        if stays(&failed) {
            assert_ne!(connection.call(proxy.get("/other")).await.status, 200);
        }
    }
    assert_eq!(origin.count("/smuggled"), 0);
}

#[tokio::test]
async fn a_client_that_asked_for_the_end_of_the_connection_gets_it_after_a_failure_too() {
    let (origin, proxy) = pair().await;
    origin.on("/gone", Reply::hang_up());
    for call in [proxy.get("/gone").header("connection", "close"), proxy.get("/gone").version("HTTP/1.0")] {
        let mut connection = proxy.connect().await;
        let failed = connection.call(call).await;
        assert_eq!((failed.status, stays(&failed)), (502, false));
        assert!(connection.is_closed_after("GET /gone HTTP/1.1\r\n").await);
    }
}

// RFC 9112 section 9.3.2: "A server MAY process a sequence of pipelined requests [...] but it MUST send the corresponding
// responses in the same order"
#[tokio::test]
async fn requests_sent_ahead_are_answered_in_their_order_whatever_became_of_those_before() {
    let (origin, proxy) = pair().await;
    let old = Reply::ok("old").header("cache-control", "max-age=0, stale-if-error=600");
    origin.on_each("/old", [old, Reply::hang_up()]);
    origin.on("/gone", Reply::hang_up());
    origin.on("/a", Reply::fresh("body"));
    origin.on("/post", Reply::ok("posted"));
    proxy.get("/old").await;
    let ahead = ["GET /gone", "GET /a", "GET /old", "HEAD /missing", "GET /a", "GET /gone", "GET /old", "POST /post"];
    let mut connection = proxy.connect().await;
    let text = ahead.map(|line| {
        let body = if line.starts_with("POST") { "Content-Length: 5\r\n\r\nGET /" } else { "\r\n" };
        format!("{line} HTTP/1.1\r\nHost: test.example\r\n{body}")
    });
    connection.send(text.concat()).await;
    for line in ahead {
        let (method, path) = line.split_once(' ').unwrap();
        let answer = connection.answer_to(method).await.unwrap_or_else(|| panic!("no answer to {line}"));
        let expected = match path {
            "/gone" => (502, None),
            "/missing" => (404, Some("")),
            "/old" => (200, Some("old")),
            "/post" => (200, Some("posted")),
            _ => (200, Some("body")),
        };
        assert_eq!(answer.status, expected.0, "{line}");
        assert!(expected.1.is_none_or(|body| answer.text() == body), "{line}: {answer:?}");
    }
    assert_eq!(origin.last("/post").body, b"GET /");
}

// A client has its whole answer before we have the whole of what is fetched for it.
#[tokio::test]
async fn a_request_after_an_answer_without_a_body_is_answered_although_the_fill_behind_it_goes_on() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("half").etag("\"v\"").hold(&gate).piece("rest").chunked());
    origin.on("/b", Reply::fresh("other"));
    let mut connection = proxy.connect().await;
    let head = connection.call(proxy.call("HEAD", "/a")).await;
    assert_eq!((head.status, stays(&head)), (200, true));
    connection.send("GET /b HTTP/1.1\r\nHost: test.example\r\n\r\n").await;
    gate.open();
    assert_eq!(connection.answer().await.expect("an answer to what was asked early").text(), "other");
    assert_eq!(proxy.get("/a").await.text(), "halfrest");
}

// RFC 9112 section 8: an incomplete response must be told from a complete one
#[tokio::test]
async fn a_response_that_had_begun_is_cut_off() {
    let (origin, proxy) = pair().await;
    for (path, reply) in [
        ("/length", Reply::fresh("half").claim_length(8).cut()),
        ("/chunked", Reply::ok("half").header("cache-control", "no-store").chunked().cut()),
    ] {
        let gate = Gate::closed();
        origin.on(path, reply.hold(&gate));
        let mut exchange = proxy.get(path).open().await;
        assert_eq!(exchange.status, 200);
        exchange.read_until("half").await;
        gate.open();
        assert_eq!(exchange.rest().await.ending, Ending::Cut, "{path}");
    }
}
