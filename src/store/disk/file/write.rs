//! Writing entry files: all under `tmp/` until they are renamed into their place, so that a crash leaves only orphans.
//!
//! Nothing is synced to the disk: what a power loss tears, the checksums find.

use super::super::format::sums::PieceSums;
use super::super::format::{Damage, FileId, MAX_HEAD, PIECE, PREFIX_LEN, Prefix};
use super::read::{EntryFile, How, MOST_AT_ONCE, ReadNow, Stop, read_up_to};
use super::{Dir, ReadFailure, RelPath, Usage, failure};
use bytes::Bytes;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Between a head and a body that begins at a page.
static ZEROS: [u8; 4096] = [0; 4096];

/// Writes an entry under `tmp/`, in one call unless the disk takes less.
///
/// # Errors
/// Those of the operating system, with the path; [`io::ErrorKind::InvalidInput`] for a head that is too large.
pub fn write_entry(dir: &Dir, id: FileId, head: &[u8], body: &Bytes) -> io::Result<Written> {
    let temp = Temp::create(dir, head)?;
    let (prefix, table) = if body.len() as u64 <= PIECE {
        (Prefix::compact(id, head, body), Vec::new())
    } else {
        let mut sums = PieceSums::default();
        sums.feed(body);
        let (table, sum) = sums.finish();
        (Prefix::streaming(id, head).with_body(body.len() as u64, &table, sum), table)
    };
    let gap = (prefix.body_at as usize).saturating_sub(PREFIX_LEN + head.len());
    let gap = ZEROS.get(..gap).unwrap_or_default();
    temp.write([&prefix.encode(), head, gap, body, &table].map(IoSlice::new).as_mut_slice(), 0)?;
    temp.seal(prefix, table)
}

/// A file that is complete, but not in its place yet. Dropped uncommitted, it is removed; who reads it can read on.
#[derive(Debug)]
pub struct Written {
    temp: Temp,
    file: Arc<EntryFile>,
    usage: Usage,
}

impl Written {
    /// For reads, before and after it is in its place.
    pub fn file(&self) -> &Arc<EntryFile> {
        &self.file
    }

    /// What the file takes.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Puts it in its place, instead of what was there.
    ///
    /// # Errors
    /// Those of the operating system, with the path.
    pub fn commit(mut self) -> io::Result<Arc<EntryFile>> {
        let Temp { dir, name, .. } = &self.temp;
        let place = RelPath::of(self.file.id());
        let rename = || rustix::fs::renameat(dir, name.as_c_str(), dir, place.as_c_str());
        let renamed = match rename() {
            // The first file of its directory; or somebody cleaned up, and then it fails again.
            Err(Errno::NOENT) => {
                dir.make_parent(&place)?;
                rename()
            }
            other => other,
        };
        renamed.map_err(|error| failure(place.within(dir), "rename to", error))?;
        self.temp.committed = true;
        Ok(self.file.clone())
    }
}

/// An entry whose body comes piece by piece. Dropped unfinished, its file is removed.
///
/// Because nobody knows yet how long the body is, it begins at a page, which a short one does not need: what is all there
/// takes less room by [`write_entry`].
#[derive(Debug)]
pub struct StreamWriter {
    temp: Temp,
    prefix: Prefix,
    head: Box<[u8]>,
    sums: PieceSums,
    reader: Arc<StreamReader>,
}

impl StreamWriter {
    /// Creates the file. Until the end, nothing in it says that it is an entry.
    ///
    /// # Errors
    /// Those of the operating system, with the path; [`io::ErrorKind::InvalidInput`] for a head that is too large.
    pub fn begin(dir: &Dir, id: FileId, head: &[u8]) -> io::Result<Self> {
        let temp = Temp::create(dir, head)?;
        let prefix = Prefix::streaming(id, head);
        let reader = StreamReader {
            dir: dir.clone(),
            name: temp.name,
            fd: temp.fd.clone(),
            body_at: prefix.body_at,
            written: AtomicU64::new(0),
        };
        let (head, reader) = (head.into(), Arc::new(reader));
        Ok(StreamWriter { temp, prefix, head, sums: PieceSums::default(), reader })
    }

    /// Writes the next bytes of the body. After an error none of them count, and the same ones may be tried again.
    ///
    /// # Errors
    /// Those of the operating system, with the path.
    pub fn append(&mut self, bytes: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let written = self.written();
        self.temp.write(&mut slices, self.prefix.body_at + written)?;
        bytes.iter().for_each(|bytes| self.sums.feed(bytes));
        let more: u64 = bytes.iter().map(|bytes| bytes.len() as u64).sum();
        self.reader.written.store(written + more, Ordering::Release);
        Ok(())
    }

    /// Bytes of the body that can be read.
    pub fn written(&self) -> u64 {
        self.reader.written()
    }

