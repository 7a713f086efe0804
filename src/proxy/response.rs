//! Between the origin and the client: what is taken off a response, and what is put on.

use super::Gate;
use super::context::Context;
use super::failures;
use super::heads;
use super::interim::is_interim;
use super::prompt::PromptStream;
use super::request::DEBUG;
use super::upstream::ask_again;
use crate::clock;
use crate::decide::{self, NotStored, RequestAction, ResponseAction, ResponseVerdict};
use crate::explain::{Explanation, ResponsePart};
use crate::outcome::{Account, BypassReason, CACHE_NAME, ForwardReason, Outcome, StaleReason, cache_status};
use crate::policy::Hook;
use crate::policy::decision::TierName;
use crate::policy::view::CacheView;
use crate::semantics::conditional::not_in_304;
use crate::semantics::date;
use crate::semantics::fields::{CACHE_STATUS, cache_status_with, content_length, single_length, via};
use crate::semantics::range::{ByteRange, Requested, requested};
use crate::semantics::surrogate::{SURROGATE_CONTROL, TAG_FIELDS};
use crate::semantics::update::confirms;
use crate::store::lookup::Asked;
use crate::telemetry::metrics;
use http::{HeaderValue, StatusCode, Version, header};
use pingora::cache::{CachePhase, NoCacheReason};
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType, Result};
use pingora::proxy::{MultiRangeInfo, RangeType, Session};
use std::borrow::Cow;
use std::time::SystemTime;

/// [`via`] where nobody was before us: nearly always.
const VIA: HeaderValue = HeaderValue::from_static("1.1 tidegate");

