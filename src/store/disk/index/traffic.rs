//! Traffic to compare caches by, and the cache to compare with: exact LRU. For the tests, and for `benches/eviction.rs`.

use super::s3fifo::S3Fifo;
use std::collections::{HashMap, VecDeque};

/// What a request asks for: a number, and its size.
pub(super) type Wanted = (u64, u64);

/// Popularity after Zipf: the n-th most popular object is asked for as 1/n^s.
pub(super) struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    /// Of so many objects.
    pub(super) fn new(objects: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weigh = |n: usize| {
            sum += (n as f64).powf(-exponent);
            sum
        };
        Zipf { cumulated: (1..=objects).map(weigh).collect() }
    }

    /// The rank of an object, 0 for the most popular.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> u64 {
        let all = self.cumulated.last().copied().unwrap_or_default();
        let drawn = rng.f64() * all;
        self.cumulated.partition_point(|sum| *sum < drawn) as u64
    }
}

/// A size that belongs to the object: lognormal, 16 KiB in the middle, between 100 bytes and 64 MiB.
pub(super) fn lognormal_size(object: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(object.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    // Box-Muller.
    let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
    ((16_384.0_f64.ln() + 1.6 * normal).exp() as u64).clamp(100, 64 << 20)
}

/// Zipf, and now and then a scan of objects that nobody asks for again: so many after each so many requests.
pub(super) fn scanned(zipf: &Zipf, every: usize, scan: usize, requests: usize, rng: &mut fastrand::Rng) -> Vec<Wanted> {
    let mut fresh = 1 << 40;
    let mut all = Vec::with_capacity(requests);
    while all.len() < requests {
        all.extend((0..every).map(|_| (zipf.draw(rng), 1)));
        all.extend((fresh..).take(scan).map(|object| (object, 1)));
        fresh += scan as u64;
    }
    all
}

/// A cache that is asked for an object, and takes it if it did not have it.
pub(super) trait Contender {
    /// Whether it had it.
    fn ask(&mut self, wanted: Wanted) -> bool;
}

impl Contender for S3Fifo<()> {
    fn ask(&mut self, (object, size): Wanted) -> bool {
        let id = spread(object);
        if self.touch(id).is_some() {
            return true;
        }
        if size <= self.capacity() {
            while self.used() + size > self.capacity() && self.evict_one().is_some() {}
            self.insert(id, size, ());
        }
        false
    }
}

/// An id as a hash of a key would be.
pub(super) fn spread(object: u64) -> u128 {
    let low = (object ^ 0x5851_F42D_4C95_7F2D).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u128::from(low ^ low >> 29) << 64 | u128::from(low.rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

/// Least recently used, exactly.
pub(super) struct Lru {
    capacity: u64,
    used: u64,
    /// When it was used last, and its size.
    objects: HashMap<u64, (u64, u64)>,
    /// Uses, oldest first. Those that were not the last ones are passed over.
    uses: VecDeque<(u64, u64)>,
    time: u64,
}

impl Lru {
    /// Of a capacity in the unit of the sizes.
    pub(super) fn new(capacity: u64) -> Self {
        Lru { capacity, used: 0, objects: HashMap::new(), uses: VecDeque::new(), time: 0 }
    }

    fn evict_one(&mut self) -> bool {
        while let Some((time, object)) = self.uses.pop_front() {
            if self.objects.get(&object).is_some_and(|(last, _)| *last == time) {
                self.used -= self.objects.remove(&object).map_or(0, |(_, size)| size);
                return true;
            }
        }
        false
    }
}

impl Contender for Lru {
    fn ask(&mut self, (object, size): Wanted) -> bool {
        self.time += 1;
        self.uses.push_back((self.time, object));
        if let Some((last, _)) = self.objects.get_mut(&object) {
            *last = self.time;
            return true;
        }
        if size <= self.capacity {
            while self.used + size > self.capacity && self.evict_one() {}
            self.used += size;
            self.objects.insert(object, (self.time, size));
        }
        false
    }
}

/// Hits of requests, and of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    /// In percent.
    pub(super) hits: f64,
    /// In percent.
    pub(super) bytes: f64,
}

/// What a cache makes of traffic, without what fills it at first.
pub(super) fn ratio(cache: &mut impl Contender, traffic: &[Wanted]) -> Ratio {
    let (warming, counted) = traffic.split_at(traffic.len() / 4);
    warming.iter().for_each(|wanted| _ = cache.ask(*wanted));
    let (mut hits, mut hit_bytes, mut bytes) = (0, 0, 0);
    for wanted in counted {
        bytes += wanted.1;
        if cache.ask(*wanted) {
            hits += 1;
            hit_bytes += wanted.1;
        }
    }
    let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
    Ratio { hits: percent(hits, counted.len() as u64), bytes: percent(hit_bytes, bytes) }
}
