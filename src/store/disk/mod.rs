//! The disk tier: one file an entry, found by its name, so that what is there after a restart or a crash is there at once.
//!
//! * [`home`]: the directory, ours alone
//! * [`probe`]: whether a directory can be it, asked without touching it
//! * [`format`]: what an entry's file looks like, and how it can be damaged
//! * [`file`]: reading and writing one of them
//! * [`index`]: what is known of all of them in memory, and which go when room is needed
//! * [`volume`]: an open directory; changes in order
//! * [`scan`], [`bound`]: knowing it again after a restart
//! * [`body`]: the content of an entry that stays in its file
//! * [`write`]: entries to files, behind the requests; [`parts`]: those of which only parts came
//! * [`spool`]: a fill that is too large for memory, written as it comes
//! * [`sweep`]: what there is, one by one
//! * [`keeper`]: opens the directory, looks after it, and gives it back
//! * [`lanes`]: threads for what may wait for the disk
//!
//! A disk that fails or is slow costs hits, never requests: a lookup has a deadline, failures in a row leave the tier alone
//! for a while ([`Breaker`]), writes are done behind and let go when they cannot keep up.

pub mod body;
pub mod bound;
pub mod file;
pub mod format;
pub mod home;
pub mod index;
pub mod keeper;
pub mod lanes;
pub mod parts;
pub mod probe;
pub mod scan;
pub mod spool;
pub mod sweep;
pub mod volume;
pub mod write;

use super::breaker::Breaker;
use super::entry::{Body, Entry, EntryId};
use super::partial::Parts;
use super::tier::{Lookup, TierState};
use crate::clock;
use crate::config::DiskTier as Settings;
use crate::policy::decision::TierName;
use crate::purge::Purges;
use crate::telemetry::quiet::Quiet;
use crate::telemetry::{DiskMetrics, TierMetrics, WriteMetrics};
use arc_swap::{ArcSwap, ArcSwapOption};
use body::FileBody;
use file::ReadFailure;
use file::open::{NotNow, OpenedFile, open_blocking, open_now};
use file::read::{MOST_AT_ONCE, ReadNow};
use format::{Damage, FileId, PIECE};
use index::popularity::Popularity;
use keeper::{Keeping, Missed};
use lanes::Lanes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;
use volume::{Known, Stamp, Ticket, Volume};

/// The disk tier.
#[derive(Debug)]
pub struct DiskTier {
    settings: ArcSwap<Settings>,
    /// The open directory, if it is.
    volume: ArcSwapOption<Volume>,
    lanes: Lanes,
    reads: Breaker,
    writes: Breaker,
    /// What was forgotten while the directory was not open.
    missed: Mutex<Missed>,
    /// Files that could not be removed.
    leftovers: Mutex<Vec<(FileId, Ticket)>>,
    metrics: TierMetrics,
    written: WriteMetrics,
    disk_metrics: DiskMetrics,
    keeping: Keeping,
    complaints: Quiet,
    /// What was purged: the log of it is in the directory.
    purges: Arc<Purges>,
}

impl DiskTier {
    /// The tier that a configuration asks for, not open yet: [`DiskTier::start`] sees to that. As the store, it lives as
    /// long as the process.
    pub fn new(settings: Settings) -> std::io::Result<Self> {
        let metrics = TierMetrics::of(TierName::Disk);
        metrics.capacity.set(i64::try_from(settings.capacity).unwrap_or(i64::MAX));
        Ok(DiskTier {
            metrics,
            written: WriteMetrics::of(TierName::Disk),
            settings: ArcSwap::from_pointee(settings),
            volume: ArcSwapOption::empty(),
            lanes: Lanes::new()?,
            reads: Breaker::default(),
            writes: Breaker::default(),
            missed: Mutex::default(),
            leftovers: Mutex::default(),
            disk_metrics: DiskMetrics::of_the_disk(),
            keeping: Keeping::default(),
            complaints: Quiet::default(),
            purges: Arc::new(Purges::new(clock::now(), true)),
        })
    }

    /// What can change while it runs.
    pub fn set_limits(&self, settings: &Settings) {
        let now = self.settings.load_full();
        // The directory and the sizes of what is built from it stay.
        let (path, capacity, max_open) = (now.path.clone(), now.capacity, now.max_open);
        self.settings.store(Arc::new(Settings { path, capacity, max_open, ..settings.clone() }));
    }

    /// What was purged.
    pub fn purges(&self) -> &Arc<Purges> {
        &self.purges
    }

    /// Bytes that its files may take.
    pub fn capacity(&self) -> u64 {
        self.settings.load().capacity
    }

