//! Which bucket serves a request.
//!
//! A bucket serves a request when one of its hosts and its path both match. Among those that do, the most exact host
//! wins: the host itself, then `*.suffix` with the longest suffix, then `*`. Among buckets with the same host pattern the
//! longest path wins. So a bucket for `*` takes what an exact host's buckets leave over.
//!
//! A path is a prefix that ends at a border of segments: `/api` matches `/api` and `/api/x` but not `/apix`; `/api/`
//! matches `/api/` and `/api/x` but not `/api`. It is compared as sent, nothing is decoded: what the origin sees is what
//! was matched.
//!
//! The tables are built once for a configuration; a lookup allocates nothing.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write;
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::{Bucket, HostPattern};

/// The longest name that DNS has, and room for brackets.
const LONGEST_HOST: usize = 256;

/// The buckets of a configuration, ready for lookups.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    exact: Hosts,
    /// Suffixes with their leading dot.
    suffix: Hosts,
    any: Paths,
}

type Hosts = HashMap<Box<str>, Paths, BuildHasherDefault<Fnv>>;

/// Path prefixes of one host pattern, the longest first.
#[derive(Debug, Clone, Default)]
struct Paths(Vec<(Box<str>, Arc<Bucket>)>);

impl Routes {
    /// Builds the tables.
    pub fn new(buckets: &[Arc<Bucket>]) -> Self {
        let mut routes = Routes::default();
        for bucket in buckets {
            for host in &bucket.hosts {
                let paths = match host {
                    HostPattern::Exact(host) => routes.exact.entry(host.as_str().into()).or_default(),
                    HostPattern::Suffix(suffix) => routes.suffix.entry(suffix.as_str().into()).or_default(),
                    HostPattern::Any => &mut routes.any,
                };
                paths.add(bucket);
            }
        }
        routes
    }

    /// The bucket that serves `host` and `path`.
    ///
    /// `host` is taken as the client sent it: case, port and a final dot do not count, and an IPv6 address may be in any
    /// spelling, with or without brackets. `path` is without the query.
    pub fn bucket_for(&self, host: &str, path: &str) -> Option<&Arc<Bucket>> {
        let mut buffer = [0; LONGEST_HOST];
        let Some(host) = canonical_host(host, &mut buffer) else { return self.any.find(path) };
        self.exact
            .get(host)
            .and_then(|paths| paths.find(path))
            .or_else(|| self.find_by_suffix(host, path))
            .or_else(|| self.any.find(path))
    }

    fn find_by_suffix(&self, host: &str, path: &str) -> Option<&Arc<Bucket>> {
        if self.suffix.is_empty() {
            return None;
        }
        // From the left, so the longest suffix comes first. A leading dot would be an empty label, not a subdomain.
        let dots = host.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
        dots.filter_map(|at| self.suffix.get(host.get(at..)?)).find_map(|paths| paths.find(path))
    }
}

impl Paths {
    fn add(&mut self, bucket: &Arc<Bucket>) {
        // Stable: of two equal prefixes, which a checked configuration does not have, the first in the file wins.
        let at = self.0.partition_point(|(prefix, _)| prefix.len() >= bucket.path.len());
        self.0.insert(at, (bucket.path.as_str().into(), bucket.clone()));
    }

    fn find(&self, path: &str) -> Option<&Arc<Bucket>> {
        self.0.iter().find(|(prefix, _)| starts_with_segments(path, prefix)).map(|(_, bucket)| bucket)
    }
}

fn starts_with_segments(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

/// Lower case, without port and final dot; IPv6 addresses in brackets and in the spelling of RFC 5952. `None`: no pattern
/// but `*` can match it.
fn canonical_host<'b>(host: &str, buffer: &'b mut [u8; LONGEST_HOST]) -> Option<&'b str> {
    let address = match host.strip_prefix('[') {
        Some(rest) => Some(rest.split_once(']')?.0),
        // More than one colon cannot be a port.
        None => (host.bytes().filter(|byte| *byte == b':').count() > 1).then_some(host),
    };
    let length = if let Some(address) = address {
        let address: Ipv6Addr = address.parse().ok()?;
        let mut rest = buffer.as_mut_slice();
        write!(rest, "[{address}]").ok()?;
        let left = rest.len();
        LONGEST_HOST - left
    } else {
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        let name = name.strip_suffix('.').unwrap_or(name);
        let target = buffer.get_mut(..name.len())?;
        target.copy_from_slice(name.as_bytes());
        target.make_ascii_lowercase();
        name.len()
    };
    std::str::from_utf8(buffer.get(..length)?).ok()
}

/// Reads `img.example.com`, `*.example.com`, `*` or an address. The error is what is wrong and what to write.
pub(super) fn parse_host_pattern(text: &str) -> Result<HostPattern, (String, String)> {
    let example = "write one such as `img.example.com`, `*.example.com` or `*`";
    let bad = || (format!("`{text}` is not a host pattern"), example.to_owned());
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or(rest);
        return Err((format!("`{text}` has a scheme"), format!("write `{host}`")));
    }
    if text.contains('/') {
        return Err((format!("`{text}` has a path"), "put it in `path`".to_owned()));
    }
    let is_address = text.starts_with('[') || text.matches(':').count() > 1;
    if let (false, Some((host, _))) = (is_address, text.split_once(':')) {
        return Err((format!("`{text}` has a port, which does not count"), format!("write `{host}`")));
    }
    if !text.is_ascii() {
        return Err((format!("`{text}` is not ASCII"), "write it as browsers send it, as `xn--…`".to_owned()));
    }
    let (wildcard, name) = match text.strip_prefix('*') {
        Some(rest) => (true, rest.strip_prefix('.').ok_or_else(bad)?),
        None => (false, text),
    };
    if name.contains('*') {
        return Err((
            format!("`{text}` has a `*` in its middle"),
            "a `*` stands alone or for the first labels: `*.example.com`".to_owned(),
        ));
    }
    let mut buffer = [0; LONGEST_HOST];
    let canonical = canonical_host(name, &mut buffer).ok_or_else(bad)?;
    let good = |label: &str| {
        let c = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.len() <= 63 && label.chars().all(c)
    };
    let whole = text.starts_with('[') == text.ends_with(']');
    match (wildcard, is_address) {
        (false, true) if whole => Ok(HostPattern::Exact(canonical.to_owned())),
        (true, false) if canonical.split('.').all(good) => Ok(HostPattern::Suffix(format!(".{canonical}"))),
        (false, false) if canonical.split('.').all(good) => Ok(HostPattern::Exact(canonical.to_owned())),
        _ => Err(bad()),
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Suffix(suffix) => write!(f, "*{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

/// FNV-1a. Clients can only look keys up, never add them, so the hash needs speed on short names and no secret.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests;
