//! Parts of responses: RFC 9110 section 14, RFC 9111 sections 3.3 and 3.4, RFC 9211 `fwd=partial`.

use crate::support::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use crate::support::{Call, Ending, Gate, Origin, Proxy, Reply, Response};

const BODY: &str = "0123456789";

const TAG: &str = "\"v1\"";

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

// RFC 9111 section 3.3: parts that came.

#[tokio::test]
async fn a_range_that_is_not_stored_is_all_that_the_origin_is_asked_for() {
    let (origin, proxy) = both().await;
    for (path, asked, content_range, text) in [
        ("/a", "bytes=2-4", "bytes 2-4/10", "234"),
        ("/b", "bytes=7-", "bytes 7-9/10", "789"),
        ("/c", "bytes=-2", "bytes 8-9/10", "89"),
    ] {
        let call = proxy.get(path).header("range", asked);
        let response = call.clone().await;
        assert_part(&response, content_range, text);
        assert!(response.cache_status().stored && response.cache_status().fwd() == "uri-miss");
        assert_eq!(response.cache_status().fwd_status, Some(206));
        assert_eq!(origin.last(path).header("range").as_deref(), Some(asked));
        let again = call.await;
        assert_part(&again, content_range, text);
        assert!(again.is_hit());
    }
}

#[tokio::test]
async fn a_stored_part_answers_each_part_of_it() {
    let (origin, proxy) = both().await;
    range(&proxy, "bytes=3-").await;
    for (asked, content_range, text) in [
        ("bytes=3-", "bytes 3-9/10", "3456789"),
        ("bytes=3-9", "bytes 3-9/10", "3456789"),
        ("bytes=4-6", "bytes 4-6/10", "456"),
        ("bytes=5-", "bytes 5-9/10", "56789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=6-400", "bytes 6-9/10", "6789"),
    ] {
        let response = range(&proxy, asked).await;
        assert_part(&response, content_range, text);
        assert!(response.is_hit() && response.header("age").is_some(), "{asked}");
        assert_eq!(response.header("etag").as_deref(), Some(TAG));
    }
    let several = range(&proxy, "bytes=8-9,4-5").await;
    assert_parts(&several, &[("Content-Range: bytes 8-9/10", "89"), ("Content-Range: bytes 4-5/10", "45")]);
    assert!(several.is_hit());
    assert_part(&range(&proxy, "bytes=4-5").header("if-range", TAG).await, "bytes 4-5/10", "45");
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_stored_part_knows_what_does_not_exist() {
    let (origin, proxy) = both().await;
    range(&proxy, "bytes=2-4").await;
    let response = range(&proxy, "bytes=10-").await;
    assert_eq!((response.status, response.header("content-range").as_deref()), (416, Some("bytes */10")));
    assert!(response.is_hit());
    assert_eq!(origin.count("/a"), 1);
}

// RFC 9111 section 4.3.2: conditions are about the whole, of which a part has the head.
#[tokio::test]
async fn a_stored_part_answers_a_head_and_a_condition() {
    let (origin, proxy) = both().await;
    range(&proxy, "bytes=2-4").await;
    let head = proxy.call("HEAD", "/a").await;
    assert_eq!((head.status, head.is_hit(), head.header("content-length").as_deref()), (200, true, Some("10")));
    assert_eq!(head.header("content-range"), None);
    let same = proxy.get("/a").header("if-none-match", TAG).await;
    assert_eq!((same.status, same.is_hit(), same.header("content-range")), (304, true, None));
    let same = range(&proxy, "bytes=7-8").header("if-none-match", TAG).await;
    assert_eq!((same.status, same.is_hit()), (304, true));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_304_says_nothing_of_the_part_that_was_not_sent() {
    let (origin, proxy) = both().await;
    // The first one is sent before the part has come, the second one perhaps while it comes.
    for _ in 0..2 {
        let response = range(&proxy, "bytes=2-4").header("if-none-match", TAG).await;
        assert_eq!((response.status, response.header("content-range")), (304, None));
        assert_eq!(response.header("etag").as_deref(), Some(TAG));
    }
    assert_part(&range(&proxy, "bytes=2-4").await, "bytes 2-4/10", "234");
    assert_eq!(ranges_seen(&origin), ["bytes=2-4"]);
}

#[tokio::test]
async fn a_part_without_a_validator_answers_for_itself() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| match seen.header("range") {
        Some(range) => part(asked(&range).0, asked(&range).1),
        None => Reply::fresh(BODY),
    });
    let proxy = Proxy::plain(&origin).await;
    range(&proxy, "bytes=2-6").await;
    let inside = range(&proxy, "bytes=3-4").await;
    assert_part(&inside, "bytes 3-4/10", "34");
    assert!(inside.is_hit());
    // Nothing says that another part is of the same content, so it takes the place of the first one.
    let second = range(&proxy, "bytes=7-8").await;
    assert_part(&second, "bytes 7-8/10", "78");
    assert_eq!(second.cache_status().fwd(), "partial");
    // Before that goes on for ever, the whole is fetched.
    let third = range(&proxy, "bytes=3-4").await;
    assert_part(&third, "bytes 3-4/10", "34");
    assert_eq!(third.cache_status().fwd(), "partial");
    assert_eq!(ranges_seen(&origin), ["bytes=2-6", "bytes=7-8", "-"]);
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn what_is_asked_about_before_each_use_is_fetched_whole() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| match seen.header("range") {
        Some(range) => {
            let (first, last) = asked(&range);
            let reply = Reply::status(206).piece(&BODY[first..=last]).header("etag", TAG);
            reply.header("content-range", &format!("bytes {first}-{last}/10")).header("cache-control", "no-cache")
        }
        None => Reply::ok(BODY).header("cache-control", "no-cache").etag(TAG),
    });
    let proxy = Proxy::plain(&origin).await;
    let first = range(&proxy, "bytes=2-4").await;
    assert_part(&first, "bytes 2-4/10", "234");
    assert_eq!((first.cache_status().stored, first.cache_status().detail()), (false, "partial"));
    assert_part(&range(&proxy, "bytes=2-4").await, "bytes 2-4/10", "234");
    // A whole can be asked about.
    let third = range(&proxy, "bytes=5-6").await;
    assert_part(&third, "bytes 5-6/10", "56");
    assert_eq!(third.cache_status().fwd_status, Some(304));
    assert_eq!(ranges_seen(&origin), ["bytes=2-4", "-", "-"]);
}

