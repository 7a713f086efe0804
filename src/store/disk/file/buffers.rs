//! Buffers for large reads, used again and again.
//!
//! The system call that reads without waiting takes only memory that holds something, and to fill a quarter of a megabyte with
//! zeros first costs a fifth of what reading it does. A buffer that was used holds something already.

use super::read::MOST_AT_ONCE;
use bytes::Bytes;
use parking_lot::Mutex;

/// Length of each.
const LENGTH: usize = MOST_AT_ONCE as usize;

/// Most buffers that wait to be used: 8 MiB. Each is in use until its bytes are sent.
const WAITING: usize = 32;

static UNUSED: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer in use. It goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Empty only while it goes back.
    bytes: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    /// One that is not in use, or a new one.
    pub(super) fn take() -> Self {
        let unused = UNUSED.lock().pop();
        Buffer { bytes: unused.unwrap_or_else(|| vec![0; LENGTH].into()), filled: 0 }
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
        let mut unused = UNUSED.lock();
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
        let mut first = Buffer::take();
        first.space(10).fill(b'x');
        let first = first.filled(10);
        assert_eq!(&first[..], b"xxxxxxxxxx");
        let part = first.slice(2..4);
        drop(first);
        let mut second = Buffer::take();
        second.space(3).copy_from_slice(b"abc");
        assert_eq!((&second.filled(3)[..], &part[..]), (&b"abc"[..], &b"xx"[..]));
    }

    #[test]
    fn more_than_it_has_is_not_to_be_had() {
        let mut buffer = Buffer::take();
        assert_eq!(buffer.space(usize::MAX).len(), LENGTH);
        assert_eq!(buffer.filled(usize::MAX).len(), LENGTH);
    }
}
