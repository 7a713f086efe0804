//! Those who follow a fill.

use super::{Ending, Fill, GATHER, ReadError};
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

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

/// Follows a fill from its first byte.
pub struct FillReader {
    pub(super) fill: Arc<Fill>,
    pub(super) id: u64,
    /// Number of the piece that comes next.
    pub(super) next: u64,
    /// Where pieces go that are taken in the writer's own task.
    pub(super) room: Option<Arc<dyn Room>>,
}

impl std::fmt::Debug for FillReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FillReader").field("id", &self.id).field("next", &self.next).finish_non_exhaustive()
    }
}

impl FillReader {
    /// The fill that is read.
    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// Takes a piece only while there is room for it, unless the fill overflows.
    pub fn wait_for_room(&mut self, room: Arc<dyn Room>) {
        self.room = Some(room);
    }

    /// The next piece; `None` after the last of a sealed fill. Whatever is to be done before a wait is done first.
    pub async fn read(&mut self, before: Option<&Arc<dyn BeforeWaiting>>) -> Result<Option<Bytes>, ReadError> {
        loop {
            let fill = self.fill.clone();
            let moved = fill.moved.notified();
            tokio::pin!(moved);
            // Registered before the look, so that nothing that comes in between is missed.
            moved.as_mut().enable();
            if let Some(room) = &self.room {
                match self.comes_next() {
                    Next::Piece => poll_fn(|cx| room.poll_room(cx)).await,
                    Next::End => poll_fn(|cx| room.poll_room_for_end(cx)).await,
                    Next::NothingToWaitWith => {}
                }
            }
            if let Some(answer) = self.take() {
                return answer;
            }
            if let Some(before) = before {
                poll_fn(|cx| before.poll_before_waiting(cx)).await;
            }
            moved.await;
        }
    }

    /// Waits until the end of the body can be written, for a reader that wants no more.
    pub async fn room_for_end(&self) {
        if let Some(room) = &self.room
            && !self.fill.state.lock().overflowed
        {
            poll_fn(|cx| room.poll_room_for_end(cx)).await;
        }
    }

    fn comes_next(&self) -> Next {
        let state = self.fill.state.lock();
        match state.ending {
            _ if state.overflowed => Next::NothingToWaitWith,
            _ if state.first + state.pieces.len() as u64 > self.next => Next::Piece,
            Ending::Sealed => Next::End,
            Ending::Open | Ending::Broken => Next::NothingToWaitWith,
        }
    }

    /// What can be said now; `None` if it has to wait.
    fn take(&mut self) -> Option<Result<Option<Bytes>, ReadError>> {
        let mut state = self.fill.state.lock();
        let position = state.position_of(self.id)?;
        if state.readers.get(position).is_some_and(|reader| reader.cut) {
            return Some(Err(ReadError::TooSlow));
        }
        let at = usize::try_from(self.next.saturating_sub(state.first)).ok()?;
        let Some(piece) = state.pieces.get(at).cloned() else {
            return match state.ending {
                Ending::Open => None,
                Ending::Sealed => Some(Ok(None)),
                Ending::Broken => Some(Err(ReadError::Broken)),
            };
        };
        let mut taken = 1;
        let mut piece = piece;
        if state.overflowed && state.pieces.len() > at + 1 {
            let mut length = piece.len();
            while let Some(more) = state.pieces.get(at + taken).filter(|more| length + more.len() <= GATHER) {
                length += more.len();
                taken += 1;
            }
            // In one go: a buffer that grows leaves one of each size behind.
            let mut gathered = BytesMut::with_capacity(length);
            state.pieces.range(at..at + taken).for_each(|piece| gathered.extend_from_slice(piece));
            piece = gathered.freeze();
        }
        self.next += taken as u64;
        let received = state.received;
        if let Some(reader) = state.readers.get_mut(position) {
            reader.saw = received;
            reader.next = self.next;
            reader.taken += piece.len() as u64;
            reader.moved = Instant::now();
        }
        let overflowed = state.overflowed;
        self.fill.let_go(&mut state);
        drop(state);
        if overflowed {
            self.fill.moved.notify_waiters();
        }
        Some(Ok(Some(piece)))
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        let overflowed = {
            let mut state = self.fill.state.lock();
            if let Some(position) = state.position_of(self.id) {
                state.readers.remove(position);
            }
            self.fill.let_go(&mut state);
            state.overflowed
        };
        if overflowed {
            self.fill.moved.notify_waiters();
        }
    }
}
