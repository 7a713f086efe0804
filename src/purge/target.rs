//! What a purge names, and what it is found by.

use super::resource::{Address, Resource};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// What kind of thing is named. The numbers are written to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One URL.
    Url = 1,
    /// A tag.
    Tag = 2,
    /// The beginning of URLs.
    Prefix = 3,
    /// A bucket.
    Bucket = 4,
    /// Everything.
    All = 5,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Kind; 5] = [Kind::Url, Kind::Tag, Kind::Prefix, Kind::Bucket, Kind::All];

    /// The one spelling, in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Url => "url",
            Kind::Tag => "tag",
            Kind::Prefix => "prefix",
            Kind::Bucket => "bucket",
            Kind::All => "all",
        }
    }

    /// The kind that a number on disk stands for.
    pub fn from_number(number: u8) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One thing that a purge names, as it is looked for: by the hash of its spelling. Two with one hash are taken for each other,
/// which costs a hit once in an eternity and serves nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// Bytes of a prefix, which have to be known to compare with it; 0 for the others.
    pub length: u32,
    /// Hash of kind, scheme and spelling.
    pub digest: u128,
}

impl Target {
    /// Everything.
    pub const ALL: Target = Target { kind: Kind::All, length: 0, digest: 0 };

    /// Bytes of [`Target::to_bytes`].
    pub const BYTES: usize = 21;

    /// As it is written to disk, and told to other nodes: kind, length, digest, little endian.
    pub fn to_bytes(self) -> [u8; Target::BYTES] {
        let mut bytes = [0; Target::BYTES];
        let (kind, rest) = bytes.split_at_mut(1);
        let (length, digest) = rest.split_at_mut(4);
        kind.fill(self.kind as u8);
        length.copy_from_slice(&self.length.to_le_bytes());
        digest.copy_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    /// What [`Target::to_bytes`] gave; `None` if it is of a kind that is not known here.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (length, digest) = rest.split_first_chunk()?;
        Some(Target {
            kind: Kind::from_number(*kind)?,
            length: u32::from_le_bytes(*length),
            digest: u128::from_le_bytes(digest.try_into().ok()?),
        })
    }

    /// One URL, with the hosts that share entries as their bucket in `shared`.
    pub fn url(address: &Address, shared: Option<&str>) -> Self {
        Target { kind: Kind::Url, length: 0, digest: digest_of_url(address.https, &address.text(shared)) }
    }

    /// Every URL that begins so.
    pub fn prefix(address: &Address, shared: Option<&str>) -> Self {
        let text = address.text(shared);
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Target { kind: Kind::Prefix, length, digest: digest_of_prefix(address.https, text.as_bytes()) }
    }

    /// What has this tag.
    pub fn tag(tag: &str) -> Self {
        Target { kind: Kind::Tag, length: 0, digest: digest_of_tag(tag) }
    }

    /// What is in this bucket.
    pub fn bucket(name: &str) -> Self {
        Target { kind: Kind::Bucket, length: 0, digest: digest_of_bucket(name.as_bytes()) }
    }
}

fn digest(kind: Kind, https: Option<bool>, text: &[u8]) -> u128 {
    let scheme = match https {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    };
    xxh3_128_with_seed(text, kind as u64 | scheme << 8)
}

pub(super) fn digest_of_tag(tag: &str) -> u128 {
    digest(Kind::Tag, None, tag.as_bytes())
}

pub(super) fn digest_of_bucket(name: &[u8]) -> u128 {
    digest(Kind::Bucket, None, name)
}

fn digest_of_url(https: Option<bool>, text: &str) -> u128 {
    digest(Kind::Url, https, text.as_bytes())
}

fn digest_of_prefix(https: Option<bool>, text: &[u8]) -> u128 {
    digest(Kind::Prefix, https, text)
}

/// The digests of the purges of URLs that name a resource.
pub(super) fn digests_of(resource: &Resource) -> [u128; 2] {
    [None, Some(resource.is_https())].map(|https| digest_of_url(https, resource.text()))
}

/// The digests of the prefixes of that length that name a resource; `None` if it is shorter.
pub(super) fn digests_of_prefix(resource: &Resource, length: u32) -> Option<[u128; 2]> {
    let text = resource.text().as_bytes().get(..length as usize)?;
    Some([None, Some(resource.is_https())].map(|https| digest_of_prefix(https, text)))
}
