//! Fields that belong to one connection, and fields that every intermediary adds: RFC 9110 sections 6.6.1, 7.6.1 and
//! 7.6.3, RFC 9111 section 3.1.

use super::surrogate::SURROGATE_CONTROL;
use super::targeted::{self, CDN_CACHE_CONTROL};
use super::{date, vary};
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use std::time::SystemTime;

/// `Cache-Status` (RFC 9211)
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Fields of one connection (RFC 9110 section 7.6.1) and of one proxy (sections 11.7.1 to 11.7.3). `Trailer` announces
/// fields that the framework reads past and does not forward, as RFC 9110 section 6.5.1 allows.
pub const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
];

/// Fields that `Connection` cannot take away: they are meant for every recipient, and a client or origin that nominates
/// them is mistaken or means harm (RFC 9110 section 7.6.1: never for fields "intended for all recipients").
const NEVER_NOMINATED: [HeaderName; 18] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    CDN_CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::HOST,
    header::LAST_MODIFIED,
    header::RANGE,
    header::SET_COOKIE,
    SURROGATE_CONTROL,
    header::VARY,
];

/// Removes the fields of one connection and those that `Connection` names, before a message is forwarded or stored.
///
/// Whoever handles `Upgrade` looks at it first. Ask [`super::storable::storable`] before this, with the message as it
/// came.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(nominated) = nominated(headers) {
        for name in nominated {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The fields that `Connection` names, less the ones that it may not name; `None` without a `Connection`.
pub(super) fn nominated(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    if !headers.contains_key(header::CONNECTION) {
        return None;
    }
    let names = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !NEVER_NOMINATED.contains(name))
        .collect();
    Some(names)
}

/// The fields that a request's `Connection` takes away; `None` if it names nothing beyond the connection's own end.
///
/// They are taken away before anything is decided, since the origin does not see them either: a key made of a field that
/// the origin never saw would store the answer to another question.
pub fn nominated_in_request(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let plain = |line: &HeaderValue| {
        let line = line.as_bytes();
        [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|option| line.eq_ignore_ascii_case(option))
    };
    if headers.get_all(header::CONNECTION).iter().all(plain) {
        return None;
    }
    let mut names = nominated(headers).unwrap_or_default();
    names.retain(|name| {
        // Whoever sends a request on must not lose who sent it, nor the framework how it ends and what it is to become.
        let origin = name.as_str().starts_with("x-forwarded-") || name == header::FORWARDED;
        !origin && ![header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE].contains(name)
    });
    Some(names)
}

/// `Via` with this proxy at its end (RFC 9110 section 7.6.3); `version` is that of the message as received. `None` if what
/// was there before cannot be kept.
pub fn via(headers: &HeaderMap, version: Version, pseudonym: &str) -> Option<HeaderValue> {
    let version = match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    append_to_list(headers, &header::VIA, format!("{version} {pseudonym}").as_bytes())
}

