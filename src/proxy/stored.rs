//! Questions about stored entries: may this one be served, may this response become one.

use super::Gate;
use super::context::{Context, Found};
use super::failures;
use super::heads;
use super::partial;
use super::prompt::PromptStream;
use crate::clock;
use crate::config::OnError;
use crate::decide::Facts;
use crate::decide::{self, HitVerdict, NotStored, ResponseAction, ResponseVerdict};
use crate::explain::ResponsePart;
use crate::lock::FillLock;
use crate::outcome::{ForwardReason, StaleReason};
use crate::policy::Hook;
use crate::policy::decision::TierName;
use crate::policy::view::EntryView;
use crate::semantics::range::Spec;
use crate::semantics::storable::NotStorable;
use crate::store::adapter::{FillHit, StoredHit, Updates};
use crate::store::entry::{Body, Entry};
use crate::store::partial::{Filling, Parts};
use pingora::cache::key::HashBinary;
use pingora::cache::{CacheMeta, ForcedFreshness, HitHandler, NoCacheReason, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, ErrorSource, ErrorType};
use pingora::proxy::Session;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

impl Gate {
    /// What to do with an entry that was found.
    pub(super) fn judge_hit(
        &self,
        session: &Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut Context,
    ) -> Option<ForcedFreshness> {
        let found = look_at(meta, hit, ctx)?;
        if let Some(following) = hit.as_any_mut().downcast_mut::<FillHit>() {
            let connection = PromptStream::of(session);
            if let Some(connection) = connection {
                following.before_waiting(Arc::new(connection.outlet()));
            }
        }
        let site = ctx.site.clone()?;
        let verdict = ctx.verdict.as_ref()?;
        let request = session.req_header();
        let entry = EntryView {
            status: meta.response_header().status.as_u16(),
            headers: meta.headers(),
            age: meta.age().as_secs_f64(),
            ttl: found.ttl as f64,
            stale: !is_fresh,
            tags: &found.facts.tags,
            tier: found.tier.map_or("", TierName::as_str),
            hits: found.hits,
            size: found.size,
        };
        let view = ctx.view(request);
        // A fill under way is as new as an answer can be; the policy judges what is stored.
        let policy = ctx.working_policy().filter(|_| found.tier.is_some());
        let policy = policy.map(AsRef::as_ref);
        let timed = failures::time(policy, Hook::Hit);
        let judged = decide::hit(&site.bucket, policy, verdict, &view, &entry, &found.facts);
        drop(timed);
        if let Some(error) = &judged.error {
            ctx.policy_failed(&site, error);
        }
        self.note_inputs(ctx);
        ctx.found = Some(found);
        ctx.forward = None;
        ctx.stale = None;
        ctx.completion = None;
        ctx.stored_since = None;
        let part = part_found(hit);
        FillLock::will_be_served_stale(
            judged.verdict == HitVerdict::Serve
                && part.is_none()
                && !is_fresh
                && may_revalidate_behind(meta, ctx.found.as_ref().map(|found| &*found.facts)),
        );
        match part {
            Some(PartFound::Fill) => return partial::judge_fill(judged.verdict, is_fresh, ctx),
            Some(PartFound::Entry(entry, parts)) => {
                return self.judge_part(session, meta, entry, parts, judged.verdict, is_fresh, ctx);
            }
            None => {}
        }
        match judged.verdict {
            HitVerdict::Serve => None,
            HitVerdict::ServeStale => {
                ctx.stale = Some(StaleReason::MaxStale);
                Some(ForcedFreshness::ForceFresh)
            }
            HitVerdict::Revalidate(reason) => {
                ctx.forward = Some(reason);
                Some(ForcedFreshness::ForceExpired)
            }
            HitVerdict::Miss => {
                ctx.forward = Some(ForwardReason::Miss);
                Some(ForcedFreshness::ForceMiss)
            }
        }
    }

