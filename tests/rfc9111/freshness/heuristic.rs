//! What is guessed where the origin says nothing: RFC 9111 section 4.2.2.

use super::{Fields, assert_fresh_for, date, pair, second};
use crate::support::Reply;

// RFC 9111 section 4.2.2: "a typical setting of this fraction might be 10%"
#[tokio::test]
async fn without_explicit_freshness_a_tenth_of_the_time_since_modification_is_guessed() {
    let (hours, day, week) = (date(-36_000), date(-86_400), date(-604_800));
    let yesterday = ("date", day.as_str());
    let rows: [(Fields<'_>, i64); 5] = [
        (&[("last-modified", &hours)], 3600),
        (&[("last-modified", &day)], 8640),
        (&[("last-modified", &day), ("age", "8000")], 640),
        // A day old, and modified six days before that.
        (&[("last-modified", &week), yesterday], 0),
        (&[("last-modified", &hours), ("cache-control", "foo")], 3600),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2.2: what nobody touched for years may still change tomorrow.
#[tokio::test]
async fn a_guess_is_a_day_at_most() {
    let years = date(-864_000_000);
    assert_fresh_for([(&[("last-modified", years.as_str())][..], 86_400)]).await;
}

// RFC 9111 section 4.2.2: an earlier version forbade to guess for targets with a query; this one does not.
#[tokio::test]
async fn a_target_with_a_query_is_no_obstacle_to_a_guess() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("a").header("last-modified", &date(-86_400)));
    assert!(!proxy.get("/a?x=1").await.is_hit());
    assert!(proxy.get("/a?x=1").await.is_hit());
}

// RFC 9111 section 4.2.2: a guess needs a modification in the past.
#[tokio::test]
async fn without_a_time_of_modification_nothing_is_guessed() {
    let future = date(86_400);
    let rows: [(Fields<'_>, i64); 4] = [
        (&[], 0),
        (&[("last-modified", &future)], 0),
        (&[("last-modified", "yesterday")], 0),
        (&[("last-modified", "0")], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2.2: guesses are for statuses that are heuristically cacheable, of which RFC 9110 section 15.1 has the
// list, and for "responses [...] that have been marked as explicitly cacheable (e.g., with a public response directive)".
#[tokio::test]
async fn a_guess_is_for_some_statuses_and_for_others_with_public() {
    let (origin, proxy) = pair().await;
    let modified = date(-86_400);
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501, 201, 302, 307, 403, 499, 500, 503, 599] {
        let listed = matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501);
        let body = if status == 204 { "" } else { "a" };
        let reply = Reply::status(status).piece(body).header("last-modified", &modified);
        let plain = second(&origin, &proxy, &format!("/plain/{status}"), reply.clone()).await;
        assert_eq!((plain.status, plain.is_hit()), (status, listed), "{status}");
        let reply = reply.header("cache-control", "public");
        let public = second(&origin, &proxy, &format!("/public/{status}"), reply).await;
        assert_eq!((public.status, public.is_hit()), (status, true), "{status} with public");
    }
}

// RFC 9111 section 4.2.2: "A cache MUST NOT use heuristics to determine freshness when an explicit expiration time is present"
#[tokio::test]
async fn nothing_is_guessed_where_a_time_is_stated() {
    let (modified, past) = (date(-8_640_000), date(-60));
    let modified = ("last-modified", modified.as_str());
    let rows: [(Fields<'_>, i64); 5] = [
        (&[modified, ("cache-control", "max-age=0")], 0),
        (&[modified, ("cache-control", "s-maxage=0")], 0),
        (&[modified, ("expires", &past)], 0),
        (&[modified, ("cache-control", "max-age=600")], 600),
        (&[modified, ("cache-control", "no-cache")], 0),
    ];
    assert_fresh_for(rows).await;
}
