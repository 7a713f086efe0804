//! What was promised, and what was seen.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One key, as clients see it.
#[derive(Default)]
struct Line {
    /// Nothing older may be served to a request that begins now.
    floor: u64,
    /// Requests under way that may bring a stored response up to date, or not.
    reading: usize,
    /// `PUT`s under way, and whether a read was under way when the origin made the change.
    changing: BTreeMap<u64, bool>,
    changes: u64,
}

/// A change under way.
pub struct Change(u64);

pub struct Ledger {
    lines: Vec<Mutex<Line>>,
    wrong: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    lives: AtomicBool,
    /// Responses that may break off although the daemon lives: those that read damaged files.
    may_break: AtomicU64,
}

impl Ledger {
    pub fn new(keys: usize) -> Self {
        Ledger {
            lines: (0..keys).map(|_| Mutex::default()).collect(),
            wrong: Mutex::default(),
            counts: Mutex::default(),
            lives: AtomicBool::new(false),
            may_break: AtomicU64::new(0),
        }
    }

    /// A daemon runs.
    pub fn begin_life(&self) {
        self.lives.store(true, Ordering::SeqCst);
    }

    /// It is about to be killed: from now on, answers may stay away or break off.
    pub fn end_life(&self) {
        self.lives.store(false, Ordering::SeqCst);
    }

    /// So many files were damaged, each of which so many clients may read at the same time.
    pub fn damaged(&self, files: u64, clients: u64) {
        self.may_break.fetch_add(files * clients, Ordering::SeqCst);
        self.add("files damaged", files);
    }

    /// Whether a response may break off although the daemon lives. A damaged file is an excuse once: then it is known.
    pub fn is_excused(&self) -> bool {
        let excuse = |left: u64| left.checked_sub(1);
        self.may_break.fetch_update(Ordering::SeqCst, Ordering::SeqCst, excuse).is_ok()
    }

    pub fn lives(&self) -> bool {
        self.lives.load(Ordering::SeqCst)
    }

    pub fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    fn add(&self, what: &'static str, number: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += number;
    }

    pub fn check(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.lock().unwrap().push(otherwise());
        }
    }

    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    /// A read begins. Says what it must not be older than.
    pub fn begin_read(&self, key: usize) -> u64 {
        let mut line = self.lines[key].lock().unwrap();
        line.reading += 1;
        line.floor
    }

    pub fn end_read(&self, key: usize) {
        self.lines[key].lock().unwrap().reading -= 1;
    }

    /// A change begins.
    pub fn begin_change(&self, key: usize) -> Change {
        let mut line = self.lines[key].lock().unwrap();
        line.changes += 1;
        let number = line.changes;
        line.changing.insert(number, false);
        Change(number)
    }

    /// The origin has made a change of that key.
    pub fn changed(&self, key: usize) {
        let mut line = self.lines[key].lock().unwrap();
        let is_read = line.reading > 0;
        line.changing.values_mut().for_each(|overlapped| *overlapped |= is_read);
    }

    /// A change was answered, with its version, or not. What a read had fetched from the origin before it made the change may
    /// arrive and be stored right after it, and no cache can tell: such a change promises nothing.
    pub fn end_change(&self, key: usize, change: Change, version: Option<u64>) {
        let mut line = self.lines[key].lock().unwrap();
        let overlapped = line.changing.remove(&change.0).unwrap_or(true);
        if let Some(version) = version.filter(|_| !overlapped) {
            line.floor = line.floor.max(version);
            drop(line);
            self.count("changes that bind");
        }
    }

    /// What the daemon said of its disk, right before its end.
    pub fn count_disk(&self, told: &Value) {
        for (name, field) in [("hits on disk", "hits"), ("evictions", "evictions"), ("items at the end", "items")] {
            self.add(name, told[field].as_u64().unwrap_or_default());
        }
    }

    pub fn totals(&self) -> String {
        let counts = self.counts.lock().unwrap();
        counts.iter().map(|(what, count)| format!("{count:>9} {what}")).collect::<Vec<_>>().join("\n")
    }

    /// A run in which nothing happened proves nothing.
    pub fn assert_it_was_worth_it(&self, kills: u64) {
        let counts = self.counts.lock().unwrap();
        let of = |what| counts.get(what).copied().unwrap_or_default();
        for what in ["bodies compared", "hits on disk", "hits", "changes that bind", "evictions"] {
            assert!(of(what) > kills / 5, "{what}: {}", of(what));
        }
    }
}
