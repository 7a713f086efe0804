//! From a request's header to the decision what to do with it.

use super::Gate;
use super::context::Context;
use super::failures;
use super::purging::PURGE;
use super::upstream;
use crate::decide::{self, RequestAction, Target};
use crate::lock::{AUTHORIZED, FillLock, Ticket};
use crate::outcome::{BypassReason, Fault, ForwardReason};
use crate::policy::Hook;
use crate::semantics::fields::{content_length, nominated_in_request};
use crate::semantics::range::forwarded;
use crate::store::lookup::Asked;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use ipnet::IpNet;
use pingora::cache::{CacheKey, CacheOptionOverrides};
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorSource, ErrorType, Result};
use pingora::proxy::Session;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

impl Gate {
    /// Checks limits, finds the bucket, and asks its policy.
    pub(super) fn admit(&self, session: &mut Session, ctx: &mut Context) -> Result<(), Fault> {
        // In this order: a purge from elsewhere changes what is shared first, and what came before it must not seem to know it.
        if self.redis.is_some() {
            ctx.came_shared = self.store.purges().shared().latest();
        }
        ctx.came = self.store.purges().latest();
        let live = self.live.load();
        let server = &live.config.server;
        let limits = &server.limits;
        let request = session.req_header();
        if request.raw_path().len() as u64 > limits.uri_bytes {
            return Err(Fault::UriTooLong);
        }
        if header_bytes(request) > limits.header_bytes {
            return Err(Fault::HeaderTooLarge);
        }
        if content_length(&request.headers).is_some_and(|length| length > limits.body_bytes) {
            return Err(Fault::BodyTooLarge);
        }
        if is_coded(&request.headers) {
            return Err(Fault::TransferCoding);
        }

        let peer = session.client_addr().and_then(|addr| addr.as_inet()).map(|addr| addr.ip());
        ctx.peer = peer;
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let trusted = !server.trusted_proxies.is_empty() && is_trusted(&server.trusted_proxies, peer);
        let tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let request = session.req_header();
        ctx.client_ip = if trusted { forwarded_for(&request.headers, &server.trusted_proxies, peer) } else { peer };
        ctx.trusted = trusted;
        ctx.target = target_of(request, tls, trusted)?;

        let site = live.site_for(&ctx.target.host, request.uri.path()).ok_or(Fault::NoBucket)?.clone();
        let method = &request.method;
        let is_purge = method.as_str() == PURGE;
        // Where it purges, it is not also a method of the origin's, unless the bucket says so.
        let is_ours = is_purge && !server.purge_from.is_empty() && site.bucket.methods.is_none();
        let allowed = !is_ours && decide::lets_through(&site.bucket, method);
        ctx.policy = site.bucket.policy.as_deref().and_then(|name| self.policies.get(name));
        ctx.site = Some(site.clone());
        if is_purge && is_trusted(&server.purge_from, ctx.client_ip) {
            ctx.purges = true;
            return Ok(());
        }
        if !allowed {
            return Err(Fault::MethodNotAllowed);
        }
        if is_last_hop(request) {
            return Err(Fault::LastHop);
        }
        ctx.debug = self.may_debug(request, &live);
        // The token in it is nothing for a policy, a log or the origin to see.
        session.req_header_mut().remove_header(DEBUG);
        take_nominated(session.req_header_mut());
        let upgrade = session.is_upgrade_req() && asks_for_websocket(&session.req_header().headers);
        let has_body = !session.is_body_empty();
        let request = session.req_header();
        let view = decide::Request {
            method: &request.method,
            uri: &request.uri,
            headers: &request.headers,
            target: &ctx.target,
            client_ip: ctx.client_ip,
            now: ctx.now,
            upgrade,
            has_body,
        };
        let began = ctx.debug.then(Instant::now);
        let timed = failures::time(ctx.policy.as_deref(), Hook::Request);
        let mut verdict = decide::request(&site.bucket, ctx.policy.as_deref(), &view);
        drop(timed);
        if site.bucket.policy.is_some() && ctx.policy.is_none() {
            // A reload took it away while this request began under the configuration before; what it would have said is
            // unknown, and going on without it might store what it keeps out.
            verdict = verdict.bypassed(BypassReason::PolicyError("gone"));
        }
        if let Some(error) = &verdict.error {
            ctx.policy_failed(&site, error);
        }
        ctx.decided_in = began.map(|began| began.elapsed()).unwrap_or_default();
        self.note_inputs(ctx);
        ctx.verdict = Some(verdict);
        Ok(())
    }

    /// Keeps what the policy's last call read, if the access log or the client wants to know. Only after a call of this
    /// request: what the thread's last one read may be another's.
    pub(super) fn note_inputs(&self, ctx: &mut Context) {
        if ctx.policy.is_some() && (ctx.debug || self.access_log.load().is_some()) {
            for input in crate::policy::take_inputs() {
                if !ctx.inputs.contains(&input) {
                    ctx.inputs.push(input);
                }
            }
        }
    }

