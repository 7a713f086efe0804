//! What happened to a request, with the reason inside.
//!
//! One value feeds the `Cache-Status` field (RFC 9211), the metric label, the access log and dry-run, so that each thing
//! has one spelling.

use crate::policy::decision::TierName;
use std::borrow::Cow;
use std::fmt::Write;

/// How a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// From a fresh stored entry.
    Hit(TierName),
    /// From a stored entry that was no longer fresh.
    Stale(TierName, StaleReason),
    /// From a stored entry that the origin confirmed just now (304).
    Revalidated(ForwardReason),
    /// From another request's fill.
    Collapsed,
    /// From the origin.
    Miss(ForwardReason),
    /// From the origin, with the cache kept out of it.
    Bypass(BypassReason),
    /// With an error of our own.
    Error(Fault),
}

/// Why a stale entry was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleReason {
    /// `stale-while-revalidate`: another request is fetching a new one (RFC 5861 section 3).
    WhileRevalidate,
    /// `stale-if-error`: the origin answered with this status (RFC 5861 section 4).
    IfError(u16),
    /// The origin could not be reached (RFC 9111 section 4.2.4).
    Disconnected,
    /// The client said `max-stale` (RFC 9111 section 5.2.1.2).
    MaxStale,
}

impl StaleReason {
    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            StaleReason::WhileRevalidate => "stale-while-revalidate",
            StaleReason::IfError(_) => "stale-if-error",
            StaleReason::Disconnected => "disconnected",
            StaleReason::MaxStale => "max-stale",
        }
    }
}

/// Why a request went to the origin: the values of `fwd` in RFC 9211 section 2.2 that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardReason {
    /// Nothing is stored under this key.
    UriMiss,
    /// Something is stored, but no variant that fits.
    VaryMiss,
    /// Something is stored, but the policy (or a purge) calls it a miss.
    Miss,
    /// The client asked for it (`Cache-Control: no-cache` and the like).
    Request,
    /// What is stored is stale.
    Stale,
    /// A part is stored, and not what is asked for.
    Partial,
}

impl ForwardReason {
    /// The token of RFC 9211.
    pub fn as_str(self) -> &'static str {
        match self {
            ForwardReason::UriMiss => "uri-miss",
            ForwardReason::VaryMiss => "vary-miss",
            ForwardReason::Miss => "miss",
            ForwardReason::Request => "request",
            ForwardReason::Stale => "stale",
            ForwardReason::Partial => "partial",
        }
    }
}

/// Why the cache stayed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BypassReason {
    /// The policy said so, with its own word.
    Policy(String),
    /// The policy failed and `on_error` is `bypass`; holds the kind of failure.
    PolicyError(&'static str),
    /// The method is neither GET nor HEAD.
    Method,
    /// The connection is to become something else.
    Upgrade,
    /// A GET with a body, whose meaning no cache can know.
    RequestBody,
    /// Every tier is off.
    NoTier,
}

impl BypassReason {
    /// The one spelling.
    pub fn as_str(&self) -> Cow<'_, str> {
        match self {
            BypassReason::Policy(reason) => Cow::Borrowed(reason),
            BypassReason::PolicyError(kind) => Cow::Owned(format!("policy-error:{kind}")),
            BypassReason::Method => Cow::Borrowed("method"),
            BypassReason::Upgrade => Cow::Borrowed("upgrade"),
            BypassReason::RequestBody => Cow::Borrowed("request-body"),
            BypassReason::NoTier => Cow::Borrowed("no-tier"),
        }
    }
}

/// An answer of our own instead of the origin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No bucket serves that host and path.
    NoBucket,
    /// The request has no usable host.
    BadHost,
    /// The request target is no path, or one that cannot be an object key of the bucket.
    BadTarget,
    /// The bucket does not let that method or sub-resource through.
    MethodNotAllowed,
    /// The request is not to go any further (`Max-Forwards: 0`), and this cache is not what it asks about.
    LastHop,
    /// Only objects of the bucket are readable.
    Forbidden,
    /// A field of the request makes no sense where it stands.
    BadHeader,
    /// The body comes in a transfer coding other than `chunked`.
    TransferCoding,
    /// The body is larger than `server.limits.body_bytes`.
    BodyTooLarge,
    /// The target is longer than `server.limits.uri_bytes`.
    UriTooLong,
    /// The header block is larger than `server.limits.header_bytes`.
    HeaderTooLarge,
    /// More than `cache.lock.max_waiters` wait for the same fill.
    TooManyWaiters,
    /// The origin failed those who were waited for, one after another.
    OriginFailing,
    /// The client wants a stored response only (`only-if-cached`) and there is none.
    OnlyIfCached,
    /// The origin could not be reached or broke off.
    OriginUnreachable,
    /// The origin took too long.
    OriginTimeout,
    /// The origin's credentials are not usable.
    Credentials,
    /// The client left before it was answered.
    ClientGone,
    /// Something that should not happen.
    Internal,
}

