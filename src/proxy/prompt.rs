//! A client's connection that holds nothing back while we wait.
//!
//! The framework collects what it writes to a client until a buffer is full or the response has ended. While a response
//! is on its way from a slow origin, bytes that have arrived must not wait for those that have not. Sending each piece at
//! once would cost every hit a second system call, so a [`PromptStream`] sends what is held when its task is about to wait
//! instead: for the client (a read), or for a fill to go on ([`Outlet`], given to the fill's reader).
//!
//! The client of a request that fetches for others as well must not hold them up. What it does not take at once is kept in
//! a [`Backlog`], and its connection says when there is [`Room`] for more.
//!
//! It also ends connections whose client takes too long for a header: the framework's limits are for a single read, and a
//! client that sends a byte now and then would hold its connection for ever.

use super::backlog::Backlog;
use super::socket::Socket;
use crate::store::disk::file::piece::{FilePiece, SendsFiles};
use crate::store::fill::{BeforeWaiting, Room};
use async_trait::async_trait;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The connection, shared between the framework and whoever may have to wait.
#[derive(Debug, Clone)]
pub struct Outlet(Arc<Mutex<Held>>);

#[derive(Debug)]
struct Held {
    socket: Socket,
    /// Something was written and not sent.
    unsent: bool,
    head: Head,
    /// Set once the client has left.
    left: Arc<AtomicBool>,
    /// The `Date` of the response whose head is written next.
    date: Option<FixDate>,
    /// What waits for the client of a leader.
    backlog: Backlog,
    /// The connection can take another request although the framework gave it up; with what it is to remember of it.
    kept: Option<HttpPersistentSettings>,
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: every `Date` of the preferred format is as long (RFC 9110 section 5.6.7).
type FixDate = [u8; 29];

/// The header of a request on its way in.
#[derive(Debug)]
enum Head {
    /// None is expected.
    Complete,
    /// Nothing of it has come yet; once it begins, it may take so long.
    Expected(Duration),
    /// A part of it came; the client is waited for until then.
    Begun(Duration, Option<Pin<Box<Sleep>>>),
}

impl Head {
    /// Something was read.
    fn grew(&mut self) {
        if let Head::Expected(limit) = *self {
            *self = Head::Begun(limit, None);
        }
    }

    /// Ready when the client had its time. Called only if there is nothing to read, so that a header that comes at once
    /// needs no timer.
    fn poll_too_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Head::Begun(limit, deadline) = self else { return Poll::Pending };
        let limit = *limit;
        deadline.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx)
    }
}

impl BeforeWaiting for Outlet {
    fn poll_before_waiting(&self, cx: &mut Context<'_>) -> Poll<()> {
        // A connection that cannot be written to any more is noticed by the next write.
        self.0.lock().poll_send(cx).map(drop)
    }
}

impl SendsFiles for Outlet {
    fn offer(&self, piece: FilePiece) {
        self.0.lock().socket.offer(piece);
    }
}

/// A leader's connection.
struct LeadersRoom(Outlet);

impl Room for LeadersRoom {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut held = self.0.0.lock();
        // What went wrong is noticed by the next write.
        let room = if held.backlog.is_sent() { Poll::Ready(()) } else { held.poll_send(cx).map(drop) };
        let waited = held.backlog.poll_patience(room, cx);
        if held.backlog.is_given_up() {
            held.left.store(true, Ordering::Relaxed);
        }
        waited
    }

    fn poll_room_for_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_room(cx)
    }
}

impl Outlet {
    /// Sends bytes of our own at once, in front of what the framework writes next.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = poll_fn(|cx| {
                let mut held = self.0.lock();
                held.unsent = true;
                let went = Pin::new(&mut held.socket).poll_write(cx, rest);
                held.noting(went)
            });
            match rest.get(written.await?..) {
                Some(unwritten) if unwritten.len() < rest.len() => rest = unwritten,
                _ => return Err(io::ErrorKind::WriteZero.into()),
            }
        }
        poll_fn(|cx| self.0.lock().poll_send(cx)).await
    }

    /// Has the connection taken on again when the framework has let go of it.
    pub fn keep(&self, settings: HttpPersistentSettings) {
        self.0.lock().kept = Some(settings);
    }

    /// The connection for its next request, if [`Outlet::keep`] was called since the last one.
    pub fn take_kept(self) -> Option<ReusedHttpStream> {
        let settings = self.0.lock().kept.take()?;
        Some(ReusedHttpStream::new(Box::new(PromptStream(self)), Some(settings)))
    }

    /// The same connection once more, for a session that stands in for the one that is to be ended.
    pub fn stream(&self) -> Stream {
        Box::new(PromptStream(self.clone()))
    }
}