    /// Whether the origin's response is stored, and for how long.
    pub(super) fn admit_response(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut Context,
    ) -> RespCacheable {
        let never = RespCacheable::Uncacheable(NoCacheReason::Custom("no-decision"));
        let (Some(site), Some(verdict)) = (ctx.site.clone(), ctx.verdict.as_ref()) else { return never };
        if let Some(kind) = ctx.policy_error.filter(|_| site.bucket.on_error == OnError::Bypass) {
            // What the policy would have said of this response is unknown, and storing it is not keeping out of the way.
            let reason = NotStored::PolicyError(kind);
            ctx.not_stored = Some(reason.to_string());
            let cannot = RespCacheable::Uncacheable(heads::no_cache_reason(&reason));
            if ctx.debug {
                let decided = ResponseVerdict { action: ResponseAction::Pass(reason), error: None };
                ctx.response_told = Some((ResponsePart::of(&decided, &response.headers), None));
            }
            return cannot;
        }
        if ctx.unconfirmed {
            if let (Some(key), Some(found)) = (session.cache.maybe_cache_key(), &ctx.found) {
                self.store.discard(key, &found.facts);
            }
            ctx.not_stored = Some(NotStored::Unconfirmed.to_string());
            return RespCacheable::Uncacheable(heads::no_cache_reason(&NotStored::Unconfirmed));
        }
        let now = clock::now();
        let mut head = match ctx.validated.as_ref().zip(session.cache.maybe_cache_meta()) {
            // The framework merges a few fields of a 304 only; RFC 9111 section 3.2 wants nearly all of them.
            Some((validated, stored)) => heads::freshened(stored.response_header(), validated, now),
            None => heads::storable(response),
        };
        let view = ctx.view(session.req_header());
        let answer = decide::Response {
            status: head.status.as_u16(),
            headers: &head.headers,
            request_time: ctx.asked.map_or(now, |(_, at)| at),
            response_time: now,
            max_object: self.store.max_object(),
        };
        let policy = ctx.working_policy().map(AsRef::as_ref);
        let timed = failures::time(policy, Hook::Response);
        let decided = decide::response(&site.bucket, policy, verdict, &view, &answer);
        drop(timed);
        if ctx.debug {
            ctx.response_told = Some((ResponsePart::of(&decided, &head.headers), decided.error.clone()));
        }
        if let Some(error) = &decided.error {
            ctx.policy_failed(&site, error);
        }
        self.note_inputs(ctx);
        match decided.action {
            ResponseAction::Pass(reason) => {
                if reason == NotStored::Rule(NotStorable::Partial) {
                    self.part_is_not_kept(session, &head);
                }
                ctx.not_stored = Some(reason.to_string());
                RespCacheable::Uncacheable(heads::no_cache_reason(&reason))
            }
            ResponseAction::Store(storing) => {
                ctx.not_stored = None;
                heads::dress(&storing, &mut head);
                let stale_limit = storing.facts.stale_if_error.max(storing.facts.stale_on_disconnect);
                let since = self.stored_since(session, ctx).unwrap_or(now);
                let mut meta = CacheMeta::new(
                    now + storing.fresh_for,
                    since,
                    whole_seconds(storing.stale_while_revalidate),
                    whole_seconds(stale_limit),
                    head,
                );
                meta.set_epoch_override(now.checked_sub(storing.facts.initial_age).unwrap_or(now));
                meta.extensions_mut().insert(Arc::new(storing.facts));
                if let Some(part) = storing.part {
                    let key = session.cache.maybe_cache_key();
                    let asked = key.and_then(|key| key.extensions.get::<Spec>().copied());
                    meta.extensions_mut().insert(Filling { asked, part });
                }
                if let Some(found) = ctx.found.as_ref().filter(|_| ctx.validated.is_some()) {
                    meta.extensions_mut().insert(Updates(found.facts.clone()));
                }
                RespCacheable::Cacheable(meta)
            }
        }
    }
}

