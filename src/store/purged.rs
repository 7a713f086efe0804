//! Entries and fills compared with the log of purges.
//!
//! What is dead is not served, and is removed by whoever finds it. An entry remembers how far it was compared, so that as long
//! as nothing is purged a hit costs one comparison of two numbers.

use super::Store;
use super::entry::{Entry, EntryId};
use super::fill::Fill;
use crate::clock;
use crate::decide::Facts;
use crate::key::{PrimaryKey, bucket_of};
use crate::purge::{Position, Purges, Standing, Subject};
use std::sync::Arc;

impl Store {
    /// The log of purges.
    pub fn purges(&self) -> &Arc<Purges> {
        &self.purges
    }

    /// What an entry is after all purges.
    pub fn standing(&self, entry: &Entry) -> Standing {
        // Before it is compared: what is purged meanwhile may or may not be seen.
        let latest = self.purges.latest();
        if entry.compared() == latest {
            return Standing::Good;
        }
        let standing = self.purges.standing(&subject(&entry.key, &entry.facts));
        if standing == Standing::Good {
            entry.set_compared(latest);
        }
        standing
    }

    /// The entry, unless it is dead. One that is goes from the tiers of this node: what Redis has is compared by itself.
    pub(super) fn unless_purged(&self, id: &EntryId, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        if self.standing(&entry) != Standing::Dead {
            return Some(entry);
        }
        if self.has_here(id, &entry.key, &entry.facts) == Some(true) {
            self.remove_here(id);
        }
        None
    }

    /// What decides about an entry: its own facts, unless it was purged softly.
    pub(super) fn facts_in_force(&self, entry: &Entry) -> Arc<Facts> {
        match self.standing(entry) {
            Standing::StaleSince(since) => {
                // The order of purges may be ahead of the clock.
                let since = since.time().min(clock::now());
                let freshness = entry.facts.freshness.stale_since(since);
                Arc::new(Facts { freshness, ..Facts::clone(&entry.facts) })
            }
            // Purged since it was looked up, which is no difference to a request that is answered already.
            Standing::Good | Standing::Dead => entry.facts.clone(),
        }
    }

    /// Whether what a fill brings is dead before it is stored.
    pub(super) fn is_dead(&self, fill: &Fill) -> bool {
        self.purges.standing(&subject(&fill.key, &fill.facts)) == Standing::Dead
    }

    /// Whether a request that came at `came` may follow a fill. What was purged afterwards is good enough for it: it has waited
    /// for that. Where it is not known when it came, it came now.
    pub(super) fn may_follow(&self, fill: &Fill, came: Option<Position>) -> bool {
        let until = came.unwrap_or_else(|| self.purges.latest());
        !self.purges.was_purged_until(&subject(&fill.key, &fill.facts), until)
    }

    /// Removes what this node has stored under a key, but not what is on its way: the log knows which of that is still good. What
    /// Redis has is compared with it when it is found; to remove a hundred thousand URLs there would hold up everybody's requests.
    pub fn remove_purged(&self, key: &PrimaryKey) {
        let id = EntryId { primary: key.hash(), variant: None };
        if self.memory.get(&id, key.as_bytes()).is_some() || self.disk.is_some_and(|disk| disk.holds(&id)) {
            self.remove_here(&id);
        }
    }
}

pub(super) fn subject<'a>(key: &'a [u8], facts: &'a Facts) -> Subject<'a> {
    Subject { bucket: bucket_of(key), resource: &facts.resource, tags: &facts.tags, seen: facts.seen }
}
