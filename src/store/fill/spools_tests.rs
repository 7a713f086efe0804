//! Spools for tests: one that does what the test says, and one that writes to a file.

use super::*;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};

/// Bytes after which the pattern begins again: not near any size that matters.
const PERIOD: u64 = 1_000_003;

/// The bytes of a body between two positions. Each position has its own, as far as a test can go wrong.
pub(super) fn body(start: u64, end: u64) -> Bytes {
    static PATTERN: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        let mut random = fastrand::Rng::with_seed(1);
        std::iter::repeat_with(|| random.u8(..)).take(PERIOD as usize).collect()
    });
    let mut bytes = Vec::with_capacity((end - start) as usize);
    let mut at = start;
    while at < end {
        let from = at % PERIOD;
        let to = PERIOD.min(from + (end - at));
        bytes.extend_from_slice(&pattern[from as usize..to as usize]);
        at += to - from;
    }
    Bytes::from(bytes)
}

/// Writes what it is told to write.
#[derive(Default)]
pub(super) struct Driven {
    state: Mutex<DrivenState>,
    /// As many reads were begun.
    pub(super) reads: AtomicU64,
    /// Reads wait.
    pub(super) reads_wait: AtomicBool,
    pub(super) reads_fail: AtomicBool,
    pub(super) go_on: tokio::sync::Notify,
}

#[derive(Default)]
struct DrivenState {
    pushed: Vec<u8>,
    written: u64,
    failed: bool,
    abandoned: bool,
    moved: Option<Moved>,
}

impl std::fmt::Debug for Driven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driven")
    }
}

impl Driven {
    /// Writes so many bytes more, if there are as many.
    pub(super) fn write(&self, bytes: u64) {
        self.change(|state| {
            if !state.failed && !state.abandoned {
                state.written = (state.written + bytes).min(state.pushed.len() as u64);
            }
        });
    }

    pub(super) fn fail(&self) {
        self.change(|state| state.failed = true);
    }

    fn change(&self, change: impl FnOnce(&mut DrivenState)) {
        let moved = {
            let mut state = self.state.lock();
            change(&mut state);
            state.moved.clone()
        };
        // It may fail before anybody listens.
        if let Some(moved) = moved {
            moved();
        }
    }

    pub(super) fn pushed(&self) -> u64 {
        self.state.lock().pushed.len() as u64
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    /// Returns once somebody reads.
    pub(super) async fn is_read(&self, times: u64) {
        while self.reads.load(Ordering::Relaxed) < times {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Spool for Driven {
    fn push(&self, piece: Bytes) {
        let mut state = self.state.lock();
        assert!(state.moved.is_some(), "something was pushed before anybody listened");
        assert!(state.abandoned || piece == body(state.pushed.len() as u64, (state.pushed.len() + piece.len()) as u64));
        state.pushed.extend_from_slice(&piece);
    }

    fn written(&self) -> u64 {
        self.state.lock().written
    }

    fn failed(&self) -> bool {
        self.state.lock().failed
    }

    fn subscribe(&self, moved: Moved) {
        assert!(self.state.lock().moved.replace(moved).is_none());
    }

    async fn read(&self, start: u64, max: usize) -> io::Result<Bytes> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        loop {
            let go_on = self.go_on.notified();
            if !self.reads_wait.load(Ordering::Relaxed) {
                break;
            }
            go_on.await;
        }
        if self.reads_fail.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Other.into());
        }
        let state = self.state.lock();
        assert!(start + max as u64 <= state.written, "bytes were asked for that are not written");
        Ok(Bytes::copy_from_slice(&state.pushed[start as usize..][..max]))
    }

    fn abandon(&self) {
        self.state.lock().abandoned = true;
    }
}

/// Writes to a file, on a thread.
pub(super) struct Filed {
    shared: Arc<FiledShared>,
    pieces: Mutex<Option<Sender<Bytes>>>,
}

struct FiledShared {
    file: File,
    written: AtomicU64,
    failed: AtomicBool,
    abandoned: AtomicBool,
    moved: Mutex<Option<Moved>>,
}

impl std::fmt::Debug for Filed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filed")
    }
}

impl Filed {
    /// Fails after so many bytes.
    fn new(room: u64) -> Self {
        let shared = Arc::new(FiledShared {
            file: tempfile::tempfile().unwrap(),
            written: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            moved: Mutex::default(),
        });
        let (pieces, from_fill) = channel::<Bytes>();
        let to = shared.clone();
        std::thread::spawn(move || {
            let mut at = 0;
            for piece in from_fill {
                if to.failed.load(Ordering::Acquire) || to.abandoned.load(Ordering::Acquire) {
                    continue;
                }
                if at + piece.len() as u64 > room {
                    to.failed.store(true, Ordering::Release);
                } else {
                    to.file.write_all_at(&piece, at).unwrap();
                    at += piece.len() as u64;
                    to.written.store(at, Ordering::Release);
                }
                let moved = to.moved.lock().clone().unwrap();
                moved();
            }
        });
        Filed { shared, pieces: Mutex::new(Some(pieces)) }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.shared.abandoned.load(Ordering::Acquire)
    }
}

#[async_trait]
impl Spool for Filed {
    fn push(&self, piece: Bytes) {
        let _ = self.pieces.lock().as_ref().unwrap().send(piece);
    }

    fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    fn subscribe(&self, moved: Moved) {
        *self.shared.moved.lock() = Some(moved);
    }

    async fn read(&self, start: u64, max: usize) -> io::Result<Bytes> {
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; max];
            let read = shared.file.read_at(&mut bytes, start)?;
            bytes.truncate(read);
            Ok(Bytes::from(bytes))
        });
        read.await.unwrap()
    }

    fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::Release);
    }
}

/// Opens one kind of them, as long as there is room.
#[derive(Debug)]
pub(super) struct Disk<S> {
    pub(super) opened: Mutex<Vec<Arc<S>>>,
    pub(super) asked: AtomicU64,
    pub(super) refuses: AtomicBool,
    /// Bytes that one takes.
    pub(super) room: u64,
}

impl<S> Disk<S> {
    pub(super) fn new(room: u64) -> Arc<Self> {
        Arc::new(Disk { opened: Mutex::default(), asked: AtomicU64::new(0), refuses: AtomicBool::new(false), room })
    }

    /// The one that was opened.
    pub(super) fn one(&self) -> Arc<S> {
        let opened = self.opened.lock();
        assert_eq!(opened.len(), 1);
        opened[0].clone()
    }

    fn open(&self, fill: &Fill, spool: impl FnOnce() -> S) -> Option<Arc<dyn Spool>>
    where
        S: Spool,
    {
        // Nothing that it may want to know is out of its reach.
        let _ = (fill.expected(), fill.is_current());
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) {
            return None;
        }
        let spool = Arc::new(spool());
        self.opened.lock().push(spool.clone());
        Some(spool)
    }
}

impl SpoolSource for Disk<Driven> {
    fn open(&self, fill: &Fill) -> Option<Arc<dyn Spool>> {
        self.open(fill, Driven::default)
    }
}

impl SpoolSource for Disk<Filed> {
    fn open(&self, fill: &Fill) -> Option<Arc<dyn Spool>> {
        self.open(fill, || Filed::new(self.room))
    }
}
