//! Parts of responses: RFC 9110 section 14, RFC 9111 sections 3.3 and 3.4, RFC 9211 `fwd=partial`. Here are ranges of what is
//! stored completely, and what the other files share.

mod combined;
mod shared;
mod stored;

use crate::support::{Call, Ending, Gate, Origin, Proxy, Reply, Response};

const BODY: &str = "0123456789";

const TAG: &str = "\"v1\"";

/// Whether any tier of this run keeps parts. Redis keeps wholes alone: there a range that is not stored is passed on once, and the
/// whole is fetched when one is asked for again. What is said of stored parts has nothing to be said of then.
fn keeps_parts() -> bool {
    std::env::var("TIDEGATE_TEST_TIERS").as_deref() != Ok("redis")
}

/// The first and the last byte that a `Range` asks for.
fn asked(range: &str) -> (usize, usize) {
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("one range");
    let end = BODY.len() - 1;
    match (first, last) {
        ("", last) => (BODY.len().saturating_sub(last.parse().unwrap()), end),
        (first, "") => (first.parse().unwrap(), end),
        (first, last) => (first.parse().unwrap(), last.parse::<usize>().unwrap().min(end)),
    }
}

/// The 206 with these bytes of [`BODY`].
fn part(first: usize, last: usize) -> Reply {
    Reply::status(206)
        .piece(&BODY[first..=last])
        .header("content-range", &format!("bytes {first}-{last}/{}", BODY.len()))
        .header("cache-control", "max-age=60")
}

/// What an origin by the book answers to a request for [`BODY`], whose tag is `tag`.
fn by_the_book(range: Option<String>, if_range: Option<String>, tag: &str) -> Reply {
    match range {
        Some(range) if if_range.is_none_or(|known| known == tag) => {
            let (first, last) = asked(&range);
            part(first, last).header("etag", tag)
        }
        _ => Reply::fresh(BODY).header("etag", tag),
    }
}

/// An origin by the book in front of which nothing is stored yet.
async fn origin() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|seen| by_the_book(seen.header("range"), seen.header("if-range"), TAG));
    origin
}

async fn both() -> (Origin, Proxy) {
    let origin = origin().await;
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

fn range(proxy: &Proxy, range: &str) -> Call {
    proxy.get("/a").header("range", range)
}

/// Status and text.
fn said(response: &Response) -> (u16, String) {
    assert_eq!(response.ending, Ending::Clean, "{response:?}");
    (response.status, response.text())
}

#[track_caller]
fn assert_part(response: &Response, content_range: &str, text: &str) {
    assert_eq!(said(response), (206, text.to_owned()), "{:?}", response.headers);
    assert_eq!(response.header("content-range").as_deref(), Some(content_range));
    assert_eq!(response.header("content-length"), Some(text.len().to_string()));
}

#[track_caller]
fn assert_whole(response: &Response) {
    assert_eq!(said(response), (200, BODY.to_owned()), "{:?}", response.headers);
    assert_eq!(response.header("content-range"), None);
    assert_eq!(response.header("content-length"), Some(BODY.len().to_string()));
}

/// The `Range` of each request that the origin saw; the whole is `-`.
fn ranges_seen(origin: &Origin) -> Vec<String> {
    origin.requests("/a").iter().map(|seen| seen.header("range").unwrap_or_else(|| "-".to_owned())).collect()
}

// RFC 9110 section 14.2: ranges of what is stored completely.

#[tokio::test]
async fn a_complete_entry_answers_one_range() {
    let (origin, proxy) = both().await;
    assert_whole(&proxy.get("/a").await);
    for (asked, content_range, text) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-3", "bytes 7-9/10", "789"),
        ("bytes=-30", "bytes 0-9/10", BODY),
        ("bytes=8-99", "bytes 8-9/10", "89"),
        ("bytes=0-", "bytes 0-9/10", BODY),
        ("bytes=4-4, 30-40", "bytes 4-4/10", "4"),
    ] {
        let response = range(&proxy, asked).await;
        assert_part(&response, content_range, text);
        assert!(response.is_hit(), "{asked}");
        // RFC 9110 section 15.3.7: what a 200 would have said of it.
        assert_eq!(response.header("etag").as_deref(), Some(TAG));
        assert_eq!(response.header("cache-control").as_deref(), Some("max-age=60"));
        assert!(response.header("date").is_some());
    }
    assert_eq!(origin.count("/a"), 1);
}

