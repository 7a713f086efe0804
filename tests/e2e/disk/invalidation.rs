//! What a request has changed stays forgotten, on a disk as well.

use super::*;
use crate::support::Gate;
use crate::support::faults::{Fault, On};

/// An origin whose `/a` is what the latest `PUT` said, `old` at first.
async fn origin_with_a(body: &'static str) -> Origin {
    let origin = Origin::start().await;
    let now = std::sync::Mutex::new(body.as_bytes().to_vec());
    origin.on_fn("/a", move |seen| {
        if seen.method == "PUT" {
            *now.lock().unwrap() = seen.body.clone();
            return Reply::status(204);
        }
        lasting(now.lock().unwrap().as_slice())
    });
    origin
}

#[tokio::test]
async fn a_change_is_forgotten_on_disk_before_it_is_answered() {
    let (origin, disk) = (origin_with_a("old").await, Disk::new());
    for _ in 0..5 {
        let proxy = disk.alone(&origin).start().await;
        store(&proxy, "/a").await;
        assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
        assert!(disk.files().is_empty());
        crash(proxy);
    }
}

#[tokio::test]
async fn a_change_stays_known_after_a_crash_right_behind_its_answer() {
    let (origin, disk) = (origin_with_a("old").await, Disk::new());
    let proxy = disk.below_memory(&origin).start().await;
    store(&proxy, "/a").await;
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
    crash(proxy);
    let proxy = disk.below_memory(&origin).start().await;
    let response = proxy.get("/a").await;
    assert!(!response.is_hit() && response.text() == "new");
}

#[tokio::test]
async fn a_change_right_after_a_restart_is_not_forgotten_because_nothing_is_known_yet() {
    let (origin, disk) = (origin_with_a("old").await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    disk.faults.set(On::List, Fault::Hangs);
    let proxy = disk.alone(&origin).start().await;
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
    assert!(disk.files().is_empty());
    disk.faults.clear();
    wait_for_state(&proxy, "ok").await;
    assert_eq!(proxy.get("/a").await.text(), "new");
}

#[tokio::test]
async fn a_change_while_an_entry_waits_to_be_written_keeps_it_from_the_disk() {
    let (origin, disk) = (origin_with_a("old").await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::Hangs);
    assert_eq!(proxy.get("/a").await.text(), "old");
    disk.faults.wait_for(On::Write, 1).await;
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
    disk.faults.clear();
    wait_for_writes(&proxy, "outdated", 1.0).await;
    crash(proxy);
    assert!(disk.files().is_empty());
    let proxy = disk.alone(&origin).start().await;
    assert_eq!(proxy.get("/a").await.text(), "new");
}

#[tokio::test]
async fn variants_go_with_a_change_and_do_not_come_back_after_a_crash() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let version = std::sync::atomic::AtomicU32::new(1);
    origin.on_fn("/a", move |seen| {
        use std::sync::atomic::Ordering::Relaxed;
        if seen.method == "PUT" {
            version.fetch_add(1, Relaxed);
            return Reply::status(204);
        }
        let kind = seen.header("x-kind").unwrap_or_default();
        lasting(format!("{kind} {}", version.load(Relaxed))).header("vary", "x-kind")
    });
    let proxy = disk.alone(&origin).start().await;
    for (number, kind) in ["a", "b", "c"].iter().enumerate() {
        assert_eq!(proxy.get("/a").header("x-kind", kind).await.text(), format!("{kind} 1"));
        wait_for_writes(&proxy, "stored", number as f64 + 1.0).await;
    }
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
    assert_eq!(proxy.get("/a").header("x-kind", "b").await.text(), "b 2");
    wait_for_writes(&proxy, "stored", 4.0).await;
    crash(proxy);
    let proxy = disk.alone(&origin).start().await;
    for kind in ["c", "b", "a"] {
        assert_eq!(proxy.get("/a").header("x-kind", kind).await.text(), format!("{kind} 2"));
    }
}

#[tokio::test]
async fn what_could_not_be_removed_is_not_served() {
    let (origin, disk) = (origin_with_a("old").await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    On::CHANGES.iter().for_each(|on| disk.faults.set(*on, Fault::ReadOnly));
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
    for _ in 0..3 {
        assert_eq!(proxy.get("/a").await.text(), "new");
    }
}

#[tokio::test]
async fn what_could_not_be_removed_goes_once_it_can() {
    let (origin, disk) = (origin_with_a("old").await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    On::CHANGES.iter().for_each(|on| disk.faults.set(*on, Fault::ReadOnly));
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
    disk.faults.clear();
    eventually("the file to go", async || disk.files().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_change_while_a_large_response_comes_keeps_it_from_the_disk_for_good() {
    let (origin, disk, gate) = (Origin::start().await, Disk::new(), Gate::closed());
    let body = noise(2 << 20, 1);
    let (first, second) = body.split_at(1 << 20);
    let old = lasting(first).hold(&gate).piece(second).chunked();
    origin.on_fn("/a", move |seen| if seen.method == "PUT" { Reply::status(204) } else { old.clone() });
    let proxy = disk.alone(&origin).start().await;
    let client = proxy.get("/a").spawn();
    let written = async || (std::fs::read_dir(disk.path().join("tmp")).unwrap().count() > 0).then_some(());
    eventually("a file under tmp/", written).await;
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
    // Nothing that is put into its place from now on could be taken away again.
    disk.faults.set(On::Remove, Fault::Hangs);
    gate.open();
    assert!(client.await.unwrap().body == body);
    crash(proxy);
    disk.faults.clear();
    origin.on("/a", lasting("new"));
    let proxy = disk.alone(&origin).start().await;
    assert_eq!(proxy.get("/a").await.text(), "new");
}

#[tokio::test]
async fn what_is_forgotten_goes_although_its_successor_is_not_written_yet() {
    let (origin, disk) = (origin_with_a("old").await, Disk::new());
    origin.on("/b", lasting("b"));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    store(&proxy, "/b").await;
    // The removal of /a waits behind that of /b, until its successor waits to be written.
    disk.faults.set(On::Remove, Fault::Hangs);
    disk.faults.set(On::Write, Fault::Hangs);
    assert_eq!(proxy.call("PUT", "/b").body("new").await.status, 200);
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 204);
    assert_eq!(proxy.get("/a").await.text(), "new");
    disk.faults.wait_for(On::Write, 1).await;
    disk.faults.clear_one(On::Remove);
    eventually("both files to go", async || disk.files().is_empty().then_some(())).await;
    assert_eq!(proxy.get("/a").await.text(), "new");
    disk.faults.clear();
    wait_for_writes(&proxy, "stored", 3.0).await;
    assert!(proxy.get("/a").await.is_hit());
}
