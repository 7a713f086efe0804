//! Parts of responses in files: put together behind, piece by piece, from memory and from other files.

use super::DiskTier;
use super::body::FileBody;
use super::file::ReadFailure;
use super::file::write::{StreamWriter, Written, write_entry};
use super::format::{FileId, PIECE};
use super::index::Cause;
use super::volume::{Ticket, Volume};
use super::write::{Room, SPARE, size_on_disk};
use crate::store::entry::{Body, Entry, EntryId};
use crate::store::partial::{Parts, Source};
use crate::store::tier::WriteResult;
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// A large part whose file is written, and not in its place yet. Dropped, the file goes; who reads it can read on.
#[derive(Debug)]
pub struct WrittenPart {
    pub(super) written: Written,
    pub(super) body: Arc<FileBody>,
    pub(super) room: Vec<Room>,
}

impl WrittenPart {
    /// Its bytes.
    pub fn body(&self) -> &Arc<FileBody> {
        &self.body
    }

    /// Whether this is what a body consists of, with nothing missing or added.
    pub fn is_all_of(&self, body: &Body) -> bool {
        match body {
            Body::Whole(_) => false,
            Body::Parts(parts) => parts.only_file().is_some_and(|file| Arc::ptr_eq(file, &self.body)),
            Body::File(file) => Arc::ptr_eq(file, &self.body),
        }
    }
}

impl DiskTier {
    /// Puts a file that is written in its place, behind. Until then it is read where it is.
    pub fn put_written(
        &'static self,
        id: &EntryId,
        entry: Arc<Entry>,
        part: WrittenPart,
        is_wanted: impl FnOnce() -> bool,
    ) {
        let file = FileId::of(id);
        let volume = part.body.volume().clone();
        if volume.is_closed() {
            self.written.wrote(WriteResult::Dropped, None);
            return self.remove(id);
        }
        let ticket = volume.change(file, Some(entry.clone()));
        if !is_wanted() {
            return self.remove_file(&volume, file);
        }
        // Nobody waits for it.
        drop(self.lanes.write(move || {
            let began = Instant::now();
            let WrittenPart { written, room, .. } = part;
            let result = self.commit(&volume, file, ticket, written, Some(entry));
            drop(room);
            self.has_written(&volume, file, ticket, result, began);
        }));
    }

    /// Writes parts to a file of their own, or the whole if that is what they are.
    pub(super) fn write_parts(
        &'static self,
        volume: &Arc<Volume>,
        file: FileId,
        ticket: Ticket,
        head: &[u8],
        parts: &Parts,
    ) -> io::Result<WriteResult> {
        let Some(room) = self.make_room(volume, size_on_disk(head, parts.held()))? else {
            return Ok(WriteResult::Dropped);
        };
        let is_wanted = || !volume.is_closed() && volume.is_latest(file, ticket);
        let write = || copy_parts(volume, file, head, parts, is_wanted);
        let written = match write() {
            Err(ReadFailure::Io(e)) if self.is_full(&e) => {
                self.free(volume, room.0.saturating_mul(2) + SPARE, 1, Cause::Space);
                write()
            }
            other => other,
        };
        match written {
            Ok(Some(written)) => self.commit(volume, file, ticket, written, None),
            Ok(None) => Ok(WriteResult::Outdated),
            Err(ReadFailure::Io(e)) => Err(e),
            Err(ReadFailure::Damaged(damage)) => {
                // What is damaged is never served, nor what it was to be a part of.
                self.metrics.error(damage.as_str()).inc();
                Ok(WriteResult::Dropped)
            }
        }
    }
}

/// Copies what is stored in one place or another into a new file, little at a time. `None`: it is not wanted any more.
fn copy_parts(
    volume: &Volume,
    file: FileId,
    head: &[u8],
    parts: &Parts,
    is_wanted: impl Fn() -> bool,
) -> Result<Option<Written>, ReadFailure> {
    if parts.held() <= PIECE {
        let mut all = BytesMut::new();
        let copied = for_each_step(parts, is_wanted, |bytes| {
            all.extend_from_slice(&bytes);
            Ok(())
        })?;
        return Ok(if copied { Some(write_entry(&volume.dir, file, head, &all.freeze())?) } else { None });
    }
    let mut stream = StreamWriter::begin(&volume.dir, file, head)?;
    let copied = for_each_step(parts, is_wanted, |bytes| Ok(stream.append(&[bytes])?))?;
    Ok(if copied { Some(stream.finish()?) } else { None })
}

/// Goes through the bytes of all parts, those of files checked and a few pieces at once.
fn for_each_step(
    parts: &Parts,
    is_wanted: impl Fn() -> bool,
    mut step: impl FnMut(Bytes) -> Result<(), ReadFailure>,
) -> Result<bool, ReadFailure> {
    for source in parts.sources() {
        match source {
            Source::Memory(bytes) => step(bytes.clone())?,
            Source::File { file, at, length } => {
                let end = at.saturating_add(*length);
                let mut at = *at;
                while at < end {
                    if !is_wanted() {
                        return Ok(false);
                    }
                    let bytes = file.file().read_blocking(at, end)?;
                    if bytes.is_empty() {
                        return Err(super::format::Damage::Truncated.into());
                    }
                    at += bytes.len() as u64;
                    step(bytes)?;
                }
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
