//! What the origin serves: bodies that say which they are.

use crate::ledger::Ledger;
use crate::support::Reply;
use crate::support::origin::Seen;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Paths `/0` and so on.
pub const KEYS: usize = 80;

/// Values of `x-kind` that some responses vary on.
pub const KINDS: [&str; 3] = ["a", "b", "c"];

/// The versions of all keys.
pub struct Site {
    versions: Vec<AtomicU64>,
    ledger: Arc<Ledger>,
}

/// Whether the responses of a key depend on `x-kind`.
pub fn varies(key: usize) -> bool {
    key.is_multiple_of(5)
}

fn seed_of(key: usize, version: u64, kind: &str) -> u64 {
    let kind = if varies(key) { kind.bytes().map(u64::from).sum() } else { 0 };
    // Any odd numbers: neighbours must not look alike.
    (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version.wrapping_mul(0xd1b5_4a32_d192_ed03) ^ (kind << 7)
}

/// The body of one version of a key, for one kind.
pub fn body_of(key: usize, version: u64, kind: &str) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed_of(key, version, kind));
    let length = match random.u8(..20) {
        0 => 0,
        1..=9 => random.usize(1..4096),
        10..=14 => random.usize(4096..70_000),
        // Around the length of a piece, where off-by-one errors live.
        15 => 65_536 + random.usize(..3) - 1,
        16..=17 => random.usize(70_000..400_000),
        _ => random.usize(400_000..3 << 20),
    };
    let mut body = vec![0; length];
    random.fill(&mut body);
    body
}

fn key_of(path: &str) -> Option<usize> {
    path.strip_prefix('/')?.parse().ok().filter(|key| *key < KEYS)
}

impl Site {
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Site { versions: (0..KEYS).map(|_| AtomicU64::new(1)).collect(), ledger }
    }

    /// What is current.
    pub fn version(&self, key: usize) -> u64 {
        self.versions[key].load(Ordering::SeqCst)
    }

    /// Answers the daemon.
    pub fn answer(&self, seen: &Seen) -> Reply {
        let Some(key) = key_of(seen.path()) else { return Reply::status(404) };
        if seen.method == "PUT" {
            let version = self.versions[key].fetch_add(1, Ordering::SeqCst) + 1;
            self.ledger.changed(key);
            return Reply::status(204).header("x-version", &version.to_string());
        }
        let version = self.version(key);
        let kind = seen.header("x-kind").unwrap_or_default();
        let body = body_of(key, version, &kind);
        let lifetime = [0, 1, 2, 60][key % 4];
        let mut reply = Reply::status(200).header("cache-control", &format!("max-age={lifetime}"));
        reply = reply.header("x-version", &version.to_string()).header("x-key", &key.to_string());
        if varies(key) {
            reply = reply.header("vary", "x-kind").header("x-kind", &kind);
        }
        if key % 3 != 0 {
            reply = reply.etag(&format!("\"{key}.{version}.{kind}\""));
        }
        // In pieces, so that there are moments between them.
        for piece in body.chunks(100_000) {
            reply = reply.piece(piece);
        }
        if (key / 2) % 2 == 0 { reply.chunked() } else { reply }
    }
}
