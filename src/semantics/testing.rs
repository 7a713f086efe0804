//! What the tests of this folder share.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A header from pairs, in order, repeated names kept.
pub(super) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// Seconds after, or before, the moment that tests take for "now": the start of 2026.
pub(super) fn at(seconds: i64) -> SystemTime {
    let start = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { start - distance } else { start + distance }
}

/// [`at`], as a field spells it.
pub(super) fn date_at(seconds: i64) -> String {
    super::date::format(at(seconds))
}
