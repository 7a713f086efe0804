//! What entries are about, in a spelling in which URLs of purges find them.
//!
//! Host names lose their case, port and final dot, as they do in keys. Of a path and a query, escapes are compared by what
//! they mean: `%7E` is `~`, `%c3%a9` is `%C3%A9` is `é`. Nothing else is changed: to an origin `/a/../b` may be something else
//! than `/b`, and `?a&b` something else than `?b&a`.

use crate::semantics::target::host_of;
use std::fmt::Write;

/// Stands before the name of a bucket whose hosts share entries, in the place of a host: no host begins so.
const SHARED: char = '@';

/// What the request asked for that brought an entry in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    https: bool,
    /// Host, path and query.
    text: Box<str>,
}

impl Resource {
    /// `shared` is the bucket, if its hosts share entries.
    pub fn of(scheme: &str, host: &str, shared: Option<&str>, path_and_query: &str) -> Self {
        let mut text = String::with_capacity(host.len() + path_and_query.len() + 1);
        match shared {
            Some(bucket) => push_shared(&mut text, bucket),
            None => text.push_str(host),
        }
        push_normalised(&mut text, path_and_query);
        Resource { https: scheme == "https", text: text.into() }
    }

    /// What was stored elsewhere, put together again.
    pub fn from_stored(https: bool, text: &str) -> Self {
        Resource { https, text: text.into() }
    }

    /// Whether it was asked for by `https`.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Host, path and query.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A URL, or the beginning of one, that a purge names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `None`: either scheme.
    pub https: Option<bool>,
    /// Host in lower case, without a port.
    pub host: String,
    /// Path and query as they were given; at least `/`.
    pub path_and_query: String,
}

impl Address {
    /// Reads `[scheme://]host[:port][/path][?query]`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let given = text;
        let text = text.trim();
        let (https, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(false), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(true), rest),
            Some((scheme, _)) if !scheme.contains(['/', '?', '#', '.']) => {
                return Err(format!(
                    "{given:?}: nothing is stored for `{scheme}`; write http:// or https://, or neither"
                ));
            }
            _ => (None, text.strip_prefix("//").unwrap_or(text)),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let host = host_of(authority)
            .ok_or_else(|| format!("{given:?}: this names no valid host; write it as [http://]HOST/PATH"))?;
        let path_and_query =
            if path_and_query.starts_with('/') { path_and_query.to_owned() } else { format!("/{path_and_query}") };
        Ok(Address { https, host, path_and_query })
    }

    /// As [`Resource::text`], for an entry of this host, or of a bucket whose hosts share entries.
    pub fn text(&self, shared: Option<&str>) -> String {
        let https = if self.https == Some(true) { "https" } else { "http" };
        String::from(Resource::of(https, &self.host, shared, &self.path_and_query).text)
    }
}

fn push_shared(out: &mut String, bucket: &str) {
    out.push(SHARED);
    // A name that has a `/` must not look like another one with a path.
    out.extend(bucket.chars().map(|c| if c == '/' { '\0' } else { c }));
}

fn push_normalised(out: &mut String, path_and_query: &str) {
    let mut bytes = path_and_query.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        bytes = rest;
        let escaped = match rest {
            [high, low, after @ ..] if byte == b'%' => hex(*high).zip(hex(*low)).map(|(h, l)| (h << 4 | l, after)),
            _ => None,
        };
        if let Some((meant, after)) = escaped {
            bytes = after;
            if is_unreserved(meant) {
                out.push(meant.into());
            } else {
                push_escaped(out, meant);
            }
        } else if byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        {
            out.push(byte.into());
        } else {
            push_escaped(out, byte);
        }
    }
}

fn push_escaped(out: &mut String, byte: u8) {
    // A String can always be written to.
    let _ = write!(out, "%{byte:02X}");
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        Resource::of("http", "a.example", None, path).text().to_owned()
    }

    #[test]
    fn escapes_are_compared_by_what_they_mean() {
        for (one, other) in [
            ("/~u", "/%7Eu"),
            ("/caf\u{e9}", "/caf%c3%a9"),
            ("/a%2fb", "/a%2Fb"),
            ("/a b", "/a%20b"),
            ("/?x={1}", "/?x=%7b1%7D"),
        ] {
            assert_eq!(text(one), text(other), "{one} and {other}");
        }
        for (one, other) in [("/a%2fb", "/a/b"), ("/a%3Fb", "/a?b"), ("/%", "/%25"), ("/%zz", "/zz"), ("/A", "/a")] {
            assert_ne!(text(one), text(other), "{one} and {other}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_maybe_a_scheme() {
        for (given, https, host, path) in [
            ("http://A.Example:8080/x?y#z", Some(false), "a.example", "/x?y"),
            ("HTTPS://a.example.", Some(true), "a.example", "/"),
            ("a.example/x", None, "a.example", "/x"),
            ("//a.example?x", None, "a.example", "/?x"),
            ("a.example/?to=http://b.example/", None, "a.example", "/?to=http://b.example/"),
            ("http://[::1]:80/", Some(false), "::1", "/"),
        ] {
            let address = Address::parse(given).unwrap();
            assert_eq!((address.https, &*address.host, &*address.path_and_query), (https, host, path), "{given}");
        }
    }

    #[test]
    fn what_names_no_host_is_refused_in_words() {
        for given in ["", " ", "/path", "http://", "http:///x", "ftp://a/x", "a b/", "?x"] {
            let why = Address::parse(given).unwrap_err();
            assert!(why.starts_with(&format!("{given:?}: ")), "{why}");
        }
    }

    #[test]
    fn hosts_that_share_entries_share_their_resources() {
        let stored = Resource::of("http", "a.example", Some("media"), "/x");
        let address = Address::parse("http://b.example/x").unwrap();
        assert_eq!(address.text(Some("media")), stored.text());
        assert_ne!(address.text(None), stored.text());
        assert_ne!(address.text(Some("media/x")), Resource::of("http", "", Some("media"), "/x/x").text());
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        let alphabet = ["a", "/", ".", "?", "#", ":", "@", "[", "]", "%", "\u{e9}", "http://", " "];
        for _ in 0..20_000 {
            let given: String = (0..random.usize(0..12)).map(|_| alphabet[random.usize(0..alphabet.len())]).collect();
            if let Ok(address) = Address::parse(&given) {
                assert!(address.path_and_query.starts_with('/') && !address.host.is_empty(), "{given:?}");
                assert!(address.text(None).is_ascii(), "{given:?}");
            }
        }
    }
}
