//! What an origin answers, and how it misbehaves while it does.

use super::Gate;

/// One answer of an [`super::Origin`]: bytes and gates in the order they are sent and met.
#[derive(Clone)]
pub struct Reply {
    pub(super) before: Option<Gate>,
    pub(super) informational: Vec<String>,
    pub(super) raw: Option<Vec<u8>>,
    pub(super) open: bool,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) parts: Vec<Part>,
    pub(super) shape: Shape,
    pub(super) claimed: Option<usize>,
    pub(super) cut: bool,
    pub(super) etag: Option<String>,
}

#[derive(Clone)]
pub(super) enum Part {
    Bytes(Vec<u8>),
    Hold(Gate),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shape {
    Length,
    Chunked,
    UntilClose,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Reply {
            before: None,
            informational: Vec::new(),
            raw: None,
            open: false,
            status,
            headers: Vec::new(),
            parts: Vec::new(),
            shape: Shape::Length,
            claimed: None,
            cut: false,
            etag: None,
        }
    }

    /// 200 with a `Content-Length`, and nothing said about caching.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Reply::status(200).piece(body)
    }

    /// 200 that may be cached for a minute.
    pub fn fresh(body: impl AsRef<[u8]>) -> Self {
        Reply::ok(body).header("cache-control", "max-age=60")
    }

    /// Closes the connection without a byte.
    pub fn hang_up() -> Self {
        Reply::garbage("")
    }

    /// Sends these bytes instead of HTTP, and closes.
    pub fn garbage(bytes: impl AsRef<[u8]>) -> Self {
        Reply { raw: Some(bytes.as_ref().to_vec()), ..Reply::status(200) }
    }

    /// After [`Reply::garbage`]: leaves the connection open, as if that had been an answer.
    pub fn stays_open(mut self) -> Self {
        self.open = true;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Appends to the body; under [`Reply::chunked`] each piece is one chunk.
    pub fn piece(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.parts.push(Part::Bytes(bytes.as_ref().to_vec()));
        self
    }

    /// Stops here, in the middle of the body, until the gate opens.
    pub fn hold(mut self, gate: &Gate) -> Self {
        self.parts.push(Part::Hold(gate.clone()));
        self
    }

    /// Sends nothing at all until the gate opens.
    pub fn after(mut self, gate: &Gate) -> Self {
        self.before = Some(gate.clone());
        self
    }

    pub fn chunked(mut self) -> Self {
        self.shape = Shape::Chunked;
        self
    }

    /// The end of the body is the end of the connection.
    pub fn until_close(mut self) -> Self {
        self.shape = Shape::UntilClose;
        self
    }

    /// Says this length, whatever is sent.
    pub fn claim_length(mut self, length: usize) -> Self {
        self.claimed = Some(length);
        self
    }

    /// Closes after the last piece: short of the claimed length, or without the final chunk.
    pub fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    /// Sends a 1xx head with these fields first, `name: value` and `\r\n` between them.
    pub fn informational(mut self, status: u16, fields: &str) -> Self {
        let end = if fields.is_empty() { "" } else { "\r\n" };
        self.informational.push(format!("HTTP/1.1 {status} Hint\r\n{fields}{end}\r\n"));
        self
    }

    /// Carries this entity tag, and answers 304 to a request whose `If-None-Match` names it.
    pub fn etag(mut self, tag: &str) -> Self {
        self.etag = Some(tag.to_owned());
        self.header("etag", tag)
    }

    /// The 304 that stands for this reply.
    pub(super) fn not_modified(self) -> Self {
        Reply { status: 304, parts: Vec::new(), claimed: None, cut: false, ..self }
    }

    pub(super) fn body_length(&self) -> usize {
        let sent = |part: &Part| if let Part::Bytes(bytes) = part { bytes.len() } else { 0 };
        self.claimed.unwrap_or_else(|| self.parts.iter().map(sent).sum())
    }
}
