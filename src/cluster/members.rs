//! The nodes that follow the log, and how far each has come.

use crate::purge::{Position, Shared};
use crate::remote::Reply;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A node, as it was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The process.
    pub instance: String,
    /// What people call it. Several processes may have one name, as while one takes over from another.
    pub name: String,
    /// How far it had come.
    pub applied: Shared,
    /// When that was, by the clock of Redis. It tells one time from another.
    pub said: u64,
    /// How long ago that was.
    pub age: Duration,
}

/// A node as it is told about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// The process.
    pub instance: String,
    /// Whether it is this one.
    pub is_self: bool,
    /// The latest purge that is in force there.
    pub applied: Position,
    /// How long ago it was heard of.
    pub seen: Duration,
}

/// What other nodes say to a purge, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// It is in force there.
    pub applied: Vec<String>,
    /// Nobody knows whether it is.
    pub missing: Vec<String>,
}

/// All nodes that are known.
#[derive(Debug, Default)]
pub struct Members {
    known: Mutex<Known>,
    /// Changes whenever one has come further.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that were heard of, by instance. What Redis says of them is not enough to forget one: it may have lost them.
    live: BTreeMap<String, Live>,
    /// When the last heartbeat was.
    heard: Option<Instant>,
    /// How far each has come, by what it said itself.
    applied: HashMap<String, Shared>,
    /// Those that ended orderly.
    left: HashSet<String>,
}

#[derive(Debug)]
struct Live {
    member: Member,
    /// When it was found to have said something new.
    since: Instant,
    /// For how long it was found to have said nothing, while this node could hear.
    silent: Duration,
}

/// Time between two heartbeats of this node beyond which it does not count who was silent meanwhile.
const GAP: Duration = Duration::from_millis(2500);

/// Whether who has come to `here` has what is at `place`. Another log begins with what was lost of the one before, so that it need
/// not be the same.
pub(super) fn has(here: Shared, place: Shared) -> bool {
    here.epoch == place.epoch && here.at >= place.at
}

impl Member {
    /// Those that a script has found.
    pub(super) fn all(found: Reply) -> Vec<Member> {
        found.into_array().into_iter().filter_map(Member::read).collect()
    }

    fn read(reply: Reply) -> Option<Member> {
        let [instance, age, said] = <[Reply; 3]>::try_from(reply.into_array()).ok()?;
        let instance = String::from_utf8(instance.bytes()?.to_vec()).ok()?;
        let mut words = std::str::from_utf8(said.bytes()?).ok()?.splitn(4, ' ');
        let said = words.next()?.parse().ok()?;
        let applied = Shared { epoch: words.next()?.parse().ok()?, at: Position::parse(words.next()?.as_bytes())? };
        let age = Duration::from_millis(u64::try_from(age.int()?).ok()?);
        Some(Member { instance, name: words.next()?.to_owned(), applied, said, age })
    }
}

impl Members {
    /// What a heartbeat has brought. Who is not among them any more is forgotten after `gone`, by the clock of this node.
    pub(super) fn heard(&self, found: &[Member], now: Instant, gone: Duration) {
        let mut known = self.known.lock();
        let Known { live, heard, applied, left } = &mut *known;
        let passed = heard.replace(now).map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        // After a gap nobody can say who was silent.
        let passed = if passed > GAP { Duration::ZERO } else { passed };
        left.retain(|instance| found.iter().any(|member| member.instance == *instance));
        live.values_mut().for_each(|live| live.silent += passed);
        for member in found.iter().filter(|member| !left.contains(&member.instance)) {
            let is_new = live.get(&member.instance).is_none_or(|live| live.member.said != member.said);
            if is_new {
                let live_now = Live { member: member.clone(), since: now, silent: Duration::ZERO };
                live.insert(member.instance.clone(), live_now);
            }
        }
        live.retain(|_, live| live.silent <= gone);
        applied.retain(|instance, _| live.contains_key(instance));
        for member in found {
            known.note(&member.instance, member.applied);
        }
        drop(known);
        self.changed.send_replace(());
    }

