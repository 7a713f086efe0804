//! What lets one node of many fill a key, on its way from the lookup that got it to the fill that needs it.
//!
//! Redis is asked in a lookup, for all who look up then. What it grants is parked in the table of locks, and goes to whoever
//! of them gets the local lock. From there it belongs to that request's cache key, in a [`Ticket`], where the writer of the fill finds
//! it; if the request ends without one, it ends with the request.

use super::{FillLock, LockStatus, WholeId};
use parking_lot::Mutex;
use pingora::cache::CacheKey;
use pingora::cache::lock::{CacheKeyLock, LockStub, Locked, WritePermit};
use std::any::Any;
use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Longer than another node is waited for: whoever stands in for it knows better when that ends.
const AS_LONG_AS_IT_TAKES: Duration = Duration::from_secs(24 * 60 * 60);

/// Leave to fill a key that no other node has. It ends when it is dropped.
pub trait Grant: Any + Debug + Send + Sync {
    /// The lock was released without a fill, for this reason.
    fn released(&self, reason: LockStatus);

    /// Whether it still keeps others from filling the key.
    fn is_good(&self) -> bool;
}

/// In the cache key of a request that may fill for all nodes: what it was granted.
#[derive(Debug, Clone)]
pub struct Ticket(Arc<Holder>);

#[derive(Debug)]
pub(super) struct Holder {
    /// It fetches behind a client, under the lock of that client's request.
    is_background: bool,
    grant: Mutex<Option<Arc<dyn Grant>>>,
}

impl Holder {
    fn take(&self) -> Option<Arc<dyn Grant>> {
        self.grant.lock().take()
    }
}

/// In what permit and waiters share, which may stay in the table longer than the request that it is about.
#[derive(Debug, Clone)]
struct HeldBy(Weak<Holder>);

/// In what permit and waiters share: nobody else of all nodes fills this, as long as the grant is good; or another node does. With
/// that in its key, the lock is that of a [`StandIn`].
#[derive(Debug, Clone)]
pub(super) enum ForAll {
    Granted(Weak<dyn Grant>),
    Elsewhere,
}

impl ForAll {
    fn is_so(&self) -> bool {
        match self {
            ForAll::Granted(grant) => grant.upgrade().is_some_and(|grant| grant.is_good()),
            ForAll::Elsewhere => true,
        }
    }
}

/// Who fills a key here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fills {
    /// Nobody.
    Nobody,
    /// A request that did not ask whether others do.
    Alone,
    /// A request that fills it for all nodes, or another node.
    ForAll,
}

impl Ticket {
    /// Nothing is granted yet. `is_background`: it fetches behind a client.
    pub fn new(is_background: bool) -> Self {
        Ticket(Arc::new(Holder { is_background, grant: Mutex::new(None) }))
    }

    /// The one in a cache key, if it has any.
    pub fn of(key: &CacheKey) -> Option<&Self> {
        key.extensions.get::<Ticket>()
    }

    /// Whether to ask for a grant. A background fetch has that of its client's request.
    pub fn wants_grant(&self) -> bool {
        !self.0.is_background
    }

    /// Hands over what was granted.
    pub fn take(&self) -> Option<Arc<dyn Grant>> {
        self.0.take()
    }

    /// Lets what a permit of this request knows lead here.
    pub(super) fn mark(&self, extensions: &mut http::Extensions) {
        extensions.insert(HeldBy(Arc::downgrade(&self.0)));
        if let Some(grant) = self.0.grant.lock().as_ref() {
            extensions.insert(ForAll::Granted(Arc::downgrade(grant)));
        }
    }

    pub(super) fn give(&self, grant: Option<Arc<dyn Grant>>) {
        if grant.is_some() {
            *self.0.grant.lock() = grant;
        }
    }

    /// Takes over what the client's request was granted whose lock a background fetch goes on with.
    pub(super) fn follow(&self, stub: &LockStub) {
        if self.0.is_background {
            self.give(granted(stub.extensions()));
        }
    }
}

/// Takes what the holder of a lock was granted.
pub(super) fn granted(extensions: &http::Extensions) -> Option<Arc<dyn Grant>> {
    extensions.get::<HeldBy>()?.0.upgrade()?.take()
}

/// Holds the lock of a key in the place of another node that fills it. What comes of it is told to all who wait here.
#[derive(Debug)]
pub struct StandIn {
    lock: &'static FillLock,
    key: CacheKey,
    permit: Option<WritePermit>,
}

impl StandIn {
    /// Lets those go who wait.
    pub fn end(mut self, reason: LockStatus) {
        self.release(reason);
    }

    fn release(&mut self, reason: LockStatus) {
        if let Some(permit) = self.permit.take() {
            self.lock.release(&self.key, permit, reason);
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // Those who wait look again.
        self.release(LockStatus::Done);
    }
}

impl FillLock {
    /// Leaves what was granted to whoever locks next.
    pub fn park(&self, id: WholeId, grant: Arc<dyn Grant>) {
        let before = self.shard(id).and_then(|shard| shard.lock().granted.insert(id, grant));
        drop(before);
    }

    /// Takes it back, if nobody took it.
    pub fn unpark(&self, id: WholeId, grant: &Weak<dyn Grant>) -> Option<Arc<dyn Grant>> {
        let granted = &mut self.shard(id)?.lock().granted;
        let is_it = granted.get(&id).is_some_and(|parked| std::ptr::addr_eq(Arc::as_ptr(parked), grant.as_ptr()));
        if is_it { granted.remove(&id) } else { None }
    }

    /// Who fills the whole here, or is about to.
    pub fn who_fills(&self, id: WholeId) -> Fills {
        let Some(shard) = self.shard(id) else { return Fills::Nobody };
        let shard = shard.lock();
        if shard.granted.contains_key(&id) {
            return Fills::ForAll;
        }
        match shard.locks.get(&(id, None)).filter(|stub| !super::is_given_up(stub)) {
            None => Fills::Nobody,
            Some(stub) if stub.extensions().get::<ForAll>().is_some_and(ForAll::is_so) => Fills::ForAll,
            Some(_) => Fills::Alone,
        }
    }

    /// Locks a key in the place of another node. `None`: somebody here fills it.
    pub fn stand_in(&'static self, id: WholeId) -> Option<StandIn> {
        let mut key = CacheKey::new("", "");
        key.set_primary_bin_override(id.0.to_be_bytes());
        if let Some(variant) = id.1 {
            key.set_variance_key(variant.to_be_bytes());
        }
        // It does not wait, so it is never one too many.
        key.extensions.insert(ForAll::Elsewhere);
        match self.lock_for(&key, (id, None), false, true, AS_LONG_AS_IT_TAKES) {
            Locked::Write(permit) => Some(StandIn { lock: self, key, permit: Some(permit) }),
            Locked::Read(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
