//! How far a fill has come, who reads it and how far, and which of its bytes are needed in memory.

use super::pieces::Pieces;
use super::spool::Spool;
use super::{FillLimits, KEPT_AT_HAND};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The part of a fill that moves, shared with those who move it on: its readers and its spool.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    /// Tells readers that something came, or that nothing more will.
    pub(super) came: Notify,
    /// Tells the writer that a reader took something or left, or that the spool moved.
    pub(super) room: Notify,
}

impl Progress {
    pub(super) fn new(limits: &FillLimits, runs_ahead: Arc<AtomicBool>) -> Self {
        let state = State {
            pieces: Pieces::new(limits),
            ending: Ending::Open,
            overflowed: false,
            outdated: false,
            spool: None,
            given_up: None,
            readers: Vec::new(),
            next_id: 0,
            last_progress: Instant::now(),
            runs_ahead,
        };
        Progress { state: Mutex::new(state), came: Notify::new(), room: Notify::new() }
    }

    /// Looks at the state, or changes it. A spool that is given up by that is told without the lock.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, given_up) = {
            let mut state = self.state.lock();
            (change(&mut state), state.given_up.take())
        };
        if let Some(spool) = given_up {
            spool.abandon();
        }
        result
    }

    /// The spool has written more, or has failed.
    pub(super) fn spool_moved(&self) {
        self.with(|state| {
            let failed = state.spool.as_ref().is_some_and(|spool| spool.failed());
            if failed && (state.ending == Ending::Open || state.written() < state.received()) {
                state.overflow();
            }
            state.let_go();
        });
        self.room.notify_waiters();
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) pieces: Pieces,
    pub(super) ending: Ending,
    /// Not to be kept any more.
    pub(super) overflowed: bool,
    /// What it fetches was changed after it had begun.
    pub(super) outdated: bool,
    /// What was let go of is there: every byte before the first in `pieces`, unless it was let go after an overflow.
    pub(super) spool: Option<Arc<dyn Spool>>,
    /// The spool, if it is to be told that the fill is not kept.
    given_up: Option<Arc<dyn Spool>>,
    /// In the order of their ids: thousands may read one fill.
    pub(super) readers: Vec<Position>,
    next_id: u64,
    pub(super) last_progress: Instant,
    runs_ahead: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(super) struct Position {
    id: u64,
    /// Position of the byte that comes next. It may not have come yet.
    pub(super) next: u64,
    /// Bytes that had been received when something was handed out to it last, or when the fill overflowed.
    pub(super) saw: u64,
    /// Runs in the writer's task.
    pub(super) own: bool,
    pub(super) cut: bool,
    /// When something was handed out to it last, or its read from the spool began.
    pub(super) moved: Instant,
    /// Its read from the spool, while it has not ended.
    pub(super) reading: Option<AbortHandle>,
}

impl Position {
    /// Nobody waits for it any more, and it gets no further.
    pub(super) fn cut_off(&mut self) {
        self.cut = true;
        if let Some(reading) = self.reading.take() {
            // It may wait for a disk that does not answer.
            reading.abort();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Open,
    Sealed,
    Broken,
}

impl State {
    pub(super) fn received(&self) -> u64 {
        self.pieces.end()
    }

    /// Bytes from the first that can be read from the spool.
    pub(super) fn written(&self) -> u64 {
        self.spool.as_ref().map_or(0, |spool| spool.written().min(self.received()))
    }

    pub(super) fn add_reader(&mut self, own: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        // What was let go after an overflow is nowhere. An error is better than a body without its beginning.
        let cut = self.pieces.start() > self.written();
        self.readers.push(Position { id, next: 0, saw: 0, own, cut, moved: Instant::now(), reading: None });
        id
    }

    pub(super) fn remove_reader(&mut self, id: u64) {
        if let Ok(index) = self.readers.binary_search_by_key(&id, |reader| reader.id) {
            self.readers.remove(index);
        }
        self.let_go();
    }

    pub(super) fn reader(&mut self, id: u64) -> Option<&mut Position> {
        let index = self.readers.binary_search_by_key(&id, |reader| reader.id).ok()?;
        self.readers.get_mut(index)
    }

    /// It is not to be kept, and what is needed of it must fit into memory.
    pub(super) fn overflow(&mut self) {
        if !std::mem::replace(&mut self.overflowed, true) {
            self.runs_ahead.store(false, Ordering::Relaxed);
            self.given_up = self.spool.clone();
            let received = self.received();
            // Until now they were right to take nothing.
            self.readers.iter_mut().for_each(|reader| reader.saw = received);
        }
    }

    pub(super) fn finish(&mut self, ending: Ending) {
        if self.ending == Ending::Open {
            self.runs_ahead.store(false, Ordering::Relaxed);
            self.ending = ending;
            if ending == Ending::Broken && !self.overflowed {
                self.given_up = self.spool.clone();
            }
            self.let_go();
        }
    }

    /// Lets go of pieces that are not needed in memory.
    pub(super) fn let_go(&mut self) {
        let (start, received, written) = (self.pieces.start(), self.received(), self.written());
        let readers = self.readers.iter().filter(|reader| !reader.cut);
        let needless = if self.overflowed {
            // Who is in the spool finds there what is written, and only the rest has to wait in memory.
            let needs = readers.map(|reader| if reader.next < start { written } else { reader.next });
            needs.min().unwrap_or(received)
        } else if self.spool.is_some() {
            let needed = readers.map(|reader| reader.next).min().unwrap_or(received);
            // Who keeps up is spared the disk.
            let at_hand = if self.pieces.are_too_many() { 0 } else { KEPT_AT_HAND };
            needed.max(received.saturating_sub(at_hand)).min(written)
        } else {
            return;
        };
        self.pieces.let_go_to(needless);
    }
}