    /// For those who follow.
    pub fn reader(&self) -> Arc<StreamReader> {
        self.reader.clone()
    }

    /// Writes what makes it an entry: the sums, and then head and prefix.
    ///
    /// # Errors
    /// Those of the operating system, with the path.
    pub fn finish(self) -> io::Result<Written> {
        let StreamWriter { temp, prefix, head, sums, reader } = self;
        let body_len = reader.written();
        let (table, sum) = sums.finish();
        let prefix = prefix.with_body(body_len, &table, sum);
        temp.write(&mut [IoSlice::new(&table)], prefix.sums_at)?;
        temp.write(&mut [IoSlice::new(&prefix.encode()), IoSlice::new(&head)], 0)?;
        temp.seal(prefix, table)
    }
}

/// Reads the body of a file that is still being written. What it reads was in memory a moment ago and is not checked.
#[derive(Debug)]
pub struct StreamReader {
    dir: Dir,
    name: RelPath,
    fd: Arc<OwnedFd>,
    body_at: u64,
    written: AtomicU64,
}

impl StreamReader {
    /// Bytes of the body that can be read.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Bytes from `offset` on that were written already: at most so many, and at most [`MOST_AT_ONCE`].
    ///
    /// # Errors
    /// Those of the operating system, with the path.
    pub fn read_at(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        self.read(offset, length, How::Blocking).map_err(|stop| match stop.into_failure() {
            ReadFailure::Io(error) => error,
            ReadFailure::Damaged(damage) => {
                failure(self.name.within(&self.dir), "read", io::Error::new(io::ErrorKind::UnexpectedEof, damage))
            }
        })
    }

    /// The same, if they need not be waited for.
    pub fn read_now(&self, offset: u64, length: u64) -> ReadNow {
        match self.read(offset, length, How::Now(self.dir.support())) {
            Ok(bytes) => ReadNow::Bytes(bytes),
            Err(Stop::WouldBlock) => ReadNow::WouldBlock,
            Err(Stop::Failed(failure)) => ReadNow::Failed(failure),
        }
    }

    fn read(&self, offset: u64, length: u64, how: How<'_>) -> Result<Bytes, Stop> {
        let there = self.written().saturating_sub(offset).min(length).min(MOST_AT_ONCE);
        if there == 0 {
            return Ok(Bytes::new());
        }
        let wanted = usize::try_from(there).unwrap_or(usize::MAX);
        let bytes = read_up_to(&self.fd, self.body_at + offset, wanted, how)
            .map_err(|stop| stop.named(|| self.name.within(&self.dir)))?;
        match (bytes.len(), how) {
            (0, How::Now(_)) => Err(Stop::WouldBlock),
            (read, How::Blocking) if read < wanted => Err(Damage::Truncated.into()),
            _ => Ok(bytes.into()),
        }
    }
}

/// A file under `tmp/`, removed unless it is committed.
#[derive(Debug)]
struct Temp {
    dir: Dir,
    name: RelPath,
    fd: Arc<OwnedFd>,
    committed: bool,
}

impl Temp {
    fn create(dir: &Dir, head: &[u8]) -> io::Result<Self> {
        check_head(head)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut made_parent = false;
        loop {
            let name = dir.next_temp();
            match rustix::fs::openat(dir, name.as_c_str(), flags, mode) {
                Ok(fd) => return Ok(Temp { dir: dir.clone(), name, fd: Arc::new(fd), committed: false }),
                // An orphan has it.
                Err(Errno::EXIST | Errno::INTR) => {}
                Err(Errno::NOENT) if !made_parent => {
                    dir.make_parent(&name)?;
                    made_parent = true;
                }
                Err(error) => return Err(failure(name.within(dir), "create", error)),
            }
        }
    }

    fn write(&self, slices: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        write_all(&self.fd, slices, at).map_err(|error| failure(self.name.within(&self.dir), "write", error))
    }

    fn seal(self, prefix: Prefix, table: Vec<u8>) -> io::Result<Written> {
        let usage = Usage::of(&self.fd).map_err(|error| failure(self.name.within(&self.dir), "examine", error))?;
        let file = EntryFile { dir: self.dir.clone(), fd: self.fd.clone(), prefix, table: table.into() };
        Ok(Written { temp: self, file: Arc::new(file), usage })
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is swept with the orphans.
            let _ = rustix::fs::unlinkat(&self.dir, self.name.as_c_str(), AtFlags::empty());
        }
    }
}

/// Refuses a head that no reader would believe.
pub(super) fn check_head(head: &[u8]) -> io::Result<()> {
    if head.len() <= MAX_HEAD as usize {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a head of {} bytes, more than {MAX_HEAD}", head.len())))
}

/// Writes everything, in one call unless the disk takes less.
pub(super) fn write_all(fd: impl AsFd, mut slices: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::pwritev(&fd, slices, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
