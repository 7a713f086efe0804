//! An open directory: which files there are, which of them are open, and what is being done about them.
//!
//! One mutex guards what is known; no system call is made under it. What happens to the file of one entry happens in
//! order: each change takes a ticket, and a job whose ticket is no longer the latest does nothing. From the moment of a
//! change until its job is done, the change itself answers: an entry that is to be written is served from memory, and one
//! that is to be removed is not there.

use super::file::Dir;
use super::format::FileId;
use super::home::Home;
use super::index::popularity::Popularity;
use super::index::s3fifo::S3Fifo;
use super::index::{Cause, FILE_CHARGE, Index, NoRoom, Room, Scanned, Victim};
use crate::store::entry::Entry;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Changes of files are made under one of so many locks.
const LOCKS: usize = 64;

/// One for each of so many groups of ids counts their changes.
const STAMPS: usize = 1024;

/// Files that are taken from the scan at once, so that no request waits long for the lock.
const PORTION: usize = 4096;

/// An open directory.
#[derive(Debug)]
pub struct Volume {
    /// For the calls that open and write files.
    pub dir: Dir,
    /// Held as long as anything of it is in use.
    pub home: Home,
    state: Mutex<State>,
    changing: Box<[Mutex<()>]>,
    stamps: Box<[AtomicU64]>,
    /// Every file is known.
    scanned: AtomicBool,
    /// Nothing is written any more.
    closed: AtomicBool,
    opened: Instant,
}

#[derive(Debug)]
struct State {
    index: Index,
    open: S3Fifo<Arc<Entry>>,
    jobs: HashMap<FileId, Job>,
    tickets: u64,
    /// Bytes that files may take which nobody has looked at; set aside in the index.
    unknown: u64,
    /// Evicted, with a file that is not gone yet: a crash would bring them back.
    evicting: HashSet<FileId>,
    /// Bytes of the entries in `jobs`.
    waiting: u64,
}

/// What is to become of a file.
#[derive(Debug)]
struct Job {
    ticket: Ticket,
    /// What is to be in it; `None` if it is to be removed.
    entry: Option<Arc<Entry>>,
    /// Bytes of memory that it keeps until then.
    held: u64,
}

/// What is known of an entry.
#[derive(Debug)]
pub enum Known {
    /// There is no file.
    Absent,
    /// Here it is.
    Entry(Arc<Entry>, Popularity),
    /// There is a file, of so many bytes on disk.
    File(u64, Popularity),
    /// There may be a file: it has not been looked at yet.
    Perhaps,
}

/// Says whether anything happened to a file since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

/// The turn of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

impl Volume {
    /// An open directory of which no file is known yet. `unknown` is how many bytes its files may take.
    pub fn new(home: Home, dir: Dir, capacity: u64, max_open: usize, unknown: u64) -> Self {
        let mut index = Index::new(capacity);
        index.begin_scan();
        let unknown = index.reserve(unknown.min(capacity)).map_or(0, |room| room.reserved);
        Volume {
            dir,
            home,
            state: Mutex::new(State {
                index,
                open: S3Fifo::new(max_open as u64),
                jobs: HashMap::new(),
                tickets: 0,
                unknown,
                evicting: HashSet::new(),
                waiting: 0,
            }),
            changing: (0..LOCKS).map(|_| Mutex::default()).collect(),
            stamps: (0..STAMPS).map(|_| AtomicU64::default()).collect(),
            scanned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            opened: Instant::now(),
        }
    }

