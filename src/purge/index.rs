//! Every purge that may still matter, arranged so that an entry is compared with all of them by a few look-ups.
//!
//! Of all purges of one thing only the latest matter, and a purge of everything covers those before it. What is left is
//! bounded by [`MOST`]: beyond it, the oldest tenth is folded into a purge of everything at the time of the latest of
//! them. So old entries may be purged that nobody named; none that somebody named is ever forgotten.

use super::Standing;
use super::position::Position;
use super::resource::Resource;
use super::target::{Kind, Target, digest_of_bucket, digest_of_tag, digests_of, digests_of_prefix};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Most purges of things other than everything. Each takes about 64 bytes of memory and 37 of the file.
pub const MOST: usize = 110_000;

/// When the latest purges of one thing were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// The latest hard one.
    pub hard: Position,
    /// The latest soft one.
    pub soft: Position,
}

impl Times {
    /// Those of one purge.
    pub fn of(at: Position, soft: bool) -> Self {
        if soft { Times { soft: at, ..Times::default() } } else { Times { hard: at, ..Times::default() } }
    }

    fn latest(self) -> Position {
        self.hard.max(self.soft)
    }

    fn merge(&mut self, other: Times) {
        self.hard = self.hard.max(other.hard);
        self.soft = self.soft.max(other.soft);
    }

    /// Whether these add nothing to purges of everything at those times.
    fn is_covered_by(self, all: Times) -> bool {
        self.hard <= all.hard && self.soft <= all.latest()
    }
}

/// An entry, as far as purges go.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its bucket.
    pub bucket: &'a [u8],
    /// What it is about.
    pub resource: &'a Resource,
    /// Its tags.
    pub tags: &'a [String],
    /// The latest purge when the origin was asked for it.
    pub seen: Position,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    kind: Kind,
    length: u32,
    times: Times,
}

/// A digest is a hash already.
#[derive(Debug, Default)]
struct Digested(u64);

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64 ^ (digest >> 64) as u64;
    }
}

/// The purges.
#[derive(Debug, Default)]
pub struct Index {
    marks: HashMap<u128, Mark, BuildHasherDefault<Digested>>,
    all: Times,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<u32, usize>,
    urls: usize,
    tags: usize,
    buckets: usize,
}

impl Index {
    /// Adds a purge. `true`: there were too many, and the oldest were folded.
    pub fn add(&mut self, target: Target, times: Times) -> bool {
        self.add_unbounded(target, times);
        let folds = self.marks.len() > MOST;
        if folds {
            self.fold();
        }
        folds
    }

    /// The same without a bound, for what has one elsewhere.
    pub fn add_unbounded(&mut self, target: Target, times: Times) {
        if target.kind == Kind::All {
            self.all.merge(times);
            self.forget_covered();
            return;
        }
        if times.is_covered_by(self.all) {
            return;
        }
        let Target { kind, length, digest } = target;
        if let Some(mark) = self.marks.get_mut(&digest) {
            mark.times.merge(times);
            return;
        }
        self.marks.insert(digest, Mark { kind, length, times });
        *self.count(kind, length) += 1;
    }

    /// Purges of other things than everything.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether nothing was ever purged.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.all == Times::default()
    }

    /// Every purge that may still matter.
    pub fn iter(&self) -> impl Iterator<Item = (Target, Times)> {
        let marks = self.marks.iter();
        let marks =
            marks.map(|(digest, mark)| (Target { kind: mark.kind, length: mark.length, digest: *digest }, mark.times));
        let all = (self.all != Times::default()).then_some((Target::ALL, self.all));
        all.into_iter().chain(marks)
    }

    /// What an entry is after all of them.
    pub fn standing(&self, subject: &Subject<'_>) -> Standing {
        let Subject { bucket, resource, tags, seen } = *subject;
        let mut stale: Option<Position> = None;
        // `true`: it is dead, and the rest need not be asked.
        let mut meet = |times: Times| {
            if times.soft > seen {
                stale = Some(stale.map_or(times.soft, |before| before.min(times.soft)));
            }
            times.hard > seen
        };
        let of = |digest: u128| self.marks.get(&digest).map(|mark| mark.times).unwrap_or_default();
        let dead = meet(self.all)
            || (self.buckets > 0 && meet(of(digest_of_bucket(bucket))))
            || (self.urls > 0 && digests_of(resource).into_iter().any(|digest| meet(of(digest))))
            || (self.tags > 0 && tags.iter().any(|tag| meet(of(digest_of_tag(tag)))))
            || self
                .lengths
                .keys()
                .map_while(|length| digests_of_prefix(resource, *length))
                .flatten()
                .any(|digest| meet(of(digest)));
        match stale {
            _ if dead => Standing::Dead,
            Some(since) => Standing::StaleSince(since),
            None => Standing::Good,
        }
    }

    fn count(&mut self, kind: Kind, length: u32) -> &mut usize {
        match kind {
            Kind::Url => &mut self.urls,
            Kind::Tag => &mut self.tags,
            Kind::Bucket | Kind::All => &mut self.buckets,
            Kind::Prefix => self.lengths.entry(length).or_default(),
        }
    }

    /// Makes a purge of everything of the oldest tenth.
    fn fold(&mut self) {
        let mut ages: Vec<Position> = self.marks.values().map(|mark| mark.times.latest()).collect();
        let tenth = (ages.len() / 10).max(1) - 1;
        let (_, last, _) = ages.select_nth_unstable(tenth);
        let last = *last;
        let folded = self.marks.values().filter(|mark| mark.times.latest() <= last);
        let folded = folded.fold(Times::default(), |mut all, mark| {
            all.merge(mark.times);
            all
        });
        self.all.merge(folded);
        self.forget_covered();
    }

    fn forget_covered(&mut self) {
        let all = self.all;
        let mut gone = Vec::new();
        self.marks.retain(|_, mark| {
            let covered = mark.times.is_covered_by(all);
            if covered {
                gone.push((mark.kind, mark.length));
            }
            !covered
        });
        for (kind, length) in gone {
            *self.count(kind, length) -= 1;
        }
        self.lengths.retain(|_, prefixes| *prefixes > 0);
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
