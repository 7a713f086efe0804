//! One fill per key in all nodes that share a Redis.
//!
//! A lookup that found nothing here, or nothing fresh, asks Redis, once for all who look up that key meanwhile ([`Cluster::ask`]). Redis has the entry, or
//! it grants a [`lease`] to one node, or says that another node has it. What was granted is parked in the table of locks, for whoever
//! of those who looked up locks first ([`crate::lock::Ticket`]); in the place of another node the key is locked here
//! ([`crate::lock::StandIn`]) until something is heard from it (`waiting`).
//!
//! * [`lease`]: what this node has, `waiting`: what another one has
//! * `messages`: what nodes tell each other, `tables`: what is remembered of keys

pub mod lease;
mod messages;
mod tables;
mod waiting;

pub use lease::Leased;

use super::disk::index::popularity::Popularity;
use super::entry::{Entry, EntryId};
use super::fill::Fill;
use super::redis::{Answer, Lease, Question, RedisTier};
use super::tier::Found;
use crate::clock;
use crate::config;
use crate::lock::{FillLock, Fills, Grant, WholeId};
use crate::purge::{Purges, Standing};
use crate::remote::{Patience, Redis};
use crate::telemetry::metrics;
use crate::telemetry::quiet::Quiet;
use messages::Ears;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tables::{Ending, Ends, Known, Knows, Leases, Unshared};
use tokio::sync::watch;

/// How long a lease waits for a request that makes use of it. Those who asked are about to lock, unless they have left or need no
/// fill after all.
const UNCLAIMED: Duration = Duration::from_millis(250);

/// What nodes that share a Redis agree on about fills.
#[derive(Debug)]
pub struct Cluster {
    tier: &'static RedisTier,
    redis: &'static Redis,
    lock: &'static FillLock,
    purges: Arc<Purges>,
    /// Tells this process from all others.
    node: String,
    /// `cache.lock.cluster`
    takes_turns: AtomicBool,
    /// `cache.lock.age`, in milliseconds.
    lock_age: AtomicU64,
    /// `cache.lock.wait`, in milliseconds.
    lock_wait: AtomicU64,
    flights: Mutex<HashMap<Asks, Arc<Flight>>>,
    ears: &'static Ears,
    ending: &'static Ending,
    leased: Leases,
    unshared: Unshared,
    known: &'static Known,
    complaints: Quiet,
}

/// What Redis is asked for: an entry, and whether a lease if there is none.
type Asks = (EntryId, bool);

/// What whoever looks an entry up fetches if it is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetches {
    /// A part of it, or nothing, or what nobody else is to wait for.
    Alone,
    /// All of it, for all nodes.
    ForAll,
    /// The same, behind the request that has found it stale.
    Behind,
}

/// A question under way.
#[derive(Debug)]
struct Flight {
    key: Box<[u8]>,
    told: watch::Receiver<Option<Told>>,
}

/// How whoever asks comes to an answer.
enum Joined {
    /// It is known.
    Known(Told),
    /// With others.
    Flight(watch::Receiver<Option<Told>>),
    /// On its own.
    Alone,
}

/// What Redis says, to all who asked.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// The entry that it has. One that is not fresh is the last one before that which is fetched.
    pub(super) entry: Option<(Arc<Entry>, Popularity)>,
    /// What there is to say besides.
    pub(super) more: More,
}

/// What there is to say besides an entry, or in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    /// Nothing.
    Nothing,
    /// Somebody has leave to fetch it, here or on another node. Who is about to lock and finds that this is over asks again.
    Fetched,
    /// Redis could not say.
    Unavailable,
}

impl Told {
    fn new(found: Option<Found>, more: More) -> Self {
        Told { entry: found.map(|found| (found.entry, found.popularity)), more }
    }
}

