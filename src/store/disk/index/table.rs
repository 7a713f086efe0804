//! A hash table of small numbers, for keys that are kept elsewhere.
//!
//! Open addressing, with a part of the hash beside each number: a look-up waits for memory once before it knows where
//! its object is, and growing moves entries without looking at any object. With a million objects, waiting for memory
//! is all that a look-up costs.

/// Parts that grow one by one, so that no insertion waits until a table of millions was moved, and the old and the new
/// table are never both there as a whole.
const PARTS: usize = 256;

/// Entries of a part at first.
const FIRST: usize = 8;

/// Numbers by hash. What they stand for is compared by the caller.
#[derive(Debug)]
pub(super) struct Table {
    parts: Box<[Part]>,
}

/// Entries that moved on from their home to the next free place, at most three quarters of all places.
#[derive(Debug, Default)]
struct Part {
    /// The upper half is the tag, which is never 0, the lower one the value. 0 is a free place.
    entries: Vec<u64>,
    len: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Table { parts: (0..PARTS).map(|_| Part::default()).collect() }
    }

    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        Some(self.parts.get(part(hash))?.find(tag(hash), is_it)?.1)
    }

    /// Adds a value that is not there.
    pub(super) fn insert(&mut self, hash: u64, value: u32) {
        if let Some(part) = self.parts.get_mut(part(hash)) {
            part.insert(tag(hash), value);
        }
    }

    pub(super) fn remove(&mut self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let part = self.parts.get_mut(part(hash))?;
        let (at, value) = part.find(tag(hash), is_it)?;
        part.close(at);
        Some(value)
    }
}

impl Part {
    fn find(&self, tag: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        let mut at = home(tag, self.entries.len());
        loop {
            let entry = *self.entries.get(at)?;
            if entry == 0 {
                return None;
            }
            if entry >> 32 == tag {
                let value = entry as u32;
                if is_it(value) {
                    return Some((at, value));
                }
            }
            at = self.next(at);
        }
    }

    fn insert(&mut self, tag: u64, value: u32) {
        if self.len * 4 >= self.entries.len() * 3 {
            let places = FIRST.max(self.entries.len() * 3 / 2);
            let old = std::mem::replace(&mut self.entries, vec![0; places]);
            old.into_iter().filter(|entry| *entry != 0).for_each(|entry| self.put(entry));
        }
        self.put(tag << 32 | u64::from(value));
        self.len += 1;
    }

    fn put(&mut self, entry: u64) {
        let mut at = home(entry >> 32, self.entries.len());
        while let Some(place) = self.entries.get_mut(at) {
            if *place == 0 {
                *place = entry;
                return;
            }
            at = self.next(at);
        }
    }

    /// Takes the entry out, and moves those after it back that are not at home, so that none is behind a free place.
    fn close(&mut self, mut free: usize) {
        self.len -= 1;
        let places = self.entries.len();
        let mut at = self.next(free);
        while let Some(&entry) = self.entries.get(at).filter(|entry| **entry != 0) {
            let from_home = (at + places - home(entry >> 32, places)) % places;
            if from_home >= (at + places - free) % places {
                if let Some(place) = self.entries.get_mut(free) {
                    *place = entry;
                }
                free = at;
            }
            at = self.next(at);
        }
        if let Some(place) = self.entries.get_mut(free) {
            *place = 0;
        }
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 < self.entries.len() { at + 1 } else { 0 }
    }
}

/// Where an entry would be if nothing was in its way.
fn home(tag: u64, places: usize) -> usize {
    ((tag * places as u64) >> 32) as usize
}

fn tag(hash: u64) -> u64 {
    hash >> 32 | 1
}

/// By bits that are not in the tag.
fn part(hash: u64) -> usize {
    hash as usize % PARTS
}

#[cfg(test)]
mod tests {
    use super::Table;
    use std::collections::HashMap;

    /// A hash for which many meet: few parts, few homes, and tags that differ in little.
    fn crowded(key: u32) -> u64 {
        u64::from(key % 50) << 33 | u64::from(key % 2)
    }

    fn scattered(key: u32) -> u64 {
        u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn whatever_comes_and_goes_it_agrees_with_a_plain_map() {
        let mut rng = fastrand::Rng::with_seed(5);
        for hash in [crowded, scattered, |key| scattered(key) << 32, |key| u64::MAX << 32 | scattered(key)] {
            let (mut table, mut model) = (Table::new(), HashMap::new());
            for _ in 0..10_000 {
                let key = rng.u32(0..400);
                let is_it = |value: u32| value == u32::MAX - key;
                if rng.bool() {
                    assert_eq!(table.remove(hash(key), is_it), model.remove(&key));
                } else if model.insert(key, u32::MAX - key).is_none() {
                    table.insert(hash(key), u32::MAX - key);
                }
                let other = rng.u32(0..400);
                let found = table.find(hash(other), |value| value == u32::MAX - other);
                assert_eq!(found, model.get(&other).copied());
            }
        }
    }

    #[test]
    fn it_does_not_grow_when_as_many_go_as_come() {
        let mut table = Table::new();
        for key in 0..200_000_u32 {
            table.insert(scattered(key), key);
            if let Some(old) = key.checked_sub(10_000) {
                assert_eq!(table.remove(scattered(old), |value| value == old), Some(old));
            }
        }
        let places: usize = table.parts.iter().map(|part| part.entries.len()).sum();
        assert!(places < 3 * 10_000, "{places} places");
    }
}
