//! One fill per key.
//!
//! [`FillLock`] lets the first request for a key through to the origin and makes the others wait until its response
//! begins; from then on they follow the fill itself ([`crate::store::fill`]). Waiting ends with a deadline for each
//! waiter, a lock that grows too old can be taken over, and the number of waiters is bounded. [`Uncacheable`] remembers
//! keys for which waiting is in vain.

mod uncacheable;

pub use uncacheable::{AUTHORIZED, Uncacheable};

use crate::semantics::range::Spec;
use http::Extensions;
use parking_lot::Mutex;
use pingora::cache::CacheKey;
use pingora::cache::key::CacheHashKey;
use pingora::cache::lock::{CacheKeyLock, LockStatus, LockStub, Locked, WritePermit};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Locks are spread over so many tables, so that requests for different keys do not wait for each other.
const SHARDS: usize = 64;

/// The id of what is being filled: hash of the key, of the variant, and the part, if it is one.
type LockId = (u128, Option<u128>, Option<Spec>);

/// Pingora's lock interface with a bound on waiters.
#[derive(Debug)]
pub struct FillLock {
    shards: Vec<Mutex<HashMap<LockId, LockStub>>>,
    /// Milliseconds.
    age: AtomicU64,
    max_waiters: AtomicUsize,
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

/// Tells permits apart, and knows what each is for. A lock that was taken over, or a permit that stands for nothing, must not
/// free another's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PermitId(u64, LockId);

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
        TURNED_AWAY.take().is_some_and(|(primary, variant, _)| (primary, variant) == whole_id(key))
    }

    /// Says whether the request that this thread is about to lock for can do with the stale entry that it found.
    pub fn will_be_served_stale(yes: bool) {
        SERVED_STALE.set(yes);
    }

    /// Requests that wait now.
    pub fn waiters(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().values().map(waiters_of).sum::<usize>()).sum()
    }

    fn shard(&self, id: &LockId) -> Option<&Mutex<HashMap<LockId, LockStub>>> {
        self.shards.get((id.0 as usize ^ id.1.unwrap_or(0) as usize) % SHARDS)
    }

    fn permit(&self, id: LockId, stale_writer: bool) -> (WritePermit, LockStub) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut extensions = Extensions::new();
        extensions.insert(PermitId(NEXT.fetch_add(1, Ordering::Relaxed), id));
        WritePermit::new(self.age(), stale_writer, extensions)
    }
}

fn whole_id(key: &CacheKey) -> (u128, Option<u128>) {
    (u128::from_be_bytes(key.primary_bin()), key.variance_bin().map(u128::from_be_bytes))
}

/// What a request is about to fill. An entry that is asked about again is fetched whole, whatever part of it is wanted.
fn id_of(key: &CacheKey, stale_writer: bool) -> LockId {
    let (primary, variant) = whole_id(key);
    (primary, variant, key.extensions.get::<Spec>().copied().filter(|_| !stale_writer))
}

/// The permit and the table hold one reference each; every other one is a waiter's.
fn waiters_of(stub: &LockStub) -> usize {
    Arc::strong_count(&stub.0).saturating_sub(2)
}

impl CacheKeyLock for FillLock {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let id = id_of(key, stale_writer);
        // What an earlier request left there is not about this one.
        TURNED_AWAY.set(None);
        let never_waits = SERVED_STALE.take() && stale_writer;
        let Some(shard) = self.shard(&id) else { return Locked::Write(self.permit(id, stale_writer).0) };
        let mut locks = shard.lock();
        if let Some(stub) = locks.get(&id) {
            let given_up = matches!(stub.0.lock_status(), LockStatus::Dangling | LockStatus::AgeTimeout);
            let expired = stub.0.lock_start.elapsed() >= stub.0.age_timeout;
            if !given_up && !expired {
                if never_waits || waiters_of(stub) < self.max_waiters.load(Ordering::Relaxed) {
                    return Locked::Read(stub.read_lock());
                }
                TURNED_AWAY.set(Some(id));
                return Locked::Write(self.permit(id, stale_writer).0);
            }
        }
        let (permit, stub) = self.permit(id, stale_writer);
        locks.insert(id, stub);
        Locked::Write(permit)
    }

    fn release(&self, _key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        // The permit knows what it is for: a key does not say whether it was about a part.
        if let Some(&PermitId(number, id)) = permit.extensions().get::<PermitId>()
            && let Some(shard) = self.shard(&id)
        {
            let mut locks = shard.lock();
            let mine = Some(&PermitId(number, id));
            if locks.get(&id).is_some_and(|stub| stub.extensions().get::<PermitId>() == mine) {
                locks.remove(&id);
            }
        }
        let reason = if permit.lock_status() == LockStatus::AgeTimeout { LockStatus::AgeTimeout } else { reason };
        permit.unlock(reason);
    }

    fn custom_lock_status(&self, _reason: &'static str) -> LockStatus {
        // Our reasons for not storing hold for the followers too: each of them asks the origin itself.
        LockStatus::GiveUp
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