impl Held {
    /// Passes on how reading or writing went, and sees whether that means that the client has left.
    fn noting<T>(&self, went: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = went {
            self.left.store(true, Ordering::Relaxed);
        }
        went
    }

    /// Writes, a head with the date that it is to keep. What a leader's client does not take is kept.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let dated = self.date.as_ref().and_then(|date| with_date(bytes, date));
        let bytes = dated.as_deref().unwrap_or(bytes);
        let written = match self.poll_ready(cx)? {
            Poll::Ready(()) => Pin::new(&mut self.socket).poll_write(cx, bytes),
            Poll::Pending => Poll::Pending,
        };
        self.written(written, &[io::IoSlice::new(bytes)])
    }

    /// The same for bytes in several places, of which none is a head that is to keep its date.
    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = match self.poll_ready(cx)? {
            Poll::Ready(()) => Pin::new(&mut self.socket).poll_write_vectored(cx, bytes),
            Poll::Pending => Poll::Pending,
        };
        self.written(written, bytes)
    }

    /// Ready when nothing waits before what is to be written.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unsent = true;
        if self.backlog.is_given_up() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.backlog.poll_drain(&mut self.socket, cx)
    }

    fn written(&mut self, went: Poll<io::Result<usize>>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if went.is_pending() && !self.backlog.runs_ahead() {
            return Poll::Pending;
        }
        self.date = None;
        if went.is_ready() {
            return went;
        }
        bytes.iter().for_each(|bytes| self.backlog.keep(bytes));
        Poll::Ready(Ok(bytes.iter().map(|bytes| bytes.len()).sum()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent {
            ready!(self.backlog.poll_drain(&mut self.socket, cx))?;
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unsent = false;
            self.backlog.owes_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct PromptStream(Outlet);

impl PromptStream {
    /// Wraps a connection that was accepted just now.
    pub fn new(stream: Stream) -> Self {
        PromptStream(Outlet(Arc::new(Mutex::new(Held {
            socket: Socket::new(stream),
            unsent: false,
            head: Head::Complete,
            left: Arc::default(),
            date: None,
            backlog: Backlog::default(),
            kept: None,
        }))))
    }

    /// For somebody who may have to wait while a response is being written.
    pub fn outlet(&self) -> Outlet {
        self.0.clone()
    }

    /// For whoever reads a body from a file; `None` if it has to be written here.
    pub fn file_sender(&self) -> Option<Arc<dyn SendsFiles>> {
        self.with(|held| held.socket.sends_files()).then(|| Arc::new(self.outlet()) as _)
    }

    /// Becomes true once the client has left: closed its side, or cannot be written to.
    pub fn left(&self) -> Arc<AtomicBool> {
        self.with(|held| held.left.clone())
    }

    /// A header is to be read next, which may take so long from its first byte to its last.
    pub fn expect_head(&self, limit: Duration) {
        self.with(|held| {
            held.head = Head::Expected(limit);
            // The response before this request, and the fill that it began, have ended.
            held.backlog.follow();
            held.socket.end_body();
        });
    }

    /// The response that comes next is a leader's: it does not wait for its client as long as `ahead` is true. A client
    /// that takes nothing of a piece for `limit` has left.
    pub fn run_ahead(&self, ahead: Arc<AtomicBool>, limit: Duration) -> Arc<dyn Room> {
        self.with(|held| held.backlog.lead(ahead, limit));
        Arc::new(LeadersRoom(self.outlet()))
    }

    /// The header has been read.
    pub fn head_is_complete(&self) {
        self.with(|held| held.head = Head::Complete);
    }

    fn with<R>(&self, ask: impl FnOnce(&mut Held) -> R) -> R {
        ask(&mut self.0.0.lock())
    }
}

impl PromptStream {
    /// The connection of a session; `None` under HTTP/2, where many share one.
    pub fn of(session: &ServerSession) -> Option<&PromptStream> {
        session.stream()?.as_any().downcast_ref()
    }

    /// Keeps the `Date` of the response whose head is written next. The framework puts the present there, which is wrong
    /// for a stored response: it says when the origin made it (RFC 9110 section 6.6.1), and `Expires` counts from it.
    pub fn keep_date(&self, date: &HeaderValue) {
        // What is not as long cannot take its place; the framework's is valid at least.
        if let Ok(date) = FixDate::try_from(date.as_bytes()) {
            self.with(|held| held.date = Some(date));
        }
    }
}

/// The head of a response with this `Date`; `None` if it is none, or has no date.
fn with_date(head: &[u8], date: &FixDate) -> Option<Vec<u8>> {
    const FIELD: &[u8] = b"\r\nDate: ";
    if !head.starts_with(b"HTTP/1.") {
        return None;
    }
    let from = memchr::memmem::find(head, FIELD)? + FIELD.len();
    if head.get(from..from + date.len())? == date {
        return None;
    }
    let mut dated = head.to_vec();
    dated.get_mut(from..from + date.len())?.copy_from_slice(date);
    Some(dated)
}

impl AsyncRead for PromptStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|held| {
            // Reading does not depend on it: what cannot be sent now is sent later.
            let _ = held.poll_send(cx)?;
            let before = buf.filled().len();
            match Pin::new(&mut held.socket).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() == before && buf.remaining() > 0 => {
                    held.left.store(true, Ordering::Relaxed);
                    Poll::Ready(Ok(()))
                }
                Poll::Pending => held.head.poll_too_late(cx).map(|()| Err(io::Error::from(io::ErrorKind::TimedOut))),
                read => {
                    held.head.grew();
                    read
                }
            }
        })
    }
}

