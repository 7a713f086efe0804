//! A disk that answers late or never: nobody waits for it longer than `cache.disk.timeout`.

use super::*;
use crate::support::Ending;
use crate::support::faults::{Fault, On};
use std::time::Duration;

async fn origin_of_anything() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|seen| lasting(seen.path()));
    origin
}

#[tokio::test]
async fn while_a_disk_hangs_the_origin_answers_every_request() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    for number in 0..12 {
        store(&proxy, &format!("/{number}")).await;
    }
    crash(proxy);
    let proxy = disk.alone(&origin).set("cache.disk.timeout", "100ms").start().await;
    disk.faults.set(On::Read, Fault::Hangs);
    let clients: Vec<_> = (0..12).map(|number| proxy.get(&format!("/{number}")).spawn()).collect();
    for (number, client) in clients.into_iter().enumerate() {
        let response = client.await.unwrap();
        assert_eq!((response.status, response.text()), (200, format!("/{number}")));
        assert_eq!(response.cache_status().detail(), "disk-unavailable");
    }
    assert!(disk.faults.struck(On::Read) > 0);
    wait_for_state(&proxy, "unavailable").await;
    assert!(errors(&proxy, "timeout").await >= 5.0);
}

#[tokio::test]
async fn once_a_disk_that_hung_answers_it_is_used_again() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    for number in 0..8 {
        store(&proxy, &format!("/{number}")).await;
    }
    crash(proxy);
    let proxy = disk.alone(&origin).set("cache.disk.timeout", "100ms").start().await;
    is_used_again_after(Fault::Hangs, &disk, &proxy).await;
}

#[tokio::test]
async fn an_open_file_on_a_disk_that_hangs_is_no_reason_to_wait() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let body = noise(300_000, 1);
    origin.on("/a", lasting(&body));
    let proxy = disk.alone(&origin).set("cache.disk.timeout", "100ms").start().await;
    store(&proxy, "/a").await;
    // Opens it.
    assert!(proxy.get("/a").await.is_hit());
    disk.faults.set(On::Read, Fault::Hangs);
    let response = proxy.get("/a").await;
    assert_eq!((response.status, response.ending), (200, Ending::Clean));
    assert!(response.body == body && !response.is_hit());
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn writes_that_hang_delay_no_response() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let body = noise(3 << 20, 1);
    origin.on("/large", lasting(&body).chunked());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::Hangs);
    for number in 0..12 {
        let response = proxy.get(&format!("/{number}")).await;
        assert_eq!((response.status, response.text()), (200, format!("/{number}")));
    }
    disk.faults.wait_for(On::Write, 1).await;
    // What waits to be written is served meanwhile.
    assert!(proxy.get("/0").await.is_hit());
    let large = proxy.get("/large").await;
    assert!(large.body == body && large.ending == Ending::Clean);
    disk.faults.clear();
    wait_for_writes(&proxy, "stored", 12.0).await;
    assert!(proxy.get("/11").await.is_hit());
}

#[tokio::test]
async fn a_large_response_ends_although_its_file_cannot_be_put_into_its_place() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(3 << 20, 1));
    origin.on("/a", lasting(&body).chunked());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Rename, Fault::Hangs);
    for _ in 0..2 {
        let response = proxy.get("/a").await;
        assert!(response.ending == Ending::Clean && response.body == body);
    }
    disk.faults.clear();
    eventually("a hit", async || proxy.get("/a").await.is_hit().then_some(())).await;
}

#[tokio::test]
async fn slow_writes_store_everything_in_the_end() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::Slow(Duration::from_millis(50)));
    for number in 0..20 {
        assert_eq!(proxy.get(&format!("/{number}")).await.text(), format!("/{number}"));
    }
    wait_for_writes(&proxy, "stored", 20.0).await;
    assert_eq!(told(&proxy).await["state"], "ok");
}

#[tokio::test]
async fn slow_reads_are_hits_as_long_as_they_are_in_time() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let proxy = disk.alone(&origin).set("cache.disk.timeout", "15s").start().await;
    disk.faults.set(On::Read, Fault::Slow(Duration::from_millis(100)));
    let response = proxy.get("/a").await;
    assert!(response.is_hit() && disk.faults.struck(On::Read) > 0);
    assert_eq!(response.text(), "/a");
}

#[tokio::test]
async fn more_than_may_wait_to_be_written_is_let_go_and_served_all_the_same() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let body = noise(250_000, 1);
    let sent = body.clone();
    origin.otherwise(move |_| lasting(&sent));
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::Hangs);
    // 64 MiB may wait.
    for number in 0..300 {
        assert!(proxy.get(&format!("/{number}")).await.body == body);
    }
    assert!(writes(&proxy, "dropped").await > 0.0);
    disk.faults.clear();
    wait_for_writes(&proxy, "stored", 200.0).await;
}

#[tokio::test]
async fn a_change_is_answered_although_the_disk_cannot_forget() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    disk.faults.set(On::Remove, Fault::Hangs);
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 200);
    disk.faults.wait_for(On::Remove, 1).await;
    assert!(!proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_daemon_ends_although_its_disk_hangs() {
    let (origin, disk) = (origin_of_anything().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::Hangs);
    assert_eq!(proxy.get("/a").await.status, 200);
    disk.faults.wait_for(On::Write, 1).await;
    stop(proxy).await;
}
