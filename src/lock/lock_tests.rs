use super::*;
use http::StatusCode;
use pingora::cache::lock::ReadLock;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(600);

/// Short enough to be waited for.
const SHORT: Duration = Duration::from_millis(20);

fn key(path: &str) -> CacheKey {
    CacheKey::new(path, "")
}

fn write(lock: &FillLock, path: &str) -> WritePermit {
    match lock.lock(&key(path), false) {
        Locked::Write(permit) => permit,
        Locked::Read(_) => panic!("{path} is locked already"),
    }
}

/// Every permit is to be given back; the framework insists on it in debug builds.
fn release(lock: &FillLock, path: &str, permit: WritePermit) {
    lock.release(&key(path), permit, LockStatus::Done);
}

fn wait(lock: &FillLock, path: &str) -> ReadLock {
    match lock.lock(&key(path), false) {
        Locked::Read(waiter) => waiter,
        Locked::Write(_) => panic!("{path} is not locked"),
    }
}

#[test]
fn one_request_writes_and_the_others_wait() {
    let lock = FillLock::new(LONG, 10);
    let permit = write(&lock, "/a");
    let waiters = [wait(&lock, "/a"), wait(&lock, "/a")];
    assert_eq!(lock.waiters(), 2);
    assert!(waiters.iter().all(ReadLock::locked));
    release(&lock, "/a", permit);
    assert!(waiters.iter().all(|waiter| waiter.lock_status() == LockStatus::Done));
    assert_eq!(lock.waiters(), 0);
}

#[test]
fn keys_and_variants_are_locked_apart() {
    let lock = FillLock::new(LONG, 10);
    let (a, b) = (write(&lock, "/a"), write(&lock, "/b"));
    let mut variant = key("/a");
    variant.set_variance_key([1; 16]);
    let Locked::Write(of_variant) = lock.lock(&variant, false) else { panic!("the variant is locked already") };
    lock.release(&variant, of_variant, LockStatus::Done);
    wait(&lock, "/a");
    release(&lock, "/a", a);
    release(&lock, "/b", b);
}

#[test]
fn a_lock_that_was_released_can_be_taken_again() {
    let lock = FillLock::new(LONG, 10);
    for _ in 0..2 {
        release(&lock, "/a", write(&lock, "/a"));
    }
}

#[test]
fn waiters_are_bounded_and_those_beyond_are_turned_away_once() {
    let lock = FillLock::new(LONG, 2);
    let permit = write(&lock, "/a");
    let (first, _second) = (wait(&lock, "/a"), wait(&lock, "/a"));
    let Locked::Write(turned_away) = lock.lock(&key("/a"), false) else { panic!("a third one waits") };
    assert!(!FillLock::was_turned_away(&key("/b")), "another request is not meant");
    let Locked::Write(again) = lock.lock(&key("/a"), false) else { panic!("a third one waits") };
    assert!(FillLock::was_turned_away(&key("/a")));
    assert!(!FillLock::was_turned_away(&key("/a")), "told twice");
    for permit in [turned_away, again] {
        lock.release(&key("/a"), permit, LockStatus::GiveUp);
    }
    assert!(first.locked(), "a permit that stands for nothing freed the lock");
    drop(first);
    assert_eq!(lock.waiters(), 1);
    wait(&lock, "/a");
    release(&lock, "/a", permit);
}

#[test]
fn the_bound_is_for_each_key() {
    let lock = FillLock::new(LONG, 1);
    let permits = [("/a", write(&lock, "/a")), ("/b", write(&lock, "/b"))];
    let _waiters = [wait(&lock, "/a"), wait(&lock, "/b")];
    assert_eq!(lock.waiters(), 2);
    for (path, permit) in permits {
        release(&lock, path, permit);
    }
}

#[test]
fn a_lock_that_grew_too_old_is_taken_over_and_its_release_frees_nobody_elses() {
    let lock = FillLock::new(SHORT, 10);
    let old = write(&lock, "/a");
    std::thread::sleep(SHORT);
    let new = write(&lock, "/a");
    release(&lock, "/a", old);
    let waiter = wait(&lock, "/a");
    assert!(waiter.locked());
    release(&lock, "/a", new);
    assert!(!waiter.locked());
    release(&lock, "/a", write(&lock, "/a"));
}

