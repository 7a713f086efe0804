//! Where a message ends: RFC 9112 sections 6 and 7.

use super::{bytes_origin, pair};
use crate::support::wire::Wire;
use crate::support::{Ending, Reply};
use std::sync::Arc;

fn raw(head: &str, body: &str) -> Reply {
    Reply::garbage(format!("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n{head}\r\n\r\n{body}"))
}

// RFC 9112 section 6.3: "If a Transfer-Encoding header field is present in a response and the chunked transfer coding is
// not the final encoding, the message body length is determined by reading the connection until it is closed"
#[tokio::test]
async fn a_body_whose_last_coding_is_not_chunked_ends_with_the_connection() {
    let (origin, proxy) = pair().await;
    for (n, head) in [
        "transfer-encoding: chunked, foo",
        "transfer-encoding: chunked\r\ntransfer-encoding: foo",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: gzip",
        "transfer-encoding: foo, gzip",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, raw(head, "5\r\nhello\r\n0\r\n\r\n"));
        for _ in 0..2 {
            let mut connection = proxy.connect().await;
            let response = connection.call(proxy.get(&path)).await;
            assert_eq!((response.status, response.ending), (200, Ending::Clean), "{head}");
            // The bytes as they came: nobody here knows what they stand for.
            assert_eq!(response.text(), "5\r\nhello\r\n0\r\n\r\n", "{head}: {response:?}");
            assert_eq!(response.header("content-length"), None, "{head}");
            assert_eq!(response.header("connection").as_deref(), Some("close"), "{head}");
            assert!(!response.cache_status().stored && !response.is_hit(), "{head}: {response:?}");
            assert!(connection.is_closed_after("GET / HTTP/1.1\r\n").await, "{head}");
        }
        assert_eq!(origin.count(&path), 2, "{head}");
    }
}

// RFC 9110 section 10.1.4: a coding that was not offered in `TE` cannot be one; RFC 9112 section 6.3 for where the body ends
#[tokio::test]
async fn a_coding_that_nobody_registered_says_where_the_body_ends_and_nothing_else() {
    let (origin, proxy) = pair().await;
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for (n, (head, body)) in [
        ("transfer-encoding: foo", chunks),
        ("transfer-encoding: foo\r\ncontent-length: 3", chunks),
        ("transfer-encoding: identity", chunks),
        ("transfer-encoding: xchunked", chunks),
        ("transfer-encoding: foo, chunked", "hello"),
        ("transfer-encoding: foo\r\ntransfer-encoding: chunked", "hello"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, raw(head, chunks));
        let mut connection = proxy.connect().await;
        for hit in [false, true] {
            let response = connection.call(proxy.get(&path)).await;
            assert_eq!((response.text().as_str(), response.ending), (body, Ending::Clean), "{head}");
            assert_eq!(response.is_hit(), hit, "{head}: {response:?}");
            assert!(!response.header("transfer-encoding").unwrap_or_default().contains("foo"), "{head}");
        }
        assert_eq!(proxy.get(&path).version("HTTP/1.0").await.text(), body, "{head}");
    }
}

// RFC 9112 section 7: chunks can be taken off, and put on again; what is below them stays as it is.
#[tokio::test]
async fn a_body_in_a_coding_under_chunked_passes_with_its_codings_and_is_not_stored() {
    let (origin, proxy) = pair().await;
    for (n, codings) in
        ["gzip, chunked", "deflate,chunked", "x-gzip\r\ntransfer-encoding: chunked"].into_iter().enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, raw(&format!("transfer-encoding: {codings}"), "5\r\ncoded\r\n0\r\n\r\n"));
        let mut connection = proxy.connect().await;
        for _ in 0..2 {
            let response = connection.call(proxy.get(&path)).await;
            assert_eq!((response.text().as_str(), response.ending), ("coded", Ending::Clean), "{codings}");
            let shown = response.header("transfer-encoding").unwrap_or_default();
            assert!(shown.contains("gzip") || shown.contains("deflate"), "{codings}: {response:?}");
            assert!(!response.cache_status().stored && !response.is_hit(), "{codings}: {response:?}");
            assert_eq!(response.cache_status().detail(), "transfer-coding");
        }
    }
}

