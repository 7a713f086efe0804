//! Active health checks: a `GET` to every address of every server, in turn with the requests' own verdict.
//!
//! One failed check takes an address out and one good check brings it back: checks are seconds apart, so waiting for a
//! second opinion would cost more requests than it saves, and a wrong verdict is mild because resting servers are
//! still the last resort.

use super::Inner;
use super::endpoint::Endpoint;
use super::tls;
use crate::config::Health;
use futures::future::join_all;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Longest that one check may take, whatever its interval.
const LONGEST: Duration = Duration::from_secs(5);

/// How `https://` servers are checked: like requests, so that a certificate that fails them fails the check.
#[derive(Debug, Clone)]
pub(super) struct TlsSettings {
    pub(super) ca: Option<PathBuf>,
    pub(super) verify: bool,
}

/// Checks under way. Dropping it ends them.
#[derive(Debug)]
pub struct HealthChecks(JoinHandle<()>);

impl Drop for HealthChecks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn start(pool: &Arc<Inner>, health: Health) -> HealthChecks {
    // Weak: a pool that a new configuration replaced must not be kept alive by its checks.
    HealthChecks(tokio::spawn(run(Arc::downgrade(pool), health)))
}

async fn run(pool: Weak<Inner>, health: Health) {
    let Some(tls) = pool.upgrade().map(|pool| connector(&pool)) else { return };
    // An interval of nothing is refused by the configuration; Tokio would panic on it.
    let mut ticks = interval(health.interval.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        if pool.has_names {
            pool.refresh_names().await;
        }
        let endpoints = pool.endpoints.load_full();
        join_all(endpoints.iter().map(|endpoint| judge(&pool, &health, tls.as_ref(), endpoint))).await;
    }
}

pub(super) fn connector(pool: &Inner) -> Option<tls::Connector> {
    let needed = pool.servers.iter().any(|server| server.speaks_tls());
    needed.then(|| tls::Connector::new(pool.tls.ca.as_deref(), pool.tls.verify))
}

pub(super) async fn judge(pool: &Inner, health: &Health, tls: Option<&tls::Connector>, endpoint: &Endpoint) {
    let limit = health.interval.min(LONGEST).max(pool.connect_timeout.min(LONGEST));
    let verdict = timeout(limit, check(health, tls, endpoint)).await;
    let verdict = verdict.unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {limit:?}"))));
    let changed = endpoint.set_healthy(verdict.is_ok());
    let (origin, server, addr) = (&pool.origin, endpoint.server().name(), endpoint.addr());
    match verdict {
        Ok(()) if changed => tracing::info!(%origin, %server, %addr, "the server passes its health check again"),
        Err(error) if changed => tracing::warn!(%origin, %server, %addr, %error, "the server fails its health check"),
        Ok(()) | Err(_) => {}
    }
}

async fn check(health: &Health, tls: Option<&tls::Connector>, endpoint: &Endpoint) -> io::Result<()> {
    let stream = TcpStream::connect(endpoint.addr()).await?;
    let host = endpoint.server().health_host();
    match tls {
        Some(tls) if endpoint.server().speaks_tls() => {
            ask(&mut tls.connect(endpoint.server().sni(), stream).await?, &host, &health.path).await
        }
        _ => ask(&mut { stream }, &host, &health.path).await,
    }
}

/// One `GET`; anything but a 2xx is an error. The body is left unread: the connection ends with the check.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, host: &str, path: &str) -> io::Result<()> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;

    // `HTTP/1.1 200`
    let mut status_line = [0; 12];
    stream.read_exact(&mut status_line).await?;
    match status_line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', b'2', b'0'..=b'9', b'0'..=b'9'] => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', .., a, b, c] if [a, b, c].iter().all(u8::is_ascii_digit) => {
            Err(io::Error::other(format!("status {}{}{}", char::from(a), char::from(b), char::from(c))))
        }
        _ => Err(io::Error::other("the answer is not HTTP/1.1")),
    }
}
