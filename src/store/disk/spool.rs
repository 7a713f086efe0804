//! A fill that is too large for memory, written as it comes, and read meanwhile by those who follow it.

use super::DiskTier;
use super::body::FileBody;
use super::file::ReadFailure;
use super::file::read::ReadNow;
use super::file::write::{StreamReader, StreamWriter};
use super::format::FileId;
use super::index::Cause;
use super::parts::WrittenPart;
use super::volume::Volume;
use super::write::{Room, size_on_disk};
use crate::store::encoding::encode_head;
use crate::store::entry::{Body, Entry, EntryId};
use crate::store::fill::{Fill, Moved, Spool};
use crate::store::partial::Filling;
use crate::store::spans::{Span, Spans};
use crate::store::tier::WriteResult;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes written at once, so that it is soon seen how far it has come.
const STEP: usize = 256 << 10;

/// Room is made in steps: to make it for a very large object at once would take long, and nothing would be written meanwhile.
const ROOM: u64 = 8 << 20;

/// There is no room within the capacity: the file is larger than what others leave it. What a disk says that is full is
/// something else.
const NO_ROOM: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// A fill that is given up with something still to write is the disk's fault if it had this long.
const SLOW: Duration = Duration::from_millis(250);

/// How long who follows waits for what is written already.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the end of a fill waits for its last bytes to be written.
const SEALING: Duration = Duration::from_secs(2);

/// A file that a fill is written to.
pub struct DiskSpool {
    tier: &'static DiskTier,
    volume: Arc<Volume>,
    id: EntryId,
    file: FileId,
    head: Vec<u8>,
    /// Bytes of the body, if they are known before its end.
    expected: Option<u64>,
    work: Mutex<Work>,
    written: AtomicU64,
    failed: AtomicBool,
    /// The bytes that are written, once there is a file.
    reader: OnceLock<Arc<StreamReader>>,
    moved: OnceLock<Moved>,
    began: Instant,
    me: Weak<DiskSpool>,
}

#[derive(Debug, Default)]
struct Work {
    pieces: Vec<Bytes>,
    /// A thread is at it.
    running: bool,
    abandoned: bool,
    writing: Option<Writing>,
    sealing: Option<oneshot::Sender<io::Result<Writing>>>,
}

#[derive(Debug)]
struct Writing {
    stream: StreamWriter,
    room: Vec<Room>,
}

/// What a thread finds to do.
enum Next {
    Write(Vec<Bytes>, Option<Writing>),
    Seal(oneshot::Sender<io::Result<Writing>>, Option<Writing>),
    LetGo(Option<Writing>, Vec<Bytes>),
    Nothing,
}

impl std::fmt::Debug for DiskSpool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, written) = (&self.id, &self.written);
        f.debug_struct("DiskSpool").field("id", id).field("written", written).finish_non_exhaustive()
    }
}

impl DiskTier {
    /// A file for a fill. `None`: the tier takes nothing now.
    pub fn spool(&'static self, id: EntryId, fill: &Fill) -> Option<Arc<DiskSpool>> {
        let volume = self.writable()?;
        if !self.may_try() {
            self.written.wrote(WriteResult::Dropped, None);
            return None;
        }
        Some(Arc::new_cyclic(|me| DiskSpool {
            tier: self,
            volume,
            id,
            file: FileId::of(&id),
            head: head_of(id, fill),
            expected: fill.expected(),
            work: Mutex::default(),
            written: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            reader: OnceLock::new(),
            moved: OnceLock::new(),
            began: Instant::now(),
            me: me.clone(),
        }))
    }
}

/// The head that the file has: of the whole, even if the fill is about a part of it.
fn head_of(id: EntryId, fill: &Fill) -> Vec<u8> {
    let Some(Filling { part, .. }) = fill.head.filling() else {
        return encode_head(&fill.key, id.variant, &fill.head, &fill.facts, None);
    };
    let spans = Spans::new(part.complete, [Span { first: part.range.first, length: part.range.len() }]);
    encode_head(&fill.key, id.variant, &fill.head.of_whole(part.complete), &fill.facts, spans.as_ref())
}

impl DiskSpool {
    /// Has a thread look for something to do, unless one is at it.
    fn run(&self, work: &mut Work) {
        if let Some(this) = self.me.upgrade()
            && !std::mem::replace(&mut work.running, true)
        {
            drop(self.tier.lanes.write(move || this.work()));
        }
    }