impl Gate {
    /// Looks at the origin's answer as it comes in.
    pub(super) async fn receive_from_origin(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        heads::strip_hop_by_hop(response);
        if is_interim(response.status) {
            self.forward_interim(session, response).await;
            return Ok(());
        }
        if response.status.is_informational() {
            return Ok(());
        }
        heads::forget_unknown_codings(response);
        if !heads::is_decoded(response) && session.req_header().version != Version::HTTP_11 {
            // Neither HTTP/1.0 nor HTTP/2 can say what the body was made of.
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "a transfer coding for HTTP/1.1 only").into_up());
        }
        if let Some(length) = single_length(&response.headers) {
            response.insert_header(header::CONTENT_LENGTH, length)?;
        }
        ctx.origin_version = Some(response.version);
        self.note_answer(response.status, ctx);
        self.invalidate(session, response, ctx).await;
        ctx.own_fields = decide::not_for_others(&response.headers);
        if !response.headers.contains_key(header::DATE) {
            // RFC 9110 section 6.6.1: a recipient with a clock records when it came.
            let _ = response.insert_header(header::DATE, date::format(clock::now()));
        }
        self.begin_posted(session, response, ctx);
        self.learn_from_head(session, response, ctx).await;
        if response.status == StatusCode::NOT_MODIFIED
            && let Some(stored) = session.cache.maybe_cache_meta()
            && !confirms(stored.headers(), &response.headers)
        {
            ctx.unconfirmed = true;
        }
        ctx.validated = (response.status == StatusCode::NOT_MODIFIED).then(|| response.headers.clone());
        let untold = ctx.debug && !ctx.posted.is_kept();
        if let (true, Some(RequestAction::Bypass(reason))) = (untold, ctx.verdict.as_ref().map(|v| &v.action)) {
            // The framework does not ask about the response to a request that the cache stays out of.
            let passed = ResponseAction::Pass(NotStored::Bypassed(reason.clone()));
            let decided = ResponseVerdict { action: passed, error: None };
            ctx.response_told = Some((ResponsePart::of(&decided, &response.headers), None));
        }
        Ok(())
    }

    /// Notes that the origin answered, and what.
    pub(super) fn note_answer(&self, status: StatusCode, ctx: &mut Context) {
        ctx.origin_status = Some(status.as_u16());
        ctx.origin_micros = ctx.asked.map(|(at, _)| at.elapsed().as_micros() as u64);
        let Some(site) = &ctx.site else { return };
        let name = site.upstream.origin.name.as_str();
        metrics().origin_requests.with_label_values(&[name, status.as_str()]).inc();
        if let Some(server) = ctx.server {
            site.upstream.report(server, true);
        }
    }

    /// Forgets what an unsafe request that succeeded has changed (RFC 9111 section 4.4).
    async fn invalidate(&self, session: &Session, response: &ResponseHeader, ctx: &Context) {
        let request = ctx.view(session.req_header());
        let Some(site) = &ctx.site else { return };
        let policy = ctx.working_policy().map(AsRef::as_ref);
        let outdated = decide::outdated(&site.bucket, policy, &request, response.status, &response.headers);
        for key in &outdated {
            self.store.forget(key);
        }
        if !outdated.is_empty() {
            // The client is told that it has changed; a crash after that must not bring back what it was.
            self.store.settled(&outdated).await;
        }
    }

    /// Puts the account of what happened on a response, and lets the policy have the last touch.
    pub(super) fn finish_response(&self, session: &Session, response: &mut ResponseHeader, ctx: &mut Context) {
        if response.status.is_informational() {
            return;
        }
        if response.status == StatusCode::NOT_MODIFIED {
            // Of the 206 that was not sent.
            response.remove_header(&header::CONTENT_RANGE);
        }
        let now = time_of_answer(session, ctx);
        let (outcome, account) = what_happened(session, ctx, now);
        if response.status == StatusCode::NOT_MODIFIED && ctx.found.is_some() {
            for name in not_in_304(&response.headers) {
                response.remove_header(name);
            }
        }
        let stored = session.cache.maybe_cache_meta();
        let from_store = !matches!(outcome, Outcome::Miss(_) | Outcome::Bypass(_) | Outcome::Error(_));
        if from_store && let Some(meta) = stored {
            let age = now.duration_since(meta.epoch()).unwrap_or_default().as_secs();
            ctx.age = Some(age);
            let _ = response.insert_header(header::AGE, age);
        }
        if let Some(status) = cache_status_with(&response.headers, &cache_status(&outcome, &account)) {
            let _ = response.insert_header(CACHE_STATUS, status);
        }
        // What is stored has kept the version that it came in.
        let version = stored.map(|meta| meta.response_header().version).or(ctx.origin_version);
        let version = version.unwrap_or(Version::HTTP_11);
        let via = match response.headers.get(header::VIA) {
            None if version == Version::HTTP_11 => Some(VIA),
            _ => via(&response.headers, version, CACHE_NAME),
        };
        if let Some(via) = via {
            let _ = response.insert_header(header::VIA, via);
        }
        // It was for us, and for no cache of a client (Edge Architecture section 2.2).
        response.remove_header(&SURROGATE_CONTROL);
        if !ctx.site.as_ref().is_some_and(|site| site.bucket.keep_tag_headers) {
            for name in &TAG_FIELDS {
                response.remove_header(name);
            }
        }
        // The version is ours, not the origin's (RFC 9110 section 2.5).
        response.set_version(Version::HTTP_11);
        let _ = response.insert_header("x-request-id", ctx.id.digits().as_slice());
        if matches!(outcome, Outcome::Miss(_) | Outcome::Revalidated(_)) {
            heads::restore(&mut ctx.own_fields, response);
        }
        // What `deliver` reads decides about the looks of this response only, so it is told before.
        let explanation = if ctx.debug { self.explain(session, ctx) } else { None };
        self.deliver(session, response, &outcome, &account, ctx);
        if let Some(stream) = PromptStream::of(session)
            && let Some(date) = response.remove_header(&header::DATE)
        {
            // The framework writes a field of its own, in the spelling that the stream looks for.
            stream.keep_date(&date);
        }
        ctx.outcome = Some((outcome, account));
        if let Some(explanation) = explanation {
            let _ = response.insert_header(DEBUG, explanation);
        }
    }

    fn deliver(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        outcome: &Outcome,
        account: &Account,
        ctx: &mut Context,
    ) {
        let Some((site, policy)) = ctx.site.clone().zip(ctx.working_policy().cloned()) else { return };
        if !policy.has(Hook::Deliver) {
            return;
        }
        let view = ctx.view(session.req_header());
        let reason = outcome.reason();
        let cache = CacheView {
            status: outcome.as_str(),
            reason: &reason,
            tier: outcome.tier().map_or("", TierName::as_str),
            age: ctx.age.map(|age| age as f64),
            ttl: account.ttl.map(|ttl| ttl as f64),
        };
        let normalized = ctx.verdict.as_ref().map(|verdict| verdict.normalized.as_slice()).unwrap_or_default();
        let status = response.status.as_u16();
        let timed = failures::time(Some(&policy), Hook::Deliver);
        let decided = decide::deliver(&site.bucket, &policy, &view, normalized, status, &response.headers, &cache);
        drop(timed);
        match decided {
            Ok(decision) => {
                for (name, value) in decision.headers {
                    match value {
                        Some(value) => drop(response.insert_header(name, value)),
                        None => drop(response.remove_header(&name)),
                    }
                }
            }
            Err(error) => ctx.policy_failed(&site, &error),
        }
        self.note_inputs(ctx);
    }

    fn explain(&self, session: &Session, ctx: &Context) -> Option<String> {
        let (site, verdict) = (ctx.site.as_ref()?, ctx.verdict.as_ref()?);
        let (policy, took) = (ctx.policy.as_deref(), ctx.decided_in);
        let mut told = Explanation::of_request(&site.bucket, policy, verdict, &ctx.inputs, took);
        if let Some((part, error)) = ctx.response_told.clone() {
            let view = ctx.view(session.req_header());
            told = told.with_response(part, error.as_ref(), &view, &verdict.normalized);
        }
        serde_json::to_string(&told).ok()
    }
}

