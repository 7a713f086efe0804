//! Tests of `combine`.

use super::super::testing::{at, date_at, headers};
use super::*;

const PART: [(&str, &str); 2] = [("content-range", "bytes 2-4/10"), ("etag", "\"1\"")];

fn known(
    method: &Method,
    request: &[(&str, &str)],
    status: StatusCode,
    response: &[(&str, &str)],
) -> Option<KnownPart> {
    known_part(method, &headers(request), status, &headers(response))
}

// RFC 9111 section 3.3
#[test]
fn a_part_that_was_asked_for_is_known_by_its_content_range() {
    let asked = [("range", "bytes=2-4")];
    let part = KnownPart { range: ByteRange { first: 2, last: 4 }, complete: 10 };
    assert_eq!(known(&Method::GET, &asked, StatusCode::PARTIAL_CONTENT, &PART), Some(part));
    assert_eq!(known(&Method::GET, &asked, StatusCode::OK, &PART), None);
    assert_eq!(known(&Method::GET, &[], StatusCode::PARTIAL_CONTENT, &PART), None);
    assert_eq!(known(&Method::HEAD, &asked, StatusCode::PARTIAL_CONTENT, &PART), None);
}

#[test]
fn a_part_of_a_whole_of_unknown_length_is_not_known() {
    let asked = [("range", "bytes=2-4")];
    for wrong in ["bytes 2-4/*", "bytes 4-2/10", "bytes 2-10/10", "items 2-4/10", "bytes */10", "2-4/10"] {
        let response = [("content-range", wrong)];
        assert_eq!(known(&Method::GET, &asked, StatusCode::PARTIAL_CONTENT, &response), None, "{wrong}");
    }
    let several = [("content-range", "bytes 2-4/10"), ("content-type", "Multipart/Byteranges; boundary=x")];
    assert_eq!(known(&Method::GET, &asked, StatusCode::PARTIAL_CONTENT, &several), None);
}

fn side(headers: &HeaderMap, complete: u64) -> Side<'_> {
    Side { headers, complete, whole: false }
}

// RFC 9111 section 3.4
#[test]
fn parts_with_the_same_strong_tag_and_length_belong_together() {
    let one = headers(&[("etag", "\"1\""), ("date", &date_at(4))]);
    let other = headers(&[("etag", "\"1\""), ("date", &date_at(5))]);
    assert_eq!(combination(side(&one, 10), side(&other, 10), at(9)), Combination::Together);
    assert_eq!(combination(side(&one, 10), side(&one, 10), at(9)), Combination::Together);
    assert_eq!(combination(side(&other, 10), side(&one, 10), at(9)), Combination::Inside);
    assert_eq!(combination(side(&one, 10), side(&other, 11), at(9)), Combination::Instead);
}

#[test]
fn nothing_but_the_same_strong_tag_combines() {
    let modified = ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT");
    for (stored, part) in [
        (vec![("etag", "\"1\"")], vec![("etag", "\"2\"")]),
        (vec![("etag", "W/\"1\"")], vec![("etag", "W/\"1\"")]),
        (vec![("etag", "\"1\"")], vec![("etag", "W/\"1\"")]),
        (vec![("etag", "1")], vec![("etag", "1")]),
        (vec![("etag", "\"1\""), ("etag", "\"2\"")], vec![("etag", "\"1\"")]),
        (vec![modified], vec![modified]),
        (vec![], vec![]),
    ] {
        let (stored, part) = (headers(&stored), headers(&part));
        let found = combination(side(&stored, 10), side(&part, 10), at(0));
        assert_eq!(found, Combination::Instead, "{stored:?} {part:?}");
    }
}

#[test]
fn a_part_that_was_long_on_its_way_does_not_replace_what_is_newer() {
    let (newer, older) = (headers(&[("date", &date_at(5))]), headers(&[("date", &date_at(4))]));
    assert_eq!(combination(side(&newer, 10), side(&older, 10), at(9)), Combination::Neither);
    assert_eq!(combination(side(&older, 10), side(&newer, 10), at(9)), Combination::Instead);
    assert_eq!(combination(side(&newer, 10), side(&newer, 10), at(9)), Combination::Instead);
}

#[test]
fn a_whole_is_given_up_only_for_what_is_newer() {
    let (newer, older) = (headers(&[("date", &date_at(5))]), headers(&[("date", &date_at(4))]));
    let whole = |headers| Side { whole: true, ..side(headers, 10) };
    assert_eq!(combination(whole(&newer), side(&newer, 10), at(9)), Combination::Neither);
    assert_eq!(combination(whole(&older), side(&newer, 10), at(9)), Combination::Instead);
}

#[test]
fn the_head_of_a_part_becomes_that_of_the_whole() {
    let part = [("content-range", "bytes 2-4/10"), ("content-length", "3"), ("etag", "\"1\"")];
    assert_eq!(head_of_whole(&headers(&part), 10), headers(&[("etag", "\"1\""), ("content-length", "10")]));
}

#[test]
fn new_fields_replace_the_stored_ones_and_the_others_stay() {
    let stored =
        [("content-type", "text/plain"), ("cache-control", "max-age=1"), ("age", "7"), ("content-length", "10")];
    let part = [
        ("cache-control", "max-age=60"),
        ("content-range", "bytes 2-4/10"),
        ("content-length", "3"),
        ("date", &date_at(5)),
    ];
    let expected = [
        ("content-type", "text/plain"),
        ("cache-control", "max-age=60"),
        ("content-length", "10"),
        ("date", &date_at(5)),
    ];
    assert_eq!(combined_head(&headers(&stored), &headers(&part), 10, at(9)), headers(&expected));
}
