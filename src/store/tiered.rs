//! The tiers together: lookups in order, entries to where they belong, and nothing older left in any of them.
//!
//! Where an entry goes is asked of [`placement`]. What a tier does not keep of an entry that is stored, it forgets: what it
//! has is older.

use super::Store;
use super::combining::Brought;
use super::disk::DiskTier;
use super::disk::index::popularity::Popularity;
use super::disk::parts::WrittenPart;
use super::disk::spool::DiskSpool;
use super::entry::{Entry, EntryId};
use super::fill::{Fill, FillLimits, Spool, SpoolSource};
use super::memory::LetGo;
use super::tier::{Found, Lookup, TierState, TierStatus, WriteResult};
use super::turns::Turns;
use crate::decide::{Facts, Placement, Wish, placement};
use crate::policy::decision::{TierName, TierSet};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a request learns about the tiers that it asked, through its cache key.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    /// The tier that could not say whether it has the entry.
    pub fn unavailable(&self) -> Option<TierName> {
        // Only one of the tiers can be.
        self.0.load(Ordering::Relaxed).then_some(TierName::Disk)
    }
}

/// Opens files for the fill of one entry.
#[derive(Debug)]
struct Source {
    disk: &'static DiskTier,
    id: EntryId,
}

impl SpoolSource for Source {
    fn open(&self, fill: &Fill) -> Option<Arc<dyn Spool>> {
        Some(self.disk.spool(self.id, fill)? as Arc<dyn Spool>)
    }
}

/// What of an entry that is to be kept is on disk already.
#[derive(Debug)]
pub(super) enum Ready {
    /// Nothing.
    Nothing,
    /// Its body, in the file of the entry with these facts.
    Body(Arc<Facts>),
    /// All of it, in a file that is not in its place yet.
    File(WrittenPart),
}

/// What the memory tier does with an entry that has to make room.
pub(super) fn let_go(disk: Option<&'static DiskTier>, turns: Arc<Turns>) -> LetGo {
    Box::new(move |id, entry| {
        let Some(disk) = disk else { return };
        // How often it was asked for is news to the disk, which saw none of it.
        if disk.note_hits_above(id, entry.hits()) || !entry.facts.tiers.contains(TierName::Disk) {
            return;
        }
        // Written already, it is gone because nobody asked for it; if somebody did, it is worth a second time.
        if (!disk.writes_through() || entry.hits() > 0) && disk.takes(entry.body.len() as u64) {
            // It is out of memory already, where whoever forgets it, or stores something newer, would have found it.
            disk.put(*id, entry.clone(), None, || !turns.overtook(id, entry.kept()));
        }
    })
}

impl Store {
    /// The entry of that id, in whichever tier is first. Counts the lookups.
    pub(super) async fn lookup_tiers(
        &'static self,
        id: &EntryId,
        key: &[u8],
        asked: Option<&Asked>,
    ) -> Option<(TierName, Found)> {
        let timed = self.memory.metrics().time_now_and_then();
        let in_memory = self.memory.get(id, key);
        drop(timed);
        if let Some(entry) = in_memory {
            let Some(entry) = self.unless_purged(id, entry) else {
                self.memory.metrics().miss.inc();
                return None;
            };
            self.memory.metrics().hit.inc();
            return Some((TierName::Memory, Found { entry, popularity: Popularity::NONE, body: None }));
        }
        self.memory.metrics().miss.inc();
        let disk = self.disk?;
        let before = disk.stamp(id);
        match disk.lookup(id, key).await {
            Lookup::Hit(found) => {
                self.unless_purged(id, found.entry.clone())?;
                self.promote(id, &found, before);
                Some((TierName::Disk, found))
            }
            Lookup::Miss => None,
            Lookup::Unavailable => {
                if let Some(asked) = asked {
                    asked.0.store(true, Ordering::Relaxed);
                }
                None
            }
        }
    }

    /// The entry of that id, in whichever tier is first, for something else than a request.
    pub(super) async fn peek(&'static self, id: &EntryId, key: &[u8]) -> Option<Arc<Entry>> {
        let found = match self.memory.get(id, key) {
            Some(entry) => entry,
            None => self.disk?.peek(id, key).await?,
        };
        self.unless_purged(id, found)
    }

    /// Whether an entry with these facts is what is stored, as far as is known without looking at the disk.
    pub(super) fn has(&self, id: &EntryId, key: &[u8], facts: &Arc<Facts>) -> bool {
        let is_same = |entry: Arc<Entry>| same(&entry.facts, facts);
        match (self.memory.get(id, key), self.disk) {
            (Some(entry), _) => is_same(entry),
            (None, None) => false,
            // What was found a moment ago and is not open any more is most likely there still; another one is told from it
            // where that matters, by `turns` or the volume's stamps.
            (None, Some(disk)) => disk.at_hand(id, key).map_or_else(|| disk.holds(id), is_same),
        }
    }

    /// Forgets what is stored under an id, in every tier.
    pub(super) fn remove(&self, id: &EntryId) -> bool {
        self.turns.forget(id);
        let was_on_disk = self.disk.is_some_and(|disk| {
            let held = disk.holds(id);
            disk.remove(id);
            held
        });
        let was_in_memory = self.memory.remove(id);
        was_in_memory || was_on_disk
    }

