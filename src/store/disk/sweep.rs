//! What there is, looked at one by one behind the traffic.

use super::DiskTier;
use super::file::open::open_blocking;
use super::format::FileId;
use super::volume::Stamp;
use crate::decide::Facts;
use crate::key;
use crate::store::entry::EntryId;
use std::sync::Arc;

/// The entry that a file holds.
#[derive(Debug)]
pub struct Owner {
    /// Its id.
    pub id: EntryId,
    /// Tells whether it is still there. From before it was looked at.
    pub stamp: Stamp,
    /// Its full key.
    pub key: Box<[u8]>,
    /// What was decided about it.
    pub facts: Arc<Facts>,
}

impl DiskTier {
    /// Whether every file that there was at the start is known.
    pub fn is_known(&self) -> bool {
        self.volume.load().as_ref().is_some_and(|volume| volume.is_scanned())
    }

    /// The files are told in numbered portions; those that come or go meanwhile may be told or not. `None`: there are no more.
    pub fn portion(&self, number: usize) -> Option<Vec<FileId>> {
        self.volume.load().as_ref()?.portion(number)
    }

    /// Which entry a file holds. It may wait for the disk. `None` if there is none, or it cannot be
    /// read: whoever asks for it finds out, and deals with that.
    pub fn whose(&self, file: FileId) -> Option<Owner> {
        let volume = self.volume.load_full()?;
        let stamp = volume.stamp(file);
        if let Some(entry) = volume.at_hand(file) {
            let primary = key::hash_of(&entry.key);
            // One of the variants is in the slot that every lookup starts from.
            let slots =
                [None, entry.head.variance().map(u128::from_be_bytes)].map(|variant| EntryId { primary, variant });
            let id = slots.into_iter().find(|id| FileId::of(id) == file)?;
            return Some(Owner { id, stamp, key: entry.key.clone(), facts: entry.facts.clone() });
        }
        let opened = open_blocking(&volume.dir, file, None).ok()??;
        let id = EntryId { primary: key::hash_of(&opened.head.key), variant: opened.head.variant };
        let is_its_own = FileId::of(&id) == file;
        is_its_own.then(|| Owner { id, stamp, key: opened.head.key, facts: Arc::new(opened.head.facts) })
    }
}
