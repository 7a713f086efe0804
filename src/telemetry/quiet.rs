//! Log lines that could come with each request come once a second.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// What can fail with each request has its log line once in so long.
const QUIET: Duration = Duration::from_secs(1);

/// Lines of one kind.
#[derive(Debug, Default)]
pub struct Quiet(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Quiet {
    /// Whether a line is due, and how many were not written since the last one.
    pub fn is_due(&self) -> Option<u64> {
        let mut lately = self.0.lock();
        if lately.logged.is_some_and(|logged| logged.elapsed() < QUIET) {
            lately.unlogged += 1;
            return None;
        }
        lately.logged = Some(Instant::now());
        Some(std::mem::take(&mut lately.unlogged))
    }
}
