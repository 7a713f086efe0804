//! A new head for an old body, after the origin confirmed it.

use super::super::format::{PREFIX_LEN, Prefix};
use super::read::{EntryFile, How, Stop, read_up_to};
use super::write::{check_head, write_all, write_entry};
use super::{ReadFailure, RelPath, Usage, failure};
use bytes::{Bytes, BytesMut};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Bodies up to this are written again with their head, which keeps their file compact and costs no more than a read.
pub const REWRITTEN: u64 = super::read::MOST_AT_ONCE;

/// A file with a new head.
#[derive(Debug)]
pub struct Renewed {
    /// For reads from now on. The old one still reads the same body.
    pub file: Arc<EntryFile>,
    /// What the file takes now.
    pub usage: Usage,
}

/// Gives the file a new head. `None`: it is not in its place any more, and what is there instead, if anything, was left alone.
///
/// A large body is not moved: the head goes to where no valid one is, and then the prefix is changed by one write. A crash
/// leaves the old head or the new one.
///
/// # Errors
/// [`ReadFailure`] if the old file cannot be read, or the new one not be written.
pub fn renew_head(file: &EntryFile, head: &[u8]) -> Result<Option<Renewed>, ReadFailure> {
    check_head(head)?;
    if file.body_len() <= REWRITTEN { rewrite(file, head) } else { renew_in_place(file, head) }
}

fn rewrite(file: &EntryFile, head: &[u8]) -> Result<Option<Renewed>, ReadFailure> {
    let body = whole_body(file)?;
    let written = write_entry(&file.dir, file.id(), head, &body)?;
    let name = RelPath::of(file.id());
    let _alone = file.dir.0.renewing.lock();
    match rustix::fs::statat(&file.dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) if is_same(&there, &stat(file, &file.fd)?) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(examining(file, error).into()),
    }
    let usage = written.usage();
    Ok(Some(Renewed { file: written.commit()?, usage }))
}

/// All of a body, checked, in one read unless something is wrong.
fn whole_body(file: &EntryFile) -> Result<Bytes, ReadFailure> {
    let first = file.read_blocking(0, u64::MAX)?;
    if first.len() as u64 == file.body_len() {
        return Ok(first);
    }
    let mut body = BytesMut::from(first);
    while (body.len() as u64) < file.body_len() {
        body.extend_from_slice(&file.read_blocking(body.len() as u64, u64::MAX)?);
    }
    Ok(body.freeze())
}

fn renew_in_place(file: &EntryFile, head: &[u8]) -> Result<Option<Renewed>, ReadFailure> {
    let _alone = file.dir.0.renewing.lock();
    let Some(fd) = open_to_write(file)? else { return Ok(None) };
    let naming = |stop: Stop| stop.named(|| file.dir.path_of(file.id())).into_failure();
    // Another handle may have renewed it since this one was opened.
    let start = read_up_to(&fd, 0, PREFIX_LEN, How::Blocking).map_err(naming)?;
    let prefix = Prefix::parse(&start)?.renewed(head);
    let writing = |error: io::Error| failure(file.dir.path_of(file.id()), "write", error);
    write_slot(&fd, &prefix, head).map_err(writing)?;
    write_all(&fd, &mut [IoSlice::new(&prefix.encode())], 0).map_err(writing)?;
    let usage = Usage::from(&stat(file, &fd)?);
    Ok(Some(Renewed { file: Arc::new(EntryFile { prefix, ..file.clone() }), usage }))
}

/// The first of the two writes: as long as the prefix does not name it, the head is nothing.
pub(super) fn write_slot(fd: &OwnedFd, prefix: &Prefix, head: &[u8]) -> io::Result<()> {
    write_all(fd, &mut [IoSlice::new(head)], prefix.head_at)
}

/// The file again, if it is still the one in its place.
fn open_to_write(file: &EntryFile) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let name = RelPath::of(file.id());
    match rustix::fs::openat(&file.dir, name.as_c_str(), flags, Mode::empty()) {
        Ok(fd) => Ok(if is_same(&stat(file, &fd)?, &stat(file, &file.fd)?) { Some(fd) } else { None }),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(failure(name.within(&file.dir), "open", error)),
    }
}

fn stat(file: &EntryFile, fd: &OwnedFd) -> io::Result<Stat> {
    rustix::fs::fstat(fd).map_err(|error| examining(file, error))
}

fn examining(file: &EntryFile, error: Errno) -> io::Error {
    failure(file.dir.path_of(file.id()), "examine", error)
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

#[cfg(test)]
#[path = "renew_tests.rs"]
mod tests;
