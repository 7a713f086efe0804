//! A client that sends exactly what it is told and says exactly what came back.

use super::cache_status::CacheStatus;
use super::wire::{Body, Ending, Framing, Headers, Wire};
use super::within;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A request to be sent. Await it for the whole response, [`Call::open`] it for the head first.
#[derive(Clone)]
#[must_use = "a call does nothing until it is awaited, opened or spawned"]
pub struct Call {
    addr: SocketAddr,
    method: String,
    target: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    version: &'static str,
}

impl Call {
    /// `target` is sent as it is. The host is `test.example` unless another is named.
    pub fn new(addr: SocketAddr, method: &str, target: &str) -> Self {
        Call {
            addr,
            method: method.to_owned(),
            target: target.to_owned(),
            host: "test.example".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            version: "HTTP/1.1",
        }
    }

    /// Says another version of HTTP: `HTTP/1.0`.
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Appends a field; a name may come more than once.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `Authorization: Bearer TOKEN`
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// A body with its `Content-Length`.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.header("content-length", &length)
    }

    /// A body as one chunk and the final one.
    pub fn chunked_body(mut self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        self.body = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
        self.header("transfer-encoding", "chunked")
    }

    /// Sends it on a connection of its own and reads the head; the body waits to be read.
    pub async fn open(self) -> Exchange {
        let what = format!("the head of the answer to {} {}", self.method, self.target);
        within(&what, self.try_open()).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Like awaiting, for a peer that may not be there.
    pub async fn attempt(self) -> io::Result<Response> {
        Ok(self.try_open().await?.rest().await)
    }

    /// Sends it in the background.
    pub fn spawn(self) -> JoinHandle<Response> {
        tokio::spawn(self.into_future())
    }

    async fn try_open(self) -> io::Result<Exchange> {
        let wire = Wire::new(TcpStream::connect(self.addr).await?);
        let mut connection = Connection { wire };
        let (head, body) = connection.ask(&self).await?;
        let Head { status, headers, .. } = head.clone();
        Ok(Exchange { connection, status, headers, head, body, so_far: Vec::new() })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\nHost: {}\r\n", self.method, self.target, self.version, self.host);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

impl IntoFuture for Call {
    type Output = Response;
    type IntoFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.open().await.rest().await })
    }
}

/// A connection that is kept between calls.
pub struct Connection {
    wire: Wire,
}

impl Connection {
    pub async fn to(addr: SocketAddr) -> Self {
        Connection { wire: Wire::new(TcpStream::connect(addr).await.expect("a connection")) }
    }

    /// Sends a call here, wherever it was addressed to, and reads the whole answer.
    pub async fn call(&mut self, call: Call) -> Response {
        self.attempt(call).await.expect("an answer on a kept connection")
    }

    /// Like [`Connection::call`], for a peer that may have closed.
    pub async fn attempt(&mut self, call: Call) -> io::Result<Response> {
        let answer = async {
            let (head, mut body) = self.ask(&call).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = body.piece(&mut self.wire).await {
                bytes.extend(piece);
            }
            Ok(head.with_body(bytes, body.ending()))
        };
        within("an answer on a kept connection", answer).await
    }