impl Gate {
    /// Since when what this request fetches is stored in part, if it still is.
    fn stored_since(&self, session: &Session, ctx: &Context) -> Option<SystemTime> {
        let (key, found) = (session.cache.maybe_cache_key()?, ctx.found.as_ref()?);
        ctx.stored_since.filter(|_| self.store.still_holds(key, &found.facts))
    }
}

/// Whether an entry that is no longer fresh is served while another request fetches a new one (RFC 5861 section 3).
fn may_revalidate_behind(meta: &CacheMeta, facts: Option<&Facts>) -> bool {
    facts.is_some_and(|facts| !facts.must_revalidate) && meta.serve_stale_while_revalidate(clock::now())
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// A part that was found.
enum PartFound<'a> {
    /// On its way.
    Fill,
    /// Stored.
    Entry(&'a Arc<Entry>, &'a Parts),
}

fn part_found(hit: &HitHandler) -> Option<PartFound<'_>> {
    if let Some(stored) = hit.as_any().downcast_ref::<StoredHit>() {
        let entry = stored.entry();
        return match &entry.body {
            Body::Parts(parts) => Some(PartFound::Entry(entry, parts)),
            Body::Whole(_) => None,
        };
    }
    let fill = hit.as_any().downcast_ref::<FillHit>()?.fill();
    fill.head.filling().map(|_| PartFound::Fill)
}

fn look_at(meta: &CacheMeta, hit: &mut HitHandler, ctx: &Context) -> Option<Found> {
    let ttl = clock::seconds_between(meta.fresh_until(), ctx.now);
    if let Some(stored) = hit.as_any().downcast_ref::<StoredHit>() {
        let entry = stored.entry();
        let hits = entry.count_hit();
        let (facts, size) = (entry.facts.clone(), entry.body.len() as u64);
        return Some(Found { facts, tier: Some(stored.tier()), hits, size, ttl });
    }
    let fill = hit.as_any().downcast_ref::<FillHit>()?.fill();
    Some(Found { facts: fill.facts.clone(), tier: None, hits: 0, size: fill.expected().unwrap_or(0), ttl })
}

/// The hash of the request's values for the fields that the entry varies on.
pub(super) fn variance(meta: &CacheMeta, ctx: &Context, request: &RequestHeader) -> Option<HashBinary> {
    let normalized = ctx.verdict.as_ref().map(|verdict| &verdict.normalized);
    decide::variance(meta.headers(), &request.headers, normalized.map_or(&[], |normalized| normalized.as_slice()))
}

/// Whether the client's conditions say that it has this response already (RFC 9110 section 13).
pub(super) fn not_modified(request: &RequestHeader, response: &ResponseHeader) -> bool {
    decide::not_modified(&request.method, &request.headers, response.status, &response.headers, clock::now())
}

/// Whether the stale entry that was found may be served, with `error` while the origin is asked behind.
pub(super) fn may_serve_stale(session: &Session, ctx: &mut Context, error: Option<&Error>) -> bool {
    let Some(found) = &ctx.found else { return false };
    if found.facts.must_revalidate {
        return false;
    }
    let Some(error) = error else {
        ctx.stale = Some(StaleReason::WhileRevalidate);
        return true;
    };
    let Some(meta) = session.cache.maybe_cache_meta() else { return false };
    let stale_for = clock::now().duration_since(meta.fresh_until()).unwrap_or_default();
    let (reason, limit) = match error.etype() {
        ErrorType::HTTPStatus(status) if *error.esource() == ErrorSource::Upstream => {
            (StaleReason::IfError(*status), found.facts.stale_if_error)
        }
        _ if *error.esource() == ErrorSource::Upstream => {
            (StaleReason::Disconnected, found.facts.stale_if_error.max(found.facts.stale_on_disconnect))
        }
        _ => return false,
    };
    if stale_for > limit {
        return false;
    }
    ctx.stale = Some(reason);
    true
}