/// Takes chunks away from a client of HTTP/1.0, which cannot read them: its body ends with the connection. So does one
/// whose last transfer coding is not `chunked`, for any client (RFC 9112 section 6.3).
pub(super) fn frame_for_the_client(session: &mut Session, response: &mut ResponseHeader) {
    let Some(codings) = response.headers.get_all(header::TRANSFER_ENCODING).into_iter().next_back() else { return };
    let last = codings.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
    if !last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        session.set_keepalive(None);
    } else if session.req_header().version < Version::HTTP_11 {
        response.remove_header(&header::TRANSFER_ENCODING);
        session.set_keepalive(None);
    }
}

/// Which part of a response the client gets. RFC 9110 section 14.2 is asked first: a `HEAD` has no ranges, a weak tag in
/// `If-Range` holds for nothing, and too many parts are all of it.
///
/// Without a length nothing can be cut, and a 206 that the origin sent is what the client asked for.
pub(super) fn range_of(session: &mut Session, response: &mut ResponseHeader, now: SystemTime) -> RangeType {
    let length = content_length(&response.headers);
    // No body is as long as half of what can be counted; who says so has to be able to add to it.
    let length = length.filter(|length| response.status == StatusCode::OK && *length <= u64::MAX / 2);
    let Some(length) = length else { return RangeType::None };
    let request = session.req_header();
    let wanted = requested(&request.method, &request.headers, response.status, &response.headers, length, now);
    let cut = match wanted {
        Requested::Whole => response.insert_header(header::ACCEPT_RANGES, "bytes").map(|()| RangeType::None),
        Requested::Part(range) => heads::part(response, range, length).map(|()| RangeType::Single(positions(range))),
        Requested::Parts(mut ranges) => {
            if !reads_in_any_order(session) {
                ranges.sort_unstable_by_key(|range| range.first);
            }
            let parts = MultiRangeInfo::new(ranges.into_iter().map(positions).collect());
            heads::parts(response, parts, length).map(RangeType::Multi)
        }
        Requested::Unsatisfiable => heads::no_such_part(response, length).map(|()| RangeType::Invalid),
    };
    // A head that takes no more fields is sent as it is, and so is the body.
    cut.unwrap_or(RangeType::None)
}

/// As the framework counts them. No body in memory is longer than a usize.
fn positions(range: ByteRange) -> std::ops::Range<usize> {
    range.first as usize..range.last as usize + 1
}

/// Whether the body is read from what is stored, where one can go back, and not while it comes.
fn reads_in_any_order(session: &mut Session) -> bool {
    let stored = matches!(
        session.cache.phase(),
        CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating | CachePhase::Revalidated
    );
    stored && session.cache.hit_handler().can_seek_multipart()
}

/// Whether the origin's 304 was about another response than the one that is stored, which answers nobody then (RFC 9111
/// section 4.3.3). Pingora serves what is stored after any 304 and leaves only this way back: the failure of a filter,
/// after which the request goes to the origin again, now without the cache.
pub(super) fn ask_again_after_a_foreign_304(session: &mut Session, ctx: &mut Context) -> Result<()> {
    if !std::mem::take(&mut ctx.unconfirmed) {
        return Ok(());
    }
    session.cache.disable(NoCacheReason::Custom(NotStored::Unconfirmed.name()));
    ctx.validated = None;
    Err(ask_again("a 304 that is about another response than the stored one"))
}

