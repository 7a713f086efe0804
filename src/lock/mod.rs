//! One fill per key.
//!
//! [`FillLock`] lets the first request for a key through to the origin and makes the others wait until its response
//! begins; from then on they follow the fill itself ([`crate::store::fill`]). Waiting ends with a deadline for each
//! waiter, a lock that grows too old can be taken over, and the number of waiters is bounded. [`Uncacheable`] remembers
//! keys for which waiting is in vain, and [`Failure`]s are counted for those who wait for an origin that fails.

mod failing;
mod uncacheable;

pub use failing::{Failure, MOST_LEADERS};

pub use uncacheable::{AUTHORIZED, Uncacheable};

use failing::Failing;
use http::Extensions;
use parking_lot::Mutex;
use pingora::cache::CacheKey;
use pingora::cache::key::CacheHashKey;
use pingora::cache::lock::{CacheKeyLock, LockStatus, LockStub, Locked, WritePermit};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Locks are spread over so many tables, so that requests for different keys do not wait for each other.
const SHARDS: usize = 64;

/// The id of what is being filled: hash of the key, and of the variant.
type LockId = (u128, Option<u128>);

/// Pingora's lock interface with a bound on waiters.
#[derive(Debug)]
pub struct FillLock {
    shards: Vec<Mutex<Shard>>,
    /// Milliseconds.
    age: AtomicU64,
    max_waiters: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    locks: HashMap<LockId, LockStub>,
    failing: Failing,
}

thread_local! {
    /// Set when the request that this thread is working on was turned away. Pingora's `lock` can answer only "write" or
    /// "read"; a turned-away request is given a permit of its own, and this tells the next hook of the same request,
    /// which Pingora calls before the task can yield, not to use it.
    static TURNED_AWAY: Cell<Option<LockId>> = const { Cell::new(None) };
    /// Set when the request that this thread is working on will be served what is stored, stale, if another one is
    /// fetching already. Such a request does not wait, so it is never one too many. Set by the hook that Pingora calls
    /// just before `lock`.
    static SERVED_STALE: Cell<bool> = const { Cell::new(false) };
}

/// Tells permits apart. A lock that was taken over, or a permit that stands for nothing, must not free another's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PermitId(u64);

impl FillLock {
    /// `age`: how long a fill may take to its first byte before another request may try. `max_waiters`: for each key.
    pub fn new(age: Duration, max_waiters: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let lock = FillLock { shards, age: AtomicU64::new(0), max_waiters: AtomicUsize::new(0) };
        lock.set_limits(age, max_waiters);
        lock
    }

    /// Changes the limits, for whoever comes from now on.
    pub fn set_limits(&self, age: Duration, max_waiters: usize) {
        self.age.store(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.max_waiters.store(max_waiters, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        Duration::from_millis(self.age.load(Ordering::Relaxed))
    }

    /// Whether the request with that key was turned away just now, on this thread. Answers `true` once.
    pub fn was_turned_away(key: &CacheKey) -> bool {
        TURNED_AWAY.take() == Some(id_of(key))
    }

    /// Says whether the request that this thread is about to lock for can do with the stale entry that it found.
    pub fn will_be_served_stale(yes: bool) {
        SERVED_STALE.set(yes);
    }

    /// Requests that wait now.
    pub fn waiters(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().locks.values().map(waiters_of).sum::<usize>()).sum()
    }

    /// The request that holds the lock for the key is about to fail, because the origin did.
    pub fn note_failure(&self, key: &CacheKey, failure: Failure) {
        let id = id_of(key);
        if let Some(shard) = self.shard(&id) {
            shard.lock().failing.note(id, failure);
        }
    }

    /// How many requests that held the lock for the key failed in a row, and how the last one did, if that was after
    /// `since`.
    pub fn failures_since(&self, key: &CacheKey, since: Instant) -> Option<(u32, Failure)> {
        let id = id_of(key);
        self.shard(&id)?.lock().failing.since(&id, since)
    }

    fn shard(&self, id: &LockId) -> Option<&Mutex<Shard>> {
        self.shards.get((id.0 as usize ^ id.1.unwrap_or(0) as usize) % SHARDS)
    }

    fn permit(&self, stale_writer: bool) -> (WritePermit, LockStub) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut extensions = Extensions::new();
        extensions.insert(PermitId(NEXT.fetch_add(1, Ordering::Relaxed)));
        WritePermit::new(self.age(), stale_writer, extensions)
    }
}

fn id_of(key: &CacheKey) -> LockId {
    (u128::from_be_bytes(key.primary_bin()), key.variance_bin().map(u128::from_be_bytes))
}

/// The permit and the table hold one reference each; every other one is a waiter's.
fn waiters_of(stub: &LockStub) -> usize {
    Arc::strong_count(&stub.0).saturating_sub(2)
}

impl CacheKeyLock for FillLock {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let id = id_of(key);
        // What an earlier request left there is not about this one.
        TURNED_AWAY.set(None);
        let never_waits = SERVED_STALE.take() && stale_writer;
        let Some(shard) = self.shard(&id) else { return Locked::Write(self.permit(stale_writer).0) };
        let locks = &mut shard.lock().locks;
        if let Some(stub) = locks.get(&id) {
            let given_up = matches!(stub.0.lock_status(), LockStatus::Dangling | LockStatus::AgeTimeout);
            let expired = stub.0.lock_start.elapsed() >= stub.0.age_timeout;
            if !given_up && !expired {
                if never_waits || waiters_of(stub) < self.max_waiters.load(Ordering::Relaxed) {
                    return Locked::Read(stub.read_lock());
                }
                TURNED_AWAY.set(Some(id));
                return Locked::Write(self.permit(stale_writer).0);
            }
        }
        let (permit, stub) = self.permit(stale_writer);
        locks.insert(id, stub);
        Locked::Write(permit)
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        let id = id_of(key);
        if let Some(shard) = self.shard(&id) {
            let Shard { locks, failing } = &mut *shard.lock();
            let mine = permit.extensions().get::<PermitId>();
            if let Some(stub) = locks.get(&id).filter(|stub| stub.extensions().get::<PermitId>() == mine) {
                // Known before they are woken.
                failing.released(id, reason, waiters_of(stub));
                locks.remove(&id);
            }
        }
        let reason = if permit.lock_status() == LockStatus::AgeTimeout { LockStatus::AgeTimeout } else { reason };
        permit.unlock(reason);
    }

    fn custom_lock_status(&self, reason: &'static str) -> LockStatus {
        match reason {
            // The next one may fare better; they try one after another.
            "server-error" | "policy-error" => LockStatus::TransientError,
            // Our other reasons for not storing hold for the followers too: each of them asks the origin itself.
            _ => LockStatus::GiveUp,
        }
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
