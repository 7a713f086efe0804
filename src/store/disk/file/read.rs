//! An open entry file, and ranges of its body.

use super::super::format::sums::{sum_in, sum_of};
use super::super::format::{Damage, FileId, PIECE, Prefix, Region};
use super::buffers::{Buffer, SHORTEST};
use super::{Dir, ReadFailure, Support, Usage, failure};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, ReadWriteFlags};
use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of the body that are read at once at most: enough to make the call cheap, little enough to be held for each
/// slow client.
pub const MOST_AT_ONCE: u64 = 4 * PIECE;

/// An open entry file. Its body does not change, even if its head is renewed or the file is removed.
#[derive(Debug, Clone)]
pub struct EntryFile {
    pub(super) dir: Dir,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) prefix: Prefix,
    /// The sums of the pieces; empty if there is only one.
    pub(super) table: Bytes,
}

/// What a read that does not wait brought.
#[derive(Debug)]
pub enum ReadNow {
    /// Bytes that were checked; none only if none were asked for.
    Bytes(Bytes),
    /// The disk would have to be waited for.
    WouldBlock,
    /// There is nothing to wait for.
    Failed(ReadFailure),
}

/// Where to read for a range, and what of it was asked for.
struct Window {
    first_piece: u64,
    at: u64,
    length: usize,
    from: usize,
    to: usize,
}

impl EntryFile {
    /// Whose file it is.
    pub fn id(&self) -> FileId {
        FileId(self.prefix.id)
    }

    /// What its first bytes said when it was opened.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> u64 {
        self.prefix.body_len
    }

    /// Bytes of memory that it takes besides itself.
    pub fn held(&self) -> usize {
        self.table.len()
    }

    /// What the file takes now. Does not wait on a local disk.
    ///
    /// # Errors
    /// Those of the operating system, with the path.
    pub fn usage(&self) -> io::Result<Usage> {
        Usage::of(&self.fd).map_err(|error| failure(self.dir.path_of(self.id()), "examine", error))
    }

    /// Bytes of the body from `start` on, none from `end` on, and at most [`MOST_AT_ONCE`], if they need not be waited for.
    pub fn read_now(&self, start: u64, end: u64) -> ReadNow {
        match self.read(start, end, How::Now(self.dir.support())) {
            Ok(bytes) => ReadNow::Bytes(bytes),
            Err(Stop::WouldBlock) => ReadNow::WouldBlock,
            Err(Stop::Failed(failure)) => ReadNow::Failed(failure),
        }
    }

    /// The same, and waits.
    ///
    /// # Errors
    /// [`ReadFailure`] if not even the piece with the byte at `start` is there and sound.
    pub fn read_blocking(&self, start: u64, end: u64) -> Result<Bytes, ReadFailure> {
        self.read(start, end, How::Blocking).map_err(Stop::into_failure)
    }

    /// Has the system send bytes of the body from its own copy of the file; says how many went. Nothing is checked.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn send(&self, to: impl AsFd, start: u64, length: usize) -> Result<usize, Errno> {
        rustix::fs::sendfile(to, &self.fd, Some(&mut self.prefix.body_at.saturating_add(start)), length)
    }

    fn read(&self, start: u64, end: u64, how: How<'_>) -> Result<Bytes, Stop> {
        let Some(window) = self.window(start, end) else { return Ok(Bytes::new()) };
        let bytes = match how {
            How::Now(support) if window.length >= SHORTEST => read_large(&self.fd, window.at, window.length, support),
            how => read_up_to(&self.fd, window.at, window.length, how).map(Bytes::from),
        };
        let bytes = bytes.map_err(|stop| self.named(stop))?;
        let sound = self.sound(&bytes, &window, how)?;
        Ok(bytes.slice(window.from..window.to.min(sound)))
    }

    /// Whole pieces: less of one cannot be checked.
    fn window(&self, start: u64, end: u64) -> Option<Window> {
        let end = end.min(self.prefix.body_len);
        if start >= end {
            return None;
        }
        let first_piece = start / PIECE;
        let first = first_piece * PIECE;
        let last = end.next_multiple_of(PIECE).min(first + MOST_AT_ONCE).min(self.prefix.body_len);
        // All of them are at most what is read at once.
        let small = |distance: u64| usize::try_from(distance).unwrap_or(0);
        Some(Window {
            first_piece,
            at: self.prefix.body_at + first,
            length: small(last - first),
            from: small(start - first),
            to: small(end.min(last) - first),
        })
    }

    /// How many bytes are as they were written: those of the whole pieces before the first one that is not.
    fn sound(&self, bytes: &[u8], window: &Window, how: How<'_>) -> Result<usize, Stop> {
        let mut sound = 0;
        let whole = if bytes.len() < window.length { bytes.len() - bytes.len() % PIECE as usize } else { bytes.len() };
        let pieces = bytes.get(..whole).unwrap_or_default().chunks(PIECE as usize);
        for (number, piece) in (window.first_piece..).zip(pieces) {
            let expected = if self.table.is_empty() { Some(self.prefix.sums_sum) } else { sum_in(&self.table, number) };
            if expected == Some(sum_of(piece)) {
                sound += piece.len();
            } else if sound == 0 {
                return Err(Damage::Checksum(Region::Piece(number)).into());
            } else {
                return Ok(sound);
            }
        }
        match (sound, how) {
            (0, How::Now(_)) => Err(Stop::WouldBlock),
            (0, How::Blocking) => Err(Damage::Truncated.into()),
            _ => Ok(sound),
        }
    }

    fn named(&self, stop: Stop) -> Stop {
        stop.named(|| self.dir.path_of(self.id()))
    }
}

