//! What stays with an entry of the decision to store it.

use crate::policy::decision::TierSet;
use crate::purge::{Position, Resource};
use crate::semantics::freshness::Freshness;
use crate::semantics::reuse::StaleLimits;

/// What was decided when an entry was stored, beyond its head.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

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
        }
    }
}
