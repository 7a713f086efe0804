//! How much the files of a directory may take at most, as known before they have been looked at.
//!
//! A process that has just started does not know what is there until the scan is through, and must not write more than the
//! capacity meanwhile. So a small file holds a number that what is there never exceeds: it is raised before more is
//! written, in steps, and set to what is true when the tier is closed.

use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The number is raised by this part of the capacity more than is needed, so that few writes need it raised.
const STEP: u64 = 64;

/// The number, and the file that holds it.
#[derive(Debug)]
pub struct Bound {
    file: File,
    capacity: u64,
    stated: Mutex<u64>,
}

impl Bound {
    /// Opens the file. A new one, or one that nobody can read, means that as much may be there as the capacity allows, unless
    /// the directory is known to be new.
    pub fn open(directory: &Path, capacity: u64, is_new: bool) -> io::Result<Self> {
        let path = directory.join("usage");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = String::new();
        // What is not as long as we write it is not what we wrote.
        let read = (&mut file).take(64).read_to_string(&mut text);
        let stated = read.ok().and_then(|_| parse(&text));
        let stated = stated.unwrap_or(if is_new { 0 } else { capacity });
        Ok(Bound { file, capacity, stated: Mutex::new(stated) })
    }

    /// What the files take at most.
    pub fn stated(&self) -> u64 {
        *self.stated.lock()
    }

    /// To be called before the files take more than so many bytes.
    pub fn raise(&self, bytes: u64) -> io::Result<()> {
        let mut stated = self.stated.lock();
        if bytes <= *stated {
            return Ok(());
        }
        let raised = bytes.saturating_add(self.capacity / STEP);
        self.write(raised)?;
        *stated = raised;
        Ok(())
    }

    /// Sets it to what is true.
    pub fn set(&self, bytes: u64) -> io::Result<()> {
        let mut stated = self.stated.lock();
        self.write(bytes)?;
        *stated = bytes;
        Ok(())
    }

    fn write(&self, bytes: u64) -> io::Result<()> {
        self.file.write_all_at(line(bytes).as_bytes(), 0)
    }
}

/// Always as long, so that it is overwritten in one piece. The second number is there to tell a torn line.
fn line(bytes: u64) -> String {
    format!("{bytes:020} {:020}\n", !bytes)
}

fn parse(text: &str) -> Option<u64> {
    let (bytes, complement) = text.strip_suffix('\n')?.split_once(' ')?;
    let (bytes, complement): (u64, u64) = (bytes.parse().ok()?, complement.parse().ok()?);
    (complement == !bytes).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_before_more_is_written_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let bound = Bound::open(dir.path(), 6400, true).unwrap();
        assert_eq!(bound.stated(), 0);
        bound.raise(1000).unwrap();
        bound.raise(1050).unwrap();
        drop(bound);
        let again = Bound::open(dir.path(), 6400, false).unwrap();
        assert_eq!(again.stated(), 1100);
        again.set(7).unwrap();
        assert_eq!(Bound::open(dir.path(), 6400, false).unwrap().stated(), 7);
    }

    #[test]
    fn what_nobody_can_read_means_the_whole_capacity() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "garbage", "00000000000000000001 00000000000000000001\n", "1"] {
            std::fs::write(dir.path().join("usage"), text).unwrap();
            assert_eq!(Bound::open(dir.path(), 500, false).unwrap().stated(), 500, "{text}");
        }
    }
}
