//! Reads an entry, from memory or from its file.

use super::disk::file::piece::{FilePiece, SendsFiles};
use super::entry::{Body, Entry, slice};
use super::tier::Found;
use crate::decide::Facts;
use crate::policy::decision::TierName;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::cache::storage::HandleHit;
use pingora::cache::trace::SpanHandle;
use pingora::cache::{CacheKey, Storage};
use pingora::prelude::{Error, ErrorType, Result};
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Most bytes handed out at once: a client has the write timeout for each piece, however long the whole is.
const PIECE: u64 = 256 * 1024;

/// Whoever sends, and since when the beginning of the body is ready.
struct Sender {
    to: Arc<dyn SendsFiles>,
    ready_since: Instant,
}

/// Reads an entry.
pub struct StoredHit {
    entry: Arc<Entry>,
    facts: Arc<Facts>,
    tier: TierName,
    /// The beginning of the body, if that was read already.
    ready: Option<Bytes>,
    /// Who sends what is read, if that can take it from its file.
    sender: Option<Sender>,
    start: u64,
    end: u64,
}

impl StoredHit {
    /// What a tier has found.
    pub fn new(tier: TierName, found: Found) -> Self {
        let end = found.entry.body.complete();
        let facts = found.entry.facts.clone();
        StoredHit { entry: found.entry, facts, tier, ready: found.body, sender: None, start: 0, end }
    }

    /// The same, with other facts than the entry's own to decide by.
    #[must_use]
    pub fn judged_by(self, facts: Arc<Facts>) -> Self {
        StoredHit { facts, ..self }
    }

    /// Whether some of it is worth being sent from its file.
    pub fn is_long_file(&self) -> bool {
        matches!(&self.entry.body, Body::File(file) if file.len() >= FilePiece::SHORTEST)
    }

    /// What is read will be sent by this one, which may take it from its file. To be called when the entry was found.
    pub fn sent_by(&mut self, to: Arc<dyn SendsFiles>) {
        self.sender = Some(Sender { to, ready_since: Instant::now() });
    }

    /// Tells the sender where the next piece is.
    fn offer(&self, piece: &Bytes, was_ready: bool) {
        if let (Some(sender), Body::File(body)) = (&self.sender, &self.entry.body)
            && FilePiece::is_worth_sending(body.file(), self.start, piece.len() as u64)
        {
            let read = if was_ready { sender.ready_since } else { Instant::now() };
            sender.to.offer(FilePiece::new(piece.clone(), body.file().clone(), self.start, read));
        }
    }

    /// What decides about it.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// What is read.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Where it was found.
    pub fn tier(&self) -> TierName {
        self.tier
    }
}

#[async_trait]
impl HandleHit for StoredHit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        if self.start >= self.end {
            return Ok(None);
        }
        let end = self.end.min(self.start.saturating_add(PIECE));
        let ready = self.ready.as_ref().filter(|ready| self.start < ready.len() as u64);
        let ready = ready.and_then(|ready| slice(ready, self.start, end.min(ready.len() as u64)));
        let was_ready = ready.is_some();
        let piece = match ready {
            Some(piece) => piece,
            // What is damaged or gone ends the response without its end: the client sees that it is not whole.
            None => self.entry.body.read(self.start, end).await.map_err(|e| {
                let what = format!("byte {} of a stored response", self.start);
                Error::because(ErrorType::ReadError, what, e)
            })?,
        };
        if piece.is_empty() {
            return Error::e_explain(ErrorType::InternalError, format!("byte {} is not stored", self.start));
        }
        self.offer(&piece, was_ready);
        self.start += piece.len() as u64;
        Ok(Some(piece))
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let length = self.entry.body.complete();
        if start as u64 > length {
            return out_of_range(start, length);
        }
        self.start = start as u64;
        self.end = end.map_or(length, |end| (end as u64).min(length));
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

pub(super) fn out_of_range(start: usize, length: u64) -> Result<()> {
    Error::e_explain(ErrorType::InternalError, format!("a range starts at byte {start} of a body of {length}"))
}
