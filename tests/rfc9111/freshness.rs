//! How long a response is fresh, and how old it is: RFC 9111 section 4.2, RFC 9213.

use crate::support::{Gate, Origin, Proxy, Reply, Response, eventually};
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

/// Weekday, day, month, year and time of an IMF-fixdate.
fn parts(fixdate: &str) -> [&str; 5] {
    let mut words = fixdate.split([' ', ',']).filter(|word| !word.is_empty());
    std::array::from_fn(|_| words.next().expect("five words of a date"))
}

fn rfc850(fixdate: &str) -> String {
    let [weekday, day, month, year, time] = parts(fixdate);
    let rest = match weekday {
        "Tue" => "sday",
        "Wed" => "nesday",
        "Thu" => "rsday",
        "Sat" => "urday",
        _ => "day",
    };
    format!("{weekday}{rest}, {day}-{month}-{} {time} GMT", &year[2..])
}

fn asctime(fixdate: &str) -> String {
    let [weekday, day, month, year, time] = parts(fixdate);
    format!("{weekday} {month} {:>2} {time} {year}", day.trim_start_matches('0'))
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
        assert!((seconds - TOLERANCE..=seconds).contains(&left), "{fields:?}: {left} seconds left, not {seconds}");
    }
}

/// The same for values of `Cache-Control` alone.
async fn assert_control_fresh_for(values: &[&str], seconds: i64) {
    let rows: Vec<_> = values.iter().map(|value| [("cache-control", *value)]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], seconds))).await;
}

/// Asserts the age, in seconds, of a response that arrives with these fields.
async fn assert_age<'a>(rows: impl IntoIterator<Item = (Fields<'a>, i64)>) {
    let (origin, proxy) = pair().await;
    for (n, (fields, seconds)) in rows.into_iter().enumerate() {
        let reply = with(Reply::ok("a").header("cache-control", "max-age=100000"), fields);
        let answer = second(&origin, &proxy, &format!("/{n}"), reply).await;
        assert!(answer.is_hit(), "{fields:?}: {:?}", answer.cache_status());
        let age: i64 = answer.header("age").and_then(|age| age.parse().ok()).expect("an Age");
        assert!((seconds..=seconds + TOLERANCE).contains(&age), "{fields:?}: {age} seconds old, not {seconds}");
    }
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

// RFC 9110 section 5.6.7: "A recipient that parses a timestamp value in an HTTP field MUST accept all three HTTP-date formats."
#[tokio::test]
async fn expires_may_be_in_any_of_the_three_formats_in_any_case() {
    let fixdate = date(3600);
    let dates = [
        fixdate.clone(),
        rfc850(&fixdate),
        asctime(&fixdate),
        fixdate.to_ascii_lowercase(),
        fixdate.to_ascii_uppercase(),
        rfc850(&fixdate).to_ascii_uppercase(),
        asctime(&fixdate).to_ascii_lowercase(),
    ];
    let rows: Vec<_> = dates.iter().map(|date| [("expires", date.as_str())]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], 3600))).await;
}

// RFC 9110 section 5.6.7: more than fifty years in the future is the most recent past year with these two digits.
#[tokio::test]
async fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
    const YEAR: i64 = 31_556_952;
    let (soon, late) = (rfc850(&date(40 * YEAR)), rfc850(&date(60 * YEAR)));
    let (origin, proxy) = pair().await;
    assert!(second(&origin, &proxy, "/soon", Reply::ok("a").header("expires", &soon)).await.is_hit(), "{soon}");
    assert!(!second(&origin, &proxy, "/late", Reply::ok("a").header("expires", &late)).await.is_hit(), "{late}");
}

