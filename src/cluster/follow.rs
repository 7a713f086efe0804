//! Reads the log and puts in force what it says; says that this node lives; tells what was purged here.

use super::log::{GONE, Message, Page};
use super::{Cluster, Read};
use crate::clock;
use crate::purge::{NotDurable, Position, Shared};
use crate::remote::{Channel, Event, Listener, Trouble};
use crate::telemetry::quiet::Quiet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a node says that it lives, and looks whether it has missed something.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// How long what was read of the log is good enough to judge what other nodes have stored: shorter than others wait for this node.
const GOOD_FOR: Duration = Duration::from_secs(4);

/// Records that are told at once.
const BATCH: usize = 1000;

/// Reads the log.
pub(super) struct Follower {
    cluster: &'static Cluster,
    /// All of the log was known once.
    is_settled: bool,
    /// Redis has heard that this node lives since it was connected.
    has_greeted: bool,
    complaints: Quiet,
}

impl Follower {
    /// Begins.
    pub(super) fn start(cluster: &'static Cluster) {
        // Before anything is connected, so that nothing is missed.
        let listener = cluster.redis.listen();
        let follower = Follower { cluster, is_settled: false, has_greeted: false, complaints: Quiet::default() };
        cluster.redis.spawn(follower.run(listener));
        cluster.redis.spawn(beat(cluster));
    }

    async fn run(mut self, mut listener: Listener) {
        loop {
            let mut wanted = false;
            let mut behind = true;
            tokio::select! {
                event = listener.next() => (behind, wanted) = self.heard(event),
                () = self.cluster.wake.notified() => {}
            }
            // What came meanwhile is dealt with at once.
            while let Some(event) = listener.waiting() {
                let (and_behind, and_wanted) = self.heard(event);
                (behind, wanted) = (behind | and_behind, wanted | and_wanted);
            }
            if behind
                && self.cluster.redis.is_up()
                && let Err(why) = self.catch_up().await
                && let Some(unlogged) = self.complaints.is_due()
            {
                tracing::warn!(%why, unlogged, "the log of purges could not be read; it is tried again");
            }
            if wanted {
                let until = self.cluster.read.borrow().until;
                self.cluster.log.acknowledge(until).await;
            }
        }
    }

    /// Whether there is something to read, and whether somebody waits for that.
    fn heard(&mut self, event: Event) -> (bool, bool) {
        let members = &self.cluster.members;
        match event {
            Event::Connected => {
                self.has_greeted = false;
                (true, false)
            }
            Event::Missed => (true, false),
            Event::Message(Channel::Fills, _) => (false, false),
            Event::Message(Channel::Purges, bytes) => match Message::parse(&bytes) {
                Some(Message::Purged { place, instance, wanted }) => {
                    let is_ours = instance == self.cluster.log.instance();
                    let until = self.cluster.read.borrow().until;
                    (!super::members::has(until, place), wanted && !is_ours)
                }
                Some(Message::Applied { place, instance }) => {
                    members.has_applied(&instance, place);
                    (false, false)
                }
                Some(Message::Left(instance)) => {
                    members.has_left(&instance);
                    (false, false)
                }
                None => (false, false),
            },
        }
    }

    /// Reads to the end of the log, and tells what waits to be told.
    async fn catch_up(&mut self) -> Result<(), Trouble> {
        if !self.has_greeted {
            // Before it is read: from now on others wait for this node.
            self.cluster.say_that_it_lives().await?;
            self.has_greeted = true;
        }
        self.read_to_the_end().await?;
        while self.tell().await? {
            self.read_to_the_end().await?;
        }
        Ok(())
    }

    async fn read_to_the_end(&mut self) -> Result<(), Trouble> {
        loop {
            let began = Instant::now();
            let page = self.cluster.log.read(self.cluster.purges.shared().read_until()).await?;
            let end = page.end;
            self.take(page).await;
            if super::members::has(self.cluster.purges.shared().read_until(), end) {
                self.is_at_the_end(end, began).await;
                return Ok(());
            }
        }
    }