#[tokio::test]
async fn a_stale_part_is_fetched_again() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |_| part(2, 4).header("etag", TAG).header("age", "61"));
    let proxy = Proxy::plain(&origin).await;
    for n in 1..3 {
        assert_part(&range(&proxy, "bytes=2-4").await, "bytes 2-4/10", "234");
        assert_eq!(origin.count("/a"), n);
    }
    assert_eq!(origin.last("/a").header("if-none-match"), None);
}

#[tokio::test]
async fn a_client_that_wants_no_stored_part_gets_it_from_the_origin() {
    let (origin, proxy) = both().await;
    range(&proxy, "bytes=2-4").await;
    let response = range(&proxy, "bytes=2-4").header("cache-control", "no-cache").await;
    assert_part(&response, "bytes 2-4/10", "234");
    assert_eq!(response.cache_status().fwd(), "request");
    assert_eq!(ranges_seen(&origin), ["bytes=2-4", "bytes=2-4"]);
    let stored_only = range(&proxy, "bytes=5-6").header("cache-control", "only-if-cached").await;
    assert_eq!(stored_only.status, 504);
}

// RFC 9110 sections 14.4 and 15.3.7
#[tokio::test]
async fn a_malformed_206_is_never_stored_and_passes_unharmed() {
    let origin = Origin::start().await;
    let bare = || Reply::status(206).piece("234").header("etag", TAG).header("cache-control", "max-age=60");
    let with = |range: &str| bare().header("content-range", range);
    let multipart = "\r\n--x\r\nContent-Range: bytes 2-4/10\r\n\r\n234\r\n--x--\r\n";
    let malformed = [
        ("/none", bare()),
        ("/unit", with("items 2-4/10")),
        ("/backwards", with("bytes 4-2/10")),
        ("/beyond", with("bytes 8-10/10")),
        ("/shorter", with("bytes 2-3/10")),
        ("/longer", with("bytes 2-5/10")),
        ("/unknown", with("bytes 2-4/*")),
        ("/unsatisfied", with("bytes */10")),
        ("/twice", with("bytes 2-4/10").header("content-range", "bytes 2-4/10")),
        ("/garbage", with("2-4/10")),
        ("/chunked", with("bytes 2-5/10").chunked()),
        ("/open", with("bytes 2-5/10").until_close()),
        (
            "/multipart",
            Reply::status(206)
                .piece(multipart)
                .header("content-type", "multipart/byteranges; boundary=x")
                .header("cache-control", "max-age=60"),
        ),
        (
            "/multipart-with-range",
            Reply::status(206)
                .piece(multipart)
                .header("content-type", "multipart/byteranges; boundary=x")
                .header("content-range", &format!("bytes 0-{}/100", multipart.len() - 1))
                .header("cache-control", "max-age=60"),
        ),
    ];
    for (path, reply) in &malformed {
        origin.on_fn(path, {
            let reply = reply.clone();
            move |seen| if seen.header("range").is_some() { reply.clone() } else { Reply::fresh(BODY) }
        });
    }
    let proxy = Proxy::plain(&origin).await;
    for (path, _) in malformed {
        let text = if path.starts_with("/multipart") { multipart } else { "234" };
        for n in 1..3 {
            let response = proxy.get(path).header("range", "bytes=2-4").await;
            assert_eq!(said(&response), (206, text.to_owned()), "{path}");
            assert!(!response.is_hit(), "{path}");
            assert_eq!(origin.count(path), n, "{path}");
        }
        let whole = proxy.get(path).await;
        assert_whole(&whole);
        assert!(!whole.is_hit() && whole.cache_status().fwd() == "uri-miss", "{path}");
    }
}

