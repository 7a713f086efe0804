//! Purges on disk: a file to which each is appended before it is acknowledged, and with it what other nodes are to be told and how
//! far this one has followed them.
//!
//! The file is a header and frames ([`super::frame`]). A purge is one frame, so that all of it is there or nothing. What a crash
//! has torn is at the end, was not acknowledged, and is cut off. A frame that is damaged with sound ones behind it was
//! acknowledged and is lost; so is everything in a file that is not one of ours, or that is gone although there are entries.
//! Then nobody can say what was purged, and everything is.

pub use super::frame::{Note, Recovered};

use super::frame::Version;
use super::index::Times;
use super::record::Record;
use super::shared::Shared;
use super::target::Target;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The name of the file in the directory of the disk tier.
const NAME: &str = "purges";

/// How it begins. Another layout gets another number.
const HEADER: &[u8] = b"tidegate purges 2\n";

/// How files of the first version begin. They are read, and written anew as those of the present one.
const FIRST_HEADER: &[u8] = b"tidegate purges 1\n";

/// Marks in one frame of a file that is written anew.
const CHUNK: usize = 10_000;

/// Superfluous marks that are worth writing the file anew for, besides as many as matter.
const SLACK: usize = 10_000;

/// All that matters, for a file that is written anew.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What was purged.
    pub marks: Vec<(Target, Times)>,
    /// What is to be told to other nodes.
    pub waiting: Vec<Record>,
}

/// The open file.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    file: File,
    /// How far it says that the log of all nodes is in force.
    place: Option<Shared>,
    /// Marks in it, superfluous ones included.
    marks: usize,
    /// What is at its end may be torn: nothing can be appended.
    broken: bool,
}

impl Journal {
    /// Reads the file of a directory; `None` if there is none.
    pub fn read(directory: &Path) -> io::Result<Option<Recovered>> {
        let mut bytes = Vec::new();
        match File::open(directory.join(NAME)) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(Some(recover(&bytes)))
    }

    /// Writes the file anew, with what matters, and opens it. What was there stays until all of it is written. The marks and
    /// what waits of the note are not looked at: they are among the rest.
    pub fn write(directory: &Path, all: &Snapshot, note: Note<'_>) -> io::Result<Self> {
        let Note { latest, place, .. } = note;
        let mut bytes = HEADER.to_vec();
        // With nothing to tell, it still tells how far the order has come.
        Note { latest, place, waiting: &all.waiting, ..Note::default() }.write(&mut bytes);
        for marks in all.marks.chunks(CHUNK) {
            Note { latest, marks, ..Note::default() }.write(&mut bytes);
        }
        // Beside what others write there, under a name that they do not use, and gone with them after a crash.
        let aside = directory.join("tmp").join(NAME);
        let mut file = File::create(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        drop(file);
        let path = directory.join(NAME);
        fs::rename(&aside, &path)?;
        File::open(directory)?.sync_all()?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Journal { directory: directory.to_owned(), file, place, marks: all.marks.len(), broken: false })
    }

    /// How far the log of all nodes is in force; `None` if it never was.
    pub fn place(&self) -> Option<Shared> {
        self.place
    }

    /// Appends what was purged. When this returns, it is there to stay. `matter`: how many marks would be enough; `all`: those,
    /// this purge's among them.
    pub fn append(&mut self, note: Note<'_>, matter: usize, all: impl FnOnce() -> Snapshot) -> io::Result<()> {
        let place = note.place.or(self.place);
        let many = self.marks.saturating_add(note.weight()) > matter.saturating_mul(2).saturating_add(SLACK);
        if self.broken || many {
            *self = Journal::write(&self.directory, &all(), Note { place, ..note })?;
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(128 + note.weight() * super::frame::MARK);
        note.write(&mut bytes);
        // Until it is known to be good.
        self.broken = true;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.broken = false;
        self.place = place;
        self.marks += note.weight();
        Ok(())
    }
}

fn recover(bytes: &[u8]) -> Recovered {
    let mut found = Recovered::default();
    if let Some(frames) = bytes.strip_prefix(HEADER) {
        found.read(frames, Version::Second);
    } else if let Some(frames) = bytes.strip_prefix(FIRST_HEADER) {
        found.read(frames, Version::First);
    } else {
        // The file is renamed into place whole, so this is not one of ours any more.
        return Recovered { damaged: true, torn: bytes.len(), ..found };
    }
    found
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
