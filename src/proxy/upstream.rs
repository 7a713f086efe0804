//! Which server is asked, and with what.

use super::Gate;
use super::context::Context;
use super::request::forwards_left;
use crate::config::{Origin, OriginKind};
use crate::decide::{self, RequestAction};
use crate::origin::pool::HealthChecks;
use crate::origin::{Pool, Prepared, S3Signer};
use crate::outcome::{CACHE_NAME, Fault, ForwardReason};
use crate::proxy::trust::Trust;
use crate::semantics::fields::{append_to_list, single_length, via};
use crate::semantics::surrogate::{self, SURROGATE_CAPABILITY};
use crate::store::lookup::Selects;
use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorSource, ErrorType, HttpPeer, Result};
use pingora::proxy::Session;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long an idle connection to an origin is kept for the next request: shorter than the 75 s and 60 s after which
/// nginx and most load balancers close theirs.
const IDLE: Duration = Duration::from_secs(50);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Fields that say in other words what the ones that we write say.
const FORWARDED: [&str; 5] = ["forwarded", "x-forwarded-port", "x-forwarded-prefix", "x-original-url", "x-rewrite-url"];

/// Fields that are written for the origin, whatever the client sent. HTTP/2 has another place for the host.
const WRITTEN: [&str; 4] = ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// An origin at run time.
#[derive(Debug)]
pub struct Upstream {
    /// What the configuration says.
    pub origin: Arc<Origin>,
    pool: Pool,
    signer: Option<S3Signer>,
    trust: Trust,
    /// Active health checks, once started; they end with the origin.
    checks: OnceLock<Option<HealthChecks>>,
}

impl Upstream {
    /// Nothing is connected yet.
    pub fn new(origin: Arc<Origin>) -> Result<Self, String> {
        let signer = match &origin.kind {
            OriginKind::S3(bucket) => {
                Some(S3Signer::new(bucket).map_err(|e| format!("origins.{}.s3: {e}", origin.name))?)
            }
            OriginKind::Http(_) => None,
        };
        let (ca, verify) = match &origin.kind {
            OriginKind::Http(http) => (http.ca.as_deref(), http.verify),
            OriginKind::S3(bucket) => (bucket.ca.as_deref(), bucket.verify),
        };
        let trust = Trust::new(ca, verify).map_err(|e| format!("origins.{}: {e}", origin.name))?;
        Ok(Upstream { pool: Pool::new(&origin), signer, trust, checks: OnceLock::new(), origin })
    }

    /// Starts active health checks, if the configuration has any. Called inside a runtime.
    pub fn start(&self) {
        self.checks.get_or_init(|| self.pool.start_health_checks());
    }

    /// Whether requests to a bucket could be signed now.
    pub fn check_credentials(&self) -> Result<(), String> {
        match &self.signer {
            Some(signer) => match signer.credentials().current() {
                Ok(_) => Ok(()),
                Err(e) => Err(format!("origins.{}.s3: {e}", self.origin.name)),
            },
            None => Ok(()),
        }
    }

    /// Remembers whether a server could be reached.
    pub fn report(&self, server: SocketAddr, reached: bool) {
        self.pool.report(server, reached);
    }
}

impl Gate {
    /// The server to ask.
    pub(super) async fn choose_server(&self, session: &Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        // Until there is a server to be asked.
        ctx.attempt_failed = true;
        let Some(site) = ctx.site.clone() else {
            return Error::e_explain(ErrorType::InternalError, "no bucket was found for a request to be fetched");
        };
        let upstream = &site.upstream;
        let key_hash = match ctx.verdict.as_ref().map(|verdict| &verdict.action) {
            Some(RequestAction::Lookup(key)) => key.hash() as u64,
            _ => xxhash_rust::xxh3::xxh3_64(session.req_header().raw_path()),
        };
        let picked = upstream.pool.pick(key_hash, &ctx.tried).await.map_err(|e| {
            tracing::warn!(id = %ctx.id, origin = upstream.origin.name, error = %e, "no server of the origin can be asked");
            metrics_error(upstream);
            let mut error = Error::because(ErrorType::ConnectError, "choosing a server of the origin", e);
            error.as_up();
            error
        })?;
        ctx.attempt_failed = false;
        ctx.server = Some(picked.addr);
        ctx.asked = Some((Instant::now(), crate::clock::now()));
        // What the origin confirms, or completes, was found when the request came; what was purged meanwhile is not to come back.
        let purges = self.store.purges();
        (ctx.seen, ctx.shared) = match ctx.found {
            Some(_) => (ctx.came, ctx.came_shared),
            None => (purges.latest(), purges.shared().latest()),
        };
        // After the lookup: what Redis has stored or forgotten since is newer than what the origin answers.
        let primary = match ctx.verdict.as_ref().map(|verdict| &verdict.action) {
            Some(RequestAction::Lookup(key)) => key.hash(),
            _ => 0,
        };
        ctx.asked_redis = self.store.redis().map_or(0, |redis| redis.asked_at(primary));
        let mut peer = HttpPeer::new(picked.addr, picked.tls, picked.sni.to_string());
        let options = &mut peer.options;
        options.connection_timeout = Some(upstream.origin.connect_timeout);
        // The TLS handshake gets as long again as the connection.
        options.total_connection_timeout = Some(upstream.origin.connect_timeout * 2);
        options.read_timeout = Some(upstream.origin.read_timeout);
        options.write_timeout = Some(upstream.origin.read_timeout);
        options.idle_timeout = Some(IDLE);
        upstream.trust.apply(options);
        Ok(Box::new(peer))
    }

