//! What was stored is there after the process has ended, however it did.

use super::*;
use crate::support::faults::{Fault, On};
use crate::support::{Ending, Gate};

#[tokio::test]
async fn what_was_stored_is_a_hit_after_an_orderly_restart() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting("a").header("x-kept", "yes"));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    stop(proxy).await;
    let proxy = disk.alone(&origin).start().await;
    let response = proxy.get("/a").await;
    assert!(response.is_hit());
    assert_eq!((response.text().as_str(), response.header("x-kept").as_deref()), ("a", Some("yes")));
    assert_eq!((origin.count("/a"), hits(&proxy).await), (1, 1));
}

#[tokio::test]
async fn what_was_stored_is_a_hit_after_a_crash() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let body = noise(1 << 20, 7);
    origin.on("/a", lasting(&body));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let proxy = disk.alone(&origin).start().await;
    let response = proxy.get("/a").await;
    assert!(response.is_hit() && response.body == body && response.ending == Ending::Clean);
}

#[tokio::test]
async fn what_memory_has_as_well_is_a_hit_from_disk_after_a_crash() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting("a"));
    let proxy = disk.below_memory(&origin).start().await;
    store(&proxy, "/a").await;
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(hits(&proxy).await, 0);
    crash(proxy);
    let proxy = disk.below_memory(&origin).start().await;
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(hits(&proxy).await, 1);
}

#[tokio::test]
async fn hits_do_not_wait_for_the_scan() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting("a"));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let proxy = {
        let builder = disk.alone(&origin);
        // Of all that is opened at start, only the scan opens directories to list them; the rest is done before it is ready.
        disk.faults.set(On::List, Fault::Hangs);
        builder.start().await
    };
    disk.faults.wait_for(On::List, 1).await;
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(told(&proxy).await["state"], "scanning");
    disk.faults.clear();
    wait_for_state(&proxy, "ok").await;
    assert_eq!(told(&proxy).await["items"], 1);
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn everything_on_disk_is_known_after_the_scan() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.otherwise(|seen| lasting(seen.path()));
    let proxy = disk.alone(&origin).start().await;
    for number in 0..50 {
        store(&proxy, &format!("/{number}")).await;
    }
    let before = told(&proxy).await;
    crash(proxy);
    let proxy = disk.alone(&origin).start().await;
    wait_for_state(&proxy, "ok").await;
    let after = told(&proxy).await;
    assert_eq!((&after["items"], &after["bytes"]), (&before["items"], &before["bytes"]));
}

#[tokio::test]
async fn a_response_that_was_being_written_leaves_nothing_but_an_orphan_that_goes() {
    let (origin, disk, gate) = (Origin::start().await, Disk::new(), Gate::closed());
    let body = noise(3 << 20, 1);
    let (first, second) = body.split_at(2 << 20);
    origin.on("/a", lasting(first).hold(&gate).piece(second).chunked());
    let proxy = disk.alone(&origin).start().await;
    let client = tokio::spawn(proxy.get("/a").attempt());
    let orphans = || std::fs::read_dir(disk.path().join("tmp")).unwrap().count();
    eventually("a file under tmp/", async || (orphans() > 0).then_some(())).await;
    crash(proxy);
    assert!(client.await.unwrap().is_ok_and(|response| response.ending == Ending::Cut));
    assert!(orphans() > 0 && disk.files().is_empty());
    gate.open();
    let proxy = disk.alone(&origin).start().await;
    assert_eq!(orphans(), 0);
    let response = proxy.get("/a").await;
    assert!(!response.is_hit() && response.body == body);
}

#[tokio::test]
async fn an_orderly_stop_finishes_what_is_being_written() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.otherwise(|seen| lasting(seen.path()));
    let proxy = disk.alone(&origin).start().await;
    disk.faults.set(On::Write, Fault::Slow(std::time::Duration::from_millis(20)));
    for number in 0..20 {
        assert_eq!(proxy.get(&format!("/{number}")).await.status, 200);
    }
    stop(proxy).await;
    disk.faults.clear();
    let proxy = disk.alone(&origin).start().await;
    for number in 0..20 {
        assert!(proxy.get(&format!("/{number}")).await.is_hit(), "/{number}");
    }
}

