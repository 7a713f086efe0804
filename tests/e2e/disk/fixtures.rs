//! Files of entries as they were written once, in `tests/fixtures/disk`: the format does not change in silence.
//!
//! What this version wrote yesterday, every later one of the same format has to serve. A change of the format needs a new
//! version number, fixtures of its own beside these, and then these show that the old ones are fetched again.

use super::*;
use std::fs;
use xxhash_rust::xxh3::xxh3_64;

/// Names of entries: those of `/small` and `/large` at `test.example` in the bucket `main`, without a policy.
const SMALL: &str = "small";
const LARGE: &str = "large";

const PREFIX: usize = 128;
const PIECE: usize = 64 * 1024;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/disk")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = fixtures().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the fixtures hold.
fn body_of(entry: &str) -> Vec<u8> {
    let lines = if entry == SMALL { 3 } else { 3000 };
    (1..=lines).map(|line| format!("line {line} of a stored response\n")).collect::<String>().into_bytes()
}

/// The response that they were made of. In a hundred years it is not fresh any more.
fn reply_of(entry: &str) -> Reply {
    let reply = Reply::ok(body_of(entry)).header("content-type", "text/plain").header("x-fixture", entry);
    reply.header("cache-control", "max-age=2000000000").header("date", "Sat, 21 Nov 2026 12:00:00 GMT")
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The name that an entry has in a directory: it is in its file as well.
fn name_of(bytes: &[u8]) -> String {
    format!("{:016x}{:016x}", number(bytes, 24, 8), number(bytes, 16, 8))
}

/// Puts a fixture in the place of an entry.
fn put(disk: &Disk, entry: &str, fixture_name: &str) {
    let name = name_of(&fixture(&format!("v1-{entry}")));
    let directory = disk.path().join(&name[..2]);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), fixture(fixture_name)).unwrap();
}

/// A daemon on a directory with these files, which an earlier one has marked as its own.
async fn on_fixtures(disk: &Disk, origin: &Origin, files: &[(&str, &str)]) -> Proxy {
    stop(disk.alone(origin).start().await).await;
    files.iter().for_each(|(entry, name)| put(disk, entry, name));
    let proxy = disk.alone(origin).start().await;
    wait_for_state(&proxy, "ok").await;
    proxy
}

#[tokio::test]
async fn files_of_format_1_are_served() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let proxy = on_fixtures(&disk, &origin, &[(SMALL, "v1-small"), (LARGE, "v1-large")]).await;
    for entry in [SMALL, LARGE] {
        let response = proxy.get(&format!("/{entry}")).await;
        assert!(response.is_hit(), "{entry}: {:?}", response.headers);
        assert_eq!((response.status, response.header("x-fixture").as_deref()), (200, Some(entry)));
        assert_eq!(response.header("content-type").as_deref(), Some("text/plain"));
        assert!(response.body == body_of(entry), "{entry}");
    }
    assert_eq!((origin.count("/small"), origin.count("/large")), (0, 0));
}

#[tokio::test]
async fn what_is_stored_today_has_the_layout_of_format_1() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    for entry in [SMALL, LARGE] {
        origin.on(&format!("/{entry}"), reply_of(entry));
    }
    let proxy = disk.alone(&origin).start().await;
    for entry in [SMALL, LARGE] {
        store(&proxy, &format!("/{entry}")).await;
        let old = fixture(&format!("v1-{entry}"));
        let name = name_of(&old);
        let new = fs::read(disk.path().join(&name[..2]).join(&name)).expect("the file under the name that it had");
        assert_layout(&new, entry);
        // All but the times, which are in the head, and the sums of head and prefix.
        let places = |bytes: &[u8]| bytes[..PREFIX].chunks(8).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let differ: Vec<usize> = (0..16).filter(|word| places(&old)[*word] != places(&new)[*word]).collect();
        assert!(differ.iter().all(|word| [7, 15].contains(word)), "{entry}: words {differ:?} of the prefix");
        assert_eq!(old.len(), new.len());
    }
}

