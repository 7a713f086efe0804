//! Reading and writing one entry file. No index and no policy: those decide which file, and when.
//!
//! * [`open`]: a hit opens the file once and, if it is small, reads it once
//! * [`read`]: ranges of the body, each byte checked before it is handed out
//! * [`piece`]: what was read, sent by the system from its own copy
//! * [`write`]: a whole entry in one call, or a body as it comes, under `tmp/` until it is renamed into its place
//! * [`renew`]: a new head for an old body
//!
//! What ends in `_now` never waits for the disk and may be called on a worker thread; it says when it would have to wait.
//! Everything else belongs on a thread that may wait.

mod buffers;
pub mod open;
pub mod piece;
pub mod read;
pub mod renew;
pub mod write;

use super::format::{Damage, FileId};
use parking_lot::Mutex;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use thiserror::Error;

/// Only this program reads what may be someone's answer.
const DIR_MODE: Mode = Mode::RWXU;

/// The root of a cache, open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dir(Arc<Root>);

#[derive(Debug)]
struct Root {
    fd: OwnedFd,
    path: PathBuf,
    support: Support,
    next_temp: AtomicU64,
    /// Held while a head is renewed in place, which is rare and short: two at once would write to the same place.
    renewing: Mutex<()>,
}

/// What the kernel and the file system were found not to know; it is not tried again.
#[derive(Debug, Default)]
struct Support {
    no_open: AtomicBool,
    no_read: AtomicBool,
}

impl Dir {
    /// Opens the directory, which must exist.
    ///
    /// # Errors
    /// Those of the operating system, with the path.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(fd) => Ok(Dir(Arc::new(Root {
                fd,
                path,
                support: Support::default(),
                // Orphans of an earlier process have names as well.
                next_temp: AtomicU64::new(fastrand::u64(..)),
                renewing: Mutex::new(()),
            }))),
            Err(error) => Err(failure(path, "open", error)),
        }
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Where the file of an entry is, for messages.
    pub fn path_of(&self, id: FileId) -> PathBuf {
        RelPath::of(id).within(self)
    }

    /// Removes the file of an entry; says whether there was one. Who has it open can read on.
    ///
    /// # Errors
    /// Those of the operating system, with the path.
    pub fn remove(&self, id: FileId) -> io::Result<bool> {
        let name = RelPath::of(id);
        match rustix::fs::unlinkat(self, name.as_c_str(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(failure(name.within(self), "remove", error)),
        }
    }

    fn next_temp(&self) -> RelPath {
        RelPath::temp(self.0.next_temp.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes the directory that a path names first.
    fn make_parent(&self, path: &RelPath) -> io::Result<()> {
        let parent = path.parent();
        match rustix::fs::mkdirat(self, parent.as_c_str(), DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failure(parent.within(self), "create", error)),
        }
    }

    fn support(&self) -> &Support {
        &self.0.support
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

/// A path below the root of a cache, without a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelPath([u8; RelPath::LEN]);

impl RelPath {
    /// `ab/`, 32 digits, and the end that the system wants.
    const LEN: usize = 2 + 1 + 32 + 1;

    /// Where the file of an entry is.
    pub fn of(id: FileId) -> Self {
        RelPath::write(format_args!("{:02x}/{id}", id.0 >> 120))
    }

    fn temp(number: u64) -> Self {
        RelPath::write(format_args!("tmp/{number:016x}"))
    }

    fn parent(&self) -> Self {
        let length = self.0.iter().position(|byte| *byte == b'/').unwrap_or(0);
        let mut bytes = [0; RelPath::LEN];
        bytes.iter_mut().zip(&self.0).take(length).for_each(|(to, from)| *to = *from);
        RelPath(bytes)
    }

    fn write(text: std::fmt::Arguments<'_>) -> Self {
        let mut bytes = [0; RelPath::LEN];
        // All of them fit.
        let _ = bytes.as_mut_slice().write_fmt(text);
        RelPath(bytes)
    }

    /// As system calls take it.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }

    fn within(&self, dir: &Dir) -> PathBuf {
        dir.path().join(OsStr::from_bytes(self.as_c_str().to_bytes()))
    }
}

/// What the operating system said, and about which file. It keeps the kind of the error, and the error as its source.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failure(path: PathBuf, action: &'static str, error: impl Into<io::Error>) -> io::Error {
    let source = error.into();
    io::Error::new(source.kind(), FileError { action, path, source })
}

/// Why a file, or a part of it, was not read.
#[derive(Debug, Error)]
pub enum ReadFailure {
    /// It is not what was written; the file is of no use.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The operating system failed; the file may be good.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes from its beginning to its end.
    pub length: u64,
    /// Bytes on the disk, as `du` counts them. A file system that delays its choice says what it has reserved.
    pub allocated: u64,
}

impl Usage {
    fn of(fd: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::fstat(fd).map(|stat| Usage::from(&stat))
    }
}

impl From<&Stat> for Usage {
    fn from(stat: &Stat) -> Self {
        // Blocks are of 512 bytes here, whatever those of the file system are.
        let positive = |number: i64| u64::try_from(number).unwrap_or(0);
        Usage { length: positive(stat.st_size), allocated: positive(stat.st_blocks).saturating_mul(512) }
    }
}

#[cfg(test)]
mod testing;

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
