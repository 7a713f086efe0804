//! Lookups: what a request finds in the tiers, in order.

use super::Store;
use super::cluster::{Fetches, More};
use super::disk::index::popularity::Popularity;
use super::entry::{Entry, EntryId};
use super::redis::RedisTier;
use super::tier::{Found, Lookup};
use super::tiered::{Ready, same};
use super::turns::Forgets;
use crate::clock;
use crate::decide::Facts;
use crate::policy::decision::{TierName, TierSet};
use crate::purge::Standing;
use http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a request learns about the tiers that it asked, through its cache key.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicU8>);

impl Asked {
    /// The first tier that could not say whether it has the entry.
    pub fn unavailable(&self) -> Option<TierName> {
        TierSet::from_bits(self.0.load(Ordering::Relaxed)).iter().next()
    }

    /// This one could not.
    pub(super) fn note_unavailable(&self, tier: TierName) {
        self.0.fetch_or(TierSet::NONE.with(tier).to_bits(), Ordering::Relaxed);
    }
}

/// The hash of the request's values for the fields that a stored response varies on, in its cache key. Says `None` if it cannot tell.
#[derive(Clone)]
pub struct Selects(Arc<Selecting>);

type Selecting = dyn Fn(&HeaderMap) -> Option<[u8; 16]> + Send + Sync;

impl Selects {
    /// What a request selects with, by the fields of the stored response.
    pub fn new(variance: impl Fn(&HeaderMap) -> Option<[u8; 16]> + Send + Sync + 'static) -> Self {
        Selects(Arc::new(variance))
    }

    /// Whether the request wants another variant of what was found in the slot that every lookup starts from.
    fn is_another(&self, found: &Entry) -> bool {
        (self.0)(found.head.headers()).is_some_and(|wanted| found.head.variance() != Some(wanted))
    }
}

/// What a lookup has found.
#[derive(Debug)]
pub(super) struct Looked {
    /// The entry, and where it is.
    pub(super) found: Option<(TierName, Found)>,
    /// Redis was asked, which takes long enough for something to be stored here meanwhile, and had nothing fresh.
    pub(super) is_old: bool,
    /// Somebody had leave to fetch it then.
    pub(super) is_fetched: bool,
}

impl Looked {
    fn here(found: Option<(TierName, Found)>) -> Self {
        Looked { found, is_old: false, is_fetched: false }
    }
}

impl Store {
    /// The entry of that id, in whichever tier is first. Counts the lookups.
    pub(super) async fn lookup_tiers(
        &'static self,
        id: &EntryId,
        key: &[u8],
        asked: Option<&Asked>,
        selects: Option<&Selects>,
        fetches: Fetches,
    ) -> Looked {
        let Some(cluster) = self.cluster.filter(|_| self.redis.is_some_and(RedisTier::keeps_entries)) else {
            return Looked::here(self.lookup_here(id, key, asked).await);
        };
        let here = self.lookup_here(id, key, asked).await;
        let is_fresh = |(_, found): &(_, Found)| self.facts_in_force(&found.entry).freshness.is_fresh(clock::now());
        // What is only on the way to another variant is not fetched.
        let is_another = |(_, found): &(_, Found)| {
            id.variant.is_none() && selects.is_some_and(|selects| selects.is_another(&found.entry))
        };
        if here.as_ref().is_some_and(|here| fetches == Fetches::Behind || is_fresh(here) || is_another(here)) {
            return Looked::here(here);
        }
        // Before it is asked: whatever is forgotten from now on is not copied upwards.
        let before = self.turns.forgets(id);
        let told = cluster.ask(id, key, fetches).await;
        if let Some(asked) = asked.filter(|_| told.more == More::Unavailable) {
            asked.note_unavailable(TierName::Redis);
        }
        let found = match told.entry {
            Some((entry, popularity)) => {
                self.found_elsewhere(id, here, Found { entry, popularity, body: None }, before)
            }
            None => here,
        };
        let is_old = !found.as_ref().is_some_and(is_fresh);
        Looked { found, is_old, is_fetched: told.more == More::Fetched }
    }

