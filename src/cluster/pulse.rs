//! Whether this process was stopped for a while (by a signal, a debugger, a machine that slept): the others have not waited for it
//! then, and it must read what they purged before it serves.

use super::Cluster;
use super::log::GONE;
use crate::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};

/// How often it is noted that the process runs.
const EVERY: Duration = Duration::from_millis(250);

/// What is no pause yet: a busy machine may be so late, and others wait longer than that for a node.
const LATE: Duration = Duration::from_secs(2);

/// The least and the most that a request waits for Redis after a pause.
const LEAST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(1);

/// How often it is looked whether Redis is known not to answer.
const LOOK: Duration = Duration::from_millis(25);

/// When the process was last known to run.
#[derive(Debug, Default)]
pub struct Pulse {
    /// By the wall clock, which goes on while a machine sleeps; milliseconds. 0: not begun.
    noted: AtomicU64,
    renewed: watch::Sender<u64>,
    wake: Notify,
}

impl Pulse {
    /// Whether the process was stopped, and has not read the log since.
    pub(super) fn is_late(&self, now: SystemTime) -> bool {
        self.late_by(now) > LATE
    }

    fn late_by(&self, now: SystemTime) -> Duration {
        let noted = self.noted.load(Ordering::Acquire);
        if noted == 0 { Duration::ZERO } else { Duration::from_millis(millis(now).saturating_sub(noted)) }
    }

    /// Waits until the log was read, or until that is given up.
    pub(super) async fn renewed(&self) {
        let mut renewed = self.renewed.subscribe();
        renewed.borrow_and_update();
        if self.is_late(clock::now()) {
            self.wake.notify_one();
            // Whoever reads gives up before that.
            let _ = tokio::time::timeout(MOST + LEAST, renewed.changed()).await;
        }
    }

    fn note(&self) {
        self.noted.store(millis(clock::now()).max(1), Ordering::Release);
        self.renewed.send_modify(|times| *times += 1);
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Notes that the process runs, and after a pause has the log read first.
pub(super) async fn keep(cluster: &'static Cluster) {
    let pulse = &cluster.pulse;
    pulse.note();
    let mut last = Instant::now();
    loop {
        // Woken by the first request after a pause.
        let _ = tokio::time::timeout(EVERY, pulse.wake.notified()).await;
        let paused = last.elapsed().max(pulse.late_by(clock::now()));
        if paused > LATE {
            tracing::warn!(?paused, "this process was stopped; it reads what was purged before it serves");
            if paused > GONE {
                // The other side may have given up the connection.
                cluster.redis.reconnect();
            }
            if !reads(cluster).await {
                tracing::error!(
                    "Redis does not say what was purged while this process was stopped; it serves what it has"
                );
            }
        }
        pulse.note();
        last = Instant::now();
    }
}

/// Whether the log is read to its end soon. A Redis that is known not to answer is waited for as long as a few commands take.
async fn reads(cluster: &'static Cluster) -> bool {
    let patience = cluster.redis.timeout().saturating_mul(4).clamp(LEAST, MOST);
    let began = Instant::now();
    let mut read = cluster.read.subscribe();
    cluster.wake.notify_one();
    let known = read.wait_for(|read| read.complete.is_some_and(|when| when >= began));
    let known = tokio::time::timeout(MOST, known);
    tokio::pin!(known);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            known = &mut known => return matches!(known, Ok(Ok(_))),
            _ = look.tick() => {}
        }
        if began.elapsed() >= patience && !cluster.redis.is_up() && cluster.redis.why_down().is_some() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seen_until_it_is_dealt_with() {
        let pulse = Pulse::default();
        let now = clock::now();
        assert!(!pulse.is_late(now + 10 * LATE), "it has not begun");
        pulse.note();
        assert!(!pulse.is_late(now + LATE / 2));
        assert!(pulse.is_late(now + 2 * LATE));
        assert!(!pulse.is_late(now - 10 * LATE), "the clock went back");
    }
}
