//! `policies` and `cache`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::shared;
use crate::config::reader::Section;
use crate::config::value::Value;
use crate::config::{Cache, DiskTier, Lock, MemoryTier, OnError, Policies, PolicyLimits, WriteMode};

const DISK_MAX_OBJECT: u64 = 5 << 30;

/// `policies`
pub(in crate::config) fn policies(root: &mut Section<'_>) -> Policies {
    root.section("policies", |s| {
        let dir = s.get("dir", |value| {
            let dir = value.path()?;
            if !dir.is_dir() {
                value.place.problem(
                    format!("the folder `{}` does not exist", dir.display()),
                    "correct the path; relative ones begin at the folder of this file",
                );
            }
            Some(dir)
        });
        Policies {
            dir: dir.unwrap_or_else(|| s.place.resolve("policies")),
            watch: s.get("watch", |value| value.boolean()).unwrap_or(true),
            limits: s.section("limits", |s| PolicyLimits {
                time: s.get("time", |value| value.positive_duration()).unwrap_or(Duration::from_millis(5)),
                memory: s.get("memory", |value| value.size_limit()).unwrap_or(16 << 20),
            }),
            on_error: s.get("on_error", on_error).unwrap_or_default(),
        }
    })
}

pub(super) fn on_error(value: &Value<'_>) -> Option<OnError> {
    value.word(&[("bypass", OnError::Bypass), ("defaults", OnError::Defaults)])
}

/// `cache`
pub(super) fn cache(s: &mut Section<'_>, policies: &Path) -> Cache {
    // A place that can be named, should it turn out that the other tiers are off as well.
    let (memory, capacity_of_memory) = s.section("memory", |s| (memory(s), s.place_of("capacity")));
    let disk_given = s.has("disk");
    let disk = s.optional("disk", |s| disk(s, policies)).flatten();
    let redis = s.optional("redis", shared::redis).flatten();
    let nothing_in_redis = redis.as_ref().is_none_or(|redis| redis.max_object == 0);
    if memory.is_none() && disk.is_none() && nothing_in_redis {
        let hint = if disk_given { "give one of them a capacity" } else { "give the memory tier a capacity" };
        capacity_of_memory.warn("every tier is off, so nothing is stored", hint);
    }
    let defaults = Cache::default();
    let lock = defaults.lock;
    let lock = s.section("lock", |s| Lock {
        wait: s.get("wait", |value| value.duration()).unwrap_or(lock.wait),
        age: s.get("age", |value| value.positive_duration()).unwrap_or(lock.age),
        max_waiters: s.get("max_waiters", |value| value.whole(0..=10_000_000)).unwrap_or(lock.max_waiters),
        cluster: s
            .get("cluster", |value| {
                let cluster = value.boolean()?;
                if cluster && redis.is_none() {
                    let hint = "write `false`, or set up `cache.redis`";
                    value.place.problem("nodes agree on who fetches through Redis, which is not set up", hint);
                }
                Some(cluster)
            })
            .unwrap_or(redis.is_some()),
    });
    let max_variants = s.get("max_variants", |value| value.whole(1..=1_000_000)).unwrap_or(defaults.max_variants);
    Cache { memory, disk, redis, lock, max_variants }
}

fn memory(s: &mut Section<'_>) -> Option<MemoryTier> {
    let capacity = s.get("capacity", |value| value.size()).unwrap_or(MemoryTier::default().capacity);
    let max_object = max_object(s, capacity, MemoryTier::default().max_object);
    (capacity > 0).then_some(MemoryTier { capacity, max_object })
}

/// `max_object` of a tier that holds so much. By default no more than fits.
fn max_object(s: &mut Section<'_>, capacity: u64, default: u64) -> u64 {
    match s.get("max_object", |value| value.size()) {
        None => default.min(capacity),
        // Whatever fits.
        Some(0) => capacity,
        Some(max_object) => {
            // A tier that is off limits nothing: it can be turned off by its capacity alone.
            if max_object > capacity && capacity > 0 {
                s.place_of("max_object").problem("is larger than `capacity`", "lower it, or give more capacity");
            }
            max_object
        }
    }
}

/// `cache.disk`
fn disk(s: &mut Section<'_>, policies: &Path) -> Option<DiskTier> {
    let path = s.require("path", "/var/cache/tidegate", |value| directory_of_its_own(value, policies));
    let capacity = s.require("capacity", "50GiB", |value| value.size());
    // Without a capacity, which was noted, nothing is too large for it.
    let max_object = max_object(s, capacity.unwrap_or(u64::MAX), DISK_MAX_OBJECT);
    let tier = DiskTier {
        max_object,
        promote_after: s.get("promote_after", |value| value.whole(0..=1_000_000)).map_or(2, narrow),
        promote_rate: s.get("promote_rate", |value| value.whole(0..=1_000_000)).map_or(0, narrow),
        write: s.get("write", write_mode).unwrap_or_default(),
        timeout: s.get("timeout", |value| value.positive_duration()).unwrap_or(Duration::from_secs(1)),
        min_free: s.get("min_free", |value| value.size()).unwrap_or(256 << 20),
        max_open: s.get("max_open", |value| value.whole(16..=1_000_000)).unwrap_or(8192),
        path: path?,
        capacity: capacity?,
    };
    (tier.capacity > 0).then_some(tier)
}

/// A directory that may not be there yet. What is in it is looked at when it is to be used.
fn directory_of_its_own(value: &Value<'_>, policies: &Path) -> Option<PathBuf> {
    let path = value.path()?;
    if path.starts_with(policies) {
        let what = format!("`{}` is in the folder of the policies, which is watched for changes", path.display());
        value.place.problem(what, "name a directory outside of it");
        return None;
    }
    let wrong = if path.canonicalize().is_ok_and(|path| path.parent().is_none()) {
        "is the root of the file system, and not the cache's alone"
    } else if path.metadata().is_ok_and(|found| !found.is_dir()) {
        "is a file, not a directory"
    } else {
        return Some(path);
    };
    let hint = "name a directory that nothing else uses; it is created if it is not there";
    value.place.problem(format!("`{}` {wrong}", path.display()), hint);
    None
}

fn write_mode(value: &Value<'_>) -> Option<WriteMode> {
    value.word(&[("through", WriteMode::Through), ("behind", WriteMode::Behind)])
}

pub(super) fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
