//! What the tests of this folder share.

use super::open::{OpenedFile, open_blocking};
use super::read::EntryFile;
use super::write::{Written, write_entry};
use super::{Dir, ReadFailure};
use crate::decide::Facts;
use crate::semantics::freshness::Freshness;
use crate::store::disk::format::{Damage, FileId, PIECE};
use crate::store::encoding::encode_head;
use crate::store::entry::StoredHead;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

pub(super) const ID: FileId = FileId(0xab << 120 | 0x1234);

/// Lengths around those that are treated differently.
pub(super) const LENGTHS: [u64; 7] = [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 1024 * 1024 + 7];

/// A cache directory that goes away with the test.
pub(super) struct Cache {
    dir: Dir,
    root: TempDir,
}

impl Deref for Cache {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        &self.dir
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Cache { dir: Dir::open(root.path()).unwrap(), root }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path_of(ID)
    }

    /// Names of the files under `tmp/`.
    pub(super) fn temps(&self) -> Vec<PathBuf> {
        let Ok(list) = fs::read_dir(self.root.path().join("tmp")) else { return Vec::new() };
        list.map(|file| file.unwrap().path()).collect()
    }

    /// Writes an entry and puts it in its place.
    pub(super) fn put(&self, head: &[u8], body: &Bytes) -> Arc<EntryFile> {
        self.write(head, body).commit().unwrap()
    }

    pub(super) fn write(&self, head: &[u8], body: &Bytes) -> Written {
        write_entry(self, ID, head, body).unwrap()
    }

    pub(super) fn open(&self) -> Result<OpenedFile, ReadFailure> {
        open_blocking(self, ID, None).map(Option::unwrap)
    }

    /// Changes the file as nobody should.
    pub(super) fn corrupt(&self, change: impl FnOnce(&mut Vec<u8>)) {
        corrupt(&self.file(), change);
    }
}

/// In place, so that who has it open sees it as well.
pub(super) fn corrupt(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

pub(super) fn body(length: u64) -> Bytes {
    let mut bytes = vec![0; length as usize];
    fastrand::Rng::with_seed(length).fill(&mut bytes);
    bytes.into()
}

/// A head with this key and so much text.
pub(super) fn head(key: &str, text: usize) -> Vec<u8> {
    let mut header = ResponseHeader::build_no_case(200, None).unwrap();
    header.append_header("x-text", "x".repeat(text)).unwrap();
    let time = SystemTime::UNIX_EPOCH;
    let facts = Facts::of(Freshness::of_max_age(Duration::from_secs(60), time));
    encode_head(key.as_bytes(), None, &StoredHead::from_parts(header, time, None), &facts, None)
}

/// All of a body, as a reader asks for it.
pub(super) fn read_whole(file: &EntryFile) -> Result<Vec<u8>, ReadFailure> {
    let mut all = Vec::new();
    loop {
        let bytes = file.read_blocking(all.len() as u64, u64::MAX)?;
        if bytes.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&bytes);
    }
}

/// Writes a file through, and lets the system forget what it has of it from a place on, as far as it likes to.
pub(super) fn forget_from(file: &EntryFile, from: u64) {
    rustix::fs::fsync(&file.fd).unwrap();
    rustix::fs::fadvise(&file.fd, from, None, rustix::fs::Advice::DontNeed).unwrap();
}

pub(super) fn damage<T: std::fmt::Debug>(read: Result<T, ReadFailure>) -> Damage {
    match read.unwrap_err() {
        ReadFailure::Damaged(damage) => damage,
        ReadFailure::Io(error) => panic!("{error}"),
    }
}
