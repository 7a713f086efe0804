//! Before lookup.

use super::NormalizedFields;
use crate::clock::unix_seconds;
use crate::config::{Bucket, OnError, OriginKind};
use crate::key::PrimaryKey;
use crate::outcome::BypassReason;
use crate::policy::view::RequestView;
use crate::policy::{Normalized, Policy, PolicyError};
use crate::purge::Resource;
use crate::semantics::request::RequestDirectives;
use crate::semantics::reuse::{Miss, on_miss};
use http::{HeaderMap, Method, Uri};
use std::net::IpAddr;
use std::time::SystemTime;

/// Where a request is addressed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host without port, lower case.
    pub host: String,
    /// As the client sent it, port included.
    pub authority: String,
}

/// A request, as far as decisions about it go.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// Its fields, as the client sent them.
    pub headers: &'a HeaderMap,
    /// Where it is addressed.
    pub target: &'a Target,
    /// Who asks.
    pub client_ip: IpAddr,
    /// When it came.
    pub now: SystemTime,
    /// It asks for another protocol.
    pub upgrade: bool,
    /// It carries a body.
    pub has_body: bool,
}

impl<'a> Request<'a> {
    /// What is asked for, as the rules of HTTP see it.
    pub fn semantic_target(&self) -> crate::semantics::target::Target<'a> {
        crate::semantics::target::Target {
            scheme: self.target.scheme,
            authority: &self.target.authority,
            path_and_query: path_and_query(self.uri),
        }
    }

    /// What it is about, in the spelling in which purges find it.
    pub fn resource(&self, bucket: &Bucket) -> Resource {
        let shared = (!bucket.host_in_key).then_some(&*bucket.name);
        Resource::of(self.target.scheme, &self.target.host, shared, path_and_query(self.uri))
    }

    /// What a policy may see of it.
    pub fn view(&self, bucket: &'a Bucket, normalized: &'a NormalizedFields) -> RequestView<'a> {
        RequestView {
            method: self.method.as_str(),
            scheme: self.target.scheme,
            host: &self.target.host,
            path: self.uri.path(),
            query: self.uri.query().unwrap_or_default(),
            headers: self.headers,
            normalized,
            client_ip: self.client_ip,
            bucket: &bucket.name,
            now: unix_seconds(self.now),
        }
    }
}

/// What was decided before lookup.
#[derive(Debug, Clone)]
pub struct RequestVerdict {
    /// What to do.
    pub action: RequestAction,
    /// Fields that the policy reduced.
    pub normalized: Normalized,
    /// The policy failed.
    pub error: Option<PolicyError>,
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum RequestAction {
    /// Look it up under this key.
    Lookup(PrimaryKey),
    /// Keep the cache out.
    Bypass(BypassReason),
}

impl RequestVerdict {
    /// The same, but with the cache kept out.
    pub fn bypassed(self, reason: BypassReason) -> Self {
        RequestVerdict { action: RequestAction::Bypass(reason), ..self }
    }
}

/// Decides what to do with a request.
///
/// A policy that fails is a decision as well: `on_error` says whether to keep the cache out or to go on without it.
pub fn request(bucket: &Bucket, policy: Option<&Policy>, request: &Request<'_>) -> RequestVerdict {
    let mut verdict = RequestVerdict {
        action: RequestAction::Bypass(BypassReason::NoTier),
        normalized: Normalized::new(),
        error: None,
    };
    let mut wanted = crate::policy::decision::RequestDecision::default();
    if let Some(policy) = policy {
        let decided = crate::policy::normalize(policy, request.headers).and_then(|normalized| {
            verdict.normalized = normalized;
            crate::policy::call_request(policy, &request.view(bucket, &verdict.normalized))
        });
        match decided {
            Ok(decision) => wanted = decision,
            Err(error) => {
                verdict.normalized.clear();
                let kind = error.kind.as_str();
                verdict.error = Some(error);
                if bucket.on_error == OnError::Bypass {
                    return verdict.bypassed(BypassReason::PolicyError(kind));
                }
            }
        }
    }
    let kept_out = kept_out_by_http(request).or(wanted.bypass.map(BypassReason::Policy));
    verdict.action = match kept_out {
        Some(reason) => RequestAction::Bypass(reason),
        None => {
            let host = if bucket.host_in_key { request.target.host.as_str() } else { "" };
            RequestAction::Lookup(match &wanted.key {
                Some(parts) => PrimaryKey::from_parts(&bucket.name, host, parts),
                None => PrimaryKey::from_uri(&bucket.name, host, request.target.scheme, path_and_query(request.uri)),
            })
        }
    };
    verdict
}

/// Whether a bucket answers requests of that method at all.
pub fn lets_through(bucket: &Bucket, method: &Method) -> bool {
    match (&bucket.methods, &bucket.origin.kind) {
        (Some(methods), _) => methods.contains(method),
        // A bucket of objects is read, unless the configuration says that it may be written.
        (None, OriginKind::S3(_)) => matches!(*method, Method::GET | Method::HEAD),
        (None, OriginKind::Http(_)) => true,
    }
}

/// What HTTP itself keeps out of a cache.
fn kept_out_by_http(request: &Request<'_>) -> Option<BypassReason> {
    if !matches!(*request.method, Method::GET | Method::HEAD) {
        Some(BypassReason::Method)
    } else if request.upgrade {
        Some(BypassReason::Upgrade)
    } else if request.has_body {
        Some(BypassReason::RequestBody)
    } else {
        None
    }
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// Whether the client wants a stored response or none (RFC 9111 section 5.2.1.7).
pub fn wants_stored_only(headers: &HeaderMap) -> bool {
    on_miss(&RequestDirectives::of(headers)) == Miss::GatewayTimeout
}
