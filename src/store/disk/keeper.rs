//! Opens the directory, looks after it, and gives it back.
//!
//! One thread does all of it. It opens the directory, and tries again while that fails; it notices when the directory
//! vanishes, and opens what took its place; it watches how much of the file system is left.

use super::DiskTier;
use super::bound::Bound;
use super::file::Dir;
use super::format::FileId;
use super::home::Home;
use super::index::Cause;
use super::scan::{Seen, scan};
use super::volume::Volume;
use crate::clock;
use nix::sys::resource::{Resource, getrlimit};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{StatVfs, statvfs};
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Time between two looks at the file system. A gigabyte a second fills a quarter of a gigabyte meanwhile, which is what is
/// left free by default.
const LOOK: Duration = Duration::from_millis(250);

/// Time between two tries to open the directory: soon after another process has let it go.
const RETRY: Duration = Duration::from_millis(100);

/// A directory that cannot be opened is complained about once in so long.
const COMPLAIN: Duration = Duration::from_secs(30);

/// Inodes that are left to others: this part of all of them.
const FREE_INODES: u64 = 100;

/// What is forgotten while the directory is not open is remembered up to so many entries.
const MISSED: usize = 1_000_000;

/// Files kept open, however few the process may have.
const LEAST_OPEN: usize = 16;

/// How long a start waits for the directory, before it serves without it.
const FIRST_TRY: Duration = Duration::from_secs(2);

/// How long the last writes may take when the tier is closed.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// What the thread and the others tell each other.
#[derive(Debug, Default)]
pub struct Keeping {
    bound: Mutex<Option<Bound>>,
    closing: Mutex<bool>,
    woken: Condvar,
    /// Less of the file system is free than should be, with nothing left to evict.
    crowded: AtomicBool,
}

impl Keeping {
    /// Before the files take so many bytes.
    pub(super) fn raise_bound(&self, bytes: u64) -> io::Result<()> {
        self.bound.lock().as_ref().map_or(Ok(()), |bound| bound.raise(bytes))
    }

    /// Whether nothing can be written without taking what is to be left to others.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Sleeps, unless the tier is being closed; says whether it is not.
    fn wait(&self, time: Duration) -> bool {
        let mut closing = self.closing.lock();
        if !*closing {
            self.woken.wait_for(&mut closing, time);
        }
        !*closing
    }
}

/// What was forgotten while the directory was not open.
#[derive(Debug, Default)]
pub struct Missed {
    files: HashSet<FileId>,
    /// More was forgotten than can be remembered.
    all: bool,
}

impl Missed {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.all
    }

    fn add(&mut self, other: Missed) {
        self.all |= other.all;
        other.files.into_iter().for_each(|file| self.note(file));
    }

    /// Remembers that a file is to be removed once the directory is open.
    pub(super) fn note(&mut self, file: FileId) {
        if self.files.len() < MISSED {
            self.files.insert(file);
        } else {
            self.all = true;
        }
    }
}

impl Volume {
    /// Removes what was forgotten.
    fn without(&self, missed: &Missed) -> io::Result<()> {
        if missed.all {
            tracing::warn!(
                path = %self.home.path().display(),
                "too much was forgotten to tell what is still good: all of it goes"
            );
            return self.home.clear();
        }
        missed.files.iter().try_for_each(|file| self.dir.remove(*file).map(drop))
    }
}

impl DiskTier {
    /// Opens the directory, and goes on trying if that fails. The first try has been made when this returns, unless the disk
    /// takes its time.
    pub fn start(&'static self) -> io::Result<()> {
        let (tried, first_try) = mpsc::channel();
        std::thread::Builder::new().name("disk-keeper".to_owned()).spawn(move || self.keep(&tried))?;
        // Whatever comes of it is told by the thread.
        let _ = first_try.recv_timeout(FIRST_TRY);
        Ok(())
    }

    fn keep(&'static self, tried: &mpsc::Sender<()>) {
        let mut complained = None;
        self.try_to_open(&mut complained);
        // Nobody may wait any more.
        let _ = tried.send(());
        loop {
            let pause = if self.volume.load().is_some() { LOOK } else { RETRY };
            if !self.keeping.wait(pause) {
                return;
            }
            match self.volume.load_full() {
                None => self.try_to_open(&mut complained),
                Some(volume) => self.look_after(&volume),
            }
        }
    }

    fn try_to_open(&'static self, complained: &mut Option<Instant>) {
        let settings = self.settings.load_full();
        match self.open() {
            Ok(()) => {
                if complained.take().is_some() {
                    tracing::info!(path = %settings.path.display(), "the disk tier is open");
                }
            }
            Err(error) => {
                if complained.is_none_or(|last| last.elapsed() >= COMPLAIN) {
                    *complained = Some(Instant::now());
                    tracing::error!("cache.disk: {error}; serving without it, and trying again");
                }
            }
        }
    }

    fn open(&'static self) -> Result<(), String> {
        let settings = self.settings.load_full();
        let told = |e: io::Error| format!("`{}`: {e}", settings.path.display());
        let home = Home::take(&settings.path).map_err(|e| e.to_string())?;
        let orphans = home.remove_orphans().map_err(told)?;
        if orphans > 0 {
            tracing::info!(orphans, "removed what was being written when the last process ended");
        }
        let dir = Dir::open(&settings.path).map_err(told)?;
        // Before anything is served from there.
        self.purges.open(&settings.path, home.is_new(), clock::now()).map_err(told)?;
        let bound = Bound::open(&settings.path, settings.capacity, home.is_new()).map_err(told)?;
        let unknown = bound.stated().min(settings.capacity);
        *self.keeping.bound.lock() = Some(bound);
        let volume = Arc::new(Volume::new(
            home,
            dir,
            settings.capacity - overhead(settings.capacity),
            settings.max_open.min(files_allowed() / 4).max(LEAST_OPEN),
            unknown,
        ));
        self.open_without_what_was_missed(&volume).map_err(told)?;
        let scanning = std::thread::Builder::new().name("disk-scan".to_owned());
        scanning.spawn(move || self.scan(&volume)).map(drop).map_err(told)
    }

