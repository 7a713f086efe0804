//! Purges until they are in the log that nodes share, and for a while after that: Redis may lose them. And which of them are in force
//! here, so that what is told twice purges nothing twice.

use super::record::{Record, RecordId};
use super::shared::Shared;
use super::target::Target;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Things that purges name which wait to be told, and which nobody is telling. Beyond it they become a purge of everything.
pub const MOST: usize = 200_000;

/// Things that purges name which are kept after they were told, and one for each purge: less than the log holds, of which all nodes keep
/// the same.
const TOLD: usize = 100_000;

/// How long a purge that was told is kept, to be told again if Redis loses it.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// How long it is remembered that a purge is in force here: longer than it may be told again.
const KNOWN: Duration = Duration::from_secs(2 * 60 * 60);

/// Purges of which it is remembered that they are in force here: as many as the log holds, if each names one thing.
const IN_FORCE: usize = 125_000;

/// Purges that other nodes are told, or were.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Those that were issued here, or that another log has to be told again, in order.
    waiting: BTreeMap<u64, Waiting>,
    /// Where among them each is.
    places: HashMap<RecordId, u64>,
    next: u64,
    /// What those name, together, that nobody is telling.
    targets: usize,
    /// Those that were found in the log, whoever issued them.
    told: VecDeque<(Instant, Record)>,
    told_weight: usize,
    in_force: Lately,
    /// Those that are in force when all of the log is.
    learned: Vec<RecordId>,
    /// Some do not wait any more.
    fewer: bool,
    /// Purges that are in force and not written down yet.
    unwritten: usize,
    /// How far the log is written down, but for those.
    withheld: Option<Shared>,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    /// Somebody is telling it now.
    is_taken: bool,
    /// When it was told for the first time, to a log that is lost.
    told: Option<Instant>,
}

/// Names of the last two hours, up to a bound.
#[derive(Debug, Default)]
struct Lately {
    all: HashSet<RecordId>,
    order: VecDeque<(Instant, RecordId)>,
}

/// What a record is that was found in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// It waited to be told.
    pub waited: bool,
    /// It is not in force here yet.
    pub is_new: bool,
}

impl Lately {
    /// Says whether it is a new one.
    fn insert(&mut self, id: RecordId, now: Instant) -> bool {
        let is_new = self.all.insert(id);
        if is_new {
            self.order.push_back((now, id));
        }
        while let Some((when, oldest)) = self.order.front()
            && (self.order.len() > IN_FORCE || now.saturating_duration_since(*when) > KNOWN)
        {
            self.all.remove(oldest);
            self.order.pop_front();
        }
        is_new
    }
}

impl Outbox {
    /// Adds what is to be told, and is in force here. `taken`: the caller tells it. `true`: there was too much, and it became a purge of
    /// everything.
    pub fn add(&mut self, records: impl IntoIterator<Item = Record>, taken: bool) -> bool {
        let now = Instant::now();
        for record in records {
            self.in_force.insert(record.id, now);
            self.push(record, taken, None);
        }
        self.fold()
    }

    fn push(&mut self, record: Record, is_taken: bool, told: Option<Instant>) {
        if self.places.contains_key(&record.id) {
            return;
        }
        self.targets += if is_taken { 0 } else { record.targets.len() };
        self.places.insert(record.id, self.next);
        self.waiting.insert(self.next, Waiting { record, is_taken, told });
        self.next += 1;
    }

    fn fold(&mut self) -> bool {
        if self.targets <= MOST {
            return false;
        }
        let free = || self.waiting.values().filter(|waiting| !waiting.is_taken);
        let soft = free().all(|waiting| waiting.record.soft);
        let all = Record { id: RecordId::random(), soft, targets: vec![Target::ALL] };
        self.waiting.retain(|_, waiting| waiting.is_taken);
        self.places.retain(|_, place| self.waiting.contains_key(place));
        self.targets = 0;
        // For other nodes: what it stands for is in force here.
        self.in_force.insert(all.id, Instant::now());
        self.push(all, false, None);
        true
    }

