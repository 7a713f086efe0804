//! Entries that are asked for often come from a tier to one above it: from the disk to memory, behind the requests that found them;
//! from Redis, which gave all of it, to whichever tier of this node takes it.

use super::Store;
use super::disk::body::FileBody;
use super::disk::volume::Stamp;
use super::entry::{Body, Entry, EntryId};
use super::tier::Found;
use super::turns::Forgets;
use crate::clock;
use crate::decide::{Found as Popular, Wish, placement};
use crate::policy::decision::TierName;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are on their way at once. After a restart everything that is popular is so at once, and there is time: until
/// it is in memory it is served from the disk.
const ON_THEIR_WAY: u64 = 32 << 20;

/// Bytes that are on their way to memory.
#[derive(Debug, Default)]
pub(super) struct Promoting(AtomicU64);

impl Promoting {
    /// Takes so many, if there are not too many already.
    fn begin(&self, bytes: u64) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        // One may be larger by itself.
        let fits = before == 0 || before + bytes <= ON_THEIR_WAY;
        if !fits {
            self.end(bytes);
        }
        fits
    }

    fn end(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Store {
    /// Copies an entry to memory that is asked for often enough. `before` was taken before it was looked up.
    pub(super) fn promote(&'static self, id: &EntryId, found: &Found, before: Option<Stamp>) {
        let entry = &found.entry;
        let bytes = entry.body.len() as u64;
        let wish = Wish {
            tiers: entry.facts.tiers,
            size: Some(bytes),
            found: Some(Popular {
                tier: TierName::Disk,
                hits: u64::from(found.popularity.hits),
                per_minute: f64::from(found.popularity.per_minute),
            }),
        };
        if placement(&self.tiers.load(), &wish).promote_to != Some(TierName::Memory) {
            return;
        }
        // What is stale is about to be asked about, and what comes of that is stored anew.
        let is_fresh = entry.facts.freshness.is_fresh(clock::now());
        let Some(file) = only_file(&entry.body).filter(|_| is_fresh) else { return };
        if !file.begin_promotion() {
            return;
        }
        if !self.promoting.begin(bytes) {
            return file.end_promotion();
        }
        let ready = found.body.clone().filter(|ready| ready.len() as u64 == entry.body.complete());
        let (id, entry) = (*id, entry.clone());
        tokio::spawn(async move {
            let copy = match ready {
                Some(ready) => Some(Body::Whole(ready)),
                None => copy_of(&entry.body).await,
            };
            if let Some(copy) = copy {
                self.put_in_memory(id, &entry, copy, before);
            }
            self.promoting.end(bytes);
            if let Some(file) = only_file(&entry.body) {
                file.end_promotion();
            }
        });
    }

    /// Copies an entry from Redis to the uppermost tier that takes it. `before` was taken before it was looked up.
    pub(super) fn promote_from_redis(&'static self, id: &EntryId, found: &Found, before: Forgets) {
        let entry = &found.entry;
        let wish = Wish {
            tiers: entry.facts.tiers,
            size: Some(entry.body.len() as u64),
            found: Some(Popular { tier: TierName::Redis, hits: u64::from(found.popularity.hits), per_minute: 0.0 }),
        };
        let is_fresh = entry.facts.freshness.is_fresh(clock::now());
        let Some(tier) = placement(&self.tiers.load(), &wish).promote_to.filter(|_| is_fresh) else { return };
        let _alone = self.combining(id).lock();
        // Whoever stored something since, or forgot it, knows better what is to be here.
        let is_unchanged = || self.turns.forgets(id) == before;
        let is_here = self.memory.get(id, &entry.key).is_some() || self.disk.is_some_and(|disk| disk.holds(id));
        if is_here || !is_unchanged() {
            return;
        }
        let copy = Entry::of(entry.key.clone(), entry.head.clone(), entry.body.clone(), entry.facts.clone());
        let copy = Arc::new(copy.with_hits(entry.hits()).with_kept(self.turns.keep(id)));
        match (tier, self.disk) {
            (TierName::Memory, _) => {
                self.memory.insert(*id, copy);
                self.memory.metrics().promotions.inc();
                // Who forgets something notes that first.
                if !is_unchanged() {
                    self.memory.remove(id);
                }
            }
            (TierName::Disk, Some(disk)) => {
                disk.put(*id, copy, None, is_unchanged);
                disk.metrics().promotions.inc();
            }
            (TierName::Disk | TierName::Redis, _) => {}
        }
    }

    /// Puts a copy into memory, unless the entry was changed since: whoever did that knows better what is to be there.
    fn put_in_memory(&self, id: EntryId, entry: &Entry, copy: Body, before: Option<Stamp>) {
        let _alone = self.combining(&id).lock();
        let is_unchanged = || self.disk.and_then(|disk| disk.stamp(&id)) == before;
        if self.memory.get(&id, &entry.key).is_some() || !is_unchanged() {
            return;
        }
        let copy = Entry::of(entry.key.clone(), entry.head.clone(), copy, entry.facts.clone());
        let copy = copy.with_hits(entry.hits()).with_kept(self.turns.keep(&id));
        self.memory.insert(id, Arc::new(copy));
        self.memory.metrics().promotions.inc();
        // Who forgets something forgets it on disk first.
        if !is_unchanged() {
            self.memory.remove(&id);
        }
    }
}

/// The file that has all of what an entry holds.
fn only_file(body: &Body) -> Option<&Arc<FileBody>> {
    match body {
        Body::Whole(_) => None,
        Body::Parts(parts) => parts.only_file(),
        Body::File(file) => Some(file),
    }
}

/// What an entry holds, in memory; `None` if it cannot be read, which is known by then where it has to be.
async fn copy_of(body: &Body) -> Option<Body> {
    match body {
        Body::Parts(parts) => Some(Body::Parts(parts.in_memory().await.ok()?)),
        whole => read_all(whole).await.map(Body::Whole),
    }
}

/// All of a body.
pub(super) async fn read_all(body: &Body) -> Option<Bytes> {
    let end = body.complete();
    let mut all = BytesMut::with_capacity(usize::try_from(end).ok()?);
    while (all.len() as u64) < end {
        all.extend_from_slice(&body.read(all.len() as u64, end).await.ok()?);
    }
    Some(all.freeze())
}
