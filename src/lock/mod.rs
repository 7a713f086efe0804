//! One fill per key.
//!
//! [`FillLock`] lets the first request for a key through to the origin and makes the others wait until its response
//! begins; from then on they follow the fill itself ([`crate::store::fill`]). Waiting ends with a deadline for each
//! waiter, a lock that grows too old can be taken over, and the number of waiters is bounded. [`Uncacheable`] remembers
//! keys for which waiting is in vain, and [`Failure`]s are counted for those who wait for an origin that fails. Where nodes
//! share a Redis, [`Ticket`]s carry what lets one of them fill a key, and a [`StandIn`] is waited for in another's place.

mod failing;
mod lease;
mod uncacheable;

pub use failing::{Failure, MOST_LEADERS};
use lease::ForAll;
pub use lease::{Fills, Grant, StandIn, Ticket};
pub use uncacheable::{AUTHORIZED, Uncacheable};

use crate::semantics::range::Spec;
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

/// Hash of the key and of the variant.
pub type WholeId = (u128, Option<u128>);

/// The id of what is being filled: the whole, or a part of it.
type LockId = (WholeId, Option<Spec>);

/// Pingora's lock interface with a bound on waiters.
#[derive(Debug)]
pub struct FillLock {
    shards: Vec<Mutex<Shard>>,
    /// Milliseconds.
    age: AtomicU64,
    max_waiters: AtomicUsize,
    /// Locks in all tables.
    held: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    locks: HashMap<LockId, LockStub>,
    failing: Failing,
    /// What was granted to this node and nobody has taken yet.
    granted: HashMap<WholeId, Arc<dyn Grant>>,
}

thread_local! {
    /// Set when the request that this thread is working on was turned away. Pingora's `lock` can answer only "write" or
    /// "read"; a turned-away request is given a permit of its own, and this tells the next hook of the same request,
    /// which Pingora calls before the task can yield, not to use it.
    static TURNED_AWAY: Cell<Option<WholeId>> = const { Cell::new(None) };
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
        let (age_now, most, held) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let lock = FillLock { shards, age: age_now, max_waiters: most, held };
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
        TURNED_AWAY.take() == Some(whole_id(key))
    }

    /// Says whether the request that this thread is about to lock for can do with the stale entry that it found.
    pub fn will_be_served_stale(yes: bool) {
        SERVED_STALE.set(yes);
    }

    /// Whether there is anything to wait for.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    /// Requests that wait now.
    pub fn waiters(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().locks.values().map(waiters_of).sum::<usize>()).sum()
    }

    /// The request that holds the lock for the key is about to fail, because the origin did.
    pub fn note_failure(&self, key: &CacheKey, failure: Failure) {
        let id = whole_id(key);
        if let Some(shard) = self.shard(id) {
            shard.lock().failing.note(id, failure);
        }
    }

    /// How many requests that held the lock for the key failed in a row, and how the last one did, if that was after
    /// `since`.
    pub fn failures_since(&self, key: &CacheKey, since: Instant) -> Option<(u32, Failure)> {
        let id = whole_id(key);
        self.shard(id)?.lock().failing.since(&id, since)
    }

    fn shard(&self, (primary, variant): WholeId) -> Option<&Mutex<Shard>> {
        self.shards.get((primary as usize ^ variant.unwrap_or(0) as usize) % SHARDS)
    }

    /// As [`FillLock::note_failure`], of another node.
    pub fn note_failure_elsewhere(&self, id: WholeId, failure: Failure) {
        if let Some(shard) = self.shard(id) {
            shard.lock().failing.note(id, failure);
        }
    }

    fn lock_for(&self, key: &CacheKey, id: LockId, stale_writer: bool, never_waits: bool, age: Duration) -> Locked {
        let ticket = Ticket::of(key);
        let Some(shard) = self.shard(id.0) else { return Locked::Write(permit(id, stale_writer, age, ticket, None).0) };
        let Shard { locks, granted, .. } = &mut *shard.lock();
        let mut inherited = None;
        if let Some(stub) = locks.get(&id) {
            if !is_given_up(stub) {
                if never_waits || waiters_of(stub) < self.max_waiters.load(Ordering::Relaxed) {
                    if let Some(ticket) = ticket {
                        ticket.follow(stub);
                    }
                    return Locked::Read(stub.read_lock());
                }
                TURNED_AWAY.set(Some(id.0));
                return Locked::Write(permit(id, stale_writer, age, None, None).0);
            }
            inherited = ticket.and_then(|_| lease::granted(stub.extensions()));
        }
        if let Some(ticket) = ticket {
            // A part is not shared with other nodes.
            let parked = if id.1.is_none() { granted.remove(&id.0) } else { None };
            ticket.give(parked.or(inherited));
        }
        let (permit, stub) = permit(id, stale_writer, age, ticket, key.extensions.get::<ForAll>());
        if locks.insert(id, stub).is_none() {
            self.held.fetch_add(1, Ordering::Relaxed);
        }
        Locked::Write(permit)
    }
}

fn permit(
    id: LockId,
    stale_writer: bool,
    age: Duration,
    ticket: Option<&Ticket>,
    for_all: Option<&ForAll>,
) -> (WritePermit, LockStub) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut extensions = Extensions::new();
    extensions.insert(PermitId(NEXT.fetch_add(1, Ordering::Relaxed), id));
    if let Some(ticket) = ticket {
        ticket.mark(&mut extensions);
    }
    if let Some(for_all) = for_all {
        extensions.insert(for_all.clone());
    }
    WritePermit::new(age, stale_writer, extensions)
}

/// Whether the next who asks may take it over.
fn is_given_up(stub: &LockStub) -> bool {
    matches!(stub.0.lock_status(), LockStatus::Dangling | LockStatus::AgeTimeout)
        || stub.0.lock_start.elapsed() >= stub.0.age_timeout
}

fn whole_id(key: &CacheKey) -> WholeId {
    (u128::from_be_bytes(key.primary_bin()), key.variance_bin().map(u128::from_be_bytes))
}

/// What a request is about to fill. An entry that is asked about again is fetched whole, whatever part of it is wanted.
fn id_of(key: &CacheKey, stale_writer: bool) -> LockId {
    (whole_id(key), key.extensions.get::<Spec>().copied().filter(|_| !stale_writer))
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
        self.lock_for(key, id, stale_writer, never_waits, self.age())
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        // What was granted goes on with the fill, if there is one.
        if matches!(reason, LockStatus::TransientError | LockStatus::GiveUp | LockStatus::Dangling) {
            let grant = Ticket::of(key).and_then(Ticket::take).or_else(|| lease::granted(permit.extensions()));
            if let Some(grant) = grant {
                grant.released(reason);
            }
        }
        // The permit knows what it is for: a key does not say whether it was about a part.
        if let Some(&PermitId(number, id)) = permit.extensions().get::<PermitId>()
            && let Some(shard) = self.shard(id.0)
        {
            let Shard { locks, failing, .. } = &mut *shard.lock();
            let mine = Some(&PermitId(number, id));
            if let Some(stub) = locks.get(&id).filter(|stub| stub.extensions().get::<PermitId>() == mine) {
                // Known before they are woken.
                failing.released(id.0, reason, waiters_of(stub));
                locks.remove(&id);
                self.held.fetch_sub(1, Ordering::Relaxed);
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
