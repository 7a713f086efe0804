//! Sizes and durations with units: `64KiB`, `1.5GB`, `5ms`, `1h30m`.

use std::time::Duration;

/// Why a text is no size or duration, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError {
    /// What is wrong, without a final stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl UnitError {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        UnitError { message: message.into(), hint: hint.into() }
    }
}

/// Names and factors, the smallest first.
type Units = &'static [(&'static str, u128)];

const SIZES: Units = &[
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// In nanoseconds. `µs` has two spellings in Unicode.
const DURATIONS: Units = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("w", 7 * 86_400 * 1_000_000_000),
];

/// What people write for a unit, and the unit.
const SIZE_HABITS: &[(&str, &str)] = &[("k", "KiB"), ("m", "MiB"), ("g", "GiB"), ("t", "TiB")];
const DURATION_HABITS: &[(&str, &str)] = &[
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hr", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
    ("week", "w"),
    ("weeks", "w"),
    ("msec", "ms"),
    ("millis", "ms"),
];

/// Longest duration: sums of an instant and a duration must not overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Reads a size in bytes: a number, then `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB` or `TiB` in any case. Only `0`
/// needs no unit.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let trimmed = text.trim();
    let bad =
        || UnitError::new(format!("`{text}` is not a size"), "write a number and a unit, such as `64KiB` or `2GB`");
    let number = leading_number(trimmed).ok_or_else(bad)?;
    let unit = number.rest.trim_start();
    if unit.is_empty() {
        return match number.digits {
            0 => Ok(0),
            _ => Err(UnitError::new(
                format!("`{text}` has no unit"),
                format!("write `{trimmed}B`, `{trimmed}KiB` or `{trimmed}MiB`"),
            )),
        };
    }
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        let meant = SIZE_HABITS.iter().find(|(habit, _)| habit.eq_ignore_ascii_case(unit));
        return Err(match meant {
            Some((_, meant)) => {
                UnitError::new(format!("`{unit}` is not a unit of size"), format!("write `{}{meant}`", number.written))
            }
            None if unit.chars().all(char::is_alphabetic) => UnitError::new(
                format!("`{unit}` is not a unit of size"),
                "write `B`, `KiB`, `MiB`, `GiB` or `TiB`, or without the `i` for powers of 1000",
            ),
            None => bad(),
        });
    };
    // The upper half of the range stays free for sums, and `u64::MAX` for "no limit".
    number
        .times(*factor)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| UnitError::new(format!("`{text}` is too large"), "write at most `8000000TB`"))
}

/// Reads a duration: numbers, each with `ms`, `s`, `m`, `h`, `d` or `w` (also `ns`, `us`), the largest unit first. Only
/// `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let trimmed = text.trim();
    let bad =
        || UnitError::new(format!("`{text}` is not a duration"), "write numbers and units, such as `10s` or `1h30m`");
    let mut rest = trimmed;
    let mut total = 0_u128;
    let mut smallest = u128::MAX;
    loop {
        let number = leading_number(rest).ok_or_else(bad)?;
        let after = number.rest.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).ok_or_else(bad)?;
        if unit.is_empty() {
            return match number.digits {
                0 if rest == trimmed && after.is_empty() => Ok(Duration::ZERO),
                _ if !after.is_empty() => Err(bad()),
                _ => Err(UnitError::new(
                    format!("`{text}` has no unit"),
                    format!("write `{trimmed}s`, `{trimmed}ms` or `{trimmed}m`"),
                )),
            };
        }
        let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
            let meant = DURATION_HABITS.iter().find(|(habit, _)| *habit == unit);
            let hint = match meant {
                Some((_, meant)) => format!("write `{}{meant}`", number.written),
                None => "write `ms`, `s`, `m`, `h`, `d` or `w`".to_owned(),
            };
            return Err(UnitError::new(format!("`{unit}` is not a unit of time"), hint));
        };
        if *factor >= smallest {
            return Err(UnitError::new(
                format!("the units of `{text}` are out of order"),
                "write the largest first and each once, as in `1h30m`",
            ));
        }
        smallest = *factor;
        let too_long = || UnitError::new(format!("`{text}` is too long"), "write at most `36500d`");
        total = number.times(*factor).and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
        if total > LONGEST.as_nanos() {
            return Err(too_long());
        }
        rest = after.trim_start();
        if rest.is_empty() {
            let nanos = u64::try_from(total).map_err(|_| too_long())?;
            return Ok(Duration::from_nanos(nanos));
        }
    }
}

