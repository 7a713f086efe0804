//! What is stored: a parsed head, a body, and what was decided about them.

use super::disk::body::FileBody;
use super::disk::file::ReadFailure;
use super::disk::file::read::EntryFile;
use super::partial::{Filling, Parts};
use super::turns::Moment;
use crate::decide::Facts;
use crate::purge::Position;
use crate::semantics::combine::{combined_head, head_of_whole};
use crate::semantics::range::Spec;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pingora::cache::CacheMeta;
use pingora::http::ResponseHeader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Finds an entry: the hash of its key and, for a variant other than the first, the hash of its varying fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// Hash of the key.
    pub primary: u128,
    /// Hash of the values that the response varies on; `None` in the slot that every lookup starts from.
    pub variant: Option<u128>,
}

/// Head of a stored response: of what Pingora's metadata says, the part that [`Facts`] do not say.
#[derive(Debug)]
pub struct StoredHead {
    header: ResponseHeader,
    /// When this response, or the one that it replaced, was first stored: variants older than that belong to a response
    /// that was purged.
    since: SystemTime,
    variance: Option<[u8; 16]>,
    /// The part that it announces; `None` is the whole. Boxed, because most are, and all take the place.
    filling: Option<Box<Filling>>,
}

impl StoredHead {
    /// Copies what is to be kept.
    pub fn of(meta: &CacheMeta) -> Self {
        StoredHead {
            header: meta.response_header_copy(),
            since: meta.provenance(),
            variance: meta.variance(),
            filling: meta.extensions().get::<Filling>().copied().map(Box::new),
        }
    }

    /// The same response in the same place with a new head and new freshness.
    pub fn renewed(&self, meta: &CacheMeta) -> Self {
        StoredHead { since: self.since, variance: self.variance, ..StoredHead::of(meta) }
    }

    /// What was stored elsewhere, put together again: the head of a whole response, stored at `since`.
    pub fn from_parts(header: ResponseHeader, since: SystemTime, variance: Option<[u8; 16]>) -> Self {
        StoredHead { header, since, variance, filling: None }
    }

    /// When this response, or the one that it replaced, was first stored.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Status and fields.
    pub fn response(&self) -> &ResponseHeader {
        &self.header
    }

    /// As Pingora wants it.
    pub fn to_meta(&self, facts: &Facts) -> CacheMeta {
        let mut meta = metadata(self.header.clone(), self.since, facts);
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
        }
        meta
    }

    /// The fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.header.headers
    }

    /// The hash of the request's values that it varies on.
    pub fn variance(&self) -> Option<[u8; 16]> {
        self.variance
    }

    /// The part that it announces; `None` is the whole.
    pub fn filling(&self) -> Option<&Filling> {
        self.filling.as_deref()
    }

    /// Whether its fill answers a request that would ask the origin for this part, or for the whole.
    pub fn answers(&self, wanted: Option<Spec>) -> bool {
        self.filling().is_none_or(|filling| wanted.is_some() && filling.asked == wanted)
    }

    /// The head that the whole would have had.
    pub fn of_whole(&self, complete: u64) -> StoredHead {
        self.with_fields(&head_of_whole(self.headers(), complete))
    }

    /// This one after a part came with the head `new`, which says how long both are fresh.
    pub fn combined(&self, new: &StoredHead, complete: u64, now: SystemTime) -> StoredHead {
        new.with_fields(&combined_head(self.headers(), new.headers(), complete, now))
    }

    fn with_fields(&self, fields: &HeaderMap) -> StoredHead {
        let header = match ResponseHeader::build_no_case(StatusCode::OK, Some(fields.len())) {
            Ok(mut header) => {
                header.set_version(self.header.version);
                for (name, value) in fields {
                    let _ = header.append_header(name, value.clone());
                }
                header
            }
            Err(_) => self.header.clone(),
        };
        StoredHead { header, since: self.since, variance: self.variance, filling: None }
    }
}

/// What Pingora is told of a response that was first stored at `since`.
///
/// How long a stale response may stand in for the origin is asked of us each time; Pingora would not ask without a window
/// that is open.
pub fn metadata(header: ResponseHeader, since: SystemTime, facts: &Facts) -> CacheMeta {
    let freshness = &facts.freshness;
    let behind = whole_seconds(freshness.window_while_revalidate());
    let mut meta = CacheMeta::new(freshness.fresh_until(), since, behind, u32::MAX, header);
    meta.set_epoch_override(freshness.epoch());
    meta
}

/// Rounded up: how much of it is open is asked of us in the end.
fn whole_seconds(window: Duration) -> u32 {
    u32::try_from(window.as_secs() + u64::from(window.subsec_nanos() > 0)).unwrap_or(u32::MAX)
}

/// The content of an entry.
#[derive(Debug, Clone)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// Some parts; or all of it, in several places, until it is written in one.
    Parts(Parts),
    /// All of it, in a file.
    File(Arc<FileBody>),
}

