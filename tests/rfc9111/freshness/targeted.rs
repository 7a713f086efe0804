//! `CDN-Cache-Control` (RFC 9213) and `Surrogate-Control` (Edge Architecture).

use super::{Fields, TOLERANCE, assert_fresh_for, date, pair, second, with};
use crate::support::Reply;

// RFC 9213 section 2.2: the targeted field is used instead of Cache-Control and Expires
#[tokio::test]
async fn a_valid_cdn_cache_control_replaces_cache_control_and_expires() {
    let expires = date(1000);
    let others = [("cache-control", "max-age=2000, s-maxage=3000"), ("expires", expires.as_str())];
    let (origin, proxy) = pair().await;
    for (n, (value, seconds)) in [
        ("max-age=5000", 5000),
        ("max-age=50", 50),
        ("s-maxage=5000, max-age=50", 5000),
        ("max-age=0", 0),
        ("no-store", 0),
        ("private", 0),
        ("no-cache", 0),
        ("max-age=5000, private", 0),
        // Nothing in it says how long, and what others are told does not count.
        ("public", 0),
        ("unknown", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = with(Reply::ok("a").header("cdn-cache-control", value), &others);
        let status = second(&origin, &proxy, &format!("/{n}"), reply).await.cache_status();
        assert_eq!(status.hit, seconds > 0, "{value}: {status:?}");
        let left = status.ttl.unwrap_or_default();
        assert!(seconds == 0 || (seconds - TOLERANCE..=seconds).contains(&left), "{value}: {left} seconds left");
    }
}

// RFC 9213 section 2.2
#[tokio::test]
async fn cdn_cache_control_sets_prohibitions_for_others_aside() {
    let (origin, proxy) = pair().await;
    for (n, others) in
        ["no-store", "private", "no-cache", "max-age=0, must-revalidate", "no-store, private"].into_iter().enumerate()
    {
        let reply = Reply::ok("a").header("cache-control", others).header("cdn-cache-control", "max-age=3600");
        let hit = second(&origin, &proxy, &format!("/{n}"), reply.header("expires", "0")).await;
        assert!(hit.is_hit(), "{others}: {:?}", hit.cache_status());
        assert_eq!(hit.header("cache-control").as_deref(), Some(others));
    }
}

// RFC 9213 section 2.1: a dictionary of structured fields; directives with a delta-seconds are integers
#[tokio::test]
async fn cdn_cache_control_is_a_dictionary_of_structured_fields() {
    let rows: [(Fields<'_>, i64); 10] = [
        (&[("cdn-cache-control", "max-age=3600")], 3600),
        (&[("cdn-cache-control", "  max-age=3600  ")], 3600),
        (&[("cdn-cache-control", "foo, max-age=3600,\tbar=1")], 3600),
        (&[("cdn-cache-control", "a=\"x, y\", b=1.5, c=tok/en, d=:aGk=:, e=(1 2), f=?0, max-age=3600")], 3600),
        (&[("cdn-cache-control", "max-age=3600;p;q=1, foo;r=\"s\"")], 3600),
        // The last of two members with one key counts (RFC 9651 section 3.2).
        (&[("cdn-cache-control", "max-age=10, max-age=3600")], 3600),
        // Lines are joined (RFC 9651 section 4.2).
        (&[("cdn-cache-control", "foo"), ("cdn-cache-control", "max-age=3600")], 3600),
        (&[("cdn-cache-control", "max-age=3600"), ("cdn-cache-control", "no-store")], 0),
        (&[("cdn-cache-control", "max-age=-1"), ("cache-control", "max-age=3600")], 0),
        (&[("cdn-cache-control", "max-age=0003600")], 3600),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9213 section 2.1: a value that does not parse is ignored, and so is one whose types are not those of the directives
#[tokio::test]
async fn an_invalid_cdn_cache_control_counts_as_absent() {
    let values = [
        "",
        " ",
        ",",
        "max-age=60,",
        ", max-age=60",
        "max-age=60,, public",
        "max-age=60 public",
        "max-age = 60",
        "max-age= 60",
        "max-age =60",
        "MAX-AGE=60",
        "max-age=60, Public",
        "max-age=60; Public",
        "max-age=60.5",
        "max-age=\"60\"",
        "max-age='60'",
        "max-age=abc",
        "max-age=",
        "max-age",
        "max-age=?1",
        "max-age=(60)",
        "max-age=60, ext=\"open",
        "max-age=60, &&&&&",
        "max-age=60, private=token",
        "max-age=9999999999999999",
        "max-age=60\u{e9}",
    ];
    let rows: Vec<_> =
        values.iter().map(|value| [("cdn-cache-control", *value), ("cache-control", "max-age=3600")]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], 3600))).await;
}

// RFC 9213 section 2.1: one broken line breaks the field
#[tokio::test]
async fn an_invalid_line_of_cdn_cache_control_makes_all_of_it_absent() {
    let rows: [(Fields<'_>, i64); 2] = [
        (&[("cdn-cache-control", "max-age=60"), ("cdn-cache-control", "&"), ("cache-control", "max-age=3600")], 3600),
        (&[("cdn-cache-control", "="), ("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")], 0),
    ];
    assert_fresh_for(rows).await;
}

// Edge Architecture (W3C note) section 2.2
#[tokio::test]
async fn surrogate_control_replaces_cache_control_where_there_is_no_cdn_cache_control() {
    let others = ("cache-control", "max-age=2000");
    let rows: [(Fields<'_>, i64); 8] = [
        (&[others, ("surrogate-control", "max-age=5000")], 5000),
        (&[others, ("surrogate-control", "no-store")], 0),
        (&[others, ("surrogate-control", "max-age=5000;tidegate")], 5000),
        (&[others, ("surrogate-control", "max-age=5000;another-device")], 2000),
        (&[others, ("surrogate-control", "content=\"ESI/1.0\"")], 2000),
        (&[others, ("surrogate-control", "max-age=x")], 0),
        (&[others, ("surrogate-control", "max-age=5000"), ("cdn-cache-control", "max-age=300")], 300),
        (&[others, ("surrogate-control", "max-age=5000"), ("cdn-cache-control", "max-age=3.5")], 5000),
    ];
    assert_fresh_for(rows).await;
}