/// When the answer is sent. What was stored before the request came is sent at once, so that the clock need not be read again.
fn time_of_answer(session: &Session, ctx: &Context) -> SystemTime {
    let at_once = !session.cache.upstream_used() && session.cache.lock_duration().is_none();
    if at_once { ctx.now } else { clock::now() }
}

/// Reads the outcome off the phase in which the cache ended.
fn what_happened(session: &Session, ctx: &Context, now: SystemTime) -> (Outcome, Account) {
    let cache = &session.cache;
    let waited = cache.lock_duration().is_some();
    let policy_error = ctx.policy_error.map(|kind| Cow::Owned(format!("policy-error:{kind}")));
    let ttl = cache.maybe_cache_meta().map(|meta| clock::seconds_between(meta.fresh_until(), now));
    let tier = ctx.found.as_ref().and_then(|found| found.tier);
    let forward = |otherwise| ctx.forward.unwrap_or(otherwise);
    let asked = cache.maybe_cache_key().and_then(|key| key.extensions.get::<Asked>());
    let unavailable = asked.and_then(Asked::unavailable);
    let mut account =
        Account { forward_status: ctx.origin_status, detail: policy_error, unavailable, ..Account::default() };
    let outcome = match cache.phase() {
        CachePhase::Hit => match (tier, ctx.stale) {
            (Some(tier), Some(reason)) => {
                // The request that failed was this one's too.
                account.collapsed = waited && reason != StaleReason::MaxStale;
                Outcome::Stale(tier, reason)
            }
            (Some(tier), None) if !waited => Outcome::Hit(tier),
            _ => {
                let varies = cache.maybe_cache_key().is_some_and(|key| key.get_variance_key().is_some());
                account.collapsed_from = ctx.waited_for.or(varies.then_some(ForwardReason::VaryMiss));
                if tier == Some(TierName::Redis) {
                    // Another node has fetched what this one waited for.
                    account.detail = account.detail.or(Some(Cow::Borrowed(TierName::Redis.as_str())));
                }
                Outcome::Collapsed
            }
        },
        CachePhase::Stale | CachePhase::StaleUpdating => {
            Outcome::Stale(tier.unwrap_or(TierName::Memory), ctx.stale.unwrap_or(StaleReason::Disconnected))
        }
        CachePhase::Miss => {
            account.stored = !ctx.kept_nowhere;
            Outcome::Miss(forward(ForwardReason::UriMiss))
        }
        CachePhase::Expired => {
            account.stored = !ctx.kept_nowhere;
            Outcome::Miss(forward(ForwardReason::Stale))
        }
        CachePhase::Revalidated => {
            account.stored = true;
            Outcome::Revalidated(forward(ForwardReason::Stale))
        }
        CachePhase::RevalidatedNoCache(_) => Outcome::Revalidated(forward(ForwardReason::Stale)),
        phase => not_from_cache(phase, ctx, &mut account),
    };
    if matches!(outcome, Outcome::Hit(_) | Outcome::Stale(..) | Outcome::Revalidated(_)) {
        account.ttl = ttl;
    }
    (outcome, account)
}

fn not_from_cache(phase: CachePhase, ctx: &Context, account: &mut Account) -> Outcome {
    if let Some(RequestAction::Bypass(reason)) = ctx.verdict.as_ref().map(|verdict| &verdict.action) {
        account.stored = ctx.posted.is_kept();
        return Outcome::Bypass(reason.clone());
    }
    if let Some(fault) = ctx.fault {
        return Outcome::Error(fault);
    }
    if ctx.verdict.is_none() {
        return Outcome::Bypass(BypassReason::NoTier);
    }
    let reason = match phase {
        CachePhase::Disabled(NoCacheReason::CacheLockTimeout) => Some("lock-timeout"),
        CachePhase::Disabled(NoCacheReason::CacheLockGiveUp) => Some("lock-given-up"),
        CachePhase::Disabled(NoCacheReason::CacheLockRetryLimit) => Some("lock-retries"),
        CachePhase::Disabled(NoCacheReason::StorageError | NoCacheReason::InternalError) => Some("storage-error"),
        _ => None,
    };
    let not_stored = ctx.not_stored.clone().map(Cow::Owned);
    account.detail = account.detail.take().or(not_stored).or(reason.map(Cow::Borrowed));
    Outcome::Miss(ctx.forward.unwrap_or(ForwardReason::UriMiss))
}
