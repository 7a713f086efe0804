//! Sees when the policies folder changes.
//!
//! The system's notifications are quick but do not tell everything: a folder that is swapped by a symbolic link (as
//! Kubernetes does with `..data`), a network file system, or a watch that could not be placed go unseen. So a
//! fingerprint of the folder is compared twice a second as well; it costs a `stat` for each file.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

/// How long the folder must be quiet before a change is reported: an editor or a checkout writes several files.
const QUIET: Duration = Duration::from_millis(50);

/// A folder that never is quiet is reported all the same after this long.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often the fingerprint is taken.
const POLL: Duration = Duration::from_millis(500);

/// Deepest sub-folder that is looked at, and most files: a wrong folder, such as `/`, must not be walked.
const DEEPEST: usize = 8;
const MOST_FILES: usize = 10_000;

/// Watches a folder on a thread of its own until it is dropped.
pub struct Watcher {
    events: Sender<Event>,
    thread: Option<JoinHandle<()>>,
}

enum Event {
    Touched,
    Stop,
}

impl Watcher {
    /// Calls `on_change` after each change of a file in `dir`, about 50 ms after the last of a burst. It runs on the
    /// watcher's thread, so no two calls overlap. Changes from before the start are not reported.
    ///
    /// # Errors
    /// The thread could not be started. A notification that cannot be set up is no error: polling goes on.
    pub fn start(dir: &Path, on_change: impl FnMut() + Send + 'static) -> std::io::Result<Watcher> {
        let (events, received) = mpsc::channel();
        let dir = dir.to_owned();
        let before = fingerprint(&dir);
        let touched = events.clone();
        let thread = thread::Builder::new().name("policy-reload".into()).spawn(move || {
            let notifier = notifier(&dir, touched);
            if let Err(error) = &notifier {
                tracing::debug!(%error, dir = %dir.display(), "no notifications for the policies folder, polling it");
            }
            Watching { dir, fingerprint: before, on_change, notifier: notifier.ok() }.run(&received);
        })?;
        Ok(Watcher { events, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn notifier(dir: &Path, touched: Sender<Event>) -> notify::Result<RecommendedWatcher> {
    let mut notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event as well, and reloading reads all of them.
        let changed = event.as_ref().map_or(true, |event| !event.kind.is_access());
        if changed {
            let _ = touched.send(Event::Touched);
        }
    })?;
    notifier.watch(dir, RecursiveMode::Recursive)?;
    Ok(notifier)
}

struct Watching<F> {
    dir: PathBuf,
    fingerprint: u64,
    on_change: F,
    /// Dropped with the thread, which ends the notifications.
    #[expect(dead_code, reason = "kept alive")]
    notifier: Option<RecommendedWatcher>,
}

impl<F: FnMut()> Watching<F> {
    fn run(mut self, events: &mpsc::Receiver<Event>) {
        loop {
            match events.recv_timeout(POLL) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Event::Touched) => {
                    if wait_for_quiet(events) == Burst::Stopped {
                        return;
                    }
                    self.compare();
                }
                Err(RecvTimeoutError::Timeout) => self.compare(),
            }
        }
    }

    /// Reports a change, and looks again, so that what changed during the report is not lost.
    fn compare(&mut self) {
        let now = fingerprint(&self.dir);
        if now != self.fingerprint {
            self.fingerprint = now;
            (self.on_change)();
        }
    }
}

#[derive(PartialEq, Eq)]
enum Burst {
    Over,
    Stopped,
}

fn wait_for_quiet(events: &mpsc::Receiver<Event>) -> Burst {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match events.recv_timeout(QUIET) {
            Ok(Event::Touched) => {}
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Burst::Stopped,
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    Burst::Over
}

/// A number that differs when a file of the folder was changed, added, removed, renamed, or pointed elsewhere.
fn fingerprint(dir: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut budget = MOST_FILES;
    add_folder(dir, 0, &mut budget, &mut hasher);
    hasher.finish()
}

fn add_folder(dir: &Path, depth: usize, budget: &mut usize, hasher: &mut DefaultHasher) {
    let Ok(entries) = fs::read_dir(dir) else {
        "unreadable".hash(hasher);
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().take(*budget).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        path.hash(hasher);
        if let Ok(target) = fs::read_link(&path) {
            target.hash(hasher);
        }
        // Follows links: what counts is what would be read.
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                if depth < DEEPEST {
                    add_folder(&path, depth + 1, budget, hasher);
                }
            }
            Ok(meta) => {
                (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
                    .hash(hasher);
            }
            Err(_) => "gone".hash(hasher),
        }
    }
}
