//! The servers of one origin: their addresses, which of them work, and who gets the next request.
//!
//! Three things decide. Names are resolved in the background and the last good answer outlives a failing resolver
//! ([`resolve`]). A server that could not be connected to rests for a while ([`endpoint`]), and one that fails its
//! health check rests until it passes ([`health`]). Among the others the origin's `balance` chooses. If none is left,
//! resting servers are tried after all: a wrong verdict must not be worse than none.

mod endpoint;
mod health;
mod resolve;
mod tls;

pub use endpoint::ServerStatus;
pub use health::HealthChecks;

use crate::config::{Balance, Health, HttpOrigin, Origin, OriginKind, OriginServer, S3Style};
use arc_swap::ArcSwap;
use endpoint::Endpoint;
use parking_lot::Mutex;
use resolve::{Resolver, Server};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The servers of one origin. Clones share them.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: String,
    balance: Balance,
    health: Option<Health>,
    /// Longest that a health check may take to connect.
    connect_timeout: Duration,
    tls: health::TlsSettings,
    servers: Vec<Arc<Server>>,
    /// At least one server is a name.
    has_names: bool,
    /// Every address of every server. Replaced as a whole when an address changes.
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Held while `endpoints` is rebuilt.
    rebuilding: Mutex<()>,
    turn: AtomicUsize,
    seams: Seams,
}

/// What the pool asks of the outside, so that tests can answer.
struct Seams {
    resolver: Resolver,
    elapsed: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl std::fmt::Debug for Seams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seams")
    }
}

/// The server that gets a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// Where to connect.
    pub addr: SocketAddr,
    /// Speak TLS.
    pub tls: bool,
    /// Name to ask for and to verify in TLS.
    pub sni: Arc<str>,
    /// `Host` to send instead of the client's. `None`: the client's, or for S3 the one that was signed.
    pub host: Option<Arc<str>>,
}

/// Why no server can be picked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// None of the servers has an address.
    #[error(
        "origin `{origin}` has no server with an address ({problems}): check the names in `servers` and the resolver"
    )]
    NoAddress {
        /// The origin's name.
        origin: String,
        /// Each server and what resolving it said.
        problems: String,
    },
}

/// One address of one server, for metrics and the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// `host:port` as configured.
    pub server: String,
    /// The address.
    pub addr: SocketAddr,
    /// Whether it gets requests.
    pub status: ServerStatus,
    /// Failed connections in a row.
    pub failures: u32,
}

impl Pool {
    /// The servers of an origin. Names are resolved when the first request, or the first health check, needs them.
    pub fn new(origin: &Origin) -> Self {
        let opened = Instant::now();
        let seams = Seams { resolver: resolve::system(), elapsed: Box::new(move || opened.elapsed()) };
        Self::with_seams(origin, seams)
    }

    fn with_seams(origin: &Origin, seams: Seams) -> Self {
        let (servers, balance, health, tls) = match &origin.kind {
            OriginKind::Http(http) => {
                let servers = http.servers.iter().map(|server| http_server(http, server)).collect();
                let tls = health::TlsSettings { ca: http.ca.clone(), verify: http.verify };
                (servers, http.balance, http.health.clone(), tls)
            }
            OriginKind::S3(s3) => {
                let bucket = (s3.style == S3Style::VirtualHost).then_some(s3.bucket.as_str());
                let tls = health::TlsSettings { ca: s3.ca.clone(), verify: s3.verify };
                (vec![s3_server(&s3.endpoint, bucket)], Balance::default(), None, tls)
            }
        };
        let servers: Vec<Arc<Server>> = servers.into_iter().map(Arc::new).collect();
        let inner = Inner {
            origin: origin.name.clone(),
            balance,
            health,
            connect_timeout: origin.connect_timeout,
            tls,
            has_names: servers.iter().any(|server| server.is_name()),
            servers,
            endpoints: ArcSwap::default(),
            rebuilding: Mutex::new(()),
            turn: AtomicUsize::new(0),
            seams,
        };
        inner.rebuild();
        Pool(Arc::new(inner))
    }

    /// Chooses a server. `key_hash` decides under `balance: key_hash`; `tried` are the addresses that this request has
    /// failed on, which come last.
    pub async fn pick(&self, key_hash: u64, tried: &[SocketAddr]) -> Result<Picked, PoolError> {
        if self.0.has_names {
            self.0.refresh_names().await;
        }
        let endpoints = self.0.endpoints.load();
        match self.0.choose(&endpoints, key_hash, tried) {
            Some(endpoint) => Ok(endpoint.picked()),
            None => Err(self.0.no_address()),
        }
    }

