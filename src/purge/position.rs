//! The order of purges.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Bits that tell apart what happened within one millisecond.
const COUNT_BITS: u32 = 20;

/// A place in the order of purges, and the name of the purge that is there.
///
/// Written `milliseconds-count`, as the ids of a Redis Stream are. It follows the wall clock, and never goes back with it: what
/// counts is the order, and the time is for people and for how long something has been stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// Before every purge.
    pub const BEGINNING: Position = Position(0);

    /// The first one of a moment.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).min(u64::MAX >> COUNT_BITS);
        Position(millis << COUNT_BITS)
    }

    /// The next one after this, now.
    #[must_use]
    pub fn next(self, now: SystemTime) -> Self {
        Position(self.0.saturating_add(1)).max(Position::at(now))
    }

    /// When that was, to the millisecond.
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0 >> COUNT_BITS)
    }

    /// As a number that sorts in the same order.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`Position::to_bits`] gave.
    pub fn from_bits(bits: u64) -> Self {
        Position(bits)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0 >> COUNT_BITS, self.0 & ((1 << COUNT_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_clock_and_never_goes_back_with_it() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let first = Position::BEGINNING.next(at(1000));
        assert_eq!(first.time(), at(1000));
        let second = first.next(at(1000));
        let third = second.next(at(10));
        assert!(first < second && second < third);
        assert_eq!(third.next(at(2000)), Position::at(at(2000)));
    }

    #[test]
    fn it_is_written_as_the_ids_of_a_stream_are() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1234);
        let position = Position::at(at).next(at).next(at);
        assert_eq!(position.to_string(), "1234-2");
        assert_eq!(Position::from_bits(position.to_bits()), position);
    }

    #[test]
    fn times_that_no_clock_shows_end_nothing() {
        for bits in [0, 1, u64::MAX] {
            let position = Position::from_bits(bits);
            let _ = (position.time(), position.to_string(), position.next(SystemTime::UNIX_EPOCH));
        }
        assert_eq!(Position::at(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), Position::BEGINNING);
    }
}
