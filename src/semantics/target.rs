//! The resource that a request is about, and where references in a response point: RFC 9110 section 7.1, RFC 3986
//! section 5.

/// The target of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host, with a port if the client named one.
    pub authority: &'a str,
    /// Path and query as sent.
    pub path_and_query: &'a str,
}

/// Where a reference points, as far as a cache can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    authority: Authority,
    /// Path and query, dot segments removed.
    pub path_and_query: String,
}

impl Reference {
    /// Host and port are those of the target.
    ///
    /// The scheme is not compared, other than by the port that it stands for where the port is not its default: behind
    /// something that ends TLS, the target says `http` and the origin's references say `https`.
    pub fn is_same_host(&self, target: Target<'_>) -> bool {
        self.authority == Authority::of(target.scheme, target.authority)
    }

    /// It is the target itself.
    pub fn is_same_resource(&self, target: Target<'_>) -> bool {
        let target_path = if target.path_and_query.is_empty() { "/" } else { target.path_and_query };
        self.is_same_host(target) && self.path_and_query == target_path
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    host: String,
    /// `None` for the scheme's default.
    port: Option<String>,
}

impl Authority {
    fn of(scheme: &str, authority: &str) -> Self {
        let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        // The colons of an IPv6 address stand inside brackets.
        let (host, port) = match host_and_port.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (host_and_port, None),
        };
        let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
        let port = port.filter(|port| !port.is_empty() && *port != default).map(str::to_owned);
        Authority { host: host.to_ascii_lowercase(), port }
    }
}

impl<'a> Target<'a> {
    /// Resolves a URI reference against the target (RFC 3986 section 5.2). `None` if it is not one of `http`, or is
    /// not text.
    pub fn resolve(self, reference: &[u8]) -> Option<Reference> {
        let reference = std::str::from_utf8(reference.trim_ascii()).ok()?;
        let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
        let (scheme, rest) = match scheme(reference) {
            Some((scheme, rest)) if is_http(scheme) && rest.starts_with("//") => (Some(scheme), rest),
            Some(_) => return None,
            None => (None, reference),
        };
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at_checked(end)?;
                (Some(authority), rest)
            }
            None => (None, rest),
        };
        let authority = Authority::of(scheme.unwrap_or(self.scheme), authority.unwrap_or(self.authority));
        let has_own_authority = rest.len() != reference.len();
        let (path, query) = split_query(rest);
        let (base_path, base_query) = split_query(self.path_and_query);
        let (path, query) = if path.is_empty() && !has_own_authority {
            (base_path.to_owned(), query.or(base_query))
        } else if path.starts_with('/') || has_own_authority {
            (remove_dot_segments(path), query)
        } else {
            let folder = base_path.rfind('/').and_then(|slash| base_path.get(..=slash)).unwrap_or("/");
            (remove_dot_segments(&format!("{folder}{path}")), query)
        };
        let mut path_and_query = if path.is_empty() { "/".to_owned() } else { path };
        if let Some(query) = query {
            path_and_query.push('?');
            path_and_query.push_str(query);
        }
        Some(Reference { authority, path_and_query })
    }
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

fn scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let starts_well = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    (starts_well && is_scheme).then_some((scheme, rest))
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

/// RFC 3986 section 5.2.4
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').peekable();
    let absolute = path.starts_with('/');
    if absolute {
        segments.next();
    }
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // A path that ends in a dot segment names a folder.
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    let joined = kept.join("/");
    if absolute { format!("/{joined}") } else { joined }
}

/// The host of `host[:port]`, lower case, without the trailing dot of a full name.
pub fn host_of(authority: &str) -> Option<String> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (address, "") => (address, ""),
            (address, port) => (address, port.strip_prefix(':')?),
        },
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~:%!$&'()*+,;=".contains(&b);
    (!host.is_empty() && host.len() <= 255 && host.bytes().all(allowed)).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Target<'_> = Target { scheme: "http", authority: "a", path_and_query: "/b/c/d;p?q" };

    fn resolve(reference: &str) -> String {
        BASE.resolve(reference.as_bytes()).unwrap().path_and_query
    }

    // RFC 3986 section 5.4
    #[test]
    fn references_resolve_as_the_examples_of_the_standard() {
        for (reference, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            (";x", "/b/c/;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            ("..g", "/b/c/..g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("//a", "/"),
            ("http://a", "/"),
            ("http://a?x", "/?x"),
        ] {
            assert_eq!(resolve(reference), expected, "{reference}");
        }
    }

    #[test]
    fn hosts_are_compared_without_case_and_default_ports() {
        let same = |reference: &str| BASE.resolve(reference.as_bytes()).unwrap().is_same_host(BASE);
        assert!(same("/x"));
        assert!(same("//A/x"));
        assert!(same("http://a:80/x"));
        assert!(same("http://user@a:/x"));
        assert!(same("https://a/x"));
        assert!(same("https://a:443/x"));
        assert!(!same("http://b/x"));
        assert!(!same("http://a:8080/x"));
        assert!(!same("http://a.b/x"));
    }

    #[test]
    fn addresses_in_brackets_keep_their_colons() {
        let target = Target { scheme: "http", authority: "[::1]:8080", path_and_query: "/" };
        assert!(target.resolve(b"http://[::1]:8080/x").unwrap().is_same_host(target));
        assert!(!target.resolve(b"http://[::1]/x").unwrap().is_same_host(target));
    }

    #[test]
    fn other_schemes_are_none() {
        for reference in [&b"ftp://a/x"[..], b"mailto:x", b"http:x", b"\xff"] {
            assert_eq!(BASE.resolve(reference), None);
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(4);
        let alphabet = b"a/.?#:@[]%\xc3";
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..random.usize(0..20)).map(|_| alphabet[random.usize(0..alphabet.len())]).collect();
            if let Some(reference) = BASE.resolve(&text) {
                assert!(reference.path_and_query.starts_with('/'));
            }
        }
    }

    #[test]
    fn a_host_is_compared_without_port_case_and_trailing_dot() {
        for (authority, host) in [
            ("Example.COM", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("[::1]:80", "::1"),
            ("127.0.0.1:1", "127.0.0.1"),
        ] {
            assert_eq!(host_of(authority).as_deref(), Some(host), "{authority}");
        }
    }

    #[test]
    fn a_host_with_foreign_characters_is_refused() {
        for authority in ["", ":80", "a b", "a/b", "a\u{e9}", "[::1", "a:b", "a:80:80", "[::1]80", "[::1]:x"] {
            assert_eq!(host_of(authority), None, "{authority}");
        }
    }
}
