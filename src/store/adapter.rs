//! The store as Pingora's cache sees it.

use super::Store;
use super::cluster::{Fetches, Leased};
use super::combining::Brought;
use super::entry::{Entry, EntryId, StoredHead};
use super::fill::{BeforeWaiting, Fill, FillReader, Filled, Room};
use super::lookup::{Asked, Selects};
use super::redis::Outcome;
use super::stored::{StoredHit, out_of_range};
use super::tiered::same;
use crate::clock;
use crate::decide::Facts;
use crate::lock::Ticket;
use crate::purge::Position;
use crate::semantics::fields::content_length;
use crate::semantics::range::Spec;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::cache::key::{CacheHashKey, CompactCacheKey};
use pingora::cache::predictor::CacheablePredictor;
use pingora::cache::storage::{HandleHit, HandleMiss, MissFinishType, PurgeOutcome, PurgeTarget};
use pingora::cache::trace::SpanHandle;
use pingora::cache::{CacheKey, CacheMeta, HitHandler, MissHandler, NoCacheReason, PurgeType, Storage};
use pingora::prelude::{Error, ErrorType, Result};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn id_of(key: &CacheKey) -> EntryId {
    EntryId { primary: u128::from_be_bytes(key.primary_bin()), variant: key.variance_bin().map(u128::from_be_bytes) }
}

fn id_of_compact(key: &CompactCacheKey) -> EntryId {
    EntryId {
        primary: u128::from_be_bytes(key.primary),
        variant: key.variance.as_deref().copied().map(u128::from_be_bytes),
    }
}

/// The part that the request would ask the origin for; `None` is the whole.
fn part_of(key: &CacheKey) -> Option<Spec> {
    key.extensions.get::<Spec>().copied()
}

/// How much was purged when the request came, if it may wait for another one.
fn came(key: &CacheKey) -> Option<Position> {
    key.extensions.get::<Position>().copied()
}

/// What was decided about a response, as `response_cache_filter` left it in the metadata.
fn facts_of(meta: &CacheMeta) -> Result<Arc<Facts>> {
    let facts = meta.extensions().get::<Arc<Facts>>().cloned();
    facts.ok_or_else(|| {
        Error::explain(ErrorType::InternalError, "a response is to be stored that was not decided about")
    })
}

impl Store {
    /// Waits until a lease of ours is out of the way of what is stored without one.
    async fn given_back(&self, id: &EntryId) {
        if let Some(cluster) = self.cluster() {
            cluster.given_back(id).await;
        }
    }

    /// Whether anything is stored, or on its way, under the key, whatever the variant.
    pub fn holds(&self, key: &CacheKey) -> bool {
        let id = EntryId { variant: None, ..id_of(key) };
        self.memory.get(&id, key.primary_key()).is_some()
            || self.disk.is_some_and(|disk| disk.holds(&id))
            || self.redis.is_some_and(|redis| redis.holds(&id))
            || self.joinable_fill(&id, key.primary_key(), part_of(key), came(key)).is_some()
    }

    /// Whether the entry that was found is still stored, with nothing that took its place.
    pub fn still_holds(&self, key: &CacheKey, facts: &Arc<Facts>) -> bool {
        self.has(&id_of(key), key.primary_key(), facts)
    }

    /// Forgets the entry with these facts, unless another one took its place.
    pub(super) fn discard_from(&self, id: &EntryId, key: &[u8], facts: &Arc<Facts>) {
        if self.has(id, key, facts) {
            self.remove(id);
        }
    }

    /// Forgets the entry that was found, unless another one took its place.
    pub fn discard(&self, key: &CacheKey, facts: &Arc<Facts>) {
        self.discard_from(&id_of(key), key.primary_key(), facts);
    }
}

/// The entry that new metadata is about, by the facts that only it holds. Another one may be stored under its key by the
/// time when the origin has confirmed it.
#[derive(Debug, Clone)]
pub struct Updates(pub Arc<Facts>);

/// How often a lookup looks again because something came while it asked Redis.
const MOST_LOOKS: u32 = 5;