impl Cluster {
    /// Begins to hear what other nodes say. Lives as long as the process, as requests hold on to it.
    pub fn new(
        tier: &'static RedisTier,
        lock: &'static FillLock,
        purges: Arc<Purges>,
        settings: &config::Lock,
    ) -> &'static Self {
        let redis = tier.redis();
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let cluster = Box::leak(Box::new(Cluster {
            tier,
            redis,
            lock,
            purges,
            // Another process on this machine, or the next one, is another node.
            node: format!("{}/{}/{:08x}", name.unwrap_or_default(), std::process::id(), fastrand::u32(..)),
            takes_turns: AtomicBool::new(false),
            lock_age: AtomicU64::new(0),
            lock_wait: AtomicU64::new(0),
            flights: Mutex::default(),
            ears: Box::leak(Box::default()),
            ending: Box::leak(Box::default()),
            leased: Leases::default(),
            unshared: Unshared::default(),
            known: Box::leak(Box::default()),
            complaints: Quiet::default(),
        }));
        cluster.set_limits(settings);
        drop(redis.spawn(cluster.ears.pass_on(redis.listen())));
        cluster
    }

    /// Changes what can change while it runs, for what comes from now on.
    pub fn set_limits(&self, settings: &config::Lock) {
        self.takes_turns.store(settings.cluster, Ordering::Relaxed);
        self.lock_age.store(super::millis(settings.age), Ordering::Relaxed);
        self.lock_wait.store(super::millis(settings.wait), Ordering::Relaxed);
    }

    /// Whether one node at a time fills a key.
    fn takes_turns(&self) -> bool {
        self.takes_turns.load(Ordering::Relaxed) && self.tier.keeps_entries()
    }

    fn lock_age(&self) -> Duration {
        Duration::from_millis(self.lock_age.load(Ordering::Relaxed))
    }

    /// Whether bytes of a fill still come, and are worth waiting for.
    fn gets_on(&self, fill: &Arc<Fill>) -> bool {
        let stalled_after = Duration::from_millis(self.lock_wait.load(Ordering::Relaxed));
        fill.is_joinable(stalled_after)
            && self.purges.standing(&super::purged::subject(&fill.key, &fill.facts)) != Standing::Dead
    }

    /// Asks Redis for an entry, together with all who look for it now.
    pub(super) async fn ask(&'static self, id: &EntryId, key: &[u8], fetches: Fetches) -> Told {
        let mut told = match self.join(id, key, fetches) {
            Joined::Known(told) => return told,
            Joined::Alone => return self.ask_alone(id, key).await,
            Joined::Flight(told) => told,
        };
        // One that ends without an answer was stopped, as the process is.
        let told = told.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        told.unwrap_or(Told::new(None, More::Unavailable))
    }

    async fn ask_alone(&self, id: &EntryId, key: &[u8]) -> Told {
        match self.tier.ask(id, key, Question::default()).await {
            Answer::Entry(found, _) => Told::new(Some(found), More::Nothing),
            Answer::Unavailable => Told::new(None, More::Unavailable),
            Answer::Miss | Answer::Lease(_) | Answer::Held { .. } => Told::new(None, More::Nothing),
        }
    }

    /// Takes part in a question that is under way, or begins one.
    fn join(&'static self, id: &EntryId, key: &[u8], fetches: Fetches) -> Joined {
        let mut wants_lease = fetches == Fetches::ForAll && self.takes_turns();
        // A question ends under this lock with a lease or somebody who stands in, so that there is always one of them to find.
        let mut flights = self.flights.lock();
        if wants_lease || fetches == Fetches::Behind {
            let entry = self.known.get(id, key).map(|entry| (entry, Popularity::NONE));
            match self.lock.who_fills(whole(id)) {
                // Whoever has the lock has asked already.
                Fills::ForAll if wants_lease => return Joined::Known(Told { entry, more: More::Fetched }),
                // It is what its client's request has found.
                _ if fetches == Fetches::Behind && entry.is_some() => {
                    return Joined::Known(Told { entry, more: More::Fetched });
                }
                Fills::ForAll | Fills::Alone => wants_lease = false,
                Fills::Nobody => wants_lease &= !self.unshared.has(id),
            }
        }
        if !self.redis.is_up() {
            // The answer is known.
            return Joined::Alone;
        }
        if let Some(flight) = flights.get(&(*id, wants_lease)) {
            // Of two keys with one hash the second is on its own.
            return if *flight.key == *key { Joined::Flight(flight.told.clone()) } else { Joined::Alone };
        }
        let (tell, told) = watch::channel(None);
        flights.insert((*id, wants_lease), Arc::new(Flight { key: key.into(), told: told.clone() }));
        drop(flights);
        let lands = Lands { cluster: self, asks: (*id, wants_lease), tell: Some(tell) };
        // A client that leaves does not end what others wait for.
        tokio::spawn(self.fly(lands, key.into()));
        Joined::Flight(told)
    }

    async fn fly(&'static self, mut lands: Lands, key: Box<[u8]>) {
        let (id, wants_lease) = lands.asks;
        if !wants_lease {
            let told = self.ask_alone(&id, &key).await;
            let knows = told.entry.as_ref().and_then(|(entry, _)| self.knows(&id, entry));
            lands.tell(told);
            return keep_for_a_while(knows).await;
        }
        self.given_back(&id).await;
        // Before it is asked, so that nothing is missed that comes after the answer.
        let ear = self.ears.listen(id);
        let (found, seen, answer) = self.ask_for_lease(&id, &key).await;
        let knows = found.as_ref().and_then(|found| self.knows(&id, &found.entry));
        match answer {
            Answer::Entry(found, _) => lands.tell(Told::new(Some(found), More::Nothing)),
            Answer::Lease(lease) => {
                let parked = self.park(lease, knows, "taken");
                lands.tell(Told::new(found, More::Fetched));
                parked.wait().await;
            }
            // Ours: a fill that nobody can follow. Whoever fetches it again does not share that.
            Answer::Held { holder, .. } if holder == self.node => {
                lands.tell(Told::new(found, More::Nothing));
                keep_for_a_while(knows).await;
            }
            Answer::Held { left, .. } => {
                metrics().leases.with_label_values(&["held"]).inc();
                let stand_in = self.lock.stand_in(whole(&id));
                lands.tell(Told::new(found, More::Fetched));
                if let Some(stand_in) = stand_in {
                    self.wait_for_another_node(stand_in, ear, knows, &key, seen, left).await;
                }
            }
            Answer::Unavailable => {
                lands.tell(Told::new(found, More::Unavailable));
                keep_for_a_while(knows).await;
            }
            Answer::Miss => {
                lands.tell(Told::new(found, More::Nothing));
                keep_for_a_while(knows).await;
            }
        }
    }

    /// Asks for an entry and for a lease. What is there and is not fresh is known then, with its stamp, and the lease is for
    /// what is to take its place.
    async fn ask_for_lease(&'static self, id: &EntryId, key: &[u8]) -> (Option<Found>, Option<u64>, Answer) {
        match self.ask_first(id, key).await {
            Answer::Entry(found, stamp) if !found.entry.facts.freshness.is_fresh(clock::now()) => {
                (Some(found), Some(stamp), self.ask_again(id, key, Some(stamp)).await)
            }
            answer => (None, None, answer),
        }
    }

    /// Asks for a lease, for as long as a request waits. An answer that comes later is taken in behind it: Redis would go on to hold a
    /// lease for this node that nobody here knows of.
    async fn in_time(&'static self, id: EntryId, asks: impl Future<Output = Answer> + Send + 'static) -> Answer {
        let mut asks = Box::pin(asks);
        if let Ok(answer) = tokio::time::timeout(self.redis.deadline(Patience::Request), &mut asks).await {
            return answer;
        }
        self.redis.note_slow();
        let ending = self.ending.begin(id);
        drop(self.redis.spawn(async move {
            if let Answer::Lease(lease) = asks.await {
                self.came_late(lease, ending).await;
            }
        }));
        Answer::Unavailable
    }

    /// Asks for an entry and for a lease, and counts that.
    async fn ask_first(&'static self, id: &EntryId, key: &[u8]) -> Answer {
        let (id, key): (EntryId, Box<[u8]>) = (*id, key.into());
        let question = Question { lease: Some(&self.node), seen: None };
        self.in_time(id, async move { self.tier.ask(&id, &key, question).await }).await
    }

    /// The same once more, for another entry than the one with that stamp.
    async fn ask_again(&'static self, id: &EntryId, key: &[u8], seen: Option<u64>) -> Answer {
        let (id, key): (EntryId, Box<[u8]>) = (*id, key.into());
        let question = Question { lease: Some(&self.node), seen };
        self.in_time(id, async move { self.tier.ask_again(&id, &key, question).await }).await
    }

    /// A lease that nobody waits for any more.
    async fn came_late(&'static self, lease: Lease, ending: Ends) {
        let is_fetched = self.is_fetched(lease.id());
        let parked = self.park(lease, None, "taken");
        if !is_fetched {
            return parked.take_back();
        }
        // Whoever fetches it without stores it with that.
        drop(ending);
        parked.wait().await;
    }

    /// Waits until this node has given back what it gives back of that id, or knows what came of a late question, for as long as a
    /// request waits.
    pub(super) async fn given_back(&self, id: &EntryId) {
        self.ending.over(id, self.redis.deadline(Patience::Request)).await;
    }

    /// Whether anybody fetches what is stored under that id, or is about to.
    pub(super) fn is_fetched(&self, id: &EntryId) -> bool {
        self.lock.who_fills(whole(id)) != Fills::Nobody
    }

    /// Remembers an entry of Redis that is not fresh.
    fn knows(&self, id: &EntryId, entry: &Arc<Entry>) -> Option<Knows> {
        let is_fresh = entry.facts.freshness.is_fresh(clock::now());
        (!is_fresh).then(|| self.known.add(*id, entry.clone()))
    }

    /// What was found of an id is not good any more.
    pub(super) fn forget(&self, id: &EntryId) {
        self.known.forget(id);
    }

    /// The lease of a fill under way here, for whoever has something newer to store.
    pub(super) fn lease_of(&self, id: &EntryId) -> Option<Arc<Leased>> {
        self.leased.get(id).filter(|leased| leased.is_good())
    }

    /// Leaves a lease to whoever locks next.
    fn park(&'static self, lease: Lease, knows: Option<Knows>, how: &str) -> Parked {
        metrics().leases.with_label_values(&[how]).inc();
        let id = whole(lease.id());
        let grant: Arc<dyn Grant> = Leased::new(self, lease, knows);
        let parked = Parked { lock: self.lock, id, grant: Arc::downgrade(&grant) };
        self.lock.park(id, grant);
        parked
    }
}