// RFC 9111 section 5.3: "A cache recipient MUST interpret invalid date formats, especially the value "0", as representing a
// time in the past"
#[tokio::test]
async fn an_expires_that_is_no_date_lies_in_the_past() {
    let modified = date(-864_000);
    let values = [
        "0",
        "-1",
        "",
        "never",
        "3600",
        "4102444800",
        "Thu, 01 Jan 2099 00:00:00",
        "Thu, 01 Jan 2099 00:00:00 UTC",
        "Thu, 01 Jan 2099 00:00:00 +0000",
        "Thu, 01 Jan 2099 00:00:00 CET",
        "Thu, 1 Jan 2099 00:00:00 GMT",
        "Thu, 01 Jan 99 00:00:00 GMT",
        "Thu, 01-Jan-2099 00:00:00 GMT",
        "Thu 01 Jan 2099 00:00:00 GMT",
        "Thu,01 Jan 2099 00:00:00 GMT",
        "Thu, 01  Jan 2099 00:00:00 GMT",
        "Thu, 01 Jan 2099  00:00:00 GMT",
        "Thu, 01 Jan 2099 0:00:00 GMT",
        "Thu, 01 Jan 2099 00.00.00 GMT",
        "Thu, 01 Jan 2099 25:00:00 GMT",
        "Thu, 01 Jan 2099 00:60:00 GMT",
        "Thu, 32 Jan 2099 00:00:00 GMT",
        "Thu, 30 Feb 2099 00:00:00 GMT",
        "Thu, 01 Foo 2099 00:00:00 GMT",
        "01 Jan 2099 00:00:00 GMT",
        "2099-01-01T00:00:00Z",
        "\"Thu, 01 Jan 2099 00:00:00 GMT\"",
        "Thu, 01 Jan 2099 00:00:00 GMT x",
        "Thu, 01 Jan 2099 00:00:00 GMT, Thu, 01 Jan 2099 00:00:00 GMT",
    ];
    let rows: Vec<_> = values.iter().map(|value| [("expires", *value), ("last-modified", &modified)]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], 0))).await;
}

