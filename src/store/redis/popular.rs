//! Which entries this node knows to be in Redis, and how often it found them there.
//!
//! Counted here, since a count in Redis would make each hit a write. The table is small and forgets: an entry whose place is taken
//! by another one begins anew, and is copied to a tier of this node a little later.

use crate::store::entry::EntryId;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries that are counted at once, at most.
const PLACES: usize = 1 << 15;

/// Counts of hits: in each place the upper half says whose, and the lower half how many.
#[derive(Debug)]
pub(super) struct Popular(Box<[AtomicU64]>);

impl Default for Popular {
    fn default() -> Self {
        Popular((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Popular {
    /// Counts a hit, and says how many there are.
    pub(super) fn hit(&self, id: &EntryId) -> u32 {
        let (place, whose) = self.place(id);
        let before = place.load(Ordering::Relaxed);
        let hits = if before >> 32 == whose { (before as u32).saturating_add(1) } else { 1 };
        // A hit that is counted at the same moment is lost, which matters to nobody.
        place.store(whose << 32 | u64::from(hits), Ordering::Relaxed);
        hits
    }

    /// It was stored.
    pub(super) fn note(&self, id: &EntryId) {
        let (place, whose) = self.place(id);
        if place.load(Ordering::Relaxed) >> 32 != whose {
            place.store(whose << 32, Ordering::Relaxed);
        }
    }

    /// It was forgotten.
    pub(super) fn forget(&self, id: &EntryId) {
        let (place, whose) = self.place(id);
        if place.load(Ordering::Relaxed) >> 32 == whose {
            place.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it was found or stored, and not forgotten since. Of what others have stored or forgotten nothing is known.
    pub(super) fn knows(&self, id: &EntryId) -> bool {
        let (place, whose) = self.place(id);
        let found = place.load(Ordering::Relaxed);
        found != 0 && found >> 32 == whose
    }

    fn place(&self, id: &EntryId) -> (&AtomicU64, u64) {
        let hash = id.primary ^ id.variant.unwrap_or(0).rotate_left(64);
        #[expect(clippy::indexing_slicing, reason = "there are so many")]
        let place = &self.0[hash as usize % PLACES];
        (place, (hash >> 96) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_of_one_entry_are_counted_and_another_one_begins_anew() {
        let popular = Popular::default();
        let id = |upper: u128| EntryId { primary: upper << 96 | 7, variant: None };
        assert_eq!([popular.hit(&id(1)), popular.hit(&id(1)), popular.hit(&id(1))], [1, 2, 3]);
        assert_eq!([popular.hit(&id(2)), popular.hit(&id(1))], [1, 1]);
        let variant = EntryId { variant: Some(3 << 32), ..id(1) };
        assert_eq!([popular.hit(&variant), popular.hit(&variant)], [1, 2]);
    }

    #[test]
    fn what_was_stored_or_found_is_known_until_it_is_forgotten() {
        let popular = Popular::default();
        let id = EntryId { primary: 5 << 96 | 7, variant: None };
        assert!(!popular.knows(&id));
        popular.note(&id);
        assert!(popular.knows(&id));
        assert_eq!(popular.hit(&id), 1);
        popular.note(&id);
        assert_eq!(popular.hit(&id), 2);
        popular.forget(&id);
        assert!(!popular.knows(&id));
        assert_eq!(popular.hit(&id), 1);
    }
}