/// A duration in the way that it is written in a file.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut out = String::new();
    for (unit, factor) in DURATIONS.iter().rev().filter(|(unit, _)| unit.is_ascii()) {
        if rest >= *factor {
            out.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if out.is_empty() { "0".to_owned() } else { out }
}

/// A size in the way that it is written in a file: the largest unit that holds it without a fraction.
pub fn format_size(bytes: u64) -> String {
    let mut units = SIZES.iter().rev();
    match units.find(|(_, factor)| bytes > 0 && u128::from(bytes) % factor == 0) {
        Some((unit, factor)) => format!("{}{unit}", u128::from(bytes) / factor),
        None => "0".to_owned(),
    }
}

/// `digits / 10^scale`, and what follows it.
struct Number<'a> {
    written: &'a str,
    digits: u128,
    scale: u32,
    rest: &'a str,
}

impl Number<'_> {
    fn times(&self, factor: u128) -> Option<u128> {
        Some(self.digits.checked_mul(factor)? / 10_u128.checked_pow(self.scale)?)
    }
}

fn leading_number(text: &str) -> Option<Number<'_>> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (written, rest) = text.split_at_checked(end)?;
    let (whole, fraction) = written.split_once('.').unwrap_or((written, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    // Twenty digits are beyond any size or duration; more would only overflow.
    if whole.len() > 20 || fraction.len() > 9 {
        return None;
    }
    let digits = format!("{whole}{fraction}").parse().ok()?;
    Some(Number { written, digits, scale: u32::try_from(fraction.len()).ok()?, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_error(text: &str) -> String {
        let error = parse_size(text).unwrap_err();
        format!("{}; {}", error.message, error.hint)
    }

    fn duration_error(text: &str) -> String {
        let error = parse_duration(text).unwrap_err();
        format!("{}; {}", error.message, error.hint)
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("0B", 0),
            ("7B", 7),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("512MB", 512_000_000),
            ("8MiB", 8 << 20),
            ("1GiB", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("50GB", 50_000_000_000),
            ("5TiB", 5 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_size_needs_a_unit() {
        assert_eq!(size_error("1024"), "`1024` has no unit; write `1024B`, `1024KiB` or `1024MiB`");
    }

    #[test]
    fn a_wrong_unit_of_size_is_named() {
        assert_eq!(size_error("64k"), "`k` is not a unit of size; write `64KiB`");
        assert_eq!(
            size_error("64bits"),
            "`bits` is not a unit of size; write `B`, `KiB`, `MiB`, `GiB` or `TiB`, or without the `i` for powers of 1000"
        );
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "many", "-1KiB", "1KiB2", ".5KiB", "1..5KiB", "1.KiB", "99999999999999999999999KiB"] {
            assert_eq!(
                size_error(text),
                format!("`{text}` is not a size; write a number and a unit, such as `64KiB` or `2GB`")
            );
        }
        assert_eq!(size_error("9000000TiB"), "`9000000TiB` is too large; write at most `8000000TB`");
    }

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("5ms", 5),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1d", 86_400_000),
            ("2w", 14 * 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("3us"), Ok(Duration::from_micros(3)));
        assert_eq!(parse_duration("3µs"), Ok(Duration::from_micros(3)));
    }

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(duration_error("10"), "`10` has no unit; write `10s`, `10ms` or `10m`");
        assert_eq!(duration_error("1h30"), "`1h30` has no unit; write `1h30s`, `1h30ms` or `1h30m`");
    }

    #[test]
    fn a_wrong_unit_of_time_is_named() {
        assert_eq!(duration_error("10sec"), "`sec` is not a unit of time; write `10s`");
        assert_eq!(duration_error("10x"), "`x` is not a unit of time; write `ms`, `s`, `m`, `h`, `d` or `w`");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "soon", "-1s", "1s!", "s"] {
            assert_eq!(
                duration_error(text),
                format!("`{text}` is not a duration; write numbers and units, such as `10s` or `1h30m`")
            );
        }
        assert_eq!(
            duration_error("30m1h"),
            "the units of `30m1h` are out of order; write the largest first and each once, as in `1h30m`"
        );
        assert_eq!(duration_error("40000d"), "`40000d` is too long; write at most `36500d`");
        assert_eq!(
            duration_error("99999999999999999999w"),
            "`99999999999999999999w` is too long; write at most `36500d`"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["0", "5ms", "10s", "1h30m", "1d", "2w3d", "7us"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["0", "7B", "64KiB", "8MiB", "1GiB", "512MB", "1536MiB"] {
            assert_eq!(format_size(parse_size(text).unwrap()), text);
        }
    }
}
