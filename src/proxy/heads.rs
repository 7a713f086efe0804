//! Decisions carried out on the framework's heads.

use crate::decide::{NotStored, Storing};
use crate::semantics::fields::{known_codings, remove_hop_by_hop};
use crate::semantics::range::{ByteRange, content_range, content_range_of_416};
use crate::semantics::update::update_stored;
use http::{HeaderMap, HeaderName, StatusCode, Version, header};
use pingora::cache::NoCacheReason;
use pingora::http::ResponseHeader;
use pingora::prelude::Result;
use pingora::proxy::MultiRangeInfo;
use std::time::SystemTime;

/// Takes off what concerns only the connection to the origin (RFC 9110 section 7.6.1), except what the framework reads
/// itself: how the body ends, and whether the connection becomes another one.
pub(super) fn strip_hop_by_hop(response: &mut ResponseHeader) {
    let mut kept = response.headers.clone();
    remove_hop_by_hop(&mut kept);
    // Neither has a body, nor says how long it is (RFC 9110 section 8.6, RFC 9112 section 6.1).
    let bodiless = response.status.is_informational() || response.status == StatusCode::NO_CONTENT;
    if bodiless {
        kept.remove(header::CONTENT_LENGTH);
    }
    if kept.len() == response.headers.len() {
        return;
    }
    let gone: Vec<HeaderName> = response.headers.keys().filter(|name| !kept.contains_key(*name)).cloned().collect();
    let switching = response.status == StatusCode::SWITCHING_PROTOCOLS;
    for name in gone {
        let framing = name == header::TRANSFER_ENCODING && !bodiless;
        let changing = (name == header::UPGRADE || name == header::CONNECTION) && switching;
        if !framing && !changing {
            response.remove_header(&name);
        }
    }
}

/// Forgets transfer codings that mean nothing, and a length that they outranked (RFC 9112 section 6.3).
pub(super) fn forget_unknown_codings(response: &mut ResponseHeader) {
    if response.version != Version::HTTP_11 {
        return;
    }
    let Some(known) = known_codings(&response.headers) else { return };
    response.remove_header(&header::CONTENT_LENGTH);
    match known {
        Some(chunked) => drop(response.insert_header(header::TRANSFER_ENCODING, chunked)),
        None => drop(response.remove_header(&header::TRANSFER_ENCODING)),
    }
}

/// Whether the body is what its transfer codings leave of it once the framework has read it. RFC 9112 section 6.3 says how
/// the end of any other body is found, so that it can be passed on with its codings to a client of HTTP/1.1; but what
/// is stored is sent without them. In HTTP/1.0 there are none, and one that claims to have some is faulty (section 6.1).
pub(super) fn is_decoded(response: &ResponseHeader) -> bool {
    let mut codings = response.headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let Some(coding) = codings.next() else { return true };
    codings.next().is_none()
        && coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
        && response.version == Version::HTTP_11
}

/// Makes a head one to be stored: without what must not be kept, and with what the policy varies on in its `Vary`.
pub(super) fn dress(storing: &Storing, head: &mut ResponseHeader) {
    for field in &storing.strip {
        head.remove_header(field);
    }
    if let Some(vary) = storing.vary_for(&head.headers) {
        let _ = head.insert_header(header::VARY, vary);
    }
}

/// Puts fields back that were not stored. What is stored is also what the client that caused the fetch is served from, and they
/// are its own.
pub(super) fn restore(own: &mut Vec<(HeaderName, http::HeaderValue)>, head: &mut ResponseHeader) {
    // Those that a policy had stored are there already.
    own.retain(|(name, _)| !head.headers.contains_key(name));
    for (name, value) in own.drain(..) {
        let _ = head.append_header(name, value);
    }
}

/// A head as it can be stored: without what concerns only the connection that it came on (RFC 9111 section 3.1), and without
/// the letter case of its field names, which nothing may depend on (RFC 9110 section 5.1) and which would cost a second
/// table in each entry and each hit.
pub(super) fn storable(head: &ResponseHeader) -> ResponseHeader {
    let mut fields = head.headers.clone();
    remove_hop_by_hop(&mut fields);
    plain(head, &fields)
}

/// A stored head, brought up to date by the fields of a 304 (RFC 9111 section 3.2).
pub(super) fn freshened(stored: &ResponseHeader, validated: &HeaderMap, received: SystemTime) -> ResponseHeader {
    plain(stored, &update_stored(&stored.headers, validated, received))
}

/// Status and version of `head` with these fields.
pub(super) fn plain(head: &ResponseHeader, fields: &HeaderMap) -> ResponseHeader {
    let Ok(mut plain) = ResponseHeader::build_no_case(head.status, Some(fields.len())) else { return head.clone() };
    plain.set_version(head.version);
    for (name, value) in fields {
        let _ = plain.append_header(name, value.clone());
    }
    plain
}

/// Makes a 200 the 206 with one part of it (RFC 9110 section 15.3.7.1).
pub(super) fn part(head: &mut ResponseHeader, range: ByteRange, length: u64) -> Result<()> {
    head.set_status(StatusCode::PARTIAL_CONTENT)?;
    head.remove_header(&header::ACCEPT_RANGES);
    head.insert_header(header::CONTENT_LENGTH, range.len())?;
    head.insert_header(header::CONTENT_RANGE, content_range(range, length))
}

/// Makes a 200 the 206 with several parts of it, which say themselves where they belong (RFC 9110 section 15.3.7.2).
pub(super) fn parts(head: &mut ResponseHeader, mut parts: MultiRangeInfo, length: u64) -> Result<MultiRangeInfo> {
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
        parts.set_content_type(kind.to_owned());
    }
    parts.set_total_length(length as usize);
    head.set_status(StatusCode::PARTIAL_CONTENT)?;
    head.remove_header(&header::ACCEPT_RANGES);
    head.remove_header(&header::CONTENT_RANGE);
    head.insert_header(header::CONTENT_LENGTH, parts.calculate_multipart_length())?;
    head.insert_header(header::CONTENT_TYPE, format!("multipart/byteranges; boundary={}", parts.boundary))?;
    Ok(parts)
}

/// Makes a 200 the 416 that says how much there is (RFC 9110 section 15.5.17). What describes the content of the 200, and how
/// long it is fresh, is not about this answer.
pub(super) fn no_such_part(head: &mut ResponseHeader, length: u64) -> Result<()> {
    head.set_status(StatusCode::RANGE_NOT_SATISFIABLE)?;
    for name in ABOUT_THE_CONTENT {
        head.remove_header(&name);
    }
    head.insert_header(header::CONTENT_LENGTH, 0)?;
    head.insert_header(header::CONTENT_RANGE, content_range_of_416(length))
}

const ABOUT_THE_CONTENT: [HeaderName; 9] = [
    header::ACCEPT_RANGES,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::TRANSFER_ENCODING,
];

/// Why a response is not stored, as the framework knows it.
pub(super) fn no_cache_reason(not_stored: &NotStored) -> NoCacheReason {
    match not_stored {
        NotStored::TooLarge => NoCacheReason::ResponseTooLarge,
        other => NoCacheReason::Custom(other.name()),
    }
}
