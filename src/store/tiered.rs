//! The tiers together: entries to where they belong, and nothing older left in any of them.
//!
//! Where an entry goes is asked of [`placement`]. What a tier does not keep of an entry that is stored, it forgets: what it
//! has is older.

use super::Store;
use super::cluster::Leased;
use super::combining::Brought;
use super::disk::DiskTier;
use super::disk::parts::WrittenPart;
use super::disk::spool::DiskSpool;
use super::entry::{Entry, EntryId};
use super::fill::{Fill, FillLimits, Spool, SpoolSource};
use super::memory::LetGo;
use super::redis::{Outcome, PutAs, RedisTier};
use super::tier::{TierState, TierStatus, WriteResult};
use super::turns::Turns;
use crate::decide::{Facts, Placement, Wish, placement};
use crate::key::PrimaryKey;
use crate::policy::decision::{TierName, TierSet};
use std::any::Any;
use std::sync::Arc;

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

impl Ready {
    /// The facts of the entry that only gets a new head.
    fn replaces(&self) -> Option<Arc<Facts>> {
        match self {
            Ready::Body(facts) => Some(facts.clone()),
            Ready::Nothing | Ready::File(_) => None,
        }
    }
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
    /// Forgets what is stored under an id, in every tier.
    pub(super) fn remove(&self, id: &EntryId) -> bool {
        let was_here = self.remove_here(id);
        if let Some(redis) = self.redis {
            redis.remove(id);
        }
        if let Some(cluster) = self.cluster {
            cluster.forget(id);
        }
        was_here
    }

    /// Forgets what is stored under an id in the tiers of this node.
    pub(super) fn remove_here(&self, id: &EntryId) -> bool {
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
        [memory].into_iter().chain(disk).chain(self.redis.map(RedisTier::status)).collect()
    }

    /// Whether any of these tiers takes something now.
    pub fn accepts(&self, tiers: TierSet) -> bool {
        let disk = tiers.contains(TierName::Disk) && self.disk.is_some_and(DiskTier::accepts_writes);
        let redis = tiers.contains(TierName::Redis) && self.redis.is_some_and(|redis| redis.redis().is_up());
        disk || redis || tiers.contains(TierName::Memory)
    }

    /// Finishes what is being written, and keeps nothing any more that would outlive the process.
    pub fn close(&self) {
        self.sweeping.end();
        if let Some(redis) = self.redis {
            redis.close();
        }
        if let Some(disk) = self.disk {
            disk.close();
        }
    }

    /// Waits, for a moment at most, until what was forgotten under these keys is so on disk and in Redis as well, and stays so if the process dies.
    pub async fn settled(&self, keys: &[PrimaryKey]) {
        let on_disk = async {
            if let Some(disk) = self.disk {
                disk.settled().await;
            }
        };
        let in_redis = async {
            if let Some(redis) = self.redis {
                let ids = keys.iter().map(|key| EntryId { primary: key.hash(), variant: None }).collect::<Vec<_>>();
                redis.settled(&ids).await;
            }
        };
        futures::join!(on_disk, in_redis);
    }

    /// Keeps an entry wherever it belongs, unless it is not wanted any more: that is asked again once it has its place, so that
    /// whoever forgets it before that is seen, and whoever does later finds it.
    pub(super) fn keep(
        &'static self,
        id: EntryId,
        entry: Entry,
        lease: Option<Arc<Leased>>,
        is_wanted: &dyn Fn() -> bool,
    ) {
        let _alone = self.combining(&id).lock();
        self.keep_alone(id, entry, Ready::Nothing, lease, is_wanted);
    }

    /// Keeps an entry whose head is new, and whose body is that of the entry with these facts.
    pub(super) fn keep_renewed(
        &'static self,
        id: EntryId,
        entry: Entry,
        replaces: Arc<Facts>,
        lease: Option<Arc<Leased>>,
        is_wanted: &dyn Fn() -> bool,
    ) {
        let _alone = self.combining(&id).lock();
        self.keep_alone(id, entry, Ready::Body(replaces), lease, is_wanted);
    }

    /// As [`Store::keep`], by whoever has the lock.
    pub(super) fn keep_alone(
        &'static self,
        id: EntryId,
        entry: Entry,
        ready: Ready,
        lease: Option<Arc<Leased>>,
        is_wanted: &dyn Fn() -> bool,
    ) {
        if !is_wanted()
            || !self.variants.admit(&id, |given_up| {
                self.remove(&given_up);
            })
        {
            return;
        }
        let place = self.place(&entry);
        let replaces = ready.replaces();
        let entry = Arc::new(entry.with_kept(self.turns.keep(&id)));
        self.keep_in_redis(id, &entry, &place, replaces, lease);
        if !self.keep_here(&id, &entry, &place, ready, is_wanted)
            && let Some(redis) = self.redis
        {
            redis.remove(&id);
        }
    }

