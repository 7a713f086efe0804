//! Entries to files, behind the requests that brought them.
//!
//! What is to be written is known to the [`Volume`] from the moment on when it is handed over, and answers lookups from memory
//! until it is in its file. How much may wait is bounded; what does not fit is let go, and what was there under its name
//! goes with it, since it is older.

use super::DiskTier;
use super::body::FileBody;
use super::file::ReadFailure;
use super::file::open::{OpenedFile, open_blocking};
use super::file::renew::{REWRITTEN, renew_head};
use super::file::write::{Written, write_entry};
use super::format::{FileId, PIECE, PREFIX_LEN};
use super::index::{Cause, FILE_CHARGE, Victim};
use super::volume::{Ticket, Volume};
use crate::config::WriteMode;
use crate::decide::Facts;
use crate::store::encoding::encode_head;
use crate::store::entry::{Body, Entry, EntryId};
use crate::store::partial::Parts;
use crate::store::tier::WriteResult;
use bytes::Bytes;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that may wait to be written. A disk that is slower than the origins for a moment loses nothing; one that is slower
/// for long must not take all memory.
const WAITING: u64 = 64 << 20;

/// How long whoever has forgotten something waits for the disk to have forgotten it.
const SETTLED: Duration = Duration::from_secs(1);

/// Bytes that a file takes are a multiple of this on nearly every file system.
const BLOCK: u64 = 4096;

/// Freed beyond what is needed when the file system is full, so that not each write finds it full again.
pub(super) const SPARE: u64 = 1 << 20;

impl DiskTier {
    /// The open directory, as long as anything may be changed there.
    pub(super) fn writable(&self) -> Option<Arc<Volume>> {
        self.volume.load_full().filter(|volume| !volume.is_closed())
    }

    /// Whether something can be written now.
    pub fn accepts_writes(&self) -> bool {
        self.writable().is_some() && !self.keeping.is_crowded() && !self.writes.is_open()
    }

    /// As [`DiskTier::accepts_writes`], and now and then although it does not, to see whether it would.
    pub(super) fn may_try(&self) -> bool {
        !self.keeping.is_crowded() && self.writes.allows(Instant::now())
    }

    /// Whether a body of that length is taken.
    pub fn takes(&self, bytes: u64) -> bool {
        bytes <= self.settings.load().max_object
    }

    /// Whether what memory keeps is written at once as well.
    pub fn writes_through(&self) -> bool {
        self.settings.load().write == WriteMode::Through
    }

    /// The memory tier served it so often before it let it go. Says whether it is stored here.
    pub fn note_hits_above(&self, id: &EntryId, hits: u64) -> bool {
        self.volume.load().as_ref().is_some_and(|volume| volume.note_hits_above(FileId::of(id), hits))
    }

    /// Keeps an entry, behind. `replaces` are the facts of the one that it replaces, if only the head is new.
    ///
    /// `is_wanted` is asked once it has its turn: whoever forgets it from then on has a later one.
    pub fn put(
        &'static self,
        id: EntryId,
        entry: Arc<Entry>,
        replaces: Option<Arc<Facts>>,
        is_wanted: impl FnOnce() -> bool,
    ) {
        let Some(volume) = self.writable() else {
            self.written.wrote(WriteResult::Dropped, None);
            return self.remove(&id);
        };
        let is_busy = volume.waiting() + entry.weight() as u64 > WAITING;
        if is_busy || !self.may_try() {
            self.written.wrote(WriteResult::Dropped, None);
            return self.remove(&id);
        }
        let file = FileId::of(&id);
        let ticket = volume.change(file, Some(entry.clone()));
        if !is_wanted() {
            return self.remove_file(&volume, file);
        }
        // Nobody waits for it.
        drop(self.lanes.write(move || self.write(&volume, id, ticket, &entry, replaces.as_deref())));
    }

