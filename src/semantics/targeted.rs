//! `CDN-Cache-Control`: RFC 9213, a dictionary of structured fields (RFC 9651 section 3.2).
//!
//! The parser is strict, because the standard says that a field with an error is to be ignored whole, and it keeps only
//! what the directives need: numbers, flags and names of fields.

use super::cache_control::{CacheControl, Scope};
use super::directives::MAX_SECONDS;
use http::{HeaderMap, HeaderName};

/// `CDN-Cache-Control`
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The directives of `CDN-Cache-Control`; `None` if it is absent, empty or invalid (RFC 9213 section 2.1).
///
/// A known directive with a value of the wrong type makes the field invalid, too: section 2.1 asks not to consume it,
/// and falling back to `Cache-Control` as a whole is safer than keeping half of a field.
pub fn cdn_cache_control(response: &HeaderMap) -> Option<CacheControl> {
    let mut lines = response.get_all(&CDN_CACHE_CONTROL).iter();
    let first = lines.next()?;
    let mut joined = Vec::new();
    let mut text = first.as_bytes();
    // Lines of one field are joined before they are parsed (RFC 9651 section 4.2); there is hardly ever a second one.
    for line in lines {
        if joined.is_empty() {
            joined.extend_from_slice(first.as_bytes());
        }
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    if !joined.is_empty() {
        text = &joined;
    }
    let mut control = CacheControl::default();
    let mut members = 0_usize;
    Parser { rest: text }.dictionary(|key, value| {
        members += 1;
        set(&mut control, key, value)
    })?;
    (members > 0).then_some(control)
}

/// Whether a text is a list of structured fields whose members are strings or tokens, such as `Cache-Status` (RFC 9651
/// section 4.2.1, RFC 9211 section 2). An empty list is one as well.
pub(super) fn is_list_of_names(text: &[u8]) -> bool {
    Parser { rest: text }.list_of_names().is_some()
}

/// Takes one member over; the last of two with the same key wins (RFC 9651 section 3.2). `None`: wrong type.
fn set(control: &mut CacheControl, key: &[u8], value: Item<'_>) -> Option<()> {
    match key {
        b"max-age" => control.max_age = Some(value.seconds()?),
        b"s-maxage" => control.s_maxage = Some(value.seconds()?),
        b"stale-while-revalidate" => control.stale_while_revalidate = Some(value.seconds()?),
        b"stale-if-error" => control.stale_if_error = Some(value.seconds()?),
        b"no-store" => control.no_store = value.flag()?,
        b"no-cache" => control.no_cache = value.scope()?,
        b"private" => control.private = value.scope()?,
        b"public" => control.public = value.flag()?,
        b"must-revalidate" => control.must_revalidate = value.flag()?,
        b"proxy-revalidate" => control.proxy_revalidate = value.flag()?,
        b"must-understand" => control.must_understand = value.flag()?,
        b"no-transform" => control.no_transform = value.flag()?,
        b"immutable" => control.immutable = value.flag()?,
        _ => {}
    }
    Some(())
}

/// A value, as far as directives care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item<'a> {
    Integer(i64),
    /// Between the quotes, escapes left in.
    String(&'a [u8]),
    Boolean(bool),
    /// Decimal, token, bytes, date, display string or inner list: valid, but no directive that we know has one.
    Other,
}

impl Item<'_> {
    fn seconds(self) -> Option<u32> {
        let Item::Integer(number) = self else { return None };
        // A negative number has the right type and makes no sense: stale, as in `Cache-Control`.
        Some(u32::try_from(number.clamp(0, i64::from(MAX_SECONDS))).unwrap_or(MAX_SECONDS))
    }

    fn flag(self) -> Option<bool> {
        (self == Item::Boolean(true)).then_some(true)
    }

    fn scope(self) -> Option<Scope> {
        match self {
            Item::Boolean(true) => Some(Scope::Response),
            Item::String(names) => Some(Scope::of_names(names)),
            _ => None,
        }
    }
}

