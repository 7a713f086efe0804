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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_that_has_begun_counts_on_either_side() {
        let at = UNIX_EPOCH + Duration::from_secs(1000);
        for (milliseconds, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            let other = at + Duration::from_millis(milliseconds);
            assert_eq!(seconds_between(other, at), seconds, "{milliseconds} ms later");
            assert_eq!(seconds_between(at, other), -seconds, "{milliseconds} ms earlier");
        }
    }

    #[test]
    fn less_than_a_millisecond_is_no_second() {
        let at = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(seconds_between(at + Duration::from_micros(999), at), 0);
    }

    #[test]
    fn a_time_before_1970_reads_as_zero() {
        assert_eq!(unix_seconds(UNIX_EPOCH - Duration::from_secs(5)), 0.0);
        assert_eq!(unix_seconds(UNIX_EPOCH + Duration::from_millis(1500)), 1.5);
    }
}