#[async_trait]
impl Storage for Store {
    async fn lookup(&'static self, key: &CacheKey, _trace: &SpanHandle) -> Result<Option<(CacheMeta, HitHandler)>> {
        let (id, part) = (id_of(key), part_of(key));
        let fetches = match Ticket::of(key) {
            Some(ticket) if !ticket.wants_grant() => Fetches::Behind,
            Some(_) if part.is_none() => Fetches::ForAll,
            _ => Fetches::Alone,
        };
        let mut looks = 1;
        let found = loop {
            if let Some(fill) = self.joinable_fill(&id, key.primary_key(), part, came(key))
                && (part.is_none() || self.at_hand(&id, key.primary_key(), part).await.is_none())
            {
                return Ok(Some((fill.head.to_meta(&fill.facts), Box::new(FillHit::new(fill.reader(false))))));
            }
            let changed = || self.cluster().map(|_| self.turns.changed(&id));
            let before = changed();
            let asked = key.extensions.get::<Asked>();
            let selects = key.extensions.get::<Selects>();
            let looked = self.lookup_tiers(&id, key.primary_key(), asked, selects, fetches).await;
            // Whoever goes to the origin now is to be the only one: from here to the lock nothing is waited for.
            let is_overtaken = || {
                changed() != before
                    || self.joinable_fill(&id, key.primary_key(), part, came(key)).is_some()
                    || looked.is_fetched && self.cluster().is_some_and(|cluster| !cluster.is_fetched(&id))
            };
            if looks >= MOST_LOOKS || !looked.is_old || !is_overtaken() {
                break looked.found;
            }
            looks += 1;
        };
        Ok(found.map(|(tier, found)| {
            let facts = self.facts_in_force(&found.entry);
            let meta = found.entry.head.to_meta(&facts);
            (meta, Box::new(StoredHit::new(tier, found).judged_by(facts)) as HitHandler)
        }))
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        streaming_write_tag: Option<&[u8]>,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let id = id_of(key);
        let fills = self.fills.read();
        let under_way = fills.get(&id).into_iter().flatten();
        let own = under_way.rev().find(|fill| Some(tag_of(fill).as_slice()) == streaming_write_tag);
        Ok(own.map(|fill| (fill.head.to_meta(&fill.facts), Box::new(FillHit::new(fill.reader(true))) as HitHandler)))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let id = id_of(key);
        let (head, facts) = (Arc::new(StoredHead::of(meta)), facts_of(meta)?);
        let expected = content_length(meta.headers());
        let limits = self.limits_of(id, &facts);
        let is_shared = head.filling().is_none() && is_of_use_to_waiters(&facts) && self.is_shared(&facts, expected);
        let fill = Fill::new(key.primary_key().into(), head, facts, expected, limits);
        let fill = self.begin(id, fill);
        let tag = tag_of(&fill);
        let lease = Leased::of(key, &id);
        if let Some(lease) = &lease {
            lease.fills(&fill);
        }
        let mut writer = FillWriter { store: self, key: key.clone(), id, fill, tag, received: 0, lease, ended: false };
        if !is_shared {
            writer.is_not_shared();
        }
        Ok(Box::new(writer))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _purge_type: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let removed = self.remove(&id_of_compact(target.key()));
        Ok(if removed { PurgeOutcome::Purged(None) } else { PurgeOutcome::NotFound })
    }

    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _trace: &SpanHandle) -> Result<bool> {
        let id = id_of(key);
        let lease = Leased::of(key, &id);
        let before = self.turns.forgets(&id);
        // Redis need not be asked for what it has given with the lease, which it takes back if anything happens to that.
        let known = lease.as_ref().and_then(|lease| lease.known(key.primary_key()));
        let found = match self.peek_here(&id, key.primary_key()).await {
            None if known.is_some() => known.and_then(|known| self.unless_purged(&id, known)),
            None => self.peek(&id, key.primary_key()).await,
            found => found,
        };
        let Some(entry) = found else { return Ok(false) };
        let is_meant = meta.extensions().get::<Updates>().is_some_and(|Updates(facts)| same(facts, &entry.facts));
        if !is_meant {
            return Ok(false);
        }
        let renewed = entry.with_head(Arc::new(StoredHead::of(meta)), facts_of(meta)?);
        let lease = match lease {
            Some(lease) if !is_of_use_to_waiters(&renewed.facts) => {
                lease.end(Outcome::Unshared);
                self.given_back(&id).await;
                None
            }
            lease => lease,
        };
        self.keep_renewed(id, renewed, entry.facts.clone(), lease, &|| self.turns.forgets(&id) == before);
        Ok(true)
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// Whether nodes that wait for it can do with it. What is stale at once would have each of them ask the origin, one after another.
fn is_of_use_to_waiters(facts: &Facts) -> bool {
    facts.freshness.is_fresh(clock::now()) || !facts.freshness.window_while_revalidate().is_zero()
}

/// Tells the fills of one key apart, so that a request reads the one that it writes.
fn tag_of(fill: &Arc<Fill>) -> [u8; 8] {
    (Arc::as_ptr(fill) as usize as u64).to_be_bytes()
}

/// Follows a fill under way.
pub struct FillHit {
    reader: FillReader,
    /// Bytes still wanted.
    wanted: u64,
    before_waiting: Option<Arc<dyn BeforeWaiting>>,
}

impl FillHit {
    fn new(reader: FillReader) -> Self {
        FillHit { reader, wanted: u64::MAX, before_waiting: None }
    }

    /// Has something done before each wait for the fill to go on.
    pub fn before_waiting(&mut self, what: Arc<dyn BeforeWaiting>) {
        self.before_waiting = Some(what);
    }

    /// Takes a piece only while there is room for it.
    pub fn wait_for_room(&mut self, room: Arc<dyn Room>) {
        self.reader.wait_for_room(room);
    }

    /// What is followed.
    pub fn fill(&self) -> &Arc<Fill> {
        self.reader.fill()
    }
}

#[async_trait]
impl HandleHit for FillHit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        if self.wanted > 0 {
            let piece = self.reader.read(self.before_waiting.as_ref()).await;
            let Some(mut piece) = piece.map_err(|e| Error::because(ErrorType::ReadError, "following a fill", e))?
            else {
                return Ok(None);
            };
            piece.truncate(self.wanted.min(piece.len() as u64) as usize);
            self.wanted -= piece.len() as u64;
            return Ok(Some(piece));
        }
        self.reader.room_for_end().await;
        Ok(None)
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        // Only a body of known length can be cut into ranges before its end has come.
        self.fill().expected().is_some()
    }

    fn can_seek_multipart(&self) -> bool {
        // Ranges may go back; a fill that overflows keeps nothing to go back to.
        false
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let length = self.fill().expected().unwrap_or(0);
        let start = start as u64;
        if start > length {
            return out_of_range(start as usize, length);
        }
        // What is not wanted need not be read from a file.
        self.reader.skip_to(start);
        self.wanted = end.map_or(length, |end| (end as u64).min(length)).saturating_sub(start);
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// How long a fill that was purged can be followed after its end: long enough for those who waited for its
/// beginning to be woken, on a busy machine as well.
const LINGER: Duration = Duration::from_secs(1);

/// Writes a fill. Dropped before [`HandleMiss::finish`], it breaks the fill.
struct FillWriter {
    store: &'static Store,
    key: CacheKey,
    id: EntryId,
    fill: Arc<Fill>,
    tag: [u8; 8],
    /// Bytes of the body so far.
    received: u64,
    /// What makes this the only fill of all nodes.
    lease: Option<Arc<Leased>>,
    ended: bool,
}

impl FillWriter {
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            if self.fill.is_too_large() {
                // The next request for it streams on its own instead of waiting to be the second to find out.
                self.store.uncacheable.mark_uncacheable(&self.key, NoCacheReason::ResponseTooLarge);
            }
            self.store.end(&self.id, &self.fill);
        }
    }

    /// Lets those go who wait on other nodes: they will not find it in Redis.
    fn is_not_shared(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.end(Outcome::Unshared);
        }
    }

    /// Ends it in a moment, instead of at once: those who were woken by its head have no entry to find.
    fn linger(&mut self) {
        self.ended = true;
        let (store, id, fill) = (self.store, self.id, self.fill.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            store.end(&id, &fill);
        });
    }
}

