//! Parts of responses: which one the origin is asked for, what a stored one answers, and how what is missing is fetched.
//!
//! A request for one part that is not stored goes to the origin as it is, and the part that comes is stored
//! ([`crate::store::partial`]). A request for the whole of which parts are stored asks for what is missing only, in one span,
//! under the condition that it is still the same (`If-Range`). The answer is put together here, before the framework sees
//! it, so that to everything behind it is the 200 that it stands for. An answer that does not fit is not put together with
//! anything: the whole is asked for again.

use super::Gate;
use super::context::Context;
use super::upstream::ask_again;
use crate::clock;
use crate::decide::{self, HitVerdict};
use crate::outcome::{ForwardReason, StaleReason};
use crate::semantics::combine::{combined_head, known_part, same_representation, strong_tag};
use crate::semantics::range::{ByteRange, Requested, Spec, received_part, requested};
use crate::store::entry::{Body, Entry};
use crate::store::partial::Parts;
use crate::telemetry::metrics;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method, StatusCode, header};
use pingora::cache::predictor::{CacheablePredictor, Predictor};
use pingora::cache::{CacheKey, CacheMeta, CachePhase, ForcedFreshness, NoCacheReason};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, ErrorSource, ErrorType, Result};
use pingora::proxy::Session;
use std::sync::Arc;

/// Most bytes that are read from disk to go around what is missing, in bytes: they are in memory until they are sent. With
/// more than that the whole is asked for. What memory keeps is there anyway.
const MOST_AROUND: u64 = 8 << 20;

/// What is missing of a stored response, on its way.
#[derive(Debug)]
pub struct Completion {
    entry: Arc<Entry>,
    /// From the first byte that is missing to the last one.
    span: ByteRange,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Worth a try, if the request goes to the origin.
    Planned,
    /// The origin was asked for it.
    Asked,
    /// It comes: what goes before it, until that is sent, what goes after it, and the bytes of it that are still to come.
    Coming { before: Bytes, after: Bytes, left: u64 },
}

/// What a stored response can do for a request, as far as its bytes go.
pub(super) fn answers(parts: &Parts, request: &RequestHeader, head: &ResponseHeader) -> bool {
    let (fields, stored) = (&request.headers, &head.headers);
    let now = clock::now();
    if request.method == Method::HEAD || decide::not_modified(&request.method, fields, head.status, stored, now) {
        return true;
    }
    match requested(&request.method, fields, head.status, stored, parts.complete(), now) {
        Requested::Whole => false,
        Requested::Part(range) => parts.covers(range),
        Requested::Parts(ranges) => ranges.into_iter().all(|range| parts.covers(range)),
        Requested::Unsatisfiable => true,
    }
}

/// Keys whose parts are not worth it: never fresh, or not to be put together. They are fetched whole, as it is possible to
/// ask whether a whole is still good, and as it answers every part. About 16,000 keys, the least recently found forgotten first.
pub struct FetchedWhole(Predictor<64>);

impl Default for FetchedWhole {
    fn default() -> Self {
        FetchedWhole(Predictor::new(256, None))
    }
}

impl FetchedWhole {
    /// Whether the origin is asked for a part of it.
    pub(super) fn allows_parts(&self, key: &CacheKey) -> bool {
        self.0.cacheable_prediction(key)
    }

    fn remember(&self, key: &CacheKey) {
        self.0.mark_uncacheable(key, NoCacheReason::OriginNotCache);
    }
}

impl Gate {
    /// What to do with an entry of which only parts are stored. Parts are never asked about by themselves: what they cannot
    /// answer is fetched.
    #[expect(clippy::too_many_arguments, reason = "what the hook was given, and what was decided")]
    pub(super) fn judge_part(
        &self,
        session: &Session,
        meta: &CacheMeta,
        entry: &Arc<Entry>,
        parts: &Parts,
        judged: HitVerdict,
        is_fresh: bool,
        ctx: &mut Context,
    ) -> Option<ForcedFreshness> {
        let head = meta.response_header();
        let answers = answers(parts, session.req_header(), head);
        match judged {
            HitVerdict::Serve if answers => return (!is_fresh).then_some(ForcedFreshness::ForceFresh),
            HitVerdict::ServeStale(StaleReason::MaxStale) if answers => {
                ctx.stale = Some(StaleReason::MaxStale);
                return Some(ForcedFreshness::ForceFresh);
            }
            _ => {}
        }
        ctx.forward = Some(reason_to_fetch(judged));
        if judged == HitVerdict::Miss {
            return Some(ForcedFreshness::ForceMiss);
        }
        ctx.stored_since = Some(meta.provenance());
        if let Some(key) = session.cache.maybe_cache_key() {
            if strong_tag(&head.headers).is_none() {
                // Each part would take the place of the one before, for ever.
                self.fetched_whole.remember(key);
            } else if let (None, Some(span)) = (key.extensions.get::<Spec>(), parts.missing())
                && (parts.is_in_memory() || parts.complete().saturating_sub(span.len()) <= MOST_AROUND)
            {
                ctx.completion = Some(Completion { entry: entry.clone(), span, stage: Stage::Planned });
            }
        }
        Some(ForcedFreshness::ForceMiss)
    }

