//! Interim responses: RFC 9110 section 15.2, RFC 8297.

use super::{bytes_origin, pair};
use crate::support::Reply;
use crate::support::wire::{Body, Framing, Wire};

const LINK: &str = "link: </style.css>; rel=preload";

const EXPECTING: &str = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

// RFC 9110 section 15.2: "A proxy MUST forward 1xx responses unless the proxy itself requested the generation"
#[tokio::test]
async fn early_hints_reach_the_client_before_the_final_response() {
    let (origin, proxy) = pair().await;
    // The origin sends nothing else: hints must not wait for more.
    origin.on("/a", Reply::garbage(format!("HTTP/1.1 103 Early Hints\r\n{LINK}\r\n\r\n")).stays_open());
    let mut connection = proxy.connect().await;
    connection.send("GET /a HTTP/1.1\r\nHost: test.example\r\n\r\n").await;
    let hints = connection.interim().await;
    assert_eq!((hints.status, hints.headers.get("link").as_deref()), (103, Some("</style.css>; rel=preload")));
}

#[tokio::test]
async fn several_interim_responses_keep_their_order_and_fields() {
    let (origin, proxy) = pair().await;
    let reply =
        Reply::fresh("body").informational(102, "").informational(103, LINK).informational(103, "link: </b>\r\nx-a: 1");
    origin.on("/a", reply);
    let response = proxy.get("/a").await;
    let seen: Vec<_> = response.interim.iter().map(|one| (one.status, one.headers.get("link"))).collect();
    assert_eq!(
        seen,
        [(102, None), (103, Some("</style.css>; rel=preload".to_owned())), (103, Some("</b>".to_owned()))]
    );
    assert_eq!(response.interim[2].headers.get("x-a").as_deref(), Some("1"));
    assert_eq!(response.text(), "body");
}

// RFC 9110 section 15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client"
#[tokio::test]
async fn a_client_of_http_1_0_gets_no_interim_response() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body").informational(100, "").informational(103, LINK));
    let response = proxy.get("/a").version("HTTP/1.0").header("expect", "100-continue").await;
    assert!(response.interim.is_empty(), "{response:?}");
    assert_eq!((response.status, response.text().as_str()), (200, "body"));
}

// RFC 9111 section 3: "the response status code is final"
#[tokio::test]
async fn an_interim_response_is_not_stored_and_the_final_one_is() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body").informational(103, &format!("{LINK}\r\ncache-control: max-age=9999")));
    assert_eq!(proxy.get("/a").await.interim.len(), 1);
    let stored = proxy.get("/a").await;
    assert!(stored.is_hit() && stored.interim.is_empty(), "{stored:?}");
    assert_eq!((stored.header("link"), stored.header("cache-control").as_deref()), (None, Some("max-age=60")));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn an_interim_response_passes_where_nothing_is_stored_too() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body").header("cache-control", "no-store").informational(103, LINK));
    for method in ["GET", "GET", "POST", "HEAD", "OPTIONS"] {
        let response = proxy.call(method, "/a").await;
        assert_eq!((response.status, response.interim.len()), (200, 1), "{method}: {response:?}");
    }
}

#[tokio::test]
async fn an_interim_response_passes_before_a_304() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body").header("cache-control", "no-cache").etag("\"v\"").informational(103, LINK));
    proxy.get("/a").await;
    let validated = proxy.get("/a").await;
    assert_eq!((validated.status, validated.cache_status().fwd_status), (200, Some(304)));
    assert_eq!((validated.interim.len(), validated.text().as_str()), (1, "body"));
    let unchanged = proxy.get("/a").header("if-none-match", "\"v\"").header("range", "bytes=0-1").await;
    assert_eq!((unchanged.status, unchanged.interim.len()), (304, 1), "{unchanged:?}");
}

