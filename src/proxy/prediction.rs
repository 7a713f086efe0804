//! Whether a key is worth a lookup, as Pingora asks it.

use crate::lock::Uncacheable;
use crate::store::Store;
use pingora::cache::predictor::CacheablePredictor;
use pingora::cache::{CacheKey, NoCacheReason};

/// Lets requests for keys that were found uncacheable go straight to the origin, with their conditions and ranges as the
/// client sent them, unless something is stored under the key after all: one page may be private for those who are logged
/// in and shared for everyone else.
#[derive(Debug)]
pub struct Prediction {
    /// What was found uncacheable.
    pub uncacheable: &'static Uncacheable,
    /// What is stored.
    pub store: &'static Store,
}

impl CacheablePredictor for Prediction {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        self.uncacheable.cacheable_prediction(key) || self.store.holds(key)
    }

    fn predicted_uncacheable_reason(&self, key: &CacheKey) -> Option<NoCacheReason> {
        self.uncacheable.predicted_uncacheable_reason(key)
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        self.uncacheable.mark_cacheable(key)
    }

    fn mark_uncacheable(&self, key: &CacheKey, reason: NoCacheReason) -> Option<bool> {
        self.uncacheable.mark_uncacheable(key, reason)
    }
}
