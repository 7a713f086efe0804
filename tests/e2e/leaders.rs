//! The client whose request fetches for others: it may be slow, stop or leave, and the others must not notice.

use crate::support::h2::{H2, H2Response};
use crate::support::tls::Authority;
use crate::support::{Ending, Gate, Origin, Proxy, Reply, call::Exchange, eventually, proxy::Builder};

/// More than kernel, windows and buffers hold for a client that does not read.
const LARGE: usize = 16 * 1024 * 1024;

/// How a body says where it ends.
const FRAMINGS: [fn(Reply) -> Reply; 3] = [|reply| reply, Reply::chunked, Reply::until_close];

fn large() -> Vec<u8> {
    (0..LARGE).map(|i| (i / 7 % 251) as u8).collect()
}

fn in_pieces(body: &[u8]) -> Reply {
    body.chunks(256 * 1024).fold(Reply::fresh(""), |reply, piece| reply.piece(piece))
}

/// Keeps objects of this size.
fn keeping(origin: &Origin, max_object: &str) -> Builder {
    Proxy::builder(origin).set("cache.memory", &format!("{{ capacity: 256MiB, max_object: {max_object} }}"))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Http1,
    Http2,
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// A proxy that is asked by one protocol.
struct Asked {
    proxy: Proxy,
    ca: String,
    protocol: Protocol,
}

/// A response whose body waits to be read.
enum Opened {
    One(Exchange),
    Two(H2Response),
}

impl Asked {
    async fn by(protocol: Protocol, builder: Builder) -> Self {
        let authority = Authority::new();
        let identity = authority.identity("test.example");
        let proxy = Box::pin(builder.tls(&identity.chain, &identity.key).start()).await;
        Asked { proxy, ca: authority.pem(), protocol }
    }

    /// Asks on a connection of its own and reads the head.
    async fn open(&self, path: &str) -> Opened {
        match self.protocol {
            Protocol::Http1 => Opened::One(Box::pin(self.proxy.get(path).open()).await),
            Protocol::Http2 => {
                let client = Box::pin(H2::connect(self.proxy.tls(), &self.ca)).await;
                Opened::Two(Box::pin(client.get(path)).await)
            }
        }
    }

    /// The line of the access log about a request.
    async fn logged(&self, id: &str) -> serde_json::Value {
        let log = self.proxy.path("access.log");
        eventually("a line in the access log", async || {
            let text = std::fs::read_to_string(&log).ok()?;
            let whole = text.rsplit_once('\n')?.0;
            whole.lines().find(|line| line.contains(id)).map(|line| serde_json::from_str(line).expect("JSON"))
        })
        .await
    }

    /// Waits until so many requests have ended.
    async fn wait_for_ended(&self, requests: u32) {
        Box::pin(self.proxy.wait_for_metric("tidegate_requests_total", "", f64::from(requests))).await;
    }
}

impl Opened {
    /// Reads up to and with this text.
    async fn read_until(&mut self, text: &str) {
        match self {
            Opened::One(exchange) => exchange.read_until(text).await,
            Opened::Two(response) => {
                let mut body = Vec::new();
                while !body.ends_with(text.as_bytes()) {
                    body.extend_from_slice(&response.piece().await.expect("more of the body").expect("a piece"));
                }
            }
        }
    }

    /// Reads to the end: what was not read before, and whether it ended well.
    async fn rest(self) -> (Vec<u8>, Ending) {
        match self {
            Opened::One(exchange) => {
                let response = exchange.rest().await;
                (response.body, response.ending)
            }
            Opened::Two(response) => match response.rest().await {
                Ok(body) => (body, Ending::Clean),
                Err(_) => (Vec::new(), Ending::Cut),
            },
        }
    }

    fn leave(self) {
        match self {
            Opened::One(exchange) => exchange.hang_up(),
            Opened::Two(response) => response.leave(),
        }
    }
}

#[track_caller]
fn assert_whole((received, ending): (Vec<u8>, Ending), body: &[u8], what: &str) {
    assert!(received == body && ending == Ending::Clean, "{what}: {} bytes, {ending:?}", received.len());
}

#[tokio::test]
async fn a_leader_that_stops_reading_holds_up_nobody_whatever_the_protocol_or_framing() {
    let body = large();
    for protocol in PROTOCOLS {
        for (n, framing) in FRAMINGS.iter().enumerate() {
            let (origin, what) = (Origin::start().await, format!("{protocol:?}, framing {n}"));
            origin.on("/a", framing(in_pieces(&body)));
            let asked = Asked::by(protocol, keeping(&origin, "32MiB")).await;
            let leader = asked.open("/a").await;
            assert_whole(asked.open("/a").await.rest().await, &body, &what);
            // The leader has what it wants as soon as it wants it.
            assert_whole(leader.rest().await, &body, &what);
            assert_eq!(origin.count("/a"), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn a_leader_that_takes_nothing_for_too_long_is_given_up() {
    let body = large();
    for protocol in PROTOCOLS {
        for (n, framing) in FRAMINGS.iter().enumerate() {
            let (origin, what) = (Origin::start().await, format!("{protocol:?}, framing {n}"));
            origin.on("/a", framing(in_pieces(&body)));
            let builder = keeping(&origin, "32MiB").set("server.limits.idle_timeout", "300ms");
            let asked = Asked::by(protocol, builder).await;
            let leader = asked.open("/a").await;
            // Nobody reads a byte: the fill ends all the same, and then the leader's request. Others who would read so much
            // would have to be as fast as its limit asks, on a busy machine too.
            Box::pin(asked.proxy.wait_for_metric("tidegate_tier_items", "", 1.0)).await;
            asked.wait_for_ended(1).await;
            assert_eq!(leader.rest().await.1, Ending::Cut, "{what}");
            assert_eq!(origin.count("/a"), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn a_leader_that_leaves_takes_no_fill_along_whatever_the_protocol() {
    for protocol in PROTOCOLS {
        let (origin, gate) = (Origin::start().await, Gate::closed());
        origin.on("/a", Reply::fresh("first ").hold(&gate).piece("second").chunked());
        let asked = Asked::by(protocol, keeping(&origin, "32MiB")).await;
        let mut leader = asked.open("/a").await;
        leader.read_until("first ").await;
        let mut follower = asked.open("/a").await;
        follower.read_until("first ").await;
        leader.leave();
        gate.open();
        follower.read_until("second").await;
        assert_eq!(follower.rest().await.1, Ending::Clean, "{protocol:?}");
        assert_whole(asked.open("/a").await.rest().await, b"first second", "a hit");
        assert_eq!(origin.count("/a"), 1);
    }
}

#[tokio::test]
async fn a_leader_gets_its_whole_body_from_a_daemon_that_stops() {
    let body = large();
    for protocol in PROTOCOLS {
        let (origin, gate) = (Origin::start().await, Gate::closed());
        let (start, end) = body.split_at(LARGE / 2);
        origin.on("/a", Reply::fresh(start).hold(&gate).piece(end).chunked());
        let asked = Asked::by(protocol, keeping(&origin, "32MiB")).await;
        let leader = asked.open("/a").await;
        let daemon = nix::unistd::Pid::from_raw(asked.proxy.pid().try_into().expect("a process"));
        nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGTERM).expect("a signal");
        eventually("the daemon to stop", async || {
            let ready = asked.proxy.admin("/readyz").attempt().await;
            (!ready.is_ok_and(|ready| ready.status == 200)).then_some(())
        })
        .await;
        gate.open();
        assert_whole(leader.rest().await, &body, &format!("{protocol:?}"));
    }
}

#[tokio::test]
async fn a_slow_leader_of_a_body_too_large_to_keep_gets_it_whole() {
    let body = large();
    for protocol in PROTOCOLS {
        let origin = Origin::start().await;
        origin.on("/a", in_pieces(&body).chunked());
        origin.on("/other", Reply::fresh("other"));
        let asked = Asked::by(protocol, keeping(&origin, "1MiB")).await;
        let leader = asked.open("/a").await;
        // The origin sends all it can while this client is busy with something else.
        for _ in 0..100 {
            asked.proxy.get("/other").await;
        }
        assert_whole(leader.rest().await, &body, &format!("{protocol:?}"));
    }
}

#[tokio::test]
async fn what_is_not_kept_is_not_fetched_for_a_leader_that_left() {
    for protocol in PROTOCOLS {
        let (origin, never) = (Origin::start().await, Gate::closed());
        origin.on("/a", in_pieces(&large()).hold(&never).chunked());
        let asked = Asked::by(protocol, keeping(&origin, "1MiB")).await;
        asked.open("/a").await.leave();
        // The origin never ends its response, and the request ends all the same.
        asked.wait_for_ended(1).await;
    }
}

#[tokio::test]
async fn a_broken_fill_is_broken_for_its_leader_too_whatever_the_protocol() {
    for protocol in PROTOCOLS {
        let (origin, gate) = (Origin::start().await, Gate::closed());
        origin.on("/a", Reply::fresh("some ").hold(&gate).piece("of it").chunked().cut());
        let asked = Asked::by(protocol, keeping(&origin, "1MiB")).await;
        let mut leader = asked.open("/a").await;
        leader.read_until("some ").await;
        gate.open();
        assert_eq!(leader.rest().await.1, Ending::Cut, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_empty_or_just_fills_the_window_ends_for_its_leader() {
    for protocol in PROTOCOLS {
        let origin = Origin::start().await;
        // The windows of HTTP/2 begin with 65,535 bytes.
        for (path, length) in [("/empty", 0), ("/exact", 65_535), ("/more", 65_536)] {
            let body = vec![b'x'; length];
            origin.on(path, Reply::fresh(&body));
            let asked = Asked::by(protocol, keeping(&origin, "1MiB")).await;
            assert_whole(asked.open(path).await.rest().await, &body, path);
            assert_whole(asked.open(path).await.rest().await, &body, path);
            assert_eq!(origin.count(path), 1);
        }
    }
}

#[tokio::test]
async fn a_head_or_a_part_that_came_first_by_http2_fills_the_cache_and_is_logged_by_its_size() {
    let origin = Origin::start().await;
    origin.otherwise(|_| Reply::fresh("0123456789"));
    let builder = keeping(&origin, "1MiB").set("log.access", "\"@DIR@/access.log\"");
    let asked = Asked::by(Protocol::Http2, builder).await;
    let client = Box::pin(H2::connect(asked.proxy.tls(), &asked.ca)).await;
    for (method, path, fields, status, body) in [
        ("HEAD", "/head", &[][..], 200, ""),
        ("GET", "/part", &[("range", "bytes=2-4")][..], 206, "234"),
        ("GET", "/whole", &[][..], 200, "0123456789"),
    ] {
        let response = client.call(method, path, fields).await;
        assert_eq!(response.head.status.as_u16(), status, "{path}");
        let field = |name: &str| response.head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let id = field("x-request-id").expect("a request id");
        assert!(field("cache-status").expect("a cache status").contains("stored"), "{path}");
        assert_eq!(response.rest().await.unwrap(), body.as_bytes(), "{path}");
        let line = asked.logged(&id).await;
        assert_eq!((&line["status"], &line["bytes"]), (&status.into(), &body.len().into()), "{path}");
        assert_eq!(client.get(path).await.rest().await.unwrap(), b"0123456789", "{path}");
        assert_eq!(origin.count(path), 1, "{path}");
    }
}
