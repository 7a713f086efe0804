//! `cache.disk.capacity` bounds everything in the directory, as `du` counts it, at every moment.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const CAPACITY: u64 = 8 << 20;

/// What is there besides entries and the directories that they lie in: root, `tmp/`, mark, lock and bound, a block each.
const FIXED: u64 = 5 * 4096;

/// Bodies of sizes that a site has: most of them small, some of a megabyte.
fn body_of(path: &str) -> Vec<u8> {
    let seed = path.bytes().fold(7, |sum, byte| u64::from(byte) + sum * 31);
    let lengths = [0, 100, 1000, 3000, 5000, 9000, 20_000, 40_000, 66_000, 140_000, 300_000, 1_000_000];
    noise(lengths[(seed % lengths.len() as u64) as usize], seed)
}

async fn origin_of_many() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|seen| {
        let reply = lasting(body_of(seen.path()));
        if seen.path().len() % 2 == 0 { reply.chunked() } else { reply }
    });
    origin
}

/// Measures again and again until told to end, each time while the daemon stands still: else a file that moves, or goes while
/// another comes, would count twice.
struct Watch {
    end: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    fn begin(disk: &Arc<Disk>, proxy: &Proxy) -> Self {
        let (end, most, disk) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), disk.clone());
        let (ended, found, daemon) = (end.clone(), most.clone(), Pid::from_raw(proxy.pid() as i32));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Acquire) {
                kill(daemon, Signal::SIGSTOP).expect("a signal to the daemon");
                wait_until_stopped(daemon);
                found.fetch_max(disk.usage(), Ordering::AcqRel);
                kill(daemon, Signal::SIGCONT).expect("a signal to the daemon");
                // It has to get on as well.
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Watch { end, most, thread: Some(thread) }
    }

    fn most(mut self) -> u64 {
        self.end.store(true, Ordering::Release);
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
        self.most.load(Ordering::Acquire)
    }
}

/// A system call that was under way ends before its thread stands still.
fn wait_until_stopped(daemon: Pid) {
    let is_stopped = |task: std::path::PathBuf| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with(['T', 'Z']))
    };
    let tasks = format!("/proc/{daemon}/task");
    let all_stopped = || std::fs::read_dir(&tasks).into_iter().flatten().flatten().all(|task| is_stopped(task.path()));
    while !all_stopped() {
        std::thread::yield_now();
    }
}

/// Asks for `count` objects that nobody has asked for before, by several clients.
async fn load(proxy: &Arc<Proxy>, round: usize, count: usize) {
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                for number in 0..count / 4 {
                    let path = format!("/{round}/{client}/{number}");
                    let response = proxy.get(&path).await;
                    assert!(response.status == 200 && response.body == body_of(&path), "{path}");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn the_directory_never_takes_more_than_the_capacity() {
    let (origin, disk) = (origin_of_many().await, Arc::new(Disk::new()));
    for round in 0..3 {
        let builder = disk.alone(&origin).set("cache.disk.capacity", "8MiB").set("cache.disk.max_object", "2MiB");
        let proxy = Arc::new(builder.start().await);
        let watch = Watch::begin(&disk, &proxy);
        load(&proxy, round, 200).await;
        let most = watch.most();
        assert!(most <= CAPACITY + FIXED, "{most} bytes, {} more than allowed", most - CAPACITY - FIXED);
        assert!(most > CAPACITY / 2, "{most} bytes");
        assert!(proxy.metrics().await.sum("tidegate_tier_evictions_total", "tier=\"disk\"") > 0.0);
        // While it writes.
        crash(Arc::into_inner(proxy).unwrap());
        assert!(disk.usage() <= CAPACITY + FIXED);
    }
}

#[tokio::test]
async fn orphans_of_a_crash_do_not_add_to_the_capacity() {
    let (origin, disk) = (origin_of_many().await, Arc::new(Disk::new()));
    let start = async || {
        let builder = disk.alone(&origin).set("cache.disk.capacity", "8MiB").set("cache.disk.max_object", "2MiB");
        Arc::new(builder.start().await)
    };
    let proxy = start().await;
    load(&proxy, 0, 200).await;
    crash(Arc::into_inner(proxy).unwrap());
    std::fs::write(disk.path().join("tmp/00000000000000ff"), noise(1 << 20, 1)).unwrap();
    let proxy = start().await;
    let watch = Watch::begin(&disk, &proxy);
    load(&proxy, 1, 100).await;
    let most = watch.most();
    assert!(most <= CAPACITY + FIXED, "{most} bytes");
}

#[tokio::test]
async fn a_lower_capacity_evicts_after_a_restart() {
    let (origin, disk) = (origin_of_many().await, Disk::new());
    let proxy = Arc::new(disk.alone(&origin).start().await);
    load(&proxy, 0, 200).await;
    crash(Arc::into_inner(proxy).unwrap());
    assert!(disk.usage() > CAPACITY);
    let builder = disk.alone(&origin).set("cache.disk.capacity", "8MiB").set("cache.disk.max_object", "2MiB");
    let proxy = builder.start().await;
    wait_for_state(&proxy, "ok").await;
    eventually("the directory to fit", async || (disk.usage() <= CAPACITY + FIXED).then_some(())).await;
    eventually("what is not known to go", async || {
        (told(&proxy).await["items"].as_u64()? == disk.files().len() as u64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn less_free_space_than_is_to_be_left_stops_writing_and_nothing_else() {
    let (origin, disk) = (origin_of_many().await, Disk::new());
    let proxy = disk.alone(&origin).set("cache.disk.min_free", "1000TiB").start().await;
    proxy.wait_for_log("less than `cache.disk.min_free`").await;
    assert_eq!(proxy.get("/a").await.status, 200);
    assert_eq!(proxy.get("/a").await.status, 200);
    stop(proxy).await;
    assert!(disk.files().is_empty());
}
