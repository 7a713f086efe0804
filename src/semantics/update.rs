//! How a 304 or the answer to a `HEAD` changes a stored response: RFC 9111 sections 3.2, 4.3.4 and 4.3.5.

use super::conditional::EntityTag;
use super::fields::{self, HOP_BY_HOP};
use http::{HeaderMap, HeaderName, StatusCode, header};
use std::time::SystemTime;

/// Fields that describe the stored bytes. A 304 brings no bytes, so that they stay true (RFC 9111 section 3.2 names
/// `Content-Length`, and lets a cache keep fields that its stored content depends on).
const ABOUT_THE_BYTES: [HeaderName; 3] = [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE];

/// Whether a 304 is about the stored response that was asked about (RFC 9111 section 4.3.4). If not, it must not update
/// it: fetch the response again, without conditions.
///
/// The origin was asked about this one stored response, and so a 304 without any validator is about it. A 304 with a
/// strong tag must not update a response whose strong tag differs. There is one relaxation: where the stored tag is weak
/// and the two are equal but for that, the 304 is accepted, and the stored tag stays weak. Servers that compress on the
/// fly (nginx) weaken the tag of a 200 and forget to weaken that of the 304; refusing would fetch everything twice.
pub fn confirms(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    match (EntityTag::of(stored), EntityTag::of(not_modified)) {
        (Some(stored), Some(new)) if stored.is_strong() && new.is_strong() => stored.strong_eq(&new),
        (Some(stored), Some(new)) => stored.weak_eq(&new),
        (None, Some(_)) => false,
        (_, None) => same_if_received(stored, not_modified, &header::LAST_MODIFIED),
    }
}

/// The head of a stored response after a 304 that [`confirms`] it, or after a `HEAD` (RFC 9111 section 3.2).
///
/// Fields of the new head replace the stored ones of the same name, all lines at once, except fields of the connection
/// and those that describe the stored bytes. A stored `Age` belongs to the earlier response and goes; `received` stands
/// in for a missing `Date`, since without it the response would stay as old as it was.
pub fn update_stored(stored: &HeaderMap, new: &HeaderMap, received: SystemTime) -> HeaderMap {
    let nominated = fields::nominated(new).unwrap_or_default();
    let keeps_stored = |name: &HeaderName| {
        ABOUT_THE_BYTES.contains(name)
            || HOP_BY_HOP.contains(name)
            || nominated.contains(name)
            || (*name == header::ETAG && is_weaker(stored, new))
    };
    let mut updated = stored.clone();
    updated.remove(header::AGE);
    updated.remove(header::DATE);
    for name in new.keys().filter(|name| !keeps_stored(name)) {
        updated.remove(name);
        for value in new.get_all(name) {
            updated.append(name.clone(), value.clone());
        }
    }
    fields::ensure_date(&mut updated, received);
    updated
}

fn is_weaker(stored: &HeaderMap, new: &HeaderMap) -> bool {
    match (EntityTag::of(stored), EntityTag::of(new)) {
        (Some(stored), Some(new)) => !stored.is_strong() && new.is_strong(),
        _ => false,
    }
}

/// What the answer to a `HEAD` means for a stored response to `GET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadUpdate {
    /// It is still that response: this is its new head.
    Updated(HeaderMap),
    /// The origin has something else by now: what is stored is stale.
    Outdated,
    /// It says nothing about what is stored.
    Unrelated,
}

/// Compares the answer to a `HEAD` with a stored response to `GET` (RFC 9111 section 4.3.5). `stored_length` is the
/// length of the stored content, where it is known.
pub fn head_update(
    stored: &HeaderMap,
    stored_length: Option<u64>,
    status: StatusCode,
    head: &HeaderMap,
    received: SystemTime,
) -> HeadUpdate {
    if status != StatusCode::OK {
        return HeadUpdate::Unrelated;
    }
    // "have matching values for any received validator fields [...] and, if the HEAD response has a Content-Length
    // header field, the value of Content-Length matches that of the stored response"
    let same_validators =
        same_if_received(stored, head, &header::ETAG) && same_if_received(stored, head, &header::LAST_MODIFIED);
    let same_length = match head.get(header::CONTENT_LENGTH) {
        None => true,
        Some(length) => {
            let announced =
                std::str::from_utf8(length.as_bytes()).ok().and_then(|text| text.trim().parse::<u64>().ok());
            match stored_length {
                Some(known) => announced == Some(known),
                None => stored.get(header::CONTENT_LENGTH) == Some(length),
            }
        }
    };
    if same_validators && same_length {
        HeadUpdate::Updated(update_stored(stored, head, received))
    } else {
        HeadUpdate::Outdated
    }
}

