//! When the origin answered.

use super::placement::{Tiers, Wish, placement};
use super::{Facts, Request, RequestAction, RequestVerdict};
use crate::config::{Bucket, OnError};
use crate::outcome::BypassReason;
use crate::policy::decision::{ResponseDecision, TierName, TierSet};
use crate::policy::view::ResponseView;
use crate::policy::{Policy, PolicyError};
use crate::purge::{Position, Shared};
use crate::semantics::cache_control::ResponseControl;
use crate::semantics::combine::{KnownPart, asks_for_part, known_part};
use crate::semantics::fields::content_length;
use crate::semantics::freshness::{Freshness, FreshnessInput};
use crate::semantics::reuse::StaleLimits;
use crate::semantics::storable::{NotStorable, StoreInput, storable};
use crate::semantics::surrogate::add_tags;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::time::SystemTime;

/// The origin's answer, as far as decisions about it go.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// Its status.
    pub status: u16,
    /// Its fields, without those that concern only the connection.
    pub headers: &'a HeaderMap,
    /// When it was asked for.
    pub request_time: SystemTime,
    /// When its header had come.
    pub response_time: SystemTime,
    /// Where it could be kept.
    pub tiers: &'a Tiers,
    /// The latest purge when it was asked for.
    pub seen: Position,
    /// The same in the log of all nodes.
    pub shared: Shared,
    /// When Redis was asked last before it was asked for, as in [`Facts::asked`].
    pub asked: u64,
}

/// What was decided about a response.
#[derive(Debug)]
pub struct ResponseVerdict {
    /// Store it, or not.
    pub action: ResponseAction,
    /// The policy failed.
    pub error: Option<PolicyError>,
}

/// Store a response, or not.
#[derive(Debug)]
pub enum ResponseAction {
    /// Store it so.
    Store(Box<Storing>),
    /// Pass it on.
    Pass(NotStored),
}

/// How a response is stored.
#[derive(Debug, Clone)]
pub struct Storing {
    /// Kept beside the entry.
    pub facts: Facts,
    /// Request fields that the policy varies on besides those in `Vary`.
    pub vary: Vec<String>,
    /// Where it is written, as far as its length is known: some of `facts.tiers`.
    pub write_to: TierSet,
    /// Fields that are not stored with it.
    pub strip: Vec<HeaderName>,
    /// The part that it is; `None` is the whole.
    pub part: Option<KnownPart>,
}

/// Why a response is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotStored {
    /// RFC 9111.
    Rule(NotStorable),
    /// The cache was kept out of the request.
    Bypassed(BypassReason),
    /// The policy said so, with its own word.
    Policy(String),
    /// The policy failed; the kind.
    PolicyError(&'static str),
    /// It is longer than any tier keeps that the policy names.
    TooLarge,
    /// No tier that the policy names is on.
    NoTier,
    /// A server error without stated freshness.
    ServerError,
    /// The origin's 304 was about something else than what is stored.
    Unconfirmed,
    /// Its body has a transfer coding other than `chunked`.
    TransferCoding,
}

impl std::fmt::Display for NotStored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotStored::Bypassed(reason) => f.write_str(&reason.as_str()),
            NotStored::Policy(reason) => f.write_str(reason),
            NotStored::PolicyError(kind) => write!(f, "policy-error:{kind}"),
            other => f.write_str(other.name()),
        }
    }
}

impl NotStored {
    /// The reason without its words, of which there are few.
    pub fn name(&self) -> &'static str {
        match self {
            NotStored::Rule(rule) => rule.as_str(),
            NotStored::Bypassed(_) => "bypassed",
            NotStored::Policy(_) => "policy",
            NotStored::PolicyError(_) => "policy-error",
            NotStored::TooLarge => "too-large",
            NotStored::NoTier => "no-tier",
            NotStored::ServerError => "server-error",
            NotStored::Unconfirmed => "unconfirmed",
            NotStored::TransferCoding => "transfer-coding",
        }
    }

    /// Whether a reason of that name may not hold for the next request for the same key, so that it is not remembered.
    pub fn is_passing(name: &'static str) -> bool {
        let of_request = [
            NotStorable::RequestNoStore,
            NotStorable::Method,
            NotStorable::Interim,
            NotStorable::NotModified,
            NotStorable::Partial,
        ];
        of_request.iter().any(|rule| rule.as_str() == name)
            || matches!(name, "policy-error" | "server-error" | "unconfirmed")
    }
}

/// Decides whether the origin's response is stored, and how.
pub fn response(
    bucket: &Bucket,
    policy: Option<&Policy>,
    verdict: &RequestVerdict,
    request: &Request<'_>,
    response: &Response<'_>,
) -> ResponseVerdict {
    if let RequestAction::Bypass(reason) = &verdict.action {
        return ResponseVerdict { action: ResponseAction::Pass(NotStored::Bypassed(reason.clone())), error: None };
    }
    let mut wanted = ResponseDecision::default();
    let mut failed = None;
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let part = known_part(request.method, request.headers, status, response.headers);
    if let Some(policy) = policy {
        // A part is kept as its whole would be, so a policy that says how to keep a 200 has said it of its parts as well:
        // what they vary on, above all. `Content-Range` tells those that want to know.
        let whole = part.map(|part| with_length(response.headers, part.complete));
        let view = match &whole {
            Some(headers) => ResponseView { status: StatusCode::OK.as_u16(), headers },
            None => ResponseView { status: response.status, headers: response.headers },
        };
        match crate::policy::call_response(policy, &request.view(bucket, &verdict.normalized), &view) {
            Ok(decision) => wanted = decision,
            Err(error) => {
                let kind = error.kind.as_str();
                failed = Some(error);
                if bucket.on_error == OnError::Bypass {
                    return ResponseVerdict {
                        action: ResponseAction::Pass(NotStored::PolicyError(kind)),
                        error: failed,
                    };
                }
            }
        }
    }
    let action = match admit(bucket, wanted, request, response, status, part) {
        Ok(storing) => ResponseAction::Store(Box::new(storing)),
        Err(reason) => ResponseAction::Pass(reason),
    };
    ResponseVerdict { action, error: failed }
}

