//! What the index of the disk tier takes of memory for each file: a bound to plan by, also while its tables grow.
//!
//! Alone in its process, and with the allocator of the daemon, because it looks at the whole process: what the allocator
//! adds counts too.

use std::fs;
use tidegate::store::disk::index::{FILE_CHARGE, Index, Scanned, sort_scanned};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Just above where most parts of the tables grow, so that they are as empty as they can be.
const FILES: u64 = 1_000_000;

/// Bytes for each file, at the worst moment.
const MOST: u64 = 200;

const BYTES: u64 = 16 << 10;

#[test]
fn a_million_files_take_less_than_two_hundred_bytes_each() {
    let mut rng = fastrand::Rng::with_seed(3);
    let before = resident();
    let mut index = Index::new(FILES * (BYTES + FILE_CHARGE));

    // After a restart: what the scan found is there until it is in the index, and some of it was removed meanwhile.
    let mut files = Vec::new();
    index.begin_scan();
    for n in 0..FILES {
        let id = rng.u128(..);
        files.push(Scanned { written: rng.u32(..), id, bytes: BYTES });
        if n % 100 == 0 {
            index.remove(id);
        }
    }
    sort_scanned(&mut files);
    for part in files.rchunks(1000) {
        index.insert_scanned(part, 0);
    }
    index.end_scan();
    println!("after the scan of {}: {} bytes each at most", index.len(), (peak() - before) / FILES);
    drop(files);

    // In use: all that were evicted from the small queue are remembered.
    let mut latest = Vec::with_capacity(1000);
    for n in 0..FILES * 3 / 2 {
        let victims = index.make_room(BYTES + FILE_CHARGE).expect("room");
        assert!(victims.len() <= 1);
        let id = rng.u128(..);
        index.insert(id, BYTES, 0);
        if latest.len() < 1000 {
            latest.push(id);
        } else if n % 4 == 0 {
            index.note_hits_above(latest[rng.usize(..1000)], 2, 0);
        }
    }
    assert_eq!(index.len() as u64, FILES);
    let (now, peak) = (resident() - before, peak() - before);
    println!("in use: {} bytes each, {} at most", now / FILES, peak / FILES);
    assert!(peak / FILES <= MOST, "{} bytes for each file", peak / FILES);
}

/// Bytes of memory that the process has now.
fn resident() -> u64 {
    status("VmRSS:")
}

/// Bytes of memory that the process had at most.
fn peak() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells the size of a process");
    let line = status.lines().find(|line| line.starts_with(name)).expect("the line");
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kibibytes * 1024
}
