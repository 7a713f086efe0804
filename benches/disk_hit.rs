//! What the disk tier costs a hit whose file the system has in memory: look it up, read the body. Once with its file kept
//! open, once with so few files kept open that each hit opens its own; beside it, what the system alone takes for the same bytes.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use pingora::http::ResponseHeader;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate::clock;
use tidegate::config::{DiskTier as Settings, WriteMode};
use tidegate::decide::Facts;
use tidegate::key::PrimaryKey;
use tidegate::semantics::freshness::Freshness;
use tidegate::store::disk::DiskTier;
use tidegate::store::disk::file::Dir;
use tidegate::store::disk::format::FileId;
use tidegate::store::entry::{Body, Entry, EntryId, StoredHead};
use tidegate::store::tier::{Lookup, TierState};

/// What an origin of pictures sends.
const FIELDS: [(&str, &str); 8] = [
    ("content-type", "image/webp"),
    ("cache-control", "public, max-age=3600"),
    ("etag", "\"0123456789abcdef\""),
    ("last-modified", "Wed, 01 Oct 2025 00:00:00 GMT"),
    ("date", "Sat, 01 Nov 2025 00:00:00 GMT"),
    ("vary", "accept-encoding, accept"),
    ("access-control-allow-origin", "*"),
    ("server", "nginx"),
];

/// Sizes of bodies, and how many entries there are of each: far more than are kept open, and all of them fit into memory.
const SIZES: [(&str, usize, u64); 3] = [("1 KB", 1 << 10, 1024), ("64 KB", 64 << 10, 1024), ("1 MB", 1 << 20, 128)];

/// Files that a tier with hardly any keeps open, the least that a configuration may ask for.
const FEW: usize = 16;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

struct Tier {
    tier: &'static DiskTier,
    ids: Vec<(EntryId, PrimaryKey)>,
    directory: TempDir,
}

impl Tier {
    fn with(max_open: usize, size: usize, count: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = Settings {
            path: directory.path().join("cache"),
            capacity: 1 << 30,
            max_object: 1 << 30,
            promote_after: 0,
            promote_rate: 0,
            write: WriteMode::Through,
            timeout: Duration::from_secs(1),
            min_free: 0,
            max_open,
        };
        let tier: &'static DiskTier = Box::leak(Box::new(DiskTier::new(settings).expect("a tier")));
        tier.start().expect("an open tier");
        until("the tier is open", || tier.state() == TierState::Ok);
        let head = Arc::new(head());
        let ids: Vec<_> = (0..count)
            .map(|n| {
                let key =
                    PrimaryKey::from_uri("media", "img.example.com", "https", &format!("/albums/summer/{n}.webp"));
                (EntryId { primary: key.hash(), variant: None }, key)
            })
            .collect();
        for (before, (id, key)) in (0_u64..).zip(&ids) {
            let facts = Facts::of(Freshness::of_max_age(Duration::from_secs(3600), clock::now()));
            let entry = Entry::new(key.as_bytes().into(), head.clone(), vec![b'x'; size].into(), Arc::new(facts));
            tier.put(*id, Arc::new(entry), None, || true);
            // What waits to be written is bounded.
            until("an entry is written", || tier.usage().0 > before);
        }
        Tier { tier, ids, directory }
    }

    fn path_of(&self, id: &EntryId) -> PathBuf {
        Dir::open(self.directory.path().join("cache")).expect("the tier").path_of(FileId::of(id))
    }

    fn hit(&self, n: usize) -> usize {
        let (id, key) = &self.ids[n];
        block_on(async {
            let Lookup::Hit(found) = self.tier.lookup(id, key.as_bytes()).await else { panic!("no hit") };
            assert!(matches!(found.entry.body, Body::File(_)));
            let end = found.entry.body.complete();
            // As the reader of a stored response does it.
            let mut ready: Option<Bytes> = found.body;
            let mut read = 0;
            while read < end {
                let piece = match ready.take() {
                    Some(whole) => whole,
                    None => found.entry.body.read(read, end).await.expect("a piece"),
                };
                read += black_box(piece).len() as u64;
            }
            read as usize
        })
    }

    fn is_open(&self, n: usize) -> bool {
        let (id, key) = &self.ids[n];
        self.tier.at_hand(id, key.as_bytes()).is_some()
    }

    /// Which one is asked for in the n-th place, far from those before it.
    fn spread(&self, n: usize) -> usize {
        n.wrapping_mul(389) % self.ids.len()
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        // Before its directory goes.
        self.tier.close();
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

fn head() -> StoredHead {
    let mut head = ResponseHeader::build_no_case(200, Some(FIELDS.len())).expect("a head");
    for (name, value) in FIELDS {
        head.append_header(name, value).expect("a field");
    }
    StoredHead::from_parts(head, clock::now(), None)
}

fn hits(c: &mut Criterion) {
    // A tier asks for its clock when it has to wait for the disk, which it does not here.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    for (name, size, count) in SIZES {
        let mut group = c.benchmark_group(format!("disk {name}"));
        group.throughput(Throughput::Bytes(size as u64));
        let tier = Tier::with(1024, size, 1);
        tier.hit(0);
        group.bench_function("look up and read, file kept open", |b| b.iter(|| assert_eq!(tier.hit(0), size)));

        let path = tier.path_of(&tier.ids[0].0);
        let file = File::open(&path).expect("the file");
        let mut buffer = vec![0; file.metadata().expect("its length").len() as usize];
        group.bench_function("pread of the whole file", |b| {
            b.iter(|| file.read_exact_at(black_box(&mut buffer), 0).expect("all of it"));
        });
        drop(tier);

        let tier = Tier::with(FEW, size, count);
        let first: Vec<usize> = (0..tier.ids.len()).map(|n| tier.spread(n)).collect();
        let open = first.iter().filter(|n| {
            let was_open = tier.is_open(**n);
            tier.hit(**n);
            was_open
        });
        assert!(open.count() * 20 < first.len(), "nearly every hit has to open its file");
        let mut n = 0;
        group.bench_function("look up and read, file opened", |b| {
            b.iter(|| {
                n += 1;
                assert_eq!(tier.hit(tier.spread(n)), size);
            });
        });
        let paths: Vec<PathBuf> = tier.ids.iter().map(|(id, _)| tier.path_of(id)).collect();
        group.bench_function("open, pread of the whole file, close", |b| {
            b.iter(|| {
                n += 1;
                let file = File::open(&paths[tier.spread(n)]).expect("a file");
                file.read_exact_at(black_box(&mut buffer), 0).expect("all of it");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, hits);
criterion_main!(benches);
