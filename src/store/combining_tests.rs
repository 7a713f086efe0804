use super::*;
use crate::config;
use crate::decide::{Facts, NotStored};
use crate::lock::Uncacheable;
use crate::semantics::freshness::Freshness;
use crate::semantics::range::ByteRange;
use crate::store::disk::DiskTier;
use crate::store::entry::{StoredHead, metadata};
use crate::store::fill::FillLimits;
use pingora::http::ResponseHeader;
use std::time::Duration;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const KEY: &[u8] = b"key";
const ID: EntryId = EntryId { primary: 1, variant: None };

/// Keeps everything on disk, and nothing in memory.
struct Disk {
    store: &'static Store,
    tier: &'static DiskTier,
    _folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = config::DiskTier {
            path: folder.path().join("disk"),
            capacity: 1024 * MIB,
            max_object: 512 * MIB,
            promote_after: 0,
            promote_rate: 0,
            write: config::WriteMode::Through,
            timeout: Duration::from_secs(60),
            min_free: 0,
            max_open: 16,
        };
        let tier: &'static DiskTier = Box::leak(Box::new(DiskTier::new(settings.clone()).unwrap()));
        tier.start().unwrap();
        let cache = config::Cache { memory: None, disk: Some(settings), ..config::Cache::default() };
        let uncacheable = Box::leak(Box::new(Uncacheable::new(NotStored::is_passing)));
        let store = Box::leak(Box::new(Store::new(&cache, Some(tier), None, uncacheable)));
        Disk { store, tier, _folder: folder }
    }

    /// What a fill brings that was asked for this part of a response with that tag.
    async fn keep(&self, complete: u64, first: u64, length: u64, tag: &str) {
        let fill = fill(complete, first, length, tag, self.store.limits_of(ID, &facts()));
        let filling = *fill.head.filling().unwrap();
        self.store.keep_part(ID, &fill, filling, Brought::InMemory(vec![b'x'; length as usize].into())).await;
    }

    async fn stored(&self) -> Option<Arc<Entry>> {
        self.store.peek(&ID, KEY).await
    }

    /// Waits until everything is written, so that it is read from there.
    async fn written(&self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while self.stored().await.is_none_or(|stored| !stored.body.is_in_file()) {
            assert!(std::time::Instant::now() < deadline, "nothing is written");
            tokio::task::yield_now().await;
        }
    }

    async fn covers(&self, first: u64, length: u64) -> bool {
        let stored = self.stored().await.unwrap();
        let parts = stored.body.incomplete();
        parts.is_none_or(|parts| parts.covers(ByteRange { first, last: first + length - 1 }))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.tier.close();
    }
}

fn facts() -> Arc<Facts> {
    Arc::new(Facts::of(Freshness::of_max_age(Duration::from_secs(60), crate::clock::now())))
}

fn fill(complete: u64, first: u64, length: u64, tag: &str, limits: FillLimits) -> Fill {
    let mut head = ResponseHeader::build_no_case(206, None).unwrap();
    head.insert_header("etag", tag).unwrap();
    let range = ByteRange { first, last: first + length - 1 };
    let facts = facts();
    let mut meta = metadata(head, crate::clock::now(), &facts);
    meta.extensions_mut().insert(Filling { asked: None, part: KnownPart { range, complete } });
    Fill::new(KEY.into(), Arc::new(StoredHead::of(&meta)), facts, Some(length), limits)
}

const TAG: &str = "\"v1\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn none_of_many_parts_that_come_at_once_is_lost() {
    let disk = Arc::new(Disk::new());
    let keeping = (0..100).map(|n| {
        let disk = disk.clone();
        tokio::spawn(async move { disk.keep(101_000, n * 1000, 1000, TAG).await })
    });
    for kept in keeping.collect::<Vec<_>>() {
        kept.await.unwrap();
    }
    assert!(disk.covers(0, 100_000).await);
    disk.written().await;
    assert!(disk.covers(0, 100_000).await);
}

#[tokio::test]
async fn a_part_of_another_response_takes_the_place_of_what_is_on_disk() {
    let disk = Disk::new();
    disk.keep(1000, 0, 100, TAG).await;
    disk.written().await;
    disk.keep(1000, 100, 100, "\"v2\"").await;
    for _ in 0..2 {
        assert!(disk.covers(100, 100).await && !disk.covers(0, 100).await);
        disk.written().await;
    }
}

#[tokio::test]
async fn the_larger_side_stays_of_two_that_are_too_long_to_be_copied() {
    let disk = Disk::new();
    let complete = 1000 * MIB;
    disk.keep(complete, 0, 40 * MIB, TAG).await;
    disk.written().await;
    disk.keep(complete, 100 * MIB, 30 * MIB, TAG).await;
    assert!(disk.covers(0, 40 * MIB).await && !disk.covers(100 * MIB, 1).await);
    disk.keep(complete, 200 * MIB, 50 * MIB, TAG).await;
    for _ in 0..2 {
        assert!(disk.covers(200 * MIB, 50 * MIB).await && !disk.covers(0, 1).await);
        disk.written().await;
    }
}
