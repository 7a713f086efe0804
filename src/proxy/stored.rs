//! Questions about stored entries: may this one be served, may this response become one.

use super::Gate;
use super::context::{Context, Found};
use super::crowd::failure_of;
use super::failures;
use super::heads;
use super::partial;
use super::prompt::PromptStream;
use super::site::Site;
use crate::clock;
use crate::config::OnError;
use crate::decide::Facts;
use crate::decide::{self, HitVerdict, NotStored, ResponseAction, ResponseVerdict};
use crate::explain::ResponsePart;
use crate::lock::{Failure, FillLock};
use crate::outcome::{ForwardReason, StaleReason};
use crate::policy::Hook;
use crate::policy::decision::TierName;
use crate::policy::view::EntryView;
use crate::semantics::range::Spec;
use crate::semantics::storable::NotStorable;
use crate::store::adapter::{FillHit, Updates};
use crate::store::entry::{Entry, metadata};
use crate::store::partial::{Filling, Parts};
use crate::store::stored::StoredHit;
use pingora::cache::key::HashBinary;
use pingora::cache::{CacheMeta, ForcedFreshness, HitHandler, NoCacheReason, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, ErrorSource};
use pingora::proxy::Session;
use std::sync::Arc;
use std::time::SystemTime;

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
        let found = look_at(hit, ctx)?;
        if let Some(following) = hit.as_any_mut().downcast_mut::<FillHit>() {
            let connection = PromptStream::of(session);
            if let Some(connection) = connection {
                following.before_waiting(Arc::new(connection.outlet()));
            }
        }
        if let Some(stored) = hit.as_any_mut().downcast_mut::<StoredHit>()
            && stored.is_long_file()
            && let Some(sender) = PromptStream::of(session).and_then(PromptStream::file_sender)
        {
            stored.sent_by(sender);
        }
        let site = ctx.site.clone()?;
        let verdict = ctx.verdict.as_ref()?;
        let request = session.req_header();
        let freshness = &found.in_force.freshness;
        let entry = EntryView {
            status: meta.response_header().status.as_u16(),
            headers: meta.headers(),
            age: freshness.age(ctx.now).as_secs_f64(),
            ttl: found.ttl as f64,
            stale: !freshness.is_fresh(ctx.now),
            tags: &found.facts.tags,
            tier: found.tier.map_or("", TierName::as_str),
            hits: found.hits,
            size: found.size,
        };
        let view = ctx.view(request);
        // A fill under way is as new as an answer can be; the policy judges what is stored.
        let policy = ctx.working_policy().filter(|_| found.tier.is_some());
        let policy = policy.map(AsRef::as_ref);
        let asked = policy.is_some();
        let timed = failures::time(policy, Hook::Hit);
        let judged = decide::hit(&site.bucket, policy, verdict, &view, &entry, &found.in_force);
        drop(timed);
        if let Some(error) = &judged.error {
            ctx.policy_failed(&site, error);
        }
        if asked {
            self.note_inputs(ctx);
        }
        ctx.found = Some(found);
        ctx.forward = None;
        ctx.stale = None;
        ctx.completion = None;
        ctx.stored_since = None;
        let part = part_found(hit);
        // Parts are not asked about by themselves, behind a client or otherwise.
        let behind = part.is_none() && judged.verdict == HitVerdict::ServeStale(StaleReason::WhileRevalidate);
        ctx.revalidates_behind = behind;
        // A background fetch has its lock already.
        FillLock::will_be_served_stale(ctx.background || behind);
        ctx.waited_for = match judged.verdict {
            HitVerdict::Revalidate(reason) => Some(reason),
            HitVerdict::Miss => Some(ForwardReason::Miss),
            HitVerdict::Serve | HitVerdict::ServeStale(_) | HitVerdict::GatewayTimeout => ctx.waited_for,
        };
        match part {
            Some(PartFound::Fill) => return partial::judge_fill(judged.verdict, is_fresh, ctx),
            Some(PartFound::Entry(entry, parts)) => {
                return self.judge_part(session, meta, entry, parts, judged.verdict, is_fresh, ctx);
            }
            None => {}
        }
        match judged.verdict {
            HitVerdict::Serve => (!is_fresh).then_some(ForcedFreshness::ForceFresh),
            HitVerdict::ServeStale(StaleReason::WhileRevalidate) => is_fresh.then_some(STALE),
            HitVerdict::ServeStale(reason) => {
                ctx.stale = Some(reason);
                Some(ForcedFreshness::ForceFresh)
            }
            HitVerdict::Revalidate(reason) if judged.by_policy => {
                ctx.forward = Some(reason);
                // The policy does not want it served without the origin's word, whatever happens.
                Some(ForcedFreshness::ForceExpired)
            }
            HitVerdict::Revalidate(reason) => {
                // Whoever was waited for got an error: what may stand in for that stands in here too.
                ctx.stale = self.stands_in_for_a_leader(session, ctx);
                if ctx.stale.is_some() {
                    return Some(ForcedFreshness::ForceFresh);
                }
                ctx.forward = Some(reason);
                is_fresh.then_some(STALE)
            }
            HitVerdict::Miss => {
                ctx.forward = Some(ForwardReason::Miss);
                // For a miss the framework would make a background fetch wait for the lock that it holds itself.
                Some(if ctx.background { ForcedFreshness::ForceExpired } else { ForcedFreshness::ForceMiss })
            }
            // Nothing will do; `may_ask_origin` answers it.
            HitVerdict::GatewayTimeout => Some(ForcedFreshness::ForceMiss),
        }
    }

    /// An answer of the origin, with this head, as decisions see it.
    pub(super) fn answer_of<'a>(
        &self,
        site: &'a Site,
        head: &'a ResponseHeader,
        ctx: &Context,
        now: SystemTime,
    ) -> decide::Response<'a> {
        decide::Response {
            status: head.status.as_u16(),
            headers: &head.headers,
            request_time: ctx.asked.map_or(now, |(_, at)| at),
            response_time: now,
            tiers: &site.tiers,
            seen: ctx.seen,
            shared: ctx.shared,
            asked: ctx.asked_redis,
        }
    }

    /// Forgets the entry that was found, unless another one took its place.
    fn forget_found(&self, session: &Session, ctx: &Context) {
        if let (Some(key), Some(found)) = (session.cache.maybe_cache_key(), &ctx.found) {
            self.store.discard(key, &found.facts);
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
            self.forget_found(session, ctx);
            ctx.not_stored = Some(NotStored::Unconfirmed.to_string());
            return RespCacheable::Uncacheable(heads::no_cache_reason(&NotStored::Unconfirmed));
        }
        if !heads::is_decoded(response) {
            ctx.not_stored = Some(NotStored::TransferCoding.to_string());
            return RespCacheable::Uncacheable(heads::no_cache_reason(&NotStored::TransferCoding));
        }
        let now = clock::now();
        let mut head = match ctx.validated.as_ref().zip(session.cache.maybe_cache_meta()) {
            // The framework merges a few fields of a 304 only; RFC 9111 section 3.2 wants nearly all of them.
            Some((validated, stored)) => heads::freshened(stored.response_header(), validated, now),
            None => heads::storable(response),
        };
        let view = ctx.view(session.req_header());
        let answer = self.answer_of(&site, &head, ctx, now);
        let policy = ctx.working_policy().map(AsRef::as_ref);
        let asked = policy.is_some();
        let timed = failures::time(policy, Hook::Response);
        let decided = decide::response(&site.bucket, policy, verdict, &view, &answer);
        drop(timed);
        if ctx.debug {
            ctx.response_told = Some((ResponsePart::of(&decided, &head.headers), decided.error.clone()));
        }
        if let Some(error) = &decided.error {
            ctx.policy_failed(&site, error);
        }
        if asked {
            self.note_inputs(ctx);
        }
        match decided.action {
            ResponseAction::Pass(reason) => {
                if reason == NotStored::ServerError {
                    self.note_failure(session, Failure::Answered(head.status));
                }
                if reason == NotStored::Rule(NotStorable::Partial) {
                    self.part_is_not_kept(session, &head);
                }
                if ctx.validated.is_some() {
                    // What is stored says by now that it must not be.
                    self.forget_found(session, ctx);
                }
                ctx.not_stored = Some(reason.to_string());
                RespCacheable::Uncacheable(heads::no_cache_reason(&reason))
            }
            ResponseAction::Store(storing) => {
                ctx.not_stored = None;
                ctx.kept_nowhere = !self.store.accepts(storing.write_to);
                heads::dress(&storing, &mut head);
                let since = self.stored_since(session, ctx).unwrap_or(now);
                let mut meta = metadata(head, since, &storing.facts);
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

/// What Pingora is told of an entry that is stale although its lifetime is not over, without more.
const STALE: ForcedFreshness = ForcedFreshness::ForceExpiredServeStale { expired_at: None };

impl Gate {
    /// Since when what this request fetches is stored in part, if it still is.
    fn stored_since(&self, session: &Session, ctx: &Context) -> Option<SystemTime> {
        let (key, found) = (session.cache.maybe_cache_key()?, ctx.found.as_ref()?);
        ctx.stored_since.filter(|_| self.store.still_holds(key, &found.facts))
    }
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
        return entry.body.incomplete().map(|parts| PartFound::Entry(entry, parts));
    }
    let fill = hit.as_any().downcast_ref::<FillHit>()?.fill();
    fill.head.filling().map(|_| PartFound::Fill)
}

fn look_at(hit: &HitHandler, ctx: &Context) -> Option<Found> {
    let left = |facts: &Facts| clock::seconds_between(facts.freshness.fresh_until(), ctx.now);
    if let Some(stored) = hit.as_any().downcast_ref::<StoredHit>() {
        let entry = stored.entry();
        let hits = entry.count_hit();
        let (facts, in_force) = (entry.facts.clone(), stored.facts().clone());
        let (ttl, size) = (left(&in_force), entry.body.len() as u64);
        return Some(Found { facts, in_force, tier: Some(stored.tier()), hits, size, ttl });
    }
    let fill = hit.as_any().downcast_ref::<FillHit>()?.fill();
    let ttl = left(&fill.facts);
    let (facts, in_force) = (fill.facts.clone(), fill.facts.clone());
    Some(Found { facts, in_force, tier: None, hits: 0, size: fill.expected().unwrap_or(0), ttl })
}

/// The hash of the request's values for the fields that the entry varies on.
pub(super) fn variance(meta: &CacheMeta, ctx: &Context, request: &RequestHeader) -> Option<HashBinary> {
    let normalized = ctx.verdict.as_ref().map(|verdict| &verdict.normalized);
    decide::variance(meta.headers(), &request.headers, normalized.map_or(&[], |normalized| normalized.as_slice()))
}

/// Whether the client's conditions say that it has this response already (RFC 9110 section 13).
pub(super) fn not_modified(request: &RequestHeader, response: &ResponseHeader, now: SystemTime) -> bool {
    decide::not_modified(&request.method, &request.headers, response.status, &response.headers, now)
}

impl Gate {
    /// Whether the stale entry that was found may be served: with `error`, in the origin's place; without, while the
    /// origin is asked behind.
    pub(super) fn may_serve_stale(&self, session: &Session, ctx: &mut Context, error: Option<&Error>) -> bool {
        let Some(found) = &ctx.found else { return false };
        let Some(error) = error else {
            ctx.stale = ctx.revalidates_behind.then_some(StaleReason::WhileRevalidate);
            return ctx.revalidates_behind;
        };
        if *error.esource() != ErrorSource::Upstream {
            return false;
        }
        let failure = failure_of(error);
        let Some(reason) =
            decide::serves_for(&ctx.view(session.req_header()), &found.in_force, failure.status(), clock::now())
        else {
            return false;
        };
        if let Some(status) = failure.status() {
            // Nothing else sees an answer in whose place a stored one is served.
            self.note_answer(status, ctx);
        }
        ctx.stale = Some(reason);
        true
    }
}
