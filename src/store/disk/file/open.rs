//! Opening an entry file: one system call to open it, and one to read all of a small one.

use super::super::format::sums::sum_of;
use super::super::format::{Damage, FileId, PIECE, PREFIX_LEN, Prefix, Region};
use super::read::{EntryFile, How, Stop, is_unsupported, read_up_to};
use super::{Dir, ReadFailure, RelPath, Usage, failure};
use crate::store::encoding::{DecodedHead, decode_head};
use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes that are read first of a file of unknown length: most files with their body.
const FIRST: usize = 16 * 1024;

/// Bytes that are read first of a file that is known to be large: most heads.
const FIRST_OF_LARGE: usize = 4096;

/// Most bytes of a file that are read at once: a body of one piece and its head.
const MOST_OF_SMALL: u64 = PIECE + FIRST as u64;

/// Most bytes that are read without waiting, besides the body: a table for 8 GiB of body. More of it is rarely there.
const MOST_NOW: u64 = 1024 * 1024;

/// What opening a file brought.
#[derive(Debug)]
pub struct OpenedFile {
    /// For reads from now on.
    pub file: Arc<EntryFile>,
    /// What it says, and whose it is: the caller compares the key, because two keys may have one id.
    pub head: DecodedHead,
    /// The body if it is at most one piece: it was read to be checked, and the first hit may send it.
    pub body: Option<Bytes>,
}

/// Why a file was not opened without waiting.
#[derive(Debug)]
pub enum NotNow {
    /// The disk would have to be waited for, or nobody can tell.
    WouldBlock,
    /// There is nothing to wait for.
    Failed(ReadFailure),
}

/// Opens the file of an entry if nothing needs to be waited for. `None`: there is none. `hint` is the length of the file,
/// if somebody knows.
///
/// # Errors
/// [`NotNow`].
pub fn open_now(dir: &Dir, id: FileId, hint: Option<u64>) -> Result<Option<OpenedFile>, NotNow> {
    let fd = match open_cached(dir, id) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::AGAIN) => return Err(NotNow::WouldBlock),
        Err(error) => return Err(NotNow::Failed(failure(dir.path_of(id), "open", error).into())),
    };
    match read_opened(dir, id, fd, hint, How::Now(dir.support())) {
        Ok(opened) => Ok(Some(opened)),
        Err(Stop::WouldBlock) => Err(NotNow::WouldBlock),
        Err(Stop::Failed(failure)) => Err(NotNow::Failed(failure)),
    }
}

/// The same, and waits.
///
/// # Errors
/// [`ReadFailure`].
pub fn open_blocking(dir: &Dir, id: FileId, hint: Option<u64>) -> Result<Option<OpenedFile>, ReadFailure> {
    let name = RelPath::of(id);
    let fd = match rustix::fs::openat(dir, name.as_c_str(), flags(), Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failure(name.within(dir), "open", error).into()),
    };
    read_opened(dir, id, fd, hint, How::Blocking).map(Some).map_err(Stop::into_failure)
}

/// Whoever put a pipe into the directory must not make a thread wait for its other end.
fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK
}

fn open_cached(dir: &Dir, id: FileId) -> Result<OwnedFd, Errno> {
    let unsupported = &dir.support().no_open;
    // What cannot be read without waiting need not be opened.
    if unsupported.load(Ordering::Relaxed) || dir.support().no_read.load(Ordering::Relaxed) {
        return Err(Errno::AGAIN);
    }
    let name = RelPath::of(id);
    loop {
        match rustix::fs::openat2(dir, name.as_c_str(), flags(), Mode::empty(), ResolveFlags::CACHED) {
            Err(Errno::INTR) => {}
            Err(error) if is_unsupported(error) => {
                unsupported.store(true, Ordering::Relaxed);
                return Err(Errno::AGAIN);
            }
            other => return other,
        }
    }
}