#[tokio::test]
async fn a_truncated_206_is_never_stored() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each(
        "/a",
        [
            Reply::status(206)
                .piece("2")
                .hold(&gate)
                .piece("3")
                .claim_length(3)
                .cut()
                .header("content-range", "bytes 2-4/10")
                .header("etag", TAG)
                .header("cache-control", "max-age=60"),
            part(2, 4).header("etag", TAG),
        ],
    );
    let proxy = Proxy::plain(&origin).await;
    let first = range(&proxy, "bytes=2-4").open().await;
    gate.open();
    assert_eq!(first.rest().await.ending, Ending::Cut);
    let second = range(&proxy, "bytes=2-4").await;
    assert_part(&second, "bytes 2-4/10", "234");
    assert!(!second.is_hit());
    assert!(range(&proxy, "bytes=2-4").await.is_hit());
}

// RFC 9111 section 3: what holds for the 200 holds for the part.
#[tokio::test]
async fn a_part_is_stored_only_if_its_whole_could_be() {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    for (path, control) in [("/no-store", "no-store"), ("/private", "private, max-age=60"), ("/no-cache", "no-cache")] {
        origin.on(
            path,
            Reply::status(206)
                .piece("234")
                .header("content-range", "bytes 2-4/10")
                .header("etag", TAG)
                .header("cache-control", control),
        );
        for n in 1..3 {
            let response = proxy.get(path).header("range", "bytes=2-4").await;
            assert_part(&response, "bytes 2-4/10", "234");
            assert!(!response.is_hit() && origin.count(path) == n, "{path}");
        }
    }
}

#[tokio::test]
async fn a_part_of_what_is_too_large_to_keep_is_passed_on() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::status(206).piece("234").header("content-range", "bytes 2-4/9999999").header("etag", TAG));
    let proxy = Proxy::plain(&origin).await;
    let response = range(&proxy, "bytes=2-4").await;
    assert_eq!(said(&response), (206, "234".to_owned()));
    assert_eq!(response.cache_status().detail(), "too-large");
}

// RFC 9110 section 14.2: "a server MAY ignore the Range header field".
#[tokio::test]
async fn a_200_to_a_range_is_stored_whole_and_cut_for_the_client() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh(BODY));
    let proxy = Proxy::plain(&origin).await;
    let response = range(&proxy, "bytes=2-4").await;
    assert_part(&response, "bytes 2-4/10", "234");
    assert_eq!((response.cache_status().fwd_status, response.cache_status().stored), (Some(200), true));
    let whole = proxy.get("/a").await;
    assert_whole(&whole);
    assert!(whole.is_hit());
}

// RFC 9111 section 3.4: parts that become one.

