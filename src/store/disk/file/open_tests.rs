use super::super::super::format::FORMAT_VERSION;
use super::super::testing::*;
use super::*;
use std::fs;
use std::os::unix::fs::symlink;

const KEY: &str = "the key";

fn with_entry(length: u64) -> Cache {
    let cache = Cache::new();
    cache.put(&head(KEY, 300), &body(length));
    cache
}

/// Opens it in each way, for which the file must be of no use.
fn refused(cache: &Cache) -> Damage {
    let length = fs::metadata(cache.file()).unwrap().len();
    let refused = damage(cache.open());
    for hint in [None, Some(length), Some(0), Some(u64::MAX)] {
        assert_eq!(damage(open_blocking(cache, ID, hint)), refused, "hint {hint:?}");
        match open_now(cache, ID, hint) {
            Err(NotNow::WouldBlock) => {}
            Err(NotNow::Failed(ReadFailure::Damaged(damage))) => assert_eq!(damage, refused, "hint {hint:?}"),
            other => panic!("hint {hint:?}: {other:?}"),
        }
    }
    refused
}

#[test]
fn a_file_tells_its_head_and_the_length_of_its_body() {
    for length in LENGTHS {
        let opened = with_entry(length).open().unwrap();
        assert_eq!((&*opened.head.key, opened.file.body_len()), (KEY.as_bytes(), length));
        assert_eq!(opened.head.head.headers()["x-text"].len(), 300);
        assert_eq!(opened.file.id(), ID);
    }
}

#[test]
fn a_body_of_one_piece_comes_with_the_file() {
    for length in LENGTHS {
        let cache = with_entry(length);
        let file_len = fs::metadata(cache.file()).unwrap().len();
        for hint in [None, Some(0), Some(1000), Some(file_len - 1), Some(file_len), Some(file_len + 1), Some(u64::MAX)]
        {
            let opened = open_blocking(&cache, ID, hint).unwrap().unwrap();
            assert_eq!(opened.body, (length <= PIECE).then(|| body(length)), "{length} bytes, hint {hint:?}");
            assert_eq!(read_whole(&opened.file).unwrap(), body(length), "{length} bytes, hint {hint:?}");
        }
    }
}

#[test]
fn what_was_just_written_is_opened_without_waiting_if_the_system_can() {
    for length in LENGTHS {
        let cache = with_entry(length);
        let file_len = fs::metadata(cache.file()).unwrap().len();
        for hint in [None, Some(file_len)] {
            match open_now(&cache, ID, hint) {
                Ok(opened) => assert_eq!(opened.unwrap().body, (length <= PIECE).then(|| body(length))),
                Err(NotNow::WouldBlock) => {
                    let super::super::Support { no_open, no_read } = cache.support();
                    let known = !no_open.load(Ordering::Relaxed) && !no_read.load(Ordering::Relaxed);
                    assert!(!known, "{length} bytes are in memory");
                }
                Err(NotNow::Failed(failure)) => panic!("{failure}"),
            }
        }
    }
}

#[test]
fn what_is_not_in_memory_is_opened_as_it_is_or_not_at_all() {
    for length in LENGTHS {
        let cache = with_entry(length);
        for from in [0, 4096, 3 * PIECE] {
            let file = cache.open().unwrap().file;
            forget_from(&file, 0);
            assert_eq!(read_whole(&file).unwrap(), body(length));
            forget_from(&file, from);
            match open_now(&cache, ID, None) {
                Ok(opened) => assert_eq!(read_whole(&opened.unwrap().file).unwrap(), body(length)),
                Err(NotNow::WouldBlock) => {}
                Err(NotNow::Failed(failure)) => panic!("{failure}"),
            }
            let opened = cache.open().unwrap();
            assert_eq!(read_whole(&opened.file).unwrap(), body(length), "who waits gets it");
        }
    }
}

#[test]
fn what_the_system_does_not_know_is_not_tried_again() {
    let cache = with_entry(1);
    cache.support().no_open.store(true, Ordering::Relaxed);
    assert!(matches!(open_now(&cache, ID, None), Err(NotNow::WouldBlock)));
}

#[test]
fn a_file_that_is_not_there_is_none() {
    let cache = with_entry(1);
    for id in [FileId(0), FileId(ID.0 + 1)] {
        assert!(open_blocking(&cache, id, None).unwrap().is_none());
        assert!(matches!(open_now(&cache, id, None), Ok(None) | Err(NotNow::WouldBlock)));
    }
}

#[test]
fn a_flipped_byte_anywhere_never_changes_what_is_read() {
    for length in [0, 1, 3000, PIECE + 1] {
        let cache = with_entry(length);
        let whole = fs::read(cache.file()).unwrap();
        let telling = |at: &usize| *at < 700 || at.is_multiple_of(97) || *at + 20 > whole.len();
        for at in (0..whole.len()).filter(telling) {
            cache.corrupt(|bytes| bytes[at] ^= 0x10);
            if let Ok(opened) = cache.open() {
                let read = read_whole(&opened.file);
                assert!(length > PIECE, "the whole file is checked when it is opened: byte {at}");
                assert!(read.is_err() || read.unwrap() == body(length), "byte {at}");
                assert_eq!(&*opened.head.key, KEY.as_bytes());
            }
            cache.corrupt(|bytes| bytes[at] ^= 0x10);
        }
    }
}

