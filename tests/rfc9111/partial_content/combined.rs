//! Parts that become one response, and the whole that is completed (RFC 9111 section 3.4).

use super::*;

#[tokio::test]
async fn parts_with_the_same_strong_tag_become_the_whole() {
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
    let (origin, _proxy, whole) = completed_against(Reply::status(304).header("etag", TAG)).await;
    assert_whole(&whole);
    assert_eq!(ranges_seen(&origin), ["bytes=0-4", "bytes=5-9", "-"]);
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_says_never_ends_cleanly() {
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
    if !keeps_parts() {
        return;
    }
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