    /// A server could not be reached: remembers it, and tries another one while tries are left.
    pub(super) fn connect_failed(&self, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        ctx.attempt_failed = true;
        if let (Some(site), Some(server)) = (&ctx.site, ctx.server) {
            site.upstream.report(server, false);
            metrics_error(&site.upstream);
            ctx.tried.push(server);
            error.set_retry(ctx.tried.len() <= site.upstream.origin.retries);
        }
        error
    }

    /// A server was reached and failed. The request goes to another one if no byte of an answer came, the method allows
    /// it to be repeated, and tries are left. An origin that is silent had its time already.
    pub(super) fn origin_failed(
        &self,
        session: &Session,
        ctx: &mut Context,
        mut error: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        ctx.attempt_failed = true;
        let repeatable = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
        // An idle connection that the server closed meanwhile is no failure of the server.
        error.retry.decide_reuse(reused);
        if !repeatable {
            error.set_retry(false);
        } else if !error.retry()
            && is_hang_up(&error)
            && let (Some(site), Some(server), None) = (&ctx.site, ctx.server, ctx.origin_status)
        {
            metrics_error(&site.upstream);
            ctx.tried.push(server);
            error.set_retry(ctx.tried.len() <= site.upstream.origin.retries);
        }
        error
    }

    /// Makes the client's request one for the origin.
    pub(super) async fn prepare_for_origin(
        &self,
        session: &Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        join_cookies(request)?;
        let Some(site) = ctx.site.clone() else { return Ok(()) };
        let upstream = &site.upstream;
        if ctx.background && ctx.forward == Some(ForwardReason::Miss) {
            // What is stored was called a miss; the framework asks whether it still holds.
            request.remove_header(&header::IF_NONE_MATCH);
            request.remove_header(&header::IF_MODIFIED_SINCE);
        }
        if let Some(verdict) = &ctx.verdict {
            for (name, value) in &verdict.normalized {
                match value {
                    Some(value) => request.insert_header(name.clone(), value.clone())?,
                    None => drop(request.remove_header(name)),
                }
            }
        }
        if let Some(left) = forwards_left(request) {
            request.insert_header(header::MAX_FORWARDS, left.saturating_sub(1))?;
        }
        // A client's own would have the origin write for what it can do, and that would be stored for everybody.
        request.remove_header(&SURROGATE_CAPABILITY);
        if let Some(length) = single_length(&request.headers) {
            request.insert_header(header::CONTENT_LENGTH, length)?;
        }
        self.ask_for_part(session, request, ctx)?;
        if let Some(signer) = &upstream.signer {
            return sign(signer, request, ctx);
        }
        request.insert_header(SURROGATE_CAPABILITY, surrogate::CAPABILITY)?;
        if !matches!(request.raw_path(), [b'/', ..] | b"*") {
            // A whole URI is for proxies; servers are asked for the path (RFC 9112 section 3.2.1).
            let path = request.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
            request.set_raw_path(path.as_bytes())?;
        }
        if let OriginKind::Http(http) = &upstream.origin.kind
            && let Some(host) = &http.host
        {
            request.insert_header(header::HOST, host.as_str())?;
        }
        if let Some(via) = via(&request.headers, session.req_header().version, CACHE_NAME) {
            request.insert_header(header::VIA, via)?;
        }
        tell_the_way(request, ctx)?;
        request.insert_header("x-request-id", ctx.id.digits().as_slice())?;
        Ok(())
    }
}

