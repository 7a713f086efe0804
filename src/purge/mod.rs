//! Purging: a log of what was purged, and when, that entries are compared with. Nothing is searched for.
//!
//! An entry remembers the latest purge there was when the origin was asked for it ([`Subject::seen`]). A later purge that names
//! it makes it dead, or stale if it was a soft one. So a purge costs the same whatever the cache holds, and what was
//! under way when it came is found as well.
//!
//! * [`position`]: the order of purges
//! * [`resource`]: what entries are about, and URLs in the same spelling
//! * [`target`]: what a purge names
//! * [`index`]: every purge that may still matter
//! * [`journal`]: the same on disk, in [`frame`]s
//! * [`shared`]: the purges of all nodes, [`following`]: how they come to be in force here
//! * [`record`]: a purge as nodes tell it each other, [`outbox`]: what is still to be told
//! * [`order`]: a purge as the admin API takes it

pub mod following;
pub mod frame;
pub mod index;
pub mod journal;
pub mod order;
pub mod outbox;
pub mod position;
pub mod record;
pub mod resource;
pub mod shared;
pub mod target;

pub use following::{Received, Unwritten};
pub use index::Subject;
pub use position::Position;
pub use record::{Record, RecordId};
pub use resource::{Address, Resource};
pub use shared::{Shared, SharedLog};
pub use target::{Kind, Target};

use index::{Index, Times};
use journal::{Journal, Note, Snapshot};
use outbox::Outbox;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The latest purges, of which more is known than the index keeps: so many of them, with so many targets together.
const RECENT: usize = 1024;
const RECENT_TARGETS: usize = 100_000;

/// What an entry is after the purges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As if there were none.
    Good,
    /// Stale since then.
    StaleSince(Position),
    /// As if it were not stored.
    Dead,
}

/// A purge is in force, and may not be after a restart.
#[derive(Debug, thiserror::Error)]
pub enum NotDurable {
    /// The disk tier is configured, and its directory is not open.
    #[error("the directory of the disk tier is not open")]
    Closed,
    /// The file could not be written.
    #[error("the log of purges could not be written: {0}")]
    Io(#[from] io::Error),
}

/// Where purges are written down.
#[derive(Debug)]
enum Store {
    /// Nothing outlives the process that could be purged.
    NotNeeded,
    /// What is stored is not within reach.
    Closed,
    Open {
        journal: Journal,
        /// Nothing was stored there before this process.
        is_new: bool,
    },
}

#[derive(Debug)]
struct Recent {
    at: Position,
    times: Times,
    targets: Vec<Target>,
}

#[derive(Debug)]
struct History {
    recent: VecDeque<Recent>,
    /// What they name, together.
    targets: usize,
    /// The latest purge that is not among the recent ones.
    known_since: Position,
}

/// The log of purges. Records have an order of their own ([`Position`]); one that comes from elsewhere is added as of now, which
/// purges no less.
#[derive(Debug)]
pub struct Purges {
    latest: AtomicU64,
    index: RwLock<Index>,
    /// Held by whoever changes the index.
    history: Mutex<History>,
    /// Held while it is written, and before the others, which never are: no request waits for the disk.
    store: Mutex<Store>,
    opened: Condvar,
    shared: SharedLog,
    /// All of the log of all nodes was known once, and is in force. Changed by who holds `store`.
    is_settled: AtomicBool,
    /// What other nodes are to be told. Held for a moment, after `store`, and before what is shared.
    outbox: Mutex<Outbox>,
    /// Hard purges so far that name what only a search finds.
    to_search: AtomicU64,
    urls: AtomicU64,
}

impl Purges {
    /// An empty log. `outlives`: something is stored that outlives the process, and [`Purges::open`] will say where.
    pub fn new(now: SystemTime, outlives: bool) -> Self {
        let latest = Position::at(now);
        Purges {
            // What is stored from now on came after what another process has purged.
            latest: AtomicU64::new(latest.to_bits()),
            index: RwLock::default(),
            history: Mutex::new(History { recent: VecDeque::new(), targets: 0, known_since: latest }),
            store: Mutex::new(if outlives { Store::Closed } else { Store::NotNeeded }),
            opened: Condvar::new(),
            shared: SharedLog::default(),
            is_settled: AtomicBool::new(false),
            outbox: Mutex::default(),
            to_search: AtomicU64::new(0),
            urls: AtomicU64::new(0),
        }
    }

