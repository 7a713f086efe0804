//! Keys for which the origin fails while others wait.
//!
//! When the request that holds a lock fails, one of those who waited tries next. Without a memory each of them would try,
//! and fail, one after another or, once the framework counts no further, all at once. So the failures in a row are counted
//! for those who wait: what was noted before the lock is released counts, if anybody waits for it.

use super::WholeId;
use http::StatusCode;
use pingora::cache::lock::LockStatus;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So many requests may fail in a row for the same crowd: the first one, and as many as the framework lets each waiter
/// wait again.
pub const MOST_LEADERS: u32 = 3;

/// Longer than anybody waits.
const KEEP: Duration = Duration::from_secs(60);

/// Keys of a shard at which old ones are looked for, and at which all are forgotten.
const MANY: usize = 64;
const TOO_MANY: usize = 1024;

/// How an origin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It answers with this status.
    Answered(StatusCode),
    /// It cannot be reached, is silent, or breaks off.
    Disconnected,
}

impl Failure {
    /// The status that it was answered with.
    pub fn status(self) -> Option<StatusCode> {
        match self {
            Failure::Answered(status) => Some(status),
            Failure::Disconnected => None,
        }
    }
}

/// Failures by key.
#[derive(Debug, Default)]
pub(super) struct Failing(HashMap<WholeId, Failed>);

#[derive(Debug)]
struct Failed {
    times: u32,
    /// Of the latest failure that counts.
    at: Option<Instant>,
    how: Failure,
    /// Noted, and not counted yet.
    noted: bool,
}

impl Failing {
    pub(super) fn note(&mut self, id: WholeId, how: Failure) {
        if self.0.len() >= MANY {
            self.0.retain(|_, failed| failed.at.is_none_or(|at| at.elapsed() < KEEP));
            if self.0.len() >= TOO_MANY {
                self.0.clear();
            }
        }
        let failed = self.0.entry(id).or_insert(Failed { times: 0, at: None, how, noted: true });
        (failed.how, failed.noted) = (how, true);
    }

    pub(super) fn released(&mut self, id: WholeId, status: LockStatus, waiters: usize) {
        if self.0.is_empty() {
            return;
        }
        let Some(failed) = self.0.get_mut(&id) else { return };
        // Those who were woken by the failure before may not wait again yet.
        if status != LockStatus::TransientError || (waiters == 0 && failed.times == 0) {
            self.0.remove(&id);
        } else if failed.noted {
            // One that did not ask the origin at all has nothing to say about it.
            failed.times = failed.times.saturating_add(1);
            failed.at = Some(Instant::now());
            failed.noted = false;
        }
    }

    pub(super) fn since(&self, id: &WholeId, since: Instant) -> Option<(u32, Failure)> {
        let failed = self.0.get(id)?;
        (failed.at? >= since).then_some((failed.times, failed.how))
    }
}