    /// A part was not kept. If its whole may be, the next request fetches that.
    pub(super) fn part_is_not_kept(&self, session: &Session, response: &ResponseHeader) {
        let request = session.req_header();
        let known = known_part(&request.method, &request.headers, response.status, &response.headers);
        if let (Some(_), Some(key)) = (known, session.cache.maybe_cache_key()) {
            self.fetched_whole.remember(key);
            if session.cache.bypassing() {
                // It was found uncacheable once, and its clients may want nothing but parts.
                self.prediction.mark_cacheable(key);
            }
        }
    }
}

/// What to do with the fill of a part, which is as new as it can be unless the client or its origin want more than that.
pub(super) fn judge_fill(judged: HitVerdict, is_fresh: bool, ctx: &mut Context) -> Option<ForcedFreshness> {
    if judged == HitVerdict::Serve {
        return (!is_fresh).then_some(ForcedFreshness::ForceFresh);
    }
    ctx.forward = Some(reason_to_fetch(judged));
    Some(ForcedFreshness::ForceMiss)
}

fn reason_to_fetch(judged: HitVerdict) -> ForwardReason {
    match judged {
        HitVerdict::Miss => ForwardReason::Miss,
        HitVerdict::Revalidate(reason) => reason,
        HitVerdict::Serve => ForwardReason::Partial,
        HitVerdict::ServeStale(_) | HitVerdict::GatewayTimeout => ForwardReason::Stale,
    }
}

impl Gate {
    /// Asks the origin for the part that the client wants, or for what is missing of the whole. The framework has taken the
    /// client's `Range` off a request that may fill the cache.
    pub(super) fn ask_for_part(&self, session: &Session, request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
        let Some(key) = session.cache.maybe_cache_key().filter(|_| session.cache.phase() == CachePhase::Miss) else {
            ctx.completion = None;
            return Ok(());
        };
        if let Some(spec) = key.extensions.get::<Spec>() {
            request.insert_header(header::RANGE, spec.to_string())?;
        }
        // While it waited, another request may have purged it.
        let planned = ctx.completion.take().filter(|planned| self.store.still_holds(key, &planned.entry.facts));
        if let Some(mut planned) = planned
            && let Some(tag) = strong_tag(planned.entry.head.headers())
        {
            let Completion { span, .. } = planned;
            request.insert_header(header::RANGE, Spec::From(span.first, Some(span.last)).to_string())?;
            request.insert_header(header::IF_RANGE, tag)?;
            planned.stage = Stage::Asked;
            ctx.completion = Some(planned);
        }
        Ok(())
    }
}

/// Makes the whole of what is missing and what is stored, or lets the whole be asked for.
pub(super) async fn complete(response: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
    if response.status.is_informational() {
        return Ok(());
    }
    let Some(completion) = ctx.completion.take() else { return Ok(()) };
    let Completion { entry, span, .. } = &completion;
    match response.status {
        StatusCode::PARTIAL_CONTENT => {}
        // About the condition, or the span, and not about what the client asked for.
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NOT_MODIFIED | StatusCode::PRECONDITION_FAILED => {
            return refuse(ctx);
        }
        // It has changed (200), or something else happened that is news for who asks for the whole as well.
        _ => return Ok(()),
    }
    let (stored, complete) = (entry.head.headers(), entry.body.complete());
    let fits = received_part(&response.headers)
        .is_some_and(|part| part.range == *span && part.complete == Some(complete))
        && same_representation(stored, &response.headers);
    let Body::Parts(parts) = &entry.body else { return refuse(ctx) };
    if !fits {
        return refuse(ctx);
    }
    // Before anything is promised. What cannot be read is no longer stored by now.
    let Ok((before, after)) = parts.around(*span).await else {
        return Err(ask_again("what is stored of the response cannot be read"));
    };
    let fields = combined_head(stored, &response.headers, complete, clock::now());
    response.set_status(StatusCode::OK)?;
    let names: Vec<HeaderName> = response.headers.keys().cloned().collect();
    for name in names {
        response.remove_header(&name);
    }
    for (name, value) in &fields {
        response.append_header(name, value.clone())?;
    }
    let left = span.len();
    ctx.completion = Some(Completion { stage: Stage::Coming { before, after, left }, ..completion });
    Ok(())
}

/// Has the whole asked for; the completion is gone by then.
fn refuse(ctx: &Context) -> Result<()> {
    if let Some(site) = &ctx.site {
        metrics().parts_refused.with_label_values(&[site.upstream.origin.name.as_str()]).inc();
    }
    Err(ask_again("the origin sent another part than it was asked for"))
}

/// Puts what is stored around what comes.
pub(super) fn complete_body(body: &mut Option<Bytes>, is_end: bool, ctx: &mut Context) -> Result<()> {
    let Some(Completion { stage: Stage::Coming { before, after, left }, .. }) = &mut ctx.completion else {
        return Ok(());
    };
    let came = body.take().unwrap_or_default();
    let other_length = || {
        let what = "the origin sent a part of another length than it said";
        Error::create(ErrorType::InvalidHTTPHeader, ErrorSource::Upstream, Some(what.into()), None)
    };
    *left = left.checked_sub(came.len() as u64).ok_or_else(other_length)?;
    if is_end && *left > 0 {
        return Err(other_length());
    }
    let before = std::mem::take(before);
    let after = if is_end { std::mem::take(after) } else { Bytes::new() };
    *body = Some(match (before.is_empty(), after.is_empty()) {
        (true, true) => came,
        _ => {
            let mut all = BytesMut::with_capacity(before.len() + came.len() + after.len());
            for piece in [before, came, after] {
                all.extend_from_slice(&piece);
            }
            all.freeze()
        }
    });
    Ok(())
}
