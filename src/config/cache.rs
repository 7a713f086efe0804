//! `cache`: the tiers, and one fill per key.

use super::shared::RedisTier;
use std::path::PathBuf;
use std::time::Duration;

/// `cache`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The memory tier. Default 512 MiB, objects up to 8 MiB. `None`: off.
    pub memory: Option<MemoryTier>,
    /// The disk tier. Default: off.
    pub disk: Option<DiskTier>,
    /// The tier that nodes share. Default: off.
    pub redis: Option<RedisTier>,
    /// One fill per key.
    pub lock: Lock,
    /// Most variants kept for one key. Default 64.
    pub max_variants: usize,
}

/// `cache.memory`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryTier {
    /// Bytes, bodies, heads and bookkeeping together.
    pub capacity: u64,
    /// Largest object kept.
    pub max_object: u64,
}

/// `cache.disk`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTier {
    /// The directory, which is ours alone.
    pub path: PathBuf,
    /// Bytes that its files may take, those being written included.
    pub capacity: u64,
    /// Largest object kept. Default 5 GiB, or `capacity` if that is less.
    pub max_object: u64,
    /// Hits on disk after which an object is copied to memory; 0 is never. Default 2.
    pub promote_after: u32,
    /// Hits per minute that it must have besides; 0 asks for none. Default 0.
    pub promote_rate: u32,
    /// When an object that is kept in memory is written as well. Default through.
    pub write: WriteMode,
    /// How long a lookup may take before the request goes on without it. Default 1 s.
    pub timeout: Duration,
    /// Bytes of the file system that are left to others. Default 256 MiB.
    pub min_free: u64,
    /// Most files kept open. Default 8192.
    pub max_open: usize,
}

/// `cache.disk.write`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteMode {
    /// As soon as it is complete.
    #[default]
    Through,
    /// When the memory tier lets it go.
    Behind,
}

/// `cache.lock`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// How long a request waits for another's fill before it fetches on its own. Default 10 s.
    pub wait: Duration,
    /// How long a fill may take to its first byte before another request may try. Default 30 s.
    pub age: Duration,
    /// Most requests that wait for one fill; more are answered 503. Default 10000.
    pub max_waiters: usize,
    /// Whether nodes fetch a key one at a time, through Redis. Default: where the Redis tier is on, since what it keeps for all of
    /// them need not be fetched twice.
    pub cluster: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Cache { memory: Some(MemoryTier::default()), disk: None, redis: None, lock: Lock::default(), max_variants: 64 }
    }
}

impl Default for MemoryTier {
    fn default() -> Self {
        MemoryTier { capacity: 512 << 20, max_object: 8 << 20 }
    }
}

impl Default for Lock {
    fn default() -> Self {
        Lock { wait: Duration::from_secs(10), age: Duration::from_secs(30), max_waiters: 10_000, cluster: false }
    }
}
