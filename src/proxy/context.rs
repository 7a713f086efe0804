//! What is known about a request, filled in order, ending in an outcome.

use super::partial::Completion;
use super::post::Posted;
use super::site::Site;
use crate::decide::{self, Facts, RequestVerdict, Target};
use crate::outcome::{Account, Fault, ForwardReason, Outcome, StaleReason};
use crate::policy::decision::TierName;
use crate::policy::{Policy, PolicyError};
use crate::purge::{Position, Shared};
use http::Version;
use pingora::http::RequestHeader;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

/// One request on its way through.
#[derive(Debug)]
pub struct Context {
    /// Shown to the client, logged, and sent to the origin.
    pub id: RequestId,
    /// When its header had arrived.
    pub started: Instant,
    /// The wall clock then.
    pub now: SystemTime,
    /// Who is connected; `None` by a socket without an address.
    pub peer: Option<IpAddr>,
    /// Who asks, after `trusted_proxies`.
    pub client_ip: IpAddr,
    /// It came from one of `trusted_proxies`.
    pub trusted: bool,
    /// Host, scheme and path that it asks for.
    pub target: Target,
    /// The bucket that serves it.
    pub site: Option<Arc<Site>>,
    /// The policy version that decides about it from beginning to end.
    pub policy: Option<Arc<Policy>>,
    /// What was decided before lookup.
    pub verdict: Option<RequestVerdict>,
    /// A background fetch, which answers nobody.
    pub background: bool,
    /// The latest purge when it came.
    pub came: Position,
    /// The latest purge that an answer of the origin is newer than.
    pub seen: Position,
    /// The latest purge of all nodes when it came.
    pub came_shared: Shared,
    /// The latest purge of all nodes that an answer of the origin is newer than.
    pub shared: Shared,
    /// When Redis was asked last before the origin was, in microseconds of its own clock; 0 is not known.
    pub asked_redis: u64,
    /// It is to purge what it names.
    pub purges: bool,
    /// The stored entry that was found.
    pub found: Option<Found>,
    /// Why it goes to the origin.
    pub forward: Option<ForwardReason>,
    /// Why what was found would not do, if another request's answer does in the end.
    pub waited_for: Option<ForwardReason>,
    /// It may be stored, and no tier takes it now.
    pub kept_nowhere: bool,
    /// Why a stale entry is served.
    pub stale: Option<StaleReason>,
    /// The entry that was found may be served while another request fetches a new one.
    pub revalidates_behind: bool,
    /// Servers that were tried in vain.
    pub tried: Vec<std::net::SocketAddr>,
    /// The server that is asked now.
    pub server: Option<std::net::SocketAddr>,
    /// When the origin was asked.
    pub asked: Option<(Instant, SystemTime)>,
    /// How long it took to its header.
    pub origin_micros: Option<u64>,
    /// What it answered.
    pub origin_status: Option<u16>,
    /// The version of HTTP that it answered in.
    pub origin_version: Option<Version>,
    /// The latest attempt to ask it failed.
    pub attempt_failed: bool,
    /// The client got a whole answer of our own in place of the origin's.
    pub failure_answered: bool,
    /// A response to a `POST` that is kept for later `GET`s.
    pub posted: Posted,
    /// The rest of a response of which parts are stored.
    pub completion: Option<Completion>,
    /// Since when the response is stored of which it fetches a part, or the whole: its variants are not to be taken for
    /// older ones.
    pub stored_since: Option<SystemTime>,
    /// The fields of a 304 that it answered.
    pub validated: Option<http::HeaderMap>,
    /// That 304 was about another response than the one stored.
    pub unconfirmed: bool,
    /// Fields of the origin's answer that are for this client and not for those who are served from the store.
    pub own_fields: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Why the response is not stored.
    pub not_stored: Option<String>,
    /// A policy call failed; the kind.
    pub policy_error: Option<&'static str>,
    /// An answer of our own.
    pub fault: Option<Fault>,
    /// Bytes of the request's body so far.
    pub body_received: u64,
    /// Whether the client may see how it was decided.
    pub debug: bool,
    /// How long the decision before lookup took.
    pub decided_in: std::time::Duration,
    /// What was decided about the response, when the client may see it.
    pub response_told: Option<(crate::explain::ResponsePart, Option<PolicyError>)>,
    /// What the policy read, when somebody wants to know.
    pub inputs: Vec<crate::policy::Input>,
    /// How it was answered.
    pub outcome: Option<(Outcome, Account)>,
    /// Age sent to the client.
    pub age: Option<u64>,
    _active: Active,
}

