//! A disk that cannot be read: the origin answers instead, and the tier is left alone for a while.

use super::*;
use crate::support::Ending;
use crate::support::faults::{Fault, On};

/// A daemon that was started anew on so many entries, `/0` and so on, none of which is open.
async fn restarted_on(disk: &Disk, origin: &Origin, entries: usize) -> Proxy {
    origin.otherwise(|seen| lasting(seen.path()));
    let proxy = disk.alone(origin).start().await;
    for number in 0..entries {
        store(&proxy, &format!("/{number}")).await;
    }
    crash(proxy);
    let proxy = disk.alone(origin).start().await;
    wait_for_state(&proxy, "ok").await;
    proxy
}

#[tokio::test]
async fn what_cannot_be_read_is_fetched_from_the_origin() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let proxy = restarted_on(&disk, &origin, 1).await;
    disk.faults.set(On::Read, Fault::Broken);
    let response = proxy.get("/0").await;
    assert_eq!((response.status, response.text().as_str()), (200, "/0"));
    assert_eq!((response.cache_status().fwd(), response.cache_status().detail()), ("uri-miss", "disk-unavailable"));
    assert_eq!((origin.count("/0"), errors(&proxy, "io").await), (2, 1.0));
}

#[tokio::test]
async fn what_cannot_be_opened_is_fetched_from_the_origin() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let proxy = restarted_on(&disk, &origin, 1).await;
    disk.faults.set(On::Open, Fault::Broken);
    let response = proxy.get("/0").await;
    assert_eq!((response.text().as_str(), response.cache_status().detail()), ("/0", "disk-unavailable"));
    assert_eq!((origin.count("/0"), errors(&proxy, "io").await), (2, 1.0));
}

#[tokio::test]
async fn a_disk_that_fails_several_times_in_a_row_is_not_asked_any_more() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let proxy = restarted_on(&disk, &origin, 12).await;
    disk.faults.set(On::Read, Fault::Broken);
    for number in 0..12 {
        assert_eq!(proxy.get(&format!("/{number}")).await.text(), format!("/{number}"));
    }
    assert_eq!(told(&proxy).await["state"], "unavailable");
    // The first five, and one that tried in each pause, if there was time for any.
    let failed = errors(&proxy, "io").await;
    assert!((5.0..12.0).contains(&failed), "{failed}");
    let unavailable = proxy.metrics().await.sum("tidegate_tier_lookups_total", "result=\"unavailable\",tier=\"disk\"");
    assert!(unavailable >= 12.0, "{unavailable}");
    assert_eq!(proxy.metrics().await.sum("tidegate_tier_up", "tier=\"disk\""), 0.0);
    proxy.wait_for_log("the disk tier fails").await;
    let log = proxy.log();
    assert_eq!(log.matches("the disk tier fails").count(), 1, "{log}");
}

#[tokio::test]
async fn a_disk_that_can_be_read_again_is_used_again() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let proxy = restarted_on(&disk, &origin, 8).await;
    is_used_again_after(Fault::Broken, &disk, &proxy).await;
}

#[tokio::test]
async fn a_small_open_file_that_cannot_be_read_is_fetched_from_the_origin() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let proxy = restarted_on(&disk, &origin, 1).await;
    // Opens it.
    assert!(proxy.get("/0").await.is_hit());
    disk.faults.set(On::Read, Fault::Broken);
    let response = proxy.get("/0").await;
    assert_eq!((response.status, response.text().as_str(), response.ending), (200, "/0", Ending::Clean));
    assert_eq!(origin.count("/0"), 2);
}

#[tokio::test]
async fn a_large_open_file_that_cannot_be_read_is_fetched_from_the_origin() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let body = noise(1 << 20, 1);
    origin.on("/large", lasting(&body));
    let proxy = restarted_on(&disk, &origin, 0).await;
    store(&proxy, "/large").await;
    assert!(proxy.get("/large").await.is_hit());
    disk.faults.set(On::Read, Fault::Broken);
    let response = proxy.get("/large").await;
    assert_eq!((response.status, response.ending), (200, Ending::Clean));
    assert!(response.body == body);
    assert_eq!(origin.count("/large"), 2);
}
