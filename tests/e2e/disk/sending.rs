//! Large bodies go from their files to plain connections without a copy here, and arrive as all others do.

use super::*;
use crate::support::call::Connection;
use crate::support::h2::H2;
use crate::support::tls::Authority;
use crate::support::{Ending, Response};
use std::time::Duration;

/// A daemon that has this body on disk under `/a`, and counts how often it is sent from there.
async fn with_body(disk: &Disk, origin: &Origin, body: &[u8]) -> Proxy {
    origin.on("/a", lasting(body).header("etag", "\"v1\""));
    let proxy = disk.alone(origin).start().await;
    store(&proxy, "/a").await;
    counting(disk);
    proxy
}

fn counting(disk: &Disk) {
    disk.faults.set(On::Send, Fault::Slow(Duration::ZERO));
}

fn is_whole(response: &Response, body: &[u8]) {
    assert_eq!((response.status, response.ending, response.is_hit()), (200, Ending::Clean, true));
    assert!(response.body == body, "{} bytes", response.body.len());
}

#[tokio::test]
async fn a_large_body_is_sent_from_its_file() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise((2 << 20) + 12_345, 1));
    let proxy = with_body(&disk, &origin, &body).await;
    is_whole(&proxy.get("/a").await, &body);
    assert!(disk.faults.struck(On::Send) > 0);
}

#[tokio::test]
async fn a_large_part_is_sent_from_the_file() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(2 << 20, 1));
    let proxy = with_body(&disk, &origin, &body).await;
    for (from, to) in [(0, 99_999), (65_535, 300_000), (1_000_000, (2 << 20) - 1)] {
        let before = disk.faults.struck(On::Send);
        let part = proxy.get("/a").header("range", &format!("bytes={from}-{to}")).await;
        assert!(part.status == 206 && part.is_hit() && part.body == body[from..=to], "{from}-{to}");
        assert!(disk.faults.struck(On::Send) > before, "{from}-{to}");
    }
    let several = proxy.get("/a").header("range", "bytes=0-99999,1000000-1099999").await;
    assert_eq!((several.status, several.ending), (206, Ending::Clean));
    for part in [&body[..100_000], &body[1_000_000..1_100_000]] {
        assert!(memchr::memmem::find(&several.body, part).is_some());
    }
}

#[tokio::test]
async fn a_small_body_is_written() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(10_000, 1));
    let proxy = with_body(&disk, &origin, &body).await;
    is_whole(&proxy.get("/a").await, &body);
    assert_eq!(disk.faults.struck(On::Send), 0);
}

#[tokio::test]
async fn where_files_cannot_be_sent_they_are_written() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(2 << 20, 1));
    let proxy = with_body(&disk, &origin, &body).await;
    disk.faults.set(On::Send, Fault::Broken);
    let mut client = Connection::to(proxy.addr()).await;
    for _ in 0..3 {
        is_whole(&client.call(proxy.get("/a")).await, &body);
    }
    // The connection does not try again.
    assert_eq!(disk.faults.struck(On::Send), 1);
    assert_eq!(errors(&proxy, "io").await, 0.0);
}

#[tokio::test]
async fn a_client_that_reads_late_gets_every_byte() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(12 << 20, 1));
    let proxy = with_body(&disk, &origin, &body).await;
    // The system takes a part of it for a client that reads nothing.
    let waiting = proxy.get("/a").open().await;
    disk.faults.wait_for(On::Send, 1).await;
    // Somebody else is served meanwhile, and what is asked for is replaced.
    is_whole(&proxy.get("/a").await, &body);
    assert_eq!(proxy.purge(r#"{"all":true}"#).await.status, 200);
    origin.on("/a", lasting("new"));
    assert_eq!(proxy.get("/a").await.text(), "new");
    let late = waiting.rest().await;
    assert_eq!(late.ending, Ending::Clean);
    assert!(late.body == body, "{} bytes", late.body.len());
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_harms_nobody() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(12 << 20, 1));
    let proxy = with_body(&disk, &origin, &body).await;
    for _ in 0..5 {
        let before = disk.faults.struck(On::Send);
        let client = proxy.get("/a").open().await;
        disk.faults.wait_for(On::Send, before + 1).await;
        client.hang_up();
    }
    is_whole(&proxy.get("/a").await, &body);
    assert_eq!(errors(&proxy, "io").await, 0.0);
}