/// Counts a request as long as it is under way.
#[derive(Debug)]
struct Active(Arc<AtomicUsize>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// A stored entry, or the fill of one, that a lookup found.
#[derive(Debug, Clone)]
pub struct Found {
    /// What was decided when it was stored: nothing else has the same.
    pub facts: Arc<Facts>,
    /// What decides about it now.
    pub in_force: Arc<Facts>,
    /// Where it was; `None` for a fill under way.
    pub tier: Option<TierName>,
    /// Hits before this one.
    pub hits: u64,
    /// Bytes of the body.
    pub size: u64,
    /// Seconds of freshness left when it was found.
    pub ttl: i64,
}

impl Context {
    /// An empty one, counted in `active` until it is dropped.
    pub fn new(active: &Arc<AtomicUsize>) -> Self {
        active.fetch_add(1, Ordering::Relaxed);
        Context {
            id: RequestId::next(),
            started: Instant::now(),
            now: crate::clock::now(),
            peer: None,
            client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            trusted: false,
            target: Target::default(),
            site: None,
            policy: None,
            verdict: None,
            background: false,
            came: Position::BEGINNING,
            seen: Position::BEGINNING,
            came_shared: Shared::default(),
            shared: Shared::default(),
            asked_redis: 0,
            purges: false,
            found: None,
            forward: None,
            waited_for: None,
            kept_nowhere: false,
            stale: None,
            revalidates_behind: false,
            tried: Vec::new(),
            server: None,
            asked: None,
            origin_micros: None,
            origin_status: None,
            origin_version: None,
            attempt_failed: false,
            failure_answered: false,
            posted: Posted::default(),
            completion: None,
            stored_since: None,
            validated: None,
            unconfirmed: false,
            own_fields: Vec::new(),
            not_stored: None,
            policy_error: None,
            fault: None,
            body_received: 0,
            debug: false,
            decided_in: std::time::Duration::ZERO,
            response_told: None,
            inputs: Vec::new(),
            outcome: None,
            age: None,
            _active: Active(active.clone()),
        }
    }

    /// The request as decisions see it, once it was decided that neither its body nor another protocol keeps the cache out.
    pub fn view<'a>(&'a self, request: &'a RequestHeader) -> decide::Request<'a> {
        decide::Request {
            method: &request.method,
            uri: &request.uri,
            headers: &request.headers,
            target: &self.target,
            client_ip: self.client_ip,
            now: self.now,
            upgrade: false,
            has_body: false,
        }
    }

    /// Notes that a call of the policy failed. What it meant for the request was decided already.
    pub fn policy_failed(&mut self, site: &Site, error: &PolicyError) {
        self.policy_error = Some(error.kind.as_str());
        site.failures.note(&site.bucket.name, error);
    }

    /// The policy, unless it failed in this request.
    pub fn working_policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref().filter(|_| self.policy_error.is_none())
    }
}

/// Names one request: 16 hexadecimal digits, different for each request of every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// One that was not used before.
    pub fn next() -> Self {
        // A random number for each request; with 64 bits, two of a day's billion requests rarely share one.
        RequestId(fastrand::u64(..))
    }

    /// The digits.
    pub fn digits(self) -> [u8; 16] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        std::array::from_fn(|i| {
            let nibble = (self.0 >> (60 - 4 * i)) & 15;
            DIGITS.get(nibble as usize).copied().unwrap_or(b'0')
        })
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