    /// What nobody is telling, oldest first, up to so many records. The caller tells it.
    pub fn take(&mut self, most: usize) -> Vec<Record> {
        let free = self.waiting.values_mut().filter(|waiting| !waiting.is_taken).take(most);
        let taken: Vec<Record> = free
            .map(|waiting| {
                waiting.is_taken = true;
                waiting.record.clone()
            })
            .collect();
        self.targets -= taken.iter().map(|record| record.targets.len()).sum::<usize>();
        taken
    }

    /// These could not be told, as far as is known. `true` as for [`Outbox::add`].
    pub fn give_back(&mut self, ids: &[RecordId]) -> bool {
        for id in ids {
            let waiting = self.places.get(id).and_then(|place| self.waiting.get_mut(place));
            if let Some(waiting) = waiting.filter(|waiting| waiting.is_taken) {
                waiting.is_taken = false;
                self.targets += waiting.record.targets.len();
            }
        }
        self.fold()
    }

    /// It was found in the log, and is put in force now if it is new.
    pub fn found(&mut self, record: &Record, now: Instant) -> Found {
        let waited = self.is_told(record, now);
        Found { waited, is_new: self.in_force.insert(record.id, now) }
    }

    /// It was found in the log, and is in force once [`Outbox::settle`] is called.
    pub fn learn(&mut self, record: &Record, now: Instant) {
        self.is_told(record, now);
        self.learned.push(record.id);
    }

    /// What was learned is in force.
    pub fn settle(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.learned) {
            self.in_force.insert(id, now);
        }
    }

    /// Says whether it was one of those that wait.
    fn is_told(&mut self, record: &Record, now: Instant) -> bool {
        let place = self.places.remove(&record.id);
        let waiting = place.and_then(|place| self.waiting.remove(&place));
        if let Some(waiting) = &waiting {
            self.fewer = true;
            self.targets -= if waiting.is_taken { 0 } else { record.targets.len() };
        } else if self.in_force.all.contains(&record.id) {
            // Told twice, and kept already.
            return false;
        }
        self.told_weight += record.targets.len() + 1;
        let first = waiting.as_ref().and_then(|waiting| waiting.told).unwrap_or(now);
        self.told.push_back((first, record.clone()));
        while let Some((when, oldest)) = self.told.front()
            && (self.told_weight > TOLD || now.saturating_duration_since(*when) > KEPT)
        {
            self.told_weight -= oldest.targets.len() + 1;
            self.told.pop_front();
        }
        waiting.is_some()
    }

    /// Another log has begun, in which may be nothing of what was told lately. `true` as for [`Outbox::add`].
    pub fn begin_again(&mut self, now: Instant) -> bool {
        let told = std::mem::take(&mut self.told);
        let lately = told.into_iter().filter(|(when, _)| now.saturating_duration_since(*when) <= KEPT);
        let lately = lately.map(|(when, record)| (record, Some(when)));
        let untold = std::mem::take(&mut self.waiting).into_values().map(|waiting| (waiting.record, waiting.told));
        self.places.clear();
        self.learned.clear();
        (self.told_weight, self.targets) = (0, 0);
        for (record, told) in lately.chain(untold) {
            self.push(record, false, told);
        }
        self.fold()
    }

    /// A purge is in force, and is written down later.
    pub fn begin_writing(&mut self) {
        self.unwritten += 1;
    }

    /// It is written down now. Which of its records still wait, and how far the log is written down with it.
    pub fn end_writing(&mut self, ids: &[RecordId]) -> (Vec<Record>, Option<Shared>) {
        self.unwritten = self.unwritten.saturating_sub(1);
        let waiting = ids.iter().filter_map(|id| Some(self.waiting.get(self.places.get(id)?)?.record.clone()));
        (waiting.collect(), if self.unwritten == 0 { self.withheld.take() } else { None })
    }

    /// How far the log is written down, once all before that is. `None` while something of it may still be on its way: then it is read again
    /// after a crash.
    pub fn place_to_write(&mut self, place: Shared) -> Option<Shared> {
        if self.unwritten > 0 {
            self.withheld = Some(place);
            return None;
        }
        self.withheld = None;
        Some(place)
    }

    /// Whether some do not wait any more since this was asked last.
    pub fn are_fewer(&mut self) -> bool {
        std::mem::take(&mut self.fewer)
    }

    /// What waits.
    pub fn waiting(&self) -> impl Iterator<Item = &Record> {
        self.waiting.values().map(|waiting| &waiting.record)
    }

    /// How many records wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
