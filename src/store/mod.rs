//! Where responses are kept, and how they get in and out.
//!
//! [`Store`] is what Pingora's cache talks to. A lookup finds, in this order, a fill under way that can still be joined
//! and a complete entry, in memory, on disk or in Redis; a miss begins a fill that others can join from its first byte.
//!
//! * [`entry`]: what is stored, and [`encoding`]: its head as bytes
//! * [`fill`]: a response on its way
//! * [`partial`]: parts of a response, [`spans`]: which they are, [`combining`]: how they become the whole
//! * [`tier`]: what tiers have in common, [`memory`], [`disk`] and [`redis`]: the tiers, [`breaker`]: whether to ask one
//! * [`cluster`]: one fill per key in all nodes that share a Redis
//! * [`lookup`]: what a request finds
//! * [`tiered`]: the tiers together, [`promotion`]: from the lower ones to memory, [`turns`]: what overtakes what
//! * `purged`: what is compared with the log of purges, `sweep`: the room of what is dead
//! * [`direct`]: entries that come or change beside the framework's cache
//! * [`adapter`]: all of it as Pingora's `Storage`, `HandleHit` and `HandleMiss`

pub mod adapter;
pub mod breaker;
pub mod cluster;
pub mod combining;
pub mod direct;
pub mod disk;
pub mod encoding;
pub mod entry;
pub mod fill;
pub mod lookup;
pub mod memory;
pub mod partial;
pub mod promotion;
mod purged;
pub mod redis;
pub mod spans;
pub mod stored;
mod sweep;
pub mod tier;
pub mod tiered;
pub mod turns;

use self::redis::RedisTier;
use crate::clock;
use crate::config;
use crate::decide::Tiers;
use crate::key::PrimaryKey;
use crate::lock::{FillLock, Uncacheable};
use crate::policy::decision::{TierName, TierSet};
use crate::purge::{Position, Purges};
use crate::remote::Redis;
use crate::semantics::range::Spec;
use arc_swap::ArcSwap;
use cluster::Cluster;
use disk::DiskTier;
use entry::EntryId;
use fill::{Fill, FillLimits, STALLED};
use memory::{MemoryTier, Variants};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use turns::Turns;

/// How long a fill that is not kept waits for a follower that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Entries are combined under one of so many locks.
const COMBINING: usize = 64;

/// Bytes that fills may hold together where no memory tier says how much there is.
const IN_FLIGHT: u64 = 64 << 20;

/// Bytes of a fill that are held in memory before it is written to disk, if memory does not keep it. A smaller one is
/// written in one piece.
const HELD: u64 = 256 << 10;

/// All tiers, and the fills under way.
#[derive(Debug)]
pub struct Store {
    memory: MemoryTier,
    disk: Option<&'static DiskTier>,
    redis: Option<&'static RedisTier>,
    /// What is agreed on with the nodes that share it.
    cluster: Option<&'static Cluster>,
    variants: Variants,
    purges: Arc<Purges>,
    turns: Arc<Turns>,
    promoting: promotion::Promoting,
    /// What each tier takes.
    tiers: ArcSwap<Tiers>,
    fills: RwLock<HashMap<EntryId, Vec<Arc<Fill>>>>,
    /// Fills under way, so that a lookup need not take the lock when there are none.
    filling: AtomicUsize,
    /// Bytes that all fills together hold now.
    in_flight: Arc<AtomicU64>,
    /// Milliseconds; a fill without progress for so long is not joined any more.
    stalled_after: AtomicU64,
    /// Keys that are known not to be worth waiting for.
    uncacheable: &'static Uncacheable,
    /// Responses that are collected beside the fills.
    asides: direct::Asides,
    /// Held while what is stored is read, combined with a part, and stored again.
    combining: Box<[Mutex<()>]>,
    sweeping: sweep::Sweeping,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    /// An empty store. The disk tier, if there is one, is opened by whoever made it.
    pub fn new(
        cache: &config::Cache,
        disk: Option<&'static DiskTier>,
        redis: Option<&'static Redis>,
        uncacheable: &'static Uncacheable,
    ) -> Self {
        let tiers = Tiers::of(cache);
        let turns = Arc::<Turns>::default();
        let let_go = tiered::let_go(disk, turns.clone());
        let purges = disk.map_or_else(|| Arc::new(Purges::new(clock::now(), false)), |disk| disk.purges().clone());
        let redis = redis.zip(cache.redis.as_ref());
        Store {
            memory: MemoryTier::new(cache.memory.map_or(0, |memory| memory.capacity), let_go),
            disk,
            turns,
            promoting: promotion::Promoting::default(),
            variants: Variants::new(cache.max_variants),
            cluster: None,
            redis: redis.map(|(redis, settings)| RedisTier::new(redis, settings, purges.clone())),
            purges,
            tiers: ArcSwap::from_pointee(tiers),
            fills: RwLock::default(),
            filling: AtomicUsize::new(0),
            in_flight: Arc::default(),
            stalled_after: AtomicU64::new(millis(cache.lock.wait)),
            uncacheable,
            asides: direct::Asides::default(),
            sweeping: sweep::Sweeping::default(),
            combining: (0..COMBINING).map(|_| Mutex::default()).collect(),
        }
    }