    /// Its statistics.
    pub fn metrics(&self) -> &TierMetrics {
        &self.metrics
    }

    /// Files and the bytes that they take.
    pub fn usage(&self) -> (u64, u64) {
        self.volume.load().as_ref().map_or((0, 0), |volume| volume.usage())
    }

    /// How it is.
    pub fn state(&self) -> TierState {
        match self.volume.load().as_ref() {
            None => TierState::Unavailable,
            Some(_) if self.reads.is_open() => TierState::Unavailable,
            Some(_) if self.writes.is_open() => TierState::ReadOnly,
            Some(volume) if !volume.is_scanned() => TierState::Scanning,
            Some(_) => TierState::Ok,
        }
    }

    /// Whether something is stored there, as far as is known without looking.
    pub fn holds(&self, id: &EntryId) -> bool {
        self.volume.load().as_ref().is_some_and(|volume| volume.holds(FileId::of(id)))
    }

    /// Says whether anything happened to an entry since. Taken before the entry is looked up.
    pub fn stamp(&self, id: &EntryId) -> Option<Stamp> {
        self.volume.load().as_ref().map(|volume| volume.stamp(FileId::of(id)))
    }

    /// The entry, if nothing has to be read to have it.
    pub fn at_hand(&self, id: &EntryId, key: &[u8]) -> Option<Arc<Entry>> {
        let volume = self.volume.load_full()?;
        volume.at_hand(FileId::of(id)).filter(|entry| *entry.key == *key)
    }

    /// Looks an entry up for a request.
    pub async fn lookup(&'static self, id: &EntryId, key: &[u8]) -> Lookup {
        let began = Instant::now();
        let found = self.look(id, key, began).await;
        self.metrics.looked_up(&found, began.elapsed());
        found
    }

    /// Looks an entry up for something else than a request: it counts as no hit.
    pub async fn peek(&'static self, id: &EntryId, key: &[u8]) -> Option<Arc<Entry>> {
        if let Some(entry) = self.at_hand(id, key) {
            return Some(entry);
        }
        match self.look(id, key, Instant::now()).await {
            Lookup::Hit(found) => Some(found.entry),
            Lookup::Miss | Lookup::Unavailable => None,
        }
    }

    async fn look(&'static self, id: &EntryId, key: &[u8], began: Instant) -> Lookup {
        let Some(volume) = self.volume.load_full() else { return Lookup::Unavailable };
        let file = FileId::of(id);
        // Before anything is asked: whatever happens to the file from now on is seen by it.
        let stamp = volume.stamp(file);
        let (hint, popularity) = match volume.ask(file) {
            // That is known whatever the disk is like.
            Known::Absent => return Lookup::Miss,
            Known::Entry(entry, _) if entry.body.is_in_file() && !self.reads.allows(began) => {
                return Lookup::Unavailable;
            }
            Known::Entry(entry, _) if *entry.key != *key => return Lookup::Miss,
            Known::Entry(entry, popularity) => return self.still_there(&volume, file, entry, popularity, stamp).await,
            Known::File(bytes, popularity) => (Some(bytes), popularity),
            Known::Perhaps => (None, Popularity::NONE),
        };
        if !self.reads.allows(began) {
            return Lookup::Unavailable;
        }
        let opened = match open_now(&volume.dir, file, hint) {
            Ok(opened) => Ok(opened),
            Err(NotNow::Failed(failure)) => Err(failure),
            Err(NotNow::WouldBlock) => {
                let at = volume.clone();
                let opened = self.in_time(self.lanes.read(move || open_blocking(&at.dir, file, hint))).await;
                let Some(opened) = opened else { return Lookup::Unavailable };
                opened
            }
        };
        match opened {
            Ok(Some(opened)) => self.found(&volume, id, key, opened, popularity, stamp),
            Ok(None) => {
                // Somebody deleted it.
                if hint.is_some() && volume.lost(file, stamp) {
                    self.metrics.error("missing").inc();
                }
                Lookup::Miss
            }
            Err(failure) => self.no_hit(&volume, file, failure, stamp),
        }
    }

