//! Entries to Redis, behind the requests that brought them.
//!
//! How many bytes may be on their way is bounded. What does not fit is not written, and what is there under its name goes, since
//! it is older.

use super::RedisTier;
use super::changes::{Next, Shown, Went};
use super::keys::{GIVE_WAY, Keys, PIECE as SEND_PIECE, REMOVE, STORE};
use super::lease::{Outcome, PutAs};
use super::value::{MOST_FIELDS, PIECE, frame, pieces, stamp_of, unframe};
use crate::clock;
use crate::decide::Facts;
use crate::purge::Standing;
use crate::remote::{Command, Patience, Reply, Trouble};
use crate::store::disk::format::sums::sum_of;
use crate::store::entry::{Body, Entry, EntryId};
use crate::store::promotion::read_all;
use crate::store::purged::subject;
use crate::store::tier::WriteResult;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// Bytes that may be on their way. A Redis that is slower than the origins for a moment loses nothing; one that is slower for
/// long must not take all memory.
const ON_THEIR_WAY: u64 = 32 << 20;

/// Longest body that is sent in one command with its head. A longer one would hold up what others ask on the same connection.
const IN_ONE: usize = 4 * PIECE;

/// Pieces of one body that are sent without waiting for the answers of those before.
const AHEAD: usize = 8;

/// How long pieces wait to be put together, in milliseconds.
const PIECES_LAST: &[u8] = b"60000";

/// How long it is remembered that an entry was forgotten: what was asked for before that is not stored.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// How long an entry that can be revalidated is kept when it can be served in no other way. Long enough to spare the origin its
/// body on the next visit, short enough not to fill Redis with what nobody may have.
const REVALIDATED: Duration = Duration::from_secs(60 * 60);

/// Longest time for which anything is kept: ten years, since Redis counts milliseconds.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What becomes of an id.
pub(super) enum Change {
    /// It is stored.
    Put(Box<Put>),
    /// It is forgotten.
    Forget,
    /// What is there is older than what is stored elsewhere, and was asked for then.
    GiveWay(PutAs),
}

/// An entry on its way.
pub(super) struct Put {
    entry: Arc<Entry>,
    grounds: PutAs,
    /// The facts of the entry that gets the head of this one.
    replaces: Option<Arc<Facts>>,
    is_wanted: Box<dyn Fn() -> bool + Send>,
    done: Box<dyn FnOnce(WriteResult) + Send>,
    /// Bytes that it counts for.
    bytes: u64,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Change::Put(_) => "Put",
            Change::Forget => "Forget",
            Change::GiveWay(_) => "GiveWay",
        })
    }
}

impl RedisTier {
    /// Keeps an entry, behind, unless something newer is there or comes; a lease is given back with that.
    ///
    /// `is_wanted` is asked when it has its turn; whoever forgets the entry later than that has a later turn.
    pub fn put(
        &'static self,
        id: EntryId,
        entry: Arc<Entry>,
        grounds: PutAs,
        is_wanted: impl Fn() -> bool + Send + 'static,
        done: impl FnOnce(WriteResult) + Send + 'static,
    ) {
        self.put_over(id, entry, grounds, None, Box::new(is_wanted), Box::new(done));
    }

    /// Keeps an entry whose head is new, and whose body is that of the entry with these facts.
    pub(in crate::store) fn put_renewed(
        &'static self,
        id: EntryId,
        entry: Arc<Entry>,
        replaces: Arc<Facts>,
        grounds: PutAs,
        done: impl FnOnce(WriteResult) + Send + 'static,
    ) {
        self.put_over(id, entry, grounds, Some(replaces), Box::new(|| true), Box::new(done));
    }

    fn put_over(
        &'static self,
        id: EntryId,
        entry: Arc<Entry>,
        grounds: PutAs,
        replaces: Option<Arc<Facts>>,
        is_wanted: Box<dyn Fn() -> bool + Send>,
        done: Box<dyn FnOnce(WriteResult) + Send>,
    ) {
        // What is in a file is read for it.
        let bytes = (entry.weight() as u64).max(entry.body.len() as u64);
        let put = Put { entry: entry.clone(), grounds, replaces, is_wanted, done, bytes };
        if !self.redis.is_up() {
            return self.end(put, WriteResult::Failed, None);
        }
        let before = self.on_their_way.fetch_add(bytes, Ordering::Relaxed);
        // One may be larger by itself.
        if before > 0 && before + bytes > ON_THEIR_WAY {
            self.on_their_way.fetch_sub(bytes, Ordering::Relaxed);
            let lapsed = PutAs::asked_at(put.grounds.moment().unwrap_or(0));
            self.end(put, WriteResult::Dropped, None);
            return self.give_way(&id, lapsed);
        }
        self.popular.note(&id);
        // What is in a file is read from there.
        let shown = if entry.body.is_in_file() { Shown::Whatever } else { Shown::Entry(entry) };
        self.change(id, Change::Put(Box::new(put)), shown, false);
    }

