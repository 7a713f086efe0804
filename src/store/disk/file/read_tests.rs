use super::super::testing::*;
use super::*;

fn opened(length: u64) -> (Cache, Arc<EntryFile>) {
    let cache = Cache::new();
    cache.put(&head("key", 100), &body(length));
    let file = cache.open().unwrap().file;
    (cache, file)
}

#[test]
fn a_body_is_read_as_it_was_written() {
    for length in LENGTHS {
        let (_cache, file) = opened(length);
        assert_eq!(read_whole(&file).unwrap(), body(length), "{length} bytes");
    }
}

#[test]
fn a_range_begins_where_it_should_and_goes_no_further() {
    for length in LENGTHS {
        let (_cache, file) = opened(length);
        let whole = body(length);
        let rng = &mut fastrand::Rng::with_seed(length);
        for _ in 0..200 {
            let start = rng.u64(0..=length + 5);
            let end = start + rng.u64(0..=2 * PIECE);
            let bytes = file.read_blocking(start, end).unwrap();
            let wanted = whole.slice((start.min(length)) as usize..end.min(length) as usize);
            assert!(wanted.starts_with(&bytes), "{start}..{end} of {length}");
            assert_eq!(bytes.is_empty(), wanted.is_empty(), "{start}..{end} of {length}");
        }
    }
}

#[test]
fn no_more_than_a_few_pieces_are_read_at_once() {
    let (_cache, file) = opened(1024 * 1024 + 7);
    assert_eq!(file.read_blocking(0, u64::MAX).unwrap().len() as u64, MOST_AT_ONCE);
    assert_eq!(file.read_blocking(10, u64::MAX).unwrap().len() as u64, MOST_AT_ONCE - 10);
}

#[test]
fn a_range_that_ends_before_it_begins_is_empty() {
    let (_cache, file) = opened(100);
    for (start, end) in [(5, 5), (6, 5), (100, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
        assert!(file.read_blocking(start, end).unwrap().is_empty(), "{start}..{end}");
    }
}

#[test]
fn what_was_just_written_is_read_without_waiting_if_the_system_can() {
    let (cache, file) = opened(300_000);
    match file.read_now(70_000, 80_000) {
        ReadNow::Bytes(bytes) => assert_eq!(bytes, body(300_000).slice(70_000..80_000)),
        ReadNow::WouldBlock => assert!(cache.support().no_read.load(Ordering::Relaxed), "it is in memory"),
        ReadNow::Failed(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_read_that_brings_only_a_part_without_waiting_gives_whole_pieces() {
    let (_cache, file) = opened(8 * PIECE);
    for forgotten in [0, PIECE - 4096, PIECE, PIECE + 8192, 3 * PIECE] {
        // What was written at once is forgotten at once; what was read in is in smaller parts.
        forget_from(&file, 0);
        assert_eq!(read_whole(&file).unwrap(), body(8 * PIECE));
        forget_from(&file, file.prefix().body_at + forgotten);
        match file.read_now(100, u64::MAX) {
            ReadNow::Bytes(bytes) => {
                assert!((100 + bytes.len() as u64).is_multiple_of(PIECE) && !bytes.is_empty());
                assert!(body(8 * PIECE).slice(100..).starts_with(&bytes));
            }
            ReadNow::WouldBlock => {}
            ReadNow::Failed(failure) => panic!("{failure}"),
        }
    }
}

#[test]
fn what_the_system_does_not_know_is_not_tried_again() {
    let (cache, file) = opened(300_000);
    cache.support().no_read.store(true, Ordering::Relaxed);
    assert!(matches!(file.read_now(0, 10), ReadNow::WouldBlock));
}

#[test]
fn a_damaged_piece_is_refused_and_those_before_it_are_not() {
    let length = 5 * PIECE + 100;
    for damaged in 0..6 {
        let (cache, file) = opened(length);
        let at = file.prefix().body_at + damaged * PIECE + 50;
        cache.corrupt(|bytes| bytes[at as usize] ^= 1);
        for piece in 0..6 {
            let read = file.read_blocking(piece * PIECE + 7, u64::MAX);
            if piece == damaged {
                assert_eq!(damage(read), Damage::Checksum(Region::Piece(piece)));
            } else {
                let bytes = read.unwrap();
                assert!(body(length).slice((piece * PIECE + 7) as usize..).starts_with(&bytes), "piece {piece}");
                assert!(piece > damaged || piece * PIECE + 7 + bytes.len() as u64 <= damaged * PIECE);
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_off_while_it_is_open_gives_only_its_whole_pieces() {
    let (cache, file) = opened(3 * PIECE);
    let end = file.prefix().body_at + 2 * PIECE - 1;
    cache.corrupt(|bytes| bytes.truncate(end as usize));
    assert_eq!(file.read_blocking(5, u64::MAX).unwrap(), body(3 * PIECE).slice(5..PIECE as usize));
    assert_eq!(damage(file.read_blocking(PIECE, u64::MAX)), Damage::Truncated);
    assert!(matches!(file.read_now(PIECE, u64::MAX), ReadNow::WouldBlock), "only who waits can tell");
}

#[test]
fn nothing_is_read_of_what_was_replaced_by_noise() {
    let (cache, file) = opened(2 * PIECE);
    cache.corrupt(|bytes| bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1)));
    for start in [0, 1, PIECE, 2 * PIECE - 1] {
        assert!(file.read_blocking(start, u64::MAX).is_err());
        assert!(matches!(file.read_now(start, u64::MAX), ReadNow::Failed(_) | ReadNow::WouldBlock));
    }
}
