//! Whether a stored response may be used for a request: RFC 9111 sections 4, 4.2.4 and 5.2.1, RFC 5861.

use super::freshness::Freshness;
use super::request::RequestDirectives;
use std::time::{Duration, SystemTime};

/// What to do with a stored response that matches a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Serve it.
    Fresh,
    /// Serve it although it is stale.
    Stale(StaleReason),
    /// Ask the origin before it is served.
    Revalidate(RevalidateReason),
    /// The client wants a stored response or none (`only-if-cached`), and this one will not do: 504.
    GatewayTimeout,
}

/// Why a stale response may be served at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StaleReason {
    /// The client said `max-stale`.
    MaxStale,
    /// Within `stale-while-revalidate`: serve it and revalidate it behind the client's back.
    WhileRevalidate,
}

impl StaleReason {
    /// The one spelling, in headers, labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            StaleReason::MaxStale => "max-stale",
            StaleReason::WhileRevalidate => "stale-while-revalidate",
        }
    }
}

/// Why a stored response is revalidated first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevalidateReason {
    /// It is stale.
    Stale,
    /// The origin said `no-cache`.
    NoCache,
    /// The client said `no-cache`.
    RequestNoCache,
    /// It is older than the client's `max-age`.
    RequestMaxAge,
    /// It will not stay fresh for the client's `min-fresh`.
    RequestMinFresh,
}

impl RevalidateReason {
    /// The one spelling, in headers, labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            RevalidateReason::Stale => "stale",
            RevalidateReason::NoCache => "no-cache",
            RevalidateReason::RequestNoCache => "request-no-cache",
            RevalidateReason::RequestMaxAge => "request-max-age",
            RevalidateReason::RequestMinFresh => "request-min-fresh",
        }
    }

    /// The client asked for it, the origin did not.
    pub fn is_clients_wish(self) -> bool {
        match self {
            RevalidateReason::Stale | RevalidateReason::NoCache => false,
            RevalidateReason::RequestNoCache | RevalidateReason::RequestMaxAge | RevalidateReason::RequestMinFresh => {
                true
            }
        }
    }
}

/// What to do without a stored response that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Ask the origin.
    Fetch,
    /// The client wants a stored response or none: 504 (RFC 9111 section 5.2.1.7).
    GatewayTimeout,
}

/// Decides a miss.
pub fn on_miss(request: &RequestDirectives) -> Miss {
    if request.only_if_cached { Miss::GatewayTimeout } else { Miss::Fetch }
}

/// Decides what to do with a stored response that matches a request in key and variant.
///
/// `client_refetch`: whether the client's `no-cache`, `max-age` and `min-fresh` can force a way to the origin. Where a
/// bucket says no, they are ignored; `max-stale` and `only-if-cached` spare the origin and are always honoured.
pub fn may_reuse(freshness: &Freshness, request: &RequestDirectives, client_refetch: bool, now: SystemTime) -> Reuse {
    match judge(freshness, request, client_refetch, now) {
        Reuse::Revalidate(_) if request.only_if_cached => Reuse::GatewayTimeout,
        reuse => reuse,
    }
}

fn judge(freshness: &Freshness, request: &RequestDirectives, client_refetch: bool, now: SystemTime) -> Reuse {
    let age = freshness.age(now);
    if client_refetch && request.no_cache {
        return Reuse::Revalidate(RevalidateReason::RequestNoCache);
    }
    if freshness.no_cache {
        return Reuse::Revalidate(RevalidateReason::NoCache);
    }
    // An age of zero is not "at most zero" to a client that asks for zero: it wants the origin's word.
    if client_refetch && request.max_age.is_some_and(|limit| age > limit || limit.is_zero()) {
        return Reuse::Revalidate(RevalidateReason::RequestMaxAge);
    }
    if freshness.lifetime > age {
        let left = freshness.lifetime.saturating_sub(age);
        return match request.min_fresh {
            Some(wanted) if client_refetch && left < wanted => Reuse::Revalidate(RevalidateReason::RequestMinFresh),
            _ => Reuse::Fresh,
        };
    }
    let staleness = age.saturating_sub(freshness.lifetime);
    if freshness.must_revalidate {
        return Reuse::Revalidate(RevalidateReason::Stale);
    }
    // Section 5.2.1.1: with max-age and without max-stale, the client does not wish to receive a stale response.
    if !freshness.s_maxage && request.max_stale.is_some_and(|limit| staleness <= limit) {
        return Reuse::Stale(StaleReason::MaxStale);
    }
    let wants_fresh = client_refetch && (request.max_age.is_some() || request.min_fresh.is_some());
    if !wants_fresh && freshness.stale_while_revalidate.is_some_and(|window| staleness < window) {
        return Reuse::Stale(StaleReason::WhileRevalidate);
    }
    Reuse::Revalidate(RevalidateReason::Stale)
}

/// Why the origin's own word is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StaleCause {
    /// The origin cannot be reached, does not answer in time, or drops the connection.
    Disconnected,
    /// The origin answered 500, 502, 503 or 504 (RFC 5861 section 4).
    ServerError,
    /// Another request is asking the origin.
    Revalidating,
}

impl StaleCause {
    /// The cause that a status stands for; `None` if it is the origin's answer and to be passed on.
    pub fn of_status(status: http::StatusCode) -> Option<Self> {
        matches!(status.as_u16(), 500 | 502 | 503 | 504).then_some(StaleCause::ServerError)
    }
}

/// What a bucket allows where the origin says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleLimits {
    /// How long after its lifetime a response is served when the origin is disconnected. Default 1 h; zero is off.
    pub on_disconnect: Duration,
}

impl Default for StaleLimits {
    fn default() -> Self {
        StaleLimits { on_disconnect: Duration::from_secs(60 * 60) }
    }
}

/// Whether a stored response may stand in for the origin's answer.
///
/// RFC 9111 section 4.2.4: never against `must-revalidate`, `proxy-revalidate` or `no-cache`. `s-maxage` forbids it as
/// well, except where the same response (or the policy) allows it by `stale-while-revalidate` or `stale-if-error`,
/// which would otherwise mean nothing to a shared cache. A response that says how long it may be used on errors is
/// taken at its word: that time replaces the bucket's limit, even where it is shorter.
///
/// A client's `no-cache` is a preference (section 5.2.1.4) that a failing origin cannot meet, and is not looked at.
pub fn may_serve_stale(
    freshness: &Freshness,
    request: &RequestDirectives,
    cause: StaleCause,
    limits: StaleLimits,
    now: SystemTime,
) -> bool {
    if freshness.no_cache {
        return false;
    }
    let age = freshness.age(now);
    if freshness.lifetime > age {
        return true;
    }
    if freshness.must_revalidate {
        return false;
    }
    let staleness = age.saturating_sub(freshness.lifetime);
    // RFC 5861 section 4: the directive may also stand in a request; it cannot undo what the origin forbids.
    let clients = request.stale_if_error.filter(|_| !freshness.s_maxage);
    let on_error = freshness.stale_if_error.max(clients);
    match cause {
        StaleCause::Revalidating => freshness.stale_while_revalidate.is_some_and(|window| staleness < window),
        StaleCause::ServerError => on_error.is_some_and(|window| staleness < window),
        StaleCause::Disconnected => match on_error {
            Some(window) => staleness < window,
            None => !freshness.s_maxage && staleness < limits.on_disconnect,
        },
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
