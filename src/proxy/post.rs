//! The response to a `POST` that answers later `GET`s (RFC 9110 section 9.3.3).
//!
//! The framework's cache stays out of a `POST`. So the body is collected beside it as it passes, and what ends well is put
//! into the store, after what the `POST` has made invalid was taken out.

use super::Gate;
use super::context::Context;
use super::heads;
use crate::clock;
use crate::decide::{self, PostedAs, ResponseAction, ResponseVerdict};
use crate::explain::ResponsePart;
use crate::store::direct::Aside;
use crate::store::entry::{StoredHead, metadata};
use bytes::Bytes;
use http::{Method, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

/// What becomes of the response to a `POST`.
#[derive(Debug, Default)]
pub enum Posted {
    /// It passes.
    #[default]
    Passes,
    /// It is collected.
    Collected(Box<Aside>),
    /// It was kept.
    Kept,
}

impl Posted {
    /// Whether it is kept, as far as is known.
    pub fn is_kept(&self) -> bool {
        !matches!(self, Posted::Passes)
    }

    /// Takes the next piece of the body. A body that breaks off has no end, and is let go with the request.
    pub fn collect(&mut self, piece: Option<&Bytes>, end: bool) {
        let Posted::Collected(aside) = self else { return };
        if piece.is_some_and(|piece| !aside.write(piece)) {
            *self = Posted::Passes;
        } else if end && let Posted::Collected(aside) = std::mem::replace(self, Posted::Kept) {
            aside.keep();
        }
    }
}

impl Gate {
    /// Begins to collect the response to a `POST`, if it answers later `GET`s.
    pub(super) fn begin_posted(&self, session: &Session, response: &ResponseHeader, ctx: &mut Context) {
        let request = session.req_header();
        if request.method != Method::POST
            || !response.headers.contains_key(header::CONTENT_LOCATION)
            || !heads::is_decoded(response)
            || !self.store.is_on()
        {
            return;
        }
        let Some(site) = ctx.site.clone() else { return };
        let now = clock::now();
        let mut head = heads::storable(response);
        let answer = self.answer_of(&site, &head, ctx, now);
        let policy = ctx.working_policy().map(AsRef::as_ref);
        let Some(posted) = decide::posted(&site.bucket, policy, &ctx.view(request), &answer) else { return };
        let PostedAs { key, normalized, mut storing } = posted;
        // It comes after what it has made invalid.
        storing.facts.asked = self.store.redis().map_or(0, |redis| redis.asked_at(key.hash()));
        heads::dress(&storing, &mut head);
        let mut meta = metadata(head, now, &storing.facts);
        if let Some(variance) = decide::variance(meta.headers(), &request.headers, &normalized) {
            meta.set_variance(variance);
        }
        let Some(mut aside) = self.store.set_aside(&key, StoredHead::of(&meta), storing.facts.clone()) else { return };
        if ctx.debug {
            let decided = ResponseVerdict { action: ResponseAction::Store(storing), error: None };
            ctx.response_told = Some((ResponsePart::of(&decided, meta.headers()), None));
        }
        if response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0") {
            // No body, and so no end of it, will be seen.
            aside.write(b"");
            aside.keep();
            ctx.posted = Posted::Kept;
        } else {
            ctx.posted = Posted::Collected(Box::new(aside));
        }
    }
}
