//! How long a response is fresh, and how old it is: RFC 9111 section 4.2, RFC 9213.

mod age;
mod expires;
mod heuristic;
mod targeted;

use crate::support::{Origin, Proxy, Reply, Response};
use std::time::{Duration, SystemTime};

/// More than any test takes, and less than any two times that a test tells apart.
const TOLERANCE: i64 = 20;

type Fields<'a> = &'a [(&'a str, &'a str)];

async fn pair() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

fn date(seconds_from_now: i64) -> String {
    httpdate::fmt_http_date(moment(seconds_from_now))
}

fn moment(seconds_from_now: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds_from_now.unsigned_abs());
    let now = tidegate::clock::now();
    if seconds_from_now < 0 { now - distance } else { now + distance }
}

/// The answer to the second of two requests, when the first one was answered by `reply`.
async fn second(origin: &Origin, proxy: &Proxy, path: &str, reply: Reply) -> Response {
    origin.on(path, reply);
    let first = proxy.get(path).await;
    assert!(!first.is_hit(), "{path} was stored before");
    proxy.get(path).await
}

fn with(reply: Reply, fields: Fields<'_>) -> Reply {
    fields.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
}

/// Asserts of each response how many seconds of freshness are left of it when it is used: none means that the origin is asked.
async fn assert_fresh_for<'a>(rows: impl IntoIterator<Item = (Fields<'a>, i64)>) {
    let (origin, proxy) = pair().await;
    for (n, (fields, seconds)) in rows.into_iter().enumerate() {
        let path = format!("/{n}");
        let answer = second(&origin, &proxy, &path, with(Reply::ok("a").etag("\"v\""), fields)).await;
        let status = answer.cache_status();
        if seconds == 0 {
            assert!(!status.hit, "{fields:?} was fresh: {status:?}");
            assert_eq!(origin.count(&path), 2, "{fields:?}");
            continue;
        }
        assert!(status.hit, "{fields:?} was not fresh: {status:?}");
        let left = status.ttl.unwrap_or_default();
        // A test that is slow also makes what was modified longer ago, of which a part is fresh longer.
        assert!((left - seconds).abs() <= TOLERANCE, "{fields:?}: {left} seconds left, not {seconds}");
    }
}

/// The same for values of `Cache-Control` alone.
async fn assert_control_fresh_for(values: &[&str], seconds: i64) {
    let rows: Vec<_> = values.iter().map(|value| [("cache-control", *value)]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], seconds))).await;
}

