//! What was evicted lately: hashes alone, the oldest forgotten first.

use super::table::Table;
use std::collections::VecDeque;

/// Hashes that are allocated at once: a queue of millions that doubles would stop everybody while it is copied.
const CHUNK: usize = 1024;

/// A bounded queue of hashes that can be asked whether it has one. Two ids of one hash are taken for one, which costs a
/// better place in the queues and nothing else.
#[derive(Debug)]
pub(super) struct Ghost {
    hashes: Hashes,
    /// Numbers by hash.
    numbers: Table,
}

/// Oldest first. One that was taken out stays until its turn comes, and is no longer in the table.
#[derive(Debug, Default)]
struct Hashes {
    /// Each of [`CHUNK`], but for the last one.
    chunks: VecDeque<Vec<u64>>,
    /// How many of the first chunk are gone.
    gone: usize,
    len: usize,
    /// Number of the oldest; each next one has the next number.
    oldest: u32,
}

impl Ghost {
    pub(super) fn new() -> Self {
        Ghost { hashes: Hashes::default(), numbers: Table::new() }
    }

    /// Remembers a hash, and of all of them at most the `most` latest.
    pub(super) fn remember(&mut self, hash: u64, most: usize) {
        // Its number is the latest again.
        self.take(hash);
        while self.hashes.len >= most.clamp(1, u32::MAX as usize) {
            let Some((number, oldest)) = self.hashes.pop_oldest() else { break };
            self.numbers.remove(oldest, |other| other == number);
        }
        if most > 0 {
            let number = self.hashes.push(hash);
            self.numbers.insert(hash, number);
        }
    }

    /// Forgets a hash; says whether it was remembered.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        self.numbers.remove(hash, |number| self.hashes.get(number) == Some(hash)).is_some()
    }
}

impl Hashes {
    fn get(&self, number: u32) -> Option<u64> {
        let at = number.wrapping_sub(self.oldest) as usize + self.gone;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK).copied()
    }

    /// The number that the hash has now.
    fn push(&mut self, hash: u64) -> u32 {
        let number = self.oldest.wrapping_add(self.len as u32);
        match self.chunks.back_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(hash),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(hash);
                self.chunks.push_back(chunk);
            }
        }
        self.len += 1;
        number
    }

    /// The oldest, and its number.
    fn pop_oldest(&mut self) -> Option<(u32, u64)> {
        let (number, hash) = (self.oldest, self.get(self.oldest)?);
        self.oldest = number.wrapping_add(1);
        self.len = self.len.saturating_sub(1);
        self.gone += 1;
        if self.gone == CHUNK {
            self.gone = 0;
            self.chunks.pop_front();
        }
        Some((number, hash))
    }
}

#[cfg(test)]
mod tests {
    use super::{Ghost, Hashes};

    #[test]
    fn only_the_latest_are_remembered() {
        let mut ghost = Ghost::new();
        for hash in 0..100 {
            ghost.remember(hash, 10);
        }
        let remembered: Vec<u64> = (0..100).filter(|hash| ghost.take(*hash)).collect();
        assert_eq!(remembered, Vec::from_iter(90..100));
    }

    #[test]
    fn what_is_remembered_again_is_the_latest() {
        let mut ghost = Ghost::new();
        for hash in [1, 2, 3, 1, 4, 5] {
            ghost.remember(hash, 3);
        }
        assert_eq!([1, 2, 3, 4, 5].map(|hash| ghost.take(hash)), [true, false, false, true, true]);
    }

    #[test]
    fn what_was_taken_is_gone_and_can_come_back() {
        let mut ghost = Ghost::new();
        ghost.remember(7, 3);
        assert!(ghost.take(7) && !ghost.take(7));
        ghost.remember(7, 3);
        ghost.remember(8, 3);
        assert!(ghost.take(7));
    }

    #[test]
    fn it_shrinks_with_its_bound_and_holds_nothing_at_none() {
        let mut ghost = Ghost::new();
        (0..100).for_each(|hash| ghost.remember(hash, 100));
        ghost.remember(100, 5);
        assert_eq!((0..=100).filter(|hash| ghost.take(*hash)).count(), 5);
        ghost.remember(1, 0);
        assert!(!ghost.take(1));
    }

    #[test]
    fn its_numbers_may_wrap() {
        let mut ghost = Ghost { hashes: Hashes { oldest: u32::MAX - 5, ..Hashes::default() }, ..Ghost::new() };
        (0..9000).for_each(|hash| ghost.remember(hash, 3000));
        assert_eq!((0..9000).filter(|hash| ghost.take(*hash)).collect::<Vec<_>>(), Vec::from_iter(6000..9000));
    }
}