    /// The same, which fills what others lock through `lock` in turns with the nodes that share its Redis.
    #[must_use]
    pub fn with_lock(self, lock: &'static FillLock, settings: &config::Lock) -> Self {
        let cluster = self.redis.map(|redis| Cluster::new(redis, lock, self.purges.clone(), settings));
        Store { cluster, ..self }
    }

    /// Changes what can change while it runs, for what comes from now on.
    pub fn set_limits(&self, cache: &config::Cache) {
        self.tiers.store(Arc::new(Tiers::of(cache).in_place_of(&self.tiers.load())));
        self.stalled_after.store(millis(cache.lock.wait), Ordering::Relaxed);
        self.variants.set_most(cache.max_variants);
        if let Some((tier, settings)) = self.disk.zip(cache.disk.as_ref()) {
            tier.set_limits(settings);
        }
        if let Some(cluster) = self.cluster {
            cluster.set_limits(&cache.lock);
        }
        if let Some((tier, settings)) = self.redis.zip(cache.redis.as_ref()) {
            tier.set_limits(settings);
        }
    }

    /// Whether anything can be kept.
    pub fn is_on(&self) -> bool {
        !self.tiers.load().on(TierSet::ALL).is_empty()
    }

    /// The memory tier.
    pub fn memory(&self) -> &MemoryTier {
        &self.memory
    }

    /// The disk tier, if there is one.
    pub fn disk(&self) -> Option<&'static DiskTier> {
        self.disk
    }

    /// The Redis tier, if there is one.
    pub fn redis(&self) -> Option<&'static RedisTier> {
        self.redis
    }

    /// What is agreed on with other nodes, if there is a Redis to do that.
    pub fn cluster(&self) -> Option<&'static Cluster> {
        self.cluster
    }

    /// What a fill may take that is to be kept in these tiers.
    fn limits(&self, tiers: TierSet) -> FillLimits {
        let rules = self.tiers.load();
        // What goes to Redis goes from memory.
        let redis = if tiers.contains(TierName::Redis) { TierSet::NONE.with(TierName::Redis) } else { TierSet::NONE };
        let in_memory = redis.with(TierName::Memory);
        FillLimits {
            max_object: rules.max_object(tiers),
            hold: rules.max_object(in_memory).max(HELD),
            max_in_flight: self.most_in_flight(rules.max_object(redis)),
            in_flight: self.in_flight.clone(),
            patience: PATIENCE,
            disk_patience: STALLED,
            spool: None,
        }
    }

    /// Bytes that all fills may hold together, where a body of so many bytes goes to Redis from memory.
    fn most_in_flight(&self, for_redis: u64) -> u64 {
        match self.memory.capacity() {
            0 => IN_FLIGHT.max(for_redis),
            capacity if for_redis > 0 => capacity.max(IN_FLIGHT).max(for_redis),
            capacity => capacity,
        }
    }

    /// Requests that follow another's fill now.
    pub fn followers(&self) -> usize {
        self.fills.read().values().flatten().map(|fill| fill.followers()).sum()
    }

    /// Whether something is on its way.
    pub fn is_filling(&self) -> bool {
        self.filling.load(Ordering::Acquire) > 0
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
        self.remove(&EntryId { primary: key.hash(), variant: None });
    }

    /// The latest fill of the whole, or of exactly this part, for a request that came when so much was purged.
    fn joinable_fill(&self, id: &EntryId, key: &[u8], part: Option<Spec>, came: Option<Position>) -> Option<Arc<Fill>> {
        if self.filling.load(Ordering::Acquire) == 0 {
            return None;
        }
        let fills = self.fills.read();
        // The latest began with the latest answer of the origin.
        let latest = fills.get(id)?.iter().rev().find(|fill| *fill.key == *key && fill.head.answers(part));
        let stalled_after = Duration::from_millis(self.stalled_after.load(Ordering::Relaxed));
        latest.filter(|fill| fill.is_joinable(stalled_after) && self.may_follow(fill, came)).cloned()
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

    fn combining(&self, id: &EntryId) -> &Mutex<()> {
        let shard = (id.primary ^ id.variant.unwrap_or(0)) as usize % COMBINING;
        #[expect(clippy::indexing_slicing, reason = "there are so many")]
        &self.combining[shard]
    }
}
