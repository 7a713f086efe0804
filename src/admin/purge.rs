//! `POST /v1/purge`

use super::{Admin, answer, problem};
use crate::proxy::purging::NotPurged;
use crate::purge::order::Order;
use http::{HeaderValue, Response, StatusCode, header};
use pingora::protocols::http::ServerSession;

/// Longest body that is read: as many URLs as one purge may name, of a usual length.
const LONGEST: usize = 16 << 20;

impl Admin {
    /// Reads the body, and purges what it names.
    pub(super) async fn purge(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let body = match read_body(session).await {
            Ok(body) => body,
            Err(refused) => {
                // What follows on this connection is not worth reading.
                session.set_keepalive(None);
                return refused;
            }
        };
        let purged = match Order::parse(&body) {
            Ok(order) => self.gate.purge(order).await,
            Err(why) => Err(NotPurged::Unknown(why)),
        };
        match purged {
            Ok(purged) => {
                let body = purged.to_json().to_string() + "\n";
                answer(purged.status(), "application/json", body.into_bytes())
            }
            Err(e) => problem(e.status(), &e.to_string()),
        }
    }
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, Response<Vec<u8>>> {
    let headers = &session.req_header().headers;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > LONGEST as u64) {
        return Err(too_large());
    }
    let unreadable = |_| problem(StatusCode::BAD_REQUEST, "The body could not be read to its end.");
    let waits =
        headers.get(header::EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits {
        session.write_continue_response().await.map_err(unreadable)?;
    }
    let mut body = Vec::new();
    while let Some(piece) = session.read_request_body().await.map_err(unreadable)? {
        body.extend_from_slice(&piece);
        if body.len() > LONGEST {
            return Err(too_large());
        }
    }
    Ok(body)
}

fn too_large() -> Response<Vec<u8>> {
    let detail =
        format!("The body is longer than {} MiB; send it in parts, or purge by a tag or a prefix.", LONGEST >> 20);
    let mut refused = problem(StatusCode::PAYLOAD_TOO_LARGE, &detail);
    refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    refused
}
