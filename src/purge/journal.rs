//! Purges on disk: a file to which each is appended before it is acknowledged.
//!
//! ```text
//! file    = "tidegate purges 1\n" frame*
//! frame   = magic:u32 length:u32 payload checksum:u64       the checksum is XXH3 of the payload
//! payload = latest:u64 mark*                                as many as there is room for
//! mark    = kind:u8 length:u32 digest:u128 hard:u64 soft:u64
//! ```
//!
//! Numbers are little endian. A purge is one frame, so that all of it is there or nothing. What a crash has torn is at the end,
//! was not acknowledged, and is cut off. A frame that is damaged with sound ones behind it was acknowledged and is lost; so
//! is everything in a file that is not one of ours, or that is gone although there are entries. Then nobody can say what was
//! purged, and everything is.

use super::index::Times;
use super::position::Position;
use super::target::{Kind, Target};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// The name of the file in the directory of the disk tier.
const NAME: &str = "purges";

/// How it begins. Another layout gets another number.
const HEADER: &[u8] = b"tidegate purges 1\n";

const MAGIC: u32 = 0x5047_5254;

/// Bytes of a mark.
const MARK: usize = 37;

/// Longest payload that is believed: far more than any purge has.
const LONGEST: usize = 64 << 20;

/// Marks in one frame of a file that is written anew.
const CHUNK: usize = 10_000;

/// Superfluous marks that are worth writing the file anew for, besides as many as matter.
const SLACK: usize = 10_000;

/// What was found in a file.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What was purged.
    pub marks: Vec<(Target, Times)>,
    /// The latest position that it knows.
    pub latest: Position,
    /// Something is missing that was acknowledged.
    pub damaged: bool,
    /// Bytes at the end that are no whole frame.
    pub torn: usize,
}

/// The open file.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    file: File,
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

    /// Writes the file anew, with what matters, and opens it. What was there stays until all of it is written.
    pub fn write(directory: &Path, all: &[(Target, Times)], latest: Position) -> io::Result<Self> {
        let mut bytes = HEADER.to_vec();
        // With nothing to tell, it still tells how far the order has come.
        frame(&mut bytes, latest, std::iter::empty());
        for chunk in all.chunks(CHUNK) {
            frame(&mut bytes, latest, chunk.iter().copied());
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
        Ok(Journal { directory: directory.to_owned(), file, marks: all.len(), broken: false })
    }

    /// Appends a purge. When this returns, it is there to stay. `matter`: how many marks would be enough; `all`: those, this
    /// purge's among them.
    pub fn append(
        &mut self,
        targets: &[Target],
        times: Times,
        at: Position,
        matter: usize,
        all: impl FnOnce() -> Vec<(Target, Times)>,
    ) -> io::Result<()> {
        let many = self.marks.saturating_add(targets.len()) > matter.saturating_mul(2).saturating_add(SLACK);
        if self.broken || many {
            *self = Journal::write(&self.directory, &all(), at)?;
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(64 + targets.len() * MARK);
        frame(&mut bytes, at, targets.iter().map(|target| (*target, times)));
        // Until it is known to be good.
        self.broken = true;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.broken = false;
        self.marks += targets.len();
        Ok(())
    }
}

fn frame(out: &mut Vec<u8>, latest: Position, marks: impl Iterator<Item = (Target, Times)>) {
    let mut payload = latest.to_bits().to_le_bytes().to_vec();
    for (Target { kind, length, digest }, Times { hard, soft }) in marks {
        payload.push(kind as u8);
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&digest.to_le_bytes());
        payload.extend_from_slice(&hard.to_bits().to_le_bytes());
        payload.extend_from_slice(&soft.to_bits().to_le_bytes());
    }
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&payload);
    out.extend_from_slice(&xxh3_64(&payload).to_le_bytes());
}

fn recover(bytes: &[u8]) -> Recovered {
    let mut found = Recovered::default();
    let Some(mut rest) = bytes.strip_prefix(HEADER) else {
        // The file is renamed into place whole, so this is not one of ours any more.
        return Recovered { damaged: true, torn: bytes.len(), ..found };
    };
    while !rest.is_empty() {
        if let Some((payload, after)) = sound_frame(rest) {
            if found.torn > 0 {
                // Something unreadable lies before it.
                found.damaged = true;
                found.torn = 0;
            }
            rest = after;
            if found.take(payload).is_none() {
                found.damaged = true;
            }
        } else {
            found.torn += 1;
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    // Written before it was renamed into place, so it was there.
    found.damaged |= found.latest == Position::BEGINNING;
    found
}

impl Recovered {
    fn take(&mut self, payload: &[u8]) -> Option<()> {
        let (latest, marks) = payload.split_first_chunk()?;
        self.latest = self.latest.max(Position::from_bits(u64::from_le_bytes(*latest)));
        let chunks = marks.chunks_exact(MARK);
        let whole = chunks.remainder().is_empty();
        for mark in chunks {
            let (kind, rest) = mark.split_first()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (digest, rest) = rest.split_first_chunk()?;
            let (hard, rest) = rest.split_first_chunk()?;
            let (soft, _) = rest.split_first_chunk()?;
            let target = Target {
                kind: Kind::from_number(*kind)?,
                length: u32::from_le_bytes(*length),
                digest: u128::from_le_bytes(*digest),
            };
            let position = |bytes: &[u8; 8]| Position::from_bits(u64::from_le_bytes(*bytes));
            let times = Times { hard: position(hard), soft: position(soft) };
            // One that came while the file was written.
            self.latest = self.latest.max(times.hard).max(times.soft);
            self.marks.push((target, times));
        }
        whole.then_some(())
    }
}

/// The payload of the frame that the bytes begin with, and what follows it.
fn sound_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&MAGIC.to_le_bytes())?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > LONGEST {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(length)?;
    let (checksum, rest) = rest.split_first_chunk()?;
    (xxh3_64(payload) == u64::from_le_bytes(*checksum)).then_some((payload, rest))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