    /// Forgets an entry: at once for every lookup here, and soon for all nodes.
    pub fn remove(&'static self, id: &EntryId) {
        self.popular.forget(id);
        self.change(*id, Change::Forget, Shown::Nothing, true);
    }

    /// What Redis has of an id is older than what was stored elsewhere, on these grounds.
    pub(in crate::store) fn give_way(&'static self, id: &EntryId, grounds: PutAs) {
        if self.redis.is_up() && self.keeps_entries() {
            self.change(*id, Change::GiveWay(grounds), Shown::Nothing, false);
        }
    }

    /// Waits until Redis has forgotten these, if they were to be forgotten, but not for long.
    pub(in crate::store) async fn settled(&self, ids: &[EntryId]) {
        let _ = tokio::time::timeout(SETTLED, self.changes.settled(ids)).await;
    }

    fn change(&'static self, id: EntryId, change: Change, shown: Shown, forgets: bool) {
        match self.changes.add(id, change, shown, forgets) {
            Ok(change) => drop(self.redis.spawn(self.carry_out(id, change))),
            Err(Some(Change::Put(put))) => self.has_put(*put, WriteResult::Outdated, None),
            Err(_) => {}
        }
    }

    /// Tries again to forget what could not be forgotten.
    pub(super) fn forget_what_is_owed(&'static self) {
        for id in self.changes.owed(OWED_AT_ONCE) {
            drop(self.redis.spawn(self.carry_out(id, Change::Forget)));
        }
    }

    async fn carry_out(&'static self, id: EntryId, mut change: Change) {
        loop {
            let went = match change {
                Change::Put(put) => self.write(&id, *put).await,
                Change::Forget => self.forget(&id).await,
                Change::GiveWay(grounds) => {
                    self.run_give_way(&id, grounds.moment()).await;
                    Went::NotDone
                }
            };
            change = match self.changes.next(&id, went) {
                Next::Change(next) => next,
                Next::Forget => Change::Forget,
                Next::Nothing => return,
            };
        }
    }

    async fn forget(&self, id: &EntryId) -> Went {
        let keys = Keys::of(self.redis.prefix(), id);
        let remembered = FORGOTTEN.as_millis().to_string();
        let args = [remembered.as_bytes(), self.channel.as_bytes(), keys.id.as_bytes()];
        // A request may wait for it.
        match self.redis.run(&REMOVE, &[&keys.entry, &keys.lease], &args, Patience::Request).await {
            Ok(stamp) => {
                // What is fetched from now on, or came with the change itself, is newer.
                if let Some(at) = stamp.int().and_then(|at| u64::try_from(at).ok()) {
                    self.moments.note(id.primary, at);
                }
                Went::Well
            }
            Err(why) => {
                self.complain("an entry could not be removed", &why);
                Went::Badly
            }
        }
    }

    async fn run_give_way(&self, id: &EntryId, asked: Option<u64>) {
        let keys = Keys::of(self.redis.prefix(), id);
        let asked = asked.map(|asked| asked.to_string()).unwrap_or_default();
        let remembered = FORGOTTEN.as_millis().to_string();
        let args = [asked.as_bytes(), remembered.as_bytes()];
        if let Err(why) = self.redis.run(&GIVE_WAY, &[&keys.entry], &args, Patience::Behind).await {
            self.complain("an entry that is outdated could not be removed", &why);
        }
    }

    async fn write(&'static self, id: &EntryId, mut put: Put) -> Went {
        let began = Instant::now();
        let asked = put.grounds.moment();
        let (result, outcome) = match self.store(id, &mut put).await {
            Ok((result, outcome)) => (result, outcome),
            Err(why) => {
                self.complain("a response could not be stored", &why);
                // What it refuses now it most likely will the next time; what went wrong by the way need not again.
                let is_refused = matches!(why, Trouble::Refused(_));
                (WriteResult::Failed, if is_refused { Outcome::Unshared } else { Outcome::Dropped })
            }
        };
        let went = match result {
            WriteResult::Stored => Went::Well,
            // What is there is newer, or was removed by whoever knows better.
            WriteResult::Outdated => Went::NotDone,
            WriteResult::Dropped | WriteResult::Failed => {
                // What is there is older than what should be there.
                self.run_give_way(id, asked).await;
                Went::NotDone
            }
        };
        if let PutAs::Lease(lease) = std::mem::replace(&mut put.grounds, PutAs::Unknown) {
            self.release(lease, outcome).await;
        }
        self.has_put(put, result, Some(began.elapsed()));
        went
    }

