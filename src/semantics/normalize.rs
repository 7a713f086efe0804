//! Forms in which equal values of a request field are equal byte for byte: RFC 9111 section 4.1, RFC 9110
//! sections 12.5.3 and 12.5.4.

/// Preferences beyond this number are left as they were sent. Browsers send up to about ten.
const MOST_PREFERENCES: usize = 12;

/// Lists with a longer name are left as they were sent. No registered coding and hardly any language has one.
const LONGEST_NAME: u32 = 14;

/// A weight in thousandths (RFC 9110 section 12.4.2).
const FULL_WEIGHT: u16 = 1000;

/// The preferences of a request, in fixed space, each packed into a number: two bytes of weight, then the name in lower
/// case. This runs on each hit of a response that varies, and numbers compare and sort at next to no cost.
#[derive(Default)]
struct Preferences {
    found: [u128; MOST_PREFERENCES],
    count: usize,
}

impl Preferences {
    /// Adds the members of a line, each `name` or `name;q=0.5`. `None` if one is something else, or too much.
    fn add_line(&mut self, line: &[u8]) -> Option<()> {
        let mut rest = line;
        loop {
            while let Some((b',' | b' ' | b'\t', after)) = rest.split_first() {
                rest = after;
            }
            if rest.is_empty() {
                return Some(());
            }
            let (name, after) = packed_name(rest)?;
            let (weight, after) = member_weight(after)?;
            *self.found.get_mut(self.count)? = u128::from(weight) << (8 * LONGEST_NAME) | without_alias(name);
            self.count += 1;
            rest = after;
        }
    }

    /// Writes them in order, each once. The zero in front keeps them apart from values that are left as they were sent.
    fn write(&mut self, out: &mut Vec<u8>) {
        let found = self.found.get_mut(..self.count).unwrap_or_default();
        found.sort_unstable();
        out.push(0);
        let mut previous = None;
        for preference in found.iter() {
            if previous != Some(preference) {
                out.extend_from_slice(&preference.to_be_bytes());
            }
            previous = Some(preference);
        }
    }
}

/// Appends a list of weighted names in one form for all lists that mean the same. `false`, and nothing appended, if it
/// is no such list or an unusually long one.
pub(super) fn append_preferences<'a>(mut lines: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) -> bool {
    let mut preferences = Preferences::default();
    let understood = lines.all(|line| preferences.add_line(line).is_some());
    if understood {
        preferences.write(out);
    }
    understood
}

/// Reads a name from the front of a text.
fn packed_name(text: &[u8]) -> Option<(u128, &[u8])> {
    let mut rest = text;
    let mut name = 0;
    let mut length = 0;
    while let Some((byte, after)) = rest.split_first()
        && is_token_byte(*byte)
    {
        length += 1;
        name = name << 8 | u128::from(byte.to_ascii_lowercase());
        rest = after;
    }
    (1..=LONGEST_NAME).contains(&length).then_some((name, rest))
}

/// Reads what follows a name up to the next comma: nothing, or a weight.
fn member_weight(text: &[u8]) -> Option<(u16, &[u8])> {
    if let None | Some(b',') = text.first() {
        return Some((FULL_WEIGHT, text));
    }
    let end = text.iter().position(|byte| *byte == b',').unwrap_or(text.len());
    let (parameters, rest) = text.split_at_checked(end)?;
    let weight = match parameters.trim_ascii() {
        b"" => FULL_WEIGHT,
        parameters => weight(parameters.strip_prefix(b";")?.trim_ascii_start())?,
    };
    Some((weight, rest))
}

/// RFC 9110 section 5.6.2
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// RFC 9110 section 8.4.1: `x-gzip` and `x-compress` are `gzip` and `compress`. No language has these names.
fn without_alias(name: u128) -> u128 {
    const GZIP: u128 = packed(b"gzip");
    const X_GZIP: u128 = packed(b"x-gzip");
    const COMPRESS: u128 = packed(b"compress");
    const X_COMPRESS: u128 = packed(b"x-compress");
    match name {
        X_GZIP => GZIP,
        X_COMPRESS => COMPRESS,
        name => name,
    }
}

const fn packed(mut name: &[u8]) -> u128 {
    let mut number = 0;
    while let Some((byte, rest)) = name.split_first() {
        number = number << 8 | *byte as u128;
        name = rest;
    }
    number
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
        assert_eq!(preferences(&["gzip,, br, gzip"]), preferences(&["br ,gzip,"]));
        assert_eq!(preferences(&[""]), preferences(&[",", " "]));
        assert_ne!(preferences(&["gzip"]), preferences(&["gzip, br"]));
        assert_ne!(preferences(&["gzip"]), preferences(&["gzip;q=0.5"]));
    }

    #[test]
    fn what_is_no_list_of_preferences_is_left_alone() {
        for value in ["gzip;level=1", "gz ip", "gzip;q=0.5;x=1", ";q=1", "\u{fc}"] {
            assert_eq!(preferences(&[value]), None, "{value}");
        }
        assert_eq!(preferences(&[&"x,".repeat(MOST_PREFERENCES + 1)]), None);
        assert_eq!(preferences(&[&"x".repeat(17)]), None);
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