/// The parts of a `multipart/byteranges`: each with its head and its bytes.
fn parts_of(response: &Response) -> Vec<(String, String)> {
    let kind = response.header("content-type").expect("a content type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap_or_else(|| panic!("{kind}"));
    let text = response.text();
    let closed = text.strip_suffix(&format!("\r\n--{boundary}--\r\n")).expect("the last boundary");
    let delimiter = format!("\r\n--{boundary}\r\n");
    let parts = closed.split(&delimiter).skip(1);
    parts
        .map(|part| part.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap())
        .collect()
}

#[track_caller]
fn assert_parts(response: &Response, expected: &[(&str, &str)]) {
    assert_eq!((response.status, response.ending), (206, Ending::Clean));
    assert_eq!(response.header("content-length"), Some(response.body.len().to_string()));
    // RFC 9110 section 15.3.7.2: "MUST NOT generate a Content-Range header field in the header section".
    assert_eq!(response.header("content-range"), None);
    let found = parts_of(response);
    let found: Vec<(&str, &str)> = found.iter().map(|(head, body)| (head.as_str(), body.as_str())).collect();
    assert_eq!(found, expected);
}

// RFC 9110 section 15.3.7.2
#[tokio::test]
async fn a_complete_entry_answers_several_ranges_in_the_order_in_which_they_were_asked_for() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh(BODY).header("content-type", "text/plain"));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let response = range(&proxy, "bytes=5-6, 0-1, -1").await;
    let head = |range: &str| format!("Content-Type: text/plain\r\nContent-Range: bytes {range}/10");
    assert_parts(&response, &[(&head("5-6"), "56"), (&head("0-1"), "01"), (&head("9-9"), "9")]);
    assert!(response.is_hit());
}

#[tokio::test]
async fn several_ranges_of_what_is_not_stored_are_cut_from_the_whole() {
    let (origin, proxy) = both().await;
    let response = range(&proxy, "bytes=5-6,0-1").await;
    assert_parts(&response, &[("Content-Range: bytes 0-1/10", "01"), ("Content-Range: bytes 5-6/10", "56")]);
    assert_eq!(ranges_seen(&origin), ["-"]);
    assert!(proxy.get("/a").await.is_hit());
}

// RFC 9110 section 15.5.17
#[tokio::test]
async fn a_range_that_does_not_exist_is_a_416_that_says_how_much_there_is() {
    let (origin, proxy) = both().await;
    proxy.get("/a").await;
    for asked in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-11,30-"] {
        let response = range(&proxy, asked).await;
        assert_eq!(said(&response), (416, String::new()), "{asked}");
        assert_eq!(response.header("content-range").as_deref(), Some("bytes */10"), "{asked}");
        assert!(response.is_hit());
        // How long the content is fresh says nothing of this answer.
        assert_eq!(response.header("cache-control"), None);
    }
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_416_of_the_origin_is_passed_on_and_answers_nobody_else() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| match seen.header("range") {
        Some(_) => Reply::status(416).header("content-range", "bytes */10").header("cache-control", "max-age=60"),
        None => Reply::fresh(BODY),
    });
    let proxy = Proxy::plain(&origin).await;
    let response = range(&proxy, "bytes=20-30").await;
    assert_eq!((response.status, response.header("content-range").as_deref()), (416, Some("bytes */10")));
    assert!(!response.cache_status().stored);
    assert_whole(&proxy.get("/a").await);
}

// RFC 9110 section 13.1.5
#[tokio::test]
async fn if_range_with_the_strong_tag_gets_the_part_and_with_another_one_the_whole() {
    let (_origin, proxy) = both().await;
    proxy.get("/a").await;
    assert_part(&range(&proxy, "bytes=2-4").header("if-range", TAG).await, "bytes 2-4/10", "234");
    for other in ["\"v2\"", "W/\"v1\"", "v1", "Wed, 01 Jan 2020 00:00:00 GMT"] {
        assert_whole(&range(&proxy, "bytes=2-4").header("if-range", other).await);
    }
}

#[tokio::test]
async fn if_range_with_the_date_gets_the_part_and_with_a_later_one_the_whole() {
    let origin = Origin::start().await;
    let date = "Wed, 01 Jan 2020 00:00:00 GMT";
    origin.on("/a", Reply::fresh(BODY).header("last-modified", date));
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_part(&range(&proxy, "bytes=2-4").header("if-range", date).await, "bytes 2-4/10", "234");
    // "an exact match", even if the stored one is older.
    assert_whole(&range(&proxy, "bytes=2-4").header("if-range", "Thu, 02 Jan 2020 00:00:00 GMT").await);
}

#[tokio::test]
async fn if_range_on_a_miss_is_answered_from_the_whole() {
    let (origin, proxy) = both().await;
    assert_part(&range(&proxy, "bytes=2-4").header("if-range", TAG).await, "bytes 2-4/10", "234");
    assert_eq!(ranges_seen(&origin), ["-"]);
    assert_eq!(origin.last("/a").header("if-range"), None);
}

// RFC 9110 section 14.2: "A server MUST ignore a Range header field received with a request method that is unrecognized or
// for which range handling is not defined."
#[tokio::test]
async fn a_head_has_no_ranges() {
    let (origin, proxy) = both().await;
    for _ in 0..2 {
        let head = proxy.call("HEAD", "/a").header("range", "bytes=2-4").await;
        assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("10")));
    }
    assert_eq!(ranges_seen(&origin), ["-"]);
}
