//! What Redis says about itself, asked for behind.

use super::RedisTier;
use crate::remote::{Command, Patience};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked at what is left to do.
const TICK: Duration = Duration::from_secs(1);

/// How many of those until Redis is asked how full it is.
const ASKED_EVERY: u32 = 10;

/// How full Redis is. It does not tell us from others that use it.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Keys of the database.
    pub(super) items: AtomicU64,
    /// Bytes of memory that the server uses.
    pub(super) bytes: AtomicU64,
    /// Bytes that it may use; 0 is no limit, or none that is known.
    pub(super) capacity: AtomicU64,
    /// Keys that it let go for want of room, since it was started.
    evicted: AtomicU64,
}

impl RedisTier {
    /// Runs for as long as the process.
    pub(super) async fn watch(&'static self) {
        let mut ticks = 0_u32;
        loop {
            if self.redis.is_up() {
                self.forget_what_is_owed();
                self.ask_what_time_it_is().await;
                if ticks.is_multiple_of(ASKED_EVERY) {
                    self.ask_how_full().await;
                }
                ticks = ticks.wrapping_add(1);
            } else {
                ticks = 0;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// So that a moment is known for what is fetched without a lookup.
    async fn ask_what_time_it_is(&self) {
        // Each server of a cluster has a clock of its own.
        if self.is_cluster {
            return;
        }
        let Ok(reply) = self.redis.call(&Command::new("TIME"), Patience::Behind).await else { return };
        let mut parts = reply.into_array().into_iter().map(|part| part.int().and_then(|part| u64::try_from(part).ok()));
        if let (Some(Some(seconds)), Some(Some(micros))) = (parts.next(), parts.next()) {
            self.moments.note(0, seconds.saturating_mul(1_000_000).saturating_add(micros));
        }
    }

    async fn ask_how_full(&self) {
        // Of a cluster each node would have to be asked.
        if self.is_cluster {
            return;
        }
        let info = Command::new("INFO");
        if let Ok(reply) = self.redis.call(&info, Patience::Behind).await {
            let text = String::from_utf8_lossy(reply.bytes().unwrap_or_default()).into_owned();
            let set = |place: &AtomicU64, name: &str| {
                let value = field(&text, name).unwrap_or(0);
                (place.swap(value, Ordering::Relaxed), value)
            };
            set(&self.usage.bytes, "used_memory");
            let (_, capacity) = set(&self.usage.capacity, "maxmemory");
            self.metrics.capacity.set(i64::try_from(capacity).unwrap_or(i64::MAX));
            let (before, evicted) = set(&self.usage.evicted, "evicted_keys");
            // What was before we came is none of ours, and a server that was started anew counts from the beginning.
            if self.knows_evicted.swap(true, Ordering::Relaxed) {
                self.metrics.eviction("size").inc_by(evicted.saturating_sub(before));
            }
        }
        if let Ok(reply) = self.redis.call(&Command::new("DBSIZE"), Patience::Behind).await {
            let items = reply.int().and_then(|items| u64::try_from(items).ok()).unwrap_or(0);
            self.usage.items.store(items, Ordering::Relaxed);
        }
    }
}

/// A number of what `INFO` says.
fn field(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_of_info_is_found_by_its_whole_name() {
        let info = "# Memory\r\nused_memory_human:1M\r\nused_memory:1048576\r\nmaxmemory:0\r\n";
        assert_eq!(field(info, "used_memory"), Some(1_048_576));
        assert_eq!(field(info, "maxmemory"), Some(0));
        assert_eq!(field(info, "evicted_keys"), None);
    }
}
