//! Pieces of bodies that the system can send from their files.

use super::read::EntryFile;
use bytes::Bytes;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after a piece was read its file may be asked for it again. The system has what it read just now, and who sends
/// must not wait for the disk.
const AT_HAND: Duration = Duration::from_millis(100);

/// Whoever sends what is read, and may take it from the file that it was read from.
pub trait SendsFiles: Send + Sync {
    /// What will be handed out next.
    fn offer(&self, piece: FilePiece);
}

/// Bytes that were read from a file and checked, and where they are in it.
///
/// Files of entries are put into their places whole, and nothing is written over a body. So what the system has of it, as
/// long as it does not read it anew, is what was checked.
#[derive(Debug)]
pub struct FilePiece {
    bytes: Bytes,
    file: Arc<EntryFile>,
    start: u64,
    read: Instant,
}

impl FilePiece {
    /// What is shorter is copied at less cost.
    pub const SHORTEST: u64 = 32 * 1024;

    /// Whether it costs less to have so many bytes of a body from `start` on sent than to copy them. The system passes a file
    /// on by 64 KiB of whole pages: what would fit, but lies on a page more, would go in two steps.
    pub fn is_worth_sending(file: &EntryFile, start: u64, length: u64) -> bool {
        const STEP: u64 = 64 * 1024;
        const PAGE: u64 = 4096;
        let on_its_page = file.prefix().body_at.saturating_add(start) % PAGE;
        length >= FilePiece::SHORTEST && (length > STEP || on_its_page + length <= STEP)
    }

    /// Bytes of the body in a file from `start` on, which were read at that time.
    pub fn new(bytes: Bytes, file: Arc<EntryFile>, start: u64, read: Instant) -> Self {
        FilePiece { bytes, file, start, read }
    }

    /// Whether these bytes are some of it: the very ones, not equal ones.
    pub fn has(&self, bytes: &[u8]) -> bool {
        self.place_of(bytes).is_some() && self.read.elapsed() < AT_HAND
    }

    fn place_of(&self, bytes: &[u8]) -> Option<u64> {
        let before = bytes.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr())?;
        let is_inside = !bytes.is_empty() && before.checked_add(bytes.len())? <= self.bytes.len();
        is_inside.then_some(self.start + before as u64)
    }

    /// Has the system send bytes that are some of it; says how many went.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn send_to(&self, connection: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
        let start = self.place_of(bytes).ok_or(Errno::INVAL)?;
        self.file.send(connection, start, bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn piece_read(read: Instant) -> (Cache, FilePiece) {
        let cache = Cache::new();
        cache.put(&head("key", 100), &body(200_000));
        let file = cache.open().unwrap().file;
        let bytes = file.read_blocking(0, u64::MAX).unwrap().slice(1000..150_000);
        (cache, FilePiece::new(bytes, file, 1000, read))
    }

    #[test]
    fn it_has_its_own_bytes_and_no_equal_ones() {
        let (_cache, piece) = piece_read(Instant::now());
        let bytes = piece.bytes.clone();
        let copy = bytes.to_vec();
        let around = Bytes::from_owner(bytes.clone());
        assert!(piece.has(&bytes) && piece.has(&bytes[7..]) && piece.has(&bytes[..1]) && piece.has(&around[5..9]));
        assert!(!piece.has(&copy) && !piece.has(&[]));
        assert!(!piece_read(Instant::now()).1.has(&bytes));
    }

    #[test]
    fn what_fits_into_one_step_of_the_system_is_sent_in_one_or_not_at_all() {
        let (_cache, piece) = piece_read(Instant::now());
        // A long body begins with a page.
        let is_worth = |start, length| FilePiece::is_worth_sending(&piece.file, start, length);
        assert!(!is_worth(0, FilePiece::SHORTEST - 1) && is_worth(0, FilePiece::SHORTEST));
        assert!(is_worth(0, 65_536) && is_worth(8192, 65_536) && !is_worth(1, 65_536) && is_worth(1, 65_535));
        assert!(is_worth(1, 65_537));
    }

    #[test]
    fn bytes_that_were_read_a_while_ago_are_not_asked_of_the_file() {
        let (_cache, piece) = piece_read(Instant::now().checked_sub(2 * AT_HAND).unwrap());
        assert!(!piece.has(&piece.bytes));
    }

    #[test]
    fn what_the_system_sends_is_where_the_bytes_are() {
        use std::io::Read as _;
        let (_cache, piece) = piece_read(Instant::now());
        let (to, mut from) = std::os::unix::net::UnixStream::pair().unwrap();
        for (start, end) in [(0, 10), (5000, 9000), (148_000, 149_000)] {
            let bytes = &piece.bytes[start..end];
            let mut sent = vec![0; piece.send_to(&to, bytes).unwrap()];
            from.read_exact(&mut sent).unwrap();
            assert!(!sent.is_empty() && bytes.starts_with(&sent), "{start}..{end}");
        }
        assert_eq!(piece.send_to(&to, b"others"), Err(Errno::INVAL));
    }
}
