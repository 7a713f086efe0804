//! Checksums of entry files: XXH3-64, which finds what a disk or a lost write tears, and is no proof against an attacker.

use super::PIECE;
use std::fmt;
use std::hash::Hasher as _;
use twox_hash::XxHash3_64;

/// The sum of some bytes.
pub fn sum_of(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// How many pieces a body has.
pub fn pieces(body_len: u64) -> u64 {
    body_len.div_ceil(PIECE)
}

/// Sums up a body that comes in slices of any size.
pub struct PieceSums {
    table: Vec<u8>,
    begun: XxHash3_64,
    /// Bytes of the piece that is begun.
    held: u64,
    first: u64,
}

impl Default for PieceSums {
    fn default() -> Self {
        PieceSums { table: Vec::new(), begun: XxHash3_64::new(), held: 0, first: 0 }
    }
}

impl fmt::Debug for PieceSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PieceSums").field("pieces", &(self.table.len() / 8)).field("held", &self.held).finish()
    }
}

impl PieceSums {
    /// Takes the next bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = usize::try_from(PIECE - self.held).unwrap_or(usize::MAX).min(bytes.len());
            let (taken, rest) = bytes.split_at(wanted);
            bytes = rest;
            if taken.len() as u64 == PIECE {
                // The whole piece at once is what the sum is fastest at.
                self.push(sum_of(taken));
                continue;
            }
            self.begun.write(taken);
            self.held += taken.len() as u64;
            if self.held == PIECE {
                self.end_piece();
            }
        }
    }

    /// The table, which is empty if there is at most one piece, and its sum, or that of the only piece.
    pub fn finish(mut self) -> (Vec<u8>, u64) {
        if self.held > 0 || self.table.is_empty() {
            self.end_piece();
        }
        match self.table.len() / size_of::<u64>() {
            1 => (Vec::new(), self.first),
            _ => {
                let sum = sum_of(&self.table);
                (self.table, sum)
            }
        }
    }

    fn end_piece(&mut self) {
        let sum = std::mem::take(&mut self.begun).finish();
        self.push(sum);
        self.held = 0;
    }

    fn push(&mut self, sum: u64) {
        if self.table.is_empty() {
            self.first = sum;
        }
        self.table.extend_from_slice(&sum.to_le_bytes());
    }
}

/// The sum of a piece, from a table.
pub fn sum_in(table: &[u8], piece: u64) -> Option<u64> {
    let at = usize::try_from(piece).ok()?.checked_mul(size_of::<u64>())?;
    let (sum, _) = table.get(at..)?.split_first_chunk()?;
    Some(u64::from_le_bytes(*sum))
}