// RFC 9111 section 4.2.1, in the order that it names for a shared cache
#[tokio::test]
async fn s_maxage_goes_before_max_age_and_max_age_before_expires() {
    let expires = date(1000);
    let expires = ("expires", expires.as_str());
    let rows: [(Fields<'_>, i64); 8] = [
        (&[expires], 1000),
        (&[expires, ("cache-control", "max-age=2000")], 2000),
        (&[expires, ("cache-control", "max-age=500")], 500),
        (&[expires, ("cache-control", "s-maxage=3000, max-age=2000")], 3000),
        (&[expires, ("cache-control", "max-age=2000, s-maxage=300")], 300),
        (&[expires, ("cache-control", "max-age=2000, s-maxage=0")], 0),
        (&[expires, ("cache-control", "max-age=0, s-maxage=300")], 300),
        (&[expires, ("cache-control", "max-age=0")], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2.1: "either the first occurrence should be used or the response should be considered stale"
#[tokio::test]
async fn of_two_values_of_one_directive_the_first_counts() {
    let rows: [(Fields<'_>, i64); 6] = [
        (&[("cache-control", "max-age=1000, max-age=9000")], 1000),
        (&[("cache-control", "max-age=9000, max-age=1000")], 9000),
        (&[("cache-control", "max-age=1000"), ("cache-control", "max-age=9000")], 1000),
        (&[("cache-control", "s-maxage=1000, max-age=5, s-maxage=9000")], 1000),
        (&[("cache-control", "max-age=0, max-age=9000")], 0),
        (&[("cache-control", "max-age=x, max-age=9000")], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2.1: "If directives conflict [...] the most restrictive directive should be honored."
#[tokio::test]
async fn of_directives_in_conflict_the_most_restrictive_counts() {
    let values = [
        "max-age=3600, no-cache",
        "no-cache, s-maxage=3600",
        "max-age=3600, no-store",
        "public, max-age=3600, private",
        "no-cache=\"x-other\", max-age=3600, no-cache",
        "immutable, max-age=0",
    ];
    assert_control_fresh_for(&values, 0).await;
}

// RFC 9111 section 4.2.1: "Caches are encouraged to consider responses that have invalid freshness information [...] stale."
#[tokio::test]
async fn a_lifetime_that_is_no_number_is_stale() {
    let values = [
        "max-age",
        "max-age=",
        "max-age=\"\"",
        "max-age=a",
        "max-age=3600a",
        "max-age=a3600",
        "max-age=3600 a",
        "max-age=-3600",
        "max-age=+3600",
        "max-age=3600.0",
        "max-age=3600.",
        "max-age=0x1000",
        "max-age=3e3",
        "max-age='3600'",
        "max-age=\"3600",
        "max-age=3600\"",
        "max-age =3600",
        "max-age= 3600",
        "max-age = 3600",
        "max-age=3600;x=1",
        "max-age==3600",
        "s-maxage=x, max-age=3600",
        "s-maxage=-1, max-age=3600",
        "s-maxage, max-age=3600",
    ];
    assert_control_fresh_for(&values, 0).await;
}

// RFC 9111 section 4.2.1: what was stated and is broken was stated.
#[tokio::test]
async fn a_broken_lifetime_is_not_replaced_by_another_one() {
    let (expires, modified) = (date(3600), date(-864_000));
    let rows: [(Fields<'_>, i64); 3] = [
        (&[("cache-control", "max-age=x"), ("expires", &expires)], 0),
        (&[("cache-control", "max-age=-1"), ("last-modified", &modified)], 0),
        (&[("expires", "0"), ("last-modified", &modified)], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 5.2: "recipients ought to accept both forms, even if a specific form is required for generation"
#[tokio::test]
async fn a_lifetime_may_be_a_token_or_a_quoted_string() {
    assert_control_fresh_for(&["max-age=3600", "max-age=\"3600\"", "s-maxage=\"3600\"", "max-age=003600"], 3600).await;
}

// RFC 9111 section 5.2: names are case-insensitive; RFC 9110 section 5.6.1: empty members and spaces are ignored
#[tokio::test]
async fn case_and_space_around_directives_do_not_matter() {
    let values = [
        "MAX-AGE=3600",
        "Max-Age=3600",
        "mAX-aGE=3600",
        "S-MaxAge=3600, max-age=5",
        "   max-age=3600   ",
        "\tmax-age=3600\t",
        "public,max-age=3600",
        "public  ,  max-age=3600",
        "public\t,\tmax-age=3600",
        ",max-age=3600",
        ", ,,max-age=3600,, ,",
    ];
    assert_control_fresh_for(&values, 3600).await;
}

// RFC 9111 section 5.2.3: "A cache MUST ignore unrecognized cache directives."
#[tokio::test]
async fn a_lifetime_within_another_directive_is_none() {
    let values = [
        "ext=\"max-age=9000\", max-age=3600",
        "ext=\"a, max-age=9000, b\", max-age=3600",
        "ext=\"\\\", max-age=9000\", max-age=3600",
        "a-max-age=9000, max-age=3600",
        "max-ages=9000, max-age=3600",
        "ext=max-age, max-age=3600",
    ];
    assert_control_fresh_for(&values, 3600).await;
}

// RFC 9111 section 1.2.2: what overflows is 2^31 or the greatest that can be represented
#[tokio::test]
async fn a_lifetime_beyond_all_numbers_is_very_long() {
    let (origin, proxy) = pair().await;
    for (n, value) in [
        "2147483647",
        "2147483648",
        "2147483649",
        "4294967295",
        "4294967296",
        "99999999999",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999999999999999999999999999",
    ]
    .into_iter()
    .enumerate()
    {
        for directive in ["max-age", "s-maxage"] {
            let reply = Reply::ok("a").header("cache-control", &format!("{directive}={value}"));
            let status = second(&origin, &proxy, &format!("/{directive}/{n}"), reply).await.cache_status();
            assert!(status.hit, "{directive}={value}: {status:?}");
            assert!(status.ttl.is_some_and(|left| left > 2_147_480_000), "{directive}={value}: {status:?}");
        }
    }
}