    /// Forgets an entry: at once for every lookup, and soon for the disk.
    pub fn remove(&'static self, id: &EntryId) {
        let file = FileId::of(id);
        let volume = self.writable().or_else(|| {
            let mut missed = self.missed.lock();
            // It may have been opened just now, without this.
            let volume = self.writable();
            if volume.is_none() {
                missed.note(file);
            }
            volume
        });
        let Some(volume) = volume else { return };
        if volume.is_forgotten(file) {
            return;
        }
        self.remove_file(&volume, file);
    }

    /// Waits until the disk has forgotten what was forgotten before, but not for long.
    pub async fn settled(&'static self) {
        let Some(volume) = self.volume.load_full() else { return };
        if volume.is_idle() {
            return;
        }
        let _ = tokio::time::timeout(SETTLED, self.lanes.remove(|| ())).await;
    }

    pub(super) fn remove_file(&'static self, volume: &Arc<Volume>, file: FileId) {
        let ticket = volume.change(file, None);
        let volume = volume.clone();
        drop(self.lanes.remove(move || self.unlink(&volume, file, ticket)));
    }

    fn unlink(&self, volume: &Volume, file: FileId, ticket: Ticket) {
        let _alone = volume.alone(file);
        // If something newer is to be written, but is not yet, what is there goes all the same: whoever had it forgotten is
        // told that it is, and a crash must not bring it back.
        if !volume.is_pending(file) {
            return;
        }
        match volume.dir.remove(file) {
            Ok(_) => volume.changed(file, ticket, None, None),
            // It stays forgotten as long as the process lives; a restart would find it.
            Err(error) => {
                self.leftovers.lock().push((file, ticket));
                self.write_failed("a stored response could not be removed", &error);
            }
        }
    }

    /// Tries again to remove one of the files that could not be removed; the others follow if it can.
    pub(super) fn remove_leftover(&'static self, volume: &Arc<Volume>) {
        let Some((file, ticket)) = self.leftovers.lock().pop() else { return };
        let volume = volume.clone();
        let again = move || {
            let alone = volume.alone(file);
            if volume.is_latest(file, ticket) {
                if volume.dir.remove(file).is_err() {
                    // Which was counted and said when it happened first.
                    return self.leftovers.lock().push((file, ticket));
                }
                volume.changed(file, ticket, None, None);
            }
            drop(alone);
            self.remove_leftover(&volume);
        };
        drop(self.lanes.remove(again));
    }

    fn write(
        &'static self,
        volume: &Arc<Volume>,
        id: EntryId,
        ticket: Ticket,
        entry: &Entry,
        replaces: Option<&Facts>,
    ) {
        let file = FileId::of(&id);
        if volume.is_closed() || !volume.is_latest(file, ticket) {
            return self.written.wrote(WriteResult::Outdated, None);
        }
        let began = Instant::now();
        let spans = match &entry.body {
            Body::Parts(parts) => parts.spans(),
            Body::Whole(_) | Body::File(_) => None,
        };
        let head = encode_head(&entry.key, id.variant, &entry.head, &entry.facts, spans.as_ref());
        let written = match (&entry.body, replaces) {
            (Body::File(body), _) => self.renew(volume, file, ticket, entry, body, &head),
            (Body::Whole(bytes), Some(old)) if bytes.len() as u64 > REWRITTEN => {
                match self.same_in_file(volume, file, entry, old) {
                    Some(body) => self.renew(volume, file, ticket, entry, &body, &head),
                    None => self.write_whole(volume, file, ticket, &head, bytes),
                }
            }
            (Body::Whole(bytes), _) => self.write_whole(volume, file, ticket, &head, bytes),
            (Body::Parts(parts), replaces) => match parts.only_file().filter(|_| replaces.is_some()) {
                Some(body) => self.renew(volume, file, ticket, entry, body, &head),
                None => self.write_parts(volume, file, ticket, &head, parts),
            },
        };
        self.has_written(volume, file, ticket, written, began);
    }