// RFC 9110 section 7.6.1
#[tokio::test]
async fn fields_of_the_connection_are_taken_off_interim_responses() {
    let (origin, proxy) = pair().await;
    let fields = "connection: x-hop, close\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nupgrade: h2c\r\n\
        proxy-connection: close\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\nx-stays: 1";
    origin.on("/a", Reply::fresh("body").informational(103, fields));
    let mut connection = proxy.connect().await;
    let response = connection.call(proxy.get("/a")).await;
    let names: Vec<_> = response.interim[0].headers.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names, ["x-stays"]);
    assert!(connection.call(proxy.get("/a")).await.is_hit());
}

// RFC 5861 section 4: an interim response is no answer
#[tokio::test]
async fn something_stale_may_stand_in_after_an_interim_response() {
    let (origin, proxy) = pair().await;
    let old = Reply::ok("old").header("cache-control", "max-age=0, stale-if-error=60").etag("\"v\"");
    let hint = format!("HTTP/1.1 103 Early Hints\r\n{LINK}\r\n\r\n");
    let broken = Reply::status(503).informational(103, LINK);
    origin.on_each("/a", [old, broken, Reply::garbage(hint)]);
    proxy.get("/a").await;
    for reason in ["stale-if-error", "disconnected"] {
        let response = proxy.get("/a").await;
        assert_eq!((response.text().as_str(), response.cache_status().detail()), ("old", reason), "{response:?}");
        // Asked twice where the connection was a kept one, which the origin may have closed for that reason alone.
        assert!(!response.interim.is_empty(), "{response:?}");
    }
}

#[tokio::test]
async fn an_origin_that_ends_after_an_interim_response_is_a_502() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::garbage(format!("HTTP/1.1 103 Early Hints\r\n{LINK}\r\n\r\n")));
    let response = proxy.get("/a").await;
    assert_eq!((response.status, response.interim.len()), (502, 1), "{response:?}");
}

// RFC 9110 section 10.1.1
#[tokio::test]
async fn a_client_that_waits_for_100_gets_the_origins() {
    let (listener, proxy) = bytes_origin().await;
    let origin = tokio::spawn(async move {
        let mut wire = Wire::new(listener.accept().await.unwrap().0);
        let (_, headers) = wire.head().await.unwrap();
        assert_eq!(headers.get("expect").as_deref(), Some("100-continue"));
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let (mut body, mut bytes) = (Body::new(Framing::Length(5)), Vec::new());
        while let Some(piece) = body.piece(&mut wire).await {
            bytes.extend(piece);
        }
        wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
        bytes
    });
    let mut connection = proxy.connect().await;
    connection.send(EXPECTING).await;
    assert_eq!(connection.interim().await.status, 100);
    connection.send("hello").await;
    let response = connection.answer().await.unwrap();
    assert_eq!((response.status, response.text().as_str(), response.interim.len()), (200, "done", 0));
    assert_eq!(origin.await.unwrap(), b"hello");
}

// RFC 9110 section 10.1.1: a server may refuse at once, with a final response
#[tokio::test]
async fn a_final_response_in_place_of_100_reaches_the_client_and_ends_the_connection() {
    let (listener, proxy) = bytes_origin().await;
    tokio::spawn(async move {
        let mut wire = Wire::new(listener.accept().await.unwrap().0);
        wire.head().await.unwrap();
        wire.write(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        // Holds the connection until the peer lets go of it.
        wire.head().await;
    });
    let mut connection = proxy.connect().await;
    connection.send(EXPECTING).await;
    let response = connection.answer().await.unwrap();
    assert_eq!((response.status, response.text().as_str()), (417, "no"), "{response:?}");
    // A body that comes nevertheless would be taken for a request.
    assert_eq!(response.header("connection").as_deref(), Some("close"));
}

// RFC 9110 section 15.2.2: 101 is the last response of HTTP on its connection
#[tokio::test]
async fn a_switch_of_protocols_keeps_its_fields() {
    let (origin, proxy) = pair().await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
    origin.on("/ws", Reply::garbage(switch));
    let mut connection = proxy.connect().await;
    connection.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let switched = connection.interim().await;
    assert_eq!((switched.status, switched.headers.get("upgrade").as_deref()), (101, Some("websocket")));
}
