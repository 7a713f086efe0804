//! A lease that this node has: renewed while its fill gets on, and given back when that ends, however it does.

use super::Cluster;
use super::tables::Knows;
use crate::lock::{Grant, Ticket};
use crate::store::entry::{Entry, EntryId};
use crate::store::fill::Fill;
use crate::store::redis::{LEASE, Lease, Outcome, PutAs};
use crate::telemetry::metrics;
use parking_lot::Mutex;
use pingora::cache::CacheKey;
use pingora::cache::lock::LockStatus;
use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often a lease is renewed: one of these may be lost.
const RENEW_EVERY: Duration = Duration::from_millis(LEASE.as_millis() as u64 / 3);

/// How long an answer to that is waited for: the next try is not to come later for it.
const RENEWED_WITHIN: Duration = Duration::from_millis(RENEW_EVERY.as_millis() as u64 * 4 / 5);

/// A lease, from when Redis grants it to when it is given back.
#[derive(Debug)]
pub struct Leased {
    cluster: &'static Cluster,
    id: EntryId,
    /// `None` once it was given back, or goes with an entry.
    lease: Mutex<Option<Lease>>,
    /// What is left of it then.
    lapsed: PutAs,
    course: Mutex<Course>,
    /// What it takes the place of.
    knows: Mutex<Option<Knows>>,
    /// Another node may have one by now. Redis knows whether what this one brings is still the latest.
    is_lost: AtomicBool,
}

/// How far the fill has come for which it was taken.
#[derive(Debug)]
enum Course {
    /// The origin has not answered since then.
    Asked(Instant),
    /// The body comes in.
    Filling(Weak<Fill>),
    /// All of it is here, and goes to Redis.
    Storing,
}

impl Leased {
    pub(super) fn new(cluster: &'static Cluster, lease: Lease, knows: Option<Knows>) -> Arc<Self> {
        let leased = Arc::new(Leased {
            cluster,
            id: *lease.id(),
            lapsed: lease.lapsed(),
            lease: Mutex::new(Some(lease)),
            course: Mutex::new(Course::Asked(Instant::now())),
            knows: Mutex::new(knows),
            is_lost: AtomicBool::new(false),
        });
        cluster.leased.add(*leased.id(), &leased);
        cluster.redis.spawn(renew(Arc::downgrade(&leased)));
        leased
    }

    /// The one that was granted to the request with this key, if that is about what is stored under this id. A response may turn
    /// out to belong under another one.
    pub fn of(key: &CacheKey, id: &EntryId) -> Option<Arc<Self>> {
        let granted: Arc<dyn Any + Send + Sync> = Ticket::of(key)?.take()?;
        granted.downcast::<Leased>().ok().filter(|leased| leased.id == *id)
    }

    /// What it is about.
    pub(super) fn id(&self) -> &EntryId {
        &self.id
    }

    /// The entry of Redis under this key that it takes the place of, as long as nobody else has changed that.
    pub fn known(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.knows.lock().as_ref().map(Knows::entry).filter(|entry| *entry.key == *key).cloned()
    }

    /// The origin has answered, and this brings what it sends.
    pub fn fills(&self, fill: &Arc<Fill>) {
        *self.course.lock() = Course::Filling(Arc::downgrade(fill));
    }

    /// Gives it back, and tells the nodes that wait why. Does nothing the second time.
    pub fn end(&self, outcome: Outcome) {
        let Some(lease) = self.lease.lock().take() else { return };
        if outcome == Outcome::Unshared {
            self.cluster.unshared.add(self.id);
        }
        let ending = self.cluster.ending.begin(self.id);
        let tier = self.cluster.tier;
        self.cluster.redis.spawn(async move {
            tier.release(lease, outcome).await;
            drop(ending);
        });
    }

    /// Hands it to whoever puts an entry into Redis with it. It is renewed until the last reference to this is dropped. One that
    /// was given back still tells when the origin was asked.
    pub fn to_store(&self) -> PutAs {
        *self.course.lock() = Course::Storing;
        // From now on what is stored is found.
        self.knows.lock().take();
        self.lease.lock().clone().map_or_else(|| self.lapsed.clone(), PutAs::Lease)
    }

    /// An entry was put into Redis with it: that gave it back.
    pub fn was_used(&self) {
        self.lease.lock().take();
    }

    /// Whether there is still something to wait for.
    fn gets_on(&self) -> bool {
        match &*self.course.lock() {
            Course::Asked(since) => since.elapsed() < self.cluster.lock_age(),
            Course::Filling(fill) => fill.upgrade().is_some_and(|fill| self.cluster.gets_on(&fill)),
            Course::Storing => true,
        }
    }
}

impl Grant for Leased {
    fn released(&self, reason: LockStatus) {
        match reason {
            LockStatus::GiveUp => self.end(Outcome::Uncacheable),
            LockStatus::TransientError => self.end(Outcome::Failed),
            _ => self.end(Outcome::Dropped),
        }
    }

    fn is_good(&self) -> bool {
        let is_storing = matches!(&*self.course.lock(), Course::Storing);
        !is_storing && self.lease.lock().is_some() && !self.is_lost.load(Ordering::Relaxed)
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.end(Outcome::Dropped);
        self.cluster.leased.tidy(&self.id);
    }
}

/// Renews a lease for as long as somebody has it and the fill gets on.
async fn renew(leased: Weak<Leased>) {
    let mut due = tokio::time::interval_at(tokio::time::Instant::now() + RENEW_EVERY, RENEW_EVERY);
    loop {
        due.tick().await;
        let Some(held) = leased.upgrade() else { return };
        if !held.gets_on() {
            // Those who wait are not to wait for what may never come.
            return held.end(Outcome::Dropped);
        }
        let Some(lease) = held.lease.lock().clone() else { return };
        let tier = held.cluster.tier;
        // Not held meanwhile: whoever drops it gives it back.
        drop(held);
        if let Ok(Ok(false)) = tokio::time::timeout(RENEWED_WITHIN, tier.renew(&lease)).await {
            let Some(held) = leased.upgrade() else { return };
            // Somebody else knows better what is there now.
            held.is_lost.store(true, Ordering::Relaxed);
            drop(held.knows.lock().take());
            // It may have been given back in this very moment, or with an entry.
            if held.lease.lock().is_some() && !matches!(&*held.course.lock(), Course::Storing) {
                metrics().leases.with_label_values(&["lost"]).inc();
                if let Some(unlogged) = held.cluster.complaints.is_due() {
                    tracing::warn!(
                        unlogged,
                        "the lease of a fill was lost: this node or Redis was stopped for too long, or what it fetches was changed"
                    );
                }
            }
            return;
        }
    }
}
