//! When Redis was asked last, by its own clock.
//!
//! What is fetched without a lease is stored under the moment of the last answer before the origin was asked: whatever Redis has
//! stored or forgotten since then is newer.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys of a cluster of which it is remembered. A fetch begins soon after its key was looked up.
const PLACES: usize = 1 << 13;

/// The moments of answers, in microseconds.
#[derive(Debug)]
pub(super) enum Moments {
    /// Of one server, which has one clock.
    One(AtomicU64),
    /// Of a cluster, by key: each of its servers has its own. In each place the latest key that fell there.
    Many(Box<[Mutex<(u128, u64)>]>),
}

impl Moments {
    pub(super) fn new(is_cluster: bool) -> Self {
        match is_cluster {
            false => Moments::One(AtomicU64::new(0)),
            true => Moments::Many((0..PLACES).map(|_| Mutex::default()).collect()),
        }
    }

    /// The server that has a key has answered. Answers that overtake each other do no harm: each is of the past.
    pub(super) fn note(&self, primary: u128, at: u64) {
        match self {
            Moments::One(last) => last.store(at, Ordering::Release),
            Moments::Many(places) => *place(places, primary).lock() = (primary, at),
        }
    }

    /// A moment before now at the server that has a key. 0: none is known.
    pub(super) fn last(&self, primary: u128) -> u64 {
        match self {
            Moments::One(last) => last.load(Ordering::Acquire),
            Moments::Many(places) => {
                let (whose, at) = *place(places, primary).lock();
                if whose == primary { at } else { 0 }
            }
        }
    }
}

fn place(places: &[Mutex<(u128, u64)>], primary: u128) -> &Mutex<(u128, u64)> {
    #[expect(clippy::indexing_slicing, reason = "there are so many")]
    &places[primary as usize % PLACES]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_clock_and_a_cluster_one_for_each_key() {
        let one = Moments::new(false);
        assert_eq!(one.last(1), 0);
        one.note(1, 5);
        assert_eq!((one.last(1), one.last(2)), (5, 5));
        let many = Moments::new(true);
        many.note(1, 5);
        many.note(2, 6);
        assert_eq!((many.last(1), many.last(2), many.last(3)), (5, 6, 0));
        let same_place = 1 + PLACES as u128;
        assert_eq!(many.last(same_place), 0);
        many.note(same_place, 7);
        assert_eq!((many.last(1), many.last(same_place)), (0, 7));
    }
}
