//! Who of all nodes fetches a key.

use super::RedisTier;
use super::keys::{Keys, RELEASE, RENEW};
use crate::remote::{Patience, Trouble};
use crate::store::entry::EntryId;
use crate::store::tier::Found;
use std::time::Duration;

/// How long a lease lasts unless it is renewed. Short, so that a node that dies holds nobody up for long.
pub const LEASE: Duration = Duration::from_millis(1500);

/// What is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question<'a> {
    /// Whoever fetches what is not there, by the name of its node, which is not empty. `None`: nobody fetches.
    pub lease: Option<&'a str>,
    /// The stamp of an entry that is known, and is not what is looked for.
    pub seen: Option<u64>,
}

/// What Redis says about an entry.
#[derive(Debug)]
pub enum Answer {
    /// Here it is, with its stamp: 0 for one that is still on its way there.
    Entry(Found, u64),
    /// It is not there.
    Miss,
    /// It is not there, and whoever asked is to fetch it.
    Lease(Lease),
    /// It is not there, and a node fetches it.
    Held {
        /// That node.
        holder: String,
        /// How long its lease lasts if it is not renewed.
        left: Duration,
    },
    /// Redis could not say.
    Unavailable,
}

/// The right to fetch what is stored under an id. Whoever has it renews it, and gives it back or puts an entry with it; one that
/// is dropped lapses by itself. A copy is the same right: it is renewed while an entry is put with it.
#[derive(Debug, Clone)]
pub struct Lease {
    pub(super) id: EntryId,
    /// Grows with each lease of that id.
    pub(super) token: u64,
}

impl Lease {
    /// What it is about.
    pub fn id(&self) -> &EntryId {
        &self.id
    }

    /// What is left of it once it was given back.
    pub fn lapsed(&self) -> PutAs {
        PutAs::Asked(self.token)
    }
}

/// On what grounds an entry is put: what is there and came later is not overwritten.
#[derive(Debug, Clone)]
pub enum PutAs {
    /// It was fetched with a lease, which is given back with that.
    Lease(Lease),
    /// It was asked for after that moment, in microseconds of the clock of Redis: without a lease, or with one that was given
    /// back, whose token this is.
    Asked(u64),
    /// It is not known when it was asked for. It takes no other's place.
    Unknown,
}

impl PutAs {
    /// Without a lease; 0 is not known, as in [`RedisTier::asked_at`].
    pub fn asked_at(at: u64) -> Self {
        if at == 0 { PutAs::Unknown } else { PutAs::Asked(at) }
    }

    /// As scripts take it.
    pub(super) fn moment(&self) -> Option<u64> {
        match self {
            PutAs::Lease(lease) => Some(lease.token),
            PutAs::Asked(at) => Some(*at),
            PutAs::Unknown => None,
        }
    }
}

/// What came of a fetch, for those who wait for it on other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is in Redis.
    Stored,
    /// It was stored, but not in Redis: too large, a part, or its policy does not want it there.
    Unshared,
    /// It may not be stored.
    Uncacheable,
    /// The origin failed; another one may try.
    Failed,
    /// Nobody fetches it any more, for a reason that says nothing about it: the next who wants it does.
    Dropped,
}

impl Outcome {
    /// The one spelling, as it is told to other nodes.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Stored => "stored",
            Outcome::Unshared => "unshared",
            Outcome::Uncacheable => "uncacheable",
            Outcome::Failed => "failed",
            Outcome::Dropped => "dropped",
        }
    }

    /// What another node told.
    pub fn of(told: &str) -> Option<Self> {
        use Outcome::{Dropped, Failed, Stored, Uncacheable, Unshared};
        [Stored, Unshared, Uncacheable, Failed, Dropped].into_iter().find(|outcome| outcome.as_str() == told)
    }
}

impl RedisTier {
    /// Keeps a lease for [`LEASE`] from now on. Says whether it is still ours.
    ///
    /// # Errors
    /// Redis does not answer; the lease may be ours still.
    pub async fn renew(&self, lease: &Lease) -> Result<bool, Trouble> {
        let keys = Keys::of(self.redis.prefix(), &lease.id);
        let args = [lease.token.to_string(), LEASE.as_millis().to_string()];
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let answer = self.redis.run(&RENEW, &[&keys.lease], &args, Patience::Behind).await?;
        Ok(answer.int() == Some(1))
    }

    /// Gives a lease back and tells those who wait what came of it.
    pub async fn release(&self, lease: Lease, outcome: Outcome) {
        let keys = Keys::of(self.redis.prefix(), &lease.id);
        let token = lease.token.to_string();
        let args: [&[u8]; 4] =
            [token.as_bytes(), self.channel.as_bytes(), keys.id.as_bytes(), outcome.as_str().as_bytes()];
        // Counted by whoever sends it. What is not given back lapses.
        let _ = self.redis.run(&RELEASE, &[&keys.lease], &args, Patience::Behind).await;
    }
}
