//! Parts that came: which are stored, and what they answer (RFC 9111 section 3.3).

use super::*;

#[tokio::test]
async fn a_range_that_is_not_stored_is_all_that_the_origin_is_asked_for() {
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
