use super::*;
use crate::config::{DiskTier as Settings, WriteMode};
use crate::decide::Facts;
use crate::semantics::freshness::Freshness;
use crate::semantics::range::ByteRange;
use crate::store::entry::StoredHead;
use crate::store::tier::Lookup;
use pingora::http::ResponseHeader;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const ID: EntryId = EntryId { primary: 0xab << 120 | 7, variant: None };

/// A tier in a directory that goes away with the test; its threads see that, and let it be.
struct Disk {
    tier: &'static DiskTier,
    folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().join("disk"),
            capacity: 64 << 20,
            max_object: 64 << 20,
            promote_after: 0,
            promote_rate: 0,
            write: WriteMode::Through,
            timeout: Duration::from_secs(60),
            min_free: 0,
            max_open: 16,
        };
        let tier: &'static DiskTier = Box::leak(Box::new(DiskTier::new(settings).unwrap()));
        tier.start().unwrap();
        Disk { tier, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("disk/ab").join(FileId::of(&ID).to_string())
    }

    /// Writes parts, and waits until that is done.
    async fn put(&self, parts: Parts) {
        self.tier.put(ID, Arc::new(entry(parts.into_body())), None, || true);
        self.idle().await;
    }

    async fn idle(&self) {
        let volume = self.tier.volume.load_full().unwrap();
        while !volume.is_idle() {
            tokio::task::yield_now().await;
        }
    }

    async fn found(&self) -> Option<Arc<Entry>> {
        match self.tier.lookup(&ID, b"key").await {
            Lookup::Hit(found) => Some(found.entry),
            Lookup::Miss | Lookup::Unavailable => None,
        }
    }

    /// The parts that a lookup finds in the file.
    async fn parts(&self) -> Parts {
        match &self.found().await.unwrap().body {
            Body::Parts(parts) if parts.only_file().is_some() => parts.clone(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.tier.close();
    }
}

fn entry(body: Body) -> Entry {
    let head = ResponseHeader::build_no_case(200, None).unwrap();
    let head = StoredHead::from_parts(head, SystemTime::UNIX_EPOCH, None);
    let facts = Facts::of(Freshness::of_max_age(Duration::from_secs(60), crate::clock::now()));
    Entry::of(b"key".as_slice().into(), Arc::new(head), body, Arc::new(facts))
}

/// Bytes of a whole, each by its position.
fn bytes(first: u64, length: u64) -> Bytes {
    (first..first + length).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

fn parts(complete: u64, all: &[(u64, u64)]) -> Parts {
    let (first, length) = all[0];
    let parts = Parts::new(complete, first, bytes(first, length));
    all[1..].iter().fold(parts, |parts, (first, length)| parts.with(*first, bytes(*first, *length)))
}

async fn read(body: &Body, start: u64, end: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while start + (all.len() as u64) < end {
        all.extend_from_slice(&body.read(start + all.len() as u64, end).await.unwrap());
    }
    all
}

#[tokio::test]
async fn parts_in_a_file_are_read_by_their_place_in_the_whole() {
    // In one piece of the body, and in many.
    for (complete, all) in [(1000, [(10, 20), (500, 100)]), (10_000_000, [(1_000_001, 300_000), (5_000_000, 70_001)])] {
        let disk = Disk::new();
        disk.put(parts(complete, &all)).await;
        let stored = disk.parts().await;
        assert_eq!((stored.complete(), stored.held()), (complete, all[0].1 + all[1].1));
        for (first, length) in all {
            assert!(stored.covers(ByteRange { first, last: first + length - 1 }));
            assert!(!stored.covers(ByteRange { first, last: first + length }));
            let body = Body::Parts(stored.clone());
            assert_eq!(read(&body, first, first + length).await, bytes(first, length));
            assert_eq!(read(&body, first + 7, first + 9).await, bytes(first + 7, 2));
            assert!(body.read(first + length, complete).await.is_err() && body.at(first, complete).is_none());
        }
        assert_eq!(stored.missing(), Some(ByteRange { first: 0, last: complete - 1 }));
    }
}

#[tokio::test]
async fn what_is_in_a_file_and_what_came_are_copied_into_one() {
    for scale in [1, 10_000] {
        let disk = Disk::new();
        disk.put(parts(100 * scale, &[(10 * scale, 20 * scale), (60 * scale, 5 * scale)])).await;
        let old = disk.parts().await;
        // In front, across a gap, over what is there, and behind.
        let mut new = old;
        for (first, length) in [(0, 5), (25, 10), (40, 50)] {
            new = new.with(first * scale, bytes(first * scale, length * scale));
        }
        assert!(!new.is_in_memory() && new.only_file().is_none());
        let pending = Body::Parts(new.clone());
        assert_eq!(read(&pending, 10 * scale, 35 * scale).await, bytes(10 * scale, 25 * scale));
        let expected = new.spans();
        disk.put(new).await;
        let stored = disk.parts().await;
        assert_eq!(stored.spans(), expected);
        for (first, length) in [(0, 5), (10, 25), (40, 50)] {
            let body = Body::Parts(stored.clone());
            assert_eq!(
                read(&body, first * scale, (first + length) * scale).await,
                bytes(first * scale, length * scale)
            );
        }
    }
}

#[tokio::test]
async fn parts_that_cover_everything_are_written_as_the_whole() {
    for scale in [1, 10_000] {
        let disk = Disk::new();
        disk.put(parts(100 * scale, &[(0, 40 * scale)])).await;
        let all = disk.parts().await.with(40 * scale, bytes(40 * scale, 60 * scale));
        assert!(all.missing().is_none() && all.whole().is_none());
        disk.put(all).await;
        let entry = disk.found().await.unwrap();
        assert!(matches!(entry.body, Body::File(_)), "{:?}", entry.body);
        assert_eq!(read(&entry.body, 0, 100 * scale).await, bytes(0, 100 * scale));
    }
}

#[tokio::test]
async fn nothing_is_made_of_a_damaged_part() {
    let disk = Disk::new();
    disk.put(parts(1_000_000, &[(100, 200_000)])).await;
    let stored = disk.parts().await;
    let mut file = std::fs::read(disk.file()).unwrap();
    let at = file.len() / 2;
    file[at] ^= 1;
    std::fs::write(disk.file(), file).unwrap();
    disk.put(stored.with(0, bytes(0, 50))).await;
    assert!(disk.found().await.is_none() && !disk.file().exists());
}

#[tokio::test]
async fn a_head_is_renewed_without_its_parts_being_copied() {
    let disk = Disk::new();
    disk.put(parts(10_000_000, &[(100, 400_000), (700_000, 10)])).await;
    let before = disk.found().await.unwrap();
    let length = std::fs::metadata(disk.file()).unwrap().len();
    let mut facts = Facts::clone(&before.facts);
    facts.tags = vec!["new".to_owned()].into();
    let renewed = before.with_head(before.head.clone(), Arc::new(facts));
    disk.tier.put(ID, Arc::new(renewed), Some(before.facts.clone()), || true);
    disk.idle().await;
    // A second slot for the head, and no second body.
    assert!(std::fs::metadata(disk.file()).unwrap().len() < length + 10_000);
    let now = disk.found().await.unwrap();
    assert_eq!((&*now.facts.tags, now.body.len()), (&["new".to_owned()][..], 400_010));
    assert_eq!(read(&now.body, 700_000, 700_010).await, bytes(700_000, 10));
}

#[test]
fn a_file_that_says_other_parts_than_it_has_is_malformed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = super::super::file::Dir::open(folder.path()).unwrap();
    let entry = entry(Body::Whole(Bytes::new()));
    let spans = parts(100, &[(5, 10)]).spans();
    let head = crate::store::encoding::encode_head(b"key", None, &entry.head, &entry.facts, spans.as_ref());
    let id = FileId::of(&ID);
    for length in [0, 9, 11] {
        write_entry(&dir, id, &head, &bytes(0, length)).unwrap().commit().unwrap();
        match super::super::file::open::open_blocking(&dir, id, None).unwrap_err() {
            ReadFailure::Damaged(damage) => assert_eq!(damage.as_str(), "malformed", "{length}"),
            ReadFailure::Io(error) => panic!("{error}"),
        }
    }
}