    /// Sends bytes that need not be HTTP. A peer that refuses them may close meanwhile; what it says still counts.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.wire.write(bytes.as_ref()).await;
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        self.wire.close().await;
    }

    /// Sends a little more, and says whether the peer closed instead of waiting for it.
    pub async fn is_closed_after(&mut self, bytes: &str) -> bool {
        if self.wire.write(bytes.as_bytes()).await.is_err() {
            return true;
        }
        // The one wait for something not to happen: a peer that is patient says nothing.
        let answer = tokio::time::timeout(Duration::from_millis(100), self.answer_head("GET")).await;
        answer.is_ok()
    }

    /// Reads one whole answer to a request that is not a `HEAD`; `None` if the peer closed instead.
    pub async fn answer(&mut self) -> Option<Response> {
        self.answer_to("GET").await
    }

    /// Reads one whole answer to a request with this method.
    pub async fn answer_to(&mut self, method: &str) -> Option<Response> {
        within("an answer to bytes", async {
            let (head, mut body) = self.answer_head(method).await.ok()?;
            let mut bytes = Vec::new();
            while let Some(piece) = body.piece(&mut self.wire).await {
                bytes.extend(piece);
            }
            Some(head.with_body(bytes, body.ending()))
        })
        .await
    }

    /// Every answer until the peer closes.
    pub async fn answers(&mut self) -> Vec<Response> {
        let mut all = Vec::new();
        while let Some(response) = self.answer().await {
            all.push(response);
        }
        all
    }

    /// Reads the next interim response; panics if a final one comes.
    pub async fn interim(&mut self) -> Interim {
        let head = within("an interim response", self.wire.head()).await;
        let (start, headers) = head.expect("an interim response before the end of the connection");
        let status = status_of(&start);
        assert!(status < 200, "a final response came instead: {start}");
        Interim { status, headers }
    }

    async fn ask(&mut self, call: &Call) -> io::Result<(Head, Body)> {
        // A peer that refuses a large request may close while it is being written; its answer still counts.
        let written = self.wire.write(&call.bytes()).await;
        match self.answer_head(&call.method).await {
            Err(_) if written.is_err() => Err(written.unwrap_err()),
            answer => answer,
        }
    }

    async fn answer_head(&mut self, method: &str) -> io::Result<(Head, Body)> {
        let mut interim = Vec::new();
        loop {
            let Some((start, headers)) = self.wire.head().await else {
                return Err(io::Error::other("the connection ended before a response head"));
            };
            let status = status_of(&start);
            if status >= 200 {
                let bodiless = method == "HEAD" || matches!(status, 204 | 304);
                let framing = if bodiless { Framing::Length(0) } else { Framing::of(&headers, Framing::UntilClose) };
                let version = start.split(' ').next().unwrap_or_default().to_owned();
                return Ok((Head { version, status, headers, interim }, Body::new(framing)));
            }
            interim.push(Interim { status, headers });
        }
    }
}

fn status_of(start: &str) -> u16 {
    start.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line")
}

/// A 1xx that came before the response.
#[derive(Clone, Debug)]
pub struct Interim {
    pub status: u16,
    pub headers: Headers,
}

/// What stands before the body of a response.
#[derive(Clone)]
struct Head {
    version: String,
    status: u16,
    headers: Headers,
    interim: Vec<Interim>,
}

impl Head {
    fn with_body(self, body: Vec<u8>, ending: Ending) -> Response {
        let Head { version, status, headers, interim } = self;
        Response { version, status, headers, interim, body, ending }
    }
}

/// A response whose head was read and whose body is still coming.
pub struct Exchange {
    connection: Connection,
    pub status: u16,
    pub headers: Headers,
    head: Head,
    body: Body,
    so_far: Vec<u8>,
}

impl Exchange {
    /// Waits until the body so far ends with `text`.
    pub async fn read_until(&mut self, text: &str) {
        let what = format!("{text:?} in the body");
        while !self.so_far.ends_with(text.as_bytes()) {
            let piece = within(&what, self.body.piece(&mut self.connection.wire)).await;
            let seen = String::from_utf8_lossy(&self.so_far).into_owned();
            self.so_far.extend(piece.unwrap_or_else(|| panic!("the body ended after {seen:?}, before {text:?}")));
        }
    }

    /// Reads to the end.
    pub async fn rest(mut self) -> Response {
        while let Some(piece) = within("the end of the body", self.body.piece(&mut self.connection.wire)).await {
            self.so_far.extend(piece);
        }
        self.head.with_body(self.so_far, self.body.ending())
    }

    /// Leaves in the middle.
    pub fn hang_up(self) {}
}

/// A response, whole or cut.
#[derive(Clone, Debug)]
pub struct Response {
    /// `HTTP/1.1`, as the status line says.
    pub version: String,
    pub status: u16,
    pub headers: Headers,
    /// The 1xx that came before it.
    pub interim: Vec<Interim>,
    pub body: Vec<u8>,
    pub ending: Ending,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// What Tidegate says of itself in `Cache-Status`.
    pub fn cache_status(&self) -> CacheStatus {
        CacheStatus::of(&self.headers)
    }

    /// Served from the cache without asking the origin.
    pub fn is_hit(&self) -> bool {
        self.cache_status().hit
    }
}