#[tokio::test]
async fn ranges_and_head_are_answered_from_disk() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(1 << 20, 3));
    origin.on("/a", lasting(&body).header("etag", "\"v1\""));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let proxy = disk.alone(&origin).start().await;
    for (range, expected) in
        [("0-9", &body[..10]), ("65530-65545", &body[65530..65546]), ("-5", &body[body.len() - 5..])]
    {
        let part = proxy.get("/a").header("range", &format!("bytes={range}")).await;
        assert!(part.status == 206 && part.is_hit() && part.body == expected, "{range}");
    }
    let several = proxy.get("/a").header("range", "bytes=0-1,100000-100001").await;
    assert_eq!((several.status, several.ending), (206, Ending::Clean));
    let head = proxy.call("HEAD", "/a").await;
    assert!(head.is_hit() && head.header("content-length").as_deref() == Some("1048576"));
    let unchanged = proxy.get("/a").header("if-none-match", "\"v1\"").await;
    assert!(unchanged.status == 304 && unchanged.is_hit());
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn an_empty_body_is_stored_and_found_again() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on("/a", lasting(""));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let proxy = disk.alone(&origin).start().await;
    let response = proxy.get("/a").await;
    assert!(response.is_hit() && response.body.is_empty() && response.ending == Ending::Clean);
}

/// A stale entry that the origin confirms once, with a new lifetime and a new field.
async fn a_confirmation_survives(body: Vec<u8>) {
    let (origin, disk) = (Origin::start().await, Disk::new());
    let stale = Reply::ok(&body).header("cache-control", "max-age=0").header("x-told", "first").etag("\"v1\"");
    let confirmed = Reply::ok(&body).header("cache-control", "max-age=3600").header("x-told", "second").etag("\"v1\"");
    origin.on_each("/a", [stale, confirmed]);
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    let response = proxy.get("/a").await;
    assert!(response.cache_status().fwd_status == Some(304) && response.body == body);
    wait_for_writes(&proxy, "stored", 2.0).await;
    crash(proxy);
    let proxy = disk.alone(&origin).start().await;
    let response = proxy.get("/a").await;
    assert!(response.is_hit() && response.body == body);
    assert_eq!((response.header("x-told").as_deref(), origin.count("/a")), (Some("second"), 2));
}

#[tokio::test]
async fn a_confirmation_of_a_small_entry_survives_a_crash() {
    a_confirmation_survives(b"small".to_vec()).await;
}

#[tokio::test]
async fn a_confirmation_of_a_large_entry_survives_a_crash() {
    a_confirmation_survives(noise(2 << 20, 9)).await;
}

#[tokio::test]
async fn confirmations_without_end_do_not_let_a_file_grow() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(1 << 20, 9));
    origin.on("/a", Reply::ok(&body).header("cache-control", "max-age=0").etag("\"v1\""));
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    let mut sizes = Vec::new();
    for number in 0..30 {
        assert!(proxy.get("/a").await.body == body);
        wait_for_writes(&proxy, "stored", f64::from(number) + 2.0).await;
        sizes.push(std::fs::metadata(disk.file()).unwrap().len());
    }
    assert_eq!(sizes[5], sizes[29], "{sizes:?}");
    assert_eq!(told(&proxy).await["items"], 1);
}

#[tokio::test]
async fn variants_are_found_again() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on_fn("/a", |seen| {
        let language = seen.header("accept-language").unwrap_or_default();
        lasting(format!("in {language}")).header("vary", "accept-language")
    });
    let proxy = disk.alone(&origin).start().await;
    let languages = ["de", "fr", "it"];
    for (number, language) in languages.iter().enumerate() {
        assert_eq!(proxy.get("/a").header("accept-language", language).await.status, 200);
        wait_for_writes(&proxy, "stored", number as f64 + 1.0).await;
    }
    crash(proxy);
    let proxy = disk.alone(&origin).start().await;
    for language in languages {
        let response = proxy.get("/a").header("accept-language", language).await;
        assert!(response.is_hit() && response.text() == format!("in {language}"), "{language}");
    }
    assert!(!proxy.get("/a").header("accept-language", "es").await.is_hit());
}

#[tokio::test]
async fn there_are_at_most_so_many_variants_on_disk() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on_fn("/a", |seen| lasting(seen.header("x-kind").unwrap_or_default()).header("vary", "x-kind"));
    let proxy = disk.alone(&origin).set("cache.max_variants", "4").start().await;
    for kind in 0..20 {
        let response = proxy.get("/a").header("x-kind", &kind.to_string()).await;
        assert_eq!(response.text(), kind.to_string());
    }
    wait_for_writes(&proxy, "stored", 4.0).await;
    eventually("most variants to go", async || (disk.files().len() <= 5).then_some(())).await;
    assert!(proxy.get("/a").header("x-kind", "19").await.is_hit());
}
