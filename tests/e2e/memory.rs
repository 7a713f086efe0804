//! The daemon's memory while it moves much more than it may keep.
//!
//! Measured as what the kernel says the process has in use. Bounds are far above what a good daemon takes and far below
//! what a leak or a copy for each client would.

use crate::support::process::MIB;
use crate::support::tls::Authority;
use crate::support::{Ending, Gate, Origin, Proxy, Reply, Response, eventually};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// What a stream of any length may add: windows of a few MiB, buffers of sockets and of the allocator.
const STREAMING: u64 = 48 * MIB;

/// The body of [`flood`].
const FLOOD: u64 = 256 * MIB;

/// An origin for large bodies, which holds none: [`FLOOD`] bytes under every path, chunked under those that say so.
async fn flood() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("its number");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pour(stream));
        }
    });
    addr
}

/// Answers one request. A reader that leaves ends it.
async fn pour(mut stream: TcpStream) -> std::io::Result<()> {
    const PIECE: usize = 64 * 1024;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await?;
        head.extend(byte);
    }
    let chunked = head.starts_with(b"GET /chunked");
    let framing = if chunked { "transfer-encoding: chunked".into() } else { format!("content-length: {FLOOD}") };
    let answer = format!("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nconnection: close\r\n{framing}\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    let piece = if chunked {
        [format!("{PIECE:x}\r\n").as_bytes(), &[b'x'; PIECE], b"\r\n"].concat()
    } else {
        vec![b'x'; PIECE]
    };
    for _ in 0..FLOOD / PIECE as u64 {
        stream.write_all(&piece).await?;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

async fn in_front_of_a_flood() -> Proxy {
    let servers = format!("[\"{}\"]", flood().await);
    let proxy = Proxy::builder_with(&[("origins.main.http.servers", servers.as_str())]).start().await;
    // What the first request sets up is no part of what a stream takes.
    proxy.get("/length").open().await.hang_up();
    proxy.wait_for_metric("tidegate_requests_total", "", 1.0).await;
    proxy.forget_peak_memory();
    proxy
}

#[track_caller]
fn assert_added(proxy: &Proxy, before: u64, most: u64) {
    let added = proxy.peak_memory().saturating_sub(before);
    assert!(added < most, "{} MiB were added, from {} MiB", added / MIB, before / MIB);
}

/// A client that takes everything, `pause` a little after each MiB if it is a slow one, and counts.
async fn drink(proxy: &Proxy, path: &str, most: u64, slow: bool) -> u64 {
    let mut stream = TcpStream::connect(proxy.addr()).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let (mut buffer, mut taken, mut paused) = (vec![0; 64 * 1024], 0, 0);
    while taken < most {
        let n = stream.read(&mut buffer).await.expect("the body");
        if n == 0 {
            break;
        }
        taken += n as u64;
        if slow && taken / (4 * MIB) > paused {
            paused = taken / (4 * MIB);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    taken
}

#[tokio::test]
async fn a_body_far_larger_than_the_cache_streams_through_a_few_buffers() {
    let proxy = in_front_of_a_flood().await;
    let before = proxy.memory();
    for path in ["/length", "/chunked"] {
        let taken = drink(&proxy, path, u64::MAX, false).await;
        assert!((FLOOD..FLOOD + MIB).contains(&taken), "{path}: {taken} bytes");
        assert_added(&proxy, before, STREAMING);
    }
}

#[tokio::test]
async fn a_slow_client_holds_the_origin_back_and_not_the_body() {
    let proxy = in_front_of_a_flood().await;
    let before = proxy.memory();
    for path in ["/length", "/chunked"] {
        let taken = drink(&proxy, path, u64::MAX, true).await;
        assert!(taken >= FLOOD, "{path}: {taken} bytes");
        assert_added(&proxy, before, STREAMING);
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    let proxy = in_front_of_a_flood().await;
    let before = proxy.memory();
    for n in 0..12 {
        let path = if n % 2 == 0 { "/length" } else { "/chunked" };
        assert!(drink(&proxy, path, 20 * MIB, false).await >= 20 * MIB);
        // Those who have left are noticed one after the other; a window each would be no leak.
        proxy.wait_for_metric("tidegate_requests_total", "", f64::from(n + 2)).await;
    }
    assert_added(&proxy, before, STREAMING);
    let metrics = proxy.metrics().await;
    assert_eq!((metrics.sum("tidegate_tier_items", ""), metrics.sum("tidegate_fill_waiters", "")), (0.0, 0.0));
}

#[tokio::test]
async fn a_slow_reader_of_http2_holds_the_origin_back_too() {
    let (authority, servers) = (Authority::new(), format!("[\"{}\"]", flood().await));
    let identity = authority.identity("test.example");
    let builder = Proxy::builder_with(&[("origins.main.http.servers", servers.as_str())]);
    let proxy = builder.tls(&identity.chain, &identity.key).file("ca.pem", &authority.pem()).start().await;
    let url = |path: &str| format!("https://test.example:{}{path}", proxy.tls().port());
    let resolve = format!("test.example:{}:127.0.0.1", proxy.tls().port());
    let curl = async |path: &str, rate: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--http2", "--output", "/dev/null", "--limit-rate", rate, "--resolve", &resolve]);
        command.args(["--max-time", "3", "--write-out", "%{size_download}"]).arg("--cacert").arg(proxy.path("ca.pem"));
        let output = command.arg(url(path)).output().await.expect("curl");
        String::from_utf8_lossy(&output.stdout).parse::<u64>().expect("a number of bytes")
    };
    curl("/length", "1M").await;
    let before = proxy.memory();
    proxy.forget_peak_memory();
    for path in ["/length", "/chunked"] {
        let taken = curl(path, "2M").await;
        assert!(taken > MIB && taken < FLOOD, "{taken} bytes");
        assert_added(&proxy, before, STREAMING);
    }
}

#[tokio::test]
async fn several_clients_of_one_large_body_share_its_window() {
    let proxy = Arc::new(in_front_of_a_flood().await);
    let before = proxy.memory();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let proxy = proxy.clone();
            tokio::spawn(async move { drink(&proxy, "/length", 64 * MIB, false).await })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_added(&proxy, before, 2 * STREAMING);
}

/// Policies that change in each round of reloads.
const POLICIES: usize = 20;

#[tokio::test]
async fn a_thousand_policy_reloads_leave_memory_as_it_was() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let numbered = |round: usize| {
        format!(
            "local table = {{}} for i = 1, 2000 do table[i] = \"entry \" .. i .. \" of version {round}\" end\n\
             return {{ deliver = function() return {{ headers = {{ [\"x-policy\"] = table[1] }} }} end }}"
        )
    };
    // Files that change together are loaded together: twenty of them make a thousand reloads of fifty rounds.
    let mut builder = Proxy::builder(&origin);
    for n in 0..POLICIES {
        let bucket = format!("{{ match: {{ hosts: [host-{n}.test] }}, origin: main, policy: {n}.lua }}");
        builder = builder.policy(&format!("{n}.lua"), &numbered(0)).bucket(&format!("b{n}"), &bucket);
    }
    let proxy = builder.start().await;
    let rounds = async |rounds: std::ops::Range<usize>| {
        for round in rounds {
            (0..POLICIES).for_each(|n| proxy.write_policy(&format!("{n}.lua"), &numbered(round)));
            let (mut connection, signed) = (proxy.connect().await, format!("entry 1 of version {round}"));
            eventually("every policy to be reloaded", async || {
                for n in 0..POLICIES {
                    let response = connection.call(proxy.get("/a").host(&format!("host-{n}.test"))).await;
                    assert_eq!(response.status, 200);
                    if response.header("x-policy").as_ref() != Some(&signed) {
                        return None;
                    }
                }
                Some(())
            })
            .await;
        }
    };
    rounds(1..6).await;
    // Each round saw each policy in force: a thousand reloads.
    let before = proxy.memory();
    rounds(6..56).await;
    let added = proxy.memory().saturating_sub(before);
    assert!(added < 16 * MIB, "{} MiB were added to {} MiB", added / MIB, before / MIB);
    // 55 rounds of 20.
    eventually("the reloads to be counted", async || {
        let counted = proxy.metrics().await.sum("tidegate_policy_reloads_total", "result=\"success\"");
        (counted >= 1100.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ten_times_its_capacity_leaves_the_memory_tier_within_it() {
    const CAPACITY: u64 = 16 * MIB;
    let origin = Origin::start().await;
    let body = vec![b'x'; 32 * 1024];
    origin.otherwise(move |_| Reply::fresh(&body));
    let builder = Proxy::builder(&origin).set("cache.memory.capacity", "16MiB");
    let proxy = Arc::new(builder.set("cache.memory.max_object", "1MiB").start().await);
    let before = proxy.memory();
    let fillers: Vec<_> = (0..4)
        .map(|n| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                let mut connection = proxy.connect().await;
                for i in 0..10 * CAPACITY / (32 * 1024) / 4 {
                    connection.call(proxy.get(&format!("/{n}/{i}"))).await;
                }
            })
        })
        .collect();
    for filler in fillers {
        filler.await.unwrap();
    }
    let metrics = proxy.metrics().await;
    let bytes = metrics.sum("tidegate_tier_bytes", "tier=\"memory\"");
    assert!(bytes <= CAPACITY as f64 && bytes > CAPACITY as f64 / 2.0, "{bytes} bytes");
    let added = proxy.memory().saturating_sub(before);
    assert!(added < CAPACITY + 32 * MIB, "{} MiB were added for a tier of 16 MiB", added / MIB);
}

#[tokio::test]
async fn three_hundred_followers_of_a_fill_do_not_copy_its_body() {
    const BODY: u64 = MIB;
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let body = "0123456789abcdef".repeat(BODY as usize / 16 - 1);
    origin.on("/a", Reply::fresh(&body).after(&gate));
    let proxy = Proxy::plain(&origin).await;
    let before = proxy.memory();
    proxy.forget_peak_memory();
    let clients: Vec<_> = (0..300).map(|_| proxy.get("/a").spawn()).collect();
    proxy.wait_for_waiters(299).await;
    gate.open();
    for client in clients {
        let Response { status, body: received, ending, .. } = client.await.unwrap();
        assert!((status, ending) == (200, Ending::Clean) && received == body.as_bytes());
    }
    assert_eq!(origin.count("/a"), 1);
    // Connections and their buffers cost some 100 KiB each in a debug build, and a copy each would be 300 MiB.
    assert_added(&proxy, before, 96 * MIB);
}
