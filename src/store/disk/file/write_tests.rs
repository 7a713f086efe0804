use super::super::testing::*;
use super::*;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

fn writer(cache: &Cache) -> StreamWriter {
    StreamWriter::begin(cache, ID, &head("key", 50)).unwrap()
}

/// Cut into slices of any size.
fn slices(body: &Bytes) -> Vec<Bytes> {
    let rng = &mut fastrand::Rng::with_seed(body.len() as u64);
    let mut rest = body.clone();
    let mut slices = Vec::new();
    while !rest.is_empty() {
        slices.push(rest.split_to(rng.usize(0..=rest.len().min(90_000))));
    }
    slices
}

#[test]
fn a_body_that_comes_in_slices_is_the_same_entry() {
    for length in LENGTHS {
        let cache = Cache::new();
        let mut writer = writer(&cache);
        for some in slices(&body(length)).chunks(3) {
            writer.append(some).unwrap();
        }
        assert_eq!(writer.written(), length);
        writer.finish().unwrap().commit().unwrap();
        let opened = cache.open().unwrap();
        assert_eq!(opened.body, (length <= PIECE).then(|| body(length)));
        assert_eq!(read_whole(&opened.file).unwrap(), body(length), "{length} bytes");
    }
}

#[test]
fn more_slices_than_the_system_takes_at_once_are_written_too() {
    let cache = Cache::new();
    let mut writer = writer(&cache);
    let all: Vec<Bytes> = body(5000).chunks(1).map(Bytes::copy_from_slice).collect();
    writer.append(&all).unwrap();
    let file = writer.finish().unwrap().commit().unwrap();
    assert_eq!(read_whole(&file).unwrap(), body(5000));
}

#[test]
fn an_entry_is_not_there_before_it_is_committed() {
    let cache = Cache::new();
    let written = cache.write(&head("key", 1), &body(10));
    assert!(!cache.file().exists());
    assert_eq!(read_whole(written.file()).unwrap(), body(10), "but it can be read");
    written.commit().unwrap();
    assert!(cache.file().exists() && cache.temps().is_empty());
}

#[test]
fn an_entry_that_is_not_committed_leaves_nothing() {
    let cache = Cache::new();
    let written = cache.write(&head("key", 1), &body(PIECE));
    let file = written.file().clone();
    drop(written);
    assert!(cache.temps().is_empty() && !cache.file().exists());
    assert_eq!(read_whole(&file).unwrap(), body(PIECE), "who has it reads on");
}

#[test]
fn a_body_that_does_not_end_leaves_nothing() {
    let cache = Cache::new();
    let mut writer = writer(&cache);
    writer.append(&[body(100)]).unwrap();
    assert_eq!(cache.temps().len(), 1);
    drop(writer);
    assert!(cache.temps().is_empty() && !cache.file().exists());
}

#[test]
fn an_unfinished_file_is_no_entry() {
    let cache = Cache::new();
    let mut writer = writer(&cache);
    writer.append(&[body(100_000)]).unwrap();
    fs::create_dir_all(cache.file().parent().unwrap()).unwrap();
    fs::copy(&cache.temps()[0], cache.file()).unwrap();
    assert_eq!(damage(cache.open()), Damage::Foreign);
}

#[test]
fn a_new_entry_takes_the_place_of_the_old_one() {
    let cache = Cache::new();
    let old = cache.put(&head("key", 1), &body(200_000));
    cache.put(&head("key", 1), &body(10));
    assert_eq!(cache.open().unwrap().body.unwrap(), body(10));
    assert_eq!(read_whole(&old).unwrap(), body(200_000), "who has the old one reads on");
}

#[test]
fn followers_read_what_is_written_and_no_further() {
    let cache = Cache::new();
    let mut writer = writer(&cache);
    let reader = writer.reader();
    assert!(reader.read_at(0, 10).unwrap().is_empty());
    let whole = body(600_000);
    writer.append(&[whole.slice(..300_000)]).unwrap();
    assert_eq!(reader.read_at(299_990, 100).unwrap(), whole.slice(299_990..300_000));
    assert!(reader.read_at(300_000, 1).unwrap().is_empty() && reader.read_at(u64::MAX, 1).unwrap().is_empty());
    writer.append(&[whole.slice(300_000..)]).unwrap();
    assert_eq!(reader.read_at(0, u64::MAX).unwrap(), whole.slice(..MOST_AT_ONCE as usize));
    assert_eq!(reader.read_at(299_990, 100).unwrap(), whole.slice(299_990..300_090));
}

#[test]
fn followers_read_on_after_the_end_and_after_an_abort() {
    let cache = Cache::new();
    for finish in [true, false] {
        let mut writer = writer(&cache);
        writer.append(&[body(1000)]).unwrap();
        let reader = writer.reader();
        if finish {
            writer.finish().unwrap().commit().unwrap();
        } else {
            drop(writer);
        }
        assert_eq!(reader.read_at(0, 2000).unwrap(), body(1000));
    }
}

#[test]
fn followers_need_not_wait_for_what_is_in_memory_if_the_system_can() {
    let cache = Cache::new();
    let mut writer = writer(&cache);
    writer.append(&[body(1000)]).unwrap();
    match writer.reader().read_now(10, 20) {
        ReadNow::Bytes(bytes) => assert_eq!(bytes, body(1000).slice(10..30)),
        ReadNow::WouldBlock => assert!(cache.support().no_read.load(Ordering::Relaxed), "it is in memory"),
        ReadNow::Failed(failure) => panic!("{failure}"),
    }
}

#[test]
fn the_room_that_a_file_takes_is_what_the_system_says() {
    for length in LENGTHS {
        let cache = Cache::new();
        let written = cache.write(&head("key", 1), &body(length));
        let usage = written.usage();
        let file = written.commit().unwrap();
        let metadata = fs::metadata(cache.file()).unwrap();
        assert_eq!((usage.length, file.prefix().end()), (metadata.len(), metadata.len()));
        assert_eq!(file.usage().unwrap().allocated, metadata.blocks() * 512);
    }
}

#[test]
fn a_head_that_no_reader_would_believe_is_not_written() {
    let cache = Cache::new();
    let head = vec![0; MAX_HEAD as usize + 1];
    let errors = [
        write_entry(&cache, ID, &head, &Bytes::new()).map(drop).unwrap_err(),
        StreamWriter::begin(&cache, ID, &head).map(drop).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == io::ErrorKind::InvalidInput));
    assert!(cache.temps().is_empty());
}

#[test]
fn a_place_that_cannot_be_written_to_is_named() {
    let cache = Cache::new();
    let written = cache.write(&head("key", 1), &body(10));
    fs::create_dir_all(cache.file()).unwrap();
    let error = written.commit().unwrap_err();
    assert!(error.to_string().contains(cache.file().to_str().unwrap()), "{error}");
    assert!(cache.temps().is_empty(), "and what was written is gone");
}

#[test]
fn only_the_owner_may_read_what_is_stored() {
    let cache = Cache::new();
    cache.put(&head("key", 1), &body(10));
    assert_eq!(fs::metadata(cache.file()).unwrap().mode() & 0o077, 0);
    assert_eq!(fs::metadata(cache.file().parent().unwrap()).unwrap().mode() & 0o077, 0);
}
