//! What happened to entries, as far as has to be known by those who look at one, wait, and then put it somewhere.
//!
//! Kept for groups of ids: that something happened to another id of the group costs a copy that is not made, and no more.

use super::entry::EntryId;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Groups: of a thousand changes a second, one in sixty falls into a group at a time.
const GROUPS: usize = 65_536;

/// An entry that has to make room in memory is out of there before it is said to. That takes far less than this.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A moment, in nanoseconds since the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(u64);

impl Moment {
    /// This one.
    pub fn now() -> Self {
        static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
        Moment(u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// How often something of a group was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgets(u64);

/// What happened to each group.
#[derive(Debug)]
pub struct Turns(Box<[Group]>);

#[derive(Debug, Default)]
struct Group {
    forgets: AtomicU64,
    changed: AtomicU64,
}

impl Default for Turns {
    fn default() -> Self {
        Turns((0..GROUPS).map(|_| Group::default()).collect())
    }
}

impl Turns {
    fn of(&self, id: &EntryId) -> &Group {
        let hash = id.primary ^ id.variant.unwrap_or(0).rotate_left(64);
        #[expect(clippy::indexing_slicing, reason = "there are so many")]
        &self.0[(hash >> 32) as usize % GROUPS]
    }

    /// An entry is about to be forgotten.
    pub fn forget(&self, id: &EntryId) {
        self.of(id).forgets.fetch_add(1, Ordering::SeqCst);
        self.keep(id);
    }

    /// An entry is about to be kept; says when.
    pub fn keep(&self, id: &EntryId) -> Moment {
        let now = Moment::now();
        self.of(id).changed.fetch_max(now.0, Ordering::SeqCst);
        now
    }

    /// When something of a group was kept or forgotten last.
    pub fn changed(&self, id: &EntryId) -> Moment {
        Moment(self.of(id).changed.load(Ordering::SeqCst))
    }

    /// To be taken before an entry is looked at, and compared once it is put somewhere.
    pub fn forgets(&self, id: &EntryId) -> Forgets {
        Forgets(self.of(id).forgets.load(Ordering::SeqCst))
    }

    /// Whether an entry that was kept at that moment may have been replaced or forgotten on its way out of memory.
    pub fn overtook(&self, id: &EntryId, kept: Moment) -> bool {
        let changed = self.of(id).changed.load(Ordering::SeqCst);
        changed > kept.0 && Moment::now().0.saturating_sub(changed) < ON_ITS_WAY.as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EntryId = EntryId { primary: 7 << 40, variant: None };
    const OTHER: EntryId = EntryId { primary: 8 << 40, variant: None };

    #[test]
    fn what_is_forgotten_after_a_look_shows() {
        let turns = Turns::default();
        let seen = turns.forgets(&ID);
        turns.keep(&ID);
        turns.forget(&OTHER);
        assert_eq!(turns.forgets(&ID), seen);
        turns.forget(&ID);
        assert_ne!(turns.forgets(&ID), seen);
    }

    #[test]
    fn an_entry_is_overtaken_by_what_comes_after_it_alone() {
        let turns = Turns::default();
        let kept = turns.keep(&ID);
        assert!(!turns.overtook(&ID, kept) && turns.changed(&ID) == kept);
        turns.forget(&OTHER);
        assert!(!turns.overtook(&ID, kept));
        turns.forget(&ID);
        assert!(turns.overtook(&ID, kept));
    }
}
