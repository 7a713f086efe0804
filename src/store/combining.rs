//! What becomes of a part that came: kept with what is stored, or instead of it (RFC 9111 section 3.4).
//!
//! Whether parts belong together is asked of [`crate::semantics::combine`]. Nothing is read or copied for it: the entry that
//! comes of it has some pieces in memory and some in files, and can be served at once; the disk tier copies them into one
//! file behind.

use super::Store;
use super::disk::parts::WrittenPart;
use super::disk::volume::Stamp;
use super::entry::{Body, Entry, EntryId};
use super::fill::Fill;
use super::partial::{Filling, Parts, Source};
use super::tiered::Ready;
use crate::clock;
use crate::purge::Standing;
use crate::semantics::combine::{Combination, KnownPart, Side, combination};
use crate::semantics::range::Spec;
use bytes::Bytes;
use std::sync::Arc;

/// Most bytes that are copied on disk to combine parts. Each part that comes has all of them copied, so that a large
/// response that is asked for in many small parts costs more writing than it is worth. Beyond it the larger side stays.
const MOST_COPIED: u64 = 64 << 20;

/// How often what is stored may change while it is looked at before the part is let go.
const ATTEMPTS: usize = 16;

/// What a fill of a part has brought.
#[derive(Debug)]
pub(super) enum Brought {
    /// Its bytes.
    InMemory(Bytes),
    /// A file that is written, and not in its place yet.
    InFile(WrittenPart),
}

impl Brought {
    fn source(&self) -> Source {
        match self {
            Brought::InMemory(bytes) => Source::Memory(bytes.clone()),
            Brought::InFile(written) => {
                let file = written.body().clone();
                Source::File { at: 0, length: file.len(), file }
            }
        }
    }
}

/// What was found on disk, and how to see whether it still is.
struct Looked {
    stored: Option<Arc<Entry>>,
    /// `None` if memory had something.
    stamp: Option<Option<Stamp>>,
}

impl Store {
    /// The entry that has the part and is fresh, although more is on its way: what is here need not be waited for.
    pub(super) async fn at_hand(&'static self, id: &EntryId, key: &[u8], part: Option<Spec>) -> Option<Arc<Entry>> {
        let part = part?;
        // Parts are here only.
        let entry = self.peek_here(id, key).await?;
        let parts = entry.body.incomplete()?;
        let range = part.within(parts.complete())?;
        (parts.covers(range) && !self.facts_in_force(&entry).freshness.ttl(clock::now()).is_zero()).then_some(entry)
    }

    /// Keeps the part that a fill brought, together with what is stored, or instead of it.
    pub(super) async fn keep_part(&'static self, id: EntryId, fill: &Fill, filled: Filling, brought: Brought) {
        let part = filled.part;
        if part.range.len() != brought.source().length() {
            // The head lied (RFC 9110 section 15.3.7): whoever reads it now got it as it came, and nobody will again.
            return;
        }
        let mut brought = Some(brought);
        for _ in 0..ATTEMPTS {
            let looked = self.look(&id, &fill.key).await;
            self.combine(id, fill, part, &looked, &mut brought);
            if brought.is_none() {
                break;
            }
        }
        // Looked at afterwards as well: whoever outdates it from now on also removes what is kept.
        if !fill.is_current() {
            self.remove(&id);
        }
    }

    /// Opens the file, if there is one and nothing else has to be asked.
    async fn look(&'static self, id: &EntryId, key: &[u8]) -> Looked {
        let Some(disk) = self.disk.filter(|_| self.memory.get(id, key).is_none()) else {
            return Looked { stored: None, stamp: self.disk.is_none().then_some(None) };
        };
        let stamp = Some(disk.stamp(id));
        Looked { stored: disk.peek(id, key).await, stamp }
    }

    /// What is stored now. `None`: nobody knows without looking again.
    fn stored_now(&self, id: &EntryId, key: &[u8], looked: &Looked) -> Option<Option<Arc<Entry>>> {
        let at_hand = self.memory.get(id, key).or_else(|| self.disk?.at_hand(id, key));
        if at_hand.is_some() {
            return Some(at_hand);
        }
        let stamp = self.disk.and_then(|disk| disk.stamp(id));
        looked.stamp.is_some_and(|before| before == stamp).then(|| looked.stored.clone())
    }

    /// Does nothing, and leaves what was brought, if it has to be looked again at what is stored.
    fn combine(
        &'static self,
        id: EntryId,
        fill: &Fill,
        part: KnownPart,
        looked: &Looked,
        brought: &mut Option<Brought>,
    ) {
        // Two parts of one response may be sealed at once, and neither may be lost.
        let _alone = self.combining(&id).lock();
        let Some(stored) = self.stored_now(&id, &fill.key, looked) else { return };
        let Some(brought) = brought.take().filter(|_| fill.is_current()) else { return };
        let now = clock::now();
        let head = fill.head.of_whole(part.complete);
        // What lookups start from is taken by another variant when what the origin varies on changes.
        let stored = stored.as_ref().filter(|stored| stored.head.variance() == head.variance());
        // What was purged is not to come back with a part that was not.
        let stored = stored.filter(|stored| self.standing(stored) != Standing::Dead);
        let new = Side { headers: head.headers(), complete: part.complete, whole: false };
        let found = stored.map(|stored| {
            let whole = stored.body.incomplete().is_none();
            combination(Side { headers: stored.head.headers(), complete: stored.body.complete(), whole }, new, now)
        });
        let alone = || Parts::of(part.complete, part.range.first, brought.source()).into_body();
        let hits = stored.map_or(0, |stored| stored.hits());
        let (head, facts, body, replaces, hits) = match (found, stored) {
            (Some(Combination::Neither), _) => return,
            (Some(found @ (Combination::Together | Combination::Inside)), Some(stored)) => {
                let (body, replaces) = match &stored.body {
                    // It has the part already, and its head is the newer one.
                    Body::Whole(_) | Body::File(_) if found == Combination::Inside => return,
                    whole @ (Body::Whole(_) | Body::File(_)) => (whole.clone(), Some(stored.facts.clone())),
                    Body::Parts(old) => {
                        let all = old.with_source(part.range.first, brought.source());
                        match all.held() > MOST_COPIED && !all.is_in_memory() {
                            true if old.held() >= part.range.len() => return,
                            true => (alone(), None),
                            false => (all.into_body(), None),
                        }
                    }
                };
                let (head, facts) = match found {
                    Combination::Together => {
                        (Arc::new(stored.head.combined(&head, part.complete, now)), fill.facts.clone())
                    }
                    _ => (stored.head.clone(), stored.facts.clone()),
                };
                (head, facts, body, replaces, hits)
            }
            // What took the place of another response was served by nobody yet.
            _ => (Arc::new(head), fill.facts.clone(), alone(), None, 0),
        };
        let entry = Entry::of(fill.key.clone(), head, body, facts).with_hits(hits);
        if self.place(&entry).write_to.is_empty() {
            // What is there already stays.
            return;
        }
        let ready = match (replaces, brought) {
            (Some(facts), _) => Ready::Body(facts),
            (None, Brought::InFile(written)) if written.is_all_of(&entry.body) => Ready::File(written),
            _ => Ready::Nothing,
        };
        self.keep_alone(id, entry, ready, None, &|| fill.is_current());
    }
}

#[cfg(test)]
#[path = "combining_tests.rs"]
mod tests;