/// A lease that is left to whoever locks next.
struct Parked {
    lock: &'static FillLock,
    id: WholeId,
    grant: std::sync::Weak<dyn Grant>,
}

impl Parked {
    /// Gives it back if nobody took it for a while.
    async fn wait(self) {
        tokio::time::sleep(UNCLAIMED).await;
        self.take_back();
    }

    /// Gives it back if nobody took it.
    fn take_back(self) {
        // Dropping it does.
        drop(self.lock.unpark(self.id, &self.grant));
    }
}

/// What is fetched without a lease is fetched behind its client in a moment, if at all.
async fn keep_for_a_while(knows: Option<Knows>) {
    if knows.is_some() {
        tokio::time::sleep(UNCLAIMED).await;
    }
}

/// The end of a question, which is told to all who asked.
struct Lands {
    cluster: &'static Cluster,
    asks: Asks,
    tell: Option<watch::Sender<Option<Told>>>,
}

impl Lands {
    fn tell(&mut self, told: Told) {
        if let Some(tell) = self.tell.take() {
            // Who comes from now on asks again, or finds a lock.
            self.cluster.flights.lock().remove(&self.asks);
            tell.send_replace(Some(told));
        }
    }
}

impl Drop for Lands {
    fn drop(&mut self) {
        self.tell(Told::new(None, More::Unavailable));
    }
}

fn whole(id: &EntryId) -> WholeId {
    (id.primary, id.variant)
}