    fn next(&self) -> Next {
        let mut work = self.work.lock();
        if work.abandoned || self.failed.load(Ordering::Acquire) || self.volume.is_closed() {
            // A directory that is closed may be another process's by now.
            self.failed.store(true, Ordering::Release);
            work.running = false;
            work.sealing = None;
            return Next::LetGo(work.writing.take(), std::mem::take(&mut work.pieces));
        }
        if !work.pieces.is_empty() {
            return Next::Write(std::mem::take(&mut work.pieces), work.writing.take());
        }
        work.running = false;
        match work.sealing.take() {
            Some(answer) => Next::Seal(answer, work.writing.take()),
            None => Next::Nothing,
        }
    }

    /// Does one thing, and comes again after others if there is more to do: there are few threads.
    fn work(self: Arc<Self>) {
        match self.next() {
            Next::Nothing => return,
            Next::LetGo(writing, pieces) => drop((writing, pieces)),
            Next::Seal(answer, writing) => {
                let writing = writing.map_or_else(|| self.begin(), Ok);
                // If nobody waits any more, it is let go with the answer.
                let _ = answer.send(writing);
                return;
            }
            Next::Write(pieces, writing) => {
                match self.write(pieces, writing) {
                    Ok(writing) => self.work.lock().writing = Some(writing),
                    Err(error) => self.fail(&error),
                }
                let again = self.clone();
                drop(self.tier.lanes.write(move || again.work()));
            }
        }
        if let Some(moved) = self.moved.get() {
            moved();
        }
    }

    fn begin(&self) -> io::Result<Writing> {
        let stream = StreamWriter::begin(&self.volume.dir, self.file, &self.head)?;
        let _ = self.reader.set(stream.reader());
        Ok(Writing { stream, room: Vec::new() })
    }

    fn write(&self, pieces: Vec<Bytes>, writing: Option<Writing>) -> io::Result<Writing> {
        let mut writing = writing.map_or_else(|| self.begin(), Ok)?;
        let mut rest = pieces.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let step = rest.iter().take_while(|piece| {
                let is_in = bytes == 0 || bytes + piece.len() <= STEP;
                bytes += piece.len();
                is_in
            });
            let (now, later) = rest.split_at(step.count());
            let wanted: u64 = now.iter().map(|piece| piece.len() as u64).sum();
            self.make_room(&mut writing, wanted)?;
            if let Err(e) = writing.stream.append(now) {
                if !self.tier.is_full(&e) {
                    return Err(e);
                }
                // Once more, with the place of others.
                self.tier.free(&self.volume, wanted.saturating_mul(2) + ROOM, 1, Cause::Space);
                writing.stream.append(now)?;
            }
            self.written.store(writing.stream.written(), Ordering::Release);
            if let Some(moved) = self.moved.get() {
                moved();
            }
            rest = later;
        }
        Ok(writing)
    }

    fn make_room(&self, writing: &mut Writing, wanted: u64) -> io::Result<()> {
        let room: u64 = writing.room.iter().map(|room| room.0).sum();
        let needed = size_on_disk(&self.head, writing.stream.written() + wanted);
        if needed <= room {
            return Ok(());
        }
        let missing = needed - room;
        // As much again as there is already, so that a small one does not make room as for a large one; and no more than
        // all of it will take, if that is known.
        let all = self.expected.map_or(u64::MAX, |expected| size_on_disk(&self.head, expected).saturating_sub(room));
        let step = missing.max(needed.min(ROOM)).min(all.max(missing));
        let mut more = self.tier.make_room(&self.volume, step)?;
        if more.is_none() && step > missing {
            more = self.tier.make_room(&self.volume, missing)?;
        }
        match more {
            Some(more) => writing.room.push(more),
            None => return Err(NO_ROOM.into()),
        }
        Ok(())
    }

    fn fail(&self, error: &io::Error) {
        self.failed.store(true, Ordering::Release);
        if error.kind() == NO_ROOM {
            // The disk is well; others have what it may take.
            return self.tier.written.wrote(WriteResult::Dropped, None);
        }
        self.tier.written.wrote(WriteResult::Failed, None);
        self.tier.write_failed("a large response could not be stored", error);
    }

    /// Puts the file in its place once everything is written, unless the fill is outdated by then. The entry is there when this
    /// says that it is stored.
    pub async fn seal(self: &Arc<Self>, fill: &Arc<Fill>) -> WriteResult {
        let writing = match self.all_written().await {
            Ok(writing) => writing,
            Err(result) => return result,
        };
        let (this, fill) = (self.clone(), fill.clone());
        let put = self.tier.lanes.write(move || this.put_in_place(writing, &fill));
        let result = match tokio::time::timeout(SEALING, put).await {
            Ok(Some(Ok(result))) => result,
            Ok(Some(Err(error))) => {
                self.tier.write_failed("a large response could not be stored", &error);
                WriteResult::Failed
            }
            Ok(None) => WriteResult::Failed,
            Err(_) => {
                // The clients have all of it, and wait for nothing but this.
                self.abandon();
                WriteResult::Dropped
            }
        };
        if result == WriteResult::Stored {
            self.tier.can_write_again();
        }
        self.tier.written.wrote(result, Some(self.began.elapsed()));
        result
    }

    /// Makes a file of its own of a part, without putting it in its place: something may be stored that it belongs to.
    pub async fn finish(self: &Arc<Self>) -> Option<WrittenPart> {
        let Writing { stream, room } = self.all_written().await.ok()?;
        match self.tier.lanes.write(move || stream.finish()).await {
            Some(Ok(written)) => {
                let body = FileBody::new(written.file().clone(), self.file, self.tier, self.volume.clone());
                Some(WrittenPart { written, body: Arc::new(body), room })
            }
            Some(Err(error)) => {
                self.fail(&error);
                None
            }
            None => None,
        }
    }

    /// Waits until everything is in the file, but not for long. On failure, the result is counted.
    async fn all_written(&self) -> Result<Writing, WriteResult> {
        let answer = {
            let (send, answer) = oneshot::channel();
            let mut work = self.work.lock();
            if work.abandoned || self.failed.load(Ordering::Acquire) {
                return Err(WriteResult::Failed);
            }
            work.sealing = Some(send);
            self.run(&mut work);
            answer
        };
        match tokio::time::timeout(SEALING, answer).await {
            Ok(Ok(Ok(writing))) => Ok(writing),
            Ok(Ok(Err(error))) => {
                self.fail(&error);
                Err(WriteResult::Failed)
            }
            Ok(Err(_)) => Err(WriteResult::Failed),
            Err(_) => {
                self.abandon();
                self.tier.written.wrote(WriteResult::Dropped, None);
                Err(WriteResult::Dropped)
            }
        }
    }

    fn put_in_place(&self, writing: Writing, fill: &Fill) -> io::Result<WriteResult> {
        let Writing { stream, room } = writing;
        let written = stream.finish()?;
        let body = FileBody::new(written.file().clone(), self.file, self.tier, self.volume.clone());
        let (key, head, facts) = (fill.key.clone(), fill.head.clone(), fill.facts.clone());
        let entry = Entry::of(key, head, Body::File(Arc::new(body)), facts);
        if !fill.is_current() {
            return Ok(WriteResult::Outdated);
        }
        // Until it is in its place, lookups find the fill.
        let ticket = self.volume.change(self.file, None);
        // Asked once it has its turn: whoever forgets it from now on has a later one.
        let is_wanted = fill.is_current() && !self.work.lock().abandoned;
        let result = if is_wanted {
            self.tier.commit(&self.volume, self.file, ticket, written, Some(Arc::new(entry)))
        } else {
            Ok(WriteResult::Outdated)
        };
        if !matches!(result, Ok(WriteResult::Stored)) {
            self.tier.remove(&self.id);
        }
        drop(room);
        result
    }
}