impl Body {
    /// Bytes that are here.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        match self {
            Body::Whole(bytes) => bytes.len(),
            Body::Parts(parts) => usize::try_from(parts.held()).unwrap_or(usize::MAX),
            // Nothing has a longer one than the addresses of this machine reach.
            Body::File(file) => usize::try_from(file.len()).unwrap_or(usize::MAX),
        }
    }

    /// Bytes of the whole.
    pub fn complete(&self) -> u64 {
        match self {
            Body::Whole(bytes) => bytes.len() as u64,
            Body::Parts(parts) => parts.complete(),
            Body::File(file) => file.len(),
        }
    }

    /// Bytes from `start` on, and none from `end` on: as many as are in one piece. `None`: there is no such byte here, or it
    /// has to be read.
    pub fn at(&self, start: u64, end: u64) -> Option<Bytes> {
        match self {
            Body::Whole(bytes) => slice(bytes, start, end),
            Body::Parts(parts) => parts.at(start, end),
            Body::File(_) => None,
        }
    }

    /// As [`Body::at`], and from its file if it has one.
    pub async fn read(&self, start: u64, end: u64) -> Result<Bytes, ReadError> {
        match self {
            Body::File(file) => Ok(file.read(start, end).await?),
            Body::Parts(parts) => parts.read(start, end).await,
            body => body.at(start, end).ok_or(ReadError::NotHere(start)),
        }
    }

    /// Whether some of it has to be read to have it.
    pub fn is_in_file(&self) -> bool {
        match self {
            Body::Whole(_) => false,
            Body::Parts(parts) => !parts.is_in_memory(),
            Body::File(_) => true,
        }
    }

    /// Whether some of it is in this file.
    pub(super) fn is_in(&self, file: &Arc<EntryFile>) -> bool {
        match self {
            Body::Whole(_) => false,
            Body::Parts(parts) => parts.is_in(file),
            Body::File(body) => Arc::ptr_eq(body.file(), file),
        }
    }

    /// The parts, if some are missing.
    pub fn incomplete(&self) -> Option<&Parts> {
        match self {
            Body::Parts(parts) if parts.missing().is_some() => Some(parts),
            Body::Whole(_) | Body::Parts(_) | Body::File(_) => None,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Body::Whole(bytes) => bytes.len(),
            Body::Parts(parts) => parts.weight(),
            Body::File(_) => 0,
        }
    }
}

/// Bytes of a body from `start` on, and none from `end` on; `None` if there are none.
pub(super) fn slice(body: &Bytes, start: u64, end: u64) -> Option<Bytes> {
    let start = usize::try_from(start).ok()?;
    let end = usize::try_from(end).map_or(body.len(), |end| end.min(body.len()));
    (start < end).then(|| body.slice(start..end))
}

/// Why a byte of a stored response cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Whoever judged the hit should have known which parts are here.
    #[error("byte {0} is not stored")]
    NotHere(u64),
    /// Its file.
    #[error(transparent)]
    File(#[from] ReadFailure),
}

/// A stored response, or parts of one under the head that the whole would have. Sealed by construction: only a fill that
/// ended as its framing promised becomes one.
#[derive(Debug)]
pub struct Entry {
    /// The full key, compared on every read.
    pub key: Box<[u8]>,
    /// Head and freshness, parsed.
    pub head: Arc<StoredHead>,
    /// The content.
    pub body: Body,
    /// What was decided about it.
    pub facts: Arc<Facts>,
    hits: AtomicU64,
    /// The latest purge that it was compared with and was not meant by.
    compared: AtomicU64,
    kept: Moment,
}

/// Bytes that an entry costs besides what [`Entry::weight`] can count: the `Arc`, Pingora's metadata, and moka's own
/// node, queue and hash table slots.
const FIXED_COST: usize = 640;

/// Bytes that one field of a parsed head costs besides its text: a bucket with its name and value handles, and its index.
const FIELD_COST: usize = 112;

impl Entry {
    /// A complete one.
    pub fn new(key: Box<[u8]>, head: Arc<StoredHead>, body: Bytes, facts: Arc<Facts>) -> Self {
        Entry::of(key, head, Body::Whole(body), facts)
    }

    /// Puts the pieces together.
    pub fn of(key: Box<[u8]>, head: Arc<StoredHead>, body: Body, facts: Arc<Facts>) -> Self {
        let compared = AtomicU64::new(facts.seen.to_bits());
        Entry { key, head, body, facts, hits: AtomicU64::new(0), compared, kept: Moment::default() }
    }

    /// The same entry with a new head, after the origin confirmed it.
    pub fn with_head(&self, head: Arc<StoredHead>, facts: Arc<Facts>) -> Self {
        Entry::of(self.key.clone(), head, self.body.clone(), facts).with_hits(self.hits())
    }

    /// The same, served so often already.
    #[must_use]
    pub fn with_hits(self, hits: u64) -> Self {
        Entry { hits: AtomicU64::new(hits), ..self }
    }

    /// The same, kept at that moment.
    #[must_use]
    pub(super) fn with_kept(self, kept: Moment) -> Self {
        Entry { kept, ..self }
    }

    /// When it was kept.
    pub(super) fn kept(&self) -> Moment {
        self.kept
    }

    /// How often it was served.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// The latest purge that is known not to mean it.
    pub(super) fn compared(&self) -> Position {
        Position::from_bits(self.compared.load(Ordering::Relaxed))
    }

    /// No purge up to this one means it.
    pub(super) fn set_compared(&self, until: Position) {
        self.compared.store(until.to_bits(), Ordering::Relaxed);
    }

    /// Counts one more hit, and says how many there were before.
    pub fn count_hit(&self) -> u64 {
        self.hits.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes of memory that it takes, so that a tier's capacity means real memory.
    pub fn weight(&self) -> usize {
        let head: usize =
            self.head.headers().iter().map(|(name, value)| FIELD_COST + name.as_str().len() + value.len()).sum();
        let tags: usize = self.facts.tags.iter().map(|tag| size_of::<String>() + tag.len()).sum();
        FIXED_COST + self.key.len() + head + tags + self.facts.resource.text().len() + self.body.weight()
    }
}
