//! Which part of the requests the disk tier's index finds, against exact LRU, and what one operation costs it.
//!
//! Not by criterion: the first half is not about time. It fails if LRU is better by more than two
//! points where what is popular stays so.

use fastrand::Rng;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;
use tidegate::store::disk::index::s3fifo::{self, S3Fifo};
use tidegate::store::disk::index::{FILE_CHARGE, Index};

#[path = "../src/store/disk/index/traffic.rs"]
mod traffic;

use traffic::{Lru, Wanted, Zipf, lognormal_size, ratio, scanned, spread};

/// Objects that can be asked for.
const OBJECTS: usize = 1_000_000;

const REQUESTS: usize = 4_000_000;

fn main() -> ExitCode {
    let worst = ratios();
    costs();
    if worst >= -2.0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("LRU is better by {:.1} points", -worst);
    ExitCode::FAILURE
}

// === Hit ratios ===

/// The least of what we have more than LRU, in points.
fn ratios() -> f64 {
    println!("\nHits in percent of requests, and of bytes, for caches of a part of all objects' size");
    println!("{:44} {:>5} {:>8} {:>8} {:>7}   {:>8} {:>8}", "", "cache", "LRU", "S3-FIFO", "", "LRU", "S3-FIFO");
    let mut rng = Rng::with_seed(1);
    let mut worst = f64::MAX;
    for exponent in [0.7, 0.9, 1.1] {
        let zipf = Zipf::new(OBJECTS, exponent);
        let unit: Vec<Wanted> = (0..REQUESTS).map(|_| (zipf.draw(&mut rng), 1)).collect();
        worst = worst.min(compare(&format!("Zipf {exponent}"), OBJECTS as u64, &unit));
    }
    let zipf = Zipf::new(OBJECTS, 0.9);
    let scans = scanned(&zipf, 200_000, 100_000, REQUESTS, &mut rng);
    worst = worst.min(compare("Zipf 0.9, and scans of 100,000 each 200,000", OBJECTS as u64, &scans));
    let sizes: Vec<u64> = (0..OBJECTS as u64).map(lognormal_size).collect();
    let sized = |object: u64| (object, sizes[object as usize]);
    let mixed: Vec<Wanted> = (0..REQUESTS).map(|_| sized(zipf.draw(&mut rng))).collect();
    worst = worst.min(compare("Zipf 0.9, lognormal sizes", sizes.iter().sum(), &mixed));
    let drifting: Vec<Wanted> = (0..REQUESTS as u64).map(|n| (zipf.draw(&mut rng) + n / 20, 1)).collect();
    // What is asked for most is never asked for again a moment later. A main queue cannot know, and LRU does better.
    compare("Zipf 0.9, what is popular moves on", OBJECTS as u64, &drifting);
    // A tenth more than the largest cache, so that it fits into none.
    let round: Vec<Wanted> = (0..REQUESTS as u64).map(|n| (n % (OBJECTS as u64 * 11 / 200), 1)).collect();
    worst.min(compare("A loop over 5.5 % of the objects", OBJECTS as u64, &round))
}

fn compare(name: &str, footprint: u64, traffic: &[Wanted]) -> f64 {
    let mut worst = f64::MAX;
    for percent in [1, 5, 10] {
        let capacity = footprint * percent / 100;
        let (lru, ours) = (ratio(&mut Lru::new(capacity), traffic), ratio(&mut S3Fifo::new(capacity), traffic));
        let more = ours.hits - lru.hits;
        println!(
            "{name:44} {percent:>3} % {:>8.1} {:>8.1} {more:>+7.1}   {:>8.1} {:>8.1}",
            lru.hits, ours.hits, lru.bytes, ours.bytes
        );
        worst = worst.min(more);
    }
    worst
}

// === Costs ===

const FILES: u64 = 1_000_000;

const OPERATIONS: usize = 4_000_000;

/// Mean times with a million files, the ids drawn beforehand.
fn costs() {
    const BYTES: u64 = 16 << 10;
    println!("\nOne operation on an index of {FILES} files, mean of {OPERATIONS}");
    let mut rng = Rng::with_seed(2);
    let mut index = Index::new(FILES * (BYTES + FILE_CHARGE));
    timed("insert while it grows", FILES as usize, |n| index.insert(spread(n), BYTES, 0));
    let zipf = Zipf::new(FILES as usize, 0.9);
    let popular: Vec<u128> = (0..OPERATIONS).map(|_| spread(zipf.draw(&mut rng))).collect();
    let uniform: Vec<u128> = (0..OPERATIONS).map(|_| spread(rng.u64(..FILES))).collect();
    timed("touch, as popular as Zipf 0.9", OPERATIONS, |n| index.touch(popular[n as usize], n as u32 / 100_000));
    timed("touch, all as popular", OPERATIONS, |n| index.touch(uniform[n as usize], n as u32 / 100_000));
    timed("contains, of what is not there", OPERATIONS, |n| index.contains(spread(n + FILES)));
    let mut slowest = std::time::Duration::ZERO;
    timed("reserve, evict, release and insert", OPERATIONS, |n| {
        let start = Instant::now();
        if let Ok(room) = index.reserve(BYTES + FILE_CHARGE) {
            index.release(room.reserved);
            index.insert(spread(n + FILES), BYTES, 0);
        }
        slowest = slowest.max(start.elapsed());
    });
    println!("{:44} {:>9.1} µs", "of which the slowest", slowest.as_secs_f64() * 1e6);
}

fn timed<T>(name: &str, times: usize, mut operation: impl FnMut(u64) -> T) {
    let start = Instant::now();
    for n in 0..times as u64 {
        black_box(operation(n));
    }
    println!("{name:44} {:>9.1} ns", start.elapsed().as_secs_f64() * 1e9 / times as f64);
}