#[test]
fn our_own_reasons_for_not_storing_hold_for_the_followers_too() {
    assert_eq!(FillLock::new(LONG, 1).custom_lock_status("policy"), LockStatus::GiveUp);
}

/// A leader that fails, or does not, while others wait if `crowd`. What is known afterwards to whoever came before.
fn after_a_leader(lock: &FillLock, crowd: bool, noted: bool, status: LockStatus) -> Option<(u32, Failure)> {
    let began = Instant::now();
    let permit = write(lock, "/a");
    let _waiter = crowd.then(|| wait(lock, "/a"));
    if noted {
        lock.note_failure(&key("/a"), Failure::Answered(StatusCode::INTERNAL_SERVER_ERROR));
    }
    lock.release(&key("/a"), permit, status);
    lock.failures_since(&key("/a"), began)
}

#[test]
fn failures_in_a_row_are_counted_for_those_who_wait() {
    let (lock, failed) = (FillLock::new(LONG, 10), LockStatus::TransientError);
    assert_eq!(after_a_leader(&lock, false, true, failed), None, "nobody waited");
    assert_eq!(after_a_leader(&lock, true, false, failed), None, "the origin was not asked");
    assert_eq!(
        after_a_leader(&lock, true, true, failed),
        Some((1, Failure::Answered(StatusCode::INTERNAL_SERVER_ERROR)))
    );
    // Whoever was woken may not wait again yet.
    assert_eq!(
        after_a_leader(&lock, false, true, failed),
        Some((2, Failure::Answered(StatusCode::INTERNAL_SERVER_ERROR)))
    );
    assert_eq!(lock.failures_since(&key("/a"), Instant::now()), None, "who comes later saw none");
    assert_eq!(lock.failures_since(&key("/b"), Instant::now()), None);
    assert_eq!(after_a_leader(&lock, true, false, LockStatus::Done), None, "it recovered");
    assert_eq!(
        after_a_leader(&lock, true, true, failed),
        Some((1, Failure::Answered(StatusCode::INTERNAL_SERVER_ERROR)))
    );
}

#[test]
fn a_failure_lets_one_after_another_try_and_another_reason_lets_all_go() {
    let lock = FillLock::new(LONG, 1);
    for reason in ["server-error", "policy-error"] {
        assert_eq!(lock.custom_lock_status(reason), LockStatus::TransientError);
    }
    for reason in ["no-store", "private", "policy"] {
        assert_eq!(lock.custom_lock_status(reason), LockStatus::GiveUp);
    }
}

#[test]
fn a_part_has_a_lock_of_its_own_unless_a_stale_whole_is_asked_about() {
    let lock = FillLock::new(LONG, 10);
    let part = |first| {
        let mut key = key("/a");
        key.extensions.insert(Spec::From(first, None));
        key
    };
    let permit = |key: &CacheKey, stale| match lock.lock(key, stale) {
        Locked::Write(permit) => permit,
        Locked::Read(_) => panic!("{key:?} is locked already"),
    };
    let (one, other) = (part(1), part(2));
    let all = [(&one, permit(&one, false)), (&other, permit(&other, false))];
    assert!(matches!(lock.lock(&one, false), Locked::Read(_)));
    let whole = permit(&one, true);
    assert!(matches!(lock.lock(&other, true), Locked::Read(_)));
    assert!(matches!(lock.lock(&key("/a"), true), Locked::Read(_)));
    for (key, permit) in all {
        lock.release(key, permit, LockStatus::Done);
    }
    // Given back with the key that it was taken with, which does not say that it was for the whole.
    assert!(matches!(lock.lock(&key("/a"), false), Locked::Read(_)));
    lock.release(&one, whole, LockStatus::Done);
    release(&lock, "/a", write(&lock, "/a"));
    lock.release(&one, permit(&one, false), LockStatus::Done);
}