impl Fault {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Fault::NoBucket => 404,
            Fault::BadHost | Fault::BadTarget | Fault::BadHeader => 400,
            Fault::TransferCoding => 501,
            Fault::MethodNotAllowed | Fault::LastHop => 405,
            Fault::Forbidden => 403,
            Fault::BodyTooLarge => 413,
            Fault::UriTooLong => 414,
            Fault::HeaderTooLarge => 431,
            Fault::TooManyWaiters | Fault::OriginFailing => 503,
            Fault::OnlyIfCached | Fault::OriginTimeout => 504,
            Fault::OriginUnreachable | Fault::Credentials => 502,
            Fault::ClientGone => 499,
            Fault::Internal => 500,
        }
    }

    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::NoBucket => "no-bucket",
            Fault::BadHost => "bad-host",
            Fault::BadTarget => "bad-target",
            Fault::BadHeader => "bad-header",
            Fault::TransferCoding => "transfer-coding",
            Fault::MethodNotAllowed => "method-not-allowed",
            Fault::LastHop => "max-forwards",
            Fault::Forbidden => "forbidden",
            Fault::BodyTooLarge => "body-too-large",
            Fault::UriTooLong => "uri-too-long",
            Fault::HeaderTooLarge => "header-too-large",
            Fault::TooManyWaiters => "too-many-waiters",
            Fault::OriginFailing => "origin-failing",
            Fault::OnlyIfCached => "only-if-cached",
            Fault::OriginUnreachable => "origin-unreachable",
            Fault::OriginTimeout => "origin-timeout",
            Fault::Credentials => "credentials",
            Fault::ClientGone => "client-gone",
            Fault::Internal => "internal",
        }
    }

    /// One sentence for whoever reads the error body.
    pub fn detail(self) -> &'static str {
        match self {
            Fault::NoBucket => "No bucket of this cache serves that host and path.",
            Fault::BadHost => "The request names no valid host.",
            Fault::BadTarget => "The request target is not a path that can be asked for.",
            Fault::BadHeader => "A field of the request header cannot be passed on.",
            Fault::TransferCoding => "The request body has a transfer coding other than chunked.",
            Fault::LastHop => "The request is to go no further than this cache, which answers no such method itself.",
            Fault::MethodNotAllowed => "This bucket does not let that method through.",
            Fault::Forbidden => "Only objects of this bucket can be read.",
            Fault::BodyTooLarge => "The request body is larger than this cache lets through.",
            Fault::UriTooLong => "The request target is longer than this cache lets through.",
            Fault::HeaderTooLarge => "The request header is larger than this cache lets through.",
            Fault::TooManyWaiters => "Too many requests already wait for this resource; try again shortly.",
            Fault::OriginFailing => "The origin keeps failing for this resource; try again shortly.",
            Fault::OnlyIfCached => "The resource is not stored, and the request asked for a stored one only.",
            Fault::OriginUnreachable => "The origin could not be reached, and nothing is stored that could stand in.",
            Fault::OriginTimeout => "The origin did not answer in time, and nothing is stored that could stand in.",
            Fault::Credentials => "The credentials of this cache for the origin are missing or cannot be read.",
            Fault::ClientGone => "The client left.",
            Fault::Internal => "The cache made a mistake; its log has the request id.",
        }
    }
}

