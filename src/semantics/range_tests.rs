//! Tests of `range`.

use super::super::testing::{at, date_at, headers};
use super::*;

fn of(request: &[(&str, &str)], stored: &[(&str, &str)], length: u64) -> Requested {
    requested(&Method::GET, &headers(request), StatusCode::OK, &headers(stored), length, at(0))
}

fn range(value: &str, length: u64) -> Requested {
    of(&[("range", value)], &[], length)
}

fn part(first: u64, last: u64) -> Requested {
    Requested::Part(ByteRange { first, last })
}

// RFC 9110 section 14.1.2
#[test]
fn a_part_has_a_first_and_a_last_byte() {
    assert_eq!(range("bytes=0-1", 11), part(0, 1));
    assert_eq!(range("bytes=1-", 11), part(1, 10));
    assert_eq!(range("bytes=-1", 11), part(10, 10));
    assert_eq!(range("BYTES=0-0", 11), part(0, 0));
}

#[test]
fn a_part_ends_where_the_content_ends() {
    assert_eq!(range("bytes=5-99999999999999999999999", 11), part(5, 10));
    assert_eq!(range("bytes=-100", 11), part(0, 10));
}

#[test]
fn several_parts_keep_their_order() {
    let expected = vec![ByteRange { first: 5, last: 6 }, ByteRange { first: 0, last: 1 }];
    assert_eq!(range("bytes=5-6, 0-1,, 100-", 11), Requested::Parts(expected));
}

#[test]
fn the_one_part_of_several_that_exists_is_one_part() {
    assert_eq!(range("bytes=0-1, 100-200", 11), part(0, 1));
}

// RFC 9110 section 15.5.17
#[test]
fn parts_that_do_not_exist_are_unsatisfiable() {
    for (value, length) in [("bytes=11-", 11), ("bytes=-0", 11), ("bytes=0-", 0), ("bytes=-5", 0)] {
        assert_eq!(range(value, length), Requested::Unsatisfiable, "{value}");
    }
}

// RFC 9110 section 14.2
#[test]
fn what_is_no_range_of_bytes_is_ignored() {
    for value in
        ["bytes=", "bytes=x", "bytes=5-2", "bytes=--1", "bytes=1", "bytes=-", "items=0-1", "bytes 0-1", "0-1", ""]
    {
        assert_eq!(range(value, 11), Requested::Whole, "{value}");
    }
}

#[test]
fn costly_requests_get_the_whole() {
    let many: Vec<_> = (0..=MOST_PARTS).map(|i| format!("{0}-{0}", i * 10)).collect();
    assert_eq!(range(&format!("bytes={}", many.join(",")), 1000), Requested::Whole);
    assert_eq!(range("bytes=0-5, 3-9", 1000), Requested::Whole);
}

#[test]
fn a_range_is_for_get_and_for_a_200() {
    let request = headers(&[("range", "bytes=0-1")]);
    let ask = |method, status| requested(&method, &request, status, &HeaderMap::new(), 11, at(0));
    assert_eq!(ask(Method::HEAD, StatusCode::OK), Requested::Whole);
    assert_eq!(ask(Method::GET, StatusCode::NOT_FOUND), Requested::Whole);
}

#[test]
fn a_range_that_came_twice_is_ignored() {
    assert_eq!(of(&[("range", "bytes=0-1"), ("range", "bytes=2-3")], &[], 11), Requested::Whole);
}

// RFC 9110 section 13.1.5
#[test]
fn if_range_compares_tags_strongly() {
    let with = |condition, tag| of(&[("range", "bytes=0-1"), ("if-range", condition)], &[("etag", tag)], 11);
    assert_eq!(with("\"a\"", "\"a\""), part(0, 1));
    for (condition, tag) in
        [("\"b\"", "\"a\""), ("W/\"a\"", "W/\"a\""), ("\"a\"", "W/\"a\""), ("a", "a"), ("", "\"a\"")]
    {
        assert_eq!(with(condition, tag), Requested::Whole, "{condition} {tag}");
    }
}

