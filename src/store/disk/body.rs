//! The content of an entry that stays in its file.

use super::DiskTier;
use super::file::ReadFailure;
use super::file::read::{EntryFile, ReadNow};
use super::format::{Damage, FileId};
use super::volume::Volume;
use bytes::Bytes;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a piece may take to be read once a response has begun: there is nothing else to send then.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open file with the body of an entry.
#[derive(Debug)]
pub struct FileBody {
    file: Arc<EntryFile>,
    id: FileId,
    tier: &'static DiskTier,
    volume: Arc<Volume>,
    promoting: AtomicBool,
}

impl FileBody {
    /// The body in a file of an open directory.
    pub(super) fn new(file: Arc<EntryFile>, id: FileId, tier: &'static DiskTier, volume: Arc<Volume>) -> Self {
        FileBody { file, id, tier, volume, promoting: AtomicBool::new(false) }
    }

    /// Bytes of it.
    pub fn len(&self) -> u64 {
        self.file.body_len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file.
    pub(in crate::store) fn file(&self) -> &Arc<EntryFile> {
        &self.file
    }

    /// The directory that it is in.
    pub(super) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// Whether it is to be copied to memory by whoever asks: only the first one is told so.
    pub fn begin_promotion(&self) -> bool {
        !self.promoting.swap(true, Ordering::AcqRel)
    }

    /// It was not copied after all.
    pub fn end_promotion(&self) {
        self.promoting.store(false, Ordering::Release);
    }

    /// Bytes from `start` on, and none from `end` on: as many as come at once, each verified. On a failure the file is
    /// removed, or the tier left alone, as it deserves.
    pub async fn read(&self, start: u64, end: u64) -> Result<Bytes, ReadFailure> {
        let read = match self.file.read_now(start, end) {
            ReadNow::Bytes(bytes) => Ok(bytes),
            ReadNow::Failed(failure) => Err(failure),
            ReadNow::WouldBlock => self.read_behind(start, end).await,
        };
        let failure = match read {
            Ok(bytes) => {
                self.tier.works_again();
                return Ok(bytes);
            }
            Err(failure) => failure,
        };
        match &failure {
            ReadFailure::Damaged(damage) => self.is_damaged(*damage),
            ReadFailure::Io(e) => {
                self.tier.read_failed(e, &self.volume, self.id);
                // Its head can be read, so it would be found again, and fail again in the middle of a response.
                if e.kind() != ErrorKind::TimedOut && self.is_in_place() {
                    self.tier.remove_file(&self.volume, self.id);
                }
            }
        }
        Err(failure)
    }

    async fn read_behind(&self, start: u64, end: u64) -> Result<Bytes, ReadFailure> {
        let began = Instant::now();
        let file = self.file.clone();
        let read = self.tier.lanes.read(move || file.read_blocking(start, end));
        tokio::pin!(read);
        let soon = tokio::time::timeout(self.tier.settings.load().timeout, &mut read).await;
        let read = match soon {
            Ok(read) => Ok(read),
            Err(_) => {
                // Other requests need not find out by themselves. This one has nothing else to send.
                self.tier.too_slow();
                tokio::time::timeout(PATIENCE, read).await
            }
        };
        let bytes = match read {
            Ok(Some(read)) => read?,
            Ok(None) => return Err(ReadFailure::Io(std::io::Error::other("the process is about to end"))),
            Err(_) => return Err(ReadFailure::Io(ErrorKind::TimedOut.into())),
        };
        self.tier.written.read_seconds.observe(began.elapsed().as_secs_f64());
        Ok(bytes)
    }

    /// Unless another file took its place by now.
    fn is_in_place(&self) -> bool {
        self.volume.at_hand(self.id).is_none_or(|entry| entry.body.is_in(&self.file))
    }

    fn is_damaged(&self, damage: Damage) {
        if self.is_in_place() {
            self.tier.damaged(&self.volume, self.id, damage, None);
        } else {
            self.tier.metrics.error(damage.as_str()).inc();
        }
    }
}
