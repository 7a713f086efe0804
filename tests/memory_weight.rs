//! What the memory tier counts against what the process takes: a capacity in the configuration means real memory.
//!
//! Alone in its process, and with the allocator of the daemon, because it looks at the whole process.

use bytes::{Bytes, BytesMut};
use pingora::cache::CacheMeta;
use pingora::http::ResponseHeader;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidegate::decide::Facts;
use tidegate::key::PrimaryKey;
use tidegate::semantics::freshness::Freshness;
use tidegate::store::entry::{Body, Entry, EntryId, StoredHead};
use tidegate::store::memory::MemoryTier;
use tidegate::store::partial::Parts;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Enough that what else the process does is noise.
const ENTRIES: usize = 30_000;

/// How far the count may be from the truth.
const TOLERANCE: f64 = 0.2;

const FIELDS: [(&str, &str); 11] = [
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "1024"),
    ("cache-control", "public, max-age=3600, stale-while-revalidate=60"),
    ("etag", "\"0123456789abcdef\""),
    ("last-modified", "Wed, 01 Oct 2025 00:00:00 GMT"),
    ("date", "Sat, 01 Nov 2025 00:00:00 GMT"),
    ("vary", "accept-encoding, accept"),
    ("access-control-allow-origin", "*"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("x-frame-options", "SAMEORIGIN"),
    ("server", "nginx"),
];

/// What an entry of the test is made of.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// One body of so many bytes.
    Whole(usize),
    /// So many parts, of so many bytes each, with gaps between them.
    Parts(usize, usize),
}

#[test]
fn the_weight_of_entries_is_the_memory_that_they_take() {
    let wholes = [0, 1024, 8 * 1024].map(Content::Whole);
    for body in wholes.into_iter().chain([Content::Parts(40, 1), Content::Parts(8, 1024)]) {
        let tier = MemoryTier::new(1 << 40, Box::new(|_, _| ()));
        let before = resident();
        for n in 0..ENTRIES {
            let (id, entry) = entry(n, body);
            tier.insert(id, Arc::new(entry));
        }
        let (items, counted) = tier.usage();
        let taken = resident() - before;
        assert_eq!(items, ENTRIES as u64);
        let ratio = counted as f64 / taken as f64;
        println!("{body:?} bytes: {} counted, {} taken, {ratio:.2}", counted / items, taken / items);
        assert!((ratio - 1.0).abs() <= TOLERANCE, "{body:?} bytes: counted {counted}, taken {taken}");
        // Kept, so that the next round takes memory of its own.
        std::mem::forget(tier);
    }
}

/// An entry as a fill leaves it.
fn entry(n: usize, body: Content) -> (EntryId, Entry) {
    // Each field of a response that came over the wire has its text for itself or shares it with the whole head.
    let text: String = FIELDS.iter().map(|(_, value)| *value).collect();
    let text = Bytes::from(text);
    let mut head = ResponseHeader::build_no_case(200, Some(FIELDS.len())).unwrap();
    let mut at = 0;
    for (name, value) in FIELDS {
        let value = http::HeaderValue::from_maybe_shared(text.slice(at..at + value.len())).unwrap();
        at += value.len();
        head.append_header(name, value).unwrap();
    }
    let now = tidegate::clock::now();
    let meta = CacheMeta::new(now + Duration::from_secs(60), now, 0, 0, head);
    let key = PrimaryKey::from_uri("media", "img.example.com", "https", &format!("/albums/summer/{n}.webp?w=320"));
    let id = EntryId { primary: key.hash(), variant: None };
    let head = Arc::new(StoredHead::of(&meta));
    let body = match body {
        Content::Whole(bytes) => Body::Whole(Bytes::from(vec![b'x'; bytes])),
        Content::Parts(many, bytes) => {
            let part = || BytesMut::from(vec![b'x'; bytes].as_slice()).freeze();
            let first = Parts::new(u64::MAX, 0, part());
            let at = |n: usize| (2 * n * bytes) as u64;
            Body::Parts((1..many).fold(first, |parts, n| parts.with(at(n), part())))
        }
    };
    (id, Entry::of(key.into_bytes().into(), head, body, Arc::new(facts(now))))
}

fn facts(now: SystemTime) -> Facts {
    let tags = ["media".to_owned(), "album:summer".to_owned()];
    Facts { tags: tags.into(), ..Facts::of(Freshness::of_max_age(Duration::from_secs(60), now)) }
}

/// Bytes of memory that the process has now.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells the size of a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the resident size");
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kibibytes * 1024
}