    fn has_put(&'static self, put: Put, result: WriteResult, took: Option<Duration>) {
        self.on_their_way.fetch_sub(put.bytes, Ordering::Relaxed);
        self.end(put, result, took);
    }

    fn end(&'static self, put: Put, result: WriteResult, took: Option<Duration>) {
        self.written.wrote(result, took);
        if let PutAs::Lease(lease) = put.grounds {
            drop(self.redis.spawn(self.release(lease, outcome_of(result))));
        }
        (put.done)(result);
    }

    /// Stores an entry; its lease is gone if that went well.
    async fn store(&self, id: &EntryId, put: &mut Put) -> Result<(WriteResult, Outcome), Trouble> {
        let entry = put.entry.clone();
        let is_dead = || {
            let subject = subject(&entry.key, &entry.facts);
            self.purges.shared().standing(&subject, entry.facts.shared) == Standing::Dead
        };
        if !(put.is_wanted)() || is_dead() {
            return Ok((WriteResult::Outdated, Outcome::Dropped));
        }
        // The next one is most likely to be as much in vain.
        let in_vain = (WriteResult::Dropped, Outcome::Unshared);
        let Some(useful) = useful_for(&entry, clock::now()) else { return Ok(in_vain) };
        let keys = Keys::of(self.redis.prefix(), id);
        let target =
            Target { keys: &keys, aside: Keys::aside(self.redis.prefix(), id), asked: put.grounds.moment(), useful };
        let renewed = match &put.replaces {
            Some(old) => self.renew_head(id, &entry, old, &target).await?,
            None => None,
        };
        let result = match renewed {
            Some(result) => result,
            None => match body_of(&entry.body).await {
                Some(body) => self.store_whole(id, &entry, &body, &target).await?,
                None => WriteResult::Dropped,
            },
        };
        if result == WriteResult::Stored {
            put.grounds = PutAs::Unknown;
        }
        Ok((result, outcome_of(result)))
    }

    /// Puts a new head on what is there. `None`: that is another response.
    async fn renew_head(
        &self,
        id: &EntryId,
        entry: &Entry,
        old: &Facts,
        target: &Target<'_>,
    ) -> Result<Option<WriteResult>, Trouble> {
        let found = Command::new("HMGET").arg(&target.keys.entry).arg("s").arg("h");
        let found = match self.redis.call(&found, Patience::Behind).await {
            // Something else is there.
            Err(Trouble::Refused(why)) if why.starts_with("WRONGTYPE") => return Ok(None),
            found => found?.into_array(),
        };
        let [Reply::Bytes(stamp), Reply::Bytes(framed)] = found.as_slice() else { return Ok(None) };
        let Ok(framed) = unframe(framed) else { return Ok(None) };
        // Another node has stored something since. What was confirmed is not that.
        let is_newer = framed.is_of(id, &entry.key).is_ok()
            && framed.head.facts.freshness.response_time > old.freshness.response_time;
        if is_newer {
            return Ok(Some(WriteResult::Outdated));
        }
        // No other response came in that nanosecond.
        let is_same = framed.is_of(id, &entry.key).is_ok()
            && framed.head.facts.freshness.response_time == old.freshness.response_time
            && framed.length == entry.body.complete();
        if !is_same || stamp_of(stamp).is_none() {
            return Ok(None);
        }
        let Some(head) = frame(id, entry, framed.length, &framed.sums) else { return Ok(None) };
        let answer = self.run_store(target, stamp, 0, &[b"h", &head]).await?;
        Ok(answer)
    }

    async fn store_whole(
        &self,
        id: &EntryId,
        entry: &Entry,
        body: &Bytes,
        target: &Target<'_>,
    ) -> Result<WriteResult, Trouble> {
        let sums: Vec<u64> = pieces(body).map(sum_of).collect();
        let head = (sums.len() + 2 <= MOST_FIELDS).then(|| frame(id, entry, body.len() as u64, &sums)).flatten();
        let Some(head) = head else { return Ok(WriteResult::Dropped) };
        let result = if body.len() <= IN_ONE {
            let names: Vec<String> = (0..sums.len()).map(|index| index.to_string()).collect();
            let body = names.iter().zip(pieces(body)).flat_map(|(name, piece)| [name.as_bytes(), piece]);
            let fields: Vec<&[u8]> = [&b"h"[..], &head].into_iter().chain(body).collect();
            self.run_store(target, b"", 0, &fields).await?
        } else {
            let place = &target.aside;
            let sent: Vec<_> = pieces(body).enumerate().map(|(index, piece)| self.send(place, index, piece)).collect();
            stream::iter(sent).buffer_unordered(AHEAD).try_collect::<()>().await?;
            self.run_store(target, b"", sums.len(), &[b"h", &head]).await?
        };
        Ok(result.unwrap_or(WriteResult::Dropped))
    }

