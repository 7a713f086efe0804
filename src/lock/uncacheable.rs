//! Keys that were found uncacheable.
//!
//! Requests for them go to the origin side by side, without waiting for a fill that will not come. The memory ends by
//! itself: such a request still looks at the origin's answer, and one that may be stored is stored at once and forgotten
//! here.

use super::SHARDS;
use pingora::cache::key::CacheHashKey;
use pingora::cache::predictor::CacheablePredictor;
use pingora::cache::predictor::Predictor;
use pingora::cache::{CacheKey, NoCacheReason};

/// Keys remembered for each shard; the least recently found are forgotten first. About 6 MiB when full.
const KEYS_PER_SHARD: usize = 1024;

/// Remembers keys that are not worth waiting for.
///
/// What holds for a request with `Authorization` need not hold for one without (RFC 9111 section 3.5), so the two are
/// remembered apart; a key's user tag tells which it is.
pub struct Uncacheable {
    anonymous: Predictor<SHARDS>,
    authorized: Predictor<SHARDS>,
}

/// The user tag of keys whose request carries `Authorization`.
pub const AUTHORIZED: &str = "authorized";

impl Uncacheable {
    /// Remembers nothing yet. `passing` says of a reason that it may not hold next time, so that it is not remembered.
    pub fn new(passing: fn(&'static str) -> bool) -> Self {
        let predictor = || Predictor::new(KEYS_PER_SHARD, Some(passing));
        Uncacheable { anonymous: predictor(), authorized: predictor() }
    }

    fn of(&self, key: &CacheKey) -> &Predictor<SHARDS> {
        if key.user_tag() == AUTHORIZED { &self.authorized } else { &self.anonymous }
    }
}

impl std::fmt::Debug for Uncacheable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uncacheable").finish_non_exhaustive()
    }
}

impl CacheablePredictor for Uncacheable {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        self.of(key).cacheable_prediction(key)
    }

    fn predicted_uncacheable_reason(&self, key: &CacheKey) -> Option<NoCacheReason> {
        self.of(key).predicted_uncacheable_reason(key)
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        self.of(key).mark_cacheable(key)
    }

    fn mark_uncacheable(&self, key: &CacheKey, reason: NoCacheReason) -> Option<bool> {
        self.of(key).mark_uncacheable(key, reason)
    }
}

#[cfg(test)]
#[path = "uncacheable_tests.rs"]
mod tests;
