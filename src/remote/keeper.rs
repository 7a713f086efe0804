//! Whether Redis is asked at all.
//!
//! A task of its own, the keeper, connects, asks every second whether Redis still answers, and connects again when it does not.
//! Commands that fail in a row end the asking as well.

use super::connection::Connection;
use super::{Advice, Event, Patience, Redis, Reply, Trouble};
use crate::policy::decision::TierName;
use crate::telemetry::metrics;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// So many commands in a row may fail before Redis is left alone. One may be too large for its deadline.
const FAILURES: u32 = 5;

/// The same of a cluster. One of its nodes may be gone, which is no reason to leave those alone that answer.
const FAILURES_OF_MANY: u32 = 50;

/// How often it is asked whether it answers.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How long that may take.
pub(super) const PING: Duration = Duration::from_millis(500);

/// Unanswered pings after which the connection is taken for dead.
const PINGS: u32 = 3;

/// Looks of the keeper in a row with trouble in a cluster since the last one, until it connects anew: one of its nodes may be
/// gone without a word, and another one may have taken its place.
const TROUBLED: u32 = 3;

/// How often it does that.
const ANEW_EVERY: Duration = Duration::from_secs(10);

/// Pauses between tries to connect; the last one again and again, so that Redis is found again within two seconds.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

impl Redis {
    /// Learns from an answer whether to go on asking.
    pub(super) fn judge(&self, answer: &Result<Reply, Trouble>) {
        match answer {
            Ok(_) | Err(Trouble::Refused(_) | Trouble::Unexpected(_)) => {
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
            }
            Err(Trouble::Down) => {}
            Err(trouble) => {
                let most = match trouble {
                    // Of a cluster this may be one node.
                    _ if self.tier.is_cluster() => FAILURES_OF_MANY,
                    Trouble::Slow(_) => FAILURES,
                    _ => 1,
                };
                self.is_troubled.store(true, Ordering::Relaxed);
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= most {
                    self.fails(trouble);
                }
            }
        }
    }

    /// An answer that is waited for on has not come within the time of a request.
    pub fn note_slow(&self) {
        self.judge(&Err(Trouble::Slow(self.deadline(Patience::Request))));
    }

    /// Commands fail, whatever pings do.
    fn fails(&self, why: &Trouble) {
        // A connection that broke is replaced, which says enough about the server.
        let is_over = matches!(why, Trouble::Broken(_)) && !self.tier.is_cluster();
        if self.is_up() && !is_over {
            self.hold.lock().begin(Instant::now());
        }
        if why.is_of_replica() && !self.tier.is_cluster() {
            self.is_another.store(true, Ordering::Release);
        }
        self.is_down(why);
    }

    /// From now on nobody asks, until the keeper has found that it answers again.
    fn is_down(&self, why: &Trouble) {
        if self.up.swap(false, Ordering::AcqRel)
            && let Some(unlogged) = self.says_down.is_due()
        {
            tracing::error!(%why, unlogged, "Redis is left alone; requests go on without it until it answers again");
        }
        *self.why.lock() = Some(why.to_string());
        self.show(false);
        self.doubt.notify_one();
    }

    fn is_back(&self) {
        if self.is_up() {
            return;
        }
        // A ping says little about commands.
        if !self.hold.lock().end(Instant::now()) {
            return;
        }
        self.failures.store(0, Ordering::Relaxed);
        *self.why.lock() = None;
        self.show(true);
        if !self.up.swap(true, Ordering::AcqRel) {
            if let Some(unlogged) = self.says_up.is_due() {
                tracing::info!(unlogged, "Redis answers");
            }
            let _ = self.events.send(Event::Connected);
        }
    }

    pub(super) fn show(&self, up: bool) {
        metrics().tier_up.with_label_values(&[TierName::Redis.as_str()]).set(up.into());
    }

    /// The keeper.
    pub(super) async fn keep(&'static self) {
        let mut pauses = PAUSES.into_iter();
        let mut told = None;
        loop {
            match Connection::open(&self.tier, self.hears()).await {
                Ok(connection) => {
                    (pauses, told) = (PAUSES.into_iter(), None);
                    let mut next = Some(connection);
                    while let Some(connection) = next {
                        let connection = Arc::new(connection);
                        self.connection.store(Some(connection.clone()));
                        next = tokio::select! {
                            next = self.watch(&connection) => next,
                            () = self.renew.notified() => {
                                // So that it is said when it answers again.
                                self.up.store(false, Ordering::Release);
                                None
                            }
                        };
                        let _ = self.events.send(Event::Missed);
                    }
                    self.connection.store(None);
                }
                Err(why) => {
                    *self.why.lock() = Some(why.to_string());
                    let advice = Advice::on(&self.tier, &why);
                    // The same once, however often it is found.
                    if told.as_ref() != Some(&advice) {
                        let Advice { key, message } = &advice;
                        tracing::error!(
                            "{key}: {message}; requests go on without it, and it is tried again until it can"
                        );
                        told = Some(advice);
                    }
                }
            }
            let pause = pauses.next().unwrap_or(PAUSES[PAUSES.len() - 1]);
            // So that many nodes do not come back in one moment.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Returns when the connection is of no use any more, with what takes its place if that is there already.
    async fn watch(&self, connection: &Connection) -> Option<Connection> {
        let (mut unanswered, mut troubled, mut anew) = (0, 0, Instant::now());
        self.is_another.store(false, Ordering::Release);
        loop {
            match tokio::time::timeout(PING, connection.ping()).await {
                Ok(Ok(())) => {
                    unanswered = 0;
                    self.is_back();
                }
                Ok(Err(why)) => {
                    self.is_down(&why);
                    return None;
                }
                Err(_) => {
                    unanswered += 1;
                    self.is_down(&Trouble::Slow(PING));
                    if unanswered >= PINGS {
                        return None;
                    }
                }
            }
            if self.is_another.load(Ordering::Acquire) {
                return None;
            }
            troubled = if self.is_troubled.swap(false, Ordering::Relaxed) { troubled + 1 } else { 0 };
            if self.tier.is_cluster() && troubled >= TROUBLED && anew.elapsed() >= ANEW_EVERY {
                (troubled, anew) = (0, Instant::now());
                // Those that answer are asked over the old one meanwhile, and if there is no new one.
                if let Ok(connection) = Connection::open(&self.tier, self.hears()).await {
                    return Some(connection);
                }
            }
            let _ = tokio::time::timeout(PING_EVERY, self.doubt.notified()).await;
        }
    }
}
