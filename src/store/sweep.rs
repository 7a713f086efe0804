//! Gives back the room of what was purged, behind the traffic.
//!
//! A purge searches for nothing, so that what it made dead lies there until somebody asks for it or the room is needed. After hard
//! purges all of memory and then all of the disk is compared with the log, slowly: a few heads are read at a time, by a thread of
//! its own. Purges that come meanwhile are compared with as well; for what was passed by then, it begins once more when it is
//! through. Purges of URLs make little room each, and may come all the time: for them alone it begins now and then.

use super::Store;
use super::disk::DiskTier;
use super::disk::sweep::Owner;
use super::entry::{Entry, EntryId};
use super::purged::subject;
use crate::policy::decision::TierName;
use crate::purge::Standing;
use crate::telemetry::metrics;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether something was purged.
const LOOK: Duration = Duration::from_secs(1);

/// How long it rests before it searches for what URLs were purged of.
const URLS_EVERY: Duration = Duration::from_secs(600);

/// Pause between two groups.
const PAUSE: Duration = Duration::from_millis(100);

/// Entries in memory that are compared in one go: less than a millisecond.
const GROUP: usize = 2000;

/// Files that are looked at in one go. With the pause that is 250 heads a second at most, which a single hard disk serves beside its
/// other work.
const FILES: usize = 25;

/// Tells the thread to end.
#[derive(Debug, Default)]
pub(super) struct Sweeping {
    is_over: Mutex<bool>,
    told: Condvar,
}

impl Sweeping {
    /// Waits for so long; says whether it goes on.
    fn rest(&self, time: Duration) -> bool {
        let mut is_over = self.is_over.lock();
        if !*is_over {
            self.told.wait_for(&mut is_over, time);
        }
        !*is_over
    }

    /// Ends the thread.
    pub(super) fn end(&self) {
        *self.is_over.lock() = true;
        self.told.notify_all();
    }
}

/// What a sweep has come to.
#[derive(Debug, Clone, Copy, Default)]
struct Swept {
    checked: u64,
    removed: u64,
}

impl Store {
    /// Begins to sweep whenever it is worth it, until [`Store::close`].
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start_sweeping(&'static self) -> std::io::Result<()> {
        std::thread::Builder::new().name("sweep".to_owned()).spawn(move || self.sweep_until_closed()).map(drop)
    }

    fn sweep_until_closed(&'static self) {
        let (mut done, mut urls_done) = (0, 0);
        let mut urls_at: Option<Instant> = None;
        // What the last process did not come to.
        let mut is_due = self.disk.is_some() && self.purges.names_more_than_urls();
        while self.sweeping.rest(LOOK) {
            let (purged, urls) = (self.purges.to_search(), self.purges.urls());
            let urls_are_due = urls != urls_done && urls_at.is_none_or(|at| at.elapsed() >= URLS_EVERY);
            if !std::mem::take(&mut is_due) && purged == done && !urls_are_due {
                continue;
            }
            if self.disk.is_some_and(|disk| !disk.is_known()) {
                is_due = true;
                continue;
            }
            (done, urls_done) = (purged, urls);
            let Some(memory) = self.sweep_memory() else { return };
            let Some(disk) = self.disk.map_or(Some(Swept::default()), |disk| self.sweep_disk(disk)) else { return };
            urls_at = Some(Instant::now());
            if memory.removed + disk.removed > 0 {
                tracing::info!(
                    checked = memory.checked + disk.checked,
                    memory = memory.removed,
                    disk = disk.removed,
                    "gave back the room of what was purged"
                );
            }
        }
    }

    /// `None`: it is to end.
    fn sweep_memory(&self) -> Option<Swept> {
        let mut swept = Swept::default();
        for (id, entry) in self.memory.iter() {
            let is_dead = self.standing(&entry) == Standing::Dead;
            if is_dead {
                self.remove_from_memory(&id, &entry);
            }
            swept.note(TierName::Memory, is_dead);
            if swept.checked.is_multiple_of(GROUP as u64) && !self.sweeping.rest(PAUSE) {
                return None;
            }
        }
        Some(swept)
    }

    fn remove_from_memory(&self, id: &EntryId, dead: &Arc<Entry>) {
        let _alone = self.combining(id).lock();
        if self.memory.get(id, &dead.key).is_some_and(|entry| Arc::ptr_eq(&entry, dead)) {
            self.memory.remove(id);
        }
    }

    /// `None`: it is to end.
    fn sweep_disk(&self, disk: &'static DiskTier) -> Option<Swept> {
        let mut swept = Swept::default();
        let mut number = 0;
        while let Some(files) = disk.portion(number) {
            number += 1;
            for group in files.chunks(FILES) {
                for file in group {
                    let Some(Owner { id, stamp, key, facts }) = disk.whose(*file) else { continue };
                    let is_dead = self.purges.standing(&subject(&key, &facts)) == Standing::Dead;
                    if is_dead {
                        let _alone = self.combining(&id).lock();
                        // What was stored meanwhile is not what was found.
                        if disk.stamp(&id) == Some(stamp) {
                            disk.remove(&id);
                        }
                    }
                    swept.note(TierName::Disk, is_dead);
                }
                if !self.sweeping.rest(PAUSE) {
                    return None;
                }
            }
        }
        Some(swept)
    }
}

impl Swept {
    fn note(&mut self, tier: TierName, is_dead: bool) {
        let labels = [tier.as_str()];
        self.checked += 1;
        metrics().sweep_checked.with_label_values(&labels).inc();
        if is_dead {
            self.removed += 1;
            metrics().sweep_removed.with_label_values(&labels).inc();
        }
    }
}