// RFC 9112 section 6.1: such a client cannot be told of a transfer coding
#[tokio::test]
async fn a_client_of_http_1_0_does_not_get_a_body_in_a_coding_that_it_is_not_told_of() {
    let (origin, proxy) = pair().await;
    origin.on("/a", raw("transfer-encoding: gzip, chunked", "5\r\ncoded\r\n0\r\n\r\n"));
    origin.on("/b", raw("transfer-encoding: chunked", "5\r\nplain\r\n0\r\n\r\n"));
    assert_eq!(proxy.get("/a").version("HTTP/1.0").await.status, 502);
    for _ in 0..2 {
        let response = proxy.get("/b").version("HTTP/1.0").await;
        assert_eq!((response.status, response.text().as_str()), (200, "plain"));
        assert_eq!(response.header("transfer-encoding"), None);
        assert_eq!(response.header("connection").as_deref(), Some("close"), "{response:?}");
    }
}

// RFC 9112 section 6.3: "If a message is received with both [...], the Transfer-Encoding overrides the Content-Length"
#[tokio::test]
async fn transfer_encoding_overrides_content_length() {
    let (origin, proxy) = pair().await;
    for (n, length) in ["3", "5", "50"].into_iter().enumerate() {
        let path = format!("/{n}");
        let head = format!("content-length: {length}\r\ntransfer-encoding: chunked");
        origin.on(&path, raw(&head, "5\r\nhello\r\n0\r\n\r\n"));
        let mut connection = proxy.connect().await;
        for hit in [false, true] {
            let response = connection.call(proxy.get(&path)).await;
            assert_eq!((response.text().as_str(), response.ending), ("hello", Ending::Clean));
            assert_eq!((response.header("content-length"), response.is_hit()), (None, hit), "{response:?}");
        }
    }
}

// RFC 9112 section 7.1.1: "A recipient MUST ignore unrecognized chunk extensions"
#[tokio::test]
async fn chunk_extensions_are_ignored_and_not_forwarded() {
    let (origin, proxy) = pair().await;
    let body = "3;name=value\r\nhel\r\n2 ; a=\"b;c\" ; d\r\nlo\r\n0;last\r\n\r\n";
    origin.on("/a", raw("transfer-encoding: chunked", body));
    for hit in [false, true] {
        let response = proxy.get("/a").await;
        assert_eq!((response.text().as_str(), response.ending, response.is_hit()), ("hello", Ending::Clean, hit));
    }
}

// RFC 9112 section 7.1.2: trailers may be discarded; RFC 9110 section 6.5.1: never merged where their definition forbids
#[tokio::test]
async fn trailer_fields_become_no_fields_of_the_response() {
    let (origin, proxy) = pair().await;
    let body = "5\r\nhello\r\n0\r\ncache-control: no-store\r\nset-cookie: a=b\r\nx-sum: 1\r\n\r\n";
    origin.on("/a", raw("transfer-encoding: chunked\r\ntrailer: x-sum", body));
    for hit in [false, true] {
        let response = proxy.get("/a").await;
        assert_eq!((response.text().as_str(), response.ending, response.is_hit()), ("hello", Ending::Clean, hit));
        for name in ["x-sum", "set-cookie", "trailer"] {
            assert_eq!(response.header(name), None, "{name}");
        }
        assert_eq!(response.header("cache-control").as_deref(), Some("max-age=60"));
    }
}

