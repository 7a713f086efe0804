//! A disk that takes nothing: responses arrive all the same, what is there is served, and it ends by itself.

use super::*;
use crate::support::faults::{Fault, On};
use crate::support::{Ending, Gate};

/// Failures in a row after which nothing is written for a while.
const FAILURES: usize = 5;

/// Asks for something new until one of it is stored.
async fn wait_until_stored_again(proxy: &Proxy) {
    let (before, mut number) = (writes(proxy, "stored").await, 0);
    eventually("something to be stored again", async || {
        number += 1;
        assert_eq!(proxy.get(&format!("/again/{number}")).await.status, 200);
        (writes(proxy, "stored").await > before).then_some(())
    })
    .await;
    wait_for_state(proxy, "ok").await;
}

async fn origin_of_anything() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|seen| lasting(seen.path()));
    origin
}

#[tokio::test]
async fn a_full_disk_costs_no_response_and_the_tier_says_that_it_is_read_only() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    origin.on("/before", lasting(noise(1 << 20, 1)));
    let proxy = disk.alone(&origin).start().await;
    // Each attempt makes room for itself and a mebibyte, and so takes two of these.
    for number in 0..FAILURES * 3 {
        store(&proxy, &format!("/before?{number}")).await;
    }
    disk.faults.set(On::Write, Fault::Full);
    for number in 0..FAILURES {
        let response = proxy.get(&format!("/{number}")).await;
        assert_eq!((response.status, response.text()), (200, format!("/{number}")));
        wait_for_writes(&proxy, "failed", number as f64 + 1.0).await;
    }
    wait_for_state(&proxy, "read-only").await;
    assert!(errors(&proxy, "full").await >= FAILURES as f64);
    let left = disk.files().len();
    assert!(left >= FAILURES);
    for number in 0..FAILURES * 3 {
        assert_eq!(proxy.get(&format!("/before?{number}")).await.body.len(), 1 << 20);
    }
    assert_eq!(hits(&proxy).await, left as u64);
    assert!(!proxy.get("/0").await.is_hit());
}

#[tokio::test]
async fn a_full_disk_is_said_once_in_the_log() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::Full);
    for number in 0..40 {
        assert_eq!(proxy.get(&format!("/{number}")).await.status, 200);
    }
    proxy.wait_for_log("nothing can be stored on disk").await;
    let log = proxy.log();
    assert_eq!(log.matches("nothing can be stored on disk").count(), 1, "{log}");
    // What happened to single ones is told once in a while.
    assert!(log.matches("a response could not be stored").count() < 10, "{log}");
}

#[tokio::test]
async fn once_there_is_room_again_responses_are_stored_again() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::Full);
    for number in 0..FAILURES {
        assert_eq!(proxy.get(&format!("/{number}")).await.status, 200);
        wait_for_writes(&proxy, "failed", number as f64 + 1.0).await;
    }
    wait_for_state(&proxy, "read-only").await;
    disk.faults.clear();
    wait_until_stored_again(&proxy).await;
    proxy.wait_for_log("responses are stored on disk again").await;
}

#[tokio::test]
async fn a_disk_that_fills_in_the_middle_of_a_large_response_cuts_nobody_off() {
    let (origin, disk, gate) = (Origin::start().await, Disk::new(), Gate::closed());
    let body = noise(3 << 20, 1);
    let (first, second) = body.split_at(1 << 20);
    origin.on("/a", lasting(first).hold(&gate).piece(second).chunked());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::FullAfter(1 << 19));
    let leader = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let follower = proxy.get("/a").spawn();
    proxy.wait_for_waiters(1).await;
    gate.open();
    for client in [leader, follower] {
        let response = client.await.unwrap();
        assert_eq!((response.ending, response.body.len()), (Ending::Clean, body.len()));
        assert!(response.body == body);
    }
    wait_for_writes(&proxy, "failed", 1.0).await;
    disk.faults.clear();
    eventually("the whole to be stored", async || {
        assert!(proxy.get("/a").await.body == body);
        (writes(&proxy, "stored").await == 1.0).then_some(())
    })
    .await;
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn what_was_written_before_the_disk_was_full_takes_no_room_afterwards() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting(noise(3 << 20, 1)).chunked());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::FullAfter(1 << 20));
    assert_eq!(proxy.get("/a").await.body.len(), 3 << 20);
    wait_for_writes(&proxy, "failed", 1.0).await;
    let left = async || std::fs::read_dir(disk.path().join("tmp")).unwrap().next().is_none().then_some(());
    eventually("tmp to be empty", left).await;
    assert!(disk.files().is_empty());
}

#[tokio::test]
async fn a_read_only_file_system_serves_what_is_there_and_stores_nothing() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/before").await;
    On::CHANGES.iter().for_each(|on| disk.faults.set(*on, Fault::ReadOnly));
    for number in 0..2 * FAILURES {
        assert_eq!(proxy.get(&format!("/{number}")).await.status, 200);
    }
    wait_for_state(&proxy, "read-only").await;
    assert!(errors(&proxy, "io").await >= FAILURES as f64);
    assert!(proxy.get("/before").await.is_hit());
    disk.faults.clear();
    wait_until_stored_again(&proxy).await;
}

#[tokio::test]
async fn a_read_only_file_system_at_start_is_said_and_served_without() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    On::CHANGES.iter().for_each(|on| disk.faults.set(*on, Fault::ReadOnly));
    let proxy = disk.alone(&origin).start().await;
    proxy.wait_for_log("serving without it, and trying again").await;
    assert_eq!(proxy.get("/a").await.text(), "/a");
    assert_eq!(told(&proxy).await["state"], "unavailable");
    disk.faults.clear();
    wait_until_stored_again(&proxy).await;
}