    fn now(&self) -> u32 {
        u32::try_from(self.opened.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Whether every file is known.
    pub fn is_scanned(&self) -> bool {
        self.scanned.load(Ordering::Acquire)
    }

    /// Writes nothing any more, and lets go of what is open. Says of which files something was still to become.
    pub fn close(&self) -> Vec<FileId> {
        self.closed.store(true, Ordering::Release);
        let mut state = self.state.lock();
        // Each of them refers to this.
        let capacity = state.open.capacity();
        let open = std::mem::replace(&mut state.open, S3Fifo::new(capacity));
        let jobs = std::mem::take(&mut state.jobs);
        state.waiting = 0;
        drop(state);
        drop(open);
        jobs.into_keys().collect()
    }

    /// Whether nothing is to be written any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What is known of an entry that a request asks for. Counts the hit, if it is one.
    pub fn ask(&self, id: FileId) -> Known {
        let now = self.now();
        let mut state = self.state.lock();
        let State { index, open, jobs, .. } = &mut *state;
        if let Some(job) = jobs.get(&id) {
            return match &job.entry {
                Some(entry) => Known::Entry(entry.clone(), index.touch(id.0, now).unwrap_or(Popularity::NONE)),
                None => Known::Absent,
            };
        }
        match index.touch(id.0, now) {
            Some(popularity) => match open.touch(id.0) {
                Some(entry) => Known::Entry(entry.clone(), popularity),
                None => Known::File(index.bytes(id.0).unwrap_or(0), popularity),
            },
            None if self.is_scanned() => Known::Absent,
            None => Known::Perhaps,
        }
    }

    /// The entry, if nothing has to be read for it. Counts nothing.
    pub fn at_hand(&self, id: FileId) -> Option<Arc<Entry>> {
        let state = self.state.lock();
        match state.jobs.get(&id) {
            Some(job) => job.entry.clone(),
            None => state.open.get(id.0).cloned(),
        }
    }

    /// Whether there is a file, as far as is known.
    pub fn holds(&self, id: FileId) -> bool {
        let state = self.state.lock();
        state.jobs.get(&id).map_or_else(|| state.index.contains(id.0), |job| job.entry.is_some())
    }

    /// A part of all files; `None` if there is no part of that number.
    pub fn portion(&self, number: usize) -> Option<Vec<FileId>> {
        self.state.lock().index.portion(number).map(|ids| ids.into_iter().map(FileId).collect())
    }

    /// To be taken before a file is opened.
    pub fn stamp(&self, id: FileId) -> Stamp {
        Stamp(self.stamp_of(id).load(Ordering::Acquire))
    }

    fn stamp_of(&self, id: FileId) -> &AtomicU64 {
        #[expect(clippy::indexing_slicing, reason = "there are so many")]
        &self.stamps[(id.0 >> 64) as usize % STAMPS]
    }

    fn changes_now(&self, id: FileId) {
        self.stamp_of(id).fetch_add(1, Ordering::AcqRel);
    }

    /// Keeps what was opened at hand, unless something happened to the file meanwhile. `bytes` is what it takes on disk.
    pub fn opened(&self, id: FileId, entry: &Arc<Entry>, bytes: u64, stamp: Stamp) {
        let now = self.now();
        let mut state = self.state.lock();
        if self.is_closed() || self.stamp(id) != stamp || state.jobs.contains_key(&id) {
            return;
        }
        if !state.index.contains(id.0) {
            if self.is_scanned() {
                return;
            }
            // The scan will find it as well; what is known by then counts.
            state.index.insert(id.0, bytes, now);
            state.index.touch(id.0, now);
            // It was set aside as part of what is not known.
            let known = bytes.saturating_add(FILE_CHARGE).min(state.unknown);
            state.unknown -= known;
            state.index.release(known);
        }
        let closing = state.keep_open(id, entry.clone());
        drop(state);
        drop(closing);
    }

    /// A file was not there, or was none of ours. `false`: something else happened to it meanwhile.
    pub fn lost(&self, id: FileId, stamp: Stamp) -> bool {
        let mut state = self.state.lock();
        if self.stamp(id) != stamp || state.jobs.contains_key(&id) {
            return false;
        }
        state.index.remove(id.0);
        let closing = state.open.remove(id.0);
        self.changes_now(id);
        drop(state);
        drop(closing);
        true
    }

    /// Begins a change: from now on the entry is this one, or none.
    pub fn change(&self, id: FileId, entry: Option<Arc<Entry>>) -> Ticket {
        let held = entry.as_ref().map_or(0, |entry| entry.weight() as u64);
        let mut state = self.state.lock();
        state.tickets += 1;
        let ticket = Ticket(state.tickets);
        state.waiting += held;
        let closing = state.open.remove(id.0);
        let before = state.jobs.insert(id, Job { ticket, entry, held });
        if let Some(before) = &before {
            state.waiting = state.waiting.saturating_sub(before.held);
        }
        self.changes_now(id);
        drop(state);
        drop((closing, before));
        ticket
    }

    /// Bytes of entries that wait to be written.
    pub fn waiting(&self) -> u64 {
        self.state.lock().waiting
    }

    /// Whether nothing waits to be done.
    pub fn is_idle(&self) -> bool {
        self.state.lock().jobs.is_empty()
    }

    /// Nobody else changes the file of this id, nor those of some others, while this is held.
    pub fn alone(&self, id: FileId) -> MutexGuard<'_, ()> {
        #[expect(clippy::indexing_slicing, reason = "there are so many")]
        self.changing[id.0 as usize % LOCKS].lock()
    }

    /// Whether a change is still the latest one.
    pub fn is_latest(&self, id: FileId, ticket: Ticket) -> bool {
        self.state.lock().jobs.get(&id).is_some_and(|job| job.ticket == ticket)
    }

    /// Whether any change is still to be made. What is in its place while nobody else changes it is older than that.
    pub fn is_pending(&self, id: FileId) -> bool {
        self.state.lock().jobs.contains_key(&id)
    }

    /// A change was made: the file takes so many bytes, or is gone. What comes of it is kept open.
    pub fn changed(&self, id: FileId, ticket: Ticket, bytes: Option<u64>, open: Option<Arc<Entry>>) {
        let now = self.now();
        let mut state = self.state.lock();
        match bytes {
            Some(bytes) => state.index.insert(id.0, bytes, now),
            None => drop(state.index.remove(id.0)),
        }
        let mut closing = (None, Vec::new());
        if state.jobs.get(&id).is_some_and(|job| job.ticket == ticket) {
            closing.0 = state.jobs.remove(&id);
            if let Some(job) = &closing.0 {
                state.waiting = state.waiting.saturating_sub(job.held);
            }
            if let Some(entry) = open {
                closing.1 = state.keep_open(id, entry);
            }
        }
        self.changes_now(id);
        drop(state);
        drop(closing);
    }

    /// Makes room for a file that is to be written, and sets it aside.
    ///
    /// # Errors
    /// There cannot be so much, at all or now.
    pub fn make_room(&self, bytes: u64) -> Result<Room, NoRoom> {
        let mut state = self.state.lock();
        let room = state.index.reserve(bytes)?;
        let closing = self.let_go(&mut state, &room.victims);
        drop(state);
        drop(closing);
        Ok(room)
    }

    /// What was set aside is not needed, or is counted otherwise by now.
    pub fn release(&self, bytes: u64) {
        self.state.lock().index.release(bytes);
    }

    /// Evicts files of so many bytes, or as many files, whatever room there is.
    pub fn evict(&self, bytes: u64, files: usize, cause: Cause) -> Vec<Victim> {
        let mut state = self.state.lock();
        let victims = state.index.shed(bytes, files, cause);
        let closing = self.let_go(&mut state, &victims);
        drop(state);
        drop(closing);
        victims
    }

    fn let_go(&self, state: &mut State, victims: &[Victim]) -> Vec<Arc<Entry>> {
        let closing = victims.iter().filter_map(|victim| {
            self.changes_now(FileId(victim.id));
            state.evicting.insert(FileId(victim.id));
            state.open.remove(victim.id).map(|evicted| evicted.value)
        });
        closing.collect()
    }

    /// The file of an evicted entry is gone, or stays for a reason.
    pub fn evicted(&self, id: FileId) {
        self.state.lock().evicting.remove(&id);
    }

    /// Whether nothing is stored, nor anything left of what was: a crash would bring nothing back.
    pub fn is_forgotten(&self, id: FileId) -> bool {
        let state = self.state.lock();
        self.is_scanned()
            && !state.jobs.contains_key(&id)
            && !state.index.contains(id.0)
            && !state.evicting.contains(&id)
    }

    /// Whether a file that was to go has come back meanwhile.
    pub fn is_back(&self, id: FileId) -> bool {
        self.state.lock().index.contains(id.0)
    }

    /// Takes what the scan found, oldest first, and evicts what is more than the capacity.
    pub fn take_scanned(&self, found: &[Scanned]) -> Vec<Victim> {
        // The youngest first, each before what is there already.
        for portion in found.rchunks(PORTION) {
            let now = self.now();
            self.state.lock().index.insert_scanned(portion, now);
        }
        let mut state = self.state.lock();
        state.index.end_scan();
        let unknown = std::mem::take(&mut state.unknown);
        state.index.release(unknown);
        let victims = state.index.make_room(0).unwrap_or_default();
        let closing = self.let_go(&mut state, &victims);
        self.scanned.store(true, Ordering::Release);
        drop(state);
        drop(closing);
        victims
    }

    /// The memory tier served it so often before it let it go. Says whether there is a file.
    pub fn note_hits_above(&self, id: FileId, hits: u64) -> bool {
        let now = self.now();
        let mut state = self.state.lock();
        if let Some(job) = state.jobs.get(&id) {
            return job.entry.is_some();
        }
        state.index.note_hits_above(id.0, u32::try_from(hits).unwrap_or(u32::MAX), now)
    }

    /// Files and the bytes that they take.
    pub fn usage(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.index.len() as u64, state.index.used())
    }

    /// Bytes that files take or will take.
    pub fn committed(&self) -> u64 {
        let state = self.state.lock();
        state.index.used().saturating_add(state.index.reserved())
    }
}

impl State {
    /// Keeps a file open, and hands back those that are closed for it: not under the lock.
    fn keep_open(&mut self, id: FileId, entry: Arc<Entry>) -> Vec<Arc<Entry>> {
        let mut closing: Vec<Arc<Entry>> = self.open.insert(id.0, 1, entry).into_iter().collect();
        while self.open.is_over() {
            let Some(evicted) = self.open.evict_one() else { break };
            closing.push(evicted.value);
        }
        closing
    }
}
