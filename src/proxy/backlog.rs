//! What a leader's client has not taken yet of the piece that was written to it last.
//!
//! The task that fetches must not wait for its own client while others depend on the fill. It writes a piece only when the
//! client has room for one ([`Room`](crate::store::fill::Room)); what the socket then takes only in part waits here, and
//! the task sends it on between its other work. So a piece at most is copied, and nothing piles up that the fill does not
//! hold anyway.

use super::socket::Socket;
use bytes::{Buf, BytesMut};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

/// The rest of a piece, and how long its client may take for it.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: BytesMut,
    /// True as long as nobody may wait for the client. `None`: the response is no leader's.
    ahead: Option<Arc<AtomicBool>>,
    /// A flush was asked for, and the client was not waited for.
    pub owes_flush: bool,
    patience: Patience,
}

impl Backlog {
    /// What is written from now on belongs to a leader: it runs ahead of its client as long as `ahead` is true. A client
    /// that makes no room for a piece for `limit` is given up.
    pub fn lead(&mut self, ahead: Arc<AtomicBool>, limit: Duration) {
        self.ahead = Some(ahead);
        self.patience.limit = limit;
    }

    /// What is written from now on is no leader's.
    pub fn follow(&mut self) {
        self.ahead = None;
    }

    /// Whether writes are taken although the client is not ready.
    pub fn runs_ahead(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.load(Ordering::Relaxed))
    }

    /// Whether the response is a leader's.
    pub fn leads(&self) -> bool {
        self.ahead.is_some()
    }

    /// Passes on how sending went, and gives the client up that takes too long.
    pub fn poll_in_time<T>(&mut self, went: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let waited = self.patience.poll(if went.is_ready() { Poll::Ready(()) } else { Poll::Pending }, cx);
        match went {
            Poll::Pending if waited.is_ready() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            went => went,
        }
    }

    /// Whether everything that was written went to the stream, and was flushed if that was asked for.
    pub fn is_sent(&self) -> bool {
        self.bytes.is_empty() && !self.owes_flush
    }

    /// Whether the client took too long.
    pub fn is_given_up(&self) -> bool {
        self.patience.has_ended()
    }

    /// Passes on that there is room, or that the client is given up.
    pub fn poll_patience(&mut self, room: Poll<()>, cx: &mut Context<'_>) -> Poll<()> {
        self.patience.poll(room, cx)
    }

    /// Sends what is left before the connection ends, if the client takes it in time.
    pub fn poll_end(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<()> {
        let drained = self.poll_drain(socket, cx).map(drop);
        ready!(self.patience.poll(drained, cx));
        self.bytes = BytesMut::new();
        Poll::Ready(())
    }

    /// Takes bytes that the stream could not.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Hands what is kept to the socket.
    pub fn poll_drain(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.bytes.is_empty() {
            let n = ready!(Pin::new(&mut *socket).poll_write(cx, &self.bytes))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes.advance(n);
        }
        self.bytes = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

/// How long a client may take for one piece, across the calls of whoever asks.
#[derive(Debug, Default)]
pub struct Patience {
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Patience {
    /// Ends when there was no room for `limit`.
    pub fn of(limit: Duration) -> Self {
        Patience { limit, ..Patience::default() }
    }

    /// Whether it ended. It stays so.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Passes on that there is room; while there is none, becomes ready once that has lasted too long.
    pub fn poll(&mut self, room: Poll<()>, cx: &mut Context<'_>) -> Poll<()> {
        if room.is_ready() {
            self.deadline = None;
        } else if !self.ended {
            let limit = self.limit;
            ready!(self.deadline.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
            self.ended = true;
        }
        Poll::Ready(())
    }
}
