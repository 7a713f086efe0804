//! Hit ratios against exact LRU, on traffic of a fixed seed.

use super::s3fifo::S3Fifo;
use super::traffic::{Lru, Ratio, Wanted, Zipf, lognormal_size, ratio, scanned};

const OBJECTS: usize = 10_000;
const REQUESTS: usize = 80_000;

/// Ours and LRU's.
fn compare(capacity: u64, traffic: &[Wanted]) -> (Ratio, Ratio) {
    (ratio(&mut S3Fifo::new(capacity), traffic), ratio(&mut Lru::new(capacity), traffic))
}

fn zipf(exponent: f64) -> Vec<Wanted> {
    let mut rng = fastrand::Rng::with_seed(42);
    let zipf = Zipf::new(OBJECTS, exponent);
    (0..REQUESTS).map(|_| (zipf.draw(&mut rng), 1)).collect()
}

#[test]
fn on_skewed_traffic_it_is_no_worse_than_lru() {
    for (exponent, part) in [(0.9, 100), (0.9, 10), (0.7, 100), (0.7, 10)] {
        let (ours, lru) = compare(OBJECTS as u64 / part, &zipf(exponent));
        assert!(ours.hits >= lru.hits - 2.0, "Zipf {exponent}, 1/{part}: {} against {}", ours.hits, lru.hits);
    }
}

#[test]
fn scans_cost_it_far_less_than_lru() {
    let mut rng = fastrand::Rng::with_seed(43);
    let traffic = scanned(&Zipf::new(OBJECTS, 0.9), 2000, 1000, REQUESTS, &mut rng);
    let (ours, lru) = compare(OBJECTS as u64 / 10, &traffic);
    assert!(ours.hits >= lru.hits + 5.0, "{} against {}", ours.hits, lru.hits);
}

#[test]
fn a_loop_that_does_not_fit_leaves_it_no_worse_than_lru() {
    let traffic: Vec<Wanted> = (0..REQUESTS as u64).map(|n| (n % 1100, 1)).collect();
    let (ours, lru) = compare(1000, &traffic);
    assert!(ours.hits >= lru.hits, "{} against {}", ours.hits, lru.hits);
}

#[test]
fn on_mixed_sizes_it_is_no_worse_than_lru() {
    let mut rng = fastrand::Rng::with_seed(44);
    let zipf = Zipf::new(OBJECTS, 0.9);
    let sizes: Vec<u64> = (0..OBJECTS as u64).map(lognormal_size).collect();
    let draw = |_| {
        let object = zipf.draw(&mut rng);
        (object, sizes[object as usize])
    };
    let traffic: Vec<Wanted> = (0..REQUESTS).map(draw).collect();
    for part in [50, 10] {
        let (ours, lru) = compare(sizes.iter().sum::<u64>() / part, &traffic);
        assert!(ours.hits >= lru.hits - 2.0, "1/{part}: {} against {}", ours.hits, lru.hits);
        assert!(ours.bytes >= lru.bytes - 2.0, "1/{part}: {} bytes against {}", ours.bytes, lru.bytes);
    }
}
