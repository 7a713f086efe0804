use super::*;
use crate::purge::frame::MARK;
use crate::purge::index::Index;
use crate::purge::position::Position;
use crate::purge::record::RecordId;
use std::collections::HashMap;

fn at(bits: u64) -> Position {
    Position::from_bits(bits)
}

/// Bytes of a frame without marks.
const FRAME: usize = 4 + 4 + 36 + 8;

fn all(index: &Index) -> Snapshot {
    Snapshot { marks: index.iter().collect(), waiting: Vec::new() }
}

fn write(dir: &Path, index: &Index, latest: u64) -> Journal {
    Journal::write(dir, &all(index), Note { latest: at(latest), ..Note::default() }).unwrap()
}

fn append(journal: &mut Journal, targets: &[Target], times: Times, latest: u64, index: &Index) -> io::Result<()> {
    let marks: Vec<_> = targets.iter().map(|target| (*target, times)).collect();
    let note = Note { latest: at(latest), marks: &marks, ..Note::default() };
    journal.append(note, index.len(), || all(index))
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
    let mut journal = write(dir, &index, 7);
    for (position, tag, soft) in [(8, "a", false), (9, "b", true), (10, "a", true)] {
        let (target, times) = (Target::tag(tag), Times::of(at(position), soft));
        index.add(target, times);
        append(&mut journal, &[target], times, position, &index).unwrap();
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
    let last = FRAME + MARK;
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
    let last = FRAME + MARK;
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
    for bytes in [&b""[..], b"garbage", b"tidegate purges 3\n", HEADER, FIRST_HEADER] {
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
    let mut journal = write(dir.path(), &index, 1);
    let targets: Vec<Target> = (0..1000).map(|n| Target::tag(&n.to_string())).collect();
    for round in 0..40 {
        let times = Times::of(at(10 + round), false);
        for target in &targets {
            index.add(*target, times);
        }
        append(&mut journal, &targets, times, 10 + round, &index).unwrap();
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
    let mut journal = write(dir.path(), &index, 10);
    // A descriptor that cannot be written to stands for a disk that is full.
    journal.file = File::open(dir.path().join(NAME)).unwrap();
    for (position, tag) in [(11, "c"), (12, "d")] {
        let (target, times) = (Target::tag(tag), Times::of(at(position), false));
        index.add(target, times);
        let appended = append(&mut journal, &[target], times, position, &index);
        assert_eq!(appended.is_ok(), position == 12);
    }
    let found = Journal::read(dir.path()).unwrap().unwrap();
    assert_eq!(indexed(&found), index.iter().collect());
}

/// What the version before wrote when the tags "old" and "a" were purged.
const FIRST_FILE: &[u8] = include_bytes!("testdata/purges.1");

/// The present layout: "old" purged at 5, "a" at 8, and "b" at 9, softly, which is to be told, with the place 3 of log 77.
const SECOND_FILE: &[u8] = include_bytes!("testdata/purges.2");

#[test]
fn files_of_the_first_version_are_read() {
    let found = recover(FIRST_FILE);
    assert!(!found.damaged && found.torn == 0);
    let purged = |id: &str| Times::of(Position::parse(id.as_bytes()).unwrap(), false);
    let told = [(Target::tag("old"), purged("1795275818294-0")), (Target::tag("a"), purged("1795275818310-0"))];
    assert_eq!((found.latest, found.place, found.waiting.len()), (told[1].1.hard, None, 0));
    assert_eq!(indexed(&found), told.into_iter().collect());
    for cut in FIRST_HEADER.len()..FIRST_FILE.len() {
        let found = recover(&FIRST_FILE[..cut]);
        assert!(found.damaged || found.marks.len() < 2, "{cut}");
    }
    let damaged: Vec<u8> = FIRST_FILE.iter().enumerate().map(|(n, byte)| byte ^ u8::from(n == 70)).collect();
    assert!(recover(&damaged).damaged);
}

#[test]
fn the_present_layout_stays_as_it_is() {
    let found = recover(SECOND_FILE);
    assert!(!found.damaged && found.torn == 0);
    assert_eq!((found.latest, found.place), (at(9), Some(Shared { epoch: 77, at: at(3) })));
    let told = [
        (Target::tag("old"), Times::of(at(5), false)),
        (Target::tag("a"), Times::of(at(8), false)),
        (Target::tag("b"), Times::of(at(9), true)),
    ];
    assert_eq!(indexed(&found), told.into_iter().collect());
    let waiting = Record { id: RecordId(0x0102), soft: true, targets: vec![Target::tag("b")] };
    assert_eq!(found.waiting, std::slice::from_ref(&waiting));
    let mut written = HEADER.to_vec();
    Note { latest: at(7), ..Note::default() }.write(&mut written);
    let marks = [(Target::tag("old"), Times::of(at(5), false))];
    Note { latest: at(7), marks: &marks, ..Note::default() }.write(&mut written);
    let marks = [(Target::tag("a"), Times::of(at(8), false))];
    Note { latest: at(8), marks: &marks, told: &[RecordId(3)], ..Note::default() }.write(&mut written);
    let marks = [(Target::tag("b"), Times::of(at(9), true))];
    let place = Some(Shared { epoch: 77, at: at(3) });
    Note { latest: at(9), place, marks: &marks, waiting: &[waiting], ..Note::default() }.write(&mut written);
    assert_eq!(written, SECOND_FILE);
}

#[test]
fn what_waits_is_kept_until_it_is_told_also_when_the_file_is_written_anew() {
    let dir = folder();
    let mut journal = write(dir.path(), &Index::default(), 1);
    let records = Record::of(&[Target::tag("a")], false);
    let place = Some(Shared { epoch: 7, at: at(4) });
    let note = Note { latest: at(2), place, waiting: &records, ..Note::default() };
    journal.append(note, 0, Snapshot::default).unwrap();
    let read = || Journal::read(dir.path()).unwrap().unwrap();
    assert_eq!((read().waiting, read().place), (records.clone(), place));
    journal.broken = true;
    let all = || Snapshot { marks: Vec::new(), waiting: records.clone() };
    journal.append(Note { latest: at(3), ..Note::default() }, 0, all).unwrap();
    assert_eq!((read().waiting, read().place, journal.place()), (records.clone(), place, place));
    journal.append(Note { latest: at(3), told: &[records[0].id], ..Note::default() }, 0, Snapshot::default).unwrap();
    assert_eq!(read().waiting, []);
}