/// Whether a read may wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum How<'a> {
    Now(&'a Support),
    Blocking,
}

/// Why a read ended without bytes.
#[derive(Debug)]
pub(super) enum Stop {
    WouldBlock,
    Failed(ReadFailure),
}

impl Stop {
    pub(super) fn into_failure(self) -> ReadFailure {
        match self {
            Stop::Failed(failure) => failure,
            // What waits says so only for files that are no files.
            Stop::WouldBlock => ReadFailure::Io(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// With the path of the file, if the operating system failed.
    pub(super) fn named(self, path: impl FnOnce() -> std::path::PathBuf) -> Self {
        match self {
            Stop::Failed(ReadFailure::Io(error)) => Stop::Failed(ReadFailure::Io(failure(path(), "read", error))),
            other => other,
        }
    }
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Stop::Failed(damage.into())
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Stop::Failed(ReadFailure::Io(error.into()))
    }
}

/// Whether an error says that a system call or its flag is unknown, or that a sandbox forbids it.
pub(super) fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::NOSYS | Errno::OPNOTSUPP | Errno::TOOBIG | Errno::INVAL | Errno::PERM)
}

/// Bytes from a place in a file, fewer where it ends. Without waiting, fewer may also mean that the rest would have to
/// be waited for.
pub(super) fn read_up_to(fd: impl AsFd, at: u64, length: usize, how: How<'_>) -> Result<Vec<u8>, Stop> {
    match how {
        How::Now(support) => read_cached(fd.as_fd(), at, length, support),
        How::Blocking => read_all(fd.as_fd(), at, length),
    }
}

fn read_cached(fd: impl AsFd, at: u64, length: usize, support: &Support) -> Result<Vec<u8>, Stop> {
    let mut bytes = vec![0; length];
    let read = read_cached_into(fd, at, &mut bytes, support)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn read_large(fd: impl AsFd, at: u64, length: usize, support: &Support) -> Result<Bytes, Stop> {
    let mut buffer = Buffer::take(length);
    let read = read_cached_into(fd, at, buffer.space(length), support)?;
    Ok(buffer.filled(read))
}

fn read_cached_into(fd: impl AsFd, at: u64, bytes: &mut [u8], support: &Support) -> Result<usize, Stop> {
    if support.no_read.load(Ordering::Relaxed) {
        return Err(Stop::WouldBlock);
    }
    loop {
        match rustix::io::preadv2(&fd, &mut [IoSliceMut::new(bytes)], at, ReadWriteFlags::NOWAIT) {
            Ok(read) => return Ok(read),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(Stop::WouldBlock),
            Err(error) if is_unsupported(error) => {
                support.no_read.store(true, Ordering::Relaxed);
                return Err(Stop::WouldBlock);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_all(fd: impl AsFd, at: u64, length: usize) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    // The length may come from the file: too much of it is an error, not the end.
    if bytes.try_reserve_exact(length).is_err() {
        return Err(Errno::NOMEM.into());
    }
    while bytes.len() < length {
        let next = at.saturating_add(bytes.len() as u64);
        match rustix::io::pread(&fd, spare_capacity(&mut bytes), next) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