fn same_if_received(stored: &HeaderMap, new: &HeaderMap, name: &HeaderName) -> bool {
    new.get(name).is_none_or(|value| stored.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, date_at, headers};
    use super::*;

    const MODIFIED: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

    fn confirms_with(stored: &[(&str, &str)], new: &[(&str, &str)]) -> bool {
        confirms(&headers(stored), &headers(new))
    }

    fn updated(stored: &[(&str, &str)], new: &[(&str, &str)]) -> HeaderMap {
        update_stored(&headers(stored), &headers(new), at(7))
    }

    // RFC 9111 section 4.3.4
    #[test]
    fn a_304_confirms_by_its_strong_tag() {
        assert!(confirms_with(&[("etag", "\"a\"")], &[("etag", "\"a\"")]));
        assert!(!confirms_with(&[("etag", "\"a\"")], &[("etag", "\"b\"")]));
        assert!(!confirms_with(&[("last-modified", MODIFIED)], &[("etag", "\"b\"")]));
    }

    #[test]
    fn a_304_confirms_by_its_weak_tag() {
        assert!(confirms_with(&[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")]));
        assert!(!confirms_with(&[("etag", "W/\"a\"")], &[("etag", "W/\"b\"")]));
    }

    #[test]
    fn a_304_confirms_by_its_date_where_it_has_no_tag() {
        assert!(confirms_with(&[("last-modified", MODIFIED), ("etag", "\"a\"")], &[("last-modified", MODIFIED)]));
        assert!(!confirms_with(&[("last-modified", MODIFIED)], &[("last-modified", &date_at(0))]));
    }

    #[test]
    fn a_304_without_validators_is_about_what_was_asked() {
        assert!(confirms_with(&[("etag", "\"a\"")], &[]));
        assert!(confirms_with(&[], &[]));
    }

    #[test]
    fn a_304_that_forgot_to_weaken_its_tag_confirms_and_leaves_the_tag_weak() {
        let (stored, new) = ([("etag", "W/\"a\"")], [("etag", "\"a\""), ("x", "1")]);
        assert!(confirms_with(&stored, &new));
        let updated = updated(&stored, &new);
        assert_eq!(updated["etag"], "W/\"a\"");
        assert_eq!(updated["x"], "1");
    }

    // RFC 9111 section 3.2
    #[test]
    fn new_fields_replace_stored_ones_and_others_stay() {
        let stored = [("cache-control", "max-age=1"), ("test", "a"), ("kept", "k"), ("content-type", "text/plain")];
        let new = [("cache-control", "max-age=3600"), ("test", "b"), ("added", "x"), ("content-type", "text/html")];
        let updated = updated(&stored, &new);
        for (name, value) in [
            ("cache-control", "max-age=3600"),
            ("test", "b"),
            ("added", "x"),
            ("kept", "k"),
            ("content-type", "text/html"),
        ] {
            assert_eq!(updated[name], value);
        }
    }

    #[test]
    fn all_lines_of_a_field_are_replaced() {
        let stored = [("set-cookie", "a=1"), ("set-cookie", "b=1")];
        let updated = updated(&stored, &[("set-cookie", "a=2"), ("set-cookie", "c=2")]);
        assert_eq!(updated.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=2", "c=2"]);
    }

    #[test]
    fn fields_about_the_bytes_and_the_connection_stay() {
        let stored = [("content-length", "5"), ("content-encoding", "gzip"), ("a", "1")];
        let new = [
            ("content-length", "10"),
            ("content-encoding", "br"),
            ("transfer-encoding", "chunked"),
            ("connection", "a"),
            ("a", "2"),
        ];
        let updated = updated(&stored, &new);
        assert_eq!(
            (&updated["content-length"], &updated["content-encoding"]),
            (&"5".parse().unwrap(), &"gzip".parse().unwrap())
        );
        assert_eq!(updated["a"], "1");
        assert!(!updated.contains_key("transfer-encoding") && !updated.contains_key("connection"));
    }

    #[test]
    fn the_updated_response_is_as_old_as_the_304() {
        let stored = [("age", "500"), ("date", MODIFIED)];
        assert!(!updated(&stored, &[]).contains_key("age"));
        assert_eq!(updated(&stored, &[])["date"], date_at(7).as_str());
        assert_eq!(updated(&stored, &[("age", "3"), ("date", &date_at(2))])["age"], "3");
        assert_eq!(updated(&stored, &[("date", &date_at(2))])["date"], date_at(2).as_str());
    }

    fn head(stored: &[(&str, &str)], length: Option<u64>, status: u16, new: &[(&str, &str)]) -> HeadUpdate {
        head_update(&headers(stored), length, StatusCode::from_u16(status).unwrap(), &headers(new), at(0))
    }

    // RFC 9111 section 4.3.5
    #[test]
    fn a_head_with_the_same_validators_and_length_updates() {
        let stored = [("etag", "\"a\""), ("x", "1"), ("kept", "k")];
        let HeadUpdate::Updated(new) =
            head(&stored, Some(5), 200, &[("etag", "\"a\""), ("content-length", "5"), ("x", "2")])
        else {
            panic!("no update")
        };
        assert_eq!((&new["x"], &new["kept"]), (&"2".parse().unwrap(), &"k".parse().unwrap()));
        assert!(matches!(head(&stored, None, 200, &[("x", "2")]), HeadUpdate::Updated(_)));
    }

    #[test]
    fn a_head_of_something_else_makes_the_stored_response_stale() {
        let stored = [("etag", "\"a\""), ("last-modified", MODIFIED)];
        assert_eq!(head(&stored, None, 200, &[("etag", "\"b\"")]), HeadUpdate::Outdated);
        assert_eq!(head(&stored, None, 200, &[("last-modified", &date_at(0))]), HeadUpdate::Outdated);
        assert_eq!(head(&stored, Some(5), 200, &[("content-length", "6")]), HeadUpdate::Outdated);
        assert_eq!(head(&stored, None, 200, &[("content-length", "6")]), HeadUpdate::Outdated);
    }

    #[test]
    fn only_a_200_says_something_about_the_stored_response() {
        assert_eq!(head(&[], None, 410, &[("x", "1")]), HeadUpdate::Unrelated);
    }
}
