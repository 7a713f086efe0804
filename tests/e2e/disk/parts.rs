//! Parts of responses on disk: they outlive the process, are as large as they are, become the whole, and are checked.

use crate::support::proxy::Builder;
use crate::support::{Ending, Origin, Proxy, Reply, Response, eventually};
use std::path::PathBuf;

const TAG: &str = "\"v1\"";

/// Text in which every ten bytes say where they are.
fn content(length: usize) -> String {
    (0..length.div_ceil(10)).map(|n| format!("{n:09}\n")).collect::<String>()[..length].to_owned()
}

/// An origin by the book whose every target has [`content`] of that length.
async fn origin(length: usize) -> Origin {
    let origin = Origin::start().await;
    let all = content(length);
    origin.otherwise(move |seen| match seen.header("range") {
        Some(range) if seen.header("if-range").is_none_or(|known| known == TAG) => {
            let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap();
            let first = first.parse::<usize>().unwrap();
            let last = last.parse().unwrap_or(length).min(length - 1);
            Reply::status(206)
                .piece(&all[first..=last])
                .header("content-range", &format!("bytes {first}-{last}/{length}"))
                .header("cache-control", "max-age=600")
                .header("etag", TAG)
        }
        _ => Reply::fresh(&all).header("cache-control", "max-age=600").header("etag", TAG),
    });
    origin
}

/// Keeps so much in memory, and more on disk, whatever this run is about.
fn builder(origin: &Origin, memory: &str) -> Builder {
    Proxy::builder(origin)
        .without("cache")
        .set("cache.memory", memory)
        .set("cache.disk.path", "@DIR@/disk")
        .set("cache.disk.capacity", "256MiB")
        .set("cache.disk.max_object", "64MiB")
}

const NO_MEMORY: &str = "{ capacity: 0 }";
const LITTLE_MEMORY: &str = "{ capacity: 64MiB, max_object: 64KiB }";

async fn on_disk(origin: &Origin) -> Proxy {
    builder(origin, NO_MEMORY).start().await
}

async fn part(proxy: &Proxy, first: usize, last: usize) -> Response {
    proxy.get("/a").header("range", &format!("bytes={first}-{last}")).await
}

#[track_caller]
fn assert_part(response: &Response, length: usize, first: usize, last: usize) {
    assert_eq!((response.status, response.ending), (206, Ending::Clean), "{:?}", response.headers);
    assert!(response.text() == content(length)[first..=last], "bytes {first}-{last} are others");
}

#[track_caller]
fn assert_whole(response: &Response, length: usize) {
    assert_eq!((response.status, response.ending), (200, Ending::Clean), "{:?}", response.headers);
    assert!(response.text() == content(length), "the whole is another");
}

/// Waits until so many writes were done.
async fn written(proxy: &Proxy, writes: usize) {
    proxy.wait_for_metric("tidegate_tier_writes_total", "result=\"stored\",tier=\"disk\"", writes as f64).await;
}

fn files(proxy: &Proxy) -> Vec<PathBuf> {
    let directories = std::fs::read_dir(proxy.path("disk")).unwrap().map(|entry| entry.unwrap());
    let directories = directories.filter(|entry| entry.file_name().len() == 2).map(|entry| entry.path());
    directories.flat_map(|path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())).collect()
}

/// What the origin was asked for, in order.
fn ranges_seen(origin: &Origin) -> Vec<String> {
    origin.requests("/a").iter().map(|seen| seen.header("range").unwrap_or("-".to_owned())).collect()
}

#[tokio::test]
async fn parts_survive_a_restart() {
    let origin = origin(100).await;
    for memory in [NO_MEMORY, LITTLE_MEMORY] {
        let mut proxy = builder(&origin, memory).start().await;
        part(&proxy, 20, 49).await;
        written(&proxy, 1).await;
        let asked = origin.count("/a");
        proxy.restart().await;
        let hit = part(&proxy, 25, 44).await;
        assert_part(&hit, 100, 25, 44);
        assert!(hit.is_hit() && origin.count("/a") == asked, "{memory}");
        assert_eq!(hit.cache_status().detail.as_deref(), Some("disk"), "{memory}");
    }
}

#[tokio::test]
async fn a_part_that_comes_after_a_restart_is_combined_with_what_is_on_disk() {
    let origin = origin(100).await;
    let mut proxy = on_disk(&origin).await;
    part(&proxy, 20, 49).await;
    written(&proxy, 1).await;
    proxy.restart().await;
    part(&proxy, 50, 79).await;
    for _ in 0..2 {
        let across = part(&proxy, 30, 69).await;
        assert_part(&across, 100, 30, 69);
        assert!(across.is_hit());
        written(&proxy, 1).await;
        proxy.restart().await;
        part(&proxy, 0, 0).await;
    }
    assert_eq!(ranges_seen(&origin), ["bytes=20-49", "bytes=50-79", "bytes=0-0"]);
}