/// A field that is a list, all its lines joined, with one more member at its end.
pub fn append_to_list(headers: &HeaderMap, name: &HeaderName, member: &[u8]) -> Option<HeaderValue> {
    let mut value = Vec::new();
    vary::append_combined(headers, name, &mut value);
    // A line without members is none (RFC 9110 section 5.6.1.2).
    let members = value.trim_ascii_end().len();
    value.truncate(members);
    if !value.is_empty() {
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(member);
    HeaderValue::from_bytes(&value).ok()
}

/// `Cache-Status` with our member after those of the caches nearer to the origin (RFC 9211 section 2).
///
/// A structured field with an error is ignored whole (RFC 9651 section 4.2), ours with it. So what an origin sent that is
/// none, which no recipient could read either, gives way.
pub fn cache_status_with(headers: &HeaderMap, ours: &str) -> Option<HeaderValue> {
    let mut theirs = Vec::new();
    if vary::append_combined(headers, &CACHE_STATUS, &mut theirs) && targeted::is_list_of_names(&theirs) {
        return append_to_list(headers, &CACHE_STATUS, ours.as_bytes());
    }
    HeaderValue::from_str(ours).ok()
}

/// `Content-Length`, where it is a number.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The one length that a repeated `Content-Length` stands for (RFC 9110 section 8.6), to take its place before the message is
/// stored or sent on; `None` if it is not repeated. That the values agree has been seen when the message was read.
pub fn single_length(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = lines.next()?.as_bytes();
    let repeated = lines.next().is_some() || first.contains(&b',');
    let length = first.split(|byte| *byte == b',').next()?.trim_ascii();
    HeaderValue::from_bytes(length).ok().filter(|_| repeated)
}

/// What is left of the transfer codings of a response without those that nobody has registered: `chunked`, or none at all;
/// `None` if they are to stay.
///
/// A cache that offers no coding in `TE` must not get any but `chunked` (RFC 9110 section 10.1.4). What comes under the name of
/// a registered one may be in it. Another name is noise before a body as it is, as it is to every browser; only where
/// the body ends depends on it (RFC 9112 section 6.3).
pub fn known_codings(headers: &HeaderMap) -> Option<Option<HeaderValue>> {
    const REGISTERED: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
    let lines = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let (mut chunked, mut unknown) = (false, false);
    for member in members.filter(|member| !member.is_empty()) {
        let name = member.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |coding: &[u8]| name.eq_ignore_ascii_case(coding);
        if chunked || REGISTERED.iter().any(|coding| is(coding)) || (is(b"chunked") && name.len() < member.len()) {
            return None;
        }
        chunked = is(b"chunked");
        unknown |= !chunked;
    }
    unknown.then(|| chunked.then(|| HeaderValue::from_static("chunked")))
}

/// Adds `Date` where it is missing (RFC 9110 section 6.6.1), with the time at which the message arrived.
pub fn ensure_date(headers: &mut HeaderMap, received: SystemTime) {
    if !headers.contains_key(header::DATE)
        && let Ok(value) = HeaderValue::from_str(&date::format(received))
    {
        headers.insert(header::DATE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, headers};
    use super::*;

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    // RFC 9110 section 7.6.1
    #[test]
    fn fields_of_the_connection_are_removed() {
        let mut fields = headers(&[
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authenticate", "x"),
            ("proxy-authentication-info", "x"),
            ("proxy-authorization", "x"),
            ("trailer", "x"),
            ("c", "3"),
        ]);
        remove_hop_by_hop(&mut fields);
        assert_eq!(names(&fields), ["c"]);
    }

    #[test]
    fn fields_that_connection_names_are_removed() {
        let mut fields =
            headers(&[("connection", "a, B"), ("connection", "D"), ("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
        remove_hop_by_hop(&mut fields);
        assert_eq!(names(&fields), ["c"]);
    }

    #[test]
    fn connection_cannot_take_away_what_is_for_everybody() {
        let mut fields =
            headers(&[("connection", "vary, cache-control"), ("vary", "x"), ("cache-control", "max-age=5")]);
        remove_hop_by_hop(&mut fields);
        assert_eq!(names(&fields), ["cache-control", "vary"]);
    }

    // RFC 9112 section 6.3
    #[test]
    fn a_coding_that_nobody_registered_is_no_coding() {
        let known = |codings: &str| {
            let known = known_codings(&headers(&[("transfer-encoding", codings)]));
            known.map(|left| left.map(|left| left.to_str().unwrap().to_owned()))
        };
        for noise in ["foo", "identity", "foo, bar", "x-foo;q=\"1\""] {
            assert_eq!(known(noise), Some(None), "{noise}");
        }
        for framed in ["foo, chunked", "foo,,Chunked ", "identity, chunked"] {
            assert_eq!(known(framed), Some(Some("chunked".to_owned())), "{framed}");
        }
        for kept in ["", "chunked", "GZIP", "gzip, chunked", "foo, gzip", "chunked, foo", "chunked;q=1", "deflate;x"] {
            assert_eq!(known(kept), None, "{kept}");
        }
    }

    // RFC 9110 section 7.6.3
    #[test]
    fn via_grows_at_its_end() {
        let fields = headers(&[("via", "1.0 a"), ("via", "1.1 b")]);
        assert_eq!(via(&fields, Version::HTTP_2, "tidegate").unwrap(), "1.0 a, 1.1 b, 2 tidegate");
        assert_eq!(via(&headers(&[]), Version::HTTP_11, "tidegate").unwrap(), "1.1 tidegate");
    }

    // RFC 9110 section 8.6
    #[test]
    fn a_repeated_length_is_one() {
        let single = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("content-length", *line)).collect();
            single_length(&headers(&lines)).map(|length| length.to_str().unwrap().to_owned())
        };
        assert_eq!((single(&[]), single(&["5"])), (None, None));
        assert_eq!((single(&["5", "5"]), single(&["5 , 5"])), (Some("5".to_owned()), Some("5".to_owned())));
    }

    // RFC 9211 section 2
    #[test]
    fn our_cache_status_stands_after_those_nearer_to_the_origin() {
        let with = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("cache-status", *line)).collect();
            cache_status_with(&headers(&lines), "ours; hit").unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(with(&[]), "ours; hit");
        assert_eq!(with(&["a; hit", "b; fwd=miss"]), "a; hit, b; fwd=miss, ours; hit");
        assert_eq!(with(&["a; hit, "]), "ours; hit", "a comma at the end is an error");
        assert_eq!(with(&["", " "]), "ours; hit", "no member");
        assert_eq!(with(&["HIT from cloud"]), "ours; hit");
        assert_eq!(with(&["a; hit", "b; detail=\"open"]), "ours; hit");
    }

    #[test]
    fn a_request_loses_what_its_connection_names() {
        let names = |value: &str| {
            let fields = headers(&[("connection", value)]);
            nominated_in_request(&fields).map(|names| names.iter().map(HeaderName::to_string).collect::<Vec<_>>())
        };
        assert_eq!((names("keep-alive"), names("Close"), names("Upgrade")), (None, None, None));
        let named = names("keep-alive, X-A,x-b ,, cache-control, Upgrade, host, x-forwarded-for").unwrap();
        assert_eq!(named, ["keep-alive", "x-a", "x-b"]);
    }

    // RFC 9110 section 6.6.1
    #[test]
    fn date_is_added_and_never_replaced() {
        let mut fields = headers(&[]);
        ensure_date(&mut fields, at(0));
        assert_eq!(fields["date"], "Thu, 01 Jan 2026 00:00:00 GMT");
        ensure_date(&mut fields, at(5));
        assert_eq!(fields["date"], "Thu, 01 Jan 2026 00:00:00 GMT");
    }
}
