//! On a stored entry, before it is served, and when the origin's own word is not to be had.

use super::{Facts, Request, RequestVerdict};
use crate::config::{Bucket, OnError};
use crate::outcome::{ForwardReason, StaleReason};
use crate::policy::decision::HitDecision;
use crate::policy::view::EntryView;
use crate::policy::{Policy, PolicyError};
use crate::semantics::request::RequestDirectives;
use crate::semantics::reuse::{self, Reuse, StaleCause};
use std::time::SystemTime;

/// What to do with a stored entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HitVerdict {
    /// Serve it: it is fresh.
    Serve,
    /// Serve it although it is stale; with [`StaleReason::WhileRevalidate`], while another request fetches a new one.
    ServeStale(StaleReason),
    /// Ask the origin first.
    Revalidate(ForwardReason),
    /// Fetch as if nothing were stored.
    Miss,
    /// The client wants a stored response or none, and this one will not do.
    GatewayTimeout,
}

/// What was decided about a stored entry.
#[derive(Debug)]
pub struct Judged {
    /// What to do.
    pub verdict: HitVerdict,
    /// The policy said so, not RFC 9111.
    pub by_policy: bool,
    /// The policy failed.
    pub error: Option<PolicyError>,
}

/// Decides whether a stored entry may be served.
pub fn hit(
    bucket: &Bucket,
    policy: Option<&Policy>,
    verdict: &RequestVerdict,
    request: &Request<'_>,
    entry: &EntryView<'_>,
    facts: &Facts,
) -> Judged {
    let by_policy = |verdict, error| Judged { verdict, by_policy: true, error };
    let mut error = None;
    if let Some(policy) = policy {
        match crate::policy::call_hit(policy, &request.view(bucket, &verdict.normalized), entry) {
            Ok(HitDecision::Serve) => {}
            Ok(HitDecision::Revalidate) => return by_policy(HitVerdict::Revalidate(ForwardReason::Stale), None),
            Ok(HitDecision::Miss) => return by_policy(HitVerdict::Miss, None),
            // What the policy would have said is unknown; the origin knows what is right.
            Err(failed) if bucket.on_error == OnError::Bypass => return by_policy(HitVerdict::Miss, Some(failed)),
            Err(failed) => error = Some(failed),
        }
    }
    Judged { verdict: by_rfc(bucket, request, facts), by_policy: false, error }
}

/// RFC 9111 sections 4 and 5.2.1.
fn by_rfc(bucket: &Bucket, request: &Request<'_>, facts: &Facts) -> HitVerdict {
    let wanted = RequestDirectives::of(request.headers);
    // An origin that was asked since this request came has told what the client wants to have told.
    let refetch = bucket.client_refetch && facts.freshness.response_time < request.now;
    match reuse::may_reuse(&facts.freshness, &wanted, refetch, request.now) {
        Reuse::Fresh => HitVerdict::Serve,
        Reuse::Stale(reuse::StaleReason::MaxStale) => HitVerdict::ServeStale(StaleReason::MaxStale),
        Reuse::Stale(reuse::StaleReason::WhileRevalidate) => HitVerdict::ServeStale(StaleReason::WhileRevalidate),
        Reuse::Revalidate(reason) if reason.is_clients_wish() => HitVerdict::Revalidate(ForwardReason::Request),
        Reuse::Revalidate(_) => HitVerdict::Revalidate(ForwardReason::Stale),
        Reuse::GatewayTimeout => HitVerdict::GatewayTimeout,
    }
}

/// Why a stored entry may stand in for an origin that fails; `None` if it may not. `failure` is the status that the origin
/// answered, or none if it could not be reached or broke off.
pub fn serves_for(
    request: &Request<'_>,
    facts: &Facts,
    failure: Option<http::StatusCode>,
    now: SystemTime,
) -> Option<StaleReason> {
    let (cause, reason) = match failure {
        Some(status) => (StaleCause::of_status(status)?, StaleReason::IfError(status.as_u16())),
        None => (StaleCause::Disconnected, StaleReason::Disconnected),
    };
    let wanted = RequestDirectives::of(request.headers);
    reuse::may_serve_stale(&facts.freshness, &wanted, cause, facts.limits, now).then_some(reason)
}