#[tokio::test]
async fn a_part_that_is_larger_than_memory_keeps_answers_from_disk() {
    const LENGTH: usize = 8_000_000;
    let origin = origin(LENGTH).await;
    for memory in [NO_MEMORY, LITTLE_MEMORY] {
        let mut proxy = builder(&origin, memory).start().await;
        assert_part(&part(&proxy, 1_000_003, 3_000_001).await, LENGTH, 1_000_003, 3_000_001);
        let asked = origin.count("/a");
        written(&proxy, 1).await;
        for restart in [false, true] {
            if restart {
                proxy.restart().await;
            }
            for (first, last) in [(1_000_003, 1_000_003), (1_065_500, 1_065_600), (1_500_000, 3_000_001)] {
                let hit = part(&proxy, first, last).await;
                assert_part(&hit, LENGTH, first, last);
                assert!(hit.is_hit(), "{first}-{last}, {memory}");
            }
        }
        assert_eq!(origin.count("/a"), asked);
        assert!(!part(&proxy, 3_000_001, 3_000_002).await.is_hit());
    }
}

#[tokio::test]
async fn large_parts_on_disk_become_the_whole_which_is_served_from_there() {
    const LENGTH: usize = 3_000_000;
    let origin = origin(LENGTH).await;
    let mut proxy = builder(&origin, LITTLE_MEMORY).start().await;
    part(&proxy, 0, 999_999).await;
    part(&proxy, 2_000_000, 2_999_999).await;
    let across = part(&proxy, 1_000_000, 1_999_999).await;
    assert_part(&across, LENGTH, 1_000_000, 1_999_999);
    // Before and after it is in one file.
    let whole = proxy.get("/a").await;
    assert_whole(&whole, LENGTH);
    assert!(whole.is_hit());
    eventually("everything to be written", async || {
        let metrics = proxy.metrics().await;
        let writes = metrics.sum("tidegate_tier_writes_total", "tier=\"disk\"");
        (writes >= 3.0).then_some(())
    })
    .await;
    assert_eq!(files(&proxy).len(), 1);
    proxy.restart().await;
    let whole = proxy.get("/a").await;
    assert_whole(&whole, LENGTH);
    assert!(whole.is_hit());
    assert_eq!(whole.cache_status().detail.as_deref(), Some("disk"));
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn the_whole_is_completed_around_parts_on_disk() {
    const LENGTH: usize = 1_000_000;
    let origin = origin(LENGTH).await;
    let mut proxy = on_disk(&origin).await;
    part(&proxy, 0, 399_999).await;
    part(&proxy, 700_000, 999_999).await;
    eventually("both to be written", async || {
        let metrics = proxy.metrics().await;
        (metrics.sum("tidegate_tier_writes_total", "tier=\"disk\"") >= 2.0).then_some(())
    })
    .await;
    proxy.restart().await;
    let whole = proxy.get("/a").await;
    assert_whole(&whole, LENGTH);
    assert_eq!(whole.cache_status().fwd(), "partial");
    assert_eq!(origin.last("/a").header("range").as_deref(), Some("bytes=400000-699999"));
    assert!(proxy.get("/a").await.is_hit());
}

// What goes around the missing span is in memory while it comes.
#[tokio::test]
async fn more_than_memory_should_hold_is_not_read_to_complete_the_whole() {
    const LENGTH: usize = 12_000_000;
    let origin = origin(LENGTH).await;
    let proxy = on_disk(&origin).await;
    part(&proxy, 0, 9_999_999).await;
    assert_whole(&proxy.get("/a").await, LENGTH);
    assert_eq!(ranges_seen(&origin), ["bytes=0-9999999", "-"]);
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_damaged_file_of_parts_is_never_served() {
    const LENGTH: usize = 3_000_000;
    let origin = origin(LENGTH).await;
    for (last, broken) in [(1_000, 500), (1_999_999, 1_500_000)] {
        let mut proxy = on_disk(&origin).await;
        part(&proxy, 100, last).await;
        written(&proxy, 1).await;
        let [file] = files(&proxy).try_into().expect("one file");
        let mut bytes = std::fs::read(&file).unwrap();
        let needle = &content(LENGTH).as_bytes()[broken..broken + 30].to_owned();
        let at = bytes.windows(30).position(|bytes| bytes == needle).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        proxy.restart().await;
        // The connection may break off, since its beginning can be sound; what comes is right.
        let response = part(&proxy, broken, broken + 50).await;
        let text = response.text();
        assert!(content(LENGTH)[broken..=broken + 50].starts_with(&text), "damage was served");
        let again = part(&proxy, broken, broken + 50).await;
        assert_part(&again, LENGTH, broken, broken + 50);
        assert!(origin.count("/a") >= 2);
    }
}

#[tokio::test]
async fn a_purged_part_does_not_come_back() {
    let origin = origin(100).await;
    let mut proxy = on_disk(&origin).await;
    part(&proxy, 20, 49).await;
    written(&proxy, 1).await;
    let length = origin.count("/a");
    proxy.call("DELETE", "/a").await;
    proxy.restart().await;
    assert!(!part(&proxy, 25, 44).await.is_hit());
    assert_eq!(origin.count("/a"), length + 2);
}
