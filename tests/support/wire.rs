//! HTTP/1.1 as bytes: just enough reading for both ends, and nothing that repairs what the other side did wrong.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection with what was read ahead.
pub struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
    reset: bool,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        // Scripts send small pieces and want each seen at once.
        let _ = stream.set_nodelay(true);
        Wire { stream, ahead: Vec::new(), reset: false }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Ends our direction; what the peer still sends is not read.
    pub async fn close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads more. `false`: the peer closed or reset the connection.
    async fn fill(&mut self) -> bool {
        // Not on the stack: each future that waits for this one would be as large, or twice that.
        let mut chunk = vec![0; 16 * 1024];
        match self.stream.read(&mut chunk).await {
            Ok(0) => false,
            Ok(n) => {
                self.ahead.extend_from_slice(&chunk[..n]);
                true
            }
            Err(_) => {
                self.reset = true;
                false
            }
        }
    }

    /// Everything up to and with `end`; `None` if the connection ended before.
    async fn through(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                let text: Vec<u8> = self.ahead.drain(..at + end.len()).collect();
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The start line and the fields; `None` if the connection ended before the empty line.
    pub async fn head(&mut self) -> Option<(String, Headers)> {
        let text = self.through(b"\r\n\r\n").await?;
        let mut lines = text.split("\r\n");
        let start = lines.next()?.to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        Some((start, Headers(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())))
    }

    /// At least one byte and at most `most`; `None` at the end.
    async fn some(&mut self, most: usize) -> Option<Vec<u8>> {
        if self.ahead.is_empty() && !self.fill().await {
            return None;
        }
        let n = most.min(self.ahead.len());
        Some(self.ahead.drain(..n).collect())
    }
}

/// Fields in the order they came, repeated ones included.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of a field; repeated ones joined as HTTP says.
    pub fn get(&self, name: &str) -> Option<String> {
        let all = self.all(name);
        if all.is_empty() { None } else { Some(all.join(", ")) }
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    /// What the fields say; `otherwise` if they say nothing.
    pub fn of(headers: &Headers, otherwise: Framing) -> Framing {
        if let Some(codings) = headers.get("transfer-encoding") {
            // RFC 9112 section 6.3: the last coding decides, and a length beside it says nothing.
            let last = codings.rsplit(',').next().unwrap_or_default().trim().to_ascii_lowercase();
            return if last == "chunked" { Framing::Chunked } else { otherwise };
        }
        match headers.get("content-length").and_then(|v| v.parse().ok()) {
            Some(length) => Framing::Length(length),
            None => otherwise,
        }
    }
}

/// How a body ended: as its framing promised, or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Clean,
    Cut,
}

/// Reads one body piece by piece.
pub struct Body {
    framing: Framing,
    /// Bytes left of the whole (`Length`) or of the chunk at hand (`Chunked`).
    left: usize,
    ending: Option<Ending>,
}

impl Body {
    pub fn new(framing: Framing) -> Self {
        let left = if let Framing::Length(n) = framing { n } else { 0 };
        Body { framing, left, ending: None }
    }

    /// The next bytes as they arrive; `None` at the end, whose kind is then in [`Body::ending`].
    pub async fn piece(&mut self, wire: &mut Wire) -> Option<Vec<u8>> {
        if self.ending.is_some() {
            return None;
        }
        match self.framing {
            Framing::UntilClose => {
                let piece = wire.some(usize::MAX).await;
                if piece.is_none() {
                    self.ending = Some(if wire.reset { Ending::Cut } else { Ending::Clean });
                }
                return piece;
            }
            Framing::Length(_) if self.left == 0 => {
                self.ending = Some(Ending::Clean);
                return None;
            }
            Framing::Chunked if self.left == 0 => {
                self.next_chunk(wire).await;
                if self.ending.is_some() {
                    return None;
                }
            }
            _ => {}
        }
        let Some(piece) = wire.some(self.left).await else {
            self.ending = Some(Ending::Cut);
            return None;
        };
        self.left -= piece.len();
        if self.framing == Framing::Chunked && self.left == 0 && wire.through(b"\r\n").await.is_none() {
            self.ending = Some(Ending::Cut);
        }
        Some(piece)
    }

    /// How it ended. Only known after [`Body::piece`] said `None`.
    pub fn ending(&self) -> Ending {
        self.ending.expect("the body was read to its end")
    }

    async fn next_chunk(&mut self, wire: &mut Wire) {
        let size = wire.through(b"\r\n").await;
        let size = size.and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok());
        self.ending = match size {
            None => Some(Ending::Cut),
            Some(0) => Some(self.trailers(wire).await),
            Some(n) => {
                self.left = n;
                None
            }
        };
    }

    async fn trailers(&mut self, wire: &mut Wire) -> Ending {
        loop {
            match wire.through(b"\r\n").await.as_deref() {
                Some("\r\n") => return Ending::Clean,
                Some(_) => {}
                None => return Ending::Cut,
            }
        }
    }
}
