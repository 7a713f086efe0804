use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

const LONG: Duration = Duration::from_secs(600);
const ID: WholeId = (7, None);

/// Counts how it ends.
#[derive(Debug, Default)]
struct Counted {
    released: Arc<Mutex<Vec<LockStatus>>>,
    dropped: Arc<AtomicUsize>,
}

impl Grant for Counted {
    fn released(&self, reason: LockStatus) {
        self.released.lock().push(reason);
    }

    fn is_good(&self) -> bool {
        self.released.lock().is_empty()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A lock with something parked, and what becomes of that.
fn parked() -> (&'static FillLock, Arc<Mutex<Vec<LockStatus>>>, Arc<AtomicUsize>) {
    let lock: &'static FillLock = Box::leak(Box::new(FillLock::new(LONG, 10)));
    let counted = Counted::default();
    let (released, dropped) = (counted.released.clone(), counted.dropped.clone());
    lock.park(ID, Arc::new(counted));
    (lock, released, dropped)
}

fn key(ticket: Option<Ticket>) -> CacheKey {
    let mut key = CacheKey::new("", "");
    key.set_primary_bin_override(ID.0.to_be_bytes());
    if let Some(ticket) = ticket {
        key.extensions.insert(ticket);
    }
    key
}

fn has_grant(key: &CacheKey) -> bool {
    let ticket = Ticket::of(key).unwrap();
    let grant = ticket.take();
    let has = grant.is_some();
    ticket.give(grant);
    has
}

fn write(lock: &FillLock, key: &CacheKey) -> WritePermit {
    match lock.lock(key, false) {
        Locked::Write(permit) => permit,
        Locked::Read(_) => panic!("it is locked already"),
    }
}

#[test]
fn what_is_parked_goes_to_the_first_who_locks_and_ends_with_that_request() {
    let (lock, released, dropped) = parked();
    assert_eq!(lock.who_fills(ID), Fills::ForAll);
    let (first, second) = (key(Some(Ticket::new(false))), key(Some(Ticket::new(false))));
    let permit = write(lock, &first);
    assert!(matches!(lock.lock(&second, false), Locked::Read(_)));
    assert!(has_grant(&first) && !has_grant(&second));
    assert_eq!(lock.who_fills(ID), Fills::ForAll);
    released.lock().push(LockStatus::Done);
    assert_eq!(lock.who_fills(ID), Fills::Alone, "what was granted is not good any more");
    released.lock().clear();
    lock.release(&first, permit, LockStatus::Done);
    assert_eq!(lock.who_fills(ID), Fills::Nobody);
    assert_eq!((released.lock().len(), dropped.load(Ordering::Relaxed)), (0, 0), "the fill goes on with it");
    drop(first);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[test]
fn who_does_not_fill_for_others_leaves_it_there() {
    let (lock, _, dropped) = parked();
    let without = key(None);
    let permit = write(lock, &without);
    lock.release(&without, permit, LockStatus::Done);
    assert_eq!(lock.who_fills(ID), Fills::ForAll);
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn a_part_leaves_it_there() {
    let (lock, _, _) = parked();
    let mut part = key(Some(Ticket::new(false)));
    part.extensions.insert(crate::semantics::range::Spec::From(1, None));
    let permit = write(lock, &part);
    assert!(!has_grant(&part));
    lock.release(&part, permit, LockStatus::Done);
}

#[test]
fn a_lock_that_is_released_without_a_fill_says_why() {
    for reason in [LockStatus::GiveUp, LockStatus::TransientError] {
        let (lock, released, dropped) = parked();
        let key = key(Some(Ticket::new(false)));
        let permit = write(lock, &key);
        lock.release(&key, permit, reason);
        assert_eq!(*released.lock(), [reason]);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_background_fetch_goes_on_with_what_its_clients_request_was_granted() {
    let (lock, released, _) = parked();
    let (client, background) = (key(Some(Ticket::new(false))), key(Some(Ticket::new(true))));
    assert!(!Ticket::of(&background).unwrap().wants_grant());
    let permit = write(lock, &client);
    assert!(matches!(lock.lock(&background, false), Locked::Read(_)));
    assert!(has_grant(&background) && !has_grant(&client));
    drop(client);
    lock.release(&background, permit, LockStatus::GiveUp);
    assert_eq!(*released.lock(), [LockStatus::GiveUp]);
}

#[test]
fn who_takes_over_a_lock_that_grew_too_old_takes_over_the_grant() {
    let (lock, released, _) = parked();
    lock.set_limits(Duration::ZERO, 10);
    let (old, new) = (key(Some(Ticket::new(false))), key(Some(Ticket::new(false))));
    let first = write(lock, &old);
    lock.set_limits(LONG, 10);
    let second = write(lock, &new);
    assert!(has_grant(&new) && !has_grant(&old));
    lock.release(&old, first, LockStatus::TransientError);
    assert!(released.lock().is_empty(), "the late end of the old holder is not that of the new one");
    lock.release(&new, second, LockStatus::TransientError);
    assert_eq!(*released.lock(), [LockStatus::TransientError]);
}

#[test]
fn nobody_is_turned_away_with_a_grant() {
    let (lock, _, _) = parked();
    lock.set_limits(LONG, 0);
    let (first, second) = (key(Some(Ticket::new(false))), key(Some(Ticket::new(false))));
    let permit = write(lock, &first);
    let turned_away = write(lock, &second);
    assert!(FillLock::was_turned_away(&second));
    lock.release(&second, turned_away, LockStatus::TransientError);
    assert!(has_grant(&first));
    lock.release(&first, permit, LockStatus::Done);
}

#[test]
fn what_nobody_takes_can_be_taken_back_and_what_took_its_place_cannot() {
    let lock: &'static FillLock = Box::leak(Box::new(FillLock::new(LONG, 10)));
    let grants: [Arc<dyn Grant>; 2] = [Arc::new(Counted::default()), Arc::new(Counted::default())];
    let [first, second] = grants.map(|grant| {
        let weak = Arc::downgrade(&grant);
        lock.park(ID, grant);
        weak
    });
    assert!(lock.unpark(ID, &first).is_none());
    assert!(lock.unpark(ID, &second).is_some());
    assert!(lock.unpark(ID, &second).is_none());
    assert_eq!(lock.who_fills(ID), Fills::Nobody);
}

#[test]
fn who_stands_in_for_another_node_is_waited_for() {
    let lock: &'static FillLock = Box::leak(Box::new(FillLock::new(LONG, 10)));
    for reason in [LockStatus::Done, LockStatus::GiveUp, LockStatus::TransientError] {
        let stand_in = lock.stand_in(ID).unwrap();
        assert_eq!(lock.who_fills(ID), Fills::ForAll);
        assert!(lock.stand_in(ID).is_none());
        let Locked::Read(waiter) = lock.lock(&key(None), false) else { panic!("nobody is waited for") };
        assert_eq!(lock.waiters(), 1);
        stand_in.end(reason);
        assert_eq!(waiter.lock_status(), reason);
        assert_eq!(lock.who_fills(ID), Fills::Nobody);
    }
    let Locked::Read(waiter) = ({
        let _stand_in = lock.stand_in(ID).unwrap();
        lock.lock(&key(None), false)
    }) else {
        panic!("nobody is waited for")
    };
    assert_eq!(waiter.lock_status(), LockStatus::Done, "one that is dropped lets go as well");
}

#[test]
fn variants_are_stood_in_for_apart() {
    let lock: &'static FillLock = Box::leak(Box::new(FillLock::new(LONG, 10)));
    let whole = lock.stand_in(ID).unwrap();
    let variant = lock.stand_in((ID.0, Some(1))).unwrap();
    let mut other = key(None);
    other.set_variance_key(1u128.to_be_bytes());
    assert!(matches!(lock.lock(&other, false), Locked::Read(_)));
    variant.end(LockStatus::Done);
    assert_eq!(lock.who_fills(ID), Fills::ForAll);
    assert_eq!(lock.who_fills((ID.0, Some(1))), Fills::Nobody);
    whole.end(LockStatus::Done);
}

#[test]
fn who_fills_without_a_grant_fills_alone() {
    let lock: &'static FillLock = Box::leak(Box::new(FillLock::new(LONG, 10)));
    let key = key(Some(Ticket::new(false)));
    let permit = write(lock, &key);
    assert_eq!(lock.who_fills(ID), Fills::Alone);
    lock.release(&key, permit, LockStatus::Done);
    assert_eq!(lock.who_fills(ID), Fills::Nobody);
}
