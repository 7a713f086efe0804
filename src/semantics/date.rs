//! Dates in fields: RFC 9110 section 5.6.7.
//!
//! Stricter than most parsers where a cache must be (a bad `Expires` means "already expired"), more tolerant where the
//! suite of public cache tests and real origins ask for it: names in any case, and a weekday that does not fit the date
//! is not held against it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A year of two digits that seems to lie further ahead than this means the past century (RFC 9110 section 5.6.7).
const TWO_DIGIT_HORIZON: i64 = 50;

/// The last second that an HTTP date can spell: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// Reads a date in one of the three formats that recipients must accept; `None` for anything else.
///
/// `now` settles the century of the obsolete RFC 850 format and nothing else.
pub fn parse(value: &[u8], now: SystemTime) -> Option<SystemTime> {
    let value = value.trim_ascii();
    imf_fixdate(value).or_else(|| rfc850(value, now)).or_else(|| asctime(value))
}

/// Writes a date as IMF-fixdate, the only format that may be sent. Times that it cannot spell are moved to the nearest.
pub fn format(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().min(LAST_SECOND));
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(value: &[u8]) -> Option<SystemTime> {
    let mut text = Cursor(value);
    text.one_of(&DAYS)?;
    text.literal(", ")?;
    let day = text.digits(2)?;
    text.literal(" ")?;
    let month = text.one_of(&MONTHS)?;
    text.literal(" ")?;
    let year = text.digits(4)?;
    text.literal(" ")?;
    let second_of_day = text.time_of_day()?;
    text.literal(" gmt")?;
    text.end()?;
    moment(year, month, day, second_of_day)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(value: &[u8], now: SystemTime) -> Option<SystemTime> {
    let mut text = Cursor(value);
    text.one_of(&LONG_DAYS)?;
    text.literal(", ")?;
    let day = text.digits(2)?;
    text.literal("-")?;
    let month = text.one_of(&MONTHS)?;
    text.literal("-")?;
    let two_digits = text.digits(2)?;
    text.literal(" ")?;
    let second_of_day = text.time_of_day()?;
    text.literal(" gmt")?;
    text.end()?;
    let this_year = year_of(now);
    let mut year = this_year - this_year.rem_euclid(100) + two_digits;
    if year > this_year + TWO_DIGIT_HORIZON {
        year -= 100;
    } else if year <= this_year - TWO_DIGIT_HORIZON {
        year += 100;
    }
    moment(year, month, day, second_of_day)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(value: &[u8]) -> Option<SystemTime> {
    let mut text = Cursor(value);
    text.one_of(&DAYS)?;
    text.literal(" ")?;
    let month = text.one_of(&MONTHS)?;
    text.literal(" ")?;
    let day = if text.literal(" ").is_some() { text.digits(1)? } else { text.digits(2)? };
    text.literal(" ")?;
    let second_of_day = text.time_of_day()?;
    text.literal(" ")?;
    let year = text.digits(4)?;
    text.end()?;
    moment(year, month, day, second_of_day)
}

/// What is left of a value, eaten from the front.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn literal(&mut self, text: &str) -> Option<()> {
        let (head, rest) = self.0.split_at_checked(text.len())?;
        head.eq_ignore_ascii_case(text.as_bytes()).then(|| self.0 = rest)
    }

    fn one_of(&mut self, names: &[&str]) -> Option<i64> {
        let index = names.iter().position(|name| self.literal(name).is_some())?;
        i64::try_from(index).ok()
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(count)?;
        let mut number = 0;
        for byte in head {
            number = number * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        }
        self.0 = rest;
        Some(number)
    }

    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.literal(":")?;
        let minute = self.digits(2)?;
        self.literal(":")?;
        let second = self.digits(2)?;
        // 60 is a leap second.
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The moment of a date; `month` counts from 0. `None` if the month has no such day.
fn moment(year: i64, month: i64, day: i64, second_of_day: i64) -> Option<SystemTime> {
    if day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + second_of_day;
    match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH.checked_add(Duration::from_secs(after)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    }
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Leap days before the year, counted from year 0; 719_528 days lie between 0000-01-01 and 1970-01-01.
    let years_before = year - 1;
    let leap_days = if year > 0 { years_before / 4 - years_before / 100 + years_before / 400 + 1 } else { 0 };
    let days_before_month = match month {
        0 => 0,
        1 => 31,
        2 => 59,
        3 => 90,
        4 => 120,
        5 => 151,
        6 => 181,
        7 => 212,
        8 => 243,
        9 => 273,
        10 => 304,
        _ => 334,
    };
    let leap_day = i64::from(month > 1 && is_leap(year));
    year * 365 + leap_days + days_before_month + leap_day + (day - 1) - 719_528
}

fn year_of(time: SystemTime) -> i64 {
    let days = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    // Off by a day at most around New Year, which a horizon of fifty years does not notice.
    1970 + i64::try_from(days * 400 / 146_097).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_767_225_600) // 2026-01-01
    }

    fn seconds(value: &str) -> Option<i64> {
        parse(value.as_bytes(), now()).map(|time| match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap(),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap(),
        })
    }

    // RFC 9110 section 5.6.7
    #[test]
    fn the_three_formats_mean_the_same_moment() {
        for value in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(seconds(value), Some(784_111_777), "{value}");
        }
    }

    #[test]
    fn dates_agree_with_another_implementation() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5_000 {
            let time = UNIX_EPOCH + Duration::from_secs(random.u64(0..=LAST_SECOND));
            assert_eq!(parse(format(time).as_bytes(), now()), Some(time));
        }
    }

    // RFC 9111 section 5.3 and the public cache tests: case does not matter
    #[test]
    fn case_does_not_matter() {
        for value in ["THU, 18 Aug 2050 02:01:18 GMT", "Thu, 18 AUG 2050 02:01:18 GMT", "Thu, 18 Aug 2050 02:01:18 gMT"]
        {
            assert_eq!(seconds(value), seconds("Thu, 18 Aug 2050 02:01:18 GMT"), "{value}");
        }
    }

    #[test]
    fn a_wrong_weekday_is_forgiven() {
        assert!(seconds("Thu Aug  8 02:01:18 2050").is_some());
    }

    #[test]
    fn years_of_two_digits_lie_within_fifty_years() {
        assert_eq!(seconds("Thursday, 18-Aug-50 02:01:18 GMT"), seconds("Thu, 18 Aug 2050 02:01:18 GMT"));
        assert_eq!(seconds("Thursday, 18-Aug-77 02:01:18 GMT"), seconds("Thu, 18 Aug 1977 02:01:18 GMT"));
        assert_eq!(seconds("Saturday, 01-Jan-00 00:00:00 GMT"), seconds("Sat, 01 Jan 2000 00:00:00 GMT"));
    }

    #[test]
    fn other_spellings_are_no_dates() {
        for value in [
            "",
            "0",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Thu, 00 Feb 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        ] {
            assert_eq!(seconds(value), None, "{value}");
        }
    }

    #[test]
    fn dates_before_1970_are_dates() {
        assert_eq!(seconds("Wed, 31 Dec 1969 23:59:59 GMT"), Some(-1));
    }

    #[test]
    fn writing_never_panics() {
        assert_eq!(format(UNIX_EPOCH - Duration::from_secs(5)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format(UNIX_EPOCH + Duration::from_secs(1 << 50)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        let template = b"Sun, 06 Nov 1994 08:49:37 GMT";
        for _ in 0..20_000 {
            let mut bytes = template.to_vec();
            for _ in 0..random.usize(0..6) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(0..=bytes.len()));
            parse(&bytes, now());
        }
    }
}
