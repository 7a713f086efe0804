//! What other nodes tell about their fills, to whoever here waits for one.

use crate::remote::{Channel, Event, Listener};
use crate::store::entry::EntryId;
use crate::store::redis::Outcome;
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio::sync::watch;

/// What was heard about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing yet.
    Nothing,
    /// The fill of another node has ended.
    Ended(Outcome),
    /// Something may have been missed.
    Missed,
}

/// Hears about one key.
#[derive(Debug)]
pub(super) struct Ear {
    of: &'static Ears,
    id: EntryId,
    hears: watch::Receiver<Heard>,
}

/// Those who listen, by key.
#[derive(Debug, Default)]
pub(super) struct Ears(Mutex<HashMap<EntryId, Told>>);

/// Where those are told who listen for one key.
#[derive(Debug)]
struct Told {
    sends: watch::Sender<Heard>,
    /// How many they are.
    ears: usize,
}

impl Ears {
    /// Listens from now on, beside whoever does already.
    pub(super) fn listen(&'static self, id: EntryId) -> Ear {
        let mut all = self.0.lock();
        let told = all.entry(id).or_insert_with(|| Told { sends: watch::Sender::new(Heard::Nothing), ears: 0 });
        told.ears += 1;
        Ear { of: self, id, hears: told.sends.subscribe() }
    }

    fn tell(&self, id: &EntryId, heard: Heard) {
        if let Some(told) = self.0.lock().get(id) {
            told.sends.send_replace(heard);
        }
    }

    fn tell_all(&self, heard: Heard) {
        for told in self.0.lock().values() {
            told.sends.send_replace(heard);
        }
    }

    /// Passes on what comes, for as long as the process lives.
    pub(super) async fn pass_on(&self, mut from: Listener) {
        loop {
            match from.next().await {
                Event::Message(Channel::Fills, message) => {
                    if let Some((outcome, id)) = read(&message) {
                        self.tell(&id, Heard::Ended(outcome));
                    }
                }
                Event::Missed => self.tell_all(Heard::Missed),
                Event::Connected | Event::Message(..) => {}
            }
        }
    }
}

impl Ear {
    /// The key that it hears about.
    pub(super) fn id(&self) -> &EntryId {
        &self.id
    }

    /// What is heard next.
    pub(super) async fn next(&mut self) -> Heard {
        if self.hears.changed().await.is_err() {
            // The sender is there as long as this.
            return Heard::Missed;
        }
        *self.hears.borrow_and_update()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut all = self.of.0.lock();
        if let Some(told) = all.get_mut(&self.id) {
            told.ears -= 1;
            if told.ears == 0 {
                all.remove(&self.id);
            }
        }
    }
}

/// Reads `outcome id`, as the scripts write it.
fn read(message: &[u8]) -> Option<(Outcome, EntryId)> {
    let (outcome, id) = std::str::from_utf8(message).ok()?.split_once(' ')?;
    let number = |digits: &str| u128::from_str_radix(digits, 16).ok();
    let (primary, variant) = match id.split_once(':') {
        Some((primary, variant)) => (primary, Some(number(variant)?)),
        None => (id, None),
    };
    Some((Outcome::of(outcome)?, EntryId { primary: number(primary)?, variant }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EntryId = EntryId { primary: 0xab, variant: None };

    #[test]
    fn messages_are_read_and_rubbish_is_not() {
        let id = format!("{:032x}", ID.primary);
        let variant = EntryId { variant: Some(1), ..ID };
        assert_eq!(read(format!("stored {id}").as_bytes()), Some((Outcome::Stored, ID)));
        assert_eq!(read(format!("unshared {id}:{:032x}", 1).as_bytes()), Some((Outcome::Unshared, variant)));
        for rubbish in ["", "stored", "stored ", "stored x", "nothing ab", "stored ab:", "stored ab:x", "stored ab:1:2"]
        {
            assert_eq!(read(rubbish.as_bytes()), None, "{rubbish}");
        }
        assert_eq!(read(b"stored \xff"), None);
    }

    #[tokio::test]
    async fn what_comes_is_heard_by_whoever_listens_for_that_key() {
        let ears: &'static Ears = Box::leak(Box::default());
        let mut ear = ears.listen(ID);
        let mut other = ears.listen(EntryId { primary: 1, variant: None });
        ears.tell(&ID, Heard::Ended(Outcome::Failed));
        assert_eq!(ear.next().await, Heard::Ended(Outcome::Failed));
        ears.tell_all(Heard::Missed);
        assert_eq!((ear.next().await, other.next().await), (Heard::Missed, Heard::Missed));
    }

    #[tokio::test]
    async fn who_listens_hears_whoever_else_listens_or_stops() {
        let ears: &'static Ears = Box::leak(Box::default());
        let mut first = ears.listen(ID);
        let mut second = ears.listen(ID);
        drop(ears.listen(ID));
        ears.tell(&ID, Heard::Ended(Outcome::Stored));
        let stored = Heard::Ended(Outcome::Stored);
        assert_eq!((first.next().await, second.next().await), (stored, stored));
        let mut late = ears.listen(ID);
        drop((first, second));
        ears.tell(&ID, Heard::Missed);
        assert_eq!(late.next().await, Heard::Missed, "what came before is not heard");
        drop(late);
        assert!(ears.0.lock().is_empty());
    }
}