    /// The purges of all nodes.
    pub fn shared(&self) -> &SharedLog {
        &self.shared
    }

    /// The latest purge, for those who are about to ask the origin.
    pub fn latest(&self) -> Position {
        Position::from_bits(self.latest.load(Ordering::Acquire))
    }

    /// What an entry is by now.
    pub fn standing(&self, subject: &Subject<'_>) -> Standing {
        match subject.seen.cmp(&self.latest()) {
            std::cmp::Ordering::Less => self.index.read().standing(subject),
            std::cmp::Ordering::Equal => Standing::Good,
            // The log that it was compared with is lost.
            std::cmp::Ordering::Greater => Standing::Dead,
        }
    }

    /// Whether an entry was purged, in whichever way, by the time `until`. Where that cannot be known any more, it was.
    pub fn was_purged_until(&self, subject: &Subject<'_>, until: Position) -> bool {
        if self.standing(subject) == Standing::Good {
            return false;
        }
        let history = self.history.lock();
        if subject.seen < history.known_since {
            return true;
        }
        let mut meant = Index::default();
        for recent in history.recent.iter().filter(|recent| recent.at > subject.seen && recent.at <= until) {
            for target in &recent.targets {
                meant.add(*target, recent.times);
            }
        }
        meant.standing(subject) != Standing::Good
    }

    /// Purges these, and says which place in the order that has.
    ///
    /// # Errors
    /// It is in force in any case; [`NotDurable`] says why it may not be after a restart.
    pub fn purge(&self, targets: &[Target], soft: bool, now: SystemTime) -> (Position, Result<(), NotDurable>) {
        let (at, marks) = self.put_in_force([(targets, soft)], now);
        (at, self.write_down(Note { latest: at, marks: &marks, ..Note::default() }))
    }

    /// Puts purges in force, at one place in the order. What they came to is for [`Purges::write_down`].
    fn put_in_force<'a>(
        &self,
        purges: impl IntoIterator<Item = (&'a [Target], bool)>,
        now: SystemTime,
    ) -> (Position, Vec<(Target, Times)>) {
        // One after another, and before anything waits for the disk.
        let mut history = self.history.lock();
        let at = self.latest().next(now);
        let (mut marks, mut folded) = (Vec::new(), false);
        let mut index = self.index.write();
        for (targets, soft) in purges {
            let times = Times::of(at, soft);
            for target in targets {
                folded |= index.add(*target, times);
                marks.push((*target, times));
                if !soft {
                    let purged = if target.kind == Kind::Url { &self.urls } else { &self.to_search };
                    purged.fetch_add(1, Ordering::Release);
                }
            }
            history.remember(Recent { at, times, targets: targets.to_vec() });
        }
        drop(index);
        if folded {
            tracing::warn!(
                most = index::MOST,
                "there are too many purges to tell apart: the oldest now purge everything that was stored before them"
            );
        }
        self.latest.store(at.to_bits(), Ordering::Release);
        (at, marks)
    }

    fn write_down(&self, note: Note<'_>) -> Result<(), NotDurable> {
        let mut store = self.store.lock();
        let place = note.place.and_then(|place| self.outbox.lock().place_to_write(place));
        if note.place.is_some() && place.is_none() && note.weight() == 0 {
            // It is written with what it waits for.
            return Ok(());
        }
        self.write_to(&mut store, Note { place, ..note })
    }

    fn write_to(&self, store: &mut Store, note: Note<'_>) -> Result<(), NotDurable> {
        match store {
            Store::NotNeeded => Ok(()),
            Store::Closed => Err(NotDurable::Closed),
            Store::Open { journal, .. } => Ok(journal.append(note, self.matter(), || self.snapshot())?),
        }
    }

    /// Hard purges so far that name what only a search finds.
    pub fn to_search(&self) -> u64 {
        self.to_search.load(Ordering::Acquire)
    }

    /// Hard purges of URLs so far. What has the usual key is gone from the node that was asked; the rest is found by a search.
    pub fn urls(&self) -> u64 {
        self.urls.load(Ordering::Acquire)
    }