    /// Accounts for what came of writing a file.
    pub(super) fn has_written(
        &self,
        volume: &Volume,
        file: FileId,
        ticket: Ticket,
        written: io::Result<WriteResult>,
        began: Instant,
    ) {
        let result = written.unwrap_or_else(|error| {
            self.write_failed("a response could not be stored", &error);
            WriteResult::Failed
        });
        self.written.wrote(result, Some(began.elapsed()));
        match result {
            WriteResult::Stored => self.can_write_again(),
            WriteResult::Outdated => {}
            // What is there is older than what should be there.
            WriteResult::Dropped | WriteResult::Failed => {
                let _alone = volume.alone(file);
                if volume.is_latest(file, ticket) {
                    match volume.dir.remove(file) {
                        Ok(_) => volume.changed(file, ticket, None, None),
                        Err(_) => self.leftovers.lock().push((file, volume.change(file, None))),
                    }
                }
            }
        }
    }

    fn write_whole(
        &'static self,
        volume: &Arc<Volume>,
        file: FileId,
        ticket: Ticket,
        head: &[u8],
        body: &Bytes,
    ) -> io::Result<WriteResult> {
        let Some(room) = self.make_room(volume, size_on_disk(head, body.len() as u64))? else {
            return Ok(WriteResult::Dropped);
        };
        let written = match write_entry(&volume.dir, file, head, body) {
            Err(e) if self.is_full(&e) => {
                self.free(volume, room.0.saturating_mul(2) + SPARE, 1, Cause::Space);
                write_entry(&volume.dir, file, head, body)?
            }
            other => other?,
        };
        self.commit(volume, file, ticket, written, None)
    }

    /// Puts a written file in its place, unless something newer came meanwhile.
    pub(super) fn commit(
        &self,
        volume: &Volume,
        file: FileId,
        ticket: Ticket,
        written: Written,
        open: Option<Arc<Entry>>,
    ) -> io::Result<WriteResult> {
        let _alone = volume.alone(file);
        if volume.is_closed() || !volume.is_latest(file, ticket) {
            return Ok(WriteResult::Outdated);
        }
        let bytes = written.usage().allocated;
        written.commit()?;
        volume.changed(file, ticket, Some(bytes), open);
        Ok(WriteResult::Stored)
    }

    /// The file of an entry, if it has the same body under an older head.
    fn same_in_file(
        &'static self,
        volume: &Arc<Volume>,
        file: FileId,
        entry: &Entry,
        old: &Facts,
    ) -> Option<Arc<FileBody>> {
        let OpenedFile { file: opened, head, .. } = open_blocking(&volume.dir, file, None).ok()??;
        let is_same = *head.key == *entry.key
            && head.facts == *old
            && head.parts.is_none()
            && opened.body_len() == entry.body.complete();
        is_same.then(|| Arc::new(FileBody::new(opened, file, self, volume.clone())))
    }

    /// Puts a new head on a file.
    fn renew(
        &'static self,
        volume: &Arc<Volume>,
        file: FileId,
        ticket: Ticket,
        entry: &Entry,
        body: &FileBody,
        head: &[u8],
    ) -> io::Result<WriteResult> {
        // A small one is written anew beside the old one.
        let Some(_room) = self.make_room(volume, size_on_disk(head, body.len().min(REWRITTEN)))? else {
            // As long as it is not known what is there, there may be none. The older head is as good as it was.
            let bytes = body.file().usage()?.allocated;
            let _alone = volume.alone(file);
            if volume.is_latest(file, ticket) {
                volume.changed(file, ticket, Some(bytes), None);
            }
            return Ok(WriteResult::Dropped);
        };
        let _alone = volume.alone(file);
        if volume.is_closed() || !volume.is_latest(file, ticket) {
            return Ok(WriteResult::Outdated);
        }
        let renewed = match renew_head(body.file(), head) {
            Ok(Some(renewed)) => renewed,
            // Evicted meanwhile, or damaged: there is nothing to put a head on.
            Ok(None) => return Ok(WriteResult::Dropped),
            Err(ReadFailure::Damaged(damage)) => {
                self.metrics.error(damage.as_str()).inc();
                return Ok(WriteResult::Dropped);
            }
            Err(ReadFailure::Io(e)) => return Err(e),
        };
        let bytes = renewed.usage.allocated;
        let body = Arc::new(FileBody::new(renewed.file, file, self, volume.clone()));
        let body = match &entry.body {
            Body::Parts(parts) => parts.spans().map(|spans| Body::Parts(Parts::in_file(&spans, &body))),
            Body::Whole(_) | Body::File(_) => None,
        }
        .unwrap_or(Body::File(body));
        let opened =
            Entry::of(entry.key.clone(), entry.head.clone(), body, entry.facts.clone()).with_hits(entry.hits());
        volume.changed(file, ticket, Some(bytes), Some(Arc::new(opened)));
        Ok(WriteResult::Stored)
    }