    /// Keeps an entry in the tiers of this node. Says whether it is wanted after all.
    pub(super) fn keep_here(
        &self,
        &id: &EntryId,
        entry: &Arc<Entry>,
        place: &Placement,
        ready: Ready,
        is_wanted: &dyn Fn() -> bool,
    ) -> bool {
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
            self.memory.insert(id, entry.clone());
        }
        let is_wanted = is_wanted();
        if !in_memory || !is_wanted {
            self.memory.remove(&id);
        }
        is_wanted
    }

    /// Keeps an entry in Redis, or else sees that nothing older is there. The lease of its fill ends with that.
    fn keep_in_redis(
        &'static self,
        id: EntryId,
        entry: &Arc<Entry>,
        place: &Placement,
        replaces: Option<Arc<Facts>>,
        lease: Option<Arc<Leased>>,
    ) {
        // What nodes have of a response in parts is their own.
        let is_whole = entry.body.incomplete().is_none();
        let Some(redis) = self.redis.filter(|redis| is_whole && redis.keeps_entries()) else { return };
        let grounds = PutAs::asked_at(entry.facts.asked);
        // Of parts that were kept on disk it is not known what was purged on other nodes since they came.
        let is_comparable = entry.facts.shared.epoch == self.purges.shared().latest().epoch;
        if !is_comparable || !place.write_to.contains(TierName::Redis) {
            if let Some(lease) = lease {
                lease.end(if is_comparable { Outcome::Unshared } else { Outcome::Dropped });
            }
            return redis.give_way(&id, grounds);
        }
        // Whoever waits for a fill of ours is served this.
        let lease = lease.or_else(|| self.cluster?.lease_of(&id));
        let grounds = lease.as_ref().map_or(grounds, |lease| lease.to_store());
        // Renewed until then.
        let facts = entry.facts.clone();
        let key = entry.key.clone();
        let done = move |result| {
            let Some(lease) = lease else { return };
            lease.was_used();
            if result == WriteResult::Outdated {
                // Another node has fetched it since, or it was changed. Done apart: this may run where the entry is being kept.
                drop(redis.redis().spawn(async move { self.remove_outdated(&id, &key, &facts) }));
            }
        };
        match replaces {
            Some(replaces) => redis.put_renewed(id, entry.clone(), replaces, grounds, done),
            None => redis.put(id, entry.clone(), grounds, || true, done),
        }
    }

    /// Forgets here what turned out not to be the latest that nodes have fetched.
    fn remove_outdated(&self, id: &EntryId, key: &[u8], facts: &Arc<Facts>) {
        let _alone = self.combining(id).lock();
        if self.has_here(id, key, facts) == Some(true) {
            self.remove_here(id);
        }
    }

    /// What a fill may take, and the file that it goes to if it is too large for memory.
    pub(super) fn limits_of(&self, id: EntryId, facts: &Facts) -> FillLimits {
        let limits = self.limits(facts.tiers);
        let disk = self.disk.filter(|disk| facts.tiers.contains(TierName::Disk) && disk.capacity() > 0);
        FillLimits { spool: disk.map(|disk| Arc::new(Source { disk, id }) as Arc<dyn SpoolSource>), ..limits }
    }

    /// Keeps what a fill has written to disk.
    pub(super) async fn keep_spooled(
        &'static self,
        id: &EntryId,
        fill: &Arc<Fill>,
        spool: Arc<dyn Spool>,
        lease: Option<Arc<Leased>>,
    ) {
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
        let Some(disk) = self.disk else { return };
        if !stored {
            disk.remove(id);
        }
        let entry = if stored { disk.peek(id, &fill.key).await } else { None };
        match entry {
            // Too large for memory, or for what all fills may hold there together, and not for Redis.
            Some(entry) => {
                // On disk it is not kept what nodes have in common.
                let facts = fill.facts.clone();
                let entry = Entry::of(entry.key.clone(), entry.head.clone(), entry.body.clone(), facts);
                let place = self.place(&entry);
                self.keep_in_redis(*id, &Arc::new(entry), &place, None, lease);
            }
            None => {
                if let Some(redis) = self.redis {
                    redis.give_way(id, PutAs::asked_at(fill.facts.asked));
                }
            }
        }
    }

    /// Whether Redis keeps what was decided about so, as far as its length is known.
    pub(super) fn is_shared(&self, facts: &Facts, size: Option<u64>) -> bool {
        let wish = Wish { tiers: facts.tiers, size, found: None };
        placement(&self.tiers.load(), &wish).write_to.contains(TierName::Redis)
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