#[test]
fn if_range_wants_exactly_the_date_of_a_strong_modification() {
    let with = |condition: i64, modified: i64| {
        let stored = [("last-modified", date_at(modified)), ("date", date_at(0))];
        let stored = stored.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>();
        of(&[("range", "bytes=0-1"), ("if-range", &date_at(condition))], &stored, 11)
    };
    assert_eq!(with(-100, -100), part(0, 1));
    assert_eq!(with(-99, -100), Requested::Whole);
    assert_eq!(with(0, 0), Requested::Whole);
}

// RFC 9110 section 14.4
#[test]
fn content_range_tells_part_and_whole() {
    let range = ByteRange { first: 4, last: 9 };
    assert_eq!(range.len(), 6);
    assert_eq!(content_range(range, 10), "bytes 4-9/10");
    assert_eq!(content_range_of_416(10), "bytes */10");
}

fn received(content_range: &str, content_length: Option<&str>) -> Option<ReceivedPart> {
    let mut pairs = vec![("content-range", content_range)];
    pairs.extend(content_length.map(|length| ("content-length", length)));
    received_part(&headers(&pairs))
}

#[test]
fn a_received_part_is_read() {
    let expected = |complete| Some(ReceivedPart { range: ByteRange { first: 0, last: 4 }, complete });
    assert_eq!(received("bytes 0-4/10", Some("5")), expected(Some(10)));
    assert_eq!(received("bytes 0-4/*", None), expected(None));
}

#[test]
fn a_malformed_part_is_refused() {
    for (value, length) in [
        ("bytes 4-9/10", Some("5")),
        ("bytes 4-10/10", None),
        ("bytes 9-4/10", None),
        ("bytes */10", None),
        ("bytes 0-/10", None),
        ("bytes 0-4", None),
        ("bytes=0-4/10", None),
        ("items 0-4/10", None),
        ("bytes 0-4/x", None),
        ("", None),
    ] {
        assert_eq!(received(value, length), None, "{value}");
    }
    assert_eq!(received_part(&headers(&[("content-range", "bytes 0-4/10"), ("content-range", "bytes 5-9/10")])), None);
    assert_eq!(received_part(&headers(&[])), None);
}

#[test]
fn random_bytes_never_panic_and_parts_lie_within_the_content() {
    let mut random = fastrand::Rng::with_seed(8);
    let alphabet = b"0123456789-, =/*";
    for _ in 0..20_000 {
        let length = random.u64(0..50);
        let text: String =
            (0..random.usize(0..16)).map(|_| char::from(alphabet[random.usize(0..alphabet.len())])).collect();
        let inside = |range: &ByteRange| range.first <= range.last && range.last < length;
        match range(&format!("bytes={text}"), length) {
            Requested::Part(range) => assert!(inside(&range)),
            Requested::Parts(ranges) => assert!(ranges.iter().all(inside)),
            Requested::Whole | Requested::Unsatisfiable => {}
        }
        received(&format!("bytes {text}"), None);
    }
}

fn forwards(request: &[(&str, &str)]) -> Option<String> {
    forwarded(&Method::GET, &headers(request)).map(|spec| spec.to_string())
}

#[test]
fn a_single_part_is_asked_for_in_the_plainest_words() {
    for (value, sent) in [
        ("bytes=2-4", "bytes=2-4"),
        ("Bytes= 02-4 ,", "bytes=2-4"),
        ("bytes=2-", "bytes=2-"),
        ("bytes=-3", "bytes=-3"),
        ("bytes=0-0", "bytes=0-0"),
    ] {
        assert_eq!(forwards(&[("range", value)]).as_deref(), Some(sent), "{value}");
    }
}

#[test]
fn what_is_not_a_single_part_is_answered_from_the_whole() {
    for value in ["bytes=0-", "bytes=0-1,3-4", "bytes=", "bytes=4-2", "items=0-1", "bytes=x", ""] {
        assert_eq!(forwards(&[("range", value)]), None, "{value}");
    }
    assert_eq!(forwards(&[("range", "bytes=2-4"), ("if-range", "\"1\"")]), None);
    assert_eq!(forwards(&[("range", "bytes=2-4"), ("range", "bytes=2-4")]), None);
    assert_eq!(forwards(&[]), None);
    assert_eq!(forwarded(&Method::HEAD, &headers(&[("range", "bytes=2-4")])), None);
}