    /// An entry that is at hand. If its body is in a file, the beginning of that is read before anything is promised: a disk
    /// that fails by now, or hangs, costs a hit and not a response. It is the first that would be read anyway.
    async fn still_there(
        &'static self,
        volume: &Arc<Volume>,
        file: FileId,
        entry: Arc<Entry>,
        popularity: Popularity,
        stamp: Stamp,
    ) -> Lookup {
        let Body::File(body) = &entry.body else { return Lookup::hit(entry, popularity) };
        let opened = body.file().clone();
        // All of it, if it can be sent at once. Of a longer one a part may be wanted that begins elsewhere.
        let end = if opened.body_len() <= MOST_AT_ONCE { MOST_AT_ONCE } else { PIECE };
        let read = match opened.read_now(0, end) {
            ReadNow::Bytes(bytes) => Ok(bytes),
            ReadNow::Failed(failure) => Err(failure),
            ReadNow::WouldBlock => {
                let read = self.in_time(self.lanes.read(move || opened.read_blocking(0, end))).await;
                let Some(read) = read else { return Lookup::Unavailable };
                read
            }
        };
        match read {
            Ok(bytes) => {
                self.works_again();
                Lookup::Hit(super::tier::Found { entry, popularity, body: Some(bytes) })
            }
            Err(failure) => self.no_hit(volume, file, failure, stamp),
        }
    }

    /// What is read for a lookup; `None` if that takes too long.
    async fn in_time<T>(&self, read: impl Future<Output = Option<T>>) -> Option<T> {
        let answer = tokio::time::timeout(self.settings.load().timeout, read).await;
        answer.unwrap_or_else(|_| {
            self.too_slow();
            None
        })
    }

    fn no_hit(&'static self, volume: &Arc<Volume>, file: FileId, failure: ReadFailure, stamp: Stamp) -> Lookup {
        match failure {
            ReadFailure::Damaged(damage) => {
                self.damaged(volume, file, damage, Some(stamp));
                Lookup::Miss
            }
            ReadFailure::Io(e) => {
                self.read_failed(&e, volume, file);
                Lookup::Unavailable
            }
        }
    }

    fn found(
        &'static self,
        volume: &Arc<Volume>,
        id: &EntryId,
        key: &[u8],
        opened: OpenedFile,
        popularity: Popularity,
        stamp: Stamp,
    ) -> Lookup {
        self.works_again();
        let file = FileId::of(id);
        let OpenedFile { file: opened, head, body: ready } = opened;
        if *head.key != *key || head.variant != id.variant {
            // Two keys have one hash. The file is good, for another request.
            self.metrics.error("key").inc();
            return Lookup::Miss;
        }
        // Once everything is known, nothing is learnt from it.
        let bytes = if volume.is_scanned() { 0 } else { opened.usage().map_or(0, |usage| usage.allocated) };
        let body = Arc::new(FileBody::new(opened, file, self, volume.clone()));
        let (body, ready) = match &head.parts {
            // Positions in the file are not those of the whole.
            Some(spans) => (Body::Parts(Parts::in_file(spans, &body)), None),
            None => (Body::File(body), ready),
        };
        let entry = Entry::of(head.key, Arc::new(head.head), body, Arc::new(head.facts));
        let entry = Arc::new(entry.with_hits(u64::from(popularity.hits).saturating_sub(1)));
        volume.opened(file, &entry, bytes, stamp);
        Lookup::Hit(super::tier::Found { entry, popularity, body: ready })
    }

    /// A file is not what it should be: it is counted and goes.
    fn damaged(&'static self, volume: &Arc<Volume>, file: FileId, damage: Damage, stamp: Option<Stamp>) {
        self.metrics.error(damage.as_str()).inc();
        if let Some(unlogged) = self.complaints.is_due() {
            let path = volume.dir.path_of(file);
            tracing::warn!(path = %path.display(), unlogged, "{damage}; the file is removed, and what it held fetched again");
        }
        if stamp.is_none_or(|stamp| volume.lost(file, stamp)) {
            self.remove_file(volume, file);
        }
    }

    fn read_failed(&self, error: &std::io::Error, volume: &Volume, file: FileId) {
        self.metrics.error("io").inc();
        if let Some(unlogged) = self.complaints.is_due() {
            let path = volume.dir.path_of(file);
            tracing::warn!(path = %path.display(), %error, unlogged, "a stored response could not be read");
        }
        self.failed();
    }

    fn too_slow(&self) {
        self.metrics.error("timeout").inc();
        if let Some(unlogged) = self.complaints.is_due() {
            tracing::warn!(unlogged, "the disk tier did not answer within `cache.disk.timeout`");
        }
        self.failed();
    }

    fn works_again(&self) {
        if self.reads.succeeded() {
            tracing::info!("the disk tier can be read again");
        }
    }

    fn failed(&self) {
        if self.reads.failed(Instant::now()) {
            tracing::error!("the disk tier fails: it is left alone, and tried again from time to time; check the disk");
        }
    }
}