fn read_opened(dir: &Dir, id: FileId, fd: OwnedFd, hint: Option<u64>, how: How<'_>) -> Result<OpenedFile, Stop> {
    let read = || Contents::read(&fd, id, hint, how);
    let contents = match read() {
        // A head that is renewed just now: once more, and it is there.
        Err(Stop::Failed(ReadFailure::Damaged(Damage::Checksum(Region::Prefix | Region::Head)))) => read(),
        other => other,
    };
    let Contents { prefix, head, table, body } = contents.map_err(|stop| stop.named(|| dir.path_of(id)))?;
    let file = EntryFile { dir: dir.clone(), fd: Arc::new(fd), prefix, table };
    Ok(OpenedFile { file: Arc::new(file), head, body })
}

/// What is read when a file is opened, all of it checked.
struct Contents {
    prefix: Prefix,
    head: DecodedHead,
    table: Bytes,
    body: Option<Bytes>,
}

impl Contents {
    fn read(fd: &OwnedFd, id: FileId, hint: Option<u64>, how: How<'_>) -> Result<Self, Stop> {
        let wanted = first_length(hint);
        let start = Bytes::from(read_up_to(fd, 0, wanted, how)?);
        let prefix = match (Prefix::parse(&start), how) {
            (Err(Damage::Truncated), How::Now(_)) => return Err(Stop::WouldBlock),
            (prefix, _) => prefix?,
        };
        if prefix.id != id.0 {
            return Err(Damage::Key(prefix.id).into());
        }
        // What was read is in the file; for more, its length has to be known before it is believed.
        if prefix.end() > start.len() as u64 && Usage::of(fd)?.length < prefix.end() {
            return Err(Damage::Truncated.into());
        }
        let regions = Regions { fd, start, how };
        let head = regions.get(prefix.head_at, prefix.head_len.into())?;
        if sum_of(&head) != prefix.head_sum {
            return Err(Damage::Checksum(Region::Head).into());
        }
        let head = decode_head(&head).map_err(Damage::from)?;
        head.check_body(prefix.body_len).map_err(Damage::from)?;
        if prefix.body_len > PIECE {
            let table = regions.get(prefix.sums_at, prefix.sums_len())?;
            if sum_of(&table) != prefix.sums_sum {
                return Err(Damage::Checksum(Region::Sums).into());
            }
            // A copy where it is cut from more: it stays for long, and the rest need not.
            let table = if table.len() < regions.start.len() { Bytes::copy_from_slice(&table) } else { table };
            return Ok(Contents { prefix, head, table, body: None });
        }
        let body = regions.get(prefix.body_at, prefix.body_len)?;
        if sum_of(&body) != prefix.sums_sum {
            return Err(Damage::Checksum(Region::Piece(0)).into());
        }
        Ok(Contents { prefix, head, table: Bytes::new(), body: Some(body) })
    }
}

fn first_length(hint: Option<u64>) -> usize {
    let Some(hint) = hint else { return FIRST };
    if hint > MOST_OF_SMALL { FIRST_OF_LARGE } else { usize::try_from(hint).map_or(FIRST, |hint| hint.max(PREFIX_LEN)) }
}

/// A file of which the start was read.
struct Regions<'a> {
    fd: &'a OwnedFd,
    start: Bytes,
    how: How<'a>,
}

impl Regions<'_> {
    /// All bytes of a region, from the start if they are there.
    fn get(&self, at: u64, length: u64) -> Result<Bytes, Stop> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let first = usize::try_from(at).unwrap_or(usize::MAX);
        let length = usize::try_from(length).map_err(|_| Errno::NOMEM)?;
        if let Some(end) = first.checked_add(length).filter(|end| *end <= self.start.len()) {
            return Ok(self.start.slice(first..end));
        }
        let now = matches!(self.how, How::Now(_));
        if now && length as u64 > MOST_NOW {
            return Err(Stop::WouldBlock);
        }
        let bytes = read_up_to(self.fd, at, length, self.how)?;
        match bytes.len() == length {
            true => Ok(bytes.into()),
            false if now => Err(Stop::WouldBlock),
            false => Err(Damage::Truncated.into()),
        }
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
