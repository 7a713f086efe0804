//! The only reader of the wall clock. Everything that decides takes `now` as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The current time.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970, as scripts and logs see time. A clock before 1970 reads 0.
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// `a - b` in whole seconds, rounded away from zero: a second that has begun still counts, on either side.
pub fn seconds_between(a: SystemTime, b: SystemTime) -> i64 {
    fn whole(duration: Duration) -> i64 {
        i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
    }
    match a.duration_since(b) {
        Ok(later) => whole(later),
        Err(earlier) => -whole(earlier.duration()),
    }
}
