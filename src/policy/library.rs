//! The functions of `tidegate`: pure, bounded, and without a VM in sight.

use std::time::{Duration, UNIX_EPOCH};

use super::fields::Answer;
use super::normalize::Normalizer;
use super::query;
use super::raw::Args;

/// How a library function is called. An error becomes a Lua error that names the function.
pub(super) type Run = for<'a> fn(&Args<'a>) -> Result<Answer<'a>, String>;

/// An argument as it was given.
pub(super) enum Given<'a> {
    Nil,
    Bool,
    Number,
    Text(&'a [u8]),
    Other(&'static str),
}

impl Given<'_> {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Given::Nil => "nil",
            Given::Bool => "boolean",
            Given::Number => "number",
            Given::Text(_) => "string",
            Given::Other(kind) => kind,
        }
    }
}

/// Longest text that a function takes, in bytes: more than the head of a request can hold.
const LONGEST: usize = 256 << 10;

/// Most names that a normaliser takes.
const MOST_NAMES: usize = 64;

/// Longest name, and longest argument that is one with blanks around it.
const LONGEST_NAME: usize = 64;
const LONGEST_BLANK_NAME: usize = 4 * LONGEST_NAME;

fn text<'a>(args: &Args<'a>, i: usize) -> Result<&'a [u8], String> {
    match args.get(i) {
        Given::Text(text) if text.len() > LONGEST => {
            Err(format!("argument {i} has {} bytes, more than {LONGEST}", text.len()))
        }
        Given::Text(text) => Ok(text),
        other => Err(format!("argument {i} must be a string, not a {}", other.kind())),
    }
}

fn names(args: &Args<'_>, what: &str) -> Result<Vec<String>, String> {
    // Before any is looked at: thousands of long arguments would keep the thread for a second.
    match args.count() {
        0 => return Err(format!("give at least one {what}")),
        1..=MOST_NAMES => {}
        n => return Err(format!("{n} names are more than {MOST_NAMES}")),
    }
    let mut names = Vec::with_capacity(args.count());
    for i in 1..=args.count() {
        let name = Some(text(args, i)?).filter(|name| name.len() <= LONGEST_BLANK_NAME);
        let name = name.and_then(|name| str::from_utf8(name).ok()).map(str::trim).filter(|name| {
            !name.is_empty()
                && name.len() <= LONGEST_NAME
                && name.bytes().all(|b| b.is_ascii_graphic() && !b",;\"".contains(&b))
        });
        match name {
            Some(name) => names.push(name.to_owned()),
            None => return Err(format!("argument {i} is not the name of a {what}")),
        }
    }
    Ok(names)
}

pub(super) fn encodings<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    names(args, "coding").map(|names| Answer::Normalizer(Normalizer::encodings(names)))
}

pub(super) fn languages<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    names(args, "language").map(|names| Answer::Normalizer(Normalizer::languages(names)))
}

pub(super) fn types<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    let names = names(args, "media type")?;
    match names.iter().find(|name| name.split('/').count() != 2 || name.contains('*')) {
        Some(wrong) => Err(format!("{wrong:?} is not a media type such as \"image/webp\"")),
        None => Ok(Answer::Normalizer(Normalizer::types(names))),
    }
}

pub(super) fn cookies<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    names(args, "cookie").map(|names| Answer::Normalizer(Normalizer::cookies(names)))
}

/// A normaliser called as a function, with itself as the first argument.
pub(super) fn normalized<'a>(normalizer: &Normalizer, args: &Args<'a>) -> Result<Answer<'a>, String> {
    let field = match args.get(2) {
        Given::Nil => None,
        Given::Text(field) if field.len() > LONGEST => {
            return Err(format!("a field of {} bytes is longer than {LONGEST}", field.len()));
        }
        Given::Text(field) => Some(field),
        other => return Err(format!("a normaliser takes a string or nil, not a {}", other.kind())),
    };
    Ok(normalizer.reduce(field).map_or(Answer::Nil, Answer::Owned))
}

pub(super) fn duration<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    let text = text(args, 1)?;
    let parsed = str::from_utf8(text).map_err(|_| String::from("not a duration")).and_then(parse_duration)?;
    Ok(Answer::Number(parsed.as_secs_f64()))
}

pub(super) fn glob<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    let (pattern, text) = (text(args, 1)?, text(args, 2)?);
    if pattern.len().saturating_mul(text.len()) > 2 << 20 {
        return Err(format!("a pattern of {} bytes is too long for a text of {}", pattern.len(), text.len()));
    }
    Ok(Answer::Bool(query::glob(pattern, text)))
}

pub(super) fn hash<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    let text = text(args, 1)?;
    Ok(Answer::Owned(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text)).into_bytes()))
}

pub(super) fn lower<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    Ok(Answer::Owned(text(args, 1)?.to_ascii_lowercase()))
}

pub(super) fn decode<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    Ok(Answer::Owned(percent_encoding::percent_decode(text(args, 1)?).collect()))
}

pub(super) fn date<'a>(args: &Args<'a>) -> Result<Answer<'a>, String> {
    let text = text(args, 1)?;
    let date = str::from_utf8(text).ok().and_then(|text| httpdate::parse_http_date(text).ok());
    Ok(match date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) {
        Some(since) => Answer::Number(since.as_secs_f64()),
        None => Answer::Nil,
    })
}

/// Longest duration of a decision: what a delta-seconds field can carry (RFC 9111 section 1.2.2).
pub(super) const LONGEST_DURATION: Duration = Duration::from_secs(1 << 31);

/// Longest text of a duration, in bytes: every unit once fits.
const LONGEST_DURATION_TEXT: usize = 100;

/// `1h30m`, `500ms`, `1d`: numbers with units, or a whole number of seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{:?} is not a duration such as \"90s\" or \"1h30m\"", shorten(text));
    let mut rest = text.trim();
    if rest.is_empty() || text.len() > LONGEST_DURATION_TEXT {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" | "sec" => Duration::from_secs(1),
            "m" | "min" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            "w" => Duration::from_secs(7 * 86_400),
            "y" => Duration::from_secs(365 * 86_400),
            // A bare number would leave it to the reader which unit was meant.
            _ => return Err(wrong()),
        };
        let part = u32::try_from(number).ok().and_then(|n| unit.checked_mul(n)).ok_or_else(wrong)?;
        total = total.checked_add(part).filter(|t| *t <= LONGEST_DURATION).ok_or_else(|| {
            format!("{:?} is longer than {} years", shorten(text), LONGEST_DURATION.as_secs() / (365 * 86_400))
        })?;
        rest = tail.trim_start();
    }
    Ok(total)
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_numbers_and_units() {
        for (text, millis) in [
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1d", 86_400_000),
            ("1w 1s", 604_801_000),
            ("0s", 0),
            ("1min", 60_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", " ", "h", "1", "1x", "-1s", "1.5h", "1h30", "99999999999s", "4294967295y", "1 h", "∞"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration(&"0s".repeat(51)).is_err());
    }
}
