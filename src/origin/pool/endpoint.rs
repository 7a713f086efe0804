//! One address of one server, and whether it deserves the next request.
//!
//! An address that cannot be connected to rests for one second, then two, four, eight, and ten from there on. When a
//! rest is over, one request a second is let through until a connection succeeds.

use super::resolve::Server;
use super::{Picked, ServerState};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Rest after the first failure; doubles with each that follows.
const FIRST_REST: Duration = Duration::from_secs(1);

/// Longest rest: short enough that a server that came back is noticed before anybody complains.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// How long the request that tests a rested server keeps others away.
const TRIAL: Duration = Duration::from_secs(1);

/// Whether a server gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerStatus {
    /// It does.
    Up,
    /// It failed to connect and rests.
    Resting,
    /// Its health check fails.
    Unhealthy,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    server: Arc<Server>,
    addr: SocketAddr,
    /// Hash of the address, for `balance: key_hash`.
    seed: u64,
    healthy: AtomicBool,
    /// Failures in a row; zero is the only thing that a request to a working server looks at.
    failures: AtomicU32,
    /// Milliseconds from which the address may be tried again.
    retry_at: AtomicU64,
    /// Milliseconds until which failures belong to one that is counted already: requests under way fail together.
    counted_until: Mutex<u64>,
}

impl Endpoint {
    pub(super) fn new(server: Arc<Server>, addr: SocketAddr) -> Self {
        Endpoint {
            seed: xxh3_64(addr.to_string().as_bytes()),
            server,
            addr,
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            retry_at: AtomicU64::new(0),
            counted_until: Mutex::new(0),
        }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn picked(&self) -> Picked {
        self.server.picked(self.addr)
    }

    pub(super) fn score(&self, key_hash: u64) -> u64 {
        xxh3_64_with_seed(&key_hash.to_be_bytes(), self.seed)
    }

    /// Neither resting nor unhealthy.
    pub(super) fn is_up(&self, now: Duration) -> bool {
        self.healthy.load(Ordering::Relaxed) && !self.is_resting(millis(now))
    }

    fn is_resting(&self, now: u64) -> bool {
        self.failures.load(Ordering::Acquire) > 0 && now < self.retry_at.load(Ordering::Relaxed)
    }

    /// Whether this request may use the address; after a rest, only the first that asks may.
    pub(super) fn admits(&self, now: Duration) -> bool {
        if self.failures.load(Ordering::Acquire) == 0 {
            return true;
        }
        let now = millis(now);
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(TRIAL));
        now >= retry_at && self.retry_at.compare_exchange(retry_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn connected(&self) {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut counted_until = self.counted_until.lock();
        *counted_until = 0;
        self.retry_at.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Release);
    }

    pub(super) fn failed(&self, now: Duration) {
        let now = millis(now);
        let mut counted_until = self.counted_until.lock();
        if now < *counted_until {
            return;
        }
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        let rest = FIRST_REST.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_REST);
        *counted_until = now.saturating_add(millis(rest));
        self.retry_at.store(*counted_until, Ordering::Relaxed);
        self.failures.store(failures, Ordering::Release);
    }

    /// Takes the verdict of a health check; answers whether it is a new one.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        self.healthy.swap(healthy, Ordering::Relaxed) != healthy
    }

    pub(super) fn state(&self, now: Duration) -> ServerState {
        let status = if !self.healthy.load(Ordering::Relaxed) {
            ServerStatus::Unhealthy
        } else if self.is_resting(millis(now)) {
            ServerStatus::Resting
        } else {
            ServerStatus::Up
        };
        let failures = self.failures.load(Ordering::Relaxed);
        ServerState { server: self.server.name().to_owned(), addr: self.addr, status, failures }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
