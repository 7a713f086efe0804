//! A fill: one response on its way from the origin, read by everybody who asked for it meanwhile.
//!
//! The writer appends pieces; each reader follows from the first byte at its own speed. A fill ends *sealed* (everything
//! came that the head promised) or *broken*; the readers of a broken one get an error, never a clean end, and a broken
//! one is never stored. A writer that is dropped breaks its fill.
//!
//! An object that is too large for memory is *spooled*, if there is a disk: it is written to a file as it comes, and pieces
//! are let go once they are there. Who reads bytes that are no longer in memory reads them from the file, a late follower
//! from the first on. The writer waits for the disk as long as that gets on, and for no reader.
//!
//! An object that turns out to be larger than the store accepts, or that the disk fails, *overflows*: it is no longer kept,
//! pieces are let go once all readers have them, and the writer waits for readers that fall too far behind, so memory stays
//! bounded. What a disk wrote before it failed is still read by those who need it.
//!
//! The request that fetches, the *leader*, reads its own fill too, in the writer's own task, so the writer cannot wait for
//! it. As long as the fill may be kept, that reader takes a piece only while its client has room for one ([`Room`]): the
//! task is never stuck in a write to its client and goes on fetching for the others, and what the leader's client has not
//! taken stays in the fill, which holds it anyway. Once the fill overflows, the task writes to its client as usual, and
//! reads no further from the origin meanwhile; that is the backpressure that bounds it.

mod pieces;
mod reader;
mod spool;
mod state;
mod writing;

pub use reader::{BeforeWaiting, FillReader, Room};
pub use spool::{Moved, Spool, SpoolSource};

use super::entry::StoredHead;
use crate::decide::Facts;
use bytes::Bytes;
use state::{Ending, Progress};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How far behind the writer a reader of an overflowing fill, or the spool, may be before the writer waits for it.
const WINDOW: u64 = 4 * 1024 * 1024;

/// Bytes before the last one that a spooled fill keeps in memory for readers that have not taken them, though they are
/// written: who keeps up, more or less, is spared the disk.
const KEPT_AT_HAND: u64 = 1024 * 1024;

/// How long the writer waits for a disk that does nothing: longer than one that is well and busy takes, and short enough for
/// nobody to notice that the origin's response stood still.
pub const STALLED: Duration = Duration::from_millis(250);

/// Largest piece handed out at once by an overflowing fill, so that its own reader catches up in few steps, and largest
/// piece read from a spool.
const GATHER: usize = 512 * 1024;

/// A response on its way.
#[derive(Debug)]
pub struct Fill {
    /// The full key.
    pub key: Box<[u8]>,
    /// The head as it came.
    pub head: Arc<StoredHead>,
    /// What was decided about it.
    pub facts: Arc<Facts>,
    /// Bytes that the head promises, if it does.
    expected: Option<u64>,
    limits: FillLimits,
    /// Set once the client of the request that fetches has left, if that can be seen.
    leader_left: OnceLock<Arc<AtomicBool>>,
    /// Whether it may still be kept and more is to come, so that others depend on it: shared with the leader's
    /// connection, which takes care not to hold it up as long as that is so.
    runs_ahead: Arc<AtomicBool>,
    progress: Arc<Progress>,
}

/// What a fill may take.
#[derive(Debug, Clone)]
pub struct FillLimits {
    /// Largest object worth keeping, in whatever tier. Bytes.
    pub max_object: u64,
    /// Most bytes of it that memory may keep. What is larger goes to a spool, from the first byte if its length is known;
    /// with 0 everything that is not empty does.
    pub hold: u64,
    /// Most bytes that all fills together may hold.
    pub max_in_flight: u64,
    /// Bytes that all fills together hold now.
    pub in_flight: Arc<AtomicU64>,
    /// How long the writer of an overflowing fill waits for a reader that takes nothing before it cuts that reader off.
    pub patience: Duration,
    /// How long the writer waits for a spool that writes nothing before it gives it up, and then for a reader that waits
    /// for bytes from it. Default: [`STALLED`].
    pub disk_patience: Duration,
    /// Where it goes when it is too large for memory, or when all fills together are. Without one it overflows.
    pub spool: Option<Arc<dyn SpoolSource>>,
}

/// Why a reader got no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The origin broke off.
    #[error("the fill that this response was read from broke off")]
    Broken,
    /// This reader took nothing for too long.
    #[error("this reader fell too far behind a response that is not kept")]
    TooSlow,
}

/// Why a writer cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nobody reads a response that would not be kept.
    #[error("every reader left a response that is too large to keep")]
    Abandoned,
    /// The body is not as long as the head said.
    #[error("the origin sent {received} bytes where its head promised {expected}")]
    WrongLength {
        /// Bytes that came.
        received: u64,
        /// Bytes that were promised.
        expected: u64,
    },
}

