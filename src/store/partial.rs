//! Parts of a response: RFC 9111 sections 3.3 and 3.4.
//!
//! An entry of which only parts came keeps them side by side, as they came, in memory or in files: a reader goes from one to
//! the next, and nothing is copied until they are the whole, or written to disk. What covers what is counted here; what
//! becomes of a part that comes is said in [`super::combining`].

use super::disk::body::FileBody;
use super::disk::file::read::EntryFile;
use super::entry::{Body, ReadError};
use super::spans::{MOST_PIECES, Span, Spans};
use crate::semantics::combine::KnownPart;
use crate::semantics::range::{ByteRange, Spec};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// What a fill of a part is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filling {
    /// What the origin was asked for; whoever wants the same can follow the fill.
    pub asked: Option<Spec>,
    /// What it sends.
    pub part: KnownPart,
}

/// Bytes that a piece costs besides its own: its place in the list, the shared count behind it, and what the allocator adds.
const PIECE_COST: usize = 96;

/// The parts of a response that are stored, in order, without overlap. Immutable: readers share them.
#[derive(Debug, Clone)]
pub struct Parts {
    complete: u64,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
struct Piece {
    first: u64,
    source: Source,
}

/// Where the bytes of a part are.
#[derive(Debug, Clone)]
pub enum Source {
    /// Here.
    Memory(Bytes),
    /// In the body of a file.
    File {
        /// The body.
        file: Arc<FileBody>,
        /// Where they begin there.
        at: u64,
        /// How many they are.
        length: u64,
    },
}

impl Source {
    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        match self {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File { length, .. } => *length,
        }
    }

    /// The bytes between two of them, which are counted from the first. `None` if there are none.
    fn cut(&self, from: u64, to: u64) -> Option<Source> {
        let to = to.min(self.length());
        if from >= to {
            return None;
        }
        Some(match self {
            // No longer than the bytes, whose length is a usize.
            Source::Memory(bytes) => Source::Memory(bytes.slice(from as usize..to as usize)),
            Source::File { file, at, .. } => Source::File { file: file.clone(), at: at + from, length: to - from },
        })
    }
}

impl Piece {
    /// Position after its last byte.
    fn end(&self) -> u64 {
        self.first.saturating_add(self.source.length())
    }

    fn is_in_memory(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }
}

impl Parts {
    /// One part, from `first` on, of a response of `complete` bytes.
    pub fn new(complete: u64, first: u64, bytes: Bytes) -> Self {
        Parts::of(complete, first, Source::Memory(bytes))
    }

    /// The same, wherever its bytes are.
    pub fn of(complete: u64, first: u64, source: Source) -> Self {
        Parts { complete, pieces: Vec::new() }.with_source(first, source)
    }

    /// The parts that a file holds.
    pub fn in_file(spans: &Spans, file: &Arc<FileBody>) -> Self {
        let piece = |(span, at): (Span, u64)| Piece {
            first: span.first,
            source: Source::File { file: file.clone(), at, length: span.length },
        };
        Parts { complete: spans.complete(), pieces: spans.in_file().map(piece).collect() }
    }

