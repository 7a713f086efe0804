//! A disk that fails, hangs or is slow when a test says so: system calls of the daemon are disturbed from inside.
//!
//! `faults.c` is built with the system's compiler, loaded into the daemon before the C library, and reads with each call
//! what is to happen from a file that it shares with the test.

use super::eventually;
use super::proxy::Builder;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

const SOURCE: &str = include_str!("faults.c");

/// A kind of system call, in the order of `faults.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Opening what is there to read it.
    Open,
    /// Opening for writing, whether it is there or not.
    Create,
    Read,
    Write,
    Rename,
    Remove,
    Mkdir,
    /// Listing a directory that entries lie in.
    List,
    /// Sending a file without reading it.
    Send,
}

impl On {
    /// What changes a file system.
    pub const CHANGES: [On; 5] = [On::Create, On::Write, On::Rename, On::Remove, On::Mkdir];
}

/// What a call does instead.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// "No space left on device".
    Full,
    /// The same, once so many more bytes are written.
    FullAfter(u64),
    /// "Input/output error".
    Broken,
    /// "Read-only file system".
    ReadOnly,
    /// Waits until the fault is cleared.
    Hangs,
    /// Takes this much longer.
    Slow(Duration),
}

/// Numbers of a rule in the shared file: what to do, with which value, after how many bytes, and how often it was done.
const RULE: usize = 4;
const KINDS: usize = 9;

/// Faults of one directory. None at first.
pub struct Faults {
    control: File,
    path: PathBuf,
    directory: PathBuf,
    _folder: TempDir,
}

impl Faults {
    /// For a directory that need not be there yet.
    pub fn of(directory: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("control");
        fs::write(&path, [0; 8 * RULE * KINDS]).expect("the control file");
        let control = OpenOptions::new().read(true).write(true).open(&path).expect("the control file");
        Faults { control, path, directory: directory.to_owned(), _folder: folder }
    }

    /// A daemon that feels them.
    pub fn put_into(&self, builder: Builder) -> Builder {
        builder
            .env("LD_PRELOAD", &library().display().to_string())
            .env("TIDEGATE_FAULTS_DIR", &self.directory.display().to_string())
            .env("TIDEGATE_FAULTS_CONTROL", &self.path.display().to_string())
    }

    /// From now on, until [`Faults::clear`].
    pub fn set(&self, on: On, fault: Fault) {
        // Linux, on every architecture that has a generic table of errors.
        const EIO: i64 = 5;
        const ENOSPC: i64 = 28;
        const EROFS: i64 = 30;
        let (mode, value, after) = match fault {
            Fault::Full => (1, ENOSPC, 0),
            Fault::FullAfter(bytes) => (1, ENOSPC, bytes as i64),
            Fault::Broken => (1, EIO, 0),
            Fault::ReadOnly => (1, EROFS, 0),
            Fault::Hangs => (2, 0, 0),
            Fault::Slow(time) => (3, time.as_millis() as i64, 0),
        };
        // The mode last: with it the rest counts.
        self.write(on, 2, after);
        self.write(on, 1, value);
        self.write(on, 0, mode);
    }

    /// Everything works again.
    pub fn clear(&self) {
        for on in [On::Open, On::Create, On::Read, On::Write, On::Rename, On::Remove, On::Mkdir, On::List, On::Send] {
            self.clear_one(on);
        }
    }

    /// This kind of call works again.
    pub fn clear_one(&self, on: On) {
        self.write(on, 0, 0);
    }

    /// How many calls were disturbed so far.
    pub fn struck(&self, on: On) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, Faults::at(on, 3)).expect("the control file");
        i64::from_ne_bytes(bytes)
    }

    /// Waits until so many calls were.
    pub async fn wait_for(&self, on: On, calls: i64) {
        eventually(&format!("{calls} disturbed calls of kind {on:?}"), async || {
            (self.struck(on) >= calls).then_some(())
        })
        .await;
    }

    fn at(on: On, field: usize) -> u64 {
        (8 * (RULE * on as usize + field)) as u64
    }

    fn write(&self, on: On, field: usize, number: i64) {
        self.control.write_all_at(&number.to_ne_bytes(), Faults::at(on, field)).expect("the control file");
    }
}

impl Builder {
    /// A daemon whose wall clock is wrong by so many seconds.
    pub fn clock_shift(self, seconds: i64) -> Self {
        self.env("LD_PRELOAD", &library().display().to_string()).env("TIDEGATE_CLOCK_SHIFT", &seconds.to_string())
    }
}

/// The built library: once in a run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the library");
        let (source, library) = (folder.join("faults.c"), folder.join("faults.so"));
        fs::write(&source, SOURCE).expect("the source");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).args([&library, &source]);
        let output = compiler.output().expect("a C compiler (cc)");
        assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        library
    })
}
