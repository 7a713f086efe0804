//! Parts of a response: RFC 9110 section 14.

use super::conditional::EntityTag;
use super::date;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::time::{Duration, SystemTime};

/// Most parts that one request gets. Asking for more is answered with the whole response, which section 14.2 allows
/// for requests that would cost more than they save.
pub const MOST_PARTS: usize = 16;

/// A part: positions of its first and last byte, both included, so that it is never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Position of the first byte.
    pub first: u64,
    /// Position of the last byte.
    pub last: u64,
}

impl ByteRange {
    /// Number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "a part has at least one byte")]
    pub fn len(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// What a request wants of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    /// All of it: 200.
    Whole,
    /// One part: 206 with [`content_range`].
    Part(ByteRange),
    /// Several, in the order of the request: 206 with `multipart/byteranges`. Serving the whole is as right.
    Parts(Vec<ByteRange>),
    /// None that exists: 416 with [`content_range_of_416`].
    Unsatisfiable,
}

/// What a request wants of a stored 200 whose content has `length` bytes.
///
/// Only `GET` has ranges (section 14.2). Another unit, a broken `Range`, more than [`MOST_PARTS`] parts, or parts that
/// overlap are treated as if the field were absent. `If-Range` that does not hold asks for the whole (section 13.1.5).
pub fn requested(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    length: u64,
    now: SystemTime,
) -> Requested {
    if *method != Method::GET || status != StatusCode::OK || !request.contains_key(header::RANGE) {
        return Requested::Whole;
    }
    if !if_range_holds(request, stored, now) {
        return Requested::Whole;
    }
    let mut lines = request.get_all(header::RANGE).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => select(line.as_bytes(), length).unwrap_or(Requested::Whole),
        _ => Requested::Whole,
    }
}

/// `None`: not a valid range of bytes.
fn select(value: &[u8], length: u64) -> Option<Requested> {
    let mut found = Found::None;
    let mut count = 0_usize;
    for member in members(value)? {
        count += 1;
        if let Some(range) = Spec::parse(member)?.within(length) {
            found.add(range);
        }
    }
    match found {
        _ if count == 0 || count > MOST_PARTS => None,
        Found::None => Some(Requested::Unsatisfiable),
        Found::One(range) => Some(Requested::Part(range)),
        Found::Many(ranges) if overlap(&ranges) => None,
        Found::Many(ranges) => Some(Requested::Parts(ranges)),
    }
}

/// The members of a set of ranges of bytes.
fn members(value: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let (unit, set) = value.trim_ascii().split_at_checked(6)?;
    let members = set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    unit.eq_ignore_ascii_case(b"bytes=").then_some(members)
}

/// The common case, one part, does without a list.
enum Found {
    None,
    One(ByteRange),
    Many(Vec<ByteRange>),
}

impl Found {
    fn add(&mut self, range: ByteRange) {
        match self {
            Found::None => *self = Found::One(range),
            Found::One(first) => *self = Found::Many(vec![*first, range]),
            Found::Many(ranges) if ranges.len() <= MOST_PARTS => ranges.push(range),
            Found::Many(_) => {}
        }
    }
}

fn overlap(ranges: &[ByteRange]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.first);
    sorted.iter().zip(sorted.iter().skip(1)).any(|(earlier, later)| later.first <= earlier.last)
}

/// One member of `Range` (section 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spec {
    /// `5-9` or `5-`
    From(u64, Option<u64>),
    /// `-5`
    Last(u64),
}

impl std::fmt::Display for Spec {
    /// As the value of `Range`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Spec::From(first, Some(last)) => write!(f, "bytes={first}-{last}"),
            Spec::From(first, None) => write!(f, "bytes={first}-"),
            Spec::Last(bytes) => write!(f, "bytes=-{bytes}"),
        }
    }
}

