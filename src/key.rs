//! Cache keys: framed parts, a 128-bit hash of them, and the full key to compare on read.
//!
//! A key is a sequence of parts, each written as its length (`u32`, big endian) and its bytes, so that `{"a", "bc"}`
//! and `{"ab", "c"}` never meet. It always starts with the bucket and the host; what follows comes from the policy or,
//! without one, is the URI as sent. The hash finds an entry, the full key decides whether it is the right one: a
//! collision is a miss, never someone else's page.

use std::fmt;

/// The parts that a policy chose, framed, ready to be appended to a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyParts {
    framed: Vec<u8>,
}

impl KeyParts {
    /// No parts, with room for this many bytes of parts and frames.
    pub fn with_capacity(bytes: usize) -> Self {
        KeyParts { framed: Vec::with_capacity(bytes) }
    }

    /// Appends one part.
    pub fn push(&mut self, part: &[u8]) {
        frame(&mut self.framed, part);
    }

    /// No part was pushed.
    pub fn is_empty(&self) -> bool {
        self.framed.is_empty()
    }

    /// The bytes pushed, with their frames.
    pub fn framed_len(&self) -> usize {
        self.framed.len()
    }

    /// The parts as text, for people; bytes that are not UTF-8 are replaced.
    pub fn to_strings(&self) -> Vec<String> {
        unframe(&self.framed)
    }
}

impl fmt::Debug for KeyParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.to_strings()).finish()
    }
}

impl<P: AsRef<[u8]>> FromIterator<P> for KeyParts {
    fn from_iter<I: IntoIterator<Item = P>>(parts: I) -> Self {
        let mut key = KeyParts::default();
        for part in parts {
            key.push(part.as_ref());
        }
        key
    }
}

/// The key of one resource: bucket, host, and what the policy or the URI says.
#[derive(Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    framed: Vec<u8>,
    hash: u128,
}

/// Marks where the rest of a key came from, so that a policy's parts can never spell the default key of another URI.
const FROM_URI: &[u8] = b"uri";
const FROM_POLICY: &[u8] = b"policy";

impl PrimaryKey {
    /// The default key: the URI as sent, scheme and query included. A page on `http` is often a redirect to the one on
    /// `https`; sharing an entry would make that redirect lead to itself.
    pub fn from_uri(bucket: &str, host: &str, scheme: &str, path_and_query: &str) -> Self {
        let mut framed = head(bucket, host, FROM_URI, scheme.len() + path_and_query.len() + 8);
        frame(&mut framed, scheme.as_bytes());
        frame(&mut framed, path_and_query.as_bytes());
        Self::seal(framed)
    }

    /// The key that a policy chose.
    pub fn from_parts(bucket: &str, host: &str, parts: &KeyParts) -> Self {
        let mut framed = head(bucket, host, FROM_POLICY, parts.framed.len());
        framed.extend_from_slice(&parts.framed);
        Self::seal(framed)
    }

    fn seal(framed: Vec<u8>) -> Self {
        let hash = hash_of(&framed);
        PrimaryKey { framed, hash }
    }

    /// The full key, to be stored beside the entry and compared on read.
    pub fn as_bytes(&self) -> &[u8] {
        &self.framed
    }

    /// The full key, owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.framed
    }

    /// The hash that finds an entry.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// The parts for people: bucket, host, and the rest.
    pub fn to_strings(&self) -> Vec<String> {
        let mut parts = unframe(&self.framed);
        if parts.len() > 2 {
            parts.remove(2);
        }
        parts
    }
}

impl fmt::Debug for PrimaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x} {:?}", self.hash, self.to_strings())
    }
}

/// The hash of a full key.
pub fn hash_of(key: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(key)
}

/// The bucket in a full key; nothing if that is none.
pub fn bucket_of(key: &[u8]) -> &[u8] {
    let framed = key.split_first_chunk::<4>();
    framed.and_then(|(length, rest)| rest.get(..u32::from_be_bytes(*length) as usize)).unwrap_or_default()
}

fn head(bucket: &str, host: &str, origin: &[u8], rest: usize) -> Vec<u8> {
    let mut framed = Vec::with_capacity(12 + bucket.len() + host.len() + origin.len() + rest);
    frame(&mut framed, bucket.as_bytes());
    frame(&mut framed, host.as_bytes());
    frame(&mut framed, origin);
    framed
}

fn frame(out: &mut Vec<u8>, part: &[u8]) {
    // A part is a piece of a request whose head is limited to far less than 4 GiB.
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(part);
}

fn unframe(mut framed: &[u8]) -> Vec<String> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = framed.split_first_chunk::<4>() {
        let length = (u32::from_be_bytes(*length) as usize).min(rest.len());
        let (part, rest) = rest.split_at(length);
        parts.push(String::from_utf8_lossy(part).into_owned());
        framed = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_framed_so_that_their_borders_count() {
        let one = PrimaryKey::from_parts("b", "h", &["a", "bc"].into_iter().collect());
        let two = PrimaryKey::from_parts("b", "h", &["ab", "c"].into_iter().collect());
        assert_ne!(one.as_bytes(), two.as_bytes());
        assert_ne!(one.hash(), two.hash());
    }

    #[test]
    fn bucket_host_and_scheme_count() {
        let uri = "/a?b=1";
        let keys = [
            PrimaryKey::from_uri("b1", "h1", "http", uri),
            PrimaryKey::from_uri("b1", "h2", "http", uri),
            PrimaryKey::from_uri("b2", "h1", "http", uri),
            PrimaryKey::from_uri("b1h", "1", "http", uri),
            PrimaryKey::from_uri("b1", "h1", "https", uri),
        ];
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[i + 1..] {
                assert_ne!(a.hash(), b.hash());
            }
        }
    }

    #[test]
    fn a_policy_cannot_spell_the_default_key_of_another_uri() {
        let uri = PrimaryKey::from_uri("b", "h", "http", "/x");
        let policy = PrimaryKey::from_parts("b", "h", &["http", "/x"].into_iter().collect());
        assert_ne!(uri.as_bytes(), policy.as_bytes());
    }

    #[test]
    fn parts_read_back_for_people() {
        let key = PrimaryKey::from_parts("media", "img", &["/a", "w=1"].into_iter().collect());
        assert_eq!(key.to_strings(), ["media", "img", "/a", "w=1"]);
        assert_eq!(bucket_of(key.as_bytes()), b"media");
        assert_eq!(bucket_of(b"\xff\xff\xff\xff"), b"");
    }
}