    fn may_debug(&self, request: &RequestHeader, live: &super::site::Live) -> bool {
        let Some(offered) = request.headers.get(DEBUG) else { return false };
        let token = live.config.admin.as_ref().and_then(|admin| admin.token.as_deref());
        token.is_some_and(|token| crate::admin::same_secret(token.as_bytes(), offered.as_bytes()))
    }

    /// Counts the body and stops one that is too large.
    pub(super) fn check_body(&self, piece: Option<&Bytes>, ctx: &mut Context) -> Result<()> {
        let Some(piece) = piece else { return Ok(()) };
        ctx.body_received += piece.len() as u64;
        if ctx.body_received > self.live.load().config.server.limits.body_bytes {
            ctx.fault = Some(Fault::BodyTooLarge);
            return Err(Error::create(ErrorType::HTTPStatus(413), ErrorSource::Downstream, None, None));
        }
        Ok(())
    }

    /// Turns the cache on for a request that is to be looked up.
    pub(super) fn enable_cache(&self, session: &mut Session, ctx: &mut Context) {
        let Some(verdict) = &ctx.verdict else { return };
        let RequestAction::Lookup(_) = verdict.action else { return };
        if !self.store.is_on() {
            ctx.verdict = ctx.verdict.take().map(|verdict| verdict.bypassed(BypassReason::NoTier));
            return;
        }
        let mut overrides = CacheOptionOverrides::default();
        // A client that wants nothing from further away does not wait for what comes from there.
        let stored_only = decide::wants_stored_only(&session.req_header().headers);
        let wait = if stored_only { Duration::ZERO } else { self.live.load().config.cache.lock.wait };
        overrides.wait_timeout = Some(wait);
        session.cache.enable(self.store, None, Some(self.prediction), Some(self.lock), Some(overrides));
    }

    /// The key that was decided.
    pub(super) fn cache_key(&self, session: &Session, ctx: &mut Context) -> Result<CacheKey> {
        let key = match ctx.verdict.as_ref().map(|verdict| &verdict.action) {
            Some(RequestAction::Lookup(key)) => key,
            _ => return Error::e_explain(ErrorType::InternalError, "no key was decided for a request to be looked up"),
        };
        let authorized = session.req_header().headers.contains_key(header::AUTHORIZATION);
        let mut cache_key = CacheKey::new(key.as_bytes(), if authorized { AUTHORIZED } else { "" });
        cache_key.set_primary_bin_override(key.hash().to_be_bytes());
        let request = session.req_header();
        let part = forwarded(&request.method, &request.headers);
        if let Some(part) = part.filter(|_| self.fetched_whole.allows_parts(&cache_key)) {
            // Lock, lookup and the request to the origin find it there.
            cache_key.extensions.insert(part);
        }
        if self.store.is_filling() || self.lock.is_held() {
            // It may wait for another one, and then follow what was purged meanwhile.
            cache_key.extensions.insert(ctx.came);
        }
        if self.store.cluster().is_some() && !decide::wants_stored_only(&request.headers) {
            // What it fetches, it fetches for all nodes.
            cache_key.extensions.insert(Ticket::new(ctx.background));
        }
        if self.store.cluster().is_some() {
            cache_key.extensions.insert(upstream::selects(request, ctx));
        }
        if self.store.disk().is_some() || self.store.redis().is_some() {
            // The lookup leaves there what it could not find out.
            cache_key.extensions.insert(Asked::default());
        }
        Ok(cache_key)
    }

    /// Whether a request that found nothing may go to the origin.
    pub(super) fn may_ask_origin(&self, session: &Session, ctx: &mut Context) -> Result<(), Fault> {
        if let Some(key) = session.cache.maybe_cache_key().filter(|_| session.cache.enabled())
            && FillLock::was_turned_away(key)
        {
            return Err(Fault::TooManyWaiters);
        }
        if self.is_given_up(session, ctx) {
            return Err(Fault::OriginFailing);
        }
        let looked_up = matches!(ctx.verdict.as_ref().map(|verdict| &verdict.action), Some(RequestAction::Lookup(_)));
        // What is fetched behind a client's back is not what that client asked for.
        if looked_up && !ctx.background && decide::wants_stored_only(&session.req_header().headers) {
            return Err(Fault::OnlyIfCached);
        }
        if looked_up && ctx.forward.is_none() {
            let variant_missing = session.cache.maybe_cache_key().is_some_and(|key| key.get_variance_key().is_some());
            ctx.forward = Some(match ctx.found {
                Some(_) if variant_missing => ForwardReason::VaryMiss,
                Some(_) => ForwardReason::Stale,
                None if variant_missing => ForwardReason::VaryMiss,
                None => ForwardReason::UriMiss,
            });
        }
        Ok(())
    }
}

