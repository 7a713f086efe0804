//! The purges of all nodes, in the order that they agreed on, for what nodes share.
//!
//! What is in memory or on disk here is compared with the purges as they came here. An entry in Redis may have been stored by any
//! node, with another clock and with another view of the log, so it is compared with the log itself.

use super::Standing;
use super::index::{Index, Subject, Times};
use super::position::Position;
use super::record::Record;
use super::target::Target;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A place in the log that nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Shared {
    /// Which log it is: another one begins when Redis has lost it. 0 is none.
    pub epoch: u64,
    /// The latest purge that had been applied.
    pub at: Position,
}

/// The log, as far as it is known here.
#[derive(Debug)]
pub struct SharedLog {
    known: RwLock<Known>,
    /// What [`SharedLog::latest`] says, without a lock: each request asks. The epoch is 0 until all of a log has been read.
    epoch: AtomicU64,
    at: AtomicU64,
    /// Until when what is known is good enough to judge entries by, in milliseconds since `began`.
    good_until: AtomicU64,
    began: Instant,
}

#[derive(Debug, Default)]
struct Known {
    latest: Shared,
    /// What came before is not known any more.
    from: Position,
    index: Index,
    /// What this node has purged, and the log does not say yet. All of one age, so that none can be folded; the outbox bounds it.
    pending: Index,
}

/// Later than whatever is in the log, so that what is pending is newer than all that is stored.
const PENDING: Position = Position::from_bits(u64::MAX);

impl Default for SharedLog {
    fn default() -> Self {
        SharedLog {
            known: RwLock::default(),
            epoch: AtomicU64::new(0),
            at: AtomicU64::new(0),
            good_until: AtomicU64::new(0),
            began: Instant::now(),
        }
    }
}

impl SharedLog {
    /// The latest place that is known here, for those who are about to ask the origin. Its epoch is 0 as long as the log is not known
    /// to its end: then nothing can be stored for other nodes, nor be taken from them.
    pub fn latest(&self) -> Shared {
        // In this order: what is asked for while another log begins must not seem to know more of it than it does.
        let epoch = self.epoch.load(Ordering::Acquire);
        Shared { epoch, at: Position::from_bits(self.at.load(Ordering::Acquire)) }
    }

    /// The latest place that was read, whether all of the log is known or not.
    pub fn read_until(&self) -> Shared {
        self.known.read().latest
    }

    /// Another log: what was stored under an earlier one cannot be compared with it. `from`: the latest purge that was taken out
    /// of it for want of room.
    pub fn begin(&self, epoch: u64, from: Position) {
        let mut known = self.known.write();
        self.epoch.store(0, Ordering::Release);
        self.at.store(from.to_bits(), Ordering::Release);
        let pending = std::mem::take(&mut known.pending);
        *known = Known { latest: Shared { epoch, at: from }, from, index: Index::default(), pending };
    }

    /// The next purge of the log.
    pub fn apply(&self, at: Position, targets: &[Target], soft: bool) {
        let mut known = self.known.write();
        let times = Times::of(at, soft);
        for target in targets {
            known.index.add(*target, times);
        }
        known.latest.at = known.latest.at.max(at);
        self.at.store(known.latest.at.to_bits(), Ordering::Release);
    }

    /// Purges that are not in the log yet count as its latest.
    pub fn await_record(&self, record: &Record) {
        known_to(&mut self.known.write().pending, record);
    }

    /// No others are awaited any more.
    pub fn await_only<'a>(&self, records: impl Iterator<Item = &'a Record>) {
        let mut pending = Index::default();
        records.for_each(|record| known_to(&mut pending, record));
        self.known.write().pending = pending;
    }

    /// This was the end of the log at the moment `when`, and it is known to there. What is known is good to judge by for so long after
    /// it: whoever purges something waits for a node that was heard of a longer time ago. Says nothing of any other log.
    pub fn is_complete(&self, end: Shared, when: Instant, good_for: Duration) {
        let known = self.known.read();
        if known.latest.epoch != end.epoch || known.latest.at < end.at {
            return;
        }
        self.epoch.store(known.latest.epoch, Ordering::Release);
        let until = when.saturating_duration_since(self.began).saturating_add(good_for);
        self.good_until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Whether enough is known now to say what an entry is that another node has stored. If not, none is to be taken, nor removed.
    pub fn can_judge(&self) -> bool {
        self.epoch.load(Ordering::Acquire) != 0
            && self.began.elapsed().as_millis() < u128::from(self.good_until.load(Ordering::Acquire))
    }

    /// What an entry is that was fetched when the log had come to `stored`. The subject's own position does not matter.
    pub fn standing(&self, subject: &Subject<'_>, stored: Shared) -> Standing {
        let known = self.known.read();
        if stored.epoch == 0 || stored.epoch != known.latest.epoch || stored.at < known.from {
            return Standing::Dead;
        }
        let subject = Subject { seen: stored.at, ..*subject };
        match (known.index.standing(&subject), known.pending.standing(&subject)) {
            (Standing::Dead, _) | (_, Standing::Dead) => Standing::Dead,
            (Standing::Good, pending) => pending,
            (stale, _) => stale,
        }
    }

    /// What was purged after a place; `None` if that is not known any more. Without a place, everything in the log.
    pub fn since(&self, place: Option<Shared>) -> Option<Vec<(Target, Times)>> {
        let known = self.known.read();
        let at = match place {
            Some(place) if place.epoch != known.latest.epoch => return None,
            Some(place) => place.at,
            None => Position::BEGINNING,
        };
        if at < known.from {
            return None;
        }
        Some(known.index.iter().filter(|(_, times)| times.hard > at || times.soft > at).collect())
    }
}

fn known_to(pending: &mut Index, record: &Record) {
    for target in &record.targets {
        pending.add_unbounded(*target, Times::of(PENDING, record.soft));
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
