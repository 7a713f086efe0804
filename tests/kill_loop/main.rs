//! A daemon with a disk that is killed again and again under load, and a checker that looks at every byte it served.
//!
//! Every body is derived from its key, version and variant, and every response says which version it claims to be. So each
//! complete answer can be told to be whole and the right one. `PUT` makes a new version; once it is answered, nothing older
//! may ever be served, whether the daemon lives on or dies that very moment. In some lives the disk is slow here and there,
//! which makes moments longer that are too short to be hit by chance, and between lives some files are damaged.
//!
//! `TIDEGATE_KILLS` says how often it is killed (25), `TIDEGATE_SEED` repeats the choices of a run that failed.

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the end-to-end tests; each uses a part of it")]
mod support;

mod bodies;
mod clients;
mod ledger;
mod trouble;

use bodies::{KEYS, Site};
use clients::Client;
use ledger::Ledger;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::faults::Faults;
use support::{Origin, Proxy, eventually};

const CAPACITY: u64 = 16 << 20;

/// Root, `tmp/`, mark, lock and bound, a block each: what is there besides entries and the directories that they lie in.
const FIXED: u64 = 5 * 4096;

const CLIENTS: u64 = 6;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

/// Bytes that a directory takes with everything in it, as `du` counts them.
fn usage(path: &Path) -> u64 {
    let Ok(found) = path.symlink_metadata() else { return 0 };
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    found.blocks() * 512 + if found.is_dir() { entries.map(|entry| usage(&entry.path())).sum() } else { 0 }
}

/// A daemon on the directory, set up in one of several ways.
async fn start(origin: &Origin, disk: &Path, faults: &Faults, random: &mut fastrand::Rng) -> Proxy {
    let memory = ["{ capacity: 1MiB, max_object: 64KiB }", "{ capacity: 8MiB, max_object: 1MiB }", "{ capacity: 0 }"];
    let builder = Proxy::builder(origin)
        .without("cache.memory")
        .set("cache.memory", random.choice(memory).unwrap_or_default())
        .set("cache.disk.path", &disk.display().to_string())
        .set("cache.disk.capacity", "16MiB")
        .set("cache.disk.max_object", "4MiB")
        .set("cache.disk.min_free", "0")
        // A busy machine is no slow disk.
        .set("cache.disk.timeout", "10s")
        .set("cache.disk.max_open", "16")
        .set("cache.disk.write", random.choice(["through", "behind"]).unwrap_or_default())
        .set("cache.disk.promote_after", random.choice(["0", "1", "2"]).unwrap_or_default());
    faults.put_into(builder).start().await
}

/// Ends it: nearly always at once, now and then as an operator does.
async fn end(proxy: Proxy, orderly: bool) {
    if orderly {
        let pid = proxy.pid();
        kill(Pid::from_raw(pid as i32), Signal::SIGTERM).expect("a signal to the daemon");
        eventually("the daemon to end", async || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with('Z')).then_some(())
        })
        .await;
    }
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_moment_it_is_killed_at_nothing_wrong_is_ever_served() {
    let (kills, seed) = (from_environment("TIDEGATE_KILLS", 25), from_environment("TIDEGATE_SEED", fastrand::u64(..)));
    println!("TIDEGATE_KILLS={kills} TIDEGATE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = folder.path().join("disk");
    let faults = Faults::of(&disk);
    let ledger = Arc::new(Ledger::new(KEYS));
    let site = Arc::new(Site::new(ledger.clone()));
    let origin = Origin::start().await;
    let answering = site.clone();
    origin.otherwise(move |seen| answering.answer(seen));
    let (began, mut most) = (Instant::now(), 0);
    for round in 0..kills {
        let proxy = start(&origin, &disk, &faults, &mut random).await;
        trouble::slow_down(&faults, &mut random);
        ledger.begin_life();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let random = fastrand::Rng::with_seed(random.u64(..));
                let client = Client { addr: proxy.addr(), site: site.clone(), ledger: ledger.clone(), random };
                tokio::spawn(client.run())
            })
            .collect();
        // The moment is what is drawn here; nothing is waited for. One in four comes while the directory is looked through.
        let life = if random.u8(..4) == 0 { random.u64(..20) } else { random.u64(50..700) };
        tokio::time::sleep(Duration::from_millis(life)).await;
        let told = proxy.stats().await["tiers"]["disk"].clone();
        ledger.count_disk(&told);
        ledger.end_life();
        end(proxy, random.u8(..10) == 0).await;
        faults.clear();
        for client in clients {
            client.await.expect("a client");
        }
        let taken = usage(&disk);
        most = most.max(taken);
        ledger.check(taken <= CAPACITY + FIXED, || format!("the directory takes {taken} bytes of {CAPACITY}"));
        ledger.damaged(trouble::damage(&disk, &mut random), CLIENTS);
        let wrong = ledger.wrong();
        assert!(wrong.is_empty(), "round {round}, TIDEGATE_SEED={seed}:\n{}", wrong.join("\n"));
    }
    println!(
        "{kills} kills in {:.1?}; at most {most} bytes of {CAPACITY} on disk\n{}",
        began.elapsed(),
        ledger.totals()
    );
    ledger.assert_it_was_worth_it(kills);
}
