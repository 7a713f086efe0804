//! A directory full of entries, as the daemon would have written them.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use pingora::http::ResponseHeader;
use std::path::Path;
use std::time::Duration;
use tidegate::clock;
use tidegate::decide::Facts;
use tidegate::key::PrimaryKey;
use tidegate::semantics::freshness::Freshness;
use tidegate::store::disk::bound::Bound;
use tidegate::store::disk::file::Dir;
use tidegate::store::disk::file::write::write_entry;
use tidegate::store::disk::format::FileId;
use tidegate::store::disk::home::Home;
use tidegate::store::encoding::encode_head;
use tidegate::store::entry::{EntryId, StoredHead};

pub(crate) const BUCKET: &str = "many";
pub(crate) const HOST: &str = "many.test";

/// Bytes of each body: with its head it takes one block of most file systems.
const BODY: usize = 1024;

/// Bytes of disk for each: its block, and its inode and name.
const ROOM: u64 = 4096 + 512;

/// Bytes and inodes besides.
const SPARE: (u64, u64) = (256 << 20, 1000);

/// As long as this runs at least.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn path_of(entry: u64) -> String {
    format!("/albums/summer/{entry}.webp")
}

/// Every entry has its own, so that no other one is taken for it.
pub(crate) fn body_of(entry: u64) -> Vec<u8> {
    entry.to_le_bytes().repeat(BODY / size_of::<u64>())
}

/// Fails if there is not enough of the file system left.
pub(crate) fn ensure_room(directory: &Path, entries: u64) -> Result<()> {
    let shown = directory.display();
    let free = rustix::fs::statvfs(directory).with_context(|| format!("cannot look at {shown}"))?;
    let (bytes, wanted) = (free.f_bavail.saturating_mul(free.f_frsize), entries.saturating_mul(ROOM) + SPARE.0);
    ensure!(
        bytes >= wanted,
        "{entries} entries take {} MB, and {shown} has {} MB: ask for fewer, or set TIDEGATE_RESTART_DIR to a directory with \
         more room",
        wanted >> 20,
        bytes >> 20
    );
    // Some file systems make inodes as they are needed, and say that there are none.
    if free.f_files > 0 && free.f_favail < entries + SPARE.1 {
        bail!("{entries} entries are as many files, and {shown} has {} inodes left: ask for fewer", free.f_favail);
    }
    Ok(())
}

/// Writes the entries; says how many bytes of disk they take.
pub(crate) fn fill(directory: &Path, entries: u64) -> Result<u64> {
    let home = Home::take(directory)?;
    let dir = Dir::open(directory)?;
    let writers = std::thread::available_parallelism()?.get() as u64;
    let bytes = std::thread::scope(|scope| {
        let write = |writer| {
            let dir = &dir;
            scope.spawn(move || write_some(dir, (writer..entries).step_by(writers as usize)))
        };
        let writing: Vec<_> = (0..writers).map(write).collect();
        let written = writing.into_iter().map(|some| some.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?);
        written.sum::<Result<u64>>()
    })?;
    // As a daemon leaves it that was told to end.
    Bound::open(home.path(), u64::MAX, false)?.set(bytes)?;
    Ok(bytes)
}

fn write_some(dir: &Dir, entries: impl Iterator<Item = u64>) -> Result<u64> {
    let facts = Facts::of(Freshness::of_max_age(FRESH, clock::now()));
    let head = head()?;
    let mut bytes = 0;
    for entry in entries {
        let key = PrimaryKey::from_uri(BUCKET, HOST, "http", &path_of(entry));
        let id = FileId::of(&EntryId { primary: key.hash(), variant: None });
        let encoded = encode_head(key.as_bytes(), None, &head, &facts, None);
        let written = write_entry(dir, id, &encoded, &Bytes::from(body_of(entry)))?;
        bytes += written.usage().allocated;
        written.commit()?;
    }
    Ok(bytes)
}

/// What an origin of pictures sends.
fn head() -> Result<StoredHead> {
    let fields = [
        ("Content-Type", "image/webp".to_owned()),
        ("Content-Length", BODY.to_string()),
        ("Cache-Control", format!("public, max-age={}", FRESH.as_secs())),
        ("ETag", "\"0123456789abcdef\"".to_owned()),
        ("Last-Modified", "Wed, 01 Oct 2025 00:00:00 GMT".to_owned()),
        ("Date", httpdate::fmt_http_date(clock::now())),
        ("Access-Control-Allow-Origin", "*".to_owned()),
        ("Server", "nginx".to_owned()),
    ];
    let mut head = ResponseHeader::build(200, Some(fields.len()))?;
    for (name, value) in fields {
        head.append_header(name, value)?;
    }
    Ok(StoredHead::from_parts(head, clock::now(), None))
}
