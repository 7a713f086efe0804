//! How a restart goes with many responses on disk: `restart [ENTRIES]`, a million unless told otherwise.
//!
//! Fills a directory with entries as the daemon writes them, starts the daemon that was built with this program on it, and
//! prints how long it takes until it is ready, until it serves the first response from disk, and until it knows all of
//! them; how long hits take meanwhile; and the memory that an entry costs. Once with everything in memory that the system
//! keeps there after the fill, and once with none of it, if this user may tell the system to forget it.
//!
//! `TIDEGATE_RESTART_DIR` is where the directory is made (the system's own place for such files unless set), `TIDEGATE_BIN`
//! the daemon. A million entries take about 5 GB of disk; all of it is removed at the end.

mod client;
mod daemon;
mod fill;

use anyhow::{Context, Result, ensure};
use client::Client;
use daemon::{Daemon, Places};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Entries unless told otherwise.
const ENTRIES: u64 = 1_000_000;

/// Hits that are measured once everything is known.
const HITS_AFTER: usize = 5_000;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Pause between two looks at whether the scan is through: each makes the daemon write all its metrics down.
const LOOK: Duration = Duration::from_millis(20);

/// What one start was like.
#[derive(Default)]
struct Restart {
    ready: Duration,
    first_hit: Duration,
    scanned: Duration,
    /// How long each hit took until everything was known, and afterwards.
    meanwhile: Vec<Duration>,
    after: Vec<Duration>,
    /// Most memory until everything was known, and what of it remained; in bytes.
    peak: u64,
    left: u64,
}

fn main() -> Result<()> {
    let entries = match std::env::args().nth(1) {
        Some(text) => text.parse().with_context(|| format!("`{text}` is no number of entries"))?,
        None => ENTRIES,
    };
    ensure!(entries > 0, "without entries there is nothing to measure");
    let parent = std::env::var_os("TIDEGATE_RESTART_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    fill::ensure_room(&parent, entries)?;
    let home = tempfile::Builder::new().prefix("tidegate-restart-").tempdir_in(&parent)?;
    daemon::clean_up_if_told_to_end(home.path())?;

    let places = Places::new(home.path())?;
    let empty = restart(&places, 0)?;
    let began = Instant::now();
    let bytes = fill::fill(&places.cache, entries)?;
    println!("{entries} entries, {} MB on disk, written in {:.1} s", bytes >> 20, began.elapsed().as_secs_f64());

    println!(
        "| files | ready | first disk hit | all known | hits meanwhile | p50 | p99 | hits after p50 | p99 | peak bytes an entry | bytes an entry after |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    report("in memory", &restart(&places, entries)?, &empty, entries);
    match forget_files(&places.cache) {
        Ok(()) => report("forgotten", &restart(&places, entries)?, &empty, entries),
        Err(error) => println!("not measured with the files out of memory: /proc/sys/vm/drop_caches: {error}"),
    }
    home.close().context("what was written for this could not be removed")
}

/// Starts the daemon and ends it. Without entries, there is no hit to wait for.
fn restart(places: &Places, entries: u64) -> Result<Restart> {
    let began = Instant::now();
    let daemon = Daemon::start(places)?;
    let is_scanned = AtomicBool::new(false);
    let mut restart = std::thread::scope(|scope| {
        let hits = scope.spawn(|| hit(places, entries, began, &is_scanned));
        let watched = watch(places, &daemon, began);
        is_scanned.store(true, Ordering::Release);
        let hits = hits.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
        let (watched, hits) = (watched?, hits?);
        anyhow::Ok(Restart { first_hit: hits.first_hit, meanwhile: hits.meanwhile, ..watched })
    })?;
    if entries > 0 {
        restart.after = hits_after(places, entries)?;
    }
    daemon.stop()?;
    Ok(restart)
}

/// Readiness, the end of the scan, and memory.
fn watch(places: &Places, daemon: &Daemon, began: Instant) -> Result<Restart> {
    let mut admin = Client::until_connected(&places.admin, began + PATIENCE)?;
    while admin.get("/readyz")?.status != 200 {
        std::thread::yield_now();
    }
    let ready = began.elapsed();
    loop {
        let metrics = admin.get("/metrics")?;
        let text = String::from_utf8_lossy(&metrics.body);
        if text.lines().any(|line| line.starts_with("tidegate_disk_scan_done") && line.ends_with(" 1")) {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "the scan did not end within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
    let scanned = began.elapsed();
    let (peak, left) = daemon.memory()?;
    Ok(Restart { ready, scanned, peak, left, ..Restart::default() })
}

/// Asks for entries at random, from the start until everything is known, and once at least.
fn hit(places: &Places, entries: u64, began: Instant, is_scanned: &AtomicBool) -> Result<Restart> {
    let mut restart = Restart::default();
    if entries == 0 {
        return Ok(restart);
    }
    let mut client = Client::until_connected(&places.listen, began + PATIENCE)?;
    let mut random = fastrand::Rng::with_seed(1);
    client.hit(random.u64(..entries))?;
    restart.first_hit = began.elapsed();
    while !is_scanned.load(Ordering::Acquire) {
        restart.meanwhile.push(client.hit(random.u64(..entries))?);
    }
    Ok(restart)
}

fn hits_after(places: &Places, entries: u64) -> Result<Vec<Duration>> {
    let mut client = Client::until_connected(&places.listen, Instant::now() + PATIENCE)?;
    let mut random = fastrand::Rng::with_seed(2);
    (0..HITS_AFTER).map(|_| client.hit(random.u64(..entries))).collect()
}

fn report(files: &str, restart: &Restart, empty: &Restart, entries: u64) {
    let Restart { ready, first_hit, scanned, meanwhile, after, peak, left } = restart;
    let per_entry = |bytes: u64, without: u64| bytes.saturating_sub(without) / entries;
    println!(
        "| {files} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        shown(Some(*ready)),
        shown(Some(*first_hit)),
        shown(Some(*scanned)),
        meanwhile.len(),
        shown(percentile(meanwhile, 50)),
        shown(percentile(meanwhile, 99)),
        shown(percentile(after, 50)),
        shown(percentile(after, 99)),
        per_entry(*peak, empty.peak),
        per_entry(*left, empty.left),
    );
}

fn percentile(all: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
}

fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.3} ms", time.as_secs_f64() * 1e3))
}

/// Has the system forget what it keeps of files, names and inodes included.
fn forget_files(directory: &Path) -> std::io::Result<()> {
    // Only what is on the disk can be forgotten.
    rustix::fs::syncfs(std::fs::File::open(directory)?)?;
    std::fs::write("/proc/sys/vm/drop_caches", "3")
}
