//! Origins that do not keep to HTTP: a 502, nothing stored, and nobody else's answer.

use super::hardening::{assert_well, warm};
use crate::support::wire::Wire;
use crate::support::{Ending, Proxy, Reply};
use std::net::SocketAddr;
use tokio::net::TcpListener;

#[tokio::test]
async fn an_origins_malformed_answer_is_a_502() {
    let (origin, proxy) = warm().await;
    let huge = format!("HTTP/1.1 200 OK\r\nx-huge: {}\r\ncontent-length: 1\r\n\r\nx", "x".repeat(2 << 20));
    let many: String = (0..10_000).map(|n| format!("x{n}: 1\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}content-length: 1\r\n\r\nx");
    for (n, answer) in [
        "HTTP/1.1 abc OK\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 20 OK\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 99999 OK\r\ncontent-length: 1\r\n\r\nx",
        "HTTQ/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/7.0 200 OK\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nxy",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: one\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nx-nul: a\0b\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nbad name: 1\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        &huge,
        &many,
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        let shown = &answer[..answer.len().min(80)];
        origin.on(&path, Reply::garbage(answer));
        for _ in 0..2 {
            let response = proxy.get(&path).await;
            assert_eq!(response.status, 502, "{shown:?}: {response:?}");
            assert_eq!(response.header("content-type").as_deref(), Some("application/problem+json"), "{shown:?}");
        }
    }
    assert_well(&proxy).await;
}

#[tokio::test]
async fn an_origins_malformed_body_never_ends_well_and_is_not_stored() {
    let (origin, proxy) = warm().await;
    let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
    for (n, body) in ["zz\r\nx\r\n0\r\n\r\n", "-1\r\nx", "5\r\nwhole", "fffffffffffffffff\r\nx", "1\r\nxy\r\n0\r\n\r\n"]
        .into_iter()
        .enumerate()
    {
        let path = format!("/{n}");
        origin.on(&path, Reply::garbage(format!("{head}{body}")));
        for _ in 0..2 {
            let mut connection = proxy.connect().await;
            let Ok(response) = connection.attempt(proxy.get(&path)).await else { continue };
            let ended_well = response.status == 200 && response.ending == Ending::Clean;
            assert!(!ended_well && !response.is_hit(), "{body:?}: {response:?}");
        }
    }
    assert_well(&proxy).await;
}

/// An origin that answers each request with these bytes and keeps the connection; `@` in them is the path asked for.
async fn origin_of_bytes(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("its number");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = Wire::new(stream);
                while let Some((start, _)) = wire.head().await {
                    let path = start.split(' ').nth(1).unwrap_or_default();
                    if wire.write(answer.replace('@', path).as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn bytes_after_an_answer_are_nobodys_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n@HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n@\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n2\r\n@\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    ] {
        let servers = format!("[\"{}\"]", origin_of_bytes(answer).await);
        let keys = [("origins.main.http.servers", servers.as_str()), ("server.threads", "1")];
        let proxy = Proxy::builder_with(&keys).start().await;
        let mut connection = proxy.connect().await;
        for n in 0..6 {
            let path = format!("/{n}");
            let Ok(response) = connection.attempt(proxy.get(&path)).await else {
                connection = proxy.connect().await;
                continue;
            };
            let own = response.status != 200 || response.text() == path;
            assert!(own, "{path} of {answer:?}: {response:?}");
        }
        assert!(!proxy.log().contains("panicked"));
    }
}