#[test]
fn the_files_of_format_1_are_what_is_documented() {
    for entry in [SMALL, LARGE] {
        assert_layout(&fixture(&format!("v1-{entry}")), entry);
    }
}

/// Reads a file by nothing but the documentation of the format.
fn assert_layout(bytes: &[u8], entry: &str) {
    let body = body_of(entry);
    assert_eq!((&bytes[..8], number(bytes, 8, 2)), (&b"\x89TGentry"[..], 1), "magic, version");
    let (head_len, head_at) = (number(bytes, 12, 4) as usize, number(bytes, 32, 8) as usize);
    assert_eq!(number(bytes, 56, 8), xxh3_64(&bytes[head_at..head_at + head_len]), "the sum of the head");
    let (body_at, body_len) = (number(bytes, 64, 8) as usize, number(bytes, 72, 8) as usize);
    assert!(bytes[body_at..body_at + body_len] == body, "the body");
    let (sums_at, sums_sum) = (number(bytes, 80, 8) as usize, number(bytes, 88, 8));
    if body.len() > PIECE {
        let sums: Vec<u8> = body.chunks(PIECE).flat_map(|piece| xxh3_64(piece).to_le_bytes()).collect();
        assert_eq!((body_at % 4096, &bytes[sums_at..], sums_sum), (0, sums.as_slice(), xxh3_64(&sums)));
    } else {
        assert_eq!((sums_at, sums_sum), (0, xxh3_64(&body)));
    }
    assert_eq!(number(bytes, PREFIX - 8, 8), xxh3_64(&bytes[..PREFIX - 8]), "the sum of the prefix");
}

/// How the damaged ones were made of the good ones, and as what they are counted.
fn damaged(name: &str) -> (&'static str, Vec<u8>, &'static str) {
    let entry = if name.contains(LARGE) { LARGE } else { SMALL };
    let mut bytes = fixture(&format!("v1-{entry}"));
    let end = bytes.len();
    let kind = match name {
        "v1-small-body" => {
            bytes[end - 10] ^= 1;
            "checksum"
        }
        "v1-small-head" => {
            bytes[PREFIX + 10] ^= 1;
            "checksum"
        }
        "v1-small-prefix" => {
            bytes[PREFIX - 60] ^= 1;
            "checksum"
        }
        "v1-small-cut" => {
            bytes.truncate(end - 10);
            "truncated"
        }
        "v1-large-table" => {
            bytes[end - 10] ^= 1;
            "checksum"
        }
        "v0-small" => {
            bytes[8..10].fill(0);
            let sum = xxh3_64(&bytes[..PREFIX - 8]);
            bytes[PREFIX - 8..PREFIX].copy_from_slice(&sum.to_le_bytes());
            "version"
        }
        other => panic!("no fixture {other}"),
    };
    (entry, bytes, kind)
}

const DAMAGED: [&str; 6] =
    ["v1-small-body", "v1-small-head", "v1-small-prefix", "v1-small-cut", "v1-large-table", "v0-small"];

#[test]
fn the_damaged_files_are_what_is_documented() {
    for name in DAMAGED {
        assert!(fixture(name) == damaged(name).1, "{name}");
    }
}

#[tokio::test]
async fn damaged_and_older_files_are_never_served_and_fetched_again() {
    for name in DAMAGED {
        let (entry, _, kind) = damaged(name);
        let (origin, disk) = (Origin::start().await, Disk::new());
        let path = format!("/{entry}");
        origin.on(&path, lasting("from the origin"));
        let proxy = on_fixtures(&disk, &origin, &[(entry, name)]).await;
        let response = proxy.get(&path).await;
        assert!(!response.is_hit() && response.text() == "from the origin", "{name}");
        assert_eq!((errors(&proxy, kind).await, origin.count(&path)), (1.0, 1), "{name}");
        wait_for_writes(&proxy, "stored", 1.0).await;
        assert!(proxy.get(&path).await.is_hit());
        assert_eq!(disk.files().len(), 1);
    }
}
