//! Those who wait while the origin fails: they neither fall on it all at once, nor try for ever one after another.

use super::Gate;
use super::context::Context;
use crate::clock;
use crate::decide;
use crate::lock::{Failure, MOST_LEADERS};
use crate::outcome::StaleReason;
use http::StatusCode;
use pingora::cache::{CachePhase, NoCacheReason};
use pingora::prelude::{Error, ErrorSource, ErrorType};
use pingora::proxy::Session;

impl Gate {
    /// Remembers that the origin failed a request, if others wait for it. Called before they are woken.
    pub(super) fn note_failure(&self, session: &Session, failure: Failure) {
        if session.cache.enabled()
            && session.cache.is_cache_lock_writer()
            && let Some(key) = session.cache.maybe_cache_key()
        {
            self.lock.note_failure(key, failure);
        }
    }

    /// The same for an error that ends a request to the origin.
    pub(super) fn note_error(&self, session: &Session, error: &Error) {
        if *error.esource() != ErrorSource::Upstream || error.retry() {
            return;
        }
        self.note_failure(session, failure_of(error));
    }

    /// How often in a row the origin failed those for whom this request waited, and how it did at last.
    fn failures_while_waiting(&self, session: &Session, ctx: &Context) -> Option<(u32, Failure)> {
        // Most requests never wait.
        session.cache.lock_duration()?;
        self.lock.failures_since(session.cache.maybe_cache_key()?, ctx.started)
    }

    /// Why a stale entry may be served to a request that waited for another one, which the origin failed.
    pub(super) fn stands_in_for_a_leader(&self, session: &Session, ctx: &Context) -> Option<StaleReason> {
        let (_, failure) = self.failures_while_waiting(session, ctx)?;
        let found = ctx.found.as_ref()?;
        decide::serves_for(&ctx.view(session.req_header()), &found.in_force, failure.status(), clock::now())
    }

    /// Whether a request has waited for an origin that fails for as long as it may.
    pub(super) fn is_given_up(&self, session: &Session, ctx: &Context) -> bool {
        let Some((times, _)) = self.failures_while_waiting(session, ctx) else { return false };
        let out_of_patience = matches!(
            session.cache.phase(),
            CachePhase::Disabled(NoCacheReason::CacheLockRetryLimit | NoCacheReason::CacheLockTimeout)
        );
        times >= MOST_LEADERS || out_of_patience
    }
}

/// What an error of the origin means to those who wait.
pub(super) fn failure_of(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::HTTPStatus(status) => StatusCode::from_u16(*status).map_or(Failure::Disconnected, Failure::Answered),
        _ => Failure::Disconnected,
    }
}
