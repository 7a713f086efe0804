//! The directory: who may have it, what else is in it, and what if it is gone.

use super::*;
use crate::support::cli;
use std::fs;
use std::process::{Child, Command, Stdio};

async fn origin_of_a() -> Origin {
    let origin = Origin::start().await;
    origin.on("/a", lasting("a"));
    origin
}

#[tokio::test]
async fn a_directory_that_vanishes_is_made_again() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    fs::remove_dir_all(disk.path()).unwrap();
    proxy.wait_for_log("has vanished").await;
    eventually("/a to be a hit from the new directory", async || {
        let response = proxy.get("/a").await;
        assert_eq!((response.status, response.text().as_str()), (200, "a"));
        (response.is_hit() && disk.files().len() == 1).then_some(())
    })
    .await;
    assert_eq!(told(&proxy).await["state"], "ok");
}

#[tokio::test]
async fn without_a_directory_the_origin_answers_until_there_is_one() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    // In its place is something that cannot become one.
    fs::rename(disk.path(), disk.folder.path().join("moved")).unwrap();
    fs::write(disk.path(), "a file").unwrap();
    wait_for_state(&proxy, "unavailable").await;
    let response = proxy.get("/a").await;
    assert_eq!((response.text().as_str(), response.cache_status().detail()), ("a", "disk-unavailable"));
    fs::remove_file(disk.path()).unwrap();
    fs::rename(disk.folder.path().join("moved"), disk.path()).unwrap();
    eventually("a hit", async || proxy.get("/a").await.is_hit().then_some(())).await;
}

#[tokio::test]
async fn what_changed_while_the_directory_was_away_is_not_served_when_it_is_back() {
    let (origin, disk) = (Origin::start().await, Disk::new());
    origin.on_fn("/a", |seen| if seen.method == "PUT" { Reply::ok("done") } else { lasting("old") });
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    fs::rename(disk.path(), disk.folder.path().join("moved")).unwrap();
    fs::write(disk.path(), "a file").unwrap();
    wait_for_state(&proxy, "unavailable").await;
    assert_eq!(proxy.call("PUT", "/a").body("new").await.status, 200);
    origin.on("/a", lasting("new"));
    fs::remove_file(disk.path()).unwrap();
    fs::rename(disk.folder.path().join("moved"), disk.path()).unwrap();
    wait_for_state(&proxy, "ok").await;
    assert_eq!(proxy.get("/a").await.text(), "new");
}

#[tokio::test]
async fn files_of_others_in_the_directories_are_left_alone() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    crash(proxy);
    let own = disk.file();
    let others = [own.with_file_name("README"), own.with_extension("bak"), disk.path().join("notes.txt")];
    others.iter().for_each(|other| fs::write(other, "theirs").unwrap());
    let proxy = disk.alone(&origin).start().await;
    proxy.wait_for_log("files that are not the disk tier's own").await;
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(told(&proxy).await["items"], 1);
    stop(proxy).await;
    assert!(others.iter().all(|other| fs::read_to_string(other).unwrap() == "theirs"));
}

#[tokio::test]
async fn a_second_daemon_on_one_directory_says_who_has_it_and_serves_without() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    let first = disk.alone(&origin).start().await;
    store(&first, "/a").await;
    let second = disk.alone(&origin).start().await;
    let line = second.wait_for_log("is in use by").await;
    assert!(line.contains(&format!("process {}", first.pid())) && line.contains("cache.disk.path"), "{line}");
    let response = second.get("/a").await;
    assert_eq!((response.status, response.cache_status().detail()), (200, "disk-unavailable"));
    assert!(first.get("/a").await.is_hit());
    assert_eq!(told(&second).await["state"], "unavailable");
}

#[tokio::test]
async fn a_second_daemon_takes_the_directory_over_when_the_first_one_ends() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    let first = disk.alone(&origin).start().await;
    store(&first, "/a").await;
    let second = disk.alone(&origin).start().await;
    second.wait_for_log("is in use by").await;
    crash(first);
    second.wait_for_log("the disk tier is open").await;
    assert!(second.get("/a").await.is_hit());
    assert_eq!(origin.count("/a"), 1);
}

/// Ends with the test.
struct Successor(Child);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn an_upgrade_hands_the_directory_over() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    store(&proxy, "/a").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["serve", "--upgrade", "-c"]).arg(proxy.path("tidegate.yaml"));
    let successor = Successor(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    proxy.wait_for_log("leaving").await;
    wait_for_end(proxy.pid()).await;
    let holder = || fs::read_to_string(disk.path().join("lock")).unwrap_or_default().trim().to_owned();
    eventually("the new process to have the directory", async || {
        (holder() == successor.0.id().to_string()).then_some(())
    })
    .await;
    eventually("a hit of the new process", async || proxy.get("/a").await.is_hit().then_some(())).await;
    assert_eq!(told(&proxy).await["hits"], 1);
    assert_eq!(disk.files().len(), 1);
}

#[tokio::test]
async fn somebody_elses_directory_is_refused_by_check() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    fs::create_dir(disk.path()).unwrap();
    fs::write(disk.path().join("thesis.txt"), "the only copy").unwrap();
    // A daemon writes the configuration that `check` is asked about.
    let proxy = disk.alone(&origin).start().await;
    let checked = cli::run(&["check", "-c", "tidegate.yaml"], &proxy.path(""));
    assert_eq!(checked.code, 1, "{}", checked.all());
    assert!(checked.all().contains("is not empty and was not made by tidegate"), "{}", checked.all());
    assert!(checked.all().contains("name an empty directory"), "{}", checked.all());
}

#[tokio::test]
async fn somebody_elses_directory_is_not_touched_by_a_daemon() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    fs::create_dir(disk.path()).unwrap();
    fs::write(disk.path().join("thesis.txt"), "the only copy").unwrap();
    let proxy = disk.alone(&origin).start().await;
    let line = proxy.wait_for_log("was not made by tidegate").await;
    assert!(line.contains("name an empty directory"), "{line}");
    assert_eq!(proxy.get("/a").await.text(), "a");
    stop(proxy).await;
    let left: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.txt"]);
}

#[tokio::test]
async fn a_good_directory_passes_check_while_a_daemon_uses_it() {
    let (origin, disk) = (origin_of_a().await, Disk::new());
    let proxy = disk.alone(&origin).start().await;
    let checked = cli::run(&["check", "-c", "tidegate.yaml"], &proxy.path(""));
    assert_eq!(checked.code, 0, "{}", checked.all());
}