#[tokio::test]
async fn answers_of_every_kind_follow_each_other_on_one_connection() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(1 << 20, 1));
    let proxy = with_body(&disk, &origin, &body).await;
    origin.otherwise(|seen| lasting(seen.path()));
    let mut client = Connection::to(proxy.addr()).await;
    for number in 0..8 {
        is_whole(&client.call(proxy.get("/a")).await, &body);
        let path = format!("/{number}");
        assert_eq!(client.call(proxy.get(&path)).await.text(), path);
        let part = client.call(proxy.get("/a").header("range", "bytes=70000-169999")).await;
        assert!(part.status == 206 && part.body == body[70_000..170_000]);
        assert_eq!(client.call(proxy.get("/a").header("if-none-match", "\"v1\"")).await.status, 304);
    }
    assert!(disk.faults.struck(On::Send) >= 16);
}

#[tokio::test]
async fn by_tls_a_large_body_is_written() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise((2 << 20) + 1, 1));
    origin.on("/a", lasting(&body));
    let authority = Authority::new();
    let identity = authority.identity("test.example");
    let builder = disk.alone(&origin).tls(&identity.chain, &identity.key).file("ca.pem", &authority.pem());
    // HTTP/2 and HTTP/1.1 have one key: what came by either is a hit.
    let proxy = Box::pin(builder.start()).await;
    let client = Box::pin(H2::connect(proxy.tls(), &authority.pem())).await;
    assert!(Box::pin(Box::pin(client.get("/a")).await.rest()).await.expect("all of it") == body);
    wait_for_writes(&proxy, "stored", 1.0).await;
    counting(&disk);
    let hit = Box::pin(client.get("/a")).await;
    assert!(hit.head.headers["cache-status"].to_str().unwrap().contains("; hit"));
    assert!(Box::pin(hit.rest()).await.expect("all of it") == body);

    let mut command = tokio::process::Command::new("curl");
    command.args(["-s", "--http1.1", "--cacert"]).arg(proxy.path("ca.pem"));
    command.arg("--connect-to").arg(format!("test.example:443:{}", proxy.tls())).arg("https://test.example/a");
    let answer = command.output().await.expect("curl");
    assert!(answer.stdout == body, "{} bytes", answer.stdout.len());
    assert_eq!(origin.count("/a"), 1);
    assert_eq!(disk.faults.struck(On::Send), 0);
}

#[tokio::test]
async fn nothing_of_a_piece_that_was_damaged_is_sent() {
    let (origin, disk, body) = (Origin::start().await, Disk::new(), noise(2 << 20, 1));
    let proxy = with_body(&disk, &origin, &body).await;
    // Opens it.
    is_whole(&proxy.get("/a").await, &body);
    let (before, damaged) = (disk.faults.struck(On::Send), (1 << 20) + 200_000);
    disk.change_file(|bytes| {
        let at = memchr::memmem::find(bytes, &body[damaged..damaged + 32]).expect("the body");
        bytes[at] ^= 1;
    });
    let broken = proxy.get("/a").await;
    assert_eq!((broken.status, broken.ending), (200, Ending::Cut));
    let piece = damaged - damaged % 65_536;
    assert!(broken.body == body[..piece], "{} bytes, and {piece} are sound", broken.body.len());
    assert!(disk.faults.struck(On::Send) > before);
    assert_eq!(errors(&proxy, "checksum").await, 1.0);
}
