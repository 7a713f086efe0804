//! What a policy wants, as plain data.
//!
//! A hook returns a Lua table; the engine reads it into one of these types or refuses it with an error that names file,
//! line and field. Nothing here knows Lua, and nothing here acts: [`crate::decide`] combines a decision with the rules
//! of RFC 9111.

use std::time::Duration;

/// What `request` decided. The default is "look it up under the default key".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestDecision {
    /// `bypass = "reason"`: keep the cache out of this request.
    pub bypass: Option<String>,
    /// `key = { … }`: the parts that follow bucket and host in the cache key, already framed
    /// (see [`crate::key::KeyParts`]). `None` means the URI as sent.
    pub key: Option<crate::key::KeyParts>,
}

/// What `response` decided. The default leaves everything to RFC 9111.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseDecision {
    /// `store = false` declines to store; `reason` says why.
    pub decline: Option<String>,
    /// `ttl`: freshness lifetime.
    pub ttl: Option<Duration>,
    /// `stale_while_revalidate` (RFC 5861 section 3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale_if_error` (RFC 5861 section 4).
    pub stale_if_error: Option<Duration>,
    /// `vary`: request fields, lower case, that select a variant besides those in the response's own `Vary`.
    pub vary: Vec<String>,
    /// `tags`: names that a purge can use.
    pub tags: Vec<String>,
    /// `tiers`: where it may be kept. `None` means every tier that is configured.
    pub tiers: Option<Vec<TierName>>,
    /// `override`: which of the safety rules the policy sets aside in words.
    pub overrides: Overrides,
}

/// What `hit` decided about a stored entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HitDecision {
    /// Nothing returned: serve as RFC 9111 says.
    #[default]
    Serve,
    /// `revalidate = true`: ask the origin before it is served.
    Revalidate,
    /// `miss = true`: fetch it as if it were not stored.
    Miss,
}

/// What `deliver` decided: response fields to set (`Some`) or to remove (`None`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliverDecision {
    /// In the order of their names, so that the same decision always yields the same bytes.
    pub headers: Vec<(http::HeaderName, Option<http::HeaderValue>)>,
}

/// A storage tier as policies and metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TierName {
    /// In this process.
    Memory,
    /// On this machine.
    Disk,
    /// Shared between nodes.
    Redis,
}

impl TierName {
    /// Every tier, in the order of lookup.
    pub const ALL: [TierName; 3] = [TierName::Memory, TierName::Disk, TierName::Redis];

    /// The one spelling, in policies, headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            TierName::Memory => "memory",
            TierName::Disk => "disk",
            TierName::Redis => "redis",
        }
    }
}

/// Some of the tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TierSet(u8);

impl TierSet {
    /// None of them.
    pub const NONE: TierSet = TierSet(0);
    /// Every one, whether it is on or not.
    pub const ALL: TierSet = TierSet(0b111);

    const fn bit(tier: TierName) -> u8 {
        match tier {
            TierName::Memory => 0b001,
            TierName::Disk => 0b010,
            TierName::Redis => 0b100,
        }
    }

    /// Whether the tier is one of them.
    pub const fn contains(self, tier: TierName) -> bool {
        self.0 & TierSet::bit(tier) != 0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, tier: TierName) -> Self {
        TierSet(self.0 | TierSet::bit(tier))
    }

    /// These without one.
    #[must_use]
    pub const fn without(self, tier: TierName) -> Self {
        TierSet(self.0 & !TierSet::bit(tier))
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of lookup.
    pub fn iter(self) -> impl Iterator<Item = TierName> {
        TierName::ALL.into_iter().filter(move |tier| self.contains(*tier))
    }

    /// As a byte that can be stored: one bit for each tier, memory first.
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// From such a byte. Bits of tiers that are not known mean nothing.
    pub const fn from_bits(bits: u8) -> Self {
        TierSet(bits & TierSet::ALL.0)
    }
}

impl FromIterator<TierName> for TierSet {
    fn from_iter<I: IntoIterator<Item = TierName>>(tiers: I) -> Self {
        tiers.into_iter().fold(TierSet::NONE, TierSet::with)
    }
}

/// The safety rules that a policy may set aside, each only by its name in `override`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `"set-cookie"`: a ttl from the policy also holds for a response that sets cookies.
    pub set_cookie: bool,
    /// `"authorization"`: a response to a request with `Authorization` may be shared.
    pub authorization: bool,
    /// `"private"`: `Cache-Control: private` is set aside.
    pub private: bool,
    /// `"no-store"`: `Cache-Control: no-store` is set aside.
    pub no_store: bool,
    /// `"no-cache"`: `Cache-Control: no-cache` is set aside.
    pub no_cache: bool,
}

impl Overrides {
    /// The names as a policy writes them.
    pub const NAMES: [&'static str; 5] = ["set-cookie", "authorization", "private", "no-store", "no-cache"];

    /// Sets the rule of that name aside; `false` if there is none of that name.
    pub fn set(&mut self, name: &str) -> bool {
        match name {
            "set-cookie" => self.set_cookie = true,
            "authorization" => self.authorization = true,
            "private" => self.private = true,
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            _ => return false,
        }
        true
    }
}
