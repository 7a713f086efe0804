//! What is on its way out to a client, before the system has it.
//!
//! The framework hands over a head, and then a body. What is small is held here until something follows that is worth a
//! system call, and goes with it in one: a head leaves together with the beginning of its body.
//!
//! A piece of a body that was just read from a file, and checked, is sent by the system from its own copy of that file
//! (`sendfile`), where the connection is one of plain TCP: nothing is copied from here to there. The bytes that were checked
//! stay at hand, and are written as all others are where that does not work, or where the client has to be waited for.

use crate::store::disk::file::piece::FilePiece;
use futures::FutureExt as _;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use pingora::protocols::l4::stream::Stream as TcpOrUnix;
use pingora::protocols::{Stream, UniqueID};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg};
use smallvec::SmallVec;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::coop::poll_proceed;

/// Most bytes that are held: what fits into a packet of most networks, as the framework holds.
const HELD: usize = 1460;

/// A connection, and what is held in front of it.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    held: Vec<u8>,
    /// The stream may hold something as well.
    below: bool,
    /// What may be written next, and where it is in a file.
    piece: Option<FilePiece>,
    direct: Direct,
}

/// The connection's descriptor, which the framework keeps to itself.
#[derive(Debug)]
enum Direct {
    Unasked,
    Given(OwnedFd),
    /// It is not plain TCP, or the system does not send files to it.
    Denied,
}

impl Socket {
    /// Holds nothing yet.
    pub fn new(stream: Stream) -> Self {
        let direct = if plain(&stream).is_some() { Direct::Unasked } else { Direct::Denied };
        Socket { stream, held: Vec::new(), below: false, piece: None, direct }
    }

    /// The connection.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether it is of use to offer a piece that is in a file.
    pub fn sends_files(&self) -> bool {
        !matches!(self.direct, Direct::Denied)
    }

    /// What may be written next.
    pub fn offer(&mut self, piece: FilePiece) {
        self.piece = Some(piece);
    }

    /// A response has ended: what was offered of its body is let go.
    pub fn end_body(&mut self) {
        self.piece = None;
    }

    /// Sends bytes from the file that they are in. `None`: they have to be written.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if !self.piece.as_ref()?.has(bytes) {
            return None;
        }
        if self.below {
            match self.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                stuck => return Some(stuck.map_ok(|()| 0)),
            }
        }
        // A client that takes everything at once must not keep the thread from others.
        let Poll::Ready(proceeds) = poll_proceed(cx) else { return Some(Poll::Pending) };
        proceeds.made_progress();
        match self.send_file(bytes) {
            Ok(sent) => Some(Poll::Ready(Ok(sent))),
            // The client has to be waited for, which a write sees to.
            Err(Errno::AGAIN) => None,
            // Whatever it is, a write works, or says what is wrong.
            Err(_) => {
                self.piece = None;
                self.direct = Direct::Denied;
                None
            }
        }
    }

    /// What is held, and then as much of the bytes as the connection takes, which is at least one.
    fn send_file(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        if matches!(self.direct, Direct::Unasked) {
            self.direct = plain(&self.stream).and_then(second).map_or(Direct::Denied, Direct::Given);
        }
        let (Direct::Given(direct), Some(piece)) = (&self.direct, &self.piece) else { return Err(Errno::NOTSUP) };
        while !self.held.is_empty() {
            // It waits for what follows, which the next call sends.
            match rustix::net::send(direct, &self.held, SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.held.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            match piece.send_to(direct, bytes) {
                // The file has become shorter.
                Ok(0) => return Err(Errno::IO),
                Err(Errno::INTR) => {}
                sent => return sent,
            }
        }
    }

    fn poll_write_through(&mut self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let held = self.held.len();
            if held == 0 {
                return match bytes {
                    [bytes] => Pin::new(&mut self.stream).poll_write(cx, bytes),
                    bytes => Pin::new(&mut self.stream).poll_write_vectored(cx, bytes),
                };
            }
            let together: SmallVec<[IoSlice<'_>; 4]> =
                std::iter::once(IoSlice::new(&self.held)).chain(bytes.iter().copied()).collect();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &together))?;
            drop(together);
            match written {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written if written <= held => drop(self.held.drain(..written)),
                written => {
                    self.held.clear();
                    return Poll::Ready(Ok(written - held));
                }
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            self.below = true;
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(self.held.drain(..written)),
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.below = false;
        Poll::Ready(Ok(()))
    }
}

/// The stream, if what is written to it goes out as it is.
fn plain(stream: &Stream) -> Option<&TcpOrUnix> {
    (**stream).as_any().downcast_ref()
}

/// A second descriptor of a connection. The framework tells but the number of its own, and what takes numbers is not safe;
/// but a number can be sent as what it stands for, and that belongs to who receives it.
fn second(connection: &TcpOrUnix) -> Option<OwnedFd> {
    let (to, from) = UnixStream::pair().ok()?;
    let message = [IoSlice::new(b"x")];
    let rights = [ControlMessage::ScmRights(&[connection.id()])];
    sendmsg::<UnixAddr>(to.as_raw_fd(), &message, &rights, MsgFlags::empty(), None).ok()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(from.as_fd(), &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let second = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut given) => given.next(),
        _ => None,
    });
    // Numbers are given out from the lowest on. Once half of them are in use, the others are for clients.
    let (most, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    second.filter(|second| u64::try_from(second.as_raw_fd()).is_ok_and(|number| number < most / 2))
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Socket::poll_flush(&mut self, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Socket::poll_flush(&mut self, cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [bytes] = bytes
            && let Some(sent) = self.poll_send_file(cx, bytes)
        {
            return sent;
        }
        let length: usize = bytes.iter().map(|bytes| bytes.len()).sum();
        if self.held.len() + length > HELD {
            return self.poll_write_through(cx, bytes);
        }
        bytes.iter().for_each(|bytes| self.held.extend_from_slice(bytes));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // As the framework does with what it holds: what can be sent at once is.
        if !self.held.is_empty() {
            let _ = self.flush().now_or_never();
        }
    }
}
