//! How much a file is asked for: a count, and a rate that forgets.

/// Time after which a hit counts for 1/e in the rate, in seconds. Ten minutes: long enough that one hit a minute is a
/// steady figure, short enough that yesterday's page is not popular today.
const MEMORY: f32 = 600.0;

/// A file that is younger counts as old as this, in seconds. One hit in its first second is not sixty a minute.
const YOUNGEST: u32 = 60;

/// How much a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Popularity {
    /// Hits since the file was written, or found by the scan after a restart. Stays at its largest.
    pub hits: u32,
    /// Hits per minute, over about the last ten minutes, or since the file was written if that is less.
    pub per_minute: f32,
}

impl Popularity {
    /// Of what nobody asked for.
    pub const NONE: Popularity = Popularity { hits: 0, per_minute: 0.0 };
}

/// A counter that decays exponentially. Times are in seconds, of a clock that may be set back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    hits: u32,
    /// Hits, each weighed by what is left of it at `last`.
    decayed: f32,
    last: u32,
    since: u32,
}

impl Counter {
    pub(super) fn new(now: u32) -> Self {
        Counter { hits: 0, decayed: 0.0, last: now, since: now }
    }

    /// Counts one hit.
    pub(super) fn hit(&mut self, now: u32) -> Popularity {
        self.hits = self.hits.saturating_add(1);
        self.decay(now);
        self.decayed += 1.0;
        self.popularity(now)
    }

    /// Counts hits that were spread over the time since the last one that was counted.
    pub(super) fn hits_since_last(&mut self, hits: u32, now: u32) {
        self.hits = self.hits.saturating_add(hits);
        let seconds = now.saturating_sub(self.last) as f32;
        self.decay(now);
        // What is left of a steady rate that began so many seconds ago.
        let left = if seconds > 0.0 { MEMORY / seconds * -(-seconds / MEMORY).exp_m1() } else { 1.0 };
        self.decayed += hits as f32 * left;
    }

    pub(super) fn popularity(&self, now: u32) -> Popularity {
        let left = decay(now.saturating_sub(self.last));
        let age = now.saturating_sub(self.since).max(YOUNGEST);
        // The seconds that the counter has seen, weighed as it weighs hits.
        let seen = MEMORY * (1.0 - decay(age));
        Popularity { hits: self.hits, per_minute: self.decayed * left * 60.0 / seen }
    }

    fn decay(&mut self, now: u32) {
        // Most hits of what is popular come within the second.
        if now > self.last {
            self.decayed *= decay(now - self.last);
            self.last = now;
        }
    }
}

fn decay(seconds: u32) -> f32 {
    if seconds == 0 { 1.0 } else { (-(seconds as f32) / MEMORY).exp() }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn a_steady_rate_is_told_from_the_first_minutes_on() {
        let mut counter = Counter::new(1000);
        for now in 1001..1000 + 7200 {
            let per_minute = counter.hit(now).per_minute;
            assert!(now < 1060 || (55.0..67.0).contains(&per_minute), "{per_minute} after {} s", now - 1000);
        }
    }

    #[test]
    fn a_rate_fades_when_nobody_asks_any_more() {
        let mut counter = Counter::new(0);
        for now in 0..3600 {
            counter.hit(now);
        }
        let after = |seconds: u32| counter.popularity(3600 + seconds).per_minute;
        assert!((after(600) - 60.0 / std::f32::consts::E).abs() < 1.0, "{}", after(600));
        assert!(after(7200) < 0.001, "{}", after(7200));
        assert_eq!(counter.popularity(7200).hits, 3600);
    }

    #[test]
    fn hits_told_in_one_sum_count_as_if_told_one_by_one() {
        let (mut single, mut summed) = (Counter::new(0), Counter::new(0));
        for now in 1..=1800 {
            single.hit(now);
        }
        summed.hits_since_last(1800, 1800);
        let (single, summed) = (single.popularity(1800), summed.popularity(1800));
        assert_eq!(single.hits, summed.hits);
        assert!((single.per_minute - summed.per_minute).abs() < 0.5, "{single:?} {summed:?}");
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_the_rate_finite_and_the_hits_right() {
        let mut counter = Counter::new(1000);
        counter.hit(2000);
        counter.hits_since_last(3, 10);
        let popularity = counter.hit(0);
        assert_eq!(popularity.hits, 5);
        assert!(popularity.per_minute.is_finite() && popularity.per_minute > 0.0, "{popularity:?}");
    }

    #[test]
    fn one_hit_on_a_new_file_is_about_one_a_minute() {
        let per_minute = Counter::new(7).hit(7).per_minute;
        assert!((0.9..1.2).contains(&per_minute), "{per_minute}");
    }
}
