use super::{Cause, FILE_CHARGE, Index, NoRoom, Room, Scanned, Victim, sort_scanned};
use std::collections::{HashMap, HashSet};

/// What a file of the tests counts.
const SIZE: u64 = 4096 + FILE_CHARGE;

/// An index with room for so many files of 4096 bytes, and files of these ids.
fn filled(files: u64, ids: std::ops::Range<u128>) -> Index {
    let mut index = Index::new(files * SIZE);
    ids.for_each(|id| index.insert(id, 4096, 0));
    index
}

fn ids(victims: &[Victim]) -> Vec<u128> {
    victims.iter().map(|victim| victim.id).collect()
}

fn scanned(ids: std::ops::Range<u128>) -> Vec<Scanned> {
    ids.map(|id| Scanned { written: id as u32, id, bytes: 4096 }).collect()
}

#[test]
fn room_is_made_from_what_is_worth_least() {
    let mut index = filled(10, 0..10);
    index.note_hits_above(0, 3, 0);
    let victims = index.make_room(2 * SIZE).unwrap();
    assert_eq!(ids(&victims), [1, 2]);
    assert!(victims.iter().all(|victim| victim.bytes == SIZE && victim.cause == Cause::Size));
    assert!(index.contains(0) && !index.contains(1));
    assert_eq!((index.used(), index.len()), (8 * SIZE, 8));
}

#[test]
fn what_is_larger_than_the_capacity_evicts_nothing() {
    let mut index = filled(10, 0..10);
    assert_eq!(index.make_room(10 * SIZE + 1), Err(NoRoom::TooLarge));
    assert_eq!(index.reserve(u64::MAX), Err(NoRoom::TooLarge));
    assert_eq!((index.len(), index.reserved()), (10, 0));
}

#[test]
fn what_is_reserved_by_others_is_not_given_twice() {
    let mut index = filled(10, 0..10);
    let room = index.reserve(7 * SIZE).unwrap();
    assert_eq!((room.victims.len(), room.reserved, index.reserved()), (7, 7 * SIZE, 7 * SIZE));
    assert_eq!(index.reserve(4 * SIZE), Err(NoRoom::Busy));
    assert_eq!(index.len(), 3);
    index.release(room.reserved);
    assert_eq!(index.reserve(4 * SIZE).unwrap().victims, []);
}

#[test]
fn what_a_large_victim_leaves_is_not_given_away_before_it_is_gone() {
    let mut index = Index::new(100_000);
    index.insert(1, 90_000, 0);
    let first = index.reserve(20_000).unwrap();
    assert_eq!((ids(&first.victims), first.reserved), (vec![1], 90_000 + FILE_CHARGE));
    assert_eq!(index.reserve(50_000), Err(NoRoom::Busy));
    index.release(first.reserved - 20_000);
    assert_eq!(index.reserve(50_000), Ok(Room { victims: vec![], reserved: 50_000 }));
}

#[test]
fn a_capacity_of_none_takes_nothing_and_lets_go_of_what_there_is() {
    let mut index = Index::new(0);
    assert_eq!(index.reserve(1), Err(NoRoom::TooLarge));
    index.insert(1, 10, 0);
    assert_eq!(ids(&index.make_room(0).unwrap()), [1]);
    assert!(index.is_empty());
}

#[test]
fn a_lowered_capacity_is_reached_at_once_even_while_more_is_reserved() {
    let mut index = filled(10, 0..8);
    let room = index.reserve(2 * SIZE).unwrap();
    index.set_capacity(5 * SIZE);
    assert_eq!(index.make_room(0).unwrap().len(), 5);
    index.set_capacity(SIZE);
    assert_eq!(index.make_room(0).unwrap().len(), 3);
    index.release(room.reserved);
    assert_eq!((index.used(), index.reserved()), (0, 0));
}

#[test]
fn a_full_file_system_takes_bytes_or_files_whatever_the_capacity() {
    let mut index = filled(1000, 0..10);
    let victims = index.shed(SIZE + 1, 0, Cause::Space);
    assert_eq!((ids(&victims), victims.iter().all(|victim| victim.cause == Cause::Space)), (vec![0, 1], true));
    assert_eq!(ids(&index.shed(0, 3, Cause::Inodes)), [2, 3, 4]);
    assert_eq!(index.shed(u64::MAX, 0, Cause::Space).len(), 5);
    assert_eq!(index.shed(1, 1, Cause::Space), []);
}

#[test]
fn causes_have_the_names_that_metrics_use() {
    assert_eq!([Cause::Size, Cause::Space, Cause::Inodes].map(Cause::as_str), ["size", "space", "inodes"]);
}

#[test]
fn hits_and_their_rate_are_told_with_each_hit() {
    let mut index = filled(10, 0..1);
    assert_eq!(index.touch(7, 0), None);
    let told: Vec<_> = (0..600).filter_map(|now| index.touch(0, now)).collect();
    assert_eq!(told.iter().map(|told| told.hits).collect::<Vec<_>>(), Vec::from_iter(1..=600));
    assert!((55.0..65.0).contains(&told[599].per_minute), "{:?}", told[599]);
    assert_eq!(index.popularity(0, 600).unwrap().hits, 600);
}

#[test]
fn hits_of_the_tier_above_count_as_hits() {
    let mut index = filled(10, 0..1);
    assert!(index.note_hits_above(0, 100, 600) && !index.note_hits_above(7, 100, 600));
    let popularity = index.touch(0, 600).unwrap();
    assert_eq!(popularity.hits, 101);
    assert!((9.0..11.0).contains(&popularity.per_minute), "{popularity:?}");
}