    /// Makes room for so many bytes. `None`: there is none.
    pub(super) fn make_room(&self, volume: &Arc<Volume>, bytes: u64) -> io::Result<Option<Room>> {
        let Ok(made) = volume.make_room(bytes) else { return Ok(None) };
        self.remove_victims(volume, &made.victims);
        volume.release(made.reserved.saturating_sub(bytes));
        let room = Room(bytes, volume.clone());
        self.keeping.raise_bound(volume.committed())?;
        Ok(Some(room))
    }

    /// Lets files go, so many bytes or so many files, whichever is more.
    pub(super) fn free(&self, volume: &Volume, bytes: u64, files: usize, cause: Cause) {
        let victims = volume.evict(bytes, files, cause);
        self.remove_victims(volume, &victims);
    }

    pub(super) fn remove_victims(&self, volume: &Volume, victims: &[Victim]) {
        for victim in victims {
            let file = FileId(victim.id);
            let _alone = volume.alone(file);
            if !volume.is_back(file) {
                if let Err(error) = volume.dir.remove(file) {
                    self.write_failed("an evicted response could not be removed", &error);
                    self.leftovers.lock().push((file, volume.change(file, None)));
                }
                self.metrics.eviction(victim.cause.as_str()).inc();
            }
            volume.evicted(file);
        }
    }

    pub(super) fn is_full(&self, error: &io::Error) -> bool {
        matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }

    /// Something that was to be written had to be given up, since the disk does not keep up.
    pub(super) fn writes_too_slowly(&self) {
        self.metrics.error("timeout").inc();
        self.note_failed_write(&ErrorKind::TimedOut.into());
    }

    pub(super) fn write_failed(&self, what: &'static str, error: &io::Error) {
        self.metrics.error(if self.is_full(error) { "full" } else { "io" }).inc();
        if let Some(unlogged) = self.complaints.is_due() {
            tracing::warn!(path = %self.settings.load().path.display(), %error, unlogged, "{what}");
        }
        self.note_failed_write(error);
    }

    fn note_failed_write(&self, error: &io::Error) {
        if self.writes.failed(Instant::now()) {
            tracing::error!(
                path = %self.settings.load().path.display(), %error,
                "nothing can be stored on disk: what is there is served, and writing is tried again from time to time"
            );
        }
    }

    pub(super) fn can_write_again(&self) {
        if self.writes.succeeded() {
            tracing::info!("responses are stored on disk again");
        }
    }
}

/// Room on the disk that is set aside.
#[derive(Debug)]
pub struct Room(pub(super) u64, Arc<Volume>);

impl Drop for Room {
    fn drop(&mut self) {
        self.1.release(self.0);
    }
}

/// Bytes that count for a file with this head and a body of that length: at most what it will take.
pub(super) fn size_on_disk(head: &[u8], body: u64) -> u64 {
    let sums = (body / PIECE + 1) * size_of::<u64>() as u64;
    // The body may begin at the next block, and the last one is not full.
    let length = (PREFIX_LEN + head.len()) as u64 + body + sums + BLOCK;
    let blocks = (length / BLOCK).saturating_add(1).saturating_mul(BLOCK);
    blocks.saturating_add(FILE_CHARGE)
}