#[test]
fn damage_says_where_it_is() {
    for (length, piece) in [(3000, Damage::Checksum(Region::Piece(0))), (3 * PIECE, Damage::Checksum(Region::Sums))] {
        let at = |cache: &Cache, at: u64| {
            cache.corrupt(|bytes| bytes[at as usize] ^= 1);
            refused(cache)
        };
        let prefix = *with_entry(length).open().unwrap().file.prefix();
        assert_eq!(at(&with_entry(length), 40), Damage::Checksum(Region::Prefix));
        assert_eq!(at(&with_entry(length), prefix.head_at + 5), Damage::Checksum(Region::Head));
        let last = prefix.end() - 1;
        assert_eq!(at(&with_entry(length), last), piece);
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    for length in [0, 3000, PIECE, PIECE + 1, 1024 * 1024 + 7] {
        let cache = with_entry(length);
        let whole = fs::read(cache.file()).unwrap();
        let rng = &mut fastrand::Rng::with_seed(length);
        let some = (0..60).map(|_| rng.usize(..whole.len()));
        for end in some.chain([0, 1, 7, 8, PREFIX_LEN - 1, PREFIX_LEN, 4095, whole.len() - 1]) {
            let end = end.min(whole.len() - 1);
            cache.corrupt(|bytes| bytes.truncate(end));
            assert_eq!(refused(&cache), Damage::Truncated, "{end} of {}", whole.len());
            cache.corrupt(|bytes| bytes.clone_from(&whole));
        }
    }
}

#[test]
fn bytes_after_the_end_mean_nothing() {
    for length in LENGTHS {
        let cache = with_entry(length);
        cache.corrupt(|bytes| bytes.extend([7; 5000]));
        assert_eq!(read_whole(&cache.open().unwrap().file).unwrap(), body(length));
    }
}

#[test]
fn a_file_of_something_else_is_foreign() {
    let cache = with_entry(100);
    cache.corrupt(|bytes| *bytes = b"#!/bin/sh\n".to_vec());
    assert_eq!(refused(&cache), Damage::Foreign);
    cache.corrupt(|bytes| *bytes = vec![0; 100_000]);
    assert_eq!(refused(&cache), Damage::Foreign);
}

#[test]
fn other_versions_are_refused() {
    for version in [0, FORMAT_VERSION + 1] {
        let cache = with_entry(100);
        cache.corrupt(|bytes| bytes[8..10].copy_from_slice(&version.to_le_bytes()));
        assert_eq!(refused(&cache), Damage::Version(version));
    }
}

#[test]
fn the_file_of_another_entry_is_refused() {
    let cache = with_entry(100);
    let other = FileId(ID.0 + 1);
    fs::copy(cache.file(), cache.path_of(other)).unwrap();
    assert_eq!(damage(open_blocking(&cache, other, None)), Damage::Key(ID.0));
}

#[test]
fn a_head_that_means_nothing_is_refused_although_it_is_as_it_was_written() {
    let cache = Cache::new();
    cache.put(b"no head", &body(10));
    assert!(matches!(refused(&cache), Damage::Head(_)));
}

#[test]
fn a_long_head_is_read_as_well() {
    for length in [0, 1000, PIECE, 3 * PIECE] {
        let cache = Cache::new();
        cache.put(&head(KEY, 50_000), &body(length));
        let opened = cache.open().unwrap();
        assert_eq!(opened.head.head.headers()["x-text"].len(), 50_000);
        assert_eq!(read_whole(&opened.file).unwrap(), body(length));
    }
}

#[test]
fn a_length_that_the_file_does_not_have_reserves_nothing() {
    let cache = with_entry(100);
    let head = head(KEY, 1);
    let huge = Prefix::streaming(ID, &head).with_body(1 << 60, &[0], 0);
    cache.corrupt(|bytes| *bytes = [&huge.encode()[..], &head].concat());
    assert_eq!(refused(&cache), Damage::Truncated);
}

#[test]
fn what_is_no_file_is_an_error_and_makes_nobody_wait() {
    let cache = with_entry(100);
    let path = cache.file();
    let kinds: [fn(&std::path::Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/etc/passwd", path).unwrap(),
        |path| rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RWXU).unwrap(),
    ];
    for (number, make) in kinds.into_iter().enumerate() {
        fs::remove_file(&path).unwrap();
        make(&path);
        let failure = cache.open().unwrap_err();
        assert!(failure.to_string().contains(path.to_str().unwrap()), "kind {number}: {failure}");
        assert!(open_now(&cache, ID, None).is_err(), "kind {number}");
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
            fs::write(&path, "").unwrap();
        }
    }
}
