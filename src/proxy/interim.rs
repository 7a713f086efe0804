//! Interim responses (RFC 9110 section 15.2) on their way to the client.
//!
//! The framework would send them by itself, but loses one that arrives together with a final response that is stored, and
//! takes the response for begun once one was sent, so that nothing stale could stand in for an origin that fails after
//! it. So they are written here, straight to the connection, and the framework is told to leave them alone. What it
//! keeps is `100 Continue` for a client that asked for it, and `101`, which is no interim response.
//!
//! Clients of HTTP/1.0 know none (RFC 9110 section 15.2), and to those of HTTP/2 the framework has no way to send one.

use super::Gate;
use super::prompt::PromptStream;
use http::{StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

/// An interim response: `101` is the last word of HTTP on its connection.
pub(super) fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

impl Gate {
    /// Sends an interim response of the origin on to the client that asked.
    pub(super) async fn forward_interim(&self, session: &Session, response: &ResponseHeader) {
        let request = session.req_header();
        let awaited = response.status == StatusCode::CONTINUE && request.headers.contains_key(header::EXPECT);
        if request.version != Version::HTTP_11 || awaited || session.response_written().is_some() {
            return;
        }
        let Some(connection) = PromptStream::of(session).map(PromptStream::outlet) else { return };
        let reason = response.get_reason_phrase().unwrap_or_default();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", response.status.as_str()).into_bytes();
        response.header_to_h1_wire(&mut head);
        head.extend_from_slice(b"\r\n");
        let limit = self.live.load().config.server.limits.idle_timeout;
        // A client that cannot be written to is noticed when the final response is.
        let _ = tokio::time::timeout(limit, connection.send(&head)).await;
    }
}