fn with_length(headers: &HeaderMap, length: u64) -> HeaderMap {
    let mut headers = headers.clone();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers
}

fn admit(
    bucket: &Bucket,
    wanted: ResponseDecision,
    request: &Request<'_>,
    response: &Response<'_>,
    status: StatusCode,
    part: Option<KnownPart>,
) -> Result<Storing, NotStored> {
    if let Some(reason) = wanted.decline {
        return Err(NotStored::Policy(reason));
    }
    let allowed = wanted.tiers.as_ref().map_or(TierSet::ALL, |tiers| tiers.iter().copied().collect());
    if response.tiers.on(allowed).is_empty() {
        return Err(NotStored::NoTier);
    }
    if status == StatusCode::RANGE_NOT_SATISFIABLE && asks_for_part(request.method, request.headers) {
        // No answer to who asks for the whole, or for another part.
        return Err(NotStored::Rule(NotStorable::Partial));
    }
    // A part is stored if its 200 would be (RFC 9111 section 3.3).
    let status = if part.is_some() { StatusCode::OK } else { status };
    let control = ResponseControl::of(response.headers, wanted.overrides);
    let mut freshness = Freshness::of(&FreshnessInput {
        status,
        headers: response.headers,
        control: &control,
        request_time: response.request_time,
        response_time: response.response_time,
        heuristic: bucket.heuristic,
    });
    if let Some(ttl) = wanted.ttl {
        freshness = freshness.with_policy_ttl(ttl);
    }
    // A policy speaks for the operator, an origin for itself.
    freshness.stale_while_revalidate = wanted.stale_while_revalidate.or(freshness.stale_while_revalidate);
    freshness.stale_if_error = wanted.stale_if_error.or(freshness.stale_if_error);
    storable(&StoreInput {
        // The cache fetches with GET whatever a HEAD asked for.
        method: &Method::GET,
        target: request.semantic_target(),
        request: request.headers,
        status,
        response: response.headers,
        control: &control,
        freshness: &freshness,
    })
    .map_err(|rule| match rule {
        NotStorable::NoFreshness if status.is_server_error() => NotStored::ServerError,
        rule => NotStored::Rule(rule),
    })?;
    // A part of what is never kept whole is not worth its place.
    let length = part.map(|part| part.complete).or_else(|| content_length(response.headers));
    let mut write_to = places(response.tiers, allowed, length)?;
    if let Some(part) = part {
        if freshness.ttl(response.response_time).is_zero() {
            // There is no asking whether a part is still good, as there is for the whole.
            return Err(NotStored::Rule(NotStorable::Partial));
        }
        // Redis keeps no parts. If the whole goes there alone, it is the whole that is asked for next time.
        let shared = response.tiers.on(allowed).contains(TierName::Redis);
        let here = places(response.tiers, allowed.without(TierName::Redis), Some(part.range.len()));
        write_to = here.map_err(|reason| if shared { NotStored::Rule(NotStorable::Partial) } else { reason })?;
    }
    Ok(Storing {
        facts: Facts {
            freshness,
            limits: StaleLimits { on_disconnect: bucket.stale_on_disconnect },
            tags: tags(wanted.tags, response.headers),
            tiers: allowed,
            resource: request.resource(bucket),
            seen: response.seen,
            shared: response.shared,
            asked: response.asked,
        },
        vary: wanted.vary,
        write_to,
        strip: control.fields_to_strip().cloned().collect(),
        part,
    })
}

/// The policy's tags, and then those that the origin sent.
fn tags(mut tags: Vec<String>, headers: &HeaderMap) -> Box<[String]> {
    add_tags(&mut tags, headers);
    tags.into_boxed_slice()
}

/// Where a body of that length is written.
fn places(tiers: &Tiers, allowed: TierSet, size: Option<u64>) -> Result<TierSet, NotStored> {
    if tiers.on(allowed).is_empty() {
        return Err(NotStored::NoTier);
    }
    let write_to = placement(tiers, &Wish { tiers: allowed, size, found: None }).write_to;
    if write_to.is_empty() { Err(NotStored::TooLarge) } else { Ok(write_to) }
}

impl Storing {
    /// The `Vary` of a head that is stored so, if it differs from the one that the head has: what the policy varies on is in
    /// it, so that lookups and the caches of clients tell the variants apart as well.
    pub fn vary_for(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let names = headers.get_all(header::VARY).into_iter().filter_map(|value| value.to_str().ok());
        let mut names: Vec<&str> = names.flat_map(|list| list.split(',')).map(str::trim).collect();
        let before = names.len();
        for extra in &self.vary {
            if !names.iter().any(|name| name.eq_ignore_ascii_case(extra)) {
                names.push(extra);
            }
        }
        // Names of fields are always a valid value.
        if names.len() > before { HeaderValue::from_str(&names.join(", ")).ok() } else { None }
    }
}
