//! Where responses are kept, and how they get in and out.
//!
//! [`Store`] is what Pingora's cache talks to. A lookup finds, in this order, a fill under way that can still be joined
//! and a complete entry; a miss begins a fill that others can join from its first byte.
//!
//! * [`entry`]: what is stored
//! * [`fill`]: a response on its way
//! * [`memory`]: the memory tier
//! * [`adapter`]: all of it as Pingora's `Storage`, `HandleHit` and `HandleMiss`

pub mod adapter;
pub mod entry;
pub mod fill;
pub mod memory;

use crate::key::PrimaryKey;
use crate::lock::Uncacheable;
use crate::telemetry::{IntCounter, metrics};
use entry::{Entry, EntryId, Facts};
use fill::{Fill, FillLimits};
use memory::MemoryTier;
use parking_lot::RwLock;
use pingora::cache::CacheKey;
use pingora::cache::key::CacheHashKey;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// All tiers, and the fills under way.
#[derive(Debug)]
pub struct Store {
    memory: MemoryTier,
    fills: RwLock<HashMap<EntryId, Vec<Arc<Fill>>>>,
    /// Fills under way, so that a lookup need not take the lock when there are none.
    filling: AtomicUsize,
    limits: FillLimits,
    /// A fill without progress for so long is not joined any more.
    stalled_after: Duration,
    /// Keys that are known not to be worth waiting for.
    uncacheable: &'static Uncacheable,
    counters: Counters,
}

/// Lookups in the memory tier, found without a look-up by name.
#[derive(Debug)]
struct Counters {
    hit: IntCounter,
    miss: IntCounter,
}

impl Store {
    /// An empty store.
    pub fn new(
        memory: MemoryTier,
        max_object: u64,
        stalled_after: Duration,
        uncacheable: &'static Uncacheable,
    ) -> Self {
        let limits =
            FillLimits { max_object, max_in_flight: memory.capacity(), in_flight: Arc::new(AtomicU64::new(0)) };
        let lookups = |result| metrics().tier_lookups.with_label_values(&["memory", result]);
        let counters = Counters { hit: lookups("hit"), miss: lookups("miss") };
        Store {
            memory,
            fills: RwLock::default(),
            filling: AtomicUsize::new(0),
            limits,
            stalled_after,
            uncacheable,
            counters,
        }
    }

    /// Largest body that is kept.
    pub fn max_object(&self) -> u64 {
        self.limits.max_object
    }

    /// The memory tier.
    pub fn memory(&self) -> &MemoryTier {
        &self.memory
    }

    /// Whether anything is stored, or on its way, under the key, whatever the variant.
    pub fn holds(&self, key: &CacheKey) -> bool {
        let id = EntryId { primary: u128::from_be_bytes(key.primary_bin()), variant: None };
        self.memory.get(&id, key.primary_key()).is_some() || self.joinable_fill(&id, key.primary_key()).is_some()
    }

    /// Requests that follow another's fill now.
    pub fn followers(&self) -> usize {
        self.fills.read().values().flatten().map(|fill| fill.followers()).sum()
    }

    /// Forgets what is stored under the key. Its variants are found through the first one, so they go with it.
    pub fn forget(&self, key: &PrimaryKey) {
        self.memory.remove(&EntryId { primary: key.hash(), variant: None });
    }

    /// Forgets the entry that was found, unless another one took its place.
    pub fn discard(&self, key: &CacheKey, facts: &Arc<Facts>) {
        let id = adapter::id_of(key);
        if self.memory.get(&id, key.primary_key()).is_some_and(|entry| Arc::ptr_eq(&entry.facts, facts)) {
            self.memory.remove(&id);
        }
    }

    fn joinable_fill(&self, id: &EntryId, key: &[u8]) -> Option<Arc<Fill>> {
        if self.filling.load(Ordering::Acquire) == 0 {
            return None;
        }
        let fills = self.fills.read();
        // The latest began with the latest answer of the origin.
        let latest = fills.get(id)?.iter().rev().find(|fill| *fill.key == *key);
        latest.filter(|fill| fill.is_joinable(self.stalled_after)).cloned()
    }

    fn begin(&self, id: EntryId, fill: Fill) -> Arc<Fill> {
        let fill = Arc::new(fill);
        self.fills.write().entry(id).or_default().push(fill.clone());
        self.filling.fetch_add(1, Ordering::Release);
        fill
    }

    fn end(&self, id: &EntryId, fill: &Arc<Fill>) {
        let mut fills = self.fills.write();
        if let Some(under_way) = fills.get_mut(id) {
            under_way.retain(|other| !Arc::ptr_eq(other, fill));
            if under_way.is_empty() {
                fills.remove(id);
            }
        }
        self.filling.fetch_sub(1, Ordering::Release);
    }

    fn keep(&self, id: EntryId, entry: Entry) {
        self.memory.insert(id, Arc::new(entry));
    }
}