/// RFC 9651 section 4.2. `None` anywhere is an error of the whole field.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn dictionary(&mut self, mut member: impl FnMut(&'a [u8], Item<'a>) -> Option<()>) -> Option<()> {
        self.members(|parser| {
            let key = parser.key()?;
            let value = if parser.eat(b'=') { parser.member_value()? } else { Item::Boolean(true) };
            parser.parameters()?;
            member(key, value)
        })
    }

    fn list_of_names(&mut self) -> Option<()> {
        self.members(|parser| {
            if !matches!(parser.rest.first()?, b'"' | b'a'..=b'z' | b'A'..=b'Z' | b'*') {
                return None;
            }
            parser.bare_item()?;
            parser.parameters()
        })
    }

    /// What lists and dictionaries have in common: members between commas, and none after the last one.
    fn members(&mut self, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.skip(|byte| byte == b' ');
        while !self.rest.is_empty() {
            member(self)?;
            self.skip(|byte| matches!(byte, b' ' | b'\t'));
            if self.rest.is_empty() {
                break;
            }
            if !self.eat(b',') {
                // Trailing spaces were eaten above, so this is a neighbour without a comma.
                return None;
            }
            self.skip(|byte| matches!(byte, b' ' | b'\t'));
            if self.rest.is_empty() {
                return None;
            }
        }
        Some(())
    }

    fn member_value(&mut self) -> Option<Item<'a>> {
        if self.eat(b'(') { self.inner_list() } else { self.bare_item() }
    }

    fn inner_list(&mut self) -> Option<Item<'a>> {
        loop {
            self.skip(|byte| byte == b' ');
            if self.eat(b')') {
                return Some(Item::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.rest.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.skip(|byte| byte == b' ');
            self.key()?;
            if self.eat(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        if !matches!(self.rest.first()?, b'a'..=b'z' | b'*') {
            return None;
        }
        Some(self.take(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')))
    }

    fn bare_item(&mut self) -> Option<Item<'a>> {
        match self.rest.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'a'..=b'z' | b'A'..=b'Z' | b'*' => {
                self.take(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Some(Item::Other)
            }
            b'?' => {
                self.eat(b'?');
                if self.eat(b'1') { Some(Item::Boolean(true)) } else { self.eat(b'0').then_some(Item::Boolean(false)) }
            }
            b':' => {
                self.eat(b':');
                self.take(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
                self.eat(b':').then_some(Item::Other)
            }
            b'@' => {
                self.eat(b'@');
                matches!(self.number()?, Item::Integer(_)).then_some(Item::Other)
            }
            b'%' => {
                self.eat(b'%');
                self.string()?;
                Some(Item::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Item<'a>> {
        let negative = self.eat(b'-');
        let digits = self.take(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return None;
        }
        if self.eat(b'.') {
            let fraction = self.take(|byte| byte.is_ascii_digit());
            return (digits.len() <= 12 && (1..=3).contains(&fraction.len())).then_some(Item::Other);
        }
        if digits.len() > 15 {
            return None;
        }
        let number = digits.iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(Item::Integer(if negative { -number } else { number }))
    }

    fn string(&mut self) -> Option<Item<'a>> {
        let inside = self.rest.strip_prefix(b"\"")?;
        let mut bytes = inside.iter().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    let (text, rest) = inside.split_at_checked(at)?;
                    self.rest = rest.strip_prefix(b"\"")?;
                    return Some(Item::String(text));
                }
                b'\\' => match bytes.next()? {
                    (_, b'"' | b'\\') => {}
                    _ => return None,
                },
                0x20..=0x7e => {}
                _ => return None,
            }
        }
        None
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !wanted(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, b""));
        self.rest = rest;
        taken
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        self.take(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::headers;
    use super::*;

    fn parse(value: &str) -> Option<CacheControl> {
        cdn_cache_control(&headers(&[("cdn-cache-control", value)]))
    }

    // RFC 9213 section 2.1
    #[test]
    fn numbers_are_integers() {
        assert_eq!(parse("max-age=3600").unwrap().max_age, Some(3600));
        assert_eq!(parse("max-age=99999999999").unwrap().max_age, Some(MAX_SECONDS));
        assert_eq!(parse("max-age=-1").unwrap().max_age, Some(0));
        for value in ["max-age=1.5", "max-age=\"10\"", "max-age=abc", "max-age", "max-age=?1", "max-age=(1)"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn names_are_lower_case() {
        assert_eq!(parse("MaX-aGe=3600"), None);
    }

    #[test]
    fn unknown_members_of_any_type_are_ignored() {
        let value = "foobar, a=1.5, b=tok/en, c=:aGk=:, d=(1 \"x\";p=1 y), e=@12, f=%\"a%20b\", g=?0, max-age=5;p;q=1";
        assert_eq!(parse(value), Some(CacheControl { max_age: Some(5), ..CacheControl::default() }));
    }

    #[test]
    fn a_field_with_an_error_is_absent() {
        for value in [
            "",
            " ",
            "max-age=5,",
            "max-age=5 no-store",
            "max-age =5",
            "max-age= 5",
            ",max-age=5",
            "a=\"x",
            "a=?2",
            "a=1234567890123456",
            "a=(1",
            "a=1.",
            "a=1.2345",
            "a;=1",
            "a=\"\\x\"",
            "a=\u{e9}",
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
    }

    #[test]
    fn the_last_of_two_members_wins() {
        assert_eq!(parse("max-age=1, max-age=2").unwrap().max_age, Some(2));
    }

    #[test]
    fn lines_are_joined() {
        let control =
            cdn_cache_control(&headers(&[("cdn-cache-control", "max-age=1"), ("cdn-cache-control", "private")]));
        let control = control.unwrap();
        assert_eq!((control.max_age, control.private), (Some(1), Scope::Response));
    }

    #[test]
    fn fields_are_named_in_a_string() {
        assert_eq!(parse("private=\"set-cookie\"").unwrap().private.fields(), ["set-cookie"]);
        assert_eq!(parse("private=token"), None);
    }

    #[test]
    fn a_field_without_known_directives_is_still_a_field() {
        assert_eq!(parse("none"), Some(CacheControl::default()));
    }

    // RFC 9651 section 4.2.1
    #[test]
    fn a_list_of_names_has_strings_and_tokens() {
        for text in ["", "  ", "a", "a; hit", "a;hit;ttl=-5, \"b c\"; fwd=miss; detail=\"x, y\"", "*a/b:c"] {
            assert!(is_list_of_names(text.as_bytes()), "{text:?}");
        }
        for text in
            ["HIT from here", "a,", ",a", "a;;b", "1", "(a)", "a; detail=\"x", "a; Hit", "?1", "a; x=", "\u{e9}"]
        {
            assert!(!is_list_of_names(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        let alphabet = b"ab-=,\"\\ \t1;.()?:@%";
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..random.usize(0..30)).map(|_| alphabet[random.usize(0..alphabet.len())]).collect();
            Parser { rest: &text }.dictionary(|_, _| Some(()));
            is_list_of_names(&text);
        }
    }
}
