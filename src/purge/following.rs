//! How the purges of all nodes come to be in force here, and how those that were issued here come to all nodes.
//!
//! A purge from elsewhere is put in force as of now. What was asked for before it came is judged by that, whatever clocks say.
//! What is shared learns of it first: an entry that another node stored, and that is good by the shared log, is taken as seen now; it
//! must not be later than the purge that it does not know. What was purged here counts in the shared log from the moment on at which
//! it is in force here, whether Redis has taken it yet or not.

use super::index::Times;
use super::journal::{Journal, Note};
use super::record::{Record, RecordId};
use super::shared::Shared;
use super::target::Target;
use super::{NotDurable, Position, Purges, Store};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

/// A purge of the log that nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its place in the log.
    pub at: Position,
    /// What it is.
    pub record: Record,
}

/// A purge that is in force, and not written down yet.
#[derive(Debug)]
#[must_use = "it is to outlive the process"]
pub struct Unwritten {
    /// Its place in the order of this node.
    pub at: Position,
    ids: Vec<RecordId>,
    marks: Vec<(Target, Times)>,
}

impl Purges {
    /// Purges these here, and keeps the records until all nodes are told. The caller tells them now, and then has it written
    /// down: a disk that is stuck holds up nobody else.
    pub fn issue(&self, targets: &[Target], soft: bool, now: SystemTime) -> (Vec<Record>, Unwritten) {
        let records = Record::of(targets, soft);
        {
            // Together, so that what is awaited is what waits.
            let mut outbox = self.outbox.lock();
            // First of all: what another node has stored, and is taken as seen now, is judged by it already.
            records.iter().for_each(|record| self.shared.await_record(record));
            // Taken, so that it does not become something else.
            outbox.add(records.iter().cloned(), true);
            outbox.begin_writing();
        }
        let (at, marks) = self.put_in_force([(targets, soft)], now);
        let ids = records.iter().map(|record| record.id).collect();
        (records, Unwritten { at, ids, marks })
    }

    /// Writes down what was issued. May wait for the disk.
    ///
    /// # Errors
    /// As those of [`Purges::purge`].
    pub fn write_issued(&self, issued: Unwritten) -> Result<(), NotDurable> {
        let Unwritten { at, ids, marks } = issued;
        let mut store = self.store.lock();
        let (waiting, place) = self.outbox.lock().end_writing(&ids);
        self.write_to(&mut store, Note { latest: at, place, marks: &marks, waiting: &waiting, ..Note::default() })
    }

    /// Learns of the purges of a log that this process has stored nothing under. [`Purges::settle`] follows.
    pub fn learn(&self, received: &[Received]) {
        for Received { at, record } in received {
            self.shared.apply(*at, &record.targets, record.soft);
        }
        let mut outbox = self.outbox.lock();
        received.iter().for_each(|received| outbox.learn(&received.record, Instant::now()));
    }

    /// All of the log was read: what was found there is not awaited any more.
    pub fn has_read_all(&self) {
        let mut outbox = self.outbox.lock();
        if outbox.are_fewer() {
            self.shared.await_only(outbox.waiting());
        }
    }

    /// Puts in force what comes next in the log, and remembers how far it has come.
    ///
    /// # Errors
    /// It is in force in any case. After a restart it is read again.
    pub fn follow(&self, received: &[Received], now: SystemTime) -> Result<(), NotDurable> {
        for Received { at, record } in received {
            self.shared.apply(*at, &record.targets, record.soft);
        }
        let (mut told, mut news) = (Vec::new(), Vec::new());
        {
            let mut outbox = self.outbox.lock();
            for Received { record, .. } in received {
                let found = outbox.found(record, Instant::now());
                if found.waited {
                    told.push(record.id);
                }
                // What was issued here, or comes for the second time, is in force already: what was stored since is good.
                if found.is_new {
                    news.push((&*record.targets, record.soft));
                }
            }
        }
        let (latest, marks) = if news.is_empty() { (self.latest(), Vec::new()) } else { self.put_in_force(news, now) };
        let place = Some(self.shared.read_until());
        self.write_down(Note { latest, place, marks: &marks, told: &told, ..Note::default() })
    }

