use super::super::super::format::Damage;
use super::super::testing::*;
use super::*;
use std::fs;

const LARGE: u64 = 1024 * 1024 + 7;

fn text(cache: &Cache) -> usize {
    cache.open().unwrap().head.head.headers()["x-text"].len()
}

#[test]
fn a_renewed_file_has_the_new_head_and_the_old_body() {
    for length in LENGTHS {
        let cache = Cache::new();
        cache.put(&head("key", 10), &body(length));
        let old = cache.open().unwrap().file;
        let renewed = renew_head(&old, &head("key", 500)).unwrap().unwrap();
        assert_eq!(text(&cache), 500, "{length} bytes");
        for file in [&old, &renewed.file, &cache.open().unwrap().file] {
            assert_eq!(read_whole(file).unwrap(), body(length), "{length} bytes");
        }
        let metadata = fs::metadata(cache.file()).unwrap();
        assert_eq!(renewed.usage.length, metadata.len());
    }
}

#[test]
fn a_file_that_is_renewed_often_does_not_grow() {
    for length in [1000, LARGE] {
        let cache = Cache::new();
        let mut file = cache.put(&head("key", 10), &body(length));
        let first = file.usage().unwrap().length;
        let rng = &mut fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let long = rng.usize(0..8000);
            let renewed = renew_head(&file, &head("key", long)).unwrap().unwrap();
            assert_eq!(text(&cache), long);
            assert!(renewed.usage.length <= first + 64 * 1024, "{} bytes after {first}", renewed.usage.length);
            file = renewed.file;
        }
        assert_eq!(read_whole(&cache.open().unwrap().file).unwrap(), body(length));
        assert!(cache.temps().is_empty());
    }
}

#[test]
fn a_handle_that_does_not_know_the_last_renewal_destroys_nothing() {
    let cache = Cache::new();
    let old = cache.put(&head("key", 10), &body(LARGE));
    for long in [100, 200, 300] {
        renew_head(&old, &head("key", long)).unwrap().unwrap();
        assert_eq!(text(&cache), long);
    }
}

#[test]
fn a_crash_before_the_prefix_is_written_leaves_the_old_head() {
    let cache = Cache::new();
    let mut file = cache.put(&head("key", 10), &body(LARGE));
    for round in 0..4 {
        let new = head("key", 900 + round);
        let prefix = file.prefix().renewed(&new);
        let fd = open_to_write(&file).unwrap().unwrap();
        write_slot(&fd, &prefix, &new).unwrap();
        assert_eq!(text(&cache), 10 + round, "round {round}");
        assert_eq!(read_whole(&cache.open().unwrap().file).unwrap(), body(LARGE));
        file = renew_head(&file, &head("key", 11 + round)).unwrap().unwrap().file;
    }
}

#[test]
fn a_crash_while_the_head_is_written_leaves_the_old_head() {
    let cache = Cache::new();
    let file = cache.put(&head("key", 10), &body(LARGE));
    let file = renew_head(&file, &head("key", 20)).unwrap().unwrap().file;
    let new = head("key", 400);
    let prefix = file.prefix().renewed(&new);
    let fd = open_to_write(&file).unwrap().unwrap();
    for written in 0..new.len() {
        write_slot(&fd, &prefix, &new[..written]).unwrap();
        assert_eq!(text(&cache), 20, "{written} bytes");
    }
}

#[test]
fn a_file_that_was_replaced_or_removed_is_left_alone() {
    for length in [1000, LARGE] {
        let cache = Cache::new();
        let old = cache.put(&head("key", 10), &body(length));
        cache.put(&head("key", 77), &body(5));
        assert!(renew_head(&old, &head("key", 500)).unwrap().is_none());
        assert_eq!((text(&cache), cache.temps().len()), (77, 0));
        cache.remove(ID).unwrap();
        assert!(renew_head(&old, &head("key", 500)).unwrap().is_none());
        assert!(!cache.file().exists() && cache.temps().is_empty());
    }
}

#[test]
fn a_damaged_body_is_not_given_a_new_checksum() {
    let cache = Cache::new();
    let file = cache.put(&head("key", 10), &body(200_000));
    let at = file.prefix().body_at + 70_000;
    cache.corrupt(|bytes| bytes[at as usize] ^= 1);
    assert!(matches!(damage(renew_head(&file, &head("key", 20))), Damage::Checksum(_)));
    assert_eq!(text(&cache), 10);
}

#[test]
fn a_damaged_prefix_is_not_built_upon() {
    let cache = Cache::new();
    let file = cache.put(&head("key", 10), &body(LARGE));
    cache.corrupt(|bytes| bytes[50] ^= 1);
    assert!(matches!(damage(renew_head(&file, &head("key", 20))), Damage::Checksum(_)));
}

#[test]
fn readers_never_see_half_of_a_renewal() {
    let cache = Cache::new();
    let file = cache.put(&head("key", 0), &body(LARGE));
    std::thread::scope(|scope| {
        let renewing = scope.spawn(|| {
            for round in 0..300 {
                renew_head(&file, &head("key", round * 7 % 900)).unwrap().unwrap();
            }
        });
        while !renewing.is_finished() {
            assert_eq!(&*cache.open().unwrap().head.key, b"key");
        }
    });
    assert_eq!(read_whole(&cache.open().unwrap().file).unwrap(), body(LARGE));
}
