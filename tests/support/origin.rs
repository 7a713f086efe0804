//! A scripted HTTP/1.1 origin on a free port.

use super::reply::{Part, Shape};
use super::wire::{Body, Ending, Framing, Headers, Wire};
use super::{Reply, within};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::watch;

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// One request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Exactly as it stood in the request line.
    pub target: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub at: Instant,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name)
    }
}

/// The origin. Runs on the test's own runtime and ends with it.
pub struct Origin {
    addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    routes: Mutex<HashMap<String, Script>>,
    fallback: Mutex<Option<Script>>,
    seen: Mutex<Vec<Seen>>,
    arrived: watch::Sender<()>,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port for the origin");
        let addr = listener.local_addr().expect("the origin's port");
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(converse(Wire::new(stream), connection, shared.clone()));
            }
        });
        Origin { addr, state }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers every request for `path` (query aside) so. Replaces what was said before.
    pub fn on(&self, path: &str, reply: Reply) {
        self.on_fn(path, move |_| reply.clone());
    }

    /// Answers the first request with the first reply and so on; the last one stays.
    pub fn on_each<const N: usize>(&self, path: &str, replies: [Reply; N]) {
        let turn = AtomicUsize::new(0);
        self.on_fn(path, move |_| replies[turn.fetch_add(1, Ordering::Relaxed).min(N - 1)].clone());
    }

    /// Answers requests for `path` with what `script` makes of them.
    pub fn on_fn(&self, path: &str, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.state.routes.lock().unwrap().insert(path.to_owned(), Arc::new(script));
    }

    /// Answers what no other script is for. Without it that is a 404.
    pub fn otherwise(&self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.state.fallback.lock().unwrap() = Some(Arc::new(script));
    }

    /// Requests for `path` so far, in order of arrival.
    pub fn requests(&self, path: &str) -> Vec<Seen> {
        self.state.seen.lock().unwrap().iter().filter(|seen| seen.path() == path).cloned().collect()
    }

    pub fn count(&self, path: &str) -> usize {
        self.requests(path).len()
    }

    /// The latest request for `path`.
    pub fn last(&self, path: &str) -> Seen {
        self.requests(path).pop().unwrap_or_else(|| panic!("the origin was never asked for {path}"))
    }

    /// Waits until `path` was asked for `n` times in all.
    pub async fn wait_for_requests(&self, path: &str, n: usize) {
        let mut arrived = self.state.arrived.subscribe();
        let what = format!("{n} requests for {path} at the origin");
        let _ = within(&what, arrived.wait_for(|()| self.count(path) >= n)).await;
    }
}

impl State {
    fn reply_to(&self, seen: &Seen) -> Reply {
        let script = self.routes.lock().unwrap().get(seen.path()).cloned();
        let script = script.or_else(|| self.fallback.lock().unwrap().clone());
        let reply = match script {
            Some(script) => script(seen),
            None => Reply::status(404).header("cache-control", "no-store").piece("no script for this path"),
        };
        match (&reply.etag, seen.header("if-none-match")) {
            (Some(tag), Some(known)) if known.contains(tag.as_str()) => reply.not_modified(),
            _ => reply,
        }
    }
}

async fn converse(mut wire: Wire, connection: usize, state: Arc<State>) {
    while let Some(seen) = read_request(&mut wire, connection).await {
        let reply = state.reply_to(&seen);
        let bodiless = seen.method == "HEAD" || matches!(reply.status, 204 | 304);
        let close = seen.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        state.seen.lock().unwrap().push(seen);
        state.arrived.send_replace(());
        match play(&mut wire, reply, bodiless).await {
            Ok(true) if !close => {}
            _ => break,
        }
    }
    wire.close().await;
}

async fn read_request(wire: &mut Wire, connection: usize) -> Option<Seen> {
    let (start, headers) = wire.head().await?;
    let at = Instant::now();
    let mut words = start.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut reader = Body::new(Framing::of(&headers, Framing::Length(0)));
    let mut body = Vec::new();
    while let Some(piece) = reader.piece(wire).await {
        body.extend(piece);
    }
    if reader.ending() == Ending::Cut {
        return None;
    }
    Some(Seen { method, target, headers, body, at, connection })
}

/// Sends a reply. `true`: the connection may carry another.
async fn play(wire: &mut Wire, reply: Reply, bodiless: bool) -> io::Result<bool> {
    if let Some(gate) = &reply.before {
        gate.passed().await;
    }
    if let Some(raw) = &reply.raw {
        wire.write(raw).await?;
        return Ok(reply.open);
    }
    for head in &reply.informational {
        wire.write(head.as_bytes()).await?;
    }
    wire.write(head_of(&reply).as_bytes()).await?;
    if bodiless {
        return Ok(reply.shape != Shape::UntilClose);
    }
    for part in &reply.parts {
        match part {
            Part::Hold(gate) => gate.passed().await,
            Part::Bytes(bytes) if reply.shape == Shape::Chunked && !bytes.is_empty() => {
                let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
                wire.write(&chunk).await?;
            }
            Part::Bytes(bytes) => wire.write(bytes).await?,
        }
    }
    if reply.cut || reply.shape == Shape::UntilClose {
        return Ok(false);
    }
    if reply.shape == Shape::Chunked {
        wire.write(b"0\r\n\r\n").await?;
    }
    Ok(true)
}

fn head_of(reply: &Reply) -> String {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match reply.shape {
        _ if matches!(reply.status, 204 | 304) => {}
        Shape::Length => head += &format!("content-length: {}\r\n", reply.body_length()),
        Shape::Chunked => head += "transfer-encoding: chunked\r\n",
        Shape::UntilClose => head += "connection: close\r\n",
    }
    head + "\r\n"
}
