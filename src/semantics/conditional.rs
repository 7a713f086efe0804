//! Validators and preconditions: RFC 9110 sections 8.8 and 13, RFC 9111 sections 4.3.1 and 4.3.2.
//!
//! `If-Match` and `If-Unmodified-Since` guard a change at the origin. RFC 9111 section 4.3.2 leaves them to it: a cache
//! does not evaluate them, and nothing here does.

use super::date;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::time::SystemTime;

/// An entity tag (RFC 9110 section 8.8.3), borrowed from a field.
///
/// What is not spelled as the grammar says (no quotes, `w/` in lower case) is kept as it is: equal only to the same
/// bytes, and never strong. Origins that send such tags get them back as they sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'a> {
    weak: bool,
    well_formed: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads the value of `ETag`; `None` if it is empty.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let value = value.trim_ascii();
        match well_formed(value) {
            Some((tag, b"")) => Some(tag),
            _ if value.is_empty() => None,
            _ => Some(EntityTag { weak: true, well_formed: false, opaque: value }),
        }
    }

    /// The tag of a stored or received response.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        EntityTag::parse(headers.get(header::ETAG)?.as_bytes())
    }

    /// Byte for byte the same representation is promised.
    pub fn is_strong(&self) -> bool {
        !self.weak
    }

    /// Weak comparison (section 8.8.3.2): for `If-None-Match`.
    pub fn weak_eq(&self, other: &EntityTag<'_>) -> bool {
        self.well_formed == other.well_formed && self.opaque == other.opaque
    }

    /// Strong comparison (section 8.8.3.2): for `If-Range` and for updates.
    pub fn strong_eq(&self, other: &EntityTag<'_>) -> bool {
        self.is_strong() && other.is_strong() && self.weak_eq(other)
    }
}

/// Reads a tag from the front of a text and returns what follows.
fn well_formed(text: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let inside = quoted.strip_prefix(b"\"")?;
    let end = inside.iter().position(|byte| *byte == b'"')?;
    let (opaque, after) = inside.split_at_checked(end)?;
    Some((EntityTag { weak, well_formed: true, opaque }, after.strip_prefix(b"\"")?))
}

/// The members of a list of tags. A comma inside quotes belongs to its tag.
struct TagList<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TagList<'a> {
    type Item = EntityTag<'a>;

    fn next(&mut self) -> Option<EntityTag<'a>> {
        let start = self.rest.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
        let (_, text) = self.rest.split_at_checked(start)?;
        if let Some((tag, rest)) = well_formed(text)
            && matches!(rest.trim_ascii_start().first(), None | Some(b','))
        {
            self.rest = rest;
            return Some(tag);
        }
        let end = text.iter().position(|byte| *byte == b',').unwrap_or(text.len());
        let (raw, rest) = text.split_at_checked(end)?;
        self.rest = rest;
        Some(EntityTag { weak: true, well_formed: false, opaque: raw.trim_ascii() })
    }
}

/// Whether the client already has what would be served, so that a 304 answers it (RFC 9111 section 4.3.2).
///
/// `If-None-Match` comes first; `If-Modified-Since` counts only without it (RFC 9110 section 13.2.2). A response without
/// `Last-Modified` is as old as its `Date`. Preconditions are for `GET` and `HEAD`, and for what would be a success
/// (RFC 9110 section 13.2.1).
pub fn not_modified(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    now: SystemTime,
) -> bool {
    if !(*method == Method::GET || *method == Method::HEAD) || !status.is_success() {
        return false;
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        return none_match_fails(request, stored);
    }
    let mut conditions = request.get_all(header::IF_MODIFIED_SINCE).iter();
    // The field is a singleton; one that came twice is no valid date and is ignored (RFC 9110 section 13.1.3).
    let (Some(condition), None) = (conditions.next(), conditions.next()) else { return false };
    let Some(since) = date::parse(condition.as_bytes(), now) else { return false };
    let Some(modified) = stored.get(header::LAST_MODIFIED).or_else(|| stored.get(header::DATE)) else { return false };
    // Clients send back what they got, so that there is hardly ever a second date to read.
    modified == condition || date::parse(modified.as_bytes(), now).is_some_and(|modified| modified <= since)
}

/// RFC 9110 section 13.1.2: `*` is there to fail as soon as anything is stored.
fn none_match_fails(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let tag = EntityTag::of(stored);
    request.get_all(header::IF_NONE_MATCH).iter().map(HeaderValue::as_bytes).any(|line| {
        line.trim_ascii() == b"*"
            || tag.is_some_and(|tag| TagList { rest: line }.any(|presented| presented.weak_eq(&tag)))
    })
}

/// Representation metadata that a 304 leaves out, because the client has it (RFC 9110 section 15.4.5).
static NOT_IN_304: [HeaderName; 9] = [
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// The fields of the 200 that would be served that its 304 goes without (RFC 9110 section 15.4.5).
///
/// `Cache-Control`, `Content-Location`, `Date`, `ETag`, `Expires` and `Vary` must stay. So do fields that are not about
/// the representation: what a policy adds, or what a browser checks on every response (CORS). `Last-Modified` stays
/// only where there is no `ETag` to identify the representation.
pub fn not_in_304(response: &HeaderMap) -> impl Iterator<Item = &'static HeaderName> + use<> {
    let identified = response.contains_key(header::ETAG);
    NOT_IN_304.iter().chain(identified.then_some(&header::LAST_MODIFIED))
}

#[cfg(test)]
#[path = "conditional_tests.rs"]
mod tests;
