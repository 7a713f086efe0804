//! What of a fill is in memory: the last bytes that came, or all of them.

use super::FillLimits;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Consecutive pieces, counted in what all fills hold for as long as they are here.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Each with the position of its first byte.
    list: VecDeque<(u64, Bytes)>,
    /// Position of the first byte that is here; those before it were let go.
    start: u64,
    /// Position after the last byte that is here.
    end: u64,
    in_flight: Arc<AtomicU64>,
    max_in_flight: u64,
}

impl Pieces {
    pub(super) fn new(limits: &FillLimits) -> Self {
        let (in_flight, max_in_flight) = (limits.in_flight.clone(), limits.max_in_flight);
        Pieces { list: VecDeque::new(), start: 0, end: 0, in_flight, max_in_flight }
    }

    /// Position of the first byte that is here.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Position after the last byte that came.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether all fills together hold more than they may.
    pub(super) fn are_too_many(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > self.max_in_flight
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        let length = piece.len() as u64;
        self.list.push_back((self.end, piece));
        self.end += length;
        self.in_flight.fetch_add(length, Ordering::Relaxed);
    }

    /// Lets go of the pieces that end at the position or before it.
    pub(super) fn let_go_to(&mut self, position: u64) {
        while let Some((at, piece)) = self.list.front()
            && at + piece.len() as u64 <= position
        {
            let length = piece.len() as u64;
            self.list.pop_front();
            self.start += length;
            self.in_flight.fetch_sub(length, Ordering::Relaxed);
        }
    }

    /// The rest of the piece in which a byte is, and as many whole pieces after it as fit into `most` bytes.
    pub(super) fn at(&self, position: u64, most: usize) -> Option<Bytes> {
        let index = self.list.partition_point(|(at, piece)| at + piece.len() as u64 <= position);
        let (at, piece) = self.list.get(index)?;
        let from = usize::try_from(position.checked_sub(*at)?).ok()?;
        let first = piece.slice(from.min(piece.len())..);
        let mut length = first.len();
        let mut end = index + 1;
        while let Some((_, more)) = self.list.get(end).filter(|(_, more)| length + more.len() <= most) {
            length += more.len();
            end += 1;
        }
        if end == index + 1 {
            return Some(first);
        }
        // In one go: a buffer that grows leaves one of each size behind.
        let mut gathered = BytesMut::with_capacity(length);
        gathered.extend_from_slice(&first);
        self.list.range(index + 1..end).for_each(|(_, piece)| gathered.extend_from_slice(piece));
        Some(gathered.freeze())
    }

    /// What is here, piece by piece.
    pub(super) fn all(&self) -> Vec<Bytes> {
        self.list.iter().map(|(_, piece)| piece.clone()).collect()
    }

    /// What is here, in one piece. A piece may be a window into a larger buffer; a copy keeps just its own bytes alive.
    pub(super) fn joined(&self) -> Bytes {
        let mut joined = BytesMut::with_capacity(self.list.iter().map(|(_, piece)| piece.len()).sum());
        self.list.iter().for_each(|(_, piece)| joined.extend_from_slice(piece));
        joined.freeze()
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.end - self.start, Ordering::Relaxed);
    }
}
