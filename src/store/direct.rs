//! Entries that come or change beside the framework's cache: the response to a `POST` that answers later `GET`s, and what
//! the answer to a `HEAD` says about a stored one.

use super::Store;
use super::entry::{Entry, EntryId, StoredHead};
use super::turns::Moment;
use crate::decide::Facts;
use crate::key::PrimaryKey;
use crate::semantics::fields::content_length;
use bytes::BytesMut;
use http::HeaderMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest response that is collected if memory keeps none of that length, in bytes: it goes to disk in one piece. Answers to
/// a `POST` are rarely longer, and what all of them hold together is bounded besides.
const LONGEST: u64 = 8 << 20;

/// Responses that are being collected, so that an invalidation finds them.
#[derive(Debug, Default)]
pub(super) struct Asides(Mutex<Vec<(u128, Arc<AtomicBool>)>>);

impl Asides {
    /// What is being collected under the key was changed since.
    pub(super) fn outdate(&self, key: &PrimaryKey) {
        let asides = self.0.lock();
        asides.iter().filter(|(hash, _)| *hash == key.hash()).for_each(|(_, outdated)| {
            outdated.store(true, Ordering::Release);
        });
    }
}

/// A response that is collected while it passes, and kept if it ends well. Nobody else can follow it.
#[derive(Debug)]
pub struct Aside {
    store: &'static Store,
    id: EntryId,
    key: Box<[u8]>,
    head: Arc<StoredHead>,
    facts: Arc<Facts>,
    expected: Option<u64>,
    body: BytesMut,
    outdated: Arc<AtomicBool>,
    /// When anything was stored under that id last.
    changed: Moment,
}

impl Store {
    /// Begins to collect a response. `None`: it is longer than what is collected.
    pub fn set_aside(&'static self, key: &PrimaryKey, head: StoredHead, facts: Facts) -> Option<Aside> {
        let expected = content_length(head.headers());
        if expected.is_some_and(|expected| expected > self.longest_aside(&facts)) {
            return None;
        }
        let outdated = Arc::new(AtomicBool::new(false));
        self.asides.0.lock().push((key.hash(), outdated.clone()));
        let id = EntryId { primary: key.hash(), variant: None };
        Some(Aside {
            store: self,
            id,
            changed: self.turns.changed(&id),
            key: key.as_bytes().into(),
            head: Arc::new(head),
            facts: Arc::new(facts),
            expected,
            body: BytesMut::new(),
            outdated,
        })
    }

    /// Collected in memory, wherever it goes in the end.
    fn longest_aside(&self, facts: &Facts) -> u64 {
        let limits = self.limits(facts.tiers);
        limits.max_object.min(limits.hold.max(LONGEST))
    }

    /// The entry that answers a request, and where it is. `variance` is the hash of the request's values for what an entry
    /// varies on.
    pub async fn find(
        &'static self,
        key: &PrimaryKey,
        variance: impl FnOnce(&HeaderMap) -> Option<[u8; 16]>,
    ) -> Option<(EntryId, Arc<Entry>)> {
        let first = EntryId { primary: key.hash(), variant: None };
        let entry = self.peek(&first, key.as_bytes()).await?;
        let wanted = variance(entry.head.headers());
        if wanted == entry.head.variance() {
            return Some((first, entry));
        }
        let other = EntryId { variant: wanted.map(u128::from_be_bytes), ..first };
        let entry = self.peek(&other, key.as_bytes()).await?;
        Some((other, entry))
    }

    /// Puts a new head on an entry, unless another one took its place.
    pub fn renew(&'static self, id: EntryId, entry: &Arc<Entry>, head: StoredHead, facts: Facts) {
        let before = self.turns.forgets(&id);
        if self.has(&id, &entry.key, &entry.facts) {
            let renewed = entry.with_head(Arc::new(head), Arc::new(facts));
            self.keep_renewed(id, renewed, entry.facts.clone(), None, &|| self.turns.forgets(&id) == before);
        }
    }

    /// Forgets an entry, unless another one took its place.
    pub fn drop_entry(&self, id: EntryId, entry: &Arc<Entry>) {
        self.discard_from(&id, &entry.key, &entry.facts);
    }
}

impl Aside {
    /// Appends a piece. `false`: it has become too large to be kept.
    pub fn write(&mut self, piece: &[u8]) -> bool {
        let limits = self.store.limits(self.facts.tiers);
        let held = limits.in_flight.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
        self.body.extend_from_slice(piece);
        self.body.len() as u64 <= self.store.longest_aside(&self.facts) && held <= limits.max_in_flight
    }

    /// Keeps what was collected, if it is all of it, nothing has changed what it is about, and no other request has stored
    /// something meanwhile, which would be newer.
    pub fn keep(mut self) {
        if self.expected.is_some_and(|expected| expected != self.body.len() as u64) {
            return;
        }
        let (store, id) = (self.store, &self.id);
        let is_here = store.memory.get(id, &self.key).is_some() || store.disk.is_some_and(|disk| disk.holds(id));
        if is_here || store.turns.changed(id) != self.changed {
            return;
        }
        let body = BytesMut::from(&self.body[..]).freeze();
        let entry = Entry::new(std::mem::take(&mut self.key), self.head.clone(), body, self.facts.clone());
        self.store.keep(self.id, entry, None, &|| !self.outdated.load(Ordering::Acquire));
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.store.in_flight.fetch_sub(self.body.len() as u64, Ordering::Relaxed);
        self.store.asides.0.lock().retain(|(_, outdated)| !Arc::ptr_eq(outdated, &self.outdated));
    }
}
