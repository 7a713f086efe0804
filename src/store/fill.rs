//! A fill: one response on its way from the origin, read by everybody who asked for it meanwhile.
//!
//! The writer appends pieces; each reader follows from the first byte at its own speed. A fill ends *sealed* (everything
//! came that the head promised) or *broken*; the readers of a broken one get an error, never a clean end, and a broken
//! one is never stored. A writer that is dropped breaks its fill.
//!
//! An object that turns out to be larger than the store accepts *overflows*: it is no longer kept, pieces are let go once
//! all readers have them, and the writer waits for readers that fall too far behind, so memory stays bounded.
//!
//! The request that fetches, the *leader*, reads its own fill too, in the writer's own task, so the writer cannot wait for
//! it. As long as the fill may be kept, that reader takes a piece only while its client has room for one ([`Room`]): the
//! task is never stuck in a write to its client and goes on fetching for the others, and what the leader's client has not
//! taken stays in the fill, which holds it anyway. Once the fill overflows, the task writes to its client as usual, and
//! reads no further from the origin meanwhile; that is the backpressure that bounds it.

mod reader;

pub use reader::{BeforeWaiting, FillReader, Room};

use super::entry::StoredHead;
use crate::decide::Facts;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How far behind the writer a reader of an overflowing fill may be before the writer waits for it.
const WINDOW: u64 = 4 * 1024 * 1024;

/// Largest piece handed out at once by an overflowing fill, so that its own reader catches up in few steps.
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
    state: Mutex<State>,
    /// Tells readers that something came, and the writer that something was taken.
    moved: Notify,
}

/// What a fill may take.
#[derive(Debug, Clone)]
pub struct FillLimits {
    /// Largest object worth keeping.
    pub max_object: u64,
    /// Most bytes that all fills together may hold.
    pub max_in_flight: u64,
    /// Bytes that all fills together hold now.
    pub in_flight: Arc<AtomicU64>,
    /// How long the writer of an overflowing fill waits for a reader that takes nothing before it cuts that reader off.
    pub patience: Duration,
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    /// Number of the first piece in `pieces`; pieces before it were let go.
    first: u64,
    /// Bytes received.
    received: u64,
    /// Bytes held in `pieces`.
    held: u64,
    ending: Ending,
    overflowed: bool,
    /// What it fetches was changed after it had begun.
    outdated: bool,
    readers: Vec<Position>,
    last_progress: Instant,
}

impl State {
    /// Where a reader stands in the list, which is in the order of the ids: thousands may read one fill.
    fn position_of(&self, id: u64) -> Option<usize> {
        self.readers.binary_search_by_key(&id, |reader| reader.id).ok()
    }
}

