//! Whether a tier is worth asking.
//!
//! A tier that fails several times in a row is left alone for a while, so that each request does not find out again what
//! the one before it found out. Then one request tries; if that works the tier is back, else the next try comes later.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Failures in a row after which a tier is left alone. One may be the fault of a single file; several of different ones
/// in a row are not.
const FAILURES: u32 = 5;

/// First pause; each that follows is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause, and so the longest time for which a tier that works again is not used.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Counts failures in a row, and says whether to try.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Looked at without the lock: nearly always false.
    open: AtomicBool,
    /// Whether it failed since it last worked, looked at as well.
    failing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Set while it is open: how long it is, and when somebody may try.
    pause: Option<(Duration, Instant)>,
    /// Somebody tries.
    trying: bool,
}

impl Breaker {
    /// Whether to ask the tier now. While it is left alone, one request each pause is told to try.
    pub fn allows(&self, now: Instant) -> bool {
        if !self.open.load(Ordering::Acquire) {
            return true;
        }
        let mut state = self.state.lock();
        match state.pause {
            Some((_, until)) if now < until => false,
            Some((pause, _)) => {
                // Until it is known how this one went, nobody else tries.
                state.pause = Some((pause, now + pause));
                state.trying = true;
                true
            }
            None => true,
        }
    }

    /// Whether the tier is left alone.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The tier answered. Says whether it had been left alone.
    pub fn succeeded(&self) -> bool {
        if !self.failing.load(Ordering::Acquire) {
            return false;
        }
        let mut state = self.state.lock();
        *state = State::default();
        self.failing.store(false, Ordering::Release);
        self.open.swap(false, Ordering::AcqRel)
    }

    /// The tier failed. Says whether it is left alone from now on, and was not before.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.failing.store(true, Ordering::Release);
        state.failures = state.failures.saturating_add(1);
        // Those who were under way when it was opened say nothing new.
        if state.failures < FAILURES || state.pause.is_some_and(|(_, until)| now < until && !state.trying) {
            return false;
        }
        state.trying = false;
        let pause = match state.pause {
            Some((pause, _)) => (pause * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        state.pause = Some((pause, now + pause));
        !self.open.swap(true, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn single_failures_between_successes_change_nothing() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            for _ in 1..FAILURES {
                assert!(!breaker.failed(now));
            }
            assert!(!breaker.succeeded());
        }
        assert!(breaker.allows(now) && !breaker.is_open());
    }

    #[test]
    fn failures_in_a_row_open_it_once() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let told: Vec<bool> = (0..FAILURES + 2).map(|_| breaker.failed(now)).collect();
        assert_eq!(told, [false, false, false, false, true, false, false]);
        assert!(!breaker.allows(now));
    }

    #[test]
    fn those_who_were_under_way_do_not_make_the_pause_longer() {
        let now = Instant::now();
        let breaker = opened(now);
        for _ in 0..100 {
            breaker.failed(now);
        }
        assert!(breaker.allows(now + FIRST_PAUSE));
    }

    #[test]
    fn after_a_pause_one_may_try_and_a_success_closes_it() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + FIRST_PAUSE;
        assert!(breaker.allows(later), "the pause is over");
        assert!(!breaker.allows(later), "one tries already");
        assert!(breaker.succeeded());
        assert!(breaker.allows(later));
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut now = Instant::now();
        let breaker = opened(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let mut pause = Duration::ZERO;
            while !breaker.allows(now + pause) {
                pause += Duration::from_secs(1);
            }
            pauses.push(pause.as_secs());
            now += pause;
            breaker.failed(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