/// The part to ask the origin for when nothing stored answers a request; `None` is the whole.
///
/// Several parts, a condition on them (`If-Range`), and `bytes=0-`, with which players begin, are answered from the whole.
pub fn forwarded(method: &Method, request: &HeaderMap) -> Option<Spec> {
    if *method != Method::GET || request.contains_key(header::IF_RANGE) {
        return None;
    }
    let mut lines = request.get_all(header::RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let mut members = members(line.as_bytes())?;
    let (Some(member), None) = (members.next(), members.next()) else { return None };
    Spec::parse(member).filter(|spec| *spec != Spec::From(0, None))
}

impl Spec {
    fn parse(member: &[u8]) -> Option<Self> {
        let dash = member.iter().position(|byte| *byte == b'-')?;
        let (first, last) = member.split_at_checked(dash)?;
        let last = last.strip_prefix(b"-")?;
        match (first, last) {
            (b"", last) => Some(Spec::Last(number(last)?)),
            (first, b"") => Some(Spec::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Spec::From(first, Some(last)))
            }
        }
    }

    /// The part of a content of `length` bytes; `None` if there is none.
    pub fn within(self, length: u64) -> Option<ByteRange> {
        let end = length.checked_sub(1)?;
        match self {
            Spec::From(first, _) if first > end => None,
            Spec::From(first, last) => Some(ByteRange { first, last: last.unwrap_or(end).min(end) }),
            Spec::Last(0) => None,
            Spec::Last(bytes) => Some(ByteRange { first: length.saturating_sub(bytes), last: end }),
        }
    }
}

/// Digits; a number too large to be one is the largest.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// RFC 9110 section 13.1.5: strong comparison of the tag, or exactly the stored `Last-Modified`, where that is a strong
/// validator: at least a second older than `Date` (section 8.8.2.2). Without `If-Range`, it holds.
fn if_range_holds(request: &HeaderMap, stored: &HeaderMap, now: SystemTime) -> bool {
    let mut lines = request.get_all(header::IF_RANGE).iter();
    let condition = match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(line), None) => line.as_bytes(),
        (Some(_), Some(_)) => return false,
    };
    let Some(date) = date::parse(condition, now) else {
        return EntityTag::parse(condition)
            .is_some_and(|presented| EntityTag::of(stored).is_some_and(|tag| tag.strong_eq(&presented)));
    };
    let stored_date = |name| stored.get(name).and_then(|value| date::parse(value.as_bytes(), now));
    match (stored_date(header::LAST_MODIFIED), stored_date(header::DATE)) {
        (Some(modified), Some(served)) => {
            modified == date && served.duration_since(modified).is_ok_and(|apart| apart >= Duration::from_secs(1))
        }
        _ => false,
    }
}

/// `Content-Range` of a 206 (section 14.4).
pub fn content_range(range: ByteRange, length: u64) -> HeaderValue {
    text(format!("bytes {}-{}/{length}", range.first, range.last))
}

/// `Content-Range` of a 416: how much there is (section 15.5.17).
pub fn content_range_of_416(length: u64) -> HeaderValue {
    text(format!("bytes */{length}"))
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

/// What several parts come in (section 14.6).
const MULTIPART: &[u8] = b"multipart/byteranges";

/// The part that a received 206 holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedPart {
    /// Which part.
    pub range: ByteRange,
    /// Length of the whole, if the origin knows it.
    pub complete: Option<u64>,
}

/// Reads a 206 with a single part. `None`: the response is malformed (sections 14.4 and 15.3.7), and neither to be
/// stored nor combined: no `Content-Range` or several, another unit, positions that make no sense, a
/// `Content-Length` that contradicts them, or a `Content-Range` for a `multipart/byteranges`, whose parts have their own.
pub fn received_part(response: &HeaderMap) -> Option<ReceivedPart> {
    let kind = response.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes()).unwrap_or_default();
    if kind.get(..MULTIPART.len()).is_some_and(|start| start.eq_ignore_ascii_case(MULTIPART)) {
        return None;
    }
    let mut lines = response.get_all(header::CONTENT_RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let (unit, rest) = line.as_bytes().trim_ascii().split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let slash = rest.iter().position(|byte| *byte == b'/')?;
    let (positions, complete) = rest.split_at_checked(slash)?;
    let complete = match complete.strip_prefix(b"/")? {
        b"*" => None,
        complete => Some(number(complete)?),
    };
    let Spec::From(first, Some(last)) = Spec::parse(positions)? else { return None };
    let range = ByteRange { first, last };
    let announced = match response.get(header::CONTENT_LENGTH) {
        Some(length) => Some(number(length.as_bytes().trim_ascii())?),
        None => None,
    };
    let fits = complete.is_none_or(|complete| last < complete) && announced.is_none_or(|bytes| bytes == range.len());
    fits.then_some(ReceivedPart { range, complete })
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
