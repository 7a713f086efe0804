//! The Redis tier: entries that all nodes find, in a Redis, a Valkey, or a cluster of them.
//!
//! * `value`: what an entry looks like there, `keys`: its names, and the scripts that change it
//! * [`lease`]: who of all nodes fetches a key
//! * `changes`: what is to be changed, in order; [`write`]: how
//! * `moments`: when it was asked, which orders what is fetched without a lease
//! * `popular`: how often entries are found there
//! * `watch`: how full it is
//!
//! A lookup is one round trip, and waits no longer than `cache.redis.timeout`. Whatever is at our keys and is no entry is a miss,
//! counted by kind. Only whole responses are kept there: parts of one would have to be read to be combined, by several nodes at
//! once.

mod changes;
mod keys;
pub mod lease;
mod moments;
mod popular;
mod value;
mod watch;
pub mod write;

pub use lease::{Answer, LEASE, Lease, Outcome, PutAs, Question};

use super::disk::index::popularity::Popularity;
use super::entry::{Entry, EntryId};
use super::purged::subject;
use super::tier::{Found, TierState, TierStatus};
use crate::config::RedisTier as Settings;
use crate::policy::decision::TierName;
use crate::purge::{Purges, Standing};
use crate::remote::{Channel, Patience, Redis, Reply, Trouble};
use crate::telemetry::quiet::Quiet;
use crate::telemetry::{TierMetrics, WriteMetrics};
use bytes::Bytes;
use changes::{Changes, Shown};
use keys::{Keys, LOOKUP};
use moments::Moments;
use popular::Popular;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use value::{Bad, Fields, Framed, LONGEST, MOST_FIELDS};
use watch::Usage;
use write::Change;

/// The Redis tier.
#[derive(Debug)]
pub struct RedisTier {
    redis: &'static Redis,
    /// Where it is told what came of fetches.
    channel: String,
    is_cluster: bool,
    /// Bytes of the longest body that is kept; 0 keeps none.
    max_object: AtomicU64,
    changes: Changes<Change>,
    /// Bytes on their way there.
    on_their_way: AtomicU64,
    popular: Popular,
    moments: Moments,
    purges: Arc<Purges>,
    metrics: TierMetrics,
    written: WriteMetrics,
    usage: Usage,
    knows_evicted: AtomicBool,
    complaints: Quiet,
}

