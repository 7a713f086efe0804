//! Tests of `conditional`.

use super::super::testing::{at, date_at, headers};
use super::*;

fn tag(value: &str) -> EntityTag<'_> {
    EntityTag::parse(value.as_bytes()).unwrap()
}

fn answers_304(request: &[(&str, &str)], stored: &[(&str, &str)]) -> bool {
    not_modified(&Method::GET, &headers(request), StatusCode::OK, &headers(stored), at(0))
}

fn none_match(presented: &str, stored: &str) -> bool {
    answers_304(&[("if-none-match", presented)], &[("etag", stored)])
}

// RFC 9110 section 8.8.3.2, the table of examples
#[test]
fn tags_compare_as_the_examples_of_the_standard() {
    for (a, b, strong, weak) in [
        ("W/\"1\"", "W/\"1\"", false, true),
        ("W/\"1\"", "W/\"2\"", false, false),
        ("W/\"1\"", "\"1\"", false, true),
        ("\"1\"", "\"1\"", true, true),
    ] {
        assert_eq!((tag(a).strong_eq(&tag(b)), tag(a).weak_eq(&tag(b))), (strong, weak), "{a} {b}");
    }
}

#[test]
fn broken_tags_equal_themselves_and_are_never_strong() {
    for value in ["abcdef", "w/\"abcdef\"", "W\\\"abcdef\"", "W\"abcdef\"", "\"abc", "\"a\"b"] {
        assert!(tag(value).weak_eq(&tag(value)), "{value}");
        assert!(!tag(value).strong_eq(&tag(value)), "{value}");
        assert!(!tag(value).weak_eq(&tag("\"abcdef\"")), "{value}");
    }
    assert_eq!(EntityTag::parse(b" "), None);
}

// RFC 9110 section 13.1.2
#[test]
fn if_none_match_finds_its_tag_anywhere_in_the_list() {
    for list in ["\"a\", \"b\", \"c\"", "\"b\",\"a\"", ",, \"c\" , W/\"a\"", "\"x,y\", \"a\""] {
        assert!(none_match(list, "\"a\""), "{list}");
    }
    for list in ["\"b\"", "\"b, \"a", "a", ""] {
        assert!(!none_match(list, "\"a\""), "{list}");
    }
}

#[test]
fn if_none_match_compares_weakly() {
    assert!(none_match("W/\"a\"", "W/\"a\""));
    assert!(none_match("\"a\"", "W/\"a\""));
}

#[test]
fn if_none_match_may_have_several_lines() {
    assert!(answers_304(&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], &[("etag", "\"a\"")]));
}

#[test]
fn a_star_matches_whatever_is_stored() {
    assert!(none_match("*", "\"a\""));
    assert!(answers_304(&[("if-none-match", "*")], &[]));
}

#[test]
fn tags_that_origins_misspell_match_themselves() {
    for value in ["abcdef", "w/\"abcdef\"", "W\\\"abcdef\"", "W\"abcdef\"", "\"abcdef\u{fc}\""] {
        assert!(none_match(value, value), "{value}");
    }
}

// RFC 9110 section 13.2.2
#[test]
fn if_none_match_goes_before_if_modified_since() {
    let (modified, later) = (date_at(-5000), date_at(-1));
    let stored = [("etag", "\"a\""), ("last-modified", modified.as_str())];
    assert!(answers_304(&[("if-none-match", "\"a\""), ("if-modified-since", "x")], &stored));
    assert!(!answers_304(&[("if-none-match", "\"b\""), ("if-modified-since", &later)], &stored));
}

// RFC 9110 section 13.1.3
#[test]
fn if_modified_since_matches_the_same_or_an_earlier_modification() {
    let modified = date_at(-3000);
    let since = |seconds| answers_304(&[("if-modified-since", &date_at(seconds))], &[("last-modified", &modified)]);
    assert!(since(-3000));
    assert!(since(-2000));
    assert!(!since(-3001));
}

#[test]
fn a_broken_if_modified_since_is_ignored() {
    let modified = date_at(-3000);
    let stored = [("last-modified", modified.as_str())];
    assert!(!answers_304(&[("if-modified-since", "yesterday")], &stored));
    assert!(!answers_304(&[("if-modified-since", &modified), ("if-modified-since", &modified)], &stored));
}

// RFC 9111 section 4.3.2
#[test]
fn without_last_modified_date_counts() {
    let (date, earlier) = (date_at(-100), date_at(-101));
    assert!(answers_304(&[("if-modified-since", &date)], &[("date", &date)]));
    assert!(!answers_304(&[("if-modified-since", &earlier)], &[("date", &date)]));
    assert!(!answers_304(&[("if-modified-since", &date)], &[]));
}

// RFC 9110 section 13.2.1
#[test]
fn conditions_are_for_get_and_head_and_success() {
    let (request, stored) = (headers(&[("if-none-match", "\"a\"")]), headers(&[("etag", "\"a\"")]));
    let ask = |method, status| not_modified(&method, &request, status, &stored, at(0));
    assert!(ask(Method::HEAD, StatusCode::OK));
    assert!(!ask(Method::POST, StatusCode::OK));
    assert!(!ask(Method::GET, StatusCode::NOT_FOUND));
}

// RFC 9110 section 13.1.1: left to the origin
#[test]
fn if_match_is_not_evaluated() {
    assert!(!answers_304(&[("if-match", "\"a\"")], &[("etag", "\"a\"")]));
}

// RFC 9110 section 15.4.5
#[test]
fn a_304_keeps_what_it_must_and_what_is_not_about_the_representation() {
    let dropped: Vec<_> = not_in_304(&headers(&[("etag", "x")])).map(HeaderName::as_str).collect();
    for name in ["content-type", "content-length", "content-encoding", "last-modified"] {
        assert!(dropped.contains(&name), "{name}");
    }
    for name in ["cache-control", "content-location", "date", "etag", "expires", "vary", "access-control-allow-origin"]
    {
        assert!(!dropped.contains(&name), "{name}");
    }
}

#[test]
fn a_304_without_a_tag_keeps_last_modified() {
    assert!(!not_in_304(&headers(&[("last-modified", "x")])).any(|name| name == header::LAST_MODIFIED));
}

#[test]
fn random_bytes_never_panic_and_always_end() {
    let mut random = fastrand::Rng::with_seed(6);
    let alphabet = b"aW/\"\\, \t*\xff";
    for _ in 0..20_000 {
        let text: Vec<u8> = (0..random.usize(0..30)).map(|_| alphabet[random.usize(0..alphabet.len())]).collect();
        EntityTag::parse(&text);
        assert!(TagList { rest: &text }.count() <= text.len());
    }
}
