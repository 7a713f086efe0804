//! Buffers for large reads, used again and again.
//!
//! The system call that reads without waiting takes only memory that holds something, and to fill a quarter of a megabyte with
//! zeros first costs a fifth of what reading it does. A buffer that was used holds something already.
//!
//! What is read takes at least half of its buffer, so that slow clients do not hold much more than they are sent.

use super::read::MOST_AT_ONCE;
use bytes::Bytes;
use parking_lot::Mutex;

/// Their lengths. Each is twice the one before.
const LENGTHS: [usize; 3] = [LONGEST / 4, LONGEST / 2, LONGEST];

const LONGEST: usize = MOST_AT_ONCE as usize;

/// A shorter read has no use for one.
pub(super) const SHORTEST: usize = LENGTHS[0] / 2;

/// Most buffers of each length that wait to be used: 14 MiB in all. Each is in use until its bytes are sent.
const WAITING: usize = 32;

static UNUSED: [Mutex<Vec<Box<[u8]>>>; LENGTHS.len()] = [const { Mutex::new(Vec::new()) }; LENGTHS.len()];

/// The length of a buffer for so many bytes, and those of that length that wait.
fn kind(length: usize) -> (usize, &'static Mutex<Vec<Box<[u8]>>>) {
    let [short, middle, long] = &UNUSED;
    match length {
        _ if length <= LENGTHS[0] => (LENGTHS[0], short),
        _ if length <= LENGTHS[1] => (LENGTHS[1], middle),
        _ => (LENGTHS[2], long),
    }
}

/// A buffer in use. It goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Empty only while it goes back.
    bytes: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    /// One for so many bytes, or for the most there is room for: one that is not in use, or a new one.
    pub(super) fn take(length: usize) -> Self {
        let (length, unused) = kind(length);
        let unused = unused.lock().pop();
        Buffer { bytes: unused.unwrap_or_else(|| vec![0; length].into()), filled: 0 }
    }

    /// Its first bytes, as many as are to be read, and no more than it has.
    pub(super) fn space(&mut self, length: usize) -> &mut [u8] {
        let length = length.min(self.bytes.len());
        self.bytes.get_mut(..length).unwrap_or_default()
    }

    /// What was read, and nothing of what others read before.
    pub(super) fn filled(mut self, length: usize) -> Bytes {
        self.filled = length.min(self.bytes.len());
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut unused = kind(bytes.len()).1.lock();
        if unused.len() < WAITING {
            unused.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_can_be_seen_whoever_used_it_before() {
        let mut first = Buffer::take(10);
        first.space(10).fill(b'x');
        let first = first.filled(10);
        assert_eq!(&first[..], b"xxxxxxxxxx");
        let part = first.slice(2..4);
        drop(first);
        let mut second = Buffer::take(10);
        second.space(3).copy_from_slice(b"abc");
        assert_eq!((&second.filled(3)[..], &part[..]), (&b"abc"[..], &b"xx"[..]));
    }

    #[test]
    fn more_than_it_has_is_not_to_be_had() {
        let mut buffer = Buffer::take(usize::MAX);
        assert_eq!(buffer.space(usize::MAX).len(), LONGEST);
        assert_eq!(buffer.filled(usize::MAX).len(), LONGEST);
    }

    #[test]
    fn what_is_read_fits_and_takes_half_of_its_buffer_at_least() {
        for length in [SHORTEST, LENGTHS[0], LENGTHS[0] + 1, LENGTHS[1], LENGTHS[1] + 1, LONGEST] {
            // New ones, and ones that were used.
            for _ in 0..2 {
                let mut buffer = Buffer::take(length);
                assert_eq!(buffer.space(length).len(), length);
                assert!(buffer.filled(usize::MAX).len() <= 2 * length, "{length}");
            }
        }
    }
}
