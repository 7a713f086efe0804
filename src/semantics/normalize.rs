//! Forms in which equal values of a request field are equal byte for byte: RFC 9111 section 4.1, RFC 9110
//! sections 12.5.3 and 12.5.4.

use std::cmp::Ordering;

/// Preferences beyond this number are left as they were sent. Browsers send up to about ten.
const MOST_PREFERENCES: usize = 24;

/// A weight in thousandths (RFC 9110 section 12.4.2).
const FULL_WEIGHT: u16 = 1000;

/// One language or coding with its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Preference<'a> {
    name: &'a [u8],
    weight: u16,
}

impl Preference<'_> {
    /// By falling weight, then by name without case.
    fn order(&self, other: &Self) -> Ordering {
        other.weight.cmp(&self.weight).then_with(|| {
            let (mine, others) = (self.name.iter(), other.name.iter());
            mine.map(u8::to_ascii_lowercase).cmp(others.map(u8::to_ascii_lowercase))
        })
    }
}

/// Appends a list of weighted names in one form for all lists that mean the same. `false`, and nothing appended, if it
/// is no such list or a very long one.
pub(super) fn append_preferences<'a>(lines: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) -> bool {
    let mut found = [Preference { name: b"", weight: 0 }; MOST_PREFERENCES];
    let mut count = 0;
    for member in lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
        if member.is_empty() {
            continue;
        }
        let (Some(slot), Some(preference)) = (found.get_mut(count), preference(member)) else { return false };
        *slot = preference;
        count += 1;
    }
    let Some(found) = found.get_mut(..count) else { return false };
    found.sort_unstable_by(Preference::order);
    let mut previous = None;
    for preference in found.iter() {
        if previous.is_some_and(|previous: &Preference<'_>| previous.order(preference) == Ordering::Equal) {
            continue;
        }
        if previous.is_some() {
            out.push(b',');
        }
        out.extend(preference.name.iter().map(u8::to_ascii_lowercase));
        if preference.weight != FULL_WEIGHT {
            out.extend_from_slice(b";q=");
            out.extend_from_slice(&preference.weight.to_be_bytes());
        }
        previous = Some(preference);
    }
    true
}

/// Reads `name` or `name;q=0.5`.
fn preference(member: &[u8]) -> Option<Preference<'_>> {
    let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next()?;
    let weight = parts.next().map_or(Some(FULL_WEIGHT), weight)?;
    let is_token = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
    if name.is_empty() || !is_token || parts.next().is_some() {
        return None;
    }
    Some(Preference { name: without_alias(name), weight })
}

/// RFC 9110 section 8.4.1: `x-gzip` and `x-compress` are `gzip` and `compress`. No language has these names.
fn without_alias(name: &[u8]) -> &[u8] {
    match name.split_at_checked(2) {
        Some((prefix, rest))
            if prefix.eq_ignore_ascii_case(b"x-")
                && (rest.eq_ignore_ascii_case(b"gzip") || rest.eq_ignore_ascii_case(b"compress")) =>
        {
            rest
        }
        _ => name,
    }
}

/// RFC 9110 section 12.4.2: `q=` and a number from 0 to 1 with up to three decimals.
fn weight(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, decimals) = value.split_first()?;
    let decimals = match decimals.split_first() {
        None => &[][..],
        Some((b'.', decimals)) if decimals.len() <= 3 => decimals,
        Some(_) => return None,
    };
    let mut weight = u16::from(whole.is_ascii_digit().then(|| whole - b'0')?);
    for place in 0..3 {
        let digit = match decimals.get(place) {
            Some(byte) => byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?,
            None => 0,
        };
        weight = weight * 10 + digit;
    }
    (weight <= FULL_WEIGHT).then_some(weight)
}

/// Appends a value without the spaces around its commas; what stands in quotes stays as it is.
pub(super) fn append_compact(value: &[u8], out: &mut Vec<u8>) {
    let value = value.trim_ascii();
    let start = out.len();
    let mut quoted = false;
    let mut escaped = false;
    for byte in value {
        if quoted {
            quoted = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else if *byte == b',' {
            let kept = out.get(start..).map_or(0, |written| written.trim_ascii_end().len());
            out.truncate(start + kept);
        } else if matches!(byte, b' ' | b'\t') && out.len() > start && out.last() == Some(&b',') {
            continue;
        } else {
            quoted = *byte == b'"';
        }
        out.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferences(lines: &[&str]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        append_preferences(lines.iter().map(|line| line.as_bytes()), &mut out).then_some(out)
    }

    fn compact(value: &str) -> String {
        let mut out = b"x, ".to_vec();
        append_compact(value.as_bytes(), &mut out);
        String::from_utf8(out.split_off(3)).unwrap()
    }

    // RFC 9110 section 12.4.2
    #[test]
    fn weights_are_numbers_from_zero_to_one() {
        assert_eq!(weight(b"q=1"), Some(1000));
        assert_eq!(weight(b"Q=0.05"), Some(50));
        assert_eq!(weight(b"q=0."), Some(0));
        for text in [&b"q=1.001"[..], b"q=2", b"q=", b"q=.5", b"q=0.1234", b"q=0x", b"q =1", b"level=1", b""] {
            assert_eq!(weight(text), None);
        }
    }

    #[test]
    fn duplicates_and_empty_members_are_dropped() {
        assert_eq!(preferences(&["gzip,, br, gzip"]).as_deref(), Some(&b"br,gzip"[..]));
        assert_eq!(preferences(&[""]).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn what_is_no_list_of_preferences_is_left_alone() {
        for value in ["gzip;level=1", "gz ip", "gzip;q=0.5;x=1", ";q=1", "\u{fc}"] {
            assert_eq!(preferences(&[value]), None, "{value}");
        }
        assert_eq!(preferences(&[&"x,".repeat(30)]), None);
    }

    #[test]
    fn spaces_around_commas_are_dropped_outside_of_quotes() {
        assert_eq!(compact(" a , b,\tc  d "), "a,b,c  d");
        assert_eq!(compact(r#""a , \" , b" , c"#), r#""a , \" , b",c"#);
        assert_eq!(compact(" , a"), ",a");
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(5);
        let alphabet = b"ab-=,\"\\ \t1;.q\xff";
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..random.usize(0..30)).map(|_| alphabet[random.usize(0..alphabet.len())]).collect();
            let mut out = Vec::new();
            append_preferences(std::iter::once(&text[..]), &mut out);
            append_compact(&text, &mut out);
        }
    }
}