    /// Length of the whole.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// Bytes that are here.
    pub fn held(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.source.length()).sum()
    }

    /// Bytes of memory that they take.
    pub fn weight(&self) -> usize {
        let bytes = |piece: &Piece| match &piece.source {
            Source::Memory(bytes) => bytes.len(),
            Source::File { .. } => 0,
        };
        self.pieces.iter().map(|piece| bytes(piece) + PIECE_COST).sum()
    }

    /// Whether nothing has to be read to have them.
    pub fn is_in_memory(&self) -> bool {
        self.pieces.iter().all(Piece::is_in_memory)
    }

    /// Whether some of them are in this file.
    pub fn is_in(&self, file: &Arc<EntryFile>) -> bool {
        self.pieces.iter().any(|piece| match &piece.source {
            Source::Memory(_) => false,
            Source::File { file: body, .. } => Arc::ptr_eq(body.file(), file),
        })
    }

    /// The file that holds these parts and nothing else.
    pub fn only_file(&self) -> Option<&Arc<FileBody>> {
        let Source::File { file: only, .. } = &self.pieces.first()?.source else { return None };
        let is_in_it = |piece: &Piece| match &piece.source {
            Source::Memory(_) => false,
            Source::File { file, .. } => Arc::ptr_eq(file, only),
        };
        (self.pieces.iter().all(is_in_it) && self.held() == only.len()).then_some(only)
    }

    /// Where the bytes of each part are, in order.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.pieces.iter().map(|piece| &piece.source)
    }

    /// Which bytes of the whole are here; `None` if all are.
    pub fn spans(&self) -> Option<Spans> {
        let spans = self.pieces.iter().map(|piece| Span { first: piece.first, length: piece.source.length() });
        Spans::new(self.complete, spans)
    }

    /// These and one more. What was here already stays, so that only the new bytes are looked at.
    #[must_use]
    pub fn with(&self, first: u64, bytes: Bytes) -> Self {
        self.with_source(first, Source::Memory(bytes))
    }

    /// The same, wherever the bytes are.
    #[must_use]
    pub fn with_source(&self, first: u64, source: Source) -> Self {
        let new = Piece { first, source };
        let end = new.end().min(self.complete);
        let mut at = first;
        let mut added = Vec::new();
        for old in &self.pieces {
            if old.end() <= at {
                continue;
            }
            if old.first >= end {
                break;
            }
            added.extend(keep(&new, at, old.first));
            at = at.max(old.end());
        }
        added.extend(keep(&new, at, end));
        // No place for more: with the next part comes a list of its own.
        let mut pieces = Vec::with_capacity(self.pieces.len() + added.len());
        pieces.extend(self.pieces.iter().cloned());
        pieces.extend(added);
        pieces.sort_by_key(|piece| piece.first);
        let mut parts = Parts { complete: self.complete, pieces };
        parts.bound();
        parts
    }

    /// Keeps the number of pieces in bounds.
    fn bound(&mut self) {
        if self.pieces.len() <= MOST_PIECES {
            return;
        }
        let mut joined: Vec<Piece> = Vec::new();
        let mut run: Vec<Piece> = Vec::new();
        for piece in self.pieces.drain(..) {
            // What is in a file would have to be read: it is joined when it is written anew.
            let follows = |last: &Piece| last.end() == piece.first && last.is_in_memory() && piece.is_in_memory();
            if run.last().is_some_and(|last| !follows(last)) {
                joined.extend(join(&mut run));
            }
            run.push(piece);
        }
        joined.extend(join(&mut run));
        if joined.len() > MOST_PIECES {
            // Half of them, so that this is not done again with each part that comes.
            joined.sort_by_key(|piece| std::cmp::Reverse(piece.source.length()));
            joined.truncate(MOST_PIECES / 2);
            joined.sort_by_key(|piece| piece.first);
        }
        joined.shrink_to_fit();
        self.pieces = joined;
    }

    /// Bytes from `start` on, and none from `end` on: as many as are in one piece. `None`: there is no such byte in memory.
    pub fn at(&self, start: u64, end: u64) -> Option<Bytes> {
        match self.source_at(start, end)? {
            Source::Memory(bytes) => Some(bytes),
            Source::File { .. } => None,
        }
    }

    /// The same, and reads them if they are in a file; then it may be less.
    ///
    /// # Errors
    /// [`ReadError`] if the byte at `start` is not here, or cannot be read.
    pub async fn read(&self, start: u64, end: u64) -> Result<Bytes, ReadError> {
        match self.source_at(start, end).ok_or(ReadError::NotHere(start))? {
            Source::Memory(bytes) => Ok(bytes),
            Source::File { file, at, length } => Ok(file.read(at, at + length).await?),
        }
    }

    fn source_at(&self, start: u64, end: u64) -> Option<Source> {
        let following = self.pieces.partition_point(|piece| piece.end() <= start);
        let piece = self.pieces.get(following).filter(|piece| piece.first <= start && start < end)?;
        cut(piece, start, end).map(|cut| cut.source)
    }

    /// Whether every byte of a part is here.
    pub fn covers(&self, range: ByteRange) -> bool {
        self.reach(range.first) > range.last
    }

    /// How far one can read from `start` on.
    fn reach(&self, start: u64) -> u64 {
        let following = self.pieces.iter().skip_while(|piece| piece.end() <= start);
        following.fold(start, |reached, piece| if piece.first <= reached { piece.end() } else { reached })
    }

    /// From the first byte that is missing to the last one; `None` if none is.
    pub fn missing(&self) -> Option<ByteRange> {
        let first = self.reach(0);
        let backwards = self.pieces.iter().rev();
        let end = backwards.fold(self.complete, |end, piece| if piece.end() >= end { piece.first } else { end });
        (first < self.complete && first < end).then(|| ByteRange { first, last: end - 1 })
    }

    /// The bytes before a position, and those after one, in one piece each: what goes around a part that is fetched.
    ///
    /// # Errors
    /// [`ReadError`] if one of them is not here, or cannot be read.
    pub async fn around(&self, range: ByteRange) -> Result<(Bytes, Bytes), ReadError> {
        let before = self.gather(0, range.first).await?;
        Ok((before, self.gather(range.last.saturating_add(1), self.complete).await?))
    }

    async fn gather(&self, start: u64, end: u64) -> Result<Bytes, ReadError> {
        let mut gathered = BytesMut::new();
        let mut at = start;
        while at < end {
            let bytes = self.read(at, end).await?;
            if bytes.is_empty() {
                return Err(ReadError::NotHere(at));
            }
            at += bytes.len() as u64;
            if at >= end && gathered.is_empty() {
                return Ok(bytes);
            }
            gathered.extend_from_slice(&bytes);
        }
        Ok(gathered.freeze())
    }

    /// All of them copied to memory, for the tier there.
    ///
    /// # Errors
    /// [`ReadError`] if one of them cannot be read.
    pub async fn in_memory(&self) -> Result<Self, ReadError> {
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            pieces.push(Piece {
                first: piece.first,
                source: Source::Memory(self.gather(piece.first, piece.end()).await?),
            });
        }
        Ok(Parts { complete: self.complete, pieces })
    }

    fn joined(&self) -> Bytes {
        let mut joined = BytesMut::new();
        while let Some(bytes) = self.at(joined.len() as u64, self.complete) {
            joined.extend_from_slice(&bytes);
        }
        joined.freeze()
    }

    /// As the content of an entry: the whole, once it is there and in one place.
    pub fn into_body(self) -> Body {
        match (self.whole(), self.only_file()) {
            (Some(whole), _) => Body::Whole(whole),
            (None, Some(file)) if self.missing().is_none() => Body::File(file.clone()),
            _ => Body::Parts(self),
        }
    }

    /// The whole response, once it is there, and in memory.
    pub fn whole(&self) -> Option<Bytes> {
        if self.missing().is_some() || !self.is_in_memory() {
            return None;
        }
        match self.pieces.as_slice() {
            [Piece { source: Source::Memory(bytes), .. }] => Some(bytes.clone()),
            _ => Some(self.joined()),
        }
    }
}