#[tokio::test]
async fn parts_with_the_same_strong_tag_become_the_whole() {
    let (origin, proxy) = both().await;
    for asked in ["bytes=4-6", "bytes=7-", "bytes=-1", "bytes=0-4"] {
        range(&proxy, asked).await;
    }
    // The third was a part of the second.
    assert_eq!(ranges_seen(&origin), ["bytes=4-6", "bytes=7-", "bytes=0-4"]);
    let whole = proxy.get("/a").await;
    assert_whole(&whole);
    assert!(whole.is_hit());
    assert_part(&range(&proxy, "bytes=3-8").await, "bytes 3-8/10", "345678");
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn a_range_across_two_stored_parts_is_answered_from_both() {
    let (origin, proxy) = both().await;
    range(&proxy, "bytes=2-4").await;
    let second = range(&proxy, "bytes=5-7").await;
    assert_eq!(second.cache_status().fwd(), "partial");
    let across = range(&proxy, "bytes=3-6").await;
    assert_part(&across, "bytes 3-6/10", "3456");
    assert!(across.is_hit());
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn the_whole_is_completed_by_what_is_missing() {
    let (origin, proxy) = both().await;
    for (path, stored, missing) in [
        ("/beginning", vec!["bytes=1-3", "bytes=0-1"], "bytes=4-9"),
        ("/end", vec!["bytes=-4"], "bytes=0-5"),
        ("/middle", vec!["bytes=3-5"], "bytes=0-9"),
        ("/both", vec!["bytes=0-1", "bytes=8-9"], "bytes=2-7"),
        ("/all", vec!["bytes=0-1", "bytes=4-5", "bytes=8-9"], "bytes=2-7"),
    ] {
        for asked in stored {
            proxy.get(path).header("range", asked).await;
        }
        let before = origin.count(path);
        let whole = proxy.get(path).await;
        assert_whole(&whole);
        let status = whole.cache_status();
        assert_eq!((status.fwd(), status.fwd_status, status.stored), ("partial", Some(206), true), "{path}");
        assert_eq!(whole.header("etag").as_deref(), Some(TAG));
        let seen = origin.last(path);
        assert_eq!(seen.header("range").as_deref(), Some(missing), "{path}");
        assert_eq!(seen.header("if-range").as_deref(), Some(TAG));
        assert_eq!(seen.header("if-none-match"), None);
        let again = proxy.get(path).await;
        assert_whole(&again);
        assert!(again.is_hit() && origin.count(path) == before + 1, "{path}");
    }
}

#[tokio::test]
async fn who_asks_for_everything_by_a_range_completes_it_too() {
    for asked in ["bytes=0-", "bytes=0-1,8-9"] {
        let (origin, proxy) = both().await;
        range(&proxy, "bytes=5-9").await;
        let response = range(&proxy, asked).await;
        assert_eq!((response.status, response.ending), (206, Ending::Clean), "{asked}");
        assert_eq!(origin.last("/a").header("range").as_deref(), Some("bytes=0-4"), "{asked}");
        assert!(proxy.get("/a").await.is_hit(), "{asked}");
    }
}

#[tokio::test]
async fn a_head_that_wants_a_new_answer_completes_the_whole() {
    let (origin, proxy) = both().await;
    range(&proxy, "bytes=5-9").await;
    let head = proxy.call("HEAD", "/a").header("cache-control", "no-cache").await;
    assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("10")));
    assert_eq!(head.header("content-range"), None);
    // What it fetched is kept once it is there.
    let follower = proxy.get("/a").await;
    assert_whole(&follower);
    assert_eq!(ranges_seen(&origin), ["bytes=5-9", "bytes=0-4"]);
    assert_eq!(origin.last("/a").method, "GET");
}

#[tokio::test]
async fn a_part_that_is_stored_does_not_wait_for_the_whole() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| match seen.header("if-range") {
            Some(_) => Reply::status(206)
                .piece("0")
                .hold(&gate)
                .piece("123456")
                .header("content-range", "bytes 0-6/10")
                .header("cache-control", "max-age=60")
                .header("etag", TAG),
            None => by_the_book(seen.header("range"), None, TAG),
        }
    });
    let proxy = Proxy::plain(&origin).await;
    range(&proxy, "bytes=7-9").await;
    let mut slow = proxy.get("/a").open().await;
    slow.read_until("0").await;
    let part = range(&proxy, "bytes=8-9").await;
    assert_part(&part, "bytes 8-9/10", "89");
    assert!(part.is_hit());
    gate.open();
    assert_whole(&slow.rest().await);
}

#[tokio::test]
async fn what_is_stored_is_sent_before_the_rest_has_come() {
    let origin = origin().await;
    let gate = Gate::closed();
    let proxy = Proxy::plain(&origin).await;
    origin.on_fn("/b", {
        let gate = gate.clone();
        move |seen| match seen.header("range").as_deref() {
            Some("bytes=0-3") => part(0, 3).header("etag", TAG),
            _ => Reply::status(206)
                .piece("45")
                .hold(&gate)
                .piece("6789")
                .header("content-range", "bytes 4-9/10")
                .header("cache-control", "max-age=60")
                .header("etag", TAG),
        }
    });
    proxy.get("/b").header("range", "bytes=0-3").await;
    let mut leader = proxy.get("/b").open().await;
    leader.read_until("012345").await;
    let mut follower = proxy.get("/b").open().await;
    follower.read_until("012345").await;
    gate.open();
    assert_whole(&leader.rest().await);
    assert_whole(&follower.rest().await);
    assert_eq!(origin.count("/b"), 2);
}

