//! What the origin's answer to a `HEAD` says about the stored response to a `GET` (RFC 9111 section 4.3.5).
//!
//! A `HEAD` that finds nothing fetches with `GET`, so that the answer can be stored. One that reaches the origin as it is has
//! waited for another's fill in vain, or its key was found uncacheable before something was stored after all.

use super::Gate;
use super::context::Context;
use super::heads;
use crate::clock;
use crate::decide::{self, NotStored, RequestAction, ResponseAction};
use crate::semantics::update::{HeadUpdate, head_update};
use crate::store::entry::metadata;
use http::{Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

impl Gate {
    /// Brings the stored response up to date, or forgets it if the origin has something else by now.
    pub(super) async fn learn_from_head(&self, session: &Session, response: &ResponseHeader, ctx: &Context) {
        let request = session.req_header();
        if request.method != Method::HEAD
            || response.status != StatusCode::OK
            // The framework asked with GET.
            || session.upstream_headers_mutated_for_cache()
            // Made for one user, as far as can be known, and no news about what is shared.
            || request.headers.contains_key(header::AUTHORIZATION)
        {
            return;
        }
        let (Some(site), Some(verdict)) = (&ctx.site, &ctx.verdict) else { return };
        let RequestAction::Lookup(key) = &verdict.action else { return };
        let variance = |stored: &_| decide::variance(stored, &request.headers, &verdict.normalized);
        let Some((id, entry)) = self.store.find(key, variance).await else { return };
        if entry.head.response().status != StatusCode::OK {
            return;
        }
        let now = clock::now();
        let received = heads::storable(response);
        let length = Some(entry.body.len() as u64);
        let new = match head_update(entry.head.headers(), length, response.status, &received.headers, now) {
            HeadUpdate::Unrelated => return,
            HeadUpdate::Outdated => return self.store.drop_entry(id, &entry),
            HeadUpdate::Updated(fields) => fields,
        };
        let mut head = heads::plain(entry.head.response(), &new);
        let answer = self.answer_of(site, &head, ctx, now);
        let policy = ctx.working_policy().map(AsRef::as_ref);
        match decide::response(&site.bucket, policy, verdict, &ctx.view(request), &answer).action {
            ResponseAction::Store(storing) => {
                heads::dress(&storing, &mut head);
                let head = entry.head.renewed(&metadata(head, now, &storing.facts));
                self.store.renew(id, &entry, head, storing.facts);
            }
            // The client's wish is about its own response.
            ResponseAction::Pass(reason) if NotStored::is_passing(reason.name()) => {}
            // It may not be kept any more, whatever it was when it came.
            ResponseAction::Pass(_) => self.store.drop_entry(id, &entry),
        }
    }
}