    async fn send(&self, place: &[u8], index: usize, piece: &[u8]) -> Result<(), Trouble> {
        let index = index.to_string();
        let args = [index.as_bytes(), piece, PIECES_LAST];
        self.redis.run(&SEND_PIECE, &[place], &args, Patience::Behind).await.map(drop)
    }

    /// `None`: not what was to be changed is there.
    async fn run_store(
        &self,
        target: &Target<'_>,
        replaces: &[u8],
        count: usize,
        fields: &[&[u8]],
    ) -> Result<Option<WriteResult>, Trouble> {
        let asked = target.asked.map(|asked| asked.to_string()).unwrap_or_default();
        let useful = target.useful.as_millis().to_string();
        let remembered = FORGOTTEN.as_millis().to_string();
        let count = count.to_string();
        let keys: [&[u8]; 3] = [&target.keys.entry, &target.keys.lease, &target.aside];
        let mut args: Vec<&[u8]> =
            vec![asked.as_bytes(), useful.as_bytes(), remembered.as_bytes(), self.channel.as_bytes()];
        args.extend([target.keys.id.as_bytes(), replaces, count.as_bytes()]);
        args.extend_from_slice(fields);
        let answer = self.redis.run(&STORE, &keys, &args, Patience::Behind).await?;
        Ok(match answer.bytes() {
            Some(b"stored") => Some(WriteResult::Stored),
            // What was to get a new head was replaced a moment ago.
            Some(b"outdated" | b"changed") => Some(WriteResult::Outdated),
            _ => None,
        })
    }
}

/// How long whoever has forgotten something waits for Redis to have forgotten it.
const SETTLED: Duration = Duration::from_millis(250);

/// Entries that are forgotten at once when Redis is back.
const OWED_AT_ONCE: usize = 1000;

/// Where an entry goes.
struct Target<'a> {
    keys: &'a Keys,
    /// Where it is put together.
    aside: Vec<u8>,
    /// The token of the lease, or when it was asked for without one.
    asked: Option<u64>,
    /// How long it is kept.
    useful: Duration,
}

/// What those are told who wait for a fetch, when that has ended so.
fn outcome_of(result: WriteResult) -> Outcome {
    match result {
        WriteResult::Stored => Outcome::Stored,
        // Said of this one alone: the next one may well be stored.
        WriteResult::Dropped | WriteResult::Failed | WriteResult::Outdated => Outcome::Dropped,
    }
}

/// All of a body, if it can be had.
async fn body_of(body: &Body) -> Option<Bytes> {
    match body {
        Body::Whole(bytes) => Some(bytes.clone()),
        Body::File(_) | Body::Parts(_) => read_all(body).await,
    }
}

/// How long an entry can be served, fresh or stale, or else asked about. `None`: it cannot.
pub(super) fn useful_for(entry: &Entry, now: SystemTime) -> Option<Duration> {
    let freshness = &entry.facts.freshness;
    let fresh = freshness.lifetime.saturating_sub(freshness.age(now));
    let stale_for = |window: Duration| window.saturating_sub(freshness.staleness(now));
    // What is said about errors takes the place of the bucket's limit.
    let if_error = match freshness.stale_if_error {
        None if !freshness.s_maxage && !freshness.must_revalidate => entry.facts.limits.on_disconnect,
        _ => freshness.window_if_error(),
    };
    let stale = freshness.window_while_revalidate().max(if_error);
    let served = match freshness.no_cache {
        true => Duration::ZERO,
        false => fresh.saturating_add(stale_for(stale)),
    };
    let headers = entry.head.headers();
    let has_validator = headers.contains_key(http::header::ETAG) || headers.contains_key(http::header::LAST_MODIFIED);
    let useful = if has_validator { served.max(fresh.saturating_add(REVALIDATED)) } else { served };
    // Redis takes 0 for a mistake.
    (useful >= Duration::from_millis(1)).then(|| useful.min(LONGEST))
}
