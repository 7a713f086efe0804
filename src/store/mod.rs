//! Where responses are kept, and how they get in and out.
//!
//! [`Store`] is what Pingora's cache talks to. A lookup finds, in this order, a fill under way that can still be joined
//! and a complete entry; a miss begins a fill that others can join from its first byte.
//!
//! * [`entry`]: what is stored
//! * [`fill`]: a response on its way
//! * [`partial`]: parts of a response, and how they become the whole
//! * [`memory`]: the memory tier
//! * [`direct`]: entries that come or change beside the framework's cache
//! * [`adapter`]: all of it as Pingora's `Storage`, `HandleHit` and `HandleMiss`

pub mod adapter;
pub mod direct;
pub mod entry;
pub mod fill;
pub mod memory;
pub mod partial;

use crate::key::PrimaryKey;
use crate::lock::Uncacheable;
use crate::semantics::range::Spec;
use crate::telemetry::{IntCounter, metrics};
use arc_swap::ArcSwap;
use entry::{Entry, EntryId};
use fill::{Fill, FillLimits};
use memory::MemoryTier;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a fill that is not kept waits for a follower that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Entries are combined under one of so many locks.
const COMBINING: usize = 64;

/// All tiers, and the fills under way.
#[derive(Debug)]
pub struct Store {
    memory: MemoryTier,
    fills: RwLock<HashMap<EntryId, Vec<Arc<Fill>>>>,
    /// Fills under way, so that a lookup need not take the lock when there are none.
    filling: AtomicUsize,
    limits: ArcSwap<FillLimits>,
    /// Milliseconds; a fill without progress for so long is not joined any more.
    stalled_after: AtomicU64,
    /// Keys that are known not to be worth waiting for.
    uncacheable: &'static Uncacheable,
    /// Responses that are collected beside the fills.
    asides: direct::Asides,
    counters: Counters,
    /// Held while what is stored is read, combined with a part, and stored again.
    combining: Box<[Mutex<()>]>,
}

/// Lookups in the memory tier, found without a look-up by name.
#[derive(Debug)]
struct Counters {
    hit: IntCounter,
    miss: IntCounter,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    /// An empty store.
    pub fn new(
        memory: MemoryTier,
        max_object: u64,
        stalled_after: Duration,
        uncacheable: &'static Uncacheable,
    ) -> Self {
        let limits = FillLimits {
            max_object,
            max_in_flight: memory.capacity(),
            in_flight: Arc::new(AtomicU64::new(0)),
            patience: PATIENCE,
        };
        let lookups = |result| metrics().tier_lookups.with_label_values(&["memory", result]);
        let counters = Counters { hit: lookups("hit"), miss: lookups("miss") };
        Store {
            memory,
            fills: RwLock::default(),
            filling: AtomicUsize::new(0),
            limits: ArcSwap::from_pointee(limits),
            stalled_after: AtomicU64::new(millis(stalled_after)),
            uncacheable,
            asides: direct::Asides::default(),
            counters,
            combining: (0..COMBINING).map(|_| Mutex::default()).collect(),
        }
    }

    /// Largest body that is kept.
    pub fn max_object(&self) -> u64 {
        self.limits.load().max_object
    }

    /// Changes the limits, for fills that begin from now on.
    pub fn set_limits(&self, max_object: u64, stalled_after: Duration) {
        let limits = FillLimits { max_object, ..(**self.limits.load()).clone() };
        self.limits.store(Arc::new(limits));
        self.stalled_after.store(millis(stalled_after), Ordering::Relaxed);
    }

    /// The memory tier.
    pub fn memory(&self) -> &MemoryTier {
        &self.memory
    }

    /// Requests that follow another's fill now.
    pub fn followers(&self) -> usize {
        self.fills.read().values().flatten().map(|fill| fill.followers()).sum()
    }

    /// Forgets what is stored under the key, and what is on its way. Variants are found through the first one, so they go
    /// with it.
    pub fn forget(&self, key: &PrimaryKey) {
        if self.filling.load(Ordering::Acquire) > 0 {
            let fills = self.fills.read();
            let meant = fills.iter().filter(|(id, _)| id.primary == key.hash()).flat_map(|(_, fills)| fills);
            meant.filter(|fill| *fill.key == *key.as_bytes()).for_each(|fill| fill.outdate());
        }
        self.asides.outdate(key);
        self.memory.remove(&EntryId { primary: key.hash(), variant: None });
    }

    /// The latest fill of the whole, or of exactly this part.
    fn joinable_fill(&self, id: &EntryId, key: &[u8], part: Option<Spec>) -> Option<Arc<Fill>> {
        if self.filling.load(Ordering::Acquire) == 0 {
            return None;
        }
        let fills = self.fills.read();
        // The latest began with the latest answer of the origin.
        let latest = fills.get(id)?.iter().rev().find(|fill| *fill.key == *key && fill.head.answers(part));
        let stalled_after = Duration::from_millis(self.stalled_after.load(Ordering::Relaxed));
        latest.filter(|fill| fill.is_joinable(stalled_after)).cloned()
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
        let _alone = self.combining(&id).lock();
        self.memory.insert(id, Arc::new(entry));
    }

    fn combining(&self, id: &EntryId) -> &Mutex<()> {
        let shard = (id.primary ^ id.variant.unwrap_or(0)) as usize % COMBINING;
        #[expect(clippy::indexing_slicing, reason = "there are so many")]
        &self.combining[shard]
    }
}