    /// Tells whether an address could be connected to. Failures of another kind (a 500, a broken body) are not the
    /// connection's and are not reported.
    pub fn report(&self, addr: SocketAddr, ok: bool) {
        let endpoints = self.0.endpoints.load();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.addr() == addr) {
            if ok {
                endpoint.connected();
            } else {
                endpoint.failed(self.0.now());
            }
        }
    }

    /// The name of the origin.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Every address known and whether it gets requests.
    pub fn state(&self) -> Vec<ServerState> {
        let now = self.0.now();
        self.0.endpoints.load().iter().map(|endpoint| endpoint.state(now)).collect()
    }

    /// Starts active health checks if the origin has them; they end when the answer is dropped.
    ///
    /// Must be called inside a Tokio runtime.
    pub fn start_health_checks(&self) -> Option<HealthChecks> {
        self.0.health.clone().map(|health| health::start(&self.0, health))
    }
}

impl Inner {
    fn now(&self) -> Duration {
        (self.seams.elapsed)()
    }

    /// Chooses among the servers that work; failing that, among those not tried yet; failing that, among all.
    fn choose<'e>(
        &self,
        endpoints: &'e [Arc<Endpoint>],
        key_hash: u64,
        tried: &[SocketAddr],
    ) -> Option<&'e Arc<Endpoint>> {
        let now = self.now();
        let fresh = |endpoint: &&Arc<Endpoint>| !tried.contains(&endpoint.addr());
        let mut candidates: Candidates<'e> =
            endpoints.iter().filter(fresh).filter(|endpoint| endpoint.is_up(now)).collect();
        while !candidates.is_empty() {
            let at = self.balance(&candidates, key_hash);
            match candidates.get(at) {
                // One whose rest is over gets a single request to show what it can do; the others go elsewhere.
                Some(endpoint) if endpoint.admits(now) => return Some(endpoint),
                Some(_) => drop(candidates.remove(at)),
                None => break,
            }
        }
        let untried: Candidates<'e> = endpoints.iter().filter(fresh).collect();
        let last_resort = if untried.is_empty() { endpoints.iter().collect() } else { untried };
        last_resort.get(self.balance(&last_resort, key_hash)).copied()
    }

    fn balance(&self, candidates: &[&Arc<Endpoint>], key_hash: u64) -> usize {
        match candidates.len() {
            0 | 1 => 0,
            count => match self.balance {
                Balance::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed) % count,
                Balance::Random => fastrand::usize(..count),
                Balance::KeyHash => highest_score(candidates, key_hash),
            },
        }
    }

    fn no_address(&self) -> PoolError {
        let problems: Vec<String> = self.servers.iter().map(|server| server.problem()).collect();
        PoolError::NoAddress { origin: self.origin.clone(), problems: problems.join("; ") }
    }
}

type Candidates<'e> = SmallVec<[&'e Arc<Endpoint>; 8]>;

/// Rendezvous hashing: every pair of key and server has a score and the best server wins, so that a server that leaves
/// moves only its own keys, and every node agrees whatever order its servers are listed in.
fn highest_score(candidates: &[&Arc<Endpoint>], key_hash: u64) -> usize {
    let scores = candidates.iter().map(|endpoint| endpoint.score(key_hash));
    scores.enumerate().max_by_key(|(_, score)| *score).map_or(0, |(at, _)| at)
}

fn http_server(origin: &HttpOrigin, server: &OriginServer) -> Server {
    // A name is what its certificate is for. An address has none to ask for, so the configured host stands in.
    let sni = match &origin.host {
        Some(host) if server.host.parse::<IpAddr>().is_ok() => without_port(host),
        _ => &server.host,
    };
    Server::new(&server.host, server.port, server.tls, sni, origin.host.as_deref())
}

fn s3_server(endpoint: &OriginServer, bucket: Option<&str>) -> Server {
    match bucket {
        // `bucket.10.0.0.1` is no name that anybody can resolve: connect to the address, and let `Host` name the bucket.
        Some(bucket) if endpoint.host.parse::<IpAddr>().is_err() => {
            let host = format!("{bucket}.{}", endpoint.host);
            Server::new(&host, endpoint.port, endpoint.tls, &host, None)
        }
        _ => Server::new(&endpoint.host, endpoint.port, endpoint.tls, &endpoint.host, None),
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
        }
        _ => authority,
    }
}

/// `host[:port]` as `Host` carries it: brackets around IPv6 addresses, no port where the scheme implies it.
pub fn authority(host: &str, port: u16, tls: bool) -> String {
    let implied = if tls { 443 } else { 80 };
    match (host.contains(':'), port == implied) {
        (false, true) => host.to_owned(),
        (false, false) => format!("{host}:{port}"),
        (true, true) => format!("[{host}]"),
        (true, false) => format!("[{host}]:{port}"),
    }
}

#[cfg(test)]
mod tests;