#[async_trait]
impl HandleMiss for FillWriter {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        self.received += data.len() as u64;
        if self.lease.is_some() && !self.store.is_shared(&self.fill.facts, Some(self.received)) {
            self.is_not_shared();
        }
        let written = self.fill.write(data).await;
        if self.lease.is_some() && self.fill.has_overflowed() {
            self.is_not_shared();
        }
        written.map_err(|e| Error::because(ErrorType::WriteError, "filling the cache", e))
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        if self.lease.is_none() {
            self.store.given_back(&self.id).await;
        }
        let size = match self.fill.filled() {
            // Who waits for it is to have it; who comes later would not want it.
            Ok(Filled::Whole(_)) if self.store.is_dead(&self.fill) => {
                self.linger();
                0
            }
            Ok(Filled::Spooled { spool, .. }) if self.store.is_dead(&self.fill) => {
                spool.abandon();
                0
            }
            Ok(Filled::Whole(body)) => {
                let size = body.len();
                // Kept before the fill ends, so that no lookup in between finds neither.
                if let Some(filling) = self.fill.head.filling().copied() {
                    self.store.keep_part(self.id, &self.fill, filling, Brought::InMemory(body)).await;
                } else {
                    let (key, head) = (self.fill.key.clone(), self.fill.head.clone());
                    let entry = Entry::new(key, head, body, self.fill.facts.clone());
                    self.store.keep(self.id, entry, self.lease.take(), &|| self.fill.is_current());
                }
                size
            }
            Ok(Filled::Spooled { spool, length }) => {
                self.store.keep_spooled(&self.id, &self.fill, spool, self.lease.take()).await;
                usize::try_from(length).unwrap_or(usize::MAX)
            }
            Ok(Filled::TooLarge) => 0,
            Err(e) => return Error::e_because(ErrorType::InternalError, "sealing a fill", e),
        };
        self.end();
        // Last, so that whoever has read to the end finds the entry.
        self.fill.seal();
        Ok(MissFinishType::Created(size))
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        Some(&self.tag)
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take().filter(|_| !self.ended) {
            lease.end(Outcome::Failed);
        }
        self.fill.break_off();
        self.end();
    }
}

#[cfg(test)]
#[path = "adapter_tests.rs"]
mod tests;