#[derive(Debug)]
struct Position {
    id: u64,
    next: u64,
    /// Bytes handed out to this reader.
    taken: u64,
    /// Bytes that had been received when something was handed out to it last, or when the fill overflowed.
    saw: u64,
    /// Runs in the writer's task.
    own: bool,
    cut: bool,
    /// When something was handed out to it last.
    moved: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    Sealed,
    Broken,
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
    /// It was too large to keep.
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
        Fill {
            key,
            head,
            facts,
            expected,
            limits,
            leader_left: OnceLock::new(),
            runs_ahead: Arc::new(AtomicBool::new(true)),
            state: Mutex::new(State {
                pieces: VecDeque::new(),
                first: 0,
                received: 0,
                held: 0,
                ending: Ending::Open,
                overflowed: false,
                outdated: false,
                readers: Vec::new(),
                last_progress: Instant::now(),
            }),
            moved: Notify::new(),
        }
    }

    /// Whether a new request can still follow it: it holds every byte from the first, and bytes still move.
    pub fn is_joinable(&self, stalled_after: Duration) -> bool {
        let state = self.state.lock();
        match state.ending {
            _ if state.outdated => false,
            Ending::Broken => false,
            Ending::Sealed => !state.overflowed,
            Ending::Open => !state.overflowed && state.last_progress.elapsed() < stalled_after,
        }
    }

    /// Whether it outgrew the largest object that the store keeps.
    pub fn is_too_large(&self) -> bool {
        self.state.lock().received > self.limits.max_object
    }

    /// What it fetches was changed: it serves who follows it already, and neither takes more followers nor is kept.
    pub fn outdate(&self) {
        self.state.lock().outdated = true;
    }

    /// Whether it may be kept once it is whole.
    pub fn is_current(&self) -> bool {
        !self.state.lock().outdated
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

    /// Starts reading from the first byte. `own` says that the reader runs in the writer's task.
    pub fn reader(self: &Arc<Self>, own: bool) -> FillReader {
        let mut state = self.state.lock();
        let id = state.readers.last().map_or(0, |latest| latest.id + 1);
        let next = state.first;
        state.readers.push(Position { id, next, taken: 0, saw: 0, own, cut: false, moved: Instant::now() });
        FillReader { fill: self.clone(), id, next, room: None }
    }

    /// Requests that read it besides the one that fetches.
    pub fn followers(&self) -> usize {
        self.state.lock().readers.iter().filter(|reader| !reader.own).count()
    }

    /// Appends a piece; waits only if it overflowed and a follower is far behind.
    pub async fn write(&self, piece: Bytes) -> Result<(), WriteError> {
        if piece.is_empty() {
            return Ok(());
        }
        {
            let mut state = self.state.lock();
            let length = piece.len() as u64;
            state.received += length;
            state.held += length;
            state.last_progress = Instant::now();
            state.pieces.push_back(piece);
            let in_flight = self.limits.in_flight.fetch_add(length, Ordering::Relaxed) + length;
            if state.received > self.limits.max_object || in_flight > self.limits.max_in_flight {
                self.overflow(&mut state);
            }
            self.let_go(&mut state);
        }
        self.moved.notify_waiters();
        self.wait_for_followers().await
    }

    fn overflow(&self, state: &mut State) {
        if !std::mem::replace(&mut state.overflowed, true) {
            self.runs_ahead.store(false, Ordering::Relaxed);
            let received = state.received;
            // Until now they were right to take nothing.
            state.readers.iter_mut().for_each(|reader| reader.saw = received);
        }
    }

    async fn wait_for_followers(&self) -> Result<(), WriteError> {
        let since = Instant::now();
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let mut state = self.state.lock();
                if !state.overflowed {
                    return Ok(());
                }
                let received = state.received;
                let left = self.leader_left.get().is_some_and(|left| left.load(Ordering::Relaxed));
                for reader in state.readers.iter_mut().filter(|reader| reader.own) {
                    // Its task takes a piece between any few from the origin, and stops fetching while it writes. If
                    // it takes none, its client left, and the task writes to nobody.
                    reader.cut |= left || received - reader.saw > WINDOW;
                }
                if state.readers.iter().all(|reader| reader.cut) {
                    return Err(WriteError::Abandoned);
                }
                let far_behind =
                    |reader: &&mut Position| !reader.own && !reader.cut && received - reader.taken > WINDOW;
                let mut waiting = false;
                for reader in state.readers.iter_mut().filter(far_behind) {
                    // All that stand still are cut at once, so that many cost no more than one.
                    reader.cut = reader.moved.max(since).elapsed() >= self.limits.patience;
                    waiting |= !reader.cut;
                }
                self.let_go(&mut state);
                if !waiting {
                    return Ok(());
                }
            }
            // The deadline is looked at again even if nobody moves.
            let _ = tokio::time::timeout(self.limits.patience / 10, moved).await;
        }
    }

    /// Lets go of pieces that no reader needs, once the object is not to be kept.
    fn let_go(&self, state: &mut State) {
        if !state.overflowed {
            return;
        }
        let needed = state.readers.iter().filter(|reader| !reader.cut).map(|reader| reader.next).min();
        let needed = needed.unwrap_or(state.first + state.pieces.len() as u64);
        while state.first < needed {
            let Some(piece) = state.pieces.pop_front() else { break };
            state.first += 1;
            state.held -= piece.len() as u64;
            self.limits.in_flight.fetch_sub(piece.len() as u64, Ordering::Relaxed);
        }
    }

    /// What came, if it is everything that the head promised; breaks the fill otherwise. Its readers do not learn yet that
    /// this is the end.
    pub fn filled(&self) -> Result<Filled, WriteError> {
        let state = self.state.lock();
        let received = state.received;
        match self.expected.filter(|expected| *expected != received) {
            None if state.overflowed => Ok(Filled::TooLarge),
            None => Ok(Filled::Whole(join(&state.pieces))),
            Some(expected) => {
                drop(state);
                self.break_off();
                Err(WriteError::WrongLength { received, expected })
            }
        }
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
        {
            let mut state = self.state.lock();
            if state.ending == Ending::Open {
                self.runs_ahead.store(false, Ordering::Relaxed);
                state.ending = ending;
            }
        }
        self.moved.notify_waiters();
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.limits.in_flight.fetch_sub(self.state.get_mut().held, Ordering::Relaxed);
    }
}

fn join(pieces: &VecDeque<Bytes>) -> Bytes {
    match pieces.len() {
        0 => Bytes::new(),
        // A piece may be a window into a larger buffer; a copy keeps just its own bytes alive.
        _ => {
            let mut body = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            for piece in pieces {
                body.extend_from_slice(piece);
            }
            body.freeze()
        }
    }
}

#[cfg(test)]
#[path = "fill_tests.rs"]
mod tests;
