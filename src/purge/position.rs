//! The order of purges.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Bits that tell apart what happened within one millisecond. What makes ids of the stream keeps to that.
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

    /// As it is written. Ids of any length are read: what is beyond the largest time or count becomes that, which keeps the order
    /// and may make one of two.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (millis, count) = std::str::from_utf8(text).ok()?.split_once('-')?;
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
        };
        let millis = number(millis)?.min(u64::MAX >> COUNT_BITS);
        Some(Position(millis << COUNT_BITS | number(count)?.min((1 << COUNT_BITS) - 1)))
    }

    /// As a number that sorts in the same order.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`Position::to_bits`] gave.
    pub const fn from_bits(bits: u64) -> Self {
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
    fn what_is_written_is_read() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_000_000_123);
        for position in
            [Position::BEGINNING, Position::at(at), Position::at(at).next(at), Position::from_bits(u64::MAX)]
        {
            assert_eq!(Position::parse(position.to_string().as_bytes()), Some(position));
        }
        for text in ["", "1", "-", "1-", "-1", "1-2-3", "a-1", "1-+1", " 1-1", "1-1 "] {
            assert_eq!(Position::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn ids_that_are_too_large_keep_their_order() {
        let ids = [
            "5-1048575",
            "5-1048576",
            "5-18446744073709551615",
            "6-0",
            "18446744073709551615-1",
            "99999999999999999999-1",
        ];
        let read: Vec<Position> = ids.iter().filter_map(|id| Position::parse(id.as_bytes())).collect();
        assert_eq!(read.len(), ids.len());
        assert!(read.is_sorted() && read[2] < read[3], "{read:?}");
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