    /// Puts a part of the log in force.
    async fn take(&self, page: Page) {
        let Page { end, dropped, records } = page;
        let (purges, is_settled) = (self.cluster.purges.clone(), self.is_settled);
        // It waits for the disk.
        self.behind(move || {
            let shared = purges.shared();
            let known = shared.read_until();
            let is_another = known.epoch != end.epoch;
            // Of another log, whatever went before it was read here.
            let has_missed =
                if is_another { known.epoch != 0 && dropped > Position::BEGINNING } else { known.at < dropped };
            if is_another || has_missed {
                shared.begin(end.epoch, dropped);
            }
            if is_another && known.epoch != 0 {
                tracing::warn!(
                    "Redis has lost the log of purges: another one begins, and nothing that is stored there is used any more"
                );
                purges.begin_again();
            }
            if records.is_empty() {
                // Whatever may have become of the last ones.
                shared.apply(end.at, &[], false);
            }
            if !is_settled {
                purges.learn(&records);
                return Ok(());
            }
            if has_missed {
                tracing::error!("this node was away for longer than the log of purges goes back: everything that is stored here counts as purged");
                purges.missed(clock::now())?;
            }
            let written =
                if records.is_empty() && !is_another { Ok(()) } else { purges.follow(&records, clock::now()) };
            if super::members::has(shared.read_until(), end) {
                // Before anybody hears of it: what is stored from now on came after what was awaited.
                purges.has_read_all();
            }
            written
        })
        .await;
        self.cluster.has_read(None);
    }

    /// All of the log is known, as it was at that moment.
    async fn is_at_the_end(&mut self, end: Shared, when: Instant) {
        if !std::mem::replace(&mut self.is_settled, true) {
            let (purges, is_late) = (self.cluster.purges.clone(), self.cluster.is_serving.load(Ordering::Acquire));
            self.behind(move || {
                purges.has_read_all();
                purges.settle(is_late, clock::now())
            })
            .await;
        }
        // Who does not hear that this node lives does not wait for it, however much it reads.
        if let Some(beaten) = *self.cluster.beaten.lock() {
            self.cluster.purges.shared().is_complete(end, when.min(beaten), GOOD_FOR);
        }
        self.cluster.has_read(Some(when));
    }

    /// Tells what waits; says whether there was something.
    async fn tell(&self) -> Result<bool, Trouble> {
        let purges = &self.cluster.purges;
        let records = purges.to_tell(BATCH);
        if records.is_empty() {
            return Ok(false);
        }
        let ids: Vec<_> = records.iter().map(|record| record.id).collect();
        match self.cluster.log.append_again(&records, purges.shared().read_until()).await {
            Ok(true) => {
                tracing::info!(
                    records = ids.len(),
                    "told other nodes what was purged while Redis was away, or what it has lost"
                );
                Ok(true)
            }
            // Something has come meanwhile, maybe these: to be read first.
            Ok(false) => {
                purges.not_told(&ids);
                Ok(true)
            }
            Err(why) => {
                purges.not_told(&ids);
                Err(why)
            }
        }
    }

    async fn behind(&self, work: impl FnOnce() -> Result<(), NotDurable> + Send + 'static) {
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => {}
            // In force, and read again after a restart.
            Ok(Err(error)) => tracing::debug!(%error, "how far the log of purges was read is not written down"),
            Err(error) => tracing::error!(%error, "the log of purges is not followed as it should be"),
        }
    }
}

impl Cluster {
    fn has_read(&self, complete: Option<Instant>) {
        let until = self.purges.shared().read_until();
        self.read.send_modify(|read| *read = Read { until, complete: complete.or(read.complete) });
        self.members.has_applied(self.log.instance(), until);
    }

    pub(super) async fn say_that_it_lives(&self) -> Result<Shared, Trouble> {
        if self.has_left.load(Ordering::Acquire) {
            // Whoever has said goodbye does not come back.
            return Err(Trouble::Down);
        }
        let (until, began) = (self.read.borrow().until, Instant::now());
        let (end, nodes) = self.log.beat(until).await?;
        {
            let mut beaten = self.beaten.lock();
            *beaten = (*beaten).max(Some(began));
        }
        self.members.heard(&nodes.members, Instant::now(), GONE);
        Ok(end)
    }
}

/// Says every second that this node lives, and has the log read if it has come further.
async fn beat(cluster: &'static Cluster) {
    let mut tick = tokio::time::interval(BEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let complaints = Quiet::default();
    loop {
        tick.tick().await;
        if !cluster.redis.is_up() || cluster.has_left.load(Ordering::Acquire) {
            continue;
        }
        let began = Instant::now();
        match cluster.say_that_it_lives().await {
            Ok(end) => {
                let is_known = super::members::has(cluster.read.borrow().until, end);
                if is_known && cluster.purges.shared().latest().epoch == end.epoch {
                    cluster.purges.shared().is_complete(end, began, GOOD_FOR);
                }
                if !is_known || cluster.purges.untold() > 0 {
                    cluster.wake.notify_one();
                }
            }
            Err(why) => {
                if let Some(unlogged) = complaints.is_due() {
                    tracing::warn!(%why, unlogged, "other nodes could not be told that this one lives");
                }
            }
        }
    }
}