// RFC 9112 section 6.3: conflicting lengths are "an unrecoverable error"; equal ones may be taken for one
#[tokio::test]
async fn conflicting_lengths_are_a_502_and_equal_ones_are_one() {
    let (origin, proxy) = pair().await;
    for (n, head) in
        ["content-length: 3\r\ncontent-length: 5", "content-length: 3, 5", "content-length: 5\r\ncontent-length: 3"]
            .into_iter()
            .enumerate()
    {
        let path = format!("/bad{n}");
        origin.on(&path, raw(head, "hello"));
        assert_eq!(proxy.get(&path).await.status, 502, "{head}");
    }
    for (n, head) in ["content-length: 5\r\ncontent-length: 5", "content-length: 5, 5"].into_iter().enumerate() {
        let path = format!("/good{n}");
        origin.on(&path, raw(head, "hello"));
        let mut connection = proxy.connect().await;
        for hit in [false, true] {
            let response = connection.call(proxy.get(&path)).await;
            assert_eq!((response.status, response.text().as_str(), response.is_hit()), (200, "hello", hit), "{head}");
            // What follows on the connection shows that the client saw one length.
            assert!(response.headers.all("content-length").iter().all(|length| length.contains('5')));
        }
    }
}

// RFC 9110 section 8.6, on the way to the origin
#[tokio::test]
async fn a_repeated_length_of_a_request_reaches_the_origin_as_one() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body"));
    let mut connection = proxy.connect().await;
    for lengths in ["Content-Length: 5, 5", "Content-Length: 5\r\nContent-Length: 5"] {
        connection.send(format!("POST /a HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\nhello")).await;
        let status = connection.answer().await.map(|answer| answer.status);
        if status == Some(400) {
            connection = proxy.connect().await;
            continue;
        }
        assert_eq!(status, Some(200), "{lengths}");
        assert_eq!(origin.last("/a").headers.all("content-length"), ["5"]);
        assert_eq!(origin.last("/a").body, b"hello");
    }
    connection.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello!").await;
    let refused = connection.answer().await.map(|answer| answer.status);
    assert!(matches!(refused, None | Some(400)), "{refused:?}");
}

// RFC 9110 section 8.6 and RFC 9112 section 6.1: neither Content-Length nor Transfer-Encoding in a 204
#[tokio::test]
async fn a_204_says_no_length_and_shifts_nothing() {
    let (origin, proxy) = pair().await;
    for (n, head) in
        ["content-length: 5", "transfer-encoding: chunked", "transfer-encoding: foo"].into_iter().enumerate()
    {
        let path = format!("/{n}");
        let text = format!("HTTP/1.1 204 No Content\r\ncache-control: max-age=60\r\n{head}\r\n\r\n");
        origin.on(&path, Reply::garbage(text).stays_open());
        let mut connection = proxy.connect().await;
        for hit in [false, true] {
            let response = connection.call(proxy.get(&path)).await;
            assert_eq!((response.status, response.is_hit()), (204, hit), "{head}: {response:?}");
            for name in ["content-length", "transfer-encoding"] {
                assert_eq!(response.header(name), None, "{head}, hit: {hit}");
            }
        }
    }
}

// RFC 9112 sections 2.3 and 9.3: an origin may speak HTTP/1.0; we answer in the version that is ours
#[tokio::test]
async fn an_origin_of_http_1_0_is_stored_and_answered_for_in_http_1_1() {
    let (origin, proxy) = pair().await;
    let head = "HTTP/1.0 200 OK\r\ncache-control: max-age=60\r\n";
    origin.on("/length", Reply::garbage(format!("{head}content-length: 5\r\n\r\nhello")));
    origin.on("/close", Reply::garbage(format!("{head}\r\nhello")));
    origin
        .on("/bypass", Reply::garbage("HTTP/1.0 200 OK\r\ncontent-length: 5\r\ncache-control: no-store\r\n\r\nhello"));
    for path in ["/length", "/close", "/bypass"] {
        let mut connection = proxy.connect().await;
        for n in 0..2 {
            let response = connection.call(proxy.get(path)).await;
            assert_eq!((response.text().as_str(), response.ending), ("hello", Ending::Clean), "{path}");
            assert_eq!(response.version, "HTTP/1.1", "{path}");
            assert_eq!(response.header("via").as_deref(), Some("1.0 tidegate"), "{path}");
            assert_eq!(response.is_hit(), n == 1 && path != "/bypass", "{path}: {response:?}");
        }
    }
}

