//! What is to be changed in Redis, in order.
//!
//! Of the changes of one id one is under way at a time. Those that wait are replaced by later ones: what would be overwritten need
//! not be written. From the moment of a change until it is done, it answers lookups on this node, so that what was stored is
//! found, and what was forgotten is not, however long Redis takes.

use crate::store::entry::{Entry, EntryId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// Entries that Redis has still to be told to forget. Those of a long outage are told when it is back; of more than so many it
/// is not remembered, and they are found there until they expire.
const MOST_OWED: usize = 100_000;

/// What lookups are answered meanwhile.
#[derive(Debug, Clone)]
pub(super) enum Shown {
    /// This entry.
    Entry(Arc<Entry>),
    /// That there is none.
    Nothing,
    /// What Redis says.
    Whatever,
}

/// What is to become of an id.
#[derive(Debug)]
struct Pending<C> {
    shown: Shown,
    waiting: Option<C>,
    is_running: bool,
    /// Something was to be forgotten, and it is not known that it was.
    owed: bool,
    /// Those who wait until it was tried; dropped then.
    waiters: Vec<oneshot::Sender<()>>,
}

impl<C> Pending<C> {
    fn is_forgetting(&self) -> bool {
        self.owed && self.is_running
    }
}

/// The changes of all ids.
#[derive(Debug)]
pub(super) struct Changes<C> {
    all: Mutex<HashMap<EntryId, Pending<C>>>,
    /// How many there are, so that a lookup need not take the lock when there are none.
    count: AtomicUsize,
}

/// How a change went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// What was to be forgotten is, or something else is there.
    Well,
    /// What was there may be there still.
    NotDone,
    /// The same, and it was tried to forget it.
    Badly,
}

/// What to do next with an id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<C> {
    /// This change.
    Change(C),
    /// Forget what is there.
    Forget,
    /// Nothing.
    Nothing,
}

impl<C> Default for Changes<C> {
    fn default() -> Self {
        Changes { all: Mutex::default(), count: AtomicUsize::new(0) }
    }
}

impl<C> Changes<C> {
    /// What lookups of that id are answered.
    pub(super) fn shown(&self, id: &EntryId) -> Shown {
        if self.is_empty() {
            return Shown::Whatever;
        }
        self.all.lock().get(id).map_or(Shown::Whatever, |pending| pending.shown.clone())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Adds a change. `Ok`: it is up to the caller to carry it out, and what comes after it. `Err`: somebody does already, and
    /// comes to it; the change that it takes the place of is given back.
    pub(super) fn add(&self, id: EntryId, change: C, shown: Shown, forgets: bool) -> Result<C, Option<C>> {
        let mut all = self.all.lock();
        let new =
            || Pending { shown: Shown::Whatever, waiting: None, is_running: false, owed: false, waiters: Vec::new() };
        let pending = all.entry(id).or_insert_with(new);
        pending.shown = shown;
        pending.owed |= forgets;
        let turn = if std::mem::replace(&mut pending.is_running, true) {
            Err(pending.waiting.replace(change))
        } else {
            Ok(change)
        };
        self.count.store(all.len(), Ordering::Release);
        turn
    }

    /// The change of that id is done.
    pub(super) fn next(&self, id: &EntryId, went: Went) -> Next<C> {
        let mut all = self.all.lock();
        let may_be_owed = all.len() <= MOST_OWED;
        let Some(pending) = all.get_mut(id) else { return Next::Nothing };
        if let Some(change) = pending.waiting.take() {
            return Next::Change(change);
        }
        pending.owed &= went != Went::Well;
        if pending.owed && went == Went::NotDone {
            pending.shown = Shown::Nothing;
            return Next::Forget;
        }
        pending.is_running = false;
        pending.waiters.clear();
        if pending.owed && may_be_owed {
            pending.shown = Shown::Nothing;
        } else {
            all.remove(id);
        }
        self.count.store(all.len(), Ordering::Release);
        Next::Nothing
    }

    /// Some of those that are still to be forgotten, because that failed. It is up to the caller to try again.
    pub(super) fn owed(&self, most: usize) -> Vec<EntryId> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut all = self.all.lock();
        let owed = all.iter_mut().filter(|(_, pending)| pending.owed && !pending.is_running).take(most);
        owed.map(|(id, pending)| {
            pending.is_running = true;
            *id
        })
        .collect()
    }