// RFC 9111 section 4.2.1: "use its value minus the value of the Date response header field"
#[tokio::test]
async fn expires_counts_from_the_date_of_the_response() {
    let (past, soon, later, far) = (date(-600), date(600), date(1200), date(100_000));
    let rows: [(Fields<'_>, i64); 5] = [
        // Ten minutes old, and fresh for twenty.
        (&[("date", &past), ("expires", &soon)], 600),
        (&[("date", &soon), ("expires", &later)], 600),
        (&[("date", &soon), ("expires", &soon)], 0),
        (&[("date", &far), ("expires", &later)], 0),
        (&[("date", &past), ("expires", &past)], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9110 section 6.6.1: a recipient may take the time of arrival for a date that is missing or broken
#[tokio::test]
async fn expires_counts_from_arrival_where_there_is_no_date() {
    let (past, later) = (date(-600), date(1200));
    let rows: [(Fields<'_>, i64); 4] = [
        (&[("expires", &later)], 1200),
        (&[("expires", &later), ("date", "foo")], 1200),
        (&[("expires", &later), ("date", "")], 1200),
        (&[("expires", &past)], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2.1: "either the first occurrence should be used or the response should be considered stale"
#[tokio::test]
async fn of_two_expires_the_first_counts() {
    let (soon, later) = (date(600), date(6000));
    let rows: [(Fields<'_>, i64); 3] = [
        (&[("expires", &soon), ("expires", &later)], 600),
        (&[("expires", &later), ("expires", &soon)], 6000),
        (&[("expires", "0"), ("expires", &later)], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2: "A fresh response is one whose age has not yet exceeded its freshness lifetime."
#[tokio::test]
async fn a_response_that_arrives_old_is_fresh_for_the_rest_or_not_at_all() {
    let hour_ago = date(-3600);
    let rows: [(Fields<'_>, i64); 5] = [
        (&[("cache-control", "max-age=5000"), ("age", "3600")], 1400),
        (&[("cache-control", "max-age=5000"), ("date", &hour_ago)], 1400),
        (&[("cache-control", "max-age=3600"), ("age", "3600")], 0),
        (&[("cache-control", "max-age=3000"), ("age", "3600")], 0),
        (&[("cache-control", "max-age=3000"), ("date", &hour_ago)], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2.3: "corrected_initial_age = max(apparent_age, corrected_age_value)"
#[tokio::test]
async fn the_age_is_the_greater_one_of_date_and_age() {
    let (hour_ago, in_an_hour) = (date(-3600), date(3600));
    let rows: [(Fields<'_>, i64); 6] = [
        (&[("date", &hour_ago)], 3600),
        (&[("age", "3600")], 3600),
        (&[("date", &hour_ago), ("age", "100")], 3600),
        (&[("date", &hour_ago), ("age", "9000")], 9000),
        (&[("date", &in_an_hour)], 0),
        (&[("date", &in_an_hour), ("age", "100")], 100),
    ];
    assert_age(rows).await;
}

// RFC 9111 section 5.1: "a cache encountering a message with a list-based Age field value SHOULD use the first member of
// the field value, discarding subsequent ones"
#[tokio::test]
async fn of_several_ages_the_first_counts() {
    let rows: [(Fields<'_>, i64); 5] = [
        (&[("age", "7200, 0")], 7200),
        (&[("age", "100, 7200")], 100),
        (&[("age", "7200"), ("age", "0")], 7200),
        (&[("age", "100"), ("age", "7200")], 100),
        (&[("age", " 7200 , x")], 7200),
    ];
    assert_age(rows).await;
}

// RFC 9111 section 5.1: "If the field value [...] is invalid (e.g., contains something other than a non-negative integer),
// a cache SHOULD ignore the field."
#[tokio::test]
async fn an_age_that_is_no_number_is_ignored() {
    let values =
        ["", "abc", "-7200", "+7200", "7200.0", "7200s", "7200 s", "\"7200\"", "7200;foo=bar", "x, 7200", "0x10"];
    let rows: Vec<_> = values.iter().map(|value| [("age", *value)]).collect();
    assert_age(rows.iter().map(|row| (&row[..], 0))).await;
}

// RFC 9111 sections 1.2.2 and 5.1
#[tokio::test]
async fn an_age_beyond_all_numbers_is_very_old() {
    let values = ["2147483647", "2147483648", "4294967296", "99999999999", "99999999999999999999999999"];
    let rows: Vec<_> = values.iter().map(|value| [("cache-control", "max-age=100000"), ("age", *value)]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], 0))).await;
}

// RFC 9111 section 5.1: an Age is sent when a response is served from a cache; section 4.2.3: it grows while it is there
#[tokio::test]
async fn the_age_of_a_stored_response_grows() {
    let (origin, proxy) = pair().await;
    let answer = second(&origin, &proxy, "/a", Reply::fresh("a").header("age", "7")).await;
    assert!(answer.is_hit());
    let age = async || proxy.get("/a").await.header("age").and_then(|age| age.parse::<u64>().ok());
    eventually("the response to grow older", async || age().await.filter(|age| *age > 8)).await;
    assert_eq!(origin.count("/a"), 1);
}

// RFC 9111 section 4.2.3: "corrected_age_value = age_value + response_delay"
#[tokio::test]
async fn the_time_that_an_origin_takes_to_answer_is_part_of_the_age() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    origin.on("/clock", Reply::fresh("a"));
    origin.on("/slow", Reply::ok("a").header("cache-control", "max-age=3600").header("age", "100").after(&gate));
    let slow = proxy.get("/slow").spawn();
    origin.wait_for_requests("/slow", 1).await;
    // The clock starts after the slow request was sent.
    proxy.get("/clock").await;
    let two_seconds = async || proxy.get("/clock").await.header("age")?.parse::<u64>().ok().filter(|age| *age >= 2);
    eventually("two seconds to pass", two_seconds).await;
    gate.open();
    assert_eq!(slow.await.unwrap().status, 200);
    let hit = proxy.get("/slow").await;
    assert!(hit.is_hit());
    let age: u64 = hit.header("age").unwrap().parse().unwrap();
    assert!(age >= 102, "{age} seconds old, in spite of two seconds on the way");
}

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