    /// The newer one of what was found in Redis and what is here, and not fresh. Of what is older nothing stays here.
    fn found_elsewhere(
        &'static self,
        id: &EntryId,
        here: Option<(TierName, Found)>,
        found: Found,
        before: Forgets,
    ) -> Option<(TierName, Found)> {
        let Some((_, stale)) = &here else { return self.found_in_redis(id, found, before) };
        let came = |entry: &Entry| entry.facts.freshness.response_time;
        let is_newer = found.entry.facts.freshness.is_fresh(clock::now()) || came(&found.entry) > came(&stale.entry);
        if !is_newer || self.standing(&found.entry) == Standing::Dead {
            return here;
        }
        let _alone = self.combining(id).lock();
        let now = self.memory.get(id, &found.entry.key).or_else(|| self.disk?.at_hand(id, &found.entry.key));
        // Whoever stored something since, or forgot it, knows better what is to be here.
        let is_unchanged = now.is_none_or(|now| same(&now.facts, &stale.entry.facts));
        if self.turns.forgets(id) == before && is_unchanged {
            let entry = &found.entry;
            let copy = Entry::of(entry.key.clone(), entry.head.clone(), entry.body.clone(), entry.facts.clone());
            let copy = Arc::new(copy.with_hits(entry.hits()).with_kept(self.turns.keep(id)));
            let place = self.place(&copy);
            self.keep_here(id, &copy, &place, Ready::Nothing, &|| self.turns.forgets(id) == before);
        }
        Some((TierName::Redis, found))
    }

    /// As [`Store::lookup_tiers`], in the tiers of this node.
    pub(super) async fn lookup_here(
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
                    asked.note_unavailable(TierName::Disk);
                }
                None
            }
        }
    }

    /// What came of asking Redis. `before` was taken before it was asked.
    pub(super) fn found_in_redis(
        &'static self,
        id: &EntryId,
        found: Found,
        before: Forgets,
    ) -> Option<(TierName, Found)> {
        self.unless_purged(id, found.entry.clone())?;
        self.promote_from_redis(id, &found, before);
        Some((TierName::Redis, found))
    }

    /// The entry of that id, in whichever tier is first, for something else than a request.
    pub(super) async fn peek(&'static self, id: &EntryId, key: &[u8]) -> Option<Arc<Entry>> {
        if let Some(found) = self.peek_here(id, key).await {
            return Some(found);
        }
        let redis = self.redis.filter(|redis| redis.keeps_entries())?;
        let found = redis.peek(id, key).await?;
        self.unless_purged(id, found)
    }

    /// As [`Store::peek`], in the tiers of this node.
    pub(super) async fn peek_here(&'static self, id: &EntryId, key: &[u8]) -> Option<Arc<Entry>> {
        let found = match self.memory.get(id, key) {
            Some(entry) => entry,
            None => self.disk?.peek(id, key).await?,
        };
        self.unless_purged(id, found)
    }

    /// Whether an entry with these facts is what is stored, as far as is known without asking anybody.
    pub(super) fn has(&self, id: &EntryId, key: &[u8], facts: &Arc<Facts>) -> bool {
        // What was found in Redis a moment ago is most likely there still; that it is not is found out before anything of it is
        // changed.
        self.has_here(id, key, facts)
            .unwrap_or_else(|| self.redis.is_some_and(|redis| redis.keeps_entries() && !redis.is_forgotten(id)))
    }

    /// The same of the tiers of this node; `None` if they have nothing under that id.
    pub(super) fn has_here(&self, id: &EntryId, key: &[u8], facts: &Arc<Facts>) -> Option<bool> {
        let is_same = |entry: Arc<Entry>| same(&entry.facts, facts);
        if let Some(entry) = self.memory.get(id, key) {
            return Some(is_same(entry));
        }
        // What was found a moment ago and is not open any more is most likely there still; another one is told from it
        // where that matters, by `turns` or the volume's stamps.
        let disk = self.disk?;
        disk.at_hand(id, key).map(is_same).or_else(|| disk.holds(id).then_some(true))
    }
}