    /// Nobody can say what was purged before the place that the shared log has come to: everything was.
    ///
    /// # Errors
    /// As those of [`Purges::follow`].
    pub fn missed(&self, now: SystemTime) -> Result<(), NotDurable> {
        let (latest, marks) = self.put_in_force([(&[Target::ALL][..], false)], now);
        let place = Some(self.shared.read_until());
        self.write_down(Note { latest, place, marks: &marks, ..Note::default() })
    }

    /// Puts in force what was purged while this node was away, once all of the log is known. `is_late`: requests were served
    /// meanwhile, so that memory holds something as well.
    ///
    /// # Errors
    /// As those of [`Purges::follow`].
    pub fn settle(&self, is_late: bool, now: SystemTime) -> Result<(), NotDurable> {
        let mut store = self.store.lock();
        let written = match &mut *store {
            Store::Open { journal, is_new } => self.settle_in(journal, *is_new && !is_late, now),
            Store::NotNeeded | Store::Closed => {
                if is_late {
                    self.purge_since(None, now);
                }
                Ok(())
            }
        };
        self.outbox.lock().settle(Instant::now());
        // While the store is held: a directory that opens from now on is compared by whoever opens it.
        self.is_settled.store(true, Ordering::Release);
        Ok(written?)
    }

    /// The same for what is in the directory of a journal. `is_new`: that is nothing.
    pub(super) fn settle_in(&self, journal: &mut Journal, is_new: bool, now: SystemTime) -> io::Result<()> {
        let place = self.shared.read_until();
        if journal.place() == Some(place) {
            return Ok(());
        }
        let (latest, marks) = if is_new { (self.latest(), Vec::new()) } else { self.purge_since(journal.place(), now) };
        let place = self.outbox.lock().place_to_write(place);
        let note = Note { latest, place, marks: &marks, ..Note::default() };
        journal.append(note, self.matter(), || self.snapshot())
    }

    fn purge_since(&self, place: Option<Shared>, now: SystemTime) -> (Position, Vec<(Target, Times)>) {
        let Some(marks) = self.shared.since(place) else {
            tracing::warn!(
                "the log of purges does not reach back to when this node last read it: everything that is stored here counts as purged"
            );
            return self.put_in_force([(&[Target::ALL][..], false)], now);
        };
        let after = place.unwrap_or_default().at;
        let named = |soft: bool| {
            let is_meant = move |times: &Times| if soft { times.soft > after } else { times.hard > after };
            marks.iter().filter(move |(_, times)| is_meant(times)).map(|(target, _)| *target).collect::<Vec<_>>()
        };
        let (hard, soft) = (named(false), named(true));
        tracing::info!(hard = hard.len(), soft = soft.len(), "read what was purged while this node was away");
        let purges = [(&*hard, false), (&*soft, true)];
        self.put_in_force(purges.into_iter().filter(|(targets, _)| !targets.is_empty()), now)
    }

    /// Another log of all nodes has begun: what was told lately, by whomever, is told again, unless it is found there. Who purged it
    /// may have ended, and not all may have it.
    pub fn begin_again(&self) {
        let mut outbox = self.outbox.lock();
        if outbox.begin_again(Instant::now()) {
            told_too_little();
        }
        self.shared.await_only(outbox.waiting());
    }

    pub(super) fn wait_to_be_told(&self, records: Vec<Record>) {
        let mut outbox = self.outbox.lock();
        if outbox.add(records, false) {
            told_too_little();
        }
        self.shared.await_only(outbox.waiting());
    }

    /// Some of what is to be told, and nobody tells. The caller tells it.
    pub fn to_tell(&self, most: usize) -> Vec<Record> {
        self.outbox.lock().take(most)
    }

    /// These could not be told, as far as is known.
    pub fn not_told(&self, ids: &[RecordId]) {
        let mut outbox = self.outbox.lock();
        if outbox.give_back(ids) {
            told_too_little();
            self.shared.await_only(outbox.waiting());
        }
    }

    /// How many records wait to be told.
    pub fn untold(&self) -> usize {
        self.outbox.lock().len()
    }
}

fn told_too_little() {
    tracing::error!(
        most = super::outbox::MOST,
        "too much was purged here while Redis was away: other nodes will be told to purge everything"
    );
}

#[cfg(test)]
#[path = "following_tests.rs"]
mod tests;
