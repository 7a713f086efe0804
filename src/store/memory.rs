//! The memory tier: moka, weighed by the bytes that entries really take.

use super::entry::{Entry, EntryId};
use crate::policy::decision::TierName;
use crate::telemetry::TierMetrics;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Entries in this process.
#[derive(Debug)]
pub struct MemoryTier {
    entries: Cache<EntryId, Arc<Entry>, BuildHasherDefault<AlreadyHashed>>,
    metrics: TierMetrics,
    capacity: u64,
}

/// Ids are hashes already; hashing them again would only cost time.
#[derive(Debug, Default)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        // Both halves, and in an order that counts: a variant's hash follows its key's.
        self.0 = self.0.rotate_left(31) ^ (hash as u64) ^ ((hash >> 64) as u64).rotate_left(17);
    }

    fn write_u64(&mut self, discriminant: u64) {
        self.0 = self.0.rotate_left(7) ^ discriminant;
    }

    fn write_isize(&mut self, discriminant: isize) {
        self.write_u64(discriminant as u64);
    }
}

/// Keys whose variants are counted at once; the least recently used is forgotten, which costs the bound, not the entries.
const COUNTED_KEYS: u64 = 100_000;

/// Which variants a key has, oldest first, so that their number stays bounded in every tier.
#[derive(Debug)]
pub struct Variants {
    counted: Cache<u128, Arc<Mutex<Vec<u128>>>, BuildHasherDefault<AlreadyHashed>>,
    most: AtomicUsize,
}

impl Variants {
    /// At most so many of a key.
    pub fn new(most: usize) -> Self {
        let counted = Cache::builder().max_capacity(COUNTED_KEYS).build_with_hasher(BuildHasherDefault::default());
        Variants { counted, most: AtomicUsize::new(most) }
    }

    /// Changes how many variants a key may have, for those stored from now on.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Counts an entry that is to be stored, and hands those to `give_up` whose place it takes: a key that has as many
    /// variants as it may loses its oldest one. `false`: it is not to be stored, as there may be no variants.
    pub fn admit(&self, id: &EntryId, mut give_up: impl FnMut(EntryId)) -> bool {
        let Some(variant) = id.variant else { return true };
        let most = self.most.load(Ordering::Relaxed);
        let counted = self.counted.get_with(id.primary, Arc::default);
        let mut counted = counted.lock();
        if counted.contains(&variant) {
            return true;
        }
        // One more variant lives in the slot that lookups start from.
        while counted.len() + 1 >= most.max(1) && !counted.is_empty() {
            let oldest = counted.remove(0);
            give_up(EntryId { primary: id.primary, variant: Some(oldest) });
        }
        if most <= 1 {
            return false;
        }
        counted.push(variant);
        true
    }
}

/// Told of an entry for which there is no more room.
pub type LetGo = Box<dyn Fn(&EntryId, &Arc<Entry>) + Send + Sync>;

impl MemoryTier {
    /// An empty tier of `capacity` bytes. `let_go` is told of each entry that has to make room for others.
    pub fn new(capacity: u64, let_go: LetGo) -> Self {
        let metrics = TierMetrics::of(TierName::Memory);
        metrics.capacity.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        metrics.up.set(1);
        let (full, expired) = (metrics.eviction("size"), metrics.eviction("expired"));
        let entries = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_: &EntryId, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX))
            .eviction_listener(move |id, entry, cause| match cause {
                RemovalCause::Size => {
                    full.inc();
                    let_go(&id, &entry);
                }
                RemovalCause::Expired => expired.inc(),
                RemovalCause::Explicit | RemovalCause::Replaced => {}
            })
            .build_with_hasher(BuildHasherDefault::default());
        MemoryTier { entries, metrics, capacity }
    }

    /// Its statistics.
    pub fn metrics(&self) -> &TierMetrics {
        &self.metrics
    }

    /// The entry of that id, if its full key is this one.
    pub fn get(&self, id: &EntryId, key: &[u8]) -> Option<Arc<Entry>> {
        self.entries.get(id).filter(|entry| *entry.key == *key)
    }

    /// Keeps an entry.
    pub fn insert(&self, id: EntryId, entry: Arc<Entry>) {
        self.entries.insert(id, entry);
    }

    /// Forgets an entry; says whether there was one.
    pub fn remove(&self, id: &EntryId) -> bool {
        self.entries.remove(id).is_some()
    }

    /// Everything that is there, for who goes through it: it counts as no hit. What comes or goes meanwhile may be told or not.
    pub fn iter(&self) -> impl Iterator<Item = (EntryId, Arc<Entry>)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Forgets everything that is there now.
    pub fn clear(&self) {
        self.entries.invalidate_all();
    }

    /// Bytes that it may take.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Entries and bytes that it holds.
    pub fn usage(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size())
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
