use super::*;
use crate::purge::index::Index;
use std::collections::HashMap;

fn at(bits: u64) -> Position {
    Position::from_bits(bits)
}

fn all(index: &Index) -> Vec<(Target, Times)> {
    index.iter().collect()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tmp")).unwrap();
    dir
}

/// A journal that was begun anew and then had three purges appended.
fn written(dir: &Path) -> Index {
    let mut index = Index::default();
    let old = Target::tag("old");
    index.add(old, Times::of(at(5), false));
    let mut journal = Journal::write(dir, &all(&index), at(7)).unwrap();
    for (position, tag, soft) in [(8, "a", false), (9, "b", true), (10, "a", true)] {
        let (target, times) = (Target::tag(tag), Times::of(at(position), soft));
        index.add(target, times);
        journal.append(&[target], times, at(position), index.len(), || all(&index)).unwrap();
    }
    index
}

fn indexed(found: &Recovered) -> HashMap<Target, Times> {
    let mut index = Index::default();
    for (target, times) in &found.marks {
        index.add(*target, *times);
    }
    index.iter().collect()
}

#[test]
fn what_was_appended_is_read_back() {
    let dir = folder();
    let index = written(dir.path());
    let found = Journal::read(dir.path()).unwrap().unwrap();
    assert!(!found.damaged && found.torn == 0);
    assert_eq!(found.latest, at(10));
    assert_eq!(indexed(&found), index.iter().collect());
}

#[test]
fn without_a_file_there_is_none() {
    assert!(Journal::read(folder().path()).unwrap().is_none());
}

#[test]
fn a_torn_end_costs_the_last_purge_and_no_other() {
    let dir = folder();
    written(dir.path());
    let path = dir.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    let last = 4 + 4 + 8 + MARK + 8;
    for cut in 1..last {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let found = Journal::read(dir.path()).unwrap().unwrap();
        assert!(!found.damaged, "{cut}");
        assert_eq!((found.latest, found.torn), (at(9), last - cut), "{cut}");
        assert_eq!(found.marks.len(), 3, "{cut}");
    }
    // Nor does what a power loss leaves of a file that had grown.
    let zeros = [&whole[..whole.len() - last], &[0; 4096]].concat();
    fs::write(&path, zeros).unwrap();
    assert!(!Journal::read(dir.path()).unwrap().unwrap().damaged);
}

#[test]
fn damage_before_a_sound_purge_is_noticed_whatever_byte_it_hits() {
    let dir = folder();
    written(dir.path());
    let path = dir.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    let last = 4 + 4 + 8 + MARK + 8;
    for damaged in 0..whole.len() - last {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        assert!(Journal::read(dir.path()).unwrap().unwrap().damaged, "byte {damaged}");
    }
}

#[test]
fn what_is_not_ours_is_damaged() {
    let dir = folder();
    for bytes in [&b""[..], b"garbage", b"tidegate purges 2\n", HEADER] {
        fs::write(dir.path().join(NAME), bytes).unwrap();
        assert!(Journal::read(dir.path()).unwrap().unwrap().damaged, "{bytes:?}");
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = fastrand::Rng::with_seed(3);
    let dir = folder();
    written(dir.path());
    let whole = fs::read(dir.path().join(NAME)).unwrap();
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..8) {
            let place = random.usize(0..bytes.len());
            bytes[place] = random.u8(..);
        }
        bytes.truncate(random.usize(0..=bytes.len()));
        recover(&bytes);
    }
}

#[test]
fn the_file_is_written_anew_before_it_is_mostly_superfluous() {
    let dir = folder();
    let mut index = Index::default();
    let mut journal = Journal::write(dir.path(), &all(&index), at(1)).unwrap();
    let targets: Vec<Target> = (0..1000).map(|n| Target::tag(&n.to_string())).collect();
    for round in 0..40 {
        let times = Times::of(at(10 + round), false);
        for target in &targets {
            index.add(*target, times);
        }
        journal.append(&targets, times, at(10 + round), index.len(), || all(&index)).unwrap();
    }
    let length = fs::metadata(dir.path().join(NAME)).unwrap().len() as usize;
    assert!(length < (2 * 1000 + SLACK + 1000) * MARK + 10_000, "{length}");
    let found = Journal::read(dir.path()).unwrap().unwrap();
    assert_eq!(indexed(&found), index.iter().collect());
    assert_eq!(found.latest, at(49));
}

#[test]
fn after_a_write_that_failed_the_next_one_writes_all_of_it() {
    let dir = folder();
    let mut index = written(dir.path());
    let mut journal = Journal::write(dir.path(), &all(&index), at(10)).unwrap();
    // A descriptor that cannot be written to stands for a disk that is full.
    journal.file = File::open(dir.path().join(NAME)).unwrap();
    for (position, tag) in [(11, "c"), (12, "d")] {
        let (target, times) = (Target::tag(tag), Times::of(at(position), false));
        index.add(target, times);
        let appended = journal.append(&[target], times, at(position), index.len(), || all(&index));
        assert_eq!(appended.is_ok(), position == 12);
    }
    let found = Journal::read(dir.path()).unwrap().unwrap();
    assert_eq!(indexed(&found), index.iter().collect());
}
