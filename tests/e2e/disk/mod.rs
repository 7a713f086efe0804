//! The disk tier through the real binary: what it stores, what becomes of it, and what happens when the disk lets it down.

mod capacity;
mod damage;
mod directory;
mod fixtures;
mod hanging;
mod invalidation;
mod parts;
mod reading;
mod restart;
mod sending;
mod tiers;
mod writing;

use crate::support::faults::{Fault, Faults, On};
use crate::support::proxy::Builder;
use crate::support::{Origin, Proxy, Reply, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory for the disk tier of one daemon after the other.
struct Disk {
    folder: TempDir,
    faults: Faults,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let faults = Faults::of(&folder.path().join("disk"));
        Disk { folder, faults }
    }

    /// Where the daemon keeps its files; not there before the first one has run.
    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A daemon that keeps responses here alone, and feels the faults.
    fn alone(&self, origin: &Origin) -> Builder {
        self.put_into(Proxy::builder(origin).without("cache.memory").set("cache.memory.capacity", "0"))
    }

    /// A daemon that keeps responses in 1 MiB of memory as well, each of them up to 64 KiB.
    fn below_memory(&self, origin: &Origin) -> Builder {
        let builder = Proxy::builder(origin).without("cache.memory");
        self.put_into(builder.set("cache.memory", "{ capacity: 1MiB, max_object: 64KiB }"))
    }

    fn put_into(&self, builder: Builder) -> Builder {
        let builder = builder
            .set("cache.disk.path", &self.path().display().to_string())
            .set("cache.disk.capacity", "64MiB")
            .set("cache.disk.max_object", "16MiB")
            .set("cache.disk.promote_after", "0")
            // How full the machine is that runs the tests is nobody's business.
            .set("cache.disk.min_free", "0");
        self.faults.put_into(builder)
    }

    /// The files of entries.
    fn files(&self) -> Vec<PathBuf> {
        let inside = |path: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(path).into_iter().flatten();
            entries.map(|entry| entry.expect("an entry of a directory").path()).collect()
        };
        let is_fan_out = |path: &PathBuf| path.is_dir() && !path.ends_with("tmp");
        inside(&self.path()).into_iter().filter(is_fan_out).flat_map(|path| inside(&path)).collect()
    }

    /// The file of the only entry.
    fn file(&self) -> PathBuf {
        let mut files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    /// Changes the bytes of the file of the only entry.
    fn change_file(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.file()).expect("the file");
        change(&mut bytes);
        std::fs::write(self.file(), bytes).expect("the file");
    }

    /// Bytes that everything in it takes, as `du` counts them.
    fn usage(&self) -> u64 {
        fn of(path: &Path) -> u64 {
            // What is removed meanwhile takes nothing.
            let Ok(found) = path.symlink_metadata() else { return 0 };
            let own = found.blocks() * 512;
            if !found.is_dir() {
                return own;
            }
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            own + entries.map(|entry| of(&entry.path())).sum::<u64>()
        }
        of(&self.path())
    }
}

/// What `/v1/stats` says of the disk tier.
async fn told(proxy: &Proxy) -> Value {
    proxy.stats().await["tiers"]["disk"].clone()
}

/// Waits until the disk tier says that it is so.
async fn wait_for_state(proxy: &Proxy, state: &str) {
    eventually(&format!("the disk tier to be {state}"), async || (told(proxy).await["state"] == state).then_some(()))
        .await;
}

async fn hits(proxy: &Proxy) -> u64 {
    told(proxy).await["hits"].as_u64().expect("a count of hits")
}

/// The entries that were to be written and came to this end, so far.
async fn writes(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum("tidegate_tier_writes_total", &format!("result=\"{result}\",tier=\"disk\""))
}

/// Waits until so many writes came to this end.
async fn wait_for_writes(proxy: &Proxy, result: &str, count: f64) {
    let what = format!("{count} writes that are {result}");
    eventually(&what, async || (writes(proxy, result).await >= count).then_some(())).await;
}

/// Failures of the disk tier of this kind, so far.
async fn errors(proxy: &Proxy, kind: &str) -> f64 {
    proxy.metrics().await.sum("tidegate_tier_errors_total", &format!("kind=\"{kind}\",tier=\"disk\""))
}

/// Asks for a path, and waits until what came is on disk.
async fn store(proxy: &Proxy, path: &str) {
    let before = writes(proxy, "stored").await;
    assert_eq!(proxy.get(path).await.status, 200);
    wait_for_writes(proxy, "stored", before + 1.0).await;
}

/// Ends a daemon with SIGKILL.
fn crash(proxy: Proxy) {
    drop(proxy);
}

/// Ends a daemon as an operator does, and waits until it is gone.
async fn stop(proxy: Proxy) {
    let pid = proxy.pid();
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM).expect("a signal to the daemon");
    wait_for_end(pid).await;
}

/// Waits until a process that nobody has collected yet is over.
async fn wait_for_end(pid: u32) {
    eventually("the daemon to end", async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with('Z')).then_some(())
    })
    .await;
}

/// Bytes of which no two pieces are alike.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// A response that is fresh for an hour.
fn lasting(body: impl AsRef<[u8]>) -> Reply {
    Reply::ok(body).header("cache-control", "max-age=3600")
}

/// Reads fail so until the tier is left alone; once they work, it is used again. Entries `/0` to `/7` are stored.
async fn is_used_again_after(fault: Fault, disk: &Disk, proxy: &Proxy) {
    disk.faults.set(On::Read, fault);
    for number in 0..6 {
        assert_eq!(proxy.get(&format!("/{number}")).await.status, 200);
    }
    wait_for_state(proxy, "unavailable").await;
    disk.faults.clear();
    // What waits to be written is a hit as well, and says nothing about the disk.
    eventually("a hit that was read", async || {
        (proxy.get("/7").await.is_hit() && told(proxy).await["state"] == "ok").then_some(())
    })
    .await;
    proxy.wait_for_log("the disk tier can be read again").await;
}
