//! The directory of the tier: ours alone, for one process at a time.

use super::probe;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// It is not what it should be; the sentence says what, where and what to do.
    #[error("{0}")]
    Unusable(String),
    /// Another process has it.
    #[error(
        "`{path}` is in use by {holder}; two processes cannot share a disk cache: give this one a directory of its own in \
         `cache.disk.path`, or stop the other one"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// The system said no.
    #[error("`{path}`: {doing}: {source}; check that the directory exists and that this user may write there")]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// The directory, held.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// Locked as long as it is open. The kernel lets go of it however the process ends.
    lock: Mutex<Option<File>>,
    /// Tells this directory from another one that may be put in its place.
    identity: (u64, u64),
    is_new: bool,
}

impl Home {
    /// Takes the directory, and makes it what it should be.
    pub fn take(path: &Path) -> Result<Self, HomeError> {
        let failed = |doing, at: &Path| {
            let path = at.to_owned();
            move |source| HomeError::Io { path, doing, source }
        };
        probe::probe(path).map_err(HomeError::Unusable)?;
        fs::create_dir_all(path).map_err(failed("cannot be created", path))?;
        // First of all: a directory that holds anything else, and not this, is not ours.
        let tag = path.join(probe::TAG_FILE);
        // One that is torn was written by a process that found no room to.
        let is_new = fs::read(&tag).map_or(true, |mark| mark != probe::TAG.as_bytes());
        if is_new {
            fs::write(&tag, probe::TAG).map_err(failed("cannot be written", &tag))?;
        }
        let at = path.join("lock");
        let mut options = OpenOptions::new();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&at)
            .map_err(failed("cannot be opened", &at))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(HomeError::InUse { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(e) => return Err(failed("cannot be locked", &at)(e.into())),
        }
        // For whoever finds it locked. The lock counts, not what is written there.
        let written =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(failed("cannot be written", &at))?;
        let tmp = path.join("tmp");
        fs::create_dir_all(&tmp).map_err(failed("cannot be created", &tmp))?;
        let identity = identity(path).map_err(failed("cannot be looked at", path))?;
        Ok(Home { path: path.to_owned(), lock: Mutex::new(Some(lock)), identity, is_new })
    }

    /// Whether nothing was there before.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Removes every entry, and leaves the rest.
    pub fn clear(&self) -> io::Result<()> {
        for number in 0..=255_u8 {
            match fs::remove_dir_all(self.path.join(format!("{number:02x}"))) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to the directory that was taken.
    pub fn is_still_there(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    /// Lets another process have it, although this one may still read files of it.
    pub fn release(&self) {
        self.lock.lock().take();
    }

    /// Removes what was being written when the last process ended; says how much it was.
    pub fn remove_orphans(&self) -> io::Result<u64> {
        let mut removed = 0;
        for entry in fs::read_dir(self.path.join("tmp"))? {
            let path = entry?.path();
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(removed)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn holder(lock: &mut File) -> String {
    let mut pid = String::new();
    // At most what a number takes: the file may hold anything.
    let read = lock.take(20).read_to_string(&mut pid);
    match read.ok().and_then(|_| pid.trim().parse::<u32>().ok()) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}
