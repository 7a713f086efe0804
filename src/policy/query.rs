//! The query of a URI as policies see it: names and values as sent.
//!
//! Nothing is decoded. `a=%2F` and `a=/` are different URIs, and an origin may answer them differently; decoding before
//! keying would let one stand for the other. `tidegate.decode` is there for who wants it.

use super::library::Given;
use super::raw::Args;

/// Most steps that matching patterns against a query may take: patterns' bytes times the query's.
const MOST_WORK: usize = 4 << 20;

/// The pairs of a query, as sent, with empty ones (`&&`) left out.
pub(super) fn pairs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'&').filter(|pair| !pair.is_empty())
}

fn name(pair: &[u8]) -> &[u8] {
    pair.split(|b| *b == b'=').next().unwrap_or(pair)
}

/// The first value of that name: empty for `?name` and `?name=`.
pub(super) fn first<'q>(text: &'q [u8], wanted: &[u8]) -> Option<&'q [u8]> {
    pairs(text).find_map(|pair| match pair.strip_prefix(wanted)? {
        [] => Some(&[][..]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

/// The cookies of a `Cookie` field in their order: name and value as sent, without the blanks around them.
pub(super) fn cookies(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    field.split(|b| *b == b';').filter_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = pair.split_at(equals);
        Some((name.trim_ascii_end(), value.get(1..).unwrap_or_default().trim_ascii_start()))
    })
}

/// The first cookie of that name.
pub(super) fn cookie<'c>(field: &'c [u8], wanted: &[u8]) -> Option<&'c [u8]> {
    cookies(field).find_map(|(name, value)| (name == wanted).then_some(value))
}

/// The patterns given to a method, checked.
pub(super) fn patterns<'a>(method: &str, text: &[u8], args: &Args<'a>) -> Result<Vec<&'a [u8]>, String> {
    let count = args.count().saturating_sub(1);
    let mut patterns = Vec::with_capacity(count.min(64));
    let mut size = 0usize;
    for i in 2..=args.count() {
        match args.get(i) {
            Given::Text(pattern) => {
                size = size.saturating_add(pattern.len().max(1));
                patterns.push(pattern);
            }
            other => {
                return Err(format!("req.query:{method}: argument {} must be a string, not a {}", i - 1, other.kind()));
            }
        }
    }
    match method {
        "sorted" if count > 0 => return Err(String::from("req.query:sorted: takes no argument")),
        "only" | "without" if count == 0 => {
            return Err(format!("req.query:{method}: give at least one name, such as req.query:{method}(\"w\")"));
        }
        _ => {}
    }
    if size.saturating_mul(text.len().max(1)) > MOST_WORK {
        return Err(format!("req.query:{method}: the patterns are too long for a query of {} bytes", text.len()));
    }
    Ok(patterns)
}

/// The pairs whose name matches one of the patterns, in their order.
pub(super) fn only(text: &[u8], patterns: &[&[u8]]) -> Vec<u8> {
    join(text, pairs(text).filter(|pair| matches_any(patterns, name(pair))))
}

/// The other pairs.
pub(super) fn without(text: &[u8], patterns: &[&[u8]]) -> Vec<u8> {
    join(text, pairs(text).filter(|pair| !matches_any(patterns, name(pair))))
}

/// The pairs by name. Pairs of one name keep their order, which can carry a meaning.
pub(super) fn sorted(text: &[u8]) -> Vec<u8> {
    let mut all: Vec<&[u8]> = pairs(text).collect();
    all.sort_by(|a, b| name(a).cmp(name(b)));
    join(text, all.into_iter())
}

fn join<'q>(text: &[u8], pairs: impl Iterator<Item = &'q [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for pair in pairs {
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend_from_slice(pair);
    }
    out
}

fn matches_any(patterns: &[&[u8]], name: &[u8]) -> bool {
    patterns.iter().any(|pattern| glob(pattern, name))
}

/// Whether `text` matches `pattern`, in which `*` stands for any bytes, also none. At most the product of both lengths.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on if what follows the last `*` does not match here.
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                back = Some((p, t));
                p += 1;
            }
            (Some(a), Some(b)) if a == b => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_name_is_found_as_sent() {
        let text = b"ab=0&a=%2F&a=2&b&c=";
        assert_eq!(first(text, b"a"), Some(&b"%2F"[..]));
        assert_eq!(first(text, b"b"), Some(&b""[..]));
        assert_eq!(first(text, b"c"), Some(&b""[..]));
        assert_eq!(first(text, b"d"), None);
        assert_eq!(first(b"", b"d"), None);
    }

    #[test]
    fn pairs_are_kept_dropped_and_sorted_by_name() {
        let text = b"w=1&utm_source=x&h=2&&utm_id=3&w=0";
        assert_eq!(only(text, &[b"w", b"h"]), b"w=1&h=2&w=0");
        assert_eq!(without(text, &[b"utm_*"]), b"w=1&h=2&w=0");
        assert_eq!(sorted(text), b"h=2&utm_id=3&utm_source=x&w=1&w=0");
    }

    #[test]
    fn a_star_stands_for_any_bytes() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*", "a", true),
            ("a*b", "ab", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "abc", false),
            ("*.jpg", "x.jpg.jpg", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let field = b"xa=0; a=1;b = 2 ; a=3";
        assert_eq!(cookie(field, b"a"), Some(&b"1"[..]));
        assert_eq!(cookie(field, b"b"), Some(&b"2"[..]));
        assert_eq!(cookie(field, b"c"), None);
    }
}