#[tokio::test]
async fn a_stale_part_is_completed_as_well_because_the_origin_confirms_it() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| match seen.header("range").as_deref() {
        Some("bytes=0-4") => part(0, 4).header("etag", TAG).header("age", "59"),
        range => by_the_book(range.map(str::to_owned), seen.header("if-range"), TAG),
    });
    // A policy whose word makes each entry as good as stale.
    let policy = r#"return { hit = function(req, entry) return { revalidate = true } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    range(&proxy, "bytes=0-4").await;
    let whole = proxy.get("/a").await;
    assert_whole(&whole);
    assert_eq!(ranges_seen(&origin), ["bytes=0-4", "bytes=5-9"]);
    assert_eq!(whole.cache_status().fwd(), "stale");
}

#[tokio::test]
async fn the_newer_head_counts_and_keeps_what_the_older_one_said_besides() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let (first, last) = asked(&seen.header("range").unwrap());
        let reply = part(first, last).header("etag", TAG);
        if first == 0 {
            reply.header("x-once", "1").header("x-which", "first").header("content-type", "text/plain")
        } else {
            reply.header("x-which", "second")
        }
    });
    let proxy = Proxy::plain(&origin).await;
    range(&proxy, "bytes=0-4").await;
    for _ in 0..2 {
        let whole = proxy.get("/a").await;
        assert_whole(&whole);
        assert_eq!(whole.header("x-which").as_deref(), Some("second"));
        assert_eq!(whole.header("x-once").as_deref(), Some("1"));
        assert_eq!(whole.header("content-type").as_deref(), Some("text/plain"));
    }
}

#[tokio::test]
async fn parts_with_other_tags_are_not_combined() {
    for (first, second) in [("\"v1\"", "\"v2\""), ("W/\"v1\"", "W/\"v1\""), ("\"v1\"", "W/\"v1\""), ("v1", "v1")] {
        let origin = Origin::start().await;
        let tags = [first.to_owned(), second.to_owned()];
        origin.on_fn("/a", move |seen| match seen.header("range").as_deref() {
            Some("bytes=0-4") => part(0, 4).header("etag", &tags[0]),
            Some("bytes=5-9") => part(5, 9).header("etag", &tags[1]),
            _ => Reply::fresh("another on").header("etag", "\"v3\""),
        });
        let proxy = Proxy::plain(&origin).await;
        range(&proxy, "bytes=0-4").await;
        range(&proxy, "bytes=5-9").await;
        // The newer one took the place of the older one.
        assert!(range(&proxy, "bytes=5-9").await.is_hit(), "{first} {second}");
        let whole = proxy.get("/a").await;
        assert_eq!(said(&whole), (200, "another on".to_owned()), "{first} {second}");
        assert_eq!(whole.cache_status().fwd(), "partial");
        assert!(proxy.get("/a").await.is_hit());
    }
}

#[tokio::test]
async fn parts_of_wholes_of_other_lengths_are_not_combined() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| match seen.header("range").as_deref() {
        Some("bytes=0-4") => part(0, 4).header("etag", TAG),
        Some("bytes=5-9") => Reply::status(206)
            .piece("56789")
            .header("content-range", "bytes 5-9/11")
            .header("cache-control", "max-age=60")
            .header("etag", TAG),
        range => by_the_book(range.map(str::to_owned), seen.header("if-range"), "\"v2\""),
    });
    let proxy = Proxy::plain(&origin).await;
    range(&proxy, "bytes=0-4").await;
    range(&proxy, "bytes=5-9").await;
    assert!(!range(&proxy, "bytes=0-4").await.is_hit());
}

#[tokio::test]
async fn what_changed_meanwhile_is_fetched_whole() {
    let origin = Origin::start().await;
    let changed = Gate::closed();
    origin.on_fn("/a", {
        let changed = changed.clone();
        move |seen| {
            let tag = if changed.is_open() { "\"v2\"" } else { TAG };
            by_the_book(seen.header("range"), seen.header("if-range"), tag)
        }
    });
    let proxy = Proxy::plain(&origin).await;
    range(&proxy, "bytes=0-4").await;
    changed.open();
    let whole = proxy.get("/a").await;
    assert_whole(&whole);
    assert_eq!((whole.header("etag").as_deref(), whole.cache_status().fwd_status), (Some("\"v2\""), Some(200)));
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(origin.count("/a"), 2);
}

