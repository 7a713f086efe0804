//! `policies` and `cache`.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::value::Value;
use crate::config::{Cache, Lock, MemoryTier, OnError, Policies, PolicyLimits};

const MEMORY: MemoryTier = MemoryTier { capacity: 512 << 20, max_object: 8 << 20 };

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
pub(super) fn cache(s: &mut Section<'_>) -> Cache {
    let memory = s.section("memory", memory);
    s.unavailable("disk", disk);
    s.unavailable("redis", redis);
    let lock = s.section("lock", |s| Lock {
        wait: s.get("wait", |value| value.duration()).unwrap_or(Duration::from_secs(10)),
        age: s.get("age", |value| value.positive_duration()).unwrap_or(Duration::from_secs(30)),
        max_waiters: s.get("max_waiters", |value| value.whole(0..=10_000_000)).unwrap_or(10_000),
        cluster: s
            .get("cluster", |value| {
                let cluster = value.boolean()?;
                if cluster {
                    value
                        .place
                        .problem("fills are shared between nodes through Redis, which is not set up", "write `false`");
                }
                Some(cluster)
            })
            .unwrap_or(false),
    });
    let max_variants = s.get("max_variants", |value| value.whole(1..=1_000_000)).unwrap_or(64);
    Cache { memory, lock, max_variants }
}

fn memory(s: &mut Section<'_>) -> Option<MemoryTier> {
    let capacity = s.get("capacity", |value| value.size()).unwrap_or(MEMORY.capacity);
    let max_object = s.get("max_object", |value| value.size_limit());
    if capacity == 0 {
        s.place_of("capacity").warn("every tier is off, so nothing is stored", "give the memory tier a capacity");
        return None;
    }
    match max_object {
        // 0 was written: whatever fits.
        Some(u64::MAX) => Some(MemoryTier { capacity, max_object: capacity }),
        Some(max_object) => {
            if max_object > capacity {
                s.place_of("max_object").problem("is larger than `capacity`", "lower it, or give more capacity");
            }
            Some(MemoryTier { capacity, max_object })
        }
        None => Some(MemoryTier { capacity, max_object: MEMORY.max_object.min(capacity) }),
    }
}

/// `cache.disk`: its keys are checked, so that a file written for a version that has the tier gets a whole answer.
fn disk(s: &mut Section<'_>) {
    s.place.problem("this version has no disk tier", "remove the section");
    s.require("path", "/var/cache/tidegate", |value| value.path());
    let capacity = s.require("capacity", "50GiB", |value| value.size());
    let max_object = s.get("max_object", |value| value.size());
    if let (Some(capacity), Some(max_object)) = (capacity, max_object)
        && max_object > capacity
        && capacity > 0
    {
        s.place_of("max_object").problem("is larger than `capacity`", "lower it, or give more capacity");
    }
    s.get("promote_after", |value| value.whole(0..=1_000_000));
}

/// `cache.redis`, as [`disk`].
fn redis(s: &mut Section<'_>) {
    s.place.problem("this version has no Redis tier", "remove the section");
    s.require("url", "\"redis://127.0.0.1:6379\"", |value| {
        let url = value.text()?;
        let known = ["redis://", "rediss://", "redis+unix://", "unix://"].iter().any(|scheme| url.starts_with(scheme));
        if !known {
            // The value may hold a password, so it is not repeated.
            value.place.problem("is not the address of a Redis server", "write one such as `redis://127.0.0.1:6379`");
        }
        Some(())
    });
    s.get("prefix", |value| value.text_or_empty());
    s.get("max_object", |value| value.size());
    s.get("timeout", |value| value.positive_duration());
}