/// Asks for the explanation of a decision, with the admin token as its value.
pub(super) const DEBUG: &str = "tidegate-debug";

/// Bytes of the request's header as a client would count them.
fn header_bytes(request: &RequestHeader) -> u64 {
    let fields: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    (request.raw_path().len() + fields) as u64
}

/// Takes off what the request's `Connection` names, and what it names that cannot be taken off out of it.
fn take_nominated(request: &mut RequestHeader) {
    let Some(names) = nominated_in_request(&request.headers) else { return };
    for name in &names {
        request.remove_header(name);
    }
    // The framework has read already whether the connection is to be kept.
    request.remove_header(&header::CONNECTION);
    if request.headers.contains_key(header::UPGRADE) {
        let _ = request.insert_header(header::CONNECTION, "upgrade");
    }
}

/// Whether the request is to go no further than here (RFC 9110 section 7.6.2).
fn is_last_hop(request: &RequestHeader) -> bool {
    forwards_left(request) == Some(0)
}

/// How often the request may be forwarded yet; other methods than these may ignore the field.
pub(super) fn forwards_left(request: &RequestHeader) -> Option<u64> {
    if !matches!(request.method, Method::OPTIONS | Method::TRACE) {
        return None;
    }
    request.headers.get(header::MAX_FORWARDS)?.to_str().ok()?.trim().parse().ok()
}

/// Whether the body comes in a transfer coding that is not understood here (RFC 9112 section 6.1). The framework would
/// take off the chunks and send the rest on as if it were the body.
fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let Some(coding) = codings.next() else { return false };
    codings.next().is_some() || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// Whether the connection is to become a WebSocket: the one upgrade that reaches an origin. Others (`h2c`, which some
/// clients offer with each request) are answered as if they were not there, which RFC 9110 section 7.8 allows.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::UPGRADE).into_iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|list| list.split(',')).any(|offer| offer.trim().eq_ignore_ascii_case("websocket"))
}

fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The address that the nearest proxy which is not ours saw: the last one in `X-Forwarded-For` that is not trusted.
fn forwarded_for(headers: &HeaderMap, trusted: &[IpNet], peer: IpAddr) -> IpAddr {
    let mut client = peer;
    let lists = headers.get_all("x-forwarded-for").into_iter().filter_map(|value| value.to_str().ok());
    let lists: Vec<&str> = lists.flat_map(|list| list.split(',')).collect();
    for hop in lists.iter().rev() {
        let Ok(address) = hop.trim().trim_matches(['[', ']']).parse::<IpAddr>() else { break };
        client = address;
        if !is_trusted(trusted, address) {
            break;
        }
    }
    client
}

/// Host and scheme that the request is for (RFC 9110 section 7.1).
fn target_of(request: &RequestHeader, tls: bool, trusted: bool) -> Result<Target, Fault> {
    let forwarded = |name: &str| request.headers.get(name).filter(|_| trusted).and_then(|value| value.to_str().ok());
    let scheme = match forwarded("x-forwarded-proto") {
        Some("https") => "https",
        Some("http") => "http",
        _ if tls => "https",
        _ => "http",
    };
    let authority = match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let mut hosts = request.headers.get_all(header::HOST).into_iter();
            let host = hosts.next().ok_or(Fault::BadHost)?;
            if hosts.next().is_some() {
                return Err(Fault::BadHost);
            }
            host.to_str().map_err(|_| Fault::BadHost)?
        }
    };
    if !is_path_of_a_resource(request) {
        return Err(Fault::BadTarget);
    }
    let authority = forwarded("x-forwarded-host").unwrap_or(authority);
    if !request.raw_path().is_ascii() && std::str::from_utf8(request.raw_path()).is_err() {
        // Pingora would show it with the bad bytes replaced, and two targets would share one key.
        return Err(Fault::BadTarget);
    }
    let host = decide::host_of(authority).ok_or(Fault::BadHost)?;
    Ok(Target { scheme, host, authority: authority.to_owned() })
}

/// Whether the target is a path, or a whole URI of HTTP with one (RFC 9112 sections 3.2.1 and 3.2.2), or the server as a
/// whole (section 3.2.4). The framework shows anything else as the path `/`, under whose key it must not be stored, and
/// hands it to the origin as it came.
fn is_path_of_a_resource(request: &RequestHeader) -> bool {
    let target = request.raw_path();
    let begins_with =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    match target {
        [b'/', ..] => true,
        b"*" => request.method == Method::OPTIONS,
        _ => request.method != Method::CONNECT && (begins_with(b"http://") || begins_with(b"https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_hop_that_is_not_ours() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.7".parse().unwrap());
        let client = forwarded_for(&headers, &trusted, "10.0.0.1".parse().unwrap());
        assert_eq!(client, "2.2.2.2".parse::<IpAddr>().unwrap());
    }
}