// RFC 9112 section 6.1: HTTP/1.0 with Transfer-Encoding has faulty framing
#[tokio::test]
async fn an_answer_of_http_1_0_with_chunks_is_not_stored() {
    let (origin, proxy) = pair().await;
    let text =
        "HTTP/1.0 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    origin.on("/a", Reply::garbage(text));
    for _ in 0..2 {
        let response = proxy.get("/a").await;
        assert!(!response.cache_status().stored && !response.is_hit(), "{response:?}");
    }
    assert_eq!(origin.count("/a"), 2);
}

// RFC 9112 section 6.1: "A server that receives a request message with a transfer coding it does not understand SHOULD
// respond with 501"
#[tokio::test]
async fn a_request_in_an_unknown_transfer_coding_is_refused() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body"));
    for codings in ["foo, chunked", "foo", "chunked, foo", "gzip,chunked", "chunked, chunked"] {
        let mut connection = proxy.connect().await;
        let head =
            format!("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {codings}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        connection.send(&head).await;
        let answers = connection.answers().await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert!(
            statuses.len() <= 1 && statuses.iter().all(|status| matches!(status, 400 | 501)),
            "{codings}: {statuses:?}"
        );
    }
    assert_eq!(origin.count("/a"), 0);
    let whole = proxy.call("POST", "/a").chunked_body("hello").await;
    assert_eq!((whole.status, origin.last("/a").body.as_slice()), (200, &b"hello"[..]));
}

// RFC 9112 section 6.3: what an origin appends to an answer is nobody's answer
#[tokio::test]
async fn no_framing_of_an_origin_shifts_the_answers_on_its_connection() {
    for head in [
        "transfer-encoding: foo, chunked",
        "content-length: 9\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\nconnection: keep-alive",
        "transfer-encoding: foo\r\nconnection: keep-alive",
    ] {
        let (listener, proxy) = bytes_origin().await;
        let head: Arc<str> = head.into();
        let shown = head.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let head = head.clone();
                tokio::spawn(async move {
                    let mut wire = Wire::new(stream);
                    while let Some((start, _)) = wire.head().await {
                        let path = start.split(' ').nth(1).unwrap_or_default();
                        let body = format!("{:x}\r\n{path}\r\n0\r\n\r\n", path.len());
                        if wire.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes()).await.is_err() {
                            return;
                        }
                        if head.contains("foo\r") {
                            wire.close().await;
                        }
                    }
                });
            }
        });
        let mut connection = proxy.connect().await;
        for n in 0..4 {
            let path = format!("/{n}");
            let response = match connection.attempt(proxy.get(&path)).await {
                Ok(response) => response,
                Err(_) => {
                    connection = proxy.connect().await;
                    continue;
                }
            };
            assert!(response.status != 200 || response.text().contains(&path), "{shown}: {response:?}");
        }
    }
}

// RFC 9112 section 8: an incomplete response must not be stored as a complete one
#[tokio::test]
async fn a_body_that_ends_early_is_not_stored() {
    let (origin, proxy) = pair().await;
    origin.on("/length", Reply::fresh("half").claim_length(8).cut());
    origin.on("/chunked", Reply::fresh("half").chunked().cut());
    for path in ["/length", "/chunked"] {
        for n in 1..=2 {
            let response = proxy.get(path).await;
            assert!(!response.is_hit() && (response.status == 502 || response.ending == Ending::Cut), "{response:?}");
            assert_eq!(origin.count(path), n);
        }
    }
}
