//! Parts of a response as stored responses: RFC 9111 sections 3.3 and 3.4.
//!
//! A part is kept under the head that the whole would have. Parts of which a strong validator says that they belong to the
//! same representation become one response; everything else is one instead of the other.

use super::conditional::EntityTag;
use super::date;
use super::range::{ByteRange, received_part};
use super::update::update_stored;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::cmp::Ordering;
use std::time::SystemTime;

/// A part that can be kept: where it belongs, and in how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPart {
    /// Which part.
    pub range: ByteRange,
    /// Length of the whole.
    pub complete: u64,
}

/// Whether a request is about a part, so that what answers it need not be about the whole.
pub fn asks_for_part(method: &Method, request: &HeaderMap) -> bool {
    *method == Method::GET && request.contains_key(header::RANGE)
}

/// The part that a response brings and that may be stored: asked for, well-formed, and of a known whole.
pub fn known_part(method: &Method, request: &HeaderMap, status: StatusCode, response: &HeaderMap) -> Option<KnownPart> {
    if status != StatusCode::PARTIAL_CONTENT || !asks_for_part(method, request) {
        return None;
    }
    let part = received_part(response)?;
    Some(KnownPart { range: part.range, complete: part.complete? })
}

/// The head that the whole would have had, of the head of one of its parts.
pub fn head_of_whole(part: &HeaderMap, complete: u64) -> HeaderMap {
    let mut head = part.clone();
    head.remove(header::CONTENT_RANGE);
    head.remove(header::TRANSFER_ENCODING);
    head.insert(header::CONTENT_LENGTH, HeaderValue::from(complete));
    head
}

/// The head of a stored response after a part of it came (section 3.4): the new fields replace the stored ones, except
/// those that describe the bytes.
pub fn combined_head(stored: &HeaderMap, part: &HeaderMap, complete: u64, received: SystemTime) -> HeaderMap {
    head_of_whole(&update_stored(stored, part, received), complete)
}

/// The tag of a response, if it can tell parts of this one from parts of another one.
pub fn strong_tag(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(header::ETAG).iter();
    let (Some(tag), None) = (lines.next(), lines.next()) else { return None };
    EntityTag::parse(tag.as_bytes()).filter(EntityTag::is_strong).map(|_| tag)
}

/// Whether both responses carry the same strong tag, so that their bytes belong together.
pub fn same_representation(one: &HeaderMap, other: &HeaderMap) -> bool {
    let tag = |headers| EntityTag::parse(strong_tag(headers)?.as_bytes());
    tag(one).zip(tag(other)).is_some_and(|(one, other)| one.strong_eq(&other))
}

/// What becomes of a stored response when a part comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combination {
    /// The two are parts of one, and the newer part has the newer head.
    Together,
    /// The two are parts of one, but this part was long on its way: the stored head is the newer one.
    Inside,
    /// The part takes its place.
    Instead,
    /// It is better than the part.
    Neither,
}

/// A stored response, or a part that came.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its head.
    pub headers: &'a HeaderMap,
    /// Length of the whole.
    pub complete: u64,
    /// All of it is there.
    pub whole: bool,
}

/// Compares a stored response with a part that came. A whole is given up only for what is newer.
pub fn combination(stored: Side<'_>, part: Side<'_>, now: SystemTime) -> Combination {
    let made = |side: Side<'_>| date::parse(side.headers.get(header::DATE)?.as_bytes(), now);
    let age = made(stored).zip(made(part)).map_or(Ordering::Less, |(stored, part)| stored.cmp(&part));
    if same_representation(stored.headers, part.headers) && stored.complete == part.complete {
        return if age == Ordering::Greater { Combination::Inside } else { Combination::Together };
    }
    match age {
        Ordering::Greater => Combination::Neither,
        Ordering::Equal if stored.whole => Combination::Neither,
        _ => Combination::Instead,
    }
}

#[cfg(test)]
#[path = "combine_tests.rs"]
mod tests;