/// Writes where the request came from. What a client says of its way here, an origin may put into links, and they would be
/// stored for everybody.
fn tell_the_way(request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    request.insert_header("x-forwarded-host", ctx.target.authority.as_str())?;
    if !ctx.trusted {
        for name in FORWARDED {
            request.remove_header(name);
        }
    }
    let peer = ctx.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
    match append_to_list(&request.headers, &FORWARDED_FOR, peer.as_bytes()) {
        Some(hops) => request.insert_header(FORWARDED_FOR, hops)?,
        None => request.insert_header(FORWARDED_FOR, peer)?,
    }
    request.insert_header("x-forwarded-proto", ctx.target.scheme)
}

/// The way back to the origin after an answer of it that does not fit: the framework asks again after such an error.
pub(super) fn ask_again(what: &'static str) -> Box<Error> {
    let mut again = Error::create(ErrorType::InvalidHTTPHeader, ErrorSource::Upstream, Some(what.into()), None);
    again.set_retry(true);
    again
}

/// Makes one line of those into which HTTP/2 splits a cookie (RFC 9113 section 8.2.3): many servers read the first one only.
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let lines: Vec<&[u8]> = request.headers.get_all(header::COOKIE).iter().map(|line| line.as_bytes()).collect();
    if lines.len() > 1
        && let Ok(joined) = http::HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        request.insert_header(header::COOKIE, joined)?;
    }
    Ok(())
}

/// Tells the lookup which variant this request wants. Of what varies on fields that are written for the origin it does not.
pub(super) fn selects(request: &RequestHeader, ctx: &Context) -> Selects {
    let headers = request.headers.clone();
    let normalized = ctx.verdict.as_ref().map(|verdict| verdict.normalized.clone()).unwrap_or_default();
    Selects::new(
        move |stored| {
            if varies_on_what_is_written(stored) { None } else { decide::variance(stored, &headers, &normalized) }
        },
    )
}

fn varies_on_what_is_written(response: &http::HeaderMap) -> bool {
    let lines = response.get_all(header::VARY).into_iter();
    let mut names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let is_written =
        |name: &[u8]| WRITTEN.iter().chain(&FORWARDED).any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
    names.any(is_written)
}

/// The request with the fields that are written for the origin, where a response says that it varies on one of them: what the
/// origin told apart is what it saw, not what the client sent.
pub(super) fn as_the_origin_sees_it<'a>(
    request: &'a RequestHeader,
    response: &http::HeaderMap,
    ctx: &Context,
) -> Cow<'a, RequestHeader> {
    if !varies_on_what_is_written(response) {
        return Cow::Borrowed(request);
    }
    let mut seen = request.clone();
    // Neither an authority nor an address holds what a field may not; an error could only leave the client's own.
    if !seen.headers.contains_key(header::HOST) {
        let _ = seen.insert_header(header::HOST, ctx.target.authority.as_str());
    }
    let _ = tell_the_way(&mut seen, ctx);
    Cow::Owned(seen)
}

/// Whether the server closed its connection instead of answering.
fn is_hang_up(error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream
        && matches!(
            error.etype(),
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::SocketError
        )
}

fn metrics_error(upstream: &Upstream) {
    let name = upstream.origin.name.as_str();
    crate::telemetry::metrics().origin_requests.with_label_values(&[name, "error"]).inc();
}

/// Turns the request into a signed one for the bucket.
fn sign(signer: &S3Signer, request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
    let path = request.uri.path().to_owned();
    let query = request.uri.query().unwrap_or_default().to_owned();
    let prepared = signer.prepare(&request.method, &path, &query, crate::clock::now());
    let prepared = prepared.map_err(|e| {
        let fault = match e.status().as_u16() {
            403 => Fault::Forbidden,
            414 => Fault::UriTooLong,
            502 => Fault::Credentials,
            _ => Fault::BadTarget,
        };
        if fault == Fault::Credentials {
            tracing::error!(id = %ctx.id, error = %e, "a request to the bucket could not be signed");
        }
        ctx.fault = Some(fault);
        Error::create(ErrorType::HTTPStatus(fault.status()), ErrorSource::Internal, None, None)
    })?;
    let foreign: Vec<HeaderName> = request.headers.keys().filter(|name| Prepared::removes(name)).cloned().collect();
    for name in &foreign {
        request.remove_header(name);
    }
    for (name, value) in prepared.headers {
        request.insert_header(name, value)?;
    }
    request.insert_header(header::HOST, prepared.host)?;
    request.set_raw_path(prepared.path_and_query.as_bytes())?;
    Ok(())
}