impl AsyncWrite for PromptStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|held| {
            let went = held.poll_write(cx, buf);
            held.noting(went)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|held| {
            let mut went = match held.backlog.poll_drain(&mut held.socket, cx) {
                Poll::Ready(Ok(())) => Pin::new(&mut held.socket).poll_flush(cx),
                stuck => stuck,
            };
            if went.is_pending() && held.backlog.runs_ahead() {
                held.unsent = true;
                held.backlog.owes_flush = true;
                return Poll::Ready(Ok(()));
            }
            if held.backlog.leads() {
                // The framework waits for ever for the end of a response that it has written whole.
                went = held.backlog.poll_in_time(went, cx);
            }
            ready!(held.noting(went))?;
            held.unsent = false;
            held.backlog.owes_flush = false;
            Poll::Ready(Ok(()))
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|held| {
            let Held { backlog, socket, .. } = held;
            ready!(backlog.poll_end(socket, cx));
            Pin::new(&mut held.socket).poll_shutdown(cx)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|held| {
            let went = match bufs.first() {
                // What follows the head is written next.
                Some(head) if held.date.is_some() => held.poll_write(cx, head),
                _ => held.poll_write_vectored(cx, bufs),
            };
            held.noting(went)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.with(|held| held.socket.is_write_vectored())
    }
}

#[async_trait]
impl Shutdown for PromptStream {
    async fn shutdown(&mut self) {
        let _ = poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await;
    }
}

impl UniqueID for PromptStream {
    fn id(&self) -> UniqueIDType {
        self.with(|held| held.socket.stream().id())
    }
}

impl Ssl for PromptStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.with(|held| held.socket.stream().get_ssl_digest())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.with(|held| held.socket.stream().selected_alpn_proto())
    }
}

#[async_trait]
impl Peek for PromptStream {}

impl GetTimingDigest for PromptStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.with(|held| held.socket.stream().get_timing_digest())
    }
}

impl GetProxyDigest for PromptStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.with(|held| held.socket.stream().get_proxy_digest())
    }
}

impl GetSocketDigest for PromptStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.with(|held| held.socket.stream().get_socket_digest())
    }
}