    /// How many are to be forgotten, and it is not known that they were.
    pub(super) fn forgets(&self) -> usize {
        if self.is_empty() { 0 } else { self.all.lock().values().filter(|pending| pending.owed).count() }
    }

    /// Waits until none of these is being forgotten. What could not be forgotten is not waited for.
    pub(super) async fn settled(&self, ids: &[EntryId]) {
        for id in ids {
            let done = match self.all.lock().get_mut(id).filter(|pending| pending.is_forgetting()) {
                Some(pending) => {
                    let (waits, done) = oneshot::channel();
                    pending.waiters.push(waits);
                    done
                }
                None => continue,
            };
            // Nothing is ever sent.
            let _ = done.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EntryId = EntryId { primary: 1, variant: None };

    fn shows_nothing(changes: &Changes<u8>) -> bool {
        matches!(changes.shown(&ID), Shown::Nothing)
    }

    #[test]
    fn of_the_changes_that_wait_the_last_one_is_carried_out() {
        let changes = Changes::default();
        assert_eq!(changes.add(ID, 1, Shown::Whatever, false), Ok(1));
        assert_eq!(changes.add(ID, 2, Shown::Whatever, false), Err(None));
        assert_eq!(changes.add(ID, 3, Shown::Whatever, false), Err(Some(2)));
        assert_eq!(changes.next(&ID, Went::Well), Next::Change(3));
        assert_eq!(changes.next(&ID, Went::Well), Next::Nothing);
        assert!(changes.is_empty());
    }

    #[test]
    fn what_was_forgotten_is_not_there_until_it_is_gone() {
        let changes = Changes::default();
        changes.add(ID, 1, Shown::Nothing, true).unwrap();
        assert!(shows_nothing(&changes));
        assert_eq!(changes.next(&ID, Went::Badly), Next::Nothing);
        assert!(shows_nothing(&changes), "it may be there still");
        assert_eq!(changes.owed(9), [ID]);
        assert_eq!(changes.owed(9), [], "it is tried already");
        assert_eq!(changes.next(&ID, Went::Well), Next::Nothing);
        assert!(!shows_nothing(&changes) && changes.is_empty());
    }

    #[test]
    fn what_is_stored_in_vain_does_not_bring_back_what_was_forgotten_before() {
        let changes = Changes::default();
        changes.add(ID, 1, Shown::Nothing, true).unwrap();
        assert_eq!(changes.add(ID, 2, Shown::Whatever, false), Err(None));
        assert_eq!(changes.next(&ID, Went::Badly), Next::Change(2));
        assert_eq!(changes.next(&ID, Went::NotDone), Next::Forget);
        assert!(shows_nothing(&changes));
    }

    #[tokio::test]
    async fn whoever_waits_for_what_is_forgotten_does_not_wait_for_what_cannot_be() {
        let changes = Changes::default();
        changes.settled(&[ID]).await;
        changes.add(ID, 1, Shown::Nothing, true).unwrap();
        let waiting = changes.settled(&[ID]);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(changes.forgets(), 1);
        changes.next(&ID, Went::Badly);
        waiting.await;
        assert_eq!(changes.owed(9).len(), 1);
        changes.next(&ID, Went::Well);
        changes.settled(&[ID]).await;
        assert_eq!(changes.forgets(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_what_is_forgotten_does_not_wait_for_what_others_forget() {
        let changes = Changes::default();
        let other = EntryId { primary: 2, variant: None };
        changes.add(ID, 1, Shown::Nothing, true).unwrap();
        changes.add(other, 2, Shown::Nothing, true).unwrap();
        changes.next(&ID, Went::Well);
        changes.settled(&[ID]).await;
        let both = [ID, other];
        let waiting = changes.settled(&both);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
    }
}
