//! How long Redis is left alone once its commands failed. That it answers a ping then says that it is there, and not that it is any
//! better: a server that is slow, or refuses to write, answers those as ever.

use std::time::{Duration, Instant};

/// The first time.
const SHORTEST: Duration = Duration::from_secs(1);

/// Twice as long each time, up to this.
const LONGEST: Duration = Duration::from_secs(30);

/// After so long without trouble it is the first time again.
const CALM: Duration = Duration::from_secs(60);

/// Until when it is left alone, and how long it was the last time.
#[derive(Debug, Default)]
pub(super) struct Hold {
    until: Option<Instant>,
    last: Duration,
    ended: Option<Instant>,
}

impl Hold {
    /// Its commands fail.
    pub(super) fn begin(&mut self, now: Instant) {
        let was_calm = self.ended.is_none_or(|ended| now.saturating_duration_since(ended) >= CALM);
        self.last = if was_calm { SHORTEST } else { (self.last * 2).clamp(SHORTEST, LONGEST) };
        self.until = Some(now + self.last);
    }

    /// It answers a ping: whether it may be asked again.
    pub(super) fn end(&mut self, now: Instant) -> bool {
        let Some(until) = self.until else { return true };
        if now < until {
            return false;
        }
        (self.until, self.ended) = (None, Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_left_alone_for_longer_each_time_until_all_was_well_for_a_while() {
        let (mut hold, mut now) = (Hold::default(), Instant::now());
        assert!(hold.end(now), "nothing has failed");
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            hold.begin(now);
            assert!(!hold.end(now + Duration::from_millis(seconds * 1000 - 1)), "{seconds}");
            now += Duration::from_secs(seconds);
            assert!(hold.end(now), "{seconds}");
        }
        now += CALM;
        hold.begin(now);
        assert!(!hold.end(now + Duration::from_millis(999)));
        assert!(hold.end(now + SHORTEST));
    }
}
