//! What stays with an entry of the decision to store it.

use crate::policy::decision::TierSet;
use crate::purge::{Position, Resource, Shared};
use crate::semantics::freshness::Freshness;
use crate::semantics::reuse::StaleLimits;

/// What was decided when an entry was stored, beyond its head.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its lifetime, age and stale windows.
    pub freshness: Freshness,
    /// What the bucket allows where the origin says nothing.
    pub limits: StaleLimits,
    /// Names that a purge can use.
    pub tags: Box<[String]>,
    /// Where the policy lets it be kept.
    pub tiers: TierSet,
    /// What the request asked for that brought it in.
    pub resource: Resource,
    /// The latest purge when the origin was asked for it: those after it are about it as well.
    pub seen: Position,
    /// The same in the log of all nodes. It goes with the entry to Redis, and is not kept on disk.
    pub shared: Shared,
    /// When Redis was asked last before the origin was, in microseconds of its own clock; 0 is not known. It orders what nodes
    /// store without a lease, and is not kept anywhere.
    pub asked: u64,
}

impl PartialEq for Facts {
    /// Whether both are about one response. What was purged by then does not tell two apart: not every tier keeps where it was in
    /// the log of all nodes, and what is found in Redis has seen what was purged until it is found.
    fn eq(&self, other: &Self) -> bool {
        let Facts { freshness, limits, tags, tiers, resource, seen: _, shared: _, asked: _ } = self;
        (freshness, limits, tags, tiers, resource)
            == (&other.freshness, &other.limits, &other.tags, &other.tiers, &other.resource)
    }
}

impl Eq for Facts {}

impl Facts {
    /// Those of a response that neither bucket nor policy say anything about.
    pub fn of(freshness: Freshness) -> Self {
        Facts {
            freshness,
            limits: StaleLimits::default(),
            tags: [].into(),
            tiers: TierSet::ALL,
            resource: Resource::default(),
            seen: Position::BEGINNING,
            shared: Shared::default(),
            asked: 0,
        }
    }
}
