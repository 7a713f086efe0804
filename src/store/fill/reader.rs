//! Those who follow a fill.

use super::state::{Ending, State};
use super::{Fill, GATHER, ReadError};
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::task::{AbortHandle, JoinHandle};

/// Something to be done before a reader waits for the rest of its fill.
pub trait BeforeWaiting: Send + Sync {
    /// Does it. Called until it is ready.
    fn poll_before_waiting(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The connection of a leader's client.
pub trait Room: Send + Sync {
    /// Ready once a piece can be written to the client without waiting for it, or never again.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready once the end of the body can be written.
    fn poll_room_for_end(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// What a leader's reader has for its client.
enum Next {
    Piece,
    End,
    /// Nothing yet, or what must not wait.
    NothingToWaitWith,
}

/// What a reader does next.
enum Step {
    HandOut(Result<Option<Bytes>, ReadError>),
    /// The bytes are read from the spool.
    AwaitSpool,
    /// The bytes have not come.
    AwaitMore,
}

/// Bytes on their way from the spool. A task of its own, so that what was read is not lost when whoever waits for it turns
/// to something else first, and so that it can be waited for by a writer in the same task.
type Reading = JoinHandle<io::Result<Bytes>>;

/// Follows a fill from its first byte.
pub struct FillReader {
    fill: Arc<Fill>,
    id: u64,
    /// Position of the byte that comes next.
    next: u64,
    /// What is read from the spool, from `next` on.
    reading: Option<Reading>,
    /// Where pieces go that are taken in the writer's own task.
    room: Option<Arc<dyn Room>>,
}

impl std::fmt::Debug for FillReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FillReader").field("id", &self.id).field("next", &self.next).finish_non_exhaustive()
    }
}

impl FillReader {
    pub(super) fn new(fill: Arc<Fill>, own: bool) -> Self {
        let id = fill.progress.with(|state| state.add_reader(own));
        FillReader { fill, id, next: 0, reading: None, room: None }
    }

    /// The fill that is read.
    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// Takes a piece only while there is room for it, unless the fill overflows.
    pub fn wait_for_room(&mut self, room: Arc<dyn Room>) {
        self.room = Some(room);
    }

    /// Goes on from a byte. Those before it are not read if they came, and not waited for if they did not. What was passed
    /// cannot be gone back to: a position before the next byte changes nothing.
    pub fn skip_to(&mut self, position: u64) {
        if position <= self.next {
            return;
        }
        self.stop_reading();
        self.next = position;
        let overflowed = self.fill.progress.with(|state| {
            if let Some(reader) = state.reader(self.id) {
                reader.next = position;
                reader.reading = None;
            }
            state.let_go();
            state.overflowed
        });
        if overflowed {
            self.fill.progress.room.notify_waiters();
        }
    }

    /// The next bytes; `None` after the last of a sealed fill. Whatever is to be done before a wait is done first. Dropped
    /// before it is ready, it has taken nothing.
    pub async fn read(&mut self, before: Option<&Arc<dyn BeforeWaiting>>) -> Result<Option<Bytes>, ReadError> {
        loop {
            let fill = self.fill.clone();
            let came = fill.progress.came.notified();
            tokio::pin!(came);
            // Registered before the look, so that nothing that comes in between is missed.
            came.as_mut().enable();
            if let Some(room) = &self.room {
                match self.comes_next() {
                    Next::Piece => poll_fn(|cx| room.poll_room(cx)).await,
                    Next::End => poll_fn(|cx| room.poll_room_for_end(cx)).await,
                    Next::NothingToWaitWith => {}
                }
            }
            let step = self.take(&fill);
            if let Step::HandOut(answer) = step {
                return answer;
            }
            if let Some(before) = before {
                poll_fn(|cx| before.poll_before_waiting(cx)).await;
            }
            match &mut self.reading {
                Some(reading) => {
                    let read = reading.await;
                    self.reading = None;
                    return self.took_from_spool(&fill, read.unwrap_or_else(|e| Err(io::Error::other(e))));
                }
                None => came.await,
            }
        }
    }

    /// Waits until the end of the body can be written, for a reader that wants no more.
    pub async fn room_for_end(&self) {
        if let Some(room) = &self.room
            && !self.fill.progress.with(|state| state.overflowed)
        {
            poll_fn(|cx| room.poll_room_for_end(cx)).await;
        }
    }

    fn comes_next(&self) -> Next {
        self.fill.progress.with(|state| match state.ending {
            _ if state.overflowed => Next::NothingToWaitWith,
            _ if state.received() > self.next => Next::Piece,
            Ending::Sealed => Next::End,
            Ending::Open | Ending::Broken => Next::NothingToWaitWith,
        })
    }

    /// What can be said now.
    fn take(&mut self, fill: &Fill) -> Step {
        let (step, overflowed) = fill.progress.with(|state| (self.step(state), state.overflowed));
        if overflowed && matches!(step, Step::HandOut(Ok(Some(_)))) {
            fill.progress.room.notify_waiters();
        }
        step
    }

    fn step(&mut self, state: &mut State) -> Step {
        if state.reader(self.id).is_none_or(|reader| reader.cut) {
            return Step::HandOut(Err(ReadError::TooSlow));
        }
        if self.reading.is_some() {
            return Step::AwaitSpool;
        }
        if self.next >= state.received() {
            return match state.ending {
                Ending::Open => Step::AwaitMore,
                Ending::Sealed => Step::HandOut(Ok(None)),
                Ending::Broken => Step::HandOut(Err(ReadError::Broken)),
            };
        }
        if let Some(piece) = state.pieces.at(self.next, if state.overflowed { GATHER } else { 0 }) {
            self.hand_out(state, &piece);
            return Step::HandOut(Ok(Some(piece)));
        }
        self.begin_reading(state)
    }

    /// Begins to read what is no longer in memory.
    fn begin_reading(&mut self, state: &mut State) -> Step {
        let (start, id) = (self.next, self.id);
        let most = usize::try_from(state.written().saturating_sub(start)).unwrap_or(GATHER).min(GATHER);
        let (Some(spool), 1..) = (state.spool.clone(), most) else {
            // Not even there. No bytes at all are better than the wrong ones.
            return Step::HandOut(Err(ReadError::Broken));
        };
        let progress = self.fill.progress.clone();
        let reading = tokio::spawn(async move {
            let read = spool.read(start, most).await;
            // If it is still this one that the reader waits for.
            let own = Some(tokio::task::id());
            progress.with(|state| {
                let reader = state.reader(id).filter(|reader| reader.reading.as_ref().map(AbortHandle::id) == own);
                reader.map(|reader| reader.reading = None)
            });
            progress.room.notify_waiters();
            read.map(|mut bytes| {
                bytes.truncate(most);
                bytes
            })
        });
        if let Some(reader) = state.reader(id) {
            reader.moved = Instant::now();
            reader.reading = Some(reading.abort_handle());
        }
        self.reading = Some(reading);
        Step::AwaitSpool
    }

    fn took_from_spool(&mut self, fill: &Fill, read: io::Result<Bytes>) -> Result<Option<Bytes>, ReadError> {
        let taken = fill.progress.with(|state| {
            if state.reader(self.id).is_none_or(|reader| reader.cut) {
                return Err(ReadError::TooSlow);
            }
            let bytes = read.ok().filter(|bytes| !bytes.is_empty()).ok_or(ReadError::Broken)?;
            self.hand_out(state, &bytes);
            Ok(Some(bytes))
        });
        fill.progress.room.notify_waiters();
        taken
    }

    fn hand_out(&mut self, state: &mut State, bytes: &Bytes) {
        self.next += bytes.len() as u64;
        let received = state.received();
        if let Some(reader) = state.reader(self.id) {
            reader.saw = received;
            reader.next = self.next;
            reader.moved = Instant::now();
        }
        // A spooled fill lets go as it grows: that depends little on who reads it, and there may be thousands.
        if state.overflowed {
            state.let_go();
        }
    }

    fn stop_reading(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        self.stop_reading();
        let overflowed = self.fill.progress.with(|state| {
            state.remove_reader(self.id);
            state.overflowed
        });
        if overflowed {
            self.fill.progress.room.notify_waiters();
        }
    }
}