    /// What each tier says about itself, in the order of lookup.
    pub fn tiers(&self) -> Vec<TierStatus<'_>> {
        let (items, bytes) = self.memory.usage();
        let capacity = self.memory.capacity();
        let state = if capacity == 0 { TierState::Off } else { TierState::Ok };
        let memory =
            TierStatus { name: TierName::Memory, state, items, bytes, capacity, metrics: self.memory.metrics() };
        let disk = self.disk.map(|disk| {
            let (items, bytes) = disk.usage();
            TierStatus {
                name: TierName::Disk,
                state: disk.state(),
                items,
                bytes,
                capacity: disk.capacity(),
                metrics: disk.metrics(),
            }
        });
        [memory].into_iter().chain(disk).collect()
    }

    /// Whether any of these tiers takes something now.
    pub fn accepts(&self, tiers: TierSet) -> bool {
        let disk = tiers.contains(TierName::Disk) && self.disk.is_some_and(DiskTier::accepts_writes);
        disk || tiers.contains(TierName::Memory)
    }

    /// Finishes what is being written, and keeps nothing any more that would outlive the process.
    pub fn close(&self) {
        if let Some(disk) = self.disk {
            disk.close();
        }
    }

    /// Waits, for a moment at most, until what was forgotten is so on disk as well, and stays so if the process dies.
    pub async fn settled(&self) {
        if let Some(disk) = self.disk {
            disk.settled().await;
        }
    }

    /// Keeps an entry wherever it belongs, unless it is not wanted any more: that is asked again once it has its place, so that
    /// whoever forgets it before that is seen, and whoever does later finds it.
    pub(super) fn keep(&self, id: EntryId, entry: Entry, is_wanted: &dyn Fn() -> bool) {
        let _alone = self.combining(&id).lock();
        self.keep_alone(id, entry, Ready::Nothing, is_wanted);
    }

    /// Keeps an entry whose head is new, and whose body is that of the entry with these facts.
    pub(super) fn keep_renewed(&self, id: EntryId, entry: Entry, replaces: Arc<Facts>, is_wanted: &dyn Fn() -> bool) {
        let _alone = self.combining(&id).lock();
        self.keep_alone(id, entry, Ready::Body(replaces), is_wanted);
    }

    /// As [`Store::keep`], by whoever has the lock.
    pub(super) fn keep_alone(&self, id: EntryId, entry: Entry, ready: Ready, is_wanted: &dyn Fn() -> bool) {
        if !is_wanted()
            || !self.variants.admit(&id, |given_up| {
                self.remove(&given_up);
            })
        {
            return;
        }
        let place = self.place(&entry);
        let entry = Arc::new(entry.with_kept(self.turns.keep(&id)));
        let in_memory = place.write_to.contains(TierName::Memory) && !entry.body.is_in_file();
        if let Some(disk) = self.disk {
            let goes_there = place.write_to.contains(TierName::Disk) && (!in_memory || disk.writes_through());
            match ready {
                _ if !goes_there => disk.remove(&id),
                Ready::File(written) => disk.put_written(&id, entry.clone(), written, is_wanted),
                Ready::Body(replaces) => disk.put(id, entry.clone(), Some(replaces), is_wanted),
                Ready::Nothing => disk.put(id, entry.clone(), None, is_wanted),
            }
        }
        if in_memory {
            self.memory.insert(id, entry);
        }
        if !in_memory || !is_wanted() {
            self.memory.remove(&id);
        }
    }

    /// What a fill may take, and the file that it goes to if it is too large for memory.
    pub(super) fn limits_of(&self, id: EntryId, facts: &Facts) -> FillLimits {
        let limits = self.limits(facts.tiers);
        let disk = self.disk.filter(|disk| facts.tiers.contains(TierName::Disk) && disk.capacity() > 0);
        FillLimits { spool: disk.map(|disk| Arc::new(Source { disk, id }) as Arc<dyn SpoolSource>), ..limits }
    }

    /// Keeps what a fill has written to disk.
    pub(super) async fn keep_spooled(&'static self, id: &EntryId, fill: &Arc<Fill>, spool: Arc<dyn Spool>) {
        let spool: Arc<dyn Any + Send + Sync> = spool;
        let Ok(spool) = spool.downcast::<DiskSpool>() else { return };
        if let Some(filling) = fill.head.filling().copied() {
            if let Some(written) = spool.finish().await {
                self.keep_part(*id, fill, filling, Brought::InFile(written)).await;
            }
            return;
        }
        if !self.variants.admit(id, |given_up| {
            self.remove(&given_up);
        }) {
            return spool.abandon();
        }
        let stored = spool.seal(fill).await == WriteResult::Stored;
        // Whether it is there now or not: what memory has is older.
        self.memory.remove(id);
        if !stored && let Some(disk) = self.disk {
            disk.remove(id);
        }
    }

    pub(super) fn place(&self, entry: &Entry) -> Placement {
        let wish = Wish { tiers: entry.facts.tiers, size: Some(entry.body.len() as u64), found: None };
        placement(&self.tiers.load(), &wish)
    }
}

/// Whether both are what was decided about one response: copies of it are made when it is read from disk.
pub(super) fn same(one: &Arc<Facts>, other: &Arc<Facts>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
