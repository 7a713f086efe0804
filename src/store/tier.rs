//! What every tier has: an answer to a lookup that tells "no" from "not now", and statistics that are really counted.

use super::disk::index::popularity::Popularity;
use super::entry::Entry;
use crate::policy::decision::TierName;
use crate::telemetry::{HistogramTimer, TierMetrics, WriteMetrics};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What a tier says about an entry.
#[derive(Debug)]
pub enum Lookup {
    /// Here it is.
    Hit(Found),
    /// It is not there.
    Miss,
    /// It may be there, and the tier cannot say: it fails, is too slow, or is not open yet.
    Unavailable,
}

impl Lookup {
    /// Found, without any of its body at hand.
    pub fn hit(entry: Arc<Entry>, popularity: Popularity) -> Self {
        Lookup::Hit(Found { entry, popularity, body: None })
    }
}

/// An entry that was found.
#[derive(Debug)]
pub struct Found {
    /// What is stored.
    pub entry: Arc<Entry>,
    /// How often it is asked for.
    pub popularity: Popularity,
    /// The beginning of the body, if that was read already: all of it, if it is short.
    pub body: Option<Bytes>,
}

/// How a tier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierState {
    /// Its capacity is 0, or it is not configured.
    Off,
    /// It works.
    Ok,
    /// It works, and does not know yet everything that is there.
    Scanning,
    /// What is there is served, and nothing is added.
    ReadOnly,
    /// It is left alone.
    Unavailable,
}

impl TierState {
    /// Whether lookups are answered.
    pub fn is_up(self) -> bool {
        match self {
            TierState::Ok | TierState::Scanning | TierState::ReadOnly => true,
            TierState::Off | TierState::Unavailable => false,
        }
    }

    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            TierState::Off => "off",
            TierState::Ok => "ok",
            TierState::Scanning => "scanning",
            TierState::ReadOnly => "read-only",
            TierState::Unavailable => "unavailable",
        }
    }
}

/// What a tier says about itself.
#[derive(Debug)]
pub struct TierStatus<'a> {
    /// Which one.
    pub name: TierName,
    /// How it is.
    pub state: TierState,
    /// Entries.
    pub items: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub capacity: u64,
    /// What happened in it.
    pub metrics: &'a TierMetrics,
}

impl TierMetrics {
    /// Times one lookup in sixteen, until the answer is dropped: in memory, to read the clock would cost as much as to look.
    pub fn time_now_and_then(&self) -> Option<HistogramTimer> {
        (fastrand::u8(..16) == 0).then(|| self.lookup_seconds.start_timer())
    }

    /// Counts a lookup that took so long.
    pub fn looked_up(&self, found: &Lookup, took: Duration) {
        match found {
            Lookup::Hit(_) => self.hit.inc(),
            Lookup::Miss => self.miss.inc(),
            Lookup::Unavailable => self.unavailable.inc(),
        }
        self.lookup_seconds.observe(took.as_secs_f64());
    }

    /// Entries that it let go, whatever the cause.
    pub fn evictions(&self) -> u64 {
        ["size", "space", "inodes", "expired"].iter().map(|cause| self.eviction(cause).get()).sum()
    }
}

impl WriteMetrics {
    /// Counts an entry that was to be written, and how long that took if it was tried.
    pub fn wrote(&self, result: WriteResult, took: Option<Duration>) {
        match result {
            WriteResult::Stored => self.stored.inc(),
            WriteResult::Dropped => self.dropped.inc(),
            WriteResult::Failed => self.failed.inc(),
            WriteResult::Outdated => self.outdated.inc(),
        }
        if let Some(took) = took {
            self.write_seconds.observe(took.as_secs_f64());
        }
    }
}

/// What became of an entry that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteResult {
    /// It is there.
    Stored,
    /// The tier could not keep up, or has no room for it.
    Dropped,
    /// The tier failed.
    Failed,
    /// Something newer came before it was written.
    Outdated,
}
