//! What is remembered of keys, as long as it matters.

use super::Leased;
use crate::store::entry::{Entry, EntryId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a key is remembered of which Redis keeps nothing. What is asked for again later may have become smaller.
const REMEMBER: Duration = Duration::from_secs(60);

/// So many of them are remembered.
const MOST: usize = 4096;

/// Keys of which Redis keeps nothing: nodes do not wait for each other there.
#[derive(Debug, Default)]
pub(super) struct Unshared(Mutex<HashMap<EntryId, Instant>>);

impl Unshared {
    pub(super) fn add(&self, id: EntryId) {
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.retain(|_, since| since.elapsed() < REMEMBER);
            if all.len() >= MOST {
                all.clear();
            }
        }
        all.insert(id, Instant::now());
    }

    pub(super) fn has(&self, id: &EntryId) -> bool {
        let mut all = self.0.lock();
        let known = all.get(id).map(|since| since.elapsed() < REMEMBER);
        if known == Some(false) {
            all.remove(id);
        }
        known == Some(true)
    }
}

/// The leases that this node has.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<EntryId, Weak<Leased>>>);

impl Leases {
    pub(super) fn add(&self, id: EntryId, leased: &Arc<Leased>) {
        self.0.lock().insert(id, Arc::downgrade(leased));
    }

    pub(super) fn get(&self, id: &EntryId) -> Option<Arc<Leased>> {
        self.0.lock().get(id)?.upgrade()
    }

    /// Forgets one that is gone.
    pub(super) fn tidy(&self, id: &EntryId) {
        let mut all = self.0.lock();
        if all.get(id).is_some_and(|leased| leased.strong_count() == 0) {
            all.remove(id);
        }
    }
}

/// Entries of Redis that are not fresh, as long as somebody fetches what is to take their place: meanwhile they are not asked for
/// again.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<EntryId, Arc<Entry>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Knows {
    of: &'static Known,
    id: EntryId,
    entry: Arc<Entry>,
}

impl Known {
    pub(super) fn add(&'static self, id: EntryId, entry: Arc<Entry>) -> Knows {
        self.0.lock().insert(id, entry.clone());
        Knows { of: self, id, entry }
    }

    pub(super) fn get(&self, id: &EntryId, key: &[u8]) -> Option<Arc<Entry>> {
        self.0.lock().get(id).filter(|entry| *entry.key == *key).cloned()
    }

    pub(super) fn forget(&self, id: &EntryId) {
        self.0.lock().remove(id);
    }
}

impl Knows {
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Knows {
    fn drop(&mut self) {
        let mut all = self.of.0.lock();
        if all.get(&self.id).is_some_and(|entry| Arc::ptr_eq(entry, &self.entry)) {
            all.remove(&self.id);
        }
    }
}

/// Keys whose lease is being given back. Who asks for one meanwhile would find that this node still has it.
#[derive(Debug, Default)]
pub(super) struct Ending {
    ids: Mutex<HashMap<EntryId, usize>>,
    ended: Notify,
}

/// One that is being given back, until it is dropped.
#[derive(Debug)]
pub(super) struct Ends {
    of: &'static Ending,
    id: EntryId,
}

impl Ending {
    pub(super) fn begin(&'static self, id: EntryId) -> Ends {
        *self.ids.lock().entry(id).or_default() += 1;
        Ends { of: self, id }
    }

    /// Waits until none is, for so long at most.
    pub(super) async fn over(&self, id: &EntryId, at_most: Duration) {
        let over = async {
            loop {
                let ended = self.ended.notified();
                tokio::pin!(ended);
                // Registered before the look, so that nothing that ends in between is missed.
                ended.as_mut().enable();
                if !self.ids.lock().contains_key(id) {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(at_most, over).await;
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let mut ids = self.of.ids.lock();
        if let Some(count) = ids.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                ids.remove(&self.id);
            }
        }
        drop(ids);
        self.of.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EntryId = EntryId { primary: 1, variant: None };
    const OTHER: EntryId = EntryId { primary: 2, variant: None };

    #[test]
    fn a_bounded_number_of_unshared_keys_is_remembered() {
        let unshared = Unshared::default();
        unshared.add(ID);
        assert!(unshared.has(&ID) && !unshared.has(&OTHER));
        (0..2 * MOST as u128).for_each(|primary| unshared.add(EntryId { primary, variant: None }));
        assert!(unshared.0.lock().len() <= MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_waits_until_every_lease_of_the_key_was_given_back() {
        let ending: &'static Ending = Box::leak(Box::default());
        let (first, second) = (ending.begin(ID), ending.begin(ID));
        let _other = ending.begin(OTHER);
        let waits = tokio::spawn(ending.over(&ID, Duration::from_secs(3600)));
        tokio::task::yield_now().await;
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(second);
        waits.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_does_not_wait_for_ever() {
        let ending: &'static Ending = Box::leak(Box::default());
        let _never = ending.begin(ID);
        ending.over(&ID, Duration::from_secs(1)).await;
    }
}
