//! Looks at every file of a directory once, behind the traffic, so that their sizes and their order are known again.

use super::format::FileId;
use super::index::{Scanned, sort_scanned};
use rustix::fs::{AtFlags, Dir as Listing, FileType, Mode, OFlags, openat, statat};
use std::io;
use std::path::Path;

/// Directories that the files are spread over.
const FAN_OUT: u32 = 256;

/// What a scan has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Entries, oldest first.
    pub found: Vec<Scanned>,
    /// Files that are none of ours, by their names. They are left alone.
    pub foreign: u64,
    /// The last directory or file that could not be looked at, and how many there were.
    pub unreadable: Option<(io::Error, u64)>,
}

/// Looks at every file. `progress` is told how many were seen so far, and says whether to go on. What cannot be looked at is
/// passed over: it is found when it is asked for, or not at all.
pub fn scan(root: &Path, mut progress: impl FnMut(u64) -> bool) -> Option<Seen> {
    let mut seen = Seen::default();
    for number in 0..FAN_OUT {
        match scan_directory(root, number, &mut seen, &mut progress) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => seen.cannot_read(error),
        }
    }
    sort_scanned(&mut seen.found);
    progress(seen.found.len() as u64);
    Some(seen)
}

fn scan_directory(
    root: &Path,
    number: u32,
    seen: &mut Seen,
    progress: &mut impl FnMut(u64) -> bool,
) -> io::Result<bool> {
    let directory = root.join(format!("{number:02x}"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match openat(rustix::fs::CWD, &directory, flags, Mode::empty()) {
        Ok(opened) => opened,
        // Directories are made when they are first needed.
        Err(rustix::io::Errno::NOENT) => return Ok(true),
        Err(e) => return Err(e.into()),
    };
    for entry in Listing::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let Some(id) = FileId::from_name(name).filter(|id| (id.0 >> 120) as u32 == number) else {
            seen.foreign += 1;
            continue;
        };
        let stat = match statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Evicted or replaced meanwhile.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(e) => {
                seen.cannot_read(e.into());
                continue;
            }
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            seen.foreign += 1;
            continue;
        }
        // Seconds of a century are enough to tell which is older.
        let written = u32::try_from(stat.st_mtime).unwrap_or(0);
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        seen.found.push(Scanned { written, id: id.0, bytes });
        if seen.found.len().is_multiple_of(4096) && !progress(seen.found.len() as u64) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Seen {
    fn cannot_read(&mut self, error: io::Error) {
        let before = self.unreadable.as_ref().map_or(0, |(_, files)| *files);
        self.unreadable = Some((error, before + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn file(root: &Path, name: &str, length: usize, age: u64) {
        let directory = root.join(&name[..2]);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(name), vec![1; length]).unwrap();
        let written = crate::clock::now() - Duration::from_secs(age);
        std::fs::File::open(directory.join(name)).unwrap().set_modified(written).unwrap();
    }

    #[test]
    fn files_are_found_oldest_first_with_what_they_take() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "ff000000000000000000000000000001", 10_000, 5);
        file(dir.path(), "00000000000000000000000000000002", 1, 50);
        file(dir.path(), "7f000000000000000000000000000003", 5000, 500);
        let mut told = 0;
        let seen = scan(dir.path(), |files| {
            told = files;
            true
        })
        .unwrap();
        let ids: Vec<u128> = seen.found.iter().map(|found| found.id & 0xf).collect();
        assert_eq!((ids, told, seen.foreign), (vec![3, 2, 1], 3, 0));
        assert!(seen.found[2].bytes >= 10_000 && seen.found[2].bytes % 512 == 0);
    }

    #[test]
    fn what_is_not_named_as_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["00readme.txt", "0000000000000000000000000000000G", "00AA0000000000000000000000000001"] {
            file(dir.path(), name, 1, 0);
        }
        // In a directory that is not its own.
        std::fs::write(dir.path().join("00/11000000000000000000000000000001"), "x").unwrap();
        let seen = scan(dir.path(), |_| true).unwrap();
        assert_eq!((seen.found.len(), seen.foreign), (0, 4));
    }

    #[test]
    fn it_ends_when_told_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("00")).unwrap();
        for i in 0..4096 {
            std::fs::write(dir.path().join(format!("00/00{i:030x}")), "").unwrap();
        }
        assert!(scan(dir.path(), |_| false).is_none());
    }

    #[test]
    fn what_cannot_be_looked_at_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00"), "no directory").unwrap();
        std::fs::create_dir_all(dir.path().join("01/01000000000000000000000000000009")).unwrap();
        file(dir.path(), "7f000000000000000000000000000003", 5000, 500);
        let seen = scan(dir.path(), |_| true).unwrap();
        assert_eq!((seen.found.len(), seen.foreign), (1, 1));
        assert!(seen.unreadable.is_some_and(|(_, number)| number == 1));
    }
}