    /// Whether something else than URLs was purged hard, lately or before the process began.
    pub fn names_more_than_urls(&self) -> bool {
        self.index.read().iter().any(|(target, times)| target.kind != Kind::Url && times.hard > Position::BEGINNING)
    }

    /// Takes what was purged before from the directory of the disk tier, and writes down there what is purged from now on. Call
    /// it before anything is served from there. `is_new`: nothing was there before.
    ///
    /// # Errors
    /// The file cannot be read or written; nothing may be served from there then.
    pub fn open(&self, directory: &Path, is_new: bool, now: SystemTime) -> io::Result<()> {
        let mut store = self.store.lock();
        let found = Journal::read(directory)?;
        let lost = match &found {
            None => !is_new,
            Some(found) => found.damaged,
        };
        let found = found.unwrap_or_default();
        if found.torn > 0 && !lost {
            tracing::warn!(bytes = found.torn, "the end of the log of purges was torn by a crash, and is cut off");
        }
        // What follows is kept although writing it down may fail: the next try finds the same again.
        {
            let mut history = self.history.lock();
            let mut index = self.index.write();
            let mut latest = self.latest();
            if found.latest >= latest {
                // The clock went back. What was purged here came after what was purged there.
                latest = found.latest.next(now);
                let ours: Vec<_> = index.iter().collect();
                for (target, times) in ours {
                    let moved = |time: Position| if time > Position::BEGINNING { latest } else { time };
                    index.add(target, Times { hard: moved(times.hard), soft: moved(times.soft) });
                }
            }
            for (target, times) in found.marks {
                index.add(target, times);
            }
            if lost {
                let path = directory.display();
                tracing::error!(%path, "the log of purges is damaged or gone: everything that is stored there counts as purged");
                latest = latest.next(now);
                index.add(Target::ALL, Times::of(latest, false));
            }
            drop(index);
            // When what is found there was purged is not known in order.
            *history = History { recent: VecDeque::new(), targets: 0, known_since: latest };
            self.latest.store(latest.to_bits(), Ordering::Release);
        }
        self.wait_to_be_told(found.waiting);
        // Even with nothing to tell: entries of this process must not seem to be from a future that the next does not know.
        let note = Note { latest: self.latest(), place: found.place, ..Note::default() };
        let mut journal = Journal::write(directory, &self.snapshot(), note)?;
        if self.is_settled.load(Ordering::Acquire) {
            // What was purged elsewhere while this was out of reach.
            self.settle_in(&mut journal, is_new, now)?;
        }
        *store = Store::Open { journal, is_new };
        self.opened.notify_all();
        Ok(())
    }

    /// Waits until the directory is open, with everything in it that was purged before; says whether it is. A process that takes
    /// over gets the directory a moment after the requests.
    pub fn wait_until_open(&self, patience: Duration) -> bool {
        let mut store = self.store.lock();
        self.opened.wait_while_for(&mut store, |store| matches!(store, Store::Closed), patience);
        !matches!(*store, Store::Closed)
    }

    /// The directory is given back, or gone.
    pub fn close(&self) {
        let mut store = self.store.lock();
        if matches!(*store, Store::Open { .. }) {
            *store = Store::Closed;
        }
    }

    fn snapshot(&self) -> Snapshot {
        let waiting = self.outbox.lock().waiting().cloned().collect();
        Snapshot { marks: self.index.read().iter().collect(), waiting }
    }

    /// How much of a file would be enough.
    fn matter(&self) -> usize {
        let waiting = self.outbox.lock().waiting().map(|record| record.targets.len()).sum::<usize>();
        self.len() + waiting
    }

    /// Purges that are told apart.
    pub fn len(&self) -> usize {
        self.index.read().len()
    }

    /// Whether nothing was ever purged.
    pub fn is_empty(&self) -> bool {
        self.index.read().is_empty()
    }
}

impl History {
    fn remember(&mut self, purge: Recent) {
        self.targets += purge.targets.len();
        self.recent.push_back(purge);
        while self.recent.len() > RECENT || self.targets > RECENT_TARGETS {
            let Some(oldest) = self.recent.pop_front() else { return };
            self.targets -= oldest.targets.len();
            self.known_since = oldest.at;
        }
    }
}

#[cfg(test)]
#[path = "purges_tests.rs"]
mod tests;