    /// Nothing comes back that was forgotten while the directory was not open.
    fn open_without_what_was_missed(&self, volume: &Arc<Volume>) -> io::Result<()> {
        loop {
            let missed = {
                let mut missed = self.missed.lock();
                if missed.is_empty() {
                    // Under the lock: who forgets something from now on sees that it is open.
                    self.volume.store(Some(volume.clone()));
                    return Ok(());
                }
                std::mem::take(&mut *missed)
            };
            if let Err(error) = volume.without(&missed) {
                self.missed.lock().add(missed);
                return Err(error);
            }
        }
    }

    fn scan(&'static self, volume: &Arc<Volume>) {
        let began = Instant::now();
        let seen = |files: u64| {
            self.disk_metrics.scan_files.set(i64::try_from(files).unwrap_or(i64::MAX));
            if files.is_multiple_of(1 << 18) && files > 0 {
                tracing::info!(files, "looking at what is on disk");
            }
            !volume.is_closed()
        };
        self.disk_metrics.scan_done.set(0);
        let path = volume.home.path().display();
        let Some(Seen { found, foreign, unreadable }) = scan(volume.home.path(), seen) else { return };
        if foreign > 0 {
            tracing::warn!(
                files = foreign, %path,
                "files that are not the disk tier's own are in its directory; they are left alone and not counted"
            );
        }
        if let Some((error, number)) = unreadable {
            tracing::error!(
                %path, %error, number,
                "not all of the disk tier could be looked at: what is there is served if it can be read, and not counted"
            );
        }
        let files = found.len();
        // There may be more than the capacity, if that was larger before.
        let victims = volume.take_scanned(&found);
        self.remove_victims(volume, &victims);
        self.disk_metrics.scan_done.set(1);
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(files, bytes = volume.usage().1, seconds, "everything on disk is known");
    }

    fn look_after(&'static self, volume: &Arc<Volume>) {
        if !volume.home.is_still_there() {
            tracing::error!(path = %volume.home.path().display(), "the directory of the disk tier has vanished");
            self.purges.close();
            // What was to become of its files may be undone when it comes back.
            let mut missed = self.missed.lock();
            self.volume.store(None);
            volume.close().into_iter().for_each(|file| missed.note(file));
            self.leftovers.lock().drain(..).for_each(|(file, _)| missed.note(file));
            drop(missed);
            volume.home.release();
            return;
        }
        self.remove_leftover(volume);
        let Ok(free) = statvfs(volume.home.path()) else { return };
        let (free_bytes, free_inodes) = (free.f_bavail.saturating_mul(free.f_frsize), free.f_favail);
        self.disk_metrics.free_bytes.set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
        self.disk_metrics.free_inodes.set(i64::try_from(free_inodes).unwrap_or(i64::MAX));
        let wanted = self.settings.load().min_free;
        let inodes = wanted_inodes(&free);
        let (bytes_missing, inodes_missing) = (wanted.saturating_sub(free_bytes), inodes.saturating_sub(free_inodes));
        let is_crowded = bytes_missing > 0 || inodes_missing > 0;
        if is_crowded {
            let files = usize::try_from(inodes_missing).unwrap_or(usize::MAX);
            self.free(volume, bytes_missing, files, if bytes_missing > 0 { Cause::Space } else { Cause::Inodes });
        }
        if self.keeping.crowded.swap(is_crowded, Ordering::Relaxed) != is_crowded {
            let path = volume.home.path().display();
            if is_crowded {
                tracing::warn!(
                    %path, free_bytes, free_inodes,
                    "less than `cache.disk.min_free`, or a hundredth of the inodes, is free: responses are evicted, and none stored"
                );
            } else {
                tracing::info!(%path, free_bytes, free_inodes, "there is room on the file system again");
            }
        }
    }

    /// Finishes what is being written, and lets another process have the directory.
    pub fn close(&self) {
        {
            let mut closing = self.keeping.closing.lock();
            *closing = true;
            self.keeping.woken.notify_all();
        }
        let Some(volume) = self.volume.load_full() else { return };
        let until = Instant::now() + LAST_WRITES;
        while !volume.is_idle() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let is_idle = volume.is_idle();
        self.volume.store(None);
        self.purges.close();
        let usage = volume.usage().1;
        volume.close();
        // What is not written by now is held up by the disk, which would hold this up as well.
        if volume.is_scanned()
            && is_idle
            && let Some(bound) = self.keeping.bound.lock().take()
            && let Err(error) = bound.set(usage)
        {
            tracing::warn!(%error, "how much is on disk could not be written down");
        }
        volume.home.release();
    }
}

/// How many files this process may have open.
fn files_allowed() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(now, _)| usize::try_from(now).unwrap_or(usize::MAX))
}

/// Bytes of the capacity that are not for entries: a block for each of the directories, and the few files beside them.
fn overhead(capacity: u64) -> u64 {
    ((1 << 20) + (64 << 10)).min(capacity / 2)
}

/// Inodes that are to stay free. Some file systems make them as they are needed, and say that there are none.
fn wanted_inodes(free: &StatVfs) -> u64 {
    if free.f_files == 0 { 0 } else { (free.f_files / FREE_INODES).max(1) }
}