#[test]
fn a_file_that_is_written_again_keeps_its_popularity() {
    let mut index = filled(10, 0..2);
    index.touch(0, 0);
    index.insert(0, 100, 1);
    assert_eq!((index.popularity(0, 1).unwrap().hits, index.bytes(0)), (1, Some(100 + FILE_CHARGE)));
    assert!(index.replace(0, 8192) && !index.replace(7, 8192));
    assert_eq!((index.used(), index.len()), (8192 + 4096 + 2 * FILE_CHARGE, 2));
    assert_eq!((index.remove(0), index.remove(0)), (Some(8192 + FILE_CHARGE), None));
}

#[test]
fn sizes_that_cannot_be_do_no_harm() {
    let mut index = Index::new(u64::MAX);
    index.insert(1, u64::MAX, 0);
    index.insert(2, u64::MAX, 0);
    assert!(index.reserve(u64::MAX).is_ok());
    index.shed(u64::MAX, 2, Cause::Space);
    assert!(index.is_empty() && index.used() == 0);
}

#[test]
fn a_scan_adds_what_is_older_than_the_live_traffic() {
    let mut index = Index::new(100 * SIZE);
    index.begin_scan();
    index.insert(1000, 4096, 0);
    let mut files = scanned(0..50);
    fastrand::Rng::with_seed(1).shuffle(&mut files);
    sort_scanned(&mut files);
    for part in files.rchunks(7) {
        index.insert_scanned(part, 0);
    }
    index.end_scan();
    assert_eq!((index.len(), index.used()), (51, 51 * SIZE));
    index.set_capacity(0);
    let order = ids(&index.make_room(0).unwrap());
    // The youngest are on trial, and the others follow in the order of their age.
    let main: Vec<u128> = order.iter().copied().filter(|id| *id < 41).collect();
    assert_eq!(main, Vec::from_iter(0..41));
    assert_eq!(order.len(), 51);
}

#[test]
fn live_traffic_wins_over_the_scan() {
    let mut index = filled(100, 0..10);
    index.begin_scan();
    index.remove(0);
    index.remove(20);
    index.replace(5, 100);
    let evicted = ids(&index.shed(0, 1, Cause::Space));
    index.insert(30, 200, 0);
    index.touch(30, 0);
    index.insert_scanned(&scanned(0..40), 0);
    index.end_scan();
    assert!([0, 20].iter().chain(&evicted).all(|id| !index.contains(*id)));
    assert_eq!((index.bytes(5), index.bytes(30)), (Some(100 + FILE_CHARGE), Some(200 + FILE_CHARGE)));
    assert_eq!((index.popularity(30, 0).unwrap().hits, index.len()), (1, 40 - 3));
}

#[test]
fn a_scan_of_more_than_may_be_keeps_the_youngest() {
    let mut index = Index::new(10 * SIZE);
    index.begin_scan();
    index.insert_scanned(&scanned(0..100), 0);
    index.end_scan();
    let victims = index.make_room(0).unwrap();
    assert_eq!((victims.len(), index.used()), (90, 10 * SIZE));
    assert!((90..100).all(|id| index.contains(id)), "{victims:?}");
}

/// A writer between its reservation and its file.
struct Writer {
    id: u128,
    bytes: u64,
    reserved: u64,
    /// Files that it still has to remove.
    victims: Vec<u128>,
}

#[test]
fn the_disk_never_holds_more_than_the_capacity_whoever_is_slow() {
    let mut rng = fastrand::Rng::with_seed(11);
    let capacity = 1_000_000;
    let mut index = Index::new(capacity);
    // What is on the disk: files, and what writers wrote so far.
    let mut disk: HashMap<u128, u64> = HashMap::new();
    let mut writers: Vec<Writer> = Vec::new();
    let mut kept = 0;
    for next in 0..30_000_u128 {
        if rng.bool() && writers.len() < 8 {
            let bytes = if rng.u8(0..50) == 0 { rng.u64(0..600_000) } else { rng.u64(0..30_000) };
            if let Ok(room) = index.reserve(bytes + FILE_CHARGE) {
                writers.push(Writer { id: next, bytes, reserved: room.reserved, victims: ids(&room.victims) });
            }
        } else if !writers.is_empty() {
            let at = rng.usize(0..writers.len());
            let writer = &mut writers[at];
            if let Some(victim) = writer.victims.pop() {
                disk.remove(&victim).expect("a file that was there");
                if writer.victims.is_empty() && rng.bool() {
                    let spare = writer.reserved - writer.bytes - FILE_CHARGE;
                    index.release(spare);
                    writer.reserved -= spare;
                }
            } else if let std::collections::hash_map::Entry::Vacant(written) = disk.entry(writer.id) {
                // All at once, which is the most it can be before it is known.
                written.insert(writer.bytes + FILE_CHARGE);
            } else {
                let writer = writers.swap_remove(at);
                index.release(writer.reserved);
                index.insert(writer.id, writer.bytes, 0);
                kept += 1;
            }
        }
        let taken: u64 = disk.values().sum();
        assert!(taken <= capacity && index.used() + index.reserved() <= capacity, "{taken} on disk at step {next}");
    }
    let pending: HashSet<u128> = writers.iter().flat_map(|writer| writer.victims.iter().copied()).collect();
    let writing: HashSet<u128> = writers.iter().map(|writer| writer.id).collect();
    for id in disk.keys().filter(|id| !pending.contains(id) && !writing.contains(id)) {
        assert!(index.contains(*id), "{id} was forgotten");
    }
    assert!(kept > 1000, "{kept} files were kept");
}
