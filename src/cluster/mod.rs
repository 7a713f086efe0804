//! The nodes that share a Redis: what one purges, all purge.
//!
//! * [`log`]: the log of purges in Redis, and the nodes that follow it
//! * [`members`]: who they are, and how far each has come
//! * [`follow`]: reads the log and puts in force what it says; tells what was purged here
//! * [`pulse`]: whether this process was stopped for a while
//!
//! Redis orders the purges. Each node reads them in that order, and remembers on its disk how far it has come. Who purges waits until
//! every node that lives has read that far. So a node that does not live must not serve what it has not compared with the log:
//! it reads before it serves when it starts, and when it goes on after it was stopped; and it takes nothing from Redis while it has
//! not heard of the log for a while.

pub mod follow;
pub mod log;
pub mod members;
pub mod pulse;

use crate::purge::{Position, Purges, Record, Shared, Target, Unwritten};
use crate::remote::Redis;
use crate::telemetry::metrics;
use crate::telemetry::quiet::Quiet;
use follow::Follower;
use log::{Log, Nodes};
use members::{Member, Members, NodeStatus, Verdict};
use parking_lot::Mutex;
use pulse::Pulse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};

/// How long a purge waits for other nodes. Longer than a node takes that is busy, and shorter than clients wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The least that it waits for them, if it had to find out first who they are.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// How long a start waits for more of the log, before it serves without knowing all of it.
const FIRST_READ: Duration = Duration::from_secs(2);

/// How long an orderly end may take to say so.
const FAREWELL: Duration = Duration::from_millis(500);

/// This node among others.
pub struct Cluster {
    redis: &'static Redis,
    purges: Arc<Purges>,
    log: Log,
    members: Members,
    pulse: Pulse,
    /// How far this node has come, and when it knew all of the log.
    read: watch::Sender<Read>,
    /// Wakes who reads the log.
    wake: Notify,
    /// When it last said that it lives, and Redis heard it.
    beaten: Mutex<Option<Instant>>,
    complaints: Quiet,
    /// Requests are served, so that memory may hold something.
    is_serving: AtomicBool,
    /// It has said that it ends.
    has_left: AtomicBool,
}

/// How far the log was read.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    /// What is in force.
    until: Shared,
    /// When all of it was known; before that there was nothing that was not read.
    complete: Option<Instant>,
}

/// What became of a purge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Its place in the log; `None` if Redis could not be told.
    pub at: Option<Position>,
    /// Redis does not say who lives.
    pub is_unsure: bool,
    /// What other nodes say.
    pub others: Verdict,
}