#[async_trait]
impl Spool for DiskSpool {
    fn push(&self, piece: Bytes) {
        let mut work = self.work.lock();
        if !work.abandoned && !self.failed.load(Ordering::Acquire) {
            work.pieces.push(piece);
            self.run(&mut work);
        }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn subscribe(&self, moved: Moved) {
        // A fill says so once.
        let _ = self.moved.set(moved);
    }

    async fn read(&self, start: u64, max: usize) -> io::Result<Bytes> {
        let Some(reader) = self.reader.get() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        match reader.read_now(start, max as u64) {
            ReadNow::Bytes(bytes) => return Ok(bytes),
            ReadNow::Failed(ReadFailure::Io(error)) => return Err(error),
            ReadNow::Failed(ReadFailure::Damaged(damage)) => return Err(io::Error::other(damage)),
            ReadNow::WouldBlock => {}
        }
        let reader = reader.clone();
        let read = self.tier.lanes.read(move || reader.read_at(start, max as u64));
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(read) => read.unwrap_or_else(|| Err(io::Error::other("the process is about to end"))),
            Err(_) => {
                self.tier.too_slow();
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    fn abandon(&self) {
        let pieces = {
            let mut work = self.work.lock();
            if std::mem::replace(&mut work.abandoned, true) {
                return;
            }
            // The file is closed where that may take its time.
            self.run(&mut work);
            std::mem::take(&mut work.pieces)
        };
        if !pieces.is_empty() && !self.failed.load(Ordering::Acquire) && self.began.elapsed() > SLOW {
            // Nobody gives up what goes on: the disk does not keep up.
            self.tier.writes_too_slowly();
        }
    }
}