/// How a fill ended well.
#[derive(Debug)]
pub enum Filled {
    /// The whole body, to be kept.
    Whole(Bytes),
    /// The whole body was given to a file, which is to be kept. Some of it may not be written yet. Whoever does not keep it
    /// abandons it; readers may still be reading it.
    Spooled {
        /// The file.
        spool: Arc<dyn Spool>,
        /// Bytes of the body.
        length: u64,
    },
    /// It was too large to keep, or its spool failed.
    TooLarge,
}

impl Fill {
    /// Begins a fill.
    pub fn new(
        key: Box<[u8]>,
        head: Arc<StoredHead>,
        facts: Arc<Facts>,
        expected: Option<u64>,
        limits: FillLimits,
    ) -> Self {
        let runs_ahead = Arc::new(AtomicBool::new(true));
        let progress = Arc::new(Progress::new(&limits, runs_ahead.clone()));
        Fill { key, head, facts, expected, limits, leader_left: OnceLock::new(), runs_ahead, progress }
    }

    /// Whether a new request can still follow it: every byte from the first can be read, and bytes still move.
    pub fn is_joinable(&self, stalled_after: Duration) -> bool {
        self.progress.with(|state| match state.ending {
            _ if state.outdated || state.overflowed => false,
            Ending::Broken => false,
            Ending::Sealed => true,
            Ending::Open => state.last_progress.elapsed() < stalled_after,
        })
    }

    /// Whether it outgrew the largest object that the store keeps.
    pub fn is_too_large(&self) -> bool {
        self.progress.with(|state| state.received() > self.limits.max_object)
    }

    /// What it fetches was changed: it serves who follows it already, and neither takes more followers nor is kept.
    pub fn outdate(&self) {
        self.progress.with(|state| state.outdated = true);
    }

    /// Whether it may be kept once it is whole.
    pub fn is_current(&self) -> bool {
        self.progress.with(|state| !state.outdated)
    }

    /// Whether it is too large to be kept, or what it was written to has failed.
    pub fn has_overflowed(&self) -> bool {
        self.progress.with(|state| state.overflowed)
    }

    /// Bytes that the head promises.
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// Says where it can be seen that the client of the request that fetches has left.
    pub fn watch_leader(&self, left: Arc<AtomicBool>) {
        // A fill has one leader; a second answer for it changes nothing.
        let _ = self.leader_left.set(left);
    }

    /// True as long as nobody may be held up by the leader's client: more is to come, and it may be kept.
    pub fn runs_ahead(&self) -> Arc<AtomicBool> {
        self.runs_ahead.clone()
    }

    /// Starts reading from the first byte. `own` says that the reader runs in the writer's task. If it overflowed since it
    /// was found to be joinable, and the first byte is gone, reading fails.
    pub fn reader(self: &Arc<Self>, own: bool) -> FillReader {
        FillReader::new(self.clone(), own)
    }

    /// Requests that read it besides the one that fetches.
    pub fn followers(&self) -> usize {
        self.progress.with(|state| state.readers.iter().filter(|reader| !reader.own).count())
    }

    /// What came, if it is everything that the head promised; breaks the fill otherwise. Its readers do not learn yet that
    /// this is the end.
    pub fn filled(&self) -> Result<Filled, WriteError> {
        let (filled, received) = self.progress.with(|state| {
            let received = state.received();
            let filled = match (state.spool.clone(), self.expected) {
                (_, Some(expected)) if expected != received => return (Err(expected), received),
                _ if state.overflowed => Filled::TooLarge,
                (Some(spool), _) if spool.failed() => Filled::TooLarge,
                (Some(spool), _) => Filled::Spooled { spool, length: received },
                (None, _) => Filled::Whole(state.pieces.joined()),
            };
            (Ok(filled), received)
        });
        filled.map_err(|expected| {
            self.break_off();
            WriteError::WrongLength { received, expected }
        })
    }

    /// Tells the readers that they have everything.
    pub fn seal(&self) {
        self.finish(Ending::Sealed);
    }

    /// Breaks the fill unless it is sealed.
    pub fn break_off(&self) {
        self.finish(Ending::Broken);
    }

    fn finish(&self, ending: Ending) {
        self.progress.with(|state| state.finish(ending));
        self.progress.came.notify_waiters();
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        // A spool whose fill was never ended is not kept.
        self.break_off();
    }
}

#[cfg(test)]
mod behind_tests;
#[cfg(test)]
mod spool_tests;
#[cfg(test)]
mod spools_tests;
#[cfg(test)]
#[path = "fill_tests.rs"]
mod tests;