/// What the origin answers to `Range` with `If-Range`, in the place of the span that it was asked for.
async fn completed_against(answer: Reply) -> (Origin, Proxy, Response) {
    let origin = Origin::start().await;
    origin.on_fn("/a", move |seen| match (seen.header("range"), seen.header("if-range")) {
        (Some(_), Some(_)) => answer.clone(),
        (range, _) => by_the_book(range, None, TAG),
    });
    let proxy = Proxy::plain(&origin).await;
    range(&proxy, "bytes=0-4").await;
    let whole = proxy.get("/a").await;
    (origin, proxy, whole)
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_not_combined_and_the_whole_is_asked_for() {
    for answer in [
        part(5, 9).header("etag", "\"v2\""),
        part(5, 9).header("etag", "W/\"v1\""),
        part(5, 9),
        part(4, 9).header("etag", TAG),
        part(5, 8).header("etag", TAG),
        Reply::status(206).piece("56789").header("content-range", "bytes 5-9/11").header("etag", TAG),
        Reply::status(206).piece("56789").header("content-range", "bytes 5-9/*").header("etag", TAG),
        Reply::status(206).piece("56789").header("etag", TAG),
        Reply::status(206).piece("5678").header("content-range", "bytes 5-9/10").header("etag", TAG),
        Reply::status(416).header("content-range", "bytes */4"),
        Reply::status(412).piece("no"),
    ] {
        let (origin, proxy, whole) = completed_against(answer).await;
        assert_whole(&whole);
        assert_eq!(ranges_seen(&origin), ["bytes=0-4", "bytes=5-9", "-"]);
        assert_eq!(whole.cache_status().fwd_status, Some(200));
        assert!(proxy.get("/a").await.is_hit());
        proxy.wait_for_metric("tidegate_parts_refused_total", "origin=\"main\"", 1.0).await;
    }
}

#[tokio::test]
async fn a_304_to_a_request_without_its_condition_is_nothing_for_the_client() {
    let (origin, _proxy, whole) = completed_against(Reply::status(304).header("etag", TAG)).await;
    assert_whole(&whole);
    assert_eq!(ranges_seen(&origin), ["bytes=0-4", "bytes=5-9", "-"]);
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_says_never_ends_cleanly() {
    let answer = |text: &str| {
        let reply = Reply::status(206).piece(text).chunked().header("content-range", "bytes 5-9/10");
        reply.header("etag", TAG).header("cache-control", "max-age=60")
    };
    for text in ["5678", "56789x", ""] {
        let (_origin, proxy, whole) = completed_against(answer(text)).await;
        // Nothing was sent yet, or it cannot be taken for the whole.
        assert!(whole.status == 502 || whole.ending != Ending::Clean, "{text:?}: {whole:?}");
        assert!(!proxy.get("/a").await.is_hit(), "{text:?}");
        // What was stored before is still there.
        assert!(range(&proxy, "bytes=0-4").await.is_hit(), "{text:?}");
    }
}

#[tokio::test]
async fn an_origin_that_fails_while_it_completes_fails_the_request() {
    let (_origin, proxy, whole) = completed_against(Reply::status(404).piece("gone")).await;
    assert_eq!(said(&whole), (404, "gone".to_owned()));
    assert!(!proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_whole_entry_is_not_lost_to_a_part_of_it() {
    let (origin, proxy) = both().await;
    proxy.get("/a").await;
    let policy_free = range(&proxy, "bytes=2-4").header("cache-control", "no-cache").await;
    assert_part(&policy_free, "bytes 2-4/10", "234");
    assert!(proxy.get("/a").await.is_hit());
    // What is whole is asked about whole.
    assert_eq!(ranges_seen(&origin), ["-", "-"]);
}

// RFC 9111 section 4.1
#[tokio::test]
async fn each_variant_has_parts_of_its_own() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let tag = format!("\"{}\"", seen.header("accept-language").unwrap_or_default());
        by_the_book(seen.header("range"), seen.header("if-range"), &tag).header("vary", "accept-language")
    });
    let proxy = Proxy::plain(&origin).await;
    let ask = |language: &'static str, asked: &'static str| range(&proxy, asked).header("accept-language", language);
    for language in ["en", "de"] {
        assert!(!ask(language, "bytes=0-4").await.is_hit());
    }
    for language in ["en", "de"] {
        let hit = ask(language, "bytes=1-2").await;
        assert_eq!((hit.text(), hit.is_hit()), ("12".to_owned(), true));
        assert_eq!(hit.header("etag"), Some(format!("\"{language}\"")));
        let whole = proxy.get("/a").header("accept-language", language).await;
        assert_whole(&whole);
        assert_eq!(origin.last("/a").header("if-range"), Some(format!("\"{language}\"")));
        assert!(proxy.get("/a").header("accept-language", language).await.is_hit());
    }
    assert_eq!(origin.count("/a"), 4);
}

// One fill for each part.

#[tokio::test]
async fn clients_with_different_ranges_do_not_wait_for_each_other() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| match seen.header("range").as_deref() {
            Some("bytes=0-4") => part(0, 4).header("etag", TAG).after(&gate),
            range => by_the_book(range.map(str::to_owned), seen.header("if-range"), TAG),
        }
    });
    let proxy = Proxy::plain(&origin).await;
    let slow = range(&proxy, "bytes=0-4").spawn();
    origin.wait_for_requests("/a", 1).await;
    assert_part(&range(&proxy, "bytes=5-6").await, "bytes 5-6/10", "56");
    assert_whole(&proxy.get("/a").await);
    gate.open();
    assert_part(&slow.await.unwrap(), "bytes 0-4/10", "01234");
    // The part that came late did not take the place of the whole.
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_fill_of_a_part_is_not_followed_by_who_wants_something_else() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| match seen.header("range").as_deref() {
            Some("bytes=0-4") => Reply::status(206)
                .piece("01")
                .hold(&gate)
                .piece("234")
                .header("content-range", "bytes 0-4/10")
                .header("cache-control", "max-age=60")
                .header("etag", TAG),
            range => by_the_book(range.map(str::to_owned), seen.header("if-range"), TAG),
        }
    });
    let proxy = Proxy::plain(&origin).await;
    let mut leader = range(&proxy, "bytes=0-4").open().await;
    leader.read_until("01").await;
    let mut follower = range(&proxy, "bytes=0-4").open().await;
    follower.read_until("01").await;
    assert_eq!(follower.status, 206);
    assert_part(&range(&proxy, "bytes=3-6").await, "bytes 3-6/10", "3456");
    assert_whole(&proxy.get("/a").await);
    gate.open();
    for one in [leader, follower] {
        assert_part(&one.rest().await, "bytes 0-4/10", "01234");
    }
}

