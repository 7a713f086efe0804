//! What the disk tier knows of its files without looking at the disk: how large each is, how much it is asked for, and
//! which of them has to go.
//!
//! Data and nothing else: no file is touched here, no clock is read, no lock is taken. The tier holds one lock around an
//! [`Index`], and does what it was told to after it let go of it.
//!
//! * [`s3fifo`]: objects with weights, and the order of their eviction; for other caches too
//! * [`popularity`]: hits, and hits per minute
//!
//! # Room on the disk
//!
//! Bytes count before they are written and until they are gone, so that the files never take more than the capacity:
//!
//! 1. [`Index::reserve`] takes the room, and names the files to remove for it. They are gone from the index.
//! 2. The tier removes those files, and then writes its own.
//! 3. [`Index::release`] and [`Index::insert`], under one lock, put the file in the place of the reservation; `release`
//!    alone gives up.
//!
//! What is counted for a file is what `du` counts, in bytes, and [`FILE_CHARGE`] for its name in a directory. The
//! directories themselves, while they are empty, are for the tier to take off the capacity.

pub mod popularity;
pub mod s3fifo;

mod ghost;
mod slab;
mod table;

use popularity::{Counter, Popularity};
use s3fifo::S3Fifo;
use std::collections::HashSet;

/// Bytes that count for each file besides its blocks: its name in a directory. A name of 32 letters takes 40 to 56 bytes
/// on ext4 and XFS, and directories are about half full after their blocks were split.
pub const FILE_CHARGE: u64 = 128;

/// All files of the tier, by id.
#[derive(Debug)]
pub struct Index {
    files: S3Fifo<Counter>,
    reserved: u64,
    /// While a scan is under way, the files that went since it began: it may have seen them before.
    gone: Option<HashSet<u128>>,
}

/// Why files are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The tier takes as much as it may.
    Size,
    /// The file system has no space left, whatever the tier may take.
    Space,
    /// The file system takes no more files.
    Inodes,
}

impl Cause {
    /// As in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Size => "size",
            Cause::Space => "space",
            Cause::Inodes => "inodes",
        }
    }
}

/// A file that is out of the index and has to be removed from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Of the file.
    pub id: u128,
    /// What was counted for it, its charge included.
    pub bytes: u64,
    /// Why it goes.
    pub cause: Cause,
}

/// Room that was reserved.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the victims' files are out of the index, and the room is taken until it is released"]
pub struct Room {
    /// To be removed from the disk before anything is written.
    pub victims: Vec<Victim>,
    /// To be released later. As much as was asked for, or as the victims take if that is more. What is more may be
    /// released as soon as they are gone.
    pub reserved: u64,
}

/// There is no room, and nothing was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// It will never fit.
    #[error("larger than the capacity of the disk tier")]
    TooLarge,
    /// It will when others are done.
    #[error("what is being written takes the rest of the disk tier")]
    Busy,
}

/// A file that a scan of the directory found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// When it was written, in seconds. Only the order counts.
    pub written: u32,
    /// Of the file.
    pub id: u128,
    /// Allocated bytes.
    pub bytes: u64,
}

impl Index {
    /// No files yet. None are kept if the capacity, in bytes, is 0.
    pub fn new(capacity: u64) -> Self {
        Index { files: S3Fifo::new(capacity), reserved: 0, gone: None }
    }

    /// Counts a hit, at a time in seconds. A file that the index does not know has no popularity: the tier may have
    /// found it by its path before the scan did, and adds it then.
    pub fn touch(&mut self, id: u128, now: u32) -> Option<Popularity> {
        Some(self.files.touch(id)?.hit(now))
    }

    /// Counts the hits that a tier above served since the last one here, which it tells when it lets the entry go. Says
    /// whether the file is known.
    pub fn note_hits_above(&mut self, id: u128, hits: u32, now: u32) -> bool {
        self.files.credit(id, hits).map(|counter| counter.hits_since_last(hits, now)).is_some()
    }

    /// How much the file is asked for. Not a hit.
    pub fn popularity(&self, id: u128, now: u32) -> Option<Popularity> {
        Some(self.files.get(id)?.popularity(now))
    }

    /// Adds a file of so many allocated bytes. One that is known gets the new size and stays as popular as it is: it is
    /// the same resource. Room for it was reserved before, or [`Index::make_room`] follows.
    pub fn insert(&mut self, id: u128, bytes: u64, now: u32) {
        if !self.replace(id, bytes) {
            self.files.insert(id, charged(bytes), Counter::new(now));
        }
    }

    /// Changes the size of a file; says whether it is known.
    pub fn replace(&mut self, id: u128, bytes: u64) -> bool {
        self.files.set_weight(id, charged(bytes))
    }

    /// Forgets a file, which the tier removes; says how much was counted for it.
    pub fn remove(&mut self, id: u128) -> Option<u64> {
        if let Some(gone) = &mut self.gone {
            // Known or not: the scan may be about to tell of it.
            gone.insert(id);
        }
        Some(self.files.remove(id)?.weight)
    }