    /// A node has come to a place.
    pub(super) fn has_applied(&self, instance: &str, place: Shared) {
        self.known.lock().note(instance, place);
        self.changed.send_replace(());
    }

    /// A node has ended.
    pub(super) fn has_left(&self, instance: &str) {
        let mut known = self.known.lock();
        known.live.remove(instance);
        known.left.insert(instance.to_owned());
        drop(known);
        self.changed.send_replace(());
    }

    /// These, and those that are known here to live.
    pub(super) fn with_known(&self, mut these: Vec<Member>) -> Vec<Member> {
        let known = self.known.lock();
        let more = known.live.values().map(|live| &live.member);
        let more = more.filter(|member| these.iter().all(|found| found.instance != member.instance));
        let more: Vec<Member> = more.cloned().collect();
        these.extend(more);
        these
    }

    /// Waits until each of these has come to a place, but for `me`, who knows.
    pub(super) async fn wait_for(&self, place: Shared, these: &[Member], me: &str, patience: Duration) -> Verdict {
        let mut changed = self.changed.subscribe();
        let all = async {
            while !self.missing(place, these, me).is_empty() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        // What is missing by then is said.
        let _ = tokio::time::timeout(patience, all).await;
        let missing = self.missing(place, these, me);
        let known = self.known.lock();
        let others = these.iter().filter(|member| member.instance != me && !known.left.contains(&member.instance));
        Verdict::of(others.map(|member| (member.name.as_str(), !missing.contains(&member.instance))))
    }

    fn missing(&self, place: Shared, these: &[Member], me: &str) -> HashSet<String> {
        let known = self.known.lock();
        let is_missing = |member: &&Member| {
            let applied = known.applied.get(&member.instance).copied().unwrap_or_default();
            let is_there = has(member.applied, place) || has(applied, place);
            member.instance != me && !is_there && !known.left.contains(&member.instance)
        };
        these.iter().filter(is_missing).map(|member| member.instance.clone()).collect()
    }

    /// What is known of a purge that nobody could be told of.
    pub(super) fn unknown(&self, me: &str) -> Verdict {
        let known = self.known.lock();
        let others = known.live.values().map(|live| &live.member).filter(|member| member.instance != me);
        Verdict::of(others.map(|member| (member.name.as_str(), false)))
    }

    /// Those that are known to live, by name.
    pub(super) fn statuses(&self, me: &str) -> Vec<NodeStatus> {
        let known = self.known.lock();
        let status = |Live { member, since, .. }: &Live| NodeStatus {
            name: member.name.clone(),
            instance: member.instance.clone(),
            is_self: member.instance == me,
            applied: known.applied.get(&member.instance).map_or(member.applied.at, |applied| applied.at),
            seen: member.age + since.elapsed(),
        };
        let mut all: Vec<NodeStatus> = known.live.values().map(status).collect();
        all.sort_by(|a, b| (&a.name, &a.instance).cmp(&(&b.name, &b.instance)));
        all
    }
}

impl Known {
    fn note(&mut self, instance: &str, place: Shared) {
        let applied = self.applied.entry(instance.to_owned()).or_default();
        // What comes twice may come out of order.
        if applied.epoch != place.epoch || applied.at < place.at {
            *applied = place;
        }
    }
}

impl Verdict {
    /// A name is there if each of its processes is.
    fn of<'a>(nodes: impl Iterator<Item = (&'a str, bool)>) -> Self {
        let mut names = BTreeMap::new();
        for (name, is_there) in nodes {
            *names.entry(name).or_insert(true) &= is_there;
        }
        let named = |wanted: bool| {
            let names = names.iter().filter(move |(_, is_there)| **is_there == wanted);
            names.map(|(name, _)| (*name).to_owned()).collect()
        };
        Verdict { applied: named(true), missing: named(false) }
    }
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