#[tokio::test]
async fn clients_with_the_same_range_share_one_request() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |_| part(2, 4).header("etag", TAG).after(&gate)
    });
    let proxy = Proxy::plain(&origin).await;
    let all: Vec<_> = (0..10).map(|_| range(&proxy, "bytes=2-4").spawn()).collect();
    origin.wait_for_requests("/a", 1).await;
    proxy.wait_for_waiters(9).await;
    gate.open();
    for one in all {
        assert_part(&one.await.unwrap(), "bytes 2-4/10", "234");
    }
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn too_many_clients_with_the_same_range_are_turned_away() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| {
            let (first, last) = asked(&seen.header("range").unwrap());
            part(first, last).header("etag", TAG).after(&gate)
        }
    });
    let proxy = Proxy::builder(&origin).set("cache.lock.max_waiters", "1").start().await;
    let first = range(&proxy, "bytes=2-4").spawn();
    origin.wait_for_requests("/a", 1).await;
    let second = range(&proxy, "bytes=2-4").spawn();
    proxy.wait_for_waiters(1).await;
    assert_eq!(range(&proxy, "bytes=2-4").await.status, 503);
    // Who wants something else is not one of them.
    let other = range(&proxy, "bytes=5-6").spawn();
    origin.wait_for_requests("/a", 2).await;
    gate.open();
    for one in [first, second] {
        assert_part(&one.await.unwrap(), "bytes 2-4/10", "234");
    }
    assert_part(&other.await.unwrap(), "bytes 5-6/10", "56");
}

#[tokio::test]
async fn clients_who_complete_the_same_whole_share_one_request() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| {
            let reply = by_the_book(seen.header("range"), seen.header("if-range"), TAG);
            if seen.header("if-range").is_some() { reply.after(&gate) } else { reply }
        }
    });
    let proxy = Proxy::plain(&origin).await;
    range(&proxy, "bytes=0-4").await;
    let all: Vec<_> = (0..10).map(|_| proxy.get("/a").spawn()).collect();
    origin.wait_for_requests("/a", 2).await;
    proxy.wait_for_waiters(9).await;
    gate.open();
    for one in all {
        assert_whole(&one.await.unwrap());
    }
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn different_parts_of_a_stale_whole_are_one_question() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| {
            let reply = Reply::ok(BODY).header("cache-control", "max-age=0").etag(TAG);
            if seen.header("if-none-match").is_some() { reply.after(&gate) } else { reply }
        }
    });
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let first = range(&proxy, "bytes=0-1").spawn();
    origin.wait_for_requests("/a", 2).await;
    let second = range(&proxy, "bytes=2-3").spawn();
    proxy.wait_for_waiters(1).await;
    gate.open();
    assert_part(&first.await.unwrap(), "bytes 0-1/10", "01");
    assert_part(&second.await.unwrap(), "bytes 2-3/10", "23");
    assert!(origin.requests("/a").iter().all(|seen| seen.header("range").is_none()));
}

