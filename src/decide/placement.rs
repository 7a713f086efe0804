//! Where an entry is kept: the one place that knows the rules of the tiers.

use crate::config::Cache;
use crate::policy::decision::{TierName, TierSet};

/// What a tier takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rules {
    /// Longest body, in bytes.
    max_object: u64,
    /// Hits in this tier after which an entry is copied upwards; 0 is never. Nothing is above the memory tier.
    promote_after: u32,
    /// Hits per minute that it must have besides; 0 asks for none.
    promote_rate: u32,
}

/// Which tiers are on, and what each of them takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tiers {
    memory: Option<Rules>,
    disk: Option<Rules>,
    redis: Option<Rules>,
}

/// An entry, as far as its place goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// Where its policy lets it be kept.
    pub tiers: TierSet,
    /// Bytes of its body, if they are known: those of a response on its way may not be.
    pub size: Option<u64>,
    /// Where it was found; `None` for one that comes from the origin.
    pub found: Option<Found>,
}

/// An entry that a lookup found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The tier that had it.
    pub tier: TierName,
    /// Its hits there, this one included.
    pub hits: u64,
    /// How many of them a minute brings.
    pub per_minute: f64,
}

/// Where an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Every tier that keeps it when it is stored, wherever it was found. When a tier writes that is to keep it (`write:
    /// behind`) is that tier's business.
    pub write_to: TierSet,
    /// The tier that what was found is copied to: the uppermost one that keeps it.
    pub promote_to: Option<TierName>,
}

impl Tiers {
    /// Those that a configuration asks for.
    pub fn of(cache: &Cache) -> Self {
        let memory =
            cache.memory.map(|memory| Rules { max_object: memory.max_object, promote_after: 0, promote_rate: 0 });
        let disk = cache.disk.as_ref().map(|disk| Rules {
            max_object: disk.max_object,
            promote_after: disk.promote_after,
            promote_rate: disk.promote_rate,
        });
        let redis = cache.redis.as_ref().map(|redis| Rules {
            max_object: redis.max_object,
            promote_after: redis.promote_after,
            promote_rate: 0,
        });
        Tiers { memory, disk, redis }
    }

    /// These, in a process that began with others: their rules apply at once, but a tier is opened or closed by a restart
    /// only.
    #[must_use]
    pub fn in_place_of(self, before: &Tiers) -> Self {
        let rules = |now: Option<Rules>, before: Option<Rules>| before.map(|before| now.unwrap_or(before));
        Tiers {
            memory: rules(self.memory, before.memory),
            disk: rules(self.disk, before.disk),
            redis: rules(self.redis, before.redis),
        }
    }

    fn rules(&self, tier: TierName) -> Option<Rules> {
        match tier {
            TierName::Memory => self.memory,
            TierName::Disk => self.disk,
            // Without room for any object, it is what nodes agree through, and no place for entries.
            TierName::Redis => self.redis.filter(|rules| rules.max_object > 0),
        }
    }

    /// Those of these tiers that are on.
    pub fn on(&self, among: TierSet) -> TierSet {
        among.iter().filter(|tier| self.rules(*tier).is_some()).collect()
    }

    /// Longest body that any of these tiers keeps, in bytes; 0 if none of them is on.
    pub fn max_object(&self, among: TierSet) -> u64 {
        among.iter().filter_map(|tier| self.rules(tier)).map(|rules| rules.max_object).max().unwrap_or(0)
    }

    /// Those of these tiers that keep a body of that length. One of unknown length is not too long yet.
    fn keeping(&self, among: TierSet, size: Option<u64>) -> TierSet {
        let keeps = |rules: Rules| size.is_none_or(|size| size <= rules.max_object);
        among.iter().filter(|tier| self.rules(*tier).is_some_and(keeps)).collect()
    }
}

/// Says where an entry goes: into every tier that is on, that its policy allows, and that it is not too long for; and once
/// it was asked for often enough in one of them, into one above.
pub fn placement(tiers: &Tiers, wish: &Wish) -> Placement {
    let write_to = tiers.keeping(wish.tiers, wish.size);
    let earned = wish.found.filter(|found| {
        tiers.rules(found.tier).is_some_and(|rules| {
            rules.promote_after > 0
                && found.hits >= u64::from(rules.promote_after)
                && (rules.promote_rate == 0 || found.per_minute >= f64::from(rules.promote_rate))
        })
    });
    // The tiers are in the order of lookup, so the first is the one that answers first.
    let promote_to = earned.and_then(|found| write_to.iter().next().filter(|tier| *tier < found.tier));
    Placement { write_to, promote_to }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