/// A cut to be kept: it would keep the whole buffer alive, so what is not all of it is copied.
fn keep(piece: &Piece, start: u64, end: u64) -> Option<Piece> {
    let cut = cut(piece, start, end)?;
    Some(match cut.source {
        Source::Memory(bytes) if (bytes.len() as u64) < piece.source.length() => {
            Piece { first: cut.first, source: Source::Memory(Bytes::copy_from_slice(&bytes)) }
        }
        source => Piece { source, ..cut },
    })
}

/// The bytes of a piece between two positions, the first of which is in it; `None` if there are none between them.
fn cut(piece: &Piece, start: u64, end: u64) -> Option<Piece> {
    let source = piece.source.cut(start.checked_sub(piece.first)?, end.checked_sub(piece.first)?)?;
    Some(Piece { first: start, source })
}

/// Makes one piece of neighbours in memory.
fn join(run: &mut Vec<Piece>) -> Option<Piece> {
    let first = run.first()?.first;
    if run.len() == 1 {
        return run.pop();
    }
    let mut joined = BytesMut::with_capacity(run.iter().map(|piece| piece.source.length() as usize).sum());
    for piece in run.drain(..) {
        if let Source::Memory(bytes) = piece.source {
            joined.extend_from_slice(&bytes);
        }
    }
    Some(Piece { first, source: Source::Memory(joined.freeze()) })
}

#[cfg(test)]
#[path = "partial_tests.rs"]
mod tests;