    /// Whether the file is known. Not a hit.
    pub fn contains(&self, id: u128) -> bool {
        self.files.contains(id)
    }

    /// A part of all files, in no order, for who goes through them: a few microseconds. `None`: there are no more.
    pub fn portion(&self, number: usize) -> Option<Vec<u128>> {
        self.files.portion(number)
    }

    /// What is counted for a file, its charge included.
    pub fn bytes(&self, id: u128) -> Option<u64> {
        self.files.weight(id)
    }

    /// Evicts until what is there, what is reserved and so many bytes more are within the capacity. The victims' files
    /// take room until they are removed, which nothing remembers: [`Index::reserve`] is for what will be written.
    ///
    /// # Errors
    ///
    /// There cannot be so much room, at all or now.
    pub fn make_room(&mut self, bytes: u64) -> Result<Vec<Victim>, NoRoom> {
        if bytes > self.capacity() {
            return Err(NoRoom::TooLarge);
        }
        let needed = self.reserved.saturating_add(bytes);
        // Nothing is asked for when the capacity was lowered; then as much goes as can.
        if needed > self.capacity() && bytes > 0 {
            return Err(NoRoom::Busy);
        }
        let mut victims = Vec::new();
        while self.used().saturating_add(needed) > self.capacity() {
            let Some(victim) = self.evict(Cause::Size) else { break };
            victims.push(victim);
        }
        Ok(victims)
    }

    /// Makes room for so many bytes and keeps it for the caller. May be asked for in steps, as a body comes. For a new
    /// file it includes its [`FILE_CHARGE`].
    ///
    /// # Errors
    ///
    /// There cannot be so much room, at all or now.
    pub fn reserve(&mut self, bytes: u64) -> Result<Room, NoRoom> {
        let victims = self.make_room(bytes)?;
        // Until their files are gone the disk holds them, and another one must not take their room for free.
        let held = victims.iter().fold(0, |sum: u64, victim| sum.saturating_add(victim.bytes));
        let reserved = bytes.max(held);
        self.reserved = self.reserved.saturating_add(reserved);
        Ok(Room { victims, reserved })
    }

    /// Gives reserved room back, all or a part.
    pub fn release(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_sub(bytes);
    }

    /// Evicts at least so many bytes and files, or all there are, because the file system is full before the tier is.
    pub fn shed(&mut self, bytes: u64, files: usize, cause: Cause) -> Vec<Victim> {
        let mut victims = Vec::new();
        let mut shed = 0_u64;
        while shed < bytes || victims.len() < files {
            let Some(victim) = self.evict(cause) else { break };
            shed = shed.saturating_add(victim.bytes);
            victims.push(victim);
        }
        victims
    }

    /// A scan of the directory begins. What goes from now on is not added when the scan tells of it.
    pub fn begin_scan(&mut self) {
        self.gone = Some(HashSet::new());
    }

    /// Adds files that the scan found, sorted, the oldest first; see [`sort_scanned`]. Long lists are handed over in
    /// parts, *the youngest part first* (`rchunks`), so that nobody waits long for the lock. They come to be older than all
    /// that is there, and what the requests of the meantime added or removed stays as it is. The capacity may be
    /// exceeded; [`Index::make_room`] follows.
    pub fn insert_scanned(&mut self, files: &[Scanned], now: u32) {
        for file in files.iter().rev() {
            if self.gone.as_ref().is_none_or(|gone| !gone.contains(&file.id)) {
                self.files.insert_oldest(file.id, charged(file.bytes), Counter::new(now));
            }
        }
    }

    /// The scan is over.
    pub fn end_scan(&mut self) {
        self.gone = None;
    }

    /// Bytes that all files take, their charges included, and what is reserved not.
    pub fn used(&self) -> u64 {
        self.files.used()
    }

    /// Bytes that are reserved.
    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// There are no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes that the files may take.
    pub fn capacity(&self) -> u64 {
        self.files.capacity()
    }

    /// Changes the capacity. [`Index::make_room`] of 0 bytes follows.
    pub fn set_capacity(&mut self, capacity: u64) {
        self.files.set_capacity(capacity);
    }

    fn evict(&mut self, cause: Cause) -> Option<Victim> {
        let evicted = self.files.evict_one()?;
        if let Some(gone) = &mut self.gone {
            gone.insert(evicted.id);
        }
        Some(Victim { id: evicted.id, bytes: evicted.weight, cause })
    }
}

/// Sorts what a scan found as [`Index::insert_scanned`] takes it. Without the lock: it takes a while.
pub fn sort_scanned(files: &mut [Scanned]) {
    files.sort_unstable_by_key(|file| file.written);
}

fn charged(bytes: u64) -> u64 {
    bytes.saturating_add(FILE_CHARGE)
}

#[cfg(test)]
mod traffic;

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "simulation_tests.rs"]
mod simulation;
