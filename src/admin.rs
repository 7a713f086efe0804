//! The admin listener: health, metrics, statistics, policies, purges.

mod purge;

use crate::cluster::members::NodeStatus;
use crate::outcome::CACHE_NAME;
use crate::proxy::Gate;
use crate::store::tier::TierStatus;
use crate::telemetry::metrics;
use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Compares two secrets in a time that does not tell how much of them is alike.
pub fn same_secret(ours: &[u8], offered: &[u8]) -> bool {
    if ours.len() != offered.len() {
        return false;
    }
    ours.iter().zip(offered).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// Answers on the admin listener.
pub struct Admin {
    /// What is asked about.
    pub gate: Arc<Gate>,
    /// Set once the process stops taking new requests.
    pub draining: Arc<AtomicBool>,
    /// When the process began.
    pub started: Instant,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let path = request.uri.path();
        let token = request.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let get = matches!(request.method, Method::GET | Method::HEAD);
        let is_head = request.method == Method::HEAD;
        let mut response = if path.starts_with("/v1/") && !self.may_enter(token) {
            self.refuse()
        } else if path == "/v1/purge" {
            if request.method == Method::POST {
                self.purge(session).await
            } else {
                problem(StatusCode::METHOD_NOT_ALLOWED, "This path answers POST only.")
            }
        } else {
            match (path, get) {
                ("/livez", true) => text(StatusCode::OK, "alive\n"),
                ("/readyz", true) if self.draining.load(Ordering::Acquire) => {
                    text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
                }
                ("/readyz", true) => text(StatusCode::OK, "ready\n"),
                ("/metrics", true) => self.metrics(),
                ("/v1/stats", true) => json_answer(&self.stats()),
                ("/v1/policies", true) => json_answer(&policies(&self.gate)),
                ("/livez" | "/readyz" | "/metrics" | "/v1/stats" | "/v1/policies", false) => {
                    problem(StatusCode::METHOD_NOT_ALLOWED, "This path answers GET only.")
                }
                _ => problem(StatusCode::NOT_FOUND, "The admin listener has no such path."),
            }
        };
        if is_head {
            response.body_mut().clear();
        }
        response
    }
}

impl Admin {
    fn may_enter(&self, offered: Option<&[u8]>) -> bool {
        let live = self.gate.live.load();
        let token = live.config.admin.as_ref().and_then(|admin| admin.token.as_deref());
        let offered = offered.and_then(|offered| {
            let (scheme, token) = offered.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        });
        token.zip(offered).is_some_and(|(token, offered)| same_secret(token.as_bytes(), offered))
    }

    fn refuse(&self) -> Response<Vec<u8>> {
        let live = self.gate.live.load();
        let configured = live.config.admin.as_ref().is_some_and(|admin| admin.token.is_some());
        let mut refused = problem(
            StatusCode::UNAUTHORIZED,
            if configured {
                "Send the admin token as Authorization: Bearer TOKEN."
            } else {
                "No admin token is configured; set admin.token to use /v1/."
            },
        );
        let challenge = header::HeaderValue::from_static("Bearer realm=\"tidegate\"");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        refused
    }

    fn metrics(&self) -> Response<Vec<u8>> {
        let store = self.gate.store;
        let metrics = metrics();
        if let Some(cluster) = self.gate.cluster {
            cluster.show();
        }
        for tier in store.tiers() {
            tier.metrics.items.set(signed(tier.items));
            tier.metrics.bytes.set(signed(tier.bytes));
            tier.metrics.up.set(i64::from(tier.state.is_up()));
        }
        metrics.fill_waiters.set(signed((self.gate.lock.waiters() + store.followers()) as u64));
        answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render())
    }

    fn stats(&self) -> Value {
        let live = self.gate.live.load();
        let mut total = 0;
        let mut buckets = Map::new();
        for site in live.sites() {
            let m = &site.metrics;
            let (hits, collapsed) = (m.hit.get(), m.collapsed.get());
            let (misses, revalidated) = (m.miss.get(), m.revalidated.get());
            let requests = hits + collapsed + m.stale.get() + misses + revalidated + m.bypass.get() + m.error.get();
            total += requests;
            let counted = json!({
                "requests": requests,
                // Answered without the origin's help: from the store, or from another request's fill.
                "hits": hits + collapsed,
                "collapsed": collapsed,
                "stale": m.stale.get(),
                // The origin was asked, whether it sent the body again or not.
                "misses": misses + revalidated,
                "revalidated": revalidated,
                "bypasses": m.bypass.get(),
                "errors": m.error.get(),
                "bytes": m.bytes.get(),
            });
            buckets.insert(site.bucket.name.to_string(), counted);
        }
        let nodes: Vec<Value> =
            self.gate.cluster.iter().flat_map(|cluster| cluster.nodes()).map(|seen| node(&seen)).collect();
        let tiers: Map<String, Value> = self.gate.store.tiers().into_iter().map(told).collect();
        json!({
            "uptime": self.started.elapsed().as_secs(),
            "requests": total,
            "buckets": buckets,
            "tiers": tiers,
            "nodes": nodes,
        })
    }
}

/// What a tier says about itself.
fn told(tier: TierStatus<'_>) -> (String, Value) {
    let metrics = tier.metrics;
    let value = json!({
        "state": tier.state.as_str(),
        "items": tier.items,
        "bytes": tier.bytes,
        "capacity": tier.capacity,
        "hits": metrics.hit.get(),
        "misses": metrics.miss.get(),
        // Lookups that got neither of these answers.
        "unavailable": metrics.unavailable.get(),
        "promotions": metrics.promotions.get(),
        "evictions": metrics.evictions(),
    });
    (tier.name.as_str().to_owned(), value)
}

/// What is known of a node.
fn node(node: &NodeStatus) -> Value {
    json!({
        "name": node.name,
        "instance": node.instance,
        "self": node.is_self,
        "applied": node.applied.to_string(),
        "seen_seconds_ago": (node.seen.as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Every bucket with a policy, and how that policy fares.
fn policies(gate: &Gate) -> Value {
    let live = gate.live.load();
    let mut buckets: Vec<_> = live.sites().filter_map(|site| Some((site, site.bucket.policy.as_deref()?))).collect();
    buckets.sort_by(|(a, _), (b, _)| a.bucket.name.cmp(&b.bucket.name));
    let told = buckets.into_iter().map(|(site, name)| {
        let policy = gate.policies.get(name);
        let error = policy
            .as_ref()
            .and_then(|policy| policy.error())
            .map(|e| json!({"file": *e.file, "line": e.line, "message": e.to_string()}));
        json!({
            "bucket": *site.bucket.name,
            "file": policy.as_ref().map_or(name, |policy| policy.file()),
            "version": policy.as_ref().map(|policy| policy.version()),
            "loaded_at": policy.as_ref().map(|policy| crate::clock::unix_seconds(policy.loaded_at())),
            "error": error,
            "calls": policy.as_ref().map_or(0, |policy| policy.calls()),
            "errors": policy.as_ref().map_or(0, |policy| policy.errors()),
        })
    });
    Value::Array(told.collect())
}

fn json_answer(value: &Value) -> Response<Vec<u8>> {
    answer(StatusCode::OK, "application/json", (value.to_string() + "\n").into_bytes())
}

fn text(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    answer(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

fn problem(status: StatusCode, detail: &str) -> Response<Vec<u8>> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    answer(status, "application/problem+json", (body.to_string() + "\n").into_bytes())
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::SERVER, header::HeaderValue::from_static(CACHE_NAME));
    response
}