/// What other nodes are to be told.
#[derive(Debug)]
#[must_use = "nobody else tells it"]
pub struct Issued(Vec<Record>);

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("log", &self.log).field("read", &*self.read.borrow()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A node of this name. Lives as long as the process, as the connection does.
    pub fn new(redis: &'static Redis, purges: Arc<Purges>, name: &str) -> &'static Self {
        Box::leak(Box::new(Cluster {
            redis,
            purges,
            log: Log::new(redis, name),
            members: Members::default(),
            pulse: Pulse::default(),
            read: watch::Sender::default(),
            wake: Notify::new(),
            beaten: Mutex::default(),
            complaints: Quiet::default(),
            is_serving: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
        }))
    }

    /// Begins to follow the log, before the connection is made. [`Cluster::wait_for_the_log`] follows.
    pub fn start(&'static self) {
        Follower::start(self);
        self.redis.spawn(pulse::keep(self));
    }

    /// Waits until all of the log is known. Returns early if Redis cannot be reached: then everything is served as the disk knows
    /// it, and compared with the log when there is one.
    pub fn wait_for_the_log(&self) {
        let mut last = (Shared::default(), Instant::now());
        let is_hopeless = || !self.redis.is_up() && self.redis.why_down().is_some();
        while self.read.borrow().complete.is_none() && !is_hopeless() && last.1.elapsed() < FIRST_READ {
            std::thread::sleep(Duration::from_millis(5));
            let until = self.read.borrow().until;
            if until != last.0 {
                // A long one is waited for as long as it comes.
                last = (until, Instant::now());
            }
        }
        self.is_serving.store(true, Ordering::Release);
        if self.read.borrow().complete.is_none() {
            tracing::warn!("the log of purges could not be read; what was purged elsewhere follows when Redis answers");
        }
    }

    /// Purges here, at once. [`Cluster::tell`] follows, and then [`Purges::write_issued`].
    pub fn issue(&self, targets: &[Target], soft: bool, now: SystemTime) -> (Issued, Unwritten) {
        let (records, unwritten) = self.purges.issue(targets, soft, now);
        (Issued(records), unwritten)
    }

    /// Tells all nodes, behind the caller. The answer says what became of it; with `wait`, once every node that lives has it, or
    /// after three seconds.
    pub fn tell(&'static self, issued: Issued, wait: bool) -> tokio::task::JoinHandle<Told> {
        // Of its own: whoever asked for it may leave, and it goes on.
        self.redis.spawn(async move {
            let ids: Vec<_> = issued.0.iter().map(|record| record.id).collect();
            let (known, began) = (self.read.borrow().until, Instant::now());
            let appended = match self.log.append(&issued.0, known, wait).await {
                Ok(appended) => appended,
                Err(why) => {
                    self.purges.not_told(&ids);
                    self.wake.notify_one();
                    if let Some(unlogged) = self.complaints.is_due() {
                        let waiting = self.purges.untold();
                        tracing::warn!(%why, waiting, unlogged, "purged here; other nodes are told when Redis answers again");
                    }
                    let others = self.members.unknown(self.log.instance());
                    return Told { others, ..Told::default() };
                }
            };
            self.wake.notify_one();
            let mut told = Told { at: Some(appended.place.at), ..Told::default() };
            if wait {
                let these;
                (these, told.is_unsure) = self.who_lives(appended.nodes).await;
                let left = PATIENCE.saturating_sub(began.elapsed()).max(LEAST_PATIENCE);
                // Here as well: what is fetched before that would seem to be from before the purge.
                let here = async {
                    let mut read = self.read.subscribe();
                    let has = read.wait_for(|read| members::has(read.until, appended.place));
                    tokio::time::timeout(left, has).await.is_ok()
                };
                let others = self.members.wait_for(appended.place, &these, self.log.instance(), left);
                let (others, here) = tokio::join!(others, here);
                if !here && let Some(unlogged) = self.complaints.is_due() {
                    tracing::warn!(
                        unlogged,
                        "the log of purges could not be read to where this node has purged something"
                    );
                }
                told.others = others;
            }
            told
        })
    }

    /// All nodes that live, and whether there may be others. Waits until those have said so that Redis does not know any more.
    async fn who_lives(&self, found: Nodes) -> (Vec<Member>, bool) {
        if found.settling.is_zero() {
            return (self.members.with_known(found.members), false);
        }
        tokio::time::sleep(found.settling).await;
        let is_unsure = self.say_that_it_lives().await.is_err();
        (self.members.with_known(found.members), is_unsure)
    }

    /// The nodes that were heard of lately.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.members.statuses(self.log.instance())
    }

    /// Brings the metrics up to date. Nodes that were not heard of for a while do not count, but for this one.
    pub fn show(&self) {
        let others = self.nodes().into_iter().filter(|node| !node.is_self && node.seen <= log::GONE).count();
        let metrics = metrics();
        for (gauge, number) in [(&metrics.cluster_nodes, others + 1), (&metrics.purges_untold, self.purges.untold())] {
            gauge.with_label_values::<&str>(&[]).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// Whether this process was stopped for a while, so that it has to read the log before it serves. Costs a load.
    pub fn was_stopped(&self, now: SystemTime) -> bool {
        self.pulse.is_late(now)
    }

    /// Waits until the log is read, or is known not to be there.
    pub async fn go_on(&self) {
        self.pulse.renewed().await;
    }

    /// Says that this node ends, so that nobody waits for it.
    pub fn leave(&'static self) {
        self.has_left.store(true, Ordering::Release);
        let farewell = self.redis.spawn(self.log.leave());
        let until = Instant::now() + FAREWELL;
        while !farewell.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