impl RedisTier {
    /// The tier over a connection. Lives as long as the process, as that does.
    pub fn new(redis: &'static Redis, settings: &Settings, purges: Arc<Purges>) -> &'static Self {
        let tier: &'static Self = Box::leak(Box::new(RedisTier {
            redis,
            channel: Channel::Fills.name(redis.prefix()),
            is_cluster: settings.is_cluster(),
            max_object: AtomicU64::new(settings.max_object),
            changes: Changes::default(),
            on_their_way: AtomicU64::new(0),
            popular: Popular::default(),
            moments: Moments::new(settings.is_cluster()),
            purges,
            metrics: TierMetrics::of(TierName::Redis),
            written: WriteMetrics::of(TierName::Redis),
            usage: Usage::default(),
            knows_evicted: AtomicBool::new(false),
            complaints: Quiet::default(),
        }));
        // The connection shows whether it works; only that was made before.
        tier.metrics.up.set(redis.is_up().into());
        drop(redis.spawn(tier.watch()));
        tier
    }

    /// What can change while it runs.
    pub fn set_limits(&self, settings: &Settings) {
        self.max_object.store(settings.max_object, Ordering::Relaxed);
        self.redis.set_timeout(settings.timeout);
    }

    /// The connection.
    pub fn redis(&self) -> &'static Redis {
        self.redis
    }

    /// Whether entries are kept there. If not, it is what nodes agree through.
    pub fn keeps_entries(&self) -> bool {
        self.max_object.load(Ordering::Relaxed) > 0
    }

    /// What it says about itself. Items, bytes and capacity are those of the server, as they were a few seconds ago, and of a
    /// cluster they are not known.
    pub fn status(&self) -> TierStatus<'_> {
        // Also where it keeps no entries: then nodes agree through it. What nobody can say of whether it was purged is not used.
        let is_usable = self.redis.is_up() && self.purges.shared().can_judge();
        let state = if is_usable { TierState::Ok } else { TierState::Unavailable };
        let now = |number: &AtomicU64| number.load(Ordering::Relaxed);
        TierStatus {
            name: TierName::Redis,
            state,
            items: now(&self.usage.items),
            bytes: now(&self.usage.bytes),
            capacity: now(&self.usage.capacity),
            metrics: &self.metrics,
        }
    }

    /// Its statistics.
    pub fn metrics(&self) -> &TierMetrics {
        &self.metrics
    }

    /// When Redis was asked last before now, in microseconds of the clock of the server that has this key; 0 if that is not known.
    pub fn asked_at(&self, primary: u128) -> u64 {
        self.moments.last(primary)
    }

    /// Asks again, for a lookup that was counted already.
    pub async fn ask_again(&self, id: &EntryId, key: &[u8], question: Question<'_>) -> Answer {
        self.look(id, key, question).await
    }

    /// Asks for an entry, for a request, and for the right to fetch it. Counts the lookup, and the hit.
    pub async fn ask(&self, id: &EntryId, key: &[u8], question: Question<'_>) -> Answer {
        let began = Instant::now();
        let mut answer = self.look(id, key, question).await;
        match &mut answer {
            Answer::Entry(found, _) => {
                found.popularity.hits = self.popular.hit(id);
                found.entry = Arc::new(with_hits(&found.entry, found.popularity.hits));
                self.metrics.hit.inc();
            }
            Answer::Miss | Answer::Lease(_) | Answer::Held { .. } => {
                self.popular.forget(id);
                self.metrics.miss.inc();
            }
            Answer::Unavailable => self.metrics.unavailable.inc(),
        }
        self.metrics.lookup_seconds.observe(began.elapsed().as_secs_f64());
        answer
    }

    /// The entry, for something else than a request: it counts as no hit.
    pub(super) async fn peek(&self, id: &EntryId, key: &[u8]) -> Option<Arc<Entry>> {
        match self.look(id, key, Question::default()).await {
            Answer::Entry(found, _) => Some(found.entry),
            _ => None,
        }
    }

    /// Whether it is known that something is there. What other nodes have stored is not known before it is asked for.
    pub(super) fn holds(&self, id: &EntryId) -> bool {
        self.popular.knows(id)
    }

    /// Whether it is known that nothing is there.
    pub(super) fn is_forgotten(&self, id: &EntryId) -> bool {
        matches!(self.changes.shown(id), Shown::Nothing)
    }

    async fn look(&self, id: &EntryId, key: &[u8], question: Question<'_>) -> Answer {
        match self.changes.shown(id) {
            // On its way, and good unless whoever asks knows it already.
            Shown::Entry(entry) if *entry.key == *key && question.seen.is_none() => return found(entry, 0),
            Shown::Nothing if question.lease.is_none() => return Answer::Miss,
            Shown::Entry(_) | Shown::Nothing | Shown::Whatever => {}
        }
        if self.keeps_entries() && !self.purges.shared().can_judge() {
            // What other nodes have stored may have been purged, for all that is known here.
            return Answer::Unavailable;
        }
        let mut question = question;
        // Whoever asks for a lease has to know whether it got one, however long it waits itself.
        let patience = if question.lease.is_some() { Patience::Behind } else { Patience::Request };
        let until = Instant::now() + self.redis.deadline(patience);
        loop {
            // Before it is asked: whatever is purged from now on is compared with. What was purged before is judged by the log of
            // all nodes when the answer is here, so a purge has to be in that log before it is in the one of this node.
            let seen = self.purges.latest();
            let reply = match self.look_once(id, question, until).await {
                Ok(reply) => reply,
                Err(why) => {
                    self.complain("a lookup failed", &why);
                    return Answer::Unavailable;
                }
            };
            let fields = match reply {
                Looked::Fields(fields) => fields,
                Looked::Other(answer) => return answer,
            };
            let stamp = fields.stamp().unwrap_or_default();
            let entry = match self.changes.shown(id) {
                // Forgotten since it was asked, or before.
                Shown::Nothing => None,
                _ => match fields.entry(id, key) {
                    Ok((framed, body)) => self.good(framed, body, seen),
                    Err(bad) => {
                        self.is_bad(id, bad);
                        None
                    }
                },
            };
            match entry {
                Some(entry) => return found(Arc::new(entry), stamp),
                None if question.lease.is_none() => return Answer::Miss,
                // It is not what is looked for. Asked for once more at most.
                None if question.seen == Some(stamp) => return Answer::Miss,
                None => question.seen = Some(stamp),
            }
        }
    }

    async fn look_once(&self, id: &EntryId, question: Question<'_>, until: Instant) -> Result<Looked, Trouble> {
        let keys = Keys::of(self.redis.prefix(), id);
        let lease = lease::LEASE.as_millis().to_string();
        let seen = question.seen.map(|stamp| stamp.to_string()).unwrap_or_default();
        let (most, longest) = (MOST_FIELDS.to_string(), LONGEST.to_string());
        let args = [question.lease.unwrap_or_default(), &lease, &seen, &most, &longest].map(str::as_bytes);
        let reply = self.redis.run_until(&LOOKUP, &[&keys.entry, &keys.lease], &args, until).await?;
        let mut parts = reply.into_array().into_iter();
        let unexpected = || Trouble::Unexpected("a lookup was answered with something else".to_owned());
        let Some(Reply::Bytes(what)) = parts.next() else { return Err(unexpected()) };
        let at = parts.next().and_then(|at| at.int()).and_then(|at| u64::try_from(at).ok());
        self.moments.note(id.primary, at.ok_or_else(unexpected)?);
        if parts.next().and_then(|foreign| foreign.int()) == Some(1) {
            self.is_bad(id, Bad::Foreign);
        }
        if what == b"entry" {
            return Ok(Looked::Fields(Fields::of(parts.next().unwrap_or(Reply::Nil))));
        }
        let (first, second) = (parts.next(), parts.next());
        let number = first.as_ref().and_then(Reply::int).and_then(|number| u64::try_from(number).ok());
        let answer = match (what.as_slice(), number) {
            (b"miss", _) => Answer::Miss,
            (b"lease", Some(token)) => Answer::Lease(Lease { id: *id, token }),
            (b"held", Some(left)) => {
                let holder = second.as_ref().and_then(Reply::bytes).unwrap_or_default();
                Answer::Held { holder: String::from_utf8_lossy(holder).into_owned(), left: Duration::from_millis(left) }
            }
            _ => return Err(unexpected()),
        };
        Ok(Looked::Other(answer))
    }

    /// An entry as it is by now, after what all nodes have purged; `None` if it is dead.
    fn good(&self, framed: Framed, body: Bytes, seen: crate::purge::Position) -> Option<Entry> {
        let (head, shared) = (framed.head, framed.shared);
        let mut facts = head.facts;
        match self.purges.shared().standing(&subject(&head.key, &facts), shared) {
            Standing::Good => {}
            Standing::StaleSince(since) => {
                let since = since.time().min(crate::clock::now());
                facts.freshness = facts.freshness.stale_since(since);
            }
            Standing::Dead => return None,
        }
        (facts.seen, facts.shared) = (seen, shared);
        Some(Entry::new(head.key, Arc::new(head.head), body, Arc::new(facts)))
    }

    /// Something is at one of our keys that is no entry of ours. What is stored next takes its place.
    fn is_bad(&self, id: &EntryId, bad: Bad) {
        self.metrics.error(bad.as_str()).inc();
        if let Some(unlogged) = self.complaints.is_due() {
            let key = Keys::of(self.redis.prefix(), id).entry;
            let (key, kind) = (String::from_utf8_lossy(&key).into_owned(), bad.as_str());
            tracing::warn!(%key, kind, unlogged, "what Redis has there is no entry; it is fetched again");
        }
    }

    /// Counts what went wrong, and says so now and then. That Redis is gone was said by whoever found out.
    fn complain(&self, what: &'static str, why: &Trouble) {
        let kind = match why {
            Trouble::Down => return,
            Trouble::Slow(_) => "timeout",
            Trouble::Refused(why) if why.starts_with("OOM") => "full",
            _ => "io",
        };
        self.metrics.error(kind).inc();
        if let Some(unlogged) = self.complaints.is_due() {
            tracing::warn!(%why, unlogged, "{what}; requests go on without Redis");
        }
    }

    /// Gives what is on its way a moment to arrive, before the process ends.
    pub(super) fn close(&self) {
        let began = Instant::now();
        while !self.changes.is_empty() && self.redis.is_up() && began.elapsed() < LEAVING {
            std::thread::sleep(Duration::from_millis(5));
        }
        let owed = self.changes.forgets();
        if owed > 0 {
            tracing::warn!(
                entries = owed,
                "Redis could not be told to forget what has changed; other nodes may find it there"
            );
        }
    }
}

/// How long a process that ends waits for what is on its way.
const LEAVING: Duration = Duration::from_millis(500);

/// What a script has answered.
enum Looked {
    /// There is something.
    Fields(Fields),
    /// There is nothing.
    Other(Answer),
}

fn found(entry: Arc<Entry>, stamp: u64) -> Answer {
    Answer::Entry(Found { entry, popularity: Popularity::NONE, body: None }, stamp)
}

/// The same, found so often, this time included.
fn with_hits(entry: &Entry, hits: u32) -> Entry {
    let copy = Entry::of(entry.key.clone(), entry.head.clone(), entry.body.clone(), entry.facts.clone());
    copy.with_hits(u64::from(hits).saturating_sub(1))
}
