//! Files that are not what was written: nothing of them is served, they are counted and removed, and fetched again.

use super::*;
use crate::support::{Call, Ending};

/// Where the version stands, after the magic.
const VERSION_AT: usize = 8;

/// Bytes of the prefix; the head is behind it.
const PREFIX: usize = 128;

/// A body of one piece, which lies at the end of its file.
const SMALL: &str = "a body that is easily told from anything else";

/// Stores `/a`, has its file changed while no daemon runs, and starts one that does not have it open.
async fn changed(disk: &Disk, origin: &Origin, body: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Proxy {
    origin.on("/a", lasting(body));
    let proxy = disk.alone(origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    disk.change_file(change);
    let proxy = disk.alone(origin).start().await;
    wait_for_state(&proxy, "ok").await;
    proxy
}

/// Says what becomes of a damaged file: counted as `kind`, not served, replaced by what the origin sends.
async fn damage_is_noticed(kind: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let proxy = changed(&disk, &origin, SMALL.as_bytes(), change).await;
    let response = proxy.get("/a").await;
    assert_eq!((response.status, response.text().as_str()), (200, SMALL));
    assert!(!response.is_hit());
    assert_eq!((errors(&proxy, kind).await, origin.count("/a")), (1.0, 2), "{kind}");
    wait_for_writes(&proxy, "stored", 1.0).await;
    let again = proxy.get("/a").await;
    assert!(again.is_hit() && again.text() == SMALL);
    assert_eq!(disk.files().len(), 1);
}

fn place_of(part: &[u8], bytes: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("that part of the file")
}

#[tokio::test]
async fn a_byte_of_the_body_that_changed_is_noticed() {
    damage_is_noticed("checksum", |bytes| {
        let at = place_of(SMALL.as_bytes(), bytes);
        bytes[at + 3] ^= 1;
    })
    .await;
}

#[tokio::test]
async fn a_byte_of_the_head_that_changed_is_noticed() {
    damage_is_noticed("checksum", |bytes| bytes[PREFIX + 5] ^= 0x80).await;
}

#[tokio::test]
async fn a_byte_of_the_prefix_that_changed_is_noticed() {
    damage_is_noticed("checksum", |bytes| bytes[PREFIX - 20] ^= 1).await;
}

#[tokio::test]
async fn a_file_that_was_cut_is_noticed() {
    damage_is_noticed("truncated", |bytes| bytes.truncate(bytes.len() - 1)).await;
}

#[tokio::test]
async fn a_file_that_ends_in_its_prefix_is_noticed() {
    damage_is_noticed("truncated", |bytes| bytes.truncate(40)).await;
}

#[tokio::test]
async fn an_empty_file_is_noticed() {
    damage_is_noticed("truncated", Vec::clear).await;
}

#[tokio::test]
async fn something_else_under_the_name_of_an_entry_is_noticed() {
    damage_is_noticed("foreign", |bytes| *bytes = b"notes of somebody who mistook the directory\n".repeat(10)).await;
}

#[tokio::test]
async fn a_file_of_zeros_is_noticed() {
    damage_is_noticed("foreign", |bytes| bytes.fill(0)).await;
}

#[tokio::test]
async fn a_file_of_an_older_format_is_noticed() {
    damage_is_noticed("version", |bytes| bytes[VERSION_AT..VERSION_AT + 2].fill(0)).await;
}

#[tokio::test]
async fn a_file_of_a_newer_format_is_noticed() {
    damage_is_noticed("version", |bytes| bytes[VERSION_AT] += 1).await;
}

#[tokio::test]
async fn a_changed_byte_is_noticed_wherever_it_is() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting(SMALL));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let (file, sound) = (disk.file(), std::fs::read(disk.file()).unwrap());
    // Each takes a start, so only some bytes: steps that share no divisor with the layout see every kind of field.
    for at in (0..sound.len()).step_by(37) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&file, bytes).unwrap();
        let proxy = disk.alone(&origin).start().await;
        let response = proxy.get("/a").await;
        assert!(!response.is_hit() && response.text() == SMALL, "byte {at}");
    }
}

#[tokio::test]
async fn the_file_of_another_entry_is_noticed() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    for path in ["/a", "/b"] {
        origin.on(path, lasting(path));
    }
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    let a = disk.file();
    store(&proxy, "/b").await;
    crash(proxy);
    let b = disk.files().into_iter().find(|file| *file != a).unwrap();
    std::fs::copy(&b, &a).unwrap();
    let proxy = disk.alone(&origin).start().await;
    let response = proxy.get("/a").await;
    assert!(!response.is_hit() && response.text() == "/a");
    assert_eq!(errors(&proxy, "key").await, 1.0);
    assert!(proxy.get("/b").await.is_hit());
}

#[tokio::test]
async fn damage_in_a_large_body_breaks_the_response_off_before_it_and_the_next_is_whole() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(2 << 20, 1));
    let at = 1 << 20;
    let proxy = changed(&disk, &origin, &body, |bytes| {
        let at = place_of(&body[at..at + 32], bytes);
        bytes[at] ^= 1;
    })
    .await;
    let broken = proxy.get("/a").await;
    assert_eq!((broken.status, broken.ending), (200, Ending::Cut));
    assert!(broken.body.len() <= at && body.starts_with(&broken.body), "{} bytes", broken.body.len());
    assert_eq!(errors(&proxy, "checksum").await, 1.0);
    let whole = proxy.get("/a").await;
    assert!(whole.ending == Ending::Clean && whole.body == body && !whole.is_hit());
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn a_range_beside_the_damage_is_served() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(2 << 20, 1));
    let proxy = changed(&disk, &origin, &body, |bytes| {
        let at = place_of(&body[1 << 20..(1 << 20) + 32], bytes);
        bytes[at] ^= 1;
    })
    .await;
    let range = |range: &str| -> Call { proxy.get("/a").header("range", &format!("bytes={range}")) };
    let before = range("100-199").await;
    assert!(before.status == 206 && before.is_hit() && before.body == body[100..200]);
    let damaged = range("1048570-1048580").await;
    assert_ne!((damaged.status, damaged.ending), (206, Ending::Clean));
    // From now on it is known.
    let again = range("1048570-1048580").await;
    assert!(again.status == 206 && again.body == body[1_048_570..=1_048_580]);
}

#[tokio::test]
async fn a_large_file_that_was_cut_is_noticed_before_anything_is_sent() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(2 << 20, 1));
    let proxy = changed(&disk, &origin, &body, |bytes| bytes.truncate(bytes.len() / 2)).await;
    let response = proxy.get("/a").await;
    assert!(response.ending == Ending::Clean && response.body == body && !response.is_hit());
    assert_eq!(errors(&proxy, "truncated").await, 1.0);
}

#[tokio::test]
async fn a_file_that_was_deleted_is_fetched_again() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting(SMALL));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    std::fs::remove_file(disk.file()).unwrap();
    let response = proxy.get("/a").await;
    assert!(!response.is_hit() && response.text() == SMALL);
    assert_eq!(errors(&proxy, "missing").await, 1.0);
    wait_for_writes(&proxy, "stored", 2.0).await;
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_pipe_under_the_name_of_an_entry_holds_nobody_up() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting(SMALL));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    let file = disk.file();
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let response = proxy.get("/a").await;
    assert!(!response.is_hit() && response.text() == SMALL);
}