impl Outcome {
    /// The metric label and the log field.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Hit(_) => "hit",
            Outcome::Stale(..) => "stale",
            Outcome::Revalidated(_) => "revalidated",
            Outcome::Collapsed => "collapsed",
            Outcome::Miss(_) => "miss",
            Outcome::Bypass(_) => "bypass",
            Outcome::Error(_) => "error",
        }
    }

    /// Why, in one word.
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Outcome::Hit(_) | Outcome::Collapsed => Cow::Borrowed(""),
            Outcome::Stale(_, reason) => Cow::Borrowed(reason.as_str()),
            Outcome::Revalidated(reason) | Outcome::Miss(reason) => Cow::Borrowed(reason.as_str()),
            Outcome::Bypass(reason) => reason.as_str(),
            Outcome::Error(fault) => Cow::Borrowed(fault.as_str()),
        }
    }

    /// The tier that answered.
    pub fn tier(&self) -> Option<TierName> {
        match self {
            Outcome::Hit(tier) | Outcome::Stale(tier, _) => Some(*tier),
            _ => None,
        }
    }
}

/// What else `Cache-Status` tells (RFC 9211 section 2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Seconds of freshness left.
    pub ttl: Option<i64>,
    /// The origin's status.
    pub forward_status: Option<u16>,
    /// The response was stored, or is being stored.
    pub stored: bool,
    /// Another request's fetch answered this one, or this one's fetch answers others.
    pub collapsed: bool,
    /// Why this request would have gone forward, had not another one gone already; `None` if nothing was stored.
    pub collapsed_from: Option<ForwardReason>,
    /// One word more, unless the outcome has one of its own.
    pub detail: Option<Cow<'static, str>>,
    /// A tier that could not be asked, so that nobody knows what it had. Told where there is no other word: an answer from
    /// a tier below it names that tier.
    pub unavailable: Option<TierName>,
}

/// The name of this cache in `Cache-Status` and `Via`.
pub const CACHE_NAME: &str = "tidegate";

/// The value of the `Cache-Status` field.
pub fn cache_status(outcome: &Outcome, account: &Account) -> String {
    let mut out = String::with_capacity(64);
    out.push_str(CACHE_NAME);
    let mut detail = account.detail.clone();
    match outcome {
        Outcome::Hit(tier) => {
            out.push_str("; hit");
            detail = detail.or(Some(Cow::Borrowed(tier.as_str())));
        }
        Outcome::Stale(_, reason) => {
            match reason {
                StaleReason::WhileRevalidate | StaleReason::MaxStale => out.push_str("; hit"),
                // The request did go forward, and came back without an answer that could be used.
                StaleReason::IfError(status) => {
                    let _ = write!(out, "; fwd=stale; fwd-status={status}");
                }
                StaleReason::Disconnected => out.push_str("; fwd=stale"),
            }
            detail = detail.or(Some(Cow::Borrowed(reason.as_str())));
        }
        Outcome::Revalidated(reason) | Outcome::Miss(reason) => {
            let _ = write!(out, "; fwd={}", reason.as_str());
        }
        Outcome::Collapsed => {
            let reason = account.collapsed_from.unwrap_or(ForwardReason::UriMiss);
            let _ = write!(out, "; fwd={}", reason.as_str());
        }
        Outcome::Bypass(reason) => {
            out.push_str(if *reason == BypassReason::Method { "; fwd=method" } else { "; fwd=bypass" });
            if *reason != BypassReason::Method {
                detail = Some(Cow::Owned(reason.as_str().into_owned()));
            }
        }
        Outcome::Error(fault) => detail = Some(Cow::Borrowed(fault.as_str())),
    }
    // Only where it went forward for this answer (RFC 9211 section 2.3).
    let forwarded = matches!(outcome, Outcome::Revalidated(_) | Outcome::Miss(_) | Outcome::Bypass(_));
    if let Some(status) = account.forward_status.filter(|_| forwarded) {
        let _ = write!(out, "; fwd-status={status}");
    }
    if let Some(ttl) = account.ttl {
        let _ = write!(out, "; ttl={ttl}");
    }
    if account.stored {
        out.push_str("; stored");
    }
    if account.collapsed || *outcome == Outcome::Collapsed {
        out.push_str("; collapsed");
    }
    let detail = detail.or_else(|| Some(Cow::Owned(format!("{}-unavailable", account.unavailable?.as_str()))));
    if let Some(detail) = detail {
        out.push_str("; detail=\"");
        // An sf-string holds printable ASCII, with `"` and `\` escaped (RFC 8941 section 3.3.3).
        for c in detail.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                ' '..='~' => out.push(c),
                _ => out.push('?'),
            }
        }
        out.push('"');
    }
    out
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
