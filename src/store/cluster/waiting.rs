//! Another node fetches: what comes of that is waited for once, for all who wait for it here.

use super::Cluster;
use super::messages::{Ear, Heard};
use super::tables::Knows;
use crate::lock::{Failure, StandIn};
use crate::store::entry::EntryId;
use crate::store::redis::{Answer, Outcome};
use http::StatusCode;
use pingora::cache::lock::LockStatus;
use std::time::Duration;

/// Nodes that wait for one lease to lapse do not all ask in one moment. Milliseconds.
const APART: u64 = 40;

/// How another node's fill failed is not told. This lets a stale entry stand in only where that is allowed for errors.
const FAILED_ELSEWHERE: Failure = Failure::Answered(StatusCode::BAD_GATEWAY);

impl Cluster {
    /// Holds the lock in the place of another node until something is heard from it, or its lease lapses. As long as it renews
    /// that, those who wait here wait on, each for as long as it may.
    pub(super) async fn wait_for_another_node(
        &'static self,
        stand_in: StandIn,
        mut ear: Ear,
        knows: Option<Knows>,
        key: &[u8],
        seen: Option<u64>,
        mut left: Duration,
    ) {
        let id = *ear.id();
        loop {
            let lapses = left + Duration::from_millis(fastrand::u64(1..=APART));
            let heard = tokio::select! {
                heard = ear.next() => heard,
                () = tokio::time::sleep(lapses) => Heard::Nothing,
            };
            match heard {
                Heard::Ended(outcome) => return self.has_ended(stand_in, &id, outcome),
                Heard::Nothing | Heard::Missed => {}
            }
            match self.ask_again(&id, key, seen).await {
                Answer::Held { holder, left: now_left } if holder != self.node => left = now_left,
                Answer::Lease(lease) => {
                    let parked = self.park(lease, knows, "takeover");
                    stand_in.end(LockStatus::Done);
                    return parked.wait().await;
                }
                // They find it, or find out that Redis cannot say, and fetch.
                Answer::Entry(..) | Answer::Held { .. } | Answer::Miss | Answer::Unavailable => {
                    return stand_in.end(LockStatus::Done);
                }
            }
        }
    }

    fn has_ended(&self, stand_in: StandIn, id: &EntryId, outcome: Outcome) {
        match outcome {
            Outcome::Stored | Outcome::Dropped => stand_in.end(LockStatus::Done),
            Outcome::Unshared => {
                self.unshared.add(*id);
                stand_in.end(LockStatus::Done);
            }
            Outcome::Uncacheable => stand_in.end(LockStatus::GiveUp),
            Outcome::Failed => {
                self.lock.note_failure_elsewhere(super::whole(id), FAILED_ELSEWHERE);
                stand_in.end(LockStatus::TransientError);
            }
        }
    }
}
