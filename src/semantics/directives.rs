//! The grammar that requests and responses share: comma-separated directives, each with an optional argument.
//!
//! The scanner is total and allocates nothing. Where the text breaks the grammar it errs towards finding more
//! directives: a `no-store` that follows a broken neighbour must still be seen.

use http::{HeaderMap, HeaderName};

/// What `delta-seconds` that do not fit are taken for (RFC 9111 section 1.2.2): 68 years.
pub const MAX_SECONDS: u32 = 1 << 31;

/// What follows a directive's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    /// Nothing.
    Absent,
    /// `=token`
    Token(&'a [u8]),
    /// `="quoted string"`, without the quotes; backslashes are left in.
    Quoted(&'a [u8]),
    /// Something that the grammar does not allow, such as spaces around `=`.
    Malformed,
}

impl<'a> Argument<'a> {
    /// The argument's text in either form (RFC 9111 section 5.2: both are to be accepted).
    pub(super) fn text(self) -> Option<&'a [u8]> {
        match self {
            Argument::Token(text) | Argument::Quoted(text) => Some(text),
            Argument::Absent | Argument::Malformed => None,
        }
    }

    /// The argument as seconds; `None` unless it is a number.
    pub(super) fn seconds(self) -> Option<u32> {
        self.text().and_then(delta_seconds)
    }
}

/// The directives of all lines of a field, in order.
pub(super) fn directives<'a>(
    headers: &'a HeaderMap,
    field: &HeaderName,
) -> impl Iterator<Item = (&'a [u8], Argument<'a>)> {
    headers.get_all(field).into_iter().flat_map(|line| Directives { rest: line.as_bytes() })
}

/// A non-negative number of seconds (RFC 9111 section 1.2.2); too large ones become [`MAX_SECONDS`].
pub(super) fn delta_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let mut seconds: u32 = 0;
    for byte in text {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        seconds = seconds.saturating_mul(10).saturating_add(digit).min(MAX_SECONDS);
    }
    Some(seconds)
}

struct Directives<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Directives<'a> {
    type Item = (&'a [u8], Argument<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
        let (_, text) = self.rest.split_at_checked(start)?;
        let end = text.iter().position(|byte| matches!(byte, b',' | b'=' | b' ' | b'\t')).unwrap_or(text.len());
        let (name, text) = text.split_at_checked(end)?;
        let (argument, rest) = match text.split_first() {
            Some((b'=', text)) => argument(text),
            _ => {
                let (tail, rest) = until_comma(text);
                (if tail.trim_ascii().is_empty() { Argument::Absent } else { Argument::Malformed }, rest)
            }
        };
        self.rest = rest;
        Some((name, argument))
    }
}

fn argument(text: &[u8]) -> (Argument<'_>, &[u8]) {
    if let Some((inner, after)) = quoted(text) {
        let (tail, rest) = until_comma(after);
        let argument = if tail.trim_ascii().is_empty() { Argument::Quoted(inner) } else { Argument::Malformed };
        return (argument, rest);
    }
    // Also the way of a quoted string that never ends: taking it for text brings what follows to light.
    let (tail, rest) = until_comma(text);
    let token = tail.trim_ascii_end();
    let broken = token.is_empty() || token.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'"'));
    (if broken { Argument::Malformed } else { Argument::Token(token) }, rest)
}

/// Splits `"inner"after`; `None` unless the text starts with a quoted string that ends.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = text.strip_prefix(b"\"")?;
    let mut escaped = false;
    let end = inside.iter().position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => *byte == b'"',
    })?;
    let (inner, after) = inside.split_at_checked(end)?;
    Some((inner, after.strip_prefix(b"\"")?))
}

fn until_comma(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b',').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, b""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Argument::{Absent, Malformed, Quoted, Token};

    fn scan(line: &str) -> Vec<(&str, Argument<'_>)> {
        Directives { rest: line.as_bytes() }
            .map(|(name, argument)| (std::str::from_utf8(name).unwrap(), argument))
            .collect()
    }

    // RFC 9111 section 5.2
    #[test]
    fn directives_are_separated_by_commas_and_space() {
        assert_eq!(scan("a, b ,\tc,,d"), [("a", Absent), ("b", Absent), ("c", Absent), ("d", Absent)]);
    }

    #[test]
    fn arguments_are_tokens_or_quoted_strings() {
        assert_eq!(scan("a=1, b=\"2, c=3\",d"), [("a", Token(b"1")), ("b", Quoted(b"2, c=3")), ("d", Absent)]);
    }

    #[test]
    fn escaped_quotes_do_not_end_a_string() {
        assert_eq!(scan(r#"a="x\", b", c"#), [("a", Quoted(br#"x\", b"#)), ("c", Absent)]);
    }

    #[test]
    fn space_around_the_equals_sign_is_malformed() {
        assert_eq!(scan("a =1, b= 2, c"), [("a", Malformed), ("b", Malformed), ("c", Absent)]);
    }

    #[test]
    fn a_string_without_end_hides_nothing() {
        assert_eq!(scan("a=\"x, no-store"), [("a", Malformed), ("no-store", Absent)]);
    }

    #[test]
    fn a_stray_quote_hides_nothing() {
        assert_eq!(
            scan("a\"b, no-store, c=d\"e, private"),
            [("a\"b", Absent), ("no-store", Absent), ("c", Malformed), ("private", Absent)]
        );
    }

    #[test]
    fn a_missing_comma_leaves_the_first_name() {
        assert_eq!(scan("private max-age=5"), [("private", Malformed)]);
    }

    // RFC 9111 section 1.2.2
    #[test]
    fn seconds_that_overflow_become_2_to_the_31() {
        assert_eq!(delta_seconds(b"2147483647"), Some(MAX_SECONDS - 1));
        assert_eq!(delta_seconds(b"2147483648"), Some(MAX_SECONDS));
        assert_eq!(delta_seconds(b"99999999999999999999999"), Some(MAX_SECONDS));
    }

    #[test]
    fn seconds_are_digits_and_nothing_else() {
        assert_eq!(delta_seconds(b"003600"), Some(3600));
        for text in [&b""[..], b"-1", b"+1", b"1.0", b"1a", b"a1", b"'1'", b" 1"] {
            assert_eq!(delta_seconds(text), None);
        }
    }

    #[test]
    fn random_bytes_never_panic_and_always_end() {
        let mut random = fastrand::Rng::with_seed(2);
        let alphabet = b"ab=,\"\\ \t1;\xff";
        for _ in 0..20_000 {
            let line: Vec<u8> = (0..random.usize(0..40)).map(|_| alphabet[random.usize(0..alphabet.len())]).collect();
            assert!(Directives { rest: &line }.count() <= line.len());
        }
    }
}