// RFC 9111 section 4.4
#[tokio::test]
async fn a_part_that_a_change_overtook_is_served_and_not_stored() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_fn("/a", {
        let gate = gate.clone();
        move |seen| match seen.method.as_str() {
            "POST" => Reply::ok("changed"),
            _ => Reply::status(206)
                .piece("2")
                .hold(&gate)
                .piece("34")
                .header("content-range", "bytes 2-4/10")
                .header("cache-control", "max-age=60"),
        }
    });
    let proxy = Proxy::plain(&origin).await;
    let mut reading = range(&proxy, "bytes=2-4").open().await;
    reading.read_until("2").await;
    assert_eq!(proxy.call("POST", "/a").body("x").await.status, 200);
    gate.open();
    assert_part(&reading.rest().await, "bytes 2-4/10", "234");
    assert!(!range(&proxy, "bytes=2-4").await.is_hit());
}

// RFC 9111 section 3.3: a part is kept as its whole would be. What a policy says of a 200, its variants above all, holds.
#[tokio::test]
async fn a_policy_decides_about_a_part_as_about_its_whole() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| match seen.header("range") {
        Some(range) => {
            let (first, last) = asked(&range);
            let reply = Reply::status(206).piece(&BODY[first..=last]).header("etag", TAG);
            reply.header("content-range", &format!("bytes {first}-{last}/10"))
        }
        None => Reply::ok(BODY).header("etag", TAG),
    });
    let policy = r#"return {
        response = function(req, res)
            if res.status == 200 and res.content_length == 10 then
                return { ttl = if res.headers["content-range"] then 60 else 600, vary = "x-kind" }
            end
            return { store = false }
        end,
        deliver = function(req, res, cache) return { headers = { ["x-seen"] = tostring(res.status) } } end,
    }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    let ask = |kind: &'static str, asked: &'static str| range(&proxy, asked).header("x-kind", kind);
    for (kind, asked, hit) in [("a", "bytes=2-4", false), ("b", "bytes=2-4", false), ("a", "bytes=3-4", true)] {
        let response = ask(kind, asked).await;
        assert_eq!((response.status, response.is_hit()), (206, hit), "{kind} {asked}");
        assert_eq!(response.header("x-seen").as_deref(), Some("206"));
    }
    assert!((55..=60).contains(&ask("b", "bytes=4-4").await.cache_status().ttl.unwrap()));
    assert_whole(&proxy.get("/a").header("x-kind", "a").await);
    let hit = proxy.get("/a").header("x-kind", "a").await;
    assert!((595..=600).contains(&hit.cache_status().ttl.unwrap()), "{:?}", hit.cache_status());
}

#[tokio::test]
async fn a_policy_that_keeps_the_whole_out_keeps_its_parts_out() {
    let origin = origin().await;
    let policy = r#"return { response = function() return { store = false, reason = "too personal" } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    for n in 1..3 {
        let response = range(&proxy, "bytes=2-4").await;
        assert_part(&response, "bytes 2-4/10", "234");
        assert_eq!((response.cache_status().detail(), origin.count("/a")), ("too personal", n));
    }
}

// A real object store.
#[tokio::test]
async fn a_bucket_is_asked_for_a_part_and_then_for_the_rest() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "a", BODY);
    let keys = format!("{{ access_key_id: {ACCESS_KEY}, secret_access_key: {SECRET_KEY} }}");
    let endpoint = format!("\"{}\"", server.endpoint());
    let origin = [
        ("origins.main.s3.endpoint", endpoint.as_str()),
        ("origins.main.s3.bucket", "media"),
        ("origins.main.s3.credentials", keys.as_str()),
    ];
    let proxy = Proxy::builder_with(&origin).start().await;
    let first = range(&proxy, "bytes=2-4").await;
    assert_part(&first, "bytes 2-4/10", "234");
    assert_eq!(first.cache_status().fwd_status, Some(206));
    assert!(range(&proxy, "bytes=3-4").await.is_hit());
    assert_eq!(server.requests(), 1);
    let whole = proxy.get("/a").await;
    assert_whole(&whole);
    assert_eq!(whole.cache_status().fwd(), "partial");
    assert!(proxy.get("/a").await.is_hit());
    assert_part(&range(&proxy, "bytes=-2").await, "bytes 8-9/10", "89");
}
