//! From names to addresses: cached, refreshed in the background, and never forgotten because a resolver failed.

use super::endpoint::Endpoint;
use super::{Inner, Picked};
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long an answer is used before it is asked for again. The system's resolver does not tell the record's own.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// How long after a failure the resolver is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Longest that a resolver may take; the system's own limit is often half a minute.
const LONGEST: Duration = Duration::from_secs(5);

/// Answers with the addresses of a host.
pub(super) type Resolver =
    Arc<dyn Fn(&str, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static>;

/// The resolver of the operating system.
pub(super) fn system() -> Resolver {
    Arc::new(|host, port| {
        let host = host.to_owned();
        Box::pin(async move { tokio::net::lookup_host((host, port)).await.map(Iterator::collect) })
    })
}

/// One configured server.
#[derive(Debug)]
pub(super) struct Server {
    name: String,
    host: String,
    port: u16,
    tls: bool,
    sni: Arc<str>,
    host_header: Option<Arc<str>>,
    /// The answer for an address written as such: no resolver is needed.
    literal: bool,
    known: Mutex<Known>,
    /// Milliseconds until which `known` is good; zero before the first answer.
    fresh_until: AtomicU64,
    /// A refresh runs in the background.
    refreshing: AtomicBool,
    /// Held while the resolver is asked, so that it is asked once.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    error: Option<String>,
}

impl Server {
    pub(super) fn new(host: &str, port: u16, tls: bool, sni: &str, host_header: Option<&str>) -> Self {
        let address = host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
        Server {
            name: if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
            host: host.to_owned(),
            port,
            tls,
            sni: sni.into(),
            host_header: host_header.map(Into::into),
            literal: address.is_some(),
            known: Mutex::new(Known { addresses: address.into_iter().collect(), error: None }),
            fresh_until: AtomicU64::new(0),
            refreshing: AtomicBool::new(false),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// `host:port`
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The `Host` that a health check sends.
    pub(super) fn health_host(&self) -> String {
        match &self.host_header {
            Some(host) => host.to_string(),
            None => super::authority(&self.host, self.port, self.tls),
        }
    }

    pub(super) fn speaks_tls(&self) -> bool {
        self.tls
    }

    pub(super) fn sni(&self) -> &str {
        &self.sni
    }

    pub(super) fn is_name(&self) -> bool {
        !self.literal
    }

    pub(super) fn picked(&self, addr: SocketAddr) -> Picked {
        Picked { addr, tls: self.tls, sni: self.sni.clone(), host: self.host_header.clone() }
    }

    /// What is wrong with the name, for people.
    pub(super) fn problem(&self) -> String {
        let known = self.known.lock();
        format!("`{}`: {}", self.name, known.error.as_deref().unwrap_or("no address"))
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.literal || now.as_millis() < u128::from(self.fresh_until.load(Ordering::Acquire))
    }

    fn has_been_asked_for(&self) -> bool {
        self.fresh_until.load(Ordering::Acquire) > 0
    }

    /// Takes a resolver's answer. An empty or failed one leaves the addresses that are known.
    fn learn(&self, answer: io::Result<Vec<SocketAddr>>, now: Duration) {
        let answer = answer.and_then(|mut addresses| {
            // Resolvers rotate their answers; a fixed order keeps turns fair and picks steady.
            addresses.sort_unstable();
            addresses.dedup();
            if addresses.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(addresses) }
        });
        let mut known = self.known.lock();
        let good_for = match answer {
            Ok(addresses) => {
                if known.error.take().is_some() {
                    tracing::info!(server = %self.name, "the name resolves again");
                }
                known.addresses = addresses;
                FRESH_FOR
            }
            Err(error) => {
                if known.error.is_none() {
                    let kept = known.addresses.len();
                    tracing::warn!(server = %self.name, %error, kept, "cannot resolve the name; known addresses stay in use");
                }
                known.error = Some(error.to_string());
                RETRY_AFTER
            }
        };
        let until = u64::try_from((now + good_for).as_millis()).unwrap_or(u64::MAX);
        self.fresh_until.store(until, Ordering::Release);
    }
}

impl Inner {
    /// Sees to it that names have addresses. Waits only for names never asked for, or if no address is known at all;
    /// what is merely old is refreshed behind the request's back.
    pub(super) async fn refresh_names(self: &Arc<Self>) {
        let now = self.now();
        let mut wait_for = Vec::new();
        for server in self.servers.iter().filter(|server| !server.is_fresh(now)) {
            if !server.has_been_asked_for() || self.endpoints.load().is_empty() {
                wait_for.push(self.resolve(server));
            } else if !server.refreshing.swap(true, Ordering::AcqRel) {
                let refresh = Refresh { inner: self.clone(), server: server.clone() };
                tokio::spawn(async move { refresh.inner.resolve(&refresh.server).await });
            }
        }
        if !wait_for.is_empty() {
            join_all(wait_for).await;
        }
    }

    async fn resolve(&self, server: &Arc<Server>) {
        let _asking = server.asking.lock().await;
        if server.is_fresh(self.now()) {
            return;
        }
        let answer = tokio::time::timeout(LONGEST, (self.seams.resolver)(&server.host, server.port)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {LONGEST:?}"))));
        server.learn(answer, self.now());
        self.rebuild();
    }

    /// Makes `endpoints` say what the servers know. An address that stays keeps its history.
    pub(super) fn rebuild(&self) {
        let _rebuilding = self.rebuilding.lock();
        let old = self.endpoints.load();
        let mut new: Vec<Arc<Endpoint>> = Vec::with_capacity(old.len());
        for server in &self.servers {
            for &addr in &server.known.lock().addresses {
                let same =
                    |endpoint: &&Arc<Endpoint>| Arc::ptr_eq(endpoint.server(), server) && endpoint.addr() == addr;
                let kept = old.iter().find(same).cloned();
                new.push(kept.unwrap_or_else(|| Arc::new(Endpoint::new(server.clone(), addr))));
            }
        }
        self.endpoints.store(Arc::new(new));
    }
}

/// A refresh in the background; whatever ends it, the next one may start.
struct Refresh {
    inner: Arc<Inner>,
    server: Arc<Server>,
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.server.refreshing.store(false, Ordering::Release);
    }
}
