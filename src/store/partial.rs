//! Parts of a response: RFC 9111 sections 3.3 and 3.4.
//!
//! An entry of which only parts came keeps them side by side, as they came: a reader goes from one to the next, and nothing
//! is copied until they are the whole. What covers what is counted here; whether parts belong together is asked of
//! [`crate::semantics::combine`].

use super::Store;
use super::entry::{Body, Entry, EntryId};
use super::fill::Fill;
use crate::clock;
use crate::semantics::combine::{Combination, KnownPart, Side, combination};
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

/// Most pieces of an entry. Neighbours are joined before this many are exceeded, and then the smallest ones go: a client
/// that asks for every other byte must not cost more than what it asks for.
const MOST_PIECES: usize = 128;

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
    bytes: Bytes,
}

impl Piece {
    /// Position after its last byte.
    fn end(&self) -> u64 {
        self.first.saturating_add(self.bytes.len() as u64)
    }
}

impl Parts {
    /// One part, from `first` on, of a response of `complete` bytes.
    pub fn new(complete: u64, first: u64, bytes: Bytes) -> Self {
        Parts { complete, pieces: Vec::new() }.with(first, bytes)
    }

    /// Length of the whole.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// Bytes that are here.
    pub fn held(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.len()).sum()
    }

    /// Bytes of memory that they take.
    pub fn weight(&self) -> usize {
        self.held() + self.pieces.len() * PIECE_COST
    }

    /// These and one more. What was here already stays, so that only the new bytes are looked at.
    #[must_use]
    pub fn with(&self, first: u64, bytes: Bytes) -> Self {
        let new = Piece { first, bytes };
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
            if run.last().is_some_and(|last| last.end() != piece.first) {
                joined.extend(join(&mut run));
            }
            run.push(piece);
        }
        joined.extend(join(&mut run));
        if joined.len() > MOST_PIECES {
            // Half of them, so that this is not done again with each part that comes.
            joined.sort_by_key(|piece| std::cmp::Reverse(piece.bytes.len()));
            joined.truncate(MOST_PIECES / 2);
            joined.sort_by_key(|piece| piece.first);
        }
        joined.shrink_to_fit();
        self.pieces = joined;
    }

    /// Bytes from `start` on, and none from `end` on: as many as are in one piece. `None`: there is no such byte here.
    pub fn at(&self, start: u64, end: u64) -> Option<Bytes> {
        let following = self.pieces.partition_point(|piece| piece.end() <= start);
        let piece = self.pieces.get(following).filter(|piece| piece.first <= start && start < end)?;
        cut(piece, start, piece.end().min(end)).map(|cut| cut.bytes)
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
    pub fn around(&self, range: ByteRange) -> (Bytes, Bytes) {
        (self.joined(0, range.first), self.joined(range.last.saturating_add(1), self.complete))
    }

    fn joined(&self, start: u64, end: u64) -> Bytes {
        let mut at = start;
        let mut joined = BytesMut::new();
        while let Some(bytes) = self.at(at, end) {
            at += bytes.len() as u64;
            joined.extend_from_slice(&bytes);
        }
        joined.freeze()
    }

    /// As the content of an entry: the whole, once it is there.
    pub fn into_body(self) -> Body {
        self.whole().map_or_else(|| Body::Parts(self), Body::Whole)
    }

    /// The whole response, once it is there.
    pub fn whole(&self) -> Option<Bytes> {
        match self.pieces.as_slice() {
            _ if self.missing().is_some() => None,
            [piece] => Some(piece.bytes.clone()),
            _ => Some(self.joined(0, self.complete)),
        }
    }
}

/// A cut to be kept: it would keep the whole buffer alive, so what is not all of it is copied.
fn keep(piece: &Piece, start: u64, end: u64) -> Option<Piece> {
    let cut = cut(piece, start, end)?;
    let all = cut.bytes.len() == piece.bytes.len();
    Some(if all { cut } else { Piece { first: cut.first, bytes: Bytes::copy_from_slice(&cut.bytes) } })
}

/// The bytes of a piece between two positions, which are in it; `None` if there are none between them.
fn cut(piece: &Piece, start: u64, end: u64) -> Option<Piece> {
    let from = usize::try_from(start.checked_sub(piece.first)?).ok()?;
    let to = usize::try_from(end.checked_sub(piece.first)?).ok()?.min(piece.bytes.len());
    (from < to).then(|| Piece { first: start, bytes: piece.bytes.slice(from..to) })
}

fn join(run: &mut Vec<Piece>) -> Option<Piece> {
    let first = run.first()?.first;
    if run.len() == 1 {
        return run.pop();
    }
    let mut joined = BytesMut::with_capacity(run.iter().map(|piece| piece.bytes.len()).sum());
    for piece in run.drain(..) {
        joined.extend_from_slice(&piece.bytes);
    }
    Some(Piece { first, bytes: joined.freeze() })
}

impl Store {
    /// The entry that has the part and is fresh, although more is on its way: what is here need not be waited for.
    pub(super) fn at_hand(&self, id: &EntryId, key: &[u8], part: Option<Spec>) -> Option<Arc<Entry>> {
        let entry = self.memory.get(id, key)?;
        let Body::Parts(parts) = &entry.body else { return None };
        let range = part?.within(parts.complete())?;
        (parts.covers(range) && !entry.facts.freshness.ttl(clock::now()).is_zero()).then_some(entry)
    }

    /// Keeps the part that a fill brought, together with what is stored, or instead of it.
    pub(super) fn keep_part(&self, id: EntryId, fill: &Fill, filled: Filling, bytes: Bytes) {
        let part = filled.part;
        if part.range.len() != bytes.len() as u64 {
            // The head lied (RFC 9110 section 15.3.7): whoever reads it now got it as it came, and nobody will again.
            return;
        }
        // Two parts of one response may be sealed at once, and neither may be lost.
        let _alone = self.combining(&id).lock();
        if !fill.is_current() {
            return;
        }
        let now = clock::now();
        let head = fill.head.of_whole(part.complete);
        // What lookups start from is taken by another variant when what the origin varies on changes.
        let stored = self.memory.get(&id, &fill.key).filter(|stored| stored.head.variance() == head.variance());
        let new = Side { headers: head.headers(), complete: part.complete, whole: false };
        let found = stored.as_ref().map(|stored| {
            let whole = matches!(stored.body, Body::Whole(_));
            combination(Side { headers: stored.head.headers(), complete: stored.body.complete(), whole }, new, now)
        });
        let hits = stored.as_ref().map_or(0, |stored| stored.hits());
        let (head, facts, body) = match (found, stored) {
            (Some(Combination::Neither), _) => return,
            (Some(Combination::Together), Some(stored)) => {
                let head = stored.head.combined(&head, part.complete, now);
                (Arc::new(head), fill.facts.clone(), stored.body.with(part.range.first, bytes))
            }
            (Some(Combination::Inside), Some(stored)) => {
                (stored.head.clone(), stored.facts.clone(), stored.body.with(part.range.first, bytes))
            }
            _ => (Arc::new(head), fill.facts.clone(), Parts::new(part.complete, part.range.first, bytes).into_body()),
        };
        // What took the place of another response was served by nobody yet.
        let hits = if found == Some(Combination::Instead) { 0 } else { hits };
        self.memory.insert(id, Arc::new(Entry::of(fill.key.clone(), head, body, facts).with_hits(hits)));
        // Looked at afterwards as well: whoever outdates it from now on also removes what is kept.
        if !fill.is_current() {
            self.memory.remove(&id);
        }
    }
}

#[cfg(test)]
#[path = "partial_tests.rs"]
mod tests;
