//! How a fill grows, and whom its writer waits for meanwhile.

use super::state::State;
use super::{Fill, WINDOW, WriteError};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a piece means for the fill that it came to.
enum Appended {
    /// Everything is in memory.
    InMemory,
    /// It no longer fits there.
    Outgrown,
    /// Others have to keep up.
    Bounded,
}

/// What a writer does next.
enum Step {
    GoOn,
    /// Nobody reads what would not be kept.
    GiveUp,
    /// Looks again when somebody moved, or so much later.
    Wait(Duration),
}

/// How long the spool has written nothing.
struct Watch {
    written: u64,
    since: Instant,
}

impl Watch {
    /// Sees how much it has written now, and says for how long it has written nothing.
    fn stands_still(&mut self, written: u64) -> Duration {
        if written > self.written {
            *self = Watch { written, since: Instant::now() };
        }
        self.since.elapsed()
    }
}

impl Fill {
    /// Appends a piece, for its one writer. Waits only for a spool that is behind, and, if it overflowed, for a follower
    /// that is.
    pub async fn write(&self, piece: Bytes) -> Result<(), WriteError> {
        if piece.is_empty() {
            return Ok(());
        }
        let (appended, spool) = self.progress.with(|state| {
            state.last_progress = Instant::now();
            state.pieces.push(piece.clone());
            let appended = self.appended(state);
            state.let_go();
            (appended, state.spool.clone().filter(|_| !state.overflowed))
        });
        if let Some(spool) = spool {
            spool.push(piece);
        } else if let Appended::Outgrown = appended {
            self.leave_memory();
        }
        self.progress.came.notify_waiters();
        match appended {
            Appended::InMemory => Ok(()),
            Appended::Outgrown | Appended::Bounded => self.wait().await,
        }
    }

    fn appended(&self, state: &mut State) -> Appended {
        let limits = &self.limits;
        let received = state.received();
        if received > limits.max_object {
            state.overflow();
        }
        if state.overflowed || state.spool.is_some() {
            return Appended::Bounded;
        }
        let will_outgrow = limits.spool.is_some() && self.expected.is_some_and(|expected| expected > limits.hold);
        if will_outgrow || received > limits.hold || state.pieces.are_too_many() {
            return Appended::Outgrown;
        }
        Appended::InMemory
    }

    /// Goes on in a spool, or overflows if there is none for it.
    fn leave_memory(&self) {
        let may_be_kept = self.is_current() && self.expected.is_none_or(|expected| expected <= self.limits.max_object);
        let source = self.limits.spool.as_ref().filter(|_| may_be_kept);
        let Some(spool) = source.and_then(|source| source.open(self)) else {
            self.progress.with(|state| {
                state.overflow();
                state.let_go();
            });
            return;
        };
        let progress = Arc::downgrade(&self.progress);
        spool.subscribe(Arc::new(move || {
            if let Some(progress) = progress.upgrade() {
                progress.spool_moved();
            }
        }));
        let pieces = self.progress.with(|state| {
            state.spool = Some(spool.clone());
            state.pieces.all()
        });
        pieces.into_iter().for_each(|piece| spool.push(piece));
    }

    async fn wait(&self) -> Result<(), WriteError> {
        let since = Instant::now();
        let mut watch = Watch { written: 0, since };
        loop {
            let room = self.progress.room.notified();
            tokio::pin!(room);
            // Registered before the look, so that nothing that comes in between is missed.
            room.as_mut().enable();
            let step = self.progress.with(|state| {
                let step = self.step_in_spool(state, &mut watch);
                let step = step.unwrap_or_else(|| self.step_in_overflow(state, since));
                state.let_go();
                step
            });
            match step {
                Step::GoOn => return Ok(()),
                Step::GiveUp => return Err(WriteError::Abandoned),
                // Looked at again then, even if nobody moves.
                Step::Wait(most) => drop(tokio::time::timeout(most, room).await),
            }
        }
    }

    /// What to do while it may be kept; a spool that takes too long is given up.
    fn step_in_spool(&self, state: &mut State, watch: &mut Watch) -> Option<Step> {
        let spool = state.spool.as_ref().filter(|_| !state.overflowed)?;
        let (written, failed) = (state.written(), spool.failed());
        let left = self.limits.disk_patience.saturating_sub(watch.stands_still(written));
        if !failed && state.received() - written <= WINDOW {
            return Some(Step::GoOn);
        }
        if !failed && !left.is_zero() {
            return Some(Step::Wait(left));
        }
        state.overflow();
        None
    }

    fn step_in_overflow(&self, state: &mut State, since: Instant) -> Step {
        let left = self.leader_left.get().is_some_and(|left| left.load(Ordering::Relaxed));
        let (start, received, written) = (state.pieces.start(), state.received(), state.written());
        // A disk that stalled was as far behind already when it was given up.
        let most = WINDOW + self.limits.hold.max(WINDOW);
        // Until when somebody is waited for.
        let mut wait: Option<Duration> = None;
        for reader in state.readers.iter_mut().filter(|reader| reader.own && !reader.cut) {
            // Its task takes a piece between any few from the origin, and stops fetching while it writes. If it takes
            // none, its client left, and the task writes to nobody. While it is still in the spool, what is not there
            // waits for it in memory.
            let waits_in_memory = if reader.next < start { received - written } else { 0 };
            if left || received - reader.saw > WINDOW || waits_in_memory > most {
                reader.cut_off();
            } else if reader.reading.is_some() {
                // What it reads from the disk comes although its task is here, and is handed out before the next piece.
                let left = self.limits.disk_patience.saturating_sub(reader.moved.elapsed());
                wait = Some(left).filter(|left| !left.is_zero());
            }
        }
        if state.readers.iter().all(|reader| reader.cut) {
            return Step::GiveUp;
        }
        for reader in state.readers.iter_mut().filter(|reader| !reader.own && !reader.cut) {
            if received.saturating_sub(reader.next) <= WINDOW {
                continue;
            }
            // All that stand still are cut at once, so that many cost no more than one. A disk that stalls is not waited
            // for any longer than when it is written to.
            let patience = if reader.reading.is_some() { self.limits.disk_patience } else { self.limits.patience };
            let left = patience.saturating_sub(reader.moved.max(since).elapsed());
            if left.is_zero() {
                reader.cut_off();
            } else {
                wait = Some(wait.map_or(left, |wait| wait.min(left)));
            }
        }
        wait.map_or(Step::GoOn, Step::Wait)
    }
}
