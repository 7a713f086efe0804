//! Entries that come or change beside the framework's cache: the response to a `POST` that answers later `GET`s, and what
//! the answer to a `HEAD` says about a stored one.

use super::Store;
use super::entry::{Entry, EntryId, StoredHead};
use crate::decide::Facts;
use crate::key::PrimaryKey;
use crate::semantics::fields::content_length;
use bytes::BytesMut;
use http::HeaderMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
}

impl Store {
    /// Begins to collect a response.
    pub fn set_aside(&'static self, key: &PrimaryKey, head: StoredHead, facts: Facts) -> Aside {
        let expected = content_length(head.headers());
        let outdated = Arc::new(AtomicBool::new(false));
        self.asides.0.lock().push((key.hash(), outdated.clone()));
        Aside {
            store: self,
            id: EntryId { primary: key.hash(), variant: None },
            key: key.as_bytes().into(),
            head: Arc::new(head),
            facts: Arc::new(facts),
            expected,
            body: BytesMut::new(),
            outdated,
        }
    }

    /// The entry that answers a request, and where it is. `variance` is the hash of the request's values for what an entry
    /// varies on.
    pub fn find(
        &self,
        key: &PrimaryKey,
        variance: impl FnOnce(&HeaderMap) -> Option<[u8; 16]>,
    ) -> Option<(EntryId, Arc<Entry>)> {
        let first = EntryId { primary: key.hash(), variant: None };
        let entry = self.memory.get(&first, key.as_bytes())?;
        let wanted = variance(entry.head.headers());
        if wanted == entry.head.variance() {
            return Some((first, entry));
        }
        let other = EntryId { variant: wanted.map(u128::from_be_bytes), ..first };
        let entry = self.memory.get(&other, key.as_bytes())?;
        Some((other, entry))
    }

    /// Puts a new head on an entry, unless another one took its place.
    pub fn renew(&self, id: EntryId, entry: &Arc<Entry>, head: StoredHead, facts: Facts) {
        if self.is_still(id, entry) {
            self.keep(id, entry.with_head(Arc::new(head), Arc::new(facts)));
        }
    }

    /// Forgets an entry, unless another one took its place.
    pub fn drop_entry(&self, id: EntryId, entry: &Arc<Entry>) {
        if self.is_still(id, entry) {
            self.memory.remove(&id);
        }
    }

    fn is_still(&self, id: EntryId, entry: &Arc<Entry>) -> bool {
        self.memory.get(&id, &entry.key).is_some_and(|now| Arc::ptr_eq(&now, entry))
    }
}

impl Aside {
    /// Appends a piece. `false`: it has become too large to be kept.
    pub fn write(&mut self, piece: &[u8]) -> bool {
        let limits = self.store.limits.load();
        let held = limits.in_flight.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
        self.body.extend_from_slice(piece);
        self.body.len() as u64 <= limits.max_object && held <= limits.max_in_flight
    }

    /// Keeps what was collected, if it is all of it, nothing has changed what it is about, and no other request has stored
    /// something meanwhile, which would be newer.
    pub fn keep(mut self) {
        if self.expected.is_some_and(|expected| expected != self.body.len() as u64) {
            return;
        }
        if self.store.memory.get(&self.id, &self.key).is_some() {
            return;
        }
        let body = BytesMut::from(&self.body[..]).freeze();
        let entry = Entry::new(std::mem::take(&mut self.key), self.head.clone(), body, self.facts.clone());
        let key = entry.key.clone();
        self.store.keep(self.id, entry);
        // Looked at afterwards: whoever outdates it from now on also removes what is kept.
        if self.outdated.load(Ordering::Acquire) {
            self.store.discard_from(&self.id, &key, &self.facts);
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.store.limits.load().in_flight.fetch_sub(self.body.len() as u64, Ordering::Relaxed);
        self.store.asides.0.lock().retain(|(_, outdated)| !Arc::ptr_eq(outdated, &self.outdated));
    }
}
